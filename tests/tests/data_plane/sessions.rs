//! Login sessions: the contract of the seed, with real HTTP.

pub(crate) mod browser;
mod clustered;
mod counted;
mod forged;
mod hosts;
mod kept;
mod oidc;
mod shared;

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use naru_plan::{Surroundings, plan};
use naru_proxy::Options;
use naru_spec::Config;
use naru_tests::files::Directory;
use naru_tests::{Answer, Client, Naru, Outbound, Speaks, Upstream, client, until};

/// A gateway with sessions in front of an upstream. `lines` are of the SessionAuth, and say where it keeps them.
fn config(upstream: &Upstream, lines: &str) -> Config {
    let servers = "[{ port: { number: 8080, name: http, protocol: HTTP }, hosts: ['*'] }]";
    let mut config = planned(upstream, servers, lines, "");
    config.listeners[0].address.set_port(0);
    config
}

/// The same with these servers, and rules before the one that leads to the upstream.
fn planned(upstream: &Upstream, servers: &str, lines: &str, rules: &str) -> Config {
    let login = "{ paths: [/describe/login, /status/401], claims: [{ claim: role, header: x-said-role }] }";
    with_login(upstream, servers, login, lines, rules)
}

/// The same with another login.
fn with_login(upstream: &Upstream, servers: &str, login: &str, lines: &str, rules: &str) -> Config {
    let (ip, port) = (upstream.address.ip(), upstream.address.port());
    let documents = format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: edge }}
spec:
  servers: {servers}
---
apiVersion: naru.dev/v1alpha1
kind: SessionAuth
metadata: {{ name: login }}
spec:
  targetRef: {{ kind: Gateway, name: edge }}
  login: {login}
  public: [/describe/public]
{lines}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: up }}
spec:
  hosts: [up.test]
  ports: [{{ number: {port}, name: http, protocol: HTTP }}]
  resolution: STATIC
  endpoints: [{{ address: {ip} }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: up }}
spec:
  hosts: ['*']
  gateways: [edge]
  http:
{rules}  - route: [{{ destination: {{ host: up.test, port: {{ number: {port} }} }} }}]
"
    );
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("edge.yaml", &documents, &mut loaded);
    let surroundings = Surroundings {
        gateway_address: std::net::Ipv4Addr::LOCALHOST.into(),
        clients: Vec::new(),
        ..Surroundings::default()
    };
    let planned = plan(&loaded.resources, &surroundings);
    assert!(
        loaded.problems.is_empty() && !planned.has_errors(),
        "{:?}{:?}",
        loaded.problems,
        planned.problems
    );
    planned.config
}

fn start(config: Config) -> Naru {
    Naru::start_on(config, &Options { workers: 2, seed: Some(1) })
}

fn kept_in(directory: &Directory) -> String {
    format!("  store: {{ directory: {}, pollEvery: 50ms, timeout: 20s }}", directory.path("kept").display())
}

/// Who keeps to the contract.
struct Browser {
    client: Client,
    access: String,
    cookie: String,
}

const NONE: &[(&str, &str)] = &[];

impl Browser {
    async fn new(naru: &Naru) -> Browser {
        Browser {
            client: Client::plain(naru.address, Speaks::Http1).await,
            access: String::new(),
            cookie: String::new(),
        }
    }

    /// Logged in, which has worked once keys are there.
    async fn of(naru: &Naru, who: &str) -> Browser {
        let mut browser = Browser::new(naru).await;
        until("a login", async || (browser.log_in(who).await.status == 200).then_some(())).await;
        browser
    }

