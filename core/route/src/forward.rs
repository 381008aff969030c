//! A rule that sends the request to a cluster.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, StatusCode};
use naru_base::chance::within;
use naru_base::{ClusterId, Weight};
use naru_spec::{ClusterChoice, Forward, HashPolicy, HostRewrite, Invalid, LoadLimits, Terminate, Upgrades};

use crate::edits::EditPair;
use crate::groups::{CompiledGroups, Group};
use crate::subject::choice_draw;
use crate::target::{PathEdit, QueryEdit};

/// A compiled forward.
#[derive(Clone, Debug)]
pub struct CompiledForward {
    /// From the end of the request to the end of the response. `None` waits for ever.
    pub timeout: Option<Duration>,
    /// Overrides the listener's stream idle timeout; `Some(None)` turns it off.
    pub idle_timeout: Option<Option<Duration>>,
    /// The status where the cluster does not exist.
    pub cluster_not_found: StatusCode,
    pub append_x_forwarded_host: bool,
    /// What of a request chooses its endpoint; see [`Forward::hash`].
    pub hash: Box<[HashPolicy]>,
    /// What limits the load of the route itself.
    pub load: Option<Box<LoadLimits>>,
    /// Where reads and writes go instead.
    pub groups: Option<Box<CompiledGroups>>,
    /// Before what the listener says of them.
    pub upgrades: Option<Box<Upgrades>>,
    /// What a CONNECT asks for ends here.
    pub terminate: Option<Terminate>,
    host: Option<Box<CompiledHost>>,
    target: Option<Box<TargetEdit>>,
    destinations: Destinations,
}

/// What the Host becomes.
#[derive(Clone, Debug)]
pub enum CompiledHost {
    /// In both forms that a codec may want.
    Literal { value: HeaderValue, authority: Authority },
    /// The host name of the endpoint, where the cluster is found by DNS.
    Auto,
    /// The value of this request header; without it the host stays.
    Header(HeaderName),
}

/// The cluster that one request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// `None` where the snapshot has no such cluster.
    pub cluster: Option<ClusterId>,
    /// Among the rule's clusters, in the order of the spec; those of its groups follow.
    pub index: u16,
}

/// Of one rule: an index fits a [`Choice`].
const CLUSTERS_MAX: usize = u16::MAX as usize - 2;

#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) name: Arc<str>,
    pub(crate) edits: Arc<EditPair>,
}

#[derive(Clone, Debug)]
enum Destinations {
    One(Destination),
    Weighted(Box<Weighted>),
}

#[derive(Clone, Debug)]
struct Weighted {
    /// The sum of the weights up to and with each destination.
    sums: Box<[u32]>,
    destinations: Box<[Destination]>,
    /// What the host of each one's requests becomes; none where no destination says it.
    hosts: Box<[Option<HeaderValue>]>,
}

#[derive(Clone, Debug)]
struct TargetEdit {
    path: Option<PathEdit>,
    query: Option<QueryEdit>,
}

fn literal(text: &str, problems: &mut Vec<Invalid>) -> Option<(HeaderValue, Authority)> {
    match (HeaderValue::from_str(text), text.parse()) {
        (Ok(value), Ok(authority)) => Some((value, authority)),
        _ => {
            problems.push(Invalid::new(format!("'{text}' cannot be the host of a request")));
            None
        }
    }
}

/// Of each destination; empty where none says one.
fn hosts_of(spec: &Forward, problems: &mut Vec<Invalid>) -> Vec<Option<HeaderValue>> {
    let ClusterChoice::Weighted(clusters) = &spec.clusters else { return Vec::new() };
    if clusters.iter().all(|cluster| cluster.host.is_none()) {
        return Vec::new();
    }
    let hosts = clusters.iter().map(|cluster| Some(literal(cluster.host.as_deref()?, problems)?.0));
    hosts.collect()
}

