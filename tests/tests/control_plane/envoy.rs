//! Envoy, started on the few lines of `naru config bootstrap --envoy`, does what naru does: `naru up` itself, and a
//! `naru proxy` that has everything from there.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use http::{HeaderValue, Method};
use naru_base::Chance;
use naru_tests::client::request;
use naru_tests::control::{bootstrap, is_current, status};
use naru_tests::up::free_address;
use naru_tests::{Client, Control, Driven, Envoy, Outbound, Speaks, Up, Upstream, until};

use super::{count, free_port, written};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/bookinfo");

/// Beside the example's own: each kind of match, change and answer that a VirtualService has.
const MORE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: more }
spec:
  hosts: [shop.local, '*.shop.local']
  gateways: [bookinfo-gateway]
  http:
  - name: moved
    match: [{ uri: { prefix: /old } }]
    redirect: { uri: /new, redirectCode: 302 }
  - name: teapot
    match: [{ uri: { exact: /tea } }]
    directResponse: { status: 418, body: { string: no coffee } }
  - name: jason
    match: [{ headers: { end-user: { exact: jason } } }]
    rewrite: { uri: /of-jason }
    route: [{ destination: { host: reviews, subset: v2 } }]
  - name: debug
    match: [{ queryParams: { debug: { exact: '1' } } }]
    route: [{ destination: { host: ratings } }]
  - name: writes
    match: [{ method: { regex: 'POST|PUT' }, uri: { prefix: /api } }]
    rewrite: { uri: /written, authority: details.local }
    route: [{ destination: { host: details } }]
  - name: numbers
    match: [{ uri: { regex: '/r/[0-9]+' } }]
    route: [{ destination: { host: reviews, subset: v3 } }]
  - name: no-header
    match: [{ withoutHeaders: { x-known: {} }, uri: { prefix: /known } }]
    directResponse: { status: 401 }
  - name: broken
    match: [{ uri: { prefix: /fault } }]
    fault: { abort: { percentage: { value: 100 }, httpStatus: 555 } }
    route: [{ destination: { host: details } }]
  - name: rest
    match: [{ uri: { prefix: / }, authority: { prefix: shop } }]
    headers: { response: { set: { x-rest: 'yes' } } }
    route: [{ destination: { host: reviews, subset: v1 } }]
";

/// What of an answer has to be the same.
type Seen = (u16, Option<String>, Option<String>, Option<String>, String);

async fn ask(
    client: &mut Client,
    asked: &(Method, String, String, Vec<(&'static str, &'static str)>),
) -> Seen {
    let (method, path, host, headers) = asked;
    let mut request = request(method.clone(), path, Outbound::empty());
    request.headers_mut().insert("host", HeaderValue::from_str(host).unwrap());
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    let answer = client.exchange(request).await;
    let header = |name: &str| answer.header(name).map(str::to_owned);
    let who = header("x-workload");
    // Of whoever answered: what he was asked for.
    let told = if who.is_some() && answer.body.first() == Some(&b'{') {
        let json = answer.json();
        format!("{} {}", json["method"], json["path"])
    } else {
        answer.text()
    };
    // naru and Envoy have their own words for what goes wrong.
    let told = if answer.status.is_server_error() || answer.status == 404 { String::new() } else { told };
    (answer.status.as_u16(), who, header("location"), header("x-rest"), told)
}

