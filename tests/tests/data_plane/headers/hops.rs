//! What concerns one connection only, who is addressed, and who has answered.

use naru_tests::bootstrap::TO_UP;
use naru_tests::http2::{self, H2Client};
use naru_tests::upstream::{header, headers};
use naru_tests::{Bootstrap, Client, Speaks, Wire};
use serde_json::Value;

use super::{Stand, all, ask};

/// A request, byte for byte, and what the upstream was sent.
async fn sees(stand: &Stand, head: &str) -> Value {
    let mut client = Wire::connect(stand.naru.address).await;
    client.send(format!("{head}\r\n\r\n")).await;
    let answer = client.response().await;
    assert_eq!(answer.status(), 200, "{head}");
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn what_concerns_one_connection_is_not_passed_on() {
    for up in [Speaks::Http1, Speaks::Http2] {
        let stand = Stand::of(Bootstrap::new(TO_UP), up).await;
        let fields = [
            "connection: x-named, keep-alive, x-other",
            "x-named: 1",
            "X-Other: 2",
            "keep-alive: timeout=5",
            "proxy-connection: keep-alive",
            "upgrade: h2c",
            "http2-settings: AAA",
            "x-kept: 3",
            "proxy-authorization: kept",
        ];
        let head = format!("GET /describe HTTP/1.1\r\nhost: a\r\n{}", fields.join("\r\n"));
        let seen = sees(&stand, &head).await;
        for name in [
            "connection",
            "x-named",
            "x-other",
            "keep-alive",
            "proxy-connection",
            "upgrade",
            "http2-settings",
            "transfer-encoding",
        ] {
            assert_eq!(headers(&seen, name), [""; 0], "{name}");
        }
        assert_eq!(header(&seen, "x-kept"), Some("3"));
        assert_eq!(header(&seen, "proxy-authorization"), Some("kept"));
    }
}

#[tokio::test]
async fn a_client_cannot_name_what_frames_or_addresses_its_message() {
    let stand = Stand::new("").await;
    let fields = "connection: content-length, te\r\nte: trailers";
    let seen = sees(&stand, &format!("GET /describe HTTP/1.1\r\nhost: a\r\n{fields}")).await;
    assert_eq!((header(&seen, "host"), header(&seen, "te")), (Some("a"), Some("trailers")));
}

#[tokio::test]
async fn of_te_only_trailers_are_passed_on() {
    let stand = Stand::new("").await;
    for (sent, expected) in
        [("trailers", Some("trailers")), ("gzip", None), ("trailers, gzip;q=0.5", Some("trailers"))]
    {
        let seen = sees(&stand, &format!("GET /describe HTTP/1.1\r\nhost: a\r\nte: {sent}")).await;
        assert_eq!(header(&seen, "te"), expected, "{sent}");
    }
    let up = Stand::of(Bootstrap::new(TO_UP), Speaks::Http2).await;
    let mut client = Client::plain(up.naru.address, Speaks::Http2).await;
    let seen = ask(&mut client, "/describe", &[("te", "trailers")]).await.json();
    assert_eq!(header(&seen, "te"), Some("trailers"));
}

#[tokio::test]
async fn of_an_answer_what_concerns_one_connection_is_not_passed_on() {
    let stand = Stand::new("").await;
    let reply = "connection: x-named, keep-alive | x-named: 1 | keep-alive: timeout=4 | \
                 proxy-connection: keep-alive | upgrade: h2c | x-kept: 2";
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = Client::plain(stand.naru.address, speaks).await;
        let answer = ask(&mut client, "/describe", &[("x-reply", reply)]).await;
        // RFC 9110, section 7.6.1. Envoy 1.40 keeps what `connection` names.
        for name in ["connection", "x-named", "keep-alive", "proxy-connection", "upgrade"] {
            assert_eq!(answer.header(name), None, "{speaks:?}");
        }
        assert_eq!(answer.header("x-kept"), Some("2"));
    }
}

#[tokio::test]
async fn fields_of_one_name_stay_apart_and_in_order() {
    let stand = Stand::new("").await;
    let reply = "set-cookie: a=1 | set-cookie: b=2";
    let sent = [("x-many", "1"), ("x-other", "a"), ("x-many", "2"), ("x-empty", ""), ("x-reply", reply)];
    let answer = stand.get("/describe", &sent).await;
    let seen = answer.json();
    assert_eq!(headers(&seen, "x-many"), ["1", "2"]);
    assert_eq!(header(&seen, "x-empty"), Some(""));
    assert_eq!(all(&answer, "set-cookie"), ["a=1", "b=2"]);
}

#[tokio::test]
async fn an_absolute_target_names_the_host() {
    let stand = Stand::new("").await;
    for (target, host, path) in [
        ("http://other.test:81/describe?q", "other.test:81", "/describe?q"),
        ("https://other.test/describe", "other.test", "/describe"),
    ] {
        let seen = sees(&stand, &format!("GET {target} HTTP/1.1\r\nhost: a.test")).await;
        assert_eq!((header(&seen, "host"), seen["target"].as_str()), (Some(host), Some(path)));
    }
}

