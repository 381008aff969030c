//! A search costs the same for few rules and for many: counted in blocks that are asked.
#![allow(clippy::unwrap_used, clippy::panic)]

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use naru_route::{Observer, Outcome, RuleId, Subject, Table, Verdict};
use naru_spec::{
    Action, DirectResponse, Domain, Forward, HeaderMatch, HeaderOps, HeaderTest, Match, NameMatch, PathMatch,
    Pattern, RouteTable, Rule, Scheme, StringMatch, TlsRequirement, VirtualHost,
};

const MANY: u32 = 10_000;

fn rule(name: String, block: Match) -> Rule {
    Rule {
        gate: Vec::new(),
        name,
        origin: String::new(),
        matches: vec![block],
        action: Action::Forward(Box::new(Forward::to("cluster"))),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    }
}

fn host(domain: Domain, rules: Vec<Rule>) -> VirtualHost {
    VirtualHost {
        name: "host".to_owned(),
        domains: vec![domain],
        rules,
        tls: TlsRequirement::None,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    }
}

fn compile(virtual_hosts: Vec<VirtualHost>) -> Table {
    Table::compile(&RouteTable { virtual_hosts, ..RouteTable::default() }, &|_| None).unwrap()
}

fn one_host(blocks: impl Iterator<Item = Match>) -> Table {
    let rules = blocks.enumerate().map(|(at, block)| rule(format!("rule-{at}"), block)).collect();
    compile(vec![host(Domain::Any, rules)])
}

#[derive(Default)]
struct Asked(u32);

impl Observer for Asked {
    fn considered(&mut self, _: RuleId, _: usize, _: Outcome) {
        self.0 += 1;
    }
}

struct Ask<'a> {
    authority: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: HeaderMap,
}

impl Ask<'_> {
    fn path(path: &str) -> Ask<'_> {
        Ask { authority: "a.test", path, query: None, headers: HeaderMap::new() }
    }
}

/// The rule that takes it, and how many blocks were asked.
fn ask(table: &Table, ask: &Ask<'_>) -> (Option<u32>, u32) {
    let subject = Subject {
        method: &Method::GET,
        authority: ask.authority,
        path: ask.path,
        query: ask.query,
        scheme: Scheme::Http,
        headers: &ask.headers,
        source: [127, 0, 0, 1].into(),
        is_internal: false,
        draw: 1,
        claims: None,
    };
    let mut asked = Asked::default();
    match table.find(&subject, &mut asked) {
        Verdict::Rule { rule, .. } => (Some(rule.0), asked.0),
        _ => (None, asked.0),
    }
}

fn takes_as_long_for_the_last<'a>(table: &Table, mut of: impl FnMut(u32) -> Ask<'a>) {
    for number in [0, 1, MANY / 2, MANY - 1] {
        assert_eq!(ask(table, &of(number)), (Some(number), 1), "rule {number}");
    }
}

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[test]
fn the_last_of_many_prefixes_is_found_as_fast_as_the_first() {
    for make in [PathMatch::Prefix, PathMatch::SegmentPrefix, PathMatch::Exact] {
        for ignore_path_case in [false, true] {
            let table = one_host((0..MANY).map(|at| Match {
                path: make(format!("/route/{at:05}")),
                ignore_path_case,
                ..Match::default()
            }));
            takes_as_long_for_the_last(&table, |at| Ask::path(leaked(format!("/route/{at:05}"))));
            assert_eq!(ask(&table, &Ask::path("/route/x")), (None, 0));
        }
    }
}

#[test]
fn the_last_of_many_expressions_with_a_beginning_of_their_own_is_found_as_fast_as_the_first() {
    // Fewer: each is compiled.
    let table = one_host((0..200).map(|at| Match {
        path: PathMatch::Regex(Pattern::new(format!("/route/{at:05}/[a-z]+")).unwrap()),
        ..Match::default()
    }));
    for number in [0, 100, 199] {
        let path = format!("/route/{number:05}/abc");
        assert_eq!(ask(&table, &Ask::path(&path)), (Some(number), 1));
    }
}

