//! Nobody is let in by what was not given for him, and nobody is made to be somebody else.

use naru_jose::{Algorithm, SigningKey};

use super::pretender::{Pretender, key};
use super::*;

#[tokio::test]
async fn what_comes_back_to_another_browser_or_twice_lets_nobody_in() {
    let address = free_address();
    let provider = Provider::start(&[back_to(address)], |_| ()).await;
    let shop = Shop::open(address, &provider.issuer(), "", "").await;
    is_ready(address).await;
    let url = format!("http://{address}/describe");
    let refused = async |person: &mut Person, url: &str| {
        let answer = person.page(url).await;
        assert_eq!(answer.status, 400, "{url}: {answer:?}");
        assert_eq!((answer.header("location"), person.cookie(address, "__Host-accessToken")), (None, None));
        assert!(answer.text().contains("another browser"), "{}", answer.text());
    };

    // Login CSRF: somebody else's answer, with his state, in a browser that was never sent, or was sent for another.
    let mut eve = Person::default();
    let hers = eve.comes_back(&url).await;
    refused(&mut Person::default(), &hers).await;
    let mut han = Person::default();
    let his = han.comes_back(&url).await;
    refused(&mut han.clone(), &hers).await;
    // Her code with his state.
    let swapped = his.replace(&query(&his, "code"), &query(&hers, "code"));
    let injected = han.clone().page(&swapped).await;
    assert_eq!(injected.status, 400, "the code is bound to her verifier: {injected:?}");
    // That attempt is over now: what was his own is not taken after it, by whichever copy of the browser.
    refused(&mut han.clone(), &his).await;

    // A state that is none, or was changed; a cookie that was, or is there twice.
    let mut kim = Person::default();
    let back = kim.comes_back(&url).await;
    let state = query(&back, "state");
    for other in ["", "x", "00000000000000000000000000000000", &state.to_uppercase(), &state[..31]] {
        if other != state {
            refused(&mut kim.clone(), &back.replace(&state, other)).await;
        }
    }
    refused(&mut kim.clone(), &back.replace("code=", "kode=")).await;
    refused(&mut kim.clone(), &format!("{back}&state={state}")).await;
    refused(&mut kim.clone(), &format!("{back}&code=x")).await;
    let mut changed = kim.clone();
    let jar = changed.jars.get_mut(&address.to_string()).unwrap();
    let (name, value) = jar.iter().next().map(|(name, value)| (name.clone(), value.clone())).unwrap();
    let other = if value.ends_with('A') { "B" } else { "A" };
    jar.insert(name.clone(), format!("{other}{}", &value[1..]));
    refused(&mut changed, &back).await;
    let mut renamed = kim.clone();
    let jar = renamed.jars.get_mut(&address.to_string()).unwrap();
    jar.clear();
    jar.insert("__Host-oidc-12345678".to_owned(), value.clone());
    refused(&mut renamed, &back).await;
    let twice = format!("{name}={value}; {name}={value}");
    let mut other = Person::default();
    let answer = other.ask(Method::GET, &back, None, &[("cookie", &twice)]).await;
    assert_eq!(answer.status, 400);

    // Himself; and then nobody again, though every byte is the same.
    let mut copy = kim.clone();
    assert_eq!(kim.page(&back).await.status, 302);
    assert!(kim.cookie(address, "__Host-accessToken").is_some());
    refused(&mut copy, &back).await;
    drop(shop);
}

