//! What is a request to sessions, before anybody looks at its token?
//!
//! By its method and its path, once both are in the form that routes see, and by where the page stands that sent it.

use http::Method;
use naru_base::text::percent_decoded;
use naru_spec::SessionAuth;
use naru_spec::session::is_below;

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the application, whose answer says who it is.
    Login,
    /// naru leads to the provider.
    Start,
    /// Somebody comes back from the provider.
    Callback,
    /// naru answers with another pair.
    Refresh,
    /// naru ends the session.
    Logout,
    /// naru publishes its keys.
    Keys,
    /// A browser asks whether it may ask one of the above (Fetch, "CORS-preflight fetch").
    Preflight,
    /// Where naru answers, but not to this method.
    MethodNotAllowed,
    /// To the application, with a token that counts.
    Protected,
    /// To the application. A token is judged where there is one that counts, and is else as if it were not there.
    Public,
}

/// `is_preflight` is a request that has `Origin` and `Access-Control-Request-Method`.
pub fn way(auth: &SessionAuth, method: &Method, path: &str, is_preflight: bool) -> Way {
    let is_preflight = is_preflight && method == Method::OPTIONS;
    if let Some((way, allowed)) = own(auth, path) {
        return match method {
            _ if is_preflight => Way::Preflight,
            _ if method == allowed => way,
            // Who only looks has not come back.
            _ if method == Method::HEAD && way == Way::Keys => way,
            _ => Way::MethodNotAllowed,
        };
    }
    // Browsers ask without any token, and the application answers, or whoever does so for it.
    if is_preflight {
        return Way::Public;
    }
    if auth.login_paths.iter().any(|login| login == path) {
        return if method == Method::POST { Way::Login } else { Way::Public };
    }
    // Who stands behind may read the path another way: it has to be public in both.
    let plain = plain(path);
    let is_public = |path: &str| {
        // Everything is everything: `*` of an OPTIONS, too.
        let is_below_any =
            |prefixes: &[String]| prefixes.iter().any(|prefix| prefix == "/" || is_below(path, prefix));
        is_below_any(&auth.public) || !is_below_any(&auth.protected)
    };
    if is_public(path) && plain.as_deref().is_none_or(is_public) { Way::Public } else { Way::Protected }
}

/// The path as a lenient reader may read it: escapes read, backslashes as slashes, parameters, empty segments and dots
/// gone. `None` where it is that already.
fn plain(path: &str) -> Option<String> {
    let is_plain = !path.contains(['%', '\\', ';']) && !path.contains("//") && !path.contains("/.");
    if is_plain {
        return None;
    }
    let decoded = String::from_utf8_lossy(&percent_decoded(path.as_bytes())).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

/// What naru answers itself, and to which method.
fn own<'a>(auth: &SessionAuth, path: &str) -> Option<(Way, &'a Method)> {
    if path == auth.refresh_path {
        Some((Way::Refresh, &Method::POST))
    } else if path == auth.logout_path {
        Some((Way::Logout, &Method::POST))
    } else if !auth.jwks_path.is_empty() && path == auth.jwks_path {
        Some((Way::Keys, &Method::GET))
    } else if auth.oidc.as_ref().is_some_and(|oidc| path == oidc.callback_path) {
        Some((Way::Callback, &Method::GET))
    } else if auth.oidc.as_ref().is_some_and(|oidc| !path.is_empty() && path == oidc.start_path) {
        Some((Way::Start, &Method::GET))
    } else {
        None
    }
}

/// Whether a page of this origin may ask for something about sessions: the own one, and those that are named. A request
/// without an origin comes of no page of another one: browsers say it with every POST (Fetch, "append a request Origin
/// header"). `site` is `Sec-Fetch-Site`.
pub fn may_ask(
    auth: &SessionAuth,
    origin: Option<&str>,
    site: Option<&str>,
    authority: Option<&str>,
) -> bool {
    match origin {
        Some(origin) if is_named(auth, origin) => true,
        Some(origin) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == authority
        }
        None => site.is_none_or(|site| site != "cross-site"),
    }
}

/// Whether pages of this origin may read answers.
pub fn is_named(auth: &SessionAuth, origin: &str) -> bool {
    auth.origins.iter().any(|named| named == origin)
}

#[cfg(test)]
mod tests {
    use naru_spec::{Seal, StorePlace};

    use super::*;

