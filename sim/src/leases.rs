//! Limits that gateways share without a store: the counterpart of `proxy/src/gate/leases.rs`, on virtual time.
//!
//! `naru_admit::lease` decides here as there: who has his share, what is lent, what a request is told. What the proxy has
//! sockets and a secret for is here a message on its way ([`Between`] says how it fares), of one thing each. Gateways are
//! the members in their order. The clock of a circle counts as the proxy's does, so that windows begin with it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use naru_admit::lease::{Beat, Change, Circle, Lent, Pot, PotBid, Reception, Right, Spend, spend};
use naru_admit::quota::{Meter, Room, Spent};
use naru_base::{Chance, Instant};
use naru_journey::Snapshot;
use naru_journey::gate::quotas::{Claim, QuotaId};
use naru_spec::{CountPlace, Leases, Quota};

use crate::distribution::Distribution;
use crate::passage::Key;
use crate::quantity::Share;
use crate::scenario::GatewayState;
use crate::wall::wall;

/// Keys of a limit, as many parts as the proxy has of them.
const SHARDS: usize = 64;
/// 2020-01-01, as the proxy has it.
const EPOCH_NANOS: u64 = 1_577_836_800_000_000_000;
/// Divided by any number of parts without a rest: the least number that all up to 32 divide.
const WHOLE: u64 = 144_403_552_893_600;

/// By the clock of all circles.
pub fn circle_time(now: Instant) -> Instant {
    Instant(wall(now).0 - EPOCH_NANOS)
}

/// How gateways hear each other.
#[derive(Clone, Debug)]
pub struct Between {
    pub latency: Distribution,
    pub lost: Share,
    pub doubled: Share,
    /// The later one counts.
    pub windows: Vec<BetweenWindow>,
    pub chance: Chance,
}

#[derive(Clone, Debug)]
pub struct BetweenWindow {
    pub from: Instant,
    pub to: Instant,
    /// By number, from 0; all where there are none.
    pub gateways: Vec<usize>,
    pub state: GatewayState,
    pub latency: Option<Distribution>,
    pub lost: Option<Share>,
}

impl BetweenWindow {
    pub fn means(&self, gateway: usize) -> bool {
        self.gateways.is_empty() || self.gateways.contains(&gateway)
    }

    fn is_at(&self, now: Instant, gateway: usize) -> bool {
        self.from <= now && now < self.to && self.means(gateway)
    }
}

impl Default for Between {
    fn default() -> Between {
        Between {
            latency: Distribution::constant(Duration::from_micros(500)),
            lost: Share::NONE,
            doubled: Share::NONE,
            windows: Vec::new(),
            chance: Chance::new(0),
        }
    }
}

impl Between {
    pub fn state(&self, now: Instant, gateway: usize) -> GatewayState {
        let mut windows = self.windows.iter().rev().filter(|window| window.is_at(now, gateway));
        windows
            .find(|window| window.state != GatewayState::Up)
            .map_or(GatewayState::Up, |window| window.state)
    }

    /// How long each copy of a message takes.
    fn fate(&mut self, now: Instant, from: usize, to: usize) -> Vec<Duration> {
        if [from, to].into_iter().any(|gateway| self.state(now, gateway) != GatewayState::Up) {
            return Vec::new();
        }
        let windows =
            || self.windows.iter().rev().filter(|window| window.is_at(now, from) || window.is_at(now, to));
        let lost = windows().find_map(|window| window.lost).unwrap_or(self.lost);
        let latency = windows().find_map(|window| window.latency.clone());
        let latency = latency.unwrap_or_else(|| self.latency.clone());
        // Drawn in any case, so that what is lost shifts nothing.
        let (loss, double) = (self.chance.draw(), self.chance.draw());
        let times = [latency.sample(&mut self.chance), latency.sample(&mut self.chance)];
        let copies = match (lost.takes(loss), self.doubled.takes(double)) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        times.into_iter().take(copies).collect()
    }
}

