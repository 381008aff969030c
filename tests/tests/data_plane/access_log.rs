//! The access log: a line for each request, and what its operators say.

use http::{HeaderValue, Method};
use naru_tests::client::request;
use naru_tests::files::{Directory, documents};
use naru_tests::wire::refusing_address;
use naru_tests::{Bootstrap, Client, Naru, Outbound, Speaks, Upstream, Wire};

const ROUTES: &str = r#"
- match: { path: /gone }
  route: { cluster: gone }
- match: { path: /known }
  direct_response: { status: 418, body: { inline_string: teapot } }
- match: { prefix: /up/ }
  route: { cluster: up, prefix_rewrite: / }
"#;

const FIELDS: &str = r#"
code: "%RESPONSE_CODE%"
flags: "%RESPONSE_FLAGS%"
reason: "%REASON%"
received: "%BYTES_RECEIVED%"
sent: "%BYTES_SENT%"
protocol: "%PROTOCOL%"
mine: "%REQ(X-MINE)%"
upstream: "%UPSTREAM_HOST%"
"#;

#[tokio::test]
async fn a_line_says_how_each_request_ended() {
    let up = Upstream::plain(Speaks::Http1).await;
    let directory = Directory::new();
    let log = directory.path("access.log");
    let gone = refusing_address();
    let bootstrap = Bootstrap::new(ROUTES).cluster("up", up.address, "").cluster("gone", gone, "");
    let naru = Naru::start(&bootstrap.json_log(&log, FIELDS));
    let up = up.address.to_string();
    let mut count = 0;
    for (speaks, protocol) in [(Speaks::Http1, "HTTP/1.1"), (Speaks::Http2, "HTTP/2")] {
        for (path, code, flags, reason, received, sent, upstream) in [
            ("/up/length", 200, "-", "Forwarded", 5, Some(7), Some(up.as_str())),
            ("/up/bytes/100", 200, "-", "Forwarded", 0, Some(100), Some(&up)),
            ("/up/status/500", 500, "-", "Forwarded", 0, Some(16), Some(&up)),
            ("/known", 418, "-", "DirectResponse", 0, Some(6), None),
            ("/nowhere", 404, "NR", "NoRoute", 0, Some(0), None),
            ("/gone", 503, "UF", "ConnectFailure", 0, None, Some(&gone.to_string())),
        ] {
            let body = if received > 0 { Outbound::sized("five!") } else { Outbound::empty() };
            let method = if received > 0 { Method::POST } else { Method::GET };
            let mut asked = request(method, path, body);
            asked.headers_mut().insert("x-mine", HeaderValue::from_static("\"quoted\""));
            let answer = Client::plain(naru.address, speaks).await.exchange(asked).await;
            assert_eq!(answer.status, code);
            count += 1;
            // A line stands once its request is over; the next is asked afterwards.
            let line = documents(&log, count).await.pop().unwrap();
            let sent = sent.unwrap_or(answer.body.len());
            let expected = serde_json::json!({
                "code": code, "flags": flags, "reason": reason, "received": received, "sent": sent,
                "protocol": protocol, "mine": "\"quoted\"", "upstream": upstream,
            });
            assert_eq!(line, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn a_line_says_http_1_0_and_a_header_that_is_not_there() {
    let up = Upstream::plain(Speaks::Http1).await;
    let directory = Directory::new();
    let log = directory.path("access.log");
    let naru = Naru::start(&Bootstrap::to(up.address).json_log(&log, FIELDS));
    let mut client = Wire::connect(naru.address).await;
    client.send("GET /bytes/3 HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "xxx");
    let line = &documents(&log, 1).await[0];
    assert_eq!((&line["protocol"], &line["mine"]), (&"HTTP/1.0".into(), &serde_json::Value::Null));
}
