//! What is tried instead of an answer that is missing or bad: for routes, for services and their subsets.
//!
//! A chain that is attached to a VirtualService is for its routes, one of a Service, a DestinationRule or a subset for
//! the clusters that are made of it. A cluster that a chain leads to may have a chain of its own: it is for requests
//! that go there by themselves.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, header};
use naru_resource::fallback::{self as said, FallbackResponse};
use naru_resource::traffic_policy::TargetRef;
use naru_resource::virtual_service::Destination;
use naru_resource::{Meta, Place, Resources, Text};
use naru_spec::{Fallback, FallbackAnswer, FallbackOn, FallbackStep, Path, code, defaults};

use crate::account::{Account, Idle, Said};
use crate::actions::{fits, status_of};
use crate::attached::{RouteKey, Target};
use crate::by_host::{ByHost, Part};
use crate::findings::Findings;
use crate::guards;
use crate::registry::Registry;
use crate::routes::{Context, Owner, Routes};

const FORBIDDEN: [HeaderName; 3] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];

/// Chains by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Fallbacks<'a> {
    of_routes: BTreeMap<RouteKey, Chain<'a>>,
    of_services: ByHost<Chain<'a>>,
}

/// A chain whose destinations are still to be found.
#[derive(Clone, Debug)]
struct Chain<'a> {
    namespace: &'a str,
    place: Place,
    on: FallbackOn,
    steps: Vec<Step<'a>>,
}

#[derive(Clone, Debug)]
enum Step<'a> {
    To(&'a Destination),
    Known(FallbackStep),
}

impl<'a> Fallbacks<'a> {
    pub fn of(
        resources: &'a Resources,
        registry: &Registry,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) -> Fallbacks<'a> {
        let mut fallbacks = Fallbacks::default();
        let breakers = resources.circuit_breakers.iter().map(|said| {
            let spec = &said.spec;
            (&said.meta, &spec.target_ref, spec.fallback.as_ref(), true)
        });
        let policies = resources.traffic_policies.iter().map(|said| {
            let spec = &said.spec;
            // A DestinationRule that is not there is told where a health check is read, if there is one.
            let is_told = spec.health_check.is_some() || spec.target_ref.kind.value != "DestinationRule";
            (&said.meta, &spec.target_ref, spec.fallback.as_ref(), is_told)
        });
        for (meta, target, said, is_told) in breakers.chain(policies) {
            let Some(said) = said else { continue };
            let has_caches = !resources.response_caches.is_empty();
            let chain = read(said, meta.namespace(), has_caches, findings);
            let found = if is_told {
                let mut quiet = Findings::new(&resources.files);
                target_of(target, meta, resources, registry, &mut quiet)
            } else {
                target_of(target, meta, resources, registry, findings)
            };
            let before = match found {
                None => continue,
                Some(For::Route(key)) => keep(&mut fallbacks.of_routes, key, chain),
                Some(For::Service(part)) => {
                    let before = fallbacks.of_services.insert(part, chain).map(|before| before.place);
                    if before.is_none() && !registry.is_empty() {
                        let (place, path) = (said.place, "spec.fallback".to_owned());
                        let otherwise = Idle::NoService;
                        account.expect(Said { place, field: "fallback", path, route: None, otherwise });
                    }
                    before
                }
            };
            if let Some(before) = before {
                let message =
                    format!("another fallback is for the same: it is at {}", findings.locate(before));
                let path = Path::ROOT.field("spec.fallback");
                findings.error(code::CONFLICT, said.place, &path, message, "join them");
            }
        }
        fallbacks
    }
}

enum For {
    Route(RouteKey),
    Service(Part),
}

/// What was wrong with a reference has been told by whoever read the rest of its document.
fn target_of(
    target: &TargetRef,
    meta: &Meta,
    resources: &Resources,
    registry: &Registry,
    findings: &mut Findings<'_>,
) -> Option<For> {
    if guards::is_of_services(&target.kind) {
        return guards::resolve(target, "fallback", meta, resources, registry, findings).map(For::Service);
    }
    match Target::of(target, "fallback", meta.namespace(), resources, registry, findings)? {
        Target::Route(key) => Some(For::Route(key)),
        Target::Service(host) => Some(For::Service(Part { host, subset: None, is_pattern: false })),
    }
}

/// Where the one stands that was there before.
fn keep<'a, K: Ord>(known: &mut BTreeMap<K, Chain<'a>>, key: K, chain: Chain<'a>) -> Option<Place> {
    match known.get(&key) {
        Some(before) => Some(before.place),
        None => {
            known.insert(key, chain);
            None
        }
    }
}

