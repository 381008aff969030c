//! What a client is told before its response: that something is under way (RFC 9110, section 15.2).

use std::rc::Rc;
use std::task::{Context, Waker};

use http::{HeaderMap, StatusCode};
use naru_http1::{Framing, write_response_head};
use naru_journey::edge::remove_response_hop_by_hop;

use super::http1::link::Link;
use super::http2::Shared;
#[cfg(feature = "http3")]
use super::http3;

/// Where interim responses to the request that is being answered go. Of a connection of HTTP/2 or
/// HTTP/3 that is the one that has its turn.
#[derive(Clone, Debug)]
pub struct Interim(Way);

#[derive(Clone, Debug)]
enum Way {
    Http1(Rc<Link>),
    Http2(Shared),
    #[cfg(feature = "http3")]
    Http3(Rc<http3::Link>),
}

impl Interim {
    pub(super) fn on_http1(link: &Rc<Link>) -> Interim {
        Interim(Way::Http1(Rc::clone(link)))
    }

    pub(super) fn on_http2(connection: &Shared) -> Interim {
        Interim(Way::Http2(Rc::clone(connection)))
    }

    #[cfg(feature = "http3")]
    pub(super) fn on_http3(link: &Rc<http3::Link>) -> Interim {
        Interim(Way::Http3(Rc::clone(link)))
    }

    /// Passes one on, before the head of the response. To be called in the turn of its request.
    pub fn pass_on(&self, status: StatusCode, mut fields: HeaderMap) {
        remove_response_hop_by_hop(&mut fields);
        match &self.0 {
            Way::Http1(link) => {
                link.say(|out| write_response_head(out, status, &fields, Some(Framing::UntilClose), None));
                // What does not go out now goes before the response; a client that has gone is noticed by others.
                let _ = link.poll_flush(&mut Context::from_waker(Waker::noop()));
            }
            Way::Http2(connection) => {
                let mut connection = connection.borrow_mut();
                let place = connection.answering;
                connection.send_response(place, status, &fields, false);
            }
            #[cfg(feature = "http3")]
            Way::Http3(link) => link.say_early(status, &fields),
        }
    }
}
