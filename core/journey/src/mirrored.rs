//! How did the copies of a mirror fare? Its name, and the counts of how they ended, for whoever keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use naru_base::Reason;
use naru_route::CompiledRule;

use crate::ShadowEnd;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MirrorName {
    pub virtual_host: Arc<str>,
    /// Where the route has no name, where it is written, or which one it is.
    pub route: Arc<str>,
    /// Where copies go.
    pub cluster: Arc<str>,
}

impl MirrorName {
    pub fn of(virtual_host: &str, rule: &CompiledRule, at: u32, cluster: &str) -> MirrorName {
        let route: Arc<str> = match (&*rule.name, &*rule.origin) {
            ("", "") => format!("#{at}").into(),
            ("", origin) => origin.into(),
            (name, _) => name.into(),
        };
        MirrorName { virtual_host: virtual_host.into(), route, cluster: cluster.into() }
    }
}

/// How copies ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorCounts {
    /// That were made, whatever became of them.
    pub copies: u64,
    pub answered: u64,
    /// Never sent, by why.
    pub refused: BTreeMap<Reason, u64>,
    pub failed: u64,
    pub timed_out: u64,
    /// The mirror took their bodies too slowly.
    pub overrun: u64,
    pub abandoned: u64,
    /// Of those that were answered.
    pub statuses: BTreeMap<u16, u64>,
}

impl MirrorCounts {
    pub fn on_end(&mut self, end: ShadowEnd, status: u16) {
        match end {
            ShadowEnd::Answered => {
                self.answered += 1;
                *self.statuses.entry(status).or_default() += 1;
            }
            ShadowEnd::Refused(reason) => *self.refused.entry(reason).or_default() += 1,
            ShadowEnd::Failed(_) => self.failed += 1,
            ShadowEnd::TimedOut => self.timed_out += 1,
            ShadowEnd::Overrun => self.overrun += 1,
            ShadowEnd::Abandoned => self.abandoned += 1,
        }
    }

    /// Adds what another worker counted.
    pub fn add(&mut self, other: &MirrorCounts) {
        self.copies += other.copies;
        self.answered += other.answered;
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.overrun += other.overrun;
        self.abandoned += other.abandoned;
        for (reason, count) in &other.refused {
            *self.refused.entry(*reason).or_default() += count;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
    }
}
