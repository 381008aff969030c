//! What few requests have, in one place of their own.

use super::Journey;
use super::falling_back::Falling;
use super::gating::Gating;
use super::grouping::Grouping;
use super::passing::Passing;
use crate::brought::Brought;

/// Where a request stands with limits that have a name, with what is tried instead, and with groups for reads and writes.
#[derive(Debug, Default)]
pub(super) struct Policed {
    pub passing: Passing,
    pub falling: Falling,
    pub grouping: Grouping,
    /// Where its cluster has no endpoints but those that come with requests.
    pub brought: Option<Brought>,
    pub gating: Option<Box<Gating>>,
}

impl Journey {
    pub(super) fn policed(&mut self) -> &mut Policed {
        self.policed.get_or_insert_default()
    }

    #[inline]
    pub(super) fn passing(&self) -> Passing {
        self.policed.as_ref().map_or_else(Passing::default, |policed| policed.passing)
    }

    pub(super) fn passing_mut(&mut self) -> &mut Passing {
        &mut self.policed().passing
    }

    #[inline]
    pub(super) fn falling(&self) -> Falling {
        self.policed.as_ref().map_or_else(Falling::default, |policed| policed.falling)
    }

    pub(super) fn falling_mut(&mut self) -> &mut Falling {
        &mut self.policed().falling
    }

    #[inline]
    pub(super) fn grouping(&self) -> Grouping {
        self.policed.as_ref().map_or_else(Grouping::default, |policed| policed.grouping)
    }

    pub(super) fn grouping_mut(&mut self) -> &mut Grouping {
        &mut self.policed().grouping
    }
}
