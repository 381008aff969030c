//! The only file of the data plane that reads clocks.
//!
//! A worker reads its clock once for all the events that it finds when it wakes up; under load, when
//! it never sleeps, once for every few events. That is exact to well under a millisecond and costs
//! next to nothing.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use naru_base::{Instant, Times, WallTime};

/// So many looks may share one reading.
const LOOKS_MAX: u32 = 16;
/// The wall clock may be set while we run; it is compared this often.
const WALL_CHECK: Duration = Duration::from_secs(1);

thread_local! {
    static HAS_SLEPT: Cell<bool> = const { Cell::new(true) };
}

/// To be called whenever this thread's runtime wakes up.
pub fn on_wake() {
    HAS_SLEPT.with(|slept| slept.set(true));
}

/// A worker's clock. All clocks made from one [`Origin`] agree.
#[derive(Debug)]
pub struct Clock {
    origin: Origin,
    now: Cell<Instant>,
    looks: Cell<u32>,
    /// A moment on both clocks.
    wall: Cell<(Instant, WallTime)>,
    /// The second since 1970 that `date` says.
    date_of: Cell<u64>,
    date: RefCell<HeaderValue>,
    /// Writes times into logs.
    pub times: Times,
}

/// The moment that a process counts from.
#[derive(Clone, Copy, Debug)]
pub struct Origin(std::time::Instant);

impl Origin {
    pub fn now() -> Origin {
        Origin(std::time::Instant::now())
    }

    pub fn elapsed(self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Clock {
    pub fn new(origin: Origin) -> Clock {
        let now = origin.elapsed();
        Clock {
            origin,
            now: Cell::new(now),
            looks: Cell::new(0),
            wall: Cell::new((now, wall_now())),
            date_of: Cell::new(0),
            date: RefCell::new(HeaderValue::from_static("")),
            times: Times::default(),
        }
    }

    /// The time of this wake-up, or nearly.
    #[inline]
    pub fn now(&self) -> Instant {
        let looks = self.looks.get();
        if looks == 0 || HAS_SLEPT.with(Cell::get) {
            return self.read();
        }
        self.looks.set(looks - 1);
        self.now.get()
    }

    fn read(&self) -> Instant {
        HAS_SLEPT.with(|slept| slept.set(false));
        self.looks.set(LOOKS_MAX);
        let now = self.origin.elapsed();
        self.now.set(now);
        if now.since(self.wall.get().0) >= WALL_CHECK {
            self.wall.set((now, wall_now()));
        }
        now
    }

    /// What a `Date` header says now.
    #[inline]
    pub fn date(&self) -> HeaderValue {
        self.update_date(self.now());
        self.date.borrow().clone()
    }

    /// Appends what a `Date` header says at a moment that was just now.
    #[inline]
    pub fn write_date(&self, now: Instant, out: &mut Vec<u8>) {
        self.update_date(now);
        out.extend_from_slice(self.date.borrow().as_bytes());
    }

    #[inline]
    fn update_date(&self, now: Instant) {
        let now = self.wall(now);
        let second = now.0 / 1_000_000_000;
        if self.date_of.replace(second) != second
            && let Ok(date) = HeaderValue::from_str(&now.http_date())
        {
            *self.date.borrow_mut() = date;
        }
    }

    /// The date and time of a moment that is not long ago.
    pub fn wall(&self, at: Instant) -> WallTime {
        let (then, wall) = self.wall.get();
        if at >= then { wall + at.since(then) } else { WallTime(wall.0.saturating_sub(then.0 - at.0)) }
    }
}

/// The date and time.
pub fn wall_now() -> WallTime {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
}

/// A number that differs between processes: where seeds come from when none is given.
pub fn seed() -> u64 {
    wall_now().0 ^ (u64::from(std::process::id()) << 32)
}
