//! One process, carried through its life.

use std::io;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use naru_base::Instant;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::group::Groups;
use crate::life::{Action, Life, Role, State};
use crate::output::{self, Line, Sink};
use crate::{Instance, Settings, Workload, launch, probe};

/// Names that every process is given from the supervisor's own environment.
const INHERITED: [&str; 8] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "TMPDIR", "TERM"];

/// A process of a workload, with its place.
pub struct Slot {
    pub workload: Arc<Workload>,
    pub index: u32,
    pub address: SocketAddr,
    pub settings: Arc<Settings>,
    pub sink: Sink,
    pub clock: Clock,
}

/// What the supervisor knows of a running slot.
pub struct Handle {
    pub workload: Arc<Workload>,
    pub index: u32,
    pub stop_tx: watch::Sender<bool>,
    pub seen: Instance,
    pub id: u64,
}

/// News of a slot.
pub struct News {
    pub id: u64,
    pub instance: Instance,
}

struct Running {
    child: Child,
    pid: Option<Pid>,
    _groups: Groups,
}

impl Slot {
    pub fn name(&self) -> String {
        format!("{}-{}", self.workload.name, self.index)
    }

    pub fn instance(&self, life: &Life, pid: Option<u32>) -> Instance {
        Instance {
            workload: self.workload.name.clone(),
            index: self.index,
            address: self.address,
            pid,
            state: life.state(),
            is_ready: life.is_ready(),
            restarts: life.restarts(),
        }
    }

    /// Runs until nothing is left of it.
    pub async fn run(
        self,
        id: u64,
        mut stop_rx: watch::Receiver<bool>,
        news_tx: mpsc::UnboundedSender<News>,
    ) {
        let slot = Arc::new(self);
        let now = || slot.clock.now();
        let mut life = Life::new(now(), &slot.workload, slot.settings.lame_duck, slot.settings.backoff);
        let (answers_tx, mut answers_rx) = mpsc::unbounded_channel::<(Instant, Role, bool)>();
        let mut running: Option<Running> = None;
        let mut asked_since = now();
        let mut told = None;
        loop {
            while let Some(action) = life.next_action() {
                match action {
                    Action::Start => match slot.start() {
                        Ok(started) => {
                            running = Some(started);
                            asked_since = now();
                            life.on_started(now());
                            life.tick(now());
                        }
                        Err(error) => {
                            slot.tell(&error);
                            life.on_exit(now());
                        }
                    },
                    Action::Ask(role) => slot.ask(role, now(), &answers_tx),
                    Action::Terminate => signal(running.as_ref(), Signal::TERM),
                    Action::Kill => {
                        slot.tell(&format!(
                            "it does not end on SIGTERM within {:?}: killed",
                            slot.workload.grace
                        ));
                        signal(running.as_ref(), Signal::KILL);
                    }
                    Action::TellUnwell(role) => {
                        let which = if role == Role::Startup { "startup" } else { "liveness" };
                        slot.tell(&format!("its {which} probe fails: it is ended, and started again"));
                    }
                }
            }
            let pid = running.as_ref().and_then(|running| running.child.id());
            let instance = slot.instance(&life, pid);
            if told.as_ref() != Some(&instance) {
                // A supervisor that is gone needs no news.
                let _ = news_tx.send(News { id, instance: instance.clone() });
                told = Some(instance);
            }
            if life.state() == State::Gone {
                return;
            }
            tokio::select! {
                biased;
                status = exited(&mut running) => {
                    signal(running.as_ref(), Signal::KILL);
                    running = None;
                    slot.tell_exit(&life, status);
                    life.on_exit(now());
                }
                Some((since, role, is_well)) = answers_rx.recv() => {
                    if since >= asked_since {
                        life.on_answer(now(), role, is_well);
                    }
                }
                changed = stop_rx.changed() => {
                    if changed.is_err() || *stop_rx.borrow() {
                        life.stop(now());
                    }
                }
                () = slot.clock.until(life.deadline()) => life.tick(now()),
            }
        }
    }

    fn tell(&self, text: &str) {
        (self.sink)(Line { instance: self.name(), text: text.to_owned(), is_own: true });
    }

