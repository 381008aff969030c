//! Locations of a server: in which order they are asked, and where they pass requests to.

use super::parse::Directive;
use super::scope::Scope;
use super::upstream::host_and_port;
use crate::notes::{Notes, code};
use crate::yaml::Map;

/// A `location` block.
pub(super) struct Location<'a> {
    pub how: How,
    /// What the URI is held against.
    pub uri: String,
    pub scope: Scope<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// `location = /a`
    Exact,
    /// `location /a`, or `location ^~ /a`, below which no regular expression is asked.
    Prefix { is_final: bool },
    /// `location ~ \.php$`, `location ~* \.php$`
    Regex { ignores_case: bool },
}

/// The locations of a server, as they stand there.
pub(super) fn of<'a>(server: &Scope<'a>, notes: &mut Notes<'_>) -> Vec<Location<'a>> {
    let mut found = Vec::new();
    collect(server, None, &mut found, notes);
    ordered(found, notes)
}

fn collect<'a>(scope: &Scope<'a>, outer: Option<How>, found: &mut Vec<Location<'a>>, notes: &mut Notes<'_>) {
    for directive in scope.own("location") {
        let Some((how, uri)) = head(directive) else {
            let said = directive.texts().collect::<Vec<_>>().join(" ");
            let message = format!("the location '{said}' is not carried over");
            let hint = if said.starts_with('@') { "nothing leads to a named location here" } else { "" };
            notes.warning(code::NOT_CARRIED_OVER, directive.at, &scope.path_to("location"), message, hint);
            continue;
        };
        let inner = scope.within(&format!("location[\"{uri}\"]"), directive);
        if let (Some(outer), How::Regex { .. }) | (Some(outer @ How::Regex { .. }), _) = (outer, how) {
            let what = if matches!(outer, How::Regex { .. }) {
                "within a regular expression"
            } else {
                "of a regular expression within another"
            };
            let message = format!("a location {what} is not carried over");
            let hint = "a route has one condition on the path";
            notes.warning(code::NOT_CARRIED_OVER, directive.at, &inner.path, message, hint);
            continue;
        }
        collect(&inner, Some(how), found, notes);
        found.push(Location { how, uri, scope: inner });
    }
}

fn head(directive: &Directive) -> Option<(How, String)> {
    let first = directive.arg(0)?;
    let (how, uri) = match (first, directive.arg(1)) {
        ("=", Some(uri)) => (How::Exact, uri),
        ("^~", Some(uri)) => (How::Prefix { is_final: true }, uri),
        ("~", Some(uri)) => (How::Regex { ignores_case: false }, uri),
        ("~*", Some(uri)) => (How::Regex { ignores_case: true }, uri),
        (_, Some(_)) => return None,
        // The operator may stand without a space.
        (word, None) => match word {
            word if word.starts_with('@') => return None,
            word => {
                let of = |operator: &str| word.strip_prefix(operator).filter(|uri| !uri.is_empty());
                if let Some(uri) = of("^~") {
                    (How::Prefix { is_final: true }, uri)
                } else if let Some(uri) = of("~*") {
                    (How::Regex { ignores_case: true }, uri)
                } else if let Some(uri) = of("~") {
                    (How::Regex { ignores_case: false }, uri)
                } else if let Some(uri) = of("=") {
                    (How::Exact, uri)
                } else {
                    (How::Prefix { is_final: false }, word)
                }
            }
        },
    };
    let is_path = matches!(how, How::Regex { .. }) || uri.starts_with('/');
    is_path.then(|| (how, uri.to_owned()))
}

