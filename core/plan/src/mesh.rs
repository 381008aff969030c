//! What holds for all of a mesh where no document says otherwise: Istio's `MeshConfig`.
//!
//! Comes in: every document that says something of it. Goes out: one setting of each, which listeners, routes and
//! clusters begin with. Of two that say the same thing differently both are named.

use std::time::Duration;

use naru_resource::destination_rule::{
    ConnectionPool, H2Upgrade, LocalityLoadBalancer, OutlierDetection, TcpKeepalive,
};
use naru_resource::mesh_config::{GatewayTopology, MeshConfig, Normalization};
use naru_resource::sidecar::OutboundMode;
use naru_resource::virtual_service::HttpRetry;
use naru_resource::{Number, Place, Placed, Resources, Text, Texts};
use naru_spec::{
    AccessLog, DnsSettings, EscapedSlashes, Format, ForwardClientCert, Http, JsonField, LogFormat, LogSink,
    Path, Paths, code, defaults,
};

use crate::findings::Findings;
use crate::mutual::{MeshIdentity, Mutual};
use crate::policies::{check_detection, check_pool};
use crate::recovery::retry_of;
use crate::sidecars::mode_of;

pub(crate) const ROOT_NAMESPACE: &str = "istio-system";

/// Istio's, where only a file is named.
const LOG_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% \
%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

#[derive(Clone, Debug)]
pub(crate) struct Mesh<'a> {
    pub root_namespace: &'a str,
    pub outbound: OutboundMode,
    pub paths: Paths,
    pub retry: Option<&'a HttpRetry>,
    pub clusters: OfClusters<'a>,
    pub exports: Exports<'a>,
    /// In place of what the process was started with.
    pub access_log: Option<Vec<AccessLog>>,
    pub drain: Option<Duration>,
    trusted_hops: Option<u32>,
    client_certificates: Option<ForwardClientCert>,
}

/// What clusters begin with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfClusters<'a> {
    pub locality: Option<&'a LocalityLoadBalancer>,
    pub connect_timeout: Duration,
    pub tcp_keepalive: Option<&'a TcpKeepalive>,
    pub upgrades_to_http2: bool,
    pub dns: DnsSettings,
    pub mutual: Mutual<'a>,
    /// Where no rule says anything of it.
    pub pool: Option<&'a ConnectionPool>,
    pub detection: Option<&'a OutlierDetection>,
}

impl Default for OfClusters<'_> {
    fn default() -> Self {
        OfClusters {
            locality: None,
            connect_timeout: defaults::MESH_CONNECT_TIMEOUT,
            tcp_keepalive: None,
            upgrades_to_http2: false,
            dns: DnsSettings::default(),
            mutual: Mutual::default(),
            pool: None,
            detection: None,
        }
    }
}

/// Who sees documents that do not say it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exports<'a> {
    pub services: &'a [Text],
    pub virtual_services: &'a [Text],
    pub destination_rules: &'a [Text],
}

/// What is said, or else what holds for the mesh.
pub(crate) fn or<'a>(said: &'a Texts, default: &'a [Text]) -> &'a [Text] {
    if said.is_empty() { default } else { said }
}

impl Default for Mesh<'_> {
    fn default() -> Self {
        Mesh {
            root_namespace: ROOT_NAMESPACE,
            outbound: OutboundMode::AllowAny,
            paths: Paths::BASE,
            retry: None,
            clusters: OfClusters::default(),
            exports: Exports::default(),
            access_log: None,
            drain: None,
            trusted_hops: None,
            client_certificates: None,
        }
    }
}

