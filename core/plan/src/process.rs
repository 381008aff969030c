//! Deployments that run as processes of this machine.

use std::time::Duration;

use naru_resource::deployment::{self as pod, Container, PodSpec};
use naru_resource::service::PortRef;
use naru_resource::{Deployment, Number, Place, Resources, Text};
use naru_spec::{Path, Severity, code};

use crate::findings::Findings;

/// What a Deployment says about a process. Its container has a `command`.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// `name`, or `namespace/name` outside the default namespace.
    pub name: String,
    pub namespace: String,
    pub labels: Vec<(String, String)>,
    pub replicas: u32,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    /// The first is the one that is given as `PORT`.
    pub ports: Vec<ProcessPort>,
    pub readiness: Option<Probe>,
    pub liveness: Option<Probe>,
    pub startup: Option<Probe>,
    pub limits: Limits,
    pub grace: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessPort {
    pub name: Option<String>,
    pub container_port: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu_millis: Option<u32>,
    pub memory_bytes: Option<u64>,
}

/// Kubernetes' probe, with its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub kind: ProbeKind,
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

/// A port of `None` is the process's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    Http { path: String, port: Option<u16>, headers: Vec<(String, String)> },
    Tcp { port: Option<u16> },
    Grpc { port: Option<u16>, service: String },
    Exec { command: Vec<String> },
}

/// Every Deployment that has a command. Problems have been told by [`check`].
pub fn processes(resources: &Resources) -> Vec<Process> {
    let mut quiet = Findings::new(&resources.files);
    resources.deployments.iter().filter_map(|d| process(d, resources, &mut quiet)).collect()
}

pub(crate) fn check(resources: &Resources, findings: &mut Findings<'_>) {
    for deployment in &resources.deployments {
        if let (Some(selector), Some(meta)) = (&deployment.spec.selector, &deployment.spec.template.meta)
            && !naru_resource::meta::selects(&selector.match_labels, &meta.labels)
        {
            let message = "the selector does not select the template's labels";
            let path = Path::ROOT.field("spec.selector");
            findings.error(code::CONFLICT, selector.place, &path, message, "Kubernetes refuses this, too");
        }
        process(deployment, resources, findings);
    }
}

fn process(deployment: &Deployment, resources: &Resources, findings: &mut Findings<'_>) -> Option<Process> {
    let namespace = deployment.meta.namespace();
    let name = &deployment.meta.name;
    let template = &deployment.spec.template;
    let path = Path::ROOT.field("spec.template.spec");
    let containers = path.field("containers");
    let with_command = template.spec.containers.iter().enumerate().filter(|(_, c)| !c.command.is_empty());
    let with_command: Vec<_> = with_command.collect();
    let Some((at, container)) = with_command.first() else {
        let message =
            format!("Deployment '{}' is not run here: no container of it has a command", name.value);
        let hint = "to run it on this machine, give its container a command";
        findings.tell(Severity::Note, code::NO_COMMAND, name.place, &containers, message, hint);
        return None;
    };
    if let Some((at, second)) = with_command.get(1) {
        let message = "naru runs one container of a Deployment; this one is left out";
        findings.warning(code::NOT_YET, second.place, &containers.at(*at), message, "");
    }
    let path = containers.at(*at);
    let own = if namespace == naru_resource::meta::DEFAULT_NAMESPACE {
        name.value.clone()
    } else {
        format!("{namespace}/{}", name.value)
    };
    tell_elsewhere(&template.spec, container, findings);
    let replicas = deployment.spec.replicas.as_ref();
    let limits = container.resources.as_ref().map_or(&[][..], |resources| resources.limits.as_slice());
    let limit =
        |of: &str| limits.iter().find(|(key, _)| key.value == of).map(|(_, amount)| amount.thousandths);
    Some(Process {
        name: own,
        namespace: namespace.to_owned(),
        labels: template.meta.as_ref().map_or(Vec::new(), |meta| {
            meta.labels.iter().map(|(key, value)| (key.value.clone(), value.value.clone())).collect()
        }),
        replicas: count(replicas, 1, 1_000, &Path::ROOT.field("spec.replicas"), findings),
        command: texts(&container.command),
        args: texts(&container.args),
        env: environment(container, deployment, resources, &path, findings),
        working_dir: container.working_dir.as_ref().map(|dir| dir.value.clone()),
        ports: container
            .ports
            .iter()
            .filter_map(|port| {
                let container_port = u16::try_from(port.container_port.value).ok()?;
                Some(ProcessPort { name: port.name.as_ref().map(|name| name.value.clone()), container_port })
            })
            .collect(),
        readiness: probe(&container.readiness_probe, container, &path.field("readinessProbe"), findings),
        liveness: probe(&container.liveness_probe, container, &path.field("livenessProbe"), findings),
        startup: probe(&container.startup_probe, container, &path.field("startupProbe"), findings),
        limits: Limits {
            cpu_millis: limit("cpu").and_then(|amount| u32::try_from(amount).ok()).filter(|cpu| *cpu > 0),
            memory_bytes: limit("memory").and_then(|amount| u64::try_from(amount / 1_000).ok()),
        },
        grace: Duration::from_secs(u64::from(count(
            template.spec.termination_grace_period_seconds.as_ref(),
            30,
            86_400,
            &Path::ROOT.field("spec.template.spec.terminationGracePeriodSeconds"),
            findings,
        ))),
    })
}

