//! A transcript as people read it.

use naru_spec::defaults::ADDRESSES_CLUSTER;
use std::fmt::{Display, Formatter, Result};

use super::{
    CacheTold, ClusterCounts, Interval, Latency, MirrorTold, ProxyCounts, Sample, ServiceCounts, TierTold,
    Transcript,
};

/// Milliseconds with three places.
struct Millis(u64);

impl Display for Millis {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.pad(&format!("{}.{:03}ms", self.0 / 1_000, self.0 % 1_000))
    }
}

/// A moment, as [`naru_base::Instant`] prints it.
struct Moment(u64);

impl Display for Moment {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.pad(&format!("{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000))
    }
}

impl Display for Transcript {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(
            f,
            "seed {}, {} of virtual time, {} requests",
            self.seed,
            Moment(self.ended_us),
            self.summary.requests
        )?;
        if !self.changes.is_empty() {
            writeln!(f, "\nchanges")?;
            for change in &self.changes {
                writeln!(f, "{:>16}  {:<8}  {}", Moment(change.at_us), change.kind, change.what)?;
            }
        }
        if !self.samples.is_empty() {
            writeln!(f, "\ndecisions")?;
            self.samples.iter().try_for_each(|sample| write_sample(sample, f))?;
        }
        self.write_intervals(f)?;
        self.write_summary(f)?;
        self.write_expectations(f)
    }
}

fn write_sample(sample: &Sample, f: &mut Formatter<'_>) -> Result {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let endpoint = sample.endpoint.map_or_else(|| "-".to_owned(), |endpoint| endpoint.to_string());
    writeln!(
        f,
        "{:>16}  #{} {}: route {}, cluster {}, endpoint {endpoint}, attempts {}, status {}, {} ({}), {}",
        Moment(sample.at_us),
        sample.number,
        sample.request,
        or_dash(&sample.route),
        sample.cluster.as_deref().unwrap_or("-"),
        sample.attempts,
        sample.status,
        sample.reason,
        sample.flag,
        Millis(sample.duration_us),
    )
}

impl Transcript {
    fn write_intervals(&self, f: &mut Formatter<'_>) -> Result {
        if self.intervals.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nintervals of {}", Millis(self.interval_us))?;
        write!(
            f,
            "{:>16} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6} {:>6}",
            "from", "begun", "ended", "2xx", "3xx", "4xx", "5xx", "none"
        )?;
        write!(f, " {:>7} {:>12} {:>12} {:>12}", "active", "p50", "p99", "max")?;
        for (_, cluster) in self.columns_of_clusters() {
            write!(f, " {:>width$}", cluster, width = width_of(cluster))?;
        }
        for service in self.columns_of_services() {
            write!(f, " {:>width$}", format!("->{service}"), width = 2 + width_of(service))?;
        }
        writeln!(f)?;
        self.intervals.iter().try_for_each(|interval| self.write_interval(interval, f))
    }

    /// All clusters, but the one for addresses only where something has gone there: every outbound listener has it.
    fn columns_of_clusters(&self) -> impl Iterator<Item = (usize, &String)> {
        let is_used =
            |at: usize| self.intervals.iter().any(|interval| interval.by_cluster.get(at) > Some(&0));
        let all = self.clusters.iter().enumerate();
        all.filter(move |(at, name)| name.as_str() != ADDRESSES_CLUSTER || is_used(*at))
    }

    /// What reaches services differs from what is sent to clusters where they call each other.
    fn columns_of_services(&self) -> &[String] {
        if self.summary.by_proxy.is_empty() { &[] } else { &self.services }
    }

    fn write_interval(&self, interval: &Interval, f: &mut Formatter<'_>) -> Result {
        let [ok, redirected, wrong, failed, none] = interval.by_class;
        write!(f, "{:>16} {:>7} {:>7}", Moment(interval.at_us), interval.begun, interval.ended)?;
        write!(f, " {ok:>7} {redirected:>6} {wrong:>6} {failed:>6} {none:>6} {:>7}", interval.active)?;
        write!(
            f,
            " {:>12} {:>12} {:>12}",
            Millis(interval.p50_us),
            Millis(interval.p99_us),
            Millis(interval.max_us)
        )?;
        for (at, cluster) in self.columns_of_clusters() {
            let count = interval.by_cluster.get(at).copied().unwrap_or_default();
            write!(f, " {count:>width$}", width = width_of(cluster))?;
        }
        for (service, count) in self.columns_of_services().iter().zip(&interval.by_service) {
            write!(f, " {count:>width$}", width = 2 + width_of(service))?;
        }
        writeln!(f)
    }

