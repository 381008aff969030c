//! What is known of mirrors: how their copies fared, and what their answers differ in.
//!
//! One worker's part of it, counted without locks and added up when somebody asks (ADR 8), as are the
//! other numbers. It is kept by name (virtual host, route, cluster of the mirror) for as long as a snapshot has such a
//! mirror, so that a change of the configuration does not lose what was learned.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use naru_journey::ShadowEnd;
pub use naru_journey::{MirrorCounts, MirrorName};
use naru_recover::mirror::compare::{Answer, Noise, Report};
use naru_recover::mirror::learns;
use naru_spec::{Comparison, defaults};

use crate::cluster::add;
use crate::metrics::Histogram;

/// All mirrors of one worker.
#[derive(Debug, Default)]
pub struct Mirrors {
    all: RefCell<Vec<Rc<MirrorHere>>>,
    /// Copies under way.
    pub active: Cell<u64>,
    pub budget: Rc<Budget>,
}

/// A mirror of a route, as one worker has it.
#[derive(Debug)]
pub struct MirrorHere {
    name: MirrorName,
    counts: RefCell<MirrorCounts>,
    comparison: RefCell<Box<ComparisonReport>>,
    /// Requests whose answers were to be compared.
    begun: Cell<u64>,
}

/// What answers differ in, where they are compared.
#[derive(Clone, Debug, Default)]
pub struct ComparisonReport {
    pub report: Report,
    pub noise: Noise,
    /// Times at which the request's own cluster was asked twice, and noise was learned from it.
    pub learned: u64,
    /// Requests of which one of the two answers is missing.
    pub unpaired: u64,
    /// Pairs in which the copy's answer took longer to begin.
    pub slower: u64,
    /// How long the answers took to begin, in milliseconds.
    pub primary: Histogram,
    pub candidate: Histogram,
}

/// What all workers know of a mirror.
#[derive(Clone, Debug)]
pub struct MirrorReport {
    pub name: MirrorName,
    pub counts: MirrorCounts,
    pub comparison: ComparisonReport,
}

/// An answer as far as it is compared, and how long it took to begin.
#[derive(Clone, Copy, Debug)]
pub struct Paced<'a> {
    pub answer: Answer<'a>,
    pub took: Duration,
}

/// The bytes that copies of one worker may hold together.
#[derive(Debug, Default)]
pub struct Budget {
    held: Cell<usize>,
}

impl Budget {
    /// Whether there was room; then it is to be given back.
    pub fn take(&self, bytes: usize) -> bool {
        let held = self.held.get() + bytes;
        let has_room = held <= defaults::COPIES_BYTES_MAX;
        if has_room {
            self.held.set(held);
        }
        has_room
    }

    pub fn give_back(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_sub(bytes));
    }
}

impl Mirrors {
    /// What is counted for a mirror, for as long as anybody has it.
    pub fn named(&self, name: MirrorName) -> Rc<MirrorHere> {
        let mut all = self.all.borrow_mut();
        if let Some(known) = all.iter().find(|known| known.name == name) {
            return Rc::clone(known);
        }
        let new = Rc::new(MirrorHere {
            name,
            counts: RefCell::default(),
            comparison: RefCell::default(),
            begun: Cell::new(0),
        });
        all.push(Rc::clone(&new));
        new
    }

    /// Counts one more copy, unless there are too many.
    pub fn begin(&self) -> bool {
        let has_room = self.active.get() < defaults::COPIES_MAX as u64;
        if has_room {
            add(&self.active, 1);
        }
        has_room
    }

    pub fn end(&self) {
        add(&self.active, -1);
    }

    /// Bytes that copies and comparisons hold.
    pub fn bytes_held(&self) -> u64 {
        self.budget.held.get() as u64
    }

    pub fn report(&self) -> Vec<MirrorReport> {
        let mut all = self.all.borrow_mut();
        all.retain(|mirror| Rc::strong_count(mirror) > 1);
        let mut reports: Vec<MirrorReport> = all.iter().map(|mirror| mirror.report()).collect();
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        reports
    }
}

impl MirrorHere {
    pub fn on_copy(&self) {
        self.counts.borrow_mut().copies += 1;
    }

    pub fn on_end(&self, end: ShadowEnd, status: u16) {
        self.counts.borrow_mut().on_end(end, status);
    }

