//! What becomes of machines that have joined a `WorkloadGroup` by themselves?
//!
//! Comes in: groups, and who has joined them and is ready. Goes out: a `WorkloadEntry` for each of them, made of the `template` of
//! its group, which is from then on as if somebody had written it; and how those who join are asked whether they are
//! ready. Deliberately not here: who has joined, and until when (`control/discovery`).
//!
//! Source: istiod's `workloadEntryFromGroup` and `autoregisteredWorkloadEntryName`
//! (`pilot/pkg/autoregistration/controller.go`), its `validateReadinessProbe`, and `fillInDefaults` of its agent. A
//! failure threshold that is not said is 3, as Istio's reference and Kubernetes have it; the agent's own code takes 1.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use naru_resource::service_entry::{GroupProbe as Written, WorkloadEntrySpec};
use naru_resource::{Meta, Number, Place, Placed, Resources, Text, WorkloadEntry, WorkloadGroup};
use naru_spec::{Path, code};

use crate::entries;
use crate::findings::Findings;
use crate::process::count;
use crate::registry::{Source, of_workload, plain, port_number};

/// The longest name of an object in Kubernetes.
const NAME_CHARS_MAX: usize = 253;

/// Somebody who has joined a group, and may be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    pub namespace: String,
    pub group: String,
    pub address: IpAddr,
    /// Empty where it says none.
    pub network: String,
    /// `region/zone/sub_zone`, or less of it; empty where it does not say where it stands.
    pub locality: String,
    /// Its own, which are laid over those of its group.
    pub labels: Vec<(String, String)>,
}

impl Member {
    /// What Istio calls its `WorkloadEntry`.
    pub fn name(&self) -> String {
        let mut name = format!("{}-{}", self.group, self.address.to_string().replace(':', "-"));
        if !self.network.is_empty() {
            name = format!("{name}-{}", self.network);
        }
        let more = name.chars().count().saturating_sub(NAME_CHARS_MAX);
        name.chars().skip(more).collect()
    }
}

/// What has to be known of a group by whoever lets machines in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub namespace: String,
    pub name: String,
    /// Of all who join it.
    pub labels: Vec<(String, String)>,
    pub probe: Option<GroupProbe>,
    /// Who all of them are to others of the mesh, where the template says it.
    pub account: Option<String>,
}

impl Group {
    /// Of somebody who joins it with labels of his own; in the order of their names.
    pub fn labels_of(&self, own: &[(String, String)]) -> Vec<(String, String)> {
        let all: BTreeMap<String, String> = self.labels.iter().chain(own).cloned().collect();
        all.into_iter().collect()
    }
}

/// How a member is asked whether it is ready, with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupProbe {
    pub kind: GroupProbeKind,
    /// In the place of the member's address.
    pub host: Option<String>,
    pub port: u16,
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupProbeKind {
    Http { path: String, headers: Vec<(String, String)>, is_tls: bool },
    Tcp,
    Grpc { service: String },
}

/// Every group. Problems have been told by [`check`].
pub fn groups(resources: &Resources) -> Vec<Group> {
    let mut quiet = Findings::new(&resources.files);
    let mut known = BTreeSet::new();
    let first = resources.workload_groups.iter().filter(|group| {
        // Of two of one name, the first is meant, as everywhere.
        known.insert((group.meta.namespace(), group.meta.name.as_str()))
    });
    let group = |group: &WorkloadGroup| Group {
        namespace: group.meta.namespace().to_owned(),
        name: group.meta.name.value.clone(),
        labels: plain(&labels(group)),
        probe: group.spec.probe.as_ref().and_then(|written| probe(written, &mut quiet)),
        account: account(group),
    };
    first.map(group).collect()
}

