//! Istio's `DestinationRule`: how a service is called, and which parts of it have names.

use crate::{Flag, Meta, Number, Place, Placed, Seconds, Text, Texts};

objects! {
    DestinationRule {
        meta: Meta,
        spec: DestinationRuleSpec,
    }

    DestinationRuleSpec {
        host: Text,
        traffic_policy: Option<TrafficPolicy>,
        subsets: Vec<Subset>,
        export_to: Texts,
        workload_selector: Option<WorkloadSelector>,
    }

    WorkloadSelector {
        match_labels: Vec<(Text, Text)>,
    }

    Subset {
        name: Text,
        labels: Vec<(Text, Text)>,
        traffic_policy: Option<TrafficPolicy>,
    }

    TrafficPolicy {
        load_balancer: Option<LoadBalancer>,
        connection_pool: Option<ConnectionPool>,
        outlier_detection: Option<OutlierDetection>,
        tls: Option<ClientTls>,
        port_level_settings: Vec<PortPolicy>,
        tunnel: Option<Tunnel>,
        proxy_protocol: Option<ProxyProtocol>,
        retry_budget: Option<RetryBudget>,
    }

    PortPolicy {
        port: Option<super::virtual_service::PortSelector>,
        load_balancer: Option<LoadBalancer>,
        connection_pool: Option<ConnectionPool>,
        outlier_detection: Option<OutlierDetection>,
        tls: Option<ClientTls>,
    }

    LoadBalancer {
        simple: Option<Placed<SimpleLoadBalancer>>,
        consistent_hash: Option<ConsistentHash>,
        locality_lb_setting: Option<LocalityLoadBalancer>,
        warmup_duration_secs: Option<Seconds>,
        warmup: Option<Warmup>,
    }

    ConsistentHash {
        http_header_name: Option<Text>,
        http_cookie: Option<HttpCookie>,
        use_source_ip: Option<Flag>,
        http_query_parameter_name: Option<Text>,
        ring_hash: Option<RingHash>,
        maglev: Option<Maglev>,
        minimum_ring_size: Option<Number>,
    }

    HttpCookie {
        name: Text,
        path: Option<Text>,
        ttl: Option<Seconds>,
        attributes: Vec<CookieAttribute>,
    }

    CookieAttribute {
        name: Text,
        value: Option<Text>,
    }

    RingHash {
        minimum_ring_size: Option<Number>,
    }

    Maglev {
        table_size: Option<Number>,
    }

    LocalityLoadBalancer {
        enabled: Option<Flag>,
        distribute: Vec<Distribute>,
        failover: Vec<Failover>,
        failover_priority: Texts,
    }

    Distribute {
        from: Text,
        to: Vec<(Text, Number)>,
    }

    Failover {
        from: Text,
        to: Text,
    }

    Warmup {
        duration: Seconds,
        minimum_percent: Option<Placed<f64>>,
        aggression: Option<Placed<f64>>,
    }

    ConnectionPool {
        tcp: Option<TcpPool>,
        http: Option<HttpPool>,
    }

    TcpPool {
        max_connections: Option<Number>,
        connect_timeout: Option<Seconds>,
        tcp_keepalive: Option<TcpKeepalive>,
        max_connection_duration: Option<Seconds>,
        idle_timeout: Option<Seconds>,
    }

    TcpKeepalive {
        probes: Option<Number>,
        time: Option<Seconds>,
        interval: Option<Seconds>,
    }

    HttpPool {
        http1_max_pending_requests: Option<Number>,
        http2_max_requests: Option<Number>,
        max_requests_per_connection: Option<Number>,
        max_retries: Option<Number>,
        idle_timeout: Option<Seconds>,
        h2_upgrade_policy: Option<Placed<H2Upgrade>>,
        use_client_protocol: Option<Flag>,
        max_concurrent_streams: Option<Number>,
        http2_keep_alive: Option<Http2KeepAlive>,
    }

    Http2KeepAlive {
        interval: Option<Seconds>,
        timeout: Option<Seconds>,
    }

    OutlierDetection {
        split_external_local_origin_errors: Option<Flag>,
        consecutive_local_origin_failures: Option<Number>,
        consecutive_gateway_errors: Option<Number>,
        consecutive_5xx_errors: Option<Number>,
        interval: Option<Seconds>,
        base_ejection_time: Option<Seconds>,
        max_ejection_percent: Option<Number>,
        min_health_percent: Option<Number>,
        outlier_detection_http_error_codes: Vec<Number>,
    }

    ClientTls {
        mode: Option<Placed<ClientTlsMode>>,
        client_certificate: Option<Text>,
        private_key: Option<Text>,
        ca_certificates: Option<Text>,
        ca_crl: Option<Text>,
        credential_name: Option<Text>,
        subject_alt_names: Texts,
        sni: Option<Text>,
        insecure_skip_verify: Option<Flag>,
    }

    Tunnel {
        protocol: Option<Text>,
        target_host: Text,
        target_port: Number,
    }

    ProxyProtocol {
        version: Option<Text>,
    }

    RetryBudget {
        percent: Option<Placed<f64>>,
        min_retry_concurrency: Option<Number>,
        budget_interval: Option<Seconds>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimpleLoadBalancer {
    Unspecified,
    LeastRequest,
    RoundRobin,
    Random,
    Passthrough,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H2Upgrade {
    Default,
    DoNotUpgrade,
    Upgrade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTlsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}