impl CompiledForward {
    /// `weighted` are the destinations with their weights, not empty, in the order of the spec.
    pub(crate) fn compile(
        spec: &Forward,
        is_segmented: bool,
        mut weighted: Vec<(u32, Destination)>,
        groups: Option<Box<CompiledGroups>>,
        problems: &mut Vec<Invalid>,
    ) -> Option<CompiledForward> {
        let host = match &spec.host {
            None => None,
            Some(HostRewrite::Auto) => Some(CompiledHost::Auto),
            Some(HostRewrite::Header(name)) => Some(CompiledHost::Header(name.clone())),
            Some(HostRewrite::Literal(text)) => {
                literal(text, problems).map(|(value, authority)| CompiledHost::Literal { value, authority })
            }
        };
        let hosts = hosts_of(spec, problems);
        let path = match &spec.path {
            None => None,
            Some(rewrite) => match PathEdit::of_rewrite(rewrite, is_segmented) {
                Ok(edit) => Some(edit),
                Err(invalid) => {
                    problems.push(invalid);
                    None
                }
            },
        };
        let query = (!spec.query.is_empty()).then(|| QueryEdit::compile(&spec.query));
        let destinations = if weighted.len() > 1 || !hosts.is_empty() {
            // Two are for groups.
            if weighted.len() > CLUSTERS_MAX {
                problems.push(Invalid::new(format!("a rule may have at most {CLUSTERS_MAX} clusters")));
            }
            let mut sum = 0_u32;
            let mut sums = Vec::with_capacity(weighted.len());
            let mut destinations = Vec::with_capacity(weighted.len());
            for (weight, destination) in weighted {
                sum = sum.saturating_add(weight);
                sums.push(sum);
                destinations.push(destination);
            }
            if sum == 0 {
                problems.push(Invalid::new("the weights of the clusters sum to zero"));
            }
            Destinations::Weighted(Box::new(Weighted {
                sums: sums.into(),
                destinations: destinations.into(),
                hosts: hosts.into(),
            }))
        } else {
            let Some((_, only)) = weighted.pop() else {
                problems.push(Invalid::new("the rule leads to no cluster"));
                return None;
            };
            Destinations::One(only)
        };
        Some(CompiledForward {
            timeout: spec.timeout,
            idle_timeout: spec.idle_timeout,
            cluster_not_found: spec.cluster_not_found,
            append_x_forwarded_host: spec.append_x_forwarded_host,
            hash: spec.hash.as_slice().into(),
            load: (spec.load != LoadLimits::default()).then(|| Box::new(spec.load.clone())),
            groups,
            terminate: spec.terminate,
            upgrades: (!spec.upgrades.is_empty()).then(|| Box::new(spec.upgrades.clone())),
            host: host.map(Box::new),
            target: (path.is_some() || query.is_some()).then(|| Box::new(TargetEdit { path, query })),
            destinations,
        })
    }

    /// The cluster for a request, by its draw. One cluster takes all; a weight of zero takes nothing.
    #[inline]
    pub fn choose(&self, draw: u64) -> Choice {
        match &self.destinations {
            Destinations::One(only) => Choice { cluster: only.cluster, index: 0 },
            Destinations::Weighted(weighted) => {
                let Weighted { sums, destinations, .. } = &**weighted;
                let sum = sums.last().copied().unwrap_or(0);
                let point = within(choice_draw(draw), u64::from(sum)) as u32;
                let at = sums.partition_point(|&upto| upto <= point).min(destinations.len() - 1);
                Choice { cluster: destinations[at].cluster, index: at as u16 }
            }
        }
    }

    /// The cluster for a request of a group: the group's own, or else the rule's.
    pub fn choose_in(&self, group: Group, draw: u64) -> Choice {
        let own = self.groups.as_ref().and_then(|groups| groups.destination(group));
        match own {
            Some(own) => Choice { cluster: own.cluster, index: self.index_of(group) },
            None => self.choose(draw),
        }
    }

