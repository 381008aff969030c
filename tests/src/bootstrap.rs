//! An Envoy bootstrap file, put together from the pieces that a test is about.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::Authority;
use crate::certificates::{Issued, NAME};

/// Sends everything to the cluster `up`, without a time limit.
pub const TO_UP: &str = r#"
- name: all
  match: { prefix: "/" }
  route: { cluster: up, timeout: 0s }
"#;

/// Of a cluster: its upstreams speak HTTP/2.
pub const HTTP2: &str = r#"
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: { http2_protocol_options: {} }
"#;

/// Of a cluster: ALPN tells what its upstreams speak.
pub const BY_ALPN: &str = r#"
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    auto_config: { http_protocol_options: {}, http2_protocol_options: {} }
"#;

const HTTP_MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const DOWNSTREAM_TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const DOWNSTREAM_QUIC: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport";
const UPSTREAM_TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const FILE_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";

/// One listener with one chain, and clusters.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    virtual_hosts: String,
    manager: String,
    filters: String,
    logs: String,
    tls: String,
    clusters: String,
    admin: bool,
    tunnels: bool,
    is_http3: bool,
    address: SocketAddr,
    /// Lines of the whole, beside its listeners and clusters.
    top: String,
    /// Filters before the one that serves, and lines of its chain.
    network_filters: String,
    chain: String,
    /// Lines of the listener beside its chains.
    listener: String,
    /// In the place of the one that serves HTTP.
    chains: String,
}

impl Bootstrap {
    /// A virtual host for every name, with these routes.
    pub fn new(routes: &str) -> Bootstrap {
        let mut hosts = "- name: everything\n  domains: [\"*\"]\n  routes:\n".to_owned();
        hosts.push_str(&indented(routes, 2));
        Bootstrap::with_virtual_hosts(&hosts)
    }

    pub fn with_virtual_hosts(virtual_hosts: &str) -> Bootstrap {
        Bootstrap {
            virtual_hosts: virtual_hosts.to_owned(),
            manager: String::new(),
            filters: String::new(),
            logs: String::new(),
            tls: String::new(),
            clusters: String::new(),
            admin: false,
            tunnels: false,
            is_http3: false,
            address: ([127, 0, 0, 1], 0).into(),
            top: String::new(),
            network_filters: String::new(),
            chain: String::new(),
            listener: String::new(),
            chains: String::new(),
        }
    }

    /// All requests to one upstream, the cluster `up`.
    pub fn to(address: SocketAddr) -> Bootstrap {
        Bootstrap::new(TO_UP).cluster("up", address, "")
    }

    /// One chain that passes bytes through to the cluster `up`, unless these lines of its TCP proxy say something else.
    pub fn tcp(lines: &str) -> Bootstrap {
        Bootstrap::of_chains(&tcp_chain("", lines))
    }

    /// With these filter chains: see [`tcp_chain`].
    pub fn of_chains(chains: &str) -> Bootstrap {
        Bootstrap { chains: chains.to_owned(), ..Bootstrap::with_virtual_hosts("") }
    }

    /// Adds lines to the whole.
    pub fn top(mut self, lines: &str) -> Bootstrap {
        self.top.push_str(lines.trim_matches('\n'));
        self.top.push('\n');
        self
    }

    /// Adds lines to the listener.
    pub fn listener(mut self, lines: &str) -> Bootstrap {
        self.listener.push_str(lines.trim_matches('\n'));
        self.listener.push('\n');
        self
    }

    /// Adds a filter before the one that serves.
    pub fn network_filter(mut self, lines: &str) -> Bootstrap {
        self.network_filters.push_str(lines);
        self
    }

    /// Adds lines to the chain.
    pub fn chain(mut self, lines: &str) -> Bootstrap {
        self.chain.push_str(lines.trim_matches('\n'));
        self.chain.push('\n');
        self
    }

    /// Adds an HTTP filter before the router.
    pub fn filter(mut self, line: &str) -> Bootstrap {
        self.filters.push_str(line);
        self.filters.push('\n');
        self
    }

    /// Adds lines to the HTTP connection manager.
    pub fn manager(mut self, lines: &str) -> Bootstrap {
        self.manager.push_str(lines.trim_matches('\n'));
        self.manager.push('\n');
        self
    }

    /// A cluster with one endpoint, and more lines of its own.
    pub fn cluster(self, name: &str, address: SocketAddr, lines: &str) -> Bootstrap {
        self.cluster_of(name, &[address], lines)
    }

