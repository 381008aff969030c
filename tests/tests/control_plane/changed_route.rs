//! One route of many is changed: what reaches a connected naru proxy, how soon, and what of it is planned.
//!
//! `cargo xtask changed-route` does this with ten thousand and the released program, and prints what it took.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::{Method, header};
use naru_tests::client::request;
use naru_tests::control::{bootstrap, status};
use naru_tests::files::Directory;
use naru_tests::program::program;
use naru_tests::up::free_address;
use naru_tests::{Client, Control, Outbound, Speaks, Upstream, client};
use serde_json::Value as Json;

use super::{count, free_port};

/// So long is waited for something where ten thousand are planned by a program with checks.
const PATIENCE: Duration = Duration::from_secs(240);

/// `naru proxy`, driven by a control plane.
struct Driven {
    child: Child,
    admin: SocketAddr,
    files: Directory,
}

impl Driven {
    fn start(xds: SocketAddr, id: &str, api: &str) -> Driven {
        let (files, admin) = (Directory::new(), free_address());
        let arguments =
            ["--naru", "--id", id, "--admin", &admin.to_string(), "--gateway-address", "127.0.0.1"];
        let text = bootstrap(xds, &arguments).replace("DELTA_GRPC", api);
        let config = files.write("bootstrap.yaml", &text);
        let child = Command::new(program())
            .args(["proxy", "--workers", "1", "-c"])
            .arg(config)
            .arg("--state")
            .arg(files.path("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(files.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Driven { child, admin, files }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.files.path("stderr")).unwrap_or_default());
        }
    }
}

/// Waits as long as it takes.
async fn at_last<T>(what: &str, every: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(every).await;
    }
}

fn base(gate: u16, endpoint: SocketAddr) -> String {
    let mut text = super::written(gate, endpoint, "base");
    let at = text.rfind("---").unwrap();
    text.truncate(at);
    text
}

fn route(at: usize, says: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: v{at} }}
spec:
  hosts: [h{at}.test]
  gateways: [gate]
  http:
  - name: all
    match: [{{ uri: {{ prefix: / }} }}]
    headers: {{ response: {{ set: {{ x-says: '{says}' }} }} }}
    route: [{{ destination: {{ host: shop }} }}]
"
    )
}

/// Who is current, of those with this id.
async fn proxy(control: &Control, id: &str) -> Option<Json> {
    let status = status(control.admin).await;
    let mut proxies = status["proxies"].as_array().unwrap().iter();
    proxies.find(|proxy| proxy["id"] == id && proxy["state"] == "current").cloned()
}

async fn says(client: &mut Client, at: usize) -> (u16, String) {
    let mut asked = request(Method::GET, "/", Outbound::empty());
    asked.headers_mut().insert(header::HOST, format!("h{at}.test").parse().unwrap());
    let answer = client.exchange(asked).await;
    (answer.status.as_u16(), answer.header("x-says").unwrap_or_default().to_owned())
}