    fn index_of(&self, group: Group) -> u16 {
        self.destinations().len() as u16 + group as u16
    }

    /// Every choice there is, in the order of the spec, with the name of its cluster.
    pub fn choices(&self) -> impl Iterator<Item = (Choice, &str)> {
        self.destinations().iter().enumerate().map(|(at, destination)| {
            (Choice { cluster: destination.cluster, index: at as u16 }, &*destination.name)
        })
    }

    /// As [`CompiledForward::weights`], for requests of a group.
    pub fn weights_in(&self, group: Group) -> Vec<(String, Weight)> {
        let own = self.groups.as_ref().and_then(|groups| groups.destination(group));
        own.map_or_else(|| self.weights(), |own| vec![(own.name.to_string(), Weight(1))])
    }

    /// The clusters with their weights, in the order of the spec. One cluster takes all.
    pub fn weights(&self) -> Vec<(String, Weight)> {
        let mut before = 0;
        let sums = match &self.destinations {
            Destinations::One(_) => &[1][..],
            Destinations::Weighted(weighted) => &weighted.sums,
        };
        let weights = sums.iter().map(|sum| Weight(sum - std::mem::replace(&mut before, *sum)));
        self.destinations().iter().map(|destination| destination.name.to_string()).zip(weights).collect()
    }

    /// The name of a choice's cluster, also where the snapshot has no such cluster.
    pub fn cluster_name(&self, choice: Choice) -> &str {
        self.destination(choice).map_or("", |destination| &destination.name)
    }

    pub(crate) fn edits(&self, choice: Choice) -> Option<&EditPair> {
        self.destination(choice).map(|destination| &*destination.edits)
    }

    #[inline]
    fn destination(&self, choice: Choice) -> Option<&Destination> {
        let own = self.destinations();
        let index = usize::from(choice.index);
        own.get(index).or_else(|| {
            let groups = self.groups.as_ref()?;
            groups.destination(*Group::ALL.get(index - own.len())?)
        })
    }

    pub fn host(&self) -> Option<&CompiledHost> {
        self.host.as_deref()
    }

    /// What the host of a request becomes that goes to a choice, before what the rule itself makes of it. As in Envoy
    /// nobody is told what it was.
    #[inline]
    pub fn host_of(&self, choice: Option<Choice>) -> Option<&HeaderValue> {
        match &self.destinations {
            Destinations::One(_) => None,
            Destinations::Weighted(weighted) => weighted.hosts.get(usize::from(choice?.index))?.as_ref(),
        }
    }

    pub fn has_target_rewrite(&self) -> bool {
        self.target.is_some()
    }

    /// The new path and query, or `None` where no rewrite concerns them. `matched` is the verdict's.
    pub fn rewrite_target(&self, path: &str, query: Option<&str>, matched: u32) -> Option<String> {
        let edit = self.target.as_deref()?;
        let mut out = String::with_capacity(path.len() + query.map_or(0, str::len) + 32);
        match &edit.path {
            Some(path_edit) => path_edit.write(path, matched, &mut out),
            None => out.push_str(path),
        }
        match (&edit.query, query) {
            (Some(query_edit), _) => query_edit.write(query, &mut out),
            (None, Some(query)) => {
                out.push('?');
                out.push_str(query);
            }
            (None, None) => {}
        }
        // A rewrite of the path is told of also where it changes nothing, as in Envoy.
        let is_same = edit.path.is_none()
            && match query {
                None => out == path,
                Some(query) => {
                    out.len() == path.len() + 1 + query.len()
                        && out.starts_with(path)
                        && out[path.len()..].starts_with('?')
                        && out.ends_with(query)
                }
            };
        (!is_same).then_some(out)
    }

    fn destinations(&self) -> &[Destination] {
        match &self.destinations {
            Destinations::One(only) => std::slice::from_ref(only),
            Destinations::Weighted(weighted) => &weighted.destinations,
        }
    }
}