    pub fn cluster_of(self, name: &str, addresses: &[SocketAddr], lines: &str) -> Bootstrap {
        let even: Vec<_> = addresses.iter().map(|address| (*address, 1)).collect();
        self.weighted_cluster(name, &even, lines)
    }

    /// A cluster whose endpoints have weights.
    pub fn weighted_cluster(mut self, name: &str, all: &[(SocketAddr, u32)], lines: &str) -> Bootstrap {
        let endpoints: String = all
            .iter()
            .map(|(address, weight)| {
                let address = socket_address(*address);
                format!("    - {{ endpoint: {{ address: {address} }}, load_balancing_weight: {weight} }}\n")
            })
            .collect();
        write!(
            self.clusters,
            "- name: {name}\n  load_assignment:\n    cluster_name: {name}\n    endpoints:\n    - lb_endpoints:\n{}",
            indented(&endpoints, 2)
        )
        .unwrap();
        self.clusters.push_str(&indented(lines, 2));
        self
    }

    /// A cluster without endpoints of its own: requests bring them.
    pub fn on_demand_cluster(mut self, name: &str, lines: &str) -> Bootstrap {
        writeln!(self.clusters, "- name: {name}\n  type: ORIGINAL_DST\n  lb_policy: CLUSTER_PROVIDED")
            .unwrap();
        self.clusters.push_str(&indented(lines, 2));
        self
    }

    /// The listener speaks TLS.
    pub fn tls(mut self, authority: &Authority, alpn: &[&str]) -> Bootstrap {
        self.tls = downstream_tls(authority, alpn);
        self
    }

    /// The listener speaks HTTP/3; `quic` are its `quic_options`.
    pub fn http3(mut self, authority: &Authority, quic: &str) -> Bootstrap {
        self.is_http3 = true;
        self.tls = quic_tls(&authority.issue());
        self.manager("codec_type: HTTP3")
            .listener(&format!("udp_listener_config: {{ quic_options: {{ {quic} }} }}"))
    }

    /// With another certificate.
    pub fn http3_with(mut self, issued: &Issued) -> Bootstrap {
        self.tls = quic_tls(issued);
        self
    }

    /// As [`Bootstrap::tls`], with this certificate, lines of its own and lines of what both sides have in common.
    pub fn tls_of(mut self, issued: &Issued, own: &str, common: &str) -> Bootstrap {
        self.tls = server_tls(issued, own, common);
        self
    }

    /// Other lines in the place of some of the listener's TLS.
    pub fn tls_lines(mut self, before: &str, after: &str) -> Bootstrap {
        assert!(self.tls.contains(before), "{}", self.tls);
        self.tls = self.tls.replace(before, after);
        self
    }

    /// Writes a line of JSON with these fields for each request.
    pub fn json_log(mut self, path: &Path, fields: &str) -> Bootstrap {
        self.logs.push_str(&json_logger(path, fields));
        self
    }

    /// Adds access logs as they are written.
    pub fn logs(mut self, lines: &str) -> Bootstrap {
        self.logs.push_str(lines.trim_matches('\n'));
        self.logs.push('\n');
        self
    }

    /// The admin interface, on a free port.
    pub fn admin(mut self) -> Bootstrap {
        self.admin = true;
        self
    }

    /// Clients may ask for tunnels, which the file has no words for.
    pub fn tunnels(mut self) -> Bootstrap {
        self.tunnels = true;
        self
    }

    pub fn has_tunnels(&self) -> bool {
        self.tunnels
    }

    pub fn listen_on(mut self, address: SocketAddr) -> Bootstrap {
        self.address = address;
        self
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.admin {
            text.push_str("admin:\n  address: { socket_address: { address: 127.0.0.1, port_value: 0 } }\n");
        }
        text.push_str(self.top.trim_start_matches('\n'));
        text.push_str("static_resources:\n  listeners:\n  - name: main\n");
        let address = socket_address(self.address);
        let address = match self.is_http3 {
            true => address.replace("socket_address: {", "socket_address: { protocol: UDP,"),
            false => address,
        };
        writeln!(text, "    address: {address}").unwrap();
        text.push_str(&indented(&self.listener, 4));
        text.push_str("    filter_chains:\n");
        if self.chains.is_empty() {
            text.push_str(&self.http_chain());
        } else {
            text.push_str(&indented(&self.chains, 4));
        }
        if !self.clusters.is_empty() {
            text.push_str("  clusters:\n");
            text.push_str(&indented(&self.clusters, 2));
        }
        text
    }