impl<'a> Mesh<'a> {
    /// `identity` is what this proxy shows to others.
    pub fn of(
        resources: &'a Resources,
        identity: Option<&'a MeshIdentity>,
        findings: &mut Findings<'_>,
    ) -> Mesh<'a> {
        let mut mesh = Mesh::default();
        let mut said = Said { configs: &resources.mesh_configs, findings };
        if let Some(namespace) = said.of("rootNamespace", |config| placed(&config.root_namespace)) {
            mesh.root_namespace = namespace;
        }
        let domain = said.of("trustDomain", |config| placed(&config.trust_domain).map(|said| (said, said.1)));
        let domain = domain.filter(|(domain, _)| !domain.is_empty());
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
        if let Some((domain, place)) = domain.filter(|(domain, _)| !domain.bytes().all(is_part)) {
            let message = format!("'{domain}' is no trust domain");
            let hint = "a-z, 0-9, -, . and _, as in the name of a host";
            said.findings.error(code::INVALID_VALUE, place, &Path::ROOT.field("trustDomain"), message, hint);
        }
        let domain = domain.map(|(domain, _)| domain);
        let aliases = said.list("trustDomainAliases", |config| &config.trust_domain_aliases);
        mesh.clusters.mutual = Mutual::new(identity, domain, aliases);
        let policy = said.of("outboundTrafficPolicy", |config| {
            config.outbound_traffic_policy.as_ref().map(|policy| (policy, policy.place))
        });
        if let Some(policy) = policy {
            mesh.outbound = mode_of(policy);
            if let Some(proxy) = &policy.egress_proxy {
                let message = "a way out is said by a Sidecar";
                let path = Path::ROOT.field("outboundTrafficPolicy.egressProxy");
                said.findings.error(code::UNSUPPORTED_FIELD, proxy.place, &path, message, "");
            }
        }
        let paths = said.of("pathNormalization", |config| {
            let said = config.path_normalization.as_ref()?.normalization?;
            Some((said.value, said.place))
        });
        mesh.paths = paths.map_or(Paths::BASE, paths_of);
        mesh.retry = said.of("defaultHttpRetryPolicy", |config| {
            config.default_http_retry_policy.as_ref().map(|retry| (retry, retry.place))
        });
        // What is wrong with it is told once, and not of each route.
        retry_of(mesh.retry, false, &Path::ROOT.field("defaultHttpRetryPolicy"), said.findings);
        let clusters = &mut mesh.clusters;
        clusters.locality = said.of("localityLbSetting", |config| {
            config.locality_lb_setting.as_ref().map(|setting| (setting, setting.place))
        });
        clusters.pool = said.of("defaultTrafficPolicy.connectionPool", |config| {
            let pool = config.default_traffic_policy.as_ref()?.connection_pool.as_ref()?;
            Some((pool, pool.place))
        });
        clusters.detection = said.of("defaultTrafficPolicy.outlierDetection", |config| {
            let detection = config.default_traffic_policy.as_ref()?.outlier_detection.as_ref()?;
            Some((detection, detection.place))
        });
        let path = Path::ROOT.field("defaultTrafficPolicy");
        if let Some(pool) = clusters.pool {
            check_pool(pool, &path.field("connectionPool"), said.findings);
        }
        if let Some(detection) = clusters.detection {
            check_detection(detection, &path, said.findings);
        }
        if let Some(timeout) = said.of("connectTimeout", |config| scalar(&config.connect_timeout)) {
            clusters.connect_timeout = timeout;
        }
        clusters.tcp_keepalive = said.of("tcpKeepalive", |config| {
            config.tcp_keepalive.as_ref().map(|keepalive| (keepalive, keepalive.place))
        });
        let upgrade = said.of("h2UpgradePolicy", |config| scalar(&config.h2_upgrade_policy));
        clusters.upgrades_to_http2 = upgrade == Some(H2Upgrade::Upgrade);
        if let Some(rate) = said.of("dnsRefreshRate", |config| scalar(&config.dns_refresh_rate))
            && !rate.is_zero()
        {
            clusters.dns.refresh = rate;
        }
        mesh.exports = Exports {
            services: said.list("defaultServiceExportTo", |config| &config.default_service_export_to),
            virtual_services: said
                .list("defaultVirtualServiceExportTo", |config| &config.default_virtual_service_export_to),
            destination_rules: said
                .list("defaultDestinationRuleExportTo", |config| &config.default_destination_rule_export_to),
        };
        mesh.access_log = access_log(&mut said);
        mesh.drain = said.of("defaultConfig.drainDuration", |config| {
            scalar(&config.default_config.as_ref()?.drain_duration)
        });
        topology(&mut mesh, &mut said);
        mesh
    }

    /// What it says of listeners of gateways; a policy of a Gateway goes before it.
    pub fn at_gateway(&self, http: &mut Http) {
        self.at_listener(http);
        if let Some(hops) = self.trusted_hops {
            http.xff_num_trusted_hops = hops;
        }
        if let Some(forward) = self.client_certificates {
            http.forward_client_cert = forward;
        }
    }

    pub fn at_listener(&self, http: &mut Http) {
        http.paths = self.paths;
        if let Some(log) = &self.access_log {
            http.access_log.clone_from(log);
        }
        if let Some(drain) = self.drain {
            http.drain_timeout = drain;
        }
    }

    /// What connections that are passed through are logged by.
    pub fn log(&self, otherwise: &[AccessLog]) -> Vec<AccessLog> {
        self.access_log.clone().unwrap_or_else(|| otherwise.to_vec())
    }
}

/// All that is said of a mesh.
struct Said<'a, 'f, 'r> {
    configs: &'a [MeshConfig],
    findings: &'f mut Findings<'r>,
}

