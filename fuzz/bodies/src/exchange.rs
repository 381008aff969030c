//! Whatever a client or an upstream sends on a connection of a running data plane.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// A side that has had so long has most likely said what it will say.
const SILENCE: Duration = Duration::from_millis(20);
/// A side that waits for an answer waits longer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Nobody reads more of an answer.
const READ_MAX: usize = 1 << 20;

/// Requests that tell an upstream nothing it would stumble over are forwarded, others are answered.
const ROUTES: &str = r#"
- { match: { prefix: "/echo" }, route: { cluster: up, timeout: 2s } }
- { match: { prefix: "/length" }, route: { cluster: up, timeout: 2s, prefix_rewrite: "/length" } }
- { match: { prefix: "/trailers" }, route: { cluster: up, timeout: 2s } }
- { match: { prefix: "/away" }, redirect: { host_redirect: "elsewhere.test", path_redirect: "/new" } }
- { match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: "ok" } } }
"#;

/// A data plane for all inputs of a process, and the runtime of its clients.
struct Stage {
    runtime: Runtime,
    naru: Naru,
    answers: Arc<Mutex<Vec<u8>>>,
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // A fuzzer's program begins without what Rust's own does first: without a listener to this signal
    // it ends when it writes to a connection that was closed.
    let entered = runtime.enter();
    drop(signal(SignalKind::pipe()).expect("a handler"));
    drop(entered);
    runtime
}

fn lock(stage: &'static LazyLock<Mutex<Stage>>) -> MutexGuard<'static, Stage> {
    // A stage that broke for one input is as broken for the next: its worker is gone.
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

static OF_CLIENTS: LazyLock<Mutex<Stage>> = LazyLock::new(|| {
    let runtime = runtime();
    let upstream = runtime.block_on(Upstream::plain(Speaks::Http1));
    let bootstrap = Bootstrap::new(ROUTES).cluster("up", upstream.address, "");
    Mutex::new(Stage { runtime, naru: Naru::start(&bootstrap), answers: Arc::default() })
});

static OF_UPSTREAMS: LazyLock<Mutex<Stage>> = LazyLock::new(|| {
    let runtime = runtime();
    let answers = Arc::<Mutex<Vec<u8>>>::default();
    let address = runtime.block_on(answering(Arc::clone(&answers)));
    let routes =
        format!("{}{TO_UP}", TO_UP.replace("\"/\"", "\"/2\"").replace("cluster: up", "cluster: up2"));
    let bootstrap = Bootstrap::new(&routes).cluster("up", address, "").cluster("up2", address, HTTP2);
    Mutex::new(Stage { runtime, naru: Naru::start(&bootstrap), answers })
});

/// A client sends this and says no more. Nothing breaks, and nothing is left of it.
pub fn downstream(bytes: &[u8]) {
    let stage = lock(&OF_CLIENTS);
    let address = stage.naru.address;
    stage.runtime.block_on(async {
        let mut stream = say(address, bytes).await;
        let mut answer = Vec::new();
        listen(&mut stream, &mut answer, SILENCE).await;
        // No more will come; what was begun is broken off by that, if it has not ended.
        let _ = stream.shutdown().await;
        listen(&mut stream, &mut answer, SILENCE).await;
        drop(stream);
        stage.naru.settles().await;
    });
}

/// An upstream answers with this, to a request in HTTP/2 where it begins with `2`, and closes.
pub fn upstream(bytes: &[u8]) {
    let stage = lock(&OF_UPSTREAMS);
    let address = stage.naru.address;
    let (target, answer) = match bytes.split_first() {
        Some((b'2', rest)) => ("/2", rest),
        _ => ("/1", bytes),
    };
    stage.answers.lock().unwrap_or_else(PoisonError::into_inner).splice(.., answer.iter().copied());
    let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stage.runtime.block_on(async {
        let before = ended(&stage.naru).await;
        let mut stream = say(address, request.as_bytes()).await;
        let mut answer = Vec::new();
        listen(&mut stream, &mut answer, ANSWER_TIME).await;
        drop(stream);
        // What broke off at once may leave nothing to read.
        let is_answer = answer.is_empty() || answer.starts_with(b"HTTP/1.1 ");
        assert!(is_answer, "what is that? {:?}", String::from_utf8_lossy(&answer));
        stage.naru.settles().await;
        assert_eq!(ended(&stage.naru).await, before + 1, "a request that nobody counted, or counted twice");
    });
}

/// How many requests have ended so far.
async fn ended(naru: &Naru) -> u64 {
    naru.report().await.series.iter().map(|series| series.requests()).sum()
}

async fn say(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = within("a connection", TcpStream::connect(address)).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    // The other side may close before it has heard everything.
    let _ = stream.write_all(bytes).await;
    stream
}

/// Until the other side has closed, or was silent for so long.
async fn listen(stream: &mut TcpStream, heard: &mut Vec<u8>, patience: Duration) {
    while heard.len() < READ_MAX {
        match tokio::time::timeout(patience, stream.read_buf(heard)).await {
            Ok(Ok(1..)) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Answers every connection with whatever is to be answered now, once something was asked.
async fn answering(answers: Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
            tokio::spawn(async move {
                let mut asked = Vec::new();
                let _ = stream.read_buf(&mut asked).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
                listen(&mut stream, &mut asked, ANSWER_TIME).await;
            });
        }
    });
    address
}