    fn http_chain(&self) -> String {
        let mut text = String::from("    - filters:\n");
        text.push_str(&indented(&self.network_filters, 6));
        writeln!(text, "      - name: http\n        typed_config:\n          \"@type\": {HTTP_MANAGER}")
            .unwrap();
        text.push_str("          stat_prefix: test\n");
        text.push_str(&indented(&self.manager, 10));
        if !self.logs.is_empty() {
            text.push_str("          access_log:\n");
            text.push_str(&indented(&self.logs, 10));
        }
        text.push_str("          route_config:\n            name: routes\n            virtual_hosts:\n");
        text.push_str(&indented(&self.virtual_hosts, 12));
        text.push_str("          http_filters:\n");
        text.push_str(&indented(&self.filters, 10));
        text.push_str("          - name: router\n            typed_config:\n");
        text.push_str(
            "              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n",
        );
        text.push_str(&indented(&self.tls, 6));
        text.push_str(&indented(&self.chain, 6));
        text
    }
}

/// A filter chain that passes bytes through; `lines` are of the chain, `proxy` are of its TCP proxy, which leads to the
/// cluster `up` unless they say something else.
pub fn tcp_chain(lines: &str, proxy: &str) -> String {
    let says = |line: &str| line.starts_with("cluster:") || line.starts_with("weighted_clusters:");
    let to_up = if proxy.lines().any(says) { "" } else { "cluster: up\n" };
    format!(
        "- filters:\n  - name: tcp\n    typed_config:\n      \"@type\": {TCP_PROXY}\n      stat_prefix: tcp\n{}{}",
        indented(&format!("{to_up}{proxy}"), 6),
        indented(lines, 2),
    )
}

/// Of a filter chain, or of a TCP proxy: a line of JSON with these fields for each connection.
pub fn json_log(path: &Path, fields: &str) -> String {
    format!("access_log:\n{}", json_logger(path, fields))
}

fn json_logger(path: &Path, fields: &str) -> String {
    format!(
        "- name: file\n  typed_config:\n    \"@type\": {FILE_LOG}\n    path: {path:?}\n    log_format:\n      \
         json_format:\n{}",
        indented(fields, 8)
    )
}

/// Of a filter chain: TLS ends here.
pub fn downstream_tls(authority: &Authority, alpn: &[&str]) -> String {
    let issued = authority.issue();
    format!(
        "transport_socket:\n  name: tls\n  typed_config:\n    \"@type\": {DOWNSTREAM_TLS}\n    \
         common_tls_context:\n      alpn_protocols: {alpn:?}\n      tls_certificates:\n      \
         - certificate_chain: {{ inline_string: {:?} }}\n        private_key: {{ inline_string: {:?} }}\n",
        issued.chain, issued.key
    )
}

/// Of a filter chain: QUIC ends here.
pub fn quic_tls(issued: &Issued) -> String {
    format!(
        "transport_socket:\n  name: quic\n  typed_config:\n    \"@type\": {DOWNSTREAM_QUIC}\n    \
         downstream_tls_context:\n      common_tls_context:\n        tls_certificates:\n        \
         - certificate_chain: {{ inline_string: {:?} }}\n          private_key: {{ inline_string: {:?} }}\n",
        issued.chain, issued.key
    )
}

/// As [`downstream_tls`]: see [`Bootstrap::tls_of`].
pub fn server_tls(issued: &Issued, own: &str, common: &str) -> String {
    let mut text =
        format!("transport_socket:\n  name: tls\n  typed_config:\n    \"@type\": {DOWNSTREAM_TLS}\n");
    text.push_str(&indented(own, 4));
    writeln!(
        text,
        "    common_tls_context:\n      tls_certificates:\n      - certificate_chain: {{ inline_string: {:?} }}\n        \
         private_key: {{ inline_string: {:?} }}",
        issued.chain, issued.key
    )
    .unwrap();
    text.push_str(&indented(common, 6));
    text
}

/// Of a cluster: its upstreams speak TLS, and are trusted where this authority says so.
pub fn upstream_tls(authority: &Authority) -> String {
    format!(
        "transport_socket:\n  name: tls\n  typed_config:\n    \"@type\": {UPSTREAM_TLS}\n    sni: {NAME}\n    \
         common_tls_context:\n      validation_context: {{ trusted_ca: {{ inline_string: {:?} }} }}\n",
        authority.pem()
    )
}

fn socket_address(address: SocketAddr) -> String {
    format!(
        "{{ socket_address: {{ address: {:?}, port_value: {} }} }}",
        address.ip().to_string(),
        address.port()
    )
}

fn indented(lines: &str, by: usize) -> String {
    let lines = lines.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| format!("{:by$}{line}\n", "")).collect()
}
