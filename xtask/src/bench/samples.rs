//! The numbers of a run: for every quantity and proxy one per round.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::peer::Peer;

/// Something that is measured; the unit is part of it. Ordered as it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    H1,
    H2,
    H2ToH2,
    Tls,
    /// A connection each, with a request.
    Handshake,
    Resumption,
    /// Of a megabyte each.
    Download,
    Upload,
    Call,
    Stream,
    Tcp,
    TcpBytes,
    /// At so many requests per second.
    Latency(u32, Quantile),
    FirstRoute,
    LastRoute,
    FirstOfHuge,
    LastOfHuge,
    WithoutPolicies,
    WithPolicies,
    Proxied,
    Cached,
    IdleConnection,
    Memory(Size),
    MemoryAfterReloads(Size),
    Start(Size),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantile {
    P50,
    P99,
    P999,
}

/// Of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    Small,
    Large,
}

impl Quantity {
    pub fn title(self) -> String {
        let size = |size| match size {
            Size::Small => "one route",
            Size::Large => "10,000 routes, 1,000 clusters",
        };
        match self {
            Quantity::H1 => "CPU per request, h1, 64 connections".into(),
            Quantity::H2 => "CPU per request, h2 to h1, 8 connections x 32 streams".into(),
            Quantity::H2ToH2 => "CPU per request, h2 to h2, 8 connections x 32 streams".into(),
            Quantity::Tls => "CPU per request, h1 over TLS 1.3, 64 connections".into(),
            Quantity::Handshake => "CPU per connection with one request, TLS 1.3, full handshake".into(),
            Quantity::Resumption => "CPU per connection with one request, TLS 1.3, resumed".into(),
            Quantity::Download => "CPU per MB, h1, download of 1 MB, 8 connections".into(),
            Quantity::Upload => "CPU per MB, h1, upload of 1 MB, 8 connections".into(),
            Quantity::Call => "CPU per call, gRPC, unary, 8 connections x 32 streams".into(),
            Quantity::Stream => "CPU per call, gRPC, 100 messages back, 8 connections x 32 streams".into(),
            Quantity::Tcp => "CPU per exchange, TCP, 64 connections".into(),
            Quantity::TcpBytes => "CPU per MB, TCP, answers of 1 MB, 8 connections".into(),
            Quantity::Latency(rate, quantile) => {
                let quantile = match quantile {
                    Quantile::P50 => "p50",
                    Quantile::P99 => "p99",
                    Quantile::P999 => "p99.9",
                };
                format!("latency {quantile}, h1, {rate} requests/s offered")
            }
            Quantity::FirstRoute => "CPU per request, first of 10,000 prefix routes".into(),
            Quantity::LastRoute => "CPU per request, last of 10,000 prefix routes".into(),
            Quantity::FirstOfHuge => "CPU per request, first of 100,000 prefix routes".into(),
            Quantity::LastOfHuge => "CPU per request, last of 100,000 prefix routes".into(),
            Quantity::IdleConnection => "VmRSS per idle connection, h1, 1,000 to 15,000".into(),
            Quantity::WithoutPolicies => "CPU per request, `naru up`, no policies".into(),
            Quantity::WithPolicies => "CPU per request, `naru up`, every policy".into(),
            Quantity::Proxied => "CPU per GET, `naru up`, from upstream".into(),
            Quantity::Cached => "CPU per GET, `naru up`, from the cache".into(),
            Quantity::Memory(of) => format!("VmRSS, 2 workers, {}", size(of)),
            Quantity::MemoryAfterReloads(of) => format!("VmRSS after 10 reloads, 2 workers, {}", size(of)),
            Quantity::Start(of) => format!("start, exec to first 200, {}", size(of)),
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Quantity::Memory(_) | Quantity::MemoryAfterReloads(_) => "MB",
            Quantity::IdleConnection => "KB",
            Quantity::Start(_) => "ms",
            _ => "µs",
        }
    }
}

#[derive(Debug, Default)]
pub struct Samples {
    rounds: BTreeMap<(Quantity, Peer), Vec<f64>>,
    slices: Slices,
}

/// Of the turns in which latencies were measured, as bench-load counts them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slices {
    pub counted: u64,
    /// That were asked again, as a core was away from the machine.
    pub again: u64,
    /// That count although one was away each time.
    pub disturbed: u64,
}

impl Samples {
    pub fn add(&mut self, quantity: Quantity, peer: Peer, value: f64) {
        self.rounds.entry((quantity, peer)).or_default().push(value);
    }

    pub fn add_slices(&mut self, more: Slices) {
        self.slices.counted += more.counted;
        self.slices.again += more.again;
        self.slices.disturbed += more.disturbed;
    }

    pub fn slices(&self) -> Slices {
        self.slices
    }

    pub fn quantities(&self) -> BTreeSet<Quantity> {
        self.rounds.keys().map(|(quantity, _)| *quantity).collect()
    }

    pub fn spread(&self, quantity: Quantity, peer: Peer) -> Option<Spread> {
        Spread::of(self.rounds.get(&(quantity, peer))?.clone())
    }

    /// One quantity over another, round by round.
    pub fn ratio(&self, above: (Quantity, Peer), below: (Quantity, Peer)) -> Option<Spread> {
        let pairs = self.rounds.get(&above)?.iter().zip(self.rounds.get(&below)?);
        Spread::of(pairs.map(|(above, below)| above / below).collect())
    }

