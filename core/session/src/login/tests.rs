//! Is nobody led, let in or taken for another who should not be?

use http::HeaderValue;
use naru_base::Chance;
use naru_spec::{OidcClaim, OidcSite};

use super::*;

const SKEW: Duration = Duration::from_secs(60);

fn settings() -> OidcLogin {
    let mut settings = OidcLogin::new("https://id.example", "shop & co");
    settings.sites = vec![site("id.example", 443), site("keys.example", 8443)];
    settings.claims = vec![claim("email", "email"), claim("groups", "roles"), claim("none", "none")];
    settings
}

fn site(host: &str, port: u16) -> OidcSite {
    OidcSite { is_tls: true, host: host.to_owned(), port, cluster: host.to_owned() }
}

fn claim(claim: &str, name: &str) -> OidcClaim {
    OidcClaim { claim: claim.to_owned(), name: name.to_owned() }
}

fn map(members: &[(&str, Json)]) -> Json {
    Json::Map(members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn said() -> Vec<(&'static str, Json)> {
    vec![
        ("issuer", "https://id.example".into()),
        ("authorization_endpoint", "https://login.example/authorize?tenant=a".into()),
        ("token_endpoint", "https://id.example/token".into()),
        ("jwks_uri", "https://keys.example:8443/keys".into()),
        ("end_session_endpoint", "https://id.example/out".into()),
    ]
}

fn metadata() -> Metadata {
    Metadata::read(&settings(), &map(&said())).unwrap()
}

fn at(seconds: u64) -> WallTime {
    WallTime((1_000_000 + seconds) * 1_000_000_000)
}

fn attempt() -> Attempt {
    Attempt {
        state: Id(0x1234_5678_0000_0000_0000_0000_0000_0001),
        nonce: Id(2),
        verifier: [7; 32],
        began: at(0),
        origin: "https://shop.example".to_owned(),
        back: "/orders?a=b".to_owned(),
    }
}

fn same(one: &[u8], other: &[u8]) -> bool {
    one == other
}

type Change<'a> = dyn Fn(&mut Vec<(&'static str, Json)>) + 'a;

#[test]
fn a_person_who_waits_for_a_page_is_led_and_a_script_is_not() {
    let asks = |headers: &[(&'static str, &'static str)]| {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(*name, HeaderValue::from_static(value));
        }
        is_navigation(&Method::GET, &all)
    };
    let html = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    assert!(asks(&[("sec-fetch-mode", "navigate"), html]) && asks(&[html]));
    for headers in [
        &[][..],
        &[("accept", "*/*")],
        &[("accept", "application/json")],
        &[("sec-fetch-mode", "cors"), html],
        &[("sec-fetch-mode", "same-origin"), html],
        &[("sec-fetch-mode", "websocket"), html],
        &[("sec-fetch-mode", "navigate"), ("sec-purpose", "prefetch;prerender")],
        &[html, ("x-requested-with", "XMLHttpRequest")],
        &[html, ("authorization", "Bearer x")],
        &[html, ("upgrade", "websocket")],
    ] {
        assert!(!asks(headers), "{headers:?}");
    }
    let mut html = HeaderMap::new();
    html.insert("accept", HeaderValue::from_static("text/html"));
    for method in [Method::POST, Method::HEAD, Method::OPTIONS, Method::PUT] {
        assert!(!is_navigation(&method, &html), "{method}: what it was to do would be lost");
    }
}

#[test]
fn the_way_back_is_a_path_of_this_host() {
    for path in ["/", "/a?b=c&d=%2F%2Fe", "/a//b", "/.//x", "/a:b@c"] {
        assert_eq!(way_back(path), path);
    }
    for path in
        ["", "a", "//evil.example", "/\\evil.example", "https://evil.example", "\\\\x", "/\t/x", "/a b", "/é"]
    {
        assert_eq!(way_back(path), "/", "{path:?}");
    }
    assert_eq!(way_back(&format!("/{}", "a".repeat(BACK_MAX))), "/", "there is no room for it");
    assert_eq!(wanted_back("x=1&return=%2Forders%3Fa%3Db"), "/orders?a=b");
    for query in ["", "return=", "return=%2F%2Fevil.example", "return=%zz", "return=https://evil.example"] {
        assert_eq!(wanted_back(query), "/", "{query}");
    }
    // However it is put, it is below the own origin.
    let odd = Attempt { back: "//evil.example".to_owned(), ..attempt() };
    assert_eq!(odd.way_back(), "https://shop.example//evil.example");
}

