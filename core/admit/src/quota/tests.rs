//! Quotas by what they admit, and walks that are held against an unbounded table.

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_spec::QuotaAlgorithm;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn bucket(requests: u32, window: Duration) -> QuotaAlgorithm {
    QuotaAlgorithm::TokenBucket { requests, window, burst: requests }
}

fn try_one(now: Instant, meter: &Meter, ledger: &mut Ledger, key: u64) -> (Spent, Room) {
    let mut rooms = [Room::default()];
    let spent = spend(now, &mut [Bid { meter, ledger, key, cost: 1, is_shadow: false }], &mut rooms);
    (spent, rooms[0])
}

#[test]
fn the_limits_of_the_traffic_guide_admit_what_they_say() {
    for (requests, window) in [(100, 60), (200, 60), (1_000, 1)] {
        let window = Duration::from_secs(window);
        let fixed = QuotaAlgorithm::FixedWindow { requests, window };
        let sliding = QuotaAlgorithm::SlidingWindow { requests, window };
        for algorithm in [bucket(requests, window), fixed, sliding] {
            let (meter, mut ledger) = (Meter::new(algorithm), Ledger::new(10));
            for left in (0..requests).rev() {
                let (spent, room) = try_one(at(0), &meter, &mut ledger, 7);
                assert_eq!((spent.refused_by, room.remaining, room.limit), (None, left, requests));
            }
            let (spent, room) = try_one(at(0), &meter, &mut ledger, 7);
            assert_eq!((spent.refused_by, room.remaining), (Some(0), 0), "{algorithm:?}");
            assert_eq!(
                try_one(at(0), &meter, &mut ledger, 8).0.refused_by,
                None,
                "another key is another count"
            );
            let later = at(0) + room.retry_after.unwrap();
            assert_eq!(try_one(later, &meter, &mut ledger, 7).0.refused_by, None, "{algorithm:?} as it said");
            let earlier = Instant(later.0 - window.as_nanos() as u64 / u64::from(requests) / 2);
            let mut again = Ledger::new(10);
            for _ in 0..requests {
                try_one(at(0), &meter, &mut again, 7);
            }
            assert_eq!(
                try_one(earlier, &meter, &mut again, 7).0.refused_by,
                Some(0),
                "{algorithm:?} not before"
            );
        }
    }
}

#[test]
fn a_later_refusal_consumes_nothing_from_an_earlier_limit() {
    let (wide, narrow) = (Meter::new(bucket(10, SECOND)), Meter::new(bucket(1, SECOND)));
    let (mut of_wide, mut of_narrow) = (Ledger::new(1), Ledger::new(1));
    let mut rooms = [Room::default(); 2];
    let mut both = |now, is_shadow| {
        let mut bids = [
            Bid { meter: &wide, ledger: &mut of_wide, key: 1, cost: 1, is_shadow: false },
            Bid { meter: &narrow, ledger: &mut of_narrow, key: 1, cost: 1, is_shadow },
        ];
        let spent = spend(now, &mut bids, &mut rooms);
        (spent, rooms[0].remaining)
    };
    assert_eq!(both(at(0), false), (Spent::default(), 9));
    for _ in 0..20 {
        assert_eq!(both(at(0), false), (Spent { refused_by: Some(1), shadowed: 0 }, 9));
    }
    // In shadow it tells, and refuses nothing.
    assert_eq!(both(at(0), true), (Spent { refused_by: None, shadowed: 0b10 }, 8));
}

#[test]
fn a_request_may_cost_more_than_one() {
    for algorithm in [bucket(10, SECOND), QuotaAlgorithm::SlidingWindow { requests: 10, window: SECOND }] {
        let (meter, mut ledger) = (Meter::new(algorithm), Ledger::new(1));
        let mut take = |cost| {
            let mut rooms = [Room::default()];
            let bid = Bid { meter: &meter, ledger: &mut ledger, key: 1, cost, is_shadow: false };
            (spend(at(0), &mut [bid], &mut rooms).refused_by, rooms[0].remaining)
        };
        assert_eq!(take(7), (None, 3));
        assert_eq!(take(4), (Some(0), 3));
        assert_eq!(take(3), (None, 0));
        assert_eq!(take(11), (Some(0), 0), "never");
    }
}

#[test]
fn a_sliding_window_counts_the_share_of_the_last_one() {
    let meter = Meter::new(QuotaAlgorithm::SlidingWindow { requests: 10, window: SECOND });
    let mut ledger = Ledger::new(1);
    for _ in 0..10 {
        assert_eq!(try_one(at(900), &meter, &mut ledger, 1).0.refused_by, None);
    }
    // A fixed window would let ten more pass here.
    assert_eq!(try_one(at(1_000), &meter, &mut ledger, 1).0.refused_by, Some(0));
    let passed = (0..10).filter(|_| try_one(at(1_500), &meter, &mut ledger, 1).0.refused_by.is_none());
    assert_eq!(passed.count(), 5);
}

/// What has been admitted of each key, and the moments of it.
#[derive(Default)]
struct RefCounts(BTreeMap<u64, Vec<Instant>>);

