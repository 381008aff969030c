//! The numbers of one worker, and of all of them together.
//!
//! A worker counts in plain integers that nobody else touches. A scrape asks each worker for a copy
//! and adds the copies up: [`Report`]. Which names there are is known when a configuration is
//! loaded, so that counting a request is finding its row among the few of its cluster. Names live
//! longer than configurations: see [`crate::names`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use naru_base::{Reason, RetryEnd};
use naru_journey::LearnedTimeout;

use crate::cluster::{ClusterStats, add};
pub use crate::codec::Abuse;
use crate::mirrors::{MirrorReport, Mirrors};
use crate::names::NameId;

/// Upper bounds of the buckets of durations (in milliseconds) and of sizes (in bytes), as Istio's
/// default for Prometheus has them; one more bucket holds the rest.
pub const BUCKETS: [f64; 20] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
    1.8e7,
];

/// Counts by bucket, and the sum.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    pub counts: [u64; BUCKETS.len() + 1],
    pub sum: f64,
}

impl Histogram {
    #[inline]
    pub(crate) fn observe(&mut self, value: f64) {
        // Most are quick, or have no body.
        let at = if value <= BUCKETS[0] { 0 } else { BUCKETS.partition_point(|bound| *bound < value) };
        self.counts[at] += 1;
        self.sum += value;
    }

    pub(crate) fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What tells requests apart, besides names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels {
    pub reason: Reason,
    pub retry_end: RetryEnd,
    /// A fault held the request.
    pub is_delayed: bool,
    pub status: u16,
    pub protocol: Protocol,
    pub grpc_status: Option<u8>,
    pub is_tls: bool,
}

impl Labels {
    /// Envoy's short response flags.
    pub fn flags(&self) -> &'static str {
        self.reason.flags(self.is_delayed, self.retry_end)
    }
}

/// Istio's `request_protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Http,
    Grpc,
    /// No request at all, but a connection.
    Tcp,
}

impl Protocol {
    pub fn of(is_tcp: bool, is_grpc: bool) -> Protocol {
        match (is_tcp, is_grpc) {
            (true, _) => Protocol::Tcp,
            (false, true) => Protocol::Grpc,
            (false, false) => Protocol::Http,
        }
    }
}

/// The requests of one set of names and labels.
#[derive(Clone, Debug)]
pub struct Series {
    /// Of the chain that they came in by.
    pub stat_prefix: Arc<str>,
    /// `None` where no cluster was chosen.
    pub cluster: Option<Arc<str>>,
    pub labels: Labels,
    pub numbers: Numbers,
}

impl Series {
    pub fn requests(&self) -> u64 {
        self.numbers.durations.count()
    }

    fn key(&self) -> (&str, Option<&str>, Labels) {
        (&self.stat_prefix, self.cluster.as_deref(), self.labels)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Numbers {
    pub durations: Histogram,
    pub request_bytes: Histogram,
    pub response_bytes: Histogram,
}

impl Numbers {
    pub fn add(&mut self, other: &Numbers) {
        self.durations.add(&other.durations);
        self.request_bytes.add(&other.request_bytes);
        self.response_bytes.add(&other.response_bytes);
    }
}

/// One worker's numbers.
#[derive(Debug, Default)]
pub struct Metrics {
    /// The first is for requests without a cluster; then by cluster, all names of all snapshots.
    rows: RefCell<Vec<Vec<Row>>>,
    /// By name. What is no cluster has none.
    clusters: RefCell<Vec<Option<Rc<ClusterStats>>>>,
    pub downstream: Downstream,
    pub mirrors: Mirrors,
}

#[derive(Debug)]
struct Row {
    stat_prefix: NameId,
    labels: Labels,
    numbers: Numbers,
}

/// Why a client's connection is closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// The proxy runs short.
    Overload,
    /// As many as may be are there, at all listeners.
    Global,
    /// So many are at its listener, or in its chain.
    Listener,
    /// So many are of its address.
    Source,
}

impl TurnedAway {
    pub const ALL: [TurnedAway; 4] =
        [TurnedAway::Overload, TurnedAway::Global, TurnedAway::Listener, TurnedAway::Source];

    /// As metrics say it. Envoy's, of a listener.
    pub fn name(self) -> &'static str {
        match self {
            TurnedAway::Overload => "downstream_cx_overload_reject",
            TurnedAway::Global => "downstream_global_cx_overflow",
            TurnedAway::Listener => "downstream_cx_overflow",
            TurnedAway::Source => "downstream_cx_source_overflow",
        }
    }

    pub fn reason(self) -> Reason {
        match self {
            TurnedAway::Overload => Reason::ConnectionRejected,
            TurnedAway::Global | TurnedAway::Listener | TurnedAway::Source => Reason::ConnectionLimit,
        }
    }
}

