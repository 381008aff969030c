//! `naru config bootstrap`: the few lines by which a proxy finds its control plane.
//!
//! YAML, but for gRPC, whose clients read JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::cli::{BootstrapArgs, Failure, ProxyRole};
use crate::say::say;

/// What the control plane is called in the file.
const CLUSTER: &str = "naru-control";

pub fn run(args: &BootstrapArgs) -> Result<(), Failure> {
    say(&text(args))?;
    Ok(())
}

fn text(args: &BootstrapArgs) -> String {
    let node = node(args);
    if args.grpc {
        let bootstrap = json!({
            "xds_servers": [{
                "server_uri": args.xds.to_string(),
                "channel_creds": [{ "type": "insecure" }],
                "server_features": ["xds_v3"],
            }],
            "node": node,
        });
        return format!("{bootstrap:#}\n");
    }
    let (xds, admin) = (args.xds, args.admin);
    let mut text = String::new();
    // What JSON says, YAML says as well.
    let _ = writeln!(text, "node: {node}");
    let _ = writeln!(text, "admin: {{ address: {} }}", socket(admin));
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
    type: STATIC
    connect_timeout: 5s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: {CLUSTER}
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {} }} }}] }}]
",
        socket(xds)
    );
    text
}

fn socket(address: std::net::SocketAddr) -> String {
    format!("{{ socket_address: {{ address: '{}', port_value: {} }} }}", address.ip(), address.port())
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
    let id = args.id.clone().unwrap_or_else(|| role.to_owned());
    // Some clients of gRPC ask for a locality, be it empty.
    json!({ "id": id, "cluster": "naru", "locality": {}, "metadata": metadata })
}
