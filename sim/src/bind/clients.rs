//! Who asks: loads, and services that call others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Uri, Version, header};
use naru_journey::edge::Peer;
use naru_journey::{ChainId, Snapshot};
use naru_spec::suggest::did_you_mean;
use serde_saphyr::Spanned;

use super::{Binder, Unit, moment};
use crate::body::Body;
use crate::calls::{Again, Callee};
use crate::distribution::Distribution;
use crate::load::{ESCAPED, Kind, Source, Waiting};
use crate::quantity::Share;
use crate::request::Request;
use crate::scenario::{As, Call, Load, Numbered, Protocol, RequestKind, Retry, SentBody};

/// The port of every simulated client.
const CLIENT_PORT: u16 = 40_000;
/// What listeners that workloads call through are called by.
const OUTBOUND: &str = "outbound";
const TRIES_MAX: u32 = 1_000;

/// A request as it is written, by a load or by a service.
struct Written<'a> {
    method: Option<&'a Spanned<String>>,
    path: Option<&'a Spanned<String>>,
    host: &'a Spanned<String>,
    headers: &'a BTreeMap<String, Spanned<String>>,
    body: Option<&'a SentBody>,
    protocol: Protocol,
    weight: u32,
    by: Option<&'a Spanned<As>>,
    numbered: Option<Numbered>,
}

/// Where connections come in.
struct Door<'a> {
    name: &'a Spanned<String>,
    listener: Option<&'a Spanned<String>>,
    chain: Option<&'a Spanned<String>>,
    client: IpAddr,
    prefers_outbound: bool,
    path: String,
}

impl<'a> Binder<'a> {
    pub(super) fn sources(&mut self, seed: u64) -> Vec<Source> {
        let scenario = self.scenario;
        let mut names = BTreeSet::new();
        let mut sources = Vec::new();
        for (at, load) in scenario.load.iter().enumerate() {
            if !names.insert(load.name.value.as_str()) {
                self.tell(
                    &load.name,
                    format!("load[{at}].name"),
                    "defined-twice",
                    "two loads have this name",
                );
            }
            let from = moment(load.from.0);
            let to = moment(load.to.unwrap_or(scenario.duration).0.min(scenario.duration.0));
            if to <= from {
                self.tell(
                    &load.name,
                    format!("load[{at}]"),
                    "invalid-value",
                    "this load ends before it begins",
                );
            }
            if load.requests.is_empty() {
                self.tell(
                    &load.name,
                    format!("load[{at}].requests"),
                    "invalid-value",
                    "this load sends nothing",
                );
            }
            let retry =
                load.retry.as_ref().map(|retry| self.again(&load.name, retry, &format!("load[{at}]")));
            let door = Door {
                name: &load.name,
                listener: load.listener.as_ref(),
                chain: load.chain.as_ref(),
                client: load.client,
                prefers_outbound: false,
                path: format!("load[{at}]"),
            };
            let Some((chain, peer)) = self.entrance(self.snapshot(), &door) else { continue };
            let kinds: Vec<Kind> = (load.requests.iter().enumerate())
                .filter_map(|(kind_at, kind)| {
                    let path = format!("load[{at}].requests[{kind_at}]");
                    self.kind(&path, &written(load, kind), self.snapshot(), chain, peer)
                })
                .collect();
            let name = load.name.value.clone();
            let waits = Waiting {
                patience: load.patience.clone(),
                deadline: load.deadline.map(|deadline| deadline.0),
                retry,
            };
            sources.push(Source::new(name, (from, to), load.arrivals.clone(), waits, kinds, seed));
        }
        sources
    }

