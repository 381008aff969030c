//! Which rules of VirtualServices ask for what no request has?
//!
//! Comes in: the blocks as they are written. Goes out: a warning for each value that cannot be met, and what names a
//! Gateway that is not there. Deliberately not here: what a block means ([`crate::matching`]).

use std::collections::BTreeSet;

use naru_resource::virtual_service::HttpMatch;
use naru_resource::{Number, StringMatch, Test, Text, VirtualService};
use naru_spec::{Path, Severity, code};

use crate::findings::Findings;
use crate::routes::{MESH, Routes};

/// Methods are case-sensitive, and these are upper case.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

impl Routes<'_> {
    /// A Gateway that is named has to be there.
    pub fn check_gateway(&self, name: &Text, owner: &str, path: &Path<'_>, findings: &mut Findings<'_>) {
        if name.value == MESH || self.gateway(name, owner).is_some() {
            return;
        }
        let is_error = !self.resources.gateways.is_empty() || self.is_strict || !self.registry.is_empty();
        let severity = if is_error { Severity::Error } else { Severity::Note };
        let message = format!("there is no Gateway '{}'", name.value);
        findings.tell(severity, code::UNKNOWN_REFERENCE, name.place, path, message, "");
    }

    pub fn check_unmet(&self, service: &VirtualService, findings: &mut Findings<'_>) {
        let spec = Path::ROOT.field("spec");
        let rules = spec.field("http");
        for (at, route) in service.spec.http.iter().enumerate() {
            let rule = rules.at(at);
            let blocks = rule.field("match");
            for (at, block) in route.matches.iter().enumerate() {
                let path = blocks.at(at);
                self.check_bounds(service, &block.gateways, block.port, &path, findings);
                check_request(block, &path, findings);
            }
        }
        let rules = spec.field("tls");
        for (at, route) in service.spec.tls.iter().enumerate() {
            let rule = rules.at(at);
            let blocks = rule.field("match");
            for (at, block) in route.matches.iter().enumerate() {
                self.check_bounds(service, &block.gateways, block.port, &blocks.at(at), findings);
            }
        }
        let rules = spec.field("tcp");
        for (at, route) in service.spec.tcp.iter().enumerate() {
            let rule = rules.at(at);
            let blocks = rule.field("match");
            for (at, block) in route.matches.iter().enumerate() {
                self.check_bounds(service, &block.gateways, block.port, &blocks.at(at), findings);
            }
        }
    }

    /// The gateways and the port of a block.
    fn check_bounds(
        &self,
        service: &VirtualService,
        gateways: &[Text],
        port: Option<Number>,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) {
        let owner = service.meta.namespace();
        let of_gateways = path.field("gateways");
        for (at, name) in gateways.iter().enumerate() {
            self.check_gateway(name, owner, &of_gateways.at(at), findings);
        }
        // Of one without hosts those say it that delegate to it. Port 0 is any.
        let Some(port) = port.filter(|port| port.value != 0 && !service.spec.hosts.is_empty()) else {
            return;
        };
        let names = if gateways.is_empty() { &service.spec.gateways } else { gateways };
        let mut ports: BTreeSet<i64> = BTreeSet::new();
        for name in names {
            // In the mesh there are the ports of whoever is called; of one that is not there nobody knows them.
            let Some(gateway) = self.gateway(name, owner).filter(|_| name.value != MESH) else { return };
            ports.extend(gateway.spec.servers.iter().map(|server| server.port.number.value));
        }
        if !ports.is_empty() && !ports.contains(&port.value) {
            let message = format!("no server of its Gateways has port {}: no request fits", port.value);
            let known: Vec<String> = ports.iter().map(ToString::to_string).collect();
            let hint = format!("their ports are {}", known.join(", "));
            findings.warning(code::NO_EFFECT, port.place, &path.field("port"), message, hint);
        }
    }
}

/// The path and the method of a block.
fn check_request(block: &HttpMatch, path: &Path<'_>, findings: &mut Findings<'_>) {
    if let Some(uri) = &block.uri {
        check_path(uri, &path.field("uri"), findings);
    }
    if let Some(method) = &block.method {
        check_method(method, &path.field("method"), findings);
    }
    let headers = path.field("headers");
    for (name, said) in block.headers.iter().filter(|(name, _)| name.value == ":method") {
        check_method(said, &headers.key(name), findings);
    }
}

fn check_path(uri: &StringMatch, path: &Path<'_>, findings: &mut Findings<'_>) {
    let (Test::Exact(text) | Test::Prefix(text)) = &uri.test else { return };
    // Everything begins with nothing, and OPTIONS may ask for `*`.
    if text == "*" || matches!(&uri.test, Test::Prefix(text) if text.is_empty()) {
        return;
    }
    let (why, hint) = match text.contains('?') {
        _ if !text.starts_with('/') => ("begins with /", "write / before it"),
        true => ("has no query: it ends before ?", "queryParams asks for what follows"),
        false => return,
    };
    let message = format!("'{text}' fits no request: a path {why}");
    findings.warning(code::NO_EFFECT, uri.place, path, message, hint);
}

fn check_method(method: &StringMatch, path: &Path<'_>, findings: &mut Findings<'_>) {
    let Test::Exact(text) = &method.test else { return };
    let upper = text.to_ascii_uppercase();
    if *text != upper && METHODS.contains(&upper.as_str()) {
        let message = format!("'{text}' fits no request: methods are case-sensitive");
        findings.warning(code::NO_EFFECT, method.place, path, message, format!("write {upper}"));
    }
}
