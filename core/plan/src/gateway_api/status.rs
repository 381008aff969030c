//! What the Gateway API wants its authors to be told: conditions of classes, gateways, listeners, routes and policies.
//!
//! Comes in: resources. Goes out: for each document what a controller would write into its `status`, with the words of
//! the API. Source: `apis/v1` of sigs.k8s.io/gateway-api. Deliberately not here: what is wrong with documents in words
//! of ours, with their lines; that are the problems of [`crate::plan`].

use naru_resource::{Place, Resources};

/// Who naru is to the Gateway API.
pub const CONTROLLER: &str = "naru.dev/gateway-controller";

/// The status of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub place: Place,
    /// Of the document that this is said of, where Kubernetes has counted.
    pub generation: Option<i64>,
    pub conditions: Vec<Condition>,
    /// Of a Gateway.
    pub listeners: Vec<ListenerStatus>,
    /// Of a route, or of a policy whose ancestors these are.
    pub parents: Vec<ParentStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    pub name: String,
    pub attached_routes: u32,
    pub supported_kinds: Vec<&'static str>,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentStatus {
    pub parent: ParentName,
    pub conditions: Vec<Condition>,
}

/// Whom a route or a policy names. Shown as `Gateway namespace/name`, with the section where one is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentName {
    /// Empty for what Kubernetes itself has.
    pub group: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub section: Option<String>,
    pub port: Option<i64>,
}

impl std::fmt::Display for ParentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)?;
        self.section.as_ref().map_or(Ok(()), |section| write!(f, " {section}"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub kind: &'static str,
    pub status: bool,
    pub reason: &'static str,
    /// Empty where the reason says it.
    pub message: String,
}

impl Condition {
    pub(super) fn yes(kind: &'static str, reason: &'static str) -> Condition {
        Condition { kind, status: true, reason, message: String::new() }
    }

    pub(super) fn no(kind: &'static str, failed: &Failed) -> Condition {
        Condition { kind, status: false, reason: failed.reason, message: failed.message.clone() }
    }
}

/// Why something is not so, in the API's word and in a sentence, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub reason: &'static str,
    pub message: String,
    pub place: Place,
}

/// What there is to be told, in the order of kinds and of documents.
pub fn statuses(resources: &Resources) -> Vec<Status> {
    let world = super::attach::World::of(resources);
    let mut found = Vec::new();
    for class in &resources.gateway_classes {
        let is_ours = super::attach::is_ours(&class.spec.controller_name);
        if is_ours {
            found.push(Status {
                kind: "GatewayClass",
                namespace: String::new(),
                name: class.meta.name.value.clone(),
                place: class.place,
                generation: class.meta.generation.map(|said| said.value),
                conditions: vec![Condition::yes("Accepted", "Accepted")],
                listeners: Vec::new(),
                parents: Vec::new(),
            });
        }
    }
    found.extend(world.gateways.iter().filter_map(super::attach::GatewayState::status));
    found.extend(world.routes.iter().map(super::attach::RouteState::status));
    found.extend(super::backend_tls::statuses(resources));
    found
}
