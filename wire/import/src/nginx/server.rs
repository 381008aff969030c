//! A `server` as a Gateway, a VirtualService, and TrafficPolicies for how long it waits.

use std::collections::{BTreeMap, BTreeSet};

use naru_doc::tree::Position;

use super::headers::Headers;
use super::location::{self, Location, Target};
use super::parse::Directive;
use super::scope::{Scope, millis, seconds};
use super::upstream::{Upstreams, host_and_port};
use super::{access, answer, other, tls};
use crate::Output;
use crate::kubernetes::{NETWORKING, Names, document, valid};
use crate::notes::{Notes, code};
use crate::yaml::Map;

/// nginx's default of every timeout of a proxy.
const TIMEOUT_MS: u64 = 60_000;

/// Who answers what, over all servers: nginx's choice by address, then by name.
#[derive(Default)]
pub(super) struct Taken {
    /// The server that takes what no name fits, by address.
    defaults: BTreeMap<String, usize>,
    /// An address that one server has with TLS is so for all of them.
    with_tls: BTreeSet<String>,
    hosts: BTreeSet<(String, String)>,
}

impl Taken {
    /// The first server of an address is its default, unless another says that it is.
    pub fn of(servers: &[Scope<'_>]) -> Taken {
        let mut taken = Taken::default();
        let mut said = BTreeSet::new();
        for (at, scope) in servers.iter().enumerate() {
            for listen in listens(scope, None) {
                let key = listen.key();
                if listen.is_tls {
                    taken.with_tls.insert(key.clone());
                }
                if listen.is_default && said.insert(key.clone()) {
                    taken.defaults.insert(key, at);
                } else {
                    taken.defaults.entry(key).or_insert(at);
                }
            }
        }
        taken
    }
}

/// Documents that wait until those they lead to are written.
pub(super) struct Written {
    documents: Vec<(&'static str, String, String, Map)>,
}

impl Written {
    pub fn write(self, output: &mut Output) {
        for (kind, name, origin, map) in self.documents {
            output.add(kind, name, origin, map);
        }
    }
}

/// Reads the server of an index. None where nothing of it can be carried over.
pub(super) fn read(
    at: usize,
    scope: &Scope<'_>,
    upstreams: &mut Upstreams<'_>,
    taken: &mut Taken,
    notes: &mut Notes<'_>,
    names: &mut Names,
) -> Option<Written> {
    other::tell_all(scope, other::Level::Server, notes);
    let said = hosts(scope, notes);
    let listens = listens(scope, Some(notes));
    let server_name = said.first().map(|host| host.trim_start_matches("*.").to_owned());
    let title = server_name.clone().unwrap_or_else(|| stem(notes.file).to_owned());
    let mut servers = Vec::new();
    let mut all: Vec<String> = Vec::new();
    for mut listen in listens {
        listen.is_tls |= taken.with_tls.contains(&listen.key());
        let mut hosts = said.clone();
        if taken.defaults.get(&listen.key()) == Some(&at) && !hosts.iter().any(|host| host == "*") {
            if !said.is_empty() && !listen.is_default {
                let message =
                    format!("it takes every other host of port {}, as its first server", listen.port);
                let hint = "to take its own names only, remove '*' from the hosts";
                notes.note(code::ASSUMED, scope.at, &scope.path, message, hint);
            }
            hosts.push("*".to_owned());
        }
        hosts.retain(|host| {
            let is_free = taken.hosts.insert((listen.key(), host.clone()));
            if !is_free {
                let message = format!("'{host}' of port {} is another server's already", listen.port);
                notes.warning(code::NOT_CARRIED_OVER, scope.at, &scope.path, message, "");
            }
            is_free
        });
        if hosts.is_empty() {
            continue;
        }
        let tls = match listen.is_tls {
            true => match tls::of(scope, notes) {
                Some(tls) => Some(tls),
                None => continue,
            },
            false => None,
        };
        servers.push(listen.to_map(&hosts, tls));
        hosts.into_iter().for_each(|host| {
            if !all.contains(&host) {
                all.push(host);
            }
        });
    }
    if servers.is_empty() {
        let message = "nothing gets to this server: it is left out".to_owned();
        notes.warning(code::NOT_CARRIED_OVER, scope.at, &scope.path, message, "");
        return None;
    }
    let mut routes = Routes { list: Vec::new(), policies: Vec::new(), names: Names::default() };
    routes.fill(scope, server_name.as_deref(), upstreams, notes, names);
    if routes.list.is_empty() {
        let message = "the server has no location that can be carried over: it is left out".to_owned();
        notes.warning(code::NOT_CARRIED_OVER, scope.at, &scope.path, message, "");
        return None;
    }
    let name = names.claim("VirtualService", &title);
    let gateway = names.claim("Gateway", &title);
    let origin = notes.origin(scope.at, &format!("server {}", all.join(" ")));
    let mut documents = Vec::new();
    let selector = Map::new().with("istio", "ingressgateway");
    let spec = Map::new().with("selector", selector).with("servers", servers);
    let map = document(NETWORKING, "Gateway", &gateway, spec);
    documents.push(("Gateway", gateway.clone(), origin.clone(), map));
    let spec = Map::new().with("hosts", all).with("gateways", vec![gateway]).with("http", routes.list);
    let map = document(NETWORKING, "VirtualService", &name, spec);
    documents.push(("VirtualService", name.clone(), origin, map));
    documents.extend(policies(&name, routes.policies, notes, names));
    Some(Written { documents })
}

/// The routes of one server.
struct Routes {
    list: Vec<Map>,
    policies: Vec<Policy>,
    /// Of routes.
    names: Names,
}

/// What only a TrafficPolicy can say of a route.
struct Policy {
    route: String,
    /// Between two reads or writes.
    idle_ms: Option<u64>,
    /// Who is meant; everybody where it is empty.
    sources: Vec<String>,
    at: Position,
}

impl Routes {
    fn fill(
        &mut self,
        scope: &Scope<'_>,
        server_name: Option<&str>,
        upstreams: &mut Upstreams<'_>,
        notes: &mut Notes<'_>,
        names: &mut Names,
    ) {
        let locations = location::of(scope, notes);
        // Said of the whole server, it comes before every location.
        if let Some(directive) = scope.own("return").next() {
            let action = answer::of(directive, scope, server_name, notes);
            let headers = Headers::of_answer(scope, server_name, notes);
            self.push("all", None, action, &headers);
            if let Some(first) = locations.first() {
                let message = "no request gets to the locations: the server's 'return' answers all";
                let at = first.scope.at;
                notes.warning(code::NOT_CARRIED_OVER, at, &scope.path_to("location"), message.to_owned(), "");
            }
            return;
        }
        let (exact, others): (Vec<_>, Vec<_>) =
            locations.iter().partition(|location| location.how == location::How::Exact);
        for location in exact {
            self.add(location, server_name, upstreams, notes, names);
        }
        for location in &locations {
            self.slash(location, &locations);
        }
        for location in others {
            self.add(location, server_name, upstreams, notes, names);
        }
    }

