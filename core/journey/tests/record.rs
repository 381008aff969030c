//! Format strings, filled in.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Version};
use naru_base::{Instant, Reason, RetryEnd, Times, WallTime};
use naru_journey::Outcome;
use naru_journey::edge::Peer;
use naru_journey::record::{Addresses, Facts, Form, RequestLine, fill};
use naru_route::{RuleId, Verdict};
use naru_spec::{Format, JsonField, LogFormat, Scheme};

struct World {
    line: RequestLine,
    request: HeaderMap,
    response: HeaderMap,
    trailers: HeaderMap,
    outcome: Outcome,
    peer: Peer,
    times: Times,
}

fn world() -> World {
    let map = |name: &'static str, value: &'static str| {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    };
    World {
        line: RequestLine {
            method: Method::GET,
            path: PathAndQuery::from_static("/a?b=1"),
            authority: Some(HeaderValue::from_static("shop.example")),
            scheme: Scheme::Https,
            version: Version::HTTP_2,
        },
        request: map("user-agent", "curl \"8\""),
        response: map("x-envoy-upstream-service-time", "12"),
        trailers: map("grpc-message", "no"),
        outcome: Outcome {
            reason: Reason::Forwarded,
            status: 200,
            grpc_status: Some(5),
            verdict: Verdict::Rule { rule: RuleId(0), matched: 1 },
            cluster: None,
            endpoint: None,
            attempts: 2,
            retry_end: RetryEnd::Open,
            is_delayed: false,
            began: Instant(1_000_000),
            request_ended: Some(Instant(3_000_000)),
            head: Some(Instant(13_000_000)),
            ended: Instant(26_400_000),
        },
        peer: Peer {
            remote: ([203, 0, 113, 9], 5_555).into(),
            local: ([10, 0, 0, 1], 8_443).into(),
            is_tls: true,
            is_certified: false,
            is_in_tunnel: false,
        },
        times: Times::default(),
    }
}

impl World {
    fn facts(&self) -> Facts<'_> {
        Facts {
            line: self.line.view(),
            request: &self.request,
            response: &self.response,
            trailers: &self.trailers,
            began: WallTime(1_709_251_199_123_456_789),
            times: &self.times,
            outcome: Some(&self.outcome),
            bytes_received: 7,
            bytes_sent: 1_234,
            peer: &self.peer,
            addresses: None,
            direct: self.peer.remote,
            client: ([198, 51, 100, 1], 0).into(),
            server_name: Some("shop.example"),
            tls_version: Some("TLSv1.3"),
            route: "canary",
            route_origin: "routes.yaml:12:5",
            virtual_host: "shop",
            cluster: Some("reviews"),
            upstream_path: None,
            upstream: Some(([10, 1, 1, 1], 9_080).into()),
            upstream_local: None,
            upstream_failure: None,
            details: None,
            connection: 3,
            stream: 4,
            host_name: "edge-1",
        }
    }
}

#[test]
fn operators_say_what_envoys_say() {
    let world = world();
    let check = |format: &str, expected: &str| {
        let mut out = Vec::new();
        fill(&Format::parse(format).unwrap(), &world.facts(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{format}");
    };
    check("%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%", "GET /a?b=1 HTTP/2");
    check(
        "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %REASON%",
        "200 - via_upstream Forwarded",
    );
    check("%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %REQUEST_DURATION%", "7 1234 25 2");
    check("%RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "12 13");
    check("%REQ(USER-AGENT):4%|%REQ(absent)%|%REQ(absent):3%", "curl|-|-");
    check("%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% %TRAILER(grpc-message)%", "12 no");
    check("%START_TIME%", "2024-02-29T23:59:59.123Z");
    check("%START_TIME(%Y/%m/%d %H.%M.%S %3f %s %z %%)%", "2024/02/29 23.59.59 123 1709251199 +0000 %");
    check(
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
        "198.51.100.1 203.0.113.9:5555",
    );
    check("%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%", "10.0.0.1:8443 8443");
    check("%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS%", "10.1.1.1:9080 reviews -");
    check("%ROUTE_NAME% %VIRTUAL_HOST_NAME% %HOSTNAME%", "canary shop edge-1");
    check("%ROUTE_ORIGIN%", "routes.yaml:12:5");
    check(
        "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%",
        "NotFound NOT_FOUND 5 5",
    );
    check("%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION% 100%%", "shop.example TLSv1.3 100%");
    check("%CONNECTION_ID% %STREAM_ID% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", "3 4 2");
}

#[test]
fn addresses_that_were_written_before_are_written_so_again() {
    let mut world = world();
    let format = "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% \
                  %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %UPSTREAM_HOST%";
    let format = Format::parse(format).unwrap();
    for (remote, local) in [("203.0.113.9:5", "10.0.0.1:80"), ("[2001:db8::1]:5", "[::1]:65535")] {
        (world.peer.remote, world.peer.local) = (remote.parse().unwrap(), local.parse().unwrap());
        let known = Addresses::of([world.peer.remote, world.peer.local]);
        // Others stay as they are: the same with another port, too.
        let other = std::net::SocketAddr::new(world.peer.remote.ip(), 6);
        for client in [world.peer.remote, world.peer.local, other] {
            let written = [None, Some(&known)].map(|addresses| {
                let mut out = Vec::new();
                fill(&format, &Facts { addresses, client, ..world.facts() }, &mut out);
                String::from_utf8(out).unwrap()
            });
            assert_eq!(written[0], written[1]);
            let bare = world.peer.local.ip();
            assert_eq!(written[1], format!("{client} {remote} {local} {bare} 10.1.1.1:9080"));
        }
    }
}

#[test]
fn json_keeps_numbers_as_numbers_and_escapes_text() {
    let world = world();
    let value = |format: &str| JsonField::Value(Format::parse(format).unwrap());
    let fields = vec![
        ("status".to_owned(), value("%RESPONSE_CODE%")),
        ("agent".to_owned(), value("%REQ(USER-AGENT)%")),
        ("absent".to_owned(), value("%REQ(X-ABSENT)%")),
        ("mixed".to_owned(), value("took %DURATION% ms")),
        (
            "nested".to_owned(),
            JsonField::Object(vec![("on".to_owned(), JsonField::Literal("true".to_owned()))]),
        ),
        ("list".to_owned(), JsonField::List(vec![value("%ROUTE_NAME%"), value("\u{1}")])),
    ];
    let mut out = Vec::new();
    Form::of(&LogFormat::Json(fields)).write(&world.facts(), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"status\":200,\"agent\":\"curl \\\"8\\\"\",\"absent\":null,\"mixed\":\"took 25 ms\",\
         \"nested\":{\"on\":true},\"list\":[\"canary\",\"\\u0001\"]}\n"
    );
}
