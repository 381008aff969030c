//! Tunnels that are asked for by CONNECT, where they end at a route.

use naru_spec::{Invalid, Path, ProxyVersion, Terminate};

use super::tcp;
use crate::findings::Findings;
use crate::proto::route::route_action::UpgradeConfig;

/// What `upgrade_configs` of a route say of the end of a tunnel.
pub(super) fn terminate(
    said: &[UpgradeConfig],
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Terminate> {
    let mut found = None;
    for (at, upgrade) in said.iter().enumerate() {
        let Some(config) = &upgrade.connect_config else { continue };
        if !upgrade.upgrade_type.eq_ignore_ascii_case("connect") {
            let text = format!("'{}' has no connect_config", upgrade.upgrade_type);
            let invalid = Invalid::new(text).hint("only upgrade_type: CONNECT has one");
            findings.invalid(&path.at(at).field("connect_config"), invalid);
            continue;
        }
        let proxy_protocol: Option<ProxyVersion> = config.proxy_protocol_config.as_ref().map(tcp::version);
        found = Some(Terminate { proxy_protocol });
    }
    found
}
