//! What a workload can call, and where that leads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use naru_plan::{Client, Surroundings, plan};
use naru_spec::{Action, RouteTable};

const DOCUMENTS: &str = "
apiVersion: v1
kind: Service
metadata: { name: shop }
spec: { selector: { app: shop }, ports: [{ name: http, port: 80 }, { name: tcp-db, port: 5432 }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop }
spec:
  hosts: [shop]
  http: [{ name: ruled, route: [{ destination: { host: shop, port: { number: 80 } } }] }]
";

fn table(documents: &str) -> RouteTable {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", documents, &mut loaded);
    let surroundings = Surroundings { clients: vec![Client::unnamed()], ..Surroundings::default() };
    let planned = plan(&loaded.resources, &surroundings);
    assert!(!planned.has_errors(), "{:?}", planned.problems);
    planned.config.listeners[0].chains[0].http.routes.clone()
}

/// The name of the rule and its cluster, by the host as it is asked for.
fn leads(table: &RouteTable, asked: &str) -> Option<(String, String)> {
    let mut hosts = table.virtual_hosts.iter();
    let host = hosts.find(|host| host.domains.iter().any(|domain| domain.to_string() == asked))?;
    let rule = host.rules.first().unwrap();
    let Action::Forward(forward) = &rule.action else { panic!("{rule:?}") };
    Some((rule.name.clone(), forward.clusters.names().next().unwrap().to_owned()))
}

#[test]
fn a_port_that_speaks_no_http_is_reached_through_tunnels_and_has_no_rules_of_http() {
    let table = table(DOCUMENTS);
    let (rule, cluster) = leads(&table, "shop").unwrap();
    assert_eq!((rule.as_str(), cluster.as_str()), ("ruled", "outbound|80||shop.default.svc.cluster.local"));
    assert_eq!(leads(&table, "shop:80").unwrap().0, "ruled");
    let (rule, cluster) = leads(&table, "shop.default:5432").unwrap();
    assert_ne!(rule, "ruled");
    assert_eq!(cluster, "outbound|5432||shop.default.svc.cluster.local");
    assert_eq!(leads(&table, "shop:5433"), None);
}

#[test]
fn calls_of_grpc_web_are_taken_where_a_port_says_that_they_come() {
    let takes = |port: &str| {
        let mut loaded = naru_doc::Loaded::default();
        naru_doc::load("case.yaml", &DOCUMENTS.replace("name: http, port: 80", port), &mut loaded);
        let surroundings = Surroundings { clients: vec![Client::unnamed()], ..Surroundings::default() };
        let planned = plan(&loaded.resources, &surroundings);
        assert!(!planned.has_errors(), "{:?}", planned.problems);
        planned.config.listeners[0].chains[0].http.grpc_web
    };
    assert!(takes("name: grpc-web, port: 80"));
    assert!(takes("name: grpc-web-shop, port: 80"));
    assert!(takes("name: http, port: 80, appProtocol: grpc-web"));
    for other in ["name: http, port: 80", "name: grpc, port: 80", "name: grpc-webs, port: 80"] {
        assert!(!takes(other), "{other}");
    }
}
