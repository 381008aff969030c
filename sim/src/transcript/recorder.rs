//! Makes a transcript of what it is told, as it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use naru_base::{ClusterId, EndpointId, Instant, Reason};
use naru_journey::{Outcome, Snapshot};

use super::{
    ActiveAtEnd, Change, ClusterCounts, EndpointCounts, Interval, Latency, MirrorTold, ProxyCounts,
    ReasonCount, Sample, ServiceCounts, StatusCount, Summary, Transcript,
};
use crate::change::StateChange;
use crate::decision::Decision;
use crate::expect::{Expected, Measured, Meter};
use crate::fleet::Fleet;
use crate::judge::Active;
use crate::latencies::Latencies;
use crate::ledger::Ledger;
use crate::service::Group;
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
    /// The interval that is being counted, its end in nanoseconds, and the latencies in it.
    current: Interval,
    current_ends: u64,
    latencies: Latencies,
    active: u64,
    all_latencies: Latencies,
    by_status: BTreeMap<u16, u64>,
    by_reason: BTreeMap<Reason, u64>,
    /// The first is that of the proxy that loads come to.
    groups: Vec<ProxyGroup>,
    tries: u64,
    hops: u64,
    bytes_received: u64,
    bytes_sent: u64,
    ended: Instant,
    seen: BTreeSet<Reason>,
    meters: Vec<Meter>,
    /// Meters of all loads, and of each.
    meters_of_all: Vec<usize>,
    meters_of: Vec<Vec<usize>>,
}

/// Proxies that are counted together.
#[derive(Debug)]
struct ProxyGroup {
    name: String,
    hops: u64,
    attempts: u64,
    repeated: u64,
    clusters: Vec<Cluster>,
}

#[derive(Debug)]
struct Cluster {
    name: String,
    failures: u64,
    latencies: Latencies,
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Default)]
struct Endpoint {
    failures: u64,
    in_a_row: u32,
}

/// What a client wanted, and what it got at last.
#[derive(Debug)]
pub struct Ended<'a, 'b> {
    /// From 0, in the order in which clients began.
    pub number: u64,
    /// The place of the load, its name, and the request.
    pub source: usize,
    pub load: &'b str,
    pub line: &'b str,
    pub began: Instant,
    /// Of the last try.
    pub decision: &'b Decision<'a>,
    pub outcome: &'b Outcome,
}

impl Recorder {
    /// `interval` is above zero. Of each proxy group its name, and a proxy that stands for all.
    pub fn new(
        groups: &[(&str, &Snapshot, &Fleet)],
        interval: Duration,
        sample_every: u32,
        loads: usize,
        meters: Vec<(Meter, Option<usize>)>,
    ) -> Recorder {
        let groups = groups.iter().map(|(name, snapshot, fleet)| ProxyGroup {
            name: (*name).to_owned(),
            hops: 0,
            attempts: 0,
            repeated: 0,
            clusters: clusters(snapshot, fleet),
        });
        let groups: Vec<ProxyGroup> = groups.collect();
        let mut meters_of_all = Vec::new();
        let mut meters_of = vec![Vec::new(); loads];
        for (at, (_, load)) in meters.iter().enumerate() {
            match load {
                Some(load) => meters_of[*load].push(at),
                None => meters_of_all.push(at),
            }
        }
        let width = groups.first().map_or(0, |edge| edge.clusters.len());
        Recorder {
            interval,
            sample_every: u64::from(sample_every),
            changes: Vec::new(),
            samples: Vec::new(),
            intervals: Vec::new(),
            current: Interval { by_cluster: vec![0; width], ..Interval::default() },
            current_ends: micros(interval).max(1).saturating_mul(1_000),
            latencies: Latencies::default(),
            active: 0,
            all_latencies: Latencies::default(),
            by_status: BTreeMap::new(),
            by_reason: BTreeMap::new(),
            groups,
            tries: 0,
            hops: 0,
            bytes_received: 0,
            bytes_sent: 0,
            ended: Instant::ZERO,
            seen: BTreeSet::new(),
            meters: meters.into_iter().map(|(meter, _)| meter).collect(),
            meters_of_all,
            meters_of,
        }
    }

