//! The queue beside S3-FIFO as it is told.

use std::collections::VecDeque;

use naru_base::Chance;

use super::*;

/// S3-FIFO as it is told: two lists and one of names.
struct RefQueue {
    small: VecDeque<(u64, u32, u8)>,
    main: VecDeque<(u64, u32, u8)>,
    bytes_max: u64,
}

fn bytes(list: &VecDeque<(u64, u32, u8)>) -> u64 {
    list.iter().map(|(_, cost, _)| u64::from(*cost)).sum()
}

impl RefQueue {
    fn touch(&mut self, hash: u64) {
        for entry in self.small.iter_mut().chain(&mut self.main).filter(|entry| entry.0 == hash) {
            entry.2 = (entry.2 + 1).min(3);
        }
    }

    fn evict(&mut self, ghost: &mut Ghost) -> Vec<u64> {
        let mut gone = Vec::new();
        while bytes(&self.small) + bytes(&self.main) > self.bytes_max {
            if bytes(&self.small) > self.bytes_max / 10 || self.main.is_empty() {
                let (hash, cost, uses) = self.small.pop_back().expect("somebody is there");
                if uses > 1 {
                    self.main.push_front((hash, cost, 0));
                } else {
                    ghost.put(hash);
                    gone.push(hash);
                }
            } else {
                let (hash, cost, uses) = self.main.pop_back().expect("somebody is there");
                if uses > 0 {
                    self.main.push_front((hash, cost, uses - 1));
                } else {
                    gone.push(hash);
                }
            }
        }
        gone
    }
}

#[test]
fn who_stays_is_who_stays_in_the_obvious_model() {
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        let mut queue = Queue::new(4_000);
        let bytes_max = queue.bytes_max();
        let mut model = RefQueue { small: VecDeque::new(), main: VecDeque::new(), bytes_max };
        let mut ghost = Ghost::new(4_000);
        let mut slots: Vec<(u64, Slot)> = Vec::new();
        for _ in 0..300 {
            let hash = chance.below(60) * 0x1_0001_0000_0001 + 7;
            let known = slots.iter().find(|(known, _)| *known == hash).copied();
            match (known, chance.below(10)) {
                (Some((_, slot)), 0) => {
                    queue.remove(slot);
                    slots.retain(|(known, _)| *known != hash);
                    model.small.retain(|entry| entry.0 != hash);
                    model.main.retain(|entry| entry.0 != hash);
                }
                (Some((_, slot)), 1) => {
                    let cost = 1 + chance.below(300) as u32;
                    queue.resize(slot, cost);
                    let all = model.small.iter_mut().chain(&mut model.main);
                    all.filter(|entry| entry.0 == hash).for_each(|entry| entry.1 = cost);
                }
                (Some((_, slot)), _) => {
                    queue.touch(slot);
                    model.touch(hash);
                }
                (None, _) => {
                    let cost = 1 + chance.below(300) as u32;
                    slots.push((hash, queue.insert(hash, cost)));
                    let list = if ghost.take(hash) { &mut model.main } else { &mut model.small };
                    list.push_front((hash, cost, 0));
                }
            }
            let mut gone = Vec::new();
            while let Some(slot) = queue.evict() {
                let at = slots.iter().position(|(_, known)| *known == slot).expect("it was there");
                gone.push(slots.swap_remove(at).0);
            }
            assert_eq!(gone, model.evict(&mut ghost), "seed {seed}");
            assert_eq!(queue.check_invariants(), Ok(()), "seed {seed}");
            assert!(queue.bytes() <= bytes_max, "seed {seed}");
            assert_eq!(queue.bytes(), bytes(&model.small) + bytes(&model.main), "seed {seed}");
        }
    }
}

#[test]
fn a_scan_leaves_what_is_wanted_again_and_again() {
    let mut queue = Queue::new(100_000);
    let mut hot = Vec::new();
    for hash in 0..20u64 {
        let slot = queue.insert(hash << 32 | hash, 1_000);
        queue.touch(slot);
        queue.touch(slot);
        hot.push(slot);
    }
    for hash in 1_000..11_000u64 {
        queue.insert(hash << 32 | hash, 1_000);
        while let Some(slot) = queue.evict() {
            assert!(!hot.contains(&slot) || hash > 10_900, "the scan drove out what was wanted");
        }
    }
}
