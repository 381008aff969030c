//! The limits of the traffic guide under load: each user 100 in a minute, each address 200 in a minute, 1,000 a second for
//! all, from many users and addresses.
//!
//! What is exact is computed: buckets that know no workers, no store and no other proxies are given the same requests at
//! the moments at which they were answered. What naru has let pass is held against them: 1 % on one proxy and with Redis,
//! 5 % with leases. While Redis is away each limit does what it says, and no request waits longer than it may.
//!
//! `NARU_LIMIT_SECONDS` says for how long each load lasts; `cargo xtask limits` lets it last longer, and optimizes naru so
//! that the limit for all is reached, too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use naru_base::Chance;
use naru_tests::files::Directory;
use naru_tests::redis::Redis;
use naru_tests::up::{Up, free_address};
use naru_tests::{Wire, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// How long a load lasts in the ordinary tests, at least.
const SECONDS: u64 = 1;
/// So often each client asks at least: the limits of users and addresses are reached on any machine.
const ASKS_MIN: usize = 100;
/// How many connections there are, each from an address of its own or shared with another.
const CLIENTS: u64 = 12;
const ADDRESSES: u64 = 4;
const USERS: u64 = 10;
/// A request has its answer by then, or it hangs: the timeout of a store, and a machine that is loaded.
const ANSWER_MAX: Duration = Duration::from_secs(8);

fn load_time() -> Duration {
    let said = std::env::var("NARU_LIMIT_SECONDS").map(|text| text.parse().unwrap());
    Duration::from_secs(said.unwrap_or(SECONDS))
}

/// A gateway that answers by itself, with the limits of the guide, counted where `place` says.
fn documents(port: u16, place: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: edge }}
spec:
  servers: [{{ port: {{ number: {port}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: edge }}
spec:
  hosts: ['*']
  gateways: [edge]
  http: [{{ name: all, directResponse: {{ status: 200, body: {{ string: ok }} }} }}]
---
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {{ name: guide }}
spec:
  targetRef: {{ kind: Gateway, name: edge }}
{place}
  limits:
  - {{ name: global, requests: 1000, window: 1s }}
  - {{ name: ip, requests: 200, window: 60s, key: [{{ from: address }}] }}
  - {{ name: user, requests: 100, window: 60s, key: [{{ from: header, name: x-user }}] }}
"
    )
}

async fn start(place: &str) -> (Up, SocketAddr) {
    let address = free_address();
    let up = Up::start(&[("edge.yaml", documents(address.port(), place))], &["--workers", "2"]).await;
    until("the gateway to answer", async || {
        let mut stream = TcpStream::connect(address).await.ok()?;
        // Of an address that nobody else has.
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.ok()?;
        (stream.read(&mut [0; 64]).await.ok()? > 0).then_some(())
    })
    .await;
    (up, address)
}

/// One request and when its answer was there.
#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Instant,
    took: Duration,
    user: u64,
    address: u64,
    status: u16,
}

/// Clients that ask as fast as they are answered, spread over the proxies, until so much time is over and each has asked so
/// often.
async fn load(proxies: &[SocketAddr], seed: u64, lasts: Duration, asks_min: usize) -> Vec<Answered> {
    let mut clients = JoinSet::new();
    let end = Instant::now() + lasts;
    for client in 0..CLIENTS {
        let proxy = proxies[client as usize % proxies.len()];
        clients.spawn(async move {
            let mut chance = Chance::split(seed + client, "client");
            let address = client % ADDRESSES;
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 3, 1 + address as u8], 0).into()).unwrap();
            let mut wire = Wire::new(socket.connect(proxy).await.unwrap());
            let mut answers = Vec::new();
            while Instant::now() < end || answers.len() < asks_min {
                // Some come much oftener than others.
                let user = chance.below(USERS).min(chance.below(USERS));
                let began = Instant::now();
                wire.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-user: user-{user}\r\n\r\n")).await;
                let answer = wire.response().await;
                let (at, took, status) = (Instant::now(), began.elapsed(), answer.status());
                answers.push(Answered { at, took, user, address, status });
            }
            answers
        });
    }
    let mut all = Vec::new();
    while let Some(answers) = clients.join_next().await {
        all.extend(answers.unwrap());
    }
    all.sort_by_key(|answered| answered.at);
    all
}

