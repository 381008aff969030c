//! nginx's configuration: upstreams, servers, locations.
//!
//! Each `upstream`, and each address that is passed to without one, becomes a ServiceEntry and a
//! DestinationRule; each `server` a Gateway and a VirtualService, with a TrafficPolicy for what nginx
//! waits between two reads. Source of the meanings: nginx.org/en/docs/http, modules core, upstream,
//! proxy, rewrite, headers and ssl.

mod parse;
mod scope;
mod upstream;
mod server;
mod tls;
mod location;
mod access;
mod answer;
mod headers;
mod variables;
mod other;

use naru_doc::tree::Position;

use crate::notes::{Notes, code};
use crate::{Output, Services};

pub(crate) use parse::{Directive, Parsed, parse};
use scope::Scope;
use upstream::Upstreams;

/// Whether a text that has no telling name may be nginx's: a line opens one of its blocks.
pub(crate) fn is_likely(text: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        ["upstream", "server", "http", "events", "location"].contains(&first)
            && line.split('#').next().is_some_and(|line| line.trim_end().ends_with('{'))
    })
}

/// Adds the ports that a configuration calls to the services of a compose file.
pub(crate) fn calls(directives: &[Directive], services: &mut Services) {
    let mut upstreams = Vec::new();
    names_of_upstreams(directives, &mut upstreams);
    calls_beside(directives, &upstreams, services);
}

/// These are not looked up: what they call is what they list.
fn names_of_upstreams<'a>(directives: &'a [Directive], names: &mut Vec<&'a str>) {
    for directive in directives {
        if directive.name == "upstream" {
            names.extend(directive.arg(0));
        }
        names_of_upstreams(directive.children(), names);
    }
}

fn calls_beside(directives: &[Directive], upstreams: &[&str], services: &mut Services) {
    for directive in directives {
        let address = match directive.name.as_str() {
            "server" => directive.arg(0).map(|text| upstream::host_and_port(text, 80)),
            "proxy_pass" | "grpc_pass" => directive
                .arg(0)
                .and_then(location::Target::parse)
                .filter(|target| !upstreams.contains(&target.host.as_str()))
                .map(|target| upstream::host_and_port(&target.host, target.port)),
            _ => None,
        };
        if let Some(Some((host, port))) = address
            && let Some(known) = services.get_mut(&host)
            && !known.ports.contains(&port)
        {
            known.ports.push(port);
        }
        calls_beside(directive.children(), upstreams, services);
    }
}

pub(crate) fn import(
    directives: &[Directive],
    services: &Services,
    notes: &mut Notes<'_>,
    output: &mut Output,
) {
    let mut found = Found::default();
    let top = Scope::top(directives);
    found.walk(&top, notes);
    if found.servers.is_empty() && found.upstreams.is_empty() {
        let at = directives.first().map_or(Position { line: 1, column: 1 }, |directive| directive.at);
        let message = "there is neither a server nor an upstream in it".to_owned();
        notes.warning(code::NOT_CARRIED_OVER, at, "", message, "");
    }
    let mut upstreams = Upstreams::of(&found.upstreams, services, notes, &mut output.names);
    let mut taken = server::Taken::of(&found.servers);
    let mut written = Vec::new();
    for (at, scope) in found.servers.iter().enumerate() {
        written.extend(server::read(at, scope, &mut upstreams, &mut taken, notes, &mut output.names));
    }
    upstreams.write(notes, output);
    for server in written {
        server.write(output);
    }
}

/// The blocks that become something, each within what it inherits.
#[derive(Default)]
struct Found<'a> {
    upstreams: Vec<&'a Directive>,
    servers: Vec<Scope<'a>>,
}

impl<'a> Found<'a> {
    fn walk(&mut self, scope: &Scope<'a>, notes: &mut Notes<'_>) {
        for directive in scope.innermost() {
            match directive.name.as_str() {
                // A second `http` within the first is no nginx, and would be walked for ever longer.
                "http" if scope.depth() == 1 => self.walk(&scope.within("http", directive), notes),
                "upstream" if directive.block.is_some() => self.upstreams.push(directive),
                "server" if directive.block.is_some() => {
                    let path = format!("server[{}]", self.servers.len());
                    self.servers.push(scope.within(&path, directive));
                }
                _ => other::tell(directive, scope, other::Level::Http, notes),
            }
        }
    }
}
