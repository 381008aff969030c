//! What a process is given, and what is said of one that cannot be.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use naru_workloads::{Line, Workload};
use tokio::sync::watch;

use crate::world::{FIXTURE, Scratch, World, gone, script, settings, workload};

#[tokio::test]
async fn a_process_is_given_its_port_its_name_and_what_its_workload_says() {
    let world = World::new();
    let mut asked = script(
        "echo \"$1 $PORT $NARU_INSTANCE $HOSTNAME $A ${CARGO_MANIFEST_DIR-none} $PWD\"; exec sleep 1000",
    );
    asked.args = ["x", "port=$(PORT)"].map(str::to_owned).into();
    asked.env = vec![("A".to_owned(), "1".to_owned()), ("PORT".to_owned(), "80".to_owned())];
    asked.working_dir = Some(PathBuf::from("/"));
    world.supervisor.apply(vec![asked]);
    let port = world.one_ready().await.address.port();
    let line = world.line("port=").await;
    assert_eq!(line, format!("{port} {port} script-0 script-0 1 none /"));
    world.stop().await;
}

#[tokio::test]
async fn lines_of_both_outputs_are_told_with_the_name_of_their_process() {
    let world = World::new();
    world
        .supervisor
        .apply(vec![Workload { replicas: 2, ..script("echo out; echo err >&2; exec sleep 1000") }]);
    world.lines("out", 2).await;
    world.lines("err", 2).await;
    let mut lines = world.all_lines();
    lines.sort();
    assert_eq!(lines, ["script-0 | err", "script-0 | out", "script-1 | err", "script-1 | out"]);
    world.stop().await;
}

#[tokio::test]
async fn files_that_are_open_here_are_not_open_there() {
    let file = Scratch::new();
    file.write();
    let _open = std::fs::File::open(&file.0).unwrap();
    let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = World::new();
    world.supervisor.apply(vec![workload("files", [FIXTURE, "files"])]);
    world.line("files end").await;
    let lines = world.all_lines();
    assert!(lines.iter().any(|line| line.ends_with("file /dev/null")), "its input: {lines:?}");
    assert!(!lines.iter().any(|line| line.contains(&file.text()) || line.contains("socket:")), "{lines:?}");
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let plain = Scratch::new();
    plain.write();
    let lost = Scratch::new();
    std::fs::write(&lost.0, "#!/none/such\n").unwrap();
    std::fs::set_permissions(&lost.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let nowhere = Workload { working_dir: Some(PathBuf::from("/none")), ..script("true") };
    let cases = [
        (workload("script", ["none-such"]), "the command 'none-such' is not found; it was looked for in /"),
        (workload("script", ["/none/such"]), "there is no '/none/such'"),
        (workload("script", [&plain.text()]), "may not be executed: Permission denied"),
        (workload("script", [&lost.text()]), "what it names as its interpreter is not there"),
        (nowhere, "its working directory '/none' is not there"),
        (workload("script", []), "it has no command"),
    ];
    for (asked, expected) in cases {
        let world = World::new();
        world.supervisor.apply(vec![asked]);
        world.lines(expected, 2).await;
        world.line("; it is started again in ").await;
        assert!(world.instances.borrow().iter().all(|one| !one.is_ready && one.pid.is_none()), "{expected}");
        world.stop().await;
    }
}

#[tokio::test]
async fn one_that_ends_at_once_is_said_to_and_rests_longer_each_time() {
    let world = World::new();
    world.supervisor.apply(vec![script("exit 3")]);
    world.lines("it ended at once, with status 3; it is started again", 4).await;
    world.only("it is started again", |one| one.restarts >= 3).await;
    world.stop().await;
}

#[tokio::test]
async fn a_flood_is_told_in_pieces_and_kept_nowhere() {
    let (lines_tx, lines) = watch::channel(Vec::new());
    let (bytes, longest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, most) = (Arc::clone(&bytes), Arc::clone(&longest));
    let sink = Arc::new(move |line: Line| {
        count.fetch_add(line.text.len(), Ordering::Relaxed);
        most.fetch_max(line.text.len(), Ordering::Relaxed);
        if line.text.len() < 100 {
            lines_tx.send_modify(|lines: &mut Vec<Line>| lines.push(line));
        }
    });
    let before = resident_kb();
    let world = World::into(settings(), sink, lines);
    // 200 MB without an end of a line, which is no text either.
    world.supervisor.apply(vec![script("head -c 200000000 /dev/zero; echo; echo done; exec sleep 1000")]);
    world.line("done").await;
    assert!(bytes.load(Ordering::Relaxed) >= 200_000_000);
    assert!(longest.load(Ordering::Relaxed) <= 8 * 1024);
    assert!(resident_kb() < before + 50_000, "{before} kB, then {} kB", resident_kb());
    let pid = world.one_ready().await.pid.unwrap();
    world.stop().await;
    gone(&[pid]).await;
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux");
    line.split_whitespace().nth(1).expect("Linux").parse().expect("Linux")
}
