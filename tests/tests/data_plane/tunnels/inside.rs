//! HTTP in a tunnel is served as if it had come without one.

use naru_base::Reason;
use naru_tests::files::{Directory, documents};
use naru_tests::wire::End;
use naru_tests::{Authority, Bootstrap, Client, Naru, Speaks, Upstream, Wire, upstream, within};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{logging, tunnel};

/// Each name has its cluster.
async fn shop() -> (Upstream, Upstream, Bootstrap) {
    let (one, two) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
    let host = |name: &str| {
        format!(
            "- name: {name}\n  domains: [\"{name}.test\", \"{name}.test:80\"]\n  routes:\n  \
             - {{ match: {{ prefix: / }}, route: {{ cluster: {name} }} }}\n"
        )
    };
    let hosts = format!("{}{}", host("one"), host("two"));
    let bootstrap = Bootstrap::with_virtual_hosts(&hosts).tunnels();
    let bootstrap = bootstrap.cluster("one", one.address, "").cluster("two", two.address, "");
    (one, two, bootstrap)
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")
}

#[tokio::test]
async fn each_request_is_routed_counted_and_logged_by_its_own_host() {
    let files = Directory::new();
    let log = files.path("log");
    let (one, two, bootstrap) = shop().await;
    let naru = logging(bootstrap, &log);
    let mut client = tunnel(&naru, "elsewhere.test:80").await;
    let peer = client.local().to_string();
    for (host, path) in [("one.test", "/describe"), ("two.test:80", "/bytes/5"), ("three.test", "/")] {
        client.send(get(host, path)).await;
        let answer = client.response().await;
        assert_eq!(answer.status(), if host == "three.test" { 404 } else { 200 });
        if path == "/describe" {
            let described: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(upstream::header(&described, "host"), Some("one.test"));
            assert_eq!(upstream::header(&described, "x-forwarded-proto"), Some("http"));
        }
    }
    assert_eq!((one.requests(), two.requests()), (1, 1));
    client.finish().await;
    assert_eq!(client.ends().await, End::Closed);
    naru.settles().await;
    let lines = documents(&log, 4).await;
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["method"].as_str().unwrap(),
                line["authority"].as_str().unwrap(),
                line["reason"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("GET", "one.test", "Forwarded"),
            ("GET", "two.test:80", "Forwarded"),
            ("GET", "three.test", "NoRoute"),
            ("CONNECT", "elsewhere.test:80", "TunnelServed"),
        ]
    );
    assert!(lines.iter().all(|line| line["peer"] == peer), "{lines:?}");
    let whole = &lines[3];
    assert_eq!((&whole["path"], &whole["status"], &whole["flags"]), (&"*".into(), &200.into(), &"-".into()));
    let asked: usize = [("one.test", "/describe"), ("two.test:80", "/bytes/5"), ("three.test", "/")]
        .iter()
        .map(|(host, path)| get(host, path).len())
        .sum();
    assert_eq!(whole["received"], asked, "{whole}");
    assert!(whole["sent"].as_u64().unwrap() > 5, "{whole}");
}

#[tokio::test]
async fn http2_is_told_by_its_preface() {
    let (one, _two, bootstrap) = shop().await;
    let naru = Naru::start(&bootstrap);
    let mut client = Client::through(naru.address, "one.test:80", Speaks::Http2, None).await;
    for _ in 0..3 {
        let mut request =
            naru_tests::client::request(http::Method::GET, "/bytes/7", naru_tests::Outbound::empty());
        request.headers_mut().insert("host", "one.test".parse().unwrap());
        assert_eq!(client.exchange(request).await.text(), "xxxxxxx");
    }
    drop(client);
    naru.settles().await;
    assert_eq!(one.requests(), 3);
    let expected = [(200, Reason::Forwarded), (200, Reason::Forwarded), (200, Reason::Forwarded)];
    assert_eq!(naru.ended(4).await, [&expected[..], &[(200, Reason::TunnelServed)]].concat());
}

#[tokio::test]
async fn a_request_may_come_with_its_tunnel_or_in_pieces() {
    let (_one, _two, bootstrap) = shop().await;
    let naru = Naru::start(&bootstrap);
    let request = get("one.test", "/bytes/3");
    let mut client = Wire::connect(naru.address).await;
    client.send(format!("CONNECT one.test:80 HTTP/1.1\r\nhost: one.test:80\r\n\r\n{request}{request}")).await;
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(client.response().await.text(), "xxx");
    assert_eq!(client.response().await.text(), "xxx");
    drop(client);

    let mut client = tunnel(&naru, "one.test:80").await;
    for byte in request.as_bytes() {
        client.send([*byte]).await;
        // Naru, on a thread of its own, may look at each of them alone.
        tokio::task::yield_now().await;
    }
    assert_eq!(client.response().await.text(), "xxx");
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn what_is_not_quite_http_is_answered_as_without_a_tunnel() {
    let (_one, _two, bootstrap) = shop().await;
    let naru = Naru::start(&bootstrap);
    let mut client = tunnel(&naru, "one.test:80").await;
    client.send("GET / HTTP/1.1\r\nhost one.test\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 400);
    client.finish().await;
    let _ = client.end().await;
    let mut client = tunnel(&naru, "one.test:80").await;
    client.send(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(300_000))).await;
    assert_eq!(client.head().await.status(), 431);
    client.finish().await;
    let _ = client.end().await;
    naru.settles().await;
    let ended = naru.ended(4).await;
    assert!(
        ended.contains(&(400, Reason::ClientProtocol)) && ended.contains(&(431, Reason::HeadTooLarge)),
        "{ended:?}"
    );
}

#[tokio::test]
async fn the_way_to_the_proxy_may_be_tls() {
    let (one, _two, bootstrap) = shop().await;
    let authority = Authority::new();
    let naru = Naru::start(&bootstrap.tls(&authority, &["http/1.1"]));
    let connector = authority.connector(&["http/1.1"]);
    let stream = tokio::net::TcpStream::connect(naru.address).await.unwrap();
    let (mut stream, _) = within("a TLS handshake", connector.connect(stream)).await.unwrap();
    let mut say = async |bytes: &str| {
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut said = vec![0; 1_024];
        let count = within("an answer", stream.read(&mut said)).await.unwrap();
        String::from_utf8_lossy(&said[..count]).into_owned()
    };
    let answer = say("CONNECT one.test:80 HTTP/1.1\r\nhost: one.test:80\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\n");
    let answer = say(&get("one.test", "/describe")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // Nothing but the way to the proxy is TLS, but that is what the edge goes by.
    assert!(answer.contains("[\"x-forwarded-proto\",\"https\"]"), "{answer}");
    assert_eq!(one.requests(), 1);
    drop(stream);
    naru.settles().await;
}