/// nginx finds the longest prefix and then asks regular expressions, unless the prefix is final. As
/// rules that are asked in turn: what is exact, final prefixes, regular expressions in the order of
/// the file, the other prefixes; prefixes by length.
fn ordered<'a>(mut found: Vec<Location<'a>>, notes: &mut Notes<'_>) -> Vec<Location<'a>> {
    let finals: Vec<String> = found
        .iter()
        .filter(|location| location.how == How::Prefix { is_final: true })
        .map(|location| location.uri.clone())
        .collect();
    let has_regexes = found.iter().any(|location| matches!(location.how, How::Regex { .. }));
    let rank = |location: &Location<'_>| match location.how {
        How::Exact => 0,
        How::Prefix { is_final: true } => 1,
        How::Prefix { is_final: false } if is_below(&location.uri, &finals) => 1,
        How::Regex { .. } => 2,
        How::Prefix { is_final: false } => 3,
    };
    for location in &found {
        if has_regexes && rank(location) == 1 && location.how == (How::Prefix { is_final: false }) {
            let message = "no regular expression is asked before it, as it is below a final prefix (^~)";
            let hint = "nginx asks them for what is below both; a route has one condition on the path";
            notes.warning(code::DIFFERS, location.scope.at, &location.scope.path, message.to_owned(), hint);
        }
    }
    // Stable: equals keep the order of the file.
    found.sort_by_key(|location| {
        let length = match location.how {
            How::Regex { .. } | How::Exact => 0,
            How::Prefix { .. } => location.uri.len(),
        };
        (rank(location), std::cmp::Reverse(length))
    });
    found
}

fn is_below(uri: &str, finals: &[String]) -> bool {
    finals.iter().any(|outer| uri.len() > outer.len() && uri.starts_with(outer.as_str()))
}

impl Location<'_> {
    /// The condition on the path; none where an expression cannot be said.
    pub fn condition(&self, notes: &mut Notes<'_>) -> Option<Map> {
        let (kind, text) = match self.how {
            How::Exact => ("exact", self.uri.clone()),
            How::Prefix { .. } => ("prefix", self.uri.clone()),
            How::Regex { ignores_case } => match whole(&self.uri, ignores_case) {
                Some(regex) => ("regex", regex),
                None => {
                    let message = format!("'{}' is an expression that RE2 does not have", self.uri);
                    let hint = "RE2 has no look-around and no references back: write several routes";
                    notes.warning(code::NOT_CARRIED_OVER, self.scope.at, &self.scope.path, message, hint);
                    return None;
                }
            },
        };
        Some(Map::new().with("uri", Map::new().with(kind, text)))
    }

    /// For the name of its route.
    pub fn title(&self) -> &str {
        match self.uri.trim_matches('/') {
            "" => "root",
            uri => uri,
        }
    }
}

/// nginx's expression may match a part of the path, Istio's has to match all of it.
fn whole(expression: &str, ignores_case: bool) -> Option<String> {
    // RE2 has had `(?P<name>` for longer.
    let expression = expression.replace("(?<", "(?P<");
    let is_known = |text: &str| regex_syntax::Parser::new().parse(text).is_ok();
    if !is_known(&expression) {
        return None;
    }
    let has_alternatives = has_alternatives(&expression);
    let mut text = String::new();
    if ignores_case {
        text.push_str("(?i)");
    }
    if has_alternatives {
        text.push_str(&format!(".*(?:{expression}).*"));
    } else {
        let inner = expression.strip_prefix('^');
        if inner.is_none() {
            text.push_str(".*");
        }
        let inner = inner.unwrap_or(&expression);
        // An escaped dollar is a dollar.
        let slashes = inner.strip_suffix('$').map(|rest| rest.len() - rest.trim_end_matches('\\').len());
        match (inner.strip_suffix('$'), slashes) {
            (Some(rest), Some(slashes)) if slashes % 2 == 0 => text.push_str(rest),
            _ => {
                text.push_str(inner);
                if !inner.ends_with(".*") {
                    text.push_str(".*");
                }
            }
        }
    }
    is_known(&text).then_some(text).filter(|text| !text.is_empty())
}

/// Outside of every group.
fn has_alternatives(expression: &str) -> bool {
    let Ok(ast) = regex_syntax::ast::parse::Parser::new().parse(expression) else { return false };
    matches!(ast, regex_syntax::ast::Ast::Alternation(_))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    Grpc,
    Grpcs,
}

impl Scheme {
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Grpcs)
    }

    pub fn is_grpc(self) -> bool {
        matches!(self, Scheme::Grpc | Scheme::Grpcs)
    }

    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Grpc => "grpc",
            Scheme::Grpcs => "grpcs",
        }
    }
}

/// What `proxy_pass` names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub scheme: Scheme,
    pub host: String,
    pub port: u16,
    pub has_port: bool,
    /// What takes the place of the location's prefix.
    pub uri: Option<String>,
}

