//! Operations on headers: what each does, on which level, and in which order.

use naru_tests::upstream::{header, headers};
use naru_tests::{Bootstrap, Client, Naru, Speaks, Upstream};

use super::{Stand, all, ask};

/// One operation of each kind, on what is called by the level, and the removal of `x-LEVEL`.
fn operations(level: &str) -> String {
    let mut text = String::new();
    for direction in ["request", "response"] {
        text.push_str(&format!("{direction}_headers_to_remove: [x-{level}]\n{direction}_headers_to_add:\n"));
        for (name, action) in [
            ("x-append", "APPEND_IF_EXISTS_OR_ADD"),
            ("x-absent", "ADD_IF_ABSENT"),
            ("x-over", "OVERWRITE_IF_EXISTS_OR_ADD"),
            ("x-there", "OVERWRITE_IF_EXISTS"),
        ] {
            text.push_str(&format!(
                "- {{ header: {{ key: {name}, value: {level} }}, append_action: {action} }}\n"
            ));
        }
    }
    text
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// A table with operations on all levels.
fn leveled() -> Bootstrap {
    let routes = format!(
        "- match: {{ prefix: /direct }}\n  direct_response: {{ status: 200 }}\n{direct}\
         - match: {{ prefix: /redirect }}\n  redirect: {{ path_redirect: /to }}\n\
         - match: {{ prefix: / }}\n{route}  route:\n    weighted_clusters:\n      clusters:\n      \
         - name: up\n        weight: 1\n{cluster}",
        direct = indented(&operations("route"), 2),
        route = indented(&operations("route"), 2),
        cluster = indented(&operations("cluster"), 8),
    );
    let hosts = format!(
        "- name: everything\n  domains: [\"*\"]\n{}  routes:\n{}",
        indented(&operations("host"), 2),
        indented(&routes, 2)
    );
    Bootstrap::with_virtual_hosts(&hosts)
}

/// The operations of the route table stand beside its virtual hosts.
async fn start() -> (Naru, Upstream) {
    let up = Upstream::plain(Speaks::Http1).await;
    let text = leveled().cluster("up", up.address, "").text();
    let table = format!("            name: routes\n{}", indented(&operations("table"), 12));
    let text = text.replace("            name: routes\n", &table);
    (Naru::on(&text), up)
}

#[tokio::test]
async fn the_innermost_level_comes_first_and_the_outermost_has_the_last_word() {
    let (naru, _up) = start().await;
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let answer = ask(&mut client, "/describe", &[]).await;
    let seen = answer.json();
    let levels = ["cluster", "route", "host", "table"];
    assert_eq!((headers(&seen, "x-append"), all(&answer, "x-append")), (levels.to_vec(), levels.to_vec()));
    for (name, expected) in [("x-absent", Some("cluster")), ("x-over", Some("table")), ("x-there", None)] {
        assert_eq!((header(&seen, name), answer.header(name)), (expected, expected), "{name}");
    }
}

#[tokio::test]
async fn operations_meet_what_was_sent() {
    let (naru, _up) = start().await;
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let names = ["x-append", "x-absent", "x-over", "x-there", "x-cluster", "x-route", "x-host", "x-table"];
    let mut sent: Vec<_> = names.iter().map(|name| (*name, "sent")).collect();
    let reply = names.map(|name| format!("{name}: sent")).join(" | ");
    sent.extend([("x-reply", reply.as_str()), ("x-kept", "sent")]);
    let answer = ask(&mut client, "/describe", &sent).await;
    let seen = answer.json();
    let appended = ["sent", "cluster", "route", "host", "table"];
    assert_eq!(
        (headers(&seen, "x-append"), all(&answer, "x-append")),
        (appended.to_vec(), appended.to_vec())
    );
    for (name, expected) in [
        ("x-absent", Some("sent")),
        ("x-over", Some("table")),
        ("x-there", Some("table")),
        ("x-cluster", None),
        ("x-route", None),
        ("x-host", None),
        ("x-table", None),
    ] {
        assert_eq!((header(&seen, name), answer.header(name)), (expected, expected), "{name}");
    }
    assert_eq!(header(&seen, "x-kept"), Some("sent"));
}

#[tokio::test]
async fn answers_of_narus_own_have_the_headers_of_their_levels() {
    let (naru, _up) = start().await;
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for (path, status, levels) in
        [("/direct", 200, &["route", "host", "table"][..]), ("/redirect", 301, &["host", "table"])]
    {
        let answer = ask(&mut client, path, &[]).await;
        assert_eq!(answer.status, status);
        assert_eq!(all(&answer, "x-append"), levels);
        assert_eq!((answer.header("x-absent"), answer.header("x-over")), (Some(levels[0]), Some("table")));
    }
}

#[tokio::test]
async fn a_value_is_filled_in_from_the_request() {
    let routes = r#"
- match: { prefix: / }
  route: { cluster: up, prefix_rewrite: /describe }
  request_headers_to_add:
  - header: { key: x-method, value: "%REQ(:METHOD)%" }
  - header: { key: x-authority, value: "%REQ(:AUTHORITY)%" }
  - header: { key: x-short, value: "%REQ(X-NONE?X-MINE):3%" }
  - header: { key: x-protocol, value: "%PROTOCOL%" }
  - header: { key: x-percent, value: "100%%" }
  - header: { key: x-cluster, value: "%UPSTREAM_CLUSTER%" }
  - header: { key: x-both, value: "<%REQ(X-MINE)%>" }
  response_headers_to_add:
  - header: { key: x-asked, value: "%REQ(X-MINE)%" }
  - header: { key: x-host, value: "%UPSTREAM_HOST%" }
"#;
    let stand = Stand::with_routes(routes).await;
    let answer = stand.get("/path?q=1", &[("x-mine", "abcdef")]).await;
    let seen = answer.json();
    for (name, expected) in [
        ("x-method", "GET"),
        ("x-authority", "naru.test"),
        ("x-short", "abc"),
        ("x-protocol", "HTTP/1.1"),
        ("x-percent", "100%"),
        ("x-cluster", "up"),
        ("x-both", "<abcdef>"),
    ] {
        assert_eq!(header(&seen, name), Some(expected), "{name}");
    }
    assert_eq!(answer.header("x-asked"), Some("abcdef"));
    assert_eq!(answer.header("x-host"), Some(stand.up.address.to_string().as_str()));
}

#[tokio::test]
async fn clusters_take_their_shares_with_their_own_headers() {
    const REQUESTS: u32 = 1_000;
    let routes = "
- match: { prefix: / }
  route:
    weighted_clusters:
      clusters:
      - { name: most, weight: 75, response_headers_to_add: [{ header: { key: x-to, value: most } }] }
      - { name: none, weight: 0, response_headers_to_add: [{ header: { key: x-to, value: none } }] }
      - { name: some, weight: 25, response_headers_to_add: [{ header: { key: x-to, value: some } }] }
";
    let (most, none, some) = (
        Upstream::plain(Speaks::Http1).await,
        Upstream::plain(Speaks::Http1).await,
        Upstream::plain(Speaks::Http1).await,
    );
    let bootstrap = Bootstrap::new(routes)
        .cluster("most", most.address, "")
        .cluster("none", none.address, "")
        .cluster("some", some.address, "");
    let naru = Naru::start(&bootstrap);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let mut to_most = 0;
    for _ in 0..REQUESTS {
        let answer = client.get("/bytes/1").await;
        let before = u64::from(to_most);
        to_most += u32::from(answer.header("x-to") == Some("most"));
        assert_eq!(most.requests() - before, u64::from(answer.header("x-to") == Some("most")));
    }
    assert_eq!((most.requests() + some.requests(), none.requests()), (u64::from(REQUESTS), 0));
    // Four standard deviations. The seed is fixed, and so is the outcome.
    assert!((695..=805).contains(&to_most), "{to_most}");
}
