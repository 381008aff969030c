//! Short names for the generated modules of `envoy-types`.

pub(crate) use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
pub(crate) use envoy_types::pb::envoy::config::bootstrap::v3 as bootstrap;
pub(crate) use envoy_types::pb::envoy::config::cluster::v3 as cluster;
pub(crate) use envoy_types::pb::envoy::config::core::v3 as core;
pub(crate) use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
pub(crate) use envoy_types::pb::envoy::config::listener::v3 as listener;
pub(crate) use envoy_types::pb::envoy::config::overload::v3 as overload;
pub(crate) use envoy_types::pb::envoy::config::rbac::v3 as rbac;
pub(crate) use envoy_types::pb::envoy::config::route::v3 as route;
pub(crate) use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file_log;
pub(crate) use envoy_types::pb::envoy::extensions::access_loggers::stream::v3 as stream_log;
pub(crate) use envoy_types::pb::envoy::extensions::filters::common::fault::v3 as common_fault;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::api_key_auth::v3 as api_key_auth;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::basic_auth::v3 as basic_auth;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::buffer::v3 as buffer;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as http_cors;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::csrf::v3 as http_csrf;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as ext_authz;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::fault::v3 as fault;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::grpc_web::v3 as grpc_web;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as jwt_authn;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3 as local_rate;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as http_rbac;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::router::v3 as router;
pub(crate) use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3 as proxy_protocol;
pub(crate) use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3 as tls_inspector;
pub(crate) use envoy_types::pb::envoy::extensions::filters::network::connection_limit::v3 as connection_limit;
pub(crate) use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
pub(crate) use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
pub(crate) use envoy_types::pb::envoy::extensions::filters::udp::udp_proxy::v3 as udp_proxy;
pub(crate) use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3 as uri_template;
pub(crate) use envoy_types::pb::envoy::extensions::resource_monitors as monitors;
pub(crate) use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3 as previous_hosts;
pub(crate) use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3 as previous_priorities;
pub(crate) use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3 as upstream_proxy_protocol;
pub(crate) use envoy_types::pb::envoy::extensions::transport_sockets::quic::v3 as quic;
pub(crate) use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3 as raw_buffer;
pub(crate) use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
pub(crate) use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream_http;
pub(crate) use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
pub(crate) use envoy_types::pb::envoy::r#type::v3 as kinds;
pub(crate) use envoy_types::pb::google::protobuf::{
    Any, BoolValue, Duration, ListValue, Struct, UInt32Value, UInt64Value, Value, value,
};
pub(crate) use envoy_types::pb::xds::core::v3 as xds_core;
pub(crate) use envoy_types::pb::xds::r#type::matcher::v3 as xds_matcher;
