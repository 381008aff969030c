//! Hosts of one Gateway with sessions of their own.

use super::*;

/// Two hosts with sessions, one without, and their directories.
fn of_hosts(upstream: &Upstream, files: &Directory, hosts: [&str; 2]) -> (Config, Vec<naru_spec::Problem>) {
    let (ip, port) = (upstream.address.ip(), upstream.address.port());
    let auth = |name: &str, hosts: &str, login: &str| {
        format!(
            "---\napiVersion: naru.dev/v1alpha1\nkind: SessionAuth\nmetadata: {{ name: {name} }}\nspec:\n  targetRef: \
             {{ kind: Gateway, name: edge }}\n  hosts: [{hosts}]\n  login: {{ paths: [{login}] }}\n  store: {{ \
             directory: {}, pollEvery: 50ms, timeout: 20s }}\n",
            files.path(name).display()
        )
    };
    let route = |name: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: {} }}\nspec:\n  hosts: \
             ['{name}']\n  gateways: [edge]\n  http:\n  - route: [{{ destination: {{ host: up.test, port: {{ number: \
             {port} }} }} }}]\n",
            name.replace(['*', '.'], "x")
        )
    };
    let documents = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{ name: edge }}\nspec:\n  servers: [{{ port: {{ \
         number: 8080, name: http, protocol: HTTP }}, hosts: ['*'] }}]\n---\napiVersion: \
         networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: up }}\nspec:\n  hosts: [up.test]\n  ports: \
         [{{ number: {port}, name: http, protocol: HTTP }}]\n  resolution: STATIC\n  endpoints: [{{ address: {ip} }}]\n"
    ) + &auth("shop", hosts[0], "/describe/login")
        + &auth("blog", hosts[1], "/describe/enter")
        + &route("shop.test")
        + &route("*.blog.test")
        + &route("open.test");
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("edge.yaml", &documents, &mut loaded);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let surroundings = Surroundings {
        gateway_address: std::net::Ipv4Addr::LOCALHOST.into(),
        clients: Vec::new(),
        ..Surroundings::default()
    };
    let planned = plan(&loaded.resources, &surroundings);
    let mut config = planned.config;
    config.listeners[0].address.set_port(0);
    (config, planned.problems)
}

async fn ask(naru: &Naru, method: &str, host: &str, path: &str, headers: &str) -> (u16, Option<String>) {
    let mut client = naru_tests::Wire::connect(naru.address).await;
    let end = "content-length: 0\r\nconnection: close";
    client.send(format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}{end}\r\n\r\n")).await;
    let got = client.response().await;
    (got.status(), got.head.get("authorization").map(str::to_owned))
}

#[tokio::test]
async fn a_token_of_one_host_is_nothing_at_another() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let (config, problems) = of_hosts(&upstream, &files, ["shop.test", "'*.blog.test'"]);
    assert!(problems.iter().all(|problem| problem.severity != naru_spec::Severity::Error), "{problems:#?}");
    let naru = start(config);
    let who = "x-reply: x-session-subject: han\r\n";
    let login = async |host: &str, path: &str| {
        until("a login", async || match ask(&naru, "POST", host, path, who).await {
            (200, Some(token)) => Some(format!("authorization: {token}\r\n")),
            _ => None,
        })
        .await
    };
    let (shop, blog) =
        (login("shop.test", "/describe/login").await, login("a.blog.test", "/describe/enter").await);
    let status = async |host: &str, headers: &str| ask(&naru, "GET", host, "/describe", headers).await.0;
    for host in ["shop.test", "SHOP.test:8080"] {
        assert_eq!(status(host, &shop).await, 200, "{host}");
        assert_eq!(status(host, &blog).await, 401, "{host}");
        assert_eq!(status(host, "").await, 401, "{host}");
    }
    assert_eq!(status("b.blog.test", &blog).await, 200);
    assert_eq!(status("a.blog.test", &shop).await, 401);
    assert_eq!(status("a.blog.test", "").await, 401);
    // One without sessions is for everybody, and no other path to those with some.
    assert_eq!(status("open.test", "").await, 200);
    assert_eq!(status("other.test", "").await, 404);
    assert_eq!(status("blog.test", "").await, 404);
    naru.settles().await;
}

#[tokio::test]
async fn hosts_that_leave_a_way_past_the_sessions_are_an_error() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let told = |hosts: [&str; 2]| {
        let (_, problems) = of_hosts(&upstream, &files, hosts);
        let errors = problems.into_iter().filter(|problem| problem.severity == naru_spec::Severity::Error);
        errors.map(|problem| problem.message).collect::<Vec<_>>()
    };
    let told_of = told(["shop.test", "a.blog.test"]);
    assert!(told_of.len() == 1 && told_of[0].contains("routes for '*.blog.test'"), "{told_of:?}");
    let told_of = told(["shop.test", "'shop.test'"]);
    assert!(told_of.len() == 1 && told_of[0].contains("two documents are for the same hosts"), "{told_of:?}");
    assert_eq!(told(["a.blog.test", ""]), <[String; 0]>::default(), "the other is for all the rest");
}
