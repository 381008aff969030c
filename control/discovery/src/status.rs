//! Who is connected, what does he have, what does he lack, and how old is it? As JSON.

use std::sync::atomic::Ordering;

use naru_base::Instant;
use serde_json::{Value, json};

use crate::body::hex;
use crate::hub::{Gone, Hub, Proxy, lock};
use crate::members::Standing as Joined;
use crate::stream::{Mode, Standing};

pub(crate) fn of(hub: &Hub) -> Value {
    let now = hub.clock.now();
    let (puts, put_at) = hub.puts();
    let plans = hub.plans();
    let mut proxies: Vec<_> = hub.proxies();
    proxies.sort_by(|a, b| (&a.identity.id, a.connected_at).cmp(&(&b.identity.id, b.connected_at)));
    json!({
        "changes": puts,
        "changed_seconds_ago": put_at.map(|at| seconds(now, at)),
        "source": hub.wrong().map(|wrong| json!({
            "name": wrong.name,
            "error": wrong.why,
            "seconds_ago": seconds(now, wrong.at),
        })),
        "kinds_of_nodes": hub.roles(),
        "plans": { "whole": plans.wholes, "in_part": plans.parts, "reached": plans.reached },
        "proxies": proxies.iter().map(|proxy| of_proxy(hub, proxy, now)).collect::<Vec<_>>(),
        "members": hub.joining.standings().iter().map(|member| of_member(member, now)).collect::<Vec<_>>(),
        "gone": hub.gone().iter().rev().map(|gone| of_gone(gone, now)).collect::<Vec<_>>(),
    })
}

fn of_proxy(hub: &Hub, proxy: &Proxy, now: Instant) -> Value {
    let given = hub.given(&proxy.role);
    let (standings, view, mode) = {
        let stream = lock(&proxy.stream);
        (stream.standings(), stream.view().clone(), stream.mode())
    };
    let labels = proxy.role.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
    json!({
        "id": proxy.identity.id,
        "agent": proxy.identity.agent,
        "reads": proxy.role.dialect.name(),
        "role": proxy.role.part.name(),
        "namespace": proxy.role.namespace,
        "service_account": proxy.role.account,
        "labels": Value::Object(labels.collect()),
        "peer": proxy.peer.to_string(),
        "certificate": proxy.shown,
        "mode": match mode {
            Mode::Delta => "delta",
            Mode::StateOfTheWorld => "state of the world",
        },
        "state": if given.refused.is_some() { "held back" } else { state(&standings) },
        "connected_seconds": seconds(now, proxy.connected_at),
        "bytes_sent": proxy.bytes_sent.load(Ordering::Relaxed),
        "version": hex(view.version()),
        "bytes": view.bytes(),
        "held_back": given.refused,
        "left_out": given.lost.iter().map(|lost| format!("{}: {}", lost.at, lost.what)).collect::<Vec<_>>(),
        "resources": standings.iter().map(|standing| of_standing(standing, now)).collect::<Vec<_>>(),
    })
}

/// In one word.
fn state(standings: &[Standing]) -> &'static str {
    if standings.iter().any(|standing| standing.refused.is_some()) {
        "refused"
    } else if standings.iter().all(|standing| standing.is_current) {
        "current"
    } else {
        "behind"
    }
}

fn of_standing(standing: &Standing, now: Instant) -> Value {
    json!({
        "kind": standing.kind.name(),
        "subscribed": standing.subscribed.map_or(Value::from("all"), Value::from),
        "there": standing.resources,
        "is_current": standing.is_current,
        "version": hex(standing.wanted),
        "accepted": standing.accepted.map(|(version, at)| {
            json!({ "version": hex(version), "seconds_ago": seconds(now, at) })
        }),
        "refused": standing.refused.as_ref().map(|refused| json!({
            "version": hex(refused.version),
            "reason": refused.reason,
            "seconds_ago": seconds(now, refused.at),
        })),
        "unanswered_seconds": standing.unanswered_since.map(|at| seconds(now, at)),
        "responses": standing.responses,
        "stale_requests": standing.stale,
    })
}

/// Somebody who has joined a WorkloadGroup.
fn of_member(joined: &Joined, now: Instant) -> Value {
    let member = &joined.member;
    let labels = member.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
    json!({
        "name": member.name(),
        "namespace": member.namespace,
        "group": member.group,
        "address": member.address.to_string(),
        "network": member.network,
        "locality": member.locality,
        "labels": Value::Object(labels.collect()),
        "is_ready": joined.is_ready,
        "why": joined.why,
        "connected": joined.connected,
        "elsewhere": joined.elsewhere,
        "leaves_in_seconds": joined.until.map(|until| seconds(until, now)),
    })
}

fn of_gone(gone: &Gone, now: Instant) -> Value {
    json!({
        "id": gone.id,
        "agent": gone.agent,
        "peer": gone.peer.to_string(),
        "why": gone.why,
        "seconds_ago": seconds(now, gone.at),
    })
}

fn seconds(now: Instant, at: Instant) -> f64 {
    (now.since(at).as_secs_f64() * 1_000.0).round() / 1_000.0
}