    /// Whichever of `others` has the least median.
    pub fn best(&self, quantity: Quantity, others: &[Peer]) -> Option<Peer> {
        let median = |peer: &Peer| Some((self.spread(quantity, *peer)?.median, *peer));
        let medians: Option<Vec<_>> = others.iter().map(median).collect();
        Some(medians?.into_iter().min_by(|one, other| one.0.total_cmp(&other.0))?.1)
    }

    /// One quantity over another, pair by pair: the median, and between which values it lies with a chance of 95 %.
    /// None where there are too few pairs to say.
    pub fn bounds_of_ratio(&self, above: (Quantity, Peer), below: (Quantity, Peer)) -> Option<Spread> {
        let pairs = self.rounds.get(&above)?.iter().zip(self.rounds.get(&below)?);
        Spread::of_median(pairs.map(|(above, below)| above / below).collect())
    }

    /// The same over whichever of `others` has least, round by round.
    pub fn ratio_to_least(&self, quantity: Quantity, peer: Peer, others: &[Peer]) -> Option<Spread> {
        let others: Option<Vec<_>> =
            others.iter().map(|other| self.rounds.get(&(quantity, *other))).collect();
        let (own, others) = (self.rounds.get(&(quantity, peer))?, others?);
        let ratio = |(at, value): (usize, &f64)| {
            let least = others.iter().filter_map(|values| values.get(at)).copied().reduce(f64::min)?;
            Some(value / least)
        };
        Spread::of(own.iter().enumerate().filter_map(ratio).collect())
    }

    pub fn to_json(&self) -> Value {
        let rounds = self.rounds.iter();
        rounds
            .map(|((quantity, peer), values)| json!([quantity.title(), quantity.unit(), peer.name(), values]))
            .collect()
    }
}

/// A median with the range around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Spread { least, median, most })
    }

    /// The median, and what it lies between with a chance of 95 %, whatever the values are spread like: each of them is
    /// above it or below as a coin falls (the sign test; Conover, Practical Nonparametric Statistics, 3.2).
    pub fn of_median(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let number = values.len();
        // How likely it is that just so many of them are below it, and that so many or fewer are.
        let mut chance = 0.5f64.powi(i32::try_from(number).ok()?);
        let mut so_far = chance;
        let mut outside = 0;
        while so_far <= 0.025 {
            outside += 1;
            chance *= (number + 1 - outside) as f64 / outside as f64;
            so_far += chance;
        }
        let least = *values.get(outside.checked_sub(1)?)?;
        let most = *values.get(number.checked_sub(outside)?)?;
        Some(Spread { least, most, ..Spread::of(values)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_ratios_within_a_round_before_the_median() {
        let mut samples = Samples::default();
        // The second round ran on a machine half as fast.
        for (naru, envoy) in [(10.0, 20.0), (20.0, 40.0), (10.0, 25.0)] {
            samples.add(Quantity::H1, Peer::Naru, naru);
            samples.add(Quantity::H1, Peer::Envoy, envoy);
        }
        let ratio = samples.ratio((Quantity::H1, Peer::Naru), (Quantity::H1, Peer::Envoy));
        assert_eq!(ratio, Some(Spread { least: 0.4, median: 0.5, most: 0.5 }));
    }

    #[test]
    fn takes_the_least_of_others_in_each_round() {
        let mut samples = Samples::default();
        for (naru, nginx, haproxy) in [(10.0, 20.0, 40.0), (20.0, 40.0, 10.0)] {
            samples.add(Quantity::Tls, Peer::Naru, naru);
            samples.add(Quantity::Tls, Peer::Nginx, nginx);
            samples.add(Quantity::Tls, Peer::Haproxy, haproxy);
        }
        let ratio = samples.ratio_to_least(Quantity::Tls, Peer::Naru, &[Peer::Nginx, Peer::Haproxy]);
        assert_eq!(ratio, Some(Spread { least: 0.5, median: 1.25, most: 2.0 }));
    }

    /// The ranks are those of the tables: of 10 values the second and the ninth, of 30 the tenth and the twenty-first.
    #[test]
    fn knows_what_a_median_lies_between() {
        let between = |number: u32| {
            let bounds = Spread::of_median((1..=number).map(f64::from).collect())?;
            Some((bounds.least, bounds.median, bounds.most))
        };
        assert_eq!(between(10), Some((2.0, 5.5, 9.0)));
        assert_eq!(between(30), Some((10.0, 15.5, 21.0)));
        assert_eq!(between(5), None, "five values say too little");
    }

    #[test]
    fn knows_the_best_of_others_by_its_median() {
        let mut samples = Samples::default();
        for (nginx, haproxy) in [(1.0, 2.0), (9.0, 2.0), (9.0, 20.0)] {
            samples.add(Quantity::H1, Peer::Nginx, nginx);
            samples.add(Quantity::H1, Peer::Haproxy, haproxy);
        }
        assert_eq!(samples.best(Quantity::H1, &[Peer::Nginx, Peer::Haproxy]), Some(Peer::Haproxy));
        assert_eq!(samples.best(Quantity::H1, &[Peer::Nginx, Peer::Envoy]), None, "one was not measured");
    }

    #[test]
    fn says_nothing_of_what_was_not_measured() {
        assert_eq!(Samples::default().spread(Quantity::H1, Peer::Naru), None);
    }
}
