//! Who speaks to the control plane for `naru proxy`?
//!
//! A task on the main thread carries out what `naru_xds::discovery::Client` decides: it connects and connects again,
//! passes messages on, puts plans in force and tells whether they are, and keeps the last of it on disk. Requests are
//! carried by other threads, and go on by what is in force whatever happens here.

mod keeper;
mod stream;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use naru_base::Instant;
use naru_journey::Snapshot;
use naru_proxy::{Proxy, wall_now};
use naru_spec::{Cluster, Config, Discovery as Discovers, Listener};
use naru_xds::discovery::{
    Client, ClientStatus, DELTA, Dynamic, Event, Kind, Plan, STATE_OF_THE_WORLD, place_name,
};
use tokio::sync::{Mutex, Notify};

use keeper::Journal;
pub use keeper::Keeper;
use stream::{Stream, Target};

/// A control plane has so long to say something before what was kept is used.
const KEPT_AFTER: Duration = Duration::from_secs(1);
/// What has changed is written down so much later, with what changes meanwhile.
const WRITTEN_AFTER: Duration = Duration::from_millis(500);
/// What is put in force meanwhile is waited for.
const SETTLES_WITHIN: Duration = Duration::from_millis(20);
/// In a line of the log.
const REASON_CHARS_MAX: usize = 600;

/// The control plane of a proxy that runs.
pub struct Discovery {
    client: RefCell<Client>,
    proxy: Rc<Proxy>,
    keeper: Option<Keeper>,
    /// Held by whoever changes what is in force.
    changing: Mutex<()>,
    /// The stream is to be another one.
    is_other: Notify,
    has_news: Notify,
    /// From the beginning, until it is used or nobody needs it.
    kept: RefCell<Option<Vec<u8>>>,
    told: RefCell<Told>,
    turns: Cell<usize>,
}

/// What people are told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What is in force was kept by a process before this one, and no control plane has said anything yet.
    pub is_from_disk: bool,
    /// Why there is no stream.
    pub failure: Option<String>,
    /// Why what was put together could not be put in force.
    pub not_in_force: Option<String>,
    /// Why what is in force is not kept.
    pub not_kept: Option<String>,
}

impl Discovery {
    pub fn new(
        client: Client,
        proxy: Rc<Proxy>,
        keeper: Option<Keeper>,
        is_from_disk: bool,
    ) -> Rc<Discovery> {
        let kept = keeper.as_ref().filter(|_| !is_from_disk).and_then(|keeper| match keeper.read() {
            Ok(kept) => kept,
            Err(error) => {
                naru_say::say!("warning: what the control plane said last is not used: {error:#}");
                None
            }
        });
        Rc::new(Discovery {
            client: RefCell::new(client),
            proxy,
            keeper,
            changing: Mutex::new(()),
            is_other: Notify::new(),
            has_news: Notify::new(),
            kept: RefCell::new(kept),
            told: RefCell::new(Told { is_from_disk, ..Told::default() }),
            turns: Cell::new(0),
        })
    }

    /// Lives for as long as the process.
    pub async fn run(self: Rc<Self>) {
        if self.keeper.is_some() {
            tokio::task::spawn_local(Rc::clone(&self).write_down());
        }
        loop {
            let ended = self.speak().await;
            let wait = self.client.borrow_mut().lost();
            let Some(why) = ended else { continue };
            self.tell_failure(why, wait);
            self.use_kept().await;
            self.pause(wait).await;
        }
    }

