//! What is sent to one proxy, and when? The server's side of one stream of ADS, without any I/O.
//!
//! Comes in: what there is ([`View`]), what the proxy asks and answers ([`Asked`]), the time. Goes out: one [`Response`]
//! after another. Of each kind at most one response is without an answer; what changes meanwhile is sent together
//! afterwards, so that a slow proxy skips versions and costs nothing.
//!
//! | | clusters, then endpoints and secrets | listeners, routes, virtual hosts |
//! |---|---|---|
//! | new, changed | at once | once all of those are answered, and the endpoints of all clusters were asked for |
//! | gone | when the listeners and routes that there are have been accepted | at once |
//!
//! Endpoints and secrets do not wait for an answer to clusters: Envoy gives it once its new clusters are warm, for which
//! it needs them.
//!
//! So nothing is led to where nothing is (make before break). Whom that waits for has [`PATIENCE`]: a proxy that does
//! not answer at all is sent the rest all the same, once. A proxy that has refused clusters, endpoints or secrets, and has
//! listeners, keeps the listeners and routes that it has; one that has refused routes keeps the clusters that they lead to.
//!
//! A cluster that is sent again has its endpoints sent again, too: Envoy waits for them.

mod track;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use naru_base::Instant;
use naru_xds::discovery::{KINDS, Kind};

use crate::set::{Item, View};
use track::{Offer, Track};

/// For an answer that others wait for.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// What one stream may ask for of one kind.
pub const NAMES_MAX: usize = 100_000;
/// Of a reason that a proxy gives; the rest is left out.
const REASON_BYTES_MAX: usize = 2_000;

/// What a response holds: all that there is of a kind, or what has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    StateOfTheWorld,
    Delta,
}

/// A request of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub kind: Kind,
    /// Of the response that it answers; empty where it answers none.
    pub nonce: String,
    /// Why that response was refused.
    pub error: Option<String>,
    pub wish: Wish,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// State of the world: all names that are wanted.
    All(Vec<String>),
    /// Delta: what is wanted beside what was, what no longer, and what the proxy has from an earlier stream, with its
    /// version.
    Change { subscribe: Vec<String>, unsubscribe: Vec<String>, known: Vec<(String, String)> },
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub mode: Mode,
    pub kind: Kind,
    pub version: u64,
    pub nonce: u64,
    pub resources: Vec<(Arc<str>, Item)>,
    /// Delta only.
    pub removed: Vec<Arc<str>>,
}

/// A proxy asks for more than anybody may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch;

/// A refusal of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub version: u64,
    pub reason: String,
    pub at: Instant,
}

/// How it stands with one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub kind: Kind,
    /// By name; `None` where all are wanted.
    pub subscribed: Option<usize>,
    /// How many of what is wanted there are.
    pub resources: usize,
    /// What it should have.
    pub wanted: u64,
    /// What it said that it has, and since when.
    pub accepted: Option<(u64, Instant)>,
    pub refused: Option<Refusal>,
    /// It was sent something then and has not answered.
    pub unanswered_since: Option<Instant>,
    /// It has everything.
    pub is_current: bool,
    /// Responses that were sent, and requests that answered another one than the last.
    pub responses: u64,
    pub stale: u64,
}

#[derive(Debug)]
pub struct Stream {
    mode: Mode,
    view: Arc<View>,
    tracks: [Track; KINDS.len()],
    nonce: u64,
    /// Clusters were accepted then, and their endpoints have not all been asked for.
    awaits_since: Option<Instant>,
}

impl Stream {
    pub fn new(mode: Mode, view: Arc<View>) -> Stream {
        Stream { mode, view, tracks: KINDS.map(Track::new), nonce: 0, awaits_since: None }
    }

    /// Other resources are wanted from now on.
    pub fn on_view(&mut self, view: Arc<View>) {
        self.view = view;
    }

    pub fn on_request(&mut self, now: Instant, asked: Asked) -> Result<(), TooMuch> {
        let (mode, kind) = (self.mode, asked.kind);
        let track = &mut self.tracks[kind as usize];
        let nonce = Nonce::read(&asked.nonce);
        let is_first = !track.is_asked();
        // Of a stream that is over, or made up: whoever begins is believed nothing.
        let nonce = if is_first { Nonce::None } else { nonce };
        let answered = track.answer(nonce, asked.error.map(shorten), now);
        if answered == Answered::Stale {
            track.stale += 1;
            if mode == Mode::StateOfTheWorld {
                // Whoever has answered an older response will answer the newer one, and say then what is wanted.
                return Ok(());
            }
        }
        match asked.wish {
            Wish::All(names) => track.want_all(names)?,
            Wish::Change { subscribe, unsubscribe, known } => {
                track.want(subscribe, unsubscribe, if is_first { known } else { Vec::new() })?;
            }
        }
        if kind == Kind::Cluster && answered == Answered::Accepted {
            self.awaits_since = Some(now);
        }
        Ok(())
    }