#[test]
fn he_is_led_with_what_binds_the_answer_to_him() {
    let mut settings = settings();
    settings.scopes.push("email".to_owned());
    settings.parameters.push(("prompt".to_owned(), "login".to_owned()));
    assert_eq!(
        attempt().address(&settings, &metadata(), "CHALLENGE"),
        "https://login.example/authorize?tenant=a&response_type=code&client_id=shop%20%26%20co\
&redirect_uri=https%3A%2F%2Fshop.example%2Foidc%2Fcallback&scope=openid%20email\
&state=12345678000000000000000000000001&nonce=00000000000000000000000000000002\
&code_challenge=CHALLENGE&code_challenge_method=S256&prompt=login"
    );
    assert_eq!(Attempt::cookie("12345678000"), "__Host-oidc-12345678");
    assert_eq!(Attempt::cookie("é"), "__Host-oidc-");
    let form = attempt().exchange(&settings, "a b", "v", None);
    assert_eq!(
        form,
        "grant_type=authorization_code&code=a%20b&redirect_uri=https%3A%2F%2Fshop.example%2Foidc%2Fcallback\
&code_verifier=v&client_id=shop%20%26%20co"
    );
    settings.secret = Some(naru_spec::DataSource::Inline(Vec::new()));
    assert!(!attempt().exchange(&settings, "a", "v", None).contains("client_id"), "the header says it");
    assert!(attempt().exchange(&settings, "a", "v", Some("s=")).ends_with("&client_secret=s%3D"));
}

#[test]
fn a_provider_says_where_it_is_asked_and_is_asked_nowhere_else() {
    let read = |change: &Change<'_>| {
        let mut said = said();
        change(&mut said);
        Metadata::read(&settings(), &map(&said))
    };
    let set = |name: &'static str, value: &'static str| {
        read(&|said| {
            said.retain(|(known, _)| *known != name);
            said.push((name, value.into()));
        })
    };
    let found = read(&|_| ()).unwrap();
    assert_eq!(found.endpoints.token, "https://id.example/token");
    assert!(!found.names_itself && !found.takes_post_only);
    assert!(set("issuer", "https://evil.example").is_err());
    assert!(set("issuer", "https://id.example/").is_err(), "exactly that");
    let elsewhere = set("token_endpoint", "https://169.254.169.254/token").unwrap_err();
    assert_eq!(elsewhere, "its token_endpoint is at 169.254.169.254:443: name that in login.oidc.hosts");
    assert!(set("jwks_uri", "https://keys.example/keys").is_err(), "another port");
    assert!(set("token_endpoint", "http://id.example/token").is_err());
    assert!(set("authorization_endpoint", "javascript:alert(1)").is_err());
    assert!(set("authorization_endpoint", "http://login.example/").is_err());
    assert!(set("authorization_endpoint", "https://login.example/#x").is_err());
    for name in ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"] {
        assert!(read(&|said| said.retain(|(known, _)| *known != name)).is_err(), "{name}");
    }
    let methods = |all: &[&str]| Json::List(all.iter().map(|one| Json::from(*one)).collect());
    let posted = |all: &[&str]| {
        let found = read(&|said| said.push(("token_endpoint_auth_methods_supported", methods(all)))).unwrap();
        found.is_secret_posted(&settings())
    };
    assert!(posted(&["client_secret_post", "none"]));
    assert!(!posted(&["client_secret_post", "client_secret_basic"]) && !posted(&[]));
    assert_eq!(
        found.logout(&settings(), "https://shop.example/").as_deref(),
        Some(
            "https://id.example/out?client_id=shop%20%26%20co&post_logout_redirect_uri=https%3A%2F%2Fshop.example%2F"
        )
    );
}

