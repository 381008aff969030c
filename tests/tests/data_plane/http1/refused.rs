//! Requests that reach no upstream.

use naru_base::Reason;
use naru_proxy::Options;
use naru_spec::PaceLimit;
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, Wire};

use super::refusal;

/// Each breaks one rule of RFC 9112 (section), and is answered so.
const BROKEN: &[(&str, u16, &[u8])] = &[
    ("2.2: LF alone", 400, b"GET / HTTP/1.1\nHost: a\n\n"),
    ("2.2: LF alone after the request line", 400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ("2.2: LF alone after a field", 400, b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    ("2.2: LF alone at the end", 400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("2.2: CR alone in a field", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: 1\r\n\r\n"),
    ("2.2: CR alone after a field", 400, b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n"),
    ("2.2: space before the first field", 400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("2.2: too many empty lines", 400, b"\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("2.3: an unknown version", 505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    ("2.3: another major version", 505, b"GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
    ("2.3: no version", 400, b"GET / HTTP\r\nHost: a\r\n\r\n"),
    ("2.3: lower case", 400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    ("2.3: two digits", 400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    ("2.3: HTTP/0.9", 400, b"GET /\r\n\r\n"),
    ("3: space before the method", 400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3: two spaces", 400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3: a tab", 400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3: space at the end", 400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    ("3: space in the target", 400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3: a vertical tab", 400, b"GET\x0b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3.1: no token", 400, b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3.2: an absolute target, and no Host", 400, b"GET http://a/ HTTP/1.1\r\n\r\n"),
    ("3.2: an absolute target, and a Host that is none", 400, b"GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("3.2: a relative path", 400, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3.2: a fragment", 400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3.2: a control character", 400, b"GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3.2: no ASCII", 400, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3.2: no Host", 400, b"GET / HTTP/1.1\r\n\r\n"),
    ("3.2: two Hosts", 400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("3.2: the same Host twice", 400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("3.2: an empty Host", 400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("3.2: a Host with a space", 400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("3.2: a Host with a path", 400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("3.2: a Host with a user", 400, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    ("3.2: a Host with a port that is none", 400, b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    ("3.2: a Host with two ports", 400, b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n"),
    ("3.2: a Host with half an address", 400, b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    ("3.2.2: another scheme", 400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3.2.2: a user in the target", 400, b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3.2.3: a host for GET", 400, b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3.2.4: an asterisk for GET", 400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("5: no colon", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    ("5: no name", 400, b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n"),
    ("5.1: space before the colon", 400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    ("5.1: a tab before the colon", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX\t: y\r\n\r\n"),
    ("5.1: space in the name", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX Z: y\r\n\r\n"),
    ("5.1: a quote in the name", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX\"Z: y\r\n\r\n"),
    ("5.1: no ASCII in the name", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX\xff: y\r\n\r\n"),
    ("5.2: a folded line", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
    ("5.2: a folded line with a tab", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n"),
    ("9110 5.5: NUL", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n"),
    ("9110 5.5: a control character", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x08z\r\n\r\n"),
    ("9110 5.5: DEL", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x7fz\r\n\r\n"),
    (
        "6.1: an unknown coding",
        501,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "6.1: chunked is not last",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    ),
    ("6.1: chunked twice", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n"),
    ("6.1: in HTTP/1.0", 400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("6.2: no number", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\nfive!"),
    ("6.2: a sign", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nfive!"),
    ("6.2: zeros before it", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nfive!"),
    ("6.2: less than nothing", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    ("6.2: nothing", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n"),
    ("6.2: hexadecimal", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nfive!"),
    ("6.2: a space within", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\n0123456789"),
    (
        "6.2: too large for a number",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nfive!",
    ),
    (
        "6.2: another one",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nfive!!",
    ),
    (
        "6.2: the same again",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nfive!",
    ),
    ("6.2: a list", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nfive!"),
    (
        "6.3: both",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "6.3: both, the other way round",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    ("6.3: one that looks like it", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\nfive!"),
    (
        "6.3: another one that looks like it",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("TLS", 400, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
];

#[tokio::test]
async fn what_breaks_a_rule_reaches_no_upstream() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    for (rule, status, request) in BROKEN {
        assert_eq!(refusal(naru.address, request).await, *status, "{rule}");
    }
    naru.settles().await;
    assert_eq!((up.connections(), up.requests()), (0, 0));
}

/// Of these the head is in order.
const BROKEN_BODIES: &[&[u8]] = &[
    b"zz\r\nhello\r\n0\r\n\r\n",
    b"\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhelloworld\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    b"5;\x01\r\nhello\r\n0\r\n\r\n",
    b"5;\r\nhello\r\n0\r\n\r\n",
    b"5;a[=b\r\nhello\r\n0\r\n\r\n",
    b"5;a=\"b\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\n\r\n",
];

#[tokio::test]
async fn a_body_that_breaks_a_rule_is_broken_off() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    for body in BROKEN_BODIES {
        let shown = String::from_utf8_lossy(body);
        let mut client = Wire::connect(naru.address).await;
        client.send("POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
        client.try_send(body).await;
        let answer = client.response().await;
        assert_eq!((answer.status(), answer.head.get("connection")), (400, Some("close")), "{shown:?}");
        client.ends().await;
    }
    naru.settles().await;
    let report = naru.report().await;
    let forwarded = report.series.iter().filter(|series| series.labels.reason == Reason::Forwarded).count();
    assert_eq!(forwarded, 0, "no such request has an answer of an upstream");
}

#[tokio::test]
async fn a_head_has_ten_seconds_and_its_limits() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address).manager("request_headers_timeout: 0.2s"));
    let mut slow = Wire::connect(naru.address).await;
    slow.send("GET / HTTP/1.1\r\nhost: a\r\n").await;
    let answer = slow.response().await;
    assert_eq!((answer.status(), answer.text().as_str()), (408, "request header timeout"));
    slow.ends().await;
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(61 * 1024));
    assert_eq!(refusal(naru.address, large.as_bytes()).await, 431);
    // No method is as long: it is not the size that is wrong.
    let method = format!("{} / HTTP/1.1\r\nhost: a\r\n\r\n", "A".repeat(100_000));
    assert_eq!(refusal(naru.address, method.as_bytes()).await, 400);
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(100));
    assert_eq!(refusal(naru.address, many.as_bytes()).await, 431);
    let ended = naru.ended(4).await;
    assert_eq!(ended.iter().filter(|(_, reason)| *reason == Reason::HeadTooLarge).count(), 2);
    assert!(ended.contains(&(408, Reason::HeadTimeout)));
    naru.settles().await;
}

/// A client that trickles is waited for no longer than ten seconds, a connection that reads nothing fifteen.
#[tokio::test]
async fn who_is_too_slow_is_left() {
    let up = Upstream::plain(Speaks::Http1).await;
    let mut config = naru_tests::naru::config(&Bootstrap::to(up.address));
    let second = std::time::Duration::from_secs(1);
    for http in
        config.listeners.iter_mut().flat_map(|listener| &mut listener.chains).map(|chain| &mut chain.http)
    {
        http.request_pace = Some(PaceLimit { bytes: 100, window: second });
        http.response_pace = Some(PaceLimit { bytes: 100, window: second });
    }
    let naru = Naru::start_on(config, &Options::default());
    let mut trickles = Wire::connect(naru.address).await;
    trickles.send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 10000\r\n\r\n").await;
    let slow = async {
        while trickles.try_send("x").await {
            tokio::time::sleep(second / 10).await;
        }
    };
    let answered = async {
        let ended = naru.ended(1).await;
        assert_eq!(ended, [(408, Reason::RequestTimeout)]);
    };
    tokio::join!(slow, answered);
    // One that is fast enough is not left, however long it takes.
    let mut steady = Wire::connect(naru.address).await;
    steady.send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n").await;
    for _ in 0..20 {
        steady.send([b'x'; 50]).await;
        tokio::time::sleep(second / 10).await;
    }
    assert_eq!(steady.response().await.text(), "1000 whole");
    drop(steady);
    // One that takes nothing of what it asked for.
    let mut silent = Wire::connect_narrow(naru.address).await;
    silent.send("GET /bytes/100000000 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(naru.ended(3).await.len(), 3);
    drop(silent);
    naru.settles().await;
}
