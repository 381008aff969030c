//! `proxy_set_header`, `proxy_hide_header` and `add_header` as operations of a route.

use super::location::Target;
use super::parse::Directive;
use super::scope::Scope;
use super::variables::{Known, Piece, format, pieces};
use crate::notes::{Notes, code};
use crate::yaml::Map;

/// What a location does to headers.
#[derive(Default)]
pub(super) struct Headers {
    request_set: Map,
    request_remove: Vec<String>,
    response_add: Map,
    response_remove: Vec<String>,
    /// The host that the upstream sees, where it is not the client's.
    pub authority: Option<String>,
}

impl Headers {
    pub fn to_map(&self) -> Map {
        let request = Map::new()
            .with_some("set", Some(self.request_set.clone()))
            .with_some("remove", Some(self.request_remove.clone()));
        let response = Map::new()
            .with_some("add", Some(self.response_add.clone()))
            .with_some("remove", Some(self.response_remove.clone()));
        Map::new().with_some("request", Some(request)).with_some("response", Some(response))
    }

    /// Those of an answer that nginx gives itself.
    pub fn of_answer(scope: &Scope<'_>, server_name: Option<&str>, notes: &mut Notes<'_>) -> Headers {
        let mut headers = Headers::default();
        headers.add(scope, server_name, notes);
        headers
    }

    pub fn of(
        scope: &Scope<'_>,
        target: &Target,
        is_declared: bool,
        server_name: Option<&str>,
        notes: &mut Notes<'_>,
    ) -> Headers {
        let mut headers = Headers::default();
        headers.add(scope, server_name, notes);
        for directive in scope.list(&["proxy_hide_header"]) {
            if let Some(name) = header_name(directive, scope, notes) {
                headers.response_remove.push(name);
            }
        }
        let set = scope.list(&["proxy_set_header"]);
        let known = Known { is_response: false, server_name, proxy_host: Some(target.authority()) };
        for directive in &set {
            headers.set(directive, scope, &known, notes);
        }
        let is_host =
            |directive: &&&Directive| directive.arg(0).is_some_and(|name| name.eq_ignore_ascii_case("host"));
        if !set.iter().any(|directive| is_host(&directive)) {
            let said = target.authority();
            if is_declared {
                let message = format!("the upstream sees the client's host: nginx would say '{said}'");
                let hint = "to keep nginx's, say rewrite.authority";
                notes.note(code::DIFFERS, scope.at, &scope.path, message, hint);
            } else {
                headers.authority = Some(said);
            }
        }
        headers
    }

    fn set(&mut self, directive: &Directive, scope: &Scope<'_>, known: &Known<'_>, notes: &mut Notes<'_>) {
        let path = scope.path_to("proxy_set_header");
        let (Some(name), value) =
            (header_name(directive, scope, notes), directive.arg(1).unwrap_or_default())
        else {
            return;
        };
        let by_default = |notes: &mut Notes<'_>, what: &str| {
            notes.note(code::BY_DEFAULT, directive.at, &path, format!("naru {what} unasked"), "");
        };
        match (name.as_str(), value) {
            ("host", "$host" | "$http_host" | "$host:$server_port") => {
                return by_default(notes, "keeps the client's host");
            }
            ("x-forwarded-for", "$proxy_add_x_forwarded_for") => {
                return by_default(notes, "adds the client to x-forwarded-for");
            }
            ("x-forwarded-proto", "$scheme") => return by_default(notes, "says x-forwarded-proto"),
            ("x-request-id", "$request_id") => return by_default(notes, "makes x-request-id"),
            ("connection", "" | "close" | "keep-alive") => {
                return by_default(notes, "decides about connections");
            }
            ("upgrade" | "connection", _) => {
                let message = format!("'{name}' is not carried over");
                let hint = "it is of one connection: WebSocket needs upgrades, see docs/gaps.md";
                return notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, hint);
            }
            ("host", "") | (_, "") => {
                if name != "host" {
                    self.request_remove.push(name);
                }
                return;
            }
            _ => {}
        }
        match format(value, known) {
            Ok(_) if name == "host" => {
                let is_literal = |piece: &Piece<'_>| {
                    matches!(piece, Piece::Text(_) | Piece::Variable("proxy_host" | "server_name"))
                };
                if pieces(value).iter().all(is_literal) {
                    self.authority = format(value, known).ok().map(|host| host.replace("%%", "%"));
                } else {
                    let message = format!("a host cannot be made of '{value}'");
                    notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, "");
                }
            }
            Ok(value) => {
                self.request_set = std::mem::take(&mut self.request_set).with_one(name, value);
            }
            Err(unknown) => tell_unknown(&name, &unknown, directive, &path, notes),
        }
    }

    fn add(&mut self, scope: &Scope<'_>, server_name: Option<&str>, notes: &mut Notes<'_>) {
        let path = scope.path_to("add_header");
        let known = Known { is_response: true, server_name, proxy_host: None };
        for directive in scope.list(&["add_header"]) {
            let value = directive.arg(1).unwrap_or_default();
            let Some(name) = header_name(directive, scope, notes).filter(|_| !value.is_empty()) else {
                continue;
            };
            if directive.arg(2) != Some("always") {
                let message = format!("'{name}' is added to responses of every status");
                let hint = "without 'always' nginx leaves it out of errors";
                notes.note(code::DIFFERS, directive.at, &path, message, hint);
            }
            match format(value, &known) {
                Ok(value) => self.response_add = std::mem::take(&mut self.response_add).with_one(name, value),
                Err(unknown) => tell_unknown(&name, &unknown, directive, &path, notes),
            }
        }
    }
}

fn tell_unknown(name: &str, unknown: &[String], directive: &Directive, path: &str, notes: &mut Notes<'_>) {
    let message = format!("the header '{name}' is not carried over: nothing says {}", unknown.join(", "));
    let hint = "what can be said of a request is in docs/access-log.md";
    notes.warning(code::NOT_CARRIED_OVER, directive.at, path, message, hint);
}

/// In lower case, where it is the name of a header.
fn header_name(directive: &Directive, scope: &Scope<'_>, notes: &mut Notes<'_>) -> Option<String> {
    let name = directive.arg(0)?.to_ascii_lowercase();
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if !name.is_empty() && name.chars().all(is_token) {
        return Some(name);
    }
    let message = format!("'{name}' cannot be a header");
    notes.warning(code::NOT_CARRIED_OVER, directive.at, &scope.path_to(&directive.name), message, "");
    None
}
