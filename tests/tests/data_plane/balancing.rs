//! Who is picked, on sockets: sticky sessions, endpoints that come, quick ones and slow ones, the threshold of panic.
//! What is said here is said in documents.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, header};
use naru_guard::Fitness;
use naru_plan::{Surroundings, plan};
use naru_proxy::Options;
use naru_spec::Config;
use naru_tests::client::request;
use naru_tests::{Client, Naru, Outbound, Speaks, Upstream, Wire, until};
use tokio::net::{TcpListener, TcpStream};

/// What naru makes of a service with these endpoints, of which documents say this.
fn config(endpoints: &[SocketAddr], rule: &str, own: &str) -> Config {
    let endpoints: String = endpoints
        .iter()
        .map(|one| format!("  - {{ address: {}, ports: {{ http: {} }} }}\n", one.ip(), one.port()))
        .collect();
    let text = format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: shop }}
spec:
  hosts: [shop.example]
  resolution: STATIC
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  endpoints:
{endpoints}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: shop }}
spec:
  host: shop.example
  trafficPolicy: {{ {rule} }}
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {{ name: shop }}
spec:
  targetRef: {{ kind: DestinationRule, name: shop }}
  {own}
"
    );
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("shop.yaml", &text, &mut loaded);
    let planned = plan(&loaded.resources, &Surroundings::default());
    assert!(loaded.problems.is_empty() && !planned.has_errors(), "{:?}", planned.problems);
    planned.config
}

struct Shop {
    naru: Naru,
    upstreams: Vec<Upstream>,
    rule: String,
    own: String,
}

impl Shop {
    async fn start(count: usize, rule: &str, own: &str) -> Shop {
        let mut upstreams = Vec::new();
        for _ in 0..count {
            upstreams.push(Upstream::plain(Speaks::Http1).await);
        }
        let addresses: Vec<_> = upstreams.iter().map(|one| one.address).collect();
        let options = Options { workers: 1, seed: Some(1) };
        let naru = Naru::start_on(config(&addresses, rule, own), &options);
        Shop { naru, upstreams, rule: rule.to_owned(), own: own.to_owned() }
    }

    /// Its endpoints are these from now on, in this order.
    async fn update(&self, upstreams: &[usize]) {
        let addresses: Vec<_> = upstreams.iter().map(|at| self.upstreams[*at].address).collect();
        self.naru.update_to(config(&addresses, &self.rule, &self.own)).await;
    }

    async fn client(&self) -> Client {
        Client::plain(self.naru.address, Speaks::Http1).await
    }

    fn requests(&self) -> Vec<u64> {
        self.upstreams.iter().map(Upstream::requests).collect()
    }

    /// How many requests each upstream had of so many.
    async fn spread(&self, client: &mut Client, count: usize) -> Vec<u64> {
        let before = self.requests();
        for _ in 0..count {
            assert_eq!(ask(client, "/status/204", &[]).await.0, 204);
        }
        self.requests().iter().zip(before).map(|(after, before)| after - before).collect()
    }

