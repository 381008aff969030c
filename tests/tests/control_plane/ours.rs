//! naru told by naru: what Envoy has no words for acts by xDS as it does in `naru up`, and a proxy that has refused
//! everything says so, and asks again.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use http::{HeaderValue, Method};
use naru_tests::client::{self, request};
use naru_tests::control::{bootstrap, is_current};
use naru_tests::files::Directory;
use naru_tests::program::program;
use naru_tests::up::free_address;
use naru_tests::{Answer, Client, Control, Outbound, Speaks, Upstream, until};
use tokio::net::{TcpListener, TcpStream};

use super::{free_port, written};

/// `naru proxy`, with nothing in its file but where its control plane is.
pub struct Proxy {
    child: Child,
    files: Directory,
    admin: SocketAddr,
}

impl Proxy {
    pub fn start(xds: SocketAddr, arguments: &[&str]) -> Proxy {
        let (files, admin) = (Directory::new(), free_address());
        let text = bootstrap(xds, &[&["--naru", "--admin", &admin.to_string()], arguments].concat());
        let config = files.write("bootstrap.yaml", &text);
        let child = Command::new(program())
            .args(["proxy", "--workers", "1", "--state"])
            .arg(files.path("state"))
            .arg("--config")
            .arg(config)
            .env("XDG_RUNTIME_DIR", files.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(files.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Proxy { child, files, admin }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.files.path("stderr")).unwrap()
    }

    async fn is_ready(&self) -> Option<bool> {
        TcpStream::connect(self.admin).await.ok()?;
        Some(client::get(self.admin, "/ready").await.status == 200)
    }

    async fn serves(&self, address: SocketAddr) -> Client {
        until("the proxy to listen", async || TcpStream::connect(address).await.ok()).await;
        Client::plain(address, Speaks::Http1).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

async fn ask(client: &mut Client, method: Method, path: &str, headers: &[(&'static str, &str)]) -> Answer {
    let mut request = request(method, path, Outbound::empty());
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    client.exchange(request).await
}

/// A gateway with a route for each thing that is tried, and what is said of them.
fn documents(gate: u16, upstream: SocketAddr, kept: &str, limit: &str) -> String {
    let base = written(gate, upstream, "1");
    let routes = ["limited", "cached", "checked", "secret"].map(|name| {
        format!(
            "  - {{ name: {name}, match: [{{ uri: {{ prefix: /describe/{name} }} }}], \
             route: [{{ destination: {{ host: shop }} }}] }}\n"
        )
    });
    let base = base.replace("  http:\n", &format!("  http:\n{}", routes.concat()));
    format!(
        "{base}---
apiVersion: naru.dev/v1alpha1
kind: SessionAuth
metadata: {{ name: login }}
spec:
  targetRef: {{ kind: Gateway, name: gate }}
  login: {{ paths: [/describe/login] }}
  protect: [/describe/secret]
  accessToken: {{ claimsToHeaders: [{{ claim: sub, header: x-user }}] }}
  store: {{ directory: {kept}, timeout: 20s }}
---
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {{ name: few }}
spec:
  targetRef: {{ kind: VirtualService, name: gate, sectionName: limited }}
  limits: [{{ name: few, {limit}, window: 1h }}]
---
apiVersion: naru.dev/v1alpha1
kind: ResponseCache
metadata: {{ name: cached }}
spec:
  targetRef: {{ kind: VirtualService, name: gate, sectionName: cached }}
  ttl: 1h
---
apiVersion: naru.dev/v1alpha1
kind: EdgePolicy
metadata: {{ name: checked }}
spec:
  targetRef: {{ kind: VirtualService, name: gate, sectionName: checked }}
  conditions:
    deny: [{{ name: no-guests, when: \"request.headers['x-role'] == 'guest'\" }}]
"
    )
}

#[tokio::test]
async fn what_only_naru_has_acts_over_xds() {
    let (upstream, kept, gate) = (Upstream::plain(Speaks::Http1).await, Directory::new(), free_port());
    let text = |limit| documents(gate, upstream.address, &kept.path("kept").display().to_string(), limit);
    let control = Control::start(&[("all.yaml", text("requests: 1"))]).await;
    let proxy = Proxy::start(control.xds, &["--id", "edge"]);
    let mut client = proxy.serves(([127, 0, 0, 1], gate).into()).await;
    let told = is_current(control.admin, "edge").await;
    assert_eq!((&told["reads"], &told["held_back"]), (&"naru".into(), &serde_json::Value::Null), "{told}");
    assert_eq!(told["left_out"], serde_json::json!([]), "{told}");
    until("it to be ready", async || proxy.is_ready().await.filter(|is| *is)).await;

    // A session: nobody without one, and whoever has logged in.
    let refused = ask(&mut client, Method::GET, "/describe/secret", &[("x-user", "eve")]).await;
    let asks = refused.header("www-authenticate");
    assert_eq!((refused.status.as_u16(), asks), (401, Some("Bearer realm=\"naru\"")));
    let reply = [("x-reply", "x-session-subject: han")];
    let answer = until("a login", async || {
        let answer = ask(&mut client, Method::POST, "/describe/login", &reply).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    let token = answer.header("authorization").unwrap().to_owned();
    let answer = ask(&mut client, Method::GET, "/describe/secret", &[("authorization", &token)]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("han"), "{}", answer.text());
    // A rate limit: the second is one too many.
    let statuses = [
        client.get("/describe/limited").await.status.as_u16(),
        client.get("/describe/limited").await.status.as_u16(),
    ];
    assert_eq!(statuses, [200, 429]);
    // A cache: the upstream is asked once.
    assert_eq!(client.get("/describe/cached").await.status, 200);
    let before = upstream.requests();
    let answer = client.get("/describe/cached").await;
    assert!(answer.header("cache-status").unwrap().contains("hit"), "{answer:?}");
    assert_eq!(upstream.requests(), before);
    // A condition that refuses.
    let guest = [("x-role", "guest")];
    assert_eq!(ask(&mut client, Method::GET, "/describe/checked", &guest).await.status, 403);
    assert_eq!(client.get("/describe/checked").await.status, 403, "what cannot be told is refused");
    let staff = [("x-role", "staff")];
    assert_eq!(ask(&mut client, Method::GET, "/describe/checked", &staff).await.status, 200);

    // And what changes acts.
    control.save("all.yaml", &text("requests: 1000"));
    until("the change to act", async || (client.get("/describe/limited").await.status == 200).then_some(()))
        .await;
    let answer = ask(&mut client, Method::GET, "/describe/secret", &[("authorization", &token)]).await;
    assert_eq!(answer.status, 200, "the session goes on");
}

#[tokio::test]
async fn a_sidecar_of_naru_calls_addresses_that_nobody_has_named() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let control = Control::start(&[("all.yaml", written(free_port(), upstream.address, "1"))]).await;
    let outbound = free_address();
    let address = outbound.to_string();
    let proxy =
        Proxy::start(control.xds, &["--id", "car", "--role", "sidecar", "--outbound-address", &address]);
    let mut client = proxy.serves(outbound).await;
    assert_eq!(is_current(control.admin, "car").await["left_out"], serde_json::json!([]));
    let host = upstream.address.to_string();
    let answer = ask(&mut client, Method::GET, "/describe", &[("host", &host)]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let known = ask(&mut client, Method::GET, "/describe", &[("host", "shop")]).await;
    assert_eq!(known.status, 200, "{known:?}");
}

#[tokio::test]
async fn a_proxy_that_has_refused_everything_is_not_ready_and_asks_again() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    // Somebody else has the address of its only listener.
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let control = Control::start(&[("all.yaml", written(address.port(), upstream.address, "1"))]).await;
    let proxy = Proxy::start(control.xds, &["--id", "edge"]);
    let refused = until("a refusal", async || {
        let status = control.status().await;
        let proxy =
            status["proxies"].as_array().unwrap().iter().find(|proxy| proxy["id"] == "edge").cloned()?;
        (proxy["state"] == "refused").then_some(proxy)
    })
    .await;
    assert!(refused["resources"].to_string().contains("listener"), "{refused}");
    assert_eq!(proxy.is_ready().await, Some(false));
    drop(taken);
    until("it to be asked for again", async || (proxy.is_ready().await == Some(true)).then_some(())).await;
    let mut client = Client::plain(address, Speaks::Http1).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(is_current(control.admin, "edge").await["state"], "current");
}
