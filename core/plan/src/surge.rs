//! What is given up while more comes than there is room for: what a `Surge` document means.
//!
//! There is one for the process. What its steps name must be there: a class that some route is in, a limit, a Deployment
//! that is run here. What it sheds is a check of all gateways, before all others.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_resource::surge::{
    Surge as Document, SurgeLevel as WrittenLevel, SurgePause, SurgeRateLimit, SurgeShed,
    SurgeStep as WrittenStep, SurgeWhen,
};
use naru_resource::{Deployment, Place, Placed, Resources, Text};
use naru_spec::{
    Check, CheckKind, Listener, Path, Surge, SurgeLevel, SurgeSignal, SurgeStep, SurgeThreshold, code,
    defaults,
};

use crate::caches::Caches;
use crate::findings::Findings;
use crate::{Process, matching, processes};

/// The label that says how much a Deployment is needed.
const PRIORITY: &str = "naru.dev/priority";
/// More requests than there is room for, by so much, in thousandths.
const REQUESTS_MAX: u64 = 100_000;

pub(crate) fn of(
    resources: &Resources,
    caches: &Caches,
    gateways: &mut [Listener],
    findings: &mut Findings<'_>,
) -> Option<Surge> {
    let document = resources.surges.first()?;
    for other in resources.surges.iter().skip(1) {
        let first = findings.locate(document.meta.name.place);
        let message = format!("two documents are for the process: the other is {first}");
        let spec = Path::ROOT.field("spec");
        findings.error(code::CONFLICT, other.meta.name.place, &spec, message, "join them");
    }
    let processes = processes(resources);
    let surge = Reader { resources, caches, processes: &processes, document, findings }.surge();
    if let Some(shed) = surge.shed() {
        let name = format!("Surge/{}/{}", document.meta.namespace(), document.meta.name.value);
        let check = Check { name, kind: CheckKind::Shed(Box::new(shed)) };
        let chains = gateways.iter_mut().flat_map(|listener| &mut listener.chains);
        for chain in chains.filter(|chain| chain.tcp.is_none()) {
            chain.http.gate.insert(check.clone());
        }
    }
    Some(surge)
}

struct Reader<'a, 'f, 'g> {
    resources: &'a Resources,
    caches: &'a Caches,
    processes: &'a [Process],
    document: &'a Document,
    findings: &'f mut Findings<'g>,
}