/// What there is of clients.
#[derive(Debug, Default)]
pub struct Downstream {
    pub connections_active: Cell<u64>,
    pub connections_total: Cell<u64>,
    pub requests_active: Cell<u64>,
    pub requests_total: Cell<u64>,
    /// Connections that ended because what came in was no HTTP, or no TLS.
    pub protocol_errors: Cell<u64>,
    /// Connections of HTTP/2 that were closed for what they had us do, by [`Abuse::ALL`].
    pub abuses: [Cell<u64>; Abuse::ALL.len()],
    pub tls_errors: Cell<u64>,
    pub panics: Cell<u64>,
    /// Connections that were closed at once, by [`TurnedAway::ALL`].
    pub turned_away: [Cell<u64>; TurnedAway::ALL.len()],
    /// Connections that are to end because the proxy runs short.
    pub keepalives_ended: Cell<u64>,
    pub log_lines_dropped: Cell<u64>,
    /// Connections whose bytes are passed through.
    pub tcp_active: Cell<u64>,
    pub tcp_total: Cell<u64>,
}

impl Downstream {
    /// Of requests, or of connections that carry none: ever, and now.
    #[inline]
    pub fn counts_of(&self, is_tcp: bool) -> (&Cell<u64>, &Cell<u64>) {
        if is_tcp {
            (&self.tcp_total, &self.tcp_active)
        } else {
            (&self.requests_total, &self.requests_active)
        }
    }
}

impl Downstream {
    pub fn count_turned_away(&self, why: TurnedAway) {
        add(&self.turned_away[why as usize], 1);
    }

    pub fn count_abuse(&self, abuse: Abuse) {
        add(&self.abuses[abuse as usize], 1);
    }
}

impl Metrics {
    /// Counts for so many names from now on, and counts anew for those that are forgotten.
    pub fn take_over(&self, names: usize, forgotten: &[NameId]) {
        let mut rows = self.rows.borrow_mut();
        let mut clusters = self.clusters.borrow_mut();
        let known = names.max(clusters.len());
        rows.resize_with(known + 1, Vec::new);
        clusters.resize(known, None);
        for id in forgotten {
            if let Some(rows) = rows.get_mut(id.index() + 1) {
                rows.clear();
            }
            if let Some(stats) = clusters.get_mut(id.index()) {
                *stats = None;
            }
        }
        if !forgotten.is_empty() {
            rows.iter_mut().for_each(|rows| rows.retain(|row| !forgotten.contains(&row.stat_prefix)));
        }
    }

    /// What is counted for a cluster, for as long as its name is known.
    pub fn cluster(&self, name: NameId) -> Rc<ClusterStats> {
        match self.clusters.borrow_mut().get_mut(name.index()) {
            Some(stats) => Rc::clone(stats.get_or_insert_default()),
            None => Rc::default(),
        }
    }

    #[inline]
    pub fn record(
        &self,
        stat_prefix: NameId,
        cluster: Option<NameId>,
        labels: Labels,
        duration: Duration,
        (request_bytes, response_bytes): (u64, u64),
    ) {
        let mut all = self.rows.borrow_mut();
        let Some(rows) = all.get_mut(cluster.map_or(0, |name| name.index() + 1)) else { return };
        let at = match rows.iter().position(|row| row.labels == labels && row.stat_prefix == stat_prefix) {
            Some(at) => at,
            None => {
                rows.push(Row { stat_prefix, labels, numbers: Numbers::default() });
                rows.len() - 1
            }
        };
        let numbers = &mut rows[at].numbers;
        numbers.durations.observe(duration.as_secs_f64() * 1_000.0);
        numbers.request_bytes.observe(request_bytes as f64);
        numbers.response_bytes.observe(response_bytes as f64);
    }

    /// What has happened to requests, but for those of one prefix: workloads that call each other.
    pub fn pulse(&self, but_for: Option<usize>) -> naru_surge::Counts {
        let mut counts = naru_surge::Counts::default();
        for (at, rows) in self.rows.borrow().iter().enumerate() {
            let rows = rows.iter().filter(|row| {
                Some(row.stat_prefix.index()) != but_for && row.labels.protocol != Protocol::Tcp
            });
            for row in rows {
                let durations = &row.numbers.durations;
                counts.requests += durations.count();
                // The first have no cluster: naru has answered them by itself.
                if at > 0 {
                    counts.observe_many(row.labels.reason, row.labels.status, &durations.counts);
                }
            }
        }
        counts
    }

    /// Requests, by name: `names` are all that were ever counted for and not forgotten.
    pub fn series(&self, names: &[Arc<str>]) -> Vec<Series> {
        let name = |at: usize| names.get(at).map_or_else(Arc::default, Arc::clone);
        let rows = self.rows.borrow();
        let all = rows.iter().enumerate().flat_map(|(at, rows)| {
            rows.iter().map(move |row| Series {
                stat_prefix: name(row.stat_prefix.index()),
                cluster: at.checked_sub(1).map(name),
                labels: row.labels,
                numbers: row.numbers.clone(),
            })
        });
        all.collect()
    }