impl<'a> Said<'a, '_, '_> {
    /// The first that is said. A second one is an error.
    fn of<T>(&mut self, field: &str, read: impl Fn(&'a MeshConfig) -> Option<(T, Place)>) -> Option<T> {
        let mut all = self.configs.iter().filter_map(read);
        let (value, first) = all.next()?;
        if let Some((_, second)) = all.next() {
            let message = format!("'{field}' of the mesh is said twice");
            let hint = format!("the other is at {}", self.findings.locate(first));
            self.findings.error(code::CONFLICT, second, &Path::ROOT.field(field), message, hint);
        }
        Some(value)
    }

    fn list(&mut self, field: &str, read: impl Fn(&'a MeshConfig) -> &'a Texts) -> &'a [Text] {
        let found = self.of(field, |config| {
            let list = read(config);
            list.first().map(|first| (list.as_slice(), first.place))
        });
        found.unwrap_or(&[])
    }
}

fn placed(said: &Option<Text>) -> Option<(&str, Place)> {
    said.as_ref().map(|said| (said.value.as_str(), said.place))
}

fn scalar<T: Copy>(said: &Option<Placed<T>>) -> Option<(T, Place)> {
    said.map(|said| (said.value, said.place))
}

fn paths_of(said: Normalization) -> Paths {
    match said {
        Normalization::None => Paths::NONE,
        Normalization::Default | Normalization::Base => Paths::BASE,
        Normalization::MergeSlashes => Paths { merge_slashes: true, ..Paths::BASE },
        Normalization::DecodeAndMergeSlashes => {
            Paths { merge_slashes: true, escaped_slashes: EscapedSlashes::Forward, ..Paths::BASE }
        }
    }
}

/// Istio's: nothing where no file is named.
fn access_log(said: &mut Said<'_, '_, '_>) -> Option<Vec<AccessLog>> {
    let format = said.of("accessLogFormat", |config| {
        config.access_log_format.as_ref().map(|format| (format, format.place))
    });
    let encoding =
        said.of("accessLogEncoding", |config| placed(&config.access_log_encoding).map(|e| (e, e.1)));
    let is_json = match encoding {
        None | Some(("TEXT", _)) => false,
        Some(("JSON", _)) => true,
        Some((other, place)) => {
            let message = format!("'{other}' is no encoding of a log");
            let path = Path::ROOT.field("accessLogEncoding");
            said.findings.error(code::UNKNOWN_VALUE, place, &path, message, "TEXT or JSON");
            false
        }
    };
    let file = said.of("accessLogFile", |config| placed(&config.access_log_file));
    let Some(file) = file else {
        if let Some(format) = format {
            let path = Path::ROOT.field("accessLogFormat");
            let message = "nothing is logged in this form: 'accessLogFile' is not said";
            said.findings.warning(
                code::NO_EFFECT,
                format.place,
                &path,
                message,
                "accessLogFile: /dev/stdout",
            );
        }
        return None;
    };
    let sink = match file {
        "" => return Some(Vec::new()),
        "/dev/stdout" => LogSink::Stdout,
        "/dev/stderr" => LogSink::Stderr,
        file => LogSink::File(file.to_owned()),
    };
    let mut read = |text: &str, place: Place| match Format::parse(text) {
        Ok(format) => Some(format),
        Err(invalid) => {
            let path = Path::ROOT.field("accessLogFormat");
            said.findings.error(code::INVALID_VALUE, place, &path, invalid.message, invalid.hint);
            None
        }
    };
    let place = format.map_or(Place::default(), |format| format.place);
    let format = if is_json {
        let fields = match format {
            Some(format) => {
                format.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
            }
            None => JSON_FIELDS.to_vec(),
        };
        let fields: Option<Vec<_>> = fields
            .into_iter()
            .map(|(name, value)| Some((name.to_owned(), JsonField::Value(read(value, place)?))))
            .collect();
        LogFormat::Json(fields?)
    } else {
        let text = format.map(|format| format.text.as_str()).filter(|text| !text.is_empty());
        let mut text = text.unwrap_or(LOG_FORMAT).to_owned();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        LogFormat::Text(read(&text, place)?)
    };
    Some(vec![AccessLog { sink, format }])
}

/// Istio's fields of a log in JSON.
const JSON_FIELDS: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
];

fn topology(mesh: &mut Mesh<'_>, said: &mut Said<'_, '_, '_>) {
    let found: Option<&GatewayTopology> = said.of("defaultConfig.gatewayTopology", |config| {
        let topology = config.default_config.as_ref()?.gateway_topology.as_ref()?;
        Some((topology, topology.place))
    });
    let Some(topology) = found else { return };
    let path = Path::ROOT.field("defaultConfig.gatewayTopology");
    mesh.trusted_hops = topology.num_trusted_proxies.as_ref().and_then(|number: &Number| {
        let hops = u32::try_from(number.value).ok();
        if hops.is_none() {
            let message = format!("{} cannot be a number of proxies", number.value);
            let path = path.field("numTrustedProxies");
            said.findings.error(code::INVALID_VALUE, number.place, &path, message, "");
        }
        hops
    });
    mesh.client_certificates = topology.forward_client_cert_details.as_ref().and_then(|word| {
        let found = match word.as_str() {
            "UNDEFINED" | "SANITIZE" => Some(ForwardClientCert::Sanitize),
            "FORWARD_ONLY" => Some(ForwardClientCert::ForwardOnly),
            "APPEND_FORWARD" => Some(ForwardClientCert::AppendForward),
            "SANITIZE_SET" => Some(ForwardClientCert::SanitizeSet),
            "ALWAYS_FORWARD_ONLY" => Some(ForwardClientCert::AlwaysForwardOnly),
            _ => None,
        };
        if found.is_none() {
            let message = format!("'{}' is not known here", word.value);
            let hint = "one of SANITIZE, FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET, ALWAYS_FORWARD_ONLY";
            let path = path.field("forwardClientCertDetails");
            said.findings.error(code::UNKNOWN_VALUE, word.place, &path, message, hint);
        }
        found
    });
}
