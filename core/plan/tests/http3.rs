//! HTTP/3 beside a gateway's HTTPS.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use naru_plan::{Surroundings, plan};
use naru_spec::{Codec, Config, Listener};

fn planned(annotations: &str) -> Config {
    let documents = format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate{annotations} }}
spec:
  servers:
  - {{ port: {{ number: 80, name: http, protocol: HTTP }}, hosts: ['*'], tls: {{ httpsRedirect: true }} }}
  - port: {{ number: 443, name: https, protocol: HTTPS }}
    hosts: [a.example, '*.b.example']
    tls: {{ mode: SIMPLE, serverCertificate: /cert, privateKey: /key }}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: all }}
spec:
  hosts: ['*']
  gateways: [gate]
  http: [{{ directResponse: {{ status: 204 }} }}]
"
    );
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &documents, &mut loaded);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let planned = plan(&loaded.resources, &Surroundings::default());
    assert!(planned.problems.is_empty(), "{:?}", planned.problems);
    let mut config = planned.config;
    config.listeners.retain(|listener| listener.name.starts_with("gateway/"));
    config
}

/// What each virtual host of a listener says of HTTP/3.
fn told(listener: &Listener) -> Vec<Option<String>> {
    let hosts = listener.chains.iter().flat_map(|chain| &chain.http.routes.virtual_hosts);
    hosts
        .map(|host| {
            let mut ops = host.response_headers.add.iter().filter(|op| op.name == "alt-svc");
            ops.next().map(|op| format!("{:?}", op.value))
        })
        .collect()
}

#[test]
fn nothing_is_beside_it_unless_it_is_asked_for() {
    for annotations in ["", ", annotations: { naru.dev/http3: 'false', a/b: c }"] {
        let config = planned(annotations);
        assert_eq!(config.listeners.len(), 2);
        assert!(config.listeners.iter().all(|listener| !listener.is_udp));
        assert!(config.listeners.iter().flat_map(told).all(|told| told.is_none()));
    }
}

#[test]
fn the_chains_of_https_are_on_datagrams_too_and_tell_of_it() {
    let config = planned(", annotations: { naru.dev/http3: 'true' }");
    let [http, https, quic] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
    assert!(quic.quic.is_some() && quic.is_udp && !https.is_udp);
    assert_eq!((quic.address, &*quic.name), (https.address, "gateway/0.0.0.0:443/udp"));
    assert_eq!(quic.chains.len(), https.chains.len());
    for (over, beside) in quic.chains.iter().zip(&https.chains) {
        assert_eq!((over.http.codec, beside.http.codec), (Codec::Http3, Codec::Auto));
        assert_eq!((&over.tls, &over.server_names), (&beside.tls, &beside.server_names));
        assert_eq!(over.http.routes.virtual_hosts.len(), beside.http.routes.virtual_hosts.len());
    }
    assert!(told(https).iter().all(|told| told.as_ref().is_some_and(|told| told.contains(":443"))));
    assert!(told(http).into_iter().chain(told(quic)).all(|told| told.is_none()));
    assert_eq!(config.problems(), []);
}
