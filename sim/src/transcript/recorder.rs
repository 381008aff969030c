//! Makes a transcript of what it is told, as it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use naru_base::{Instant, Reason};
use naru_journey::Snapshot;

use super::{
    ActiveAtEnd, Change, ClusterCounts, EndpointCounts, Interval, Latency, ReasonCount, Sample, StatusCount,
    Summary, Transcript, quantile,
};
use crate::fleet::Fleet;
use crate::judge::Active;
use crate::world::Settled;

/// So many failures in a row are told as a change.
const FAILURES_IN_A_ROW: u32 = 5;
/// The last of so many intervals takes all that comes later.
pub const INTERVALS_MAX: usize = 100_000;

#[derive(Debug)]
pub struct Recorder {
    interval: Duration,
    sample_every: u64,
    changes: Vec<Change>,
    samples: Vec<Sample>,
    intervals: Vec<Interval>,
    /// The interval that is being counted, and the latencies in it.
    current: Interval,
    latencies: Vec<u64>,
    active: u64,
    all_latencies: Vec<u64>,
    by_status: BTreeMap<u16, u64>,
    by_reason: BTreeMap<Reason, u64>,
    clusters: Vec<Cluster>,
    attempts: u64,
    repeated: u64,
    bytes_received: u64,
    bytes_sent: u64,
    ended: Instant,
    seen: BTreeSet<Reason>,
}

#[derive(Debug)]
struct Cluster {
    name: String,
    failures: u64,
    latencies: Vec<u64>,
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Default)]
struct Endpoint {
    failures: u64,
    in_a_row: u32,
}

impl Recorder {
    /// `interval` is above zero.
    pub fn new(snapshot: &Snapshot, fleet: &Fleet, interval: Duration, sample_every: u32) -> Recorder {
        let clusters = fleet.clusters().map(|(id, endpoints)| Cluster {
            name: snapshot.cluster(id).name.clone(),
            failures: 0,
            latencies: Vec::new(),
            endpoints: vec![Endpoint::default(); endpoints.len()],
        });
        let clusters: Vec<Cluster> = clusters.collect();
        let current = Interval { by_cluster: vec![0; clusters.len()], ..Interval::default() };
        Recorder {
            interval,
            sample_every: u64::from(sample_every),
            changes: Vec::new(),
            samples: Vec::new(),
            intervals: Vec::new(),
            current,
            latencies: Vec::new(),
            active: 0,
            all_latencies: Vec::new(),
            by_status: BTreeMap::new(),
            by_reason: BTreeMap::new(),
            clusters,
            attempts: 0,
            repeated: 0,
            bytes_received: 0,
            bytes_sent: 0,
            ended: Instant::ZERO,
            seen: BTreeSet::new(),
        }
    }

    /// Closes the intervals that are over.
    fn advance(&mut self, now: Instant) {
        let width = micros(self.interval).max(1);
        while now.0 / 1_000 >= self.current.at_us + width && self.intervals.len() + 1 < INTERVALS_MAX {
            self.close_interval();
        }
    }

    fn close_interval(&mut self) {
        let next = Interval {
            at_us: self.current.at_us + micros(self.interval).max(1),
            by_cluster: vec![0; self.clusters.len()],
            ..Interval::default()
        };
        let mut closed = std::mem::replace(&mut self.current, next);
        self.latencies.sort_unstable();
        closed.active = self.active;
        closed.p50_us = quantile(&self.latencies, 500);
        closed.p99_us = quantile(&self.latencies, 990);
        closed.max_us = self.latencies.last().copied().unwrap_or(0);
        self.latencies.clear();
        self.intervals.push(closed);
    }

    pub fn on_begun(&mut self, now: Instant) {
        self.advance(now);
        self.current.begun += 1;
        self.active += 1;
    }

    pub fn on_change(&mut self, now: Instant, kind: &'static str, what: String) {
        self.changes.push(Change { at_us: now.0 / 1_000, kind, what });
    }

    /// `load` and `line` are the request's.
    pub fn on_settled<T>(&mut self, settled: &Settled<'_, T>, load: &str, line: &str) {
        let (decision, outcome) = (&settled.decision, &settled.outcome);
        let now = outcome.ended;
        self.advance(now);
        self.ended = self.ended.max(now);
        self.active -= 1;
        let duration_us = micros(now.since(outcome.began));
        let is_failure =
            outcome.status >= 500 || !(outcome.reason.is_success() || is_of_client(outcome.reason));
        self.count(settled, duration_us, is_failure);
        self.watch_endpoint(settled, is_failure);
        if !outcome.reason.is_success() && self.seen.insert(outcome.reason) {
            let what = format!(
                "first {} ({}): {line}, request {}, status {}",
                outcome.reason.name(),
                decision.flag,
                settled.number,
                outcome.status,
            );
            self.on_change(now, "reason", what);
        }
        if self.sample_every > 0 && settled.number.is_multiple_of(self.sample_every) {
            self.samples.push(Sample {
                number: settled.number,
                at_us: outcome.began.0 / 1_000,
                load: load.to_owned(),
                request: line.to_owned(),
                route: decision.route.to_owned(),
                virtual_host: decision.virtual_host.to_owned(),
                cluster: decision.cluster.map(str::to_owned),
                endpoint: decision.endpoint,
                attempts: decision.attempts,
                status: decision.status,
                reason: decision.reason.name(),
                flag: decision.flag,
                duration_us,
            });
        }
    }

