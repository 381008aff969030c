//! Buckets by what requests are called, beside a list that says the same at length.

use std::cell::RefCell;
use std::rc::Rc;

use naru_base::Chance;
use naru_spec::LocalDescriptor;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn bucket(tokens_max: u32, tokens_per_fill: u32) -> TokenBucket {
    TokenBucket { tokens_max, tokens_per_fill, fill_interval: DAY }
}

fn descriptor(entries: &[(&str, &str)], bucket: TokenBucket) -> LocalDescriptor {
    let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    LocalDescriptor { entries, bucket, is_shadow: false }
}

fn called(entries: &[(&str, &str)]) -> Described {
    let entries = entries.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    Described { entries, ..Described::default() }
}

/// Whether it is refused, whether it is in shadow, and the size and the rest of the bucket that is told of.
type Said = (bool, bool, Option<(u32, u64)>);

fn play(settings: &LocalRate, asked: &[&[Described]]) -> Vec<Said> {
    let limiter = LocalLimiter::new(settings);
    let mut state = limiter.full();
    let ask = |asked: &&[Described]| {
        let said = limiter.ask(Instant(7), &mut state, asked);
        (said.is_refused, said.is_shadowed, said.told.map(|told| (told.tokens_max, told.remaining)))
    };
    asked.iter().map(ask).collect()
}

#[test]
fn the_slowest_bucket_is_asked_first_and_keeps_what_it_has_given() {
    let settings = LocalRate {
        descriptors: vec![descriptor(&[("a", "1")], bucket(9, 9)), descriptor(&[("b", "1")], bucket(2, 1))],
        ..LocalRate::new("s", Some(bucket(3, 30)))
    };
    let both = [called(&[("a", "1")]), called(&[("b", "1")])];
    let a = [called(&[("a", "1")])];
    assert_eq!(
        play(&settings, &[&both, &both, &both, &a, &a, &[]]),
        [
            (false, false, Some((2, 1))),
            (false, false, Some((2, 0))),
            (true, false, Some((2, 0))),
            (false, false, Some((9, 6))),
            // The bucket for all refuses, and what 'a' has given stays given.
            (true, false, Some((3, 0))),
            (true, false, Some((3, 0))),
        ]
    );
}

#[test]
fn a_bucket_in_shadow_is_noted_and_passed() {
    let shadow = |said| LocalDescriptor { is_shadow: true, ..said };
    let settings = LocalRate {
        descriptors: vec![
            shadow(descriptor(&[("a", "1")], bucket(1, 2))),
            descriptor(&[("b", "1")], bucket(2, 3)),
        ],
        ..LocalRate::new("s", Some(bucket(9, 9)))
    };
    let both = [called(&[("a", "1")]), called(&[("b", "1")])];
    assert_eq!(
        play(&settings, &[&both, &both, &both]),
        [(false, false, Some((1, 0))), (false, true, Some((1, 0))), (true, true, Some((2, 0)))]
    );
}

#[test]
fn only_whoever_is_described_is_limited_without_a_bucket_for_all() {
    let mut settings =
        LocalRate { descriptors: vec![descriptor(&[("a", "1")], bucket(1, 1))], ..LocalRate::new("s", None) };
    let a = [called(&[("a", "1")])];
    let others = [called(&[("a", "2")]), called(&[("a", "1"), ("b", "1")]), called(&[])];
    assert_eq!(
        play(&settings, &[&a, &a, &others]),
        [(false, false, Some((1, 0))), (true, false, Some((1, 0))), (false, false, None)]
    );
    settings.bucket = Some(bucket(1, 1));
    settings.always_takes_of_all = false;
    assert_eq!(
        play(&settings, &[&a, &others, &a, &others]).map_refused(),
        [false, false, true, true],
        "the bucket for all is asked only for the others"
    );
}

trait Refused {
    fn map_refused(&self) -> Vec<bool>;
}

impl Refused for Vec<(bool, bool, Option<(u32, u64)>)> {
    fn map_refused(&self) -> Vec<bool> {
        self.iter().map(|(is_refused, ..)| *is_refused).collect()
    }
}