fn read<'a>(
    said: &'a said::Fallback,
    namespace: &'a str,
    has_caches: bool,
    findings: &mut Findings<'_>,
) -> Chain<'a> {
    let path = Path::ROOT.field("spec.fallback");
    let on = on(&said.on, &path.field("on"), findings);
    let of_steps = path.field("steps");
    let mut steps = Vec::new();
    let mut answer: Option<Place> = None;
    for (at, step) in said.steps.iter().enumerate() {
        let path = of_steps.at(at);
        if let Some(before) = answer {
            let message = "no request gets to this step: one before it always answers";
            let hint = format!("the step that answers is at {}", findings.locate(before));
            findings.warning(code::UNREACHABLE_RULE, step.place, &path, message, hint);
        }
        match (&step.destination, &step.stale_response, &step.response) {
            (Some(destination), None, None) => steps.push(Step::To(destination)),
            (None, Some(stale), None) => {
                if !has_caches {
                    let message =
                        "'staleResponse' has no effect: nothing is kept, and the next step is tried";
                    let hint = "attach a ResponseCache to the routes";
                    let path = path.field("staleResponse");
                    findings.warning(code::NO_EFFECT, stale.place, &path, message, hint);
                }
                steps.push(Step::Known(FallbackStep::StaleResponse));
            }
            (None, None, Some(response)) => {
                answer.get_or_insert(step.place);
                if let Some(read) = response_of(response, &path.field("response"), findings) {
                    steps.push(Step::Known(FallbackStep::Answer(read)));
                }
            }
            _ => {
                let message = "exactly one of destination, staleResponse and response is needed";
                findings.error(code::CONFLICTING_FIELDS, step.place, &path, message, "");
            }
        }
    }
    if said.steps.is_empty() {
        let message = "a fallback needs at least one step";
        findings.error(code::MISSING_FIELD, said.place, &of_steps, message, "a destination, or a response");
    }
    if said.steps.len() > defaults::FALLBACK_STEPS_MAX {
        let message = format!("a fallback has {} steps", said.steps.len());
        let hint = format!("at most {}", defaults::FALLBACK_STEPS_MAX);
        findings.error(code::INVALID_VALUE, said.place, &of_steps, message, hint);
    }
    Chain { namespace, place: said.place, on, steps }
}

/// Where nothing is said, whatever is no answer.
fn on(said: &[Text], path: &Path<'_>, findings: &mut Findings<'_>) -> FallbackOn {
    if said.is_empty() {
        return FallbackOn::default();
    }
    let mut on = FallbackOn::NOTHING;
    for (at, word) in said.iter().enumerate() {
        match word.as_str() {
            "breakerOpen" => on.is_cut_off = true,
            "noHealthyUpstream" => on.has_no_endpoint = true,
            "failure" => on.is_failed = true,
            "limited" => on.is_limited = true,
            text if text.starts_with(|first: char| first.is_ascii_digit()) => {
                on.statuses.extend(guards::range(word, &path.at(at), findings));
            }
            _ => {
                let message = format!("'{}' is nothing that a fallback is for", word.value);
                let hint = "breakerOpen, noHealthyUpstream, failure, limited, or statuses: \"503\", 500-599";
                findings.error(code::UNKNOWN_VALUE, word.place, &path.at(at), message, hint);
            }
        }
    }
    on
}

