//! Whom requests are passed to: an `upstream`, or an address that `proxy_pass` names itself.

use std::net::{IpAddr, Ipv6Addr};

use naru_doc::tree::Position;

use super::location::{Scheme, Target};
use super::parse::Directive;
use super::scope::{millis, seconds};
use crate::kubernetes::{NETWORKING, Names, document, tell_renamed};
use crate::notes::{Notes, code};
use crate::yaml::{Map, Value};
use crate::{Output, Services};

/// nginx's defaults.
const MAX_FAILS: u32 = 1;
const FAIL_TIMEOUT_MS: u64 = 10_000;

/// The domain of what has no name in DNS as a whole; reserved for such by ICANN.
const DOMAIN: &str = "upstream.internal";

/// All of them, and what locations ask of them.
pub(super) struct Upstreams<'a> {
    entries: Vec<Upstream>,
    services: &'a Services,
}

#[derive(Clone)]
struct Upstream {
    /// As nginx calls it.
    said: String,
    /// Its documents' name.
    name: String,
    at: Position,
    /// What a route says.
    host: String,
    port: u16,
    /// None where it is a service of the compose file.
    servers: Option<Vec<Server>>,
    balancer: Option<Map>,
    detection: Option<Map>,
    /// Unknown until something is passed to it.
    scheme: Option<Scheme>,
    connect_ms: Option<u64>,
}

#[derive(Clone)]
struct Server {
    host: String,
    port: u16,
    weight: Option<u32>,
    max_fails: u32,
    fail_timeout_ms: u64,
}

/// What a route leads to.
pub(super) struct Destination {
    pub host: String,
    pub port: u16,
    /// Whether an `upstream` block declares it, or nginx names an address.
    pub is_declared: bool,
    at: usize,
}

