//! Who is there, and how many parts is a limit cut into?
//!
//! | a member, to me | becomes   | when                                                                          |
//! |-----------------|-----------|-------------------------------------------------------------------------------|
//! | present         | let go    | I have not heard it for a lease, and what I granted it has ended              |
//! | let go          | gone      | a quorum lets it go, of which each has promised me not to grant it anything   |
//! | let go, gone    | present   | I hear it again; I grant it something once my promises to others have ended   |
//!
//! A grant says: for a lease from the moment that you wrote what I answer, I count you as present. A promise says: for
//! as long, I grant that member nothing. Both are counted by who has them from the stamp that comes back to him, and by
//! who gave them from when he sent them, and a sixteenth longer: so clocks need not agree, only run about as fast.
//!
//! A member is *active*, and may use a part of as many as it counts, as long as everybody but those who are gone has
//! granted it something, and these with itself are a quorum. So no two active members leave each other out. Of both, the
//! one either has the other's grant, who then counts it; or takes the other for gone, so that a quorum promises the other
//! nothing, and whatever quorum the other may have had has one of these in it, whose grant has ended. Each active member
//! counts at least all active ones, and all parts together are never more than the whole.
//!
//! Whose part was somebody else's for a while is told since when it is not, and begins with nothing then. So is who was
//! started anew, as others may remember what it does not.

use std::time::Duration;

use naru_base::Instant;

/// As many as the promises of a message have bits for.
pub const MEMBERS_MAX: usize = 32;
/// A message that is older than so many others of its sender is not taken.
const LATE_MAX: u64 = 64;

/// What members tell each other, all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Beat {
    pub from: u8,
    pub to: u8,
    /// Of the sender's process: a later one is greater.
    pub from_process: u64,
    /// Of the receiver's, as far as the sender knows. What is meant for another process is no news.
    pub to_process: u64,
    /// Counts all messages between these two.
    pub number: u64,
    /// The sender's time.
    pub stamp: u64,
    /// The last stamp that has come from the receiver, or 0.
    pub echo: u64,
    /// The sender grants the receiver something.
    pub is_grant: bool,
    /// By bit: whom the sender promises to grant nothing.
    pub let_go: u32,
    /// How often the receiver's part was somebody else's, and how many milliseconds ago for the last time.
    pub lent: u32,
    pub lent_ago: u32,
}

/// What a message is to who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    Ignored,
    /// Its sender does not know whom it speaks to: it is to be told.
    Strange,
    Taken,
}

/// What a member may do, and until when without hearing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    pub is_active: bool,
    /// A limit has so many parts.
    pub parts: u32,
    pub until: Instant,
}

/// What follows for counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub right: Right,
    /// There were so many parts before.
    pub parts_before: u32,
    /// Whatever there is came since then.
    pub empty_since: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Peer {
    /// The process that has spoken to this one.
    process: Option<u64>,
    /// The one that is spoken to.
    addressed: u64,
    sent: u64,
    newest: u64,
    /// By bit: which numbers before the newest have come.
    seen: u64,
    heard: Option<Instant>,
    stamp: u64,
    /// It grants this one something.
    granted_me: Instant,
    /// By member: it promises me not to grant it anything.
    promised_me: [Instant; MEMBERS_MAX],
    granted: Instant,
    /// I have promised somebody not to grant it anything.
    promised: Instant,
    is_let_go: bool,
    /// I had its part, as of the last look.
    was_gone: bool,
    /// How often its part was somebody else's, and when for the last time.
    lent: u32,
    lent_at: Instant,
    /// How often it has told me so.
    told: u32,
}

impl Peer {
    fn new() -> Peer {
        Peer {
            process: None,
            addressed: 0,
            sent: 0,
            newest: 0,
            seen: 0,
            heard: None,
            stamp: 0,
            granted_me: Instant::ZERO,
            promised_me: [Instant::ZERO; MEMBERS_MAX],
            granted: Instant::ZERO,
            promised: Instant::ZERO,
            is_let_go: false,
            was_gone: false,
            lent: 0,
            lent_at: Instant::ZERO,
            told: 0,
        }
    }

    /// Another process speaks: nothing holds that the one before has said.
    fn meet(&mut self, now: Instant, process: u64) {
        if self.process.replace(process).is_some() {
            self.lent += 1;
            self.lent_at = now;
        }
        self.addressed = process;
        self.told = 0;
        (self.newest, self.seen, self.stamp) = (0, 0, 0);
        self.granted_me = Instant::ZERO;
        self.promised_me = [Instant::ZERO; MEMBERS_MAX];
    }

