//! What is for one client, and what each is told, beside answers that all may be given.

use http::{HeaderName, HeaderValue, Method};
use naru_base::Json;
use naru_jose::{Algorithm, Jwks, SigningKey};
use naru_proxy::Options;
use naru_spec::CachePolicy;
use naru_tests::client::request;
use naru_tests::{Answer, Bootstrap, Client, Naru, Outbound, Speaks, Upstream};

use super::{ALL, config_of};

const TWO: Options = Options { workers: 2, seed: Some(1) };

async fn get(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut asked = request(Method::GET, path, Outbound::empty());
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        asked.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    client.exchange(asked).await
}

/// A token of each, and a listener that takes them out of requests.
fn guarded(up: &Upstream) -> (Bootstrap, impl Fn(&str) -> String) {
    let key = SigningKey::generate(Algorithm::Es256, "a").unwrap();
    let keys = Jwks::of(vec![key.public().clone()]).public();
    let filter = format!(
        "- name: envoy.filters.http.jwt_authn\n  typed_config:\n    \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication\n    \
         providers:\n      one:\n        issuer: me\n        forward: false\n        \
         from_params: [token]\n        from_headers: [{{ name: authorization, value_prefix: 'Bearer ' }}]\n        \
         local_jwks: {{ inline_string: '{keys}' }}\n    \
         rules: [{{ match: {{ prefix: / }}, requires: {{ provider_name: one }} }}]"
    );
    let token = move |who: &str| {
        let claims = [("iss", Json::from("me")), ("sub", who.into()), ("exp", 9_000_000_000_i64.into())];
        key.sign(&Json::Map(claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
    };
    (Bootstrap::new(ALL).cluster("up", up.address, "").filter(&filter), token)
}

#[tokio::test]
async fn an_answer_to_somebody_who_was_identified_is_his_though_his_token_is_gone() {
    let up = Upstream::plain(Speaks::Http1).await;
    let (bootstrap, token) = guarded(&up);
    let naru = Naru::start_on(config_of(&bootstrap, &CachePolicy::default()), &TWO);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for (path, says, is_shared) in [
        ("/describe/mine", "cache-control: max-age=600", false),
        ("/describe/all", "cache-control: max-age=600 | cache-control: public", true),
    ] {
        let before = up.requests();
        for who in ["ann", "bob"] {
            let bearer = format!("Bearer {}", token(who));
            let answer = get(&mut client, path, &[("authorization", &bearer), ("x-reply", says)]).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(!answer.text().contains(&bearer), "the token goes no further");
            // The same where it was said in the query.
            let target = format!("{path}?token={}", token(who));
            let answer = get(&mut client, &target, &[("x-reply", says)]).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert_eq!(up.requests() - before, if is_shared { 1 } else { 4 }, "{path}");
    }
    assert_eq!(
        get(&mut client, "/describe/all", &[]).await.status,
        401,
        "nobody is given what others may have"
    );
}

/// Somebody else says who it is, in a header that origins believe.
#[tokio::test]
async fn an_answer_to_somebody_whom_others_have_named_is_his() {
    let (up, asked) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
    let filter = "- name: envoy.filters.http.ext_authz\n  typed_config:\n    \
        \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz\n    \
        transport_api_version: V3\n    allowed_headers: { patterns: [{ exact: x-reply }] }\n    http_service:\n      \
        server_uri: { uri: 'http://asked.test', cluster: asked, timeout: 20s }\n      \
        path_prefix: /describe\n      \
        authorization_response: { allowed_upstream_headers: { patterns: [{ exact: x-user }] } }";
    let bootstrap =
        Bootstrap::new(ALL).cluster("up", up.address, "").cluster("asked", asked.address, "").filter(filter);
    let naru = Naru::start_on(config_of(&bootstrap, &CachePolicy::default()), &TWO);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for (path, says, fetched) in [
        ("/describe/mine", "cache-control: max-age=600", [true, true]),
        ("/describe/public", "cache-control: public | cache-control: max-age=600", [true, false]),
    ] {
        for (who, is_fetched) in ["ann", "bob"].into_iter().zip(fetched) {
            let before = up.requests();
            let reply = format!("{says} | x-user: {who}");
            let answer = get(&mut client, path, &[("x-reply", &reply)]).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(up.requests() > before, is_fetched, "{path} {who}");
        }
    }
    // Who is only let in is nobody in particular.
    for (at, is_fetched) in [true, false].into_iter().enumerate() {
        let before = up.requests();
        get(&mut client, "/describe/all", &[("x-reply", "cache-control: max-age=600")]).await;
        assert_eq!(up.requests() > before, is_fetched, "{at}");
    }
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn an_answer_from_memory_tells_of_limits_as_any_other() {
    let up = Upstream::plain(Speaks::Http1).await;
    let filter = "- name: envoy.filters.http.local_ratelimit\n  typed_config:\n    \
        \"@type\": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit\n    \
        stat_prefix: a\n    token_bucket: { max_tokens: 3, tokens_per_fill: 3, fill_interval: 3600s }\n    \
        filter_enabled: { default_value: { numerator: 100 } }\n    \
        filter_enforced: { default_value: { numerator: 100 } }\n    enable_x_ratelimit_headers: DRAFT_VERSION_03";
    let bootstrap = Bootstrap::new(ALL).cluster("up", up.address, "").filter(filter);
    let naru = Naru::start_on(config_of(&bootstrap, &CachePolicy::default()), &TWO);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let mut said = Vec::new();
    for _ in 0..4 {
        let answer = get(&mut client, "/describe", &[("x-reply", "cache-control: max-age=600")]).await;
        let remaining = answer.header("x-ratelimit-remaining").map(str::to_owned);
        said.push((answer.status.as_u16(), remaining));
    }
    let left = |count: &str| Some(count.to_owned());
    assert_eq!(said, [(200, left("2")), (200, left("1")), (200, left("0")), (429, left("0"))]);
    assert_eq!(up.requests(), 1);
}