/// With a `WorkloadEntry` for each member. One of that name that somebody has written holds in its place.
pub(crate) fn with_members<'a>(resources: &'a Resources, members: &[Member]) -> Cow<'a, Resources> {
    let mut groups: BTreeMap<(&str, &str), &WorkloadGroup> = BTreeMap::new();
    for group in &resources.workload_groups {
        groups.entry((group.meta.namespace(), &group.meta.name)).or_insert(group);
    }
    let mut written: BTreeSet<(String, String)> = resources
        .workload_entries
        .iter()
        .map(|entry| (entry.meta.namespace().to_owned(), entry.meta.name.value.clone()))
        .collect();
    let entries = members.iter().filter_map(|member| {
        let group = groups.get(&(member.namespace.as_str(), member.group.as_str()))?;
        let entry = entry(member, group)?;
        written.insert((member.namespace.clone(), entry.meta.name.value.clone())).then_some(entry)
    });
    let entries: Vec<WorkloadEntry> = entries.collect();
    if entries.is_empty() {
        return Cow::Borrowed(resources);
    }
    let mut all = resources.clone();
    all.workload_entries.extend(entries);
    Cow::Owned(all)
}

/// What is wrong with it is told at the lines of its group.
fn entry(member: &Member, group: &WorkloadGroup) -> Option<WorkloadEntry> {
    let template = group.spec.template.as_ref()?;
    let text = |value: String, place: Place| Text { value, place };
    let mut spec = template.clone();
    spec.address = Some(text(member.address.to_string(), template.place));
    spec.labels = laid(labels(group), &member.labels, template.place);
    if !member.network.is_empty() {
        let place = template.network.as_ref().map_or(template.place, |network| network.place);
        spec.network = Some(text(member.network.clone(), place));
    }
    if !member.locality.is_empty() {
        let place = template.locality.as_ref().map_or(template.place, |locality| locality.place);
        spec.locality = Some(text(member.locality.clone(), place));
    }
    let meta = Meta {
        name: text(member.name(), group.meta.name.place),
        labels: spec.labels.clone(),
        export_to: None,
        ..group.meta.clone()
    };
    Some(WorkloadEntry { place: group.place, meta, spec })
}

fn account(group: &WorkloadGroup) -> Option<String> {
    let said = group.spec.template.as_ref()?.service_account.as_ref()?;
    Some(said.value.clone()).filter(|said| !said.is_empty())
}

/// Of `metadata`, over those of the template.
fn labels(group: &WorkloadGroup) -> Vec<(Text, Text)> {
    let template = group.spec.template.as_ref().map_or(&[][..], |template| &template.labels);
    let metadata = group.spec.metadata.as_ref().map_or(&[][..], |metadata| &metadata.labels);
    let mut all = template.to_vec();
    for (name, value) in metadata {
        all.retain(|(known, _)| known.value != name.value);
        all.push((name.clone(), value.clone()));
    }
    all
}

fn laid(mut all: Vec<(Text, Text)>, own: &[(String, String)], place: Place) -> Vec<(Text, Text)> {
    for (name, value) in own {
        all.retain(|(known, _)| known.value != *name);
        let text = |value: &String| Placed { value: value.clone(), place };
        all.push((text(name), text(value)));
    }
    all
}

/// Tells what of a group cannot be, whether somebody joins it or not.
pub(crate) fn check(resources: &Resources, findings: &mut Findings<'_>) {
    let spec = Path::ROOT.field("spec");
    for group in &resources.workload_groups {
        match &group.spec.template {
            None => {
                let message = "a WorkloadGroup needs a template: what those who join it have in common";
                let hint = "template: {} says nothing of them, and lets them join";
                findings.error(code::MISSING_FIELD, group.spec.place, &spec, message, hint);
            }
            Some(template) => check_template(template, &spec.field("template"), findings),
        }
        if let Some(written) = &group.spec.probe {
            probe(written, findings);
        }
    }
}

/// As any endpoint, but for the address that each who joins has of his own.
fn check_template(template: &WorkloadEntrySpec, path: &Path<'_>, findings: &mut Findings<'_>) {
    if let Some(said) = &template.address {
        let message = "'address' of a template has no effect: each who joins has one of his own";
        findings.warning(code::NO_EFFECT, said.place, &path.field("address"), message, "");
    }
    let address = Text { value: Ipv4Addr::LOCALHOST.to_string(), place: template.place };
    let joined = WorkloadEntrySpec { address: Some(address), ..template.clone() };
    entries::check_endpoint(&joined, path, findings);
    of_workload(&joined, &[], Source::Static, path, findings);
}

