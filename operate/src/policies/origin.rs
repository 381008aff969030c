//! Where documents say what acts.
//!
//! A configuration does not know which document a policy came from; the documents do, by what they are for. Where two of
//! them could have said it, nobody is named.

use naru_plan::fqdn;
use naru_resource::destination_rule::{PortPolicy, TrafficPolicy as Blocks};
use naru_resource::traffic_policy::{TargetRef, TrafficPolicySpec};
use naru_resource::virtual_service::HttpRoute;
use naru_resource::{Files, Meta, Place, Resources, VirtualService};
use naru_spec::ClusterName;

pub struct Documents {
    resources: Resources,
}

/// The documents that are for one rule, or for one cluster: the closest of each kind first.
#[derive(Default)]
pub struct Sources<'a> {
    files: Option<&'a Files>,
    /// Itself, and then the one that delegates to it.
    routes: Vec<&'a HttpRoute>,
    /// How closely it is for this, and what it says.
    policies: Vec<(usize, &'a TrafficPolicySpec)>,
    breakers: Vec<(usize, Place, Option<Place>)>,
    bulkheads: Vec<(usize, Place)>,
    caches: Vec<(usize, Place)>,
    /// Of a subset, and of all of its host.
    blocks: Vec<&'a Blocks>,
    port: i64,
}

impl Documents {
    pub fn new(resources: Resources) -> Documents {
        Documents { resources }
    }

    /// Where the document stands that a check has its name from.
    pub fn of_check(&self, name: &str) -> Option<String> {
        let of = |kind: &str, meta: &Meta| format!("{kind}/{}/{}", meta.namespace(), meta.name.value) == name;
        let limits = self.resources.rate_limits.iter().map(|document| ("RateLimit", &document.meta));
        let surges = self.resources.surges.iter().map(|document| ("Surge", &document.meta));
        let files = self.resources.static_files.iter().map(|document| ("StaticFiles", &document.meta));
        let (_, meta) = limits.chain(surges).chain(files).find(|(kind, meta)| of(kind, meta))?;
        Some(self.resources.files.locate(meta.name.place))
    }

    /// `origin` is where the rule stands.
    pub fn of_rule(&self, origin: &str) -> Sources<'_> {
        let files = &self.resources.files;
        let mut sources = Sources { files: Some(files), ..Sources::default() };
        let services = self.resources.virtual_services.iter();
        let mut routes =
            services.flat_map(|service| service.spec.http.iter().map(move |route| (service, route)));
        let Some((service, route)) = routes.find(|(_, route)| files.locate(route.place) == origin) else {
            return sources;
        };
        let root = self.delegating_to(service);
        sources.routes = [Some(route), root.map(|(_, route)| route)].into_iter().flatten().collect();
        self.attach(&mut sources, |target, meta| {
            let of = |(service, route): (&VirtualService, &HttpRoute)| {
                let is_meant = target.kind.value == "VirtualService"
                    && target.name.value == service.meta.name.value
                    && meta.namespace() == service.meta.namespace();
                let name = route.name.as_ref().map(|name| &name.value);
                match &target.section_name {
                    _ if !is_meant => None,
                    None => Some(0),
                    Some(section) => (Some(&section.value) == name).then_some(1),
                }
            };
            // What is said of the delegate goes before what is said of the one that delegates.
            of((service, route)).map(|closeness| closeness + 2).or_else(|| root.and_then(of))
        });
        sources
    }

    /// The route that delegates to a VirtualService, where there is one alone.
    fn delegating_to(&self, leaf: &VirtualService) -> Option<(&VirtualService, &HttpRoute)> {
        let services = self.resources.virtual_services.iter();
        let mut delegating = services
            .flat_map(|service| service.spec.http.iter().map(move |route| (service, route)))
            .filter(|(service, route)| {
                route.delegate.as_ref().is_some_and(|delegate| {
                    let namespace = delegate.namespace.as_ref().map(|namespace| namespace.value.as_str());
                    delegate.name.value == leaf.meta.name.value
                        && namespace.unwrap_or_else(|| service.meta.namespace()) == leaf.meta.namespace()
                })
            });
        let one = delegating.next()?;
        delegating.next().is_none().then_some(one)
    }

    /// One that is called as Istio calls them.
    pub fn of_cluster(&self, name: &str) -> Sources<'_> {
        let mut sources = Sources { files: Some(&self.resources.files), ..Sources::default() };
        let Some(ClusterName { port, subset, host, .. }) = ClusterName::read(name) else { return sources };
        sources.port = i64::from(port);
        let rules = self.resources.destination_rules.iter().filter_map(|rule| {
            let closeness = closeness(&rule.spec.host.value, rule.meta.namespace(), host)?;
            Some((closeness, rule))
        });
        let rules: Vec<_> = rules.collect();
        let closest = rules.iter().map(|(closeness, _)| *closeness).max();
        let rules = rules.iter().filter(|(closeness, _)| Some(*closeness) == closest).map(|(_, rule)| *rule);
        let rules: Vec<_> = rules.collect();
        let of_subset = rules
            .iter()
            .flat_map(|rule| &rule.spec.subsets)
            .find(|known| known.name.value == subset)
            .and_then(|subset| subset.traffic_policy.as_ref());
        let of_all = rules.iter().find_map(|rule| rule.spec.traffic_policy.as_ref());
        sources.blocks = of_subset.into_iter().chain(of_all).collect();
        self.attach(&mut sources, |target, meta| {
            let name = target.name.value.as_str();
            match target.kind.value.as_str() {
                "Service" => closeness(name, meta.namespace(), host).map(|closeness| closeness / 2),
                "DestinationRule" => {
                    let mut named = self.resources.destination_rules.iter().filter(|rule| {
                        rule.meta.name.value == name && rule.meta.namespace() == meta.namespace()
                    });
                    let rule = named.next()?;
                    let closeness = closeness(&rule.spec.host.value, rule.meta.namespace(), host)? / 2;
                    match &target.section_name {
                        None => Some(closeness),
                        Some(section) => (section.value == subset).then_some(closeness + 1),
                    }
                }
                _ => None,
            }
        });
        sources
    }

    fn attach<'a>(
        &'a self,
        sources: &mut Sources<'a>,
        closeness: impl Fn(&TargetRef, &Meta) -> Option<usize>,
    ) {
        let all = &self.resources;
        for document in &all.traffic_policies {
            let found = closeness(&document.spec.target_ref, &document.meta);
            sources.policies.extend(found.map(|found| (found, &document.spec)));
        }
        for document in &all.circuit_breakers {
            let found = closeness(&document.spec.target_ref, &document.meta);
            let fallback = document.spec.fallback.as_ref().map(|fallback| fallback.place);
            sources.breakers.extend(found.map(|found| (found, document.meta.name.place, fallback)));
        }
        for document in &all.bulkheads {
            let found = closeness(&document.spec.target_ref, &document.meta);
            sources.bulkheads.extend(found.map(|found| (found, document.meta.name.place)));
        }
        for document in &all.response_caches {
            let found =
                document.spec.target_ref.as_ref().and_then(|target| closeness(target, &document.meta));
            sources.caches.extend(found.map(|found| (found, document.meta.name.place)));
        }
    }
}

