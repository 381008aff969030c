//! One value of a policy as a test: Istio's `pilot/pkg/security/authz/model/generator.go`.
//!
//! A value is exact, `prefix*`, `*suffix`, or `*` for whatever is there.

use http::HeaderName;
use ipnet::IpNet;
use naru_spec::{AuthTest, ClaimMatch, HeaderMatch, HeaderTest, Pattern, StringMatch, ValueMatch, ValueTest};

use super::CLAIMS;

/// What a value is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Principal,
    RequestPrincipal,
    Audience,
    Presenter,
    Claim(Vec<String>),
    Header(String),
    Namespace,
    ServiceAccount,
    TrustDomain,
    PeerIp,
    RemoteIp,
    DestinationIp,
    Port,
    ServerName,
    Host,
    Method,
    Path,
}

/// Of who asks, or of what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Who,
    What,
}

/// What is wrong with a value, and what would be right.
type Wrong = (String, &'static str);

impl Part {
    /// Of a condition's key.
    pub fn of_key(key: &str) -> Option<Part> {
        Some(match key {
            "source.ip" => Part::PeerIp,
            "remote.ip" => Part::RemoteIp,
            "source.namespace" => Part::Namespace,
            "source.serviceAccount" => Part::ServiceAccount,
            "source.trustDomain" => Part::TrustDomain,
            "source.principal" => Part::Principal,
            "request.auth.principal" => Part::RequestPrincipal,
            "request.auth.audiences" => Part::Audience,
            "request.auth.presenter" => Part::Presenter,
            "destination.ip" => Part::DestinationIp,
            "destination.port" => Part::Port,
            "connection.sni" => Part::ServerName,
            _ => match (key.strip_prefix("request.headers"), key.strip_prefix("request.auth.claims")) {
                (Some(rest), _) => match names(rest)?.as_slice() {
                    [name] => Part::Header(name.clone()),
                    _ => return None,
                },
                (_, Some(rest)) => Part::Claim(names(rest)?),
                _ => return None,
            },
        })
    }

    pub fn side(&self) -> Side {
        match self {
            Part::DestinationIp | Part::Port | Part::ServerName | Part::Host | Part::Method | Part::Path => {
                Side::What
            }
            Part::Principal
            | Part::RequestPrincipal
            | Part::Audience
            | Part::Presenter
            | Part::Claim(_)
            | Part::Header(_)
            | Part::Namespace
            | Part::ServiceAccount
            | Part::TrustDomain
            | Part::PeerIp
            | Part::RemoteIp => Side::Who,
        }
    }
}

/// `[a][b]`.
fn names(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<_> = inner.split("][").map(str::to_owned).collect();
    names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']'])).then_some(names)
}

/// The test of one value. A namespace is that of the policy.
pub(super) fn part(said: &Part, value: &str, namespace: &str) -> Result<AuthTest, Wrong> {
    if value.is_empty() {
        return Err(("a value may not be empty".to_owned(), "* takes whatever is there"));
    }
    Ok(match said {
        Part::Principal => AuthTest::Authenticated(Some(prefixed(value, "spiffe://")?)),
        Part::Namespace => {
            AuthTest::Authenticated(Some(regex(&format!(".*/ns/{}/.*", escaped_but_stars(value)))?))
        }
        Part::ServiceAccount => {
            let (of, account) = value.split_once('/').unwrap_or((namespace, value));
            let (of, account) = (escaped_but_stars(of), escaped_but_stars(account));
            AuthTest::Authenticated(Some(regex(&format!("spiffe://.+/ns/{of}/(.+/|)sa/{account}(/.+)?"))?))
        }
        Part::TrustDomain => {
            AuthTest::Authenticated(Some(regex(&format!("spiffe://{}/.*", escaped_but_stars(value)))?))
        }
        Part::RequestPrincipal => request_principal(value)?,
        Part::Audience => claim(&["aud"], value)?,
        Part::Presenter => claim(&["azp"], value)?,
        Part::Claim(path) => claim(&path.iter().map(String::as_str).collect::<Vec<_>>(), value)?,
        Part::Header(name) => AuthTest::Header(HeaderMatch {
            name: HeaderName::try_from(name.as_str())
                .map_err(|_| (format!("'{name}' cannot be the name of a header"), ""))?,
            test: if value == "*" { HeaderTest::Present(true) } else { HeaderTest::Value(text(value)?) },
            invert: false,
            missing_as_empty: false,
        }),
        Part::PeerIp => AuthTest::PeerIp(network(value)?),
        Part::RemoteIp => AuthTest::RemoteIp(network(value)?),
        Part::DestinationIp => AuthTest::DestinationIp(network(value)?),
        Part::Port => match value.parse::<u16>() {
            Ok(port) if port > 0 => AuthTest::DestinationPorts(port.into(), u32::from(port) + 1),
            _ => return Err((format!("'{value}' is not a port"), "1 to 65535")),
        },
        Part::ServerName => AuthTest::ServerName(text(value)?),
        // With or without a port where none is said, as in Istio.
        Part::Host => AuthTest::Authority(host(value)?),
        Part::Method => AuthTest::Method(text(value)?),
        Part::Path if value.contains("{*}") || value.contains("{**}") => {
            AuthTest::PathTemplate(value.replace("{**}", "**").replace("{*}", "*"))
        }
        Part::Path => AuthTest::Path(text(value)?),
    })
}

