//! What did people write?
//!
//! Plain data for each kind of document, with the place of every value. A value here has the type
//! that its field asks for, and nothing more is promised: whether it makes sense together with the
//! others is `plan`'s question.
//!
//! Deliberately not here: YAML (`wire/doc`), and what any of it does.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

/// Declares what is written as a mapping: plain data, with the place where the mapping stands.
macro_rules! objects {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $name {
                pub place: Place,
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )*
    };
}

// In reading order: places, what all kinds share, then the kinds by their families.
pub mod place;
pub mod meta;
pub mod virtual_service;
pub mod destination_rule;
pub mod gateway;
pub mod gateway_api;
pub mod sidecar;
pub mod service_entry;
pub mod service;
pub mod deployment;
pub mod config;
pub mod fallback;
pub mod traffic_policy;
pub mod load;
pub mod rate_limit;
pub mod circuit_breaker;
pub mod edge_policy;
pub mod response_cache;
pub mod content;
pub mod security;
pub mod mesh_config;
pub mod acme;
pub mod session_auth;
pub mod surge;
mod places;
mod repeated;
mod shared;

use std::borrow::Cow;
use std::collections::BTreeSet;

pub use acme::AcmeIssuer;
pub use circuit_breaker::CircuitBreaker;
pub use config::{ConfigMap, Namespace, Pod, Secret};
pub use content::{Compression, StaticFiles};
pub use deployment::Deployment;
pub use destination_rule::DestinationRule;
pub use edge_policy::EdgePolicy;
pub use gateway::Gateway;
pub use gateway_api::{
    ApiGateway, ApiGrpcRoute, ApiHttpRoute, ApiStreamRoute, BackendTlsPolicy, GatewayClass, ReferenceGrant,
};
pub use load::Bulkhead;
pub use mesh_config::MeshConfig;
pub use meta::{Meta, StringMatch, Test};
pub use place::{FileId, Files, Flag, Number, Place, Placed, Seconds, Text, Texts};
pub use rate_limit::RateLimit;
pub use repeated::Repeated;
pub use response_cache::ResponseCache;
pub use security::{AuthorizationPolicy, RequestAuthentication};
pub use service::{EndpointSlice, Endpoints, Service};
pub use service_entry::{ServiceEntry, WorkloadEntry, WorkloadGroup};
pub use session_auth::SessionAuth;
pub use shared::Shared;
pub use sidecar::Sidecar;
pub use surge::Surge;
pub use traffic_policy::{Retry, TrafficPolicy};
pub use virtual_service::VirtualService;

/// Everything that was read, each kind in the order of files and documents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    pub files: Files,
    pub virtual_services: Shared<VirtualService>,
    pub destination_rules: Vec<DestinationRule>,
    pub gateways: Vec<Gateway>,
    pub service_entries: Vec<ServiceEntry>,
    pub workload_entries: Vec<WorkloadEntry>,
    pub workload_groups: Vec<WorkloadGroup>,
    pub sidecars: Vec<Sidecar>,
    pub gateway_classes: Vec<GatewayClass>,
    pub api_gateways: Vec<ApiGateway>,
    pub http_routes: Vec<ApiHttpRoute>,
    pub grpc_routes: Vec<ApiGrpcRoute>,
    pub tls_routes: Vec<ApiStreamRoute>,
    pub tcp_routes: Vec<ApiStreamRoute>,
    pub reference_grants: Vec<ReferenceGrant>,
    pub backend_tls_policies: Vec<BackendTlsPolicy>,
    pub services: Vec<Service>,
    pub endpoints: Vec<Endpoints>,
    pub endpoint_slices: Vec<EndpointSlice>,
    pub deployments: Vec<Deployment>,
    pub secrets: Vec<Secret>,
    pub config_maps: Vec<ConfigMap>,
    pub namespaces: Vec<Namespace>,
    pub pods: Vec<Pod>,
    pub traffic_policies: Vec<TrafficPolicy>,
    pub acme_issuers: Vec<AcmeIssuer>,
    pub session_auths: Vec<SessionAuth>,
    pub bulkheads: Vec<Bulkhead>,
    pub rate_limits: Vec<RateLimit>,
    pub circuit_breakers: Vec<CircuitBreaker>,
    pub retries: Vec<Retry>,
    pub edge_policies: Vec<EdgePolicy>,
    pub response_caches: Vec<ResponseCache>,
    pub surges: Vec<Surge>,
    pub compressions: Vec<Compression>,
    pub static_files: Vec<StaticFiles>,
    pub request_authentications: Vec<RequestAuthentication>,
    pub authorization_policies: Vec<AuthorizationPolicy>,
    pub mesh_configs: Vec<MeshConfig>,
}

