//! What has a member of a limit's keys, and what does it ask the others for?
//!
//! A key is counted in parts of requests: a limit that is cut into three parts has a third of a bucket here, and a request
//! that costs three thirds. So nothing changes for what is counted when parts become more or fewer, but the price.
//!
//! Who has less than a request costs asks all others at once, each for its share of what is lacking, and for more with
//! each time that this was not enough. What he gets he has for a twentieth of the limit's window, as its giver's bucket
//! fills again meanwhile: so all together are never allowed more than a twentieth beyond the limit. Of a fixed window he
//! has it until that ends. Where nobody has anything left, nobody is asked again for as long as it takes for a request's
//! worth to come back.

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::Instant;

use crate::quota::{Cell, Ledger, Meter, Room, Spent};

/// So many keys of a pot are asked for at a time. Whoever has another one has his own part of it.
const BORROWED_MAX: usize = 512;
/// Between two questions for a key of which nobody has anything.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Who has not answered by then has nothing.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// What one member has of a limit, or of some of its keys.
#[derive(Debug)]
pub struct Pot {
    ledger: Ledger,
    parts: u32,
    borrowed: BTreeMap<u64, Borrowed>,
}

/// Of one key, what came from others, and what they are asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Borrowed {
    units: u64,
    until: Instant,
    asked: Option<Asked>,
    /// Nobody has any before.
    none_until: Instant,
    /// What is asked for.
    batch: u64,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    left: usize,
    /// Somebody has more than he gave.
    is_more: bool,
}

/// What is to be asked of each of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The bid that it is for.
    pub bid: usize,
    pub units: u64,
    pub asked_at: Instant,
}

/// What somebody else is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Lent {
    pub units: u64,
    pub is_more: bool,
}

/// One limit that a request has to pass.
#[derive(Debug)]
pub struct PotBid<'a> {
    pub meter: &'a Meter,
    pub pot: &'a mut Pot,
    pub key: u64,
    pub cost: u32,
    pub is_shadow: bool,
}

/// What a request is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spend {
    Said(Spent),
    /// Others are to be asked these, or have been asked; it is to ask once more when they have answered.
    Wait(Vec<Wish>),
}

/// Where a request stands with a limit of which too little is here.
enum Standing {
    Lacking,
    Asking { is_pending: bool },
}

/// Takes from all limits, or from none. `others` are those who can be asked, `is_last` that nobody waits any more.
pub fn spend(
    now: Instant,
    parts_min: u32,
    others: usize,
    is_last: bool,
    bids: &mut [PotBid<'_>],
    rooms: &mut [Room],
) -> Spend {
    let mut spent = Spent::default();
    let mut short = Vec::new();
    for (at, (bid, room)) in bids.iter_mut().zip(rooms.iter_mut()).enumerate() {
        *room = bid.room(now, parts_min);
        let price = bid.price(parts_min);
        let have = bid.pot.has(now, bid.meter, bid.key);
        if have < price {
            short.push((at, price, price - have));
        }
    }
    // Whoever is refused anyway asks for nothing else.
    let mut wishes = Vec::new();
    let mut is_asking = false;
    let mut all: Vec<(usize, u64, Standing)> = Vec::new();
    for (at, price, lacking) in short {
        let Some(bid) = bids.get_mut(at) else { continue };
        let may_ask = !is_last && others > 0;
        let standing = bid.pot.standing(now, bid.meter, bid.key, may_ask);
        if matches!(standing, Standing::Lacking) {
            if bid.is_shadow {
                spent.shadowed |= 1u32.checked_shl(at as u32).unwrap_or(0);
            } else if spent.refused_by.is_none() {
                spent.refused_by = Some(at);
            }
            if let Some(room) = rooms.get_mut(at) {
                room.retry_after = Some(bid.wait(now, price, parts_min));
            }
        }
        all.push((at, lacking, standing));
    }
    if spent.refused_by.is_some() {
        return Spend::Said(spent);
    }
    for (at, lacking, standing) in all {
        let (Standing::Asking { is_pending }, Some(bid)) = (standing, bids.get_mut(at)) else { continue };
        is_asking = true;
        if is_pending {
            continue;
        }
        bid.pot.ask(now, bid.meter, bid.key, lacking, others);
        let units = bid.pot.batch(bid.key).div_ceil(others.max(1) as u64);
        wishes.push(Wish { bid: at, units, asked_at: now });
    }
    if is_asking {
        return Spend::Wait(wishes);
    }
    for (at, (bid, room)) in bids.iter_mut().zip(rooms.iter_mut()).enumerate() {
        if spent.shadowed & 1u32.checked_shl(at as u32).unwrap_or(0) == 0 {
            let price = bid.price(parts_min);
            bid.pot.take(now, bid.meter, bid.key, price);
            *room = bid.room(now, parts_min);
        }
    }
    Spend::Said(spent)
}

impl PotBid<'_> {
    fn price(&self, parts_min: u32) -> u64 {
        self.meter.price(self.cost, self.pot.parts.max(parts_min))
    }

    /// What is left, if the others have as much.
    fn room(&self, now: Instant, _parts_min: u32) -> Room {
        let cell = self.pot.ledger.look(now, self.meter, self.key);
        let mut room = self.meter.room(now, cell);
        let one = self.meter.price(1, 1).max(1);
        let have = self.pot.has(now, self.meter, self.key) / one;
        room.remaining = u32::try_from(have).unwrap_or(u32::MAX).min(room.limit);
        room
    }

    fn wait(&self, now: Instant, price: u64, parts_min: u32) -> Duration {
        let cell = self.pot.ledger.look(now, self.meter, self.key);
        let own = self.meter.until_left(now, cell, price.min(self.meter.whole()));
        (own / self.pot.parts.max(parts_min).max(1)).max(Duration::from_millis(1))
    }
}

