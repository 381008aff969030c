//! Closed loop: every connection asks again as soon as it is answered. For throughput and cost, not for latency.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Context;
use tokio::task::spawn_local;

use super::h1::{Fresh, Http1};
use super::h2::Http2;

#[derive(Debug)]
pub enum Connection {
    Http1(Http1),
    Http2(Http2),
    Fresh(Fresh),
}

#[derive(Debug, Clone, Copy)]
pub enum Until {
    Moment(Instant),
    Requests(u64),
}

/// Asks on all connections until told; returns them with the number of requests that were answered.
pub async fn run(connections: Vec<Connection>, until: Until) -> anyhow::Result<(Vec<Connection>, u64)> {
    let tickets = Rc::new(Tickets { until, taken: Cell::new(0) });
    let asking: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let tickets = tickets.clone();
            spawn_local(async move {
                match &mut connection {
                    Connection::Http1(http1) => http1.run(&tickets).await?,
                    Connection::Http2(http2) => http2.run(&tickets).await?,
                    Connection::Fresh(fresh) => fresh.run(&tickets).await?,
                }
                anyhow::Ok(connection)
            })
        })
        .collect();
    let mut connections = Vec::with_capacity(asking.len());
    for connection in asking {
        connections.push(connection.await?.context("a connection failed")?);
    }
    Ok((connections, tickets.taken.get()))
}

/// Permission to send one more request.
#[derive(Debug)]
pub struct Tickets {
    until: Until,
    taken: Cell<u64>,
}

impl Tickets {
    pub fn take(&self) -> bool {
        let open = match self.until {
            Until::Moment(moment) => Instant::now() < moment,
            Until::Requests(count) => self.taken.get() < count,
        };
        self.taken.set(self.taken.get() + u64::from(open));
        open
    }
}
