//! When requests come, and which.

use std::rc::Rc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};
use naru_base::{Chance, Instant};

use crate::body::{Body, BodyEnd};
use crate::calls::Again;
use crate::distribution::Distribution;
use crate::quantity::{Rate, Share};
use crate::request::Request;
use crate::scenario::{Arrivals, Herd, Numbered, Step};

/// A user who asks again at once, and is answered at once, would let time stand still.
/// How `{n}` stands in a path, where braces cannot.
pub const ESCAPED: &str = "%7Bn%7D";

const THINK_MIN: Duration = Duration::from_micros(1);

/// A load of a scenario, ready to run.
#[derive(Debug)]
pub struct Source {
    pub name: String,
    pub from: Instant,
    pub to: Instant,
    pub waits: Waiting,
    pub kinds: Vec<Kind>,
    arrivals: Arrivals,
    /// Requests that came so far.
    count: u64,
    when: Chance,
    which: Chance,
    how_long: Chance,
}

/// How long clients wait, and what they do then.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    pub patience: Option<Distribution>,
    pub deadline: Option<Duration>,
    pub retry: Option<Again>,
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
    pub numbered: Option<Numbered>,
}

impl Source {
    /// Chance is split by the name.
    pub fn new(
        name: String,
        (from, to): (Instant, Instant),
        arrivals: Arrivals,
        waits: Waiting,
        kinds: Vec<Kind>,
        seed: u64,
    ) -> Source {
        let chance = |what: &str| Chance::split(seed, &format!("{what} of {name}"));
        let (when, which, how_long) = (chance("arrivals"), chance("mix"), chance("patience"));
        Source { name, from, to, waits, kinds, arrivals, count: 0, when, which, how_long }
    }

    /// How many users there are, where requests come from such.
    pub fn users(&self) -> u32 {
        match &self.arrivals {
            Arrivals::Users { count, .. } => count.get(),
            Arrivals::Poisson(_)
            | Arrivals::Constant(_)
            | Arrivals::Ramp { .. }
            | Arrivals::Profile(_)
            | Arrivals::Herd(_) => 0,
        }
    }

    /// When the next request comes that no user has to send, after one at `last`.
    pub fn next(&mut self, last: Instant) -> Option<Instant> {
        let next = match &self.arrivals {
            Arrivals::Users { .. } => return None,
            Arrivals::Constant(rate) => {
                self.count += 1;
                self.from + rate.after(self.count)
            }
            Arrivals::Poisson(rate) => {
                last + Distribution::exponential(rate.interval()).sample_uncut(&mut self.when)
            }
            Arrivals::Ramp { from, to } => {
                let (from, to) = (*from, *to);
                let length = self.to.0 - self.from.0;
                let rate = |passed: u64| between(from, to, passed, length);
                let highest = if to.hourly() > from.hourly() { to } else { from };
                thin(&mut self.when, (self.from, self.to), last, highest, rate)?
            }
            Arrivals::Profile(steps) => {
                let highest = steps.iter().map(|step| step.rate).max_by_key(|rate| rate.hourly())?;
                let rate = |passed: u64| rate_of(steps, passed);
                thin(&mut self.when, (self.from, self.to), last, highest, rate)?
            }
            Arrivals::Herd(herd) => {
                let next = self.from + in_herd(herd, self.count)?;
                self.count += 1;
                next
            }
        };
        (next < self.to).then_some(next)
    }

    /// When a user whose last response ended at `last` asks again.
    pub fn next_of_user(&mut self, last: Instant) -> Option<Instant> {
        let Arrivals::Users { think, .. } = &self.arrivals else { return None };
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
        Some(self.waits.patience.as_ref()?.sample(&mut self.how_long))
    }

    /// How long the next client waits before it asks again.
    pub fn draw_wait(&mut self) -> Duration {
        self.waits.retry.as_ref().map_or(Duration::ZERO, |again| again.wait.sample(&mut self.how_long))
    }

    /// The next request of a kind. `None` where the kind is always the same: its own will do.
    pub fn draw_body(&mut self, kind: usize) -> Option<Request> {
        self.kinds.get(kind)?.draw_body(&mut self.which)
    }
}

impl Kind {
    /// The next request. `None` where it is always the same.
    pub fn draw_body(&self, chance: &mut Chance) -> Option<Request> {
        if self.request.body.is_empty() && self.numbered.is_none() {
            return None;
        }
        let mut request = self.request.clone();
        if let Some(numbered) = self.numbered {
            put_number(&mut request, draw_number(numbered, chance));
        }
        if request.body.is_empty() {
            return Some(request);
        }
        request.body = Body::new(request.body.bytes, self.body_over.sample(chance));
        if self.body_broken.takes(chance.draw()) {
            let halves = request.body.in_parts(request.body.parts.max(2));
            request.body = halves.cut(halves.parts / 2, BodyEnd::Broken);
        }
        Some(request)
    }
}