    fn auth() -> SessionAuth {
        let mut auth = SessionAuth::new("a", StorePlace::Directory("/d".into()), Seal::Beside);
        auth.login_paths = vec!["/api/auth/login".into()];
        auth.protected = vec!["/api".into()];
        auth.public = vec!["/api/posts/public/".into()];
        auth.origins = vec!["https://app.example".into()];
        auth
    }

    #[test]
    fn a_request_goes_its_way_by_method_and_path() {
        let auth = auth();
        for (method, path, is_preflight, expected) in [
            (Method::POST, "/api/key/refresh", false, Way::Refresh),
            (Method::GET, "/api/key/refresh", false, Way::MethodNotAllowed),
            (Method::OPTIONS, "/api/key/refresh", true, Way::Preflight),
            (Method::OPTIONS, "/api/key/refresh", false, Way::MethodNotAllowed),
            (Method::POST, "/api/key/refresh/", false, Way::Protected),
            (Method::POST, "/api/auth/logout", false, Way::Logout),
            (Method::GET, "/.well-known/jwks.json", false, Way::Keys),
            (Method::HEAD, "/.well-known/jwks.json", false, Way::Keys),
            (Method::POST, "/api/auth/login", false, Way::Login),
            (Method::GET, "/api/auth/login", false, Way::Public),
            (Method::GET, "/api/posts", false, Way::Protected),
            (Method::OPTIONS, "/api/posts", true, Way::Public),
            (Method::OPTIONS, "/api/posts", false, Way::Protected),
            (Method::GET, "/api/posts", true, Way::Protected),
            (Method::GET, "/api/posts/public/7", false, Way::Public),
            (Method::GET, "/api/posts/publicity", false, Way::Protected),
            (Method::GET, "/apis", false, Way::Public),
            (Method::GET, "/%61pi/posts", false, Way::Protected),
            (Method::GET, "//api/posts", false, Way::Protected),
            (Method::GET, "/x/../api/posts", false, Way::Protected),
            (Method::GET, "/x/..%5capi;a=b/posts", false, Way::Protected),
            (Method::GET, "/api/posts/public/../7", false, Way::Protected),
            (Method::GET, "/%ED%95%9C/%zz/%", false, Way::Public),
            (Method::GET, "/.well-known/x", false, Way::Public),
            (Method::GET, "/", false, Way::Public),
        ] {
            assert_eq!(way(&auth, &method, path, is_preflight), expected, "{method} {path}");
        }
    }

    #[test]
    fn who_logs_in_at_a_provider_comes_back_by_a_get_and_nothing_else() {
        let mut auth = auth();
        let mut oidc = naru_spec::OidcLogin::new("https://id.example", "shop");
        assert_eq!(way(&auth, &Method::GET, "/oidc/callback", false), Way::Public, "nobody is asked to");
        oidc.start_path = "/login".to_owned();
        auth.oidc = Some(Box::new(oidc));
        for (method, path, expected) in [
            (Method::GET, "/oidc/callback", Way::Callback),
            (Method::HEAD, "/oidc/callback", Way::MethodNotAllowed),
            (Method::POST, "/oidc/callback", Way::MethodNotAllowed),
            (Method::GET, "/oidc/callback/", Way::Public),
            (Method::GET, "/login", Way::Start),
            (Method::HEAD, "/login", Way::MethodNotAllowed),
        ] {
            assert_eq!(way(&auth, &method, path, false), expected, "{method} {path}");
        }
    }

    #[test]
    fn everything_is_protected_where_nothing_else_is_said() {
        let mut auth = auth();
        auth.protected = vec!["/".into()];
        auth.public.clear();
        for path in ["/", "/x", "*", "", "//", "/.well-known/x"] {
            assert_eq!(way(&auth, &Method::OPTIONS, path, false), Way::Protected, "{path}");
        }
    }

    #[test]
    fn pages_of_other_origins_may_not_ask() {
        let auth = auth();
        let asks = |origin, site| may_ask(&auth, origin, site, Some("api.example:8443"));
        assert!(asks(None, None), "no browser");
        assert!(asks(Some("https://api.example:8443"), Some("same-origin")));
        assert!(asks(Some("https://app.example"), Some("same-site")));
        assert!(!asks(Some("https://evil.example"), Some("cross-site")));
        assert!(!asks(Some("https://api.example"), None), "another port is another origin");
        assert!(!asks(Some("null"), None));
        assert!(!asks(None, Some("cross-site")));
    }
}
