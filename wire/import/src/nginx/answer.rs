//! What nginx answers itself: `return`, and locations that pass nothing on.

use super::parse::Directive;
use super::scope::Scope;
use super::variables::{Piece, pieces};
use crate::notes::{Notes, code};
use crate::yaml::Map;

/// An action of a route: its field, and what it says.
pub(super) type Action = (&'static str, Map);

pub(super) fn direct(status: u16, body: Option<&str>) -> Action {
    let body = body.filter(|body| !body.is_empty()).map(|body| Map::new().with("string", body));
    ("directResponse", Map::new().with("status", status).with_some("body", body))
}

/// `return 404;`, `return 200 text;`, `return 301 https://$host$request_uri;`
pub(super) fn of(
    directive: &Directive,
    scope: &Scope<'_>,
    server_name: Option<&str>,
    notes: &mut Notes<'_>,
) -> Action {
    let path = scope.path_to("return");
    let first = directive.arg(0).unwrap_or_default();
    let (status, rest) = match first.parse::<u16>() {
        Ok(status) => (status, directive.arg(1)),
        // A URL alone.
        Err(_) => (302, Some(first)),
    };
    match (status, rest) {
        (301 | 302 | 303 | 307 | 308, Some(url)) => match redirect(url, status, server_name) {
            Some(action) => action,
            None => {
                let message = format!("a redirect to '{url}' cannot be said: it is answered 501");
                let hint = "a redirect says scheme, host and path, each whole or as it came";
                notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, hint);
                direct(501, None)
            }
        },
        (444, _) => {
            let message = "nginx closes the connection: 404 is answered".to_owned();
            notes.warning(code::DIFFERS, directive.at, &path, message, "");
            direct(404, None)
        }
        (200..=599, body) => {
            let body = body.unwrap_or_default();
            if pieces(body).iter().any(|piece| matches!(piece, Piece::Variable(_))) {
                let message = "a body with variables is not carried over".to_owned();
                notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, "");
                return direct(status, None);
            }
            direct(status, Some(body))
        }
        _ => {
            let message = format!("'{first}' is no status that can be answered: it is 500");
            notes.warning(code::DIFFERS, directive.at, &path, message, "");
            direct(500, None)
        }
    }
}

fn redirect(url: &str, status: u16, server_name: Option<&str>) -> Option<Action> {
    let mut map = Map::new();
    let target = match url.split_once("://") {
        None => url,
        Some((scheme, rest)) => {
            let scheme = match scheme {
                "$scheme" => None,
                "http" | "https" => Some(scheme),
                _ => return None,
            };
            let end = rest.find('/').or_else(|| rest.find("$request_uri")).or_else(|| rest.find("$uri"));
            let (host, target) = rest.split_at(end.unwrap_or(rest.len()));
            let host = match host {
                "$host" | "$http_host" => None,
                "$server_name" => Some(server_name?),
                host if host.contains('$') || host.is_empty() => return None,
                host => Some(host),
            };
            // A port is of the authority there, and of its own field here.
            let (host, port) = match host.and_then(|host| host.rsplit_once(':')) {
                Some((name, port)) => (Some(name), Some(port.parse::<u16>().ok()?)),
                None => (host, None),
            };
            map = map.with_some("scheme", scheme).with_some("authority", host).with_some("port", port);
            target
        }
    };
    match target {
        "$request_uri" | "$uri" | "$uri$is_args$args" => {}
        // No path is the root.
        "" => map = map.with("uri", "/"),
        path if path.starts_with('/') && !path.contains('$') => map = map.with("uri", path),
        _ => return None,
    }
    Some(("redirect", map.with("redirectCode", status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_is_a_redirect_or_an_answer() {
        let check = |text: &str, expected: &str, warnings: usize| {
            let parsed = super::super::parse("f", text);
            let scope = Scope::top(&parsed.directives);
            let mut notes = Notes::new("f");
            let (field, map) = of(&parsed.directives[0], &scope, Some("a.example"), &mut notes);
            let shown = format!("{field} {}", map.print().trim().replace('\n', ", "));
            assert_eq!(shown, expected, "{text}");
            assert_eq!(notes.into_problems().len(), warnings, "{text}");
        };
        check("return 301 https://$host$request_uri;", "redirect scheme: https, redirectCode: 301", 0);
        check("return 302 /login;", "redirect uri: /login, redirectCode: 302", 0);
        check("return /login;", "redirect uri: /login, redirectCode: 302", 0);
        check(
            "return 308 https://b.example:8443/x;",
            "redirect scheme: https, authority: b.example, port: 8443, uri: /x, redirectCode: 308",
            0,
        );
        check(
            "return 301 $scheme://$server_name$request_uri;",
            "redirect authority: a.example, redirectCode: 301",
            0,
        );
        check("return 301 https://$host/new$request_uri;", "directResponse status: 501", 1);
        check("return 204;", "directResponse status: 204", 0);
        check("return 200 'ok\\n';", "directResponse status: 200, body:,   string: \"ok\\n\"", 0);
        check("return 200 $host;", "directResponse status: 200", 1);
        check("return 444;", "directResponse status: 404", 1);
        check("return 999;", "directResponse status: 500", 1);
    }
}
