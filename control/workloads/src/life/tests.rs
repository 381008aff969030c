//! The rows of the table, and walks through it.

use naru_base::Chance;

use super::*;
use crate::{Limits, ProbeKind};

fn probe(period: u64, failure_threshold: u32) -> Probe {
    Probe {
        kind: ProbeKind::Tcp { port: None },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(period),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold,
    }
}

fn workload() -> Workload {
    Workload {
        name: "a".to_owned(),
        replicas: 1,
        command: vec!["a".to_owned()],
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        readiness: None,
        liveness: None,
        startup: None,
        limits: Limits::default(),
        grace: Duration::from_secs(30),
    }
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn life(workload: &Workload) -> Life {
    Life::new(at(0), workload, Duration::from_millis(250), Backoff::default())
}

fn actions(life: &mut Life) -> Vec<Action> {
    std::iter::from_fn(|| life.next_action()).collect()
}

#[test]
fn it_is_ready_when_its_probe_says_so_and_not_when_it_does_not() {
    let mut life = life(&Workload { readiness: Some(probe(1, 2)), ..workload() });
    assert_eq!(actions(&mut life), [Action::Start]);
    life.on_started(at(0));
    assert_eq!(life.state(), State::Unready);
    life.tick(at(0));
    assert_eq!(actions(&mut life), [Action::Ask(Role::Readiness)]);
    life.on_answer(at(10), Role::Readiness, true);
    assert!(life.is_ready());
    assert_eq!(life.deadline(), Some(at(1_000)));
    for (moment, is_ready) in [(1_000, true), (2_000, false)] {
        life.tick(at(moment));
        assert_eq!(actions(&mut life), [Action::Ask(Role::Readiness)]);
        life.on_answer(at(moment), Role::Readiness, false);
        assert_eq!(life.is_ready(), is_ready);
    }
}

#[test]
fn it_rests_longer_each_time_it_ends() {
    let mut life = life(&workload());
    let mut now = 0;
    let mut rests = Vec::new();
    for _ in 0..8 {
        assert_eq!(actions(&mut life), [Action::Start]);
        life.on_started(at(now));
        life.on_exit(at(now));
        let next = life.deadline().map_or(now, |next| next.0 / 1_000_000);
        rests.push((next - now) / 1_000);
        now = next;
        life.tick(at(now));
    }
    assert_eq!(rests, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(life.restarts(), 8);
    life.on_started(at(now));
    life.on_exit(at(now + 600_000));
    assert_eq!(life.state(), State::Starting, "it ran long: it is started at once");
}

#[test]
fn it_is_told_to_end_after_nobody_calls_it_and_killed_when_it_does_not() {
    let mut life = life(&workload());
    actions(&mut life);
    life.on_started(at(0));
    assert!(life.is_ready());
    life.stop(at(100));
    assert_eq!((life.state(), life.is_ready()), (State::Leaving, false));
    assert_eq!(life.deadline(), Some(at(350)));
    life.tick(at(350));
    assert_eq!(actions(&mut life), [Action::Terminate]);
    life.tick(at(30_349));
    assert_eq!(actions(&mut life), []);
    life.tick(at(30_350));
    assert_eq!(actions(&mut life), [Action::Kill]);
    life.on_exit(at(30_351));
    assert_eq!((life.state(), life.deadline()), (State::Gone, None));
}

#[test]
fn one_that_is_unwell_is_ended_and_started_again() {
    let mut life = life(&Workload { startup: Some(probe(1, 3)), liveness: Some(probe(1, 1)), ..workload() });
    actions(&mut life);
    life.on_started(at(0));
    life.tick(at(0));
    assert_eq!(actions(&mut life), [Action::Ask(Role::Startup)], "others wait for it");
    life.on_answer(at(0), Role::Startup, true);
    assert!(life.is_ready());
    life.tick(at(0));
    assert_eq!(actions(&mut life), [Action::Ask(Role::Liveness)]);
    life.on_answer(at(5), Role::Liveness, false);
    assert_eq!(actions(&mut life), [Action::TellUnwell(Role::Liveness)]);
    assert_eq!((life.state(), life.deadline()), (State::Leaving, Some(at(255))), "others may still come");
    life.tick(at(255));
    assert_eq!(actions(&mut life), [Action::Terminate]);
    life.on_exit(at(260));
    assert_eq!(actions(&mut life), [Action::Start]);
}

#[test]
fn one_that_was_not_ready_yet_is_asked_often_and_later_as_its_probe_says() {
    let mut life = life(&Workload { readiness: Some(probe(10, 1)), ..workload() });
    actions(&mut life);
    life.on_started(at(0));
    // From question to question, however long the answer takes.
    for (moment, answered, is_well, next) in [
        (0, 40, false, 250),
        (250, 300, false, 500),
        (500, 500, true, 10_500),
        (10_500, 10_501, false, 20_500),
    ] {
        life.tick(at(moment));
        assert_eq!(actions(&mut life), [Action::Ask(Role::Readiness)]);
        life.tick(at(answered));
        assert_eq!(actions(&mut life), [], "no probe overlaps itself");
        life.on_answer(at(answered), Role::Readiness, is_well);
        assert_eq!(life.deadline(), Some(at(next)));
    }
    assert!(!life.is_ready());
}

#[test]
fn delays_are_counted_from_the_start_also_behind_a_startup_probe() {
    let delayed = Probe { initial_delay: Duration::from_secs(5), ..probe(10, 3) };
    let mut life = life(&Workload { startup: Some(probe(1, 30)), liveness: Some(delayed), ..workload() });
    actions(&mut life);
    life.on_started(at(0));
    life.tick(at(0));
    life.on_answer(at(2_000), Role::Startup, true);
    assert_eq!(life.deadline(), Some(at(5_000)));
}

#[test]
fn one_that_ended_is_called_no_more_before_all_of_it_is_gone() {
    let mut life = life(&Workload { liveness: Some(probe(1, 1)), ..workload() });
    actions(&mut life);
    life.on_started(at(0));
    assert!(life.is_ready());
    life.on_ended();
    assert_eq!((life.state(), life.deadline()), (State::Stopping, None));
    assert_eq!(actions(&mut life), []);
    life.on_exit(at(100));
    assert_eq!((life.state(), actions(&mut life)), (State::Starting, vec![Action::Start]));
}

#[test]
fn an_answer_about_a_process_before_this_one_means_nothing() {
    let mut life = life(&Workload { liveness: Some(probe(1, 1)), ..workload() });
    actions(&mut life);
    life.on_started(at(0));
    life.tick(at(0));
    life.on_exit(at(10));
    life.on_started(at(10));
    life.on_answer(at(20), Role::Liveness, false);
    assert!(life.is_ready());
}

#[test]
fn one_that_is_stopped_while_it_rests_or_starts_is_gone() {
    let mut resting = life(&workload());
    actions(&mut resting);
    for _ in 0..2 {
        resting.on_exit(at(0));
    }
    assert_eq!(resting.state(), State::BackingOff);
    resting.stop(at(1));
    assert_eq!((resting.state(), resting.deadline()), (State::Gone, None));

    let mut new = life(&workload());
    new.stop(at(0));
    assert_eq!((new.state(), actions(&mut new)), (State::Gone, vec![]), "it was not started yet");

    let mut starting = life(&workload());
    actions(&mut starting);
    starting.stop(at(0));
    assert_eq!((starting.state(), actions(&mut starting)), (State::Stopping, vec![Action::Terminate]));
    starting.on_started(at(1));
    assert_eq!(starting.state(), State::Stopping);
    starting.on_exit(at(2));
    assert_eq!(starting.state(), State::Gone);
}

/// A process that does anything at any time, under a life that must always be right.
#[test]
fn whatever_happens_it_is_called_only_while_it_runs_and_ends_when_asked() {
    let only = std::env::var("NARU_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..256, |seed| seed..seed + 1) {
        walk(seed);
    }
}

fn walk(seed: u64) {
    let mut chance = Chance::split(seed, "life");
    let mut asked = Workload { grace: Duration::from_secs(5), ..workload() };
    let mut some = |period, failures| (chance.below(2) == 0).then(|| probe(period, failures));
    (asked.readiness, asked.liveness, asked.startup) = (some(1, 2), some(2, 1), some(1, 3));
    let mut life = life(&asked);
    // What is true of the process: it may hang in its start, run, or have left others behind.
    let (mut now, mut process, mut is_running) = (0_u64, false, false);
    let mut awaited: Vec<Role> = Vec::new();
    let (mut rest_before, mut started, mut was_told, mut was_killed) = (0, 0, false, false);
    let stop_at = 50 + chance.below(200);
    for step in 0..2_000 {
        let place = format!("seed {seed}, step {step}");
        if step == stop_at {
            life.stop(at(now));
            assert!(!life.is_ready(), "{place}");
        }
        while let Some(action) = life.next_action() {
            match action {
                Action::Start => {
                    assert!(!process, "{place}: a second process");
                    assert!(step <= stop_at, "{place}: started after it was stopped");
                    (was_told, was_killed, started) = (false, false, now);
                    match chance.below(10) {
                        0 => life.on_exit(at(now)),
                        // It takes a while.
                        1 => process = true,
                        _ => {
                            (process, is_running) = (true, true);
                            life.on_started(at(now));
                        }
                    }
                }
                Action::Ask(role) => {
                    assert!(is_running, "{place}: nobody is there to be asked");
                    assert!(!awaited.contains(&role), "{place}: {role:?} overlaps itself");
                    awaited.push(role);
                }
                Action::Terminate => {
                    assert!(process && !was_told, "{place}: told twice, or nobody");
                    was_told = true;
                }
                Action::Kill => {
                    assert!(was_told && !was_killed, "{place}: killed before it was told, or twice");
                    was_killed = true;
                }
                Action::TellUnwell(_) => {
                    let is_going = matches!(life.state(), State::Leaving | State::Stopping);
                    assert!(is_going, "{place}: {life:?}");
                }
            }
        }
        assert_eq!(life.check_invariants(), Ok(()), "{place}: {life:?}");
        assert!(is_running || !life.is_ready(), "{place}");
        assert!(process || life.state() != State::Stopping, "{place}: {life:?}");
        // A process that was told to end does so in half of all cases; one that was killed does.
        let ends = was_killed || (was_told && chance.below(4) == 0) || chance.below(40) == 0;
        match chance.below(4) {
            0 if process && ends => {
                if is_running && chance.below(2) == 0 {
                    is_running = false;
                    awaited.clear();
                    life.on_ended();
                    continue;
                }
                (process, is_running) = (false, false);
                awaited.clear();
                life.on_exit(at(now));
                if life.state() == State::BackingOff {
                    let rest = life.deadline().map_or(0, |next| next.0 / 1_000_000 - now);
                    let has_run_long = now - started >= 600_000;
                    assert!(rest <= 300_000, "{place}: {rest}");
                    assert!(rest >= rest_before || has_run_long, "{place}: {rest_before}, then {rest}");
                    rest_before = rest;
                } else if now - started >= 600_000 {
                    rest_before = 0;
                }
            }
            1 if !awaited.is_empty() => {
                let role = awaited.swap_remove(chance.below(awaited.len() as u64) as usize);
                life.on_answer(at(now), role, chance.below(3) > 0);
            }
            2 if process && !is_running && life.state() == State::Starting => {
                is_running = true;
                life.on_started(at(now));
            }
            _ => {
                let next = life.deadline().map_or(now + 100, |next| next.0.div_ceil(1_000_000));
                now = if chance.below(3) == 0 { now + chance.below(500) } else { next.max(now) };
                life.tick(at(now));
                if !matches!(life.state(), State::Unready | State::Ready) {
                    awaited.clear();
                }
            }
        }
        if !matches!(life.state(), State::Unready | State::Ready) {
            awaited.clear();
        }
    }
    assert_eq!(life.state(), State::Gone, "seed {seed}: it was stopped long ago: {life:?}");
    assert!(!process, "seed {seed}");
}