#[tokio::test]
async fn one_changed_route_among_many_sends_one() {
    let routes = count("NARU_ROUTES", 600);
    let changes = count("NARU_CHANGES_OF_ROUTES", 5);
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let directory = Directory::new();
    directory.write("base.yaml", &base(port, upstream.address));
    for at in 0..routes {
        directory.write(&format!("v{at}.yaml"), &route(at, "0"));
    }
    let control = Control::on(directory, free_address()).await;
    let driven = Driven::start(control.xds, "delta", "DELTA_GRPC");
    let admin = driven.admin;
    at_last("the proxy", Duration::from_millis(20), async || {
        tokio::net::TcpStream::connect(admin).await.ok()?;
        (client::get(admin, "/ready").await.status == 200).then_some(())
    })
    .await;
    let whole = at_last("it to have everything", Duration::from_millis(50), async || {
        let told = proxy(&control, "delta").await?;
        let hosts =
            told["resources"].as_array()?.iter().find(|kind| kind["kind"] == "virtual hosts")?.clone();
        (hosts["there"] == routes).then_some(told)
    })
    .await;
    let bytes = whole["bytes"].as_u64().unwrap();
    let mut client = Client::plain(SocketAddr::from(([127, 0, 0, 1], port)), Speaks::Http1).await;
    assert_eq!(says(&mut client, routes - 1).await, (200, "0".to_owned()));
    let (mut took, mut sent) = (Vec::new(), Vec::new());
    for change in 1..=changes {
        let at = change * 7_919 % routes;
        let before = status(control.admin).await;
        let begun = Instant::now();
        control.save(&format!("v{at}.yaml"), &route(at, &change.to_string()));
        at_last("the change", Duration::from_millis(1), async || {
            let (status, said) = says(&mut client, at).await;
            assert_eq!(status, 200);
            (said == change.to_string()).then_some(())
        })
        .await;
        took.push(begun.elapsed());
        let now =
            at_last("it to be answered", Duration::from_millis(10), async || proxy(&control, "delta").await)
                .await;
        let of = |status: &Json| status["proxies"][0]["bytes_sent"].as_u64().unwrap();
        sent.push(now["bytes_sent"].as_u64().unwrap() - of(&before));
        let after = status(control.admin).await;
        let plans = |status: &Json, which: &str| status["plans"][which].as_u64().unwrap();
        assert_eq!(plans(&after, "whole"), plans(&before, "whole"), "{after}");
        assert_eq!(plans(&after, "in_part"), plans(&before, "in_part") + 1, "{after}");
        assert_eq!(after["plans"]["reached"], 1, "{after}");
    }
    took.sort();
    let most = *sent.iter().max().unwrap();
    println!(
        "{routes} routes: {bytes} bytes; a changed one: at most {most} bytes ({:.3} %), after {:?} (median of {changes}; \
         {:?} to {:?})",
        most as f64 * 100.0 / bytes as f64,
        took[took.len() / 2],
        took[0],
        took[took.len() - 1],
    );
    assert!(most * 100 < bytes, "{most} of {bytes} bytes");

    // What is wrong is not sent, what is gone is, and what reaches everything is planned as a whole.
    control.save("v1.yaml", &route(1, "9").replace("host: shop", "host: nobody"));
    control.save("v2.yaml", "");
    at_last("it to be told", Duration::from_millis(10), async || {
        control.said().contains("'nobody'").then_some(())
    })
    .await;
    assert_eq!(says(&mut client, 1).await.0, 200);
    control.save("v1.yaml", &route(1, "right"));
    at_last("one to be right and one to be gone", Duration::from_millis(10), async || {
        (says(&mut client, 1).await.1 == "right" && says(&mut client, 2).await.0 == 404).then_some(())
    })
    .await;
    control.save("v2.yaml", &route(2, "back"));
    at_last("it to be back", Duration::from_millis(10), async || {
        (says(&mut client, 2).await.0 == 200).then_some(())
    })
    .await;
}

/// Of a state of the world nobody could tell what is gone: tables are sent whole.
#[tokio::test]
async fn who_is_told_all_there_is_has_whole_tables() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let files =
        [("base.yaml", base(port, upstream.address)), ("v0.yaml", route(0, "0")), ("v1.yaml", route(1, "0"))];
    let control = Control::start(&files).await;
    let _driven = Driven::start(control.xds, "whole", "GRPC");
    let told = at_last("it to have everything", Duration::from_millis(20), async || {
        let told = proxy(&control, "whole").await?;
        told["resources"].as_array()?.iter().any(|kind| kind["kind"] == "routes").then_some(told)
    })
    .await;
    let kinds: Vec<&str> =
        told["resources"].as_array().unwrap().iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
    assert!(!kinds.contains(&"virtual hosts"), "{kinds:?}");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    at_last("it to listen", Duration::from_millis(10), async || {
        tokio::net::TcpStream::connect(address).await.ok()
    })
    .await;
    let mut client = Client::plain(address, Speaks::Http1).await;
    assert_eq!(says(&mut client, 0).await, (200, "0".to_owned()));
    control.save("v0.yaml", &route(0, "1"));
    at_last("the change", Duration::from_millis(5), async || {
        (says(&mut client, 0).await.1 == "1").then_some(())
    })
    .await;
}
