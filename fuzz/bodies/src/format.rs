//! A format string of an access log.

use http::header::{HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Version};
use naru_base::{Instant, Reason, RetryEnd, Times, WallTime};
use naru_journey::Outcome;
use naru_journey::edge::Peer;
use naru_journey::record::{Facts, Form, RequestLine, fill};
use naru_route::{RuleId, Verdict};
use naru_spec::{Format, JsonField, LogFormat, Piece, Scheme};

/// What parses prints back as it was, and is filled in whatever is known: nothing is shorter than
/// its texts, and a line of JSON is JSON.
pub fn format(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let format = match Format::parse(text) {
        Ok(format) => format,
        Err(invalid) => {
            assert!(!invalid.message.is_empty());
            return;
        }
    };
    let printed = format.to_string();
    assert_eq!(Format::parse(&printed).as_ref(), Ok(&format), "{printed:?}");
    let world = World::new();
    for facts in [world.before(), world.after()] {
        let mut out = Vec::new();
        fill(&format, &facts, &mut out);
        let mut line = Vec::new();
        Form::of(&LogFormat::Text(format.clone())).write(&facts, &mut line);
        assert_eq!(line, out, "{printed:?}");
        texts_stand_in_order(&format, &out);
        is_read_back(&format, &out);
        let field = JsonField::Value(format.clone());
        let line =
            LogFormat::Json(vec![("a".into(), field.clone()), ("b".into(), JsonField::List(vec![field]))]);
        let mut out = Vec::new();
        Form::of(&line).write(&facts, &mut out);
        let json = serde_json::from_slice::<serde_json::Value>(&out);
        assert!(json.is_ok(), "{json:?}: {}", String::from_utf8_lossy(&out));
    }
}

/// An operator may say anything; what stands between operators is never lost.
fn texts_stand_in_order(format: &Format, out: &[u8]) {
    let mut rest = out;
    for piece in format.pieces() {
        if let Piece::Text(text) = piece {
            let found = rest.windows(text.len()).position(|part| part == text.as_bytes());
            let at =
                found.unwrap_or_else(|| panic!("{text:?} is lost in {:?}", String::from_utf8_lossy(out)));
            rest = &rest[at + text.len()..];
        }
    }
}

/// A line that is read back has a value for each operator; so has the format, read as a line of itself.
fn is_read_back(format: &Format, out: &[u8]) {
    let line = String::from_utf8_lossy(out);
    for line in [line.as_ref(), &format.to_string()] {
        if let Some(values) = format.read(line) {
            assert_eq!(values.len(), format.operators().count(), "{line:?}");
            assert!(format.check_readable().is_ok(), "{line:?}");
        }
    }
}

struct World {
    line: RequestLine,
    headers: HeaderMap,
    outcome: Outcome,
    peer: Peer,
    times: Times,
}

impl World {
    fn new() -> World {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("curl \"8\""));
        headers.insert("x-bytes", HeaderValue::from_bytes(b"caf\xc3\xa9 \xff\\").expect("a value"));
        headers.insert("x-empty", HeaderValue::from_static(""));
        let peer = Peer {
            remote: ([203, 0, 113, 9], 5_555).into(),
            local: ([10, 0, 0, 1], 80).into(),
            is_tls: true,
            is_certified: false,
            is_in_tunnel: false,
        };
        let line = RequestLine {
            method: Method::GET,
            path: PathAndQuery::from_static("/a?b=1"),
            authority: Some(HeaderValue::from_static("shop.example")),
            scheme: Scheme::Https,
            version: Version::HTTP_2,
        };
        let outcome = Outcome {
            reason: Reason::Forwarded,
            status: 200,
            grpc_status: Some(5),
            verdict: Verdict::Rule { rule: RuleId(0), matched: 1 },
            cluster: None,
            endpoint: None,
            attempts: 2,
            retry_end: RetryEnd::LimitReached,
            is_delayed: true,
            began: Instant(1_000_000),
            request_ended: Some(Instant(3_000_000)),
            head: Some(Instant(13_000_000)),
            ended: Instant(26_400_000),
        };
        World { line, headers, outcome, peer, times: Times::default() }
    }

    /// While the request is under way.
    fn before(&self) -> Facts<'_> {
        Facts {
            line: self.line.view(),
            request: &self.headers,
            response: &(),
            trailers: &(),
            began: WallTime(u64::MAX),
            times: &self.times,
            outcome: None,
            bytes_received: 0,
            bytes_sent: 0,
            peer: &self.peer,
            addresses: None,
            direct: self.peer.remote,
            client: self.peer.remote,
            server_name: None,
            tls_version: None,
            route: "",
            route_origin: "",
            virtual_host: "",
            cluster: None,
            upstream_path: None,
            upstream: None,
            upstream_local: None,
            upstream_failure: None,
            details: None,
            connection: u64::MAX,
            stream: 0,
            host_name: "",
        }
    }

    fn after(&self) -> Facts<'_> {
        Facts {
            response: &self.headers,
            trailers: &self.headers,
            began: WallTime(1_709_251_199_123_456_789),
            outcome: Some(&self.outcome),
            bytes_sent: u64::MAX,
            server_name: Some("shop.example"),
            tls_version: Some("TLSv1.3"),
            route: "canary",
            route_origin: "routes.yaml:12:5",
            virtual_host: "shop",
            cluster: Some("reviews"),
            upstream_path: None,
            upstream: Some(([10, 1, 1, 1], 9_080).into()),
            upstream_failure: Some("TLS_error: \u{1}"),
            details: None,
            host_name: "edge-1",
            ..self.before()
        }
    }
}