impl Target {
    /// None for variables and the paths of sockets.
    pub fn parse(text: &str) -> Option<Target> {
        if text.contains('$') {
            return None;
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("grpc", rest)) => (Scheme::Grpc, rest),
            Some(("grpcs", rest)) => (Scheme::Grpcs, rest),
            Some(_) => return None,
            // grpc_pass may do without.
            None => (Scheme::Grpc, text),
        };
        let (authority, uri) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(rest[at..].to_owned())),
            None => (rest, None),
        };
        let default = if scheme.is_tls() { 443 } else { 80 };
        let (host, port) = host_and_port(authority, default)?;
        let has_port = authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        Some(Target { scheme, host, port, has_port, uri })
    }

    /// As it was written: `app:8080`.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.has_port { format!("{host}:{}", self.port) } else { host }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_asked_in_the_order_in_which_nginx_selects_them() {
        let check = |locations: &str, expected: &[&str], warnings: usize| {
            let text: String =
                locations.lines().map(|line| format!("location {} {{}}\n", line.trim())).collect();
            let parsed = super::super::parse("f", &text);
            let mut notes = Notes::new("f");
            let found = of(&Scope::top(&parsed.directives), &mut notes);
            let uris: Vec<&str> = found.iter().map(|location| location.uri.as_str()).collect();
            assert_eq!(uris, expected, "{locations}");
            assert_eq!(notes.into_problems().len(), warnings, "{locations}");
        };
        check("/\n/api\n/api/users", &["/api/users", "/api", "/"], 0);
        check("/\n= /", &["/", "/"], 0);
        check("/images\n~ \\.png$\n^~ /static\n= /x\n/", &["/x", "/static", "\\.png$", "/images", "/"], 0);
        // The documentation's own example.
        check(
            "= /\n/\n/documents/\n^~ /images/\n~* \\.(gif|jpg|jpeg)$",
            &["/", "/images/", "\\.(gif|jpg|jpeg)$", "/documents/", "/"],
            0,
        );
        check("~ b\n~ aaaa", &["b", "aaaa"], 0);
        check("^~ /a\n/a/b\n~ x", &["/a/b", "/a", "x"], 1);
        check("^~ /a\n/a/b", &["/a/b", "/a"], 0);
        check("@fallback", &[], 1);
        check("~\\.php$\n=/a", &["/a", "\\.php$"], 0);
    }

    #[test]
    fn a_part_of_a_path_is_matched_by_an_expression_for_all_of_it() {
        let check = |expression: &str, ignores_case: bool, expected: Option<&str>| {
            assert_eq!(whole(expression, ignores_case).as_deref(), expected, "{expression}");
        };
        check(r"\.php$", false, Some(r".*\.php"));
        check("^/api/v[0-9]+/", false, Some("/api/v[0-9]+/.*"));
        check(r"\.(gif|jpg)$", true, Some(r"(?i).*\.(gif|jpg)"));
        check("^/a$", true, Some("(?i)/a"));
        check("a|b$", false, Some(".*(?:a|b$).*"));
        check(r"a\$", false, Some(r".*a\$.*"));
        check("^/(?<id>[0-9]+)$", false, Some("/(?P<id>[0-9]+)"));
        check(r"^\/a", false, Some(r"\/a.*"));
        check("(?!x)", false, None);
        check("(?<=x)a", false, None);
        check(r"(a)\1", false, None);
        check("(", false, None);
        check("^.*", false, Some(".*"));
    }

    #[test]
    fn a_target_is_where_and_what_takes_the_prefixs_place() {
        let check = |text: &str, expected: Option<(&str, u16, Option<&str>)>| {
            let target = Target::parse(text);
            let found = target.as_ref().map(|t| (t.host.as_str(), t.port, t.uri.as_deref()));
            assert_eq!(found, expected, "{text}");
        };
        check("http://app", Some(("app", 80, None)));
        check("http://app/", Some(("app", 80, Some("/"))));
        check("https://app/v1", Some(("app", 443, Some("/v1"))));
        check("http://[::1]:81/a", Some(("::1", 81, Some("/a"))));
        check("app:50051", Some(("app", 50051, None)));
        check("http://$app", None);
        check("http://unix:/run/app.sock", None);
        check("ftp://app", None);
    }
}
