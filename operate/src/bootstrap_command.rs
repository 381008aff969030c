//! `naru config bootstrap`: the few lines by which a proxy finds its control plane.
//!
//! YAML, but for gRPC, whose clients read JSON.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::cli::{BootstrapArgs, Failure, ProxyRole};
use crate::say::say;

/// What the control plane is called in the file.
const CLUSTER: &str = "naru-control";

pub fn run(args: &BootstrapArgs) -> Result<(), Failure> {
    let port = args.xds.port_u16();
    let port = port.ok_or_else(|| Failure::Usage(anyhow::anyhow!("--xds: '{}' has no port", args.xds)))?;
    say(&text(args, port))?;
    Ok(())
}

fn text(args: &BootstrapArgs, port: u16) -> String {
    let node = node(args);
    if args.grpc {
        let bootstrap = json!({
            "xds_servers": [{
                "server_uri": args.xds.to_string(),
                "channel_creds": [credentials(args)],
                "server_features": ["xds_v3"],
            }],
            "node": node,
        });
        return format!("{bootstrap:#}\n");
    }
    let admin = args.admin;
    let host = args.xds.host().trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<IpAddr>().ok();
    let mut text = String::new();
    // What JSON says, YAML says as well.
    let _ = writeln!(text, "node: {node}");
    let _ = writeln!(text, "admin: {{ address: {} }}", socket(&admin.ip().to_string(), admin.port()));
    let _ = write!(
        text,
        "\
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [{{ envoy_grpc: {{ cluster_name: {CLUSTER} }} }}]
  cds_config: {{ resource_api_version: V3, ads: {{}} }}
  lds_config: {{ resource_api_version: V3, ads: {{}} }}
static_resources:
  clusters:
  - name: {CLUSTER}
    type: {}
    connect_timeout: 5s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: {CLUSTER}
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {} }} }}] }}]
",
        if address.is_some() { "STATIC" } else { "STRICT_DNS" },
        socket(host, port)
    );
    if let Some(tls) = transport_socket(args, host) {
        let _ = writeln!(text, "    transport_socket: {tls}");
    }
    text
}

fn socket(host: &str, port: u16) -> String {
    format!("{{ socket_address: {{ address: '{host}', port_value: {port} }} }}")
}

/// For a control plane that speaks TLS: its certificate has to be for the name, or the address, that it is found by.
fn transport_socket(args: &BootstrapArgs, host: &str) -> Option<Value> {
    let ca = args.tls_ca.as_deref()?.display().to_string();
    let name = args.tls_name.as_deref().unwrap_or(host);
    let is_address = name.parse::<IpAddr>().is_ok();
    let mut common = json!({
        "alpn_protocols": ["h2"],
        "validation_context": {
            "trusted_ca": { "filename": ca },
            "match_typed_subject_alt_names": [{
                "san_type": if is_address { "IP_ADDRESS" } else { "DNS" },
                "matcher": { "exact": name },
            }],
        },
    });
    if let Some((certificate, key)) = args.tls_certificate.as_deref().zip(args.tls_key.as_deref()) {
        common["tls_certificates"] = json!([{
            "certificate_chain": { "filename": certificate.display().to_string() },
            "private_key": { "filename": key.display().to_string() },
        }]);
    }
    let mut context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": common,
    });
    if !is_address {
        context["sni"] = json!(name);
    }
    Some(json!({ "name": "envoy.transport_sockets.tls", "typed_config": context }))
}

/// As gRPC's A65 has them: a client checks the certificate against the host of `server_uri`.
fn credentials(args: &BootstrapArgs) -> Value {
    let Some(ca) = &args.tls_ca else { return json!({ "type": "insecure" }) };
    let mut config = json!({ "ca_certificate_file": ca.display().to_string() });
    if let Some((certificate, key)) = args.tls_certificate.as_deref().zip(args.tls_key.as_deref()) {
        config["certificate_file"] = json!(certificate.display().to_string());
        config["private_key_file"] = json!(key.display().to_string());
    }
    json!({ "type": "tls", "config": config })
}

fn node(args: &BootstrapArgs) -> Value {
    let role = match args.role {
        _ if args.grpc => "client",
        ProxyRole::Gateway => "gateway",
        ProxyRole::Sidecar => "sidecar",
    };
    let mut metadata = Map::new();
    if !args.grpc {
        metadata.insert("role".to_owned(), role.into());
    }
    metadata.insert("namespace".to_owned(), args.namespace.clone().into());
    if let Some(account) = &args.service_account {
        metadata.insert("service_account".to_owned(), account.clone().into());
    }
    if !args.labels.is_empty() {
        let labels = args.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
        metadata.insert("labels".to_owned(), Value::Object(labels.collect()));
    }
    if let Some(address) = args.gateway_address {
        metadata.insert("gateway_address".to_owned(), address.to_string().into());
    }
    if let Some(address) = args.outbound_address {
        metadata.insert("outbound_address".to_owned(), address.to_string().into());
    }
    if let Some(address) = args.inbound_address {
        metadata.insert("inbound_address".to_owned(), address.to_string().into());
    }
    if let Some(group) = &args.group {
        metadata.insert("auto_register_group".to_owned(), group.clone().into());
    }
    if let Some(address) = args.instance_address {
        metadata.insert("instance_address".to_owned(), address.to_string().into());
    }
    let id = args.id.clone().unwrap_or_else(|| role.to_owned());
    // Some clients of gRPC ask for a locality, be it empty.
    json!({ "id": id, "cluster": "naru", "locality": {}, "metadata": metadata })
}