#[test]
fn each_value_of_an_open_descriptor_has_a_bucket_and_the_oldest_gives_way() {
    let settings = LocalRate {
        descriptors: vec![descriptor(&[("a", "")], bucket(1, 1)), descriptor(&[("a", "z")], bucket(2, 1))],
        values_max: 2,
        ..LocalRate::new("s", None)
    };
    let words = ["1", "1", "2", "1", "3", "2", "1", "z", "z", "z", "3"];
    let asked: Vec<[Described; 1]> = words.iter().map(|word| [called(&[("a", word)])]).collect();
    let asked: Vec<&[Described]> = asked.iter().map(|asked| &asked[..]).collect();
    // As Envoy 1.40 does it.
    let refused = [1, 3, 9];
    let said = play(&settings, &asked).map_refused();
    assert_eq!(said, (0..words.len()).map(|at| refused.contains(&at)).collect::<Vec<_>>());
}

#[test]
fn hits_are_taken_and_given_back() {
    let settings =
        LocalRate { descriptors: vec![descriptor(&[("a", "1")], bucket(5, 1))], ..LocalRate::new("s", None) };
    let hits = |hits, gives_back| [Described { hits: Some(hits), gives_back, ..called(&[("a", "1")]) }];
    let (two, none, back) = (hits(2, false), hits(0, false), hits(1, true));
    assert_eq!(
        play(&settings, &[&two, &two, &two, &back, &two, &none, &hits(1_000_000_000, true), &hits(6, false)]),
        [
            (false, false, Some((5, 3))),
            (false, false, Some((5, 1))),
            (true, false, Some((5, 1))),
            (false, false, Some((5, 2))),
            (false, false, Some((5, 0))),
            (true, false, Some((5, 0))),
            (false, false, Some((5, 5))),
            (true, false, Some((5, 5))),
        ]
    );
}

/// The same by parts of a token that are never rounded, and a list of values in the order in which they came.
struct RefLimiter {
    settings: LocalRate,
    of_all: RefBucket,
    own: Vec<RefBucket>,
    /// Who has one in his hand goes on with it when it has given way, and has not come again.
    open: Vec<Vec<OfValues>>,
}

type OfValues = (Vec<String>, Rc<RefCell<RefBucket>>);

#[derive(Clone)]
struct RefBucket {
    settings: TokenBucket,
    parts: u128,
    at: Instant,
}

impl RefBucket {
    fn new(settings: TokenBucket) -> RefBucket {
        let parts = u128::from(settings.tokens_max) * settings.fill_interval.as_nanos();
        RefBucket { settings, parts, at: Instant::ZERO }
    }

    fn change(&mut self, now: Instant, takes: u64, gives: u64) -> bool {
        let one = self.settings.fill_interval.as_nanos();
        let full = u128::from(self.settings.tokens_max) * one;
        let came = now.since(self.at).as_nanos() * u128::from(self.settings.tokens_per_fill);
        self.at = now;
        self.parts = (self.parts + came).min(full);
        self.parts = (self.parts + u128::from(gives) * one).min(full);
        let wanted = u128::from(takes) * one;
        let is_there = self.parts >= wanted;
        self.parts -= if is_there { wanted } else { 0 };
        is_there
    }
}

