//! Documents of the Gateway API, on sockets: what becomes of requests, of their paths and of whom they are sent to.

use http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderValue, Method};
use naru_proxy::Options;
use naru_tests::certificates::NAME;
use naru_tests::client::request;
use naru_tests::{Answer, Authority, Client, Naru, Outbound, Speaks, Upstream, upstream};

use crate::explained::planned;

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec: {{ ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: v1
kind: Endpoints
metadata: {{ name: {name} }}
subsets: [{{ addresses: [{{ ip: 127.0.0.1 }}], ports: [{{ name: http, port: {port} }}] }}]
---
"
    )
}

const GATE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: gate }
spec:
  gatewayClassName: naru
  addresses: [{ value: 127.0.0.1 }]
  listeners: [{ name: http, port: 8080, protocol: HTTP }, { name: one, port: 8080, protocol: HTTP, hostname: one.test }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r }
spec:
  parentRefs: [{ name: gate, sectionName: http }]
  rules:
  - backendRefs: [{ name: a, port: 80 }]
  - matches: [{ path: { value: /strip } }]
    filters:
    - { type: URLRewrite, urlRewrite: { hostname: in.test, path: { type: ReplacePrefixMatch, replacePrefixMatch: / } } }
    - { type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-set, value: '100%' }], remove: [x-gone] } }
    - { type: ResponseHeaderModifier, responseHeaderModifier: { add: [{ name: x-told, value: yes }] } }
    backendRefs: [{ name: b, port: 80 }]
  - matches: [{ path: { value: /moved } }]
    filters:
    - { type: RequestRedirect, requestRedirect: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /describe } } }
  - matches: [{ path: { value: /nobody } }]
  - matches: [{ path: { value: /stick } }]
    sessionPersistence: { sessionName: place }
    filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath, replaceFullPath: /describe } } }]
    backendRefs: [{ name: a, port: 80 }]
  - matches: [{ path: { value: /describe }, headers: [{ name: x-who, value: b }] }]
    backendRefs: [{ name: b, port: 80 }]
";

struct Asker(Client);

impl Asker {
    async fn ask(&mut self, host: &str, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        let mut asked = request(Method::GET, path, Outbound::empty());
        asked.headers_mut().insert(HOST, HeaderValue::try_from(host).unwrap());
        for (name, value) in headers {
            asked.headers_mut().insert(*name, HeaderValue::try_from(*value).unwrap());
        }
        self.0.exchange(asked).await
    }
}

#[tokio::test]
async fn requests_go_where_the_most_specific_match_says_and_become_what_filters_say() {
    let (a, b) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
    let documents = format!("{}{}{GATE}", service("a", a.address.port()), service("b", b.address.port()));
    let mut config = planned(&documents);
    config.listeners.retain(|listener| listener.name.starts_with("gateway/"));
    config.listeners[0].address.set_port(0);
    let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
    let mut asker = Asker(Client::plain(naru.address, Speaks::Http1).await);
    // The header makes it more specific than the rule for all paths.
    for (who, asked) in [("a", (1, 0)), ("b", (1, 1))] {
        let answer = asker.ask("any.test", "/describe", &[("x-who", who)]).await;
        assert_eq!((answer.status.as_u16(), (a.requests(), b.requests())), (200, asked));
    }
    for (path, target) in [("/strip/describe/x?q", "/describe/x?q"), ("/strip//describe", "/describe")] {
        let answer = asker.ask("any.test", path, &[("x-gone", "1")]).await;
        let seen = answer.json();
        assert_eq!(seen["target"], target, "{path}");
        assert_eq!(upstream::header(&seen, "host"), Some("in.test"));
        assert_eq!(upstream::header(&seen, "x-set"), Some("100%"), "what is said is no operator");
        assert_eq!(upstream::header(&seen, "x-gone"), None);
        assert_eq!(answer.headers["x-told"], "yes");
    }
    assert_eq!((a.requests(), b.requests()), (1, 3));
    let answer = asker.ask("any.test", "/moved/x?q=1", &[]).await;
    assert_eq!(answer.status.as_u16(), 302);
    let location = answer.headers[LOCATION].to_str().unwrap();
    assert_eq!(location, "http://any.test:8080/describe/x?q=1", "the port is the listener's");
    // Nobody is there, and segments are whole.
    assert_eq!(asker.ask("any.test", "/nobody", &[]).await.status.as_u16(), 500);
    assert_eq!(asker.ask("any.test", "/stripped", &[]).await.status.as_u16(), 200);
    assert_eq!((a.requests(), b.requests()), (2, 3));
    // Of a host that another listener has, nothing here answers.
    assert_eq!(asker.ask("one.test", "/describe", &[]).await.status.as_u16(), 404);
    assert_eq!((a.requests(), b.requests()), (2, 3));
    // A client is told its endpoint, and comes back to it.
    let answer = asker.ask("any.test", "/stick", &[]).await;
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("place="), "{cookie}");
    let answer = asker.ask("any.test", "/stick", &[(COOKIE.as_str(), &cookie)]).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert!(!answer.headers.contains_key(SET_COOKIE), "it is there already");
    drop(asker);
    naru.settles().await;
}

#[tokio::test]
async fn a_backend_is_called_by_tls_and_has_to_be_who_its_policy_says() {
    let authority = Authority::new();
    let up = Upstream::serve(Speaks::Http1Tls, &authority).await;
    let pem = authority.pem().replace('\n', "\n    ");
    let policy = |hostname: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{ name: p }}
spec:
  targetRefs: [{{ group: '', kind: Service, name: a }}]
  validation: {{ hostname: {hostname}, caCertificateRefs: [{{ group: '', kind: ConfigMap, name: ca }}] }}
---
apiVersion: v1
kind: ConfigMap
metadata: {{ name: ca }}
data:
  ca.crt: |
    {pem}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec:
  gatewayClassName: naru
  addresses: [{{ value: 127.0.0.1 }}]
  listeners: [{{ name: http, port: 8080, protocol: HTTP }}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: r }}
spec: {{ parentRefs: [{{ name: gate }}], rules: [{{ backendRefs: [{{ name: a, port: 80 }}] }}] }}
"
        )
    };
    for (hostname, status) in [(NAME, 200), ("somebody.else.test", 503)] {
        let mut config = planned(&format!("{}{}", service("a", up.address.port()), policy(hostname)));
        config.listeners.retain(|listener| listener.name.starts_with("gateway/"));
        config.listeners[0].address.set_port(0);
        let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
        let mut asker = Asker(Client::plain(naru.address, Speaks::Http1).await);
        let answer = asker.ask("any.test", "/describe", &[]).await;
        assert_eq!(answer.status.as_u16(), status, "{hostname}");
        drop(asker);
        naru.settles().await;
    }
}