/// Lists whose order has a meaning where documents ask for the same.
macro_rules! ordered {
    ($($list:ident),* $(,)?) => {
        impl Resources {
            /// Brings documents into the order in which they come first: [`Meta::precedence`]. In which order they were
            /// read then means nothing, but among those of one name.
            pub fn settle(&mut self) {
                $(self.$list.sort_by(|a, b| a.meta.precedence().cmp(&b.meta.precedence()));)*
            }

            pub fn is_settled(&self) -> bool {
                true $(&& self.$list.is_sorted_by(|a, b| a.meta.precedence() <= b.meta.precedence()))*
            }
        }
    };
}

ordered! {
    virtual_services, destination_rules, gateways, service_entries, workload_entries, services, endpoints,
    endpoint_slices, sidecars, gateway_classes, api_gateways, http_routes, grpc_routes, tls_routes, tcp_routes,
    backend_tls_policies, traffic_policies, session_auths, bulkheads, rate_limits, circuit_breakers, retries,
    edge_policies, response_caches, surges, compressions, static_files, request_authentications,
    authorization_policies, acme_issuers,
}

/// Every list, with the kind of what is in it.
macro_rules! every {
    ($($kind:literal => $list:ident,)*) => {
        impl Resources {
            /// `Kind namespace/name` of every document.
            pub fn names(&self) -> BTreeSet<String> {
                let mut names = BTreeSet::new();
                $(names.extend(self.$list.iter().map(|one| {
                    format!("{} {}/{}", $kind, one.meta.namespace(), one.meta.name.value)
                }));)*
                names
            }

            /// Documents that are there again.
            pub fn repeated(&self) -> Vec<Repeated<'_>> {
                let mut repeated = Vec::new();
                $(repeated.extend(repeated::of_list($kind, self.$list.iter().map(|one| &one.meta)));)*
                repeated
            }

            /// Without those: each document once, the first.
            pub fn without(&self, repeated: &[Repeated<'_>]) -> Cow<'_, Resources> {
                if repeated.is_empty() {
                    return Cow::Borrowed(self);
                }
                let places: BTreeSet<Place> = repeated.iter().map(|again| again.meta.name.place).collect();
                let mut once = self.clone();
                $(once.$list.retain(|one| !places.contains(&one.meta.name.place));)*
                Cow::Owned(once)
            }
        }
    };
}

every! {
    "VirtualService" => virtual_services,
    "DestinationRule" => destination_rules,
    "Gateway" => gateways,
    "ServiceEntry" => service_entries,
    "WorkloadEntry" => workload_entries,
    "WorkloadGroup" => workload_groups,
    "Sidecar" => sidecars,
    "GatewayClass" => gateway_classes,
    "Gateway (Gateway API)" => api_gateways,
    "HTTPRoute" => http_routes,
    "GRPCRoute" => grpc_routes,
    "TLSRoute" => tls_routes,
    "TCPRoute" => tcp_routes,
    "ReferenceGrant" => reference_grants,
    "BackendTLSPolicy" => backend_tls_policies,
    "Service" => services,
    "Endpoints" => endpoints,
    "EndpointSlice" => endpoint_slices,
    "Deployment" => deployments,
    "Secret" => secrets,
    "ConfigMap" => config_maps,
    "Namespace" => namespaces,
    "Pod" => pods,
    "TrafficPolicy" => traffic_policies,
    "AcmeIssuer" => acme_issuers,
    "SessionAuth" => session_auths,
    "Bulkhead" => bulkheads,
    "RateLimit" => rate_limits,
    "CircuitBreaker" => circuit_breakers,
    "Retry" => retries,
    "EdgePolicy" => edge_policies,
    "ResponseCache" => response_caches,
    "Surge" => surges,
    "Compression" => compressions,
    "StaticFiles" => static_files,
    "RequestAuthentication" => request_authentications,
    "AuthorizationPolicy" => authorization_policies,
}
