//! The configuration changes while endpoints are probed.

use naru_guard::Health::{Failed, Healthy, Pending};
use naru_proxy::Options;
use naru_spec::{
    Address, Discovery, DnsFamily, DnsSettings, GuardSettings, HealthCheck, HttpCheck, OutlierDetection,
    Probe,
};
use naru_tests::bootstrap::{TO_UP, upstream_tls};
use naru_tests::{Authority, Bootstrap, Naru, Speaks, Upstream, until};

use super::patient::Patient;
use super::{NEVER, OFTEN, becomes, get, guard, guarded, health, http, often, start_to, stats, to};

fn checked() -> HealthCheck {
    often(Probe::Http(http()))
}

#[tokio::test]
async fn a_probe_under_way_is_given_up_for_another_one_and_what_is_known_stays() {
    let patient = Patient::plain(Some(200)).await;
    let naru = start_to(&[patient.address], checked());
    becomes(&naru, &[Healthy]).await;
    patient.is(None);
    let waiting =
        async || patient.seen().probes.last().is_some_and(|(_, answer)| answer.is_none()).then_some(());
    until("a probe that waits", waiting).await;
    let before = patient.seen();
    let other = HealthCheck { reuse_connection: false, ..checked() };
    naru.update_to(guarded(&to(&[patient.address]), guard(other))).await;
    assert_eq!(health(&naru), [Healthy]);
    until("another probe", async || (patient.seen().probes.len() > before.probes.len()).then_some(())).await;
    until("only one", async || (patient.seen().standing == 1).then_some(())).await;
    assert_eq!((health(&naru), stats(&naru).failure), (vec![Healthy], 0));
    assert_eq!(get(&naru).await, 200);
}

#[tokio::test]
async fn nobody_is_probed_any_more_once_nothing_asks_for_it() {
    for gone in ["checks", "guard", "cluster"] {
        let patient = Patient::plain(Some(200)).await;
        let naru = start_to(&[patient.address], checked());
        becomes(&naru, &[Healthy]).await;
        patient.is(Some(500));
        becomes(&naru, &[Failed]).await;
        patient.is(None);
        let detection = GuardSettings {
            outlier_detection: Some(OutlierDetection::default()),
            ..GuardSettings::default()
        };
        let other = Bootstrap::to(patient.address);
        let config = match gone {
            "checks" => guarded(&other, detection),
            "guard" => guarded(&other, GuardSettings::default()),
            _ => {
                let routes = TO_UP.replace("cluster: up", "cluster: next");
                guarded(
                    &Bootstrap::new(&routes).cluster("next", patient.address, ""),
                    GuardSettings::default(),
                )
            }
        };
        naru.update_to(config).await;
        assert_eq!(get(&naru).await, 200, "{gone}");
        // The connection of the request stays.
        until("its connection to end", async || (patient.seen().standing <= 1).then_some(())).await;
        assert_eq!(patient.probes_within(5 * OFTEN).await, 0, "{gone}");
    }
}

#[tokio::test]
async fn a_cluster_that_comes_with_a_change_has_been_probed_when_it_takes_effect() {
    let (old, new) = (Upstream::plain(Speaks::Http1).await, Patient::plain(Some(200)).await);
    let naru = Naru::start_on(
        guarded(&Bootstrap::to(old.address), GuardSettings::default()),
        &Options { workers: 2, seed: Some(1) },
    );
    let routes = TO_UP.replace("cluster: up", "cluster: next");
    let next = Bootstrap::new(&routes).cluster("next", new.address, "");
    naru.update_to(guarded(&next, guard(checked()))).await;
    assert_eq!((health(&naru), get(&naru).await), (vec![Healthy], 200));
    // And one that is there already, and was not guarded in this way.
    let detection = Some(OutlierDetection::default());
    for before in [None, detection] {
        let before = GuardSettings { outlier_detection: before, ..GuardSettings::default() };
        naru.update_to(guarded(&next, before.clone())).await;
        assert_eq!(get(&naru).await, 200);
        naru.update_to(guarded(&next, GuardSettings { health_check: Some(checked()), ..before })).await;
        assert_eq!((health(&naru), get(&naru).await), (vec![Healthy], 200));
    }
    // And all endpoints of one that was guarded.
    let newest = Patient::plain(Some(200)).await;
    naru.update_to(guarded(&Bootstrap::new(&routes).cluster("next", newest.address, ""), guard(checked())))
        .await;
    assert_eq!((health(&naru), get(&naru).await), (vec![Healthy], 200));
    assert_eq!(newest.seen().requests, 1);
}

