//! Where endpoints come in a caller's order.

use std::net::{Ipv4Addr, SocketAddr};

use naru_resource::{Place, Placed, Text};
use naru_spec::Address;

use super::*;

const AT: Place = Place { file: naru_resource::FileId(0), line: 0, column: 0 };

fn text(value: &str) -> Text {
    Placed { value: value.to_owned(), place: AT }
}

fn labels(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn said() -> LocalityLoadBalancer {
    LocalityLoadBalancer {
        place: AT,
        enabled: None,
        distribute: Vec::new(),
        failover: Vec::new(),
        failover_priority: Vec::new(),
    }
}

fn distribution(from: &str, to: &[(&str, i64)]) -> Distribute {
    let to = to.iter().map(|(pattern, weight)| (text(pattern), Placed { value: *weight, place: AT }));
    Distribute { place: AT, from: text(from), to: to.collect() }
}

fn failover(from: &str, to: &str) -> Failover {
    Failover { place: AT, from: text(from), to: text(to) }
}

/// What becomes of endpoints of these localities and weights, with their locality again: priority and weight.
fn applied(
    localities: &[(&str, u32)],
    said: Option<&LocalityLoadBalancer>,
    caller: &[(&str, &str)],
    ejects: bool,
) -> (bool, Vec<(String, u32, u32)>) {
    let address = Address::Socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let mut endpoints: Vec<Labelled<'_>> = localities
        .iter()
        .map(|(locality, weight)| {
            let endpoint = Endpoint {
                locality: read(locality, '/'),
                weight: Weight(*weight),
                ..Endpoint::new(address.clone())
            };
            (endpoint, &[][..])
        })
        .collect();
    let is_weighed = apply(&mut endpoints, said, &labels(caller), ejects);
    let found = endpoints
        .iter()
        .map(|(endpoint, _)| (endpoint.locality.to_string(), endpoint.priority, endpoint.locality_weight.0));
    (is_weighed, found.collect())
}

fn priorities(localities: &[&str], said: Option<&LocalityLoadBalancer>, ejects: bool) -> Vec<u32> {
    let localities: Vec<_> = localities.iter().map(|locality| (*locality, 1)).collect();
    let (_, found) = applied(&localities, said, &[(WHOLE, "eu.a.1")], ejects);
    found.iter().map(|(_, priority, _)| *priority).collect()
}

#[test]
fn labels_say_where_something_stands() {
    assert_eq!(of_labels(&labels(&[(WHOLE, "eu.a.1")])).to_string(), "eu/a/1");
    assert_eq!(of_labels(&labels(&[(WHOLE, "eu/a.b")])).to_string(), "eu/a.b");
    assert_eq!(of_labels(&labels(&[(REGION, "eu"), (ZONE, "a"), (SUB_ZONE, "1")])).to_string(), "eu/a/1");
    assert!(of_labels(&labels(&[("app", "x")])).is_empty());
}

#[test]
fn the_near_come_first_where_endpoints_are_watched() {
    let all = ["us/a/1", "eu/b/1", "eu/a/2", "eu/a/1", "asia/x/y"];
    assert_eq!(priorities(&all, None, true), [3, 2, 1, 0, 3]);
    assert_eq!(priorities(&all, None, false), [0; 5]);
    // Without gaps, whatever is there.
    assert_eq!(priorities(&["us/a/1", "eu/a/1"], None, true), [1, 0]);
    let off = LocalityLoadBalancer { enabled: Some(Placed { value: false, place: AT }), ..said() };
    assert_eq!(priorities(&all, Some(&off), true), [0; 5]);
    // A caller of nowhere has nothing near.
    let (_, found) = applied(&[("us", 1), ("eu", 1)], None, &[], true);
    assert!(found.iter().all(|(_, priority, _)| *priority == 0));
}

#[test]
fn a_failover_names_the_region_before_the_others() {
    let rules =
        LocalityLoadBalancer { failover: vec![failover("eu", "us"), failover("us", "asia")], ..said() };
    assert_eq!(priorities(&["asia", "us", "eu/a/1"], Some(&rules), true), [2, 1, 0]);
    assert_eq!(priorities(&["asia", "us", "eu/a/1"], Some(&rules), false), [0, 0, 0]);
}

#[test]
fn labels_in_their_order_make_priorities() {
    let order = ["version", "topology.kubernetes.io/region", "tier=gold"];
    let rules =
        LocalityLoadBalancer { failover_priority: order.iter().map(|label| text(label)).collect(), ..said() };
    let own = [
        labels(&[("version", "1"), ("tier", "gold")]),
        labels(&[("version", "1"), ("tier", "iron")]),
        labels(&[("version", "1"), ("tier", "gold")]),
        labels(&[("version", "2"), ("tier", "gold")]),
        labels(&[]),
    ];
    let address = Address::Socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let mut endpoints: Vec<Labelled<'_>> = own
        .iter()
        .zip(["eu", "eu", "us", "eu", "eu"])
        .map(|(own, region)| {
            (Endpoint { locality: read(region, '/'), ..Endpoint::new(address.clone()) }, own.as_slice())
        })
        .collect();
    let caller = labels(&[("version", "1"), (REGION, "eu"), ("tier", "wood")]);
    apply(&mut endpoints, Some(&rules), &caller, true);
    let found: Vec<u32> = endpoints.iter().map(|(endpoint, _)| endpoint.priority).collect();
    // All three; two; one; none; none.
    assert_eq!(found, [0, 1, 2, 3, 3]);
    // What neither has is equal.
    let nothing = LocalityLoadBalancer { failover_priority: vec![text("nobody-has-it")], ..said() };
    for (endpoint, _) in &mut endpoints {
        endpoint.priority = 0;
    }
    apply(&mut endpoints, Some(&nothing), &caller, true);
    assert!(endpoints.iter().all(|(endpoint, _)| endpoint.priority == 0));
}

#[test]
fn weights_are_distributed_and_the_rest_is_left_out() {
    let rules = LocalityLoadBalancer {
        distribute: vec![
            distribution("us/*", &[("us/*", 100)]),
            distribution("eu/a/*", &[("eu/a/*", 70), ("eu/b", 20), ("us/*", 10)]),
            distribution("*", &[("asia", 100)]),
        ],
        ..said()
    };
    let all =
        [("eu/a/1", 3), ("eu/a/2", 1), ("eu/b/1", 1), ("us/x", 1), ("us/x", 2), ("asia", 1), ("eu/a/1", 2)];
    let (is_weighed, found) = applied(&all, Some(&rules), &[(WHOLE, "eu.a.9")], true);
    assert!(is_weighed);
    // Of 70: five and one sixths, rounded up.
    let expected: Vec<(String, u32, u32)> =
        [("eu/a/1", 59), ("eu/a/2", 12), ("eu/b/1", 20), ("us/x", 10), ("us/x", 10), ("eu/a/1", 59)]
            .map(|(locality, weight)| (locality.to_owned(), 0, weight))
            .to_vec();
    assert_eq!(found, expected);
    // Another caller, another rule, also without ejections.
    let (_, found) = applied(&all, Some(&rules), &[(WHOLE, "us.q")], false);
    assert_eq!(found.len(), 2);
    let (_, found) = applied(&all, Some(&rules), &[], false);
    assert_eq!(found, [("asia".to_owned(), 0, 100)]);
}

#[test]
fn without_a_distribution_a_locality_weighs_what_its_endpoints_do() {
    let (is_weighed, found) = applied(&[("eu/a", 2), ("eu/a", 3), ("us", 1)], None, &[], false);
    assert!(is_weighed);
    let weights: Vec<u32> = found.iter().map(|(_, _, weight)| *weight).collect();
    assert_eq!(weights, [5, 5, 1]);
    let (is_weighed, found) = applied(&[("", 2), ("", 3)], None, &[(WHOLE, "eu")], true);
    assert_eq!((is_weighed, found[0].2), (false, 1));
}

#[test]
fn a_service_that_prefers_who_is_close_has_them_first_without_outlier_detection() {
    let endpoints = [("r/a/", 1), ("r/b/", 1), ("s/a/", 1)];
    let caller = [(REGION, "r"), (ZONE, "a")];
    let order = |said| {
        let setting = of_distribution(said, &labels(&caller));
        let (is_weighed, found) = applied(&endpoints, setting.as_ref(), &caller, setting.is_some());
        assert!(is_weighed);
        found.into_iter().map(|(_, priority, _)| priority).collect::<Vec<_>>()
    };
    assert_eq!(order(TrafficDistribution::PreferClose), [0, 1, 2]);
    assert_eq!(order(TrafficDistribution::PreferSameZone), [0, 1, 2]);
    // Nobody is on another node where nothing says on which.
    assert_eq!(order(TrafficDistribution::PreferSameNode), [0, 1, 2]);
    let nowhere = of_distribution(TrafficDistribution::PreferClose, &labels(&[("app", "x")]));
    assert_eq!(nowhere, None, "who stands nowhere is close to nobody");
}
