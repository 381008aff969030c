//! Members that share limits, on virtual time: walks in which messages are lost, late and doubled and members die, held
//! against what a limit says; and loads that are anything but even, of which all is to be admitted that may be.

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_spec::QuotaAlgorithm;

use super::*;
use crate::quota::{Meter, Room};

const LEASE: Duration = Duration::from_secs(2);
const MS: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Item {
    Ask { key: u64, units: u64, parts: u32, asked_at: Instant },
    Lend { key: u64, lent: Lent, parts: u32, asked_at: Instant },
}

#[derive(Clone, Debug)]
struct Packet {
    beat: Beat,
    items: Vec<Item>,
}

struct Member {
    circle: Circle,
    pot: Pot,
    right: Right,
    next_beat: Instant,
}

/// How bad a network is.
#[derive(Clone, Copy)]
struct Network {
    lost: u64,
    doubled: u64,
    /// In milliseconds.
    late: u64,
    very_late: u64,
}

const GOOD: Network = Network { lost: 0, doubled: 0, late: 1, very_late: 0 };

struct World {
    now: Instant,
    chance: Chance,
    network: Network,
    /// By pair: nothing passes.
    cut: Vec<Vec<bool>>,
    meter: Meter,
    members: Vec<Option<Member>>,
    on_way: BTreeMap<(Instant, u64), Packet>,
    sent: u64,
    processes: u64,
    admitted: BTreeMap<u64, Vec<Instant>>,
}

impl World {
    fn new(seed: u64, count: usize, algorithm: QuotaAlgorithm, network: Network) -> World {
        let mut world = World {
            now: Instant(1),
            chance: Chance::new(seed),
            network,
            cut: vec![vec![false; count]; count],
            meter: Meter::new(algorithm),
            members: (0..count).map(|_| None).collect(),
            on_way: BTreeMap::new(),
            sent: 0,
            processes: 0,
            admitted: BTreeMap::new(),
        };
        (0..count).for_each(|at| world.start(at));
        world
    }

    fn start(&mut self, at: usize) {
        self.processes += 1;
        let count = self.members.len();
        let circle = Circle::new(at, count, self.processes, LEASE, self.now);
        let right = Right { is_active: false, parts: count as u32, until: Instant::ZERO };
        let pot = Pot::new(1_000, count as u32);
        self.members[at] = Some(Member { circle, pot, right, next_beat: self.now });
    }

    fn send(&mut self, from: usize, to: usize, items: Vec<Item>) {
        let Some(member) = &mut self.members[from] else { return };
        let beat = member.circle.beat(self.now, to);
        if self.cut[from][to] || self.chance.below(100) < self.network.lost {
            return;
        }
        let copies = 1 + u64::from(self.chance.below(100) < self.network.doubled);
        for _ in 0..copies {
            let mut late = self.chance.below(self.network.late * MS + 1);
            if self.network.very_late > 0 && self.chance.below(20) == 0 {
                late = self.chance.below(self.network.very_late * MS);
            }
            self.sent += 1;
            let packet = Packet { beat, items: items.clone() };
            self.on_way.insert((self.now + Duration::from_nanos(late), self.sent), packet);
        }
    }

    fn turn(&mut self, at: usize) {
        let (now, meter) = (self.now, self.meter);
        let Some(member) = &mut self.members[at] else { return };
        let change = member.circle.turn(now);
        member.pot.cut(now, &meter, change.parts_before, change.right.parts);
        if let Some(since) = change.empty_since {
            member.pot.empty(now, &meter, since);
        }
        member.right = change.right;
        self.check_rights();
    }

    /// The invariant of the whole: parts of all who may use one are never more than one.
    fn check_rights(&self) {
        let active = self.members.iter().flatten().map(|member| member.right);
        let parts: Vec<u32> = active
            .filter(|right| right.is_active && self.now < right.until)
            .map(|right| right.parts)
            .collect();
        let sum: f64 = parts.iter().map(|parts| 1.0 / f64::from(*parts)).sum();
        assert!(sum <= 1.000_001, "{parts:?} at {}", self.now);
    }