fn texts(list: &[Text]) -> Vec<String> {
    list.iter().map(|text| text.value.clone()).collect()
}

pub(crate) fn count(
    value: Option<&Number>,
    default: u32,
    max: u32,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> u32 {
    let Some(value) = value else { return default };
    match u32::try_from(value.value) {
        Ok(count) if count <= max => count,
        _ => {
            let message = format!("{} is out of range: 0 to {max}", value.value);
            findings.error(code::INVALID_VALUE, value.place, path, message, "");
            default
        }
    }
}

/// What only Kubernetes can do for a container.
fn tell_elsewhere(spec: &PodSpec, container: &Container, findings: &mut Findings<'_>) {
    let path = Path::ROOT.field("spec.template.spec");
    let fields = spec.elsewhere.iter().chain(&container.elsewhere);
    let init = spec.init_containers.first().map(|init| (init.place, "initContainers"));
    let fields = fields.map(|field| (field.place, field.value.as_str())).chain(init);
    for (place, field) in fields {
        let message = format!("'{field}' means nothing for a process of this machine");
        findings.tell(Severity::Note, code::NO_EFFECT, place, &path.field(field), message, "");
    }
}

fn environment(
    container: &Container,
    deployment: &Deployment,
    resources: &Resources,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<(String, String)> {
    let namespace = deployment.meta.namespace();
    let mut env: Vec<(String, String)> = Vec::new();
    let from = path.field("envFrom");
    for (at, source) in container.env_from.iter().enumerate() {
        let path = from.at(at);
        let prefix = source.prefix.as_ref().map_or("", |prefix| prefix.as_str());
        if let Some(name) = &source.config_map_ref {
            let map = resources.config_maps.iter().find(|map| is_named(&map.meta, namespace, &name.name));
            match map {
                Some(map) => env.extend(
                    map.data
                        .iter()
                        .map(|(key, value)| (format!("{prefix}{}", key.value), value.value.clone())),
                ),
                None => missing("ConfigMap", &name.name, is_true(&name.optional), &path, findings),
            }
        }
        if let Some(name) = &source.secret_ref {
            let secret = resources.secrets.iter().find(|s| is_named(&s.meta, namespace, &name.name));
            match secret {
                Some(secret) => env.extend(secret.data.iter().map(|(key, value)| {
                    (format!("{prefix}{}", key.value), String::from_utf8_lossy(&value.0).into_owned())
                })),
                None => missing("Secret", &name.name, is_true(&name.optional), &path, findings),
            }
        }
    }
    let vars = path.field("env");
    for (at, var) in container.env.iter().enumerate() {
        let path = vars.at(at);
        let value = match (&var.value, &var.value_from) {
            (Some(value), _) => Some(expand(value, &env)),
            (None, None) => Some(String::new()),
            (None, Some(source)) => from_source(source, deployment, resources, &path, findings),
        };
        if let Some(value) = value {
            env.retain(|(name, _)| *name != var.name.value);
            env.push((var.name.value.clone(), value));
        }
    }
    env
}

/// `$(NAME)` is the value of a variable before it; `$$` is a dollar.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.iter().find(|(known, _)| known == name) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

fn is_true(flag: &Option<naru_resource::Flag>) -> bool {
    flag.as_ref().is_some_and(|flag| flag.value)
}

fn is_named(meta: &naru_resource::Meta, namespace: &str, name: &Text) -> bool {
    meta.name.value == name.value && meta.namespace() == namespace
}

fn missing(kind: &str, name: &Text, is_optional: bool, path: &Path<'_>, findings: &mut Findings<'_>) {
    if !is_optional {
        let message = format!("there is no {kind} '{}'", name.value);
        findings.error(code::UNKNOWN_REFERENCE, name.place, path, message, "");
    }
}

fn from_source(
    source: &pod::EnvSource,
    deployment: &Deployment,
    resources: &Resources,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let namespace = deployment.meta.namespace();
    if let Some(key) = &source.config_map_key_ref {
        let map = resources.config_maps.iter().find(|map| is_named(&map.meta, namespace, &key.name));
        let value = map.and_then(|map| map.data.iter().find(|(name, _)| name.value == key.key.value));
        if value.is_none() {
            missing("ConfigMap with the key", &key.key, is_true(&key.optional), path, findings);
        }
        return value.map(|(_, value)| value.value.clone());
    }
    if let Some(key) = &source.secret_key_ref {
        let secret = resources.secrets.iter().find(|secret| is_named(&secret.meta, namespace, &key.name));
        let value =
            secret.and_then(|secret| secret.data.iter().find(|(name, _)| name.value == key.key.value));
        if value.is_none() {
            missing("Secret with the key", &key.key, is_true(&key.optional), path, findings);
        }
        return value.map(|(_, value)| String::from_utf8_lossy(&value.0).into_owned());
    }
    if let Some(field) = &source.field_ref {
        let found = match field.field_path.as_str() {
            "metadata.namespace" => Some(namespace.to_owned()),
            "metadata.name" => Some(deployment.meta.name.value.clone()),
            "status.podIP" | "status.hostIP" => Some("127.0.0.1".to_owned()),
            other => other
                .strip_prefix("metadata.labels['")
                .and_then(|rest| rest.strip_suffix("']"))
                .and_then(|label| {
                    let labels = &deployment.spec.template.meta.as_ref()?.labels;
                    labels.iter().find(|(key, _)| key.value == label).map(|(_, value)| value.value.clone())
                }),
        };
        if found.is_none() {
            let message = format!("a process of this machine has no '{}'", field.field_path.value);
            findings.warning(code::NO_EFFECT, field.field_path.place, path, message, "");
        }
        return found;
    }
    if let Some(unread) = &source.resource_field_ref {
        let message = "a process of this machine has no resourceFieldRef";
        findings.warning(code::NO_EFFECT, unread.place, path, message, "");
    }
    None
}

fn probe(
    written: &Option<pod::Probe>,
    container: &Container,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Probe> {
    let written = written.as_ref()?;
    let kinds = [
        written.http_get.is_some(),
        written.tcp_socket.is_some(),
        written.exec.is_some(),
        written.grpc.is_some(),
    ];
    if kinds.iter().filter(|is_said| **is_said).count() != 1 {
        let message = "exactly one of httpGet, tcpSocket, exec and grpc is needed";
        findings.error(code::CONFLICTING_FIELDS, written.place, path, message, "");
        return None;
    }
    let port = |port: &PortRef, place: Place, findings: &mut Findings<'_>| {
        // The first port of a container is wherever the process was told to listen.
        let first = container.ports.first();
        let is_first = match port {
            PortRef::Number(number) => {
                first.is_none_or(|first| first.container_port.value == i64::from(*number))
            }
            PortRef::Name(name) => {
                first.and_then(|first| first.name.as_ref()).is_some_and(|first| first.value == *name)
            }
        };
        if is_first {
            return Some(None);
        }
        let named = |name: &String| {
            let port = container.ports.iter().find(|p| p.name.as_ref().is_some_and(|n| n.value == *name))?;
            u16::try_from(port.container_port.value).ok()
        };
        let found = match port {
            PortRef::Number(number) => Some(*number),
            PortRef::Name(name) => named(name),
        };
        if found.is_none() {
            findings.error(code::UNKNOWN_PORT, place, path, "the container has no such port", "");
        }
        found.map(Some)
    };
    let kind = if let Some(get) = &written.http_get {
        ProbeKind::Http {
            path: get.path.as_ref().map_or_else(|| "/".to_owned(), |path| path.value.clone()),
            port: port(&get.port.value, get.port.place, findings)?,
            headers: get.http_headers.iter().map(|h| (h.name.value.clone(), h.value.value.clone())).collect(),
        }
    } else if let Some(tcp) = &written.tcp_socket {
        ProbeKind::Tcp { port: port(&tcp.port.value, tcp.port.place, findings)? }
    } else if let Some(grpc) = &written.grpc {
        let number = u16::try_from(grpc.port.value).ok()?;
        let service = grpc.service.as_ref().map_or(String::new(), |service| service.value.clone());
        ProbeKind::Grpc { port: port(&PortRef::Number(number), grpc.port.place, findings)?, service }
    } else {
        let exec = written.exec.as_ref()?;
        ProbeKind::Exec { command: texts(&exec.command) }
    };
    let mut number = |value: &Option<Number>, default: u32, name| {
        count(value.as_ref(), default, 1_000_000, &path.field(name), findings)
    };
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    Some(Probe {
        kind,
        initial_delay: seconds(number(&written.initial_delay_seconds, 0, "initialDelaySeconds")),
        period: seconds(number(&written.period_seconds, 10, "periodSeconds").max(1)),
        timeout: seconds(number(&written.timeout_seconds, 1, "timeoutSeconds").max(1)),
        success_threshold: number(&written.success_threshold, 1, "successThreshold").max(1),
        failure_threshold: number(&written.failure_threshold, 3, "failureThreshold").max(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_as_kubernetes_expands_them() {
        let env = vec![("A".to_owned(), "1".to_owned())];
        let check = |text: &str, expected: &str| assert_eq!(expand(text, &env), expected, "{text}");
        check("x$(A)y", "x1y");
        check("$(B)", "$(B)");
        check("$$(A)", "$(A)");
        check("$A $", "$A $");
        check("$(A", "$(A");
    }
}