impl<'a> Upstreams<'a> {
    pub fn of(
        blocks: &[&Directive],
        services: &'a Services,
        notes: &mut Notes<'_>,
        names: &mut Names,
    ) -> Upstreams<'a> {
        let mut upstreams = Upstreams { entries: Vec::new(), services };
        for block in blocks {
            let Some(said) = block.arg(0) else { continue };
            let path = format!("upstream[\"{said}\"]");
            if upstreams.entries.iter().any(|known| known.said == said) {
                let message = format!("the upstream '{said}' is there twice: this one is left out");
                notes.warning(code::NOT_CARRIED_OVER, block.at, &path, message, "");
                continue;
            }
            let servers = servers(block, &path, notes);
            if servers.is_empty() {
                let message = format!("the upstream '{said}' has no server that can be carried over");
                notes.warning(code::NOT_CARRIED_OVER, block.at, &path, message, "");
                continue;
            }
            let balancer = balancer(block, &path, notes);
            let detection = detection(&servers, block.at, &path, notes);
            upstreams.add(said, block.at, &path, servers, notes, names);
            if let Some(last) = upstreams.entries.last_mut() {
                last.balancer = balancer;
                last.detection = detection;
            }
        }
        upstreams
    }

    fn add(
        &mut self,
        said: &str,
        at: Position,
        path: &str,
        servers: Vec<Server>,
        notes: &mut Notes<'_>,
        names: &mut Names,
    ) {
        let mut upstream = Upstream {
            said: said.to_owned(),
            name: String::new(),
            at,
            host: String::new(),
            port: servers.first().map_or(80, |server| server.port),
            servers: None,
            balancer: None,
            detection: None,
            scheme: None,
            connect_ms: None,
        };
        let service = match servers.as_slice() {
            [only] => self.services.get(&only.host),
            _ => None,
        };
        if let Some(service) = service {
            upstream.name = names.claim("ServiceEntry", &service.name);
            upstream.host = service.name.clone();
        } else {
            upstream.name = names.claim("ServiceEntry", said);
            upstream.host = format!("{}.{DOMAIN}", upstream.name);
            tell_renamed(said, &upstream.name, at, path, notes);
            for server in servers.iter().filter(|server| self.services.contains_key(&server.host)) {
                let message =
                    format!("'{}' is looked up in DNS, as it is one of several servers", server.host);
                let hint = "one Service with several replicas says the same, and needs no upstream";
                notes.note(code::DIFFERS, at, path, message, hint);
            }
            upstream.servers = Some(servers);
        }
        self.entries.push(upstream);
    }

    /// Where a `proxy_pass` leads.
    pub fn destination(
        &mut self,
        target: &Target,
        at: Position,
        path: &str,
        notes: &mut Notes<'_>,
        names: &mut Names,
    ) -> Option<Destination> {
        let said = target.authority();
        // An upstream is called by its name alone.
        let named = |known: &Upstream| known.said == said || known.said == target.host;
        let found = self.entries.iter().position(|known| known.said == said || known.said == target.host);
        if found.is_none() {
            let (host, port) = host_and_port(&target.host, target.port)?;
            let server = Server {
                host,
                port: if target.has_port { target.port } else { port },
                weight: None,
                max_fails: MAX_FAILS,
                fail_timeout_ms: FAIL_TIMEOUT_MS,
            };
            let before = self.entries.len();
            self.add(&said, at, path, vec![server], notes, names);
            // Nobody gave it a name that could be missed.
            debug_assert_eq!(self.entries.len(), before + 1);
        }
        let is_same = |known: &Upstream| known.scheme.is_none_or(|scheme| scheme == target.scheme);
        let mut matching = self.entries.iter_mut().enumerate().filter(|(_, known)| named(known));
        let index = match matching.find(|(_, known)| is_same(known)) {
            Some((index, known)) => {
                known.scheme = Some(target.scheme);
                index
            }
            None => {
                // Called with TLS and without: two services.
                let mut second = self
                    .entries
                    .iter()
                    .find(|known| known.said == said || known.said == target.host)?
                    .clone();
                second.name =
                    names.claim("ServiceEntry", &format!("{}-{}", second.name, target.scheme.name()));
                if second.servers.is_some() {
                    second.host = format!("{}.{DOMAIN}", second.name);
                }
                second.scheme = Some(target.scheme);
                second.connect_ms = None;
                self.entries.push(second);
                self.entries.len() - 1
            }
        };
        let known = self.entries.get(index)?;
        let is_declared = !known.said.contains(':') && known.said == target.host && found.is_some();
        Some(Destination { host: known.host.clone(), port: known.port, is_declared, at: index })
    }

    /// A location's `proxy_connect_timeout`: of several the longest.
    pub fn connect_within(
        &mut self,
        destination: &Destination,
        millis: u64,
        at: Position,
        path: &str,
        notes: &mut Notes<'_>,
    ) {
        let Some(known) = self.entries.get_mut(destination.at) else { return };
        if let Some(before) = known.connect_ms.filter(|before| *before != millis) {
            let longest = before.max(millis);
            let message = format!(
                "locations wait differently long to connect to '{}': all of them wait {} here",
                known.said,
                seconds(longest)
            );
            notes.warning(code::DIFFERS, at, path, message, "a DestinationRule speaks for all routes");
        }
        known.connect_ms = Some(known.connect_ms.unwrap_or(0).max(millis));
    }

    pub fn write(self, notes: &Notes<'_>, output: &mut Output) {
        for upstream in self.entries {
            upstream.write(notes, output);
        }
    }
}

impl Upstream {
    fn write(self, notes: &Notes<'_>, output: &mut Output) {
        let origin = notes.origin(self.at, &format!("upstream {}", self.said));
        output.hosts.entry(self.said.clone()).or_insert_with(|| self.host.clone());
        let scheme = self.scheme.unwrap_or(Scheme::Http);
        let (port_name, protocol) = if scheme.is_grpc() { ("grpc", "GRPC") } else { ("http", "HTTP") };
        let sni = match self.servers.as_deref() {
            Some([only]) if only.host.parse::<IpAddr>().is_err() => Some(only.host.clone()),
            _ => None,
        };
        if let Some(servers) = &self.servers {
            let is_address = |server: &Server| server.host.parse::<IpAddr>().is_ok();
            let resolution = if servers.iter().all(is_address) { "STATIC" } else { "DNS" };
            let endpoint = |server: &Server| {
                Map::new()
                    .with("address", server.host.as_str())
                    .with("ports", Map::new().with(port_name, server.port))
                    .with_some("weight", server.weight)
            };
            let port =
                Map::new().with("number", self.port).with("name", port_name).with("protocol", protocol);
            let spec = Map::new()
                .with("hosts", vec![self.host.as_str()])
                .with("ports", vec![port])
                .with("location", "MESH_INTERNAL")
                .with("resolution", resolution)
                .with("endpoints", servers.iter().map(endpoint).collect::<Vec<_>>());
            let document = document(NETWORKING, "ServiceEntry", &self.name, spec);
            output.add("ServiceEntry", self.name.clone(), origin.clone(), document);
        }
        let connect = self
            .connect_ms
            .map(|millis| Map::new().with("tcp", Map::new().with("connectTimeout", seconds(millis))));
        let tls = scheme.is_tls().then(|| Map::new().with("mode", "SIMPLE").with_some("sni", sni));
        let policy = Map::new()
            .with_some("loadBalancer", self.balancer)
            .with_some("connectionPool", connect)
            .with_some("outlierDetection", self.detection)
            .with_some("tls", tls);
        if !policy.is_empty() {
            let spec = Map::new().with("host", self.host).with("trafficPolicy", policy);
            let document = document(NETWORKING, "DestinationRule", &self.name, spec);
            output.add("DestinationRule", self.name, origin, document);
        }
    }
}

