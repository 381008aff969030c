//! What happened, in one structure that prints as text and as JSON.
//!
//! Whole numbers only: moments and lengths of time are microseconds, so that equal runs print equal
//! bytes on every machine.

mod recorder;
mod text;
mod timeline;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use crate::change::StateChange;
use crate::expect::Judged;
use crate::kept::{ClassCounts, Memory};
use crate::latencies::Latencies;
use crate::mirrors::MirrorHere;
use crate::stores::StoreTold;
use crate::tiers::TierTold;

pub use recorder::{Ended, INTERVALS_MAX, Recorder};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transcript {
    pub seed: u64,
    /// The width of the intervals.
    pub interval_us: u64,
    /// When the last request was over.
    pub ended_us: u64,
    /// The names of all clusters of the proxy that loads come to, in the order in which counts by
    /// cluster stand.
    pub clusters: Vec<String>,
    /// The names of all services, in the order in which counts by service stand.
    pub services: Vec<String>,
    pub changes: Vec<Change>,
    pub samples: Vec<Sample>,
    pub intervals: Vec<Interval>,
    pub summary: Summary,
    pub expectations: Vec<Judged>,
    /// Every request through every proxy, where that was asked for.
    #[serde(skip)]
    pub trace: Vec<Hop>,
    /// More than can be kept.
    #[serde(skip)]
    pub is_trace_cut: bool,
}

/// Something is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub at_us: u64,
    /// That of its lane, where a state changed; else `reason`, `dns` or `clients`.
    pub kind: &'static str,
    pub what: String,
    /// Whose state it is: `orders at 10.0.1.2:8080`; empty where none changed.
    pub subject: String,
    #[serde(serialize_with = "name_of")]
    pub state: Option<StateChange>,
    #[serde(skip)]
    pub address: Option<SocketAddr>,
}

/// One request through one proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    pub number: u64,
    /// The request that it was made for, where a service made it.
    pub parent: Option<u64>,
    /// Which try of its client it was, from 1.
    pub attempt: u32,
    pub at_us: u64,
    pub ended_us: u64,
    pub proxy: String,
    pub request: String,
    pub cluster: Option<String>,
    pub endpoint: Option<SocketAddr>,
    pub attempts: u16,
    pub status: u16,
    pub reason: &'static str,
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
    /// What reached each service.
    pub by_service: Vec<u64>,
    /// Under way at the end of the interval.
    pub active: u64,
    /// Of those that ended.
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What clients wanted, however often they asked.
    pub requests: u64,
    /// How often they asked.
    pub tries: u64,
    /// Requests through any proxy.
    pub hops: u64,
    pub attempts: u64,
    /// Requests sent a second time by the proxy that loads come to.
    pub repeated: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub by_status: Vec<StatusCount>,
    pub by_reason: Vec<ReasonCount>,
    pub latency: Latency,
    pub by_cluster: Vec<ClusterCounts>,
    /// What went through the proxies of services.
    pub by_proxy: Vec<ProxyCounts>,
    pub by_service: Vec<ServiceCounts>,
    /// Where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_mirror: Vec<MirrorTold>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_cache: Vec<CacheTold>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_tier: Vec<TierTold>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_store: Vec<StoreTold>,
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

/// What became of the copies of one mirror, through any proxy, and what its answers differ in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MirrorTold {
    pub virtual_host: String,
    pub route: String,
    pub cluster: String,
    pub copies: u64,
    pub answered: u64,
    /// Never sent.
    pub refused: u64,
    pub failed: u64,
    pub timed_out: u64,
    /// Their bodies were taken too slowly.
    pub overrun: u64,
    pub abandoned: u64,
    pub compared: u64,
    pub different: u64,
    /// Requests of which one of the two answers is missing.
    pub unpaired: u64,
    /// Pairs in which the copy's answer took longer to begin.
    pub slower: u64,
    /// How many answers differed at each place.
    pub places: Vec<(String, u64)>,
    pub noise: Vec<String>,
    pub learned: u64,
    /// Of the answers that were compared, until they began.
    pub primary: Latency,
    pub candidate: Latency,
}