#[test]
fn what_comes_back_is_read_strictly() {
    let state = attempt().state;
    let read =
        Callback::read(&format!("code=a%2Fb+c&state={state}&iss=https%3A%2F%2Fid.example&x=y")).unwrap();
    assert_eq!((read.code.as_deref(), read.issuer.as_deref()), (Some("a/b c"), Some("https://id.example")));
    assert!(!format!("{read:?}").contains("a/b c"));
    for query in [
        "",
        "code=a",
        "state=b",
        "code=&state=b",
        "code=a&state=",
        "code=a&code=a&state=b",
        "code=a&state=b&state=b",
        "code=a&state=b&iss=x&iss=x",
        "code=a&error=b&state=c",
        "code=%zz&state=b",
        "code=%f&state=b",
        "code=%ff&state=b",
    ] {
        assert_eq!(Callback::read(query), Err(LoginFault::NoAnswer), "{query}");
    }
}

#[track_caller]
fn accepted(query: &str, now: WallTime, metadata: &Metadata) -> Result<String, LoginFault> {
    attempt().accept(now, &settings(), metadata, &Callback::read(query).unwrap(), same)
}

#[test]
fn only_what_this_browser_was_sent_for_is_accepted() {
    let state = attempt().state;
    let good = format!("code=c&state={state}");
    let metadata = metadata();
    assert_eq!(accepted(&good, at(599), &metadata), Ok("c".to_owned()));
    assert_eq!(accepted(&good, at(600), &metadata), Err(LoginFault::TooLate));
    assert_eq!(accepted(&good, WallTime(at(0).0 - 1), &metadata), Err(LoginFault::TooLate));
    let other = format!("code=c&state={}", Id(state.0 + 1));
    assert_eq!(accepted(&other, at(1), &metadata), Err(LoginFault::OtherBrowser));
    assert_eq!(accepted("code=c&state=x", at(1), &metadata), Err(LoginFault::OtherBrowser));
    // Mix-up: the answer names who gave it.
    let mixed = format!("{good}&iss=https%3A%2F%2Fevil.example");
    assert_eq!(accepted(&mixed, at(1), &metadata), Err(LoginFault::OtherProvider));
    let named = Metadata { names_itself: true, ..metadata.clone() };
    assert_eq!(accepted(&good, at(1), &named), Err(LoginFault::OtherProvider), "it always says so");
    assert_eq!(accepted(&format!("{good}&iss=https%3A%2F%2Fid.example"), at(1), &named), Ok("c".to_owned()));
    let denied = accepted(&format!("error=access_denied&state={state}"), at(1), &metadata).unwrap_err();
    assert_eq!(
        (denied.to_string().as_str(), denied.reason()),
        ("the provider says access_denied", Reason::SessionLoginDenied)
    );
    let strange = accepted(&format!("error=a%0Ab&state={state}"), at(1), &metadata).unwrap_err();
    assert_eq!(strange.to_string(), "the provider says no", "nobody writes into our logs");
    // Nobody is told that it was denied but who was sent.
    assert_eq!(accepted("error=access_denied&state=x", at(1), &metadata), Err(LoginFault::OtherBrowser));
}

fn claims() -> Vec<(&'static str, Json)> {
    let groups = Json::List(vec!["a".into(), "b".into()]);
    vec![
        ("iss", "https://id.example".into()),
        ("aud", "shop & co".into()),
        ("sub", "han".into()),
        ("exp", Json::Whole(1_000_300)),
        ("iat", Json::Whole(1_000_000)),
        ("nonce", attempt().nonce.to_string().as_str().into()),
        ("email", "han@example.com".into()),
        ("groups", groups),
        ("other", "x".into()),
    ]
}

fn judged(change: &Change<'_>) -> Result<(String, Vec<(String, Said)>), LoginFault> {
    let mut claims = claims();
    change(&mut claims);
    let claims = map(&claims);
    let token = IdToken { typ: Some("JWT"), claims: &claims, at_hash: Some("half") };
    identity(&settings(), &token, attempt().nonce, at(10), SKEW, same)
}

fn with(name: &'static str, value: Json) -> Result<(String, Vec<(String, Said)>), LoginFault> {
    judged(&|claims| {
        claims.retain(|(known, _)| *known != name);
        claims.push((name, value.clone()));
    })
}

