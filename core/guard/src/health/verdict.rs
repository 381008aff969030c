//! What does the answer to a probe mean?

use naru_spec::{HttpCheck, Probe, StatusRange};

/// What the shell brought back from a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// A whole answer to an HTTP probe.
    Http {
        status: u16,
        /// It has `x-envoy-degraded`.
        is_degraded: bool,
        /// It has `x-envoy-immediate-health-check-fail`.
        has_immediate_fail: bool,
    },
    /// A TCP probe connected and, where something is to be received, received it ([`bytes_match`]).
    Connected,
    /// An answer to a gRPC probe: its status, and the `status` of its `HealthCheckResponse`, where
    /// there is one. Whatever is no gRPC is a status of 13.
    Grpc { status: u8, serving: Option<i32> },
    /// No connection, one that closed, or a stream that was reset.
    Broken,
}

/// What it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed { is_degraded: bool },
    Failed { is_retriable: bool, is_excluded: bool },
    Broken,
    TimedOut,
}

/// `SERVING` of `grpc.health.v1.HealthCheckResponse`.
const SERVING: i32 = 1;

/// An answer of another kind than the probe is none.
pub(super) fn judge(probe: &Probe, result: ProbeResult) -> Verdict {
    match (probe, result) {
        (Probe::Http(check), ProbeResult::Http { status, is_degraded, has_immediate_fail }) => {
            if is_expected(check, status) {
                return Verdict::Passed { is_degraded };
            }
            let is_retriable = check.retriable_statuses.iter().any(|range| range.has(status));
            Verdict::Failed { is_retriable, is_excluded: has_immediate_fail }
        }
        (Probe::Tcp(_), ProbeResult::Connected) => Verdict::Passed { is_degraded: false },
        (Probe::Grpc(_), ProbeResult::Grpc { status: 0, serving: Some(SERVING) }) => {
            Verdict::Passed { is_degraded: false }
        }
        (Probe::Grpc(_), ProbeResult::Grpc { .. }) => {
            Verdict::Failed { is_retriable: false, is_excluded: false }
        }
        (Probe::Http(_) | Probe::Tcp(_) | Probe::Grpc(_), _) => Verdict::Broken,
    }
}

fn is_expected(check: &HttpCheck, status: u16) -> bool {
    match check.expected_statuses.as_slice() {
        [] => StatusRange::OK.has(status),
        ranges => ranges.iter().any(|range| range.has(status)),
    }
}

/// Whether all blocks stand in what was received, one after another, with anything in between.
/// Source: Envoy's `PayloadMatcher::match`.
pub fn bytes_match(blocks: &[Vec<u8>], received: &[u8]) -> bool {
    let mut rest = received;
    for block in blocks.iter().filter(|block| !block.is_empty()) {
        let found = rest.windows(block.len()).position(|window| window == block.as_slice());
        match found.and_then(|at| rest.get(at + block.len()..)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use naru_spec::{GrpcCheck, TcpCheck};

    use super::*;

    #[test]
    fn blocks_are_found_in_their_order() {
        let check = |blocks: &[&str], received: &str, expected| {
            let blocks: Vec<Vec<u8>> = blocks.iter().map(|block| block.as_bytes().to_vec()).collect();
            assert_eq!(bytes_match(&blocks, received.as_bytes()), expected, "{blocks:?} {received}");
        };
        check(&[], "", true);
        check(&["+PONG"], "..+PONG\r\n", true);
        check(&["a", "b"], "xaxxb", true);
        check(&["b", "a"], "ab", false);
        check(&["aa", "a"], "aa", false);
        check(&["long"], "lo", false);
    }

    #[test]
    fn answers_mean_what_envoy_takes_them_for() {
        let http = Probe::Http(HttpCheck {
            expected_statuses: vec![StatusRange::new(200, 300).unwrap()],
            retriable_statuses: vec![
                StatusRange::new(204, 205).unwrap(),
                StatusRange::new(503, 504).unwrap(),
            ],
            ..HttpCheck::new("/healthz")
        });
        let answer = |status| ProbeResult::Http { status, is_degraded: false, has_immediate_fail: true };
        let failed = |is_retriable| Verdict::Failed { is_retriable, is_excluded: true };
        assert_eq!(judge(&http, answer(204)), Verdict::Passed { is_degraded: false }, "expected goes first");
        assert_eq!(judge(&http, answer(503)), failed(true));
        assert_eq!(judge(&http, answer(500)), failed(false));
        assert_eq!(judge(&http, ProbeResult::Broken), Verdict::Broken);
        assert_eq!(judge(&http, ProbeResult::Connected), Verdict::Broken);
        let plain = Probe::Http(HttpCheck::new("/"));
        assert_eq!(judge(&plain, answer(201)), failed(false), "only 200, where nothing is said");
        let grpc = Probe::Grpc(GrpcCheck::default());
        let said = |status, serving| judge(&grpc, ProbeResult::Grpc { status, serving });
        assert_eq!(said(0, Some(1)), Verdict::Passed { is_degraded: false });
        for (status, serving) in [(0, Some(2)), (0, None), (12, None), (5, Some(1))] {
            let expected = Verdict::Failed { is_retriable: false, is_excluded: false };
            assert_eq!(said(status, serving), expected);
        }
        let tcp = Probe::Tcp(TcpCheck::default());
        assert_eq!(judge(&tcp, ProbeResult::Connected), Verdict::Passed { is_degraded: false });
    }
}
