//! The client's side of a control plane: what it asks, accepts and refuses, and what it puts in force.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod control_plane;

use std::time::Duration;

use control_plane::{
    Plane, addresses, apart, bootstrap, cluster, counted, endpoints, listener, routes, secret, secured,
};
use naru_base::Instant;
use naru_xds::discovery::{Event, Kind};

fn after(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

#[test]
fn clusters_wait_for_endpoints_and_listeners_for_routes_and_their_clusters() {
    for is_delta in [false, true] {
        let mut plane = Plane::new(is_delta);
        plane.connect();
        assert_eq!(plane.opened(), [Kind::Cluster, Kind::Listener]);
        // Routes before what they lead to, and a listener before its routes.
        plane.truth.listeners = vec![listener("edge", 10_001, "web")];
        plane.truth.routes = vec![routes("web", &["a"])];
        plane.truth.clusters = vec![cluster("a")];
        plane.truth.endpoints = vec![endpoints("a", &["10.0.0.1"])];
        plane.say(Kind::Listener);
        assert_eq!(plane.names(Kind::Routes), ["web"]);
        assert_eq!(plane.in_force(), (vec![], vec!["xds"]));
        plane.say(Kind::Routes);
        assert_eq!(plane.in_force(), (vec![], vec!["xds"]), "the routes lead nowhere yet");
        plane.say(Kind::Cluster);
        assert_eq!(plane.names(Kind::Endpoints), ["a"]);
        assert_eq!(plane.in_force(), (vec![], vec!["xds"]), "nobody is there yet");
        plane.say(Kind::Endpoints);
        assert_eq!(plane.in_force(), (vec!["edge"], vec!["a", "xds"]));
        assert_eq!(plane.refusals, Vec::<String>::new());
        assert!(plane.client.is_initialized());
    }
}

#[test]
fn a_listener_waits_for_the_cluster_of_whoever_counts_its_requests() {
    for is_delta in [false, true] {
        let mut plane = Plane::begun(is_delta);
        plane.truth.listeners = vec![
            counted(listener("edge", 10_001, "web"), "counts"),
            counted(listener("new", 10_002, "web"), "counts"),
        ];
        plane.say(Kind::Listener);
        assert_eq!(plane.in_force(), (vec!["edge"], vec!["a", "xds"]), "nobody can be asked yet");
        let has_gate = |plane: &Plane| plane.running.listeners[0].chains[0].http.gate.checks.len();
        assert_eq!(has_gate(&plane), 0);
        plane.truth.clusters.push(cluster("counts"));
        plane.truth.endpoints.push(endpoints("counts", &["10.0.0.7"]));
        plane.say(Kind::Cluster);
        assert_eq!(plane.in_force(), (vec!["edge"], vec!["a", "xds"]), "nobody is there yet");
        plane.say(Kind::Endpoints);
        assert_eq!(plane.in_force(), (vec!["edge", "new"], vec!["a", "counts", "xds"]));
        assert_eq!(has_gate(&plane), 1);
        // While it is asked it stays, whoever says that it is gone.
        plane.truth.clusters.pop();
        plane.say(Kind::Cluster);
        assert_eq!(plane.in_force(), (vec!["edge", "new"], vec!["a", "counts", "xds"]));
        plane.truth.listeners = vec![listener("edge", 10_001, "web")];
        plane.say(Kind::Listener);
        assert_eq!(plane.in_force(), (vec!["edge"], vec!["a", "xds"]));
        assert_eq!(plane.refusals, Vec::<String>::new());
    }
}

#[test]
fn what_is_led_to_stays_until_nobody_is_led_there() {
    let mut plane = Plane::running();
    plane.truth.clusters = vec![cluster("b")];
    plane.truth.endpoints = vec![endpoints("b", &["10.0.0.2"])];
    plane.say(Kind::Cluster);
    assert_eq!(plane.in_force(), (vec!["edge"], vec!["a", "xds"]), "a is gone, and is led to");
    plane.say(Kind::Endpoints);
    assert_eq!(plane.in_force(), (vec!["edge"], vec!["a", "b", "xds"]));
    plane.truth.routes = vec![routes("web", &["b"])];
    plane.say(Kind::Routes);
    assert_eq!(plane.in_force(), (vec!["edge"], vec!["b", "xds"]));
    plane.truth.listeners.clear();
    plane.say(Kind::Listener);
    assert_eq!(plane.in_force(), (vec![], vec!["b", "xds"]));
}

#[test]
fn other_endpoints_are_nothing_but_other_endpoints() {
    let mut plane = Plane::running();
    let (wholes, parts) = (plane.wholes, plane.parts);
    plane.truth.endpoints = vec![endpoints("a", &["10.0.0.1", "10.0.0.9"])];
    plane.say(Kind::Endpoints);
    assert_eq!((plane.wholes, plane.parts), (wholes, parts + 1));
    assert_eq!(addresses(&plane.running, "a"), ["10.0.0.1:80", "10.0.0.9:80"]);
    plane.say(Kind::Endpoints);
    plane.say(Kind::Cluster);
    plane.say(Kind::Listener);
    assert_eq!((plane.wholes, plane.parts), (wholes, parts + 1), "the same once more is nothing");
}

#[test]
fn a_refusal_names_the_resource_and_what_is_wrong_and_changes_nothing() {
    for is_delta in [false, true] {
        let mut plane = Plane::begun(is_delta);
        let before = plane.running.clone();
        let mut wrong = cluster("bad");
        wrong.lb_policy = 99;
        plane.truth.clusters.push(wrong);
        plane.say(Kind::Cluster);
        let why = plane.refusals.pop().unwrap();
        assert!(why.contains("cluster 'bad'") && why.contains("lb_policy"), "{why}");
        assert_eq!(plane.running, before);
        plane.truth.clusters.pop();
        plane.truth.clusters.push(cluster("good"));
        plane.say(Kind::Cluster);
        assert_eq!(plane.refusals, Vec::<String>::new());
        assert_eq!(plane.names(Kind::Endpoints), ["a", "good"]);
        let events = plane.client.take_events();
        assert!(matches!(events[0], Event::Refused { kind: Kind::Cluster, .. }), "{events:?}");
        assert!(matches!(events[1], Event::Recovered { kind: Kind::Cluster, .. }), "{events:?}");
    }
}

#[test]
fn wrong_resources_are_refused_with_a_reason() {
    let check = |kind: Kind, resources: Vec<(String, Vec<u8>)>, expected: &str| {
        let mut plane = Plane::running();
        let before = plane.running.clone();
        plane.say_bytes(kind, resources);
        let why = plane.refusals.pop().unwrap_or_else(|| panic!("accepted: {expected}"));
        assert!(why.contains(expected), "{why}");
        assert_eq!(plane.running, before, "{expected}");
    };
    let of = |kind: Kind| kind.type_url().to_owned();
    let bytes = |message: &naru_xds::message::Cluster| naru_xds::discovery::write(message);
    let one = bytes(&cluster("x"));
    check(
        Kind::Cluster,
        vec![(of(Kind::Cluster), one.clone()), (of(Kind::Cluster), one)],
        "two clusters with the name 'x'",
    );
    check(
        Kind::Cluster,
        vec![(of(Kind::Listener), bytes(&cluster("x")))],
        "is a 'envoy.config.listener.v3.Listener'",
    );
    check(Kind::Cluster, vec![(of(Kind::Cluster), b"\xff\xff\xff".to_vec())], "bytes that are not");
    check(Kind::Cluster, vec![(of(Kind::Cluster), bytes(&cluster("")))], "has no name");
    check(Kind::Cluster, vec![(of(Kind::Cluster), bytes(&cluster("xds")))], "stands in the bootstrap file");
    let listener = |message| vec![(of(Kind::Listener), naru_xds::discovery::write(&message))];
    let mut same_address = listener(self::listener("edge", 10_001, "web"));
    same_address.extend(listener(self::listener("other", 10_001, "web")));
    check(Kind::Listener, same_address, "two listeners ask for the address");
}

#[test]
fn a_plan_that_cannot_be_carried_out_is_a_refusal() {
    let mut plane = Plane::running();
    plane.fails = Some("listener 'more' cannot have the address".to_owned());
    plane.truth.listeners.push(listener("more", 10_002, "web"));
    plane.say(Kind::Listener);
    assert_eq!(plane.refusals.pop().unwrap(), "listener 'more' cannot have the address");
    assert_eq!(plane.in_force().0, ["edge"]);
    plane.fails = None;
    plane.say(Kind::Listener);
    assert_eq!(plane.in_force().0, ["edge", "more"]);
}

#[test]
fn what_does_not_come_in_time_is_taken_to_be_empty_where_nothing_was_there() {
    let mut plane = Plane::new(false);
    plane.connect();
    plane.truth.clusters = vec![cluster("a")];
    plane.truth.listeners = vec![listener("edge", 10_001, "web"), listener("late", 10_002, "never")];
    plane.truth.routes = vec![routes("web", &["a", "nobody"])];
    for kind in [Kind::Cluster, Kind::Listener, Kind::Routes] {
        plane.say(kind);
    }
    assert_eq!(plane.in_force(), (vec![], vec!["xds"]));
    plane.tick(after(14));
    assert_eq!(plane.in_force(), (vec![], vec!["xds"]));
    plane.tick(after(16));
    // Clusters that have not come answer 503, and a table that has not come 404.
    assert_eq!(plane.in_force(), (vec!["edge", "late"], vec!["a", "nobody", "xds"]));
    assert_eq!(addresses(&plane.running, "a"), [""; 0]);
    let in_vain = |event: &Event| matches!(event, Event::WaitedInVain { .. });
    assert_eq!(plane.client.take_events().iter().filter(|event| in_vain(event)).count(), 3);
    // It may come later all the same.
    plane.truth.endpoints = vec![endpoints("a", &["10.0.0.1"])];
    plane.say(Kind::Endpoints);
    assert_eq!(addresses(&plane.running, "a"), ["10.0.0.1:80"]);
}

#[test]
fn where_something_was_in_force_it_stays_until_the_new_is_whole() {
    let mut plane = Plane::running();
    plane.truth.routes = vec![routes("web", &["missing"])];
    plane.say(Kind::Routes);
    let led_to = |plane: &Plane| format!("{:?}", plane.running.listeners[0].chains[0].http.routes);
    assert!(led_to(&plane).contains("\"a\""), "{}", led_to(&plane));
    plane.tick(after(100));
    assert!(led_to(&plane).contains("\"a\""), "also when nobody waits any more");
    plane.truth.clusters.push(cluster("missing"));
    plane.truth.endpoints.push(endpoints("missing", &["10.0.0.3"]));
    plane.say(Kind::Cluster);
    plane.say(Kind::Endpoints);
    assert!(led_to(&plane).contains("missing"), "{}", led_to(&plane));
}

/// A listener with a table whose virtual hosts come by themselves.
fn begun_apart() -> Plane {
    let mut plane = Plane::begun(true);
    let (table, hosts) = apart("apart", &[("a.test", &["a"]), ("b.test", &["a"])]);
    plane.truth.routes.push(table);
    plane.truth.hosts.insert("apart".to_owned(), hosts);
    plane.truth.listeners.push(listener("other", 10_002, "apart"));
    plane.say(Kind::Listener);
    plane.say(Kind::Routes);
    assert_eq!(plane.names(Kind::VirtualHost), ["apart"]);
    assert_eq!(plane.in_force().0, ["edge"], "its virtual hosts have not come");
    plane.say(Kind::VirtualHost);
    assert_eq!(plane.in_force().0, ["edge", "other"]);
    plane
}

fn hosts(plane: &Plane) -> Vec<&str> {
    let table =
        &plane.running.listeners.iter().find(|one| one.name == "other").unwrap().chains[0].http.routes;
    table.virtual_hosts.iter().map(|host| host.name.as_str()).collect()
}

#[test]
fn virtual_hosts_come_by_themselves_and_change_one_by_one() {
    let mut plane = begun_apart();
    assert_eq!(hosts(&plane), ["a.test", "b.test"]);
    // Another one, one gone, and one that leads to what has not come.
    let (_, others) = apart("apart", &[("b.test", &["a"]), ("c.test", &["a"])]);
    plane.truth.hosts.insert("apart".to_owned(), others);
    plane.say(Kind::VirtualHost);
    assert_eq!(hosts(&plane), ["b.test", "c.test"]);
    let (_, others) = apart("apart", &[("d.test", &["late"])]);
    plane.truth.hosts.insert("apart".to_owned(), others);
    plane.say(Kind::VirtualHost);
    assert_eq!(hosts(&plane), ["b.test", "c.test"], "all of the table waits");
    plane.truth.clusters.push(cluster("late"));
    plane.truth.endpoints.push(endpoints("late", &["10.0.0.4"]));
    plane.say(Kind::Cluster);
    plane.say(Kind::Endpoints);
    assert_eq!(hosts(&plane), ["d.test"]);
    // A table that comes to have none is in force without any.
    plane.truth.hosts.insert("apart".to_owned(), Vec::new());
    plane.say(Kind::VirtualHost);
    assert_eq!(hosts(&plane), [""; 0]);
    // And one that has its own again does not ask for any.
    let mut own = routes("apart", &["a"]);
    own.virtual_hosts[0].name = "own".to_owned();
    plane.truth.routes[1] = own;
    plane.say(Kind::Routes);
    assert_eq!((hosts(&plane), plane.names(Kind::VirtualHost)), (vec!["own"], vec![]));
    assert_eq!(plane.refusals, Vec::<String>::new());
}

#[test]
fn virtual_hosts_are_known_on_a_new_stream_and_on_disk() {
    let mut plane = begun_apart();
    plane.lose();
    plane.connect();
    assert_eq!(plane.known_at_open(Kind::VirtualHost), ["apart/a.test", "apart/b.test"]);
    let kept = plane.client.keep(true);
    let mut later = Plane::new(true);
    later.client.restore(Instant::ZERO, &kept).unwrap();
    later.carry_out();
    assert_eq!(later.running, plane.running);
    // Whoever is told all that there is could not be told that one is gone.
    let error = Plane::new(false).client.restore(Instant::ZERO, &kept).unwrap_err();
    assert!(error.contains("routes 'apart'") && error.contains("by delta only"), "{error}");
}

#[test]
fn a_wrong_virtual_host_is_refused_and_the_table_stays() {
    let check = |change: &dyn Fn(&mut Plane), expected: &str| {
        let mut plane = begun_apart();
        let before = plane.running.clone();
        change(&mut plane);
        plane.say(Kind::VirtualHost);
        let why = plane.refusals.pop().unwrap_or_else(|| panic!("accepted: {expected}"));
        assert!(why.contains(expected), "{why}");
        assert_eq!(plane.running, before, "{expected}");
    };
    let rename = |plane: &mut Plane, domain: &str| {
        plane.truth.hosts.get_mut("apart").unwrap()[1].domains = vec![domain.to_owned()];
    };
    check(&|plane| rename(plane, "a.test"), "only one virtual host may have the domain 'a.test'");
    check(&|plane| rename(plane, "a*b"), "virtual host 'apart/b.test': domains[0]");
    check(
        &|plane| plane.truth.hosts.get_mut("apart").unwrap()[1].include_request_attempt_count = true,
        "include_request_attempt_count",
    );
}

#[test]
fn secrets_come_by_name_and_the_wrong_kind_is_refused() {
    let mut plane = Plane::new(false);
    plane.connect();
    plane.truth.listeners = vec![secured(listener("edge", 10_001, "web"), "cert")];
    plane.truth.routes = vec![routes("web", &["xds"])];
    plane.say(Kind::Listener);
    plane.say(Kind::Routes);
    assert_eq!(plane.names(Kind::Secret), ["cert"]);
    assert_eq!(plane.in_force().0, [""; 0], "nobody could connect");
    plane.truth.secrets = vec![secret("cert", "chain", "key")];
    plane.say(Kind::Secret);
    assert_eq!(plane.in_force().0, ["edge"]);
    let tls = plane.running.listeners[0].chains[0].tls.clone().unwrap();
    assert_eq!(tls.certificates[0].chain, naru_spec::DataSource::Inline(b"chain".to_vec()));
    plane.truth.secrets = vec![secret("cert", "another", "key")];
    plane.say(Kind::Secret);
    let tls = plane.running.listeners[0].chains[0].tls.clone().unwrap();
    assert_eq!(tls.certificates[0].chain, naru_spec::DataSource::Inline(b"another".to_vec()));
}

#[test]
fn a_new_stream_tells_what_is_known() {
    for is_delta in [false, true] {
        let mut plane = Plane::begun(is_delta);
        plane.lose();
        plane.connect();
        assert_eq!(plane.opened(), [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Routes]);
        let known = plane.known_at_open(Kind::Endpoints);
        assert!(!known.is_empty(), "is told what there is: {known:?}");
    }
}

#[test]
fn what_is_kept_is_in_force_again_without_a_control_plane() {
    let plane = Plane::running();
    let kept = plane.client.keep(true);
    let mut later = Plane::new(false);
    later.client.restore(Instant::ZERO, &kept).unwrap();
    later.carry_out();
    assert_eq!(later.running, plane.running);
    // What has been cut off, or is another file, is told and nothing else.
    for broken in [&kept[..kept.len() - 1], &kept[1..], b""] {
        let mut client = Plane::new(false).client;
        assert!(client.restore(Instant::ZERO, broken).is_err());
    }
    let mut turned = kept.clone();
    turned[40] ^= 1;
    assert!(Plane::new(false).client.restore(Instant::ZERO, &turned).is_err());
}

#[test]
fn tries_to_connect_are_further_and_further_apart_and_at_most_half_a_minute() {
    let mut plane = Plane::new(false);
    let waits: Vec<Duration> = (0..64).map(|_| plane.client.lost()).collect();
    assert!(waits[0] <= Duration::from_millis(500));
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(30)));
    assert!(waits[8..].iter().any(|wait| *wait > Duration::from_secs(15)), "{waits:?}");
    assert!(waits.windows(2).any(|pair| pair[0] != pair[1]), "they are drawn");
}