#[tokio::test]
async fn a_request_needs_one_host() {
    let stand = Stand::new("").await;
    for hosts in ["", "host: a\r\nhost: b\r\n", "host: a\r\nhost: a\r\n"] {
        let mut client = Wire::connect(stand.naru.address).await;
        client.send(format!("GET / HTTP/1.1\r\n{hosts}\r\n")).await;
        // RFC 9112, section 3.2.
        assert_eq!(client.response().await.status(), 400, "{hosts:?}");
    }
    assert_eq!(stand.up.requests(), 0);
}

#[tokio::test]
async fn the_host_passes_as_it_is_between_the_protocols() {
    for up in [Speaks::Http1, Speaks::Http2] {
        let stand = Stand::of(Bootstrap::new(TO_UP), up).await;
        for down in [Speaks::Http1, Speaks::Http2] {
            let mut client = Client::plain(stand.naru.address, down).await;
            for host in ["A.Test:8080", "[::1]:80", "a"] {
                let seen = ask(&mut client, "/describe", &[("host", host)]).await.json();
                let found = seen["authority"].as_str().or(header(&seen, "host"));
                assert_eq!(found, Some(host), "{down:?} to {up:?}");
                let is_http2 = up.is_http2();
                assert_eq!(header(&seen, "host").is_none(), is_http2);
                assert_eq!(seen["scheme"], if is_http2 { "http".into() } else { Value::Null });
            }
        }
    }
}

#[tokio::test]
async fn a_host_beside_the_authority_must_be_the_same() {
    let stand = Stand::new("").await;
    let mut client = H2Client::connect(stand.naru.address).await;
    for (host, status) in [("other.test", 400), ("a.test", 200)] {
        let mut get = http2::get(stand.naru.address, "/describe");
        *get.uri_mut() = "http://a.test/describe".parse().unwrap();
        get.headers_mut().insert("host", host.parse().unwrap());
        let (response, _) = client.request(get, true).await;
        assert_eq!(http2::response(response).await.unwrap().status(), status, "{host}");
    }
}

#[tokio::test]
async fn the_port_of_a_host_is_stripped_where_that_is_wanted() {
    let any = Stand::new("strip_any_host_port: true").await;
    for (host, expected) in [("a.test:81", "a.test"), ("a.test", "a.test"), ("[::1]:80", "[::1]")] {
        assert_eq!(header(&any.sees(&[("host", host)]).await, "host"), Some(expected));
    }
    let matching = Stand::new("strip_matching_host_port: true").await;
    let own = format!("a.test:{}", matching.naru.address.port());
    for (host, expected) in [("a.test:81", "a.test:81"), (&own, "a.test")] {
        assert_eq!(header(&matching.sees(&[("host", host)]).await, "host"), Some(expected));
    }
}

#[tokio::test]
async fn who_has_answered_is_said_as_configured() {
    const THEIRS: &[(&str, &str)] = &[("x-reply", "server: theirs")];
    let absent = "server_name: me\nserver_header_transformation: APPEND_IF_ABSENT";
    for (manager, sent, expected) in [
        ("", &[][..], Some("naru")),
        ("", THEIRS, Some("naru")),
        ("server_name: me", &[], Some("me")),
        ("server_name: me", THEIRS, Some("me")),
        (absent, &[], Some("me")),
        (absent, THEIRS, Some("theirs")),
        ("server_header_transformation: PASS_THROUGH", &[], None),
        ("server_header_transformation: PASS_THROUGH", THEIRS, Some("theirs")),
    ] {
        let answer = Stand::new(manager).await.get("/describe", sent).await;
        assert_eq!(answer.header("server"), expected, "{manager} {sent:?}");
    }
}

#[tokio::test]
async fn via_is_added_to_what_went_before() {
    let stand = Stand::new("via: 1.1 naru").await;
    for (before, expected) in [(None, "1.1 naru"), (Some("1.0 other"), "1.0 other, 1.1 naru")] {
        let reply = before.map(|before| format!("via: {before}")).unwrap_or("x-none: 1".to_owned());
        let mut sent = vec![("x-reply", reply.as_str())];
        sent.extend(before.map(|before| ("via", before)));
        let answer = stand.get("/describe", &sent).await;
        assert_eq!(all(&answer, "via").join(", "), expected);
        assert_eq!(headers(&answer.json(), "via").join(", "), expected);
    }
    let silent = Stand::new("").await.get("/describe", &[]).await;
    assert_eq!((silent.header("via"), header(&silent.json(), "via")), (None, None));
}

#[tokio::test]
async fn an_answer_has_one_date_and_it_is_the_upstreams() {
    let stand = Stand::new("").await;
    let old = "Sat, 01 Jan 2000 00:00:00 GMT";
    let answer = stand.get("/describe", &[("x-reply", &format!("date: {old}"))]).await;
    assert_eq!(answer.header("date"), Some(old));
    let date = stand.get("/describe", &[]).await.header("date").unwrap().to_owned();
    assert!(date.ends_with(" GMT") && date != old, "{date}");
}