    /// nginx sends `/a` to `/a/` where that is a location which passes requests on.
    fn slash(&mut self, location: &Location<'_>, all: &[Location<'_>]) {
        let bare = location.uri.strip_suffix('/').filter(|bare| !bare.is_empty());
        let is_prefix = matches!(location.how, location::How::Prefix { .. });
        let Some(bare) = bare.filter(|_| is_prefix && target(&location.scope).is_some()) else { return };
        let is_taken =
            |other: &Location<'_>| other.uri == bare && !matches!(other.how, location::How::Regex { .. });
        if all.iter().any(is_taken) {
            return;
        }
        let condition = Map::new().with("uri", Map::new().with("exact", bare));
        let action = Map::new().with("uri", location.uri.as_str()).with("redirectCode", 301_u16);
        let title = format!("{}-slash", location.title());
        self.push(&title, Some(condition), ("redirect", action), &Headers::default());
    }

    fn add(
        &mut self,
        location: &Location<'_>,
        server_name: Option<&str>,
        upstreams: &mut Upstreams<'_>,
        notes: &mut Notes<'_>,
        names: &mut Names,
    ) {
        let scope = &location.scope;
        other::tell_all(scope, other::Level::Location, notes);
        let Some(condition) = location.condition(notes) else { return };
        // Said last, an answer comes before the passing on.
        if let Some(directive) = scope.own("return").next() {
            let action = answer::of(directive, scope, server_name, notes);
            let headers = Headers::of_answer(scope, server_name, notes);
            self.push(location.title(), Some(condition), action, &headers);
            return;
        }
        let is_internal = scope.own("internal").next().is_some();
        let Some(directive) = target(scope).filter(|_| !is_internal) else {
            let message =
                format!("requests for '{}' are answered 404: nothing is passed on there", location.uri);
            notes.warning(code::DIFFERS, scope.at, &scope.path, message, "");
            let headers = Headers::default();
            self.push(location.title(), Some(condition), answer::direct(404, None), &headers);
            return;
        };
        self.forward(location, condition, directive, server_name, upstreams, notes, names);
    }

