//! What happened, in one structure that prints as text and as JSON.
//!
//! Whole numbers only: moments and lengths of time are microseconds, so that equal runs print equal
//! bytes on every machine.

mod recorder;
mod text;

use std::net::SocketAddr;

use serde::Serialize;

pub use recorder::{INTERVALS_MAX, Recorder};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transcript {
    pub seed: u64,
    /// The width of the intervals.
    pub interval_us: u64,
    /// When the last request was over.
    pub ended_us: u64,
    /// The names of all clusters, in the order in which counts by cluster stand.
    pub clusters: Vec<String>,
    pub changes: Vec<Change>,
    pub samples: Vec<Sample>,
    pub intervals: Vec<Interval>,
    pub summary: Summary,
}

/// Something is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub at_us: u64,
    /// `service`, `endpoint`, `reason`, `dns` or `clients`.
    pub kind: &'static str,
    pub what: String,
}

/// One request in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    pub number: u64,
    pub at_us: u64,
    pub load: String,
    /// `GET a.example/path`.
    pub request: String,
    pub route: String,
    pub virtual_host: String,
    pub cluster: Option<String>,
    pub endpoint: Option<SocketAddr>,
    pub attempts: u16,
    /// 0 where the client saw none.
    pub status: u16,
    pub reason: &'static str,
    pub flag: &'static str,
    pub duration_us: u64,
}

/// Counts of one interval.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Interval {
    pub at_us: u64,
    pub begun: u64,
    pub ended: u64,
    /// Statuses 2xx, 3xx, 4xx, 5xx, and none.
    pub by_class: [u64; 5],
    /// Of those that ended, by the cluster that they were sent to.
    pub by_cluster: Vec<u64>,
    /// Under way at the end of the interval.
    pub active: u64,
    /// Of those that ended.
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub requests: u64,
    pub attempts: u64,
    /// Requests sent a second time.
    pub repeated: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub by_status: Vec<StatusCount>,
    pub by_reason: Vec<ReasonCount>,
    pub latency: Latency,
    pub by_cluster: Vec<ClusterCounts>,
    pub active_at_end: ActiveAtEnd,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusCount {
    /// 0 where the client saw none.
    pub status: u16,
    pub requests: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonCount {
    pub reason: &'static str,
    pub flag: &'static str,
    pub requests: u64,
}

/// Exact quantiles: the smallest value that at least so many do not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Latency {
    pub min_us: u64,
    pub mean_us: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterCounts {
    pub cluster: String,
    pub requests: u64,
    /// Answers of 5xx, and answers that did not come or broke off.
    pub failures: u64,
    pub latency: Latency,
    pub endpoints: Vec<EndpointCounts>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointCounts {
    pub endpoint: SocketAddr,
    /// Attempts.
    pub requests: u64,
    pub failures: u64,
    pub connections: u64,
    pub connect_failures: u64,
    pub active_max: u32,
}

/// What is counted while it is active. A run that ends with anything else than zeros has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ActiveAtEnd {
    pub requests: u64,
    pub permits: u64,
    pub connections: u64,
}

impl Transcript {
    /// One object, indented.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a tree of plain values is always JSON")
    }
}

impl Latency {
    /// `sorted` rises.
    pub fn of(sorted: &[u64]) -> Latency {
        let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else { return Latency::default() };
        let sum: u128 = sorted.iter().map(|value| u128::from(*value)).sum();
        Latency {
            min_us: *min,
            mean_us: u64::try_from(sum / sorted.len() as u128).unwrap_or(u64::MAX),
            p50_us: quantile(sorted, 500),
            p90_us: quantile(sorted, 900),
            p99_us: quantile(sorted, 990),
            p999_us: quantile(sorted, 999),
            max_us: *max,
        }
    }
}

/// In thousandths; 0 of nothing.
pub fn quantile(sorted: &[u64], thousandths: u64) -> u64 {
    let rank = (sorted.len() as u64 * thousandths).div_ceil(1_000).max(1);
    sorted.get(rank as usize - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let sorted: Vec<u64> = (1..=1_000).collect();
        assert_eq!([500, 900, 990, 999].map(|q| quantile(&sorted, q)), [500, 900, 990, 999]);
        assert_eq!([1, 500, 990, 1_000].map(|q| quantile(&[7, 9], q)), [7, 7, 9, 9]);
        assert_eq!(quantile(&[], 500), 0);
        let latency = Latency::of(&[1, 2, 6]);
        assert_eq!((latency.min_us, latency.mean_us, latency.max_us), (1, 3, 6));
    }
}