    fn receive(&mut self, packet: &Packet) {
        let (now, meter) = (self.now, self.meter);
        let (from, to) = (usize::from(packet.beat.from), usize::from(packet.beat.to));
        let Some(member) = &mut self.members[to] else { return };
        let reception = member.circle.on_beat(now, &packet.beat);
        self.turn(to);
        match reception {
            Reception::Ignored => return,
            Reception::Strange => return self.send(to, from, Vec::new()),
            Reception::Taken => {}
        }
        for item in &packet.items {
            let Some(member) = &mut self.members[to] else { return };
            let own = member.pot.parts();
            match *item {
                Item::Ask { key, units, parts, asked_at } => {
                    let wanted = (units * u64::from(own)).div_ceil(u64::from(parts));
                    let lent = member.pot.lend(now, &meter, key, wanted, to < from);
                    self.send(to, from, vec![Item::Lend { key, lent, parts: own, asked_at }]);
                }
                Item::Lend { key, lent, parts, asked_at } => {
                    let units = lent.units * u64::from(own) / u64::from(parts);
                    member.pot.receive(now, &meter, key, asked_at, Lent { units, ..lent });
                }
            }
        }
    }

    /// Everything that is due until then.
    fn until(&mut self, end: Instant) {
        loop {
            let next = self.on_way.keys().next().map(|(at, _)| *at);
            let beats = self.members.iter().flatten().map(|member| member.next_beat).min();
            let Some(at) = next.into_iter().chain(beats).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if next == Some(at) {
                let (_, packet) = self.on_way.pop_first().unwrap();
                self.receive(&packet);
                continue;
            }
            for from in 0..self.members.len() {
                let now = self.now;
                let Some(member) = self.members[from].as_mut().filter(|member| member.next_beat <= now)
                else {
                    continue;
                };
                member.next_beat = now + member.circle.beat_every();
                self.turn(from);
                (0..self.members.len())
                    .filter(|to| *to != from)
                    .for_each(|to| self.send(from, to, Vec::new()));
            }
        }
        self.now = self.now.max(end);
    }

    /// A request that nobody waits for: it is said at once, or asked for and let go. Whether it was admitted.
    fn one(&mut self, at: usize, key: u64, is_strict: bool, is_last: bool) -> Option<bool> {
        let (now, meter) = (self.now, self.meter);
        let member = self.members[at].as_mut()?;
        let is_active = member.right.is_active && now < member.right.until;
        if is_strict && !is_active {
            return Some(false);
        }
        let others: Vec<usize> = member.circle.present(now).collect();
        let parts = if is_active { member.right.parts } else { self.cut.len() as u32 };
        let bid = PotBid { meter: &meter, pot: &mut member.pot, key, cost: 1, is_shadow: false };
        let mut rooms = [Room::default()];
        match spend(now, parts, others.len(), is_last, &mut [bid], &mut rooms) {
            Spend::Said(spent) => {
                if spent.refused_by.is_none() {
                    self.admitted.entry(key).or_default().push(now);
                }
                Some(spent.refused_by.is_none())
            }
            Spend::Wait(wishes) => {
                let parts = member.pot.parts();
                for wish in wishes {
                    for to in &others {
                        let (units, asked_at) = (wish.units, wish.asked_at);
                        self.send(at, *to, vec![Item::Ask { key, units, parts, asked_at }]);
                    }
                }
                None
            }
        }
    }

    /// A request that waits for the others, 50 ms at most.
    fn patiently(&mut self, at: usize, key: u64) -> bool {
        let end = self.now + Duration::from_millis(50);
        loop {
            if let Some(said) = self.one(at, key, false, self.now >= end) {
                return said;
            }
            let next = self.now + Duration::from_millis(1);
            self.until(next);
        }
    }
}

/// More than `burst + rate * time` in no span, but for what a share of a twentieth and one request of each may add.
fn check_span(moments: &[Instant], burst: u32, requests: u32, window: Duration, members: usize, seed: u64) {
    for (first, from) in moments.iter().enumerate() {
        for (count, to) in (1u64..).zip(&moments[first..]) {
            let refilled = to.since(*from).as_nanos() * u128::from(requests) / window.as_nanos() + 1;
            let beyond = u128::from(requests).div_ceil(20) + members as u128;
            let allowed = u128::from(burst) + refilled + beyond;
            assert!(
                u128::from(count) <= allowed,
                "seed {seed}: {count} of {allowed} in {:?} from {from}: {members} members, {requests} in {window:?}",
                to.since(*from)
            );
        }
    }
}

