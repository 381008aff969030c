//! Who asks, when, and for what.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{at_once, one};
use crate::asker::{SessionIs, TokenIs};
use crate::distribution::Distribution;
use crate::quantity::{Rate, Share, Span};

/// Requests of one kind of client.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    pub name: Spanned<String>,
    /// The first listener where none is named.
    pub listener: Option<Spanned<String>>,
    /// The filter chain, by name. Without it, the first that asks for no server name.
    pub chain: Option<Spanned<String>>,
    #[serde(default)]
    pub from: Span,
    /// Until the end of the scenario where it is absent.
    pub to: Option<Span>,
    pub arrivals: Arrivals,
    /// A client leaves when its request takes longer; without it, clients wait for ever.
    pub patience: Option<Distribution>,
    /// As patience, but the client says so: whoever obeys deadlines knows of it.
    pub deadline: Option<Span>,
    /// Without it, a client asks once.
    pub retry: Option<Retry>,
    /// Where the clients are.
    #[serde(default = "a_client")]
    pub client: IpAddr,
    #[serde(default)]
    pub protocol: Protocol,
    pub requests: Vec<RequestKind>,
}

/// When requests come.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// Independently of each other, so many in the mean.
    Poisson(Rate),
    /// At equal distances.
    Constant(Rate),
    /// Independently, at a rate that grows or falls evenly from the load's beginning to its end.
    Ramp { from: Rate, to: Rate },
    /// Independently, at rates that change at certain times.
    Profile(Vec<Step>),
    /// Many at once.
    Herd(Herd),
    /// So many users; each waits for its response, thinks, and asks again.
    Users { count: NonZeroU32, think: Distribution },
}

/// A rate from some moment on, until the next step.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Counted from the beginning of the load.
    pub at: Span,
    pub rate: Rate,
    /// It was on its way here since the last step, evenly; else it jumps.
    #[serde(default)]
    pub ramp: bool,
}

/// All at once.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Herd {
    pub count: NonZeroU32,
    /// Evenly over so long.
    #[serde(default)]
    pub over: Span,
    /// Again after so long; once where absent.
    pub every: Option<Span>,
}

/// A client that asks again where it was not answered as it should be: with a status below 500.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How often it asks, the first time included.
    #[serde(default = "three")]
    pub attempts: NonZeroU32,
    /// Between two of them.
    #[serde(default = "at_once")]
    pub wait: Distribution,
    /// It gives one of them up after so long.
    pub timeout: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    #[default]
    Http1,
    Http2,
}

/// One of the requests that a load is a mix of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestKind {
    /// Its share of the sum of all weights.
    #[serde(default = "one")]
    pub weight: NonZeroU32,
    pub method: Option<Spanned<String>>,
    /// With its query.
    pub path: Spanned<String>,
    pub host: Spanned<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, Spanned<String>>,
    pub body: Option<SentBody>,
    /// Who asks, for checks that want to know it.
    #[serde(rename = "as")]
    pub by: Option<Spanned<As>>,
    /// What `{n}` stands for in the path, in headers and in `as`: another number for each request.
    pub numbered: Option<Numbered>,
}

/// Who asks, and what he shows: no secret, but what would be found of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct As {
    /// What his token claims. `iss` is that of who may have issued it, `exp` a minute from now, where they are not here.
    pub token: Option<BTreeMap<String, serde_json::Value>>,
    pub token_is: Option<TokenIs>,
    /// The client whose API key it is.
    pub key: Option<Spanned<String>>,
    /// The name that a password is shown for.
    pub user: Option<Spanned<String>>,
    /// It is not his.
    #[serde(default)]
    pub wrong_password: bool,
    /// What the token of his login session claims.
    pub session: Option<BTreeMap<String, serde_json::Value>>,
    pub session_is: Option<SessionIs>,
}

/// Numbers from 1 on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbered {
    pub upto: NonZeroU32,
    /// Number `n` comes about as often as 1/n; else all come alike.
    #[serde(default)]
    pub popular: bool,
}

/// The body of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentBody {
    pub bytes: u64,
    /// From the head to the last byte.
    #[serde(default = "at_once")]
    pub over: Distribution,
    /// So many of these bodies break off halfway.
    #[serde(default = "none")]
    pub broken: Share,
}

/// Of the addresses that are kept for documents (RFC 5737).
fn a_client() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))
}

fn three() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(2)
}

fn none() -> Share {
    Share::NONE
}

impl SentBody {
    /// At once, and whole.
    pub fn of(bytes: u64) -> SentBody {
        SentBody { bytes, over: Distribution::constant(Duration::ZERO), broken: Share::NONE }
    }
}