/// What one member says to another: that it is there, and of one key of one limit something, or nothing.
#[derive(Clone, Debug)]
pub struct Message {
    beat: Beat,
    item: Option<Item>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    quota: QuotaId,
    key: u64,
    asked_at: Instant,
    /// So many parts the limit has for who says it.
    parts: u32,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Asked { units: u64 },
    Lent(Lent),
}

/// What a circle wants done after it was told something.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Messages on their way, with when they are there.
    pub sent: Vec<(Instant, Message)>,
    /// Requests that are to look once more.
    pub woken: Vec<Key>,
    /// What is to be told of members.
    pub noted: Vec<(usize, String)>,
}

/// What a request is told.
#[derive(Debug)]
pub enum Said {
    Told(Spent, Vec<Room>),
    /// This member has no share, and is not to count by itself.
    Nobody,
    /// Others were asked. It is woken.
    Wait,
}

/// The members that share some limits.
#[derive(Debug)]
pub struct CircleHere {
    /// As the store of its limits is called.
    pub name: String,
    settings: Leases,
    quotas: Vec<(QuotaId, Quota)>,
    members: Vec<Option<Member>>,
}

#[derive(Debug)]
struct Member {
    circle: Circle,
    limits: Vec<LeasedLimit>,
    right: Right,
    parts: u32,
    others: usize,
    was_active: bool,
}

#[derive(Debug)]
struct LeasedLimit {
    quota: QuotaId,
    name: String,
    meter: Meter,
    shards: Vec<Shard>,
}

#[derive(Debug)]
struct Shard {
    pot: Pot,
    /// Who waits for something to come.
    waiting: Vec<Key>,
}

impl LeasedLimit {
    fn new(id: QuotaId, quota: &Quota, parts: u32) -> LeasedLimit {
        let number = if quota.key.is_empty() { 1 } else { SHARDS };
        let keys = if quota.key.is_empty() { 1 } else { quota.keys_max.div_ceil(SHARDS as u32) };
        let shard = |_| Shard { pot: Pot::new(keys, parts), waiting: Vec::new() };
        LeasedLimit {
            quota: id,
            name: quota.name.clone(),
            meter: Meter::new(quota.algorithm),
            shards: (0..number).map(shard).collect(),
        }
    }

    /// Nobody foresees anything here, so that keys are called without a secret.
    fn key(&self, key: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.name, key).hash(&mut hasher);
        hasher.finish()
    }

    fn shard(&mut self, key: u64) -> (&Meter, &mut Shard) {
        let at = key as usize % self.shards.len();
        (&self.meter, &mut self.shards[at])
    }
}

impl Member {
    fn is_active(&self, time: Instant) -> bool {
        self.right.is_active && time < self.right.until
    }
}

impl CircleHere {
    /// The circles of a snapshot. Nobody is there yet.
    pub fn all(snapshot: &Snapshot) -> Vec<CircleHere> {
        let mut found = Vec::new();
        for store in &snapshot.stores {
            let CountPlace::Leases(settings) = &store.place else { continue };
            let stored = snapshot.stored_quotas.iter().filter(|(_, name)| *name == store.name);
            let quotas = stored.filter_map(|(id, _)| Some((*id, snapshot.quotas.get(id.index())?.clone())));
            let mut quotas: Vec<(QuotaId, Quota)> = quotas.collect();
            quotas.sort_by_key(|(id, _)| *id);
            quotas.dedup_by_key(|(id, _)| *id);
            found.push(CircleHere {
                name: store.name.clone(),
                settings: settings.clone(),
                quotas,
                members: settings.members.iter().map(|_| None).collect(),
            });
        }
        found
    }

    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// The process of a member begins: it remembers nothing.
    pub fn begin(&mut self, now: Instant, member: usize) {
        let count = self.members.len();
        let circle = Circle::new(member, count, wall(now).0, self.settings.lease, circle_time(now));
        let parts = count as u32;
        if let Some(place) = self.members.get_mut(member) {
            let limits = self.quotas.iter().map(|(id, quota)| LeasedLimit::new(*id, quota, parts));
            *place = Some(Member {
                circle,
                limits: limits.collect(),
                right: Right { is_active: false, parts, until: Instant::ZERO },
                parts,
                others: 0,
                was_active: false,
            });
        }
    }