    async fn exchange(&mut self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = client::request(method, path, Outbound::empty());
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        }
        self.client.exchange(request).await
    }

    async fn log_in(&mut self, who: &str) -> Answer {
        let reply = format!("x-session-subject: {who} | x-said-role: writer");
        let answer = self.exchange(Method::POST, "/describe/login", &[("x-reply", &reply)]).await;
        self.keep(&answer);
        answer
    }

    /// As a browser and its script do.
    fn keep(&mut self, answer: &Answer) {
        if let Some(access) = answer.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            self.access = access.to_owned();
        }
        if let Some(cookie) = answer.header("set-cookie") {
            self.cookie = cookie.split(';').next().unwrap().to_owned();
        }
    }

    async fn get(&mut self, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.access);
        self.exchange(Method::GET, path, &[("authorization", &bearer)]).await
    }

    async fn refresh(&mut self) -> Answer {
        let cookie = self.cookie.clone();
        let answer = self.exchange(Method::POST, "/api/key/refresh", &[("cookie", &cookie)]).await;
        if answer.status == 200 {
            self.keep(&answer);
        }
        answer
    }

    async fn log_out(&mut self) -> Answer {
        let bearer = format!("Bearer {}", self.access);
        self.exchange(Method::POST, "/api/auth/logout", &[("authorization", &bearer)]).await
    }
}

#[track_caller]
fn is_to_refresh(answer: &Answer) {
    assert_eq!(answer.header("x-token-refresh-needed"), Some("true"), "{answer:?}");
    assert_eq!(answer.header("x-relogin-required"), None);
}

#[track_caller]
fn is_to_log_in(answer: &Answer) {
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.header("x-relogin-required"), Some("true"), "{answer:?}");
    assert_eq!(answer.header("x-token-refresh-needed"), None);
}

#[tokio::test]
async fn somebody_logs_in_refreshes_and_logs_out() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let lines = "  accessToken: { claimsToHeaders: [{ claim: sub, header: x-user }, { claim: role, header: x-role }] }\n";
    let naru = start(config(&upstream, &format!("{lines}{}", kept_in(&files))));
    let mut browser = Browser::new(&naru).await;
    let refused = browser.exchange(Method::GET, "/describe", NONE).await;
    assert_eq!((refused.status.as_u16(), refused.header("x-token-refresh-needed")), (401, None));
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"naru\""));
    let public = browser.exchange(Method::GET, "/describe/public/a", &[("x-user", "eve")]).await;
    assert_eq!((public.status.as_u16(), public.header("www-authenticate")), (200, None));
    assert!(!public.text().contains("eve"), "nobody says himself who he is: {}", public.text());

    let answer = until("a login", async || {
        let answer = browser.log_in("han").await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.header("x-session-subject"), None, "what the application said is for naru");
    assert_eq!(answer.header("x-said-role"), None);
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("refreshToken="), "{cookie}");
    assert!(
        cookie.ends_with("; Path=/api/key/refresh; Max-Age=1209599; HttpOnly; Secure; SameSite=Strict")
            || cookie
                .ends_with("; Path=/api/key/refresh; Max-Age=1209600; HttpOnly; Secure; SameSite=Strict"),
        "{cookie}"
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let served = browser.get("/describe").await;
    assert_eq!((served.status.as_u16(), served.header("x-token-refresh-needed")), (200, None));
    assert!(served.text().contains("han") && served.text().contains("writer"), "{}", served.text());

    let (old_access, old_cookie) = (browser.access.clone(), browser.cookie.clone());
    let refreshed = browser.refresh().await;
    assert_eq!(refreshed.status, 200);
    assert_eq!(refreshed.json()["accessToken"], browser.access);
    assert_ne!((old_access, old_cookie), (browser.access.clone(), browser.cookie.clone()));
    assert_eq!(browser.get("/describe").await.status, 200);

    let keys = browser.exchange(Method::GET, "/.well-known/jwks.json", NONE).await;
    assert_eq!((keys.status.as_u16(), keys.json()["keys"].as_array().unwrap().len()), (200, 2));
    assert!(!keys.text().contains("\"d\""), "no private key");

    let out = browser.log_out().await;
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").unwrap().starts_with("refreshToken=; Path=/api/key/refresh; Max-Age=0"));
    is_to_log_in(&browser.get("/describe").await);
    is_to_log_in(&browser.refresh().await);
    let public = browser.get("/describe/public").await;
    assert_eq!(public.status, 200, "who is nobody sees what is for all");
    assert!(!public.text().contains(&browser.access), "and is nobody to the application: {}", public.text());
    let others =
        browser.exchange(Method::GET, "/describe/public", &[("authorization", "Bearer a.b.c")]).await;
    assert!(others.text().contains("Bearer a.b.c"), "what is none of ours may be the application's own");
}

