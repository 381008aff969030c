//! What tokens a request has to show, and which policies it is asked for.

use naru_spec::{Jwt, JwtKeys, Rbac, RbacAction, RbacRules};
use serde_json::json;

use super::Policy;

pub fn tokens(settings: &Jwt) -> Vec<Policy> {
    let providers = settings.providers.iter().map(|provider| {
        let issuer = provider.issuer.as_deref().unwrap_or("any issuer");
        let keys = match &provider.keys {
            JwtKeys::Local(_) => "keys of its own".to_owned(),
            JwtKeys::Remote(remote) => format!("keys from {}", remote.uri),
        };
        let values = json!({
            "provider": provider.name,
            "issuer": provider.issuer,
            "audiences": provider.audiences,
            "forward": provider.forward,
        });
        Policy::new("token", format!("tokens of {issuer} are held against {keys}"), values, None)
    });
    providers.collect()
}

/// One for each rule of a document, with where it is written.
pub fn policies(settings: &Rbac) -> Vec<Policy> {
    let all = |rules: &Option<RbacRules>, is_shadow: bool| -> Vec<Policy> {
        let Some(rules) = rules else { return Vec::new() };
        let what = match rules.action {
            RbacAction::Allow => "allows; who nothing allows is refused",
            RbacAction::Deny => "denies",
            RbacAction::Log => "is told of",
        };
        let shadow = if is_shadow { "; only tried: nobody is refused" } else { "" };
        let told = |name: &str, origin: &str| {
            let values = json!({ "policy": name, "action": what, "shadow": is_shadow });
            let origin = Some(origin.to_owned()).filter(|origin| !origin.is_empty());
            Policy::new("authorization", format!("{name} {what}{shadow}"), values, origin)
        };
        if rules.policies.is_empty() && rules.action == RbacAction::Allow {
            return vec![told("no policy at all", "")];
        }
        rules.policies.iter().map(|policy| told(&policy.name, &policy.origin)).collect()
    };
    let mut told = all(&settings.rules, false);
    told.extend(all(&settings.shadow, true));
    told
}
