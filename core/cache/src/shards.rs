//! Which parts of a store answer: one that does not is left alone for a while, so that nobody waits for it.
//!
//! | state | event | next |
//! |---|---|---|
//! | Up | an answer | Up |
//! | Up | no answer, and so many in a row | Away |
//! | Away | its time has come, and it is tried | Trying |
//! | Trying | an answer | Up |
//! | Trying | none | Away, for twice as long |
//! | Up, Trying | nobody can be reached | Away |
//!
//! A store that is one has one part. Those of a cluster are runs of hash slots: the nodes of a cluster have whole
//! runs of them, mostly, and one node that is gone does not take the others along.

use std::time::Duration;

use naru_base::Instant;

/// So many in a row, and it is away.
const SILENT_MAX: u32 = 3;
const WAIT_MIN: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shard {
    Up { silent: u32 },
    Away { again: Instant, wait: Duration },
    Trying { wait: Duration },
}

#[derive(Clone, Debug)]
pub struct Shards(Vec<Shard>);

impl Shards {
    pub fn new(number: usize) -> Shards {
        Shards(vec![Shard::Up { silent: 0 }; number.max(1)])
    }

    pub fn is_up(&self, at: usize) -> bool {
        matches!(self.0.get(at), Some(Shard::Up { .. }))
    }

    pub fn is_whole(&self) -> bool {
        self.0.iter().all(|shard| matches!(shard, Shard::Up { .. }))
    }

    pub fn on_answer(&mut self, at: usize) {
        if let Some(shard) = self.0.get_mut(at) {
            // Of one that is away an answer to an older question says as much.
            *shard = Shard::Up { silent: 0 };
        }
    }

    pub fn on_silence(&mut self, at: usize, now: Instant) {
        let Some(shard) = self.0.get_mut(at) else { return };
        *shard = match *shard {
            Shard::Up { silent } if silent + 1 < SILENT_MAX => Shard::Up { silent: silent + 1 },
            Shard::Up { .. } => Shard::Away { again: now + WAIT_MIN, wait: WAIT_MIN },
            Shard::Trying { wait } => {
                let wait = (wait * 2).min(WAIT_MAX);
                Shard::Away { again: now + wait, wait }
            }
            away @ Shard::Away { .. } => away,
        };
    }

    /// Nobody can be reached at all.
    pub fn on_lost(&mut self, now: Instant) {
        for shard in &mut self.0 {
            match *shard {
                Shard::Up { .. } => *shard = Shard::Away { again: now + WAIT_MIN, wait: WAIT_MIN },
                // Nobody else looks after one that is tried.
                Shard::Trying { wait } => *shard = Shard::Away { again: now + wait, wait },
                Shard::Away { .. } => {}
            }
        }
    }

    /// Those that are to be tried now.
    pub fn due(&mut self, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        for (at, shard) in self.0.iter_mut().enumerate() {
            if let Shard::Away { again, wait } = *shard
                && again <= now
            {
                *shard = Shard::Trying { wait };
                due.push(at);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn one_that_is_silent_is_left_alone_and_tried_again() {
        let mut shards = Shards::new(2);
        for _ in 0..2 {
            shards.on_silence(0, at(0));
        }
        shards.on_answer(0);
        for _ in 0..2 {
            shards.on_silence(0, at(0));
        }
        assert!(shards.is_up(0) && shards.is_whole());
        shards.on_silence(0, at(0));
        assert!(!shards.is_up(0) && shards.is_up(1) && !shards.is_whole());
        assert_eq!(shards.due(at(249)), []);
        assert_eq!(shards.due(at(250)), [0]);
        assert_eq!(shards.due(at(9_000)), [], "one is enough");
        shards.on_silence(0, at(300));
        assert_eq!(shards.due(at(799)), []);
        assert_eq!(shards.due(at(800)), [0]);
        shards.on_answer(0);
        assert!(shards.is_whole());
    }

    #[test]
    fn one_whose_connection_is_lost_while_it_is_tried_is_tried_again() {
        let mut shards = Shards::new(1);
        (0..3).for_each(|_| shards.on_silence(0, at(0)));
        assert_eq!(shards.due(at(250)), [0]);
        shards.on_lost(at(300));
        assert_eq!(shards.due(at(549)), []);
        assert_eq!(shards.due(at(550)), [0]);
        shards.on_answer(0);
        assert!(shards.is_whole());
    }

    #[test]
    fn it_is_never_left_alone_for_long() {
        let mut shards = Shards::new(1);
        shards.on_lost(at(0));
        let mut now = 0;
        for _ in 0..20 {
            now += 4_000;
            assert_eq!(shards.due(at(now)), [0]);
            shards.on_silence(0, at(now));
        }
    }
}
