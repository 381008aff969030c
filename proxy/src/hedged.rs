//! Carries out what a journey asks for that may have several attempts under way.
//!
//! Each attempt is an exchange of its own, with a copy of the head and its own place in the kept body, polled by the
//! task of the request. The first answer that the journey takes is passed on; the others are given up by being dropped.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Response, Version};
use naru_base::{AttemptId, ClusterId, EndpointId, Reason};
use naru_journey::{Action, AttemptEvent, Cause};

use crate::cluster::EndpointHere;
use crate::codec::InBody;
use crate::engine::{Attendant, Interrupted, Outgoing, Place, answer, exchange, pass_on, prepare};
use crate::grpc_web;
use crate::permit::Permit;
use crate::settle::{Broken, Carrier, OutBody, Passage};
use crate::shadow;
use crate::upload::Upload;

/// Carries out actions until there is a response. `first` is to send the request.
pub async fn forward(
    mut passage: Box<Passage>,
    mut outgoing: Outgoing,
    first: Action,
) -> Result<Response<OutBody>, Broken> {
    let mut flights = Flights::default();
    let mut next = Some(first);
    loop {
        let action = match next.take().or_else(|| passage.journey.next_action()) {
            Some(action) => action,
            None => match poll_fn(|cx| flights.poll(&mut passage, cx)).await {
                Some(action) => action,
                None => continue,
            },
        };
        match action {
            Action::Send { attempt, cluster, endpoint, cause } => {
                let Some(here) = passage.loaded.clusters.get(cluster).endpoint(endpoint) else {
                    return Err(Broken);
                };
                if cause == Cause::Fallback {
                    flights = Flights::default();
                }
                prepare(&mut passage, &mut outgoing, &here);
                shadow::copy(&mut passage, &outgoing, attempt);
                flights.begin(&passage, outgoing.copy(), attempt, (cluster, endpoint, here), cause);
            }
            Action::Due => passage.hear_due(outgoing.can_be_repeated()),
            Action::Cancel { attempt } => {
                flights.give_up(attempt);
                passage.leave_response();
            }
            Action::Forward { .. } => {
                drop(flights);
                return match passage.web {
                    None => pass_on(passage),
                    Some(_) => Box::pin(grpc_web::pass_on(passage)).await,
                };
            }
            Action::Reply(reason) => {
                drop(flights);
                return Ok(answer(passage, reason, None));
            }
            // Limits were passed before the first attempt, and a tunnel has no attempts beside each other.
            Action::Check
            | Action::Ask
            | Action::Wait { .. }
            | Action::Look
            | Action::Locate { .. }
            | Action::Open
            | Action::Reach { .. }
            | Action::Break(_) => {
                return Err(Broken);
            }
        }
    }
}

type Answer = Result<(Response<InBody>, Carrier), Interrupted>;

/// The attempts under way.
#[derive(Default)]
struct Flights {
    all: Vec<Flight>,
}

struct Flight {
    attempt: AttemptId,
    side: Rc<Side>,
    exchange: Pin<Box<dyn Future<Output = Answer>>>,
}

/// What an exchange and whoever waits for it share.
struct Side {
    permit: RefCell<Option<Permit>>,
    upload: Option<Rc<Upload>>,
    speaks_http2: bool,
    /// It is, and was not told yet.
    connected: Cell<Option<Option<Duration>>>,
    local: Cell<Option<SocketAddr>>,
    failure: RefCell<Option<String>>,
}

impl Flights {
    fn begin(
        &mut self,
        passage: &Passage,
        mut outgoing: Outgoing,
        attempt: AttemptId,
        (cluster, endpoint, here): (ClusterId, EndpointId, Rc<EndpointHere>),
        cause: Cause,
    ) {
        let (worker, loaded) = (Rc::clone(&passage.worker), Rc::clone(&passage.loaded));
        let side = Rc::new(Side {
            permit: RefCell::new(Some(Permit::new(&loaded, cause, cluster, endpoint, &here))),
            upload: passage.upload.clone(),
            speaks_http2: passage.line.version >= Version::HTTP_2,
            connected: Cell::new(None),
            local: Cell::new(None),
            failure: RefCell::new(None),
        });
        let mut attendant = Rc::clone(&side);
        let (is_fresh, ends) = (cause == Cause::Replay, passage.ends());
        let exchange = Box::pin(async move {
            let place = Place { worker: &worker, loaded: &loaded, cluster, endpoint: &here, is_fresh, ends };
            exchange(&mut attendant, &mut outgoing, &place).await
        });
        self.all.push(Flight { attempt, side, exchange });
    }

    fn give_up(&mut self, attempt: AttemptId) {
        self.all.retain(|flight| flight.attempt != attempt);
    }

    /// Ready once the journey has heard of something, with what it asked for meanwhile.
    fn poll(&mut self, passage: &mut Passage, cx: &mut Context<'_>) -> Poll<Option<Action>> {
        let mut ended = None;
        for (at, Flight { attempt, side, exchange }) in self.all.iter_mut().enumerate() {
            let polled = exchange.as_mut().poll(cx);
            if let Some(stream_max) = side.connected.take() {
                passage.hear_connected(*attempt, stream_max);
            }
            if let Poll::Ready(answer) = polled {
                ended = Some((at, answer));
                break;
            }
        }
        let Some((at, answer)) = ended else { return passage.poll_watch(cx).map(Some) };
        let Flight { attempt, side, .. } = self.all.swap_remove(at);
        passage.permit = side.permit.take();
        passage.upstream_local = side.local.get();
        match answer {
            Ok((response, carrier)) => passage.receive(attempt, response, carrier, true),
            Err(Interrupted::Failed(mut failure)) => {
                passage.upstream_failure = side.failure.take();
                // The head is kept for all of them.
                failure.is_replayable = passage.has_whole_upload();
                passage.hear_upload();
                passage.hear_attempt(attempt, AttemptEvent::Failed(failure));
            }
            // It asks nobody.
            Err(Interrupted::Asked(_)) => {}
        }
        Poll::Ready(None)
    }
}

impl Attendant for Rc<Side> {
    fn poll_asked(&mut self, _: &mut Context<'_>) -> Poll<Action> {
        Poll::Pending
    }

    fn connected(&mut self, local: Option<SocketAddr>, stream_max: Option<Duration>) -> Result<(), Reason> {
        self.permit.borrow_mut().as_mut().map_or(Ok(()), Permit::count_sent)?;
        self.local.set(local);
        self.connected.set(Some(stream_max));
        Ok(())
    }

    fn not_connected(&mut self, text: String) {
        *self.failure.borrow_mut() = Some(text).filter(|text| !text.is_empty());
    }

    fn upload(&self) -> Option<&Rc<Upload>> {
        self.upload.as_ref()
    }

    fn speaks_http2(&self) -> bool {
        self.speaks_http2
    }

    fn keeps_copy(&self, _: bool, _: &Method) -> bool {
        false
    }
}