    #[expect(clippy::too_many_arguments, reason = "where it comes from, and everything it is entered in")]
    fn forward(
        &mut self,
        location: &Location<'_>,
        condition: Map,
        directive: &Directive,
        server_name: Option<&str>,
        upstreams: &mut Upstreams<'_>,
        notes: &mut Notes<'_>,
        names: &mut Names,
    ) {
        let scope = &location.scope;
        let path = scope.path_to(&directive.name);
        let said = directive.arg(0).unwrap_or_default();
        let found = Target::parse(said).and_then(|target| {
            let destination = upstreams.destination(&target, directive.at, &path, notes, names)?;
            Some((target, destination))
        });
        let Some((target, destination)) = found else {
            let message = format!("nothing can be passed to '{said}': it is answered 503");
            let hint = "write a host and port, without variables, and no path of a socket";
            notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, hint);
            let action = answer::direct(503, None);
            self.push(location.title(), Some(condition), action, &Headers::default());
            return;
        };
        if target.scheme.is_tls() {
            let message = format!("the certificate of '{}' is not checked, as by nginx", target.host);
            let hint = "say tls.caCertificates in the DestinationRule";
            notes.note(code::DIFFERS, directive.at, &path, message, hint);
        }
        let connect = timeout(scope, "proxy_connect_timeout", notes);
        upstreams.connect_within(&destination, connect, scope.at, &scope.path, notes);
        let headers = Headers::of(scope, &target, destination.is_declared, server_name, notes);
        let uri = target.uri.as_deref().filter(|uri| match location.how {
            location::How::Regex { .. } => {
                let message = format!("'{uri}' is not put in place of anything: the path stays");
                notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, "nginx refuses it");
                false
            }
            // What stays as it is needs no rewriting.
            _ => *uri != location.uri,
        });
        let rewrite = Map::new().with_some("uri", uri).with_some("authority", headers.authority.clone());
        let route = Map::new()
            .with_some("rewrite", Some(rewrite))
            .with("route", vec![Map::new().with("destination", destination.to_value())])
            .with_some("retries", retries(scope, notes))
            .with_some("headers", Some(headers.to_map()));
        let idle_ms = idle(scope, notes);
        for gate in access::of(scope, notes) {
            let at = scope.at;
            if gate.is_open {
                let name = self.names.claim("route", location.title());
                let head = Map::new().with("name", name.as_str()).with("match", vec![condition.clone()]);
                self.list.push(head.and(route.clone()));
                self.policies.push(Policy { route: name, idle_ms: Some(idle_ms), sources: gate.sources, at });
            } else {
                let title = format!("{}-refused", location.title());
                let action = answer::direct(403, None);
                let name = self.push(&title, Some(condition.clone()), action, &Headers::default());
                self.policies.push(Policy { route: name, idle_ms: None, sources: gate.sources, at });
            }
        }
    }

    fn push(
        &mut self,
        title: &str,
        condition: Option<Map>,
        action: answer::Action,
        headers: &Headers,
    ) -> String {
        let name = self.names.claim("route", title);
        let map = Map::new()
            .with("name", name.as_str())
            .with_some("match", condition.map(|condition| vec![condition]))
            .with(action.0, action.1)
            .with_some("headers", Some(headers.to_map()));
        self.list.push(map);
        name
    }
}

fn target<'a>(scope: &Scope<'a>) -> Option<&'a Directive> {
    scope.own("proxy_pass").chain(scope.own("grpc_pass")).next()
}

fn timeout(scope: &Scope<'_>, name: &str, notes: &mut Notes<'_>) -> u64 {
    let Some(directive) = scope.setting(name) else { return TIMEOUT_MS };
    let said = directive.arg(0).unwrap_or_default();
    millis(said).filter(|millis| *millis > 0).unwrap_or_else(|| {
        let message = format!("'{said}' is no time that can be waited: it is {}", seconds(TIMEOUT_MS));
        notes.warning(code::DIFFERS, directive.at, &scope.path_to(name), message, "");
        TIMEOUT_MS
    })
}

