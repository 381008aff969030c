//! What naru may cost, and whether it does.
//!
//! Two columns: what the trunk may start at, and what the finished product must keep.

use super::peer::Peer;
use super::samples::{Quantile, Quantity, Samples, Size, Spread};

pub struct Verdict {
    pub title: &'static str,
    pub measured: Option<Spread>,
    pub unit: &'static str,
    pub now_max: f64,
    pub finished_max: f64,
    pub judged: Judged,
}

/// Which of the measured values must not exceed the budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judged {
    Median,
    /// The range is what the median lies in with a chance of 95 %, and its upper end counts.
    UpperBound,
}

impl Verdict {
    /// None if it was not measured.
    pub fn holds_now(&self) -> Option<bool> {
        Some(self.judged()? <= self.now_max)
    }

    pub fn holds_finished(&self) -> Option<bool> {
        Some(self.judged()? <= self.finished_max)
    }

    fn judged(&self) -> Option<f64> {
        let measured = self.measured?;
        Some(match self.judged {
            Judged::Median => measured.median,
            Judged::UpperBound => measured.most,
        })
    }
}

pub fn judge(samples: &Samples) -> Vec<Verdict> {
    let over = |quantity, peer| samples.ratio((quantity, Peer::Naru), (quantity, peer));
    let memory = |size| samples.spread(Quantity::Memory(size), Peer::Naru);
    let ratio = |title, measured, now_max, finished_max| Verdict {
        title,
        measured,
        unit: "x",
        now_max,
        finished_max,
        judged: Judged::Median,
    };
    let megabytes = |title, measured, now_max, finished_max| Verdict {
        title,
        measured,
        unit: " MB",
        now_max,
        finished_max,
        judged: Judged::Median,
    };
    let kilobytes = |title, measured, now_max, finished_max| Verdict {
        title,
        measured,
        unit: " KB",
        now_max,
        finished_max,
        judged: Judged::Median,
    };
    let huge = samples.ratio((Quantity::LastOfHuge, Peer::Naru), (Quantity::FirstOfHuge, Peer::Naru));
    let idle = samples.spread(Quantity::IdleConnection, Peer::Naru);
    let tls_over_better = samples.ratio_to_least(Quantity::Tls, Peer::Naru, &[Peer::Nginx, Peer::Haproxy]);
    let routes = samples.ratio((Quantity::LastRoute, Peer::Naru), (Quantity::FirstRoute, Peer::Naru));
    let policies =
        samples.ratio((Quantity::WithPolicies, Peer::Naru), (Quantity::WithoutPolicies, Peer::Naru));
    let p99 = |title, rate| {
        let quantity = Quantity::Latency(rate, Quantile::P99);
        let best = samples.best(quantity, &[Peer::Nginx, Peer::Haproxy, Peer::Envoy]);
        let bounds = best.and_then(|best| samples.bounds_of_ratio((quantity, Peer::Naru), (quantity, best)));
        Verdict { judged: Judged::UpperBound, ..ratio(title, bounds, 1.15, 1.15) }
    };
    let cached = samples.ratio((Quantity::Cached, Peer::Naru), (Quantity::Proxied, Peer::Naru));
    vec![
        ratio("h1, CPU over HAProxy's", over(Quantity::H1, Peer::Haproxy), 1.25, 1.0),
        ratio("h1, CPU over Envoy's", over(Quantity::H1, Peer::Envoy), 0.6, 0.5),
        ratio("h2 to h1, CPU over Envoy's", over(Quantity::H2, Peer::Envoy), 0.5, 0.45),
        ratio("h2 to h2, CPU over Envoy's", over(Quantity::H2ToH2, Peer::Envoy), 0.5, 0.45),
        ratio("h2 to h1, CPU over HAProxy's", over(Quantity::H2, Peer::Haproxy), 1.5, 1.5),
        ratio("h2 to h2, CPU over HAProxy's", over(Quantity::H2ToH2, Peer::Haproxy), 1.5, 1.5),
        ratio("h1 over TLS, CPU over the better of nginx and HAProxy", tls_over_better, 1.15, 1.0),
        ratio("TCP, CPU of an exchange over HAProxy's", over(Quantity::Tcp, Peer::Haproxy), 1.05, 1.05),
        ratio("TCP, CPU of a megabyte over HAProxy's", over(Quantity::TcpBytes, Peer::Haproxy), 1.05, 1.05),
        p99("p99 at 2,000 requests/s, h1, over the best peer's: upper bound of 95 %", 2_000),
        p99("p99 at 8,000 requests/s, h1, over the best peer's: upper bound of 95 %", 8_000),
        ratio("last of 10,000 routes, CPU over the first's", routes, 1.10, 1.10),
        ratio("last of 100,000 routes, CPU over the first's", huge, 1.10, 1.10),
        ratio("every policy, CPU over none", policies, 1.15, 1.15),
        ratio("a GET from the cache, CPU over one from upstream", cached, 0.5, 0.5),
        kilobytes("VmRSS per idle connection, h1", idle, 12.0, 12.0),
        ratio("the same, over Envoy's", over(Quantity::IdleConnection, Peer::Envoy), 1.0, 1.0),
        megabytes("VmRSS idle, 2 workers", memory(Size::Small), 30.0, 25.0),
        megabytes("VmRSS, 10,000 routes and 1,000 clusters", memory(Size::Large), 45.0, 40.0),
    ]
}