#[tokio::test]
async fn an_answer_is_used_once_at_all_gateways_together() {
    let (one, other) = (free_address(), free_address());
    let redis = naru_tests::redis::Redis::start().await;
    let provider = Provider::start(&[back_to(one), back_to(other)], |_| ()).await;
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let seal = files.write("seal", "0123456789abcdef0123456789abcdef");
    let store = format!(
        "  store: {{ redis: {{ urls: ['{}'] }}, seal: {{ file: {} }}, pollEvery: 50ms, timeout: 10s }}",
        redis.url(),
        seal.display()
    );
    // Both are known to browsers as the first.
    let login = oidc(&provider.issuer(), &files, &format!(", origin: 'http://{one}'"));
    let _gateways = [one, other].map(|address| start(documents(&upstream, address, &login, &store)));
    is_ready(one).await;
    is_ready(other).await;
    let mut han = Person::default();
    let back = han.comes_back(&format!("http://{one}/describe")).await;
    assert!(back.starts_with(&back_to(one)), "{back}");
    let mut copies: Vec<Person> = (0..8).map(|_| han.clone()).collect();
    for copy in &mut copies {
        let jar = copy.jars[&one.to_string()].clone();
        copy.jars.insert(other.to_string(), jar);
    }
    let there = back.replace(&one.to_string(), &other.to_string());
    let all = copies
        .iter_mut()
        .enumerate()
        .map(async |(at, copy)| copy.page(if at % 2 == 0 { &back } else { &there }).await.status.as_u16());
    let mut statuses = Vec::new();
    // At once, as far as one task has them.
    let mut all: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        all.retain_mut(|one| match one.as_mut().poll(cx) {
            std::task::Poll::Ready(status) => {
                statuses.push(status);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    statuses.sort_unstable();
    assert_eq!(statuses, [302, 400, 400, 400, 400, 400, 400, 400]);
}

/// Led there, and back with a code that the pretender answers as `given` says.
async fn tried(
    address: SocketAddr,
    pretender: &Pretender,
    given: impl FnOnce(&Pretender, &str),
) -> (Person, Answer) {
    let mut person = Person::default();
    let led = person.page(&format!("http://{address}/describe")).await;
    let led = led.header("location").unwrap_or_else(|| panic!("{led:?}")).to_owned();
    given(pretender, &led);
    let back = format!("http://{address}/oidc/callback?code=x&state={}", query(&led, "state"));
    let answer = person.page(&back).await;
    (person, answer)
}

#[tokio::test]
async fn an_id_token_that_is_not_for_this_login_lets_nobody_in() {
    let address = free_address();
    let pretender = Pretender::start().await;
    let (own, next, stranger) = (key("own"), key("next"), key("own"));
    pretender.publishes(&[&own]);
    let shop = Shop::open(address, &pretender.issuer, "", "").await;
    is_ready(address).await;
    let (_, honest) = tried(address, &pretender, |it, led| it.gives(&own, &it.honest(led))).await;
    assert_eq!(honest.status, 302, "{honest:?}");

    let changed = |name: &'static str, value: Value| {
        let own = &own;
        move |it: &Pretender, led: &str| {
            let mut claims = it.honest(led);
            claims[name] = value;
            it.gives(own, &claims);
        }
    };
    let refused = async |what: &str, given: &dyn Fn(&Pretender, &str)| {
        let (person, answer) = tried(address, &pretender, given).await;
        assert_eq!(answer.status, 502, "{what}: {answer:?}");
        assert_eq!(person.cookie(address, "__Host-accessToken"), None, "{what}");
        assert!(answer.header("authorization").is_none() && answer.header("location").is_none(), "{what}");
    };
    for (name, value) in [
        ("nonce", json!("00000000000000000000000000000000")),
        ("nonce", Value::Null),
        ("iss", json!("https://another.example")),
        ("aud", json!("another")),
        ("aud", json!(["another", CLIENT])),
        ("azp", json!("another")),
        ("exp", json!(1_000)),
        ("iat", json!(4_000_000_000_u64)),
        ("nbf", json!(4_000_000_000_u64)),
        ("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ")),
        ("sub", json!("")),
        ("sub", Value::Null),
    ] {
        let what = format!("{name}: {value}");
        let give = changed(name, value.clone());
        let give = std::cell::RefCell::new(Some(give));
        refused(&what, &|it, led| give.borrow_mut().take().unwrap()(it, led)).await;
    }
    refused("somebody else's signature, under the same name", &|it, led| {
        it.gives(&stranger, &it.honest(led))
    })
    .await;
    let hmac = SigningKey::from_bytes(Algorithm::Hs256, "own", SECRET.repeat(3).as_bytes()).unwrap();
    refused("signed with the client's secret", &|it, led| it.gives(&hmac, &it.honest(led))).await;
    refused("not signed", &|it, led| {
        let encoded = |text: &str| naru_jose::secret::to_text(text.as_bytes());
        let token = format!("{}.{}.", encoded(r#"{"alg":"none"}"#), encoded(&it.honest(led).to_string()));
        it.gives_token(&token);
    })
    .await;
    refused("an access token for an ID token", &|it, led| {
        let text = own.sign_text(
            r#"{"alg":"ES256","kid":"own","typ":"at+jwt"}"#,
            it.honest(led).to_string().as_bytes(),
        );
        it.gives_token(&text);
    })
    .await;
    refused("no token", &|it, _| it.set(|said| said.token = (200, "{}".to_owned()))).await;
    refused("no JSON", &|it, _| it.set(|said| said.token = (200, "hello".to_owned()))).await;

    // A token of the login before, which somebody has kept.
    let mut before = None;
    let (_, first) = tried(address, &pretender, |it, led| {
        let claims = it.honest(led);
        it.gives(&own, &claims);
        before = Some(it.said.lock().unwrap().token.clone());
    })
    .await;
    assert_eq!(first.status, 302);
    refused("a token of another login", &|it, _| it.set(|said| said.token = before.clone().unwrap())).await;

    // A key that has come since.
    pretender.publishes(&[&own, &next]);
    let fetches = pretender.count("GET /keys");
    until("the new key to be fetched", async || {
        let (_, answer) = tried(address, &pretender, |it, led| it.gives(&next, &it.honest(led))).await;
        (answer.status == 302).then_some(())
    })
    .await;
    assert!(pretender.count("GET /keys") > fetches);
    drop(shop);
}

#[tokio::test]
async fn an_answer_of_another_provider_is_told_by_its_name() {
    let address = free_address();
    let pretender = Pretender::start().await;
    let own = key("own");
    pretender.publishes(&[&own]);
    pretender.set(|said| said.metadata["authorization_response_iss_parameter_supported"] = json!(true));
    let shop = Shop::open(address, &pretender.issuer, "", "").await;
    is_ready(address).await;
    let issuer = pretender.issuer.replace(':', "%3A").replace('/', "%2F");
    for (iss, status) in [
        (String::new(), 400),
        ("&iss=https%3A%2F%2Fanother.example".to_owned(), 400),
        (format!("&iss={issuer}&iss={issuer}"), 400),
        (format!("&iss={issuer}"), 302),
    ] {
        let before = pretender.count("POST /token");
        let mut person = Person::default();
        let led =
            person.page(&format!("http://{address}/describe")).await.header("location").unwrap().to_owned();
        pretender.gives(&own, &pretender.honest(&led));
        let state = query(&led, "state");
        let answer = person.page(&format!("http://{address}/oidc/callback?code=x&state={state}{iss}")).await;
        assert_eq!(answer.status, status, "{iss}: {answer:?}");
        let was_asked = pretender.count("POST /token") > before;
        assert_eq!(was_asked, status == 302, "{iss}: no code goes where it does not belong");
    }
    drop(shop);
}

#[tokio::test]
async fn what_the_provider_is_told_is_what_it_needs() {
    let address = free_address();
    let pretender = Pretender::start().await;
    let own = key("own");
    pretender.publishes(&[&own]);
    let shop = Shop::open(address, &pretender.issuer, ", parameters: { prompt: login }", "").await;
    is_ready(address).await;
    let mut challenge = String::new();
    let (_, answer) = tried(address, &pretender, |it, led| {
        challenge = query(led, "code_challenge");
        assert_eq!(query(led, "prompt"), "login");
        it.gives(&own, &it.honest(led));
    })
    .await;
    assert_eq!(answer.status, 302);
    let said = pretender.said.lock().unwrap();
    let at = said.asked.iter().position(|(line, _)| line == "POST /token").unwrap();
    let form = format!("x?{}", said.asked[at].1);
    let verifier = query(&form, "code_verifier");
    let own = naru_jose::secret::to_text(&naru_jose::secret::sha256(verifier.as_bytes()));
    assert_eq!((own, verifier.len()), (challenge, 43));
    assert_eq!(
        query(&form, "redirect_uri"),
        format!("http%3A%2F%2F127.0.0.1%3A{}%2Foidc%2Fcallback", address.port())
    );
    let basic = said.heads[at]
        .lines()
        .find_map(|line| line.strip_prefix("authorization: Basic "))
        .unwrap()
        .to_owned();
    use base64::Engine as _;
    let basic = base64::engine::general_purpose::STANDARD.decode(basic).unwrap();
    assert_eq!(String::from_utf8(basic).unwrap(), "shop%20%26%20co:a%20secret%2Fwith%2B%253F%3A%3F%26%3D");
    assert!(!form.contains("secret"), "said once");
    drop(said);
    drop(shop);
}
