//! What is a proxy's share of a limit that several proxies have together, without anybody who counts for all?
//!
//! Each member of a fixed list has a part of every limit: of each key one of as many parts as there are members. Who has
//! used up his part asks the others for theirs ([`pot`]): shares follow the load, and what is given away is gone from who
//! gave it. Who is gone leaves his part to the others, once nobody can take him for present any more ([`circle`]).
//!
//! Nothing is ever counted in two places, so that all together admit what the limit says, whatever becomes of messages:
//! one that is lost loses what it carried. [`circle`] says when a share is a right, and why the rights of all are never
//! more than the whole.
//!
//! Deliberately not here: how messages are written and signed (`wire/lease`), sockets and timers (`proxy/src/gate/leases`).

mod circle;
mod pot;

pub use circle::{Beat, Change, Circle, MEMBERS_MAX, Reception, Right};
pub use pot::{Lent, Pot, PotBid, Spend, Wish, spend};

#[cfg(test)]
mod tests;
