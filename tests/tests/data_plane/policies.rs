//! Retries by policy, and endpoints that a request chooses, on sockets.

use std::collections::BTreeMap;

use http::{HeaderValue, Method, header};
use naru_tests::client::request;
use naru_tests::files::{Directory, documents};
use naru_tests::{Bootstrap, Client, Naru, Outbound, Speaks, Upstream};

const FIELDS: &str = "flags: \"%RESPONSE_FLAGS%\"\nattempts: \"%UPSTREAM_REQUEST_ATTEMPT_COUNT%\"\n";

fn retrying(policy: &str) -> String {
    format!("- match: {{ prefix: / }}\n  route: {{ cluster: up, retry_policy: {{ {policy} }} }}\n")
}

/// What became of a request by such a policy: the status, the flags, and how often an upstream was asked.
async fn outcome(policy: &str, method: Method, path: &str, headers: &[(&str, &str)]) -> (u16, String, u64) {
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let log = files.path("log");
    let bootstrap = Bootstrap::new(&retrying(policy)).cluster("up", up.address, "").json_log(&log, FIELDS);
    let internal = "use_remote_address: true\ninternal_address_config: { cidr_ranges: [{ address_prefix: 127.0.0.0, prefix_len: 8 }] }";
    let naru = Naru::start(&bootstrap.manager(internal));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let body = if method == Method::GET { Outbound::empty() } else { Outbound::sized("what was said") };
    let mut asked = request(method, path, body);
    for (name, value) in headers {
        let name: header::HeaderName = name.parse().unwrap();
        asked.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = client.exchange(asked).await;
    let said = &documents(&log, 1).await[0];
    assert_eq!(said["attempts"], up.requests(), "{said}");
    drop(client);
    naru.settles().await;
    (answer.status.as_u16(), said["flags"].as_str().unwrap_or("-").to_owned(), up.requests())
}

#[tokio::test]
async fn answers_are_retried_where_a_policy_says_so_and_nothing_is_done_twice() {
    let check = async |policy, method: Method, path, headers: &[_], expected: (u16, &str, u64)| {
        let found = outcome(policy, method.clone(), path, headers).await;
        let expected = (expected.0, expected.1.to_owned(), expected.2);
        assert_eq!(found, expected, "{method} {path} by {policy} with {headers:?}");
    };
    const FIVE: &str = "retry_on: 5xx, num_retries: 2, retry_back_off: { base_interval: 0.001s }";
    check(FIVE, Method::GET, "/status/503", &[], (503, "URX", 3)).await;
    check(FIVE, Method::GET, "/status/404", &[], (404, "-", 1)).await;
    check(FIVE, Method::PUT, "/status/500", &[], (500, "URX", 3)).await;
    check(FIVE, Method::POST, "/status/503", &[], (503, "-", 1)).await;
    check(FIVE, Method::POST, "/status/503", &[("idempotency-key", "17")], (503, "URX", 3)).await;
    let codes = "retry_on: retriable-status-codes, retriable_status_codes: [409], num_retries: 1";
    check(codes, Method::GET, "/status/409", &[], (409, "URX", 2)).await;
    check(codes, Method::GET, "/status/503", &[], (503, "-", 1)).await;
    let slow = "retry_on: 5xx, num_retries: 1, per_try_timeout: 0.1s";
    check(slow, Method::GET, "/slow/2000", &[], (504, "URX,UT", 2)).await;
    check(slow, Method::GET, "/slow/1", &[], (200, "-", 1)).await;
    // A caller from one of our own networks may ask.
    let none = "retry_on: connect-failure, num_retries: 1";
    let asks = [("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "3")];
    check(none, Method::GET, "/status/503", &asks, (503, "URX", 4)).await;
}

#[tokio::test]
async fn a_body_is_sent_whole_with_every_attempt() {
    let (good, bad) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
    // The first endpoint has no such path: it answers 404, which is retried elsewhere.
    let routes = "- match: { prefix: /bad }\n  route: { cluster: up, retry_policy: { retry_on: retriable-headers, \
                  retriable_headers: [{ name: x-again, string_match: { exact: \"yes\" } }], num_retries: 4, \
                  retry_back_off: { base_interval: 0.001s } } }\n";
    let naru = Naru::start(&Bootstrap::new(routes).cluster_of("up", &[good.address, bad.address], ""));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let mut put = request(Method::PUT, "/bad", Outbound::sized("what was said"));
    put.headers_mut().insert("x-reply", HeaderValue::from_static("x-again: yes"));
    let answer = client.exchange(put).await;
    // All of them ask for another try; the last one that is made is passed on.
    assert_eq!(answer.json()["body"], "what was said");
    assert_eq!(good.requests() + bad.requests(), 5);
    assert!(good.requests() > 0 && bad.requests() > 0, "a retry goes elsewhere");
    drop(client);
    naru.settles().await;
}

/// All requests to three upstreams, by a hash; which of them each was sent to.
struct Hashed {
    naru: Naru,
    upstreams: Vec<Upstream>,
}

impl Hashed {
    async fn start(policy: &str, hash: &str) -> Hashed {
        let mut upstreams = Vec::new();
        for _ in 0..3 {
            upstreams.push(Upstream::plain(Speaks::Http1).await);
        }
        let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
        let routes =
            format!("- match: {{ prefix: / }}\n  route: {{ cluster: up, hash_policy: [{{ {hash} }}] }}\n");
        let lines = format!("lb_policy: {policy}\n");
        let naru = Naru::start(&Bootstrap::new(&routes).cluster_of("up", &addresses, &lines));
        Hashed { naru, upstreams }
    }

    /// Sends one request; tells who was asked, and the cookie that came back.
    async fn ask(&self, client: &mut Client, name: &str, value: &str) -> (usize, Option<String>) {
        let before: Vec<u64> = self.upstreams.iter().map(Upstream::requests).collect();
        let mut get = request(Method::GET, "/status/204", Outbound::empty());
        if !value.is_empty() {
            let name: header::HeaderName = name.parse().unwrap();
            get.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = client.exchange(get).await;
        assert_eq!(answer.status, 204);
        let at = (0..3).find(|at| self.upstreams[*at].requests() > before[*at]).unwrap();
        let cookie = answer.headers.get(header::SET_COOKIE).map(|value| value.to_str().unwrap().to_owned());
        (at, cookie)
    }
}

#[tokio::test]
async fn equal_hashes_go_to_one_endpoint() {
    for policy in ["RING_HASH", "MAGLEV"] {
        let hashed = Hashed::start(policy, "header: { header_name: x-user }").await;
        let mut client = Client::plain(hashed.naru.address, Speaks::Http1).await;
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for round in 0..3 {
            for user in 0..40 {
                let user = format!("user-{user}");
                let (at, _) = hashed.ask(&mut client, "x-user", &user).await;
                let known = *places.entry(user.clone()).or_insert(at);
                assert_eq!(at, known, "{policy}: {user} in round {round}");
            }
        }
        for upstream in &hashed.upstreams {
            assert!(upstream.requests() > 0, "{policy}: one of them is never asked");
        }
        drop(client);
        hashed.naru.settles().await;
    }
}

#[tokio::test]
async fn a_cookie_is_given_to_who_has_none_and_leads_back() {
    let cookie = "cookie: { name: place, ttl: 60s, path: /shop }";
    let hashed = Hashed::start("MAGLEV", cookie).await;
    let mut client = Client::plain(hashed.naru.address, Speaks::Http1).await;
    let mut seen = [0; 3];
    for _ in 0..20 {
        let (at, given) = hashed.ask(&mut client, "cookie", "").await;
        let given = given.unwrap();
        assert!(given.ends_with("; Max-Age=60; Path=/shop; HttpOnly"), "{given}");
        let (pair, _) = given.split_once(';').unwrap();
        let (back, again) = hashed.ask(&mut client, "cookie", pair).await;
        assert_eq!((back, again), (at, None), "{pair}");
        seen[at] += 1;
    }
    assert!(seen.iter().filter(|count| **count > 0).count() > 1, "{seen:?}");
}