    /// Whether a number comes for the first time.
    fn take(&mut self, number: u64) -> bool {
        if number > self.newest {
            let by = number - self.newest;
            self.seen = if by >= LATE_MAX { 0 } else { self.seen << by };
            self.seen |= 1;
            self.newest = number;
            return true;
        }
        let back = self.newest - number;
        if number == 0 || back >= LATE_MAX || self.seen & 1 << back != 0 {
            return false;
        }
        self.seen |= 1 << back;
        true
    }
}

/// What one member knows of all.
#[derive(Clone, Debug)]
pub struct Circle {
    own: usize,
    process: u64,
    lease: Duration,
    began: Instant,
    /// By member; the place of this one is not used.
    peers: Vec<Peer>,
    right: Right,
    empty_since: Option<Instant>,
    emptied: Option<Instant>,
}

impl Circle {
    /// One of so many. `process` is greater than that of any process that was this member before.
    pub fn new(own: usize, members: usize, process: u64, lease: Duration, now: Instant) -> Circle {
        let parts = members.clamp(1, MEMBERS_MAX) as u32;
        Circle {
            own,
            process,
            lease,
            began: now,
            peers: vec![Peer::new(); parts as usize],
            right: Right { is_active: false, parts, until: Instant::ZERO },
            empty_since: None,
            emptied: None,
        }
    }

    /// So often members speak to each other.
    pub fn beat_every(&self) -> Duration {
        self.lease / 8
    }

    /// What was promised ends for who has promised it after so long.
    fn obligation(&self) -> Duration {
        self.lease + self.lease / 16
    }

    /// Nobody knows what the process before has promised: that has to end.
    fn is_warm(&self, now: Instant) -> bool {
        now >= self.began + self.obligation()
    }

    fn is_heard(&self, now: Instant, peer: &Peer) -> bool {
        peer.heard.is_some_and(|heard| now < heard + self.lease)
    }

    /// More than half. Of an even number the first one counts a little more.
    fn is_quorum(&self, is_in: impl Fn(usize) -> bool) -> bool {
        let count = self.peers.len();
        let weight = |at: usize| if at == 0 && count.is_multiple_of(2) { 3 } else { 2 };
        let all: usize = (0..count).map(weight).sum();
        let of: usize = (0..count).filter(|at| is_in(*at)).map(weight).sum();
        of * 2 > all
    }

    /// Until when a member is gone, if it is.
    fn gone_until(&self, now: Instant, member: usize) -> Option<Instant> {
        if !self.peers.get(member)?.is_let_go {
            return None;
        }
        let promise = |at: usize| {
            let peer = self.peers.get(at)?;
            peer.promised_me.get(member).copied().filter(|until| *until > now)
        };
        let lets_go = |at: usize| at == self.own || at != member && promise(at).is_some();
        if !self.is_quorum(lets_go) {
            return None;
        }
        let others = (0..self.peers.len()).filter(|at| *at != self.own && *at != member);
        // One that goes by itself never ends: a quorum of one.
        Some(others.filter_map(promise).min().unwrap_or(now + self.lease))
    }

    fn right_at(&self, now: Instant) -> Right {
        let count = self.peers.len();
        let none = Right { is_active: false, parts: count as u32, until: now + self.lease };
        let (mut parts, mut until) = (count as u32, now + self.lease);
        let grant = |at: usize| self.peers.get(at).map(|peer| peer.granted_me).filter(|until| *until > now);
        for at in (0..count).filter(|at| *at != self.own) {
            match (grant(at), self.gone_until(now, at)) {
                // Whom I let go I do not count, whatever he grants.
                (_, Some(end)) => {
                    parts -= 1;
                    until = until.min(end);
                }
                (Some(end), None) => until = until.min(end),
                (None, None) => return none,
            }
        }
        if !self.is_quorum(|at| at == self.own || grant(at).is_some()) {
            return none;
        }
        Right { is_active: true, parts, until }
    }

