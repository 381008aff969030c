//! The body of a request, on its way from the client.
//!
//! As in the proxy it is read only by an attempt that sends it: until there is a connection, what
//! the client has sent waits, and the journey knows nothing of it.

use naru_base::Instant;
use naru_journey::Milestone;

use super::{Event, News, World};
use crate::body::BodyEnd;
use crate::passage::{Passage, Phase};
use crate::upstream::Upstreams;

impl<U: Upstreams, T: Copy> World<'_, U, T> {
    /// Looks forward to the next part of the body, or to what follows the last one.
    pub(super) fn expect_upload(&mut self, passage: &Passage<T>) {
        let Some(upload) = &passage.upload else { return };
        let next = upload.arrived + 1;
        if next <= upload.body.parts {
            let at = self.now + upload.body.gap_before(next);
            self.queue.push(at, Event::Request(passage.key, News::Uploaded));
        } else if !matches!(upload.body.end, BodyEnd::Plain | BodyEnd::Silent) {
            let at = self.now + upload.body.end_after;
            self.queue.push(at, Event::Request(passage.key, News::UploadEnded));
        }
    }

    pub(super) fn on_uploaded(&mut self, passage: &mut Passage<T>) {
        let Some(upload) = &mut passage.upload else { return };
        upload.arrived += 1;
        upload.has_end = upload.ends_plainly();
        self.gather(passage);
        self.read_upload(passage);
        self.expect_upload(passage);
    }

    pub(super) fn on_upload_ended(&mut self, passage: &mut Passage<T>) {
        let Some(upload) = &mut passage.upload else { return };
        upload.has_end = true;
        self.gather(passage);
        self.read_upload(passage);
    }

    /// Reads what has come in, on behalf of an attempt that sends it.
    pub(super) fn read_upload(&mut self, passage: &mut Passage<T>) {
        let is_sending = passage
            .flight
            .as_ref()
            .is_some_and(|flight| !matches!(flight.phase, Phase::InLine | Phase::Dialing));
        let Some(upload) = passage.upload.as_mut().filter(|upload| is_sending && !upload.is_over) else {
            return;
        };
        let has_moved = upload.arrived > upload.read;
        upload.read = upload.arrived;
        upload.is_over = upload.has_end;
        let (is_over, end) = (upload.is_over, upload.body.end);
        if passage.copies.is_some() {
            self.feed_copies(passage, false);
        }
        if let Some(copied) = &mut passage.copied {
            if is_over {
                copied.shadow.on_request_end(self.now);
                self.on_whole_request(passage);
            } else if has_moved {
                copied.shadow.on_progress(self.now);
            }
            return;
        }
        if !is_over {
            if has_moved {
                passage.journey.on_progress(self.now);
            }
            return;
        }
        passage.journey.on_request_body(self.now, milestone(end));
        if !matches!(end, BodyEnd::Broken) {
            self.on_whole_request(passage);
        }
    }

    /// The moment at which an upstream that waits for the whole request begins to answer.
    fn on_whole_request(&mut self, passage: &mut Passage<T>) {
        let is_waiting = |flight: &&mut crate::passage::Flight| {
            flight.phase == Phase::Exchanging && flight.answer.is_none()
        };
        if passage.flight.as_mut().filter(is_waiting).is_some() {
            self.ask(passage);
        }
    }

    pub(super) fn push(&mut self, at: Instant, passage: &Passage<T>, news: News) {
        self.queue.push(at, Event::Request(passage.key, news));
    }
}

fn milestone(end: BodyEnd) -> Milestone {
    match end {
        BodyEnd::Plain | BodyEnd::Silent => Milestone::End,
        // What a client says in its trailers is not how the call went.
        BodyEnd::Trailers { .. } => Milestone::Trailers { grpc_status: None },
        BodyEnd::Broken => Milestone::Aborted,
    }
}