    /// Its process is gone. Who waits there is to look, and finds nobody.
    pub fn end(&mut self, member: usize) -> Wanted {
        let gone = self.members.get_mut(member).and_then(Option::take);
        let limits = gone.into_iter().flat_map(|member| member.limits);
        let woken = limits.flat_map(|limit| limit.shards).flat_map(|shard| shard.waiting).collect();
        Wanted { woken, ..Wanted::default() }
    }

    /// A member says that it is there. `None` where it is not.
    pub fn beat(&mut self, now: Instant, member: usize, between: &mut Between) -> Option<(Wanted, Duration)> {
        let every = self.members.get(member)?.as_ref()?.circle.beat_every();
        let mut wanted = Wanted::default();
        self.turn(now, member, &mut wanted);
        for to in (0..self.members.len()).filter(|to| *to != member) {
            self.send(now, member, to, None, between, &mut wanted);
        }
        Some((wanted, every))
    }

    fn send(
        &mut self,
        now: Instant,
        from: usize,
        to: usize,
        item: Option<Item>,
        between: &mut Between,
        wanted: &mut Wanted,
    ) {
        let Some(Some(member)) = self.members.get_mut(from) else { return };
        let message = Message { beat: member.circle.beat(circle_time(now), to), item };
        let times = between.fate(now, from, to).into_iter();
        wanted.sent.extend(times.map(|time| (now + time, message.clone())));
    }

    /// Looks at what follows for counts.
    fn turn(&mut self, now: Instant, at: usize, wanted: &mut Wanted) {
        let time = circle_time(now);
        let Some(Some(member)) = self.members.get_mut(at) else { return };
        let Change { right, parts_before, empty_since } = member.circle.turn(time);
        let is_cut = right.parts != member.parts || parts_before != member.parts;
        for limit in &mut member.limits {
            for shard in &mut limit.shards {
                if is_cut {
                    shard.pot.cut(time, &limit.meter, parts_before, right.parts);
                }
                if let Some(since) = empty_since {
                    shard.pot.empty(time, &limit.meter, since);
                }
            }
        }
        member.parts = right.parts;
        member.others = member.circle.present(time).count();
        member.right = right;
        if right.is_active != member.was_active {
            member.was_active = right.is_active;
            let what = if right.is_active {
                format!("has its share of {}, one of {}", self.name, right.parts)
            } else {
                format!(
                    "hears too few others of {}: limits that are shared there do as they say for that",
                    self.name
                )
            };
            wanted.noted.push((at, what));
        }
    }