#[test]
fn many_expressions_that_begin_alike_are_asked_together() {
    let table = one_host((0..200).map(|at| Match {
        path: PathMatch::Regex(Pattern::new(format!("/.*/{at}")).unwrap()),
        ..Match::default()
    }));
    for number in [0, 100, 199] {
        let path = format!("/abc/{number}");
        assert_eq!(ask(&table, &Ask::path(&path)), (Some(number), 1));
    }
}

#[test]
fn the_last_of_many_that_differ_by_one_header_is_found_as_fast_as_the_first() {
    let name = HeaderName::from_static("x-tenant");
    let table = one_host((0..MANY).map(|at| Match {
        headers: vec![HeaderMatch {
            name: name.clone(),
            test: HeaderTest::Value(StringMatch::exact(format!("tenant-{at}"))),
            invert: false,
            missing_as_empty: false,
        }],
        ..Match::default()
    }));
    takes_as_long_for_the_last(&table, |at| {
        let mut ask = Ask::path("/any");
        ask.headers.insert("x-tenant", HeaderValue::try_from(format!("tenant-{at}")).unwrap());
        ask
    });
    assert_eq!(ask(&table, &Ask::path("/any")), (None, 0));
}

#[test]
fn the_last_of_many_that_differ_by_two_headers_is_found_as_fast_as_the_first() {
    let test = |name: &'static str, value: u32| HeaderMatch {
        name: HeaderName::from_static(name),
        test: HeaderTest::Value(StringMatch::exact(value.to_string())),
        invert: false,
        missing_as_empty: false,
    };
    let table =
        one_host((0..MANY).map(|at| Match {
            headers: vec![test("x-a", at / 100), test("x-b", at % 100)],
            ..Match::default()
        }));
    takes_as_long_for_the_last(&table, |at| {
        let mut ask = Ask::path("/any");
        ask.headers.insert("x-a", (at / 100).into());
        ask.headers.insert("x-b", (at % 100).into());
        ask
    });
}

#[test]
fn the_last_of_many_that_differ_by_one_query_parameter_is_found_as_fast_as_the_first() {
    let table = one_host((0..MANY).map(|at| Match {
        query: vec![NameMatch {
            name: "user".to_owned(),
            test: Some(StringMatch::exact(at.to_string())),
            invert: false,
        }],
        ..Match::default()
    }));
    takes_as_long_for_the_last(&table, |at| Ask {
        query: Some(leaked(format!("x=1&user={at}&user=no"))),
        ..Ask::path("/any")
    });
}

#[test]
fn the_last_of_many_hosts_is_found_as_fast_as_the_first() {
    let hosts = |domain: fn(u32) -> String| {
        compile(
            (0..MANY)
                .map(|at| {
                    host(Domain::parse(&domain(at)).unwrap(), vec![rule(String::new(), Match::default())])
                })
                .collect(),
        )
    };
    let exact = hosts(|at| format!("host-{at}.test"));
    takes_as_long_for_the_last(&exact, |at| Ask {
        authority: leaked(format!("HOST-{at}.test")),
        ..Ask::path("/")
    });
    let suffix = hosts(|at| format!("*.host-{at}.test"));
    takes_as_long_for_the_last(&suffix, |at| Ask {
        authority: leaked(format!("a.b.host-{at}.test")),
        ..Ask::path("/")
    });
}

#[test]
fn a_catch_all_before_the_others_ends_the_search() {
    let blocks = std::iter::once(Match::default())
        .chain((0..100).map(|at| Match { path: PathMatch::Prefix(format!("/{at}")), ..Match::default() }));
    assert_eq!(ask(&one_host(blocks), &Ask::path("/5")), (Some(0), 1));
}

#[test]
fn a_direct_response_is_kept_whole() {
    let direct = DirectResponse { status: StatusCode::IM_A_TEAPOT, body: b"short and stout".to_vec() };
    let mut spec = rule("tea".to_owned(), Match::default());
    spec.action = Action::Direct(Box::new(direct.clone()));
    let table = compile(vec![host(Domain::Any, vec![spec])]);
    let (Some(found), _) = ask(&table, &Ask::path("/")) else { panic!("no rule") };
    let compiled = table.rule(RuleId(found));
    assert_eq!(&*compiled.name, "tea");
    let naru_route::CompiledAction::Direct(response) = &compiled.action else { panic!("not direct") };
    assert_eq!(response, &direct);
}
