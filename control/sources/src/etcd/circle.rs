//! What do processes that follow one etcd say to each other? Each has keys of its own beside the documents, which go when
//! it does: they hang on a lease that it keeps alive. All read the keys of all.
//!
//! | what happens | what is done |
//! |---|---|
//! | this one has something else to say | its keys are written |
//! | the lease is over, a call or the watch fails | the next endpoint is asked, after a pause; with another lease all is written anew |
//! | etcd is away | what was heard last holds |
//!
//! They stand outside of the prefix of the documents (`/naru/` has `/naru.joined/`), so that they are in nobody's way who
//! writes or goes back to documents.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use naru_etcd::proto::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest,
    WatchRequest, WatchResponse,
};
use naru_etcd::{Heard, Keys, method};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::call::{Session, Trouble};
use super::{Endpoint, Pauses, Settings};

/// Without a sign of life for so long, what a process has said is gone.
const LIFETIME_SECONDS: i64 = 10;
const SIGN_EVERY: Duration = Duration::from_secs(3);

/// What processes have said last, by their names: each in pieces, in their order.
pub type Said = BTreeMap<String, Vec<Bytes>>;

/// It is followed for as long as this is held.
#[derive(Debug)]
pub struct Circle {
    own: watch::Sender<Vec<Bytes>>,
    others: watch::Receiver<Arc<Said>>,
    task: JoinHandle<()>,
}

impl Circle {
    /// Joins by a name that nobody else has. A runtime is entered.
    pub fn follow(settings: Settings, name: &str) -> Circle {
        let (own, own_rx) = watch::channel(Vec::new());
        let (others_tx, others) = watch::channel(Arc::default());
        let prefix = format!("{}.joined/", settings.prefix.trim_end_matches('/'));
        let member = Member { settings, prefix, name: name.to_owned(), own: own_rx, others: others_tx };
        Circle { own, others, task: tokio::spawn(member.follow()) }
    }

    /// All that this one says from now on, in pieces of less than a mebibyte.
    pub fn say(&self, pieces: Vec<Bytes>) {
        self.own.send_replace(pieces);
    }

    /// What the others say.
    pub fn others(&self) -> watch::Receiver<Arc<Said>> {
        self.others.clone()
    }
}

impl Drop for Circle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Member {
    settings: Settings,
    prefix: String,
    name: String,
    own: watch::Receiver<Vec<Bytes>>,
    others: watch::Sender<Arc<Said>>,
}

impl Member {
    /// One session after another.
    async fn follow(mut self) {
        let mut pauses = Pauses::new(self.settings.seed);
        let endpoints = self.settings.endpoints.clone();
        let mut told: Option<String> = None;
        for endpoint in endpoints.iter().cycle() {
            let mut is_settled = false;
            let trouble = self.session(endpoint, &mut is_settled).await.to_string();
            if is_settled {
                pauses.reset();
                told = None;
            }
            // Each reason once.
            if told.as_ref() != Some(&trouble) {
                let prefix = &self.prefix;
                naru_say::say!(
                    "warning: members of WorkloadGroups are not told to other control planes ({prefix}): {trouble}"
                );
                told = Some(trouble);
            }
            tokio::time::sleep(pauses.draw()).await;
        }
    }

    /// Until it cannot go on; says why.
    async fn session(&mut self, endpoint: &Endpoint, is_settled: &mut bool) -> Trouble {
        match self.speak(endpoint, is_settled).await {
            Ok(never) => match never {},
            Err(trouble) => trouble,
        }
    }

    async fn speak(
        &mut self,
        endpoint: &Endpoint,
        is_settled: &mut bool,
    ) -> Result<std::convert::Infallible, Trouble> {
        let session = Session::open(&self.settings, endpoint).await?;
        let asked = LeaseGrantRequest { ttl: LIFETIME_SECONDS, id: 0 };
        let answer = session.call(method::LEASE_GRANT, &naru_etcd::write(&asked)).await?;
        let granted: LeaseGrantResponse = naru_etcd::read(&answer).ok_or_else(|| session.foreign())?;
        if granted.id == 0 {
            return Err(Trouble::Lost(format!("{endpoint}: it grants no lease: {}", granted.error)));
        }
        let mut written = Vec::new();
        self.write(&session, granted.id, &mut written).await?;
        let mut signs = tokio::time::interval(SIGN_EVERY);
        signs.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut keys = session.read(&self.prefix, 0).await?;
            self.tell(&keys);
            let create = WatchRequest { create: Some(keys.watch()) };
            let mut watched = session.stream(method::WATCH, &naru_etcd::write(&create)).await?;
            loop {
                let message = tokio::select! {
                    biased;
                    message = watched.next() => message?,
                    _ = signs.tick() => {
                        let asked = LeaseKeepAliveRequest { id: granted.id };
                        let answer = session.call(method::LEASE_KEEP_ALIVE, &naru_etcd::write(&asked)).await?;
                        let kept: LeaseKeepAliveResponse =
                            naru_etcd::read(&answer).ok_or_else(|| session.foreign())?;
                        if kept.ttl <= 0 {
                            return Err(Trouble::Lost(format!("{endpoint}: the lease is over")));
                        }
                        *is_settled = true;
                        continue;
                    }
                    Ok(()) = self.own.changed() => {
                        self.write(&session, granted.id, &mut written).await?;
                        continue;
                    }
                };
                let response: WatchResponse = naru_etcd::read(&message).ok_or_else(|| session.foreign())?;
                match keys.hear(response).map_err(Trouble::TooMuch)? {
                    Heard::Nothing => {}
                    Heard::Changed => self.tell(&keys),
                    // All is read anew.
                    Heard::Compacted(_) => break,
                    Heard::Over(why) => return Err(Trouble::Lost(format!("{endpoint}: {why}"))),
                }
            }
        }
    }

    /// What is not written yet. A piece that is there no longer becomes an empty one.
    async fn write(
        &mut self,
        session: &Session,
        lease: i64,
        written: &mut Vec<Bytes>,
    ) -> Result<(), Trouble> {
        let mut wanted = self.own.borrow_and_update().clone();
        wanted.resize(wanted.len().max(written.len()), Bytes::new());
        for (at, piece) in wanted.iter().enumerate() {
            if written.get(at) != Some(piece) {
                let key = Bytes::from(format!("{}{}/{at:04}", self.prefix, self.name));
                let put = PutRequest { key, value: piece.clone(), lease };
                session.call(method::PUT, &naru_etcd::write(&put)).await?;
            }
        }
        *written = wanted;
        Ok(())
    }

    fn tell(&self, keys: &Keys) {
        let mut said = Said::new();
        for (key, kept) in keys.kept() {
            let below = key.get(self.prefix.len()..).and_then(|below| std::str::from_utf8(below).ok());
            let Some((name, _)) = below.and_then(|below| below.split_once('/')) else { continue };
            if name != self.name && !kept.value.is_empty() {
                said.entry(name.to_owned()).or_default().push(kept.value.clone());
            }
        }
        self.others.send_if_modified(|before| {
            let is_other = **before != said;
            if is_other {
                *before = Arc::new(said);
            }
            is_other
        });
    }
}
