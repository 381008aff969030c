//! Where tokens stand in a request: headers, parameters, cookies. Envoy's `extractor.cc`.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::text::percent_decoded;

/// Letters of tokens, and the dots between their parts.
fn is_of_tokens(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// A place, and whose tokens may stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub kind: Kind,
    /// Providers by their index.
    pub of: Vec<usize>,
}

/// A place of a request in which a token may stand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Header { name: String, prefix: String },
    Param(String),
    Cookie(String),
}

/// Places in the order in which they are looked at: headers, parameters, cookies, each by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Vec<Place>);

/// A token, and the number of its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub token: Cow<'a, str>,
    pub place: usize,
}

impl Places {
    pub fn of(kinds: impl IntoIterator<Item = (Kind, usize)>) -> Places {
        let mut places: Vec<Place> = Vec::new();
        for (kind, provider) in kinds {
            match places.iter_mut().find(|place| place.kind == kind) {
                Some(place) => place.of.push(provider),
                None => places.push(Place { kind, of: vec![provider] }),
            }
        }
        places.sort_by(|one, other| one.kind.cmp(&other.kind));
        Places(places)
    }

    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.0.iter().map(|place| &place.kind)
    }

    pub fn get(&self, place: usize) -> Option<&Place> {
        self.0.get(place)
    }

    /// Each token of a request.
    pub fn find<'a>(&self, headers: &'a HeaderMap, query: Option<&'a str>) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        for (place, known) in self.0.iter().enumerate() {
            match &known.kind {
                Kind::Header { name, prefix } => {
                    if let Some(joined) = joined(headers, name) {
                        let token = behind(&joined, prefix).map(|token| Cow::Owned(token.to_owned()));
                        found.extend(token.map(|token| Found { token, place }));
                        continue;
                    }
                    for value in headers.get_all(name) {
                        if let Some(token) = value.to_str().ok().and_then(|value| behind(value, prefix)) {
                            found.push(Found { token: Cow::Borrowed(token), place });
                        }
                    }
                }
                Kind::Param(name) => {
                    found.extend(param(query, name).map(|token| Found { token, place }));
                }
                Kind::Cookie(name) => {
                    found.extend(cookie(headers, name).map(|token| Found { token, place }));
                }
            }
        }
        found
    }

    /// Takes a token away where it stood. The other parameters, where one was taken.
    pub fn remove(&self, place: usize, headers: &mut HeaderMap, query: Option<&str>) -> Option<String> {
        match &self.get(place)?.kind {
            Kind::Header { name, .. } => {
                if let Ok(name) = HeaderName::try_from(name) {
                    headers.remove(name);
                }
                None
            }
            Kind::Param(name) => Some(without(query?, |param| param == name)),
            // Envoy leaves cookies alone.
            Kind::Cookie(_) => None,
        }
    }
}

/// A query without the parameters whose names are meant.
pub(crate) fn without(query: &str, is_meant: impl Fn(&str) -> bool) -> String {
    let kept: Vec<_> = query.split('&').filter(|pair| !is_meant(&name_of(pair))).collect();
    kept.join("&")
}

/// Several of `Authorization` are one to Envoy, with commas between: no token, then.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    if name != AUTHORIZATION.as_str() || headers.get_all(name).iter().nth(1).is_none() {
        return None;
    }
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    Some(values.collect::<Vec<_>>().join(","))
}

/// What stands behind a prefix, wherever that is, from the first letter of a token on; what has no such
/// letter is taken as it is, and is no token.
fn behind<'a>(value: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(value);
    }
    let at = value.find(prefix)? + prefix.len();
    let rest = value.get(at..)?;
    Some(rest.bytes().position(is_of_tokens).map_or(value, |start| rest.get(start..).unwrap_or_default()))
}

fn name_of(pair: &str) -> Cow<'_, str> {
    decoded(pair.split_once('=').map_or(pair, |(name, _)| name))
}

/// The first parameter of that name.
fn param<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, str>> {
    let pair = query?.split('&').find(|pair| name_of(pair) == name)?;
    Some(decoded(pair.split_once('=').map_or("", |(_, value)| value)))
}

fn decoded(text: &str) -> Cow<'_, str> {
    match percent_decoded(text.as_bytes()) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(plain) => Cow::Owned(String::from_utf8_lossy(&plain).into_owned()),
    }
}

