//! At which level is the process?
//!
//! | at level    | what is seen at a look                                          | then                          |
//! |-------------|-----------------------------------------------------------------|-------------------------------|
//! | n           | a threshold of n + 1 is reached, and was for its `enterAfter`   | n + 1                         |
//! | n + 1       | all of its signals are below `leave`, and were for `leaveAfter` | n, unless n + 2 is called for |
//! | any         | a signal is not known                                           | it is calm, for all we know   |
//! | held        | anything                                                        | it stays                      |
//!
//! Levels follow each other one by one. What is waited for begins anew with each of them, so that nobody stays at a level
//! for less than the shorter of both times. Steps lower the very signals that a level was entered for: one that comes
//! again soon after it was left ([`RELAPSE`]) is held twice as long as before, up to [`PATIENCE_MAX`] times its
//! `leaveAfter`, and as long as it is said to be once it has stayed away.

use std::collections::VecDeque;
use std::time::Duration;

use naru_base::Instant;
use naru_spec::{Surge, SurgeSignal};

use crate::signals::Signals;

/// A level that is entered again within so many times what it was held for was left too early.
const RELAPSE: u32 = 2;
const PATIENCE_MAX: u32 = 8;
/// So many transitions are remembered.
const RECENT_MAX: usize = 64;

/// Whether an operator holds the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Hold {
    /// Signals decide.
    #[default]
    None,
    /// It stays where it was.
    Frozen,
    /// It was put there.
    Forced,
}

/// A level took the place of another, or somebody holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    pub at: Instant,
    pub from: u32,
    pub to: u32,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Signals have reached what the level is entered for.
    Reached(Vec<Crossing>),
    /// All of them were below what it is left for, for so long.
    Calm(Duration),
    Forced,
    Frozen,
    Released,
    /// The configuration has no such level any more.
    Configured,
}

/// A signal, and what it has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    pub signal: SurgeSignal,
    pub value: u64,
    pub threshold: u64,
}

#[derive(Clone, Debug)]
pub struct Controller {
    surge: Surge,
    level: u32,
    hold: Hold,
    /// When it came to its level.
    since: Instant,
    /// Since when the next level is called for.
    rising: Option<Instant>,
    /// Since when all is calm.
    falling: Option<Instant>,
    /// By level, from the first one up.
    past: Vec<Past>,
    signals: Signals,
    recent: VecDeque<Transition>,
    transitions_total: u64,
}

/// What is remembered of a level.
#[derive(Clone, Copy, Debug)]
struct Past {
    left: Option<Instant>,
    /// So many times its `leaveAfter` it is held.
    patience: u32,
}

impl Default for Past {
    fn default() -> Past {
        Past { left: None, patience: 1 }
    }
}

impl Controller {
    pub fn new(now: Instant, surge: Surge) -> Controller {
        let past = vec![Past::default(); surge.levels.len()];
        Controller {
            surge,
            level: 0,
            hold: Hold::None,
            since: now,
            rising: None,
            falling: None,
            past,
            signals: Signals::default(),
            recent: VecDeque::new(),
            transitions_total: 0,
        }
    }

    pub fn level(&self) -> u32 {
        self.level
    }

    /// `normal` where nothing is called for.
    pub fn name_of(&self, level: u32) -> &str {
        let own = level.checked_sub(1).and_then(|at| self.surge.levels.get(at as usize));
        own.map_or("normal", |level| &level.name)
    }

    pub fn surge(&self) -> &Surge {
        &self.surge
    }

    pub fn hold(&self) -> Hold {
        self.hold
    }

    pub fn since(&self) -> Instant {
        self.since
    }

