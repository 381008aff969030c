//! A supervisor whose list and lines can be waited for.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use naru_workloads::{Instance, Limits, Line, Probe, ProbeKind, Settings, Sink, Supervisor, Workload, life};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

pub const FIXTURE: &str = env!("CARGO_BIN_EXE_workloads-fixture");

/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    pub supervisor: Supervisor,
    pub instances: watch::Receiver<Arc<[Instance]>>,
    lines: watch::Receiver<Vec<Line>>,
}

impl World {
    pub fn new() -> World {
        World::with(settings())
    }

    pub fn with(settings: Settings) -> World {
        let (lines_tx, lines) = watch::channel(Vec::new());
        let sink: Sink = Arc::new(move |line| lines_tx.send_modify(|lines: &mut Vec<Line>| lines.push(line)));
        World::into(settings, sink, lines)
    }

    pub fn into(settings: Settings, sink: Sink, lines: watch::Receiver<Vec<Line>>) -> World {
        let supervisor = Supervisor::start(settings, sink);
        World { instances: supervisor.watch(), supervisor, lines }
    }

    /// Waits until the list is as expected, and hands it out.
    pub async fn until(&self, what: &str, is: impl Fn(&[Instance]) -> bool) -> Vec<Instance> {
        let mut instances = self.instances.clone();
        let wait = instances.wait_for(|instances| is(instances));
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found.expect("the supervisor is there").to_vec(),
            Err(_) => panic!("{what}: {:?} {:?}", self.instances.borrow(), self.all_lines()),
        }
    }

    /// Waits until there is one process, and it is as expected.
    pub async fn only(&self, what: &str, is: impl Fn(&Instance) -> bool) -> Instance {
        self.until(what, |all| matches!(all, [one] if is(one))).await.remove(0)
    }

    /// Waits for one process that can be called, and nothing else.
    pub async fn one_ready(&self) -> Instance {
        self.only("one is ready", |one| one.is_ready).await
    }

    /// Waits for a line that has this in it, and says what stands behind it.
    pub async fn line(&self, with: &str) -> String {
        self.lines(with, 1).await.remove(0)
    }

    pub async fn lines(&self, with: &str, count: usize) -> Vec<String> {
        let rests = |lines: &Vec<Line>| -> Vec<String> {
            let rest = |line: &Line| line.text.split_once(with).map(|(_, rest)| rest.trim().to_owned());
            lines.iter().filter_map(rest).collect()
        };
        let mut told = self.lines.clone();
        let wait = told.wait_for(|lines| rests(lines).len() >= count);
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => rests(&found.expect("the supervisor is there")),
            Err(_) => panic!("no '{with}': {:?}", self.all_lines()),
        }
    }

    pub fn all_lines(&self) -> Vec<String> {
        self.lines.borrow().iter().map(|line| format!("{} | {}", line.instance, line.text)).collect()
    }

    /// Ends all, and sees that nothing is left.
    pub async fn stop(self) {
        tokio::time::timeout(PATIENCE, self.supervisor.stop()).await.expect("stopping ends");
        self.until("all are gone", <[Instance]>::is_empty).await;
        until("no zombie stays", || children_of(std::process::id()).is_empty()).await;
    }
}

/// Rests are short, so that many fit into a test.
pub fn settings() -> Settings {
    Settings {
        launcher: Some(PathBuf::from(FIXTURE)),
        lame_duck: Duration::from_millis(50),
        backoff: life::Backoff {
            first: Duration::from_millis(50),
            max: Duration::from_millis(200),
            reset_after: Duration::from_secs(600),
        },
        ..Settings::default()
    }
}

pub fn workload<const N: usize>(name: &str, command: [&str; N]) -> Workload {
    Workload {
        name: name.to_owned(),
        replicas: 1,
        command: command.map(str::to_owned).into(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        readiness: None,
        liveness: None,
        startup: None,
        limits: Limits::default(),
        grace: Duration::from_secs(10),
    }
}

pub fn script(text: &str) -> Workload {
    // In a command, two dollars stand for one.
    workload("script", ["sh", "-c", &text.replace("$$", "$$$$")])
}

/// The fixture's service, ready while the file is there.
pub fn service(ready: &Scratch) -> Workload {
    Workload { readiness: Some(http(ready)), ..workload("service", [FIXTURE, "serve"]) }
}

pub fn http(file: &Scratch) -> Probe {
    probe(ProbeKind::Http { path: file.text(), port: None, headers: Vec::new() })
}

pub fn probe(kind: ProbeKind) -> Probe {
    Probe {
        kind,
        initial_delay: Duration::ZERO,
        period: Duration::from_millis(50),
        timeout: Duration::from_secs(5),
        success_threshold: 1,
        failure_threshold: 1,
    }
}

/// A path of one test, removed with it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Scratch(std::env::temp_dir().join(format!("naru-workloads-{}-{number}", std::process::id())))
    }

    pub fn write(&self) {
        std::fs::write(&self.0, "").expect("a temporary file");
    }

    pub fn remove(&self) {
        std::fs::remove_file(&self.0).expect("it is there");
    }

    pub fn text(&self) -> String {
        self.0.to_str().expect("our names are text").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Waits for a condition of which nobody tells.
pub async fn until(what: &str, is: impl Fn() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

/// Whether a process is there and does anything.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state.as_str(), "Z" | "X"))
}

pub async fn gone(pids: &[u32]) {
    until(&format!("{pids:?} are gone"), || !pids.iter().any(|pid| is_alive(*pid))).await;
}

pub fn parent_of(pid: u32) -> u32 {
    stat(pid).expect("it is there").1
}

/// Dead or alive.
pub fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("Linux").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// The state of a process, and its parent.
fn stat(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

pub fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a number")).expect("not zero");
    kill_process(pid, Signal::KILL).expect("it is there");
}

pub fn pids(texts: &[String]) -> Vec<u32> {
    texts.iter().map(|text| text.parse().expect("a number")).collect()
}
