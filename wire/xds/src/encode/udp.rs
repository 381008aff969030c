//! Listeners of datagrams: the UDP proxy.

use naru_spec::{TcpProxy, defaults};

use super::{http, value};
use crate::proto::{Any, udp_proxy as proto, xds_core, xds_matcher};
use crate::schema::pack;

pub(super) fn write(udp: &TcpProxy) -> proto::UdpProxyConfig {
    use proto::udp_proxy_config::{HashPolicy, RouteSpecifier, hash_policy::PolicySpecifier};
    use xds_matcher::matcher::{OnMatch, on_match};
    let cluster = udp.clusters.names().next().unwrap_or_default().to_owned();
    let route: Any = pack(&proto::Route { cluster });
    let action = xds_core::TypedExtensionConfig { name: "route".to_owned(), typed_config: Some(route) };
    let found = OnMatch { on_match: Some(on_match::OnMatch::Action(action)), ..Default::default() };
    let matcher = xds_matcher::Matcher { on_no_match: Some(Box::new(found)), matcher_type: None };
    let is_default = udp.idle_timeout == Some(defaults::UDP_IDLE_TIMEOUT);
    let source = || HashPolicy { policy_specifier: Some(PolicySpecifier::SourceIp(true)) };
    proto::UdpProxyConfig {
        stat_prefix: udp.stat_prefix.clone(),
        route_specifier: Some(RouteSpecifier::Matcher(matcher)),
        idle_timeout: (!is_default).then(|| value::limit(udp.idle_timeout)),
        hash_policies: udp.hash.iter().map(|_| source()).collect(),
        access_log: http::access_logs(&udp.access_log),
        ..Default::default()
    }
}