    /// At the last look.
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// The oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &Transition> {
        self.recent.iter()
    }

    /// How often there was another level.
    pub fn transitions_total(&self) -> u64 {
        self.transitions_total
    }

    /// One look. Says what has come of it, if anything has.
    pub fn on_signals(&mut self, now: Instant, signals: Signals) -> Option<&Transition> {
        self.signals = signals;
        if self.hold != Hold::None {
            return None;
        }
        if let Some(next) = self.surge.levels.get(self.level as usize) {
            let reached = next.enter.iter().filter_map(|threshold| {
                let value = signals.get(threshold.signal).filter(|value| *value >= threshold.value)?;
                Some(Crossing { signal: threshold.signal, value, threshold: threshold.value })
            });
            let reached: Vec<Crossing> = reached.collect();
            if reached.is_empty() {
                self.rising = None;
            } else {
                let began = *self.rising.get_or_insert(now);
                if now.since(began) >= next.enter_after {
                    return self.go(now, self.level + 1, Why::Reached(reached));
                }
            }
        }
        let own = self.level.checked_sub(1)? as usize;
        let level = self.surge.levels.get(own)?;
        let is_calm = level
            .leave
            .iter()
            .all(|threshold| signals.get(threshold.signal).is_none_or(|value| value < threshold.value));
        if !is_calm {
            self.falling = None;
            return None;
        }
        let began = *self.falling.get_or_insert(now);
        let wait = level.leave_after * self.past.get(own).map_or(1, |past| past.patience);
        if now.since(began) >= wait && self.rising.is_none() {
            return self.go(now, self.level - 1, Why::Calm(wait));
        }
        None
    }

    /// Stays at its level, whatever is seen.
    pub fn freeze(&mut self, now: Instant) -> Option<&Transition> {
        self.held(Hold::Frozen);
        self.go(now, self.level, Why::Frozen)
    }

    /// Goes to a level and stays there; `None` where there is no such level.
    pub fn force(&mut self, now: Instant, level: u32) -> Option<&Transition> {
        if level as usize > self.surge.levels.len() {
            return None;
        }
        self.held(Hold::Forced);
        self.go(now, level, Why::Forced)
    }

    /// Signals decide again.
    pub fn release(&mut self, now: Instant) -> Option<&Transition> {
        self.held(Hold::None);
        self.go(now, self.level, Why::Released)
    }

    /// Other settings. It stays at its level, as long as there is one.
    pub fn configure(&mut self, now: Instant, surge: Surge) -> Option<&Transition> {
        if surge == self.surge {
            return None;
        }
        self.past.resize(surge.levels.len(), Past::default());
        self.surge = surge;
        self.rising = None;
        self.falling = None;
        let highest = self.surge.levels.len() as u32;
        (self.level > highest).then_some(())?;
        self.go(now, highest, Why::Configured)
    }

    fn held(&mut self, hold: Hold) {
        self.hold = hold;
        self.rising = None;
        self.falling = None;
    }

    fn go(&mut self, now: Instant, to: u32, why: Why) -> Option<&Transition> {
        let from = std::mem::replace(&mut self.level, to);
        if from != to {
            self.since = now;
            self.rising = None;
            self.falling = None;
            self.transitions_total += 1;
        }
        for entered in from..to {
            let Some(level) = self.surge.levels.get(entered as usize) else { continue };
            let Some(past) = self.past.get_mut(entered as usize) else { continue };
            let held = level.leave_after * past.patience;
            let is_relapse = past.left.is_some_and(|left| now.since(left) <= held * RELAPSE);
            past.patience = if is_relapse { (past.patience * 2).min(PATIENCE_MAX) } else { 1 };
        }
        for left in to..from {
            if let Some(past) = self.past.get_mut(left as usize) {
                past.left = Some(now);
            }
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Transition { at: now, from, to, why });
        self.recent.back()
    }

    /// What holds at any time.
    ///
    /// # Errors
    /// What does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        if self.level as usize > self.surge.levels.len() {
            return Err("a level that there is not");
        }
        if self.past.len() != self.surge.levels.len() {
            return Err("a level is forgotten");
        }
        if self.past.iter().any(|past| !(1..=PATIENCE_MAX).contains(&past.patience)) {
            return Err("a level is held for too long");
        }
        if self.hold != Hold::None && (self.rising.is_some() || self.falling.is_some()) {
            return Err("somebody holds it, and it is on its way");
        }
        Ok(())
    }
}

impl Transition {
    /// Why, in a few words.
    pub fn phrase(&self) -> String {
        match &self.why {
            Why::Reached(crossings) => {
                let crossings = crossings.iter().map(|crossing| {
                    let Crossing { signal, value, threshold } = *crossing;
                    format!("{} is {}, of {}", signal.name(), signal.phrase(value), signal.phrase(threshold))
                });
                crossings.collect::<Vec<_>>().join("; ")
            }
            Why::Calm(wait) => format!("calm for {wait:?}"),
            Why::Forced => "an operator put it there".to_owned(),
            Why::Frozen => "an operator holds it".to_owned(),
            Why::Released => "an operator let it go".to_owned(),
            Why::Configured => "the configuration has fewer levels".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
