//! Levels by their table, seeded walks against a slow model, and a load that comes back when its steps are undone.

use naru_base::Chance;
use naru_spec::{SurgeLevel, SurgeThreshold};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn threshold(signal: SurgeSignal, value: u64) -> SurgeThreshold {
    SurgeThreshold { signal, value }
}

fn level(name: &str, enter: u64, leave: u64, holds: (u64, u64)) -> SurgeLevel {
    SurgeLevel {
        name: name.to_owned(),
        enter: vec![threshold(SurgeSignal::Cpu, enter)],
        leave: vec![threshold(SurgeSignal::Cpu, leave)],
        enter_after: Duration::from_secs(holds.0),
        leave_after: Duration::from_secs(holds.1),
        steps: Vec::new(),
    }
}

fn two_levels() -> Surge {
    let levels = vec![level("busy", 800, 600, (5, 30)), level("full", 950, 800, (10, 20))];
    Surge { every: SECOND, capacity: None, levels }
}

fn cpu(value: u64) -> Signals {
    let mut signals = Signals::default();
    signals.set(SurgeSignal::Cpu, Some(value));
    signals
}

/// A look each second, with what the signal is; the seconds at which there was another level, and which.
fn played(surge: Surge, signal: impl Fn(u64) -> u64, seconds: u64) -> Vec<(u64, u32)> {
    let mut controller = Controller::new(at(0), surge);
    let mut seen = Vec::new();
    for second in 0..=seconds {
        if let Some(transition) = controller.on_signals(at(second), cpu(signal(second))) {
            seen.push((second, transition.to));
        }
        controller.check_invariants().unwrap();
    }
    seen
}

#[test]
fn a_surge_that_comes_and_goes_is_followed_level_by_level() {
    let signal = |second| match second {
        0..10 => 500,
        10..60 => 990,
        60..70 => 850,
        70..90 => 700,
        _ => 100,
    };
    // Up after 5 and 10 more seconds; down once it was below 800 for 20 seconds, and below 600 for 30.
    assert_eq!(played(two_levels(), signal, 300), [(15, 1), (26, 2), (90, 1), (121, 0)]);
}

#[test]
fn what_does_not_last_changes_nothing() {
    // Four seconds of five.
    assert_eq!(played(two_levels(), |second| if second % 6 == 5 { 700 } else { 900 }, 600), []);
    // Between what it is entered for and what it is left for it stays.
    let signal = |second| if second < 20 { 900 } else { 610 };
    assert_eq!(played(two_levels(), signal, 600), [(5, 1)]);
    // Calm that is broken off is waited for anew.
    let signal = |second| if second < 20 || second % 30 == 0 { 900 } else { 100 };
    assert_eq!(played(two_levels(), signal, 600), [(5, 1)]);
}

#[test]
fn what_is_not_known_is_calm() {
    let mut controller = Controller::new(at(0), two_levels());
    controller.on_signals(at(0), cpu(900));
    controller.on_signals(at(5), cpu(900));
    assert_eq!(controller.level(), 1);
    controller.on_signals(at(6), Signals::default());
    controller.on_signals(at(36), Signals::default());
    assert_eq!(controller.level(), 0);
}

#[test]
fn a_level_is_not_left_while_the_next_one_is_called_for() {
    let mut surge = two_levels();
    surge.levels[1].enter = vec![threshold(SurgeSignal::Errors, 50)];
    surge.levels[1].leave = vec![threshold(SurgeSignal::Errors, 20)];
    surge.levels[1].enter_after = Duration::from_secs(100);
    let mut controller = Controller::new(at(0), surge);
    controller.force(at(0), 1);
    controller.release(at(0));
    let mut signals = cpu(100);
    signals.set(SurgeSignal::Errors, Some(80));
    for second in 0..100 {
        assert_eq!(controller.on_signals(at(second), signals), None, "{second}");
    }
    let transition = controller.on_signals(at(100), signals).unwrap();
    assert_eq!((transition.from, transition.to), (1, 2));
    assert_eq!(transition.phrase(), "errorsPercent is 8%, of 5%");
}

