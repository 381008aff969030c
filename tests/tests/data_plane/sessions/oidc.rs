//! Logins at a provider of OpenID Connect: a real one, and one that does what no real one would.

mod attacks;
mod away;
mod chromium;
mod pretender;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use naru_tests::up::free_address;
use serde_json::{Value, json};

use super::*;

/// npm's oidc-provider.
pub struct Provider {
    child: Option<Child>,
    pub address: SocketAddr,
    settings: Value,
}

const CLIENT: &str = "shop & co";
/// Each letter that means something on its way.
const SECRET: &str = "a secret/with+%3F:?&=";

impl Provider {
    /// For people who come back to these addresses. `change` is told its settings before it starts.
    async fn start(back: &[String], change: impl FnOnce(&mut Value)) -> Provider {
        let mut provider = Provider::at(free_address(), back, change);
        provider.again().await;
        provider
    }

    /// One that has not begun.
    fn at(address: SocketAddr, back: &[String], change: impl FnOnce(&mut Value)) -> Provider {
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
        let packages = format!("{}/", target.join("tools/node").display());
        let client = json!({
            "client_id": CLIENT, "client_secret": SECRET, "redirect_uris": back,
            "post_logout_redirect_uris": back.iter().map(|uri| uri.replace("/oidc/callback", "/")).collect::<Vec<_>>(),
        });
        let mut settings = json!({
            "packages": packages, "issuer": format!("http://{address}"), "port": address.port(),
            "person": "han", "clients": [client],
        });
        change(&mut settings);
        Provider { child: None, address, settings }
    }

