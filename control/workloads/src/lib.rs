//! Which processes run, and are they well?
//!
//! Comes in: [`Workload`]s. Goes out: processes, the list of those that can be called at each change
//! of it, and what they write. What happens to one process is decided by a machine, [`life::Life`];
//! how many there are, and which give way to newer ones, by [`rollout`]. Everything else carries out.
//!
//! Each process has a [`guard`] beside it, a second process that ends it, and all that it started, when
//! it is told to or when naru is gone, however naru went.
//!
//! Deliberately not here: documents, and who calls a process. Files that naru opened do not reach a
//! process; those that naru was given open by its own parent do, as with any program.
#![forbid(unsafe_code)]

// In reading order: what is asked for, what is decided, how it is carried out.
mod supervisor;
pub mod rollout;
pub mod life;
mod instance;
mod environment;
mod port;
mod probe;
mod confine;
mod guarded;
pub mod launch;
pub mod guard;
mod output;
mod clock;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use life::State;
pub use output::{Line, Sink};
pub use supervisor::Supervisor;

/// What is to run: one container of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub name: String,
    pub replicas: u32,
    pub command: Vec<String>,
    pub args: Vec<String>,
    /// Beside the few that every process is given: `PORT`, `NARU_INSTANCE`, `HOSTNAME`, and some of
    /// naru's own. `$(NAME)` in `command` and `args` stands for any of them.
    pub env: Vec<(String, String)>,
    pub working_dir: Option<PathBuf>,
    pub readiness: Option<Probe>,
    pub liveness: Option<Probe>,
    pub startup: Option<Probe>,
    pub limits: Limits,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu_millis: Option<u32>,
    pub memory_bytes: Option<u64>,
}

/// A question that a process is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub kind: ProbeKind,
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

/// A port of `None` is the process's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    Http { path: String, port: Option<u16>, headers: Vec<(String, String)> },
    Tcp { port: Option<u16> },
    Grpc { port: Option<u16>, service: String },
    Exec { command: Vec<String> },
}

/// How all processes are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A program that calls [`launch::run`] when its first argument is [`launch::WORD`]. Where nothing
    /// is said, the running program is one.
    pub launcher: Option<PathBuf>,
    /// Searched before the rest of `PATH`.
    pub path_first: Option<PathBuf>,
    /// The running program has forbidden itself huge pages, which is inherited; its processes may have them.
    pub restores_huge_pages: bool,
    /// A process that is to end is called no more, and this much later told so.
    pub lame_duck: Duration,
    pub backoff: life::Backoff,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            launcher: None,
            path_first: None,
            restores_huge_pages: false,
            lame_duck: Duration::from_millis(250),
            backoff: life::Backoff::default(),
        }
    }
}

/// A process, or the place of one that will run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub workload: String,
    pub index: u32,
    pub address: SocketAddr,
    pub pid: Option<u32>,
    pub state: State,
    /// Whether it may be called.
    pub is_ready: bool,
    pub restarts: u32,
}
