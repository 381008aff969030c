//! The bounds of an edge, and what naru gives up when it runs short: what `EdgePolicy` documents mean.
//!
//! One without a target holds for all gateways and the process; what one of a Gateway says stands above it. Gateways at
//! the same address share their connections, so that two of them with different policies are a conflict.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_resource::edge_policy::{
    EdgeAllowance, EdgeConnections, EdgeHttp2, EdgeOverload, EdgePace, EdgePolicy, EdgeRequests,
};
use naru_resource::{Flag, Gateway, Number, Place, Placed, Resources, Seconds};
use naru_spec::overload::{Monitor, Resource, TriggerAt};
use naru_spec::{Allowance, Listener, Overload, PaceLimit, Path, code};

use crate::attached;
use crate::findings::Findings;
use crate::sessions::Sessions;

/// Policies by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Edges<'a> {
    whole: Option<&'a EdgePolicy>,
    of_gateways: Vec<(&'a Gateway, &'a EdgePolicy)>,
    sessions: Sessions<'a>,
}

impl<'a> Edges<'a> {
    pub fn of(resources: &'a Resources, findings: &mut Findings<'_>) -> Edges<'a> {
        let mut edges = Edges { sessions: Sessions::of(resources, findings), ..Edges::default() };
        for policy in &resources.edge_policies {
            let spec = Path::ROOT.field("spec");
            let Some(target) = &policy.spec.target_ref else {
                if let Some(before) = edges.whole {
                    let other = findings.locate(before.meta.name.place);
                    let message = format!("two documents are for all gateways: the other is {other}");
                    findings.error(code::CONFLICT, policy.meta.name.place, &spec, message, "join them");
                }
                edges.whole = Some(policy);
                without_effect(policy, findings);
                continue;
            };
            let path = spec.field("targetRef");
            // Of a route is only what stands in `doors.rs`, and what is wrong with the reference is told there.
            if attached::is_of_routes(&target.kind) {
                continue;
            }
            if target.kind.value != "Gateway" {
                let message = format!("an EdgePolicy cannot be attached to a {}", target.kind.value);
                let hint = "it can be attached to a Gateway, to a VirtualService, an HTTPRoute or a GRPCRoute, to one of their routes by sectionName, or to all gateways without a targetRef";
                findings.error(code::UNKNOWN_VALUE, target.kind.place, &path.field("kind"), message, hint);
                continue;
            }
            if let Some(section) = &target.section_name {
                let message = "a Gateway has no sections that a policy could be for";
                let path = path.field("sectionName");
                findings.error(code::UNSUPPORTED_FIELD, section.place, &path, message, "remove it");
            }
            if let Some(overload) = &policy.spec.overload {
                let message = "naru runs short as a whole, not one gateway";
                let hint = "say it in an EdgePolicy without a targetRef";
                let path = spec.field("overload");
                findings.error(code::NO_EFFECT, overload.place, &path, message, hint);
            }
            let namespace = policy.meta.namespace();
            let is_it = |gateway: &&Gateway| {
                gateway.meta.name.value == target.name.value && gateway.meta.namespace() == namespace
            };
            let Some(gateway) = resources.gateways.iter().find(is_it) else {
                let message = format!("there is no Gateway '{}' in {namespace}", target.name.value);
                findings.error(code::UNKNOWN_REFERENCE, target.name.place, &path.field("name"), message, "");
                continue;
            };
            if let Some((_, before)) =
                edges.of_gateways.iter().find(|(known, _)| std::ptr::eq(*known, gateway))
            {
                let other = findings.locate(before.meta.name.place);
                let message = format!("two documents are for this Gateway: the other is {other}");
                findings.error(code::CONFLICT, policy.meta.name.place, &spec, message, "join them");
            }
            edges.of_gateways.push((gateway, policy));
        }
        // What is wrong with a value is told once, whatever it is for.
        for policy in &resources.edge_policies {
            let nowhere = ([0, 0, 0, 0], 0).into();
            Reader { findings, is_quiet: false }.policy(policy, &mut Listener::new("", nowhere, Vec::new()));
            if policy.spec.target_ref.is_none() {
                Reader { findings, is_quiet: false }.overload(policy, Overload::edge());
            }
        }
        edges
    }

    /// Those that naru itself asks who logs in.
    pub fn clusters(&self) -> Vec<naru_spec::Cluster> {
        self.sessions.clusters()
    }

    /// Changes a listener of these gateways.
    pub fn change(&self, gateways: &[&Gateway], listener: &mut Listener, findings: &mut Findings<'_>) {
        self.sessions.change(gateways, listener, findings);
        let find = |gateway: &&Gateway| {
            self.of_gateways
                .iter()
                .find(|(known, _)| std::ptr::eq(*known, *gateway))
                .map(|(_, policy)| *policy)
        };
        let first = gateways.first().and_then(find);
        for gateway in gateways {
            let other = find(gateway);
            let is_same = match (first, other) {
                (Some(first), Some(other)) => std::ptr::eq(first, other),
                (None, None) => true,
                _ => false,
            };
            if let (false, Some(policy)) = (is_same, other.or(first)) {
                let message =
                    format!("gateways at {} have different policies, and share it", listener.address);
                let path = Path::ROOT.field("spec.targetRef");
                findings.error(code::CONFLICT, policy.meta.name.place, &path, message, "use two ports");
            }
        }
        for policy in self.whole.into_iter().chain(first) {
            Reader { findings, is_quiet: true }.policy(policy, listener);
        }
    }

    /// What is given up when the process runs short: of what it would be else.
    pub fn overload(&self, usual: Option<Overload>, findings: &mut Findings<'_>) -> Option<Overload> {
        match self.whole {
            Some(policy) => Reader { findings, is_quiet: true }
                .overload(policy, usual.unwrap_or_else(Overload::edge))
                .filter(|overload| !overload.monitors.is_empty()),
            None => usual,
        }
    }
}