fn servers(block: &Directive, path: &str, notes: &mut Notes<'_>) -> Vec<Server> {
    let path = format!("{path}.server");
    let mut servers = Vec::new();
    for directive in block.children().iter().filter(|directive| directive.name == "server") {
        let Some(said) = directive.arg(0) else { continue };
        let Some((host, port)) = host_and_port(said, 80) else {
            let message = format!("'{said}' is no host and port: the server is left out");
            notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, "");
            continue;
        };
        let mut server =
            Server { host, port, weight: None, max_fails: MAX_FAILS, fail_timeout_ms: FAIL_TIMEOUT_MS };
        let mut is_left_out = false;
        for word in directive.args.iter().skip(1) {
            let (key, value) = word.text.split_once('=').unwrap_or((&word.text, ""));
            let mut is_read = true;
            match key {
                "weight" => match value.parse().ok().filter(|weight| *weight > 0) {
                    Some(weight) => server.weight = Some(weight),
                    None => is_read = false,
                },
                "max_fails" => match value.parse() {
                    Ok(count) => server.max_fails = count,
                    Err(_) => is_read = false,
                },
                "fail_timeout" => match millis(value) {
                    Some(millis) => server.fail_timeout_ms = millis,
                    None => is_read = false,
                },
                "down" => {
                    is_left_out = true;
                    let message = format!("'{said}' is down, and left out");
                    notes.note(code::BY_DEFAULT, word.at, &path, message, "");
                }
                "backup" => {
                    is_left_out = true;
                    let message = format!("'{said}' is a backup, and left out: a ServiceEntry has none");
                    let hint = "localities with failover come closest";
                    notes.warning(code::NOT_CARRIED_OVER, word.at, &path, message, hint);
                }
                "resolve" => {
                    let message = "names are looked up again without being told".to_owned();
                    notes.note(code::BY_DEFAULT, word.at, &path, message, "");
                }
                _ => is_read = false,
            }
            if !is_read {
                let message = format!("'{}' of a server is not carried over", word.text);
                let hint = match key {
                    "max_conns" => "connectionPool.tcp.maxConnections limits all servers together",
                    "slow_start" => "loadBalancer.warmup of the DestinationRule comes closest",
                    _ => "",
                };
                notes.warning(code::NOT_CARRIED_OVER, word.at, &path, message, hint);
            }
        }
        if !is_left_out {
            servers.push(server);
        }
    }
    servers
}

/// How a server is picked; where nothing is said, in turns.
fn balancer(block: &Directive, path: &str, notes: &mut Notes<'_>) -> Option<Map> {
    let simple = |name: &str| Map::new().with("simple", name);
    let hash = |by: Map| Map::new().with("consistentHash", by);
    let mut found = simple("ROUND_ROBIN");
    for directive in block.children() {
        let path = format!("{path}.{}", directive.name);
        match directive.name.as_str() {
            "server" => {}
            "least_conn" => found = simple("LEAST_REQUEST"),
            // The lesser of two: that is what LEAST_REQUEST is.
            "random" if directive.arg(0) == Some("two") => found = simple("LEAST_REQUEST"),
            "random" => found = simple("RANDOM"),
            "ip_hash" => {
                found = hash(Map::new().with("useSourceIp", true));
                let message = "the whole address is hashed, nginx takes three bytes of four".to_owned();
                notes.note(code::DIFFERS, directive.at, &path, message, "");
            }
            "hash" | "sticky" => match key(directive) {
                Some(by) => found = hash(by),
                None => {
                    let said = directive.texts().collect::<Vec<_>>().join(" ");
                    let message = format!("nothing can be hashed by '{said}': servers are taken in turns");
                    let hint = "an address, a header, a cookie or a query parameter can";
                    notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, hint);
                }
            },
            "keepalive" | "keepalive_requests" | "keepalive_timeout" | "keepalive_time" | "zone" => {
                let message = format!("'{}' is not needed: connections are kept and shared", directive.name);
                notes.note(code::BY_DEFAULT, directive.at, &path, message, "");
            }
            name => {
                let message = format!("'{name}' of an upstream is not carried over");
                notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, "");
            }
        }
    }
    Some(found)
}

