//! The thread that looks at the load, and whoever tells it what to look for.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use naru_base::Instant;
use naru_spec::{Surge, SurgeSignal};
use naru_surge::{Controller, Counts, Gauges, Meter, Transition};

use super::{Level, SurgeOrder, SurgeStatus};
use crate::board::Board;
use crate::clock::Origin;
use crate::strain::Machine;
use crate::worker::Message;

/// A worker that does not answer within this time has had nothing.
const PULSE_TIME_MAX: Duration = Duration::from_millis(250);

/// Whoever has the thread, once there is something to look at.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    thread: Mutex<Option<Thread>>,
}

#[derive(Debug)]
struct Shared {
    origin: Origin,
    board: Weak<Board>,
    level: Arc<Level>,
    controller: Mutex<Option<Controller>>,
}

/// It ends once nobody can tell it anything any more.
#[derive(Debug)]
struct Thread {
    /// What to look for from now on.
    settings_tx: Sender<Option<Surge>>,
    handle: JoinHandle<()>,
}

impl Watch {
    pub fn new(origin: Origin, board: &Arc<Board>, level: &Arc<Level>) -> Watch {
        let shared = Shared {
            origin,
            board: Arc::downgrade(board),
            level: Arc::clone(level),
            controller: Mutex::default(),
        };
        Watch { shared: Arc::new(shared), thread: Mutex::default() }
    }

    /// From now on it is this that is looked at; without anything all is as it is else at once.
    pub fn set(&self, surge: Option<&Surge>) {
        self.shared.configure(surge);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() && surge.is_some() {
            let (settings_tx, settings_rx) = channel();
            let shared = Arc::clone(&self.shared);
            let named = std::thread::Builder::new().name("naru-surge".to_owned());
            let spawned = named.spawn(move || watch(&shared, &settings_rx));
            // Where no thread is to be had, nothing is given up: the proxy itself goes on.
            *thread = spawned.ok().map(|handle| Thread { settings_tx, handle });
        }
        if let Some(Thread { settings_tx, .. }) = &*thread {
            // One that has ended looks at nothing.
            let _ = settings_tx.send(surge.cloned());
        }
    }

    pub fn status(&self) -> Option<SurgeStatus> {
        let now = self.shared.origin.elapsed();
        self.shared.controller().as_ref().map(|controller| SurgeStatus::of(controller, now))
    }

    /// Does what an operator wants. `None` where there is no such level, or no `Surge`.
    pub fn order(&self, order: SurgeOrder) -> Option<SurgeStatus> {
        let now = self.shared.origin.elapsed();
        let mut held = self.shared.controller();
        let controller = held.as_mut()?;
        let transition = match order {
            SurgeOrder::Freeze => controller.freeze(now),
            SurgeOrder::Force(level) => controller.force(now, level),
            SurgeOrder::Release => controller.release(now),
        };
        let transition = transition.cloned()?;
        self.shared.tell(controller, &transition);
        Some(SurgeStatus::of(controller, now))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Thread { settings_tx, handle }) = thread {
            drop(settings_tx);
            // It ends by itself, or with the panic that ended it before.
            let _ = handle.join();
        }
    }
}

impl Shared {
    // Nobody panics while holding it.
    fn controller(&self) -> MutexGuard<'_, Option<Controller>> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn configure(&self, surge: Option<&Surge>) {
        let now = self.origin.elapsed();
        let mut held = self.controller();
        match (held.as_mut(), surge) {
            (_, None) => {
                *held = None;
                self.level.publish(0);
            }
            (None, Some(surge)) => *held = Some(Controller::new(now, surge.clone())),
            (Some(controller), Some(surge)) => {
                if let Some(transition) = controller.configure(now, surge.clone()).cloned() {
                    self.tell(controller, &transition);
                }
            }
        }
    }

    fn tell(&self, controller: &Controller, transition: &Transition) {
        self.level.publish(transition.to);
        let name = |level| controller.name_of(level);
        let why = transition.phrase();
        if transition.from == transition.to {
            naru_say::say!("naru: surge: level {} ({}): {why}", transition.to, name(transition.to));
        } else {
            naru_say::say!(
                "naru: surge: level {} ({}) after {}: {why}",
                transition.to,
                name(transition.to),
                transition.from
            );
        }
    }
}