/// Of the process it is how many there may be, and of all gateways all but that.
fn without_effect(policy: &EdgePolicy, findings: &mut Findings<'_>) {
    let connections = policy.spec.connections.as_ref();
    let is_off = policy.spec.overload.as_ref().is_some_and(|said| is_on(said.disabled.as_ref()));
    if let Some(max) = connections.and_then(|said| said.max.as_ref()).filter(|_| is_off) {
        let message = "where nothing is measured, nobody counts the connections of the process";
        let path = Path::ROOT.field("spec.connections.max");
        findings.error(code::NO_EFFECT, max.place, &path, message, "attach it to a Gateway");
    }
}

fn is_on(flag: Option<&Flag>) -> bool {
    flag.is_some_and(|flag| flag.value)
}

/// Reads values into settings, and tells what is wrong with them.
struct Reader<'f, 'a> {
    findings: &'f mut Findings<'a>,
    /// It was told already.
    is_quiet: bool,
}

impl Reader<'_, '_> {
    fn policy(&mut self, policy: &EdgePolicy, listener: &mut Listener) {
        let spec = Path::ROOT.field("spec");
        let is_of_gateway = policy.spec.target_ref.is_some();
        if let Some(said) = &policy.spec.connections {
            self.connections(said, is_of_gateway, listener, &spec.field("connections"));
        }
        if let Some(said) = &policy.spec.requests {
            self.requests(said, listener, &spec.field("requests"));
        }
        if let Some(said) = &policy.spec.http2 {
            self.http2(said, listener, &spec.field("http2"));
        }
    }

    fn connections(
        &mut self,
        said: &EdgeConnections,
        is_of_gateway: bool,
        listener: &mut Listener,
        path: &Path<'_>,
    ) {
        let max = self.count(&said.max, 1, &path.field("max"));
        if is_of_gateway && max.is_some() {
            listener.connections.max = max;
        }
        if let Some(max) = self.count(&said.max_per_source, 1, &path.field("maxPerSource")) {
            listener.connections.max_per_source = Some(max);
        }
        let handshake = self.time(&said.handshake_timeout, &path.field("handshakeTimeout"));
        let requests = self.count(&said.max_requests, 1, &path.field("maxRequests"));
        for chain in &mut listener.chains {
            chain.handshake_timeout = handshake.or(chain.handshake_timeout);
            set(&mut chain.http.connection_idle_timeout, or_none(&said.idle_timeout));
            chain.http.max_requests_per_connection = requests.or(chain.http.max_requests_per_connection);
        }
    }