/// Of what is popular, how often the next one comes falls as 1/n: the inverse of its sum, which is about a logarithm.
fn draw_number(numbered: Numbered, chance: &mut Chance) -> u64 {
    let upto = u64::from(numbered.upto.get());
    let point = chance.below(1 << 53);
    if !numbered.popular {
        return 1 + chance_of(point, upto);
    }
    let all = libm::log(upto as f64 + 1.0);
    (libm::exp(all * point as f64 / (1_u64 << 53) as f64) as u64).clamp(1, upto)
}

fn chance_of(point: u64, upto: u64) -> u64 {
    u64::try_from((u128::from(point) * u128::from(upto)) >> 53).unwrap_or(0)
}

const NUMBER: &str = "{n}";

/// Writes a number wherever `{n}` stands.
fn put_number(request: &mut Request, number: u64) {
    let number = number.to_string();
    let written = |text: &str| text.contains(NUMBER).then(|| text.replace(NUMBER, &number));
    // In a target braces are escaped.
    let target = request.head.uri.path_and_query().map_or("/", |target| target.as_str());
    if target.contains(ESCAPED) {
        let target = target.replace(ESCAPED, &number);
        let mut parts = request.head.uri.clone().into_parts();
        parts.path_and_query = PathAndQuery::try_from(target).ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            request.head.uri = uri;
        }
    }
    for value in request.head.headers.values_mut() {
        let other = value.to_str().ok().and_then(written).and_then(|text| HeaderValue::try_from(text).ok());
        *value = other.unwrap_or_else(|| value.clone());
    }
    if let Some(asker) = &mut request.asker {
        Rc::make_mut(asker).put(NUMBER, &number);
    }
}

/// By thinning (Lewis and Shedler, 1979): arrivals at the highest rate, each of which is kept with
/// the chance that the rate at its moment has of the highest. `rate` is of the time that passed, in
/// thousandths an hour.
fn thin(
    chance: &mut Chance,
    (from, to): (Instant, Instant),
    last: Instant,
    highest: Rate,
    rate: impl Fn(u64) -> u64,
) -> Option<Instant> {
    let gaps = Distribution::exponential(highest.interval());
    let mut at = last;
    loop {
        at = at + gaps.sample_uncut(chance);
        if at >= to {
            return None;
        }
        if chance.below(highest.hourly()) < rate(at.0 - from.0) {
            return Some(at);
        }
    }
}

/// On the way from one rate to another.
fn between(from: Rate, to: Rate, passed: u64, length: u64) -> u64 {
    let (length, passed) = (u128::from(length.max(1)), u128::from(passed.min(length)));
    let rate = (u128::from(from.hourly()) * (length - passed) + u128::from(to.hourly()) * passed) / length;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// Nothing comes before the first step.
fn rate_of(steps: &[Step], passed: u64) -> u64 {
    let ns = |step: &Step| u64::try_from(step.at.0.as_nanos()).unwrap_or(u64::MAX);
    let next = steps.partition_point(|step| ns(step) <= passed);
    let Some(here) = next.checked_sub(1).and_then(|at| steps.get(at)) else { return 0 };
    match steps.get(next) {
        Some(step) if step.ramp => between(here.rate, step.rate, passed - ns(here), ns(step) - ns(here)),
        _ => here.rate.hourly(),
    }
}

/// When request `number`, counted from 0, comes.
fn in_herd(herd: &Herd, number: u64) -> Option<Duration> {
    let count = u64::from(herd.count.get());
    let (wave, place) = (number / count, number % count);
    let before = match herd.every {
        None if wave > 0 => return None,
        None => 0,
        Some(every) => every.0.as_nanos().saturating_mul(u128::from(wave)),
    };
    let nanos = before + herd.over.0.as_nanos() * u128::from(place) / u128::from(count);
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn arrivals(yaml: &str) -> Vec<Instant> {
        let arrivals: Arrivals = serde_saphyr::from_str(yaml).expect("the arrivals are valid");
        let span = (Instant(10 * SECOND), Instant(110 * SECOND));
        let mut source = Source::new("test".to_owned(), span, arrivals, Waiting::default(), Vec::new(), 3);
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
    #[test]
    fn a_profile_has_steps_and_ramps() {
        let at = arrivals(
            "profile: [{ at: 10s, rate: 20/s }, { at: 20s, rate: 200/s }, { at: 30s, rate: 20/s }, { at: 50s, rate: 200/s, ramp: true }]",
        );
        assert_eq!(within(&at, 10, 20), 0);
        assert!((150..250).contains(&within(&at, 20, 30)), "{}", within(&at, 20, 30));
        assert!((1_850..2_150).contains(&within(&at, 30, 40)), "{}", within(&at, 30, 40));
        assert!((980..1_220).contains(&within(&at, 45, 55)), "{}", within(&at, 45, 55));
        assert!((9_600..10_400).contains(&within(&at, 60, 110)), "{}", within(&at, 60, 110));
    }

    #[test]
    fn a_herd_comes_at_once_and_again() {
        let at = arrivals("herd: { count: 100, every: 40s }");
        assert_eq!(at.len(), 300);
        assert_eq!((at[99], at[100]), (Instant(10 * SECOND), Instant(50 * SECOND)));
        let spread = arrivals("herd: { count: 4, over: 2s }");
        assert_eq!(spread, [20, 21, 22, 23].map(|half| Instant(half * SECOND / 2)));
    }
}
