//! A request whose connection cannot be made.

use std::net::SocketAddr;
use std::time::Duration;

use naru_base::{ClusterId, Reason};
use naru_sim::{Decision, Dial, Driver, Script};
use naru_spec::{Action, Backoff, Cluster, Forward, LoadBalancing, RetryPolicy, UpstreamProtocol};

use crate::support::{cluster, compile, config, forward, get, rule};

const MS: Duration = Duration::from_millis(1);
const ADDRESSES: [&str; 3] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];

fn three(change: impl FnOnce(&mut Forward, &mut Cluster)) -> naru_journey::Snapshot {
    let mut forward = forward("three");
    let mut cluster = cluster("three", &ADDRESSES);
    change(&mut forward, &mut cluster);
    compile(config(vec![rule("/", Action::Forward(Box::new(forward)))], vec![cluster]))
}

fn refusing(some: &[&str]) -> Script {
    Script { refusing: some.iter().map(|address| address.parse().unwrap()).collect(), ..Script::default() }
}

#[test]
fn it_goes_to_an_endpoint_that_was_not_tried() {
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        for balancing in
            [LoadBalancing::round_robin(), LoadBalancing::random(), LoadBalancing::least_request()]
        {
            let snapshot = three(|forward, cluster| {
                forward.retry = Some(RetryPolicy::connects(2));
                cluster.protocol = protocol;
                cluster.load_balancing = balancing.clone();
            });
            let mut driver = Driver::new(&snapshot, 1);
            let third: SocketAddr = ADDRESSES[2].parse().unwrap();
            for _ in 0..50 {
                let Decision { endpoint, attempts, status, reason, flag, .. } =
                    driver.drive_one(&get("/"), refusing(&ADDRESSES[..2])).unwrap();
                let is_random = balancing != LoadBalancing::round_robin();
                // Chance may pick those that were tried six times in a row.
                if is_random && status == 503 {
                    assert_eq!((reason, flag, attempts), (Reason::ConnectFailure, "URX,UF", 3));
                    continue;
                }
                assert_eq!((endpoint, status, reason, flag), (Some(third), 200, Reason::Forwarded, "-"));
                assert!((1..=3).contains(&attempts), "{attempts}");
            }
        }
    }
}

#[test]
fn the_flags_say_that_there_were_retries_and_none_is_left() {
    let check = |retries: u32, script: Script, expected: (u16, u16, Reason, &str)| {
        let snapshot = three(|forward, cluster| {
            // So short that all of them fit into the timeout.
            let backoff = Backoff::of_base(MS);
            forward.retry = Some(RetryPolicy { backoff, ..RetryPolicy::connects(retries) });
            forward.timeout = Some(100 * MS);
            cluster.connect_timeout = 60 * MS;
        });
        let mut driver = Driver::new(&snapshot, 1);
        let Decision { attempts, status, reason, flag, .. } = driver.drive_one(&get("/"), script).unwrap();
        assert_eq!((attempts, status, reason, flag), expected);
        let endpoints = driver.world().fleet().endpoints(ClusterId(0));
        assert_eq!(endpoints.iter().map(|here| here.active).sum::<u32>(), 0);
        assert_eq!(endpoints.iter().map(|here| here.requests_total).sum::<u64>(), u64::from(attempts));
    };
    // As in Envoy: there is a policy, and none of its retries is left.
    check(0, refusing(&ADDRESSES), (1, 503, Reason::ConnectFailure, "URX,UF"));
    check(1, refusing(&ADDRESSES), (2, 503, Reason::ConnectFailure, "URX,UF"));
    check(7, refusing(&ADDRESSES), (8, 503, Reason::ConnectFailure, "URX,UF"));
    let dials = |dials: &[Dial]| Script { dials: dials.iter().copied().collect(), ..Script::default() };
    let (refused, silent) = (Dial::Refused { after: MS }, Dial::Silent);
    check(2, dials(&[refused, Dial::TlsFailed { after: MS }]), (3, 200, Reason::Forwarded, "-"));
    check(1, dials(&[refused, Dial::TlsFailed { after: MS }]), (2, 503, Reason::UpstreamTls, "URX,UF"));
    // The first takes its connect timeout, the second what is left of the route's.
    check(9, dials(&[silent, silent]), (2, 504, Reason::RouteTimeout, "UT"));
}
