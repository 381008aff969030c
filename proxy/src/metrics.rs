//! The numbers of one worker, and of all of them together.
//!
//! A worker counts in plain integers that nobody else touches. A scrape asks each worker for a copy
//! and adds the copies up: [`Report`]. Which labels there are is known when a configuration is
//! loaded, so that counting a request is finding its row among the few of its cluster.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use naru_base::{ClusterId, Reason};
use naru_journey::ChainId;

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
    fn observe(&mut self, value: f64) {
        let at = BUCKETS.partition_point(|bound| *bound < value);
        self.counts[at] += 1;
        self.sum += value;
    }

    fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What tells requests apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels {
    pub chain: ChainId,
    /// `None` where no cluster was chosen.
    pub cluster: Option<ClusterId>,
    pub reason: Reason,
    pub is_retry_limit_exceeded: bool,
    pub status: u16,
    pub protocol: Protocol,
    pub grpc_status: Option<u8>,
    pub is_tls: bool,
}

impl Labels {
    /// Envoy's short response flags.
    pub fn flags(&self) -> &'static str {
        if self.is_retry_limit_exceeded { self.reason.flags_after_retries() } else { self.reason.flag() }
    }
}

/// Istio's `request_protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Http,
    Grpc,
}

/// The requests of one set of labels.
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: Labels,
    pub durations: Histogram,
    pub request_bytes: Histogram,
    pub response_bytes: Histogram,
}

impl Series {
    pub fn requests(&self) -> u64 {
        self.durations.count()
    }
}

/// One worker's numbers.
#[derive(Debug)]
pub struct Metrics {
    /// By cluster; the last row is for requests without one.
    series: RefCell<Vec<Vec<Series>>>,
    pub downstream: Downstream,
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
    pub tls_errors: Cell<u64>,
    pub log_lines_dropped: Cell<u64>,
}

impl Metrics {
    pub fn new(clusters: usize) -> Metrics {
        Metrics { series: RefCell::new(vec![Vec::new(); clusters + 1]), downstream: Downstream::default() }
    }

    #[inline]
    pub fn record(&self, labels: Labels, duration: Duration, request_bytes: u64, response_bytes: u64) {
        let mut all = self.series.borrow_mut();
        let last = all.len() - 1;
        let rows = &mut all[labels.cluster.map_or(last, ClusterId::index).min(last)];
        let at = match rows.iter().position(|series| series.labels == labels) {
            Some(at) => at,
            None => {
                rows.push(Series {
                    labels,
                    durations: Histogram::default(),
                    request_bytes: Histogram::default(),
                    response_bytes: Histogram::default(),
                });
                rows.len() - 1
            }
        };
        let series = &mut rows[at];
        series.durations.observe(duration.as_secs_f64() * 1_000.0);
        series.request_bytes.observe(request_bytes as f64);
        series.response_bytes.observe(response_bytes as f64);
    }

    pub(crate) fn series(&self) -> Vec<Series> {
        self.series.borrow().iter().flatten().cloned().collect()
    }
}

/// The numbers of all workers, added up.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub series: Vec<Series>,
    pub downstream: DownstreamReport,
    /// By [`ClusterId`].
    pub clusters: Vec<ClusterReport>,
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
    pub tls_errors: u64,
    pub log_lines_dropped: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterReport {
    pub connections_active: u64,
    pub connections_total: u64,
    pub connect_failures: u64,
    pub connect_timeouts: u64,
    pub requests_active: u64,
    pub requests_total: u64,
    pub replays: u64,
    pub retries: u64,
    pub retries_exceeded: u64,
}

macro_rules! add_fields {
    ($mine:expr, $theirs:expr, $($field:ident),*) => { $( $mine.$field += $theirs.$field; )* };
}

impl Report {
    /// Adds another worker's report.
    pub fn add(&mut self, other: Report) {
        for series in other.series {
            match self.series.iter_mut().find(|mine| mine.labels == series.labels) {
                Some(mine) => {
                    mine.durations.add(&series.durations);
                    mine.request_bytes.add(&series.request_bytes);
                    mine.response_bytes.add(&series.response_bytes);
                }
                None => self.series.push(series),
            }
        }
        self.series.sort_by_key(|series| series.labels);
        add_fields!(
            self.downstream,
            other.downstream,
            connections_active,
            connections_total,
            requests_active,
            requests_total,
            protocol_errors,
            tls_errors,
            log_lines_dropped
        );
        self.clusters.resize(self.clusters.len().max(other.clusters.len()), ClusterReport::default());
        for (mine, theirs) in self.clusters.iter_mut().zip(&other.clusters) {
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
                retries_exceeded
            );
        }
        self.timers += other.timers;
    }
}
