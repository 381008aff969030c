//! `ISTIO_MUTUAL`: calls between proxies, by certificates of the mesh.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod shown;

use naru_plan::{Client, Instance, InstancePort, MeshIdentity, Surroundings, mesh_authority};
use naru_resource::Resources;
use naru_spec::{
    Certificate, Cluster, Config, DataSource, PeerTests, SanKind, SanMatch, StringMatch, Transport, ValueTest,
};
use shown::planned_for;

fn read(text: &str) -> Resources {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", text, &mut loaded);
    loaded.resources
}

fn pem(text: &str) -> DataSource {
    DataSource::Inline(text.as_bytes().to_vec())
}

fn identity() -> MeshIdentity {
    MeshIdentity { certificate: Certificate::new(pem("own"), pem("key")), authorities: pem("roots") }
}

fn surroundings() -> Surroundings {
    Surroundings { identity: Some(identity()), ..Surroundings::default() }
}

fn uri(test: ValueTest) -> SanMatch {
    SanMatch { kind: Some(SanKind::Uri), test: StringMatch { test, ignore_case: false } }
}

fn anybody(domain: &str) -> SanMatch {
    uri(ValueTest::Prefix(format!("spiffe://{domain}/")))
}

fn exactly(id: &str) -> SanMatch {
    uri(ValueTest::Exact(id.to_owned()))
}

fn cluster<'a>(config: &'a Config, name: &str) -> &'a Cluster {
    let names = || config.clusters.iter().map(|cluster| &cluster.name).collect::<Vec<_>>();
    config.clusters.iter().find(|cluster| cluster.name == name).unwrap_or_else(|| panic!("{:?}", names()))
}

/// A service of two endpoints, one in a subset, called so.
fn service(tls: &str, endpoints: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: a, namespace: shop}}
spec:
  hosts: [a.test]
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: {endpoints}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a, namespace: shop}}
spec:
  host: a.test
  trafficPolicy: {{tls: {tls}}}
  subsets: [{{name: v1, labels: {{v: '1'}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a, namespace: shop}}
spec:
  hosts: [a.test]
  http:
  - {{match: [{{uri: {{prefix: /v1}}}}], route: [{{destination: {{host: a.test, subset: v1}}}}]}}
  - {{route: [{{destination: {{host: a.test}}}}]}}
"
    )
}

const TWO: &str = "[{address: 10.0.0.1, labels: {v: '1'}}, {address: 10.0.0.2}]";

#[test]
fn a_call_shows_who_calls_and_asks_for_somebody_of_the_mesh() {
    let (config, told) = planned_for(&service("{mode: ISTIO_MUTUAL}", TWO), &surroundings());
    assert_eq!(told, [""; 0]);
    for (name, endpoints) in [("outbound|80||a.test", 2), ("outbound|80|v1|a.test", 1)] {
        let found = cluster(&config, name);
        let tls = found.tls.as_ref().unwrap();
        assert_eq!(tls.certificate, Some(identity().certificate));
        assert_eq!(tls.trusted_ca, Some(identity().authorities));
        assert_eq!(tls.peer, PeerTests { names: vec![anybody("cluster.local")], ..PeerTests::default() });
        // As Istio's sidecars have it.
        assert_eq!(tls.sni.as_deref(), Some(name.replace('|', "_.").as_str()));
        assert_eq!(found.endpoints.len(), endpoints);
    }
}

#[test]
fn who_answers_is_of_the_accounts_that_documents_know() {
    let mesh = "---\napiVersion: naru.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\n\
                spec: {trustDomain: b.test, trustDomainAliases: [c.test]}\n";
    let names = |tls: &str, endpoints: &str| {
        let text = service(tls, endpoints) + mesh;
        let (config, told) = planned_for(&text, &surroundings());
        assert_eq!(told, [""; 0]);
        cluster(&config, "outbound|80||a.test").tls.as_ref().unwrap().peer.names.clone()
    };
    let all = "[{address: 10.0.0.1, serviceAccount: one}, {address: 10.0.0.2, serviceAccount: two}, {address: 10.0.0.3, serviceAccount: one}]";
    let mutual = "{mode: ISTIO_MUTUAL}";
    let ids =
        ["b.test/ns/shop/sa/one", "c.test/ns/shop/sa/one", "b.test/ns/shop/sa/two", "c.test/ns/shop/sa/two"];
    assert_eq!(names(mutual, all), ids.map(|id| exactly(&format!("spiffe://{id}"))));
    // Of one nobody knows it.
    let some = "[{address: 10.0.0.1, serviceAccount: one}, {address: 10.0.0.2}]";
    assert_eq!(names(mutual, some), [anybody("b.test"), anybody("c.test")]);
    let said = "{mode: ISTIO_MUTUAL, sni: s.test, subjectAltNames: [spiffe://d/ns/e/sa/f]}";
    let exact = SanMatch::any_kind(StringMatch::exact("spiffe://d/ns/e/sa/f"));
    assert_eq!(names(said, all), [exact]);
}

