//! However connections break, what may have been carried out is not sent a second time.
//!
//! Clients POST through naru, each request with a number of its own, to upstreams whose connections break at random
//! points: when they are taken, after so many bytes of a request, after all of it, within the head or the body of the
//! answer, and while they wait for the next request. An upstream notes the number of every request whose head it has read.
//! None is read twice, but where the upstream itself said that it has not looked at it: those are counted apart.
//!
//! `NARU_CASES` says how many requests; `cargo xtask sent-once` sends 100,000 of each protocol.

mod http1;
mod http2;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use naru_base::Chance;
use naru_proxy::Options;
use naru_tests::bootstrap::HTTP2;
use naru_tests::journal::Journal;
use naru_tests::wire::Transfer;
use naru_tests::{Bootstrap, Naru, Wire};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const REQUESTS: u64 = 20_000;
const CLIENTS: u64 = 24;
const ENDPOINTS: u64 = 3;

/// The retry policies of the routes `/0/..` and on: none, Istio's where nothing is said, and all that ask for more.
const POLICIES: &[&str] = &[
    "",
    "retry_on: \"connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes\", num_retries: 2, \
     retriable_status_codes: [503], host_selection_retry_max_attempts: 5, retry_host_predicate: [{ name: p, \
     typed_config: { \"@type\": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate } }]",
    "retry_on: \"5xx,reset\", num_retries: 3",
    "retry_on: \"gateway-error,reset-before-request,connect-failure,refused-stream,retriable-4xx\", num_retries: 3",
    "retry_on: \"reset\", num_retries: 2, per_try_timeout: 1s",
];

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Reset,
    Close,
}

impl End {
    fn draw(chance: &mut Chance) -> End {
        if chance.below(2) == 0 { End::Reset } else { End::Close }
    }

    fn of(self, stream: TcpStream) {
        if let End::Reset = self {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(stream);
    }
}

async fn listen(speaks_http2: bool, journal: &Arc<Journal>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let journal = Arc::clone(journal);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            // What one more connection does is drawn from this.
            let mut chance = Chance::split(journal.next_connection(), "connection");
            let journal = Arc::clone(&journal);
            if chance.below(16) == 0 {
                End::draw(&mut chance).of(stream);
            } else if speaks_http2 {
                tokio::spawn(http2::serve(stream, chance, journal));
            } else {
                tokio::spawn(http1::serve(stream, chance, journal));
            }
        }
    });
    address
}

/// What came of requests.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sent: u64,
    answered: u64,
    /// Those that upstreams have read more than once.
    twice: u64,
    /// The same, but for those that they said they have not looked at.
    acted_twice: u64,
    disclaimed: u64,
}

#[expect(clippy::print_stdout, reason = "numbers are what a long run is for")]
async fn run(speaks_http2: bool, total: u64) {
    let journal = Arc::<Journal>::default();
    let mut addresses = Vec::new();
    for _ in 0..ENDPOINTS {
        addresses.push(listen(speaks_http2, &journal).await);
    }
    let routes: String = (0..).zip(POLICIES).map(|(at, policy)| route(at, policy)).collect();
    let lines = format!(
        "circuit_breakers: {{ thresholds: [{{ max_retries: 1000 }}] }}\n{}",
        if speaks_http2 { HTTP2 } else { "" }
    );
    let bootstrap = Bootstrap::new(&routes).cluster_of("up", &addresses, &lines);
    let naru = Naru::start_with(&bootstrap, &Options { workers: 2, seed: Some(1) });
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let numbers = (client..total).step_by(CLIENTS as usize);
        clients.spawn(send_all(naru.address, numbers.collect()));
    }
    // Without a key, and with one.
    let mut counts = [Counts::default(); 2];
    while let Some(sent) = clients.join_next().await {
        for (number, has_key, is_answered) in sent.unwrap() {
            let (counts, read) = (&mut counts[usize::from(has_key)], journal.read(number));
            counts.sent += 1;
            counts.answered += u64::from(is_answered);
            counts.twice += u64::from(read.times > 1);
            counts.acted_twice += u64::from(read.times > read.disclaimed + 1);
            counts.disclaimed += u64::from(read.disclaimed);
            assert!(
                !is_answered || read.times > read.disclaimed,
                "{number} was answered, and nobody read it"
            );
        }
    }
    let [plain, keyed] = counts;
    println!("HTTP/{}: without a key {plain:?}, with one {keyed:?}", 1 + u8::from(speaks_http2));
    assert_eq!(plain.acted_twice, 0, "of requests that may act were read twice: {plain:?}");
    // The pattern bites.
    let failed = plain.sent - plain.answered;
    assert!(failed * 100 > plain.sent * 5 && failed * 2 < plain.sent, "{plain:?}");
    assert!(keyed.acted_twice * 100 > keyed.sent, "{keyed:?}");
    assert!(keyed.answered * plain.sent > plain.answered * keyed.sent, "retries help: {plain:?} {keyed:?}");
    assert_eq!(plain.disclaimed > 0, speaks_http2, "{plain:?}");
    assert!(plain.twice > 0 || !speaks_http2, "what was refused is sent again: {plain:?}");
    let cluster = naru.report().await.clusters.swap_remove(0);
    assert!(cluster.retries > 0 && cluster.replays > 0, "{cluster:?}");
    naru.settles().await;
}

fn route(at: usize, policy: &str) -> String {
    let policy = match policy {
        "" => String::new(),
        policy => format!(", retry_policy: {{ retry_back_off: {{ base_interval: 0.001s }}, {policy} }}"),
    };
    format!("- match: {{ prefix: /{at}/ }}\n  route: {{ cluster: up, timeout: 10s{policy} }}\n")
}

/// One client's requests, one after the other: for each whether it had a key, and whether it was answered as asked.
async fn send_all(to: SocketAddr, numbers: Vec<u64>) -> Vec<(u64, bool, bool)> {
    let mut chance = Chance::split(numbers[0], "client");
    let mut wire = Wire::connect(to).await;
    let mut sent = Vec::with_capacity(numbers.len());
    for number in numbers {
        let has_key = chance.below(8) == 0;
        let key = if has_key { "idempotency-key: k\r\n" } else { "" };
        let at = chance.below(POLICIES.len() as u64);
        let body = "x".repeat(chance.below(200) as usize);
        let (framing, body) = match chance.below(3) {
            0 if !body.is_empty() => {
                ("transfer-encoding: chunked".to_owned(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
            }
            _ => (format!("content-length: {}", body.len()), body),
        };
        let head = format!("POST /{at}/ HTTP/1.1\r\nhost: a.test\r\nx-n: {number}\r\n{key}{framing}\r\n\r\n");
        let is_parted = chance.below(4) == 0;
        if is_parted {
            wire.try_send(head).await;
            tokio::task::yield_now().await;
            wire.try_send(body).await;
        } else {
            wire.try_send(head + &body).await;
        }
        let answer = match wire.try_head().await {
            Ok(head) => {
                let (status, closes) = (head.status(), head.get("connection") == Some("close"));
                let is_whole = matches!(wire.rest(head, true).await, Transfer::Whole(_));
                (status == 200 && is_whole, is_whole && !closes)
            }
            Err(_) => (false, false),
        };
        let (is_answered, stays) = answer;
        if !stays {
            wire = Wire::connect(to).await;
        }
        sent.push((number, has_key, is_answered));
    }
    sent
}

fn total() -> u64 {
    std::env::var("NARU_CASES").map_or(REQUESTS, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_post_is_read_twice_however_connections_break() {
    run(false, total() / 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_post_is_read_twice_however_connections_of_http2_break() {
    run(true, total() / 2).await;
}
