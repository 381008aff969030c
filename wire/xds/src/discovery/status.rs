//! What is told of a control plane?

use naru_base::WallTime;

use super::Kind;

/// How it stands between a proxy and its control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub is_connected: bool,
    /// Streams that stood, and those that ended or never stood.
    pub connects: u64,
    pub failures: u64,
    pub kinds: Vec<KindStatus>,
    pub waiting: Vec<Waiting>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindStatus {
    pub kind: Kind,
    /// Of the last response that was accepted.
    pub version: String,
    pub resources: usize,
    /// How many are asked for by name; `None` where all there are, are.
    pub asked: Option<usize>,
    pub attempts: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub updated: Option<WallTime>,
    /// Why the last response was refused, where it was.
    pub refusal: Option<String>,
}

/// What has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub kind: Kind,
    /// Empty for the first clusters or listeners at all.
    pub name: String,
    /// It is taken to be empty meanwhile, where nothing was there before.
    pub is_over: bool,
}