#[test]
fn an_id_token_for_this_login_says_who_it_is() {
    let (subject, claims) = judged(&|_| ()).unwrap();
    assert_eq!(subject, "han");
    let groups = Json::List(vec!["a".into(), "b".into()]);
    let email = Said::Text("han@example.com".to_owned());
    assert_eq!(claims, [("email".to_owned(), email), ("roles".to_owned(), Said::Value(groups))]);
    let several = Json::List(vec!["shop & co".into(), "other".into()]);
    let azp = |azp: Option<&'static str>| {
        judged(&|claims| {
            claims.retain(|(known, _)| *known != "aud");
            claims.push(("aud", several.clone()));
            claims.extend(azp.map(|azp| ("azp", Json::from(azp))));
        })
    };
    assert!(azp(Some("shop & co")).is_ok());
    assert!(azp(None).is_err() && azp(Some("other")).is_err());
    assert!(with("at_hash", "half".into()).is_ok() && with("azp", "shop & co".into()).is_ok());
    assert!(with("exp", Json::Whole(999_951)).is_ok(), "clocks may be apart");
}

#[test]
fn an_id_token_for_anything_else_says_nothing() {
    for (name, value) in [
        ("iss", Json::from("https://evil.example")),
        ("iss", "https://id.example/".into()),
        ("iss", Json::Whole(1)),
        ("aud", "other".into()),
        ("aud", Json::List(vec![])),
        ("aud", Json::List(vec!["other".into(), "third".into()])),
        ("azp", "other".into()),
        ("azp", Json::Whole(1)),
        ("exp", Json::Whole(999_950)),
        ("exp", "never".into()),
        ("exp", Json::Whole(-1)),
        ("iat", Json::Whole(1_000_071)),
        ("nbf", Json::Whole(1_000_071)),
        ("nonce", "00000000000000000000000000000003".into()),
        ("nonce", "2".into()),
        ("nonce", Json::Whole(2)),
        ("at_hash", "other".into()),
        ("at_hash", Json::Whole(1)),
        ("sub", "".into()),
        ("sub", Json::Whole(7)),
        ("sub", "x".repeat(SUBJECT_MAX + 1).as_str().into()),
    ] {
        let fault = with(name, value.clone()).unwrap_err();
        assert_eq!(fault.reason(), Reason::SessionLoginInvalid, "{name} {value:?}");
    }
    for name in ["iss", "aud", "exp", "iat", "nonce", "sub"] {
        assert!(judged(&|claims| claims.retain(|(known, _)| *known != name)).is_err(), "without {name}");
    }
    let claims = map(&claims());
    for typ in ["at+jwt", "logout+jwt", "x"] {
        let token = IdToken { typ: Some(typ), claims: &claims, at_hash: None };
        assert!(identity(&settings(), &token, attempt().nonce, at(10), SKEW, same).is_err(), "{typ}");
    }
    let token = IdToken { typ: None, claims: &claims, at_hash: None };
    assert!(identity(&settings(), &token, attempt().nonce, at(10), SKEW, same).is_ok());
}

#[test]
fn an_attempt_is_read_as_it_was_written_and_nothing_else_is() {
    let own = attempt();
    let bytes = own.write();
    assert_eq!(Attempt::read(&bytes), Ok(own.clone()));
    assert!(!format!("{own:?}").contains("orders"));
    for end in 0..bytes.len() {
        assert!(Attempt::read(&bytes[..end]).is_err());
    }
    assert!(Attempt::read(&[bytes.as_slice(), b"x"].concat()).is_err());
    let mut chance = Chance::new(5);
    for _ in 0..20_000 {
        let mut changed = bytes.clone();
        for _ in 0..=chance.below(3) {
            let at = chance.below(changed.len() as u64) as usize;
            changed[at] = chance.draw() as u8;
        }
        if let Ok(read) = Attempt::read(&changed) {
            assert_eq!(read.write(), changed);
        }
    }
}

#[test]
fn whatever_comes_back_is_read_without_harm() {
    let mut chance = Chance::new(9);
    let alphabet: Vec<char> = "code=state&%+errois12aF\u{e9}\0;#/".chars().collect();
    for _ in 0..50_000 {
        let length = chance.below(60);
        let text: String =
            (0..length).map(|_| alphabet[chance.below(alphabet.len() as u64) as usize]).collect();
        let _ = Callback::read(&text);
        assert_eq!(way_back(&wanted_back(&text)), wanted_back(&text));
        let mut encoded = String::new();
        encode(&text, &mut encoded);
        assert_eq!(decoded(&encoded).as_deref(), Some(text.as_str()));
    }
}
