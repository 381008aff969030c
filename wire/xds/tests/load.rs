//! Documents that load, and what they mean.
#![allow(clippy::panic, reason = "a test says what it found")]

use std::time::Duration;

use naru_spec::{
    Action, Address, ClusterChoice, Discovery, DnsFamily, DnsSettings, HostRewrite, LoadBalancing, PathMatch,
    Scheme, Severity,
};

const SEED: &str = include_str!("data/envoy-bootstrap.yaml");

#[test]
fn the_seed_loads_verbatim_with_one_warning() {
    let loaded = naru_xds::load("envoy-bootstrap.yaml", SEED).expect("the seed loads");
    let [warning] = loaded.warnings.as_slice() else { panic!("{:#?}", loaded.warnings) };
    assert_eq!(
        warning.to_string(),
        "warning[certificate-not-verified]: the certificate of cluster 'service_envoyproxy_io' is not \
         verified: whoever answers is believed\n  --> envoy-bootstrap.yaml:54:5\n  at \
         static_resources.clusters[0].transport_socket\n  help: set \
         common_tls_context.validation_context.trusted_ca"
    );
    assert_eq!(warning.severity, Severity::Warning);

    let config = &loaded.config;
    assert_eq!(config.admin.as_ref().expect("an admin").address, "0.0.0.0:9901".parse().expect("address"));
    let [listener] = config.listeners.as_slice() else { panic!("one listener") };
    assert_eq!(listener.name, "listener_0");
    assert_eq!(listener.address, "0.0.0.0:10000".parse().expect("address"));
    let http = &listener.chains[0].http;
    assert_eq!(http.stat_prefix, "ingress_http");
    assert_eq!(http.scheme_to_overwrite, Some(Scheme::Https));
    let host = &http.routes.virtual_hosts[0];
    assert_eq!(host.domains, [naru_spec::Domain::Any]);
    let rule = &host.rules[0];
    assert_eq!(rule.matches[0].path, PathMatch::Prefix("/".into()));
    let Action::Forward(forward) = &rule.action else { panic!("{:?}", rule.action) };
    assert_eq!(forward.clusters, ClusterChoice::One("service_envoyproxy_io".into()));
    assert_eq!(forward.host, Some(HostRewrite::Literal("www.envoyproxy.io".into())));
    assert_eq!(forward.timeout, Some(Duration::from_secs(15)));
    let [cluster] = config.clusters.as_slice() else { panic!("one cluster") };
    assert_eq!(cluster.connect_timeout, Duration::from_secs(30));
    let family = DnsFamily::V4Only;
    assert_eq!(cluster.discovery, Discovery::LogicalDns(DnsSettings { family, ..DnsSettings::default() }));
    assert_eq!(cluster.load_balancing, LoadBalancing::round_robin());
    let host = "www.envoyproxy.io".to_owned();
    assert_eq!(cluster.endpoints[0].address, Address::Name { host, port: 443 });
    let tls = cluster.tls.as_ref().expect("TLS");
    assert_eq!(tls.sni.as_deref(), Some("www.envoyproxy.io"));
    assert!(!tls.is_verified());
}

#[test]
fn json_and_camel_case_mean_the_same_as_yaml() {
    let loaded = naru_xds::load("seed", SEED).expect("the seed loads");
    let json = naru_xds::to_json(&loaded.config);
    for text in [json.to_string(), serde_json::to_string_pretty(&json).expect("json")] {
        let again = naru_xds::load("seed.json", &text).expect(&text);
        assert_eq!(again.config, loaded.config);
    }
    let camel = SEED.replace("static_resources", "staticResources").replace("filter_chains", "filterChains");
    assert_eq!(naru_xds::load("seed", &camel).expect(&camel).config, loaded.config);
}

#[test]
fn a_document_full_of_mistakes_is_told_in_part() {
    let text =
        format!("static_resources:\n{}", (0..3_000).map(|n| format!("  x{n}: 1\n")).collect::<String>());
    let problems = naru_xds::load("f", &text).expect_err("mistakes");
    assert_eq!(problems.len(), 1_001);
    assert_eq!(problems[1_000].message, "2000 more problems are left out");
}
