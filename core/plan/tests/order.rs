//! In which order documents are read means nothing: every order gives the same configuration and the same problems.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use naru_plan::{Surroundings, plan};
use naru_spec::{Config, Problem};

/// Documents of all kinds, some of which ask for the same.
const DOCUMENTS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {selector: {app: b}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate}
spec: {servers: [{port: {number: 8080, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate2}
spec: {servers: [{port: {number: 8080, protocol: HTTP}, hosts: [x.test]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: second, creationTimestamp: '2024-02-01T00:00:00Z'}
spec:
  hosts: [x.test]
  gateways: [gate, gate2]
  http: [{match: [{uri: {prefix: /s}}], route: [{destination: {host: a}}]}, {route: [{destination: {host: a}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: third, creationTimestamp: '2024-01-01T00:00:00Z'}
spec:
  hosts: [x.test]
  gateways: [gate]
  http: [{match: [{uri: {prefix: /s}}], route: [{destination: {host: b}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mesh-one}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mesh-two}
spec: {hosts: [a.default.svc.cluster.local], http: [{route: [{destination: {host: b}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r1}
spec: {host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {v: '1'}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r2}
spec: {host: a, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}, subsets: [{name: v2, labels: {v: '2'}}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: one}
spec: {egress: [{hosts: ['./*']}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: two}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: api}
spec: {gatewayClassName: naru, listeners: [{name: http, port: 8090, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: y}
spec: {parentRefs: [{name: api}], rules: [{backendRefs: [{name: a, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: x}
spec: {parentRefs: [{name: api}], hostnames: [x.test], rules: [{backendRefs: [{name: b, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: g}
spec: {parentRefs: [{name: api}], hostnames: [g.test], rules: [{backendRefs: [{name: b, port: 80}]}]}
---
apiVersion: naru.dev/v1alpha1
kind: Bulkhead
metadata: {name: b1}
spec: {targetRef: {kind: HTTPRoute, name: x}, maxConcurrent: 3}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one-address}
spec: {hosts: [one.test], addresses: [240.0.0.1], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: [{address: 10.0.0.1}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: same-address}
spec: {hosts: [two.test], addresses: [240.0.0.1], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: [{address: 10.0.0.2}]}
";

/// A little of chance: the same seed gives the same walk.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

/// Each document is a file of its own.
fn planned(order: &[(usize, &str)]) -> (Config, Vec<Problem>) {
    let mut loaded = naru_doc::Loaded::default();
    for (at, document) in order {
        naru_doc::load(&format!("{at:02}.yaml"), document, &mut loaded);
    }
    let planned = plan(&loaded.resources, &Surroundings::default());
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    (planned.config, planned.problems)
}

#[test]
fn every_order_of_files_gives_the_same() {
    let mut order: Vec<(usize, &str)> = DOCUMENTS.split("---\n").enumerate().collect();
    let (config, problems) = planned(&order);
    // Documents that ask for the same are there, each told of once, with both places.
    let told: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    for wanted in
        ["two VirtualServices speak of the host", "a second trafficPolicy for", "two Sidecars are for all"]
    {
        assert!(told.iter().any(|message| message.starts_with(wanted)), "{wanted}: {told:?}");
    }
    for seed in 0..60 {
        Chance(seed).shuffle(&mut order);
        let (other, others) = planned(&order);
        assert!(other == config, "seed {seed}: another configuration of {order:?}");
        assert_eq!(others, problems, "seed {seed}");
    }
}

#[test]
fn the_older_of_two_documents_has_what_both_ask_for() {
    let order: Vec<(usize, &str)> = DOCUMENTS.split("---\n").enumerate().collect();
    let (config, _) = planned(&order);
    let gateway = config.listeners.iter().find(|listener| listener.address.port() == 8080).unwrap();
    let host = gateway.chains[0]
        .http
        .routes
        .virtual_hosts
        .iter()
        .find(|host| host.domains[0].to_string() == "x.test");
    let names: Vec<&str> = host.unwrap().rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names[0], "third.default/http[0]", "{names:?}");
    assert_eq!(*names.last().unwrap(), "second.default/http[1]", "what takes all is asked last");
}