/// The first cookie of that name, without the quotes around its value.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    // What stands beside it may be bytes of any kind: browsers send whatever scripts have written.
    let values = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes);
    let mut pairs = values.flat_map(|value| value.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let value = pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    let plain = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    Some(String::from_utf8_lossy(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn bearer() -> Kind {
        Kind::Header { name: "authorization".into(), prefix: "Bearer ".into() }
    }

    #[track_caller]
    fn finds(kind: Kind, pairs: &[(&'static str, &str)], query: Option<&str>, expected: &[&str]) {
        let headers = headers(pairs);
        let places = Places::of([(kind, 0)]);
        let found: Vec<_> = places.find(&headers, query).into_iter().map(|found| found.token).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_token_stands_behind_its_prefix() {
        finds(bearer(), &[("authorization", "Bearer a.b.c")], None, &["a.b.c"]);
        finds(bearer(), &[("authorization", "Bearer   a.b.c x")], None, &["a.b.c x"]);
        finds(bearer(), &[("authorization", "Basic Bearer a")], None, &["a"]);
        finds(bearer(), &[("authorization", "Bearer ?")], None, &["Bearer ?"]);
        finds(bearer(), &[("authorization", "bearer a.b.c")], None, &[]);
        finds(
            bearer(),
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
            None,
            &["a,Bearer b"],
        );
        let other = Kind::Header { name: "x-token".into(), prefix: "t ".into() };
        finds(other, &[("x-token", "t a"), ("x-token", "t b")], None, &["a", "b"]);
        let plain = Kind::Header { name: "x-token".into(), prefix: String::new() };
        finds(plain, &[("x-token", " a")], None, &[" a"]);
    }

    #[test]
    fn a_parameter_is_the_first_of_its_name() {
        let kind = || Kind::Param("access_token".into());
        finds(kind(), &[], Some("x=1&access_token=a&access_token=b"), &["a"]);
        finds(kind(), &[], Some("access%5Ftoken=a%2eb%"), &["a.b%"]);
        finds(kind(), &[], Some("access_token"), &[""]);
        finds(kind(), &[], Some("access_tokens=a"), &[]);
        finds(kind(), &[], None, &[]);
    }

    #[test]
    fn a_cookie_may_have_quotes() {
        let kind = || Kind::Cookie("t".into());
        finds(kind(), &[("cookie", "s=1; t=\"a\"")], None, &["a"]);
        finds(kind(), &[("cookie", "tt=1"), ("cookie", "t=b")], None, &["b"]);
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_bytes("nick=철수; t=b".as_bytes()).unwrap());
        assert_eq!(cookie(&headers, "t").as_deref(), Some("b"), "others are no text of ours");
    }

    #[test]
    fn a_token_is_taken_away_with_its_header_or_parameter() {
        let places = Places::of([(bearer(), 0), (Kind::Param("t".into()), 0), (Kind::Cookie("t".into()), 0)]);
        let mut headers = headers(&[("authorization", "Bearer a"), ("cookie", "t=b")]);
        assert_eq!(places.remove(0, &mut headers, Some("t=1")), None);
        assert!(!headers.contains_key("authorization"));
        assert_eq!(places.remove(1, &mut headers, Some("a=1&t=2&b=%20&t")).as_deref(), Some("a=1&b=%20"));
        assert_eq!(places.remove(2, &mut headers, None), None);
        assert!(headers.contains_key("cookie"));
    }

    #[test]
    fn parameters_with_tokens_are_left_out_however_they_are_written() {
        let is_token = |name: &str| name == "access_token";
        assert_eq!(without("a=1&access%5Ftoken=x&b&access_token=y&access_token", is_token), "a=1&b");
        assert_eq!(without("access_tokens=x", is_token), "access_tokens=x");
        assert_eq!(without("access_token=x", is_token), "");
    }

    #[test]
    fn a_place_belongs_to_all_who_name_it() {
        let places = Places::of([(bearer(), 0), (Kind::Param("t".into()), 1), (bearer(), 2)]);
        assert_eq!(places.get(0).map(|place| place.of.clone()), Some(vec![0, 2]));
        assert_eq!(places.get(1).map(|place| place.of.clone()), Some(vec![1]));
    }
}