fn draw(chance: &mut Chance) -> (Method, String, String, Vec<(&'static str, &'static str)>) {
    let mut one = |of: &[&'static str]| of[usize::try_from(chance.below(of.len() as u64)).unwrap()];
    let host = one(&[
        "bookinfo.local",
        "bookinfo.local:8080",
        "shop.local",
        "shop.local:80",
        "a.shop.local",
        "SHOP.local",
        "nobody.local",
    ]);
    let paths = [
        "/",
        "/productpage",
        "/productpage/",
        "/static/x.css",
        "/login",
        "/api/v1/products",
        "/api",
        "/old",
        "/older/page",
        "/tea",
        "/teapot",
        "/r/12",
        "/r/12/",
        "/r/x",
        "/known/a",
        "/fault/1",
        "/x%20y",
        "/api/v1/products/1/reviews",
    ];
    let query = one(&["", "", "?debug=1", "?debug=2", "?a=b&debug=1"]);
    let path = format!("{}{query}", one(&paths));
    let method = one(&["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD"]);
    let mut headers = Vec::new();
    if one(&["", "x"]) == "x" {
        headers.push(("end-user", one(&["jason", "json", "JASON"])));
    }
    if one(&["", "x"]) == "x" {
        headers.push(("x-known", "1"));
    }
    (method.parse().unwrap(), path, host.to_owned(), headers)
}

#[tokio::test]
async fn envoy_serves_bookinfo_as_naru_does() {
    let (port, xds) = (free_port(), free_address());
    let read = |name: &str| std::fs::read_to_string(format!("{EXAMPLE}/{name}")).unwrap();
    let gateway = read("gateway.yaml").replace("number: 8080", &format!("number: {port}"));
    let files = [
        ("gateway.yaml", gateway.replace("    - bookinfo.local\n---", "    - '*'\n---")),
        ("services.yaml", read("services.yaml")),
        ("subsets.yaml", read("subsets.yaml")),
        ("routing.yaml", read("routing.yaml")),
        ("more.yaml", MORE.to_owned()),
    ];
    let arguments = ["--workers", "1", "--access-log", "none", "--gateway-address", "127.0.0.1", "--xds"];
    let up = Up::start(&files, &[&arguments[..], &[&xds.to_string()]].concat()).await;
    let lines = bootstrap(xds, &["--envoy", "--gateway-address", "127.0.0.2", "--admin", "127.0.0.1:0"]);
    assert!(lines.lines().count() < 25, "{lines}");
    let envoy = Envoy::start(&lines).await;
    assert_eq!(envoy.address, SocketAddr::from(([127, 0, 0, 2], port)));
    let proxy = Driven::start(xds, "proxy", SocketAddr::from(([127, 0, 0, 3], port))).await;
    let mut by_envoy = Client::plain(envoy.address, Speaks::Http1).await;
    let mut by_proxy = Client::plain(proxy.address, Speaks::Http1).await;
    let mut by_naru = Client::plain(SocketAddr::from(([127, 0, 0, 1], port)), Speaks::Http1).await;
    // Processes start one after another.
    let whole = [("/productpage", "bookinfo.local"), ("/", "shop.local"), ("/r/1", "shop.local")];
    for (path, host) in whole {
        for client in [&mut by_envoy, &mut by_proxy, &mut by_naru] {
            until("all to run", async || {
                let asked = (Method::GET, path.to_owned(), host.to_owned(), Vec::new());
                (ask(client, &asked).await.0 == 200).then_some(())
            })
            .await;
        }
    }
    let told = is_current(up.admin, "gateway").await;
    assert!(told["agent"].as_str().unwrap().starts_with("envoy 1.40."), "{told}");
    assert_eq!(told["mode"], "delta");

    let mut chance = Chance::new(count("NARU_SEED", 7) as u64);
    let mut kinds = BTreeSet::new();
    for at in 0..count("NARU_REQUESTS", 400) {
        let asked = draw(&mut chance);
        let (envoy, naru) = (ask(&mut by_envoy, &asked).await, ask(&mut by_naru, &asked).await);
        assert_eq!(naru, envoy, "request {at}: {asked:?}");
        assert_eq!(ask(&mut by_proxy, &asked).await, envoy, "request {at}, by naru proxy: {asked:?}");
        kinds.insert((envoy.0, envoy.1));
    }
    assert!(kinds.len() >= 8, "all of that was asked: {kinds:?}");

    // A change reaches all, and is that of the document.
    up.save("more.yaml", &MORE.replace("status: 418", "status: 451"));
    let tea = (Method::GET, "/tea".to_owned(), "shop.local".to_owned(), Vec::new());
    for client in [&mut by_envoy, &mut by_proxy, &mut by_naru] {
        until("a change", async || (ask(client, &tea).await.0 == 451).then_some(())).await;
    }
    // One that is wrong changes nothing, and is told.
    up.save("more.yaml", &MORE.replace("host: ratings", "host: nowhere"));
    until("the problem to be told", async || {
        up.said().contains("what was there before goes on").then_some(())
    })
    .await;
    assert_eq!(ask(&mut by_envoy, &tea).await.0, 451);
}

/// Everything in it changes at each step, under load, and no request fails.
#[tokio::test]
async fn no_request_fails_while_clusters_come_and_go() {
    let first = Upstream::plain(Speaks::Http1).await;
    let second = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let document = |at: usize| {
        let upstream = if at.is_multiple_of(2) { &first } else { &second };
        written(port, upstream.address, &at.to_string()).replace("shop", &format!("shop{at}"))
    };
    let control = Control::start(&[("all.yaml", document(0))]).await;
    let envoy = Envoy::start(&bootstrap(control.xds, &["--envoy", "--admin", "127.0.0.1:0"])).await;
    let mut client = Client::plain(envoy.address, Speaks::Http1).await;
    let mut asked = 0;
    for at in 1..=count("NARU_CHANGES", 8) {
        control.save("all.yaml", &document(at));
        until("the change", async || {
            let answer = client.get("/").await;
            asked += 1;
            assert_eq!(answer.status, 200, "request {asked}, change {at}: {}", answer.text());
            (answer.header("x-says") == Some(at.to_string().as_str())).then_some(())
        })
        .await;
    }
    let told = is_current(control.admin, "gateway").await;
    let clusters = told["resources"].as_array().unwrap().iter().find(|kind| kind["kind"] == "clusters");
    assert_eq!(clusters.unwrap()["there"], 1, "what is gone is gone: {told}");
}

#[tokio::test]
async fn what_envoy_refuses_is_told_and_it_goes_on_with_what_it_has() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let good = written(port, upstream.address, "good");
    let control = Control::start(&[("all.yaml", good.clone())]).await;
    let envoy = Envoy::start(&bootstrap(control.xds, &["--envoy", "--admin", "127.0.0.1:0"])).await;
    let mut client = Client::plain(envoy.address, Speaks::Http1).await;
    assert_eq!(client.get("/").await.header("x-says"), Some("good"));
    is_current(control.admin, "gateway").await;
    // A certificate file that is not there: that is seen where it would be read.
    let bad = good.replace(
        "host: shop } }]",
        "host: shop } }]\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: shop }\nspec:\n  \
         host: shop\n  trafficPolicy:\n    tls: { mode: MUTUAL, clientCertificate: /nowhere/cert.pem, \
         privateKey: /nowhere/key.pem, caCertificates: /nowhere/ca.pem }",
    );
    assert_ne!(bad, good);
    control.save("all.yaml", &bad.replace("'good'", "'bad'"));
    let refused = until("the refusal", async || {
        let status = status(control.admin).await;
        let proxy = status["proxies"].as_array().unwrap().first()?.clone();
        (proxy["state"] == "refused").then_some(proxy)
    })
    .await;
    let clusters = &refused["resources"][0];
    assert_eq!(clusters["kind"], "clusters");
    assert!(clusters["refused"]["reason"].as_str().unwrap().contains("/nowhere/"), "{refused}");
    // Neither the cluster nor the routes have changed.
    assert_eq!(client.get("/").await.header("x-says"), Some("good"));
    control.save("all.yaml", &good.replace("'good'", "'better'"));
    until("what is mended", async || {
        (client.get("/").await.header("x-says") == Some("better")).then_some(())
    })
    .await;
    is_current(control.admin, "gateway").await;
}
