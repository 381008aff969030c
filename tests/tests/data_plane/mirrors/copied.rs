//! What a copy is: its head, its body, how many there are, and of which requests.

use http::Method;
use naru_proxy::Options;
use naru_spec::MirrorWrites;
use naru_tests::bootstrap::HTTP2;
use naru_tests::client::{get, request};
use naru_tests::http2::{self, H2Server};
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Client, Naru, Outbound, Speaks, Upstream, Wire};

use super::{OK, TO_MIRROR, Three, answered, copies, mirrored, more, to_mirror, with_mirrors};

#[tokio::test]
async fn a_copy_is_what_the_upstream_gets_but_that_it_comes_from_here() {
    // As Envoy 1.40 sends it, but for the address, which there is the one that it has found for itself.
    let stand = Three::start(&format!(
        "timeout: 7s\n    prefix_rewrite: /new\n    host_rewrite_literal: other.test:81\n    {TO_MIRROR}"
    ))
    .await;
    let [original, copy] = stand
        .exchange("GET /a?b=c HTTP/1.1\r\nhost: x.test\r\nx-forwarded-for: 10.1.1.1\r\ncookie: d=e\r\n\r\n")
        .await;
    assert_eq!(
        (copy.head.first.as_str(), &original.head.first),
        ("GET /newa?b=c HTTP/1.1", &copy.head.first)
    );
    let of_original = [("host", "other.test:81"), ("x-forwarded-for", "10.1.1.1")];
    let of_copy = [
        ("host", "other.test-shadow:81"),
        ("x-envoy-internal", "true"),
        ("x-forwarded-for", "10.1.1.1,127.0.0.1"),
    ];
    assert_eq!(more(&original.head, &copy.head), of_original);
    assert_eq!(more(&copy.head, &original.head), of_copy);
    assert_eq!(copy.head.get("x-envoy-expected-rq-timeout-ms"), Some("7000"));
    assert_eq!(copy.head.get("x-envoy-original-path"), Some("/a?b=c"));
    assert_eq!(copies(&stand.naru, 1).await, answered(1));
}