    fn write_summary(&self, f: &mut Formatter<'_>) -> Result {
        let summary = &self.summary;
        writeln!(f, "\nsummary")?;
        writeln!(
            f,
            "  requests {}, attempts {}, repeated {}, bytes in {}, bytes out {}",
            summary.requests, summary.attempts, summary.repeated, summary.bytes_received, summary.bytes_sent
        )?;
        if summary.hops > summary.requests {
            writeln!(f, "  tries {}, requests through all proxies {}", summary.tries, summary.hops)?;
        }
        writeln!(f, "  by status")?;
        for count in &summary.by_status {
            let share = share(count.requests, summary.requests);
            match count.status {
                0 => writeln!(f, "    none {:>9} {share:>8}", count.requests)?,
                status => writeln!(f, "    {status:<4} {:>9} {share:>8}", count.requests)?,
            }
        }
        writeln!(f, "  by reason")?;
        for count in &summary.by_reason {
            let share = share(count.requests, summary.requests);
            writeln!(f, "    {:<18} {:<4} {:>9} {share:>8}", count.reason, count.flag, count.requests)?;
        }
        write!(f, "  latency ")?;
        write_latency(&summary.latency, f)?;
        // A mesh has many clusters that clients never come to.
        let is_shown = |cluster: &&ClusterCounts| {
            cluster.requests > 0 || summary.by_proxy.is_empty() && cluster.cluster != ADDRESSES_CLUSTER
        };
        let shown = summary.by_cluster.iter().filter(is_shown);
        shown.into_iter().try_for_each(|cluster| write_cluster(cluster, summary.tries, f))?;
        summary.by_proxy.iter().try_for_each(|proxy| write_proxy(proxy, f))?;
        summary.by_service.iter().try_for_each(|service| write_service(service, f))?;
        summary.by_mirror.iter().try_for_each(|mirror| write_mirror(mirror, f))?;
        summary.by_cache.iter().try_for_each(|cache| write_cache(cache, f))?;
        summary.by_tier.iter().try_for_each(|tier| write_tier(tier, f))?;
        for store in &summary.by_store {
            write!(
                f,
                "  store {}: asked {}, without an answer {}",
                store.store, store.asked, store.unanswered
            )?;
            match store.waited {
                Some(waited) => writeln!(f, ", waited for other gateways {waited}")?,
                None => writeln!(f)?,
            }
        }
        let active = summary.active_at_end;
        writeln!(
            f,
            "  active at the end: requests {}, permits {}, connections {}",
            active.requests, active.permits, active.connections
        )
    }
}

impl Transcript {
    fn write_expectations(&self, f: &mut Formatter<'_>) -> Result {
        if self.expectations.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nexpectations")?;
        self.expectations.iter().try_for_each(|judged| {
            let verdict = if judged.holds { "holds " } else { "FAILED" };
            writeln!(
                f,
                "  {verdict}  {}: expected {}, measured {}",
                judged.what, judged.expected, judged.measured
            )
        })
    }
}

fn write_cache(cache: &CacheTold, f: &mut Formatter<'_>) -> Result {
    let counts = &cache.counts;
    let all = counts.answered() + counts.misses;
    let behind = [("disk", counts.disk_hits), ("redis", counts.redis_hits)].into_iter();
    let behind = behind.filter(|(_, hits)| *hits > 0).map(|(tier, hits)| format!(", {tier} {hits}"));
    let behind: String = behind.collect();
    writeln!(
        f,
        "  cache {}: {} from what is kept; hit {}{behind}, stale {}, validated {}, instead {}, miss {}; waited {}, stored {}, not stored {}, refreshed {}",
        cache.class,
        share(counts.answered(), all),
        counts.hits,
        counts.stale_hits,
        counts.validated,
        counts.instead,
        counts.misses,
        counts.collapsed,
        counts.stored,
        counts.unstored,
        counts.refreshed
    )
}

fn write_proxy(proxy: &ProxyCounts, f: &mut Formatter<'_>) -> Result {
    writeln!(
        f,
        "  from {} ({}): requests {}, attempts {}, repeated {}",
        proxy.proxy,
        if proxy.count == 1 { "1 proxy".to_owned() } else { format!("{} proxies", proxy.count) },
        proxy.hops,
        proxy.attempts,
        proxy.repeated
    )?;
    let used = proxy.by_cluster.iter().filter(|cluster| cluster.requests > 0);
    used.into_iter().try_for_each(|cluster| {
        writeln!(
            f,
            "    cluster {}: requests {}, failures {}",
            cluster.cluster, cluster.requests, cluster.failures
        )?;
        write!(f, "      latency ")?;
        write_latency(&cluster.latency, f)
    })
}

