//! Listeners and their filter chains.

use std::collections::BTreeSet;

use naru_spec::{Domain, FilterChain, Http, Invalid, Listener, RouteTable};

use super::{http, tls, value};
use crate::findings::{Findings, code};
use crate::proto::{hcm, listener as proto, tls_inspector};
use crate::schema::{type_name, unpack};
use naru_spec::Path;

pub(super) fn read(said: &proto::Listener, path: &Path<'_>, findings: &mut Findings<'_>) -> Listener {
    let address = match &said.address {
        Some(address) => value::literal_address(address, &path.field("address"), findings),
        None => {
            findings.missing(&path.field("address"), "a listener needs an address");
            std::net::SocketAddr::from(([0, 0, 0, 0], 0))
        }
    };
    let filters = path.field("listener_filters");
    for (at, filter) in said.listener_filters.iter().enumerate() {
        listener_filter(filter, &filters.at(at), findings);
    }
    let mut chains = Vec::new();
    let mut taken = Taken::default();
    let listed = path.field("filter_chains");
    for (at, said) in said.filter_chains.iter().enumerate() {
        let path = listed.at(at);
        let chain = chain(said, &path, findings);
        taken.take(&chain, &path, findings);
        chains.push(chain);
    }
    if let Some(said) = &said.default_filter_chain {
        let path = path.field("default_filter_chain");
        if said.filter_chain_match.is_some() {
            let text = "the default filter chain takes what no other takes, and has no conditions of its own";
            findings.unsupported(&path.field("filter_chain_match"), text, "");
        }
        let said = proto::FilterChain { filter_chain_match: None, ..said.clone() };
        let chain = chain(&said, &path, findings);
        taken.take(&chain, &path, findings);
        chains.push(chain);
    }
    if chains.is_empty() {
        findings.missing(&path.field("filter_chains"), "a listener needs a filter chain");
    }
    Listener { name: said.name.clone(), address, chains }
}

/// Where there is TLS, naru always reads the server name.
fn listener_filter(said: &proto::ListenerFilter, path: &Path<'_>, findings: &mut Findings<'_>) {
    let path = path.field("typed_config");
    let Some(proto::listener_filter::ConfigType::TypedConfig(any)) = &said.config_type else {
        findings.missing(&path, "a listener filter needs a typed_config");
        return;
    };
    if unpack::<tls_inspector::TlsInspector>(any).is_none() {
        let text = format!("the listener filter '{}' is not supported", type_name(&any.type_url));
        findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, "only tls_inspector is");
    }
}

/// What the chains before take.
#[derive(Default)]
struct Taken {
    names: BTreeSet<Domain>,
    everything: bool,
}

impl Taken {
    fn take(&mut self, chain: &FilterChain, path: &Path<'_>, findings: &mut Findings<'_>) {
        if chain.server_names.is_empty() {
            if self.everything {
                let text = "another filter chain takes every connection already";
                findings.error(
                    path,
                    code::DUPLICATE,
                    text,
                    "tell them apart by filter_chain_match.server_names",
                );
            }
            self.everything = true;
        }
        let names = path.field("filter_chain_match.server_names");
        for (at, name) in chain.server_names.iter().enumerate() {
            if !self.names.insert(name.clone()) {
                let text = format!("another filter chain takes the server name '{name}' already");
                findings.error(&names.at(at), code::DUPLICATE, text, "");
            }
        }
    }
}

fn chain(said: &proto::FilterChain, path: &Path<'_>, findings: &mut Findings<'_>) -> FilterChain {
    let socket = said.transport_socket.as_ref();
    let tls = socket.and_then(|s| tls::downstream(s, &path.field("transport_socket"), findings));
    let conditions = said.filter_chain_match.clone().unwrap_or_default();
    let conditions_path = path.field("filter_chain_match");
    let protocol = conditions.transport_protocol.as_str();
    let is_tls = tls.is_some();
    if !protocol.is_empty() && protocol != if is_tls { "tls" } else { "raw_buffer" } {
        let text = match is_tls {
            true => {
                format!("a filter chain with TLS takes only the transport protocol tls, not '{protocol}'")
            }
            false => format!("a filter chain without TLS takes only raw_buffer, not '{protocol}'"),
        };
        findings.unsupported_value(&conditions_path.field("transport_protocol"), text, "");
    }
    let mut server_names = Vec::new();
    let names = conditions_path.field("server_names");
    for (at, text) in conditions.server_names.iter().enumerate() {
        match server_name(text) {
            Ok(name) => server_names.push(name),
            Err(invalid) => {
                findings.invalid(&names.at(at), invalid);
                // Keeps its seat, so that the paths of the others stay true.
                server_names.push(Domain::Exact(text.clone()));
            }
        }
    }
    if !server_names.is_empty() && !is_tls && socket.is_none_or(|s| s.config_type.is_some()) {
        let text = "only a filter chain with TLS can be chosen by the server name";
        findings.unsupported(&names, text, "add a transport_socket, or choose by virtual_hosts[].domains");
    }
    let http = manager(said, path, findings);
    FilterChain { name: said.name.clone(), server_names, tls, http }
}

/// A whole name, or `*.` and whole labels.
fn server_name(text: &str) -> Result<Domain, Invalid> {
    match Domain::parse(text)? {
        Domain::Suffix(suffix) if suffix.starts_with('.') => Ok(Domain::Suffix(suffix)),
        Domain::Exact(name) => Ok(Domain::Exact(name)),
        _ => Err(Invalid::new(format!("'{text}' cannot be a server name"))
            .hint("write 'name' or '*.suffix'; leave server_names out to take every name")),
    }
}

/// The one filter of a chain.
fn manager(said: &proto::FilterChain, path: &Path<'_>, findings: &mut Findings<'_>) -> Http {
    let none = Http::new("", RouteTable::default());
    let path = path.field("filters");
    for at in 1..said.filters.len() {
        let text = "a filter chain has one filter, the HTTP connection manager";
        findings.unsupported_value(&path.at(at), text, "");
    }
    let Some(filter) = said.filters.first() else {
        findings.missing(&path, "a filter chain needs a filter: the HTTP connection manager");
        return none;
    };
    let path = path.at(0);
    let path = path.field("typed_config");
    let Some(proto::filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        findings.missing(&path, "a filter needs a typed_config");
        return none;
    };
    match unpack::<hcm::HttpConnectionManager>(any) {
        Some(manager) => http::read(&manager, &path, findings),
        None => {
            let text = format!("the filter '{}' is not supported", type_name(&any.type_url));
            let hint = "only the HTTP connection manager is";
            findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, hint);
            none
        }
    }
}