#[test]
fn an_operator_holds_it() {
    let mut controller = Controller::new(at(0), two_levels());
    assert_eq!(controller.force(at(0), 3), None, "there is no such level");
    assert_eq!(controller.force(at(1), 2).map(|transition| (transition.from, transition.to)), Some((0, 2)));
    for second in 2..200 {
        assert_eq!(controller.on_signals(at(second), cpu(0)), None);
        controller.check_invariants().unwrap();
    }
    controller.release(at(200));
    for second in 201..=221 {
        controller.on_signals(at(second), cpu(0));
    }
    assert_eq!(controller.level(), 1, "from where it was put, one by one");
    controller.freeze(at(222));
    for second in 223..400 {
        assert_eq!(controller.on_signals(at(second), cpu(990)), None);
    }
    assert_eq!((controller.level(), controller.hold()), (1, Hold::Frozen));
    let told: Vec<&Why> = controller.recent().map(|transition| &transition.why).collect();
    let calm = Why::Calm(Duration::from_secs(20));
    assert_eq!(told, [&Why::Forced, &Why::Released, &calm, &Why::Frozen]);
    assert_eq!(controller.transitions_total(), 2);
}

#[test]
fn another_configuration_keeps_the_level_that_there_is() {
    let mut controller = Controller::new(at(0), two_levels());
    controller.force(at(0), 2);
    assert_eq!(controller.configure(at(1), two_levels()), None, "the same");
    let mut slower = two_levels();
    slower.levels[1].leave_after = Duration::from_secs(90);
    assert_eq!(controller.configure(at(1), slower.clone()), None);
    assert_eq!(controller.level(), 2);
    slower.levels.truncate(1);
    let transition = controller.configure(at(2), slower).unwrap();
    assert_eq!((transition.to, &transition.why), (1, &Why::Configured));
    controller.check_invariants().unwrap();
}

/// The load is always twice what there is room for, and the step of the level takes it away at once: the worst that a
/// threshold can be asked.
#[test]
fn a_load_that_comes_back_with_each_step_back_is_held_longer_and_longer() {
    let mut controller = Controller::new(at(0), two_levels());
    let mut at_levels = [0u32; 2];
    for second in 0..3_600 {
        let is_relieved = controller.level() > 0;
        controller.on_signals(at(second), cpu(if is_relieved { 300 } else { 900 }));
        at_levels[usize::from(controller.level() > 0)] += 1;
    }
    // 35 s a turn would make 200 transitions; it is 35, 65, 125, 245, 245, ... seconds.
    let transitions = controller.transitions_total();
    assert!((20..=36).contains(&transitions), "{transitions}");
    assert!(at_levels[1] > 3_400, "{at_levels:?}");
    // Once it has stayed away, it is as it was.
    for second in 3_600..6_000 {
        controller.on_signals(at(second), cpu(0));
    }
    let mut entered = None;
    let mut left = None;
    for second in 6_000..6_100 {
        match controller.on_signals(at(second), cpu(if second < 6_010 { 900 } else { 0 })) {
            Some(transition) if transition.to == 1 => entered = Some(second),
            Some(_) => left = Some(second),
            None => {}
        }
    }
    assert_eq!((entered, left), (Some(6_005), Some(6_040)));
}

/// What was seen at all looks since the last transition, looked through anew at each.
struct RefController {
    surge: Surge,
    level: usize,
    seen: Vec<(Instant, Signals)>,
    left: Vec<Option<Instant>>,
    patience: Vec<u32>,
}

impl RefController {
    fn new(surge: Surge) -> RefController {
        let levels = surge.levels.len();
        RefController {
            surge,
            level: 0,
            seen: Vec::new(),
            left: vec![None; levels],
            patience: vec![1; levels],
        }
    }

    /// For how long something has held without a break.
    fn lasts(&self, holds: impl Fn(&Signals) -> bool) -> Option<Duration> {
        let first = self.seen.iter().rev().take_while(|(_, signals)| holds(signals)).last()?;
        Some(self.seen.last()?.0.since(first.0))
    }