/// One time for both directions: of two the longer, which breaks nothing off that nginx would not.
fn idle(scope: &Scope<'_>, notes: &mut Notes<'_>) -> u64 {
    let (read, send) =
        (timeout(scope, "proxy_read_timeout", notes), timeout(scope, "proxy_send_timeout", notes));
    let longer = read.max(send);
    if read != send {
        let message = format!(
            "one idleTimeout stands for proxy_read_timeout ({}) and proxy_send_timeout ({}): {}",
            seconds(read),
            seconds(send),
            seconds(longer)
        );
        notes.note(code::DIFFERS, scope.at, &scope.path, message, "");
    }
    longer
}

/// The time that most routes wait is said of all of them, another for its route: the closer one counts.
fn policies(
    service: &str,
    mut policies: Vec<Policy>,
    notes: &Notes<'_>,
    names: &mut Names,
) -> Vec<(&'static str, String, String, Map)> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for idle_ms in policies.iter().filter_map(|policy| policy.idle_ms) {
        *counts.entry(idle_ms).or_default() += 1;
    }
    // Of two that are as common the longer. One that only one route of several waits is its own.
    let common = counts.iter().max_by_key(|(_, count)| **count);
    let common = common.filter(|(_, count)| **count > 1 || counts.len() == 1).map(|(idle_ms, _)| *idle_ms);
    let mut documents = Vec::new();
    let mut add = |section: Option<&str>, idle_ms: Option<u64>, sources: &[String], at: Position| {
        let wanted = section.map_or_else(|| service.to_owned(), |section| format!("{service}-{section}"));
        let name = names.claim("TrafficPolicy", &wanted);
        let target = Map::new()
            .with("group", "networking.istio.io")
            .with("kind", "VirtualService")
            .with("name", service)
            .with_some("sectionName", section);
        let of_sources = Map::new().with_some("sourceAddresses", Some(sources.to_vec()));
        let spec = Map::new()
            .with("targetRef", target)
            .with_some("match", Some(of_sources))
            .with_some("idleTimeout", idle_ms.map(seconds));
        let map = document("naru.dev/v1alpha1", "TrafficPolicy", &name, spec);
        let what = if sources.is_empty() { "proxy_read_timeout, proxy_send_timeout" } else { "allow, deny" };
        documents.push(("TrafficPolicy", name, notes.origin(at, what), map));
    };
    if let Some(first) = policies.iter().find(|policy| common.is_some() && policy.idle_ms == common) {
        add(None, common, &[], first.at);
        policies
            .iter_mut()
            .for_each(|policy| policy.idle_ms = policy.idle_ms.filter(|own| Some(*own) != common));
    }
    for policy in policies.iter().filter(|policy| policy.idle_ms.is_some() || !policy.sources.is_empty()) {
        add(Some(&policy.route), policy.idle_ms, &policy.sources, policy.at);
    }
    documents
}

/// `proxy_next_upstream`, where it is said: otherwise Istio's default does what nginx's does, and tries
/// another endpoint where no connection can be made.
fn retries(scope: &Scope<'_>, notes: &mut Notes<'_>) -> Option<Map> {
    let directive = scope.setting("proxy_next_upstream")?;
    let path = scope.path_to("proxy_next_upstream");
    if directive.arg(0) == Some("off") {
        return Some(Map::new().with("attempts", 0_u32));
    }
    let mut on: Vec<&str> = Vec::new();
    let mut lost: Vec<&str> = Vec::new();
    for word in directive.texts() {
        match word {
            "error" => on.extend(["connect-failure", "refused-stream", "reset"]),
            "timeout" => on.push("connect-failure"),
            "http_500" | "http_502" | "http_503" | "http_504" | "http_403" | "http_404" | "http_429" => {
                on.push(word.trim_start_matches("http_"));
            }
            word => lost.push(word),
        }
    }
    let mut seen = BTreeSet::new();
    on.retain(|word| seen.insert(*word));
    if !lost.is_empty() {
        let message = format!("of proxy_next_upstream is not carried over: {}", lost.join(", "));
        let hint =
            "every method is repeated here; nginx repeats POST, LOCK and PATCH with non_idempotent only";
        notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, hint);
    }
    let tries = scope.setting("proxy_next_upstream_tries").and_then(|d| d.arg(0)?.parse::<u32>().ok());
    // nginx's number counts the first; its 0 is as many as there are servers.
    let attempts = tries.filter(|tries| *tries > 0).map_or(2, |tries| tries - 1);
    let retry_on = (!on.is_empty()).then(|| on.join(","));
    Some(Map::new().with("attempts", attempts).with_some("retryOn", retry_on))
}

struct Listen {
    bind: Option<String>,
    port: u16,
    is_tls: bool,
    is_default: bool,
}

