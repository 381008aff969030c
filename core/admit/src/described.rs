//! What a request is called for those who count it, and what a rate limit service says to that.
//!
//! Envoy's `RateLimitDescriptor` and `RateLimitResponse`, as they are known once they are made and read.

use bytes::Bytes;

/// One descriptor of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Keys and values, in order.
    pub entries: Vec<(Box<str>, Box<str>)>,
    /// What the request takes, where it is said.
    pub hits: Option<u64>,
    /// It gives them back.
    pub gives_back: bool,
    /// Requests in a unit (`RateLimitUnit`), instead of what the service says.
    pub limit: Option<(u32, u32)>,
    /// Whether its client is told what is left by this one; else as the filter says.
    pub tells: Option<bool>,
}

/// An answer of a rate limit service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAnswer {
    /// It says so; whatever else it says is leave to go on, as in Envoy.
    pub is_over_limit: bool,
    /// Of descriptors, in their order.
    pub statuses: Vec<DescriptorStatus>,
    pub response_headers: Vec<(Box<str>, Bytes)>,
    pub request_headers: Vec<(Box<str>, Bytes)>,
    /// Of a refusal.
    pub body: Bytes,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescriptorStatus {
    pub is_over_limit: bool,
    pub limit: Option<CurrentLimit>,
    pub remaining: u32,
    /// Seconds until its window ends.
    pub reset: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentLimit {
    pub name: Box<str>,
    pub requests: u32,
    /// As the message has it; 0 is unknown.
    pub unit: u32,
}

/// What a client is told: the draft of 2020 that Envoy follows (draft-polli-ratelimit-headers-03).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftToClient {
    /// The limit that is nearest, and all limits with their windows.
    pub limit: String,
    pub remaining: u32,
    pub reset: i64,
}

impl ServiceAnswer {
    /// Of the limit of which the least is left. `tells` says by the number of a descriptor whether it is told of.
    pub fn left(&self, tells: impl Fn(usize) -> bool) -> Option<LeftToClient> {
        let told = self.statuses.iter().enumerate().filter(|(at, _)| tells(*at));
        let known: Vec<_> = told.filter_map(|(_, status)| Some((status, status.limit.as_ref()?))).collect();
        let (least, of_least) = known.iter().min_by_key(|(status, _)| status.remaining)?;
        let mut limit = of_least.requests.to_string();
        for (_, known) in &known {
            let Some(window) = seconds_of(known.unit) else { continue };
            limit.push_str(&format!(", {};w={window}", known.requests));
            if !known.name.is_empty() {
                limit.push_str(&format!(";name=\"{}\"", known.name));
            }
        }
        Some(LeftToClient { limit, remaining: least.remaining, reset: least.reset.unwrap_or(0) })
    }

    /// Seconds until whoever is beyond a limit may come again: the longest, one at least.
    pub fn retry_after(&self) -> Option<i64> {
        let over = self.statuses.iter().filter(|status| status.is_over_limit);
        over.filter_map(|status| status.reset).max().map(|reset| reset.max(1))
    }
}

/// How long a window of this unit is: Envoy counts 30 days for a month.
fn seconds_of(unit: u32) -> Option<u64> {
    const DAY: u64 = 86_400;
    match unit {
        1 => Some(1),
        2 => Some(60),
        3 => Some(3_600),
        4 => Some(DAY),
        5 => Some(30 * DAY),
        6 => Some(365 * DAY),
        7 => Some(7 * DAY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(remaining: u32, requests: u32, unit: u32, name: &str, reset: i64) -> DescriptorStatus {
        let limit = Some(CurrentLimit { name: name.into(), requests, unit });
        DescriptorStatus { is_over_limit: remaining == 0, limit, remaining, reset: Some(reset) }
    }

    #[test]
    fn the_nearest_limit_is_told_with_all_windows() {
        let silent = DescriptorStatus::default();
        let statuses = vec![
            status(7, 1_000, 3, "", 40),
            silent,
            status(0, 10, 2, "per-ip", 30),
            status(9, 4, 0, "", 70),
        ];
        let answer = ServiceAnswer { statuses, ..ServiceAnswer::default() };
        let left = answer.left(|_| true).unwrap();
        assert_eq!(left.limit, "10, 1000;w=3600, 10;w=60;name=\"per-ip\"");
        assert_eq!((left.remaining, left.reset), (0, 30));
        assert_eq!(answer.left(|at| at == 0).unwrap().limit, "1000, 1000;w=3600");
        assert_eq!(answer.left(|at| at == 1), None, "it says nothing of a limit");
        assert_eq!(answer.left(|at| at == 3).unwrap().limit, "4", "a window that nobody knows");
        assert_eq!(answer.retry_after(), Some(30));
        assert_eq!(ServiceAnswer::default().retry_after(), None);
        let now = ServiceAnswer { statuses: vec![status(0, 1, 1, "", 0)], ..ServiceAnswer::default() };
        assert_eq!(now.retry_after(), Some(1), "who comes at once comes too early");
    }
}