    /// A request's answer will be compared; says whether noise is to be learned from it.
    pub fn on_comparison(&self) -> bool {
        let begun = self.begun.get();
        self.begun.set(begun + 1);
        learns(begun)
    }

    /// One of the two answers is missing.
    pub fn on_unpaired(&self) {
        self.comparison.borrow_mut().unpaired += 1;
    }

    /// `twin` is what the request's own cluster said the second time, where it was asked.
    pub fn compare(
        &self,
        primary: &Paced<'_>,
        twin: Option<&Answer<'_>>,
        candidate: &Paced<'_>,
        settings: &Comparison,
    ) {
        let ComparisonReport {
            report,
            noise,
            learned,
            slower,
            primary: of_primary,
            candidate: of_candidate,
            ..
        } = &mut **self.comparison.borrow_mut();
        if let Some(twin) = twin {
            noise.learn(&primary.answer, twin, settings);
            *learned += 1;
        }
        report.compare(&primary.answer, &candidate.answer, noise, settings);
        *slower += u64::from(candidate.took > primary.took);
        of_primary.observe(primary.took.as_secs_f64() * 1_000.0);
        of_candidate.observe(candidate.took.as_secs_f64() * 1_000.0);
    }

    fn report(&self) -> MirrorReport {
        MirrorReport {
            name: self.name.clone(),
            counts: self.counts.borrow().clone(),
            comparison: (**self.comparison.borrow()).clone(),
        }
    }
}

impl MirrorReport {
    /// Adds what another worker knows of the same mirror.
    pub fn add(&mut self, other: &MirrorReport) {
        self.counts.add(&other.counts);
        let (mine, theirs) = (&mut self.comparison, &other.comparison);
        mine.report.add(&theirs.report);
        mine.noise.add(&theirs.noise);
        mine.learned += theirs.learned;
        mine.unpaired += theirs.unpaired;
        mine.slower += theirs.slower;
        mine.primary.add(&theirs.primary);
        mine.candidate.add(&theirs.candidate);
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Reason;

    use super::*;

    fn name(route: &str) -> MirrorName {
        MirrorName { virtual_host: "v".into(), route: route.into(), cluster: "m".into() }
    }

    #[test]
    fn what_is_known_stays_with_its_name_until_nobody_has_it() {
        let mirrors = Mirrors::default();
        let first = mirrors.named(name("b"));
        first.on_copy();
        let second = mirrors.named(name("a"));
        assert!(Rc::ptr_eq(&first, &mirrors.named(name("b"))));
        let told: Vec<_> =
            mirrors.report().iter().map(|r| (r.name.route.to_string(), r.counts.copies)).collect();
        assert_eq!(told, [("a".to_owned(), 0), ("b".to_owned(), 1)]);
        drop(first);
        assert_eq!(mirrors.report().len(), 1);
        drop(second);
        assert_eq!(mirrors.named(name("b")).counts.borrow().copies, 0);
    }

    #[test]
    fn copies_and_their_bytes_are_limited() {
        let mirrors = Mirrors::default();
        assert!((0..defaults::COPIES_MAX).all(|_| mirrors.begin()));
        assert!(!mirrors.begin());
        mirrors.end();
        assert!(mirrors.begin());
        assert!(mirrors.budget.take(defaults::COPIES_BYTES_MAX) && !mirrors.budget.take(1));
        mirrors.budget.give_back(1);
        assert!(mirrors.budget.take(1));
    }

    #[test]
    fn every_end_is_counted_and_workers_are_added_up() {
        let mirrors = Mirrors::default();
        let here = mirrors.named(name("a"));
        for end in [
            ShadowEnd::Answered,
            ShadowEnd::Refused(Reason::BreakerOpen),
            ShadowEnd::Failed(Reason::UpstreamClosed),
            ShadowEnd::TimedOut,
            ShadowEnd::Overrun,
            ShadowEnd::Abandoned,
        ] {
            here.on_copy();
            here.on_end(end, 200);
        }
        let mut all = mirrors.report().remove(0);
        all.add(&all.clone());
        let expected = MirrorCounts {
            copies: 12,
            answered: 2,
            refused: [(Reason::BreakerOpen, 2)].into(),
            failed: 2,
            timed_out: 2,
            overrun: 2,
            abandoned: 2,
            statuses: [(200, 2)].into(),
        };
        assert_eq!(all.counts, expected);
    }
}