fn response_of(
    said: &FallbackResponse,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<FallbackAnswer> {
    let status = status_of(&said.status, &path.field("status"), findings);
    let mut headers = Vec::new();
    let of_headers = path.field("headers");
    let content_type = said.content_type.iter().map(|value| (header::CONTENT_TYPE.as_str(), value));
    let listed = said.headers.iter().map(|(name, value)| (name.as_str(), value));
    for (text, value) in content_type.chain(listed) {
        let path = of_headers.key(text);
        let name = HeaderName::from_bytes(text.to_ascii_lowercase().as_bytes());
        let name = name.ok().filter(|name| !FORBIDDEN.contains(name));
        let (Some(name), Ok(read)) = (name, HeaderValue::from_str(value)) else {
            let message = format!("'{text}: {}' cannot be a header of an answer", value.value);
            findings.error(code::INVALID_VALUE, value.place, &path, message, "");
            continue;
        };
        if headers.iter().any(|(known, _)| *known == name) {
            let message = format!("the header '{name}' is said twice");
            findings.error(code::CONFLICTING_FIELDS, value.place, &path, message, "say it once");
        }
        headers.push((name, read));
    }
    let body = said.body.as_ref().map(|body| body.value.clone().into_bytes()).unwrap_or_default();
    let place = said.body.as_ref().map_or(said.place, |body| body.place);
    let fits = fits(&body, place, &path.field("body"), findings);
    fits.then_some(FallbackAnswer { status: status?, headers, body })
}

/// Tells of a step to where the request was before.
fn check_own(destination: &Destination, path: &Path<'_>, findings: &mut Findings<'_>) {
    let message = "the step leads to where the request was sent in the first place";
    let hint = "name another subset or service; to try the same again is what retries are for";
    findings.warning(code::NO_EFFECT, destination.place, path, message, hint);
}

impl Routes<'_> {
    /// Tells what is wrong with destinations of chains, whoever uses them.
    pub fn check_fallbacks(&mut self, findings: &mut Findings<'_>) {
        let of_services = self.fallbacks.of_services.iter().map(|(_, chain)| chain);
        let all = self.fallbacks.of_routes.values().chain(of_services);
        let all: Vec<Chain<'_>> = all.cloned().collect();
        for chain in all {
            self.resolve(&chain, &[], &Context::Any, findings);
        }
        let steps = Path::ROOT.field("spec.fallback.steps");
        for (part, chain) in self.fallbacks.of_services.iter().filter(|(part, _)| !part.is_pattern) {
            // A chain is for all ports, and where there are several each of the others is another cluster.
            let ports = self.registry.find(&part.host, chain.namespace).map_or(0, |known| known.ports.len());
            for (at, step) in chain.steps.iter().enumerate() {
                if let Step::To(to) = step
                    && ports == 1
                    && self.registry.full_name(&to.host, chain.namespace) == part.host
                    && to.subset.as_ref().map(|subset| &subset.value) == part.subset.as_ref()
                {
                    check_own(to, &steps.at(at).field("destination"), findings);
                }
            }
        }
    }

    /// That of one route, which leads to these clusters by itself: of the most specific that has one.
    pub fn fallback_of(
        &mut self,
        keys: &[RouteKey],
        own: &[String],
        context: &Context<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Fallback> {
        let mut found = keys.iter().filter_map(|key| self.fallbacks.of_routes.get(key));
        let chain = found.next()?.clone();
        self.account.take(chain.place, "fallback");
        found.for_each(|other| self.account.pass(other.place, "fallback", Idle::Outdone));
        Some(self.resolve(&chain, own, context, findings))
    }

    /// Notes the chain of a cluster that is made of a host and a subset: what is said of the subset goes before what is
    /// said of all. A cluster that a chain leads back to is noted already.
    pub fn note_fallback(&mut self, cluster: &str, host: &str, subset: Option<&str>, context: &Context<'_>) {
        if self.chained.contains_key(cluster) {
            return;
        }
        let found = self.fallbacks.of_services.find(host, subset);
        let Some(chain) = found.first().copied().cloned() else { return };
        self.chained.insert(cluster.to_owned(), None);
        let mut quiet = self.quiet();
        let fallback = self.resolve(&chain, &[], context, &mut quiet);
        self.chained.insert(cluster.to_owned(), Some(fallback));
    }

    /// Notes which chain acts on a cluster.
    pub fn note_chain(&mut self, host: &str, subset: Option<&str>) {
        for (at, chain) in self.fallbacks.of_services.find(host, subset).into_iter().enumerate() {
            self.account.take_if(at == 0, chain.place, "fallback", Idle::Outdone);
        }
    }

    fn resolve(
        &mut self,
        chain: &Chain<'_>,
        own: &[String],
        context: &Context<'_>,
        findings: &mut Findings<'_>,
    ) -> Fallback {
        // Who has several ports is asked which one, wherever the request came from.
        let owner = Owner { namespace: chain.namespace, is_mesh_only: false };
        let context = context.anywhere();
        let steps = Path::ROOT.field("spec.fallback.steps");
        let found = chain.steps.iter().enumerate().filter_map(|(at, step)| match step {
            Step::Known(step) => Some(step.clone()),
            Step::To(destination) => {
                let (share, path) = ("what falls back", steps.at(at));
                let path = path.field("destination");
                let name = self.own_destination(owner, destination, &context, share, &path, findings)?;
                if let [only] = own
                    && *only == name
                {
                    check_own(destination, &path, findings);
                }
                Some(FallbackStep::Cluster(name))
            }
        });
        Fallback { steps: found.collect(), on: chain.on.clone() }
    }
}
