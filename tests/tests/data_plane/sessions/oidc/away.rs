//! A provider that is away, says no, or says nonsense: nobody is let in, nobody hangs, and it heals.

use super::pretender::{Pretender, key};
use super::*;

#[tokio::test]
async fn while_the_provider_is_away_people_are_told_so_and_who_is_logged_in_goes_on() {
    let address = free_address();
    let mut provider = Provider::at(free_address(), &[back_to(address)], |_| ());
    let shop = Shop::open(address, &provider.issuer(), "", "").await;
    is_ready(address).await;
    let url = format!("http://{address}/describe");
    let mut han = Person::default();
    let away = han.page(&url).await;
    assert_eq!((away.status.as_u16(), away.header("retry-after")), (503, Some("1")), "{away:?}");
    assert_eq!(away.text(), "The login provider does not answer.");
    assert!(away.header("set-cookie").is_none());
    assert_eq!(
        han.ask(Method::GET, &url, None, &[]).await.status,
        401,
        "scripts are told what they always are"
    );
    assert_eq!(han.page(&format!("http://{address}/describe/public")).await.status, 200);

    provider.again().await;
    let page = until("the provider to be found", async || {
        let mut person = Person::default();
        let answer = person.page(&url).await;
        if answer.status != 302 {
            assert_eq!(answer.status, 503);
            return None;
        }
        let (_, page) = person.open(&url).await;
        han = person;
        Some(page)
    })
    .await;
    assert_eq!(page.status, 200);
    let mut late = Person::default();
    let back = late.comes_back(&url).await;

    provider.stop();
    assert_eq!(han.page(&url).await.status, 200, "a session needs no provider");
    let refreshed = han.ask(Method::POST, &format!("http://{address}/api/key/refresh"), None, &[]).await;
    assert_eq!(refreshed.status, 200);
    let refused = late.page(&back).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(late.cookie(address, "__Host-accessToken"), None);
    drop(shop);
}

#[tokio::test]
async fn a_provider_that_says_nothing_is_given_up_and_asked_once_for_all_who_wait() {
    let address = free_address();
    let pretender = Pretender::start().await;
    pretender.set(|said| said.is_silent = true);
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let login = oidc(&pretender.issuer, &files, "").replace("timeout: 10s", "timeout: 300ms");
    let naru = start(documents(&upstream, address, &login, &kept_in(&files)));
    is_ready(address).await;
    let url = format!("http://{address}/describe");
    let waiting = (0..20).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { Person::default().page(&url).await.status.as_u16() })
    });
    let waiting: Vec<_> = waiting.collect();
    for one in waiting {
        assert_eq!(one.await.unwrap(), 503);
    }
    assert!(pretender.count("GET /.well-known") <= 3, "asked {}", pretender.count("GET /.well-known"));

    let own = key("own");
    pretender.publishes(&[&own]);
    pretender.set(|said| said.is_silent = false);
    let (person, led) = until("it to be asked again", async || {
        let mut person = Person::default();
        let answer = person.page(&url).await;
        (answer.status == 302).then(|| (person, answer.header("location").unwrap().to_owned()))
    })
    .await;
    let before = pretender.count("GET /.well-known");
    for _ in 0..5 {
        assert_eq!(Person::default().page(&url).await.status, 302);
    }
    assert_eq!(pretender.count("GET /.well-known"), before, "what it said is remembered");
    // It falls silent while a code is changed: nobody is let in, and nobody waits for ever.
    pretender.set(|said| said.is_silent = true);
    let mut person = person;
    let answer =
        person.page(&format!("http://{address}/oidc/callback?code=x&state={}", query(&led, "state"))).await;
    assert_eq!(answer.status, 503);
    assert_eq!(person.cookie(address, "__Host-accessToken"), None);
    drop(naru);
}