    fn requests(&mut self, said: &EdgeRequests, listener: &mut Listener, path: &Path<'_>) {
        // Envoy's bounds.
        let bytes = self.count_within(&said.max_header_bytes, 1_024, 8 << 20, &path.field("maxHeaderBytes"));
        let count = self.count(&said.max_header_count, 1, &path.field("maxHeaderCount"));
        let body = self.count(&said.max_body_bytes, 0, &path.field("maxBodyBytes"));
        let hops = self.count_within(&said.trusted_hops, 0, 32, &path.field("trustedHops"));
        let body_pace = said.body_pace.as_ref().map(|said| self.pace(said, &path.field("bodyPace")));
        let response_pace =
            said.response_pace.as_ref().map(|said| self.pace(said, &path.field("responsePace")));
        for http in listener.chains.iter_mut().map(|chain| &mut chain.http) {
            set(&mut http.header_bytes_max, bytes);
            set(&mut http.header_count_max, count);
            set(&mut http.xff_num_trusted_hops, hops);
            http.body_bytes_max = body.or(http.body_bytes_max);
            set(&mut http.request_headers_timeout, or_none(&said.headers_timeout));
            set(&mut http.request_timeout, or_none(&said.timeout));
            set(&mut http.stream_idle_timeout, or_none(&said.idle_timeout));
            set(&mut http.request_pace, body_pace);
            set(&mut http.response_pace, response_pace);
        }
    }

    /// No bytes are no limit.
    fn pace(&mut self, said: &EdgePace, path: &Path<'_>) -> Option<PaceLimit> {
        let bytes = self.count(&Some(said.bytes), 0, &path.field("bytes")).unwrap_or(0);
        let window = self.time(&Some(said.window), &path.field("window"))?;
        (bytes > 0).then_some(PaceLimit { bytes, window })
    }

    fn http2(&mut self, said: &EdgeHttp2, listener: &mut Listener, path: &Path<'_>) {
        let streams = self.count(&said.max_concurrent_streams, 1, &path.field("maxConcurrentStreams"));
        let useful = self.count(&said.frames_per_useful, 0, &path.field("framesPerUseful"));
        let block = self.count(&said.max_block_frames, 4, &path.field("maxBlockFrames"));
        let frame = self.time(&said.frame_timeout, &path.field("frameTimeout"));
        let resets = self.allowance(said.resets.as_ref(), &path.field("resets"));
        let mistakes = self.allowance(said.mistakes.as_ref(), &path.field("mistakes"));
        let frames = self.allowance(said.frames.as_ref(), &path.field("frames"));
        for http in listener.chains.iter_mut().map(|chain| &mut chain.http) {
            set(&mut http.http2.max_concurrent_streams, streams);
            let limits = &mut http.http2_limits;
            set(&mut limits.frames_per_useful, useful);
            set(&mut limits.block_frames_max, block);
            set(&mut limits.frame_timeout, frame);
            for (limit, (burst, per_second)) in
                [(&mut limits.resets, resets), (&mut limits.mistakes, mistakes), (&mut limits.frames, frames)]
            {
                let Allowance { burst: known, per_second: known_per_second } = limit;
                set(known, burst);
                set(known_per_second, per_second);
            }
        }
    }

    fn allowance(&mut self, said: Option<&EdgeAllowance>, path: &Path<'_>) -> (Option<u32>, Option<u32>) {
        let Some(said) = said else { return (None, None) };
        // SETTINGS cost ten, and every connection begins with one.
        let burst = self.count(&said.burst, 10, &path.field("burst"));
        (burst, self.count(&said.per_second, 0, &path.field("perSecond")))
    }

    fn overload(&mut self, policy: &EdgePolicy, usual: Overload) -> Option<Overload> {
        let spec = Path::ROOT.field("spec");
        let path = spec.field("overload");
        let mut overload = usual;
        if let Some(said) = &policy.spec.overload {
            if is_on(said.disabled.as_ref()) {
                return None;
            }
            self.measured(said, &mut overload, &path);
        }
        let connections = policy.spec.connections.as_ref().and_then(|said| said.max.as_ref());
        if let Some(max) = self.count(&connections.copied(), 1, &spec.field("connections.max")) {
            let name = "connections".to_owned();
            overload.monitors.push(Monitor { name, resource: Resource::Connections { max } });
        }
        Some(overload)
    }

