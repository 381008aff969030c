//! Why does a request go where it goes?
//!
//! The verdict comes from the compiled tables that live requests are decided by; the list of rules
//! that were considered comes from the linear model. That both say the same is checked each time.

use http::request::Parts;
use naru_base::{Reason, Weight};
use naru_route::reference::{Considered, RefTable};
use naru_route::{CompiledAction, Verdict};
use naru_spec::RouteTable;

use crate::arrival::{Arrival, Wish, receive};
use crate::edge::Peer;
use crate::{ChainId, Snapshot, Worker};

/// What would happen to one request, and why.
#[derive(Debug)]
pub struct Explanation {
    /// Why it is refused before any rule is asked.
    pub refusal: Option<Reason>,
    pub verdict: Verdict,
    /// Every block that was asked, in order, up to the one that took the request.
    pub considered: Vec<Considered>,
    /// Where it may go, each with its weight; empty where it is not forwarded.
    pub destinations: Vec<(String, Weight)>,
}

/// The tables and the model do not agree: a fault of naru's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    pub tables: Verdict,
    pub model: Verdict,
}

impl std::fmt::Display for Disagreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the tables say {:?} and the model says {:?}: this is a fault of naru's, please report it",
            self.tables, self.model
        )
    }
}

impl std::error::Error for Disagreement {}

/// Explains requests to one chain, as many as there are.
#[derive(Debug)]
pub struct Explainer<'a> {
    snapshot: &'a Snapshot,
    chain: ChainId,
    model: RefTable<'a>,
}

impl<'a> Explainer<'a> {
    /// `routes` are the rules that the chain was compiled of.
    pub fn new(snapshot: &'a Snapshot, chain: ChainId, routes: &'a RouteTable) -> Explainer<'a> {
        Explainer { snapshot, chain, model: RefTable::new(routes) }
    }

    /// `seed` is where fractions are drawn from.
    ///
    /// # Errors
    /// The compiled tables decide otherwise than the model.
    pub fn explain(&self, parts: &mut Parts, peer: &Peer, seed: u64) -> Result<Explanation, Disagreement> {
        let mut worker = Worker::new(self.snapshot, seed);
        let chain = self.snapshot.chain(self.chain);
        let Arrival { line, client, wish } = receive(parts, &chain.http, peer, &mut worker);
        let refusal = match wish {
            Wish::Refuse(reason) => Some(reason),
            // Of a tunnel this is where it leads if there is no HTTP in it.
            Wish::Route | Wish::Tunnel => None,
        };
        let subject = line.subject(&parts.headers, &client, worker.draw_request());
        let tables = chain.table.find(&subject, &mut ());
        let model = self.model.find(&subject);
        if tables != model {
            return Err(Disagreement { tables, model });
        }
        let considered = if refusal.is_some() { Vec::new() } else { self.model.explain(&subject) };
        let destinations = match tables {
            Verdict::Rule { rule, .. } if refusal.is_none() => match &chain.table.rule(rule).action {
                CompiledAction::Forward(forward) => forward.weights(),
                CompiledAction::Redirect(_) | CompiledAction::Direct(_) => Vec::new(),
            },
            _ => Vec::new(),
        };
        Ok(Explanation { refusal, verdict: tables, considered, destinations })
    }
}