/// How closely a host of documents is a host, as an even number; an exact one most of all.
fn closeness(said: &str, namespace: &str, host: &str) -> Option<usize> {
    if said == host || fqdn(said, namespace) == host {
        return Some(usize::MAX / 4 * 2);
    }
    let suffix = said.strip_prefix('*')?;
    (host.len() > suffix.len() && host.ends_with(suffix)).then(|| suffix.len() * 4)
}

/// The closest, where it is alone.
fn closest(found: impl Iterator<Item = (usize, Place)>) -> Option<Place> {
    let found: Vec<(usize, Place)> = found.collect();
    let best = found.iter().map(|(closeness, _)| *closeness).max()?;
    let mut best = found.iter().filter(|(closeness, _)| *closeness == best);
    let (_, place) = best.next()?;
    best.next().is_none().then_some(*place)
}

impl<'a> Sources<'a> {
    fn locate(&self, place: Place) -> Option<String> {
        self.files.map(|files| files.locate(place))
    }

    /// What a TrafficPolicy says.
    pub fn policy(&self, field: impl Fn(&'a TrafficPolicySpec) -> Option<Place>) -> Option<String> {
        let said = self.policies.iter().filter_map(|(close, spec)| Some((*close, field(spec)?)));
        self.locate(closest(said)?)
    }

    /// What the route of the VirtualService says, or the one that delegates to it.
    pub fn route(&self, field: impl Fn(&'a HttpRoute) -> Option<Place>) -> Option<String> {
        self.locate(self.routes.iter().find_map(|route| field(route))?)
    }

    pub fn breaker(&self) -> Option<String> {
        self.locate(closest(self.breakers.iter().map(|(close, place, _)| (*close, *place)))?)
    }

    pub fn bulkhead(&self) -> Option<String> {
        self.locate(closest(self.bulkheads.iter().copied())?)
    }

    pub fn cache(&self) -> Option<String> {
        self.locate(closest(self.caches.iter().copied())?)
    }

    /// Of a CircuitBreaker or a TrafficPolicy.
    pub fn fallback(&self) -> Option<String> {
        let of_breakers = self.breakers.iter().filter_map(|(close, _, place)| Some((*close, (*place)?)));
        let of_policies = self.policies.iter().filter_map(|(close, spec)| {
            Some((*close, spec.fallback.as_ref().map(|fallback| fallback.place)?))
        });
        self.locate(closest(of_breakers.chain(of_policies))?)
    }

    /// What a DestinationRule says: of a port, where it says anything of that port, and else of all.
    pub fn block(
        &self,
        of_port: impl Fn(&'a PortPolicy) -> Option<Place>,
        of_all: impl Fn(&'a Blocks) -> Option<Place>,
    ) -> Option<String> {
        for blocks in &self.blocks {
            let is_of_port = |port: &&PortPolicy| {
                port.port.as_ref().is_some_and(|selector| selector.number.value == self.port)
            };
            if let Some(port) = blocks.port_level_settings.iter().find(is_of_port) {
                return self.locate(of_port(port)?);
            }
            if let Some(place) = of_all(blocks) {
                return self.locate(place);
            }
        }
        None
    }

    /// What a DestinationRule says of no port.
    pub fn whole(&self, field: impl Fn(&'a Blocks) -> Option<Place>) -> Option<String> {
        self.locate(self.blocks.iter().find_map(|blocks| field(blocks))?)
    }
}
