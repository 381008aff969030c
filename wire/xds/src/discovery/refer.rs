//! What does a listener or a cluster name that stands elsewhere, and how is it put in its place?
//!
//! Comes in: a message with references (`rds`, `eds_cluster_config`, secrets by SDS) and whoever has what they name.
//! Goes out: the same message with all of it inline, as a bootstrap file without a control plane would say it, so that
//! it is read as any other. What is not there has a harmless stand-in: so a message can be checked before the rest of
//! it has come.

use std::time::Duration;

use prost::Message as _;

use crate::proto::{Any, cluster, core, endpoint, hcm, listener, quic, route, tls, upstream_proxy_protocol};
use crate::schema::{pack, unpack};

/// How long is waited for what is named, where nothing is said. Envoy's `initial_fetch_timeout`.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Something that stands elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub name: String,
    /// From the control plane; else it is a secret of the bootstrap file.
    pub is_by_ads: bool,
    /// How long it is waited for; `None` is for ever.
    pub timeout: Option<Duration>,
}

impl Reference {
    fn to(name: &str, source: Option<&core::ConfigSource>) -> Reference {
        Reference { name: name.to_owned(), is_by_ads: source.is_some(), timeout: fetch_timeout(source) }
    }
}

/// Of a source of configuration; zero is for ever.
pub(crate) fn fetch_timeout(source: Option<&core::ConfigSource>) -> Option<Duration> {
    let said = source.and_then(|source| source.initial_fetch_timeout.as_ref());
    let said = said.map(|said| {
        let seconds = u64::try_from(said.seconds).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(said.nanos).unwrap_or(0))
    });
    said.map_or(Some(FETCH_TIMEOUT), |said| (!said.is_zero()).then_some(said))
}

/// Whoever has what is named. `None` where it is not there.
pub(crate) trait Shelf {
    fn routes(&mut self, reference: &Reference) -> Option<route::RouteConfiguration>;
    fn endpoints(&mut self, reference: &Reference) -> Option<endpoint::ClusterLoadAssignment>;
    fn certificate(&mut self, reference: &Reference) -> Option<tls::TlsCertificate>;
    fn validation(&mut self, reference: &Reference) -> Option<tls::CertificateValidationContext>;
}

pub(crate) fn listener(said: &listener::Listener, shelf: &mut dyn Shelf) -> listener::Listener {
    let mut whole = said.clone();
    for chain in whole.filter_chains.iter_mut().chain(&mut whole.default_filter_chain) {
        if let Some(socket) = &mut chain.transport_socket {
            secure(socket, shelf);
        }
        for filter in &mut chain.filters {
            let Some(listener::filter::ConfigType::TypedConfig(any)) = &mut filter.config_type else {
                continue;
            };
            if let Some(mut manager) = unpack::<hcm::HttpConnectionManager>(any)
                && inline_routes(&mut manager, shelf)
            {
                *any = pack(&manager);
            }
        }
    }
    whole
}

fn inline_routes(manager: &mut hcm::HttpConnectionManager, shelf: &mut dyn Shelf) -> bool {
    use hcm::http_connection_manager::RouteSpecifier;
    let Some(RouteSpecifier::Rds(said)) = &manager.route_specifier else { return false };
    let reference = Reference::to(&said.route_config_name, said.config_source.as_ref());
    let routes = shelf.routes(&reference);
    let routes =
        routes.unwrap_or_else(|| route::RouteConfiguration { name: reference.name, ..Default::default() });
    manager.route_specifier = Some(RouteSpecifier::RouteConfig(routes));
    true
}

pub(crate) fn cluster(said: &cluster::Cluster, shelf: &mut dyn Shelf) -> cluster::Cluster {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
    let mut whole = said.clone();
    if let Some(socket) = &mut whole.transport_socket {
        secure(socket, shelf);
    }
    if let Some(reference) = endpoints_of(said) {
        let found = shelf.endpoints(&reference);
        whole.load_assignment = Some(found.unwrap_or_else(|| endpoint::ClusterLoadAssignment {
            cluster_name: reference.name,
            ..Default::default()
        }));
        whole.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
        whole.eds_cluster_config = None;
    }
    whole
}

