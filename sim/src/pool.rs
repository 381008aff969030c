//! A worker's connections to one endpoint, as the proxy's pool keeps them.

use std::collections::VecDeque;
use std::time::Duration;

use naru_base::{AttemptId, Instant};

use crate::passage::Key;
use crate::upstream::IdleClose;

/// Connections of HTTP/1 that wait for a request, and those of HTTP/2, which many may use.
#[derive(Debug, Default)]
pub struct Pool {
    /// The one used last is used next.
    idle: Vec<Http1>,
    shared: Vec<Http2>,
    dial: Option<SharedDial>,
    /// Counts HTTP/2 connections and dials.
    serial: u32,
    /// Which the worker has to the endpoint: in use, idle or being made.
    pub connections: u32,
    /// Those of them that were found closed, until [`Pool::take_closed`].
    closed: u32,
    /// Requests that wait because no more connections may be made.
    line: VecDeque<(Key, AttemptId)>,
}

/// An HTTP/1 connection, in use or waiting.
#[derive(Clone, Copy, Debug)]
pub struct Http1 {
    pub requests: u32,
    began: Instant,
    idle_since: Instant,
    /// When the upstream closes it.
    closes: Option<Close>,
}

#[derive(Clone, Copy, Debug)]
struct Http2 {
    serial: u32,
    streams: u32,
    requests: u32,
    began: Instant,
    unused_since: Instant,
    closes: Option<Close>,
}

#[derive(Clone, Copy, Debug)]
struct Close {
    at: Instant,
    /// When the proxy learns of it.
    known_at: Instant,
}

/// A connection that several requests wait for.
#[derive(Debug)]
struct SharedDial {
    serial: u32,
    waiting: Vec<(Key, AttemptId)>,
}

/// What a request is carried by.
#[derive(Clone, Copy, Debug)]
pub enum Carrier {
    Http1(Http1),
    /// A place in the connection of this number.
    Http2(u32),
}

/// A place in a connection, and when it will turn out that the upstream had closed it.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub carrier: Carrier,
    pub breaks_at: Option<Instant>,
}

/// What bounds a connection.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub requests_max: Option<u32>,
    pub streams_max: u32,
    /// It takes no more requests once it is this old.
    pub age_max: Option<Duration>,
    /// Ours.
    pub idle_timeout: Option<Duration>,
    /// The upstream's.
    pub idle_close: Option<IdleClose>,
}

impl Bounds {
    fn close(&self, since: Instant) -> Option<Close> {
        let IdleClose { after, notice } = self.idle_close?;
        let at = since + after;
        Some(Close { at, known_at: at + notice })
    }

    fn is_old(&self, since: Instant, now: Instant) -> bool {
        self.idle_timeout.is_some_and(|timeout| now.since(since) >= timeout)
    }

    /// Whether a connection takes no more requests.
    fn is_used_up(&self, requests: u32, began: Instant, now: Instant) -> bool {
        self.requests_max.is_some_and(|max| requests >= max)
            || self.age_max.is_some_and(|max| now.since(began) >= max)
    }
}

impl Close {
    fn is_known(close: Option<Close>, now: Instant) -> bool {
        close.is_some_and(|close| now >= close.known_at)
    }

    /// When a request that is sent now will hear of it.
    fn ahead(close: Option<Close>, now: Instant) -> Option<Instant> {
        close.filter(|close| now >= close.at).map(|close| close.known_at)
    }
}

impl Http1 {
    fn is_fit(&self, now: Instant, bounds: &Bounds) -> bool {
        !Close::is_known(self.closes, now)
            && !bounds.is_old(self.idle_since, now)
            && !bounds.is_used_up(0, self.began, now)
    }

    pub fn new(now: Instant) -> Http1 {
        Http1 { requests: 0, began: now, idle_since: now, closes: None }
    }
}

impl Pool {
    /// A connection that waits and, as far as the proxy knows, stands.
    #[inline]
    pub fn take_http1(&mut self, now: Instant, bounds: &Bounds) -> Option<Taken> {
        loop {
            let connection = self.idle.pop()?;
            if connection.is_fit(now, bounds) {
                let breaks_at = Close::ahead(connection.closes, now);
                return Some(Taken { carrier: Carrier::Http1(connection), breaks_at });
            }
            self.closed += 1;
        }
    }

    /// Puts a connection back whose response was read to its end. Says whether it is kept.
    pub fn put_http1(&mut self, connection: Http1, now: Instant, bounds: &Bounds) -> bool {
        let is_kept = !bounds.is_used_up(connection.requests, connection.began, now);
        if is_kept {
            self.idle.push(Http1 { idle_since: now, closes: bounds.close(now), ..connection });
        }
        is_kept
    }

    /// Puts a connection back that was not used after all.
    pub fn put_back(&mut self, connection: Http1) {
        self.idle.push(connection);
    }

    /// Closes a connection that waits, where there is one.
    pub fn close_one(&mut self) -> bool {
        let is_there = self.idle.pop().is_some();
        self.closed += u32::from(is_there);
        is_there
    }

    /// A place in a connection that has one.
    pub fn take_http2(&mut self, now: Instant, bounds: &Bounds) -> Option<Taken> {
        self.sweep_http2(now, bounds);
        let connection = self.shared.iter_mut().find(|connection| {
            connection.streams < bounds.streams_max
                && !bounds.is_used_up(connection.requests, connection.began, now)
        })?;
        connection.streams += 1;
        connection.requests += 1;
        let breaks_at = Close::ahead(connection.closes, now);
        if breaks_at.is_none() {
            connection.closes = None;
        }
        Some(Taken { carrier: Carrier::Http2(connection.serial), breaks_at })
    }