/// Before a process that this proxy leads to is no other one.
#[test]
fn processes_are_called_as_they_are_and_never_beside_others() {
    let workload = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
";
    let machine = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: m}\n\
                   spec: {address: 10.0.0.9, labels: {app: a}}\n";
    let process = Instance {
        namespace: "default".to_owned(),
        labels: vec![("app".to_owned(), "a".to_owned())],
        address: [127, 0, 0, 1].into(),
        ports: vec![InstancePort { name: None, container_port: 80, port: 4_000 }],
    };
    let found = |text: &str, instances: Vec<Instance>| {
        let (config, told) = planned_for(text, &Surroundings { instances, ..surroundings() });
        let found = cluster(&config, "outbound|80||a.default.svc.cluster.local");
        let addresses: Vec<_> = found.endpoints.iter().map(|one| one.address.to_string()).collect();
        (found.tls.is_some(), addresses.join(" "), told)
    };
    let note = "note[not-yet] spec.trafficPolicy.tls.mode: processes that naru runs are called without TLS: no other proxy stands before them";
    let (is_tls, addresses, told) = found(workload, vec![process.clone()]);
    assert_eq!((is_tls, addresses.as_str(), told), (false, "127.0.0.1:4000", vec![note.to_owned()]));
    let both = format!("{workload}{machine}");
    let (is_tls, addresses, told) = found(&both, vec![process]);
    assert_eq!((is_tls, addresses.as_str(), told), (true, "10.0.0.9:80", vec![note.to_owned()]));
    let (is_tls, addresses, told) = found(&both, Vec::new());
    assert_eq!((is_tls, addresses.as_str(), told.len()), (true, "10.0.0.9:80", 0));
}

fn gateway(tls: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: g}}
spec:
  servers: [{{port: {{number: 8443, name: https, protocol: HTTPS}}, hosts: [a.test], tls: {tls}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: g}}
spec: {{hosts: [a.test], gateways: [g], http: [{{directResponse: {{status: 200}}}}]}}
"
    )
}

#[test]
fn a_server_takes_whoever_is_of_the_mesh() {
    let text = gateway("{mode: ISTIO_MUTUAL, minProtocolVersion: TLSV1_3}");
    let (config, told) = planned_for(&text, &surroundings());
    assert_eq!(told, [""; 0]);
    let tls = config.listeners[0].chains[0].tls.as_ref().unwrap();
    assert_eq!(tls.certificates, [identity().certificate]);
    assert_eq!(tls.trusted_ca, Some(identity().authorities));
    assert!(tls.require_client_certificate);
    assert_eq!(tls.peer.names, [anybody("cluster.local")]);
    assert_eq!(tls.version_min, naru_spec::TlsVersion::V1_3);
    let one = "{mode: ISTIO_MUTUAL, subjectAltNames: [spiffe://a/ns/b/sa/c]}";
    let (config, _) = planned_for(&gateway(one), &surroundings());
    let names = &config.listeners[0].chains[0].tls.as_ref().unwrap().peer.names;
    assert_eq!(*names, [SanMatch::any_kind(StringMatch::exact("spiffe://a/ns/b/sa/c"))]);
}

#[test]
fn certificates_of_somebodys_own_are_not_the_meshs() {
    let (_, told) = planned_for(&gateway("{mode: ISTIO_MUTUAL, credentialName: c}"), &surroundings());
    assert_eq!(
        told,
        [
            "error[conflicting-fields] spec.servers[0].tls.credentialName: 'credentialName' cannot be said with ISTIO_MUTUAL: certificates are the mesh's own"
        ]
    );
    let tls = "{mode: ISTIO_MUTUAL, clientCertificate: /c, insecureSkipVerify: true}";
    let (_, told) = planned_for(&service(tls, TWO), &surroundings());
    assert_eq!(
        told,
        [
            "warning[no-effect] spec.trafficPolicy.tls.clientCertificate: 'clientCertificate' has no effect with ISTIO_MUTUAL: certificates are the mesh's own",
            "warning[no-effect] spec.trafficPolicy.tls.insecureSkipVerify: 'insecureSkipVerify' has no effect with ISTIO_MUTUAL: who answers is verified",
        ]
    );
}