impl Reader<'_, '_, '_> {
    fn error(&mut self, place: Place, path: &Path<'_>, message: impl std::fmt::Display, hint: &str) {
        self.findings.error(code::INVALID_VALUE, place, path, message, hint);
    }

    fn surge(mut self) -> Surge {
        let spec = &self.document.spec;
        let path = Path::ROOT.field("spec");
        let every = spec.every.map_or(defaults::SURGE_EVERY, |every| every.value);
        if let Some(said) = spec.every.filter(|_| every < defaults::SURGE_EVERY_MIN) {
            let hint = format!("{} ms or more", defaults::SURGE_EVERY_MIN.as_millis());
            self.error(said.place, &path.field("every"), "it looks too often", &hint);
        }
        let capacity = spec.capacity.as_ref().and_then(|capacity| {
            let said = &capacity.requests_per_second;
            let number = u32::try_from(said.value).ok().filter(|number| *number > 0);
            if number.is_none() {
                let message = format!("{} is out of range: 1 to {}", said.value, u32::MAX);
                self.error(said.place, &path.field("capacity.requestsPerSecond"), message, "");
            }
            number
        });
        let levels_path = path.field("levels");
        let count = spec.levels.len();
        if count == 0 || count > defaults::SURGE_LEVELS_MAX {
            let message = format!("it has {count} levels, of 1 to {}", defaults::SURGE_LEVELS_MAX);
            self.error(spec.place, &levels_path, message, "");
        }
        let mut levels: Vec<SurgeLevel> = Vec::new();
        for (at, said) in spec.levels.iter().enumerate() {
            let path = levels_path.at(at);
            if said.name.value == "normal" || levels.iter().any(|level| level.name == said.name.value) {
                let message = format!("there is a level '{}' already", said.name.value);
                let place = said.name.place;
                self.findings.error(code::DUPLICATE, place, &path.field("name"), message, "");
            }
            let level = self.level(said, capacity, &path);
            levels.push(level);
        }
        Surge { every, capacity, levels }
    }

    fn level(&mut self, said: &WrittenLevel, capacity: Option<u32>, path: &Path<'_>) -> SurgeLevel {
        let enter_path = path.field("enter");
        let entered = self.when(&said.enter, &enter_path);
        if entered.is_empty() {
            let hint = "say one of requestsPercent, p95, p99, errorsPercent, cpuPercent, memoryPercent, queued, \
                        cacheMissPercent";
            let message = "nothing says when it is entered";
            self.findings.error(code::MISSING_FIELD, said.enter.place, &enter_path, message, hint);
        }
        let requests = entered.iter().find(|(threshold, _)| threshold.signal == SurgeSignal::Requests);
        if let (Some((_, place)), None) = (requests, capacity) {
            let message = "nobody knows what it is a part of";
            let hint = "say spec.capacity.requestsPerSecond";
            let path = enter_path.field("requestsPercent");
            self.findings.error(code::MISSING_FIELD, *place, &path, message, hint);
        }
        let leave_path = path.field("leave");
        let mut left = said.leave.as_ref().map_or(Vec::new(), |leave| self.when(leave, &leave_path));
        for (threshold, place) in &left {
            let signal = threshold.signal;
            let path = leave_path.field(signal.name());
            match entered.iter().find(|(entered, _)| entered.signal == signal) {
                None => {
                    let message = format!("nothing is entered for '{}'", signal.name());
                    let hint = "say it in enter, too";
                    self.findings.error(code::NO_EFFECT, *place, &path, message, hint);
                }
                Some((entered, _)) if entered.value < threshold.value => {
                    let message = format!(
                        "it would be left below {} and is entered at {}",
                        signal.phrase(threshold.value),
                        signal.phrase(entered.value)
                    );
                    self.error(*place, &path, message, "leave it at less than it is entered for");
                }
                Some(_) => {}
            }
        }
        for (threshold, place) in &entered {
            if !left.iter().any(|(left, _)| left.signal == threshold.signal) {
                let value = (threshold.value * defaults::SURGE_LEAVE_PERCENT / 100).max(1);
                left.push((SurgeThreshold { value, ..*threshold }, *place));
            }
        }
        let steps_path = path.field("steps");
        if said.steps.is_empty() {
            let message = format!("level '{}' does nothing", said.name.value);
            let place = said.name.place;
            self.findings.warning(code::NO_EFFECT, place, &steps_path, message, "say its steps");
        }
        let mut steps = Vec::new();
        for (at, step) in said.steps.iter().enumerate() {
            self.step(step, &steps_path.at(at), &mut steps);
        }
        let thresholds = |all: Vec<(SurgeThreshold, Place)>| all.into_iter().map(|(threshold, _)| threshold);
        SurgeLevel {
            name: said.name.value.clone(),
            enter: thresholds(entered).collect(),
            leave: thresholds(left).collect(),
            enter_after: said.enter_after.map_or(defaults::SURGE_ENTER_AFTER, |after| after.value),
            leave_after: said.leave_after.map_or(defaults::SURGE_LEAVE_AFTER, |after| after.value),
            steps,
        }
    }

    fn when(&mut self, said: &SurgeWhen, path: &Path<'_>) -> Vec<(SurgeThreshold, Place)> {
        let mut all = Vec::new();
        let parts = [
            (SurgeSignal::Requests, &said.requests_percent, REQUESTS_MAX),
            (SurgeSignal::Errors, &said.errors_percent, 1_000),
            (SurgeSignal::Cpu, &said.cpu_percent, 1_000),
            (SurgeSignal::Memory, &said.memory_percent, 1_000),
            (SurgeSignal::CacheMisses, &said.cache_miss_percent, 1_000),
        ];
        for (signal, said, max) in parts {
            let Some(said) = said else { continue };
            let value = (said.value * 10.0).round();
            if (1.0..=max as f64).contains(&value) {
                all.push((SurgeThreshold { signal, value: value as u64 }, said.place));
            } else {
                let message = format!("{} is not a percentage", said.value);
                let hint = format!("0.1 to {}", max / 10);
                self.error(said.place, &path.field(signal.name()), message, &hint);
            }
        }
        for (signal, said) in [(SurgeSignal::P95, said.p95), (SurgeSignal::P99, said.p99)] {
            let Some(said) = said else { continue };
            match u64::try_from(said.value.as_micros()) {
                Ok(value) if value > 0 => all.push((SurgeThreshold { signal, value }, said.place)),
                _ => self.error(said.place, &path.field(signal.name()), "nothing is as fast as that", "1ms"),
            }
        }
        if let Some(said) = said.queued {
            match u64::try_from(said.value) {
                Ok(value) if value > 0 => {
                    all.push((SurgeThreshold { signal: SurgeSignal::Queued, value }, said.place));
                }
                _ => self.error(said.place, &path.field("queued"), "it is always reached", "1 or more"),
            }
        }
        all.sort_by_key(|(threshold, _)| threshold.signal);
        all
    }

    fn step(&mut self, said: &WrittenStep, path: &Path<'_>, steps: &mut Vec<SurgeStep>) {
        let count = usize::from(said.cache_lifetime.is_some())
            + usize::from(said.rate_limit.is_some())
            + usize::from(said.shed.is_some())
            + usize::from(said.pause.is_some())
            + usize::from(said.replicas.is_some());
        if count != 1 {
            let message = format!("a step is one thing, and this says {count}");
            let hint = "one of cacheLifetime, rateLimit, shed, pause and replicas";
            self.findings.error(code::CONFLICTING_FIELDS, said.place, path, message, hint);
            return;
        }
        if let Some(cache) = &said.cache_lifetime {
            let path = path.field("cacheLifetime");
            let most = f64::from(defaults::SURGE_LIFETIME_PERCENT_MAX) / 100.0;
            let percent = self.factor(cache.factor, (1.0, most), &path);
            let classes = self.caches.classes();
            let is_known = match &cache.class {
                Some(class) => classes.contains(class.value.as_str()),
                None => !classes.is_empty(),
            };
            if is_known {
                let class = cache.class.as_ref().map(|class| class.value.clone());
                steps.extend(percent.map(|percent| SurgeStep::CacheLifetime { class, percent }));
            } else {
                let (place, of) = match &cache.class {
                    Some(class) => (class.place, format!(" of the class '{}'", class.value)),
                    None => (cache.place, String::new()),
                };
                let known: Vec<&str> = classes.into_iter().collect();
                let hint = match known.is_empty() {
                    true => "a ResponseCache with a targetRef says which do".to_owned(),
                    false => format!("one of {}", known.join(", ")),
                };
                let message = format!("no route keeps answers{of}");
                self.findings.error(code::UNKNOWN_REFERENCE, place, &path.field("class"), message, hint);
            }
        }
        if let Some(rate) = &said.rate_limit {
            let path = path.field("rateLimit");
            let percent = self.factor(rate.factor, (0.01, 1.0), &path);
            let quotas = self.quotas(rate, &path);
            if !quotas.is_empty() {
                steps.extend(percent.map(|percent| SurgeStep::RateLimit { quotas, percent }));
            }
        }
        if let Some(shed) = &said.shed {
            steps.extend(self.shed(shed, &path.field("shed")));
        }
        if let Some(pause) = &said.pause {
            let paused = self.paused(pause, &path.field("pause"));
            steps.extend(paused.into_iter().map(|workload| SurgeStep::Pause { workload }));
        }
        if let Some(replicas) = &said.replicas {
            let path = path.field("replicas");
            let percent = self.factor(replicas.factor, (1.0, 100.0), &path);
            let process = self.process(&replicas.workload, &path.field("workload"));
            let max = u32::try_from(replicas.max.value).ok().filter(|max| (1..=1_000).contains(max));
            match (percent, process, max) {
                (Some(percent), Some((workload, usual)), Some(max)) => {
                    if max <= usual {
                        let message = format!("{usual} of it run anyway");
                        let place = replicas.max.place;
                        let path = path.field("max");
                        self.findings.warning(code::NO_EFFECT, place, &path, message, "say more");
                    }
                    steps.push(SurgeStep::Replicas { workload, percent, max });
                }
                (_, _, None) => {
                    let message = format!("{} is out of range: 1 to 1000", replicas.max.value);
                    self.error(replicas.max.place, &path.field("max"), message, "");
                }
                _ => {}
            }
        }
    }

    /// In percent.
    fn factor(&mut self, said: Placed<f64>, (least, most): (f64, f64), path: &Path<'_>) -> Option<u32> {
        let is_there = (least..=most).contains(&said.value);
        if !is_there {
            let message = format!("{} is out of range: {least} to {most}", said.value);
            self.error(said.place, &path.field("factor"), message, "");
        }
        is_there.then(|| (said.value * 100.0).round() as u32)
    }

    /// By the names of their counts.
    fn quotas(&mut self, said: &SurgeRateLimit, path: &Path<'_>) -> Vec<String> {
        let namespace = self.document.meta.namespace();
        let documents = self.resources.rate_limits.iter().filter(|document| {
            let is_named = |name: &Text| {
                document.meta.name.value == name.value && document.meta.namespace() == namespace
            };
            said.name.as_ref().is_none_or(is_named)
        });
        let documents: Vec<_> = documents.collect();
        let mut quotas = Vec::new();
        for document in &documents {
            let limits = document.spec.limits.iter();
            let meant =
                limits.filter(|rule| said.limit.as_ref().is_none_or(|limit| limit.value == rule.name.value));
            quotas.extend(meant.map(|rule| {
                let (namespace, name) = (document.meta.namespace(), &document.meta.name.value);
                format!("RateLimit/{namespace}/{name}/{}", rule.name.value)
            }));
        }
        if quotas.is_empty() {
            let (place, field, message) = match (&said.name, &said.limit) {
                (Some(name), _) if documents.is_empty() => {
                    (name.place, "name", format!("there is no RateLimit '{}' in {namespace}", name.value))
                }
                (_, Some(limit)) => (limit.place, "limit", format!("there is no limit '{}'", limit.value)),
                _ => (said.place, "name", "there is no RateLimit".to_owned()),
            };
            self.findings.error(code::UNKNOWN_REFERENCE, place, &path.field(field), message, "");
        }
        quotas
    }

    fn shed(&mut self, said: &SurgeShed, path: &Path<'_>) -> Option<SurgeStep> {
        let of_blocks = path.field("match");
        if said.matches.is_empty() {
            let message = "nothing says what is shed";
            let hint = "say blocks as a VirtualService does; match: [{}] is all";
            self.findings.error(code::MISSING_FIELD, said.place, &of_blocks, message, hint);
            return None;
        }
        let mut blocks = Vec::new();
        for (at, block) in said.matches.iter().enumerate() {
            let path = of_blocks.at(at);
            let unsupported = [
                ("port", block.port.as_ref().map(|port| port.place)),
                ("sourceLabels", block.source_labels.first().map(|(name, _)| name.place)),
                ("sourceNamespace", block.source_namespace.as_ref().map(|name| name.place)),
                ("gateways", block.gateways.first().map(|name| name.place)),
            ];
            for (field, place) in unsupported {
                let Some(place) = place else { continue };
                let message = format!("naru does not act on '{field}' here: all gateways shed alike");
                let hint = "remove it";
                self.findings.error(code::UNSUPPORTED_FIELD, place, &path.field(field), message, hint);
            }
            blocks.push(matching::block(block, &path, self.findings));
        }
        let share = match said.percent {
            None => Fraction::ALL,
            Some(percent) if percent.value > 0.0 && percent.value <= 100.0 => {
                Fraction::new((percent.value * 10_000.0).round() as u32, Denominator::Million)
            }
            Some(percent) => {
                let message = format!("{} is not a percentage", percent.value);
                self.error(percent.place, &path.field("percent"), message, "above 0, to 100");
                return None;
            }
        };
        let retry_after = said.retry_after.map_or(defaults::SURGE_RETRY_AFTER, |after| after.value);
        if let Some(said) = said.retry_after.filter(|_| retry_after < Duration::from_secs(1)) {
            let message = "Retry-After is in whole seconds";
            self.error(said.place, &path.field("retryAfter"), message, "1s or more");
        }
        Some(SurgeStep::Shed { blocks, share, retry_after })
    }

    fn paused(&mut self, said: &SurgePause, path: &Path<'_>) -> Vec<String> {
        match (&said.workload, &said.priority) {
            (Some(name), None) => {
                let process = self.process(name, &path.field("workload"));
                process.into_iter().map(|(workload, _)| workload).collect()
            }
            (None, Some(priority)) => {
                let is_marked = |deployment: &&Deployment| {
                    deployment
                        .meta
                        .labels
                        .iter()
                        .any(|(name, value)| name.value == PRIORITY && value.value == priority.value)
                };
                let names: Vec<String> =
                    self.resources.deployments.iter().filter(is_marked).map(own_name).collect();
                let run: Vec<String> = names
                    .into_iter()
                    .filter(|name| self.processes.iter().any(|process| process.name == *name))
                    .collect();
                if run.is_empty() {
                    let message =
                        format!("no Deployment that runs here has it: {PRIORITY}: {}", priority.value);
                    let hint = "label those that can be done without";
                    let path = path.field("priority");
                    self.findings.error(code::UNKNOWN_REFERENCE, priority.place, &path, message, hint);
                }
                run
            }
            _ => {
                let message = "exactly one of workload and priority is needed";
                self.findings.error(code::CONFLICTING_FIELDS, said.place, path, message, "");
                Vec::new()
            }
        }
    }

    /// A Deployment that is run here: what it is called there, and how many of it run.
    fn process(&mut self, name: &Text, path: &Path<'_>) -> Option<(String, u32)> {
        let namespace = self.document.meta.namespace();
        let deployment = self.resources.deployments.iter().find(|deployment| {
            deployment.meta.name.value == name.value && deployment.meta.namespace() == namespace
        });
        let Some(deployment) = deployment else {
            let message = format!("there is no Deployment '{}' in {namespace}", name.value);
            self.findings.error(code::UNKNOWN_REFERENCE, name.place, path, message, "");
            return None;
        };
        let own = own_name(deployment);
        let process = self.processes.iter().find(|process| process.name == own);
        if process.is_none() {
            let message = format!("Deployment '{}' is not run here", name.value);
            let hint = "to run it on this machine, give its container a command";
            self.findings.error(code::NO_EFFECT, name.place, path, message, hint);
        }
        process.map(|process| (own, process.replicas))
    }
}

/// As processes are called.
fn own_name(deployment: &Deployment) -> String {
    let namespace = deployment.meta.namespace();
    let name = &deployment.meta.name.value;
    if namespace == naru_resource::meta::DEFAULT_NAMESPACE {
        name.clone()
    } else {
        format!("{namespace}/{name}")
    }
}