#[test]
fn a_walk_never_admits_more_than_a_limit_says() {
    let (mut admitted, mut changes) = (0, 0);
    for seed in 0..96 {
        let mut chance = Chance::new(seed ^ 0xc1c1);
        let count = 2 + chance.below(4) as usize;
        let requests = 20 + chance.below(100) as u32;
        let window = Duration::from_millis(2_000 + chance.below(8_000));
        let algorithm = QuotaAlgorithm::TokenBucket { requests, window, burst: requests };
        let network = Network {
            lost: chance.below(30),
            doubled: chance.below(30),
            late: 1 + chance.below(40),
            very_late: 3_000,
        };
        let mut world = World::new(seed, count, algorithm, network);
        let mut down: Option<(usize, Instant)> = None;
        let mut quiet_until = Instant(3_000 * MS);
        for _ in 0..4_000 {
            let next = world.now + Duration::from_micros(chance.below(20_000));
            world.until(next);
            // One at a time dies, or is cut off: what several forget at once nobody remembers.
            match down {
                None if world.now > quiet_until && chance.below(200) == 0 => {
                    let at = chance.below(count as u64) as usize;
                    if chance.below(2) == 0 {
                        world.members[at] = None;
                    } else {
                        for other in 0..count {
                            world.cut[at][other] = chance.below(3) > 0;
                            world.cut[other][at] = chance.below(3) > 0;
                        }
                    }
                    down = Some((at, world.now + Duration::from_millis(chance.below(8_000))));
                    changes += 1;
                }
                Some((at, end)) if world.now > end => {
                    if world.members[at].is_none() {
                        world.start(at);
                    }
                    world.cut.iter_mut().flatten().for_each(|cut| *cut = false);
                    quiet_until = world.now + Duration::from_secs(6);
                    down = None;
                }
                _ => {}
            }
            let (at, key) = (chance.below(count as u64) as usize, chance.below(2));
            if world.members[at].is_some() {
                world.one(at, key, true, chance.below(4) == 0);
            }
            world.check_rights();
        }
        for moments in world.admitted.values() {
            check_span(moments, requests, requests, window, count, seed);
            admitted += moments.len();
        }
    }
    assert!(admitted > 10_000 && changes > 100, "{admitted} admitted, {changes} times somebody was away");
}

fn bucket(requests: u32, window: Duration) -> QuotaAlgorithm {
    QuotaAlgorithm::TokenBucket { requests, window, burst: requests }
}

/// So many requests, each at a member by these shares of a hundred. Returns how many of a key passed, and what may.
fn loaded(world: &mut World, shares: &[u64], count: usize, every: Duration) -> usize {
    let mut passed = 0;
    for _ in 0..count {
        let next = world.now + every;
        world.until(next);
        let mut draw = world.chance.below(100);
        let at = shares.iter().position(|share| match draw.checked_sub(*share) {
            None => true,
            Some(rest) => {
                draw = rest;
                false
            }
        });
        passed += usize::from(world.patiently(at.unwrap(), 7));
    }
    passed
}

#[test]
fn shares_follow_a_load_that_is_anything_but_even() {
    for shares in [[34, 33, 33], [100, 0, 0], [0, 90, 10], [60, 39, 1]] {
        for (requests, window, count, every) in [
            // The limits of the traffic guide: a user, and everybody.
            (100, 60, 400, Duration::from_millis(20)),
            (1_000, 1, 12_000, Duration::from_micros(400)),
        ] {
            let window = Duration::from_secs(window);
            let mut world = World::new(3, 3, bucket(requests, window), GOOD);
            world.until(Instant(4_000 * MS));
            assert!(world.members.iter().flatten().all(|member| member.right.is_active));
            let began = world.now;
            let passed = loaded(&mut world, &shares, count, every) as f64;
            let time = world.now.since(began).as_secs_f64() / window.as_secs_f64();
            let exact = (f64::from(requests) * (1.0 + time)).min(count as f64);
            let share = passed / exact;
            assert!((0.95..=1.05).contains(&share), "{shares:?} {requests}: {passed} of {exact}");
        }
    }
}