fn write_service(service: &ServiceCounts, f: &mut Formatter<'_>) -> Result {
    let [ok, redirected, wrong, failed] = service.by_class;
    write!(f, "  service {}", service.service)?;
    if !service.version.is_empty() {
        write!(f, " {}", service.version)?;
    }
    write!(f, ": reached by {}, 2xx {ok}, 3xx {redirected}, 4xx {wrong}, 5xx {failed}", service.arrived)?;
    write!(
        f,
        ", refused {}, late {}, lost {}, stopped {}",
        service.refused, service.late, service.lost, service.stopped
    )?;
    // Where nothing is limited, nobody counts.
    if service.working_max > 0 {
        write!(f, ", at most {} working and {} waiting", service.working_max, service.waiting_max)?;
    }
    writeln!(f)?;
    if service.arrived == 0 {
        return Ok(());
    }
    write!(f, "    latency ")?;
    write_latency(&service.latency, f)
}

fn write_mirror(mirror: &MirrorTold, f: &mut Formatter<'_>) -> Result {
    writeln!(
        f,
        "  mirror {} {} -> {}: copies {}, answered {}, refused {}, failed {}, timed out {}, too slow {}, abandoned {}",
        mirror.virtual_host,
        mirror.route,
        mirror.cluster,
        mirror.copies,
        mirror.answered,
        mirror.refused,
        mirror.failed,
        mirror.timed_out,
        mirror.overrun,
        mirror.abandoned
    )?;
    if mirror.compared + mirror.unpaired == 0 {
        return Ok(());
    }
    writeln!(
        f,
        "    compared {}, different {} ({}), one answer missing {}, slower than the original {}",
        mirror.compared,
        mirror.different,
        share(mirror.different, mirror.compared),
        mirror.unpaired,
        mirror.slower
    )?;
    for (place, times) in &mirror.places {
        writeln!(f, "    differs {times}: {place}")?;
    }
    if !mirror.noise.is_empty() {
        writeln!(f, "    noise, learned {} times: {}", mirror.learned, mirror.noise.join(", "))?;
    }
    write!(f, "    original ")?;
    write_latency(&mirror.primary, f)?;
    write!(f, "    copy     ")?;
    write_latency(&mirror.candidate, f)
}

/// Wide enough for a count of a million.
fn width_of(cluster: &str) -> usize {
    cluster.chars().count().max(7)
}

fn write_cluster(cluster: &ClusterCounts, requests: u64, f: &mut Formatter<'_>) -> Result {
    writeln!(
        f,
        "  cluster {}: requests {} ({}), failures {}",
        cluster.cluster,
        cluster.requests,
        share(cluster.requests, requests),
        cluster.failures
    )?;
    write!(f, "    latency ")?;
    write_latency(&cluster.latency, f)?;
    for endpoint in &cluster.endpoints {
        writeln!(
            f,
            "    {}: attempts {}, failures {}, connections {}, connect failures {}, at most {} at a time",
            endpoint.endpoint,
            endpoint.requests,
            endpoint.failures,
            endpoint.connections,
            endpoint.connect_failures,
            endpoint.active_max
        )?;
    }
    Ok(())
}

fn write_latency(latency: &Latency, f: &mut Formatter<'_>) -> Result {
    writeln!(
        f,
        "min {}, mean {}, p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        Millis(latency.min_us),
        Millis(latency.mean_us),
        Millis(latency.p50_us),
        Millis(latency.p90_us),
        Millis(latency.p99_us),
        Millis(latency.p999_us),
        Millis(latency.max_us)
    )
}

/// In percent with two places, rounded down.
fn share(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

fn write_tier(tier: &TierTold, f: &mut Formatter<'_>) -> Result {
    let counts = &tier.counts;
    writeln!(
        f,
        "  tier {}: found {}, not found {}, without an answer {}; written {}, worthless by then {}, failed {}, no place {}",
        tier.tier,
        counts.hits,
        counts.misses,
        counts.unanswered,
        counts.stored,
        counts.superseded,
        counts.failed,
        counts.dropped
    )
}
