//! The three that ask the core: the proxy on sockets, the simulator, and a journey that is only
//! watched. Each says what was decided, in the words of the access log.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use naru_base::{ClusterId, EndpointId, Instant, Reason};
use naru_journey::arrival::receive;
use naru_journey::{
    Action, AttemptEvent, Failure, Journey, RequestFacts, Sent, Snapshot, Stage, View, Worker,
};
use naru_proxy::Options;
use naru_route::reference::{Considered, Decision as ByReference, RefTable};
use naru_route::{Outcome, RuleId, Verdict};
use naru_sim::{Decision, Driver, Fleet, Script};
use naru_spec::RouteTable;
use naru_tests::{Bootstrap, Client, Naru};

use super::asked::Asked;

/// What the proxy has written into its access log, a line for each request.
pub async fn by_proxy(
    bootstrap: &Bootstrap,
    seed: u64,
    all: &[Asked],
    log: &Path,
) -> (SocketAddr, Vec<String>) {
    let naru = Naru::start_with(bootstrap, &Options { workers: 1, seed: Some(seed) });
    let address = naru.address;
    let mut client: Option<Client> = None;
    for asked in all {
        let client = match &mut client {
            Some(client) if !asked.is_first => client,
            client => client.insert(Client::plain(address, asked.speaks).await),
        };
        client.exchange(asked.outbound()).await;
    }
    drop(client);
    naru.settles().await;
    naru.ends().await;
    let text = std::fs::read_to_string(log).unwrap();
    (address, text.lines().map(str::to_owned).collect())
}

/// The same line of a decision of the simulator.
pub fn line(decision: &Decision<'_>) -> String {
    let Decision { route, virtual_host, cluster, endpoint, attempts, status, reason, flag } = decision;
    let told = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    format!(
        "{} {} {} {} {attempts} {status} {flag} {}",
        told(route),
        told(virtual_host),
        cluster.unwrap_or("-"),
        endpoint.map_or("-".to_owned(), |endpoint| endpoint.to_string()),
        reason.name()
    )
}

/// The simulator, with upstreams that do what those of the proxy do.
pub fn by_simulator(
    driver: &mut Driver<'_>,
    asked: &Asked,
    local: SocketAddr,
    refusing: &BTreeSet<SocketAddr>,
) -> String {
    let script = Script { refusing: refusing.clone(), ..Script::status(asked.upstream_status()) };
    line(&driver.drive_one(&asked.received(local), script).unwrap())
}

/// A journey that goes no further than to a connection, watched by an observer, beside the
/// reference model that says why.
pub struct Explainer<'a> {
    snapshot: &'a Snapshot,
    worker: Worker,
    fleet: Fleet,
    reference: RefTable<'a>,
}

/// What an observer was told.
#[derive(Default)]
struct Notes {
    considered: Vec<(RuleId, usize, Outcome)>,
    verdicts: Vec<Verdict>,
    picked: Vec<(ClusterId, Option<EndpointId>)>,
}

impl naru_route::Observer for Notes {
    fn considered(&mut self, rule: RuleId, block: usize, outcome: Outcome) {
        self.considered.push((rule, block, outcome));
    }
}

impl naru_journey::Observer for Notes {
    fn routed(&mut self, verdict: Verdict) {
        self.verdicts.push(verdict);
    }

    fn picked(&mut self, cluster: ClusterId, endpoint: Option<EndpointId>) {
        self.picked.push((cluster, endpoint));
    }
}

/// One request after the other: nothing is on its way where an endpoint is picked.
struct Idle;

impl View for Idle {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }
}

/// What was explained of a request.
pub struct Explained {
    /// The beginning of the line, as far as it was decided before anything was sent.
    pub line: String,
}

