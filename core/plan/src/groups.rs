//! Groups for reads and writes: what `readWrite` of a `TrafficPolicy` means.
//!
//! The more specific policy wins: that of a route before that of its VirtualService, and both before that of a Service.
//! A Service's holds where a route leads to that service alone and to no subset of it: what names a subset says itself
//! where it leads. Destinations that only a route can resolve are told where the route is read.

use std::collections::BTreeMap;

use http::Method;
use naru_resource::traffic_policy::{PolicyGroup, PolicyReadWrite, PolicyReadYourWrites};
use naru_resource::virtual_service::{Destination, HttpDestination, HttpRoute, PortSelector};
use naru_resource::{Place, Placed, Resources, StringMatch as Written, Text, TrafficPolicy, VirtualService};
use naru_spec::{Invalid, Path, ReadWriteGroups, ReadYourWrites, StringMatch, code};

use crate::account::{Account, Idle};
use crate::attached::{RouteKey, Target};
use crate::classes::header_name;
use crate::delegates::Expanded;
use crate::findings::Findings;
use crate::matching;
use crate::names::fqdn;
use crate::registry::{Known, Registry};
use crate::routes::{Context, Owner, Routes};

/// By what they are for.
#[derive(Debug, Default)]
pub(crate) struct Groups<'a>(BTreeMap<Target, Said<'a>>);

/// What a policy says, but for its destinations.
#[derive(Clone, Debug)]
pub(crate) struct Said<'a> {
    policy: &'a TrafficPolicy,
    written: &'a PolicyReadWrite,
    settings: ReadWriteGroups,
}

/// Where a route leads by itself.
struct Base {
    /// In full. Without one it leads to several hosts.
    host: Option<String>,
    port: Option<PortSelector>,
}

impl<'a> Groups<'a> {
    pub fn of(resources: &'a Resources, registry: &Registry, findings: &mut Findings<'_>) -> Groups<'a> {
        let mut groups = Groups::default();
        // What is wrong with a reference has been told with its other fields.
        let mut quiet = Findings::new(&resources.files);
        for policy in &resources.traffic_policies {
            let Some(written) = &policy.spec.read_write else { continue };
            let settings = settings(policy, written, findings);
            let (target, namespace) = (&policy.spec.target_ref, policy.meta.namespace());
            let target = Target::of(target, "TrafficPolicy", namespace, resources, registry, &mut quiet);
            let Some(target) = target else { continue };
            if let Some(before) = groups.0.get(&target) {
                let other = findings.locate(before.written.place);
                let message = format!("two policies say 'readWrite' of the same: the other is at {other}");
                findings.error(code::CONFLICT, written.place, &path(), message, "join them");
                continue;
            }
            groups.0.insert(target, Said { policy, written, settings });
        }
        groups
    }

    /// What the most specific says that says anything.
    fn of_route(&self, keys: &[RouteKey], account: &mut Account) -> Option<&Said<'a>> {
        let mut found = keys.iter().filter_map(|key| self.0.get(&Target::Route(key.clone())));
        let first = found.next();
        found.for_each(|said| account.pass(said.written.place, "readWrite", Idle::Outdone));
        account.take(first?.written.place, "readWrite");
        first
    }

    fn of_service(&self, host: &str) -> Option<&Said<'a>> {
        self.0.get(&Target::Service(host.to_owned()))
    }
}

fn path() -> Path<'static> {
    Path::ROOT.field("spec.readWrite")
}

