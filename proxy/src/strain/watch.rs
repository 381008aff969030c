//! The thread that measures, and tells the workers what it calls for.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use naru_admit::Pressures;
use naru_base::Instant;
use naru_spec::Overload;
use naru_spec::overload::{Relief, Resource};
use tokio::sync::mpsc::UnboundedSender;

use super::measure::Gauges;
use super::{ResourceStatus, Strain};
use crate::clock::Origin;
use crate::worker::Message;

/// Whoever has the thread, once there is something to measure.
#[derive(Debug)]
pub struct Watch {
    strain: Arc<Strain>,
    origin: Origin,
    workers: Vec<UnboundedSender<Message>>,
    thread: Mutex<Option<(Sender<Option<Overload>>, JoinHandle<()>)>>,
}

impl Watch {
    pub fn new(strain: Arc<Strain>, origin: Origin, workers: Vec<UnboundedSender<Message>>) -> Watch {
        Watch { strain, origin, workers, thread: Mutex::default() }
    }

    /// From now on it is this that is measured.
    pub fn set(&self, overload: Option<&Overload>) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() && overload.is_some() {
            let (settings_tx, settings_rx) = channel();
            let (strain, origin, workers) = (Arc::clone(&self.strain), self.origin, self.workers.clone());
            let named = std::thread::Builder::new().name("naru-strain".to_owned());
            let spawned = named.spawn(move || watch(&strain, origin, &workers, &settings_rx));
            // Where no thread is to be had, nothing is given up: the proxy itself goes on.
            *thread = spawned.ok().map(|handle| (settings_tx, handle));
        }
        if let Some((settings_tx, _)) = &*thread {
            // One that has ended measures nothing.
            let _ = settings_tx.send(overload.cloned());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((settings_tx, handle)) = thread {
            drop(settings_tx);
            // It ends by itself, or with the panic that ended it before.
            let _ = handle.join();
        }
    }
}

/// Measures until nobody is left who could say what.
fn watch(
    strain: &Strain,
    origin: Origin,
    workers: &[UnboundedSender<Message>],
    settings_rx: &Receiver<Option<Overload>>,
) {
    let mut watching: Option<Watching> = None;
    loop {
        let told = match &watching {
            Some(watching) => settings_rx.recv_timeout(watching.refresh),
            None => settings_rx.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match told {
            Ok(settings) => {
                strain.publish_nothing();
                strain.measured().clear();
                watching = settings.map(|settings| Watching::new(settings, watching.take()));
                let max = watching.as_ref().map_or(0, Watching::connections_max);
                strain.connections_max.store(max, std::sync::atomic::Ordering::Relaxed);
                tell(workers, || Message::Strain { gives_back: false });
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Some(watching) = &mut watching {
            watching.look(strain, origin.elapsed(), workers);
        }
    }
}

fn tell(workers: &[UnboundedSender<Message>], message: impl Fn() -> Message) {
    for worker in workers {
        // One that has ended has nothing to give up.
        let _ = worker.send(message());
    }
}

/// What is measured, and what it calls for.
struct Watching {
    refresh: Duration,
    overload: Overload,
    pressures: Pressures,
    gauges: Gauges,
    status: Vec<ResourceStatus>,
    gave_back: Option<Instant>,
}

impl Watching {
    fn new(overload: Overload, before: Option<Watching>) -> Watching {
        let status = overload.monitors.iter().map(|monitor| ResourceStatus {
            name: monitor.name.clone(),
            pressure: 0,
            failed_updates: 0,
        });
        let status = status.collect();
        // Settings that stay as they are keep what is called for: what is held is held on.
        let (pressures, gauges) = match before {
            Some(before) if before.overload == overload => (before.pressures, before.gauges),
            Some(before) => (Pressures::new(overload.clone()), before.gauges),
            None => (Pressures::new(overload.clone()), Gauges::of_this_process()),
        };
        Watching { refresh: overload.refresh, pressures, gauges, status, overload, gave_back: None }
    }

    fn connections_max(&self) -> u64 {
        let limits = self.overload.monitors.iter().filter_map(|monitor| match monitor.resource {
            Resource::Connections { max } => Some(max),
            _ => None,
        });
        limits.min().unwrap_or(0)
    }

    fn look(&mut self, strain: &Strain, now: Instant, workers: &[UnboundedSender<Message>]) {
        let connections = strain.connections.load(std::sync::atomic::Ordering::Relaxed);
        for (monitor, status) in self.overload.monitors.iter().zip(&mut self.status) {
            match self.gauges.pressure(now, &monitor.resource, connections) {
                Some(pressure) => {
                    status.pressure = pressure;
                    self.pressures.on_pressure(&monitor.name, pressure);
                }
                // It keeps the pressure that it had.
                None => status.failed_updates += 1,
            }
        }
        *strain.measured() = self.status.clone();
        let mut has_changed = false;
        for (relief, strength) in self.pressures.reliefs() {
            if strain.strength(relief) != strength {
                strain.publish(relief, strength);
                has_changed = true;
            }
        }
        let gives_back = self.gives_back(strain, now);
        if gives_back {
            strain.give_back();
        }
        if has_changed || gives_back {
            tell(workers, || Message::Strain { gives_back });
        }
    }

    fn gives_back(&mut self, strain: &Strain, now: Instant) -> bool {
        let actions = self.overload.actions.iter();
        let mut shrinks = actions.filter_map(|action| match &action.relief {
            relief @ Relief::ShrinkHeap { every } if strain.is_saturated(relief) => Some((relief, *every)),
            _ => None,
        });
        let Some((relief, every)) = shrinks.next() else {
            self.gave_back = None;
            return false;
        };
        let is_due = self.gave_back.is_none_or(|last| now.since(last) >= every);
        if is_due {
            self.gave_back = Some(now);
            strain.count(relief);
        }
        is_due
    }
}
