//! What does a bootstrap file say of a control plane?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use naru_spec::{Admin, Invalid, Overload, Path};

use super::known::{Held, Stamps};
use super::refer::{self, Gathered};
use crate::findings::{Findings, code};
use crate::proto::{bootstrap, core, tls};

/// What a proxy says of itself that takes virtual hosts by themselves, all those of a table that it asks for (VHDS).
pub const HOSTS_APART: &str = "naru.virtual_hosts";

/// Whom a proxy asks, and how.
#[derive(Clone, Debug)]
pub struct Consulted {
    /// The static cluster that it is in.
    pub cluster: String,
    /// What requests call it; the name of the cluster where nothing is said.
    pub authority: String,
    /// Told with each stream; they may be secrets.
    pub metadata: Vec<(HeaderName, HeaderValue)>,
    pub is_delta: bool,
    /// Who asks is said in the first message of a stream only.
    pub is_node_said_once: bool,
}

/// A bootstrap file whose resources, or some of them, come from elsewhere.
#[derive(Clone, Debug)]
pub struct Dynamic {
    pub control_plane: Option<Consulted>,
    pub(super) node: core::Node,
    pub(super) admin: Option<Admin>,
    pub(super) overload: Option<Overload>,
    pub(super) statics: Statics,
    /// How long the first clusters and listeners are waited for; `None` where they are not asked for at all.
    pub(super) clusters: Option<Option<Duration>>,
    pub(super) listeners: Option<Option<Duration>>,
}

/// What stands in the file itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Statics {
    pub clusters: Vec<Arc<Held>>,
    pub listeners: Vec<Arc<Held>>,
    pub secrets: BTreeMap<String, tls::Secret>,
}

