//! What goes wrong and what is changed, and when: drawn from a seed, so that a seed is the whole story.

use std::time::Duration;

use naru_base::Chance;

/// Of upstreams and the network. Which one is told by number, modulo how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An upstream is killed, and comes again after so long.
    Kill(usize, Duration),
    /// It is stopped, and goes on.
    Pause(usize, Duration),
    /// All connections through a relay are reset.
    Break(usize),
    /// Nothing passes a relay.
    Freeze(usize, Duration),
    /// The link to the other network is taken down.
    LinkDown(Duration),
}

/// Of naru itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The file is written and read again.
    Swap,
    Certificates,
    /// Another process takes over, with so many workers.
    TakeOver(usize),
}

impl Fault {
    /// The `at`th of a seed, and how long it waits for the one before.
    pub fn draw(seed: u64, at: u64) -> (Duration, Fault) {
        let mut chance = Chance::split(seed, &format!("fault {at}"));
        let after = Duration::from_millis(20 + chance.below(700));
        let which = chance.below(60) as usize;
        let lasting = |chance: &mut Chance, most: u64| Duration::from_millis(10 + chance.below(most));
        let fault = match chance.below(16) {
            0..=4 => Fault::Kill(which, lasting(&mut chance, 1_500)),
            5..=7 => Fault::Pause(which, lasting(&mut chance, 2_500)),
            8..=10 => Fault::Break(which),
            11..=12 => Fault::Freeze(which, lasting(&mut chance, 1_500)),
            _ => Fault::LinkDown(lasting(&mut chance, 2_500)),
        };
        (after, fault)
    }
}

impl Change {
    /// The same.
    pub fn draw(seed: u64, at: u64) -> (Duration, Change) {
        let mut chance = Chance::split(seed, &format!("change {at}"));
        let after = Duration::from_millis(100 + chance.below(1_500));
        let change = match chance.below(8) {
            0..=3 => Change::Swap,
            4..=5 => Change::Certificates,
            _ => Change::TakeOver(1 + chance.below(3) as usize),
        };
        (after, change)
    }
}

#[test]
fn a_seed_is_the_whole_story() {
    let all = |seed| (0..200).map(|at| (Fault::draw(seed, at), Change::draw(seed, at))).collect::<Vec<_>>();
    assert_eq!(all(7), all(7));
    assert_ne!(all(7), all(8));
}
