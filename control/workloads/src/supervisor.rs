//! All processes: as many as are asked for, and new ones before old ones end.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::instance::{Handle, News, Slot};
use crate::life::State;
use crate::output::{Line, Sink};
use crate::{Instance, Settings, Workload};

/// Runs workloads for as long as it is there. Dropping it without [`Supervisor::stop`] kills them.
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
    /// Must be called on a runtime whose thread lives as long as the process: processes end with it.
    pub fn start(settings: Settings, sink: Sink) -> Supervisor {
        // What forks away comes back to us, and not to init. Where that cannot be, it does not.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let (orders_tx, orders_rx) = mpsc::unbounded_channel();
        let (instances_tx, instances_rx) = watch::channel(Arc::from([]));
        let (news_tx, news_rx) = mpsc::unbounded_channel();
        let keeper = Keeper {
            settings: Arc::new(settings),
            sink,
            clock: Clock::new(),
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

struct Keeper {
    settings: Arc<Settings>,
    sink: Sink,
    clock: Clock,
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

    /// One step towards what is wanted: at most one process too many while new ones come, and never
    /// fewer that can be called than before.
    fn reconcile(&mut self) {
        let names: Vec<String> = self
            .handles
            .iter()
            .map(|handle| handle.workload.name.clone())
            .chain(self.wanted.keys().cloned())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        for name in names {
            while self.step(&name) {}
        }
    }

    /// Whether anything was done.
    fn step(&mut self, name: &str) -> bool {
        let wanted = self.wanted.get(name).cloned();
        let count = wanted.as_ref().map_or(0, |workload| workload.replicas as usize);
        let is_staying = |handle: &&Handle| handle.workload.name == name && !*handle.stop_tx.borrow();
        let staying: Vec<&Handle> = self.handles.iter().filter(is_staying).collect();
        let is_new =
            |handle: &Handle| wanted.as_ref().is_some_and(|wanted| is_same(wanted, &handle.workload));
        let (new, old): (Vec<&Handle>, Vec<&Handle>) = staying.into_iter().partition(|handle| is_new(handle));
        let ready = new.iter().chain(&old).filter(|handle| handle.seen.is_ready).count();
        if let Some(workload) = &wanted
            && new.len() < count
            && new.len() + old.len() < count + usize::from(!old.is_empty())
        {
            let taken: Vec<u32> =
                self.handles.iter().filter(|h| h.workload.name == name).map(|h| h.index).collect();
            let index = (0..).find(|index| !taken.contains(index)).unwrap_or(0);
            return self.begin(Arc::clone(workload), index);
        }
        // An old one ends once another can be called in its place, or where it could not be itself.
        let ending = old.iter().rev().find(|handle| !handle.seen.is_ready || ready > count || count == 0);
        let surplus = if new.len() > count { new.iter().max_by_key(|handle| handle.index) } else { None };
        match ending.filter(|_| new.len() + old.len() > count).or(surplus) {
            Some(handle) => {
                handle.stop_tx.send_replace(true);
                true
            }
            None => false,
        }
    }

    fn begin(&mut self, workload: Arc<Workload>, index: u32) -> bool {
        let address = match free_address() {
            Ok(address) => address,
            Err(error) => {
                let text = format!("there is no free port: {error}");
                (self.sink)(Line { instance: workload.name.clone(), text, is_own: true });
                return false;
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        let (stop_tx, stop_rx) = watch::channel(false);
        let slot = Slot {
            workload: Arc::clone(&workload),
            index,
            address,
            settings: Arc::clone(&self.settings),
            sink: Arc::clone(&self.sink),
            clock: self.clock,
        };
        let seen = Instance {
            workload: workload.name.clone(),
            index,
            address,
            pid: None,
            state: State::Starting,
            is_ready: false,
            restarts: 0,
        };
        self.handles.push(Handle { workload, index, stop_tx, seen, id });
        tokio::spawn(slot.run(id, stop_rx, self.news_tx.clone()));
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

/// A port that nobody has now.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
