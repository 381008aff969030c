//! One process, carried through its life.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use naru_base::Instant;
use rustix::process::Signal;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::confine::Grounds;
use crate::environment::{self, expand};
use crate::guard::{KILL, TERMINATE};
use crate::guarded::{Guarded, Surroundings};
use crate::launch::{End, Report};
use crate::life::{Action, Life, Role, State};
use crate::output::{self, Line, Sink};
use crate::port::{Port, Ports};
use crate::{Instance, Settings, Workload, probe};

/// Who ends sooner ended at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What all slots of a supervisor share.
pub struct Common {
    pub settings: Settings,
    pub sink: Sink,
    pub clock: Clock,
    pub ports: Arc<Ports>,
    pub grounds: Grounds,
}

/// A process of a workload, with its place.
pub struct Slot {
    pub workload: Arc<Workload>,
    pub index: u32,
    pub common: Arc<Common>,
}

/// News of a slot.
pub struct News {
    pub id: u64,
    pub instance: Instance,
}

type Answer = (Instant, Role, bool);

/// A slot while it runs.
struct Run {
    slot: Arc<Slot>,
    life: Life,
    port: Port,
    running: Option<Guarded>,
    started: Instant,
    /// Why there is no process any more, to be told when it is known what comes next.
    ending: Option<String>,
    answers_tx: mpsc::UnboundedSender<Answer>,
}

impl Slot {
    /// `reviews-v1-0`
    pub fn name(&self) -> String {
        format!("{}-{}", self.workload.name, self.index)
    }

    /// Runs until nothing is left of it.
    pub async fn run(
        self,
        id: u64,
        port: Port,
        mut stop_rx: watch::Receiver<bool>,
        news_tx: mpsc::UnboundedSender<News>,
    ) {
        let clock = self.common.clock;
        let settings = &self.common.settings;
        let life = Life::new(clock.now(), &self.workload, settings.lame_duck, settings.backoff);
        let (answers_tx, mut answers_rx) = mpsc::unbounded_channel();
        let (slot, started) = (Arc::new(self), clock.now());
        let mut run = Run { slot, life, port, running: None, started, ending: None, answers_tx };
        let mut is_asked_to_stop = false;
        let mut told = None;
        let mut tell = |run: &Run| {
            let instance = run.instance();
            if told.as_ref() != Some(&instance) {
                // A supervisor that is gone needs no news.
                let _ = news_tx.send(News { id, instance: instance.clone() });
                told = Some(instance);
            }
        };
        loop {
            // Who is called no more is said before it is told to end.
            tell(&run);
            run.act();
            tell(&run);
            if run.life.state() == State::Gone {
                return;
            }
            tokio::select! {
                biased;
                report = report(&mut run.running) => run.hear(report),
                Some((since, role, is_well)) = answers_rx.recv() => {
                    if since >= run.started {
                        run.life.on_answer(clock.now(), role, is_well);
                    }
                }
                changed = stop_rx.changed(), if !is_asked_to_stop => {
                    if changed.is_err() || *stop_rx.borrow() {
                        is_asked_to_stop = true;
                        run.life.stop(clock.now());
                    }
                }
                () = clock.until(run.life.deadline()) => run.life.tick(clock.now()),
            }
        }
    }

    fn tell(&self, text: &str) {
        (self.common.sink)(Line { instance: self.name(), text: text.to_owned(), is_own: true });
    }

    fn around<'a>(&'a self, env: &'a [(String, String)]) -> Surroundings<'a> {
        let settings = &self.common.settings;
        Surroundings {
            launcher: settings.launcher.as_deref(),
            restores_huge_pages: settings.restores_huge_pages,
            env,
            working_dir: self.workload.working_dir.as_deref(),
        }
    }

    fn environment(&self, port: u16) -> Vec<(String, String)> {
        let path_first = self.common.settings.path_first.as_deref();
        environment::of(&self.workload.env, path_first, &self.name(), port)
    }
}

impl Run {
    fn instance(&self) -> Instance {
        Instance {
            workload: self.slot.workload.name.clone(),
            index: self.slot.index,
            address: self.port.address(),
            pid: self.running.as_ref().and_then(Guarded::pid),
            state: self.life.state(),
            is_ready: self.life.is_ready(),
            restarts: self.life.restarts(),
        }
    }

    /// Does what was decided.
    fn act(&mut self) {
        let clock = self.slot.common.clock;
        while let Some(action) = self.life.next_action() {
            match action {
                Action::Start => match self.start() {
                    Ok(started) => {
                        self.running = Some(started);
                        self.started = clock.now();
                    }
                    Err(why) => {
                        self.ending = Some(why);
                        self.exit();
                    }
                },
                Action::Ask(role) => self.ask(role, clock.now()),
                Action::Terminate => self.order(TERMINATE),
                Action::Kill => {
                    let grace = self.slot.workload.grace;
                    self.slot.tell(&format!("it did not end within {grace:?} of SIGTERM: killed"));
                    self.order(KILL);
                }
                Action::TellUnwell(role) => {
                    let which = if role == Role::Startup { "startup" } else { "liveness" };
                    self.slot.tell(&format!("its {which} probe fails: it is ended, and started again"));
                }
            }
        }
    }

    fn order(&self, byte: u8) {
        if let Some(running) = &self.running {
            running.order(byte);
        }
    }

