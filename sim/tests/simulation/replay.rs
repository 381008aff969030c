//! A request on a connection that the upstream had closed.

use std::time::Duration;

use http::Method;
use naru_base::Reason;
use naru_sim::{Body, Driver, IdleClose, Script};
use naru_spec::UpstreamProtocol;

use crate::support::{compile, get, plain};

const MS: Duration = Duration::from_millis(1);
const KIB: u64 = 1_024;

/// Closes connections that waited for a second; the proxy hears of it a millisecond later.
fn closing() -> Script {
    Script { idle_close: Some(IdleClose { after: 1_000 * MS, notice: MS }), ..Script::default() }
}

/// A second request after a wait: attempts, status, reason.
fn second(protocol: UpstreamProtocol, wait: Duration, method: Method, body: Body) -> (u16, u16, Reason) {
    let mut config = plain();
    config.clusters[0].protocol = protocol;
    let snapshot = compile(config);
    let mut driver = Driver::new(&snapshot, 1);
    let first = driver.drive_one(&get("/"), closing()).unwrap();
    assert_eq!((first.attempts, first.status), (1, 200));
    driver.wait(wait).unwrap();
    let mut request = get("/");
    request.head.method = method;
    request.body = body;
    let decision = driver.drive_one(&request, closing()).unwrap();
    (decision.attempts, decision.status, decision.reason)
}

#[test]
fn it_is_sent_again_on_a_new_connection_where_that_is_safe() {
    let race = 1_000 * MS + MS / 2;
    let check = |wait: Duration, method: Method, body: Body, expected: (u16, u16, Reason)| {
        for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
            let found = second(protocol, wait, method.clone(), body);
            assert_eq!(found, expected, "{protocol:?} {method} {body:?} after {wait:?}");
        }
    };
    let small = Body::new(64 * KIB, Duration::ZERO);
    let large = Body::new(64 * KIB + 1, Duration::ZERO);
    let once = (1, 200, Reason::Forwarded);
    let twice = (2, 200, Reason::Forwarded);
    let failed = (1, 503, Reason::UpstreamClosed);
    check(race, Method::GET, Body::EMPTY, twice);
    check(race, Method::PUT, small, twice);
    check(race, Method::PUT, large, failed);
    check(race, Method::POST, Body::EMPTY, failed);
    // Before the upstream closes, and after the proxy knows.
    check(900 * MS, Method::POST, Body::EMPTY, once);
    check(1_100 * MS, Method::POST, Body::EMPTY, once);
}

#[test]
fn a_body_that_is_still_coming_is_sent_again_from_its_beginning() {
    let found = second(
        UpstreamProtocol::Http1,
        1_000 * MS + MS / 2,
        Method::PUT,
        Body::new(40 * KIB, 20 * MS).in_parts(10),
    );
    assert_eq!(found, (2, 200, Reason::Forwarded));
}

#[test]
fn connections_are_used_again_as_long_as_they_may_be() {
    let connections = |change: &dyn Fn(&mut naru_spec::Cluster), wait: Duration| {
        let mut config = plain();
        change(&mut config.clusters[0]);
        let snapshot = compile(config);
        let mut driver = Driver::new(&snapshot, 1);
        for _ in 0..6 {
            driver.drive_one(&get("/"), Script::default()).unwrap();
            driver.wait(wait).unwrap();
        }
        driver.world().fleet().endpoints(naru_base::ClusterId(0))[0].connections_total
    };
    assert_eq!(connections(&|_| {}, MS), 1);
    assert_eq!(connections(&|cluster| cluster.max_requests_per_connection = Some(2), MS), 3);
    assert_eq!(connections(&|cluster| cluster.idle_timeout = Some(MS), 2 * MS), 6);
    assert_eq!(connections(&|cluster| cluster.protocol = UpstreamProtocol::Http2, MS), 1);
}