/// A bucket of so many in a window, in parts of a request that are never rounded.
struct Bucket {
    requests: u128,
    window: u128,
    left: u128,
    at: Instant,
}

impl Bucket {
    fn new(requests: u128, window: Duration, at: Instant) -> Bucket {
        let window = window.as_nanos();
        Bucket { requests, window, left: requests * window, at }
    }

    fn has_one(&mut self, now: Instant) -> bool {
        self.left += now.duration_since(self.at).as_nanos() * self.requests;
        self.left = self.left.min(self.requests * self.window);
        self.at = now;
        self.left >= self.window
    }
}

/// What the limits of the guide let pass of these, each from all of its limits or from none: of all, by user, by address.
#[derive(Debug, Default)]
struct Passed {
    all: f64,
    users: BTreeMap<u64, f64>,
    addresses: BTreeMap<u64, f64>,
}

impl Passed {
    fn add(&mut self, answered: &Answered) {
        self.all += 1.0;
        *self.users.entry(answered.user).or_default() += 1.0;
        *self.addresses.entry(answered.address).or_default() += 1.0;
    }

    fn of(answers: &[Answered]) -> Passed {
        let mut passed = Passed::default();
        answers.iter().filter(|answered| answered.status == 200).for_each(|answered| passed.add(answered));
        passed
    }
}

