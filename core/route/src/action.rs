//! What a rule says to do.

use std::sync::Arc;

use naru_spec::DirectResponse;

use crate::edits::EditPair;
use crate::{Choice, CompiledForward, CompiledRedirect};

/// A compiled rule.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    pub name: Box<str>,
    /// Where it is written.
    pub origin: Box<str>,
    pub virtual_host: u32,
    pub action: CompiledAction,
    pub(crate) edits: Arc<EditPair>,
}

#[derive(Clone, Debug)]
pub enum CompiledAction {
    Forward(CompiledForward),
    Redirect(CompiledRedirect),
    Direct(DirectResponse),
}

impl CompiledRule {
    /// All header operations of every level. With a choice, those of its weighted cluster come
    /// first; without one (a redirect, a direct response) there are none of a cluster.
    #[inline]
    pub fn edits(&self, choice: Option<Choice>) -> &EditPair {
        match (&self.action, choice) {
            (CompiledAction::Forward(forward), Some(choice)) => forward.edits(choice).unwrap_or(&self.edits),
            _ => &self.edits,
        }
    }
}