impl RefLimiter {
    fn ask(&mut self, now: Instant, asked: &[Described]) -> (bool, bool) {
        let mut matched = Vec::new();
        for described in asked {
            let fits = |said: &LocalDescriptor, exactly: bool| {
                said.entries.len() == described.entries.len()
                    && said.entries.iter().zip(&described.entries).all(|(own, (key, value))| {
                        own.0 == **key && (own.1 == **value || (own.1.is_empty() && !exactly))
                    })
            };
            let all = || self.settings.descriptors.iter().enumerate();
            let exact = all().find(|(_, said)| !said.is_open() && fits(said, true));
            let found = exact.or_else(|| all().find(|(_, said)| said.is_open() && fits(said, false)));
            if let Some((at, said)) = found {
                let rate = f64::from(said.bucket.tokens_per_fill) / said.bucket.fill_interval.as_secs_f64();
                let values: Vec<String> =
                    described.entries.iter().map(|(_, value)| value.to_string()).collect();
                if said.is_open() {
                    let known = &mut self.open[at];
                    let known_at = known.iter().position(|(own, _)| *own == values);
                    let bucket = known_at.map(|at| known.remove(at).1);
                    if known.len() >= self.settings.values_max as usize {
                        known.remove(0);
                    }
                    let bucket = bucket.unwrap_or_else(|| Rc::new(RefCell::new(RefBucket::new(said.bucket))));
                    known.push((values.clone(), Rc::clone(&bucket)));
                    matched.push((rate, at, described, Some((values, bucket))));
                } else {
                    matched.push((rate, at, described, None));
                }
            }
        }
        matched.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut is_shadowed = false;
        for (_, at, described, open) in &matched {
            let said = &self.settings.descriptors[*at];
            let open = open.as_ref().map(|(values, own)| {
                let known = self.open[*at].iter().find(|(known, _)| known == values);
                known.map_or(own, |(_, known)| known)
            });
            let open = open.cloned();
            let mut open = open.as_ref().map(|open| open.borrow_mut());
            let bucket = match &mut open {
                Some(open) => &mut **open,
                None => &mut self.own[*at],
            };
            let hits = described.hits.unwrap_or(1);
            let is_given = match described.gives_back {
                true => bucket.change(now, 0, hits),
                false => hits > 0 && bucket.change(now, hits, 0),
            };
            if !is_given && !said.is_shadow {
                return (true, is_shadowed);
            }
            is_shadowed |= !is_given;
        }
        let asks_all = matched.is_empty() || self.settings.always_takes_of_all;
        (asks_all && self.settings.bucket.is_some() && !self.of_all.change(now, 1, 0), is_shadowed)
    }
}

#[test]
fn a_walk_does_as_the_list_does() {
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        // Powers of two, which the word measures exactly, each rate once.
        let mut fills = vec![1, 2, 4, 8, 16];
        let mut bucket = |chance: &mut Chance| TokenBucket {
            tokens_max: 1 + chance.below(6) as u32,
            tokens_per_fill: fills.remove(chance.below(fills.len() as u64) as usize),
            fill_interval: Duration::from_secs(1),
        };
        let all = [&[("a", "1")][..], &[("a", "")], &[("a", "1"), ("b", "")], &[("a", ""), ("b", "2")]];
        let descriptors = all.iter().map(|entries| LocalDescriptor {
            is_shadow: chance.below(4) == 0,
            ..descriptor(entries, bucket(&mut chance))
        });
        let descriptors: Vec<LocalDescriptor> = descriptors.collect();
        let settings = LocalRate {
            bucket: (chance.below(3) > 0).then(|| bucket(&mut chance)),
            descriptors,
            always_takes_of_all: chance.below(2) == 0,
            // As many as one request has at most: those of one request do not give way to each other.
            values_max: 3 + chance.below(2) as u32,
            ..LocalRate::new("s", None)
        };
        let limiter = LocalLimiter::new(&settings);
        let mut state = limiter.full();
        let mut reference = RefLimiter {
            of_all: RefBucket::new(settings.bucket.unwrap_or(super::tests::bucket(1, 1))),
            own: settings.descriptors.iter().map(|said| RefBucket::new(said.bucket)).collect(),
            open: vec![Vec::new(); settings.descriptors.len()],
            settings: settings.clone(),
        };
        let mut now = Instant::ZERO;
        for step in 0..400 {
            now = now + Duration::from_nanos(chance.below(400_000_000));
            let asked = (0..chance.below(4)).map(|_| {
                let values = ["1", "2", "3", "4"];
                let mut value = || values[chance.below(4) as usize];
                let (one, other) = (value(), value());
                let entries = [("a", one), ("b", other)];
                let mut described = called(&entries[..1 + chance.below(2) as usize]);
                described.hits = (chance.below(3) == 0).then(|| chance.below(4));
                described.gives_back = chance.below(6) == 0;
                described
            });
            let asked: Vec<Described> = asked.collect();
            let said = limiter.ask(now, &mut state, &asked);
            let expected = reference.ask(now, &asked);
            assert_eq!((said.is_refused, said.is_shadowed), expected, "seed {seed}, step {step}: {asked:?}");
            let most = settings.values_max as usize;
            assert!(state.open.iter().all(|open| open.len() <= most), "seed {seed}");
        }
    }
}
