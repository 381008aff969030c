//! The cases of gRPC's "Interoperability Test Case Descriptions" that need no accounts, through the proxy, by a
//! client and a server of grpcio: with and without TLS. What is in messages is theirs; here they are bytes of the
//! sizes that the descriptions name.

use naru_base::Reason;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::{Authority, Bootstrap, Naru};
use serde_json::{Value, json};

use super::peers::Peers;

/// A case: its name there, the call, and the code, details and messages that come back.
struct Case {
    name: &'static str,
    call: Value,
    code: &'static str,
    details: Option<&'static str>,
    messages: Value,
}

fn case(name: &'static str, call: Value, code: &'static str, messages: Value) -> Case {
    Case { name, call, code, details: None, messages }
}

fn cases() -> Vec<Case> {
    let filler =
        |sizes: &[u32]| -> Value { sizes.iter().map(|size| json!(format!("filler:{size}"))).collect() };
    let sizes = [31_415, 512, 2_653, 58_979];
    let special = "2 \t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
    let metadata = json!([["x-mine-initial", "test_initial_metadata_value"]]);
    vec![
        case("empty_unary", json!({ "method": "Echo", "messages": [""] }), "OK", json!([""])),
        case(
            "large_unary",
            json!({ "method": "Echo", "messages": filler(&[314_159]) }),
            "OK",
            filler(&[314_159]),
        ),
        case(
            "client_compressed_unary",
            json!({ "method": "Echo", "messages": filler(&[271_828]), "compressed": true }),
            "OK",
            filler(&[271_828]),
        ),
        case(
            "client_streaming",
            json!({ "method": "Count", "messages": filler(&[27_182, 512, 1_828, 45_904]) }),
            "OK",
            json!(["75426"]),
        ),
        case(
            "server_streaming",
            json!({ "method": "Sizes", "messages": ["31415 512 2653 58979"] }),
            "OK",
            filler(&sizes),
        ),
        case(
            "ping_pong",
            json!({ "method": "Talk", "messages": filler(&sizes), "lockstep": true }),
            "OK",
            filler(&sizes),
        ),
        case("empty_stream", json!({ "method": "Talk", "messages": [] }), "OK", json!([])),
        case(
            "custom_metadata",
            json!({ "method": "Echo", "messages": filler(&[271_828]), "metadata": metadata }),
            "OK",
            filler(&[271_828]),
        ),
        Case {
            details: Some("test status message"),
            ..case(
                "status_code_and_message",
                json!({ "method": "Fail", "messages": ["2 test status message"] }),
                "UNKNOWN",
                json!([]),
            )
        },
        Case {
            details: Some(&special[2..]),
            ..case(
                "special_status_message",
                json!({ "method": "Fail", "messages": [special] }),
                "UNKNOWN",
                json!([]),
            )
        },
        case(
            "unimplemented_method",
            json!({ "method": "Nothing", "shape": "Echo", "messages": [""] }),
            "UNIMPLEMENTED",
            json!([]),
        ),
        case(
            "unimplemented_service",
            json!({ "service": "naru.Nothing", "method": "Echo", "messages": [""] }),
            "UNIMPLEMENTED",
            json!([]),
        ),
        case(
            "cancel_after_begin",
            json!({ "method": "Join", "messages": ["never"], "cancel_at_once": true }),
            "CANCELLED",
            json!([]),
        ),
        case(
            "cancel_after_first_response",
            json!({ "method": "Talk", "messages": filler(&[27_182, 512]), "lockstep": true, "cancel_after": 1 }),
            "CANCELLED",
            filler(&[27_182]),
        ),
        case(
            "timeout_on_sleeping_server",
            json!({ "method": "Wait", "messages": [""], "timeout": 0.05 }),
            "DEADLINE_EXCEEDED",
            json!([]),
        ),
    ]
}

#[tokio::test]
async fn every_case_passes_with_and_without_tls() {
    for is_tls in [false, true] {
        let authority = Authority::new();
        let mut peers = Peers::start().await;
        let mut bootstrap = Bootstrap::new(TO_UP).cluster("up", peers.server, HTTP2);
        if is_tls {
            bootstrap = bootstrap.tls(&authority, &["h2", "http/1.1"]);
        }
        let naru = Naru::start(&bootstrap);
        for case in cases() {
            let ca = is_tls.then(|| authority.pem());
            let name = case.name;
            let answer = peers.calls(naru.address, ca, vec![case.call]).await.remove(0);
            assert_eq!(
                (&answer["code"], &answer["messages"]),
                (&case.code.into(), &case.messages),
                "{name} {answer}"
            );
            if let Some(details) = case.details {
                assert_eq!(answer["details"], details, "{name}");
            }
            if name == "custom_metadata" {
                assert_eq!(
                    super::value(&answer["initial"], "x-mine-initial"),
                    Some("test_initial_metadata_value")
                );
                assert_eq!(super::value(&answer["trailing"], "x-end-bin"), Some("00ff"));
            }
        }
        naru.settles().await;
        // Each call was either answered by the server or given up by the client.
        for series in naru.report().await.series.iter().filter(|series| series.requests() > 0) {
            let reason = series.labels.reason;
            let is_fine = matches!(
                reason,
                Reason::Forwarded | Reason::ClientGone | Reason::ClientAborted | Reason::UpstreamReset
            );
            assert!(is_fine, "{reason:?}");
        }
    }
}
