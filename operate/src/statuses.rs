//! How the statuses of documents of the Gateway API are shown.

use std::fmt::Write as _;

use naru_plan::{CONTROLLER, Condition, Status};
use serde_json::{Value, json};

/// One line for each document and each part of it, with its conditions.
pub fn to_text(statuses: &[Status]) -> String {
    let mut out = String::new();
    for status in statuses {
        let name = match status.namespace.as_str() {
            "" => status.name.clone(),
            namespace => format!("{namespace}/{}", status.name),
        };
        let _ = writeln!(out, "{} {name}{}", status.kind, conditions(&status.conditions));
        for listener in &status.listeners {
            let routes = match listener.attached_routes {
                1 => "1 route".to_owned(),
                many => format!("{many} routes"),
            };
            let _ =
                writeln!(out, "  listener {}, {routes}{}", listener.name, conditions(&listener.conditions));
        }
        for parent in &status.parents {
            let _ = writeln!(out, "  {}{}", parent.parent, conditions(&parent.conditions));
        }
    }
    out
}

/// `: Accepted, not Programmed (Invalid: nobody listens for it)`.
fn conditions(conditions: &[Condition]) -> String {
    // What would be a fault is not there: nothing to tell.
    let told = conditions.iter().filter(|condition| condition.kind != "Conflicted" || condition.status);
    let told = told.map(|condition| {
        let is_well = condition.status != (condition.kind == "Conflicted");
        let word = if condition.status { String::new() } else { "not ".to_owned() };
        let why = match (is_well && condition.reason != "ListenersNotValid", condition.message.as_str()) {
            (true, _) => String::new(),
            (false, "") => format!(" ({})", condition.reason),
            (false, message) => format!(" ({}: {message})", condition.reason),
        };
        format!("{word}{}{why}", condition.kind)
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) }
}

/// As in Kubernetes, as far as it is known without a cluster.
pub fn to_json(statuses: &[Status]) -> Value {
    let all = statuses.iter().map(|status| {
        let mut of = json!({});
        if !status.conditions.is_empty() {
            of["conditions"] = listed(&status.conditions);
        }
        if !status.listeners.is_empty() {
            let listeners = status.listeners.iter().map(|listener| {
                let kinds = listener.supported_kinds.iter();
                let kinds: Vec<Value> =
                    kinds.map(|kind| json!({ "group": "gateway.networking.k8s.io", "kind": kind })).collect();
                json!({
                    "name": listener.name,
                    "attachedRoutes": listener.attached_routes,
                    "supportedKinds": kinds,
                    "conditions": listed(&listener.conditions),
                })
            });
            of["listeners"] = listeners.collect();
        }
        if !status.parents.is_empty() {
            let (list, reference) = match status.kind {
                "BackendTLSPolicy" => ("ancestors", "ancestorRef"),
                _ => ("parents", "parentRef"),
            };
            let parents = status.parents.iter().map(|parent| {
                let mut one =
                    json!({ "controllerName": CONTROLLER, "conditions": listed(&parent.conditions) });
                one[reference] = json!(parent.parent);
                one
            });
            of[list] = parents.collect();
        }
        let metadata = match status.namespace.as_str() {
            "" => json!({ "name": status.name }),
            namespace => json!({ "name": status.name, "namespace": namespace }),
        };
        json!({ "kind": status.kind, "metadata": metadata, "status": of })
    });
    Value::Array(all.collect())
}

fn listed(conditions: &[Condition]) -> Value {
    let all = conditions.iter().map(|condition| {
        json!({
            "type": condition.kind,
            "status": if condition.status { "True" } else { "False" },
            "reason": condition.reason,
            "message": condition.message,
        })
    });
    Value::Array(all.collect())
}
