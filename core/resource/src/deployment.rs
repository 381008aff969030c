//! Kubernetes' `Deployment`: which processes run, and how many of each.

use crate::service::PortRef;
use crate::{Flag, Meta, Number, Place, Placed, Text, Texts};

objects! {
    Deployment {
        meta: Meta,
        spec: DeploymentSpec,
    }

    DeploymentSpec {
        replicas: Option<Number>,
        selector: Option<LabelSelector>,
        template: PodTemplate,
    }

    LabelSelector {
        match_labels: Vec<(Text, Text)>,
    }

    PodTemplate {
        meta: Option<PodMeta>,
        spec: PodSpec,
    }

    PodMeta {
        labels: Vec<(Text, Text)>,
        annotations: Vec<(Text, Text)>,
    }

    PodSpec {
        containers: Vec<Container>,
        init_containers: Vec<Container>,
        termination_grace_period_seconds: Option<Number>,
        /// Names and places of what concerns Kubernetes only.
        elsewhere: Texts,
    }

    Container {
        name: Text,
        image: Option<Text>,
        command: Texts,
        args: Texts,
        working_dir: Option<Text>,
        env: Vec<EnvVar>,
        env_from: Vec<EnvFrom>,
        ports: Vec<ContainerPort>,
        resources: Option<ResourceRequirements>,
        readiness_probe: Option<Probe>,
        liveness_probe: Option<Probe>,
        startup_probe: Option<Probe>,
        elsewhere: Texts,
    }

    EnvVar {
        name: Text,
        value: Option<Text>,
        value_from: Option<EnvSource>,
    }

    EnvSource {
        config_map_key_ref: Option<KeyRef>,
        secret_key_ref: Option<KeyRef>,
        field_ref: Option<FieldRef>,
        resource_field_ref: Option<Unread>,
    }

    KeyRef {
        name: Text,
        key: Text,
        optional: Option<Flag>,
    }

    FieldRef {
        field_path: Text,
        api_version: Option<Text>,
    }

    EnvFrom {
        prefix: Option<Text>,
        config_map_ref: Option<NameRef>,
        secret_ref: Option<NameRef>,
    }

    NameRef {
        name: Text,
        optional: Option<Flag>,
    }

    ContainerPort {
        name: Option<Text>,
        container_port: Number,
        protocol: Option<Text>,
    }

    ResourceRequirements {
        limits: Vec<(Text, Quantity)>,
        requests: Vec<(Text, Quantity)>,
    }

    /// An amount in thousandths: `500m` is 500, `64Mi` is 67,108,864,000.
    Quantity {
        thousandths: u128,
    }

    Probe {
        http_get: Option<HttpGet>,
        tcp_socket: Option<TcpSocket>,
        exec: Option<Exec>,
        grpc: Option<Grpc>,
        initial_delay_seconds: Option<Number>,
        timeout_seconds: Option<Number>,
        period_seconds: Option<Number>,
        success_threshold: Option<Number>,
        failure_threshold: Option<Number>,
        termination_grace_period_seconds: Option<Number>,
    }

    HttpGet {
        path: Option<Text>,
        port: Placed<PortRef>,
        host: Option<Text>,
        scheme: Option<Text>,
        http_headers: Vec<HttpHeader>,
    }

    HttpHeader {
        name: Text,
        value: Text,
    }

    TcpSocket {
        port: Placed<PortRef>,
        host: Option<Text>,
    }

    Exec {
        command: Texts,
    }

    Grpc {
        port: Number,
        service: Option<Text>,
    }

    /// Something that is only known to be there.
    Unread {}
}