#[tokio::test]
async fn the_host_of_a_copy_is_what_the_mirror_says() {
    for (lines, expected) in [
        ("disable_shadow_host_suffix_append: true", "naru.test"),
        ("host_rewrite_literal: other.test", "other.test-shadow"),
        ("host_rewrite_literal: other.test, disable_shadow_host_suffix_append: true", "other.test"),
    ] {
        let policies = format!("request_mirror_policies: [{{ cluster: mirror, {lines} }}]");
        let stand = Three::start(&policies).await;
        let [original, copy] = stand.exchange("GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
        assert_eq!(original.head.get("host"), Some("naru.test"), "{lines}");
        assert_eq!(copy.head.get("host"), Some(expected), "{lines}");
    }
}

#[tokio::test]
async fn every_mirror_gets_its_share_and_one_draw_is_for_all() {
    let up = Upstream::plain(Speaks::Http1).await;
    let all = [("all", 100), ("most", 75), ("some", 20), ("none", 0)];
    let policies = all.map(|(name, percent)| {
        format!("{{ cluster: {name}, runtime_fraction: {{ default_value: {{ numerator: {percent} }} }} }}")
    });
    let mut bootstrap = mirrored(up.address, &format!("request_mirror_policies: [{}]", policies.join(", ")));
    let mut mirrors = Vec::new();
    for (name, _) in all {
        let mirror = Upstream::plain(Speaks::Http1).await;
        bootstrap = bootstrap.cluster(name, mirror.address, "");
        mirrors.push(mirror);
    }
    let naru = Naru::start(&bootstrap);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for _ in 0..400 {
        assert_eq!(client.get("/status/200").await.status, 200);
    }
    drop(client);
    naru.settles().await;
    let counts: Vec<u64> = mirrors.iter().map(Upstream::requests).collect();
    assert_eq!((up.requests(), counts[0], counts[3]), (400, 400, 0));
    assert!((260..340).contains(&counts[1]) && (50..110).contains(&counts[2]), "{counts:?}");
    assert_eq!(naru.ended(400).await.len(), 400, "copies are no requests of clients");
    let clusters = naru.report().await.clusters;
    let total: Vec<u64> = clusters.iter().map(|cluster| cluster.requests_total).collect();
    assert_eq!(total, [400, counts[0], counts[1], counts[2], counts[3]]);
}

#[tokio::test]
async fn bodies_and_trailers_are_copied_in_every_protocol() {
    for (client, mirror) in [(false, false), (false, true), (true, false), (true, true)]
        .map(|(client, mirror)| (protocol(client), mirror))
    {
        for has_length in [true, false] {
            check_body(client, mirror, has_length).await;
        }
    }
}

fn protocol(is_http2: bool) -> Speaks {
    if is_http2 { Speaks::Http2 } else { Speaks::Http1 }
}

async fn check_body(speaks: Speaks, mirror_is_http2: bool, has_length: bool) {
    let up = Upstream::plain(Speaks::Http1).await;
    let listener = WireListener::bind().await;
    let lines = if mirror_is_http2 { HTTP2 } else { "" };
    let naru = Naru::start(&mirrored(up.address, TO_MIRROR).cluster("mirror", listener.address, lines));
    let mut client = Client::plain(naru.address, speaks).await;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-checksum", "17".parse().unwrap());
    let body = if has_length {
        Outbound::sized("what was said")
    } else {
        Outbound::chunks(&["what ", "was said"]).with_trailers(trailers)
    };
    let mut post = request(Method::POST, "/describe", body);
    if !has_length {
        post.headers_mut().insert("trailer", "x-checksum".parse().unwrap());
    }
    let told = client.exchange(post).await.json();
    assert_eq!(told["body"], "what was said");
    let what = format!("{speaks:?} {mirror_is_http2} {has_length}");
    let (host, length, body, trailer) = if mirror_is_http2 {
        let mut server = H2Server::accept(listener.accept_stream().await).await;
        let (request, mut respond) = server.request().await.unwrap();
        let (parts, mut body) = request.into_parts();
        let (body, trailers) = http2::read(&mut body).await.unwrap();
        respond.send_response(http::Response::new(()), true).unwrap();
        let host = parts.uri.authority().unwrap().to_string();
        let length = parts.headers.get("content-length").map(|value| value.to_str().unwrap().to_owned());
        let trailer = trailers.and_then(|all| Some(all.get("x-checksum")?.to_str().unwrap().to_owned()));
        naru_is_fine(&naru, &what).await;
        server.close().await;
        (host, length, body, trailer)
    } else {
        let mut wire = listener.accept().await;
        let message = wire.request().await;
        wire.send(OK).await;
        let header = |name| message.head.get(name).map(str::to_owned);
        let trailer = message.trailers.first().map(|(_, value)| value.clone());
        (header("host").unwrap(), header("content-length"), message.body, trailer)
    };
    assert_eq!(
        (host.as_str(), String::from_utf8_lossy(&body).as_ref()),
        ("naru.test-shadow", "what was said"),
        "{what}"
    );
    assert_eq!(length.as_deref(), has_length.then_some("13"), "{what}");
    assert_eq!(told["trailers"].is_array(), !has_length, "{what}");
    assert_eq!(trailer.as_deref(), (!has_length).then_some("17"), "{what}");
    naru_is_fine(&naru, &what).await;
    drop(client);
    naru.settles().await;
}

async fn naru_is_fine(naru: &Naru, what: &str) {
    assert_eq!(copies(naru, 1).await, answered(1), "{what}");
}

#[tokio::test]
async fn what_is_not_safe_is_copied_as_the_mirror_says() {
    let up = Upstream::plain(Speaks::Http1).await;
    let marked = MirrorWrites::Marked("x-dry-run".parse().unwrap());
    for (writes, of_post) in
        [(MirrorWrites::Sent, Some(None)), (MirrorWrites::NotSent, None), (marked, Some(Some("true")))]
    {
        let mirror = WireListener::bind().await;
        let config =
            with_mirrors(&to_mirror(up.address, mirror.address), |mirror| mirror.writes = writes.clone());
        let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
        let mut client = Client::plain(naru.address, Speaks::Http1).await;
        for method in [Method::POST, Method::DELETE, Method::GET] {
            let is_safe = method == Method::GET;
            let answer = client.exchange(request(method, "/status/200", Outbound::empty())).await;
            assert_eq!(answer.status, 200);
            if !is_safe && of_post.is_none() {
                continue;
            }
            let mut wire = mirror.accept().await;
            let head = wire.head().await;
            assert_eq!(head.get("x-dry-run"), of_post.flatten().filter(|_| !is_safe), "{writes:?} {head:?}");
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
        let expected = if of_post.is_some() { 3 } else { 1 };
        assert_eq!(copies(&naru, expected).await, answered(expected));
    }
}

#[tokio::test]
async fn a_request_is_copied_once_however_often_it_is_tried_and_also_where_nobody_answers_it() {
    let mirror = Upstream::plain(Speaks::Http1).await;
    let bad = Upstream::plain(Speaks::Http1).await;
    let retried = format!(
        "retry_policy: {{ retry_on: 5xx, num_retries: 2, retry_back_off: {{ base_interval: 0.001s }} }}\n    {TO_MIRROR}"
    );
    let naru = Naru::start(&mirrored(bad.address, &retried).cluster("mirror", mirror.address, ""));
    assert_eq!(get(naru.address, "/status/503").await.status, 503);
    let counts = copies(&naru, 1).await;
    assert_eq!((bad.requests(), mirror.requests(), counts.statuses.get(&503)), (3, 1, Some(&1)));

    let naru = Naru::start(&to_mirror(naru_tests::wire::refusing_address(), mirror.address));
    assert_eq!(get(naru.address, "/status/200").await.status, 503);
    assert_eq!(copies(&naru, 1).await, answered(1));

    let nobody = mirrored(mirror.address, TO_MIRROR).cluster("mirror", mirror.address, "").text();
    let nobody = nobody.replacen("cluster: up", "cluster: empty", 1);
    let empty = "  clusters:\n  - { name: empty, load_assignment: { cluster_name: empty } }\n";
    let naru = Naru::on(&nobody.replace("  clusters:\n", empty));
    assert_eq!(get(naru.address, "/status/200").await.status, 503);
    naru.settles().await;
    assert_eq!(super::report(&naru).await.counts.copies, 0, "there was no endpoint to send it to");
}

#[tokio::test]
async fn what_is_in_a_tunnel_is_copied_where_it_is_http_and_only_then() {
    let (up, mirror) = (WireListener::bind().await, WireListener::bind().await);
    let naru = Naru::start(&to_mirror(up.address, mirror.address).tunnels());
    let mut client = Wire::connect(naru.address).await;
    client.ask_for_tunnel("db.test:5432").await;
    client.send(b"\x00no http").await;
    let mut upstream = up.accept().await;
    upstream.expect(b"\x00no http").await;
    assert!(!mirror.has_more().await);
    drop((client, upstream));
    naru.settles().await;

    let mut client = Wire::connect(naru.address).await;
    client.ask_for_tunnel("web.test:80").await;
    client.send("GET / HTTP/1.1\r\nhost: web.test\r\n\r\n").await;
    for listener in [&up, &mirror] {
        let mut wire = listener.accept().await;
        wire.request().await;
        wire.send(OK).await;
    }
    assert_eq!(client.response().await.text(), "ok");
    assert_eq!(copies(&naru, 1).await, answered(1));
}

#[tokio::test]
async fn a_copy_is_sent_again_where_its_connection_was_closed_while_it_waited() {
    let up = Upstream::plain(Speaks::Http1).await;
    let mirror = WireListener::bind().await;
    let naru = Naru::start(&to_mirror(up.address, mirror.address));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let post = || request(Method::PUT, "/status/200", Outbound::sized("what was said"));
    client.exchange(post()).await;
    let mut wire = mirror.accept().await;
    assert_eq!(wire.request().await.text(), "what was said");
    wire.send(OK).await;
    assert_eq!(copies(&naru, 1).await, answered(1));
    client.exchange(post()).await;
    // It is on its way on the connection that was kept, or finds it closed.
    drop(wire);
    let mut wire = mirror.accept().await;
    assert_eq!(wire.request().await.text(), "what was said");
    wire.send(OK).await;
    assert_eq!(copies(&naru, 2).await, answered(2));
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn copies_stay_out_of_the_access_log() {
    let (up, mirror) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
    let files = naru_tests::files::Directory::new();
    let log = files.path("log");
    let bootstrap: Bootstrap =
        to_mirror(up.address, mirror.address).json_log(&log, "path: \"%REQ(:PATH)%\"\n");
    let naru = Naru::start(&bootstrap);
    for path in ["/status/200", "/bytes/5"] {
        get(naru.address, path).await;
    }
    copies(&naru, 2).await;
    let lines = naru_tests::files::documents(&log, 2).await;
    assert_eq!(lines, [serde_json::json!({"path": "/status/200"}), serde_json::json!({"path": "/bytes/5"})]);
}
