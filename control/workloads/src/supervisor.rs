//! All processes: as many as are asked for, and new ones before old ones end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::confine::Grounds;
use crate::instance::{Common, News, Slot};
use crate::life::State;
use crate::output::{Line, Sink};
use crate::port::Ports;
use crate::rollout::{self, Standing, Step};
use crate::{Instance, Settings, Workload};

/// Runs workloads for as long as it is there. Where it is dropped without [`Supervisor::stop`], they
/// are told to end, and nobody waits for it; where its runtime or its process ends, they are killed.
#[derive(Debug)]
pub struct Supervisor {
    orders_tx: mpsc::UnboundedSender<Order>,
    instances_rx: watch::Receiver<Arc<[Instance]>>,
}

#[derive(Debug)]
enum Order {
    Apply(Vec<Workload>),
    Stop(oneshot::Sender<()>),
}

impl Supervisor {
    /// Must be called on a runtime.
    pub fn start(settings: Settings, sink: Sink) -> Supervisor {
        let (orders_tx, orders_rx) = mpsc::unbounded_channel();
        let (instances_tx, instances_rx) = watch::channel(Arc::from([]));
        let (news_tx, news_rx) = mpsc::unbounded_channel();
        let ports = Ports::new(u64::from(std::process::id()));
        let common = Common { settings, sink, clock: Clock::new(), ports, grounds: Grounds::default() };
        let keeper = Keeper {
            common: Arc::new(common),
            wanted: BTreeMap::new(),
            handles: Vec::new(),
            next_id: 0,
            news_tx,
            instances_tx,
        };
        tokio::spawn(keeper.work(orders_rx, news_rx));
        Supervisor { orders_tx, instances_rx }
    }

    /// These are to run from now on, and no others. What did not change is not touched.
    pub fn apply(&self, workloads: Vec<Workload>) {
        // The keeper lives as long as this.
        let _ = self.orders_tx.send(Order::Apply(workloads));
    }

    /// Every process, at each change.
    pub fn watch(&self) -> watch::Receiver<Arc<[Instance]>> {
        self.instances_rx.clone()
    }

    /// Ends all processes; returns when nothing is left.
    pub async fn stop(&self) {
        let (done_tx, done_rx) = oneshot::channel();
        if self.orders_tx.send(Order::Stop(done_tx)).is_ok() {
            let _ = done_rx.await;
        }
    }
}

/// A running slot, as the keeper sees it.
struct Handle {
    workload: Arc<Workload>,
    index: u32,
    stop_tx: watch::Sender<bool>,
    seen: Instance,
    id: u64,
}

struct Keeper {
    common: Arc<Common>,
    wanted: BTreeMap<String, Arc<Workload>>,
    handles: Vec<Handle>,
    next_id: u64,
    news_tx: mpsc::UnboundedSender<News>,
    instances_tx: watch::Sender<Arc<[Instance]>>,
}

impl Keeper {
    async fn work(
        mut self,
        mut orders_rx: mpsc::UnboundedReceiver<Order>,
        mut news_rx: mpsc::UnboundedReceiver<News>,
    ) {
        let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            tokio::select! {
                biased;
                Some(news) = news_rx.recv() => self.hear(news),
                order = orders_rx.recv() => match order {
                    Some(Order::Apply(workloads)) => {
                        self.wanted = workloads
                            .into_iter()
                            .map(|workload| (workload.name.clone(), Arc::new(workload)))
                            .collect();
                    }
                    Some(Order::Stop(done_tx)) => {
                        self.wanted.clear();
                        waiting.push(done_tx);
                    }
                    // Nobody is there any more: dropping the handles ends all.
                    None => return,
                },
            }
            self.reconcile();
            self.publish();
            if self.handles.is_empty() {
                for done_tx in waiting.drain(..) {
                    let _ = done_tx.send(());
                }
            }
        }
    }

    fn hear(&mut self, news: News) {
        if let Some(handle) = self.handles.iter_mut().find(|handle| handle.id == news.id) {
            handle.seen = news.instance;
        }
        self.handles.retain(|handle| handle.seen.state != State::Gone);
    }

    /// All the steps towards what is wanted that can be taken now.
    fn reconcile(&mut self) {
        let running = self.handles.iter().map(|handle| &handle.workload.name);
        let names: BTreeSet<String> = running.chain(self.wanted.keys()).cloned().collect();
        for name in names {
            while self.step(&name) {}
        }
    }

    /// Whether anything was done.
    fn step(&mut self, name: &str) -> bool {
        let wanted = self.wanted.get(name).cloned();
        let of_it = || self.handles.iter().filter(|handle| handle.workload.name == name);
        let staying: Vec<Standing> = of_it()
            .filter(|handle| !*handle.stop_tx.borrow())
            .map(|handle| Standing {
                index: handle.index,
                is_new: wanted.as_ref().is_some_and(|wanted| is_same(wanted, &handle.workload)),
                is_ready: handle.seen.is_ready,
            })
            .collect();
        let count = wanted.as_ref().map_or(0, |workload| workload.replicas as usize);
        match (rollout::next_step(count, &staying), wanted) {
            (Some(Step::Stop(index)), _) => {
                let handle =
                    of_it().find(|handle| handle.index == index).expect("the step is about one that stays");
                handle.stop_tx.send_replace(true);
                true
            }
            (Some(Step::Start), Some(workload)) => {
                let taken: Vec<u32> = of_it().map(|handle| handle.index).collect();
                self.begin(workload, rollout::free_index(&taken))
            }
            (Some(Step::Start), None) | (None, _) => false,
        }
    }

    fn begin(&mut self, workload: Arc<Workload>, index: u32) -> bool {
        let slot = Slot { workload: Arc::clone(&workload), index, common: Arc::clone(&self.common) };
        let port = match self.common.ports.take() {
            Ok(port) => port,
            Err(error) => {
                (self.common.sink)(Line { instance: slot.name(), text: error.to_string(), is_own: true });
                return false;
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        let (stop_tx, stop_rx) = watch::channel(false);
        let seen = Instance {
            workload: workload.name.clone(),
            index,
            address: port.address(),
            pid: None,
            state: State::Starting,
            is_ready: false,
            restarts: 0,
        };
        self.handles.push(Handle { workload, index, stop_tx, seen, id });
        tokio::spawn(slot.run(id, port, stop_rx, self.news_tx.clone()));
        true
    }

    fn publish(&self) {
        let mut all: Vec<Instance> = self.handles.iter().map(|handle| handle.seen.clone()).collect();
        all.sort_by(|a, b| (&a.workload, a.index).cmp(&(&b.workload, b.index)));
        self.instances_tx.send_if_modified(|known| {
            let is_new = **known != *all;
            if is_new {
                *known = Arc::from(all);
            }
            is_new
        });
    }
}

/// Whether a process of the one may stay for the other: they differ in nothing but their number.
fn is_same(a: &Workload, b: &Workload) -> bool {
    Workload { replicas: 0, ..a.clone() } == Workload { replicas: 0, ..b.clone() }
}
