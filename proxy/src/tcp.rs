//! A client's connection whose bytes are passed through, from its first byte to its last.
//!
//! It is a tunnel that nobody has asked for: where it leads is decided before anything is read of it, and the same
//! mechanism carries it out (`crate::tunnel`). It is counted and logged once, when it is over.

use std::rc::Rc;

use http::HeaderMap;
use naru_journey::edge::Client;
use naru_journey::record::RequestLine;
use naru_journey::{Journey, tcp};

use crate::accept::Connection;
use crate::conduit::Conduit;
use crate::settle::Passage;
use crate::tunnel;

/// Serves a connection until it ends.
pub async fn serve(connection: Rc<Connection>, conduit: Conduit) {
    let passage = begin(&connection);
    tunnel::pass(passage, conduit).await;
}

/// Asks the core where it leads.
pub fn begin(connection: &Rc<Connection>) -> Box<Passage> {
    let (loaded, chain) = (connection.loaded(), connection.chain());
    let line = RequestLine::none(&connection.peer);
    let client = Client::unknown(&connection.peer);
    let headers = HeaderMap::new();
    let now = connection.worker.clock.now();
    let mut core = loaded.core.borrow_mut();
    let subject = tcp::subject(&line, &headers, client.address, core.draw_request());
    let journey = Journey::tcp(now, &loaded.snapshot, chain, &subject, &mut core, &loaded.clusters, &mut ());
    drop(core);
    let mut passage = Passage::new(connection, &loaded, journey, line, &client, None);
    passage.tunnel = Some(Rc::default());
    passage
}
