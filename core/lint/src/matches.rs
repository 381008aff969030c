//! Which rules of a VirtualService no request gets to, because an earlier one takes all that they ask for.

use naru_resource::virtual_service::{HttpMatch, TcpMatch, TlsMatch};
use naru_resource::{StringMatch, Test, Text, VirtualService};

use crate::world::World;
use crate::{About, Found};

pub(crate) fn check(world: &World<'_>, found: &mut Found) {
    for service in &world.resources.virtual_services {
        let about = About { kind: "VirtualService", meta: &service.meta };
        let VirtualService { spec, .. } = service;
        let rules = spec.http.iter().map(|route| (route.place, route.matches.as_slice()));
        of_rules("http", rules.collect(), is_http_covered, |block| block.place, about, found);
        let rules = spec.tls.iter().map(|route| (route.place, route.matches.as_slice()));
        of_rules("tls", rules.collect(), is_tls_covered, |block| block.place, about, found);
        let rules = spec.tcp.iter().map(|route| (route.place, route.matches.as_slice()));
        of_rules("tcp", rules.collect(), is_tcp_covered, |block| block.place, about, found);
    }
}

/// IST0130, IST0131. A rule without blocks takes everything.
fn of_rules<M>(
    of: &str,
    rules: Vec<(naru_resource::Place, &[M])>,
    is_covered: impl Fn(&M, &M) -> bool,
    place_of: impl Fn(&M) -> naru_resource::Place,
    about: About<'_>,
    found: &mut Found,
) {
    let mut before: Vec<(usize, Option<&M>)> = Vec::new();
    for (at, (place, blocks)) in rules.iter().enumerate() {
        let path = format!("spec.{of}[{at}]");
        if let Some((first, _)) = before.iter().find(|(_, block)| block.is_none()) {
            let message = format!("no request gets here: {of}[{first}] takes them all");
            let hint = "a rule without match comes last; remove this one, or say what the other is for";
            found.tell("IST0130", about, *place, &path, message, hint);
            continue;
        }
        if blocks.is_empty() {
            before.push((at, None));
            continue;
        }
        let mut covered = 0;
        let mut by_others = true;
        for (number, block) in blocks.iter().enumerate() {
            let taker = before.iter().find(|(_, taker)| taker.is_some_and(|taker| is_covered(block, taker)));
            if let Some((rule, _)) = taker {
                covered += 1;
                by_others &= *rule != at;
                let message = format!("all that this block asks for is taken by {of}[{rule}] before");
                let path = format!("{path}.match[{number}]");
                found.tell("IST0131", about, place_of(block), path, message, "remove it, or put it first");
            }
            before.push((at, Some(block)));
        }
        if covered == blocks.len() && by_others {
            let message = "no request gets here: earlier rules take all that it asks for";
            found.tell("IST0130", about, *place, &path, message, "remove it, or put it first");
        }
    }
}

/// Whether whatever fits `block` fits `taker`.
fn is_http_covered(block: &HttpMatch, taker: &HttpMatch) -> bool {
    let ignores_case = |block: &HttpMatch| block.ignore_uri_case.is_some_and(|flag| flag.value);
    // What ignores case takes more than what does not.
    let is_uri = match (&taker.uri, &block.uri) {
        (None, _) => true,
        (Some(taken), Some(asked)) if ignores_case(taker) => {
            is_text_covered(&lower(asked), &lower(taken)) && !matches!(taken.test, Test::Regex(_))
                || taken.test == asked.test
        }
        (Some(taken), Some(asked)) => !ignores_case(block) && is_text_covered(&asked.test, &taken.test),
        (Some(_), None) => false,
    };
    is_uri
        && is_covered(&block.scheme, &taker.scheme)
        && is_covered(&block.method, &taker.method)
        && is_covered(&block.authority, &taker.authority)
        && are_covered(&block.headers, &taker.headers)
        && are_without(&block.without_headers, &taker.without_headers)
        && are_covered(&block.query_params, &taker.query_params)
        && is_value_covered(block.port.map(|port| port.value), taker.port.map(|port| port.value))
        && are_labels_covered(&block.source_labels, &taker.source_labels)
        && is_value_covered(text(&block.source_namespace), text(&taker.source_namespace))
        && is_list_covered(&block.gateways, &taker.gateways)
}