/// Exact, `prefix*`, `*suffix`, or `*` for whatever is there.
fn text(value: &str) -> Result<StringMatch, Wrong> {
    prefixed(value, "")
}

fn prefixed(value: &str, prefix: &str) -> Result<StringMatch, Wrong> {
    let plain = |test| StringMatch { test, ignore_case: false };
    Ok(match (value.strip_prefix('*'), value.strip_suffix('*')) {
        _ if value == "*" => regex(".+")?,
        (Some(suffix), _) if prefix.is_empty() => plain(ValueTest::Suffix(suffix.to_owned())),
        (Some(suffix), _) => regex(&format!("{prefix}.*{}", escaped(suffix)))?,
        (None, Some(start)) => plain(ValueTest::Prefix(format!("{prefix}{start}"))),
        (None, None) => plain(ValueTest::Exact(format!("{prefix}{value}"))),
    })
}

/// Istio's `HostMatcher`: a host is the same in whatever case it is written.
fn host(value: &str) -> Result<StringMatch, Wrong> {
    Ok(StringMatch { ignore_case: value != "*", ..text(value)? })
}

fn regex(text: &str) -> Result<StringMatch, Wrong> {
    let pattern = Pattern::new(text).map_err(|invalid| (invalid.message, ""))?;
    Ok(StringMatch { test: ValueTest::Regex(pattern), ignore_case: false })
}

/// Without what a pattern means otherwise.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

fn escaped_but_stars(text: &str) -> String {
    escaped(text).replace(r"\*", ".*")
}

fn network(value: &str) -> Result<IpNet, Wrong> {
    let of_one = || value.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    let found = value.parse::<IpNet>().ok().map(|net| net.trunc()).or_else(of_one);
    found.ok_or((format!("'{value}' is no address and no range of them"), "10.0.0.0/8, or 10.0.0.1"))
}

/// A claim is a text, or a list of them.
fn claim(path: &[&str], value: &str) -> Result<AuthTest, Wrong> {
    let text = || text(value).map(ValueMatch::Text);
    let test = ValueMatch::Any(vec![text()?, ValueMatch::OneOf(Box::new(text()?))]);
    Ok(AuthTest::Claim(of_claim(path, test)))
}

fn of_claim(path: &[&str], test: ValueMatch) -> ClaimMatch {
    let path = path.iter().map(|name| (*name).to_owned()).collect();
    ClaimMatch { claims_name: CLAIMS.to_owned(), path, test, invert: false }
}

/// `ISSUER/SUBJECT`; an issuer may have slashes, a subject does not.
fn request_principal(value: &str) -> Result<AuthTest, Wrong> {
    let (issuer, subject) = match (value, value.rsplit_once('/')) {
        ("*", _) => (text("*")?, text("*")?),
        (_, Some((issuer, subject))) => (text(issuer)?, text(subject)?),
        (_, None) if value.starts_with('*') => (text("*")?, text(value)?),
        (_, None) if value.ends_with('*') => (text(value)?, text("*")?),
        (_, None) => return Err((format!("'{value}' is no principal of requests"), "ISSUER/SUBJECT")),
    };
    let of = |name, said| AuthTest::Claim(of_claim(&[name], ValueMatch::Text(said)));
    Ok(AuthTest::All(vec![of("iss", issuer), of("sub", subject)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(value: &str, expected: ValueTest) {
        assert_eq!(text(value).unwrap().test, expected, "{value}");
    }

    #[test]
    fn a_star_stands_at_one_end() {
        says("a", ValueTest::Exact("a".into()));
        says("a*", ValueTest::Prefix("a".into()));
        says("*a", ValueTest::Suffix("a".into()));
        says("*", ValueTest::Regex(Pattern::new(".+").unwrap()));
        says("a*b", ValueTest::Exact("a*b".into()));
    }

    #[test]
    fn keys_are_those_of_istio() {
        assert_eq!(Part::of_key("request.headers[X-A]"), Some(Part::Header("X-A".into())));
        assert_eq!(
            Part::of_key("request.auth.claims[a][b]"),
            Some(Part::Claim(vec!["a".into(), "b".into()]))
        );
        for key in [
            "",
            "request.headers",
            "request.headers[]",
            "request.headers[a][b]",
            "request.auth.claims[a",
            "source",
        ] {
            assert_eq!(Part::of_key(key), None, "{key}");
        }
    }

    #[test]
    fn what_is_written_is_no_pattern_of_its_own() {
        let Ok(AuthTest::Authenticated(Some(StringMatch { test: ValueTest::Regex(pattern), .. }))) =
            part(&Part::Namespace, "a.b*", "default")
        else {
            unreachable!()
        };
        assert_eq!(pattern.as_str(), r".*/ns/a\.b.*/.*");
    }

    #[test]
    fn values_that_cannot_be_are_told() {
        for (said, value) in [
            (Part::PeerIp, "10.0.0.0/99"),
            (Part::Port, "0"),
            (Part::Port, "http"),
            (Part::RequestPrincipal, "me"),
            (Part::Header("a b".into()), "x"),
            (Part::Path, ""),
        ] {
            assert!(part(&said, value, "default").is_err(), "{said:?} {value}");
        }
        assert!(part(&Part::PeerIp, "::1", "default").is_ok());
    }
}
