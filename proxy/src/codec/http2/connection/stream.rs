//! One stream: what has come in, what is to go out, and how it ended.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};

use super::super::frame::Code;

/// A frame of less is put together with others like it: each piece that is kept costs more than a small one holds.
const SMALL: usize = 1_024;

#[derive(Debug)]
pub struct Stream {
    pub id: u32,
    /// Who looks at it still. Its place is free when nobody does.
    pub handles: u8,
    pub request: Option<Request<()>>,
    pub response: Option<Response<()>>,
    /// What came before it.
    pub interims: VecDeque<Response<()>>,
    pub interims_count: u8,
    /// The head of the answer is here, or was.
    pub has_head: bool,
    /// The answer to HEAD, whose length is of no body.
    pub is_head: bool,
    pub inbox: Inbox,
    pub trailers: Option<HeaderMap>,
    pub has_received_all: bool,
    /// Of the length that was said.
    pub left: Option<u64>,
    pub receive_window: i64,
    /// Taken, and not told yet.
    pub to_return: u32,
    /// Nobody reads it any more.
    pub is_unwanted: bool,
    pub reader: Option<Waker>,
    pub outbox: VecDeque<Bytes>,
    pub outbox_bytes: usize,
    pub end: Option<End>,
    pub has_sent_head: bool,
    pub has_sent_all: bool,
    pub send_window: i64,
    pub is_queued: bool,
    pub writer: Option<Waker>,
    /// Whoever reads may take as long as it likes: what is answered is a stream of messages.
    pub is_patient: bool,
    /// What has come is read to its end, be it that the stream is reset: it carries bytes, and no message.
    pub keeps_inbox: bool,
    /// Where its head stands in all that was sent.
    pub head_at: u64,
    pub received: u64,
    pub over: Option<Over>,
}

/// What follows the last of the data.
#[derive(Debug)]
pub enum End {
    Plain,
    Trailers(HeaderMap),
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Both sides have said all.
    Whole,
    ResetByPeer(Code),
    ResetByUs(Code),
    /// The peer goes away, and has not looked at it.
    LeftOut,
    /// With its connection.
    Lost,
}

impl Stream {
    pub fn new(id: u32, receive_window: u32, send_window: i64) -> Stream {
        Stream {
            id,
            handles: 0,
            request: None,
            response: None,
            interims: VecDeque::new(),
            interims_count: 0,
            has_head: false,
            is_head: false,
            inbox: Inbox::default(),
            trailers: None,
            has_received_all: false,
            left: None,
            receive_window: i64::from(receive_window),
            to_return: 0,
            is_unwanted: false,
            reader: None,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            end: None,
            has_sent_head: false,
            has_sent_all: false,
            send_window,
            is_queued: false,
            writer: None,
            is_patient: false,
            keeps_inbox: false,
            head_at: 0,
            received: 0,
            over: None,
        }
    }

    pub fn has_more_to_send(&self) -> bool {
        self.outbox_bytes > 0 || self.end.is_some()
    }

    pub fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// Data that nobody has read yet.
#[derive(Debug, Default)]
pub struct Inbox {
    chunks: VecDeque<Bytes>,
    /// After all chunks.
    small: BytesMut,
    bytes: usize,
}

impl Inbox {
    pub fn put(&mut self, data: &[u8]) {
        self.bytes += data.len();
        if data.len() < SMALL {
            return self.small.extend_from_slice(data);
        }
        if !self.small.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.small).freeze());
        }
        self.chunks.push_back(Bytes::copy_from_slice(data));
    }

    pub fn take(&mut self) -> Option<Bytes> {
        let next = self.chunks.pop_front().or_else(|| {
            let small = std::mem::take(&mut self.small);
            (!small.is_empty()).then(|| small.freeze())
        })?;
        self.bytes -= next.len();
        Some(next)
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Throws all away, and says how much it was.
    pub fn clear(&mut self) -> usize {
        std::mem::take(self).bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_are_put_together_and_nothing_changes_its_place() {
        let mut inbox = Inbox::default();
        let mut all = Vec::new();
        for (number, length) in [1, 2, SMALL, 3, SMALL + 5, SMALL, 7, 8, 9].into_iter().enumerate() {
            let data = vec![number as u8; length];
            inbox.put(&data);
            all.extend_from_slice(&data);
        }
        assert_eq!(inbox.len(), all.len());
        let mut taken = Vec::new();
        let mut count = 0;
        while let Some(chunk) = inbox.take() {
            taken.extend_from_slice(&chunk);
            count += 1;
        }
        assert_eq!((taken, count), (all, 6));
        assert!(inbox.is_empty());
        for _ in 0..1_000 {
            inbox.put(b"x");
        }
        assert_eq!(inbox.take().map(|chunk| chunk.len()), Some(1_000));
    }
}