fn lower(said: &StringMatch) -> Test {
    match &said.test {
        Test::Exact(text) => Test::Exact(text.to_lowercase()),
        Test::Prefix(text) => Test::Prefix(text.to_lowercase()),
        other => other.clone(),
    }
}

fn text(said: &Option<Text>) -> Option<&str> {
    said.as_ref().map(|said| said.value.as_str())
}

fn is_covered(asked: &Option<StringMatch>, taken: &Option<StringMatch>) -> bool {
    match (asked, taken) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(asked), Some(taken)) => is_text_covered(&asked.test, &taken.test),
    }
}

/// Regular expressions cover only themselves: nobody compares them here.
fn is_text_covered(asked: &Test, taken: &Test) -> bool {
    match (asked, taken) {
        (_, Test::Present) => true,
        (Test::Exact(asked) | Test::Prefix(asked), Test::Prefix(taken)) => asked.starts_with(taken.as_str()),
        (asked, taken) => asked == taken,
    }
}

fn are_covered(asked: &[(Text, StringMatch)], taken: &[(Text, StringMatch)]) -> bool {
    taken.iter().all(|(name, taken)| {
        asked.iter().any(|(other, asked)| {
            other.value.eq_ignore_ascii_case(name) && is_text_covered(&asked.test, &taken.test)
        })
    })
}

/// What must not be there: the taker's conditions have to be among the block's, word for word.
fn are_without(asked: &[(Text, StringMatch)], taken: &[(Text, StringMatch)]) -> bool {
    taken.iter().all(|(name, taken)| {
        asked.iter().any(|(other, asked)| other.value.eq_ignore_ascii_case(name) && asked.test == taken.test)
    })
}

fn are_labels_covered(asked: &[(Text, Text)], taken: &[(Text, Text)]) -> bool {
    taken.iter().all(|(name, taken)| {
        asked.iter().any(|(other, asked)| other.value == name.value && asked.value == taken.value)
    })
}

fn is_value_covered<T: PartialEq>(asked: Option<T>, taken: Option<T>) -> bool {
    taken.is_none() || asked == taken
}

/// Lists of which one has to fit; an empty one is all.
fn is_list_covered(asked: &[Text], taken: &[Text]) -> bool {
    taken.is_empty()
        || (!asked.is_empty()
            && asked.iter().all(|asked| taken.iter().any(|taken| taken.value == asked.value)))
}

fn is_tls_covered(block: &TlsMatch, taker: &TlsMatch) -> bool {
    let names = |block: &TlsMatch| block.sni_hosts.iter().map(|host| host.value.clone()).collect::<Vec<_>>();
    let taken = names(taker);
    let is_named = |host: &String| taken.iter().any(|name| crate::world::covers(name, host));
    names(block).iter().all(is_named)
        && is_list_covered(&block.destination_subnets, &taker.destination_subnets)
        && is_value_covered(block.port.map(|port| port.value), taker.port.map(|port| port.value))
        && are_labels_covered(&block.source_labels, &taker.source_labels)
        && is_list_covered(&block.gateways, &taker.gateways)
        && is_value_covered(text(&block.source_namespace), text(&taker.source_namespace))
}

fn is_tcp_covered(block: &TcpMatch, taker: &TcpMatch) -> bool {
    is_list_covered(&block.destination_subnets, &taker.destination_subnets)
        && is_value_covered(block.port.map(|port| port.value), taker.port.map(|port| port.value))
        && is_value_covered(text(&block.source_subnet), text(&taker.source_subnet))
        && are_labels_covered(&block.source_labels, &taker.source_labels)
        && is_list_covered(&block.gateways, &taker.gateways)
        && is_value_covered(text(&block.source_namespace), text(&taker.source_namespace))
}