    fn count<T>(&mut self, settled: &Settled<'_, T>, duration_us: u64, is_failure: bool) {
        let outcome = &settled.outcome;
        self.current.ended += 1;
        let class = match outcome.status {
            200..300 => 0,
            300..400 => 1,
            400..500 => 2,
            500.. => 3,
            _ => 4,
        };
        self.current.by_class[class] += 1;
        self.latencies.push(duration_us);
        self.all_latencies.push(duration_us);
        *self.by_status.entry(outcome.status).or_default() += 1;
        *self.by_reason.entry(outcome.reason).or_default() += 1;
        self.attempts += u64::from(outcome.attempts);
        self.repeated += u64::from(outcome.attempts.saturating_sub(1));
        self.bytes_received += settled.bytes_received;
        self.bytes_sent += settled.bytes_sent;
        if let Some(id) = outcome.cluster
            && let Some(cluster) = self.clusters.get_mut(id.index())
        {
            self.current.by_cluster[id.index()] += 1;
            cluster.latencies.push(duration_us);
            cluster.failures += u64::from(is_failure);
        }
    }

    /// Tells when an endpoint begins to fail, and when it answers again.
    fn watch_endpoint<T>(&mut self, settled: &Settled<'_, T>, is_failure: bool) {
        let Some((cluster, endpoint)) = settled.endpoint else { return };
        let Some(cluster) = self.clusters.get_mut(cluster.index()) else { return };
        let Some(here) = cluster.endpoints.get_mut(endpoint.index()) else { return };
        let address = settled.decision.endpoint.map_or_else(String::new, |address| address.to_string());
        let reason = settled.outcome.reason;
        let before = here.in_a_row;
        if is_failure {
            here.failures += 1;
            here.in_a_row += 1;
            if here.in_a_row == FAILURES_IN_A_ROW {
                let what = format!(
                    "{address} of {} failed {FAILURES_IN_A_ROW} times in a row, at last with {} ({})",
                    cluster.name,
                    reason.name(),
                    reason.flag(),
                );
                self.on_change(settled.outcome.ended, "endpoint", what);
            }
        } else if !is_of_client(reason) {
            here.in_a_row = 0;
            if before >= FAILURES_IN_A_ROW {
                let what =
                    format!("{address} of {} answers again, after {before} failures in a row", cluster.name);
                self.on_change(settled.outcome.ended, "endpoint", what);
            }
        }
    }

    pub fn finish(mut self, seed: u64, fleet: &Fleet, active: Active) -> Transcript {
        if self.current.begun + self.current.ended > 0 {
            self.close_interval();
        }
        self.samples.sort_by_key(|sample| sample.number);
        self.changes.sort_by_key(|change| change.at_us);
        self.all_latencies.sort_unstable();
        let by_cluster = self.clusters.iter_mut().zip(fleet.clusters()).map(|(cluster, (_, endpoints))| {
            cluster.latencies.sort_unstable();
            ClusterCounts {
                cluster: cluster.name.clone(),
                requests: cluster.latencies.len() as u64,
                failures: cluster.failures,
                latency: Latency::of(&cluster.latencies),
                endpoints: (endpoints.iter().zip(&cluster.endpoints))
                    .map(|(here, counts)| EndpointCounts {
                        endpoint: here.address,
                        requests: here.requests_total,
                        failures: counts.failures,
                        connections: here.connections_total,
                        connect_failures: here.connect_failures_total,
                        active_max: here.active_max,
                    })
                    .collect(),
            }
        });
        let by_cluster = by_cluster.collect();
        let by_reason = self.by_reason.iter().map(|(reason, requests)| ReasonCount {
            reason: reason.name(),
            flag: reason.flag(),
            requests: *requests,
        });
        Transcript {
            seed,
            interval_us: micros(self.interval).max(1),
            ended_us: self.ended.0 / 1_000,
            changes: self.changes,
            samples: self.samples,
            intervals: self.intervals,
            summary: Summary {
                requests: self.all_latencies.len() as u64,
                attempts: self.attempts,
                repeated: self.repeated,
                bytes_received: self.bytes_received,
                bytes_sent: self.bytes_sent,
                by_status: self
                    .by_status
                    .iter()
                    .map(|(&status, &requests)| StatusCount { status, requests })
                    .collect(),
                by_reason: by_reason.collect(),
                latency: Latency::of(&self.all_latencies),
                by_cluster,
                active_at_end: ActiveAtEnd {
                    requests: active.requests,
                    permits: active.permits,
                    connections: active.connections,
                },
            },
            clusters: self.clusters.into_iter().map(|cluster| cluster.name).collect(),
        }
    }
}

/// The client's doing, which says nothing of an endpoint.
fn is_of_client(reason: Reason) -> bool {
    reason.side() == naru_base::Side::Client
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