#[tokio::test]
async fn whoever_uses_a_refresh_token_twice_ends_the_session() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let lines = format!("  refreshToken: {{ reuseInterval: 0s }}\n{}", kept_in(&files));
    let naru = start(config(&upstream, &lines));
    let mut browser = Browser::of(&naru, "han").await;
    let mut thief = Browser { cookie: browser.cookie.clone(), ..Browser::new(&naru).await };
    assert_eq!(browser.refresh().await.status, 200);
    is_to_log_in(&thief.refresh().await);
    is_to_log_in(&browser.get("/describe").await);
    is_to_log_in(&browser.refresh().await);
}

#[tokio::test]
async fn two_tabs_that_refresh_at_once_both_stay_logged_in() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let naru = start(config(&upstream, &kept_in(&files)));
    let mut one = Browser::of(&naru, "han").await;
    let mut other = Browser { cookie: one.cookie.clone(), ..Browser::new(&naru).await };
    let (first, second) = tokio::join!(one.refresh(), other.refresh());
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    for browser in [&mut one, &mut other] {
        assert_eq!(browser.get("/describe").await.status, 200);
        assert_eq!(browser.refresh().await.status, 200);
    }
}

#[tokio::test]
async fn a_token_of_the_key_before_is_served_in_its_grace_period_and_refused_without_one() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    for (grace, status) in [("600s", 200), ("0s", 401)] {
        let lines = format!("  keys: {{ rotateEvery: 2s, grace: {grace} }}\n{}", kept_in(&files));
        let naru = start(config(&upstream, &lines));
        let mut browser = Browser::of(&naru, "han").await;
        let answer = until("the key to be replaced", async || {
            let answer = browser.get("/describe").await;
            answer.headers.contains_key("x-token-refresh-needed").then_some(answer)
        })
        .await;
        assert_eq!(answer.status, status);
        is_to_refresh(&answer);
        if status == 401 {
            let said = answer.header("www-authenticate");
            assert_eq!(said, Some("Bearer realm=\"naru\", error=\"invalid_token\""));
        }
        assert_eq!(browser.refresh().await.status, 200);
        // The next one has the same place.
        drop(browser);
        naru.ends().await;
    }
}

#[tokio::test]
async fn an_expired_token_is_refreshed() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let lines = format!("  accessToken: {{ lifetime: 1s, clockSkew: 0s }}\n{}", kept_in(&files));
    let naru = start(config(&upstream, &lines));
    let mut browser = Browser::of(&naru, "han").await;
    let answer = until("the token to expire", async || {
        let answer = browser.get("/describe").await;
        (answer.status == 401).then_some(answer)
    })
    .await;
    is_to_refresh(&answer);
    assert_eq!(answer.text(), "Jwt is expired");
    // Who has logged out with an expired token has logged out.
    assert_eq!(browser.log_out().await.status, 204);
    is_to_log_in(&browser.refresh().await);
}

#[tokio::test]
async fn keys_that_are_replaced_all_the_time_cost_nobody_his_session() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let lines = format!("  keys: {{ rotateEvery: 1s, grace: 0s }}\n{}", kept_in(&files));
    let naru = Arc::new(start(config(&upstream, &lines)));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let people: Vec<_> =
                (0..6).map(|at| tokio::task::spawn_local(is_always_served(Arc::clone(&naru), at))).collect();
            for person in people {
                person.await.unwrap();
            }
        })
        .await;
}

