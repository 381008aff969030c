//! Health checks, on sockets: endpoints are asked how they are, and requests go where it is well.

mod bytes;
mod calls;
mod changes;
mod patient;
mod requests;

use std::net::SocketAddr;
use std::time::Duration;

use naru_guard::{Health, HealthStats};
use naru_proxy::Options;
use naru_spec::{Config, GuardSettings, HealthCheck, HttpCheck, Probe, StatusRange};
use naru_tests::naru::config;
use naru_tests::{Bootstrap, Naru, until};

use patient::PATH;

/// Far longer than a test: what is due after it does not happen.
const NEVER: Duration = Duration::from_secs(3600);
const OFTEN: Duration = Duration::from_millis(20);
const PATIENT: Duration = Duration::from_secs(20);

/// Every 20 ms; one failure is enough, and one pass.
fn often(probe: Probe) -> HealthCheck {
    HealthCheck {
        unhealthy_threshold: 1,
        healthy_threshold: 1,
        no_traffic_interval: OFTEN,
        ..HealthCheck::new(PATIENT, OFTEN, probe)
    }
}

fn http() -> HttpCheck {
    HttpCheck { retriable_statuses: vec![StatusRange::new(503, 504).unwrap()], ..HttpCheck::new(PATH) }
}

/// Only those are asked that are well, whatever becomes of the others.
fn guard(check: HealthCheck) -> GuardSettings {
    GuardSettings { health_check: Some(check), panic_percent: 0, ..GuardSettings::default() }
}

fn guarded(bootstrap: &Bootstrap, guard: GuardSettings) -> Config {
    let mut config = config(bootstrap);
    config.clusters[0].guard = guard;
    config
}

fn to(addresses: &[SocketAddr]) -> Bootstrap {
    Bootstrap::new(naru_tests::bootstrap::TO_UP).cluster_of("up", addresses, "")
}

fn start(bootstrap: &Bootstrap, guard: GuardSettings) -> Naru {
    Naru::start_on(guarded(bootstrap, guard), &Options { workers: 2, seed: Some(1) })
}

fn start_to(addresses: &[SocketAddr], check: HealthCheck) -> Naru {
    start(&to(addresses), guard(check))
}

/// By endpoint.
fn health(naru: &Naru) -> Vec<Health> {
    naru.clusters()[0].endpoints.iter().map(|endpoint| endpoint.fitness.health()).collect()
}

async fn becomes(naru: &Naru, expected: &[Health]) {
    until(&format!("{expected:?}"), async || (health(naru) == expected).then_some(())).await;
}

fn stats(naru: &Naru) -> HealthStats {
    naru.clusters()[0].guard.as_ref().unwrap().health.unwrap()
}

async fn get(naru: &Naru) -> u16 {
    naru_tests::client::get(naru.address, "/").await.status.as_u16()
}