    /// Looks at what has changed by time and by messages: to be called after each message, and at each beat.
    pub fn turn(&mut self, now: Instant) -> Change {
        let (is_warm, lease) = (self.is_warm(now), self.lease);
        for (at, peer) in self.peers.iter_mut().enumerate() {
            let is_silent = peer.heard.is_none_or(|heard| now >= heard + lease);
            if at != self.own && is_warm && is_silent && peer.granted <= now {
                peer.is_let_go = true;
            }
        }
        // What has ended between two looks has ended.
        let lapsed = now >= self.right.until;
        let parts_before = if lapsed { self.peers.len() as u32 } else { self.right.parts };
        for at in 0..self.peers.len() {
            let is_gone = at != self.own && self.gone_until(now, at).is_some();
            let Some(peer) = self.peers.get_mut(at) else { continue };
            if peer.was_gone && !is_gone {
                peer.lent += 1;
                peer.lent_at = now;
            }
            peer.was_gone = is_gone;
        }
        self.right = self.right_at(now);
        let empty_since = self.empty_since.filter(|since| self.emptied.is_none_or(|done| *since > done));
        if empty_since.is_some() {
            self.emptied = empty_since;
        }
        Change { right: self.right, parts_before, empty_since }
    }

    /// What is to be told to a member now.
    pub fn beat(&mut self, now: Instant, to: usize) -> Beat {
        let end = now + self.obligation();
        let (is_warm, lease) = (self.is_warm(now), self.lease);
        let mut let_go = 0;
        for (at, peer) in self.peers.iter_mut().enumerate() {
            if at != self.own && at != to && peer.is_let_go {
                let_go |= 1 << at;
                peer.promised = peer.promised.max(end);
            }
        }
        let own = self.own as u8;
        let process = self.process;
        let Some(peer) = self.peers.get_mut(to) else { return Beat::default() };
        peer.sent += 1;
        let is_heard = peer.heard.is_some_and(|heard| now < heard + lease);
        // What the process before has said is no answer to the one that is spoken to.
        let stamp = if peer.process == Some(peer.addressed) { peer.stamp } else { 0 };
        let may_grant = is_warm && is_heard && peer.promised <= now && stamp > 0;
        let is_grant = may_grant && !peer.is_let_go && !peer.was_gone;
        if is_grant {
            peer.granted = peer.granted.max(end);
        }
        Beat {
            from: own,
            to: to as u8,
            from_process: process,
            to_process: peer.addressed,
            number: peer.sent,
            stamp: now.0.max(1),
            echo: stamp,
            is_grant,
            let_go,
            lent: peer.lent,
            lent_ago: u32::try_from(now.since(peer.lent_at).as_millis()).unwrap_or(u32::MAX),
        }
    }

    /// A member says something; whoever calls knows that it is he.
    pub fn on_beat(&mut self, now: Instant, beat: &Beat) -> Reception {
        let from = usize::from(beat.from);
        if from == self.own || usize::from(beat.to) != self.own {
            return Reception::Ignored;
        }
        let lease = self.lease;
        if beat.to_process > self.process {
            // It has known a later process of this member than this one can be: a clock was set back.
            *self =
                Circle::new(self.own, self.peers.len(), beat.to_process.saturating_add(1), self.lease, now);
            return Reception::Strange;
        }
        let Some(peer) = self.peers.get_mut(from) else { return Reception::Ignored };
        if beat.to_process != self.process {
            // It may be a recording. It says nothing but who is to be spoken to, and that only gets newer.
            peer.addressed = peer.addressed.max(beat.from_process);
            return Reception::Strange;
        }
        match peer.process {
            Some(known) if beat.from_process < known => return Reception::Ignored,
            Some(known) if beat.from_process == known => {}
            _ => peer.meet(now, beat.from_process),
        }
        if !peer.take(beat.number) {
            return Reception::Ignored;
        }
        peer.heard = Some(now);
        peer.is_let_go = false;
        peer.stamp = peer.stamp.max(beat.stamp);
        // What was never said cannot come back.
        if beat.echo == 0 || beat.echo > now.0.max(1) {
            return Reception::Taken;
        }
        let until = Instant(beat.echo) + lease;
        if beat.is_grant {
            peer.granted_me = peer.granted_me.max(until);
        }
        for (at, promised) in peer.promised_me.iter_mut().enumerate() {
            if beat.let_go & 1 << at != 0 {
                *promised = (*promised).max(until);
            }
        }
        if beat.lent > peer.told {
            peer.told = beat.lent;
            let since = now - Duration::from_millis(beat.lent_ago.into());
            self.empty_since = self.empty_since.max(Some(since));
        }
        Reception::Taken
    }

    /// The other members that were heard lately.
    pub fn present(&self, now: Instant) -> impl Iterator<Item = usize> {
        let all = self.peers.iter().enumerate();
        all.filter(move |(at, peer)| *at != self.own && self.is_heard(now, peer)).map(|(at, _)| at)
    }
}