#[tokio::test]
async fn what_it_says_of_itself_has_to_be_its_own() {
    let elsewhere = Pretender::start().await;
    for (name, value) in [
        ("issuer", json!("https://another.example")),
        ("token_endpoint", json!(format!("{}/token", elsewhere.issuer))),
        ("jwks_uri", json!(format!("{}/keys", elsewhere.issuer))),
        ("authorization_endpoint", json!("javascript:alert(1)")),
        ("token_endpoint", Value::Null),
    ] {
        let address = free_address();
        let pretender = Pretender::start().await;
        pretender.set(|said| said.metadata[name] = value.clone());
        let shop = Shop::open(address, &pretender.issuer, "", "").await;
        is_ready(address).await;
        let answer = Person::default().page(&format!("http://{address}/describe")).await;
        assert_eq!(answer.status, 503, "{name}: {value}");
        drop(shop);
    }
    assert_eq!(elsewhere.count(""), 0, "nobody is asked whom nobody has named");

    // Somewhere else is all right where it is named.
    let address = free_address();
    let pretender = Pretender::start().await;
    let own = key("own");
    elsewhere.publishes(&[&own]);
    pretender.set(|said| {
        said.metadata["jwks_uri"] = json!(format!("{}/keys", elsewhere.issuer));
    });
    let shop =
        Shop::open(address, &pretender.issuer, &format!(", hosts: ['{}']", elsewhere.issuer), "").await;
    is_ready(address).await;
    let mut person = Person::default();
    let led = person.page(&format!("http://{address}/describe")).await.header("location").unwrap().to_owned();
    pretender.gives(&own, &pretender.honest(&led));
    let back = format!("http://{address}/oidc/callback?code=x&state={}", query(&led, "state"));
    assert_eq!(person.page(&back).await.status, 302);
    assert_eq!(elsewhere.count("GET /keys"), 1);
    drop(shop);

    // And where all is written down nothing is looked up.
    let address = free_address();
    let it = &pretender.issuer;
    let endpoints = format!(
        ", endpoints: {{ authorization: '{it}/auth', token: '{it}/token', jwks: '{}/keys' }}",
        elsewhere.issuer
    );
    let before = pretender.count("GET /.well-known");
    let shop = Shop::open(address, it, &endpoints, "").await;
    is_ready(address).await;
    let mut person = Person::default();
    let led = person.page(&format!("http://{address}/describe")).await.header("location").unwrap().to_owned();
    pretender.gives(&own, &pretender.honest(&led));
    let back = format!("http://{address}/oidc/callback?code=x&state={}", query(&led, "state"));
    assert_eq!(person.page(&back).await.status, 302);
    assert_eq!(pretender.count("GET /.well-known"), before);
    drop(shop);
}

#[tokio::test]
async fn whom_the_provider_lets_not_in_is_not_let_in() {
    let address = free_address();
    let provider =
        Provider::start(&[back_to(address)], |settings| settings["person"] = json!("nobody")).await;
    let shop = Shop::open(address, &provider.issuer(), "", "").await;
    is_ready(address).await;
    let mut person = Person::default();
    let (_, answer) = person.open(&format!("http://{address}/describe")).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (403, "The login was denied."));
    assert_eq!(person.cookie(address, "__Host-"), None, "the attempt is over, and there is no session");
    drop(shop);
    // One that does not know naru, or its secret.
    let address = free_address();
    let provider = Provider::start(&[back_to(address)], |settings| {
        settings["clients"][0]["client_secret"] = json!("another")
    })
    .await;
    let shop = Shop::open(address, &provider.issuer(), "", "").await;
    is_ready(address).await;
    let (_, answer) = Person::default().open(&format!("http://{address}/describe")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    drop(shop);
}

#[tokio::test]
async fn a_configuration_whose_secret_cannot_be_read_is_not_put_in_force() {
    let address = free_address();
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let good = oidc("http://127.0.0.1:1", &files, "");
    let naru = start(documents(&upstream, address, &good, &kept_in(&files)));
    std::fs::remove_file(files.path("secret")).unwrap();
    let config = documents(&upstream, address, &good, &kept_in(&files));
    let refused = naru.try_update_to(config).await.unwrap_err().to_string();
    assert!(refused.contains("client secret cannot be read") && refused.contains("secret"), "{refused}");
    assert_eq!(Person::default().page(&format!("http://{address}/describe/public")).await.status, 200);
}