    /// The calls that a version makes.
    pub(super) fn callees(&mut self, unit: &Unit<'a>) -> Vec<Callee> {
        let calls = unit.calls();
        if calls.is_empty() {
            return Vec::new();
        }
        let outbound = unit.service.outbound.as_ref();
        let door = Door {
            name: &unit.service.name,
            listener: outbound.and_then(|outbound| outbound.listener.as_ref()),
            chain: outbound.and_then(|outbound| outbound.chain.as_ref()),
            client: Ipv4Addr::LOCALHOST.into(),
            prefers_outbound: true,
            path: format!("services[{}].outbound", unit.service_at),
        };
        let snapshot = self.compiled.outbound.get(unit.service_at).copied().unwrap_or(0);
        let snapshot = &self.compiled.snapshots[snapshot];
        let Some((chain, peer)) = self.entrance(snapshot, &door) else {
            return Vec::new();
        };
        self.check_outbound_limits(&unit.service.name, &door.path, snapshot.chain(chain));
        let mut callees = Vec::new();
        for (at, call) in calls.iter().enumerate() {
            let path = match unit.version.is_some_and(|version| version.calls.is_some()) {
                true => format!("{}.calls[{at}]", unit.path()),
                false => format!("services[{}].calls[{at}]", unit.service_at),
            };
            let retry = call.retry.as_ref().map(|retry| self.again(&call.host, retry, &path));
            let Some(kind) = self.kind(&path, &written_call(call), snapshot, chain, peer) else { continue };
            callees.push(Callee {
                kind,
                share: call.share,
                with_previous: call.with_previous,
                timeout: call.timeout.map(|timeout| timeout.0),
                retry,
                is_optional: call.optional,
            });
        }
        callees
    }

    fn again(&mut self, place: &Spanned<String>, retry: &Retry, path: &str) -> Again {
        if retry.attempts.get() > TRIES_MAX {
            let what = format!("there are {} attempts, at most {TRIES_MAX} are possible", retry.attempts);
            self.tell(place, format!("{path}.retry.attempts"), "invalid-value", &what);
        }
        Again {
            tries_max: retry.attempts.get(),
            wait: retry.wait.clone(),
            timeout: retry.timeout.map(|timeout| timeout.0),
        }
    }

    /// The chain that connections come in through.
    fn entrance(&mut self, snapshot: &Snapshot, door: &Door<'_>) -> Option<(ChainId, Peer)> {
        let listeners = &snapshot.listeners;
        let listener_at = match door.listener {
            Some(name) => match listeners.iter().position(|listener| listener.name == name.value) {
                Some(found) => found,
                None => {
                    let what = format!("'{}' is no listener of the configuration", name.value);
                    let hint = did_you_mean(&name.value, listeners.iter().map(|here| here.name.as_str()));
                    let path = format!("{}.listener", door.path);
                    self.tell_with_hint(name, path, "unknown-name", what, hint);
                    return None;
                }
            },
            None if door.prefers_outbound => {
                listeners.iter().position(|listener| listener.name.starts_with(OUTBOUND)).unwrap_or(0)
            }
            None => 0,
        };
        let chains = listeners.get(listener_at).map_or(&[][..], |listener| &listener.chains);
        let chain_at = match door.chain {
            Some(name) => chains.iter().position(|chain| chain.name == name.value),
            // What serves requests comes before what passes bytes through.
            None => {
                let takes_all = |chain: &&naru_spec::FilterChain| chain.server_names.is_empty();
                let served = chains.iter().position(|chain| takes_all(&chain) && chain.tcp.is_none());
                served.or_else(|| chains.iter().position(|chain| takes_all(&chain)))
            }
        };
        let found = chain_at.and_then(|at| Some((chains.get(at)?, snapshot.chain_id(listener_at, at)?)));
        let Some((chain, id)) = found else {
            let place = door.chain.unwrap_or(door.name);
            self.tell(
                place,
                format!("{}.chain", door.path),
                "unknown-name",
                "the configuration has no such chain",
            );
            return None;
        };
        if chain.tcp.is_some() {
            let place = door.chain.or(door.listener).unwrap_or(door.name);
            let what = "the bytes of this listener are passed through, and the simulator plays requests only";
            self.tell(place, door.path.to_string(), "invalid-value", what);
            return None;
        }
        let peer = Peer {
            remote: SocketAddr::new(door.client, CLIENT_PORT),
            local: listeners.get(listener_at)?.address,
            is_tls: chain.tls.is_some(),
            is_certified: false,
            is_in_tunnel: false,
        };
        Some((id, peer))
    }