    /// Who answers a request with these headers, and what it is given to come back with.
    async fn session(
        &self,
        client: &mut Client,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (usize, Option<String>) {
        let before = self.requests();
        let (_, given) = ask(client, path, headers).await;
        let after = self.requests();
        let who = (0..after.len()).find(|at| after[*at] > before[*at]);
        (who.unwrap_or_else(|| panic!("nobody was asked for {path}")), given)
    }
}

async fn ask(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> (u16, Option<String>) {
    let mut get = request(Method::GET, path, Outbound::empty());
    get.headers_mut().insert(header::HOST, "shop.example".parse().unwrap());
    for (name, value) in headers {
        let name: header::HeaderName = name.parse().unwrap();
        get.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = client.exchange(get).await;
    let given = answer.headers.get(header::SET_COOKIE).or(answer.headers.get("x-place"));
    (answer.status.as_u16(), given.map(|value| value.to_str().unwrap().to_owned()))
}

fn pair(cookie: &str) -> String {
    cookie.split(';').next().unwrap().to_owned()
}

const EJECTS: &str = "loadBalancer: { simple: ROUND_ROBIN }, outlierDetection: { consecutive5xxErrors: 1, \
                      baseEjectionTime: 60s, interval: 1s, maxEjectionPercent: 100 }";

#[tokio::test]
async fn a_client_with_a_cookie_stays_at_its_endpoint_as_long_as_that_is_fit() {
    let shop = Shop::start(4, EJECTS, "stickySession: { cookie: { name: place, ttl: 60s } }").await;
    shop.update(&[0, 1, 2]).await;
    let mut client = shop.client().await;
    let mut first = Vec::new();
    for _ in 0..3 {
        let (who, given) = shop.session(&mut client, "/status/204", &[]).await;
        let given = given.unwrap();
        assert!(
            given.starts_with("place=\"") && given.ends_with("\"; Max-Age=60; Path=/; HttpOnly"),
            "{given}"
        );
        first.push((who, pair(&given)));
    }
    first.sort();
    assert_eq!(first.iter().map(|(who, _)| *who).collect::<Vec<_>>(), [0, 1, 2], "a rotation");
    let stays = async |client: &mut Client, who: usize, cookie: &str| {
        for _ in 0..5 {
            let found = shop.session(client, "/status/204", &[("cookie", cookie)]).await;
            assert_eq!(found, (who, None), "nothing new is given to who has come back");
        }
    };
    for (who, cookie) in &first {
        stays(&mut client, *who, cookie).await;
    }
    // Others, in another order; the first is gone.
    shop.update(&[3, 2, 1]).await;
    for (who, cookie) in &first[1..] {
        stays(&mut client, *who, cookie).await;
    }
    let cookie = first[0].1.as_str();
    let (other, given) = shop.session(&mut client, "/status/204", &[("cookie", cookie)]).await;
    assert_ne!(other, 0);
    stays(&mut client, other, &pair(&given.unwrap())).await;
    // It is unfit: elsewhere, with another cookie that leads there.
    let (who, cookie) = &first[2];
    assert_eq!(shop.session(&mut client, "/status/500", &[("cookie", cookie)]).await.0, *who);
    until("an ejection", async || {
        shop.naru.clusters()[0].endpoints.iter().any(|one| one.fitness.is_ejected()).then_some(())
    })
    .await;
    let (other, given) = shop.session(&mut client, "/status/204", &[("cookie", cookie)]).await;
    assert_ne!(other, *who);
    let given = pair(&given.unwrap());
    assert_ne!(given, *cookie);
    stays(&mut client, other, &given).await;
    drop(client);
    shop.naru.settles().await;
}

#[tokio::test]
async fn a_session_may_be_in_a_header_and_refuse_to_go_elsewhere() {
    let shop = Shop::start(3, EJECTS, "stickySession: { header: x-place, strict: true }").await;
    let mut client = shop.client().await;
    let (who, given) = shop.session(&mut client, "/status/204", &[]).await;
    let place = given.unwrap();
    for _ in 0..5 {
        assert_eq!(shop.session(&mut client, "/status/204", &[("x-place", &place)]).await, (who, None));
    }
    let rest: Vec<usize> = (0..3).filter(|at| *at != who).collect();
    shop.update(&rest).await;
    let before = shop.requests();
    assert_eq!(ask(&mut client, "/status/204", &[("x-place", &place)]).await.0, 503);
    assert_eq!(shop.requests(), before);
}

#[tokio::test]
async fn an_endpoint_that_comes_later_takes_a_growing_part() {
    for simple in ["ROUND_ROBIN", "LEAST_REQUEST"] {
        let rule =
            format!("loadBalancer: {{ simple: {simple}, warmup: {{ duration: 600s, minimumPercent: 10 }} }}");
        let rule = format!("{rule}, connectionPool: {{}}");
        let shop = Shop::start(3, &rule, "loadBalancing: { overprovisioningFactor: 140 }").await;
        let mut client = shop.client().await;
        // All that are there at the beginning are alike. In Envoy they warm up together, too.
        let all = shop.spread(&mut client, 90).await;
        assert!(all.iter().all(|count| (20..=40).contains(count)), "{simple}: {all:?}");
        drop(client);
        shop.naru.settles().await;
    }
    // A second is a long time for who waits for it, and a short one for a warm-up.
    let rule = "loadBalancer: { simple: ROUND_ROBIN, warmup: { duration: 1s, minimumPercent: 10 } }";
    let shop = Shop::start(3, rule, "loadBalancing: { overprovisioningFactor: 140 }").await;
    shop.update(&[0, 1]).await;
    let mut client = shop.client().await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    shop.update(&[2, 0, 1]).await;
    let begun = std::time::Instant::now();
    let young = shop.spread(&mut client, 42).await;
    // On a machine that stood still it is older than it should be.
    if begun.elapsed() < Duration::from_millis(200) {
        assert!(young[2] <= 6 && young[0] >= 17 && young[1] >= 17, "{young:?}");
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let grown = shop.spread(&mut client, 42).await;
    assert!(grown.iter().all(|count| (13..=15).contains(count)), "{grown:?}");
}

/// Passes bytes on, late.
async fn slowly(to: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut up = TcpStream::connect(to).await.unwrap();
                let (mut from, mut into) = client.split();
                let (mut back, mut forth) = up.split();
                let late = async {
                    let mut buffer = [0; 4_096];
                    loop {
                        let count = tokio::io::AsyncReadExt::read(&mut from, &mut buffer).await.unwrap_or(0);
                        tokio::time::sleep(delay).await;
                        let sent = tokio::io::AsyncWriteExt::write_all(&mut forth, &buffer[..count]).await;
                        if count == 0 || sent.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = late => {}
                    _ = tokio::io::copy(&mut back, &mut into) => {}
                }
            });
        }
    });
    address
}