    fn look(&mut self, now: Instant, signals: Signals) -> usize {
        self.seen.push((now, signals));
        let reached = |at: usize| {
            self.lasts(|seen| {
                let enter = &self.surge.levels[at].enter;
                enter.iter().any(|t| seen.get(t.signal).is_some_and(|value| value >= t.value))
            })
        };
        let rising = (self.level < self.surge.levels.len()).then(|| reached(self.level)).flatten();
        if rising.is_some_and(|lasts| lasts >= self.surge.levels[self.level].enter_after) {
            let held = self.surge.levels[self.level].leave_after * self.patience[self.level];
            let is_relapse = self.left[self.level].is_some_and(|left| now.since(left) <= held * RELAPSE);
            self.patience[self.level] =
                if is_relapse { (self.patience[self.level] * 2).min(PATIENCE_MAX) } else { 1 };
            self.level += 1;
            self.seen.clear();
        } else if let Some(own) = self.level.checked_sub(1) {
            let calm = self.lasts(|seen| {
                let leave = &self.surge.levels[own].leave;
                leave.iter().all(|t| seen.get(t.signal).is_none_or(|value| value < t.value))
            });
            let wait = self.surge.levels[own].leave_after * self.patience[own];
            if rising.is_none() && calm.is_some_and(|lasts| lasts >= wait) {
                self.left[own] = Some(now);
                self.level = own;
                self.seen.clear();
            }
        }
        self.level
    }
}

/// Whatever is seen: levels follow each other one by one, none for less than what was asked for, as the model says.
#[test]
fn a_walk_stays_within_its_bounds_and_agrees_with_the_model() {
    let mut transitions_of_all = 0;
    for seed in 0..256 {
        let mut chance = Chance::split(seed, "surge");
        let count = 1 + chance.below(4) as usize;
        let levels = (0..count).map(|_| {
            let enter = 300 + chance.below(700);
            let mut level =
                level("", enter, 1 + chance.below(enter), (chance.below(8), 1 + chance.below(20)));
            if chance.below(2) == 0 {
                level.enter.push(threshold(SurgeSignal::P99, 500_000));
                level.leave.push(threshold(SurgeSignal::P99, 100_000 + chance.below(400_000)));
            }
            level
        });
        let surge = Surge { every: SECOND, capacity: None, levels: levels.collect() };
        assert_eq!(surge.problems(), []);
        let mut model = RefController::new(surge.clone());
        let mut controller = Controller::new(at(0), surge.clone());
        let (mut now, mut since, mut transitions) = (Instant::ZERO, Instant::ZERO, 0u64);
        let (mut mood, began) = (0, now);
        for _ in 0..3_000 {
            now = now + Duration::from_millis(200 + chance.below(1_600));
            if chance.below(25) == 0 {
                mood = chance.below(1_000);
            }
            let mut signals = cpu((mood + chance.below(200)).min(1_000));
            if chance.below(3) > 0 {
                signals.set(SurgeSignal::P99, Some(chance.below(2 * mood * 1_000 + 1)));
            }
            let before = controller.level();
            let transition = controller.on_signals(now, signals).cloned();
            controller.check_invariants().unwrap();
            assert_eq!(controller.level() as usize, model.look(now, signals), "seed {seed}, at {now}");
            let Some(transition) = transition else {
                assert_eq!(controller.level(), before, "seed {seed}");
                continue;
            };
            assert_eq!(transition.from, before, "seed {seed}");
            assert_eq!(transition.from.abs_diff(transition.to), 1, "seed {seed}: one by one");
            let stayed = now.since(since);
            let asked = match transition.from < transition.to {
                true => surge.levels[transition.from as usize].enter_after,
                false => surge.levels[transition.to as usize].leave_after,
            };
            assert!(stayed >= asked, "seed {seed}: {stayed:?} of {asked:?} at level {before}");
            since = now;
            transitions += 1;
        }
        // Each way up has a way down, which takes its time.
        let shortest = surge.levels.iter().map(|level| level.leave_after).min().unwrap();
        let ways_down = now.since(began).as_millis() / shortest.as_millis() + 1;
        assert!(u128::from(transitions) <= 2 * ways_down + count as u128, "seed {seed}");
        assert_eq!(controller.transitions_total(), transitions);
        transitions_of_all += transitions;
    }
    assert!(transitions_of_all > 2_000, "walks that go somewhere: {transitions_of_all}");
}