    /// Closes the intervals that are over.
    #[inline]
    fn advance(&mut self, now: Instant) {
        while now.0 >= self.current_ends && self.intervals.len() + 1 < INTERVALS_MAX {
            self.close_interval();
        }
    }

    fn close_interval(&mut self) {
        let width = micros(self.interval).max(1);
        let next = Interval {
            at_us: self.current.at_us + width,
            by_cluster: vec![0; self.current.by_cluster.len()],
            ..Interval::default()
        };
        self.current_ends = self.current_ends.saturating_add(width.saturating_mul(1_000));
        let mut closed = std::mem::replace(&mut self.current, next);
        closed.active = self.active;
        closed.p50_us = self.latencies.quantile(500_000);
        closed.p99_us = self.latencies.quantile(990_000);
        closed.max_us = self.latencies.max();
        self.all_latencies.add(&self.latencies);
        self.latencies.clear();
        self.intervals.push(closed);
    }

    /// A client of a load begins.
    #[inline]
    pub fn on_begun(&mut self, now: Instant, source: usize) {
        self.advance(now);
        self.current.begun += 1;
        self.active += 1;
        for meter in self.meters_of[source].iter().chain(&self.meters_of_all) {
            self.meters[*meter].on_begun(now);
        }
    }

    /// Something happened that changes no state.
    pub fn on_note(&mut self, now: Instant, kind: &'static str, what: String) {
        let change =
            Change { at_us: now.0 / 1_000, kind, what, subject: String::new(), state: None, address: None };
        self.changes.push(change);
    }

    /// A state changed: `subject` is whose, `what` says it in a sentence.
    pub fn on_change(
        &mut self,
        now: Instant,
        state: StateChange,
        subject: String,
        address: Option<SocketAddr>,
        what: String,
    ) {
        let kind = state.lane().kind();
        self.changes.push(Change { at_us: now.0 / 1_000, kind, what, subject, state: Some(state), address });
    }

    /// A request through a proxy of a group is over.
    pub fn on_hop<T>(&mut self, settled: &Settled<'_, T>, group: usize) {
        let outcome = &settled.outcome;
        self.hops += 1;
        let is_failure =
            outcome.status >= 500 || !(outcome.reason.is_success() || is_of_client(outcome.reason));
        let here = &mut self.groups[group];
        here.hops += 1;
        here.attempts += u64::from(outcome.attempts);
        here.repeated += u64::from(outcome.attempts.saturating_sub(1));
        if let Some(id) = outcome.cluster
            && let Some(cluster) = here.clusters.get_mut(id.index())
        {
            cluster.latencies.record(micros(outcome.ended.since(outcome.began)));
            cluster.failures += u64::from(is_failure);
        }
        if group == 0 {
            self.tries += 1;
            self.bytes_received += settled.bytes_received;
            self.bytes_sent += settled.bytes_sent;
        }
        if let Some((cluster, endpoint)) = settled.endpoint {
            self.watch_endpoint(group, cluster, endpoint, settled, is_failure);
        }
    }

    /// Tells when an endpoint begins to fail, and when it answers again.
    fn watch_endpoint<T>(
        &mut self,
        group: usize,
        cluster: ClusterId,
        endpoint: EndpointId,
        settled: &Settled<'_, T>,
        is_failure: bool,
    ) {
        let Some(cluster) = self.groups[group].clusters.get_mut(cluster.index()) else { return };
        let Some(here) = cluster.endpoints.get_mut(endpoint.index()) else { return };
        let (outcome, before) = (&settled.outcome, here.in_a_row);
        let change = if is_failure {
            here.failures += 1;
            here.in_a_row += 1;
            (here.in_a_row == FAILURES_IN_A_ROW).then_some(StateChange::Failing)
        } else if !is_of_client(outcome.reason) && before > 0 {
            here.in_a_row = 0;
            (before >= FAILURES_IN_A_ROW).then_some(StateChange::Answering)
        } else {
            None
        };
        let Some(change) = change else { return };
        let address = settled.decision.endpoint;
        let shown = address.map_or_else(String::new, |address| address.to_string());
        let mut subject = format!("{shown} of {}", cluster.name);
        let what = if change == StateChange::Failing {
            let (reason, flag) = (outcome.reason.name(), outcome.reason.flag());
            format!("{subject} failed {FAILURES_IN_A_ROW} times in a row, at last with {reason} ({flag})")
        } else {
            format!("{subject} answers again, after {before} failures in a row")
        };
        let what = match group {
            0 => what,
            _ => {
                subject = format!("{subject}, from {}", self.groups[group].name);
                format!("from {}: {what}", self.groups[group].name)
            }
        };
        self.on_change(outcome.ended, change, subject, address, what);
    }

