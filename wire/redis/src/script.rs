//! The script that counts, what it is told and what it says.
//!
//! It does as `core/admit/src/quota/meter.rs`, in microseconds; what differs by rounding is less than one in a thousand.

use std::time::Duration;

use naru_admit::quota::{Room, Spent};
use naru_spec::QuotaAlgorithm;
use redis::{Cmd, Value};

use crate::Take;

pub(crate) const TEXT: &str = include_str!("spend.lua");
/// Of [`TEXT`].
pub(crate) const SHA1: &str = "2312a68cd4c544405bf18ccd82ef4bf22a6928f0";

/// What is said of each limit: its kind, what it allows, what is taken, whether it refuses.
pub(crate) fn say(take: &Take, asked: &mut Cmd) {
    let (requests, window) = take.algorithm.policy();
    let kind = match take.algorithm {
        QuotaAlgorithm::TokenBucket { .. } => "b",
        QuotaAlgorithm::FixedWindow { .. } => "f",
        QuotaAlgorithm::SlidingWindow { .. } => "s",
    };
    let micros = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
    asked.arg(kind).arg(requests).arg(micros).arg(take.algorithm.capacity());
    asked.arg(take.cost).arg(u8::from(take.is_shadow));
}

/// What it says: the limit that refuses from 1 or 0, the bits of those in shadow that would have, and of each limit what
/// is left, in how many microseconds all is, and how long to wait (-1: not at all, -2: for ever).
pub(crate) fn read(said: &Value, takes: &[Take]) -> Option<(Spent, Vec<Room>)> {
    let Value::Array(values) = said else { return None };
    let numbers = values.iter().map(|value| match value {
        Value::Int(number) => Some(*number),
        _ => None,
    });
    let numbers: Vec<i64> = numbers.collect::<Option<_>>()?;
    let (head, rest) = numbers.split_first_chunk::<2>()?;
    let [refused, shadowed] = *head;
    if rest.len() != takes.len() * 3 {
        return None;
    }
    let refused_by = usize::try_from(refused).ok()?.checked_sub(1);
    if refused_by.is_some_and(|at| at >= takes.len()) {
        return None;
    }
    let rooms = rest.chunks_exact(3).zip(takes).map(|(said, take)| {
        let [remaining, reset, wait] = *said else { return None };
        Some(Room {
            limit: take.algorithm.policy().0,
            remaining: u32::try_from(remaining).ok()?,
            reset: Duration::from_micros(u64::try_from(reset).ok()?),
            retry_after: match wait {
                -2 => Some(Duration::MAX),
                -1 => None,
                wait => Some(Duration::from_micros(u64::try_from(wait).ok()?)),
            },
        })
    });
    let rooms = rooms.collect::<Option<_>>()?;
    Some((Spent { refused_by, shadowed: u32::try_from(shadowed).ok()? }, rooms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(key: &[u8]) -> Take {
        let algorithm = QuotaAlgorithm::FixedWindow { requests: 5, window: Duration::from_secs(1) };
        Take::new("RateLimit/shop/a", "user", key, algorithm, 1, false)
    }

    #[test]
    fn keys_are_told_apart_whatever_they_hold() {
        assert_eq!(take(b"ann").name, "naru:{RateLimit/shop/a}:user:ann");
        assert_eq!(take(b"a%20 }\0").name, "naru:{RateLimit/shop/a}:user:a%2520%20%7d%00");
    }

    #[test]
    fn an_answer_that_is_none_is_not_believed() {
        let takes = [take(b"a")];
        let say = |numbers: &[i64]| Value::Array(numbers.iter().map(|number| Value::Int(*number)).collect());
        let good = read(&say(&[1, 0, 0, 900_000, 100_000]), &takes);
        let (spent, rooms) = good.unwrap();
        assert_eq!(
            (spent.refused_by, rooms[0].limit, rooms[0].reset),
            (Some(0), 5, Duration::from_millis(900))
        );
        assert_eq!(rooms[0].retry_after, Some(Duration::from_millis(100)));
        for numbers in [
            &[][..],
            &[0],
            &[0, 0],
            &[2, 0, 0, 0, 0],
            &[0, 0, -1, 0, 0],
            &[0, -1, 0, 0, 0],
            &[0, 0, 0, 0, -3],
            &[0; 8],
        ] {
            assert_eq!(read(&say(numbers), &takes), None, "{numbers:?}");
        }
        assert_eq!(read(&Value::SimpleString("OK".into()), &takes), None);
        assert_eq!(read(&Value::Array(vec![Value::Nil; 5]), &takes), None);
    }
}
