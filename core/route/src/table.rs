//! All rules of a listener, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use naru_base::ClusterId;
use naru_spec::{
    Action, ClusterChoice, Forward, HeaderOps, Invalid, PathMatch, RouteTable, Rule, Scheme, TlsRequirement,
};

use crate::action::{CompiledAction, CompiledRule};
use crate::condition::{self, Condition};
use crate::edits::{EditPair, Edits};
use crate::forward::{CompiledForward, Destination};
use crate::group::Order;
use crate::groups::CompiledGroups;
use crate::host::Hosts;
use crate::index::{Index, IndexBuilder, Paths, Shelf};
use crate::re2::Expressions;
use crate::redirect::CompiledRedirect;
use crate::{Observer, RuleId, Subject, Verdict};

/// A compiled [`RouteTable`].
///
/// A search allocates nothing, except: an authority, or a path in a host with paths that ignore
/// case, of more than 256 bytes; a header with several values; many regular expressions that begin
/// alike; the scratch memory of an expression when a thread first needs it. That memory is pooled:
/// threads that share a table share the pools, a clone has its own.
#[derive(Clone, Debug)]
pub struct Table {
    hosts: Hosts,
    virtual_hosts: Box<[VirtualHost]>,
    index: Index,
    rules: Box<[CompiledRule]>,
}

#[derive(Clone, Debug)]
struct VirtualHost {
    paths: Paths,
    /// Those that take CONNECT, and nothing else.
    connects: Paths,
    tls: TlsRequirement,
    /// Some of its rules ask about fields of the request, or about chance.
    asks_more: bool,
    name: Box<str>,
}

/// Where in a [`RouteTable`] something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// What is wrong with the table's own header operations is told of its first virtual host.
    pub virtual_host: usize,
    /// `None` where the virtual host is meant.
    pub rule: Option<usize>,
}

impl Table {
    /// Compiles a table, or says everything that is wrong with it. `cluster` finds a cluster of the
    /// snapshot by its name; that there is none is no error here ([`naru_spec::Config::problems`]
    /// tells it), the rule's own status answers such a request.
    pub fn compile(
        routes: &RouteTable,
        cluster: &dyn Fn(&str) -> Option<ClusterId>,
    ) -> Result<Table, Vec<(Place, Invalid)>> {
        Compiler {
            routes,
            cluster,
            names: BTreeMap::new(),
            expressions: Expressions::default(),
            index: IndexBuilder::default(),
            rules: Vec::with_capacity(routes.virtual_hosts.iter().map(|host| host.rules.len()).sum()),
            asks_more: false,
            problems: Vec::new(),
        }
        .compile()
    }

    /// The first rule that holds for a request, in the virtual host that its authority names.
    #[inline]
    pub fn find<O: Observer>(&self, subject: &Subject<'_>, observer: &mut O) -> Verdict {
        self.find_for(false, subject, observer)
    }

    /// The same, also of a CONNECT, which has no path.
    // One function for both: it is on the way of every request, and whole there only as long as it is in few places.
    #[inline]
    pub fn find_for<O: Observer>(
        &self,
        is_connect: bool,
        subject: &Subject<'_>,
        observer: &mut O,
    ) -> Verdict {
        let Some(virtual_host) = self.hosts.find(subject.authority) else { return Verdict::NoVirtualHost };
        let host = &self.virtual_hosts[virtual_host as usize];
        let must_be_tls = match host.tls {
            TlsRequirement::None => false,
            TlsRequirement::ExternalOnly => !subject.is_internal,
            TlsRequirement::All => true,
        };
        if must_be_tls && subject.scheme != Scheme::Https {
            return Verdict::RequiresTls { virtual_host };
        }
        let paths = if is_connect { &host.connects } else { &host.paths };
        match self.index.find(paths, subject, observer) {
            Some((rule, matched)) => Verdict::Rule { rule: RuleId(rule), matched },
            None => Verdict::of_nobody(virtual_host, subject),
        }
    }

    /// A rule of this table. Panics on an id that [`find`](Table::find) of this table did not give.
    #[inline]
    pub fn rule(&self, rule: RuleId) -> &CompiledRule {
        &self.rules[rule.index()]
    }

    /// Whether which of its rules takes a request depends on more than its first line, its authority and where it
    /// comes from.
    pub fn asks_more(&self, virtual_host: u32) -> bool {
        self.virtual_hosts.get(virtual_host as usize).is_none_or(|host| host.asks_more)
    }