/// What a cluster's endpoints are asked for by, where they are asked for.
pub(crate) fn endpoints_of(said: &cluster::Cluster) -> Option<Reference> {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
    let is_eds = said.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
    let config = said.eds_cluster_config.as_ref().filter(|_| is_eds)?;
    let name = if config.service_name.is_empty() { &said.name } else { &config.service_name };
    Some(Reference::to(name, config.eds_config.as_ref()))
}

fn secure(socket: &mut core::TransportSocket, shelf: &mut dyn Shelf) {
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &mut socket.config_type else { return };
    if let Some(changed) = secured(any, shelf) {
        *any = changed;
    }
}

fn secured(any: &Any, shelf: &mut dyn Shelf) -> Option<Any> {
    if let Some(mut context) = unpack::<tls::UpstreamTlsContext>(any) {
        return inline_secrets(context.common_tls_context.as_mut()?, shelf).then(|| pack(&context));
    }
    if let Some(mut context) = unpack::<tls::DownstreamTlsContext>(any) {
        return inline_secrets(context.common_tls_context.as_mut()?, shelf).then(|| pack(&context));
    }
    if let Some(mut transport) = unpack::<quic::QuicDownstreamTransport>(any) {
        let common = transport.downstream_tls_context.as_mut()?.common_tls_context.as_mut()?;
        return inline_secrets(common, shelf).then(|| pack(&transport));
    }
    let mut wrapped = unpack::<upstream_proxy_protocol::ProxyProtocolUpstreamTransport>(any)?;
    secure(wrapped.transport_socket.as_mut()?, shelf);
    Some(pack(&wrapped))
}

/// Says whether there were any.
fn inline_secrets(common: &mut tls::CommonTlsContext, shelf: &mut dyn Shelf) -> bool {
    use tls::common_tls_context::ValidationContextType;
    let to = |said: &tls::SdsSecretConfig| Reference::to(&said.name, said.sds_config.as_ref());
    let named = std::mem::take(&mut common.tls_certificate_sds_secret_configs);
    for said in &named {
        let found = shelf.certificate(&to(said));
        common.tls_certificates.push(found.unwrap_or_else(|| tls::TlsCertificate {
            certificate_chain: Some(nothing()),
            private_key: Some(nothing()),
            // Whether there is one is asked of what comes.
            ocsp_staple: Some(nothing()),
            ..Default::default()
        }));
    }
    let mut validation = |said: &tls::SdsSecretConfig| {
        let found = shelf.validation(&to(said));
        found.unwrap_or_else(|| tls::CertificateValidationContext {
            trusted_ca: Some(nothing()),
            ..Default::default()
        })
    };
    let found = match &common.validation_context_type {
        Some(ValidationContextType::ValidationContextSdsSecretConfig(said)) => validation(said),
        Some(ValidationContextType::CombinedValidationContext(said)) => {
            let mut whole = said.default_validation_context.clone().unwrap_or_default();
            if let Some(said) = &said.validation_context_sds_secret_config {
                // As Envoy has it: what comes goes over what stands there, field by field. These are bytes of a message
                // of the same kind.
                let _ = whole.merge(validation(said).encode_to_vec().as_slice());
            }
            whole
        }
        _ => return !named.is_empty(),
    };
    common.validation_context_type = Some(ValidationContextType::ValidationContext(found));
    true
}

/// In the place of a certificate or a key that has not come.
fn nothing() -> core::DataSource {
    let specifier = core::data_source::Specifier::InlineString("-".to_owned());
    core::DataSource { specifier: Some(specifier), ..Default::default() }
}

/// What is named by messages that were looked at; nobody has anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gathered {
    pub routes: Vec<Reference>,
    pub endpoints: Vec<Reference>,
    pub secrets: Vec<Reference>,
}

impl Shelf for Gathered {
    fn routes(&mut self, reference: &Reference) -> Option<route::RouteConfiguration> {
        self.routes.push(reference.clone());
        None
    }

    fn endpoints(&mut self, reference: &Reference) -> Option<endpoint::ClusterLoadAssignment> {
        self.endpoints.push(reference.clone());
        None
    }

    fn certificate(&mut self, reference: &Reference) -> Option<tls::TlsCertificate> {
        self.secrets.push(reference.clone());
        None
    }

    fn validation(&mut self, reference: &Reference) -> Option<tls::CertificateValidationContext> {
        self.secrets.push(reference.clone());
        None
    }
}
