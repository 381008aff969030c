//! Answers from memory, the short way.
//!
//! A hit needs little of what a request has: no map of fields, no journey, no passage. Where nothing but the memory has a
//! say in the answer ([`naru_journey::short`] knows where that is), its head is written from the lines that are kept, and
//! the request is counted and logged, before anything else has looked at it. It is the same answer, the same line and the
//! same numbers as by the ordinary way (`engine.rs`, `cached.rs`), which everything else goes: what is not kept, stale,
//! asked for in part or under conditions, checked, or changed on its way.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderName, StatusCode};
use naru_base::{Instant, text};
use naru_cache::{KeyText, Object, Place, Said, Told, beside_of};
use naru_http1::{PlainRoom, read_plain, write_status_line};
use naru_journey::record::{Facts, Lookup};
use naru_journey::short::{Plain, ShortRule, outcome, rules_of};
use naru_journey::{ChainId, Outcome, Snapshot};
use naru_route::{CompiledAction, RuleId};
use naru_spec::{Http, Scheme, ServerHeader};

use crate::accept::Connection;
use crate::clock::Clock;
use crate::cluster::add;
use crate::codec::Output;
use crate::loaded::Loaded;
use crate::metrics::{Labels, Protocol};
use crate::shared_cache::{ClassCounts, count};

/// What is known of a rule before anybody asks.
#[derive(Debug)]
pub struct OfRule {
    rule: ShortRule,
    /// The end of its keys.
    beside: String,
    counts: Arc<ClassCounts>,
}

/// By chain and rule; empty for a chain none of whose rules gives answers the short way.
pub type OfRules = Vec<Vec<Option<OfRule>>>;

pub fn of(snapshot: &Snapshot, classes: &BTreeMap<String, Arc<ClassCounts>>) -> OfRules {
    let chains = (0..).map(ChainId).take(snapshot.chains().len());
    chains.map(|chain| of_chain(snapshot, chain, classes)).collect()
}

fn of_chain(
    snapshot: &Snapshot,
    chain: ChainId,
    classes: &BTreeMap<String, Arc<ClassCounts>>,
) -> Vec<Option<OfRule>> {
    let table = &snapshot.chain(chain).table;
    let rules = rules_of(snapshot, chain).into_iter().zip(table.rules());
    let rules = rules.map(|(rule, (_, compiled))| {
        let rule = rule?;
        let cluster = snapshot.cluster(rule.cluster).name.as_str();
        let beside = beside_of(&rule.policy.key, &[&compiled.name, cluster])?;
        let counts = Arc::clone(classes.get(&rule.policy.class)?);
        Some(OfRule { rule, beside, counts })
    });
    rules.collect()
}

thread_local! {
    static KEY: RefCell<KeyText> = RefCell::default();
}

/// Answers a whole head of a client, where that can be done here: says it, counts it and logs it.
#[inline]
pub fn answer(connection: &Rc<Connection>, head: &[u8], fields_max: usize, out: &mut Output) -> bool {
    let (loaded, chain) = (connection.loaded(), connection.chain());
    match loaded.prepared.short.get(chain.0 as usize) {
        Some(rules) if !rules.is_empty() => {
            give(connection, &loaded, chain, rules, head, fields_max, out).is_some()
        }
        _ => false,
    }
}

fn give(
    connection: &Connection,
    loaded: &Loaded,
    chain: ChainId,
    rules: &[Option<OfRule>],
    head: &[u8],
    fields_max: usize,
    out: &mut Output,
) -> Option<()> {
    let worker = &connection.worker;
    if worker.strain.is_called_for() || loaded.renews || connection.certified.is_some() {
        return None;
    }
    let mut room = PlainRoom::default();
    let head = read_plain(head, fields_max, &mut room)?;
    let here = loaded.snapshot.chain(chain);
    let mut plain = Plain::of(head.target, head.fields, &here.http, &connection.peer)?;
    let (id, verdict) = plain.find(&here.table)?;
    let of_rule = rules.get(id.index())?.as_ref()?;
    let policy = &of_rule.rule.policy;
    if plain.asks_caches && policy.obeys_requests {
        return None;
    }
    let now = worker.clock.now();
    let percent = loaded.clusters.surged.cache_percent(&policy.class);
    let object = look(loaded, of_rule, &plain, now, percent)?;
    let status = StatusCode::from_u16(object.status).ok().filter(|status| {
        !matches!(*status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) && !status.is_informational()
    })?;

    let buffer = out.buffer();
    let from = buffer.len();
    let said = say(buffer, status, &object, &here.http, policy.tells.then_some(percent), now, &worker.clock);
    if said.is_none() {
        buffer.truncate(from);
        return None;
    }
    // From here on it is answered.
    plain.settle(&mut loaded.core.borrow_mut());
    count(&of_rule.counts.hits);
    count(&of_rule.counts.short);
    add(&worker.metrics.downstream.requests_total, 1);
    let outcome = outcome(verdict, Some(of_rule.rule.cluster), object.status, now);
    let way = Way { connection, loaded, chain, id, stream: connection.next_stream() };
    let said = Written(buffer.get(from..).unwrap_or_default());
    record(&way, &plain, &of_rule.rule, &said, &outcome, object.body.len() as u64);
    connection.on_answered_at_once(now);
    out.add_of(&object.body);
    Some(())
}