    /// One stream, from its beginning to its end, and why it ended; `None` where another is wanted.
    async fn speak(&self) -> Option<String> {
        let mut stream = match self.open().await {
            Ok(stream) => stream,
            Err(why) => return Some(why),
        };
        let now = self.now();
        self.client.borrow_mut().connected(now);
        stream.send_all(self.client.borrow_mut().take_requests());
        let give_up_waiting = tokio::time::sleep(KEPT_AFTER);
        tokio::pin!(give_up_waiting);
        let mut may_use_kept = self.kept.borrow().is_some();
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                () = self.is_other.notified() => return None,
                message = stream.next() => {
                    let message = match message {
                        Ok(message) => message,
                        Err(why) => return Some(why),
                    };
                    let (now, wall) = (self.now(), wall_now());
                    let received = self.client.borrow_mut().receive(now, wall, &message);
                    if received.is_err() {
                        return Some("it sent bytes that are no response".to_owned());
                    }
                    self.hear();
                }
                () = tokio::time::sleep(due) => {
                    let (now, wall) = (self.now(), wall_now());
                    self.client.borrow_mut().tick(now, wall);
                }
                () = &mut give_up_waiting, if may_use_kept => {
                    may_use_kept = false;
                    self.use_kept().await;
                }
            }
            self.carry_out().await;
            stream.send_all(self.client.borrow_mut().take_requests());
            if self.client.borrow_mut().takes_another_stream() {
                return None;
            }
        }
    }

    /// Something was said by the control plane.
    fn hear(&self) {
        let mut told = self.told.borrow_mut();
        if told.failure.take().is_some() {
            naru_say::say!("naru: the control plane answers again");
        }
        drop(told);
        self.tell_events();
    }

    /// Nothing is said meanwhile; what is waited for may be over all the same.
    async fn pause(&self, wait: Duration) {
        let pause = tokio::time::sleep(wait);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                () = self.is_other.notified() => return,
                () = tokio::time::sleep(self.due()) => {
                    let (now, wall) = (self.now(), wall_now());
                    self.client.borrow_mut().tick(now, wall);
                    self.carry_out().await;
                }
            }
        }
    }

    async fn open(&self) -> Result<Stream, String> {
        let wanted = self.client.borrow().control_plane().cloned();
        let wanted = wanted.ok_or("the bootstrap file names no control plane")?;
        let snapshot = self.proxy.snapshot();
        let cluster = snapshot.clusters.iter().find(|cluster| cluster.name == wanted.cluster);
        let cluster = cluster.ok_or_else(|| format!("there is no cluster '{}'", wanted.cluster))?;
        let statuses = self.proxy.clusters();
        let found = statuses.iter().find(|status| status.name == wanted.cluster);
        let endpoints = found.map(|status| status.endpoints.as_slice()).unwrap_or_default();
        // The next one each time.
        let turn = self.turns.replace(self.turns.get().wrapping_add(1));
        let endpoint = endpoints.get(turn.checked_rem(endpoints.len()).unwrap_or(0));
        let endpoint = endpoint.ok_or_else(|| format!("cluster '{}' has no endpoints", wanted.cluster))?;
        let connector = cluster.tls.as_ref().map(|tls| {
            let connector = naru_tls::Connector::build(tls)?;
            connector.with_alpn(&["h2"])
        });
        Stream::open(&Target {
            address: endpoint.address,
            path: endpoint.path.clone(),
            connector: connector.transpose().map_err(|invalid| invalid.to_string())?,
            connect_timeout: cluster.connect_timeout,
            authority: &wanted.authority,
            method: if wanted.is_delta { DELTA } else { STATE_OF_THE_WORLD },
            metadata: &wanted.metadata,
        })
        .await
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.proxy.uptime()
    }

    fn due(&self) -> Duration {
        let deadline = self.client.borrow().deadline();
        deadline.map_or(Duration::from_secs(3_600), |deadline| deadline.since(self.now()))
    }

    /// Puts in force what there is to be put in force, and says whether it is.
    async fn carry_out(&self) {
        let changing = self.changing.lock().await;
        let plan = self.client.borrow_mut().take_plan();
        if let Some(plan) = plan {
            let done = match plan {
                Plan::Endpoints(clusters) => {
                    self.proxy.set_endpoints(&clusters).await;
                    Ok(())
                }
                Plan::Whole(config) => put_in_force(&self.proxy, *config).await,
            };
            if done.is_ok() {
                self.told.borrow_mut().not_in_force = None;
            }
            let (now, wall) = (self.now(), wall_now());
            self.client.borrow_mut().settle(now, wall, done);
        }
        drop(changing);
        if self.client.borrow_mut().take_news() {
            let was_from_disk = std::mem::take(&mut self.told.borrow_mut().is_from_disk);
            if was_from_disk {
                naru_say::say!(
                    "naru: the control plane has said what holds; what was kept on disk is used no longer"
                );
            }
            self.has_news.notify_one();
        }
        self.tell_events();
    }

    /// What the process before this one was told, where nobody says anything now.
    async fn use_kept(&self) {
        let is_answered = self.client.borrow().status().kinds.iter().all(|kind| kind.accepted > 0);
        let Some(bytes) = self.kept.borrow_mut().take().filter(|_| !is_answered || !self.is_initialized())
        else {
            return;
        };
        let now = self.now();
        let restored = self.client.borrow_mut().restore(now, &bytes);
        match restored {
            Ok(()) => {
                self.told.borrow_mut().is_from_disk = true;
                naru_say::say!(
                    "naru: the control plane says nothing; what it said last was kept on disk, and is in effect"
                );
                self.carry_out().await;
            }
            Err(why) => naru_say::say!("warning: what the control plane said last cannot be used: {why}"),
        }
    }

    /// Keeps what is known, a moment after it has changed.
    async fn write_down(self: Rc<Self>) {
        let Some(keeper) = self.keeper.clone() else { return };
        let mut journal = None;
        loop {
            self.has_news.notified().await;
            tokio::time::sleep(WRITTEN_AFTER).await;
            let error = match self.keep(&keeper, journal.take()).await {
                Ok(kept) => {
                    journal = Some(kept);
                    None
                }
                Err(error) => Some(format!("{error:#}")),
            };
            let before = std::mem::replace(&mut self.told.borrow_mut().not_kept, error.clone());
            if let Some(error) = error.filter(|error| before.as_ref() != Some(error)) {
                naru_say::say!("warning: what the control plane says cannot be kept: {error}");
            }
        }
    }

    /// Adds what has changed to the file that was written; where that cannot be, all of it is written anew.
    async fn keep(&self, keeper: &Keeper, journal: Option<Journal>) -> anyhow::Result<Journal> {
        if let Some(journal) = journal {
            self.settled().await;
            let changes = self.client.borrow_mut().changes(journal.is_private());
            match changes {
                Some(changes) if changes.is_empty() => return Ok(journal),
                Some(changes) => {
                    // A disk that is full for what was added may have room once the file is shorter.
                    if let Ok(Some(journal)) = beside(move || journal.add(&changes)).await {
                        return Ok(journal);
                    }
                }
                None => {}
            }
        }
        let keeper = keeper.clone();
        let draft = beside(move || keeper.draft()).await?;
        self.settled().await;
        let bytes = self.client.borrow_mut().keep_from_now(draft.is_private());
        beside(move || draft.put(&bytes)).await
    }

    /// Until nothing is on its way into force: that may be refused yet.
    async fn settled(&self) {
        while !self.client.borrow().is_settled() {
            tokio::time::sleep(SETTLES_WITHIN).await;
        }
    }

    fn tell_failure(&self, why: String, wait: Duration) {
        let mut told = self.told.borrow_mut();
        if told.failure.as_ref() != Some(&why) {
            let text = shortened(&why);
            let next = wait.as_millis();
            naru_say::say!(
                "naru: the control plane is away: {text}; what is in force stays, and the next try is in {next} ms"
            );
            told.failure = Some(why);
        }
    }

    fn tell_events(&self) {
        let events = self.client.borrow_mut().take_events();
        for event in events {
            match event {
                Event::Refused { kind, version, why } => {
                    naru_say::say!("naru: {kind} of version '{version}' were refused: {}", shortened(&why));
                }
                Event::Recovered { kind, version } => {
                    naru_say::say!("naru: {kind} of version '{version}' are right again, and in effect");
                }
                Event::WaitedInVain { kind, name } if name.is_empty() => {
                    naru_say::say!("naru: no {kind} have come in time");
                }
                Event::WaitedInVain { kind, name } => {
                    let what = match kind {
                        Kind::Cluster => format!("cluster '{name}'"),
                        kind => format!("{} '{name}'", kind.singular()),
                    };
                    naru_say::say!("naru: {what} did not come in time");
                }
                Event::Unasked { type_url } => {
                    naru_say::say!(
                        "naru: the control plane sent '{}', which was not asked for",
                        shortened(&type_url)
                    );
                }
                Event::NotInForce { why } => {
                    let mut told = self.told.borrow_mut();
                    if told.not_in_force.as_ref() != Some(&why) {
                        naru_say::say!(
                            "naru: what the control plane said cannot be put in force: {}",
                            shortened(&why)
                        );
                        told.not_in_force = Some(why);
                    }
                }
            }
        }
    }

    /// Another bootstrap file is in force from now on, with what is known of the resources of the control plane.
    pub async fn succeed(&self, dynamic: Dynamic) -> Result<(), String> {
        let _changing = self.changing.lock().await;
        let mut client = self.client.borrow().succeed(dynamic, naru_proxy::seed(), self.now());
        client.begin_with_restored();
        put_in_force(&self.proxy, client.config()).await?;
        *self.client.borrow_mut() = client;
        self.is_other.notify_one();
        Ok(())
    }

    /// Puts once more in force what is: files that it names hold something else.
    pub async fn renew(&self) -> Result<(), String> {
        let _changing = self.changing.lock().await;
        let config = self.client.borrow().config();
        put_in_force(&self.proxy, config).await
    }

    /// What is in force.
    pub fn config(&self) -> Config {
        self.client.borrow().config()
    }

    pub fn is_initialized(&self) -> bool {
        self.client.borrow().is_initialized()
    }

    pub fn status(&self) -> (ClientStatus, Told) {
        (self.client.borrow().status(), self.told.borrow().clone())
    }

    /// The names and versions of all resources of a kind.
    pub fn versions(&self, kind: Kind) -> Vec<(String, String)> {
        self.client.borrow().versions(kind)
    }

    /// Where what was said last is kept, where it is.
    pub fn kept_at(&self) -> Option<String> {
        self.keeper.as_ref().map(|keeper| keeper.path().display().to_string())
    }

    pub fn cluster(&self) -> Option<String> {
        self.client.borrow().control_plane().map(|one| one.cluster.clone())
    }
}