impl Dynamic {
    /// `None` where all there is stands in the file.
    pub(crate) fn read(
        said: &bootstrap::Bootstrap,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Dynamic> {
        let resources = said.static_resources.clone().unwrap_or_default();
        let mut gathered = Gathered::default();
        for listener in &resources.listeners {
            refer::listener(listener, &mut gathered);
        }
        for cluster in &resources.clusters {
            refer::cluster(cluster, &mut gathered);
        }
        let dynamic = said.dynamic_resources.as_ref();
        let is_asked = dynamic.is_some_and(|said| said.ads_config.is_some());
        let from = dynamic.cloned().unwrap_or_default();
        let of_dynamic = path.field("dynamic_resources");
        let of_ads = of_dynamic.field("ads_config");
        let all = gathered.routes.iter().chain(&gathered.endpoints).chain(&gathered.secrets);
        let has_references = all.clone().next().is_some();
        let mut needs: Vec<&str> = all.filter(|one| one.is_by_ads).map(|one| one.name.as_str()).collect();
        for (field, source) in [("cds_config", &from.cds_config), ("lds_config", &from.lds_config)] {
            if let Some(source) = source {
                needs.push(field);
                check_source(source, &of_dynamic.field(field), findings);
            }
        }
        if let Some(first) = needs.first().filter(|_| !is_asked) {
            let text = format!("'{first}' is to come from a control plane, and none is named");
            findings.missing(&of_ads, text);
        }
        let secrets: BTreeMap<String, tls::Secret> =
            resources.secrets.iter().map(|secret| (secret.name.clone(), secret.clone())).collect();
        for reference in gathered.secrets.iter().filter(|one| !one.is_by_ads) {
            if !secrets.contains_key(&reference.name) {
                let text = format!("there is no secret '{}' in static_resources.secrets", reference.name);
                let hint = "define it there, or say where it comes from: sds_config";
                findings.error(&path.field("static_resources.secrets"), code::INVALID_VALUE, text, hint);
            }
        }
        if !has_references && !is_asked {
            return None;
        }
        let control_plane =
            from.ads_config.as_ref().map(|ads| control_plane(ads, said, &resources, &of_ads, findings));
        Some(Dynamic {
            control_plane,
            node: node(said),
            admin: None,
            overload: None,
            statics: Statics { secrets, ..Statics::default() },
            clusters: from.cds_config.as_ref().map(|source| refer::fetch_timeout(Some(source))),
            listeners: from.lds_config.as_ref().map(|source| refer::fetch_timeout(Some(source))),
        })
    }

    /// What the file says itself, once it has been found to be right.
    pub(crate) fn keep(
        &mut self,
        said: &bootstrap::Bootstrap,
        config: &naru_spec::Config,
        stamps: &mut Stamps,
    ) {
        let resources = said.static_resources.clone().unwrap_or_default();
        self.admin.clone_from(&config.admin);
        self.overload.clone_from(&config.overload);
        self.statics.listeners =
            resources.listeners.iter().map(|said| Arc::new(Held::listener(said, stamps))).collect();
        self.statics.clusters =
            resources.clusters.iter().map(|said| Arc::new(Held::cluster(said, stamps))).collect();
    }

    /// The same file with harmless stand-ins for what is to come, so that what it says itself can be looked at.
    pub(crate) fn filled(&self, said: &bootstrap::Bootstrap) -> bootstrap::Bootstrap {
        let mut whole = said.clone();
        let mut gathered = Gathered::default();
        if let Some(resources) = &mut whole.static_resources {
            for listener in &mut resources.listeners {
                *listener = refer::listener(listener, &mut gathered);
            }
            for cluster in &mut resources.clusters {
                *cluster = refer::cluster(cluster, &mut gathered);
            }
        }
        whole
    }

    /// What a proxy is called, for whoever keeps something for it.
    pub fn node_id(&self) -> &str {
        &self.node.id
    }
}

fn control_plane(
    ads: &core::ApiConfigSource,
    said: &bootstrap::Bootstrap,
    resources: &bootstrap::bootstrap::StaticResources,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Consulted {
    use core::api_config_source::ApiType;
    use core::grpc_service::TargetSpecifier;
    let is_delta = match ads.api_type() {
        ApiType::Grpc => false,
        ApiType::DeltaGrpc => true,
        other => {
            let text = format!("naru asks a control plane by gRPC, and not by {}", other.as_str_name());
            findings.unsupported_value(&path.field("api_type"), text, "GRPC or DELTA_GRPC");
            false
        }
    };
    if ads.transport_api_version() != core::ApiVersion::V3 {
        let text = "naru speaks version 3 only";
        findings.unsupported_value(&path.field("transport_api_version"), text, "transport_api_version: V3");
    }
    let services = path.field("grpc_services");
    if ads.grpc_services.len() > 1 {
        let text = "one control plane is asked; a cluster may have several endpoints";
        findings.unsupported_value(&services.at(1), text, "");
    }
    let path = services.at(0);
    let grpc = ads.grpc_services.first().cloned().unwrap_or_default();
    if grpc.timeout.is_some() {
        let text = "a stream of a control plane has no timeout";
        findings.warning(&path.field("timeout"), code::NO_EFFECT, text, "");
    }
    let (cluster, authority) = match &grpc.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(said)) => (said.cluster_name.clone(), said.authority.clone()),
        // Told as not supported.
        Some(TargetSpecifier::GoogleGrpc(_)) => (String::new(), String::new()),
        None => {
            findings.missing(&services, "it is to be said who is asked: envoy_grpc.cluster_name");
            (String::new(), String::new())
        }
    };
    let static_one = resources.clusters.iter().find(|known| known.name == cluster);
    let of_cluster = path.field("envoy_grpc.cluster_name");
    match static_one {
        Some(known) if refer::endpoints_of(known).is_some() => {
            let text = format!("the endpoints of '{cluster}' would come from the control plane itself");
            findings.invalid(&of_cluster, Invalid::new(text).hint("use a cluster of another type than EDS"));
        }
        Some(_) => {}
        None if cluster.is_empty() => {}
        None => {
            let text = format!("there is no cluster '{cluster}' in static_resources");
            findings.error(
                &of_cluster,
                code::UNKNOWN_CLUSTER,
                text,
                "the control plane's cluster stands in the file",
            );
        }
    }
    let mut metadata = Vec::new();
    let listed = path.field("initial_metadata");
    for (at, said) in grpc.initial_metadata.iter().enumerate() {
        let pair = (HeaderName::try_from(&said.key), HeaderValue::try_from(&said.value));
        let (Ok(name), Ok(mut value)) = pair else {
            findings.invalid(&listed.at(at), Invalid::new("it cannot be a header"));
            continue;
        };
        value.set_sensitive(true);
        metadata.push((name, value));
    }
    let node = said.node.as_ref();
    for (field, is_said) in [
        ("node.id", node.is_some_and(|node| !node.id.is_empty())),
        ("node.cluster", node.is_some_and(|node| !node.cluster.is_empty())),
    ] {
        if !is_said {
            findings.missing(
                &Path::ROOT.field(field),
                "a control plane is told who asks: node.id and node.cluster",
            );
        }
    }
    let authority = if authority.is_empty() { cluster.clone() } else { authority };
    Consulted {
        cluster,
        authority,
        metadata,
        is_delta,
        is_node_said_once: ads.set_node_on_first_message_only,
    }
}

/// Where resources come from that come by a control plane; other sources are told as not supported.
pub(super) fn check_source(said: &core::ConfigSource, path: &Path<'_>, findings: &mut Findings<'_>) {
    use core::config_source::ConfigSourceSpecifier;
    match said.config_source_specifier {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => {}
        // Told as not supported.
        Some(_) => {}
        None => findings.missing(path, "it is to be said where resources come from: ads: {}"),
    }
}

fn node(said: &bootstrap::Bootstrap) -> core::Node {
    let mut node = said.node.clone().unwrap_or_default();
    "naru".clone_into(&mut node.user_agent_name);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    // A control plane that knows this sends one virtual host where one has changed.
    if !node.client_features.iter().any(|said| said == HOSTS_APART) {
        node.client_features.push(HOSTS_APART.to_owned());
    }
    node.user_agent_version_type = Some(core::node::UserAgentVersionType::UserAgentVersion(version));
    node
}