/// What Istio can hash by.
fn key(directive: &Directive) -> Option<Map> {
    let cookie = |name: &str| Map::new().with("name", name).with("path", "/");
    if directive.name == "sticky" {
        let name = directive.arg(0).filter(|kind| *kind == "cookie").and(directive.arg(1))?;
        let expires = directive.texts().find_map(|text| text.strip_prefix("expires=")).and_then(millis);
        // With a lifetime the cookie is made where it is missing; of no time it lasts as long as the browser.
        let made = cookie(name).with("ttl", seconds(expires.unwrap_or(0)));
        return Some(Map::new().with("httpCookie", made));
    }
    let said = directive.arg(0)?.strip_prefix('$')?;
    let said = said.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(said);
    let is_name =
        |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let part = |prefix: &str| said.strip_prefix(prefix).filter(is_name);
    match said {
        "remote_addr" | "binary_remote_addr" => Some(Map::new().with("useSourceIp", true)),
        "request_uri" | "uri" => Some(Map::new().with("httpHeaderName", ":path")),
        "host" | "http_host" => Some(Map::new().with("httpHeaderName", ":authority")),
        _ => part("http_")
            .map(|name| Map::new().with("httpHeaderName", name.replace('_', "-")))
            .or_else(|| part("arg_").map(|name| Map::new().with("httpQueryParameterName", name)))
            .or_else(|| part("cookie_").map(|name| Map::new().with("httpCookie", cookie(name)))),
    }
}

/// nginx's passive health: none for one server alone, and `max_fails=0` is never.
fn detection(servers: &[Server], at: Position, path: &str, notes: &mut Notes<'_>) -> Option<Map> {
    if servers.len() < 2 {
        return None;
    }
    let fails = servers.iter().map(|server| server.max_fails).max().filter(|fails| *fails > 0)?;
    let timeout = servers.iter().map(|server| server.fail_timeout_ms).max()?;
    // Zero is not a time that anything could last.
    let timeout = seconds(timeout.max(1));
    let is_same = servers.windows(2).all(|pair| match pair {
        [a, b] => (a.max_fails, a.fail_timeout_ms) == (b.max_fails, b.fail_timeout_ms),
        _ => true,
    });
    if !is_same {
        let message =
            format!("servers have different max_fails or fail_timeout: all have {fails} and {timeout} here");
        notes.warning(code::DIFFERS, at, path, message, "outlierDetection speaks for all endpoints");
    }
    let message = format!(
        "max_fails={fails} fail_timeout={timeout} becomes outlierDetection: failures are counted in a row, \
         502, 503 and 504 among them"
    );
    let hint = "nginx counts failures within fail_timeout; each ejection lasts longer than the one before";
    notes.note(code::DIFFERS, at, path, message, hint);
    Some(
        Map::new()
            .with("consecutiveGatewayErrors", fails)
            // Istio's default of 5 would count what nginx does not.
            .with("consecutive5xxErrors", 0_u32)
            .with("interval", timeout.as_str())
            .with("baseEjectionTime", timeout.as_str())
            .with("maxEjectionPercent", 100_u32),
    )
}

/// `app:8080`, `10.0.0.1`, `[::1]:80`; not the path of a socket, and no variable.
pub(super) fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let number = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = if port.is_empty() { default } else { number(port.strip_prefix(':')?)? };
        return Some((address.to_string(), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, number(port)?),
        None => (text, default),
    };
    let is_host = !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    is_host.then(|| (host.to_owned(), port))
}

impl Destination {
    pub fn to_value(&self) -> Value {
        let port = Map::new().with("number", self.port);
        Map::new().with("host", self.host.as_str()).with("port", port).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(host_and_port(text, 80), expected, "{text}");
        };
        check("app:8080", Some(("app", 8080)));
        check("app", Some(("app", 80)));
        check("my_app", Some(("my_app", 80)));
        check("10.0.0.1:1", Some(("10.0.0.1", 1)));
        check("[::1]:81", Some(("::1", 81)));
        check("[::1]", Some(("::1", 80)));
        check("unix:/run/app.sock", None);
        check("$app", None);
        check("app:0", None);
        check("app:99999", None);
        check("", None);
    }
}