impl Listen {
    /// Of an address one server is the default.
    fn key(&self) -> String {
        format!("{}:{}", self.bind.as_deref().unwrap_or(""), self.port)
    }

    fn to_map(&self, hosts: &[String], tls: Option<Map>) -> Map {
        let (protocol, name) = if self.is_tls { ("HTTPS", "https") } else { ("HTTP", "http") };
        let port = Map::new()
            .with("number", self.port)
            .with("name", format!("{name}-{}", self.port))
            .with("protocol", protocol);
        Map::new()
            .with("port", port)
            .with_some("bind", self.bind.clone())
            .with("hosts", hosts.to_vec())
            .with_some("tls", tls)
    }
}

/// Where a server listens; port 80 where it says nothing. Told only where notes are given.
fn listens(scope: &Scope<'_>, mut notes: Option<&mut Notes<'_>>) -> Vec<Listen> {
    let mut found: Vec<Listen> = Vec::new();
    let mut is_said = false;
    for directive in scope.own("listen") {
        is_said = true;
        let path = scope.path_to("listen");
        let mut warn = |message: String, hint: &str| {
            if let Some(notes) = &mut notes {
                notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, hint);
            }
        };
        let said = directive.arg(0).unwrap_or_default();
        let address = match said.parse::<u16>() {
            Ok(port) if port > 0 => Some((String::from("*"), port)),
            _ => host_and_port(said.strip_prefix('*').map_or(said, |_| ANY).trim_end_matches(':'), 80)
                .map(|(host, port)| (host, star_port(said).unwrap_or(port))),
        };
        let Some((host, port)) = address else {
            warn(format!("naru cannot listen on '{said}'"), "write an address and a port");
            continue;
        };
        let bind = match host.as_str() {
            "*" | ANY | "::" => None,
            "localhost" => Some("127.0.0.1".to_owned()),
            host if host.parse::<std::net::IpAddr>().is_ok() => Some(host.to_owned()),
            host => {
                warn(format!("'{host}' is listened on at every address"), "write its address");
                None
            }
        };
        let flags: Vec<&str> = directive.texts().skip(1).collect();
        for flag in ["quic", "proxy_protocol"] {
            if flags.contains(&flag) {
                warn(format!("'{flag}' of listen is not carried over"), "see docs/gaps.md");
            }
        }
        let listen = Listen {
            bind,
            port,
            is_tls: flags.contains(&"ssl"),
            is_default: flags.iter().any(|flag| ["default_server", "default"].contains(flag)),
        };
        // `listen 80; listen [::]:80;` is one port here; so is the QUIC beside a TLS.
        match found.iter_mut().find(|known| known.key() == listen.key()) {
            Some(known) => {
                known.is_tls |= listen.is_tls;
                known.is_default |= listen.is_default;
            }
            None => found.push(listen),
        }
    }
    if !is_said {
        found.push(Listen { bind: None, port: 80, is_tls: false, is_default: false });
    }
    found
}

/// Every address of IPv4.
const ANY: &str = "0.0.0.0";

/// The port of `*:8080`.
fn star_port(said: &str) -> Option<u16> {
    said.strip_prefix("*:")?.parse().ok()
}

/// Names that a Gateway can have.
fn hosts(scope: &Scope<'_>, notes: &mut Notes<'_>) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for directive in scope.own("server_name") {
        for word in &directive.args {
            let name = word.text.to_ascii_lowercase();
            let plain = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')).unwrap_or(&name);
            let is_plain = plain.split('.').all(|label| !label.is_empty() && valid_label(label));
            // `_` is how people write that no name is meant.
            if matches!(name.as_str(), "_" | "" | "\"\"") {
                continue;
            }
            if !is_plain {
                let message = format!("the name '{}' is not carried over", word.text);
                let hint = "a host is a name, or *.example.com";
                notes.warning(code::NOT_CARRIED_OVER, word.at, &scope.path_to("server_name"), message, hint);
                continue;
            }
            let both = match name.strip_prefix('.') {
                Some(rest) => vec![rest.to_owned(), format!("*.{rest}")],
                None => vec![name],
            };
            for host in both {
                if !hosts.contains(&host) {
                    hosts.push(host);
                }
            }
        }
    }
    hosts
}

fn valid_label(label: &str) -> bool {
    label.len() <= 63
        && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !label.starts_with('-')
}

/// `nginx-lb` of `conf/nginx-lb.conf`.
fn stem(file: &str) -> String {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    valid(stem)
}