    fn tell_exit(&self, life: &Life, status: io::Result<ExitStatus>) {
        if matches!(life.state(), State::Stopping | State::Leaving) {
            return;
        }
        let how = match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        self.tell(&format!("it ended ({how}), and is started again"));
    }

    /// What it is given, in full.
    fn environment(&self) -> Vec<(String, String)> {
        let mut env: Vec<(String, String)> = Vec::new();
        for name in INHERITED {
            if let Ok(value) = std::env::var(name) {
                env.push((name.to_owned(), value));
            }
        }
        if let Some(first) = &self.settings.path_first {
            let rest = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
            let path = format!("{}:{rest}", first.display());
            env.retain(|(name, _)| name != "PATH");
            env.push(("PATH".to_owned(), path));
        }
        env.push(("PORT".to_owned(), self.address.port().to_string()));
        env.push(("NARU_INSTANCE".to_owned(), self.name()));
        env.push(("HOSTNAME".to_owned(), self.name()));
        for (name, value) in &self.workload.env {
            env.retain(|(known, _)| known != name);
            env.push((name.clone(), value.clone()));
        }
        env
    }

    fn start(&self) -> Result<Running, String> {
        let env = self.environment();
        let program = self.workload.command.first().ok_or("it has no command")?;
        self.check_program(program, &env)?;
        let groups = Groups::make(&self.name(), &self.workload.limits).unwrap_or_else(|error| {
            self.tell(&format!("it runs without its limits: no control group can be made ({error})"));
            Groups::default()
        });
        let words = self.workload.command.iter().chain(&self.workload.args);
        let mut command = match &self.settings.launcher {
            Some(launcher) => {
                let mut command = Command::new(launcher);
                let paths = std::env::join_paths(groups.paths()).unwrap_or_default();
                command.arg(launch::WORD).arg(std::process::id().to_string()).arg(paths).arg("--");
                command.args(words);
                command
            }
            None => {
                let mut command = Command::new(program);
                command.args(words.skip(1));
                command
            }
        };
        command.env_clear().envs(env);
        if let Some(directory) = &self.workload.working_dir {
            command.current_dir(directory);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own group, so that all that it starts can be ended with it.
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("'{program}' cannot be started: {error}"))?;
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(output::follow(stdout, self.name(), Arc::clone(&self.sink)));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(output::follow(stderr, self.name(), Arc::clone(&self.sink)));
        }
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Running { child, pid, _groups: groups })
    }

    /// A command that is not there is told better here than by whoever tries it.
    fn check_program(&self, program: &str, env: &[(String, String)]) -> Result<(), String> {
        if program.contains('/') {
            let base = self.workload.working_dir.clone().unwrap_or_default();
            let path = base.join(program);
            return if path.exists() { Ok(()) } else { Err(format!("there is no '{}'", path.display())) };
        }
        let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
        if std::env::split_paths(path).any(|directory| directory.join(program).exists()) {
            return Ok(());
        }
        Err(format!("the command '{program}' is not found; it was looked for in {path}"))
    }

    fn ask(
        self: &Arc<Slot>,
        role: Role,
        now: Instant,
        answers_tx: &mpsc::UnboundedSender<(Instant, Role, bool)>,
    ) {
        let slot = Arc::clone(self);
        let answers_tx = answers_tx.clone();
        tokio::spawn(async move {
            let asked = match role {
                Role::Startup => &slot.workload.startup,
                Role::Readiness => &slot.workload.readiness,
                Role::Liveness => &slot.workload.liveness,
            };
            let is_well = match asked {
                Some(asked) => probe::ask(asked, slot.address.port(), &slot.environment()).await,
                None => true,
            };
            // The slot may be gone by now.
            let _ = answers_tx.send((now, role, is_well));
        });
    }
}

/// To it and all that it started.
fn signal(running: Option<&Running>, signal: Signal) {
    if let Some(pid) = running.and_then(|running| running.pid) {
        // A group that is gone hears nothing.
        let _ = kill_process_group(pid, signal);
    }
}

async fn exited(running: &mut Option<Running>) -> io::Result<ExitStatus> {
    match running {
        Some(running) => running.child.wait().await,
        None => std::future::pending().await,
    }
}
