//! Tokens, cookies and pages that are not what they say.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::*;

fn part(text: &str) -> String {
    BASE64.encode(text)
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let naru = start(config(&upstream, &kept_in(&files)));
    let mut browser = Browser::of(&naru, "han").await;
    let token = browser.access.clone();
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let header_text = String::from_utf8(BASE64.decode(header).unwrap()).unwrap();
    let payload_text = String::from_utf8(BASE64.decode(payload).unwrap()).unwrap();
    let other = Browser::of(&naru, "eve").await.access;
    let other_signature = other.split('.').nth(2).unwrap();
    let forged = [
        format!("{}.{payload}.", part(&header_text.replace("ES256", "none"))),
        format!("{}.{payload}.{signature}", part(&header_text.replace("ES256", "none"))),
        format!("{}.{payload}.{signature}", part(&header_text.replace("ES256", "HS256"))),
        format!("{header}.{}.{signature}", part(&payload_text.replace("\"han\"", "\"eve\""))),
        format!("{header}.{payload}.{other_signature}"),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{}", &signature[..40]),
        format!("{header}.{payload}.{signature}x"),
        "x".repeat(20_000),
        String::new(),
        "....".to_owned(),
    ];
    for token in forged {
        browser.access = token;
        let answer = browser.get("/describe").await;
        assert_eq!(answer.status, 401, "{}", browser.access);
        assert!(!answer.headers.contains_key("x-relogin-required"), "{answer:?}");
        assert!(!answer.headers.contains_key("authorization"));
    }
    // A key that nobody knows may have been ours: the refresh token decides.
    let unknown = header_text.replacen("\"kid\":\"", "\"kid\":\"00000000000000000000000000000000", 1);
    let unknown =
        unknown.replace(&unknown[unknown.find("00000000000000000000000000000000").unwrap() + 32..][..32], "");
    browser.access = format!("{}.{payload}.{signature}", part(&unknown));
    is_to_refresh(&browser.get("/describe").await);
    // Two are none.
    let both = [("authorization", &*format!("Bearer {token}")), ("authorization", "Bearer x")];
    assert_eq!(browser.exchange(Method::GET, "/describe", &both).await.status, 401);
    browser.access = token;
    assert_eq!(browser.get("/describe").await.status, 200);
}

#[tokio::test]
async fn forged_cookies_are_refused_and_forgotten() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let naru = start(config(&upstream, &kept_in(&files)));
    let mut browser = Browser::of(&naru, "han").await;
    let own = browser.cookie.clone();
    let mut changed = own.clone().into_bytes();
    let at = changed.len() - 9;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let access = format!("refreshToken={}", browser.access);
    for cookie in [
        String::from_utf8(changed).unwrap(),
        "refreshToken=".to_owned(),
        "refreshToken=abc".to_owned(),
        format!("refreshToken={}", "x".repeat(5_000)),
        format!("{own}; {own}"),
        access,
        "other=1".to_owned(),
    ] {
        browser.cookie = cookie;
        let answer = browser.refresh().await;
        is_to_log_in(&answer);
        assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    }
    // None of these has harmed the session.
    browser.cookie = own;
    assert_eq!(browser.refresh().await.status, 200);
}

#[tokio::test]
async fn pages_of_other_origins_ask_for_nothing_unless_they_are_named() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let lines = format!("  cors: {{ allowOrigins: ['https://app.test'] }}\n{}", kept_in(&files));
    let naru = start(config(&upstream, &lines));
    let mut browser = Browser::of(&naru, "han").await;
    let cookie = browser.cookie.clone();
    let evil = [("cookie", &*cookie), ("origin", "https://evil.test"), ("sec-fetch-site", "cross-site")];
    let refused = browser.exchange(Method::POST, "/api/key/refresh", &evil).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("access-control-allow-origin"), None);
    assert_eq!(refused.header("set-cookie"), None);

    let app = ("origin", "https://app.test");
    let asks =
        [app, ("access-control-request-method", "POST"), ("access-control-request-headers", "authorization")];
    let preflight = browser.exchange(Method::OPTIONS, "/api/key/refresh", &asks).await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://app.test"));
    assert_eq!(preflight.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(preflight.header("access-control-allow-methods"), Some("POST"));

    let allowed = browser.exchange(Method::POST, "/api/key/refresh", &[("cookie", &*cookie), app]).await;
    assert_eq!(allowed.status, 200);
    let exposed = "X-Token-Refresh-Needed, X-Relogin-Required, Authorization";
    assert_eq!(allowed.header("access-control-expose-headers"), Some(exposed));

    let denied = browser.exchange(Method::GET, "/describe", &[app, ("authorization", "Bearer a.b.c")]).await;
    assert_eq!(denied.status, 401);
    assert_eq!(denied.header("access-control-allow-origin"), Some("https://app.test"));
    assert_eq!(denied.header("access-control-expose-headers"), Some(exposed));
    // A browser asks without a token whether it may ask: the application answers.
    assert_eq!(browser.exchange(Method::OPTIONS, "/describe", &asks).await.status, 200);
    assert_eq!(browser.exchange(Method::GET, "/api/key/refresh", NONE).await.status, 405);
}