    /// Parts of all who may use one are never more than the whole.
    pub fn check_invariants(&self, now: Instant) -> Result<(), &'static str> {
        let time = circle_time(now);
        let active = self.members.iter().flatten().filter(|member| member.is_active(time));
        let parts: u64 = active.map(|member| WHOLE / u64::from(member.right.parts.max(1))).sum();
        if parts > WHOLE {
            return Err("members of a circle have more parts of a limit than there are");
        }
        Ok(())
    }

    /// A message is there.
    pub fn hear(&mut self, now: Instant, message: &Message, between: &mut Between) -> Wanted {
        let mut wanted = Wanted::default();
        let time = circle_time(now);
        let Message { beat, item } = message;
        let (from, to) = (usize::from(beat.from), usize::from(beat.to));
        // Its process is gone, or it was cut off while this was on its way.
        if between.state(now, to) != GatewayState::Up {
            return wanted;
        }
        let Some(Some(member)) = self.members.get_mut(to) else { return wanted };
        match member.circle.on_beat(time, beat) {
            Reception::Ignored => return wanted,
            Reception::Strange => {
                self.send(now, to, from, None, between, &mut wanted);
                return wanted;
            }
            Reception::Taken => self.turn(now, to, &mut wanted),
        }
        let (Some(item), Some(Some(member))) = (item, self.members.get_mut(to)) else { return wanted };
        let known = member.limits.iter_mut().find(|limit| limit.quota == item.quota);
        let Some((meter, shard)) = known.map(|limit| limit.shard(item.key)) else { return wanted };
        let parts = shard.pot.parts();
        match item.what {
            What::Asked { units } => {
                let asked = (u128::from(units) * u128::from(parts)).div_ceil(item.parts.into());
                let asked = u64::try_from(asked).unwrap_or(u64::MAX);
                let what = What::Lent(shard.pot.lend(time, meter, item.key, asked, to < from));
                self.send(now, to, from, Some(Item { parts, what, ..*item }), between, &mut wanted);
            }
            What::Lent(lent) => {
                let units = u128::from(lent.units) * u128::from(parts) / u128::from(item.parts);
                let units = u64::try_from(units).unwrap_or(u64::MAX).min(meter.whole());
                shard.pot.receive(time, meter, item.key, item.asked_at, Lent { units, ..lent });
                wanted.woken.append(&mut shard.waiting);
            }
        }
        wanted
    }

    /// Takes from the limits of a request of a member: from all, or from none. `may_count` where it counts by itself without
    /// a share, `is_last` where it waits no longer.
    #[expect(clippy::too_many_arguments, reason = "one for each thing that a request says")]
    pub fn spend(
        &mut self,
        now: Instant,
        at: usize,
        key: Key,
        claims: &[Claim],
        may_count: bool,
        is_last: bool,
        between: &mut Between,
    ) -> (Said, Wanted) {
        let (mut wanted, time) = (Wanted::default(), circle_time(now));
        let count = self.members.len() as u32;
        let Some(Some(member)) = self.members.get_mut(at) else { return (Said::Nobody, wanted) };
        let is_active = member.is_active(time);
        if !is_active && !may_count {
            return (Said::Nobody, wanted);
        }
        // A share that has ended is what everybody has.
        let parts_min = if is_active { 1 } else { count };
        let mut rooms = vec![Room::default(); claims.len()];
        let mut order: Vec<(usize, PotBid<'_>)> = Vec::new();
        for limit in &mut member.limits {
            let Some(at) = claims.iter().position(|claim| claim.quota == limit.quota) else { continue };
            let Claim { cost, is_shadow, key, .. } = &claims[at];
            let key = limit.key(key);
            let (meter, shard) = limit.shard(key);
            order.push((at, PotBid { meter, pot: &mut shard.pot, key, cost: *cost, is_shadow: *is_shadow }));
        }
        order.sort_by_key(|(at, _)| *at);
        let mut bids: Vec<PotBid<'_>> = order.into_iter().map(|(_, bid)| bid).collect();
        if bids.len() != claims.len() {
            return (Said::Nobody, wanted);
        }
        let wishes = match spend(time, parts_min, member.others, is_last, &mut bids, &mut rooms) {
            Spend::Said(spent) => return (Said::Told(spent, rooms), wanted),
            Spend::Wait(wishes) => wishes,
        };
        let asked: Vec<Item> = wishes
            .iter()
            .map(|wish| {
                let bid = &bids[wish.bid];
                let (quota, parts) = (claims[wish.bid].quota, bid.pot.parts());
                let what = What::Asked { units: wish.units };
                Item { quota, key: bid.key, asked_at: wish.asked_at, parts, what }
            })
            .collect();
        drop(bids);
        for limit in &mut member.limits {
            let Some(claim) = claims.iter().find(|claim| claim.quota == limit.quota) else { continue };
            let named = limit.key(&claim.key);
            limit.shard(named).1.waiting.push(key);
        }
        let others: Vec<usize> = member.circle.present(time).collect();
        for item in asked {
            for to in &others {
                self.send(now, at, *to, Some(item), between, &mut wanted);
            }
        }
        (Said::Wait, wanted)
    }
}