#[test]
fn bytes_that_are_no_response_end_the_stream_and_unasked_kinds_are_told() {
    let mut plane = Plane::running();
    let wall = naru_base::WallTime::default();
    assert!(plane.client.receive(Instant::ZERO, wall, b"\xff\xff\xff\xff").is_err());
    plane.say_bytes(Kind::Secret, Vec::new());
    assert!(plane.client.take_events().iter().any(|event| matches!(event, Event::Unasked { .. })));
}

#[test]
fn a_file_that_asks_for_what_nobody_has_is_refused_with_its_line() {
    let check = |from: &str, to: &str, expected: &str| {
        let text = bootstrap(false).replace(from, to);
        assert_ne!(text, bootstrap(false), "{from}");
        let problems = naru_xds::load("f.yaml", &text).map(|_| ()).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|text| text.contains(expected)), "{expected}: {told:#?}");
        assert!(problems.iter().any(|problem| problem.line > 0), "{told:#?}");
    };
    check("cluster_name: xds", "cluster_name: other", "there is no cluster 'other'");
    check("api_type: GRPC", "api_type: REST", "not by REST");
    check("transport_api_version: V3", "transport_api_version: V2", "version 3 only");
    check(
        "  cds_config: { ads: {} }",
        "  cds_config: { path_config_source: { path: x } }",
        "path_config_source",
    );
    check("node: { id: one, cluster: test }", "node: { id: one }", "node.cluster");
    check(
        "type: STATIC",
        "type: EDS\n    eds_cluster_config: { eds_config: { ads: {} } }",
        "from the control plane itself",
    );
}

#[test]
fn walks_of_any_order_end_where_the_control_plane_is() {
    let seeds = match std::env::var("NARU_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..30,
    };
    for seed in seeds {
        control_plane::walk(seed);
    }
}
