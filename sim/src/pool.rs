//! A worker's connections to one endpoint, as the proxy's pool keeps them.

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
}

/// An HTTP/1 connection, in use or waiting.
#[derive(Clone, Copy, Debug)]
pub struct Http1 {
    pub requests: u32,
    idle_since: Instant,
    /// When the upstream closes it.
    closes: Option<Close>,
}

#[derive(Clone, Copy, Debug)]
struct Http2 {
    serial: u32,
    streams: u32,
    requests: u32,
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
    pub fn new(now: Instant) -> Http1 {
        Http1 { requests: 0, idle_since: now, closes: None }
    }
}

impl Pool {
    /// A connection that waits and, as far as the proxy knows, stands.
    pub fn take_http1(&mut self, now: Instant, bounds: &Bounds) -> Option<Taken> {
        loop {
            let connection = self.idle.pop()?;
            if !Close::is_known(connection.closes, now) && !bounds.is_old(connection.idle_since, now) {
                let breaks_at = Close::ahead(connection.closes, now);
                return Some(Taken { carrier: Carrier::Http1(connection), breaks_at });
            }
        }
    }

    /// Puts a connection back whose response was read to its end. Says whether it is kept.
    pub fn put_http1(&mut self, connection: Http1, now: Instant, bounds: &Bounds) -> bool {
        let is_kept = bounds.requests_max.is_none_or(|max| connection.requests < max);
        if is_kept {
            self.idle.push(Http1 { idle_since: now, closes: bounds.close(now), ..connection });
        }
        is_kept
    }

    /// A place in a connection that has one.
    pub fn take_http2(&mut self, now: Instant, bounds: &Bounds) -> Option<Taken> {
        self.shared.retain(|connection| {
            let is_old = connection.streams == 0 && bounds.is_old(connection.unused_since, now);
            !is_old && !Close::is_known(connection.closes, now)
        });
        let connection = self.shared.iter_mut().find(|connection| {
            connection.streams < bounds.streams_max
                && bounds.requests_max.is_none_or(|max| connection.requests < max)
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
        let Some(connection) = self.shared.iter_mut().find(|connection| connection.serial == serial) else {
            return true;
        };
        let Some(left) = connection.streams.checked_sub(1) else { return false };
        connection.streams = left;
        if left == 0 {
            connection.unused_since = now;
            if connection.closes.is_none() {
                connection.closes = bounds.close(now);
            }
        }
        true
    }

    pub fn add_http2(&mut self, now: Instant) {
        self.serial += 1;
        self.shared.push(Http2 {
            serial: self.serial,
            streams: 0,
            requests: 0,
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
