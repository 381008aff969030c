//! Buckets of requests that are called something: Envoy's local rate limit
//! (`source/extensions/filters/common/local_ratelimit/local_ratelimit_impl.cc`).
//!
//! | a request                                   | what is done                                               |
//! |---------------------------------------------|------------------------------------------------------------|
//! | is described                                | each descriptor's bucket, the slowest first, gives what it takes |
//! | a bucket has too little                     | refused; what slower buckets have given stays given        |
//! | a bucket in shadow has too little           | it is noted, and the next one is asked                     |
//! | all have given, or none is for it           | the bucket for all gives one                               |
//! | a descriptor is for it, `always` is not said | the bucket for all is not asked                           |
//!
//! In come settings, a moment, what is there and what a request is called; out comes whether it passes and what its
//! client is told. Who has the state, and whose it is, is elsewhere: all workers share one, or each connection has its
//! own.

mod recent;

use std::cmp::Ordering;
use std::time::Duration;

use naru_base::Instant;
use naru_spec::{LocalRate, TokenBucket};

use crate::Bucket;
use crate::described::Described;
use recent::Recent;

/// The buckets of one filter, ready to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalLimiter {
    of_all: Option<(Bucket, u32)>,
    descriptors: Box<[Own]>,
    always_takes_of_all: bool,
    values_max: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Own {
    entries: Box<[(Box<str>, Box<str>)]>,
    bucket: Bucket,
    settings: TokenBucket,
    is_shadow: bool,
    is_open: bool,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LocalState {
    of_all: u64,
    /// By descriptor; of an open one the values that came last.
    words: Vec<u64>,
    open: Vec<Recent>,
}

/// What is said to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSaid {
    pub is_refused: bool,
    /// A bucket in shadow would have refused it.
    pub is_shadowed: bool,
    pub told: Option<LocalTold>,
}

/// What its client is told of one bucket: the one that has refused, or else the slowest, or else that for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTold {
    pub tokens_max: u32,
    pub remaining: u64,
    /// Until there is a token.
    pub reset: Duration,
    /// Whether the descriptor says that it is told.
    pub tells: Option<bool>,
}

impl LocalSaid {
    /// Nobody has counted it.
    pub const PASSES: LocalSaid = LocalSaid { is_refused: false, is_shadowed: false, told: None };
}

/// A bucket that is for a request, and the word of a value, where it leaves one open.
struct Matched<'a> {
    own: usize,
    values: Option<Box<[u8]>>,
    /// As it was found: a value may give way to another of the same request.
    word: u64,
    described: &'a Described,
}

impl LocalLimiter {
    pub fn new(settings: &LocalRate) -> LocalLimiter {
        let descriptors = settings.descriptors.iter().map(|said| Own {
            entries: said
                .entries
                .iter()
                .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
                .collect(),
            bucket: Bucket::new(said.bucket),
            settings: said.bucket,
            is_shadow: said.is_shadow,
            is_open: said.is_open(),
        });
        LocalLimiter {
            of_all: settings.bucket.map(|bucket| (Bucket::new(bucket), bucket.tokens_max)),
            descriptors: descriptors.collect(),
            always_takes_of_all: settings.always_takes_of_all,
            values_max: settings.values_max as usize,
        }
    }

    /// All buckets are full.
    pub fn full(&self) -> LocalState {
        LocalState {
            of_all: 0,
            words: vec![0; self.descriptors.len()],
            open: vec![Recent::default(); self.descriptors.len()],
        }
    }

    /// Whether nobody is ever refused.
    pub fn is_idle(&self) -> bool {
        self.of_all.is_none() && self.descriptors.is_empty()
    }