/// What became of requests of one class of what is kept, at all proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CacheTold {
    pub class: String,
    #[serde(flatten)]
    pub counts: ClassCounts,
}

impl CacheTold {
    /// With memories of proxies that have any.
    pub fn of(memories: &[Option<Box<Memory>>]) -> Vec<CacheTold> {
        let mut sums: BTreeMap<&String, ClassCounts> = BTreeMap::new();
        for (class, counts) in memories.iter().flatten().flat_map(|memory| memory.classes()) {
            sums.entry(class).or_default().add(counts);
        }
        sums.into_iter().map(|(class, counts)| CacheTold { class: class.clone(), counts }).collect()
    }
}

impl MirrorTold {
    fn of(here: &mut MirrorHere) -> MirrorTold {
        let MirrorHere { name, counts, report, noise, .. } = here;
        MirrorTold {
            virtual_host: name.virtual_host.to_string(),
            route: name.route.to_string(),
            cluster: name.cluster.to_string(),
            copies: counts.copies,
            answered: counts.answered,
            refused: counts.refused.values().sum(),
            failed: counts.failed,
            timed_out: counts.timed_out,
            overrun: counts.overrun,
            abandoned: counts.abandoned,
            compared: report.compared,
            different: report.different,
            unpaired: here.unpaired,
            slower: here.slower,
            places: report.places.iter().map(|(place, times)| (place.clone(), *times)).collect(),
            noise: noise.places().map(str::to_owned).collect(),
            learned: here.learned,
            primary: Latency::of(&mut here.primary),
            candidate: Latency::of(&mut here.candidate),
        }
    }
}

/// What went through the proxies of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProxyCounts {
    pub proxy: String,
    /// How many proxies there are.
    pub count: u64,
    pub hops: u64,
    pub attempts: u64,
    pub repeated: u64,
    pub by_cluster: Vec<ClusterCounts>,
}

/// What reached a version of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceCounts {
    pub service: String,
    /// Empty where the service has only one.
    pub version: String,
    pub arrived: u64,
    /// Answered with 2xx, 3xx, 4xx, 5xx.
    pub by_class: [u64; 4],
    /// The queue was full.
    pub refused: u64,
    /// Its deadline had passed.
    pub late: u64,
    /// Broken off, never answered, or gone with its instance.
    pub lost: u64,
    /// Given up, as nobody waited any more.
    pub stopped: u64,
    /// At one instance.
    pub working_max: u32,
    pub waiting_max: u32,
    /// From the whole request to the head of the answer.
    pub latency: Latency,
}

/// The smallest value that at least so many do not exceed: exact where there are at most
/// [`crate::latencies::EXACT_MAX`] values, else above it by a thousandth at most.
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
    /// What instances have taken in.
    pub work: u64,
}

impl Transcript {
    /// Whether every expectation was met.
    pub fn is_as_expected(&self) -> bool {
        self.expectations.iter().all(|judged| judged.holds)
    }

    /// A line of JSON for each request through each proxy, where a trace was asked for.
    pub fn trace_lines(&self) -> String {
        let mut lines = String::new();
        for hop in &self.trace {
            lines.push_str(&serde_json::to_string(hop).expect("a tree of plain values is always JSON"));
            lines.push('\n');
        }
        lines
    }

    /// One object, indented.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a tree of plain values is always JSON")
    }
}

impl Latency {
    pub fn of(latencies: &mut Latencies) -> Latency {
        Latency {
            min_us: latencies.min(),
            mean_us: latencies.mean(),
            p50_us: latencies.quantile(500_000),
            p90_us: latencies.quantile(900_000),
            p99_us: latencies.quantile(990_000),
            p999_us: latencies.quantile(999_000),
            max_us: latencies.max(),
        }
    }
}

fn name_of<S: serde::Serializer>(state: &Option<StateChange>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.map_or("", StateChange::name))
}
