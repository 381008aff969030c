//! What becomes of a connection whose bytes are passed through unread: the settings of Envoy's TCP proxy.
//!
//! Source: Envoy's `tcp_proxy.proto`; Istio's `tcp` and `tls` routes become the same.

use std::time::Duration;

use crate::{AccessLog, ClusterChoice, HashPolicy, Invalid, defaults};

#[derive(Clone, Debug, PartialEq)]
pub struct TcpProxy {
    /// The prefix of its statistics.
    pub stat_prefix: String,
    /// One draw for each connection.
    pub clusters: ClusterChoice,
    /// Where the route is written: `file:line:column`. Empty where nobody knows.
    pub origin: String,
    /// Nothing moves in either direction for this long: both sides are closed. `None` waits for ever.
    pub idle_timeout: Option<Duration>,
    /// From when the client came.
    pub duration_max: Option<Duration>,
    /// How often an endpoint is tried where no connection can be made: at least once.
    pub attempts_max: u32,
    /// What chooses the endpoint where the cluster is balanced by a consistent hash.
    pub hash: Vec<HashPolicy>,
    pub access_log: Vec<AccessLog>,
}

impl TcpProxy {
    /// Envoy's defaults around a choice of clusters.
    pub fn new(stat_prefix: impl Into<String>, clusters: ClusterChoice) -> TcpProxy {
        TcpProxy {
            stat_prefix: stat_prefix.into(),
            clusters,
            origin: String::new(),
            idle_timeout: Some(defaults::TCP_IDLE_TIMEOUT),
            duration_max: None,
            attempts_max: defaults::TCP_ATTEMPTS,
            hash: Vec::new(),
            access_log: Vec::new(),
        }
    }

    /// Values that cannot be.
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if self.attempts_max == 0 {
            found.push(Invalid::new("an endpoint is tried at least once").hint("max_connect_attempts: 1"));
        }
        if self.attempts_max > defaults::RETRIES_MAX + 1 {
            let most = defaults::RETRIES_MAX + 1;
            found.push(Invalid::new(format!("an endpoint is tried at most {most} times")));
        }
        if self.duration_max.is_some_and(|max| max.is_zero()) {
            found.push(Invalid::new("a connection lasts longer than no time"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_told_at_once() {
        let mut proxy = TcpProxy::new("tcp", ClusterChoice::One("a".to_owned()));
        assert_eq!(proxy.problems(), []);
        proxy.attempts_max = 0;
        proxy.duration_max = Some(Duration::ZERO);
        assert_eq!(proxy.problems().len(), 2);
        proxy.attempts_max = defaults::RETRIES_MAX + 2;
        assert_eq!(proxy.problems().len(), 2);
    }
}