/// `part` of each limit, once for each proxy: an exact one has one part, which is all.
fn exact(answers: &[Answered], part: u128) -> Passed {
    let began = answers[0].at;
    let minute = Duration::from_secs(60);
    let of = |requests: u128, window| Bucket::new(requests.div_ceil(part), window, began);
    let mut all = of(1_000, Duration::from_secs(1));
    let (mut users, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    let mut passed = Passed::default();
    for answered in answers {
        let user = users.entry(answered.user).or_insert_with(|| of(100, minute));
        let address = addresses.entry(answered.address).or_insert_with(|| of(200, minute));
        let mut buckets = [&mut all, address, user];
        let is_there = buckets.iter_mut().map(|bucket| bucket.has_one(answered.at));
        // Each is asked, whatever the others say.
        let is_there: Vec<bool> = is_there.collect();
        if is_there.iter().all(|is_there| *is_there) {
            buckets.into_iter().for_each(|bucket| bucket.left -= bucket.window);
            passed.add(answered);
        }
    }
    passed
}

/// What has passed differs from what is exact by this part of it and one request at most, by a few for each address.
fn assert_near(what: &str, answers: &[Answered], exact: &Passed, part: f64) {
    let passed = Passed::of(answers);
    let near = |what: &str, passed: f64, exact: f64, slack: f64| {
        assert!((passed - exact).abs() <= exact * part + slack, "{what}: {passed} have passed of {exact}");
    };
    near(&format!("{what}, all of {}", answers.len()), passed.all, exact.all, 1.0);
    // Where users are used up before addresses, as in a short load, which address gets the last of a user is the order of
    // a few microseconds.
    let slack = if std::env::var_os("NARU_LIMIT_SECONDS").is_some() { 1.0 } else { 6.0 };
    for (address, exact) in &exact.addresses {
        near(
            &format!("{what}, address {address}"),
            passed.addresses.get(address).copied().unwrap_or(0.0),
            *exact,
            slack,
        );
    }
    // Which users an address that has used up its own lets pass is the order of a few microseconds.
    for (user, count) in &passed.users {
        let bound = 100.0 * (1.0 + lasted(answers).as_secs_f64() / 60.0);
        assert!(*count <= bound * (1.0 + part) + 1.0, "{what}, user {user}: {count} of {bound}");
    }
    let slowest = answers.iter().map(|answered| answered.took).max().unwrap();
    assert!(slowest < ANSWER_MAX, "{what}: a request took {slowest:?}");
    assert!(answers.iter().all(|answered| matches!(answered.status, 200 | 429)), "{what}");
}

fn lasted(answers: &[Answered]) -> Duration {
    answers[answers.len() - 1].at.duration_since(answers[0].at)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_proxy_is_exact_to_a_hundredth() {
    let (_up, address) = start("").await;
    let answers = load(&[address], 1, load_time(), ASKS_MIN).await;
    assert_near("one proxy", &answers, &exact(&answers, 1), 0.01);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_proxies_with_leases_are_exact_to_a_twentieth() {
    let files = Directory::new();
    let secret = files.write("secret", "what nobody who is not of the circle can guess\n");
    let members: Vec<String> = (0..3).map(|_| format!("'{}'", free_address())).collect();
    let place = format!(
        "  leases: {{ members: [{}], secret: {{ file: {} }}, timeout: 4s, otherwise: refuse }}",
        members.join(", "),
        secret.display()
    );
    let mut proxies = Vec::new();
    for _ in 0..3 {
        proxies.push(start(&place).await);
    }
    for (up, _) in &proxies {
        until("all to share", async || {
            let metrics = up.page("/metrics").await;
            let says = |name: &str, value: u32| {
                let begin = format!("naru_store_{name}{{");
                let mut lines = metrics.lines().filter(|line| line.starts_with(&begin));
                lines.next().is_some_and(|line| line.ends_with(&format!(" {value}")))
            };
            (says("parts", 3) && says("up", 1)).then_some(())
        })
        .await;
    }
    let addresses: Vec<SocketAddr> = proxies.iter().map(|(_, address)| *address).collect();
    let answers = load(&addresses, 2, load_time(), ASKS_MIN).await;
    assert_near("leases", &answers, &exact(&answers, 1), 0.05);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_proxies_with_redis_are_exact_to_a_hundredth_and_do_as_they_say_while_it_is_away() {
    for (otherwise, asks) in [("local", ASKS_MIN), ("allow", 10), ("refuse", 10)] {
        let mut redis = Redis::start().await;
        let place = format!(
            "  redis: {{ addresses: ['{}'], timeout: 2s, otherwise: {otherwise}, proxies: 3 }}",
            redis.address
        );
        let mut proxies = Vec::new();
        for _ in 0..3 {
            proxies.push(start(&place).await);
        }
        let addresses: Vec<SocketAddr> = proxies.iter().map(|(_, address)| *address).collect();
        let answers = load(&addresses, 3, load_time(), asks).await;
        assert_near(&format!("Redis, {otherwise}"), &answers, &exact(&answers, 1), 0.01);
        // It goes while they ask.
        let asking = tokio::spawn({
            let addresses = addresses.clone();
            async move { load(&addresses, 4, Duration::from_secs(1), 0).await }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        redis.kill();
        let during = asking.await.unwrap();
        let slowest = during.iter().map(|answered| answered.took).max().unwrap();
        assert!(slowest < ANSWER_MAX, "{otherwise}: a request took {slowest:?} as Redis went");
        let answers = load(&addresses, 5, Duration::ZERO, asks).await;
        let slowest = answers.iter().map(|answered| answered.took).max().unwrap();
        assert!(slowest < ANSWER_MAX, "{otherwise}: a request took {slowest:?} without Redis");
        let count = |status: u16| answers.iter().filter(|answered| answered.status == status).count();
        match otherwise {
            "allow" => assert_eq!(count(200), answers.len()),
            "refuse" => assert_eq!(count(500), answers.len()),
            // Each by its third, of which it may have used some up when Redis went.
            _ => {
                assert_eq!(count(200) + count(429), answers.len());
                let parts: f64 = (0..3).map(|_| exact(&answers, 3).all).sum();
                let passed = Passed::of(&during).all + Passed::of(&answers).all;
                assert!(
                    passed > 0.0 && Passed::of(&answers).all <= parts * 1.01 + 3.0,
                    "{passed} of {parts}"
                );
                assert!(count(429) > 0, "nobody was refused by the shares");
            }
        }
        redis.again().await;
        until("counts to be kept there again", async || {
            // Somebody who asks has them look.
            let mut is_up = true;
            for (up, address) in &proxies {
                let mut wire = Wire::connect(*address).await;
                wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
                wire.response().await;
                let metrics = up.page("/metrics").await;
                is_up &=
                    metrics.lines().any(|line| line.starts_with("naru_store_up{") && line.ends_with(" 1"));
            }
            is_up.then_some(())
        })
        .await;
        // It has forgotten everything, and counts anew.
        let answers = load(&addresses, 6, load_time(), asks).await;
        assert_near(&format!("Redis again, {otherwise}"), &answers, &exact(&answers, 1), 0.01);
    }
}