impl<'a> Explainer<'a> {
    pub fn new(snapshot: &'a Snapshot, routes: &'a RouteTable, seed: u64) -> Explainer<'a> {
        let fleet = Fleet::new(snapshot, &|_| None);
        let mut worker = Worker::new(snapshot, seed);
        for (id, endpoints) in fleet.clusters() {
            let facts: Vec<_> = endpoints.iter().map(|endpoint| endpoint.facts()).collect();
            worker.set_endpoints(snapshot, id, &facts);
        }
        Explainer { snapshot, worker, fleet, reference: RefTable::new(routes) }
    }

    pub fn explain(
        &mut self,
        asked: &Asked,
        local: SocketAddr,
        refusing: &BTreeSet<SocketAddr>,
    ) -> Explained {
        let mut request = asked.received(local);
        let http = &self.snapshot.chain(request.chain).http;
        let arrival = receive(&mut request.head, http, &request.peer, &mut self.worker);
        let draw = self.worker.draw_request();
        let subject = arrival.line.subject(&request.head.headers, &arrival.client, draw);
        let has_ended = request.body.is_empty();
        let facts = RequestFacts::of(subject.method, subject.headers, &arrival.client, has_ended);
        let mut notes = Notes::default();
        let view = Idle;
        let mut journey = Journey::begin(
            Instant::ZERO,
            self.snapshot,
            request.chain,
            &subject,
            facts,
            &mut self.worker,
            &view,
            &mut notes,
        );
        // What the observer was told is what the machine has decided, and what is right.
        let verdict = journey.verdict();
        assert_eq!(notes.verdicts, [verdict], "{asked}");
        assert_eq!(self.reference.find(&subject), verdict, "{asked}");
        notes.agrees_with(&self.reference.explain(&subject), verdict);
        let told = notes.picked.last().copied();
        assert!(notes.picked.len() <= 1, "{asked}: {:?}", notes.picked);
        let mut action = journey.next_action();
        let mut endpoint = match (action, told) {
            (Some(Action::Send { cluster, endpoint, .. }), Some(told)) => {
                assert_eq!(told, (cluster, Some(endpoint)), "{asked}");
                self.fleet.place(cluster, endpoint).map(|place| place.address)
            }
            (Some(Action::Reply(_)), None | Some((_, None))) => None,
            other => panic!("{asked}: {other:?}"),
        };
        // Nobody is asked more than who refuses, and that is known.
        let mut now = Instant::ZERO;
        while let Some(Action::Send { attempt, .. }) = action
            && endpoint.is_some_and(|address| refusing.contains(&address))
        {
            let failure = Failure {
                stage: Stage::Connect,
                reason: Reason::ConnectFailure,
                sent: Sent::No,
                is_reused: false,
                is_replayable: true,
            };
            let event = AttemptEvent::Failed(failure);
            journey.on_attempt(now, self.snapshot, attempt, event, &mut self.worker, &view);
            // Until the next attempt, if there is one.
            while let (None, Some((at, _))) = (journey.peek_action(), journey.deadline()) {
                now = at;
                journey.tick(now);
            }
            if journey.peek_action() == Some(Action::Due) {
                journey.next_action();
                journey.on_due(now, self.snapshot, true, &mut self.worker, &view, &mut notes);
            }
            action = journey.next_action();
            if let Some(Action::Send { cluster, endpoint: at, .. }) = action {
                assert_eq!(notes.picked.last(), Some(&(cluster, Some(at))), "{asked}");
                endpoint = self.fleet.place(cluster, at).map(|place| place.address);
            }
        }
        // Everything that comes after the decision is left to those who carry it out.
        journey.on_abandoned(now);
        let outcome = journey.outcome().unwrap();
        let decision = Decision::of(self.snapshot, &journey, &outcome, endpoint);
        let whole = line(&decision);
        let line = match action {
            Some(Action::Reply(reason)) => {
                let kept: Vec<&str> = whole.split(' ').take(5).collect();
                let flags = reason.flags(outcome.is_delayed, outcome.retry_end);
                format!("{} ? {flags} {}", kept.join(" "), reason.name())
            }
            _ => whole.split(' ').take(5).collect::<Vec<_>>().join(" "),
        };
        Explained { line }
    }
}

impl Notes {
    /// The tables pass most blocks by, and may look at some behind the rule that takes the request;
    /// what they looked at before it fared as the reference says.
    fn agrees_with(&self, reference: &[Considered], verdict: Verdict) {
        for (rule, block, outcome) in &self.considered {
            let known = reference.iter().find(|known| (known.rule, known.block) == (*rule, *block));
            let is_behind = reference.last().is_some_and(|last| (last.rule, last.block) < (*rule, *block));
            let is_match = known.map(|known| known.decided_by == ByReference::Matched);
            assert!(
                is_match == Some(*outcome == Outcome::Matched) || (is_match.is_none() && is_behind),
                "{rule:?}, block {block}: {outcome:?}, {known:?}"
            );
        }
        let matched = self.considered.iter().filter(|(_, _, outcome)| *outcome == Outcome::Matched);
        let first = matched.map(|(rule, ..)| *rule).min();
        let taken = match verdict {
            Verdict::Rule { rule, .. } => Some(rule),
            _ => None,
        };
        assert_eq!(first, taken, "the observer was told who takes the request");
        let last = reference.last().filter(|last| last.decided_by == ByReference::Matched);
        assert_eq!(last.map(|last| last.rule), taken, "the reference says who takes the request");
    }
}

/// Whether a line of the proxy says what was explained.
pub fn agrees(explained: &str, found: &str) -> bool {
    let mut found = found.split(' ');
    explained.split(' ').all(|word| {
        let found = found.next();
        word == "?" || found == Some(word)
    })
}