    /// Every rule in the order of ids: virtual host by virtual host, as in the spec.
    pub fn rules(&self) -> impl Iterator<Item = (RuleId, &CompiledRule)> {
        self.rules.iter().zip(0..).map(|(rule, at)| (RuleId(at), rule))
    }

    /// The name of a virtual host; empty where there is none of that index.
    pub fn virtual_host_name(&self, virtual_host: u32) -> &str {
        self.virtual_hosts.get(virtual_host as usize).map_or("", |host| &host.name)
    }
}

struct Compiler<'a> {
    routes: &'a RouteTable,
    cluster: &'a dyn Fn(&str) -> Option<ClusterId>,
    /// The names of clusters, so that ten thousand rules to one cluster hold one text.
    names: BTreeMap<&'a str, Arc<str>>,
    expressions: Expressions,
    index: IndexBuilder,
    rules: Vec<CompiledRule>,
    /// Of the virtual host that is compiled.
    asks_more: bool,
    problems: Vec<(Place, Invalid)>,
}

impl<'a> Compiler<'a> {
    fn compile(mut self) -> Result<Table, Vec<(Place, Invalid)>> {
        let routes = self.routes;
        let mut virtual_hosts = Vec::with_capacity(routes.virtual_hosts.len());
        let own = Place { virtual_host: 0, rule: None };
        if !routes.virtual_hosts.is_empty() {
            self.report(own, Edits::problems(&routes.request_headers));
            self.report(own, Edits::problems(&routes.response_headers));
        }
        let bare = Arc::new(EditPair {
            request: Edits::compile(&[&routes.request_headers]),
            response: Edits::compile(&[&routes.response_headers]),
        });
        for (at, host) in routes.virtual_hosts.iter().enumerate() {
            let place = Place { virtual_host: at, rule: None };
            self.report(place, Edits::problems(&host.request_headers));
            self.report(place, Edits::problems(&host.response_headers));
            let mut levels = Levels {
                request: vec![&host.request_headers, &routes.request_headers],
                response: vec![&host.response_headers, &routes.response_headers],
                compiled: Arc::clone(&bare),
            };
            if !(host.request_headers.is_empty() && host.response_headers.is_empty()) {
                levels.compiled = Arc::new(levels.compile());
            }
            let mut shelves = (Shelf::default(), Shelf::default());
            for (rule_at, rule) in host.rules.iter().enumerate() {
                let place = Place { virtual_host: at, rule: Some(rule_at) };
                self.shelve(place, rule, &mut shelves);
                self.add_rule(place, rule, &levels);
            }
            let (paths, connects) = match self.problems.is_empty() {
                true => (self.index.add(shelves.0), self.index.add(shelves.1)),
                false => (Paths::NONE, Paths::NONE),
            };
            virtual_hosts.push(VirtualHost {
                paths,
                connects,
                tls: host.tls,
                asks_more: std::mem::take(&mut self.asks_more),
                name: host.name.as_str().into(),
            });
        }
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        Ok(Table {
            hosts: Hosts::compile(&routes.virtual_hosts, routes.ignores_port),
            virtual_hosts: virtual_hosts.into(),
            index: self.index.build(),
            rules: self.rules.into(),
        })
    }

    fn report(&mut self, place: Place, problems: Vec<Invalid>) {
        self.problems.extend(problems.into_iter().map(|invalid| (place, invalid)));
    }

    /// Puts the blocks of the rule that is added next onto their shelves.
    fn shelve(&mut self, place: Place, rule: &Rule, (paths, connects): &mut (Shelf, Shelf)) {
        let mut problems = Vec::new();
        if rule.matches.len() > usize::from(u16::MAX) {
            problems.push(Invalid::new("a rule may have at most 65535 blocks"));
        }
        for (block, at) in rule.matches.iter().zip(0..=u16::MAX) {
            let expression = match &block.path {
                PathMatch::Regex(pattern) => match self.expressions.whole(pattern) {
                    Ok(regex) => Some((pattern.clone(), regex)),
                    Err(invalid) => {
                        problems.push(invalid);
                        None
                    }
                },
                _ => None,
            };
            let conditions = condition::compile(block, &mut self.expressions, &mut problems);
            if conditions.len() >= usize::from(u16::MAX) {
                problems.push(Invalid::new("a block may have at most 65534 conditions"));
            }
            self.asks_more |= conditions.iter().any(Condition::is_of_more);
            let shelf = if block.path == PathMatch::Connect { &mut *connects } else { &mut *paths };
            shelf.put(Order::new(self.rules.len() as u32, at), block, expression, conditions);
        }
        self.report(place, problems);
    }

