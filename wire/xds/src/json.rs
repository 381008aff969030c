//! Configurations as JSON: as a bootstrap, and as Envoy's `/config_dump`.
//!
//! Field names are the proto's own, as in Envoy's documents. Private keys that stand in the
//! configuration itself are replaced by `[redacted]` in a dump, and only there.

use naru_base::WallTime;
use naru_spec::{
    Certificate, CheckKind, Config, Credentials, DataSource, ExternalService, GateChange, Http, KeySource,
};
use prost_reflect::SerializeOptions;
use serde::de::Error as _;
use serde_json::{Value, json};

use crate::{Schema, encode};

/// What stands in the place of a private key.
pub const REDACTED: &str = "[redacted]";

/// The bootstrap in proto JSON; [`crate::load`] reads it back.
pub fn to_json(config: &Config) -> Value {
    to_json_with(&Schema::new(), config)
}

/// [`to_json`] for many configurations.
pub fn to_json_with(schema: &Schema, config: &Config) -> Value {
    message(schema, &encode::bootstrap(config))
}

/// Envoy's `/config_dump`, without secrets. `updated` is when the configuration took effect.
pub fn config_dump(config: &Config, updated: WallTime) -> Value {
    let schema = Schema::new();
    let config = redacted(config);
    let updated = updated.to_string();
    let of_type = |name: &str, fields: Value| {
        let mut object = serde_json::Map::new();
        object.insert("@type".to_owned(), format!("type.googleapis.com/{name}").into());
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        Value::Object(object)
    };
    let any = |message_json: Value, name: &str| of_type(name, message_json);
    let clusters: Vec<Value> = config
        .clusters
        .iter()
        .map(|cluster| {
            let cluster = any(message(&schema, &encode::cluster(cluster)), "envoy.config.cluster.v3.Cluster");
            json!({ "cluster": cluster, "last_updated": updated })
        })
        .collect();
    let listeners: Vec<Value> = config
        .listeners
        .iter()
        .map(|listener| {
            let listener = message(&schema, &encode::listener(listener));
            json!({ "listener": any(listener, "envoy.config.listener.v3.Listener"), "last_updated": updated })
        })
        .collect();
    let routes: Vec<Value> = config
        .listeners
        .iter()
        .flat_map(|listener| &listener.chains)
        .filter(|chain| chain.tcp.is_none())
        .map(|chain| {
            let routes = message(&schema, &encode::routes(&chain.http.routes));
            json!({
                "route_config": any(routes, "envoy.config.route.v3.RouteConfiguration"),
                "last_updated": updated,
            })
        })
        .collect();
    let bootstrap = message(&schema, &encode::bootstrap(&config));
    json!({ "configs": [
        of_type(
            "envoy.admin.v3.BootstrapConfigDump",
            json!({ "bootstrap": bootstrap, "last_updated": updated }),
        ),
        of_type("envoy.admin.v3.ClustersConfigDump", json!({ "static_clusters": clusters })),
        of_type("envoy.admin.v3.ListenersConfigDump", json!({ "static_listeners": listeners })),
        of_type("envoy.admin.v3.RoutesConfigDump", json!({ "static_route_configs": routes })),
    ] })
}

fn message<M: prost::Message + prost::Name>(schema: &Schema, message: &M) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let json = match schema.reflect(message) {
        Some(dynamic) => dynamic.serialize_with_options(serde_json::value::Serializer, &options),
        None => Err(serde_json::Error::custom("the message is nested too deeply")),
    };
    // A configuration of ours holds nothing that JSON cannot say, and nests a few levels deep.
    json.unwrap_or_else(|error| json!({ "error": error.to_string() }))
}

fn redact_questions(http: &mut Http) {
    let take_out = |value: &mut String| REDACTED.clone_into(value);
    for check in &mut http.gate.checks {
        if let CheckKind::RateService(said) = &mut check.kind {
            said.service.metadata.iter_mut().for_each(|(_, value)| take_out(value));
        }
        let CheckKind::External(said) = &mut check.kind else { continue };
        said.context.iter_mut().for_each(|(_, value)| take_out(value));
        let told = match &mut said.service {
            ExternalService::Http(http) => &mut http.headers_to_add,
            ExternalService::Grpc(grpc) => &mut grpc.metadata,
        };
        told.iter_mut().for_each(|(_, value)| take_out(value));
    }
    let rules = http.routes.virtual_hosts.iter_mut().flat_map(|host| &mut host.rules);
    for change in rules.flat_map(|rule| rule.changes_mut()) {
        match change {
            GateChange::Ask(_, change) => change.context.iter_mut().for_each(|(_, value)| take_out(value)),
            GateChange::Keys(_, change) => change.keys.iter_mut().for_each(redact_credentials),
            GateChange::Passwords(_, said) => redact_credentials(said),
            _ => {}
        }
    }
}

/// The same configuration without its inline private keys, and without what only those are told who are asked whether
/// requests may pass: it may be what they know naru by.
pub fn redacted(config: &Config) -> Config {
    let mut config = config.clone();
    let redact = |certificate: &mut Certificate| {
        if let DataSource::Inline(key) = &mut certificate.key {
            *key = REDACTED.as_bytes().to_vec();
        }
    };
    for listener in &mut config.listeners {
        for check in listener.chains.iter_mut().flat_map(|chain| &mut chain.http.gate.checks) {
            redact_check(&mut check.kind);
        }
        for tls in listener.chains.iter_mut().filter_map(|chain| chain.tls.as_mut()) {
            tls.certificates.iter_mut().for_each(redact);
        }
        for chain in &mut listener.chains {
            redact_questions(&mut chain.http);
        }
    }
    for tls in config.clusters.iter_mut().filter_map(|cluster| cluster.tls.as_mut()) {
        tls.certificate.iter_mut().for_each(redact);
    }
    config
}

fn redact_check(check: &mut CheckKind) {
    match check {
        CheckKind::ApiKeys(said) => redact_credentials(&mut said.keys),
        CheckKind::BasicAuth(said) => redact_credentials(&mut said.passwords),
        _ => {}
    }
}

fn redact_credentials(credentials: &mut Credentials) {
    let hide = |source: &mut DataSource| {
        if let DataSource::Inline(bytes) = source {
            *bytes = REDACTED.as_bytes().to_vec();
        }
    };
    match credentials {
        Credentials::Passwords { file, .. } => hide(file),
        Credentials::Keys(sources) => sources.iter_mut().for_each(|source| {
            if let KeySource::Key { key, .. } = source {
                hide(key);
            }
        }),
    }
}
