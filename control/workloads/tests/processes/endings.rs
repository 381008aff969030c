//! How processes end, and that nothing of them stays.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use naru_workloads::Workload;

use crate::world::{FIXTURE, Scratch, World, gone, is_alive, kill, parent_of, pids, script, service, until};

/// Starts one process in its group and one that has left it; each says its number.
const FAMILY: &str = "echo pid $$; sh -c 'echo pid $$; exec sleep 1000' & \
                      setsid sh -c 'echo pid $$; exec sleep 1000' & wait";

#[tokio::test]
async fn a_process_that_is_killed_is_missed_within_a_second_and_replaced() {
    let ready = Scratch::new();
    ready.write();
    let world = World::new();
    world.supervisor.apply(vec![service(&ready)]);
    let first = world.one_ready().await;
    let killed = Instant::now();
    kill(first.pid.unwrap());
    world.only("it may not be called", |one| !one.is_ready).await;
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    let second = world.one_ready().await;
    assert_eq!((second.index, second.address, second.restarts), (0, first.address, 1));
    assert_ne!(second.pid, first.pid);
    world.line("it was ended at once by SIGKILL; it is started again").await;
    until("no zombie stays", || !std::path::Path::new(&format!("/proc/{}", first.pid.unwrap())).exists())
        .await;
    world.stop().await;
}

#[tokio::test]
async fn those_that_do_not_end_on_sigterm_are_killed_all_at_the_same_time() {
    let world = World::new();
    let stubborn = script("trap '' TERM; echo up; while :; do sleep 1000; done");
    let grace = Duration::from_millis(700);
    world.supervisor.apply(vec![Workload { replicas: 4, grace, ..stubborn }]);
    world.lines("up", 4).await;
    let all = world.until("all run", |all| all.iter().filter(|one| one.is_ready).count() == 4).await;
    let asked = Instant::now();
    world.supervisor.stop().await;
    let took = asked.elapsed();
    assert!(took >= grace, "{took:?}");
    assert!(took < 3 * grace, "one after the other: {took:?}");
    gone(&all.iter().map(|one| one.pid.unwrap()).collect::<Vec<_>>()).await;
    world.lines("it did not end within 700ms of SIGTERM: killed", 4).await;
    world.stop().await;
}

#[tokio::test]
async fn sigterm_comes_after_nobody_calls_a_process_any_more() {
    let world = World::new();
    let polite = script("trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.01; done");
    world.supervisor.apply(vec![polite]);
    world.line("up").await;
    world.one_ready().await;
    world.supervisor.apply(Vec::new());
    let leaving = world.until("it may not be called", |all| all.iter().all(|one| !one.is_ready)).await;
    assert!(leaving[0].pid.is_some(), "{leaving:?}");
    assert!(!world.all_lines().iter().any(|line| line.ends_with("told")), "{:?}", world.all_lines());
    world.line("told").await;
    world.stop().await;
}

#[tokio::test]
async fn whatever_a_process_started_ends_with_it_also_outside_its_group() {
    let world = World::new();
    world.supervisor.apply(vec![script(FAMILY)]);
    let family = pids(&world.lines("pid ", 3).await);
    assert!(family.iter().all(|pid| is_alive(*pid)));
    world.stop().await;
    assert!(!family.iter().any(|pid| is_alive(*pid)), "stopping waits for all of them");
}

#[tokio::test]
async fn one_that_goes_to_the_background_is_ended_and_told_to_stay_in_the_foreground() {
    let file = Scratch::new();
    let text = format!(
        "setsid sh -c 'echo pid $$ | tee {0}; exec sleep 1000' & while ! [ -s {0} ]; do sleep 0.01; done",
        file.text()
    );
    let world = World::new();
    world.supervisor.apply(vec![script(&text)]);
    let away = pids(&world.lines("pid ", 1).await);
    world.line("it went to the background, where naru cannot see to it").await;
    gone(&away).await;
    world.stop().await;
}

#[tokio::test]
async fn nothing_outlives_a_supervisor_that_is_killed() {
    let mut naru = Command::new(FIXTURE).args(["supervise", FAMILY]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(naru.stdout.take().unwrap()).lines();
    let texts: Vec<String> = lines.take(3).map(|line| line.unwrap().replace("pid ", "")).collect();
    let mut family = pids(&texts);
    family.push(parent_of(family[0]));
    assert!(family.iter().all(|pid| is_alive(*pid)));
    naru.kill().unwrap();
    naru.wait().unwrap();
    gone(&family).await;
}

#[tokio::test]
async fn a_process_whose_guard_is_killed_ends_and_is_replaced() {
    let world = World::new();
    world.supervisor.apply(vec![script("exec sleep 1000")]);
    let first = world.one_ready().await;
    let pid = first.pid.unwrap();
    let guard = parent_of(pid);
    assert_eq!(parent_of(guard), std::process::id());
    kill(guard);
    world.line("its guard was killed, and it with it; it is started again").await;
    gone(&[pid, guard]).await;
    world.only("another runs", |one| one.is_ready && one.pid != Some(pid)).await;
    world.stop().await;
}

#[tokio::test]
async fn a_supervisor_that_is_dropped_ends_its_processes() {
    let world = World::new();
    world.supervisor.apply(vec![Workload {
        grace: Duration::from_millis(100),
        ..script("trap '' TERM; echo pid $$; while :; do sleep 1000; done")
    }]);
    let family = pids(&world.lines("pid ", 1).await);
    world.one_ready().await;
    drop(world);
    gone(&family).await;
}

#[tokio::test]
async fn one_that_is_stopped_while_it_rests_is_gone_at_once() {
    let mut settings = crate::world::settings();
    settings.backoff.first = Duration::from_secs(300);
    settings.backoff.max = Duration::from_secs(300);
    let world = World::with(settings);
    world.supervisor.apply(vec![script("exit 1")]);
    world.line("it is started again in 300 s").await;
    world.only("it rests", |one| one.state == naru_workloads::State::BackingOff).await;
    world.stop().await;
}
