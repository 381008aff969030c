//! What login sessions ask of a request, and what they answer by themselves.

use http::request::Parts;
use naru_session::Way;
use naru_session::way::way;
use naru_spec::SessionAuth;
use serde_json::json;

use super::Policy;

fn way_of(auth: &SessionAuth, parts: &Parts, path: &str) -> Way {
    let headers = &parts.headers;
    let is_preflight =
        headers.contains_key("origin") && headers.contains_key("access-control-request-method");
    way(auth, &parts.method, path, is_preflight)
}

/// What is asked of it before it goes anywhere.
pub fn of(auth: &SessionAuth, parts: &Parts, path: &str) -> Option<Policy> {
    let name = &auth.name;
    let (text, kind) = match way_of(auth, parts, path) {
        Way::Protected => match &auth.oidc {
            Some(oidc) => {
                let at = &oidc.issuer;
                (format!("session: an access token of '{name}', else to {at} (scripts: 401)"), "protected")
            }
            None => (format!("session: an access token of '{name}', else 401"), "protected"),
        },
        Way::Login => {
            let header = &auth.subject_header;
            (format!("session: '{name}' begins where the answer has {header}"), "login")
        }
        Way::Public => return None,
        Way::Refresh | Way::Logout | Way::Keys | Way::Preflight | Way::MethodNotAllowed => return None,
        Way::Start | Way::Callback => return None,
    };
    Some(Policy::new("session", text, json!({ "sessions": name, "is": kind }), None))
}

/// What naru answers without asking any rule.
pub fn answers(auth: &SessionAuth, parts: &Parts, path: &str) -> Option<String> {
    let what = match way_of(auth, parts, path) {
        Way::Refresh => "refreshes tokens",
        Way::Logout => "ends the session",
        Way::Keys => "publishes the keys",
        Way::Start => "leads to the provider",
        Way::Callback => "lets in who comes back from the provider",
        Way::Preflight => "says which origins may ask",
        Way::MethodNotAllowed => "answers 405",
        Way::Login | Way::Protected | Way::Public => return None,
    };
    Some(format!("naru itself {what}: sessions '{}'", auth.name))
}
