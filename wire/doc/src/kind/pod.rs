//! Kubernetes' `Deployment`, down to its containers.

use naru_resource::deployment as pod;
use naru_spec::{Path, code};

use crate::kind::document;
use crate::read::{Fields, Read, Reader, record};
use crate::tree::{Kind, Node};

document!(pod::Deployment { spec: "spec" });

/// How Kubernetes replaces pods; naru has one way.
const DEPLOYMENT_BESIDE: &[&str] =
    &["minReadySeconds", "paused", "progressDeadlineSeconds", "revisionHistoryLimit", "strategy"];

impl Read for pod::DeploymentSpec {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let replicas = fields.take("replicas", reader);
        let selector = fields.take("selector", reader);
        let template = fields.take("template", reader);
        fields.pass_by(DEPLOYMENT_BESIDE, reader);
        fields.finish(reader);
        Some(pod::DeploymentSpec { place, replicas: replicas?, selector: selector?, template: template? })
    }
}

record!(pod::PodTemplate { meta: "metadata", spec: "spec" });

impl Read for pod::PodMeta {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let labels = fields.take("labels", reader);
        let annotations = fields.take("annotations", reader);
        fields.pass_by(&["creationTimestamp", "name", "namespace"], reader);
        fields.finish(reader);
        Some(pod::PodMeta { place, labels: labels?, annotations: annotations? })
    }
}

const POD_BESIDE: &[&str] = &[
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "imagePullSecrets",
    "nodeName",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];

impl Read for pod::PodSpec {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let containers = fields.take("containers", reader);
        let init_containers = fields.take("initContainers", reader);
        let grace = fields.take("terminationGracePeriodSeconds", reader);
        let elsewhere = fields.pass_by(POD_BESIDE, reader);
        fields.finish(reader);
        Some(pod::PodSpec {
            place,
            containers: containers?,
            init_containers: init_containers?,
            termination_grace_period_seconds: grace?,
            elsewhere,
        })
    }
}

const CONTAINER_BESIDE: &[&str] = &[
    "imagePullPolicy",
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "securityContext",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
];

impl Read for pod::Container {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let name = fields.take("name", reader);
        let image = fields.take("image", reader);
        let command = fields.take("command", reader);
        let args = fields.take("args", reader);
        let working_dir = fields.take("workingDir", reader);
        let env = fields.take("env", reader);
        let env_from = fields.take("envFrom", reader);
        let ports = fields.take("ports", reader);
        let resources = fields.take("resources", reader);
        let readiness_probe = fields.take("readinessProbe", reader);
        let liveness_probe = fields.take("livenessProbe", reader);
        let startup_probe = fields.take("startupProbe", reader);
        let elsewhere = fields.pass_by(CONTAINER_BESIDE, reader);
        fields.finish(reader);
        Some(pod::Container {
            place,
            name: name?,
            image: image?,
            command: command?,
            args: args?,
            working_dir: working_dir?,
            env: env?,
            env_from: env_from?,
            ports: ports?,
            resources: resources?,
            readiness_probe: readiness_probe?,
            liveness_probe: liveness_probe?,
            startup_probe: startup_probe?,
            elsewhere,
        })
    }
}

record!(pod::EnvVar { name: "name", value: "value", value_from: "valueFrom" });
record!(pod::EnvSource {
    config_map_key_ref: "configMapKeyRef",
    secret_key_ref: "secretKeyRef",
    field_ref: "fieldRef",
    resource_field_ref: "resourceFieldRef",
});
record!(pod::KeyRef { name: "name", key: "key", optional: "optional" });
record!(pod::FieldRef { field_path: "fieldPath", api_version: "apiVersion" });
record!(pod::EnvFrom { prefix: "prefix", config_map_ref: "configMapRef", secret_ref: "secretRef" });
record!(pod::NameRef { name: "name", optional: "optional" });

impl Read for pod::ContainerPort {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let name = fields.take("name", reader);
        let container_port = fields.take("containerPort", reader);
        let protocol = fields.take("protocol", reader);
        fields.pass_by(&["hostIP", "hostPort"], reader);
        fields.finish(reader);
        Some(pod::ContainerPort { place, name: name?, container_port: container_port?, protocol: protocol? })
    }
}

impl Read for pod::ResourceRequirements {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let limits = fields.take("limits", reader);
        let requests = fields.take("requests", reader);
        fields.pass_by(&["claims"], reader);
        fields.finish(reader);
        Some(pod::ResourceRequirements { place, limits: limits?, requests: requests? })
    }
}

impl Read for pod::Quantity {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = match &node.kind {
            Kind::Text(text) => text.clone(),
            Kind::Integer(number) => number.to_string(),
            Kind::Float(number) => number.to_string(),
            _ => {
                reader.wrong_type(node, path, "an amount");
                return None;
            }
        };
        let thousandths = quantity(&text);
        if thousandths.is_none() {
            let message = format!("'{text}' is not an amount");
            let hint = "write 500m, 2, 512Mi, 1G";
            reader.error(code::INVALID_VALUE, node.position, path, message, hint);
        }
        Some(pod::Quantity { place: reader.place(node.position), thousandths: thousandths? })
    }
}

/// Kubernetes' quantities, without a sign, in thousandths; what is smaller is rounded up.
fn quantity(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (numerator, denominator): (u128, u128) = match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1_000),
        "m" => (1, 1),
        "" => (1_000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "Ki" => (1_000 << 10, 1),
        "Mi" => (1_000 << 20, 1),
        "Gi" => (1_000 << 30, 1),
        "Ti" => (1_000 << 40, 1),
        exponent => {
            let exponent = exponent.strip_prefix(['e', 'E'])?;
            (1_000_u128.checked_mul(10_u128.checked_pow(exponent.parse().ok()?)?)?, 1)
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.pow(fraction.len() as u32);
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let value = whole.checked_mul(scale)?.checked_add(fraction)?.checked_mul(numerator)?;
    Some(value.div_ceil(scale * denominator))
}

record!(pod::Probe {
    http_get: "httpGet",
    tcp_socket: "tcpSocket",
    exec: "exec",
    grpc: "grpc",
    initial_delay_seconds: "initialDelaySeconds",
    timeout_seconds: "timeoutSeconds",
    period_seconds: "periodSeconds",
    success_threshold: "successThreshold",
    failure_threshold: "failureThreshold",
    termination_grace_period_seconds: "terminationGracePeriodSeconds",
});
record!(pod::HttpGet {
    path: "path",
    port: "port",
    host: "host",
    scheme: "scheme",
    http_headers: "httpHeaders",
});
record!(pod::HttpHeader { name: "name", value: "value" });
record!(pod::TcpSocket { port: "port", host: "host" });
record!(pod::Exec { command: "command" });
record!(pod::Grpc { port: "port", service: "service" });

impl Read for pod::Unread {
    fn read(node: &Node, _path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        Some(pod::Unread { place: reader.place(node.position) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        let check = |text: &str, expected: Option<u128>| assert_eq!(quantity(text), expected, "{text}");
        check("500m", Some(500));
        check("0.5", Some(500));
        check("2", Some(2_000));
        check("1.5G", Some(1_500_000_000_000));
        check("64Mi", Some(64 * 1_024 * 1_024 * 1_000));
        check("1e3", Some(1_000_000));
        check("100n", Some(1));
        check("0", Some(0));
        for wrong in ["", "m", "1 G", "1GB", "-1", "1.2.3", "1e999", "0.1234567891"] {
            check(wrong, None);
        }
    }
}
