//! What stands around the proxies and is no service: stores, what is between gateways, where addresses are.

use std::num::NonZeroU32;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::distribution::Distribution;
use crate::quantity::{Share, Span};

/// A store of counts of rate limits, or of answers, as a Redis is one. One of which nothing is said answers within 500us.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// An address of it as the configuration writes it; whichever store where it is absent.
    pub at: Option<Spanned<String>>,
    /// From a question to its answer.
    pub latency: Option<Distribution>,
    /// Times when it is different; the later one in the list counts.
    #[serde(default)]
    pub during: Vec<StoreWindow>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreWindow {
    pub from: Spanned<Span>,
    /// For ever where it is absent.
    pub to: Option<Span>,
    #[serde(default)]
    pub state: StoreState,
    pub latency: Option<Distribution>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreState {
    #[default]
    Up,
    /// Its connections break, and new ones are refused.
    Away,
    /// Connections are taken, and nothing is answered.
    Silent,
}

/// How gateways that share limits by leases hear each other.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leases {
    /// Of a message, from one to another.
    pub latency: Option<Distribution>,
    /// So many do not arrive.
    #[serde(default = "nothing")]
    pub lost: Share,
    /// So many arrive twice.
    #[serde(default = "nothing")]
    pub doubled: Share,
    /// Times when it is different; the later one in the list counts.
    #[serde(default)]
    pub during: Vec<LeaseWindow>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseWindow {
    pub from: Spanned<Span>,
    /// For ever where it is absent.
    pub to: Option<Span>,
    /// Counted from 1; all where there are none.
    #[serde(default)]
    pub gateways: Vec<Spanned<NonZeroU32>>,
    #[serde(default)]
    pub state: GatewayState,
    /// Of messages from and to them.
    pub latency: Option<Distribution>,
    pub lost: Option<Share>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayState {
    #[default]
    Up,
    /// It hears no other, and none hears it. Requests come to it.
    Cut,
    /// Its process is gone, and another begins anew afterwards. Requests come to the others.
    Down,
}

/// Where the addresses of some networks are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceOf {
    /// `192.0.2.0/24`, or one address. Of several that an address is in, the smallest holds.
    pub networks: Vec<Spanned<String>>,
    pub country: Option<Spanned<String>>,
    pub continent: Option<Spanned<String>>,
    pub region: Option<String>,
    pub city: Option<String>,
    pub asn: Option<u32>,
}

fn nothing() -> Share {
    Share::NONE
}
