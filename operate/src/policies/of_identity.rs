//! What tokens a request has to show, and which policies it is asked for.

use naru_spec::{External, ExternalService, Jwt, JwtKeys, Rbac, RbacAction, RbacRules};
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

/// Who else is asked.
pub fn external(settings: &External) -> Policy {
    let protocol = match &settings.service {
        ExternalService::Http(_) => "HTTP",
        ExternalService::Grpc(_) => "gRPC",
    };
    let cluster = settings.cluster();
    let which = match &settings.only_for {
        None => "each request".to_owned(),
        Some(rules) => {
            let names: Vec<_> = rules.policies.iter().map(|policy| policy.name.as_str()).collect();
            format!("requests of {}", names.join(", "))
        }
    };
    let otherwise = if settings.failure_allows {
        "passes".to_owned()
    } else {
        format!("is answered {}", settings.status_on_error)
    };
    let timeout = settings.timeout;
    let text = format!(
        "{cluster} is asked about {which} by {protocol}; one without an answer in {timeout:?} {otherwise}"
    );
    let values = json!({
        "cluster": cluster,
        "protocol": protocol,
        "timeout_ms": super::ms(timeout),
        "failure_allows": settings.failure_allows,
        "status_on_error": settings.status_on_error,
        "body_bytes_max": settings.body.map(|body| body.bytes_max),
    });
    Policy::new("externalAuthorization", text, values, None)
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
