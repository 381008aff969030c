//! What was decided about a request, in the words of the access log.

use std::net::SocketAddr;

use naru_base::Reason;
use naru_journey::{Journey, Outcome, Snapshot};
use naru_route::{CompiledAction, Verdict};
use serde::Serialize;

/// Each field is what the access log operator in its comment prints; empty or absent is its `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Decision<'a> {
    /// `%ROUTE_NAME%`.
    pub route: &'a str,
    /// `%VIRTUAL_HOST_NAME%`.
    pub virtual_host: &'a str,
    /// `%UPSTREAM_CLUSTER%`.
    pub cluster: Option<&'a str>,
    /// `%UPSTREAM_HOST%`.
    pub endpoint: Option<SocketAddr>,
    /// `%UPSTREAM_REQUEST_ATTEMPT_COUNT%`.
    pub attempts: u16,
    /// `%RESPONSE_CODE%`.
    pub status: u16,
    #[serde(serialize_with = "name_of")]
    pub reason: Reason,
    /// `%RESPONSE_FLAGS%`.
    pub flag: &'static str,
}

impl<'a> Decision<'a> {
    /// `endpoint` is the one that the request was counted at last.
    pub fn of(
        snapshot: &'a Snapshot,
        journey: &Journey,
        outcome: &Outcome,
        endpoint: Option<SocketAddr>,
    ) -> Decision<'a> {
        let table = &snapshot.chain(journey.chain()).table;
        let rule = journey.rule().map(|(id, _)| table.rule(id));
        let virtual_host = match journey.verdict() {
            Verdict::NoRule { virtual_host }
            | Verdict::ServerOptions { virtual_host }
            | Verdict::RequiresTls { virtual_host } => Some(virtual_host),
            Verdict::Rule { .. } => rule.map(|rule| rule.virtual_host),
            Verdict::NoVirtualHost => None,
        };
        let cluster = match (rule.map(|rule| &rule.action), journey.choice()) {
            (Some(CompiledAction::Forward(forward)), Some(choice)) => Some(forward.cluster_name(choice)),
            _ => None,
        };
        let cluster = journey.instead(snapshot).or(cluster);
        Decision {
            route: rule.map_or("", |rule| &rule.name),
            virtual_host: virtual_host.map_or("", |host| table.virtual_host_name(host)),
            cluster,
            endpoint,
            attempts: outcome.attempts,
            status: outcome.status,
            reason: outcome.reason,
            flag: outcome.flags(),
        }
    }
}

fn name_of<S: serde::Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.name())
}