/// A peak is believed for seconds: where the machine stood still once, an endpoint that is quick is avoided as well. A
/// balancer that ignores how long answers take fails each time.
#[tokio::test]
async fn peak_ewma_leaves_the_slow_alone_and_finds_out_by_answers() {
    let mut found = Vec::new();
    for _ in 0..3 {
        match leaves_the_slow_alone().await {
            Ok(()) => return,
            Err(spread) => found.push(spread),
        }
    }
    panic!("{found:#?}");
}

/// On a fresh start; else what was found instead.
async fn leaves_the_slow_alone() -> Result<(), String> {
    let mut upstreams = Vec::new();
    for _ in 0..3 {
        upstreams.push(Upstream::plain(Speaks::Http1).await);
    }
    let slow = slowly(upstreams[1].address, Duration::from_millis(100)).await;
    let addresses = [upstreams[0].address, slow, upstreams[2].address];
    let own = "loadBalancing: { peakEwma: { decay: 10s } }";
    let options = Options { workers: 1, seed: Some(1) };
    let naru = Naru::start_on(config(&addresses, "connectionPool: {}", own), &options);
    let shop = Shop { naru, upstreams, rule: String::new(), own: String::new() };
    let mut client = shop.client().await;
    shop.spread(&mut client, 20).await;
    let spread = shop.spread(&mut client, 180).await;
    // Only where it is drawn twice: one of nine. Without news it would be one of three.
    if !(5..=36).contains(&spread[1]) || spread[0] <= 50 || spread[2] <= 50 {
        return Err(format!("the second is the slow one: {spread:?}"));
    }
    // Who was quick and hangs: the client leaves, and that is news as well.
    let mut wire = Wire::connect(shop.naru.address).await;
    wire.send("GET /slow/60000 HTTP/1.1\r\nhost: shop.example\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    drop(wire);
    drop(client);
    shop.naru.settles().await;
    let mut client = shop.client().await;
    let spread = shop.spread(&mut client, 90).await;
    let least = spread[0].min(spread[2]);
    if least >= 25 || spread[0].max(spread[2]) <= 40 {
        return Err(format!("one of both is to be avoided now: {spread:?}"));
    }
    Ok(())
}

#[tokio::test]
async fn a_threshold_of_panic_that_changes_acts_at_once() {
    let own = |percent| format!("loadBalancing: {{ healthyPanicThreshold: {percent} }}");
    let mut shop = Shop::start(2, EJECTS, &own(0)).await;
    let mut client = shop.client().await;
    for _ in 0..2 {
        assert_eq!(ask(&mut client, "/status/500", &[]).await.0, 500);
    }
    let ejected =
        || shop.naru.clusters()[0].endpoints.iter().filter(|one| one.fitness != Fitness::FIT).count();
    until("both to be ejected", async || (ejected() == 2).then_some(())).await;
    assert_eq!(ask(&mut client, "/status/204", &[]).await.0, 503);
    shop.own = own(50);
    shop.update(&[0, 1]).await;
    assert_eq!(ask(&mut client, "/status/204", &[]).await.0, 204);
    shop.own = own(0);
    shop.update(&[0, 1]).await;
    assert_eq!(ask(&mut client, "/status/204", &[]).await.0, 503);
}

#[tokio::test]
async fn loads_that_are_bounded_pass_requests_of_one_hash_on() {
    let rule = "loadBalancer: { consistentHash: { httpHeaderName: x-user, maglev: { tableSize: 251 } } }";
    let shop = Shop::start(3, rule, "loadBalancing: { hashBalanceFactor: 100 }").await;
    let mut slow = Vec::new();
    for number in 1..=6 {
        let mut wire = Wire::connect(shop.naru.address).await;
        wire.send("GET /slow/60000 HTTP/1.1\r\nhost: shop.example\r\nx-user: one\r\n\r\n").await;
        until("it to be sent on", async || (shop.requests().iter().sum::<u64>() == number).then_some(()))
            .await;
        slow.push(wire);
    }
    // One above an even share at most; without a bound one of them had all.
    let requests = shop.requests();
    assert!(requests.iter().all(|count| *count <= 3), "{requests:?}");
}