fn probe(written: &Written, findings: &mut Findings<'_>) -> Option<GroupProbe> {
    let spec = Path::ROOT.field("spec");
    let path = spec.field("probe");
    let kinds = [
        written.http_get.is_some(),
        written.tcp_socket.is_some(),
        written.exec.is_some(),
        written.grpc.is_some(),
    ];
    if kinds.iter().filter(|is_said| **is_said).count() != 1 {
        let message = "exactly one of httpGet, tcpSocket and grpc is needed";
        findings.error(code::CONFLICTING_FIELDS, written.place, &path, message, "");
        return None;
    }
    let (kind, host, port) = kind(written, &path, findings)?;
    // 0 says nothing, as protobuf has it.
    let mut number = |value: &Option<Number>, default: u32, name| match count(
        value.as_ref(),
        default,
        1_000_000,
        &path.field(name),
        findings,
    ) {
        0 => default,
        said => said,
    };
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    Some(GroupProbe {
        kind,
        host,
        port,
        initial_delay: seconds(number(&written.initial_delay_seconds, 0, "initialDelaySeconds")),
        period: seconds(number(&written.period_seconds, 10, "periodSeconds")),
        timeout: seconds(number(&written.timeout_seconds, 1, "timeoutSeconds")),
        success_threshold: number(&written.success_threshold, 1, "successThreshold"),
        failure_threshold: number(&written.failure_threshold, 3, "failureThreshold"),
    })
}

fn kind(
    written: &Written,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<(GroupProbeKind, Option<String>, u16)> {
    let host =
        |said: &Option<Text>| said.as_ref().map(|host| host.value.clone()).filter(|host| !host.is_empty());
    if let Some(get) = &written.http_get {
        let path = path.field("httpGet");
        let is_tls = match get.scheme.as_ref() {
            None => false,
            Some(said) if said.is_empty() || said.eq_ignore_ascii_case("HTTP") => false,
            Some(said) if said.eq_ignore_ascii_case("HTTPS") => true,
            Some(said) => {
                let message = format!("'{}' is no scheme of a probe", said.value);
                let at = path.field("scheme");
                findings.error(code::UNKNOWN_VALUE, said.place, &at, message, "HTTP or HTTPS");
                return None;
            }
        };
        let of_headers = path.field("httpHeaders");
        for (at, header) in get.http_headers.iter().enumerate() {
            let is_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if header.name.is_empty() || !header.name.chars().all(is_name) {
                let message = format!("'{}' is no name of a header", header.name.value);
                let at = of_headers.at(at);
                findings.error(code::INVALID_VALUE, header.name.place, &at.field("name"), message, "");
            }
        }
        let said = get.path.as_ref().map(|path| path.value.clone()).filter(|path| !path.is_empty());
        if let (Some(said), Some(text)) = (&get.path, &said)
            && text.contains(|c: char| c.is_ascii_control() || c == ' ')
        {
            let message = format!("'{}' is no path: it has spaces", text.escape_debug());
            findings.error(code::INVALID_VALUE, said.place, &path.field("path"), message, "write %20");
        }
        let headers = get.http_headers.iter().map(|h| (h.name.value.clone(), h.value.value.clone()));
        let kind = GroupProbeKind::Http {
            path: said.unwrap_or_else(|| "/".to_owned()),
            headers: headers.collect(),
            is_tls,
        };
        let port = port_number(get.port.value, get.port.place, &path.field("port"), findings)?;
        Some((kind, host(&get.host), port))
    } else if let Some(tcp) = &written.tcp_socket {
        let path = path.field("tcpSocket");
        let port = port_number(tcp.port.value, tcp.port.place, &path.field("port"), findings)?;
        Some((GroupProbeKind::Tcp, host(&tcp.host), port))
    } else if let Some(grpc) = &written.grpc {
        let path = path.field("grpc");
        let Some(said) = &grpc.port else {
            findings.error(code::MISSING_FIELD, grpc.place, &path, "a probe by gRPC needs a port", "");
            return None;
        };
        let port = port_number(said.value, said.place, &path.field("port"), findings)?;
        let service = grpc.service.as_ref().map_or(String::new(), |service| service.value.clone());
        Some((GroupProbeKind::Grpc { service }, None, port))
    } else {
        let exec = written.exec.as_ref()?;
        let message = "'exec' cannot be asked: naru asks from its control plane, where the command is not";
        let hint = "httpGet, tcpSocket or grpc, at the address of who joins";
        findings.error(code::NOT_YET, exec.place, &path.field("exec"), message, hint);
        None
    }
}
