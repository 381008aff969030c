//! Unix sockets on both sides.

use naru_base::Reason;
use naru_proxy::{Options, StartError};
use naru_spec::{Address, Config, Pipe};
use naru_tests::bootstrap::json_log;
use naru_tests::files::{Directory, documents};
use naru_tests::naru::read;
use naru_tests::{Bootstrap, Naru, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

const OPTIONS: Options = Options { workers: 2, seed: Some(1) };

/// The same, where its one listener and the endpoint of its first cluster are these sockets.
fn on(bootstrap: &Bootstrap, listener: &str, endpoint: &str) -> Config {
    let mut config = read(&bootstrap.text());
    let pipe = Pipe { path: listener.to_owned(), mode: 0o600 };
    config.listeners[0].address = Pipe::identity(&pipe.path);
    config.listeners[0].pipe = Some(pipe);
    config.clusters[0].endpoints[0].address = Address::Pipe(endpoint.to_owned());
    config
}

fn placeholder() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

fn path(files: &Directory, name: &str) -> String {
    files.path(name).to_str().unwrap().to_owned()
}

async fn says(stream: &mut UnixStream, expected: &[u8]) {
    let mut said = vec![0; expected.len()];
    within("bytes", stream.read_exact(&mut said)).await.unwrap();
    assert_eq!(said, expected);
}

#[tokio::test]
async fn bytes_pass_and_each_side_ends_by_itself() {
    let files = Directory::new();
    let log = files.path("log");
    let fields = "host: \"%UPSTREAM_HOST%\"\nclient: \"%DOWNSTREAM_REMOTE_ADDRESS%\"\nreason: \"%REASON%\"\n";
    let (front, back) = (path(&files, "front"), path(&files, "back"));
    let up = UnixListener::bind(&back).unwrap();
    let bootstrap = Bootstrap::tcp(&json_log(&log, fields)).cluster("up", placeholder(), "");
    let naru = Naru::start_on(on(&bootstrap, &front, &back), &OPTIONS);
    for _ in 0..4 {
        let mut client = UnixStream::connect(&front).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut upstream, _) = within("a connection", up.accept()).await.unwrap();
        let mut said = Vec::new();
        upstream.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"hello");
        upstream.write_all(b"an answer").await.unwrap();
        drop(upstream);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"an answer");
    }
    naru.settles().await;
    for line in documents(&log, 4).await {
        assert_eq!((line["host"].as_str(), line["client"].as_str()), (Some(&*back), Some("127.0.0.1:0")));
    }
    assert_eq!(naru.clusters()[0].endpoints[0].path.as_deref(), Some(&*back));
    // Nobody is there any more.
    drop(up);
    let mut client = UnixStream::connect(&front).await.unwrap();
    let mut said = Vec::new();
    let _ = within("the end", client.read_to_end(&mut said)).await;
    assert_eq!(said, b"");
    assert_eq!(naru.ended(5).await[0].1, Reason::Forwarded);
    assert_eq!(documents(&log, 5).await[4]["reason"], "ConnectFailure");
}

#[tokio::test]
async fn requests_are_served_on_kept_connections_and_endpoints_are_probed() {
    let files = Directory::new();
    let (front, back) = (path(&files, "front"), path(&files, "back"));
    let up = UnixListener::bind(&back).unwrap();
    let check = "health_checks:\n- { timeout: 5s, interval: 300s, unhealthy_threshold: 1, healthy_threshold: 1, \
                 http_health_check: { path: /health } }\n";
    let config = on(&Bootstrap::to(placeholder()), &front, &back);
    let mut checked =
        read(&Bootstrap::new(naru_tests::bootstrap::TO_UP).cluster("up", placeholder(), check).text());
    checked.listeners = config.listeners;
    checked.clusters[0].endpoints[0].address = Address::Pipe(back.clone());
    let naru = Naru::start_on(checked, &OPTIONS);
    let (mut probe, _) = within("a probe", up.accept()).await.unwrap();
    says(&mut probe, b"GET /health HTTP/1.1\r\nhost: up\r\n").await;
    probe.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    until("the endpoint to be well", async || naru.is_ready().then_some(())).await;
    let mut client = UnixStream::connect(&front).await.unwrap();
    client.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (mut upstream, _) = within("a connection", up.accept()).await.unwrap();
    for _ in 0..2 {
        says(&mut upstream, b"GET /a HTTP/1.1\r\n").await;
        let mut rest = vec![0; 4_096];
        let _ = upstream.read(&mut rest).await.unwrap();
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        let mut answer = [0; 15];
        within("an answer", client.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let mut rest = vec![0; 4_096];
        let _ = client.read(&mut rest).await.unwrap();
        client.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    }
}

#[tokio::test]
async fn a_path_that_is_taken_is_told_and_one_that_was_left_behind_is_taken_over() {
    let files = Directory::new();
    let (front, back) = (path(&files, "front"), path(&files, "back"));
    let config = on(&Bootstrap::tcp("").cluster("up", placeholder(), ""), &front, &back);
    let start =
        || naru_proxy::Proxy::start(naru_journey::Snapshot::compile(config.clone()).unwrap(), &OPTIONS);
    // Somebody is gone, and has left his file.
    drop(UnixListener::bind(&front).unwrap());
    let first = start().unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&front).unwrap().permissions()) & 0o777,
        0o600
    );
    let error = start().unwrap_err();
    assert!(matches!(&error, StartError::Pipe { path, .. } if *path == front), "{error}");
    drop(first);
    std::fs::remove_file(&front).unwrap();
    std::fs::write(&front, "something else").unwrap();
    assert!(start().is_err());
    assert_eq!(std::fs::read_to_string(&front).unwrap(), "something else");
}

#[tokio::test]
async fn a_socket_stays_while_the_configuration_changes_and_names_may_be_abstract() {
    let files = Directory::new();
    let back = path(&files, "back");
    let front = format!("@naru-{}-{back}", std::process::id());
    let up = UnixListener::bind(&back).unwrap();
    let bootstrap = |idle: &str| Bootstrap::tcp(idle).cluster("up", placeholder(), "");
    let naru = Naru::start_on(on(&bootstrap(""), &front, &back), &OPTIONS);
    let mut clients = Vec::new();
    for idle in ["idle_timeout: 60s\n", "idle_timeout: 61s\n"] {
        let mut client = UnixStream::connect(format!("\0{}", &front[1..])).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let (mut upstream, _) = within("a connection", up.accept()).await.unwrap();
        says(&mut upstream, b"hello").await;
        clients.push((client, upstream));
        naru.update_to(on(&bootstrap(idle), &front, &back)).await;
    }
    for (client, upstream) in &mut clients {
        upstream.write_all(b"still").await.unwrap();
        says(client, b"still").await;
    }
}