async fn is_always_served(naru: Arc<Naru>, at: u32) {
    let mut browser = Browser::of(&naru, &format!("person{at}")).await;
    let (mut served, mut refreshes) = (0, 0);
    while refreshes < 4 || served < 200 {
        let answer = browser.get("/describe").await;
        if answer.status == 200 {
            served += 1;
            continue;
        }
        assert_eq!(answer.status, 401);
        is_to_refresh(&answer);
        let refreshed = browser.refresh().await;
        assert_eq!(refreshed.status, 200, "{refreshed:?}");
        refreshes += 1;
    }
}

#[tokio::test]
async fn sessions_outlive_the_process_and_are_sealed_on_disk() {
    use std::os::unix::fs::PermissionsExt as _;
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let lines = kept_in(&files);
    let naru = start(config(&upstream, &lines));
    let browser = Browser::of(&naru, "somebody-called-han").await;
    let mut gone = Browser::of(&naru, "choi").await;
    assert_eq!(gone.log_out().await.status, 204);
    let (access, cookie) = (browser.access, browser.cookie);
    let gone_access = gone.access;
    drop((browser.client, gone.client));
    naru.ends().await;
    let mode = |name: &str| std::fs::metadata(files.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("kept"), mode("kept/seal.key")), (0o700, 0o600));
    let store = std::fs::read(files.path("kept/login.default.redb")).unwrap();
    let name = b"somebody-called-han";
    assert!(!store.windows(name.len()).any(|window| window == name), "who it is is sealed");

    let naru = start(config(&upstream, &lines));
    let mut browser = Browser { access, cookie, ..Browser::new(&naru).await };
    let mut gone = Browser { access: gone_access, ..Browser::new(&naru).await };
    until("the store to be read", async || (browser.get("/describe").await.status == 200).then_some(()))
        .await;
    is_to_log_in(&gone.get("/describe").await);
    assert_eq!(browser.refresh().await.status, 200);
}

#[tokio::test]
async fn a_login_that_says_nobody_makes_no_session() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let naru = start(config(&upstream, &kept_in(&files)));
    let mut browser = Browser::new(&naru).await;
    for (path, reply) in [("/describe/login", "x-other: 1"), ("/status/401", "x-session-subject: han")] {
        let answer = browser.exchange(Method::POST, path, &[("x-reply", reply)]).await;
        assert_eq!(answer.header("authorization"), None);
        assert_eq!(answer.header("set-cookie"), None);
        assert_eq!(answer.header("x-session-subject"), None);
    }
}

#[tokio::test]
async fn safe_requests_are_refreshed_on_their_way_where_that_is_asked_for() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let lines = format!(
        "  transparentRefresh: true\n  refreshToken: {{ cookiePath: / }}\n  accessToken: {{ lifetime: 1s, clockSkew: 0s }}\n{}",
        kept_in(&files)
    );
    let naru = start(config(&upstream, &lines));
    let mut browser = Browser::of(&naru, "han").await;
    let (access, cookie) = (browser.access.clone(), browser.cookie.clone());
    let bearer = format!("Bearer {access}");
    let with_both = [("authorization", bearer.as_str()), ("cookie", cookie.as_str())];
    let renewed = until("a new pair", async || {
        let answer = browser.exchange(Method::GET, "/describe", &with_both).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.headers.contains_key("set-cookie").then_some(answer)
    })
    .await;
    browser.keep(&renewed);
    assert_ne!(browser.access, access);
    assert!(renewed.text().contains(&browser.access), "the application sees the new one");
    let unsafe_one = browser.exchange(Method::POST, "/describe", &with_both).await;
    assert_eq!(unsafe_one.status, 401);
    is_to_refresh(&unsafe_one);
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_lets_nobody_in_and_nobody_wait() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    files.write("kept", "a file where a directory should be");
    let naru = start(config(&upstream, &kept_in(&files)));
    let mut browser = Browser::new(&naru).await;
    browser.access = "x.y.z".to_owned();
    assert_eq!(browser.get("/describe").await.status, 503);
    assert_eq!(browser.log_in("han").await.status, 503);
    browser.cookie = "refreshToken=x".to_owned();
    assert_eq!(browser.refresh().await.status, 503);
    assert_eq!(browser.get("/describe/public").await.status, 200);
}