    /// Gives a place back. `false` where there was none to give back.
    pub fn put_http2(&mut self, serial: u32, now: Instant, bounds: &Bounds) -> bool {
        // A connection that was found closed is gone, and its places with it.
        let Some(at) = self.shared.iter().position(|connection| connection.serial == serial) else {
            return true;
        };
        let connection = &mut self.shared[at];
        let Some(left) = connection.streams.checked_sub(1) else { return false };
        connection.streams = left;
        if left == 0 {
            connection.unused_since = now;
            if connection.closes.is_none() {
                connection.closes = bounds.close(now);
            }
            // One that has had its share closes with its last request.
            if bounds.is_used_up(connection.requests, connection.began, now) {
                self.shared.remove(at);
                self.closed += 1;
            }
        }
        true
    }

    /// Lets go of connections that do not stand any more, or were idle for too long.
    pub fn sweep(&mut self, now: Instant, bounds: &Bounds) {
        let before = self.idle.len();
        self.idle.retain(|connection| connection.is_fit(now, bounds));
        self.closed += (before - self.idle.len()) as u32;
        self.sweep_http2(now, bounds);
    }

    fn sweep_http2(&mut self, now: Instant, bounds: &Bounds) {
        let before = self.shared.len();
        self.shared.retain(|connection| {
            let is_over = bounds.is_old(connection.unused_since, now)
                || bounds.is_used_up(connection.requests, connection.began, now);
            (connection.streams > 0 || !is_over) && !Close::is_known(connection.closes, now)
        });
        self.closed += (before - self.shared.len()) as u32;
    }

    /// How many of its connections were found closed since the last time; they count no more.
    #[inline]
    pub fn take_closed(&mut self) -> u32 {
        let closed = std::mem::take(&mut self.closed);
        self.connections = self.connections.saturating_sub(closed);
        closed
    }

    /// Those of its connections that are in no single request's hands.
    pub fn standing(&self) -> u32 {
        (self.idle.len() + self.shared.len()) as u32 + self.closed + u32::from(self.dial.is_some())
    }

    pub fn is_dialling(&self) -> bool {
        self.dial.is_some()
    }

    pub fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    pub fn stand_in_line(&mut self, key: Key, attempt: AttemptId) {
        self.line.push_back((key, attempt));
    }

    /// Who is to look whether there is something for him.
    pub fn first_in_line(&self) -> Option<(Key, AttemptId)> {
        self.line.front().copied()
    }

    /// Whoever it is does not wait any more. Says whether he was the first.
    pub fn leave_line(&mut self, key: Key) -> bool {
        match self.line.iter().position(|(waiting, _)| *waiting == key) {
            Some(at) => {
                self.line.remove(at);
                at == 0
            }
            None => false,
        }
    }

    /// A connection could not be made: nobody waits any more.
    pub fn empty_line(&mut self) -> VecDeque<(Key, AttemptId)> {
        std::mem::take(&mut self.line)
    }

    pub fn add_http2(&mut self, now: Instant) {
        self.serial += 1;
        self.shared.push(Http2 {
            serial: self.serial,
            streams: 0,
            requests: 0,
            began: now,
            unused_since: now,
            closes: None,
        });
    }

    /// Waits for the dial under way, or for a new one. The number of a new one is returned: the
    /// caller must carry it out.
    pub fn join_dial(&mut self, key: Key, attempt: AttemptId) -> Option<u32> {
        if let Some(dial) = &mut self.dial {
            dial.waiting.push((key, attempt));
            return None;
        }
        self.serial += 1;
        self.dial = Some(SharedDial { serial: self.serial, waiting: vec![(key, attempt)] });
        Some(self.serial)
    }

    /// A dial is over: those who waited for it, in their order.
    pub fn end_dial(&mut self, serial: u32) -> Vec<(Key, AttemptId)> {
        self.dial.take_if(|dial| dial.serial == serial).map_or_else(Vec::new, |dial| dial.waiting)
    }

    /// The upstream is gone, and its connections with it.
    pub fn close_all(&mut self, now: Instant) {
        let close = Some(Close { at: now, known_at: now });
        self.idle.iter_mut().for_each(|connection| connection.closes = close);
        self.shared.iter_mut().for_each(|connection| connection.closes = close);
    }

    /// Requests that HTTP/2 connections carry.
    pub fn streams(&self) -> u64 {
        self.shared.iter().map(|connection| u64::from(connection.streams)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        requests_max: None,
        streams_max: 2,
        age_max: None,
        idle_timeout: Some(Duration::from_secs(60)),
        idle_close: Some(IdleClose { after: Duration::from_secs(5), notice: Duration::from_millis(1) }),
    };

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn a_connection_closed_by_the_upstream_breaks_whoever_takes_it_before_the_news() {
        let check = |ms: u64, expected: Option<Option<Instant>>| {
            let mut pool = Pool::default();
            pool.put_http1(Http1::new(at(0)), at(0), &BOUNDS);
            let taken = pool.take_http1(Instant(at(ms).0 + 500), &BOUNDS);
            assert_eq!(taken.map(|taken| taken.breaks_at), expected, "after {ms} ms");
        };
        check(4_999, Some(None));
        check(5_000, Some(Some(at(5_001))));
        check(5_001, None);
    }

    #[test]
    fn an_http2_connection_is_shared_up_to_its_bound() {
        let mut pool = Pool::default();
        pool.add_http2(at(0));
        assert!(pool.take_http2(at(0), &BOUNDS).is_some());
        assert!(pool.take_http2(at(0), &BOUNDS).is_some());
        assert!(pool.take_http2(at(0), &BOUNDS).is_none());
        assert_eq!(pool.streams(), 2);
        assert!(pool.put_http2(1, at(1), &BOUNDS));
        assert!(pool.take_http2(at(1), &BOUNDS).is_some());
    }
}
