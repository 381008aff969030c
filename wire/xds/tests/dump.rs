//! The dump of a configuration, as Envoy's admin interface gives it.

use naru_base::WallTime;
use naru_spec::{
    BodyChange, Certificate, Check, CheckKind, DataSource, External, ExternalChange, ExternalGrpc,
    ExternalService, GateChange,
};

const SEED: &str = include_str!("data/envoy-bootstrap.yaml");

#[test]
fn a_dump_has_the_shape_of_envoys() {
    let config = naru_xds::load("seed", SEED).expect("the seed loads").config;
    let dump = naru_xds::config_dump(&config, WallTime(951_782_400_000_000_000));
    let configs = dump["configs"].as_array().expect("a list");
    let kinds: Vec<&str> = configs.iter().filter_map(|c| c["@type"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
            "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
            "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
            "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
        ]
    );
    let port = "/configs/0/bootstrap/admin/address/socket_address/port_value";
    assert_eq!(dump.pointer(port).expect(port), 9901);
    let cluster = &configs[1]["static_clusters"][0];
    assert_eq!(cluster["cluster"]["@type"], "type.googleapis.com/envoy.config.cluster.v3.Cluster");
    assert_eq!(cluster["cluster"]["connect_timeout"], "30s");
    assert_eq!(cluster["last_updated"], "2000-02-29T00:00:00.000Z");
    assert_eq!(configs[2]["static_listeners"][0]["listener"]["name"], "listener_0");
    assert_eq!(configs[3]["static_route_configs"][0]["route_config"]["name"], "local_route");
}

#[test]
fn private_keys_are_not_in_a_dump() {
    let mut config = naru_xds::load("seed", SEED).expect("the seed loads").config;
    let inline = |text: &str| DataSource::Inline(text.as_bytes().to_vec());
    let tls = config.clusters[0].tls.as_mut().expect("TLS");
    tls.certificate = Some(Certificate::new(inline("the chain"), inline("the secret")));
    let dump = naru_xds::config_dump(&config, WallTime(0)).to_string();
    assert!(!dump.contains("the secret"), "{dump}");
    assert_eq!(dump.matches(naru_xds::REDACTED).count(), 2, "in the bootstrap and among the clusters");
    assert!(dump.contains("the chain"));
    assert!(
        naru_xds::to_json(&config).to_string().contains("the secret"),
        "what is to be read back is whole"
    );
}

#[test]
fn what_only_they_are_told_who_are_asked_is_not_in_a_dump() {
    let mut config = naru_xds::load("seed", SEED).expect("the seed loads").config;
    let said = || vec![("tenant".to_owned(), "the secret".to_owned())];
    let name = "envoy.filters.http.ext_authz".to_owned();
    let metadata = vec![(http::header::AUTHORIZATION, "the secret".to_owned())];
    let grpc = ExternalGrpc { cluster: "a".into(), metadata, ..ExternalGrpc::default() };
    let external = External { context: said(), ..External::new(ExternalService::Grpc(grpc)) };
    let http = &mut config.listeners[0].chains[0].http;
    http.gate.checks.push(Check { name: name.clone(), kind: CheckKind::External(Box::new(external)) });
    let change = ExternalChange { context: said(), body: BodyChange::AsBefore };
    http.routes.virtual_hosts[0].rules[0].gate.push(GateChange::Ask(name, Box::new(change)));
    let dump = naru_xds::config_dump(&config, WallTime(0)).to_string();
    assert!(!dump.contains("the secret"), "{dump}");
    assert!(naru_xds::to_json(&config).to_string().contains("the secret"));
}
