//! When requests come, and which.

use std::time::Duration;

use naru_base::{Chance, Instant};

use crate::body::{Body, BodyEnd};
use crate::distribution::Distribution;
use crate::quantity::{Rate, Share};
use crate::request::Request;
use crate::scenario::Arrivals;

/// A user who asks again at once, and is answered at once, would let time stand still.
const THINK_MIN: Duration = Duration::from_micros(1);

/// A load of a scenario, ready to run.
#[derive(Debug)]
pub struct Source {
    pub name: String,
    pub from: Instant,
    pub to: Instant,
    pub patience: Option<Distribution>,
    pub kinds: Vec<Kind>,
    arrivals: Arrivals,
    /// Requests that came so far.
    count: u64,
    when: Chance,
    which: Chance,
    how_long: Chance,
}

/// One of the requests that a load is a mix of.
#[derive(Debug)]
pub struct Kind {
    pub request: Request,
    /// `GET a.example/path`, as transcripts say it.
    pub line: String,
    pub weight: u32,
    pub body_over: Distribution,
    pub body_broken: Share,
}

impl Source {
    /// Chance is split by the name.
    pub fn new(
        name: String,
        (from, to): (Instant, Instant),
        arrivals: Arrivals,
        patience: Option<Distribution>,
        kinds: Vec<Kind>,
        seed: u64,
    ) -> Source {
        let chance = |what: &str| Chance::split(seed, &format!("{what} of {name}"));
        let (when, which, how_long) = (chance("arrivals"), chance("mix"), chance("patience"));
        Source { name, from, to, patience, kinds, arrivals, count: 0, when, which, how_long }
    }

    /// How many users there are, where requests come from such.
    pub fn users(&self) -> u32 {
        match self.arrivals {
            Arrivals::Users { count, .. } => count.get(),
            _ => 0,
        }
    }

    /// When the next request comes that no user has to send, after one at `last`.
    pub fn next(&mut self, last: Instant) -> Option<Instant> {
        let next = match self.arrivals {
            Arrivals::Users { .. } => return None,
            Arrivals::Constant(rate) => {
                self.count += 1;
                self.from + rate.after(self.count)
            }
            Arrivals::Poisson(rate) => {
                last + Distribution::exponential(rate.interval()).sample_uncut(&mut self.when)
            }
            Arrivals::Ramp { from, to } => self.next_of_ramp(last, from, to)?,
        };
        (next < self.to).then_some(next)
    }

    /// By thinning (Lewis and Shedler, 1979): arrivals at the highest rate, each of which is kept
    /// with the chance that the rate at its moment has of the highest.
    fn next_of_ramp(&mut self, last: Instant, from: Rate, to: Rate) -> Option<Instant> {
        let (low, high) = (from.hourly(), to.hourly());
        let highest = if high > low { to } else { from };
        let gaps = Distribution::exponential(highest.interval());
        let length = u128::from(self.to.0 - self.from.0).max(1);
        let mut at = last;
        loop {
            at = at + gaps.sample_uncut(&mut self.when);
            if at >= self.to {
                return None;
            }
            let passed = u128::from(at.0 - self.from.0);
            let rate = (u128::from(low) * (length - passed) + u128::from(high) * passed) / length;
            if u128::from(self.when.below(low.max(high))) < rate {
                return Some(at);
            }
        }
    }

    /// When a user whose last response ended at `last` asks again.
    pub fn next_of_user(&mut self, last: Instant) -> Option<Instant> {
        let Arrivals::Users { think, .. } = self.arrivals else { return None };
        let next = last + think.sample(&mut self.when).max(THINK_MIN);
        (next < self.to).then_some(next)
    }

    /// Which kind the next request is.
    pub fn draw_kind(&mut self) -> usize {
        let sum: u64 = self.kinds.iter().map(|kind| u64::from(kind.weight)).sum();
        let point = self.which.below(sum);
        let mut upto = 0;
        let found = self.kinds.iter().position(|kind| {
            upto += u64::from(kind.weight);
            point < upto
        });
        found.unwrap_or(0)
    }

    /// How long the next client waits.
    pub fn draw_patience(&mut self) -> Option<Duration> {
        Some(self.patience?.sample(&mut self.how_long))
    }

    /// The next request of a kind. `None` where the kind is always the same: its own will do.
    pub fn draw_body(&mut self, kind: usize) -> Option<Request> {
        let Kind { request, body_over, body_broken, .. } = self.kinds.get(kind)?;
        if request.body.is_empty() {
            return None;
        }
        let mut request = request.clone();
        request.body = Body::new(request.body.bytes, body_over.sample(&mut self.which));
        if body_broken.takes(self.which.draw()) {
            let halves = request.body.in_parts(request.body.parts.max(2));
            request.body = halves.cut(halves.parts / 2, BodyEnd::Broken);
        }
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn arrivals(yaml: &str) -> Vec<Instant> {
        let arrivals: Arrivals = serde_saphyr::from_str(yaml).expect("the arrivals are valid");
        let span = (Instant(10 * SECOND), Instant(110 * SECOND));
        let mut source = Source::new("test".to_owned(), span, arrivals, None, Vec::new(), 3);
        let mut last = source.from;
        std::iter::from_fn(|| {
            let next = source.next(last)?;
            last = next;
            Some(next)
        })
        .collect()
    }

    fn within(arrivals: &[Instant], from: u64, to: u64) -> usize {
        arrivals.iter().filter(|at| (from * SECOND..to * SECOND).contains(&at.0)).count()
    }

    #[test]
    fn constant_arrivals_stand_at_equal_distances() {
        let at = arrivals("constant: 3/s");
        assert_eq!(at.len(), 299);
        assert_eq!(at[2], Instant(11 * SECOND));
        assert_eq!(at[298], Instant(109_666_666_666));
    }

    #[test]
    fn poisson_arrivals_are_as_many_and_as_varied_as_they_should_be() {
        let at = arrivals("poisson: 200/s");
        assert!((19_500..20_500).contains(&at.len()), "{}", at.len());
        // The variance of the counts of a Poisson process is their mean.
        let counts: Vec<i64> = (10..110).map(|second| within(&at, second, second + 1) as i64).collect();
        let variance = counts.iter().map(|count| (count - 200).pow(2)).sum::<i64>() / 100;
        assert!((130..290).contains(&variance), "{variance}");
    }

    #[test]
    fn a_ramp_rises_evenly() {
        let at = arrivals("ramp: { from: 60/m, to: 101/s }");
        // Half way the rate is 51/s; a tenth of the way 11/s.
        assert!((4_850..5_350).contains(&at.len()), "{}", at.len());
        let middle = within(&at, 59, 61);
        assert!((75..130).contains(&middle), "{middle}");
        let early = within(&at, 15, 25);
        assert!((80..145).contains(&early), "{early}");
    }
}