    pub fn ask(&self, now: Instant, state: &mut LocalState, asked: &[Described]) -> LocalSaid {
        let mut matched: Vec<Matched<'_>> =
            asked.iter().filter_map(|described| self.find(state, described)).collect();
        matched.sort_by(|one, other| self.by_rate(one, other));
        let mut shadow = None;
        for (at, one) in matched.iter_mut().enumerate() {
            let Some(own) = self.descriptors.get(one.own) else { continue };
            let word = word(state, one);
            let hits = one.described.hits.unwrap_or(1);
            let after = if one.described.gives_back {
                Some(own.bucket.give_back(now, word, hits))
            } else if hits == 0 {
                // As Envoy's bucket has it: what takes nothing gets nothing.
                None
            } else {
                own.bucket.take_several(now, word, hits).ok()
            };
            match after {
                Some(after) => keep(state, one, after),
                None if own.is_shadow => shadow = shadow.or(Some(at)),
                None => {
                    let told = self.told(now, state, one);
                    return LocalSaid { is_refused: true, is_shadowed: shadow.is_some(), told };
                }
            }
        }
        let is_shadowed = shadow.is_some();
        if let Some((bucket, tokens_max)) = &self.of_all
            && (matched.is_empty() || self.always_takes_of_all)
        {
            let taken = bucket.take_several(now, state.of_all, 1);
            state.of_all = taken.unwrap_or(state.of_all);
            if taken.is_err() || matched.is_empty() {
                let told = Some(told(now, bucket, state.of_all, *tokens_max, None));
                return LocalSaid { is_refused: taken.is_err(), is_shadowed, told };
            }
        }
        let one = matched.get(shadow.unwrap_or(0));
        LocalSaid { is_refused: false, is_shadowed, told: one.and_then(|one| self.told(now, state, one)) }
    }

    /// The descriptor that is for exactly this, or else the first that leaves something of it open.
    fn find<'a>(&self, state: &mut LocalState, described: &'a Described) -> Option<Matched<'a>> {
        let exact =
            self.descriptors.iter().position(|own| !own.is_open && *own.entries == *described.entries);
        if let Some(own) = exact {
            return Some(Matched { own, values: None, word: 0, described });
        }
        let own = self.descriptors.iter().position(|own| own.is_open && own.takes(described))?;
        let values = recent::key(&described.entries);
        let word = state.open.get_mut(own)?.come(&values, self.values_max);
        Some(Matched { own, values: Some(values), word, described })
    }

    /// Slower ones first; those that are as fast stay in the order in which the request is described.
    fn by_rate(&self, one: &Matched<'_>, other: &Matched<'_>) -> Ordering {
        let rate = |matched: &Matched<'_>| {
            let settings = self.descriptors.get(matched.own).map(|own| own.settings);
            settings.map_or((0, 1), |said| (u128::from(said.tokens_per_fill), said.fill_interval.as_nanos()))
        };
        let ((one, one_time), (other, other_time)) = (rate(one), rate(other));
        one.saturating_mul(other_time).cmp(&other.saturating_mul(one_time))
    }

    fn told(&self, now: Instant, state: &LocalState, matched: &Matched<'_>) -> Option<LocalTold> {
        let own = self.descriptors.get(matched.own)?;
        let word = word(state, matched);
        Some(told(now, &own.bucket, word, own.settings.tokens_max, matched.described.tells))
    }
}

impl Own {
    fn takes(&self, described: &Described) -> bool {
        let mut both = described.entries.iter().zip(&self.entries);
        self.entries.len() == described.entries.len()
            && both.all(|((key, value), own)| *key == own.0 && (own.1.is_empty() || *value == own.1))
    }
}

fn word(state: &LocalState, matched: &Matched<'_>) -> u64 {
    let known = match &matched.values {
        Some(values) => state.open.get(matched.own).and_then(|open| open.word(values)),
        None => state.words.get(matched.own).copied(),
    };
    known.unwrap_or(matched.word)
}

fn keep(state: &mut LocalState, matched: &mut Matched<'_>, word: u64) {
    matched.word = word;
    match &matched.values {
        Some(values) => {
            if let Some(open) = state.open.get_mut(matched.own) {
                open.keep(values, word);
            }
        }
        None => {
            if let Some(known) = state.words.get_mut(matched.own) {
                *known = word;
            }
        }
    }
}

fn told(now: Instant, bucket: &Bucket, word: u64, tokens_max: u32, tells: Option<bool>) -> LocalTold {
    let one = bucket.parts().0;
    LocalTold {
        tokens_max,
        remaining: bucket.remaining(now, word),
        reset: bucket.until_left(now, word, one),
        tells,
    }
}

#[cfg(test)]
mod tests;
