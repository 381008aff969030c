//! Why does a request go where it goes?
//!
//! The verdict comes from the compiled tables that live requests are decided by; the list of rules
//! that were considered comes from the linear model. That both say the same is checked each time.

use std::time::Duration;

use http::request::Parts;
use http::uri::PathAndQuery;
use naru_base::{Reason, Weight};
use naru_route::reference::{Considered, RefTable};
use naru_route::{CompiledAction, CompiledForward, Group, Subject, Verdict, Why};
use naru_spec::RouteTable;

use crate::arrival::{Arrival, Wish, receive};
use crate::edge::{Peer, Upgrade};
use crate::{ChainId, Snapshot, Worker, upgrade};

/// What would happen to one request, and why.
#[derive(Debug)]
pub struct Explanation {
    /// Why it is refused before any rule is asked.
    pub refusal: Option<Reason>,
    /// What its target became, where that is another one.
    pub target: Option<PathAndQuery>,
    pub verdict: Verdict,
    /// Every block that was asked, in order, up to the one that took the request.
    pub considered: Vec<Considered>,
    /// Where it may go, each with its weight; empty where it is not forwarded.
    pub destinations: Vec<(String, Weight)>,
    /// Where the rule has groups for reads and writes.
    pub group: Option<ExplainedGroup>,
}

/// The group that a request is for, and what else holds in its session.
#[derive(Debug)]
pub struct ExplainedGroup {
    pub group: Group,
    pub why: Why,
    pub read_your_writes: Option<ExplainedSession>,
}

/// What a session reads after a write.
#[derive(Debug)]
pub struct ExplainedSession {
    pub lasts: Duration,
    /// What tells it from others, in words.
    pub carrier: String,
    /// The request is of one. A client that is to be given a cookie need not be.
    pub is_known: bool,
    /// Where reads go after a write.
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
        let target = Some(line.path.clone()).filter(|target| parts.uri.path_and_query() != Some(target));
        let mut refusal = match wish {
            Wish::Refuse(reason) => Some(reason),
            // Of a tunnel this is where it leads if there is no HTTP in it.
            Wish::Route | Wish::Upgrade | Wish::Tunnel => None,
        };
        let subject = line.subject(&parts.headers, &client, worker.draw_request());
        let is_connect = client.upgrade == Upgrade::Connect;
        let (tables, model) = match is_connect {
            false => (chain.table.find(&subject, &mut ()), self.model.find(&subject)),
            true => (chain.table.find_for(true, &subject, &mut ()), self.model.find_connect(&subject)),
        };
        if tables != model {
            return Err(Disagreement { tables, model });
        }
        if wish == Wish::Upgrade {
            let action = match tables {
                Verdict::Rule { rule, .. } => Some(&chain.table.rule(rule).action),
                _ => None,
            };
            let name = upgrade::name(is_connect, &parts.headers);
            let is_allowed = name.is_some_and(|name| upgrade::may_be(&chain.http, action, name));
            refusal = (!is_allowed).then_some(Reason::UpgradeRefused);
        }
        let considered = match refusal {
            Some(_) => Vec::new(),
            None if is_connect => self.model.explain_connect(&subject),
            None => self.model.explain(&subject),
        };
        // What is in a tunnel is no request, and for no group.
        let is_request = wish == Wish::Route;
        let (destinations, group) = match refusal {
            None => self.leads_to(tables, &subject, is_request),
            Some(_) => (Vec::new(), None),
        };
        Ok(Explanation { refusal, target, verdict: tables, considered, destinations, group })
    }
}

impl Explainer<'_> {
    /// Where a rule sends a request, each with its weight, and for which group that is.
    pub fn leads_to(
        &self,
        verdict: Verdict,
        subject: &Subject<'_>,
        is_request: bool,
    ) -> (Vec<(String, Weight)>, Option<ExplainedGroup>) {
        let table = &self.snapshot.chain(self.chain).table;
        let Verdict::Rule { rule, .. } = verdict else { return (Vec::new(), None) };
        let CompiledAction::Forward(forward) = &table.rule(rule).action else { return (Vec::new(), None) };
        match is_request.then(|| grouped(forward, subject)).flatten() {
            Some(group) => (forward.weights_in(group.group), Some(group)),
            None => (forward.weights(), None),
        }
    }
}

/// Nobody knows here which sessions have written; but a cookie says it by itself.
fn grouped(forward: &CompiledForward, subject: &Subject<'_>) -> Option<ExplainedGroup> {
    let groups = forward.groups.as_ref()?;
    let grouped = groups.group(subject, |_| false);
    let read_your_writes = groups.read_your_writes().map(|sessions| ExplainedSession {
        lasts: sessions.lasts,
        carrier: sessions.carrier(),
        is_known: sessions.cookie().is_some() || grouped.session.is_some(),
        destinations: forward.weights_in(Group::Write),
    });
    Some(ExplainedGroup { group: grouped.group(), why: grouped.why, read_your_writes })
}
