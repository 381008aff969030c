//! How does a new process take over from an old one, without anybody being turned away?
//!
//! Every `naru proxy` offers itself at a Unix socket. Who connects there is given handles to all listening sockets,
//! serves on them beside the old process, and then tells it to drain. Nothing but the path is needed to find each
//! other: no process id, no name outside the file system; so containers that share a volume can do it.
//!
//! ```text
//! new                         old
//! Ask               ──────>
//!                   <──────   Listener (with its sockets), for each; Admin (with its socket); Complete
//! (starts, looks up names, probes endpoints, accepts)
//! Serving           ──────>
//!                   <──────   Draining: it is committed
//!                             (accepts no more, finishes what has begun)
//!                   <──────   Status, again and again, until it has ended
//! ```
//!
//! Whatever goes wrong before `Draining`, the old process serves on as if nothing had happened. It says `Refused`, with
//! a reason, where it can.
//!
//! Deliberately not here: which worker accepts from which socket (`proxy/src/listen.rs`).

mod channel;
mod offer;
mod packet;
mod place;
mod successor;

use std::cell::RefCell;
use std::rc::Rc;

pub use offer::{Handed, Offer, Offered};
pub use place::{Place, default_place};
pub use successor::{Inheritance, TakeoverError};

use packet::Draining;

/// What is known of the processes before this one, the newest first; empty once all of them have ended.
#[derive(Clone, Debug, Default)]
pub struct Predecessors(Rc<RefCell<Vec<Draining>>>);

impl Predecessors {
    fn set(&self, now: Vec<Draining>) {
        self.0.replace(now);
    }

    fn get(&self) -> Vec<Draining> {
        self.0.borrow().clone()
    }

    pub fn to_json(&self) -> serde_json::Value {
        let all = self.0.borrow();
        let all = all.iter().map(|process| {
            serde_json::json!({
                "state": "DRAINING",
                "version": process.version,
                "connections_active": process.connections,
                "requests_active": process.requests,
            })
        });
        all.collect::<Vec<_>>().into()
    }
}