impl<'a> Routes<'a> {
    /// Where reads and writes of a route go instead. `None` where that cannot be told, which was told.
    pub fn groups_of(
        &mut self,
        service: &VirtualService,
        route: &Expanded,
        context: &Context<'_>,
        route_path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Option<Box<ReadWriteGroups>>> {
        let said = match self.groups.of_route(&route.keys, &mut self.account) {
            Some(said) => Some(said.clone()),
            None => self.said_of_service(service, &route.route, findings),
        };
        let Some(said) = said else { return Some(None) };
        let is_weighed = match route.route.route.as_slice() {
            [only] => only.headers.is_some(),
            several => !several.is_empty(),
        };
        if let (Some(first), Some(_), Some(_)) =
            (route.route.route.first(), &said.written.read, &said.written.write)
            && is_weighed
        {
            let other = findings.locate(said.written.place);
            let message = format!("all reads and writes go to the groups of the readWrite at {other}");
            let hint = "leave one group out of it, or the weights and headers of these destinations";
            findings.warning(code::NO_EFFECT, first.place, &route_path.field("route"), message, hint);
        }
        let base = self.base(service, &route.route.route);
        self.lead(said, &base, Owner::of(service), context, findings).map(Some)
    }

    /// The same for a service that no VirtualService speaks of.
    pub fn groups_of_service(
        &mut self,
        known: &Known,
        port: u16,
        context: &Context<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Box<ReadWriteGroups>> {
        let said = self.groups.of_service(&known.host)?.clone();
        let number = Placed { value: i64::from(port), place: said.written.place };
        let port = PortSelector { place: said.written.place, number };
        let base = Base { host: Some(known.host.clone()), port: Some(port) };
        let owner = Owner { namespace: &known.namespace, is_mesh_only: true };
        self.lead(said, &base, owner, context, findings)
    }

    /// What is wrong with groups of services is told also where nobody leads to them.
    pub fn check_groups(&mut self, findings: &mut Findings<'_>) {
        let registry = self.registry;
        for known in registry.services() {
            if let Some(port) = known.ports.first() {
                self.groups_of_service(known, port.number, &Context::Any, findings);
            }
        }
    }

    /// What is said of the service that a route leads to.
    fn said_of_service(
        &self,
        service: &VirtualService,
        route: &HttpRoute,
        findings: &mut Findings<'_>,
    ) -> Option<Said<'a>> {
        let said = |to: &HttpDestination| self.groups.of_service(&self.full(service, &to.destination.host));
        let found: Vec<Option<&Said<'a>>> = route.route.iter().map(said).collect();
        let first = found.iter().flatten().next()?;
        let is_alone = found.iter().all(|other| other.is_some_and(|other| other.policy == first.policy));
        if is_alone && route.route.iter().all(|to| to.destination.subset.is_none()) {
            return Some((*first).clone());
        }
        for said in found.iter().flatten() {
            let at = findings.locate(route.place);
            let why = if is_alone { "leads to subsets" } else { "leads to other services, too" };
            let message = format!("it does not hold for the route at {at}, which {why}");
            let hint = format!("attach one to the VirtualService '{}'", service.meta.name.value);
            findings.warning(code::NO_EFFECT, said.written.place, &path(), message, hint);
        }
        None
    }

    fn full(&self, service: &VirtualService, host: &str) -> String {
        let namespace = service.meta.namespace();
        let known = self.registry.find(host, namespace);
        known.map_or_else(|| fqdn(host, namespace), |known| known.host.clone())
    }

    fn base(&self, service: &VirtualService, route: &[HttpDestination]) -> Base {
        let Some(first) = route.first() else { return Base { host: None, port: None } };
        let number = |to: &HttpDestination| to.destination.port.as_ref().map(|port| port.number.value);
        let host = self.full(service, &first.destination.host);
        let is_one = route.iter().all(|to| self.full(service, &to.destination.host) == host);
        let has_one_port = route.iter().all(|to| number(to) == number(first));
        Base {
            host: is_one.then_some(host),
            port: first.destination.port.clone().filter(|_| is_one && has_one_port),
        }
    }

    /// With the clusters that the groups lead to, which are built if they are new.
    fn lead(
        &mut self,
        said: Said<'a>,
        base: &Base,
        owner: Owner<'_>,
        context: &Context<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Box<ReadWriteGroups>> {
        let Said { policy, written, mut settings } = said;
        let owner = Owner { namespace: policy.meta.namespace(), ..owner };
        let path = path();
        let groups = [
            (&written.read, &mut settings.read, "read", "every read"),
            (&written.write, &mut settings.write, "write", "every write"),
        ];
        for (group, cluster, name, share) in groups {
            let Some(group) = group else { continue };
            let path = path.field(name);
            let destination = self.destination_of(group, base, owner, &path, findings)?;
            *cluster = Some(self.destination(owner, &destination, context, share, &path, findings)?);
        }
        Some(Box::new(settings))
    }

    fn destination_of(
        &self,
        group: &PolicyGroup,
        base: &Base,
        owner: Owner<'_>,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Destination> {
        let host = match (&group.host, &base.host) {
            (Some(host), _) => host.clone(),
            (None, Some(host)) => Text { value: host.clone(), place: group.place },
            (None, None) => {
                let message = "the route leads to several services, and the group says none";
                findings.error(code::MISSING_FIELD, group.place, path, message, "say host");
                return None;
            }
        };
        let known = self.registry.find(&host, owner.namespace);
        let full = known.map_or_else(|| fqdn(&host, owner.namespace), |known| known.host.clone());
        let is_same = base.host.as_ref() == Some(&full);
        let port = group.port.clone().or_else(|| base.port.clone().filter(|_| is_same));
        Some(Destination { place: group.place, host, subset: group.subset.clone(), port })
    }
}

/// All but destinations. What is wrong is told, and left out.
fn settings(
    policy: &TrafficPolicy,
    written: &PolicyReadWrite,
    findings: &mut Findings<'_>,
) -> ReadWriteGroups {
    let path = path();
    if written.read.is_none() && written.write.is_none() {
        let message = "neither 'read' nor 'write' is said: nothing goes elsewhere";
        findings.error(code::MISSING_FIELD, written.place, &path, message, "write: {subset: ..}");
    }
    for (group, name) in [(&written.read, "read"), (&written.write, "write")] {
        if let Some(group) = group
            && group.host.is_none()
            && group.subset.is_none()
            && group.port.is_none()
        {
            let message = format!("'{name}' says nothing");
            let hint = "say host, subset or port; left out, it is where the route leads";
            findings.error(code::MISSING_FIELD, group.place, &path.field(name), message, hint);
        }
    }
    ReadWriteGroups {
        read: None,
        write: None,
        write_methods: methods(&written.write_methods, &path.field("writeMethods"), findings),
        write_paths: paths(&written.write_paths, &path.field("writePaths"), findings),
        read_paths: paths(&written.read_paths, &path.field("readPaths"), findings),
        read_your_writes: written.read_your_writes.as_ref().and_then(|said| {
            let scope = format!("TrafficPolicy/{}", policy.meta.full_name());
            read_your_writes(said, scope, &path.field("readYourWrites"), findings)
        }),
    }
}

fn methods(said: &[Text], path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Vec<Method>> {
    let mut methods = Vec::new();
    for (at, text) in said.iter().enumerate() {
        match Method::from_bytes(text.as_bytes()) {
            // Methods are told apart by case (RFC 9110, section 9.1).
            Ok(method) if !text.bytes().any(|byte| byte.is_ascii_lowercase()) => methods.push(method),
            _ => {
                let message = format!("'{}' is not a method", text.value);
                let hint = "in capitals, such as POST";
                findings.error(code::INVALID_VALUE, text.place, &path.at(at), message, hint);
            }
        }
    }
    (!said.is_empty()).then_some(methods)
}

fn paths(said: &[Written], path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<StringMatch> {
    let tests = said.iter().enumerate().filter_map(|(at, said)| {
        if said.test == naru_resource::Test::Present {
            let message = "it says nothing of a path";
            let hint = "write exact, prefix or regex";
            findings.error(code::MISSING_FIELD, said.place, &path.at(at), message, hint);
        }
        matching::string_match(said, &path.at(at), findings)
    });
    tests.collect()
}

fn read_your_writes(
    said: &PolicyReadYourWrites,
    scope: String,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<ReadYourWrites> {
    let session = path.field("session");
    let mut invalid = |place: Place, field: &str, invalid: Invalid| {
        let path = if field == "for" { path.field("for") } else { session.field("cookie") };
        findings.error(code::INVALID_VALUE, place, &path, invalid.message, invalid.hint);
    };
    // Of a name that is good in any case.
    if let Err(found) = ReadYourWrites::by_cookie(said.lasts.value, "wrote") {
        invalid(said.lasts.place, "for", found);
        return None;
    }
    match (&said.session.cookie, &said.session.header) {
        (Some(cookie), None) => match ReadYourWrites::by_cookie(said.lasts.value, cookie.value.clone()) {
            Ok(settings) => Some(settings),
            Err(found) => {
                invalid(cookie.place, "cookie", found);
                None
            }
        },
        (None, Some(header)) => {
            let name = header_name(header, &session.field("header"), findings)?;
            ReadYourWrites::by_header(said.lasts.value, name, scope).ok()
        }
        (Some(_), Some(header)) => {
            let message = "only one of cookie and header can be said";
            findings.error(code::CONFLICTING_FIELDS, header.place, &session.field("header"), message, "");
            None
        }
        (None, None) => {
            let message = "nothing tells one session from another";
            let hint = "cookie: NAME, or header: NAME";
            findings.error(code::MISSING_FIELD, said.session.place, &session, message, hint);
            None
        }
    }
}