    async fn again(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data_plane/sessions/oidc/provider.mjs");
        let child = Command::new("node")
            .arg(script)
            .env("PROVIDER", self.settings.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("node: {error}: run `cargo xtask setup` once"));
        self.child = Some(child);
        let address = self.address;
        until("the provider to listen (cargo xtask setup installs it)", async || {
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn issuer(&self) -> String {
        self.settings["issuer"].as_str().unwrap().to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A gateway at a port that is known beforehand, as a provider has to know it.
struct Shop {
    _naru: Naru,
    _upstream: Upstream,
    _files: Directory,
}

fn oidc(issuer: &str, files: &Directory, more: &str) -> String {
    let secret = files.write("secret", &format!("{SECRET}\n"));
    format!(
        "{{ issuer: '{issuer}', clientId: '{CLIENT}', clientSecret: {{ file: {} }}, scopes: [openid, email, groups],
      claims: [{{ claim: email }}, {{ claim: groups, as: roles }}], timeout: 10s{more} }}",
        secret.display()
    )
}

/// `more` is of the login, `lines` of the `SessionAuth`.
fn documents(upstream: &Upstream, address: SocketAddr, login: &str, lines: &str) -> Config {
    let servers = format!(
        "[{{ port: {{ number: {}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]",
        address.port()
    );
    let headers = "  accessToken: { claimsToHeaders: [{ claim: sub, header: x-user }, { claim: roles, header: x-roles }] }\n";
    with_login(upstream, &servers, &format!("{{ oidc: {login} }}"), &format!("{headers}{lines}"), "")
}

impl Shop {
    async fn open(address: SocketAddr, issuer: &str, more: &str, lines: &str) -> Shop {
        let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
        let lines = format!("{lines}{}", kept_in(&files));
        let naru = start(documents(&upstream, address, &oidc(issuer, &files, more), &lines));
        Shop { _naru: naru, _upstream: upstream, _files: files }
    }
}

fn back_to(address: SocketAddr) -> String {
    format!("http://{address}/oidc/callback")
}

/// Somebody with a browser: cookies by host and port, redirects, forms that send themselves.
#[derive(Clone, Default)]
struct Person {
    jars: BTreeMap<String, BTreeMap<String, String>>,
    /// Where he was, the last one last.
    trail: Vec<String>,
}

const PAGE: &[(&str, &str)] = &[("accept", "text/html,*/*;q=0.8"), ("sec-fetch-mode", "navigate")];

fn parts(url: &str) -> (String, String) {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("no address: {url}"));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    (host.to_owned(), format!("/{path}"))
}

impl Person {
    /// One exchange; cookies are kept.
    async fn ask(
        &mut self,
        method: Method,
        url: &str,
        form: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.trail.push(url.to_owned());
        let (host, path) = parts(url);
        let body = form.map_or_else(Outbound::empty, |form| Outbound::sized(form.to_owned()));
        let mut request = client::request(method, &path, body);
        let mut set = |name: &str, value: &str| {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        };
        set("host", &host);
        headers.iter().for_each(|(name, value)| set(name, value));
        if form.is_some() {
            set("content-type", "application/x-www-form-urlencoded");
        }
        let jar = self.jars.entry(host.clone()).or_default();
        if !jar.is_empty() {
            let all: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            set("cookie", &all.join("; "));
        }
        let mut client = Client::plain(host.parse().unwrap(), Speaks::Http1).await;
        let answer = client.exchange(request).await;
        for line in answer.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            let is_over = line.contains("Max-Age=0") || line.contains("expires=Thu, 01 Jan 1970");
            if is_over {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    async fn page(&mut self, url: &str) -> Answer {
        self.ask(Method::GET, url, None, PAGE).await
    }

    /// Follows what he is led to, until there is a page, or an address for which `is_there`.
    async fn follow(&mut self, url: &str, is_there: impl Fn(&str) -> bool) -> (String, Option<Answer>) {
        let mut url = url.to_owned();
        let mut answer = None;
        for _ in 0..20 {
            if is_there(&url) {
                return (url, answer);
            }
            let mut next = self.page(&url).await;
            if next.text().contains("document.forms[0].submit()") {
                next = self.ask(Method::POST, &url, Some(""), PAGE).await;
            }
            let Some(location) = next.header("location") else { return (url, Some(next)) };
            let host = parts(&url).0;
            url = if location.starts_with('/') {
                format!("http://{host}{location}")
            } else {
                location.to_owned()
            };
            answer = Some(next);
        }
        panic!("he is led about: {:?}", self.trail);
    }

    /// Until there is a page.
    async fn open(&mut self, url: &str) -> (String, Answer) {
        let (url, answer) = self.follow(url, |_| false).await;
        (url, answer.unwrap())
    }

    /// As far as he is sent back, which he does not follow.
    async fn comes_back(&mut self, url: &str) -> String {
        let (url, _) = self.follow(url, |url| url.contains("/oidc/callback?")).await;
        url
    }

    fn cookie(&self, address: SocketAddr, beginning: &str) -> Option<&str> {
        let jar = self.jars.get(&address.to_string())?;
        jar.iter().find(|(name, _)| name.starts_with(beginning)).map(|(_, value)| value.as_str())
    }
}

/// Has them begin again until the store is there.
async fn is_ready(address: SocketAddr) {
    until("the store to be there", async || {
        let answer = client::get(address, "/.well-known/jwks.json").await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[track_caller]
fn query(url: &str, name: &str) -> String {
    let pairs = url.split_once('?').unwrap_or_else(|| panic!("{url}")).1.split('&');
    let found = pairs.filter_map(|pair| pair.split_once('=')).find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no {name} in {url}")).1.to_owned()
}

#[tokio::test]
async fn somebody_logs_in_at_a_real_provider_and_has_a_session_as_any_other() {
    let address = free_address();
    let provider = Provider::start(&[back_to(address)], |_| ()).await;
    let shop = Shop::open(address, &provider.issuer(), "", "").await;
    is_ready(address).await;
    let mut han = Person::default();
    let wanted = format!("http://{address}/describe/orders?a=b&c=%2F");

    let led = han.page(&wanted).await;
    assert_eq!(led.status, 302, "{led:?}");
    assert_eq!(led.header("cache-control"), Some("no-store"));
    let cookie = led.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-oidc-"), "{cookie}");
    assert!(cookie.ends_with("; Path=/; Max-Age=600; HttpOnly; Secure; SameSite=Lax"), "{cookie}");
    let location = led.header("location").unwrap().to_owned();
    assert!(
        location.starts_with(&format!("http://{}/auth?response_type=code&", provider.address)),
        "{location}"
    );
    assert_eq!(query(&location, "code_challenge_method"), "S256");
    assert_eq!(query(&location, "code_challenge").len(), 43);
    assert_eq!((query(&location, "state").len(), query(&location, "nonce").len()), (32, 32));
    assert!(!cookie.contains(&query(&location, "state")), "the cookie is sealed");

    let mut han = Person::default();
    let (url, page) = han.open(&wanted).await;
    assert_eq!((url.as_str(), page.status.as_u16()), (wanted.as_str(), 200), "{page:?}");
    let seen = page.text();
    assert!(seen.contains("han") && seen.contains("staff"), "who it is: {seen}");
    assert!(seen.contains("Bearer ey"), "the application sees the token as of any session: {seen}");
    assert!(!seen.contains("__Host-"), "naru's cookies are between browsers and naru: {seen}");
    assert_eq!(han.cookie(address, "__Host-oidc-"), None, "the attempt is over");

    // A script of the page refreshes, and has the token itself.
    let refreshed = han.ask(Method::POST, &format!("http://{address}/api/key/refresh"), None, &[]).await;
    assert_eq!(refreshed.status, 200);
    let token = refreshed.json()["accessToken"].as_str().unwrap().to_owned();
    let claims = token.split('.').nth(1).and_then(naru_jose::secret::from_text).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["sub"], &claims["email"]), (&json!("han"), &json!("han@example.com")));
    assert_eq!(claims["roles"], json!(["staff", "ops"]), "not only texts");
    assert_eq!(claims.get("filler"), None, "only what is asked for");
    let bearer = format!("Bearer {token}");
    let mut script = Person::default();
    let served = script.ask(Method::GET, &wanted, None, &[("authorization", &bearer)]).await;
    assert_eq!(served.status, 200);

    // Out: here at once, whoever has a copy of the token.
    let out = han.ask(Method::POST, &format!("http://{address}/api/auth/logout"), None, &[]).await;
    assert_eq!(out.status, 204);
    assert_eq!(han.cookie(address, ""), None, "nothing is left");
    is_to_log_in(&script.ask(Method::GET, &wanted, None, &[("authorization", &bearer)]).await);
    assert_eq!(han.page(&wanted).await.status, 302, "he logs in again");
    drop(shop);
}

#[tokio::test]
async fn scripts_are_told_401_and_people_are_led() {
    let address = free_address();
    let provider = Provider::start(&[back_to(address)], |_| ()).await;
    let shop = Shop::open(address, &provider.issuer(), ", startPath: /login", "").await;
    is_ready(address).await;
    let mut person = Person::default();
    let url = format!("http://{address}/describe");
    for headers in [
        &[][..],
        &[("accept", "application/json")],
        &[("accept", "text/html"), ("sec-fetch-mode", "cors")],
        &[("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")],
        &[("accept", "text/html"), ("authorization", "Bearer x.y.z")],
        &[("accept", "text/html"), ("sec-purpose", "prefetch")],
    ] {
        let answer = person.ask(Method::GET, &url, None, headers).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert!(answer.header("www-authenticate").is_some() && answer.header("set-cookie").is_none());
    }
    let posted = person.ask(Method::POST, &url, Some("a=b"), PAGE).await;
    assert_eq!(posted.status, 401, "what was sent would be lost");
    assert_eq!(person.page(&format!("http://{address}/describe/public")).await.status, 200);
    assert_eq!(person.page(&url).await.status, 302);
    // A link that says so leads there, and back to where it says; to no other host.
    for (wanted, back) in [
        ("?return=%2Fdescribe%2Fx%3Fy", "/describe/x?y"),
        ("?return=%2F%2Fevil.example%2F", "/"),
        ("?return=https%3A%2F%2Fevil.example%2F", "/"),
        ("?return=%2F%5Cevil.example", "/"),
    ] {
        let mut person = Person::default();
        let url = format!("http://{address}/login{wanted}");
        let callback = person.comes_back(&url).await;
        let answer = person.page(&callback).await;
        assert_eq!(answer.header("location"), Some(format!("http://{address}{back}").as_str()), "{answer:?}");
    }
    let odd = format!("http://{address}//evil.example/x");
    let mut person = Person::default();
    let callback = person.comes_back(&odd).await;
    let answer = person.page(&callback).await;
    assert!(answer.header("location").unwrap().starts_with(&format!("http://{address}/")), "{answer:?}");
    drop(shop);
}

#[tokio::test]
async fn whoever_has_logged_in_is_refreshed_on_his_way_and_another_login_ends_the_session_before() {
    let address = free_address();
    let provider = Provider::start(&[back_to(address)], |_| ()).await;
    let shop = Shop::open(
        address,
        &provider.issuer(),
        ", startPath: /login",
        "  keys: { rotateEvery: 2s, grace: 0s }\n",
    )
    .await;
    is_ready(address).await;
    let mut han = Person::default();
    let url = format!("http://{address}/describe");
    han.open(&url).await;
    let first = han.cookie(address, "__Host-accessToken").unwrap().to_owned();
    until("the key to be replaced, and the cookie with it", async || {
        let answer = han.page(&url).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        (han.cookie(address, "__Host-accessToken") != Some(&first)).then_some(())
    })
    .await;
    // What a page of somebody else has the browser send does nothing.
    let unsafe_one =
        |origin: &'static str, site: &'static str| [("origin", origin), ("sec-fetch-site", site)];
    let forged =
        han.ask(Method::POST, &url, Some("a=b"), &unsafe_one("https://evil.example", "cross-site")).await;
    assert!(matches!(forged.status.as_u16(), 401 | 403), "{forged:?}");
    assert_ne!(forged.text(), "", "it is refused by naru");
    // Another login of the same browser.
    let sid = |person: &Person| {
        let token = person.cookie(address, "__Host-accessToken").unwrap().to_owned();
        let claims = token.split('.').nth(1).and_then(naru_jose::secret::from_text).unwrap();
        serde_json::from_slice::<Value>(&claims).unwrap()["sid"].as_str().unwrap().to_owned()
    };
    let before = han.clone();
    han.open(&format!("http://{address}/login?return=/describe")).await;
    assert_ne!(sid(&before), sid(&han), "a login is another session");
    let mut before = before;
    let stale = before.ask(Method::POST, &format!("http://{address}/api/key/refresh"), None, &[]).await;
    is_to_log_in(&stale);
    drop(shop);
}

#[tokio::test]
async fn clients_of_each_kind_are_known_to_a_real_provider() {
    // Public; with the secret in the body; with what is said where nothing is said, at a provider that takes only that.
    for (more, change) in [
        (", clientSecret: null", json!({ "token_endpoint_auth_method": "none", "client_secret": null })),
        (
            ", clientAuthentication: client_secret_post",
            json!({ "token_endpoint_auth_method": "client_secret_post" }),
        ),
        (", clientAuthentication: client_secret_basic", json!({})),
    ] {
        let address = free_address();
        let change = |settings: &mut Value| {
            let client = settings["clients"][0].as_object_mut().unwrap();
            client.extend(change.as_object().unwrap().clone());
            client.retain(|_, value| !value.is_null());
        };
        let provider = Provider::start(&[back_to(address)], change).await;
        let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
        let login = oidc(&provider.issuer(), &files, "");
        let login = match more {
            ", clientSecret: null" => {
                let secret = files.path("secret");
                login.replace(&format!("clientSecret: {{ file: {} }}, ", secret.display()), "")
            }
            more => login.replace(", timeout: 10s", &format!("{more}, timeout: 10s")),
        };
        let naru = start(documents(&upstream, address, &login, &kept_in(&files)));
        is_ready(address).await;
        let (_, page) = Person::default().open(&format!("http://{address}/describe")).await;
        assert_eq!(page.status, 200, "{more}: {page:?}");
        drop(naru);
    }
}

#[tokio::test]
async fn who_logs_out_with_a_form_is_led_to_the_provider_and_back() {
    let address = free_address();
    let provider = Provider::start(&[back_to(address)], |_| ()).await;
    let shop = Shop::open(address, &provider.issuer(), ", logoutAtProvider: true", "").await;
    is_ready(address).await;
    let mut han = Person::default();
    let out = han.ask(Method::POST, &format!("http://{address}/api/auth/logout"), Some(""), PAGE).await;
    assert_eq!(out.status, 401, "nobody is logged in: {out:?}");
    han.open(&format!("http://{address}/describe")).await;
    let out = han.ask(Method::POST, &format!("http://{address}/api/auth/logout"), Some(""), PAGE).await;
    assert_eq!(out.status, 303, "{out:?}");
    let location = out.header("location").unwrap();
    assert!(
        location.starts_with(&format!("http://{}/session/end?client_id=", provider.address)),
        "{location}"
    );
    assert_eq!(
        query(location, "post_logout_redirect_uri"),
        format!("http%3A%2F%2F127.0.0.1%3A{}%2F", address.port())
    );
    assert_eq!(han.cookie(address, "__Host-accessToken"), None);
    let page = han.page(location).await;
    assert_eq!(page.status, 200, "the provider knows the client and where it sends people: {}", page.text());
    assert!(page.text().contains("form.submit()"), "{}", page.text());
    drop(shop);
}