    fn kind(
        &mut self,
        path: &str,
        written: &Written<'_>,
        snapshot: &Snapshot,
        chain: ChainId,
        peer: Peer,
    ) -> Option<Kind> {
        let before = self.problems.len();
        let method = written.method.map_or("GET", |method| method.value.as_str());
        let parsed_method = Method::from_bytes(method.as_bytes());
        if let (Err(_), Some(place)) = (&parsed_method, written.method) {
            self.tell(place, format!("{path}.method"), "invalid-value", &format!("'{method}' is no method"));
        }
        let target = written.path.map_or("/", |target| target.value.as_str());
        let escaped = match written.numbered {
            Some(_) => target.replace("{n}", ESCAPED),
            None => target.to_owned(),
        };
        let parsed_target = PathAndQuery::try_from(escaped).ok().filter(|_| target.starts_with('/'));
        if let (None, Some(place)) = (&parsed_target, written.path) {
            let what = format!("'{target}' is no path, which begins with '/'");
            self.tell(place, format!("{path}.path"), "invalid-value", &what);
        }
        let authority: Option<Authority> = written.host.value.parse().ok();
        if authority.is_none() {
            self.tell(
                written.host,
                format!("{path}.host"),
                "invalid-value",
                &format!("'{}' is no host", written.host.value),
            );
        }
        let mut headers = http::HeaderMap::new();
        for (name, value) in written.headers {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value.value)) {
                (Ok(name), Ok(value)) => {
                    headers.append(name, value);
                }
                _ => {
                    let what = format!("'{name}: {}' is no header", value.value);
                    self.tell(value, format!("{path}.headers.{name}"), "invalid-value", &what);
                }
            }
        }
        let (Ok(method), Some(target), Some(authority), true) =
            (parsed_method, parsed_target, authority, self.problems.len() == before)
        else {
            return None;
        };
        let asker = self.asker(written.by, snapshot, chain, path);
        // As a client does that knows how long it is.
        if let Some(body) = written.body
            && !headers.contains_key(header::TRANSFER_ENCODING)
        {
            headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(body.bytes));
        }
        let line = format!("{method} {authority}{}", written.path.map_or("/", |path| &path.value));
        let mut head = http::Request::new(()).into_parts().0;
        head.method = method;
        head.headers = headers;
        match written.protocol {
            Protocol::Http1 => {
                head.version = Version::HTTP_11;
                head.uri = Uri::from(target);
                head.headers.insert(header::HOST, HeaderValue::from_str(authority.as_str()).ok()?);
            }
            Protocol::Http2 => {
                head.version = Version::HTTP_2;
                let mut uri = http::uri::Parts::default();
                uri.scheme = Some(if peer.is_tls { Scheme::HTTPS } else { Scheme::HTTP });
                uri.authority = Some(authority);
                uri.path_and_query = Some(target);
                head.uri = Uri::from_parts(uri).ok()?;
            }
        }
        let body = written.body.map_or(Body::EMPTY, |body| Body::new(body.bytes, Duration::ZERO));
        let at_once = || Distribution::constant(Duration::ZERO);
        Some(Kind {
            request: Request { chain, peer, head, body, asker },
            numbered: written.numbered,
            line,
            weight: written.weight,
            body_over: written.body.map_or_else(at_once, |body| body.over.clone()),
            body_broken: written.body.map_or(Share::NONE, |body| body.broken),
        })
    }
}

fn written<'a>(load: &Load, kind: &'a RequestKind) -> Written<'a> {
    Written {
        method: kind.method.as_ref(),
        path: Some(&kind.path),
        host: &kind.host,
        headers: &kind.headers,
        body: kind.body.as_ref(),
        protocol: load.protocol,
        weight: kind.weight.get(),
        by: kind.by.as_ref(),
        numbered: kind.numbered,
    }
}

fn written_call(call: &Call) -> Written<'_> {
    Written {
        method: call.method.as_ref(),
        path: call.path.as_ref(),
        host: &call.host,
        headers: &call.headers,
        body: call.body.as_ref(),
        protocol: call.protocol,
        weight: 1,
        by: None,
        numbered: None,
    }
}
