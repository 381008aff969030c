//! How the statuses of documents of the Gateway API are shown.

use std::fmt::Write as _;

use naru_plan::{CONTROLLER, Condition, ParentName, Status};
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
            of["conditions"] = listed(&status.conditions, status.generation);
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
                    "conditions": listed(&listener.conditions, status.generation),
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
                let conditions = listed(&parent.conditions, status.generation);
                let mut one = json!({ "controllerName": CONTROLLER, "conditions": conditions });
                one[reference] = named(&parent.parent);
                one
            });
            of[list] = parents.collect();
        }
        let mut metadata = match status.namespace.as_str() {
            "" => json!({ "name": status.name }),
            namespace => json!({ "name": status.name, "namespace": namespace }),
        };
        if let Some(generation) = status.generation {
            metadata["generation"] = json!(generation);
        }
        json!({ "kind": status.kind, "metadata": metadata, "status": of })
    });
    Value::Array(all.collect())
}

/// As an object, with what is said of it only.
fn named(parent: &ParentName) -> Value {
    let mut all = json!({
        "group": parent.group,
        "kind": parent.kind,
        "namespace": parent.namespace,
        "name": parent.name,
    });
    if let Some(section) = &parent.section {
        all["sectionName"] = json!(section);
    }
    if let Some(port) = parent.port {
        all["port"] = json!(port);
    }
    all
}

/// When each became so is known to a cluster only; of which generation it is said is what the document says.
fn listed(conditions: &[Condition], generation: Option<i64>) -> Value {
    let all = conditions.iter().map(|condition| {
        let mut one = json!({
            "type": condition.kind,
            "status": if condition.status { "True" } else { "False" },
            "reason": condition.reason,
            "message": condition.message,
        });
        if let Some(generation) = generation {
            one["observedGeneration"] = json!(generation);
        }
        one
    });
    Value::Array(all.collect())
}
