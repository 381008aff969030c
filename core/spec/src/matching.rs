//! What a request must look like: the vocabulary of rules.

use std::fmt;

use http::HeaderName;
use ipnet::IpNet;
use naru_base::Fraction;

use crate::{ClaimMatch, Invalid};

/// One block: everything it says must hold (AND). A rule has several blocks (OR).
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Match {
    /// Of the path without its query.
    pub path: PathMatch,
    /// For exact paths and prefixes; a regex says `(?i)` itself.
    pub ignore_path_case: bool,
    pub scheme: Option<StringMatch>,
    pub method: Option<StringMatch>,
    /// Of the Host as sent, with its port.
    pub authority: Option<StringMatch>,
    pub headers: Vec<HeaderMatch>,
    pub query: Vec<NameMatch>,
    pub cookies: Vec<NameMatch>,
    /// The trusted client address lies in one of these; empty means any.
    pub sources: Vec<IpNet>,
    /// Takes this part of the requests that match otherwise.
    pub fraction: Option<Fraction>,
    /// Only gRPC requests (`content-type: application/grpc`, also with `+proto` and the like).
    pub grpc: bool,
    /// What verified tokens claim. A chain of which a rule asks for that finds the rule again behind its tokens.
    pub claims: Vec<ClaimMatch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    Exact(String),
    /// A plain string prefix: `/api` takes `/apix`.
    Prefix(String),
    /// Whole segments: `/api` takes `/api` and `/api/x`, not `/apix`. Never ends in a slash.
    SegmentPrefix(String),
    Regex(Pattern),
    /// CONNECT, which has no path: such requests are taken by these blocks and by no others.
    Connect,
}

impl Default for PathMatch {
    fn default() -> PathMatch {
        PathMatch::Prefix("/".to_owned())
    }
}

/// A regular expression in RE2's syntax that must match the whole text.
///
/// That it compiles is checked where it is compiled (`route`); here it is only short enough.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// At most [`crate::defaults::PATTERN_BYTES_MAX`] bytes, not empty.
    pub fn new(text: impl Into<String>) -> Result<Pattern, Invalid> {
        let text = text.into();
        if text.is_empty() {
            return Err(Invalid::new("the regular expression is empty"));
        }
        if text.len() > crate::defaults::PATTERN_BYTES_MAX {
            return Err(Invalid::new(format!("the regular expression is {} bytes long", text.len()))
                .hint(format!("at most {} are allowed", crate::defaults::PATTERN_BYTES_MAX)));
        }
        Ok(Pattern(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringMatch {
    pub test: ValueTest,
    /// ASCII case; not for a regex, which says `(?i)` itself.
    pub ignore_case: bool,
}

impl StringMatch {
    pub fn exact(value: impl Into<String>) -> StringMatch {
        StringMatch { test: ValueTest::Exact(value.into()), ignore_case: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueTest {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Pattern),
}

/// A test of one header. Several values of the header are joined by `,` first, as Envoy does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    pub name: HeaderName,
    pub test: HeaderTest,
    /// The block asks for the opposite.
    pub invert: bool,
    /// An absent header counts as an empty one. Without this an absent header fails every test but
    /// [`HeaderTest::Present`], inverted or not.
    pub missing_as_empty: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderTest {
    /// Present where `true`, absent where `false`.
    Present(bool),
    Value(StringMatch),
    /// A decimal number in `start..end`.
    Range {
        start: i64,
        end: i64,
    },
}

/// A test of a query parameter (its first value, percent-encoding as sent) or of a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameMatch {
    pub name: String,
    /// `None` asks only that it is there.
    pub test: Option<StringMatch>,
    /// The block asks for the opposite. For cookies and query parameters alike an absent one fails
    /// a value test, and so passes the inverted one.
    pub invert: bool,
}

/// A name that a virtual host or a filter chain answers to; ASCII case does not matter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// Kept in lower case.
    Exact(String),
    /// `*.example.com` or `*-bar.com`: what follows the star. At least one character must stand in its place.
    Suffix(String),
    /// `example.*`: what precedes the star.
    Prefix(String),
    Any,
}

impl Domain {
    pub fn parse(text: &str) -> Result<Domain, Invalid> {
        let lower = text.to_ascii_lowercase();
        match lower.as_bytes() {
            [] => Err(Invalid::new("a domain may not be empty")),
            [b'*'] => Ok(Domain::Any),
            [b'*', rest @ ..] if !rest.contains(&b'*') => Ok(Domain::Suffix(lower[1..].to_owned())),
            [rest @ .., b'*'] if !rest.contains(&b'*') => {
                Ok(Domain::Prefix(lower[..lower.len() - 1].to_owned()))
            }
            all if !all.contains(&b'*') => Ok(Domain::Exact(lower)),
            _ => Err(Invalid::new(format!(
                "the domain '{text}' has a star that is neither its first nor its last character"
            ))
            .hint("write 'name', '*.suffix', 'prefix.*' or '*'")),
        }
    }

    /// Whether it takes a host in lower case, without its port.
    pub fn takes(&self, host: &str) -> bool {
        match self {
            Domain::Exact(name) => name == host,
            Domain::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Domain::Prefix(prefix) => host.len() > prefix.len() && host.starts_with(prefix.as_str()),
            Domain::Any => true,
        }
    }

    /// Of several that take a host the nearest is the one: exact, then the longer.
    pub fn nearness(&self) -> (u8, usize) {
        match self {
            Domain::Exact(name) => (3, name.len()),
            Domain::Suffix(suffix) => (2, suffix.len()),
            Domain::Prefix(prefix) => (1, prefix.len()),
            Domain::Any => (0, 0),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domain::Exact(name) => f.write_str(name),
            Domain::Suffix(suffix) => write!(f, "*{suffix}"),
            Domain::Prefix(prefix) => write!(f, "{prefix}*"),
            Domain::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_read_as_envoy_reads_them() {
        fn check(text: &str, expected: Option<Domain>) {
            assert_eq!(Domain::parse(text).ok(), expected, "{text}");
        }
        check("Example.COM", Some(Domain::Exact("example.com".into())));
        check("*.example.com", Some(Domain::Suffix(".example.com".into())));
        check("*-bar.com", Some(Domain::Suffix("-bar.com".into())));
        check("example.*", Some(Domain::Prefix("example.".into())));
        check("*", Some(Domain::Any));
        check("a.*.b", None);
        check("*.a.*", None);
        check("", None);
    }
}