#[inline]
fn look(
    loaded: &Loaded,
    of_rule: &OfRule,
    plain: &Plain<'_>,
    now: Instant,
    percent: u32,
) -> Option<Arc<Object>> {
    let shared = loaded.prepared.cache.as_ref()?;
    KEY.with_borrow_mut(|key| {
        let is_tls = plain.client.scheme == Scheme::Https;
        key.set(Place { is_tls, authority: plain.host(), target: plain.target() }, &of_rule.beside);
        shared.shelf(key.url()).glance(now, key, &Asking(plain), percent)
    })
}

/// Says the head, as `engine.rs` and the codec would. `None` where more is to be done with what is kept.
#[inline]
fn say(
    out: &mut Vec<u8>,
    status: StatusCode,
    object: &Object,
    http: &Http,
    tells: Option<u32>,
    now: Instant,
    clock: &Clock,
) -> Option<()> {
    out.reserve(256);
    write_status_line(out, status);
    let overwrites = http.server_header == ServerHeader::Overwrite;
    let lines = object.head.write(overwrites.then_some(http.server_name.as_str()), out)?;
    out.extend_from_slice(b"age: ");
    let age = object.terms.age_at(now);
    text::number(out, u64::from(age));
    if let Some(percent) = tells {
        out.extend_from_slice(b"\r\ncache-status: ");
        let ttl = i64::from(object.terms.stretched(percent).lifetime) - i64::from(age);
        Told { ttl: Some(ttl), ..HIT }.write("naru", out);
    }
    if !lines.has_date {
        out.extend_from_slice(b"\r\ndate: ");
        clock.write_date(now, out);
    }
    if !lines.has_server && http.server_header != ServerHeader::PassThrough {
        out.extend_from_slice(b"\r\nserver: ");
        out.extend_from_slice(http.server_name.as_bytes());
    }
    out.extend_from_slice(b"\r\ncontent-length: ");
    text::number(out, object.body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    Some(())
}

const HIT: Told = Told {
    forwarded: None,
    forwarded_status: None,
    is_stored: false,
    is_collapsed: false,
    ttl: None,
    detail: None,
};

/// Where a request was.
struct Way<'a> {
    connection: &'a Connection,
    loaded: &'a Loaded,
    chain: ChainId,
    id: RuleId,
    stream: u64,
}

/// As a passage is written down at its end: see `settle.rs`.
#[inline]
fn record(
    way: &Way<'_>,
    plain: &Plain<'_>,
    of_rule: &ShortRule,
    response: &Written<'_>,
    outcome: &Outcome,
    bytes_sent: u64,
) {
    let Way { connection, loaded, chain, id, stream } = *way;
    let worker = &connection.worker;
    let logs = loaded.logs(chain);
    if !logs.is_empty() {
        let table = &loaded.snapshot.chain(chain).table;
        let rule = table.rule(id);
        let facts = Facts {
            line: plain.line(),
            request: plain,
            response,
            trailers: &(),
            began: worker.clock.wall(outcome.began),
            times: &worker.clock.times,
            outcome: Some(outcome),
            bytes_received: 0,
            bytes_sent,
            peer: &connection.peer,
            addresses: Some(connection.addresses()),
            direct: connection.direct,
            client: plain.client.address,
            server_name: connection.server_name.as_deref(),
            tls_version: connection.tls_version,
            route: &rule.name,
            route_origin: &rule.origin,
            virtual_host: table.virtual_host_name(rule.virtual_host),
            cluster: match &rule.action {
                CompiledAction::Forward(forward) => Some(forward.cluster_name(of_rule.choice)),
                CompiledAction::Redirect(_) | CompiledAction::Direct(_) => None,
            },
            upstream: None,
            upstream_path: None,
            upstream_local: None,
            upstream_failure: None,
            details: None,
            connection: connection.id,
            stream,
            host_name: &worker.host_name,
        };
        for log in logs {
            worker.logs.write(&log.buffer, |buffer| log.short_form.write(&facts, buffer));
        }
    }
    let labels = Labels {
        reason: outcome.reason,
        retry_end: outcome.retry_end,
        is_delayed: outcome.is_delayed,
        status: outcome.status,
        protocol: Protocol::Http,
        grpc_status: None,
        is_tls: connection.peer.is_tls,
    };
    let prepared = &loaded.prepared;
    worker.metrics.record(
        prepared.stat_prefix(chain),
        Some(prepared.cluster_name(of_rule.cluster)),
        labels,
        outcome.ended.since(outcome.began),
        (0, bytes_sent),
    );
}

/// What a request says, to the memory.
struct Asking<'a, 'b>(&'a Plain<'b>);

impl Said for Asking<'_, '_> {
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.0.all(name.as_str())
    }
}

/// The head of a response as it was said.
struct Written<'a>(&'a [u8]);

impl Lookup for Written<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        let lines = self.0.split(|byte| *byte == b'\n').skip(1);
        let mut values = lines.filter_map(|line| {
            let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b": ")?;
            Some(value.strip_suffix(b"\r").unwrap_or(value))
        });
        values.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_what_was_said() {
        let head = Written(b"HTTP/1.1 200 OK\r\na: 1\r\na-b: 2: 3\r\na: 4\r\nempty: \r\n\r\n");
        for (name, value) in
            [("a", Some(&b"1"[..])), ("a-b", Some(b"2: 3")), ("empty", Some(b"")), ("b", None)]
        {
            assert_eq!(head.get(name), value, "{name}");
        }
        assert_eq!(head.get("HTTP/1.1 200 OK"), None);
    }
}