    fn measured(&mut self, said: &EdgeOverload, overload: &mut Overload, path: &Path<'_>) {
        set(&mut overload.refresh, self.time(&said.refresh_interval, &path.field("refreshInterval")));
        if let Some(paths) = &said.keep_paths {
            for (at, spared) in paths.iter().enumerate().filter(|(_, spared)| !spared.starts_with('/')) {
                let message = format!("'{}' is no path", spared.value);
                self.error(spared.place, &path.field("keepPaths").at(at), message, "it begins with /");
            }
            overload.spared = paths.iter().map(|path| path.value.clone()).collect();
        }
        let memory = said.memory.as_ref();
        if memory.is_some_and(|said| is_on(said.disabled.as_ref())) {
            overload.leave_out("memory");
        } else if let Some(said) = memory {
            let path = path.field("memory");
            let bytes = self.count(&said.limit_bytes, 1 << 20, &path.field("limitBytes"));
            for monitor in &mut overload.monitors {
                if let Resource::Memory { bytes_max } = &mut monitor.resource {
                    *bytes_max = bytes.or(*bytes_max);
                }
            }
            let begin = self.percent(&said.shed_at_percent, &path.field("shedAtPercent"));
            let end = self.percent(&said.until_percent, &path.field("untilPercent"));
            overload.shed_by("memory", |trigger| {
                if let TriggerAt::Latched { at, until } = trigger {
                    set(at, begin);
                    set(until, end);
                }
            });
        }
        let cpu = said.cpu.as_ref();
        if cpu.is_some_and(|said| is_on(said.disabled.as_ref())) {
            overload.leave_out("cpu");
        } else if let Some(said) = cpu {
            let path = path.field("cpu");
            let begin = self.percent(&said.shed_from_percent, &path.field("shedFromPercent"));
            let end = self.percent(&said.shed_all_at_percent, &path.field("shedAllAtPercent"));
            overload.shed_by("cpu", |trigger| {
                if let TriggerAt::Scaled { from, to } = trigger {
                    set(from, begin);
                    set(to, end);
                }
            });
        }
        for (_, invalid) in overload.problems() {
            self.error(said.place, path, invalid.message, invalid.hint);
        }
    }

    fn count<T: TryFrom<i64>>(&mut self, said: &Option<Number>, least: i64, path: &Path<'_>) -> Option<T> {
        self.count_within(said, least, i64::MAX, path)
    }

    fn count_within<T: TryFrom<i64>>(
        &mut self,
        said: &Option<Number>,
        least: i64,
        most: i64,
        path: &Path<'_>,
    ) -> Option<T> {
        let said = said.as_ref()?;
        let read = T::try_from(said.value).ok().filter(|_| (least..=most).contains(&said.value));
        if read.is_none() {
            let hint =
                if most == i64::MAX { format!("{least} or more") } else { format!("{least} to {most}") };
            self.error(said.place, path, format!("{} cannot be", said.value), hint);
        }
        read
    }

    fn time(&mut self, said: &Option<Seconds>, path: &Path<'_>) -> Option<Duration> {
        let said = said.as_ref()?;
        if said.value.is_zero() {
            self.error(said.place, path, "a time of 0 leaves no time at all", "");
            return None;
        }
        Some(said.value)
    }

    fn percent(&mut self, said: &Option<Placed<f64>>, path: &Path<'_>) -> Option<Fraction> {
        let said = said.as_ref()?;
        if !(0.0..=100.0).contains(&said.value) {
            self.error(said.place, path, format!("{} is not a percentage", said.value), "0 to 100");
            return None;
        }
        Some(Fraction::new((said.value * 10_000.0).round() as u32, Denominator::Million))
    }

    fn error(
        &mut self,
        place: Place,
        path: &Path<'_>,
        message: impl std::fmt::Display,
        hint: impl std::fmt::Display,
    ) {
        if !self.is_quiet {
            self.findings.error(code::INVALID_VALUE, place, path, message, hint);
        }
    }
}

fn set<T>(setting: &mut T, said: Option<T>) {
    if let Some(said) = said {
        *setting = said;
    }
}

/// Where 0 is none at all.
fn or_none(said: &Option<Seconds>) -> Option<Option<Duration>> {
    said.as_ref().map(|said| Some(said.value).filter(|time| !time.is_zero()))
}