    fn add_rule(&mut self, place: Place, rule: &'a Rule, levels: &Levels<'a>) {
        let mut problems = Edits::problems(&rule.request_headers);
        problems.extend(Edits::problems(&rule.response_headers));
        let edits = levels.under(&[(&rule.request_headers, &rule.response_headers)]);
        let is_segmented = !rule.matches.is_empty()
            && rule.matches.iter().all(|block| matches!(block.path, PathMatch::SegmentPrefix(_)));
        let action = match &rule.action {
            Action::Forward(forward) => {
                let destinations = self.destinations(rule, forward, levels, &edits, &mut problems);
                let groups = self.groups(forward, &edits, &mut problems);
                CompiledForward::compile(forward, is_segmented, destinations, groups, &mut problems)
                    .map(CompiledAction::Forward)
            }
            Action::Redirect(redirect) => match CompiledRedirect::compile(redirect, is_segmented) {
                Ok(redirect) => Some(CompiledAction::Redirect(redirect)),
                Err(invalid) => {
                    problems.push(invalid);
                    None
                }
            },
            Action::Direct(direct) => Some(CompiledAction::Direct((**direct).clone())),
        };
        self.report(place, problems);
        // Without an action there was a problem, and no table comes of this.
        if let Some(action) = action {
            self.rules.push(CompiledRule {
                name: rule.name.as_str().into(),
                origin: rule.origin.as_str().into(),
                virtual_host: place.virtual_host as u32,
                action,
                edits,
            });
        }
    }

    fn destinations(
        &mut self,
        rule: &'a Rule,
        forward: &'a Forward,
        levels: &Levels<'a>,
        edits: &Arc<EditPair>,
        problems: &mut Vec<Invalid>,
    ) -> Vec<(u32, Destination)> {
        match &forward.clusters {
            ClusterChoice::One(name) => vec![(1, self.destination(name, Arc::clone(edits)))],
            ClusterChoice::Weighted(clusters) => {
                let mut destinations = Vec::with_capacity(clusters.len());
                for cluster in clusters {
                    problems.extend(Edits::problems(&cluster.request_headers));
                    problems.extend(Edits::problems(&cluster.response_headers));
                    let edits = if cluster.request_headers.is_empty() && cluster.response_headers.is_empty() {
                        Arc::clone(edits)
                    } else {
                        levels.under(&[
                            (&cluster.request_headers, &cluster.response_headers),
                            (&rule.request_headers, &rule.response_headers),
                        ])
                    };
                    destinations.push((cluster.weight.0, self.destination(&cluster.name, edits)));
                }
                destinations
            }
        }
    }

    /// What a destination of the rule says of headers is not for its groups.
    fn groups(
        &mut self,
        forward: &'a Forward,
        edits: &Arc<EditPair>,
        problems: &mut Vec<Invalid>,
    ) -> Option<Box<CompiledGroups>> {
        let spec = forward.groups.as_deref()?;
        let mut destination =
            |name: &'a Option<String>| Some(self.destination(name.as_deref()?, Arc::clone(edits)));
        let destinations = [destination(&spec.read), destination(&spec.write)];
        Some(Box::new(CompiledGroups::compile(spec, destinations, &mut self.expressions, problems)))
    }

    fn destination(&mut self, name: &'a str, edits: Arc<EditPair>) -> Destination {
        let shared = self.names.entry(name).or_insert_with(|| name.into());
        Destination { cluster: (self.cluster)(name), name: Arc::clone(shared), edits }
    }
}

/// The header operations of a virtual host and of the table.
struct Levels<'a> {
    request: Vec<&'a HeaderOps>,
    response: Vec<&'a HeaderOps>,
    compiled: Arc<EditPair>,
}

impl<'a> Levels<'a> {
    fn compile(&self) -> EditPair {
        EditPair { request: Edits::compile(&self.request), response: Edits::compile(&self.response) }
    }

    /// With inner levels (of requests, of responses) before them; shared where those say nothing.
    fn under(&self, inner: &[(&'a HeaderOps, &'a HeaderOps)]) -> Arc<EditPair> {
        if inner.iter().all(|(request, response)| request.is_empty() && response.is_empty()) {
            return Arc::clone(&self.compiled);
        }
        let request: Vec<_> = inner.iter().map(|(ops, _)| *ops).chain(self.request.iter().copied()).collect();
        let response: Vec<_> =
            inner.iter().map(|(_, ops)| *ops).chain(self.response.iter().copied()).collect();
        Arc::new(EditPair { request: Edits::compile(&request), response: Edits::compile(&response) })
    }
}