#[tokio::test]
async fn a_change_waits_a_second_for_an_endpoint_that_does_not_answer_and_the_old_one_serves_meanwhile() {
    let patient = Patient::plain(None).await;
    let bootstrap = to(&[patient.address]);
    let naru =
        Naru::start_on(guarded(&bootstrap, GuardSettings::default()), &Options { workers: 1, seed: Some(1) });
    let update = naru.update_to(guarded(&bootstrap, guard(checked())));
    let requests = async {
        until("a probe", async || (!patient.seen().probes.is_empty()).then_some(())).await;
        assert_eq!(get(&naru).await, 200);
    };
    tokio::join!(update, requests);
    assert_eq!(health(&naru), [Pending]);
    patient.is(Some(200));
    becomes(&naru, &[Healthy]).await;
    assert_eq!(get(&naru).await, 200);
}

#[tokio::test]
async fn an_endpoint_that_comes_is_probed_first_and_one_that_goes_no_more() {
    let [one, two] = [Patient::plain(Some(200)).await, Patient::plain(None).await];
    let rare = HealthCheck { interval: NEVER, ..checked() };
    let naru = start_to(&[one.address], rare.clone());
    becomes(&naru, &[Healthy]).await;
    naru.update_to(guarded(&to(&[one.address, two.address]), guard(rare.clone()))).await;
    assert_eq!(health(&naru), [Healthy, Pending]);
    for _ in 0..4 {
        assert_eq!(get(&naru).await, 200);
    }
    assert_eq!(two.seen().requests, 0);
    two.is(Some(200));
    becomes(&naru, &[Healthy, Healthy]).await;
    naru.update_to(guarded(&to(&[two.address]), guard(rare.clone()))).await;
    until("what was kept for it to end", async || (one.seen().standing == 0).then_some(())).await;
    assert_eq!(one.probes_within(5 * OFTEN).await, 0);
    assert_eq!(get(&naru).await, 200);
    // One that is probed while it goes.
    one.is(None);
    naru.update_to(guarded(&to(&[one.address, two.address]), guard(rare.clone()))).await;
    until("a probe", async || (one.seen().standing == 1).then_some(())).await;
    naru.update_to(guarded(&to(&[two.address]), guard(rare))).await;
    until("it to be given up", async || (one.seen().standing == 0).then_some(())).await;
}

#[tokio::test]
async fn endpoints_that_dns_finds_are_probed_too() {
    let patient = Patient::plain(Some(200)).await;
    let mut config = guarded(&to(&[patient.address]), guard(checked()));
    let cluster = &mut config.clusters[0];
    cluster.discovery =
        Discovery::StrictDns(DnsSettings { family: DnsFamily::V4Only, ..DnsSettings::default() });
    cluster.endpoints[0].address = Address::Name { host: "localhost".into(), port: patient.address.port() };
    let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
    becomes(&naru, &[Healthy]).await;
    assert_eq!(get(&naru).await, 200);
    patient.is(Some(500));
    becomes(&naru, &[Failed]).await;
}

#[tokio::test]
async fn probes_are_secured_as_the_cluster_is_from_the_change_on() {
    let authority = Authority::new();
    let patient = Patient::serve(Some(200), Speaks::Http1Tls, &authority).await;
    let cluster = |lines: &str| Bootstrap::new(TO_UP).cluster("up", patient.address, lines);
    let check = || often(Probe::Http(HttpCheck::new("/healthz")));
    let naru = Naru::start_on(guarded(&cluster(""), guard(check())), &Options { workers: 1, seed: Some(1) });
    becomes(&naru, &[Failed]).await;
    naru.update_to(guarded(&cluster(&upstream_tls(&authority)), guard(check()))).await;
    becomes(&naru, &[Healthy]).await;
    naru.update_to(guarded(&cluster(&upstream_tls(&Authority::new())), guard(check()))).await;
    becomes(&naru, &[Failed]).await;
}