impl Pot {
    /// One with room for so many keys at least, of a limit that is cut into so many parts.
    pub fn new(keys_max: u32, parts: u32) -> Pot {
        Pot { ledger: Ledger::new(keys_max), parts, borrowed: BTreeMap::new() }
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn parts(&self) -> u32 {
        self.parts
    }

    /// There are so many parts from now on. What a larger part holds more of comes by and by.
    pub fn cut(&mut self, now: Instant, meter: &Meter, before: u32, parts: u32) {
        let before = before.max(self.parts);
        self.parts = parts;
        if parts >= before {
            return;
        }
        let shrunk = |units: u64| {
            let kept = u128::from(units) * u128::from(parts) / u128::from(before.max(1));
            u64::try_from(kept).unwrap_or(units)
        };
        self.ledger.change(now, meter, |cell| {
            let left = meter.left(now, cell);
            meter.drawn(now, cell, left - shrunk(left))
        });
        for borrowed in self.borrowed.values_mut() {
            borrowed.units = shrunk(borrowed.units);
        }
    }

    /// Whatever there is came since then.
    pub fn empty(&mut self, now: Instant, meter: &Meter, since: Instant) {
        let empty = meter.drawn(since, Cell::default(), meter.whole());
        self.ledger.change(now, meter, |cell| meter.join(now, cell, empty));
        self.borrowed.clear();
    }

    fn has(&self, now: Instant, meter: &Meter, key: u64) -> u64 {
        let own = meter.left(now, self.ledger.look(now, meter, key));
        own.saturating_add(self.borrowed(now, key))
    }

    fn borrowed(&self, now: Instant, key: u64) -> u64 {
        self.borrowed.get(&key).filter(|borrowed| now < borrowed.until).map_or(0, |borrowed| borrowed.units)
    }

    /// What was borrowed goes first, as it ends first.
    fn take(&mut self, now: Instant, meter: &Meter, key: u64, price: u64) {
        let from_others = self.borrowed(now, key).min(price);
        if let Some(borrowed) = self.borrowed.get_mut(&key) {
            borrowed.units -= from_others.min(borrowed.units);
        }
        if from_others < price {
            let cell = meter.drawn(now, self.ledger.look(now, meter, key), price - from_others);
            self.ledger.keep(now, meter, key, cell);
        }
    }

    fn standing(&mut self, now: Instant, meter: &Meter, key: u64, may_ask: bool) -> Standing {
        if !may_ask {
            return Standing::Lacking;
        }
        let Some(borrowed) = self.borrowed.get_mut(&key) else {
            if self.borrowed.len() >= BORROWED_MAX {
                self.borrowed.retain(|_, known| known.matters(now));
            }
            let has_room = self.borrowed.len() < BORROWED_MAX;
            return if has_room { Standing::Asking { is_pending: false } } else { Standing::Lacking };
        };
        if let Some(asked) = borrowed.asked {
            if now < asked.at + ANSWER_MAX {
                return Standing::Asking { is_pending: true };
            }
            borrowed.conclude(now, meter, asked.is_more);
        }
        if now < borrowed.none_until { Standing::Lacking } else { Standing::Asking { is_pending: false } }
    }

    fn ask(&mut self, now: Instant, meter: &Meter, key: u64, lacking: u64, others: usize) {
        let borrowed = self.borrowed.entry(key).or_default();
        let has_ended = now >= borrowed.until;
        // More each time that it was used up; less where it was not, or was long ago.
        borrowed.batch = match borrowed.units {
            _ if now >= borrowed.until + meter.window() / 20 => 0,
            wasted if has_ended && wasted > 0 => borrowed.batch / 2,
            // What its last borrower does not use is nobody's for a while: of all of them no more than a twentieth.
            _ => borrowed.batch.saturating_mul(2).min(meter.whole() / 20),
        };
        borrowed.batch = borrowed.batch.max(lacking);
        if has_ended {
            borrowed.units = 0;
        }
        borrowed.asked = Some(Asked { at: now, left: others, is_more: false });
    }

    fn batch(&self, key: u64) -> u64 {
        self.borrowed.get(&key).map_or(0, |borrowed| borrowed.batch)
    }

    /// Gives of a key what there is, up to what is wanted. Of two who ask each other, the one who comes first keeps what
    /// he has: or each would have what the other needs.
    pub fn lend(&mut self, now: Instant, meter: &Meter, key: u64, wanted: u64, comes_first: bool) -> Lent {
        let cell = self.ledger.look(now, meter, key);
        let left = meter.left(now, cell);
        let is_asking = |known: &Borrowed| known.asked.is_some_and(|asked| now < asked.at + ANSWER_MAX);
        let is_asking = self.borrowed.get(&key).is_some_and(is_asking);
        if comes_first && is_asking {
            return Lent { units: 0, is_more: left > 0 };
        }
        let units = left.min(wanted);
        if units > 0 {
            self.ledger.keep(now, meter, key, meter.drawn(now, cell, units));
        }
        // What was borrowed itself goes on to who comes first only where nothing has come back for it meanwhile.
        let passes_on = !comes_first && !meter.refills();
        let borrowed = if passes_on { self.borrowed(now, key) } else { 0 };
        let more = borrowed.min(wanted - units);
        if let Some(known) = self.borrowed.get_mut(&key).filter(|_| more > 0) {
            known.units -= more;
        }
        let is_more = left + borrowed > units + more || is_asking;
        Lent { units: units + more, is_more }
    }

    /// Somebody has answered what was asked at that moment.
    pub fn receive(&mut self, now: Instant, meter: &Meter, key: u64, asked_at: Instant, lent: Lent) {
        let until = kept_until(meter, asked_at);
        let Some(borrowed) = self.borrowed.get_mut(&key) else { return };
        let Some(mut asked) = borrowed.asked.filter(|asked| asked.at == asked_at && asked.left > 0) else {
            return;
        };
        if now < until {
            // What was left before is less than a request.
            let known = if now < borrowed.until { borrowed.units } else { 0 };
            borrowed.units = known.saturating_add(lent.units);
            borrowed.until = until;
        }
        asked.left -= 1;
        asked.is_more |= lent.is_more;
        borrowed.asked = Some(asked);
        if asked.left == 0 {
            borrowed.conclude(now, meter, asked.is_more);
        }
    }
}

/// How long something is had that was asked for then. In a fixed window nothing comes back for who gave it.
fn kept_until(meter: &Meter, asked_at: Instant) -> Instant {
    let end = asked_at + meter.window() / 20;
    match meter.window_end(asked_at) {
        None => end,
        Some(window) if meter.refills() => end.min(window),
        Some(window) => window,
    }
}

impl Borrowed {
    /// Nobody else answers.
    fn conclude(&mut self, now: Instant, meter: &Meter, is_more: bool) {
        self.asked = None;
        if !is_more {
            let one =
                meter.window() / u32::try_from(meter.whole() / meter.price(1, 1).max(1)).unwrap_or(1).max(1);
            self.none_until = now + one.clamp(PAUSE_MIN, PAUSE_MAX);
        }
    }

    fn matters(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now < asked.at + ANSWER_MAX)
            || now < self.none_until
            || now < self.until && self.units > 0
    }
}
