//! What commands say beside their answer: who is taken to call, what is passed over, what a batch would take away.

use naru_tests::Up;
use naru_tests::files::Directory;
use naru_tests::up::{deployment, free_address, service};
use naru_tests::wait::until;
use serde_json::Value;

use crate::documents::{Said, naru};

/// Envoy's file, which is no document.
const BOOTSTRAP: &str = "static_resources:\n  clusters: []\n";

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: { name: a }
spec: { ports: [{ name: http, port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: b }
spec: { ports: [{ name: http, port: 80 }] }
---
";

/// Calls to `a` from one workload go to `b`.
fn routes(to: &str) -> String {
    format!(
        "{SERVICES}apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: a }}
spec:
  hosts: [a]
  http:
  - match: [{{ sourceLabels: {{ app: special }} }}]
    route: [{{ destination: {{ host: {to} }} }}]
  - route: [{{ destination: {{ host: a }} }}]
{}{}",
        deployment("special", "app: special", 1, ""),
        deployment("usual", "app: usual", 1, "")
    )
}

#[test]
fn what_is_no_document_is_said_to_be_passed_over() {
    let directory = Directory::new();
    directory.write("envoy.yaml", BOOTSTRAP);
    directory.write("a.yaml", SERVICES);
    let said = naru(&directory, &["explain", "GET", "http://a/", "--config", "."]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("envoy.yaml:1: this is no resource"), "{}", said.err);
    let said = naru(&directory, &["diff", "a.yaml", "envoy.yaml"]);
    assert!(said.err.contains("envoy.yaml:1: this is no resource"), "{}", said.err);
}

#[test]
fn a_directory_that_is_within_itself_is_read_once() {
    let directory = Directory::new();
    directory.write("a.yaml", SERVICES);
    std::fs::create_dir(directory.path("below")).unwrap();
    std::os::unix::fs::symlink("..", directory.path("below/again")).unwrap();
    std::os::unix::fs::symlink(".", directory.path("self")).unwrap();
    let said = naru(&directory, &["check", "."]);
    assert!(said.out.starts_with("1 file: "), "{}{}", said.out, said.err);
}

#[test]
fn keys_of_tokens_are_looked_at_before_they_are_put_in_force() {
    let directory = Directory::new();
    let document = |keys: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec: {{ selector: {{ a: b }}, servers: [{{ port: {{ number: 80, name: http, protocol: HTTP }}, hosts: ['*'] }}] }}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{ name: tokens }}
spec:
  jwtRules:
  - issuer: me
    jwks: '{{\"keys\": [{keys}]}}'
"
        )
    };
    // A secret that is too short, a key of no kind; beside one that is right they are left out.
    let (short, none) = (r#"{"kty":"oct","k":"","kid":"short"}"#, r#"{"kty":"none","kid":"odd"}"#);
    let right = r#"{"kty":"oct","alg":"HS256","kid":"right","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
    directory.write("a.yaml", &document(&format!("{short}, {none}")));
    let said = naru(&directory, &["check", "a.yaml"]);
    assert_eq!(said.code, Some(1));
    for expected in
        ["error[invalid-value]: the keys of tokens are none", "a.yaml:12:11", "spec.jwtRules[0].jwks"]
    {
        assert!(said.err.contains(expected), "{expected:?} is not in\n{}", said.err);
    }
    directory.write("a.yaml", &document(&format!("{right}, {none}")));
    let said = naru(&directory, &["check", "a.yaml"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("a key of tokens is left out: key 'odd': "), "{}", said.err);
}

#[test]
fn a_status_is_that_of_its_generation_and_what_is_broken_is_told() {
    let directory = Directory::new();
    let documents = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: gate, generation: 3 }
spec: { gatewayClassName: naru, listeners: [{ name: web, port: 80, protocol: HTTP }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r, generation: 7 }
spec: { parentRefs: [{ name: gate, sectionName: web }], rules: [{ filters: [{ type: RequestRedirect, requestRedirect: { scheme: https } }] }] }
";
    directory.write("a.yaml", documents);
    let said = naru(&directory, &["check", "a.yaml", "--status", "--output", "json"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let all = said.json();
    let of = |kind: &str| all.as_array().unwrap().iter().find(|one| one["kind"] == kind).unwrap().clone();
    assert_eq!(of("Gateway")["status"]["conditions"][0]["observedGeneration"], 3);
    assert_eq!(of("Gateway")["status"]["listeners"][0]["conditions"][0]["observedGeneration"], 3);
    let parent = &of("HTTPRoute")["status"]["parents"][0];
    assert_eq!(parent["conditions"][0]["observedGeneration"], 7);
    let reference = serde_json::json!({
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "namespace": "default",
        "name": "gate",
        "sectionName": "web",
    });
    assert_eq!(parent["parentRef"], reference);
    let broken = documents.replace("rules: [{", "rules: [{ matches: [{ method: FETCH }],");
    directory.write("a.yaml", &broken);
    let said = naru(&directory, &["check", "a.yaml", "--status"]);
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    assert!(said.err.contains("'FETCH' is not a method"), "{}", said.err);
    assert!(said.out.contains("Gateway default/gate"), "{}", said.out);
}

#[test]
fn a_change_for_some_callers_is_told_for_them() {
    let directory = Directory::new();
    directory.write("old.yaml", &routes("a"));
    directory.write("new.yaml", &routes("b"));
    directory.write("access.log", "{\"method\": \"GET\", \"authority\": \"a\", \"path\": \"/\"}\n");
    let replay = ["diff", "old.yaml", "new.yaml", "--replay", "access.log"];
    let said = naru(&directory, &replay);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let (all, special) =
        said.out.split_once("\nwhere default/special calls:\n").unwrap_or_else(|| panic!("{}", said.out));
    assert!(all.contains("0 (0.0%) would go elsewhere"), "{all}");
    assert!(special.contains("1 (100.0%) would go elsewhere") && !special.contains("where "), "{special}");
    let json = naru(&directory, &[&replay[..], &["--output", "json"]].concat()).json();
    assert_eq!(json["replay"]["callers"][0]["names"], serde_json::json!(["default/special"]));
}

fn asked(up: &Up, arguments: &[&str]) -> Said {
    let admin = format!("http://{}", up.admin);
    naru(&up.directory, &[arguments, &["--admin", &admin]].concat())
}

#[tokio::test]
async fn who_is_taken_to_call_is_said_and_a_batch_is_shown_before_it_is_put_in_force() {
    let gate = free_address();
    let gateway = format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec: {{ servers: [{{ port: {{ number: {}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}] }}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: gate }}
spec: {{ hosts: ['*'], gateways: [gate], http: [{{ directResponse: {{ status: 201 }} }}] }}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: not-secret }}
spec: {{ action: DENY, rules: [{{ to: [{{ operation: {{ paths: [/secret] }} }}] }}] }}
",
        gate.port()
    );
    let files = [("a.yaml", routes("b")), ("gate.yaml", gateway.clone())];
    let up = Up::start(&files, &["--workers", "1"]).await;
    until("both to have a proxy", async || {
        let said = asked(&up, &["explain", "GET", "http://a/"]);
        said.out.starts_with("taken to be called by default/").then_some(())
    })
    .await;
    let said = asked(&up, &["explain", "GET", "http://a/"]);
    let (first, other) = if said.out.contains("called by default/special;") {
        ("special", "usual")
    } else {
        ("usual", "special")
    };
    let expected =
        format!("taken to be called by default/{first}; it is otherwise with --from default/{other}\n");
    assert!(said.out.starts_with(&expected), "{}", said.out);
    for (from, to) in [("special", "b"), ("usual", "a")] {
        let said = asked(&up, &["explain", "GET", "http://a/", "--from", from]);
        assert!(said.out.contains(&format!("outbound|80||{to}.default")), "{}", said.out);
        assert!(!said.out.contains("taken to be"), "{}", said.out);
    }
    // At a gateway it is the same for all; its policies have their names.
    let said = asked(&up, &["explain", "GET", &format!("http://{gate}/secret")]);
    assert!(!said.out.contains("taken to be"), "{}", said.out);
    assert!(said.out.contains("policies") && said.out.contains("(default/not-secret)"), "{}", said.out);

    // One line for each request, with its reason and its id.
    let answer = naru_tests::client::get(gate, "/secret").await;
    assert_eq!(answer.status, 403);
    until("the line of the log", async || {
        let said = up.said();
        let line = said.lines().find(|line| line.contains("\"GET ") && line.contains("/secret"))?.to_owned();
        (line.contains(" 403 ") && line.contains(" PolicyDenied ") && line.contains(" id ")).then_some(())
    })
    .await;

    // What a batch would take away; it does not.
    up.directory
        .write(".batch.yaml", &gateway.replace("201", "202").replace("name: not-secret", "name: other"));
    let batch = up.directory.path(".batch.yaml").display().to_string();
    let said = asked(&up, &["config", "apply", "--dry-run", &batch]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for expected in [
        "nothing is changed; this is what would be:\n",
        "gone  AuthorizationPolicy default/not-secret\n",
        "gone  Deployment default/special\n",
        "new   AuthorizationPolicy default/other\n",
        "2 others stay",
        "routes    changed",
    ] {
        assert!(said.out.contains(expected), "{expected:?} is not in\n{}", said.out);
    }
    assert_eq!(naru_tests::client::get(gate, "/").await.status, 201);
    let versions: Value = asked(&up, &["config", "history", "--output", "json"]).json();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 1);
    up.directory.write(".wrong.yaml", "kind: [");
    let wrong = up.directory.path(".wrong.yaml").display().to_string();
    let said = asked(&up, &["config", "apply", "--dry-run", &wrong]);
    assert_eq!(said.code, Some(1));
    let said = asked(&up, &["config", "apply", &batch]);
    assert!(
        said.out.contains("version 2 is in force\ngone  AuthorizationPolicy"),
        "{}{}",
        said.out,
        said.err
    );
    assert_eq!(naru_tests::client::get(gate, "/").await.status, 202);
}

/// A directory that is emptied is as one that is taken away.
#[tokio::test]
async fn what_was_there_goes_on_where_no_documents_are_left() {
    let gate = free_address();
    let text = format!(
        "{}{}",
        naru_tests::up::gateway(gate.port(), "a"),
        service("a", 80) + &deployment("a", "app: a", 1, "")
    );
    let up = Up::start(&[("a.yaml", text.clone())], &["--workers", "1", "--access-log", "none"]).await;
    let answers = async |status: u16| {
        until("an answer", async || {
            tokio::net::TcpStream::connect(gate).await.ok()?;
            (naru_tests::client::get(gate, "/").await.status == status).then_some(())
        })
        .await;
    };
    answers(200).await;
    std::fs::remove_file(up.directory.path("a.yaml")).unwrap();
    until("it to be told", async || {
        up.said().contains("any more\n  what was there before goes on").then_some(())
    })
    .await;
    answers(200).await;
    // Also for a process that begins then.
    let up = up.again(&["--workers", "1", "--access-log", "none"]).await;
    until("the version to be told", async || {
        up.said().contains("has no documents; version 1, which was in force before, goes on").then_some(())
    })
    .await;
    answers(200).await;
    up.save("a.yaml", &text);
    until("the documents to be taken", async || up.said().contains("it is in effect").then_some(())).await;
}
