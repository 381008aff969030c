//! What a client is told before its response: that something is under way (RFC 9110, section 15.2).

use std::rc::Rc;
use std::task::{Context, Waker};

use http::{HeaderMap, StatusCode};
use naru_http1::{Framing, write_response_head};
use naru_journey::edge::remove_response_hop_by_hop;

use super::link::Link;

/// Where interim responses to the request that is being answered go.
#[derive(Clone, Debug)]
pub struct Interim(Rc<Link>);

impl Interim {
    pub(super) fn on(link: &Rc<Link>) -> Interim {
        Interim(Rc::clone(link))
    }

    /// Passes one on, before the head of the response.
    pub fn pass_on(&self, status: StatusCode, mut fields: HeaderMap) {
        remove_response_hop_by_hop(&mut fields);
        self.0.say(|out| write_response_head(out, status, &fields, Some(Framing::UntilClose), None));
        // What does not go out now goes before the response; a client that has gone is noticed by others.
        let _ = self.0.poll_flush(&mut Context::from_waker(Waker::noop()));
    }
}