    /// What is to be sent now; to be asked until it says nothing.
    pub fn next(&mut self, now: Instant) -> Option<Response> {
        for kind in KINDS {
            if !self.is_held(kind, now)
                && let Some(response) = self.offer(kind, now)
            {
                return Some(response);
            }
        }
        if !self.may_remove() {
            return None;
        }
        KINDS.into_iter().rev().find_map(|kind| self.remove(kind, now))
    }

    /// When [`Stream::next`] may have something to say though nobody has said anything.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let sent = self.tracks.iter().filter_map(Track::unanswered_since);
        let all = sent.chain(self.awaits_since).map(|since| since + PATIENCE);
        all.filter(|deadline| *deadline > now).min()
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Of the kinds that were asked for.
    pub fn standings(&self) -> Vec<Standing> {
        let asked = KINDS.into_iter().filter(|kind| self.track(*kind).is_asked());
        asked.map(|kind| self.track(kind).standing(self.view.set(kind), self.mode)).collect()
    }

    fn track(&self, kind: Kind) -> &Track {
        &self.tracks[kind as usize]
    }

    fn offer(&mut self, kind: Kind, now: Instant) -> Option<Response> {
        let set = self.view.set(kind);
        let offer = self.tracks[kind as usize].offer(set, self.mode)?;
        if kind == Kind::Cluster {
            self.tracks[Kind::Endpoints as usize].repeat(offer.changed.iter());
        }
        Some(self.send(kind, offer, now))
    }

    /// What is gone, and nobody is led to any more.
    fn remove(&mut self, kind: Kind, now: Instant) -> Option<Response> {
        let set = self.view.set(kind);
        let offer = self.tracks[kind as usize].remove(set, self.mode)?;
        Some(self.send(kind, offer, now))
    }

    fn send(&mut self, kind: Kind, offer: Offer, now: Instant) -> Response {
        self.nonce += 1;
        let version = self.view.set(kind).version();
        self.tracks[kind as usize].sent(&offer, self.nonce, version, now);
        let Offer { resources, removed, .. } = offer;
        Response { mode: self.mode, kind, version, nonce: self.nonce, resources, removed }
    }

    /// Whether something else comes first.
    fn is_held(&mut self, kind: Kind, now: Instant) -> bool {
        let is_answering =
            |track: &Track| track.unanswered_since().is_some_and(|since| now < since + PATIENCE);
        match kind {
            Kind::Cluster | Kind::Endpoints | Kind::Secret => false,
            Kind::Listener | Kind::Routes | Kind::VirtualHost => {
                let before = [Kind::Cluster, Kind::Endpoints, Kind::Secret];
                let is_lacking = before.iter().any(|kind| self.track(*kind).refused().is_some());
                let keeps_old = is_lacking && self.track(Kind::Listener).was_accepted();
                keeps_old || before.iter().any(|kind| is_answering(self.track(*kind))) || self.awaits(now)
            }
        }
    }

    /// Whether endpoints are about to be asked for. Whoever asks for clusters by name asks for what it needs in an order
    /// of its own.
    fn awaits(&mut self, now: Instant) -> bool {
        let Some(since) = self.awaits_since else { return false };
        let (clusters, endpoints) = (self.track(Kind::Cluster), self.track(Kind::Endpoints));
        let is_done = now >= since + PATIENCE
            || !clusters.takes_all()
            || self.view.set(Kind::Endpoints).names().all(|name| endpoints.wants(name));
        if is_done {
            self.awaits_since = None;
        }
        !is_done
    }

    /// Whether nothing leads to what is gone any more, as far as the proxy says.
    fn may_remove(&self) -> bool {
        let leads = [Kind::Listener, Kind::Routes, Kind::VirtualHost];
        leads.into_iter().all(|kind| {
            let track = self.track(kind);
            !track.is_asked() || track.is_settled(self.view.set(kind), self.mode)
        })
    }
}

/// Which response a request answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nonce {
    None,
    Of(u64),
    /// None that we have ever given.
    Foreign,
}

impl Nonce {
    fn read(said: &str) -> Nonce {
        match said.parse() {
            _ if said.is_empty() => Nonce::None,
            Ok(nonce) => Nonce::Of(nonce),
            Err(_) => Nonce::Foreign,
        }
    }
}

/// What a request says of the last response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Nothing,
    Accepted,
    Refused,
    Stale,
}

fn shorten(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        reason.truncate(end);
    }
    reason
}