/// Looks until nobody is left who could say at what.
fn watch(shared: &Shared, settings_rx: &Receiver<Option<Surge>>) {
    let mut looking: Option<Looking> = None;
    loop {
        let told = match &looking {
            // Other settings in between do not put a look off.
            Some(looking) => settings_rx.recv_timeout(looking.next.since(shared.origin.elapsed())),
            None => settings_rx.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match told {
            Ok(settings) => {
                let before = looking.take();
                looking = settings.map(|surge| Looking::new(surge, before, shared.origin.elapsed()));
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let (Some(looking), Some(board)) = (&mut looking, shared.board.upgrade()) else { continue };
        let (counts, gauges) = looking.look(shared, &board);
        drop(board);
        let now = shared.origin.elapsed();
        looking.next = now + looking.surge.every;
        let signals = looking.meter.on_look(now, counts, gauges, looking.surge.capacity);
        let mut held = shared.controller();
        if let Some(controller) = held.as_mut()
            && let Some(transition) = controller.on_signals(now, signals).cloned()
        {
            shared.tell(controller, &transition);
        }
    }
}

/// What is looked at.
struct Looking {
    surge: Surge,
    /// When it is looked at next.
    next: Instant,
    machine: Machine,
    meter: Meter,
    /// By worker: what it has said last.
    of_workers: Vec<Counts>,
}

impl Looking {
    fn new(surge: Surge, before: Option<Looking>, now: Instant) -> Looking {
        match before {
            Some(before) => Looking { next: before.next.min(now + surge.every), surge, ..before },
            None => Looking {
                next: now + surge.every,
                surge,
                machine: Machine::default(),
                meter: Meter::default(),
                of_workers: Vec::new(),
            },
        }
    }

    fn look(&mut self, shared: &Shared, board: &Board) -> (Counts, Gauges) {
        self.ask(board);
        let mut counts = Counts::default();
        self.of_workers.iter().for_each(|of_worker| counts.add(of_worker));
        let surge = &self.surge;
        if surge.asks_for(SurgeSignal::CacheMisses)
            && let Some(cache) = &board.current().cache
        {
            for (result, count) in cache.status().classes.iter().flat_map(|class| class.results) {
                let sum = if result == "miss" { &mut counts.cache_misses } else { &mut counts.cache_hits };
                *sum += count;
            }
        }
        let now = shared.origin.elapsed();
        let asked = |signal| surge.asks_for(signal);
        let thousandths = |millionths: u32| u64::from(millionths / 1_000);
        let gauges = Gauges {
            queued: asked(SurgeSignal::Queued).then(|| board.waiting()),
            cpu: asked(SurgeSignal::Cpu).then(|| self.machine.processors(now)).flatten().map(thousandths),
            memory: asked(SurgeSignal::Memory).then(|| self.machine.memory()).flatten().map(thousandths),
        };
        (counts, gauges)
    }

    /// Has every worker say its numbers.
    fn ask(&mut self, board: &Board) {
        let workers = board.workers();
        self.of_workers.resize(workers.len(), Counts::default());
        let (counts_tx, counts_rx) = channel();
        for (at, worker) in workers.iter().enumerate() {
            // One that has ended has had nothing more.
            let _ = worker.send(Message::Pulse(at, counts_tx.clone()));
        }
        drop(counts_tx);
        // It ends early where all have answered, or cannot any more.
        for _ in workers {
            let Ok((at, counts)) = counts_rx.recv_timeout(PULSE_TIME_MAX) else { break };
            if let Some(known) = self.of_workers.get_mut(at) {
                *known = counts;
            }
        }
    }
}
