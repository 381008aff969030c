//! Limits hold, whichever way they can be set here.

use naru_workloads::{Limits, Workload};

use crate::world::{World, script, workload};

#[tokio::test]
async fn a_process_has_no_more_memory_than_its_limit() {
    let world = World::new();
    let limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(500) };
    let greedy = "print('begins', flush=True); x = bytearray(256 << 20); print('had it all', flush=True)";
    world.supervisor.apply(vec![Workload { limits, ..workload("greedy", ["python3", "-c", greedy]) }]);
    world.lines("begins", 2).await;
    let how = world.line("; it is started again").await;
    let lines = world.all_lines();
    assert!(!lines.iter().any(|line| line.contains("had it all")), "{how} {lines:?}");
    let notices = lines.iter().filter(|line| line.contains("no control group can be made here")).count();
    assert!(notices <= 1, "{lines:?}");
    let is_killed = lines.iter().any(|line| line.contains("its limit is 67108864 bytes"));
    let is_refused = lines.iter().any(|line| line.contains("MemoryError"));
    assert!(is_killed || (is_refused && notices == 1), "{lines:?}");
    world.stop().await;
}

#[tokio::test]
async fn groups_go_with_their_processes() {
    let world = World::new();
    let limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(500) };
    world
        .supervisor
        .apply(vec![Workload { limits, ..script("cat /proc/self/cgroup; echo up; exec sleep 1000") }]);
    world.line("up").await;
    let mine = format!("naru-{}-script-0", std::process::id());
    let is_told = world.all_lines().iter().any(|line| line.contains("no control group can be made here"));
    let is_inside = world.all_lines().iter().any(|line| line.contains(&mine));
    assert!(is_inside != is_told, "{:?}", world.all_lines());
    let groups: Vec<String> =
        world.all_lines().iter().filter_map(|line| Some(line.split_once(":/")?.1.to_owned())).collect();
    world.stop().await;
    for group in groups.iter().filter(|group| group.contains(&mine)) {
        for controller in ["", "memory", "cpu"] {
            let path = std::path::Path::new("/sys/fs/cgroup").join(controller).join(group);
            assert!(!path.exists(), "{}", path.display());
        }
    }
}