    pub fn clusters(&self, names: &[Arc<str>]) -> Vec<ClusterReport> {
        let clusters = self.clusters.borrow();
        let known = clusters.iter().zip(names).filter_map(|(stats, name)| Some((stats.as_ref()?, name)));
        known.map(|(stats, name)| stats.report(Arc::clone(name))).collect()
    }
}

/// The numbers of all workers, added up.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub series: Vec<Series>,
    pub downstream: DownstreamReport,
    /// Those of the first configuration first, in its order.
    pub clusters: Vec<ClusterReport>,
    /// By name.
    pub mirrors: Vec<MirrorReport>,
    /// By virtual host and route: what automatic timeouts are, at the worker where each is longest.
    pub timeouts: Vec<LearnedTimeout>,
    /// Copies of requests under way, and the bytes that they and their comparisons hold.
    pub copies_active: u64,
    pub copies_bytes: u64,
    /// Timers that are set up, a count of things in flight that must return to zero.
    pub timers: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DownstreamReport {
    pub connections_active: u64,
    pub connections_total: u64,
    pub requests_active: u64,
    pub requests_total: u64,
    pub protocol_errors: u64,
    /// In the order of [`Abuse::ALL`].
    pub abuses: [u64; Abuse::ALL.len()],
    pub tls_errors: u64,
    /// Bugs, each of which has ended one connection or stream.
    pub panics: u64,
    /// In the order of [`TurnedAway::ALL`].
    pub turned_away: [u64; TurnedAway::ALL.len()],
    pub keepalives_ended: u64,
    pub log_lines_dropped: u64,
    pub tcp_active: u64,
    pub tcp_total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterReport {
    pub name: Arc<str>,
    pub connections_active: u64,
    pub connections_total: u64,
    pub connect_failures: u64,
    pub connect_timeouts: u64,
    pub requests_active: u64,
    pub requests_total: u64,
    pub replays: u64,
    pub retries: u64,
    pub retries_exceeded: u64,
    /// Requests that it was sent in place of another cluster.
    pub fallbacks: u64,
    pub retries_overflow: u64,
}

macro_rules! add_fields {
    ($mine:expr, $theirs:expr, $($field:ident),*) => { $( $mine.$field += $theirs.$field; )* };
}

impl Report {
    /// Adds another worker's report.
    pub fn add(&mut self, other: Report) {
        for series in other.series {
            match self.series.binary_search_by(|mine| mine.key().cmp(&series.key())) {
                Ok(at) => self.series[at].numbers.add(&series.numbers),
                Err(at) => self.series.insert(at, series),
            }
        }
        add_fields!(
            self.downstream,
            other.downstream,
            connections_active,
            connections_total,
            requests_active,
            requests_total,
            protocol_errors,
            tls_errors,
            panics,
            keepalives_ended,
            log_lines_dropped,
            tcp_active,
            tcp_total
        );
        for (mine, theirs) in self.downstream.abuses.iter_mut().zip(other.downstream.abuses) {
            *mine += theirs;
        }
        for (mine, theirs) in self.downstream.turned_away.iter_mut().zip(other.downstream.turned_away) {
            *mine += theirs;
        }
        // Workers know the same names in the same order, but while a new configuration reaches them.
        for (at, theirs) in other.clusters.into_iter().enumerate() {
            let is_there = self.clusters.get(at).is_some_and(|mine| mine.name == theirs.name);
            let known =
                if is_there { Some(at) } else { self.clusters.iter().position(|c| c.name == theirs.name) };
            let Some(mine) = known.and_then(|at| self.clusters.get_mut(at)) else {
                self.clusters.push(theirs);
                continue;
            };
            add_fields!(
                mine,
                theirs,
                connections_active,
                connections_total,
                connect_failures,
                connect_timeouts,
                requests_active,
                requests_total,
                replays,
                retries,
                retries_exceeded,
                fallbacks,
                retries_overflow
            );
        }
        for theirs in &other.mirrors {
            match self.mirrors.binary_search_by(|mine| mine.name.cmp(&theirs.name)) {
                Ok(at) => self.mirrors[at].add(theirs),
                Err(at) => self.mirrors.insert(at, theirs.clone()),
            }
        }
        for theirs in other.timeouts {
            let name = |of: &LearnedTimeout| (of.virtual_host.clone(), of.route.clone());
            match self.timeouts.binary_search_by_key(&name(&theirs), name) {
                Ok(at) => {
                    let mine = &mut self.timeouts[at];
                    mine.timeout = mine.timeout.max(theirs.timeout);
                    mine.responses += theirs.responses;
                }
                Err(at) => self.timeouts.insert(at, theirs),
            }
        }
        self.copies_active += other.copies_active;
        self.copies_bytes += other.copies_bytes;
        self.timers += other.timers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_measured_in_the_same_buckets() {
        let micros = BUCKETS.map(|bound| (bound * 1_000.0) as u64);
        assert_eq!(micros, naru_surge::BOUNDS_US);
    }
}