/// On a thread where files may be waited for.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the thread that writes has panicked")?
}

async fn put_in_force(proxy: &Proxy, config: Config) -> Result<(), String> {
    let places = names(&config);
    let snapshot = Snapshot::compile(config).map_err(|found| first(&places, &found))?;
    let updated = proxy.update(snapshot).await;
    naru_memory::give_back();
    updated.map_err(|error| match error {
        naru_proxy::StartError::Config(found) => first(&places, &found),
        error => error.to_string(),
    })
}

/// What places are named by, and nothing else: the rest is large.
fn names(config: &Config) -> Config {
    let listeners = config.listeners.iter();
    let clusters = config.clusters.iter();
    Config {
        listeners: listeners.map(|said| Listener::new(said.name.clone(), said.address, Vec::new())).collect(),
        clusters: clusters
            .map(|said| Cluster::new(said.name.as_str(), Discovers::Static, Vec::new()))
            .collect(),
        ..Config::default()
    }
}

/// The first of what is wrong, and how much more there is.
fn first(config: &Config, found: &[(naru_spec::config::Place, naru_spec::Invalid)]) -> String {
    let Some((place, invalid)) = found.first() else { return "it cannot be used".to_owned() };
    let more = match found.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    format!("{}{invalid}{more}", place_name(config, place))
}

/// What others have said, in a line of bounded length.
fn shortened(text: &str) -> String {
    let clean = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    let mut short: String = clean.take(REASON_CHARS_MAX).collect();
    if text.chars().nth(REASON_CHARS_MAX).is_some() {
        short.push_str(" ...");
    }
    short
}