/// The most that a limit says: of a bucket `burst + rate * time` over any span, of windows so many in each.
fn check_key(algorithm: QuotaAlgorithm, moments: &[Instant], seed: u64) {
    let (requests, window) = algorithm.policy();
    let nanos = window.as_nanos() as u64;
    match algorithm {
        QuotaAlgorithm::TokenBucket { burst, .. } => {
            for (first, from) in moments.iter().enumerate() {
                for (count, to) in (1u64..).zip(&moments[first..]) {
                    let refilled = u128::from(to.0 - from.0) * u128::from(requests) * 1_001 / 1_000;
                    let allowed = u128::from(burst) + refilled.div_ceil(u128::from(nanos));
                    assert!(u128::from(count) <= allowed, "seed {seed}: {count} in {:?}", to.since(*from));
                }
            }
        }
        QuotaAlgorithm::FixedWindow { .. } | QuotaAlgorithm::SlidingWindow { .. } => {
            let mut windows = BTreeMap::new();
            for moment in moments {
                *windows.entry(moment.0 / nanos).or_insert(0) += 1;
            }
            assert!(windows.values().all(|count| *count <= requests), "seed {seed}");
        }
    }
}

/// However many keys fight for few places, nobody gets more than his limit says; where there are places for all,
/// everybody gets what an unbounded table would give.
#[test]
fn a_walk_never_admits_more_than_a_limit_says() {
    let mut evicted = 0;
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        let (requests, window) = (1 + chance.below(6) as u32, Duration::from_millis(1 + chance.below(50)));
        let algorithm = match chance.below(3) {
            0 => QuotaAlgorithm::TokenBucket { requests, window, burst: 1 + chance.below(6) as u32 },
            1 => QuotaAlgorithm::FixedWindow { requests, window },
            _ => QuotaAlgorithm::SlidingWindow { requests, window },
        };
        let keys = 1 + chance.below(40);
        let meter = Meter::new(algorithm);
        let mut ledger = Ledger::new(1 + chance.below(20) as u32);
        let mut free: BTreeMap<u64, Cell> = BTreeMap::new();
        let (mut counts, mut now) = (RefCounts::default(), Instant::ZERO);
        for _ in 0..600 {
            now = now + Duration::from_micros(chance.below(3_000));
            let key = naru_base::chance::mix(chance.below(keys) + 1);
            let before = free.get(&key).copied().unwrap_or_default();
            let unbounded = meter.take(now, before, 1);
            let (spent, room) = try_one(now, &meter, &mut ledger, key);
            if spent.refused_by.is_none() {
                counts.0.entry(key).or_default().push(now);
            }
            if let Ok(cell) = unbounded {
                assert_eq!(meter.check_invariants(now, cell), Ok(()), "seed {seed}");
            }
            if ledger.evicted() == 0 {
                assert_eq!(spent.refused_by.is_none(), unbounded.is_ok(), "seed {seed}");
                assert_eq!(room.retry_after, unbounded.err(), "seed {seed}");
                if let Ok(cell) = unbounded {
                    free.insert(key, cell);
                }
            }
            assert_eq!(meter.check_invariants(now, ledger.look(now, &meter, key)), Ok(()), "seed {seed}");
        }
        evicted += ledger.evicted();
        for moments in counts.0.values() {
            check_key(algorithm, moments, seed);
        }
    }
    assert!(evicted > 1_000, "some keys had to give way: {evicted}");
}

/// Half of a limit, and all of it again: who has taken more than half waits, and nothing of what was counted is lost or
/// given.
#[test]
fn a_limit_that_is_tightened_for_a_while_goes_on_counting() {
    use naru_spec::{Surge, SurgeLevel, SurgeStep};

    for algorithm in [bucket(10, SECOND), QuotaAlgorithm::FixedWindow { requests: 10, window: SECOND }] {
        let quota = naru_spec::Quota {
            name: "a".into(),
            algorithm,
            key: Vec::new(),
            cost: 1,
            is_shadow: false,
            lacking: naru_spec::Lacking::Uncounted,
            keys_max: 1,
        };
        let step = SurgeStep::RateLimit { quotas: vec!["a".into()], percent: 50 };
        let level = |steps| SurgeLevel {
            name: String::new(),
            enter: Vec::new(),
            leave: Vec::new(),
            enter_after: SECOND,
            leave_after: SECOND,
            steps,
        };
        let levels = vec![level(Vec::new()), level(vec![step])];
        let surge = Surge { every: SECOND, capacity: None, levels };
        let (usual, by_level) = (Meter::new(algorithm), meters_at(Some(&surge), &quota));
        let mut ledger = Ledger::new(1);
        let mut passed = |level, count| {
            let meter = meter_at(&usual, &by_level, level);
            (0..count).filter(|_| try_one(at(0), meter, &mut ledger, 1).0.refused_by.is_none()).count()
        };
        assert_eq!(passed(1, 3), 3, "{algorithm:?}");
        // Of five there are three taken; a bucket is filled as it was, by its share.
        let more = passed(2, 10);
        assert!((2..=3).contains(&more), "{algorithm:?}: {more}");
        assert_eq!(passed(7, 10), 0, "a level that is not there is the last");
        let rest = passed(0, 20);
        assert!(3 + more + rest <= 10 && rest >= 1, "{algorithm:?}: {rest}");
        assert_eq!(meters_at(Some(&surge), &naru_spec::Quota { name: "b".into(), ..quota }).len(), 0);
        assert_eq!(meter_at(&usual, &[], 2), &usual);
    }
}