    /// What its guard says.
    fn hear(&mut self, report: Option<Report>) {
        let now = self.slot.common.clock.now();
        match report {
            Some(Report::Started(_)) => {
                self.life.on_started(now);
                self.life.tick(now);
            }
            Some(Report::Refused(why)) => self.ending = Some(why),
            Some(Report::Ended { end, others }) => {
                let is_expected = matches!(self.life.state(), State::Stopping | State::Leaving);
                self.ending = (!is_expected).then(|| self.epitaph(end, others, now));
                self.life.on_ended();
            }
            None => {
                let pid = self.running.take().and_then(|running| running.pid());
                if pid.is_some() {
                    self.ending = Some("its guard was killed, and it with it".to_owned());
                }
                self.exit();
            }
        }
    }

    fn epitaph(&self, end: End, others: usize, now: Instant) -> String {
        let ran = now.since(self.started);
        let when = if ran < AT_ONCE { " at once" } else { "" };
        match end {
            End::Status(0) if others > 0 => format!(
                "it went to the background, where naru cannot see to it; what it left behind is ended. Let \
                 '{}' run in the foreground",
                self.slot.workload.command.join(" ")
            ),
            End::Status(status) => format!("it ended{when}, with status {status}"),
            End::Signal(signal) => {
                let limits = &self.slot.workload.limits;
                let limit = limits.memory_bytes.filter(|_| signal == Signal::KILL.as_raw());
                let hint = limit.map_or(String::new(), |bytes| {
                    format!("; that may be for want of memory: its limit is {bytes} bytes")
                });
                format!("it was ended{when} by {}{hint}", name_of(signal))
            }
        }
    }

    /// Nothing is left of the process.
    fn exit(&mut self) {
        let now = self.slot.common.clock.now();
        self.life.on_exit(now);
        let Some(why) = self.ending.take() else { return };
        let next = match (self.life.state(), self.life.deadline()) {
            (State::BackingOff, Some(then)) => {
                // Somebody reads it: to the second will do.
                format!("; it is started again in {} s", then.since(now).as_secs_f64().ceil())
            }
            (State::Gone, _) => String::new(),
            _ => "; it is started again".to_owned(),
        };
        self.slot.tell(&format!("{why}{next}"));
    }

    fn start(&mut self) -> Result<Guarded, String> {
        let (slot, common) = (&self.slot, &self.slot.common);
        let workload = &slot.workload;
        if !self.port.is_free() {
            let taken = self.port.number();
            self.port = common.ports.take().map_err(|error| error.to_string())?;
            slot.tell(&format!("somebody else listens on port {taken}: its port is {}", self.port.number()));
        }
        let env = slot.environment(self.port.number());
        let words: Vec<String> =
            workload.command.iter().chain(&workload.args).map(|word| expand(word, &env)).collect();
        let working_dir = workload.working_dir.as_deref();
        if let Some(missing) = working_dir.filter(|directory| !directory.is_dir()) {
            return Err(format!("its working directory '{}' is not there", missing.display()));
        }
        find(words.first().ok_or("it has no command")?, working_dir, &env)?;
        let (confinement, notice) = common.grounds.confine(&slot.name(), &workload.limits);
        if let Some(notice) = notice {
            slot.tell(&notice);
        }
        let mut started = Guarded::start(&words, &slot.around(&env), confinement, true)
            .map_err(|error| format!("it cannot be started: {error}"))?;
        let (stdout, stderr) = started.output();
        if let Some(stdout) = stdout {
            tokio::spawn(output::follow(stdout, slot.name(), Arc::clone(&common.sink)));
        }
        if let Some(stderr) = stderr {
            tokio::spawn(output::follow(stderr, slot.name(), Arc::clone(&common.sink)));
        }
        Ok(started)
    }

    fn ask(&self, role: Role, now: Instant) {
        let slot = Arc::clone(&self.slot);
        let answers_tx = self.answers_tx.clone();
        let port = self.port.number();
        tokio::spawn(async move {
            let asked = match role {
                Role::Startup => &slot.workload.startup,
                Role::Readiness => &slot.workload.readiness,
                Role::Liveness => &slot.workload.liveness,
            };
            let is_well = match asked {
                Some(asked) => {
                    let env = slot.environment(port);
                    probe::ask(asked, port, &slot.around(&env)).await
                }
                None => true,
            };
            // The slot may be gone by now.
            let _ = answers_tx.send((now, role, is_well));
        });
    }
}

/// What its guard says; nothing where it is gone.
async fn report(running: &mut Option<Guarded>) -> Option<Report> {
    match running {
        Some(running) => running.next().await,
        None => std::future::pending().await,
    }
}

/// The names of those that end processes which did not expect it.
fn name_of(signal: i32) -> String {
    const NAMES: [(Signal, &str); 11] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::TERM, "SIGTERM"),
    ];
    let known = NAMES.iter().find(|(known, _)| known.as_raw() == signal);
    known.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

/// A command that is not there is told better here than by whoever tries it.
fn find(program: &str, working_dir: Option<&Path>, env: &[(String, String)]) -> Result<(), String> {
    if program.contains('/') {
        let path = working_dir.map_or_else(|| PathBuf::from(program), |directory| directory.join(program));
        return if path.is_file() { Ok(()) } else { Err(format!("there is no '{}'", path.display())) };
    }
    let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    if std::env::split_paths(path).any(|directory| directory.join(program).is_file()) {
        return Ok(());
    }
    Err(format!("the command '{program}' is not found; it was looked for in {path}"))
}