/// Where anybody calls so, what comes in to a workload may be such a call, or not: Istio's PERMISSIVE.
#[test]
fn a_workload_is_called_either_way_where_anybody_calls_so() {
    let sidecar = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: shop}\n\
                   spec: {ingress: [{port: {number: 81, protocol: HTTP}, defaultEndpoint: '127.0.0.1:82'}, \
                   {port: {number: 83, protocol: TCP}, defaultEndpoint: '127.0.0.1:84'}]}\n";
    let client =
        Client { namespace: "shop".to_owned(), inbound: Some([127, 0, 0, 2].into()), ..Client::unnamed() };
    let found = |tls: &str| {
        let around = Surroundings { clients: vec![client.clone()], ..surroundings() };
        let (config, _) = planned_for(&(service(tls, TWO) + sidecar), &around);
        let inbound = config.listeners.iter().filter(|one| one.name.starts_with("inbound/"));
        let chains = inbound.map(|one| {
            one.chains.iter().map(|chain| (chain.transport, chain.tls.clone())).collect::<Vec<_>>()
        });
        chains.collect::<Vec<_>>()
    };
    let [http, tcp] = found("{mode: ISTIO_MUTUAL}").try_into().unwrap();
    assert_eq!((http.len(), http[0].0, http[1].0), (2, Transport::Tls, Transport::Plain));
    let tls = http[0].1.as_ref().unwrap();
    assert!(tls.require_client_certificate && http[1].1.is_none());
    assert_eq!(tls.peer.names, [anybody("cluster.local")]);
    assert_eq!(tcp, [(Transport::Any, None)]);
    for chains in found("{mode: DISABLE}") {
        assert_eq!(chains, [(Transport::Any, None)]);
    }
}

#[test]
fn an_authority_is_asked_for_where_anybody_calls_or_is_called_so() {
    let asked = |text: &str| mesh_authority(&read(text));
    assert_eq!(asked(&service("{mode: SIMPLE}", TWO)), None);
    assert_eq!(asked(&gateway("{mode: SIMPLE}")), None);
    for text in [service("{mode: ISTIO_MUTUAL}", TWO), gateway("{mode: ISTIO_MUTUAL}")] {
        let wanted = asked(&text).unwrap();
        assert_eq!((wanted.trust_domain.as_str(), wanted.given), ("cluster.local", None));
    }
    let secret = |data: &str| {
        let text = gateway("{mode: ISTIO_MUTUAL}");
        format!(
            "{text}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: cacerts, namespace: istio-system}}\nstringData: {data}\n"
        )
    };
    let given = asked(&secret("{ca-cert.pem: a, ca-key.pem: b}")).unwrap().given.unwrap();
    assert_eq!((given.certificate, given.key), (b"a".to_vec(), b"b".to_vec()));
    assert_eq!((given.roots, given.chain), (b"a".to_vec(), Vec::new()));
    let all = "{ca-cert.pem: a, ca-key.pem: b, root-cert.pem: c, cert-chain.pem: d}";
    let given = asked(&secret(all)).unwrap().given.unwrap();
    assert_eq!((given.roots, given.chain), (b"c".to_vec(), b"d".to_vec()));
    let (_, told) = planned_for(&secret("{ca-cert.pem: a}"), &surroundings());
    assert_eq!(
        told,
        [
            "error[missing-field] data: an authority of the mesh has ca-cert.pem and ca-key.pem, or tls.crt and tls.key"
        ]
    );
}

/// `cluster.local` in a policy is the mesh, whatever it is called.
#[test]
fn policies_mean_the_mesh_by_all_of_its_names() {
    let policy = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec:
  action: DENY
  rules:
  - from: [{source: {principals: [cluster.local/ns/x/sa/y, d.test/ns/x/sa/y]}}]
    when: [{key: source.principal, notValues: [c.test/ns/a/sa/b]}]
";
    let mesh = "---\napiVersion: naru.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\n\
                spec: {trustDomain: b.test, trustDomainAliases: [c.test]}\n";
    let ids = |text: &str| {
        let (config, told) = planned_for(text, &surroundings());
        assert_eq!(told, [""; 0]);
        let gate = format!("{:?}", config.listeners[0].chains[0].http.gate);
        let ids =
            ["cluster.local/ns/x", "b.test/ns/x", "c.test/ns/x", "d.test/ns/x", "b.test/ns/a", "c.test/ns/a"];
        ids.map(|id| gate.matches(&format!("spiffe://{id}/")).count())
    };
    let server = gateway("{mode: ISTIO_MUTUAL}");
    assert_eq!(ids(&format!("{server}{policy}")), [1, 0, 0, 1, 0, 1]);
    assert_eq!(ids(&format!("{server}{policy}{mesh}")), [0, 1, 1, 1, 1, 1]);
}

#[test]
fn what_is_no_trust_domain_is_told() {
    let of = |domain: &str| {
        let mesh = format!(
            "---\napiVersion: naru.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{name: m}}\nspec: {{trustDomain: {domain}}}\n"
        );
        planned_for(&(gateway("{mode: ISTIO_MUTUAL}") + &mesh), &surroundings()).1
    };
    assert_eq!(of("a.test"), [""; 0]);
    assert_eq!(of("''"), [""; 0]);
    assert_eq!(of("a b"), ["error[invalid-value] trustDomain: 'a b' is no trust domain"]);
}
