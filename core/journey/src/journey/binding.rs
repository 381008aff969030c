//! What a client is given so that its next request comes to the same endpoint: cookies of a consistent hash, and
//! sticky sessions; and so that its reads see what it wrote.

use http::HeaderMap;
use http::header::SET_COOKIE;
use naru_route::CompiledAction;

use super::Journey;
use crate::{Snapshot, Worker};

impl Journey {
    /// Whether [`Journey::bind_client`] has anything to say.
    #[inline]
    pub fn binds_client(&self, snapshot: &Snapshot) -> bool {
        self.has_mark()
            || self.chosen.hashed.new_cookies.is_some()
            || self.cluster.is_some_and(|cluster| snapshot.cluster(cluster).load_balancing.sticky.is_some())
    }

    /// Adds it to the headers of the response.
    #[cold]
    pub fn bind_client(&self, snapshot: &Snapshot, worker: &Worker, headers: &mut HeaderMap) {
        let (Some(cluster), Some(attempt)) = (self.cluster, self.attempt) else { return };
        let action = self.rule().map(|(rule, _)| &snapshot.chain(self.chain).table.rule(rule).action);
        let of_route = match action {
            Some(CompiledAction::Forward(forward)) => &*forward.hash,
            _ => &[],
        };
        let policies = snapshot.cluster(cluster).load_balancing.hash_policies(of_route);
        if let Some(mark) = self.mark(snapshot) {
            headers.append(SET_COOKIE, mark.clone());
        }
        if let Some(cookies) = self.chosen.hashed.new_cookies {
            for cookie in cookies.headers(policies) {
                headers.append(SET_COOKIE, cookie);
            }
        }
        if let Some((name, value)) = worker.session(cluster, attempt.endpoint, self.chosen.bound) {
            headers.append(name, value);
        }
    }
}