    /// A client of a load is done.
    pub fn on_ended(&mut self, ended: &Ended<'_, '_>) {
        let (decision, outcome) = (ended.decision, ended.outcome);
        let now = outcome.ended;
        self.advance(now);
        self.ended = self.ended.max(now);
        self.active -= 1;
        let duration_us = micros(now.since(ended.began));
        self.count(ended, duration_us);
        if !outcome.reason.is_success() && self.seen.insert(outcome.reason) {
            let what = format!(
                "first {} ({}): {}, request {}, status {}",
                outcome.reason.name(),
                decision.flag,
                ended.line,
                ended.number,
                outcome.status,
            );
            self.on_note(now, "reason", what);
        }
        if self.sample_every > 0 && ended.number.is_multiple_of(self.sample_every) {
            self.samples.push(Sample {
                number: ended.number,
                at_us: ended.began.0 / 1_000,
                load: ended.load.to_owned(),
                request: ended.line.to_owned(),
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

    fn count(&mut self, ended: &Ended<'_, '_>, duration_us: u64) {
        let outcome = ended.outcome;
        self.current.ended += 1;
        let class = match outcome.status {
            200..300 => 0,
            300..400 => 1,
            400..500 => 2,
            500.. => 3,
            _ => 4,
        };
        self.current.by_class[class] += 1;
        self.latencies.record(duration_us);
        *self.by_status.entry(outcome.status).or_default() += 1;
        *self.by_reason.entry(outcome.reason).or_default() += 1;
        if let Some(count) = outcome.cluster.and_then(|id| self.current.by_cluster.get_mut(id.index())) {
            *count += 1;
        }
        let is_error = outcome.status == 0 || outcome.status >= 500;
        for meter in self.meters_of[ended.source].iter().chain(&self.meters_of_all) {
            self.meters[*meter].on_ended(ended.began, duration_us, is_error);
            self.meters[*meter].on_reason(ended.began, outcome.reason);
        }
    }

    /// `fleets` are those of all proxies, each with its group.
    pub fn finish(
        mut self,
        seed: u64,
        fleets: &[(usize, &Fleet)],
        ledger: &mut Ledger,
        groups: &[Group],
        expected: &[Expected],
        active: Active,
    ) -> Transcript {
        if self.current.begun + self.current.ended > 0 {
            self.close_interval();
        }
        self.samples.sort_by_key(|sample| sample.number);
        self.changes.sort_by_key(|change| change.at_us);
        ledger.finish();
        let mut services: Vec<String> = groups.iter().map(|group| group.service.clone()).collect();
        services.dedup();
        for (at, interval) in self.intervals.iter_mut().enumerate() {
            let arrived = ledger.intervals.get(at).cloned();
            interval.by_service = arrived.unwrap_or_else(|| vec![0; services.len()]);
        }
        let mut measured =
            Measured { loads: &mut self.meters, services: &mut ledger.meters, changes: &self.changes };
        let expectations = expected.iter().map(|expected| expected.judge(&mut measured)).collect();
        let (first, others) = match self.groups.split_first_mut() {
            Some((first, others)) => (Some(first), others),
            None => (None, &mut [][..]),
        };
        let by_status = self.by_status.iter().map(|(&status, &requests)| StatusCount { status, requests });
        let by_reason = self.by_reason.iter().map(|(reason, requests)| ReasonCount {
            reason: reason.name(),
            flag: reason.flag(),
            requests: *requests,
        });
        let summary = Summary {
            requests: self.all_latencies.count(),
            tries: self.tries,
            hops: self.hops,
            attempts: first.as_ref().map_or(0, |edge| edge.attempts),
            repeated: first.as_ref().map_or(0, |edge| edge.repeated),
            bytes_received: self.bytes_received,
            bytes_sent: self.bytes_sent,
            by_status: by_status.collect(),
            by_reason: by_reason.collect(),
            latency: Latency::of(&mut self.all_latencies),
            by_cluster: first.map_or_else(Vec::new, |edge| edge.counts(fleets, 0)),
            by_proxy: (1..)
                .zip(others)
                .map(|(at, group)| ProxyCounts {
                    proxy: group.name.clone(),
                    count: fleets.iter().filter(|(of, _)| *of == at).count() as u64,
                    hops: group.hops,
                    attempts: group.attempts,
                    repeated: group.repeated,
                    by_cluster: group.counts(fleets, at),
                })
                .collect(),
            by_service: groups
                .iter()
                .zip(&mut ledger.counts)
                .map(|(group, counts)| ServiceCounts {
                    service: group.service.clone(),
                    version: group.version.clone(),
                    arrived: counts.arrived,
                    by_class: counts.by_class,
                    refused: counts.refused,
                    late: counts.late,
                    lost: counts.lost,
                    stopped: counts.stopped,
                    working_max: counts.working_max,
                    waiting_max: counts.waiting_max,
                    latency: Latency::of(&mut counts.latencies),
                })
                .collect(),
            by_mirror: fleets.first().map_or_else(Vec::new, |(_, fleet)| {
                let mut mirrors = fleet.shared.mirrors.borrow_mut();
                mirrors.all.sort_by(|a, b| a.name.cmp(&b.name));
                mirrors.all.iter_mut().map(MirrorTold::of).collect()
            }),
            by_cache: Vec::new(),
            by_tier: Vec::new(),
            by_store: Vec::new(),
            active_at_end: ActiveAtEnd {
                requests: active.requests,
                permits: active.permits,
                connections: active.connections,
                work: active.work,
            },
        };
        let clusters = self.groups.first().map_or(&[][..], |edge| &edge.clusters);
        Transcript {
            seed,
            interval_us: micros(self.interval).max(1),
            ended_us: self.ended.0 / 1_000,
            clusters: clusters.iter().map(|cluster| cluster.name.clone()).collect(),
            services,
            changes: self.changes,
            samples: self.samples,
            intervals: self.intervals,
            summary,
            expectations,
            trace: Vec::new(),
            is_trace_cut: false,
        }
    }
}

impl ProxyGroup {
    fn counts(&mut self, fleets: &[(usize, &Fleet)], at: usize) -> Vec<ClusterCounts> {
        let mut all = Vec::new();
        for (id, cluster) in (0..).map(ClusterId).zip(&mut self.clusters) {
            let own = || fleets.iter().filter(|(group, _)| *group == at).map(|(_, fleet)| fleet);
            let endpoints = (0..).zip(&cluster.endpoints).filter_map(|(endpoint, counts)| {
                let mut sum: Option<EndpointCounts> = None;
                for here in own().filter_map(|fleet| fleet.endpoints(id).get(endpoint)) {
                    let sum = sum.get_or_insert(EndpointCounts {
                        endpoint: here.address,
                        requests: 0,
                        failures: counts.failures,
                        connections: 0,
                        connect_failures: 0,
                        active_max: 0,
                    });
                    sum.requests += here.requests_total;
                    sum.connections += here.connections_total;
                    sum.connect_failures += here.connect_failures_total;
                    sum.active_max = sum.active_max.max(here.active_max);
                }
                sum
            });
            all.push(ClusterCounts {
                cluster: cluster.name.clone(),
                requests: cluster.latencies.count(),
                failures: cluster.failures,
                endpoints: endpoints.collect(),
                latency: Latency::of(&mut cluster.latencies),
            });
        }
        all
    }
}

fn clusters(snapshot: &Snapshot, fleet: &Fleet) -> Vec<Cluster> {
    let cluster = |(id, endpoints): (ClusterId, &[_])| Cluster {
        name: snapshot.cluster(id).name.clone(),
        failures: 0,
        latencies: Latencies::default(),
        endpoints: vec![Endpoint::default(); endpoints.len()],
    };
    fleet.clusters().map(cluster).collect()
}

/// The client's doing, which says nothing of an endpoint.
fn is_of_client(reason: Reason) -> bool {
    reason.side() == naru_base::Side::Client
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos() / 1_000).unwrap_or(u64::MAX)
}