#[test]
fn a_window_of_one_request_is_not_torn_to_pieces() {
    let window = Duration::from_secs(3_600);
    for seed in 0..32 {
        let mut world = World::new(seed, 3, QuotaAlgorithm::FixedWindow { requests: 1, window }, GOOD);
        world.until(Instant(4_000 * MS));
        // All three at once.
        let mut passed = 0;
        let mut left = vec![0, 1, 2];
        for round in 0..200 {
            left.retain(|at| match world.one(*at, 9, false, round == 199) {
                Some(said) => {
                    passed += usize::from(said);
                    false
                }
                None => true,
            });
            let next = world.now + Duration::from_millis(1);
            world.until(next);
        }
        assert_eq!(passed, 1, "seed {seed}");
    }
}

#[test]
fn who_dies_leaves_his_part_to_the_others_and_comes_back_with_nothing() {
    let mut world = World::new(1, 3, bucket(300, Duration::from_secs(300)), GOOD);
    let parts = |world: &World| -> Vec<Option<(bool, u32)>> {
        let right = |member: &Member| (member.right.is_active, member.right.parts);
        world.members.iter().map(|member| member.as_ref().map(right)).collect()
    };
    world.until(Instant(4_000 * MS));
    assert_eq!(parts(&world), [Some((true, 3)); 3]);
    world.members[1] = None;
    world.until(Instant(5_000 * MS));
    assert_ne!(parts(&world)[0], Some((true, 2)), "its lease has not ended");
    world.until(Instant(10_000 * MS));
    assert_eq!(parts(&world), [Some((true, 2)), None, Some((true, 2))]);
    // What it had comes to the others by and by, not at once.
    let passed = (0..300).filter(|_| world.patiently(0, 5)).count();
    assert!((200..206).contains(&passed), "{passed}");
    world.start(1);
    world.until(Instant(16_000 * MS));
    assert_eq!(parts(&world), [Some((true, 3)); 3]);
    let mut rooms = [Room::default()];
    let (now, meter) = (world.now, world.meter);
    let member = world.members[1].as_mut().unwrap();
    let bid = PotBid { meter: &meter, pot: &mut member.pot, key: 5, cost: 1, is_shadow: false };
    let said = spend(now, 3, 0, true, &mut [bid], &mut rooms);
    let left = rooms[0].remaining;
    assert!(left < 8, "{said:?}: it begins with what has come since, not with {left}");
}

#[test]
fn of_two_the_first_goes_on_alone_and_of_three_one_alone_does_not() {
    for (count, alone, expected) in [(2, 0, Some(1)), (2, 1, None), (3, 0, None), (1, 0, Some(1))] {
        let mut world = World::new(1, count, bucket(30, Duration::from_secs(1)), GOOD);
        world.until(Instant(4_000 * MS));
        (0..count).filter(|at| *at != alone).for_each(|at| world.members[at] = None);
        world.until(Instant(12_000 * MS));
        let right = world.members[alone].as_ref().unwrap().right;
        assert_eq!(right.is_active.then_some(right.parts), expected, "{count} {alone}");
    }
}

#[test]
fn a_recording_of_another_process_says_nothing() {
    let now = Instant(5);
    let mut circle = Circle::new(0, 2, 10, LEASE, now);
    let old =
        Beat { from: 1, to: 0, from_process: 3, to_process: 9, number: 1, is_grant: true, ..Beat::default() };
    assert_eq!(circle.on_beat(now, &old), Reception::Strange);
    assert_eq!(circle.present(now).count(), 0);
    let good = Beat { to_process: 10, stamp: 7, ..old };
    assert_eq!(circle.on_beat(now, &good), Reception::Taken);
    assert_eq!(circle.on_beat(now, &good), Reception::Ignored, "twice");
    assert_eq!(circle.on_beat(now, &Beat { from_process: 2, number: 2, ..good }), Reception::Ignored);
    assert_eq!(circle.on_beat(now, &Beat { number: 2, from: 9, ..good }), Reception::Ignored);
    assert_eq!(circle.on_beat(now, &Beat { number: 2, to: 1, ..good }), Reception::Ignored);
    let echoed = Beat { number: 3, echo: 999_999_999_999, ..good };
    assert_eq!(circle.on_beat(now, &echoed), Reception::Taken);
    assert!(!circle.turn(now).right.is_active, "what was never said cannot come back");
}
