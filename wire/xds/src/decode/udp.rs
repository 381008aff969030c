//! Listeners of datagrams: the UDP proxy.

use naru_spec::{ClusterChoice, HashPolicy, HashSource, Path, TcpProxy, defaults};

use super::{access_log, value};
use crate::findings::{Findings, code};
use crate::proto::{udp_proxy, xds_matcher};
use crate::schema::{type_name, unpack};

/// As the same proxy as that of TCP: what holds of a connection there holds of a session here.
#[expect(deprecated, reason = "the older spelling is still read")]
pub(super) fn read(
    said: &udp_proxy::UdpProxyConfig,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> TcpProxy {
    use udp_proxy::udp_proxy_config::RouteSpecifier;
    let cluster = match &said.route_specifier {
        Some(RouteSpecifier::Cluster(name)) => name.clone(),
        Some(RouteSpecifier::Matcher(matcher)) => led_to(matcher, &path.field("matcher"), findings),
        // Told by the API's own rules.
        None => String::new(),
    };
    let mut udp = TcpProxy::new(said.stat_prefix.clone(), ClusterChoice::One(cluster));
    udp.idle_timeout = Some(defaults::UDP_IDLE_TIMEOUT);
    if let Some(said) = &said.idle_timeout {
        udp.idle_timeout = Some(value::duration(said, &path.field("idle_timeout"), findings));
    }
    let policies = path.field("hash_policies");
    for (at, policy) in said.hash_policies.iter().enumerate() {
        use udp_proxy::udp_proxy_config::hash_policy::PolicySpecifier;
        match &policy.policy_specifier {
            Some(PolicySpecifier::SourceIp(true)) => udp.hash.push(HashPolicy::of(HashSource::SourceIp)),
            // Told as not supported, or by the API's own rules.
            Some(PolicySpecifier::SourceIp(false) | PolicySpecifier::Key(_)) => {}
            None => {
                findings.missing(&policies.at(at), "a hash policy needs something that is hashed: source_ip")
            }
        }
    }
    let logs = path.field("access_log");
    for (at, log) in said.access_log.iter().enumerate() {
        udp.access_log.extend(access_log::read(log, &logs.at(at), findings));
    }
    udp
}

/// The one route that is there where nothing is matched.
fn led_to(matcher: &xds_matcher::Matcher, path: &Path<'_>, findings: &mut Findings<'_>) -> String {
    use xds_matcher::matcher::on_match::OnMatch;
    let path = path.field("on_no_match");
    let Some(OnMatch::Action(action)) =
        matcher.on_no_match.as_ref().and_then(|found| found.on_match.as_ref())
    else {
        let text = "naru acts on a matcher of a UDP proxy that leads everything to one route";
        findings.missing(&path, text);
        return String::new();
    };
    let path = path.field("action.typed_config");
    match action.typed_config.as_ref().map(|any| (unpack::<udp_proxy::Route>(any), any)) {
        Some((Some(route), _)) => route.cluster,
        Some((None, any)) => {
            let text = format!("the action '{}' is not supported here", type_name(&any.type_url));
            let hint = "use type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route";
            findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, hint);
            String::new()
        }
        None => {
            findings.missing(&path, "an action needs a typed_config");
            String::new()
        }
    }
}
