//! What an answer is found by: its URL, and what the route says beside it.

use http::header::{self, HeaderMap};
use naru_base::text::percent_decoded;
use naru_spec::{CacheKeyParts, CacheKeyQuery};

/// Where a request leads to.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub is_tls: bool,
    pub authority: &'a str,
    /// With its query.
    pub target: &'a str,
}

/// So many parts tell the answers of routes and clusters apart.
const OF_ROUTE: usize = 2;

/// A URL, which all that is known of it hangs on, and which of its answers are meant: those of one route and one
/// cluster, with these headers and cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    text: Box<str>,
    url_len: u32,
}

impl Key {
    /// `route` tells the answers of routes and clusters apart that the same URL leads to: a rule and a cluster.
    pub fn new(place: Place<'_>, parts: &CacheKeyParts, headers: &HeaderMap, route: &[&str]) -> Key {
        let mut text = String::with_capacity(place.authority.len() + place.target.len() + 32);
        write_url(place, &mut text);
        let url_len = text.len() as u32;
        if let Some(query) = left_of(place.target, &parts.query) {
            // All that differ in what is not looked at are one URL.
            let end = text.find('?').unwrap_or(text.len());
            text.truncate(end);
            if !query.is_empty() {
                text.push('?');
                text.push_str(&query);
            }
            return Key::finish(text, parts, headers, route);
        }
        Key::finish_at(text, url_len, parts, headers, route)
    }

    fn finish(text: String, parts: &CacheKeyParts, headers: &HeaderMap, route: &[&str]) -> Key {
        let url_len = text.len() as u32;
        Key::finish_at(text, url_len, parts, headers, route)
    }

    fn finish_at(
        mut text: String,
        url_len: u32,
        parts: &CacheKeyParts,
        headers: &HeaderMap,
        route: &[&str],
    ) -> Key {
        write_route(route, &mut text);
        for name in &parts.headers {
            text.push('\n');
            for value in headers.get_all(name) {
                push_bytes(value.as_bytes(), &mut text);
                text.push(',');
            }
        }
        for name in &parts.cookies {
            text.push('\n');
            // Of several some who read them take the first and some the last.
            for value in cookies(headers, name) {
                push_bytes(value, &mut text);
                text.push(';');
            }
        }
        Key { text: text.into_boxed_str(), url_len }
    }

    pub fn url(&self) -> &str {
        self.text.get(..self.url_len as usize).unwrap_or_default()
    }

    /// What tells it from others of its URL.
    pub fn beside(&self) -> &str {
        self.text.get(self.url_len as usize..).unwrap_or_default()
    }

    /// What of it requests say in headers and cookies: what stands behind URL, rule and cluster.
    pub(crate) fn of_request(&self) -> &str {
        let beside = self.beside();
        let from = beside.match_indices('\n').nth(OF_ROUTE).map(|(at, _)| at);
        from.and_then(|from| beside.get(from..)).unwrap_or_default()
    }

    /// Whether it is this, of which so many bytes are its URL.
    #[inline]
    pub(crate) fn is(&self, text: &str, url_len: usize) -> bool {
        self.url_len as usize == url_len && *self.text == *text
    }

    /// All of it, and how long its URL is.
    pub(crate) fn text(&self) -> (&str, u32) {
        (&self.text, self.url_len)
    }

    /// As [`Key::text`] has said it.
    pub(crate) fn of_text(text: &str, url_len: u32) -> Option<Key> {
        let is_one = url_len > 0 && text.is_char_boundary(url_len as usize);
        is_one.then(|| Key { text: text.into(), url_len })
    }

    pub fn len(&self) -> usize {
        self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// What stands beside the URL in the keys of a route of which nothing else of a request is looked at: see [`KeyText`].
pub fn beside_of(parts: &CacheKeyParts, route: &[&str]) -> Option<String> {
    let CacheKeyParts { headers, cookies, query } = parts;
    let is_all = headers.is_empty() && cookies.is_empty() && *query == CacheKeyQuery::All;
    is_all.then(|| {
        let mut beside = String::new();
        write_route(route, &mut beside);
        beside
    })
}

/// A key that somebody is looking by, in room that is used again.
#[derive(Debug, Default)]
pub struct KeyText {
    text: String,
    url_len: usize,
}

impl KeyText {
    /// Of a place, with what [`beside_of`] has said of its route.
    #[inline]
    pub fn set(&mut self, place: Place<'_>, beside: &str) {
        self.text.clear();
        write_url(place, &mut self.text);
        self.url_len = self.text.len();
        self.text.push_str(beside);
    }

    pub fn url(&self) -> &str {
        self.text.get(..self.url_len).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn is(&self, key: &Key) -> bool {
        key.is(&self.text, self.url_len)
    }
}

fn write_route(route: &[&str], out: &mut String) {
    for part in route {
        out.push('\n');
        out.push_str(part);
    }
}

/// The URL as it is kept: `https://example.com/path?query`.
pub fn url_of(place: Place<'_>) -> String {
    let mut text = String::with_capacity(place.authority.len() + place.target.len() + 8);
    write_url(place, &mut text);
    text
}

fn write_url(place: Place<'_>, out: &mut String) {
    let (scheme, port) = if place.is_tls { ("https://", ":443") } else { ("http://", ":80") };
    out.push_str(scheme);
    let authority = place.authority.strip_suffix(port).unwrap_or(place.authority);
    let from = out.len();
    out.push_str(authority);
    if let Some(written) = out.get_mut(from..) {
        written.make_ascii_lowercase();
    }
    out.push_str(place.target);
}

/// What a URL may be kept as, where keys have these parts of queries: as it is, and with what each of them leaves.
pub fn kept_as(url: &str, queries: &[CacheKeyQuery]) -> Vec<String> {
    let mut all = vec![url.to_owned()];
    for query in queries {
        if let Some(left) = left_of(url, query) {
            let path = url.split('?').next().unwrap_or_default();
            let kept = if left.is_empty() { path.to_owned() } else { format!("{path}?{left}") };
            if !all.contains(&kept) {
                all.push(kept);
            }
        }
    }
    all
}

/// The query of a target as a key has it; `None` where that is all of it.
fn left_of(target: &str, query: &CacheKeyQuery) -> Option<String> {
    match query {
        CacheKeyQuery::All => None,
        CacheKeyQuery::Only(names) => {
            // However it is written, whoever reads it may read that name.
            Some(chosen(target, |name| names.iter().any(|known| *known == name || *known == decoded(name))))
        }
        // One that is written another way may be another one to whoever reads it.
        CacheKeyQuery::Without(names) => Some(chosen(target, |name| !names.iter().any(|n| n == name))),
    }
}

/// The parameters of a target that are looked at, as they are written. One with a semicolon always is: to some who read
/// it, others stand behind that.
fn chosen(target: &str, is_chosen: impl Fn(&str) -> bool) -> String {
    let Some((_, query)) = target.split_once('?') else { return String::new() };
    let name_of = |one: &str| is_chosen(one.split_once('=').map_or(one, |(name, _)| name));
    let all = query.split('&').filter(|one| one.contains(';') || name_of(one));
    all.collect::<Vec<_>>().join("&")
}

/// A name as forms write it (URL Standard, `application/x-www-form-urlencoded`).
fn decoded(name: &str) -> String {
    String::from_utf8_lossy(&percent_decoded(name.replace('+', " ").as_bytes())).into_owned()
}

/// Nothing of a client's ends a line, and bytes that are no text are told apart.
fn push_bytes(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        match byte {
            b' '..=b'~' if *byte != b'%' => out.push(char::from(*byte)),
            _ => {
                out.push('%');
                for half in [byte >> 4, byte & 15] {
                    out.extend(char::from_digit(u32::from(half), 16));
                }
            }
        }
    }
}

fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let all = headers.get_all(header::COOKIE).iter();
    // No quotes hold a semicolon in a cookie (RFC 6265, section 4.1.1).
    let pairs = all.flat_map(|value| value.as_bytes().split(|byte| *byte == b';')).map(crate::list::trim);
    pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn key(target: &str, parts: &CacheKeyParts, headers: &HeaderMap) -> Key {
        Key::new(Place { is_tls: false, authority: "A.example:80", target }, parts, headers, &["r", "c"])
    }

    #[test]
    fn urls_are_told_apart_by_all_that_makes_them() {
        let none = HeaderMap::new();
        let all = CacheKeyParts::default();
        assert_eq!(key("/x?b=1", &all, &none).url(), "http://a.example/x?b=1");
        assert_ne!(key("/x?b=1", &all, &none), key("/x?b=2", &all, &none));
        assert_ne!(key("/x", &all, &none), key("/X", &all, &none));
    }

    #[test]
    fn parameters_that_are_not_looked_at_are_not_there() {
        let without = CacheKeyQuery::Without(vec!["utm".to_owned()]);
        let parts = CacheKeyParts { query: without, ..CacheKeyParts::default() };
        assert_eq!(key("/x?a=1&utm=2", &parts, &HeaderMap::new()).url(), "http://a.example/x?a=1");
        assert_eq!(key("/x?utm=2", &parts, &HeaderMap::new()), key("/x", &parts, &HeaderMap::new()));
        let only = CacheKeyParts { query: CacheKeyQuery::Only(vec!["a".to_owned()]), ..parts };
        assert_eq!(key("/x?b=2&a=1", &only, &HeaderMap::new()).url(), "http://a.example/x?a=1");
    }

    /// Whoever reads a query or cookies may read them another way: what he may see is in the key.
    #[test]
    fn parameters_and_cookies_that_hide_behind_others_are_looked_at() {
        let none = HeaderMap::new();
        let of = |query: CacheKeyQuery, target: &str| {
            key(target, &CacheKeyParts { query, ..CacheKeyParts::default() }, &none).url().to_owned()
        };
        let only = |target: &str| of(CacheKeyQuery::Only(vec!["page".to_owned()]), target);
        assert_eq!(only("/x?page=1&p%61ge=2&a=3"), "http://a.example/x?page=1&p%61ge=2");
        assert_eq!(only("/x?utm=1;page=2"), "http://a.example/x?utm=1;page=2");
        assert_eq!(only("/x?pages=1&page"), "http://a.example/x?page");
        let without = |target: &str| of(CacheKeyQuery::Without(vec!["utm".to_owned()]), target);
        assert_eq!(without("/x?utm=1;page=2&utm=3"), "http://a.example/x?utm=1;page=2");
        assert_eq!(without("/x?%75tm=1"), "http://a.example/x?%75tm=1");
        let parts = CacheKeyParts { cookies: vec!["user".to_owned()], ..CacheKeyParts::default() };
        let with = |cookies: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("cookie", HeaderValue::from_static(cookies));
            key("/", &parts, &headers)
        };
        assert_ne!(with("user=1; user=2"), with("user=1"));
        assert_ne!(with("user=1; user=2"), with("user=2"));
        assert_eq!(with("a=\"b; user=1; c=\""), with("user=1"), "quotes hide no cookie");
    }

    #[test]
    fn a_url_is_found_by_whatever_it_is_kept_as() {
        let without = CacheKeyQuery::Without(vec!["utm".to_owned()]);
        let only = CacheKeyQuery::Only(vec!["page".to_owned()]);
        let all = |url: &str| kept_as(url, &[without.clone(), only.clone(), CacheKeyQuery::All]);
        assert_eq!(all("http://a/x"), ["http://a/x"]);
        assert_eq!(all("http://a/x?utm=1"), ["http://a/x?utm=1", "http://a/x"]);
        let three =
            ["http://a/x?page=1&b=2&utm=3", "http://a/x?page=1&b=2", "http://a/x?page=1"].map(str::to_owned);
        assert_eq!(all("http://a/x?page=1&b=2&utm=3"), three);
        for query in [&without, &only] {
            let parts = CacheKeyParts { query: query.clone(), ..CacheKeyParts::default() };
            let place = Place { is_tls: false, authority: "a", target: "/x?page=1&b=2&utm=3" };
            let key = Key::new(place, &parts, &HeaderMap::new(), &["r", "c"]);
            assert!(three.iter().any(|url| url == key.url()), "{}", key.url());
        }
    }

    #[test]
    fn what_requests_say_in_a_key_is_told_from_its_route() {
        let parts =
            CacheKeyParts { cookies: vec!["user".to_owned(), "b".to_owned()], ..CacheKeyParts::default() };
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_static("user=1"));
        assert_eq!(key("/x", &parts, &headers).of_request(), "\n1;\n");
        assert_eq!(key("/x", &CacheKeyParts::default(), &headers).of_request(), "");
    }

    #[test]
    fn a_key_that_is_looked_by_is_the_one_that_is_kept() {
        let (all, none) = (CacheKeyParts::default(), HeaderMap::new());
        let place = Place { is_tls: false, authority: "A.example:80", target: "/x?b=1" };
        let beside = beside_of(&all, &["r", "c"]).expect("nothing of the request");
        let mut text = KeyText::default();
        for other in ["/longer?than=this", "/x?b=1"] {
            text.set(Place { target: other, ..place }, &beside);
            assert_eq!(text.is(&Key::new(place, &all, &none, &["r", "c"])), other == place.target);
        }
        assert_eq!(text.url(), "http://a.example/x?b=1");
        assert!(!text.is(&Key::new(place, &all, &none, &["r", "d"])));
        let without = CacheKeyQuery::Without(vec!["b".to_owned()]);
        assert_eq!(beside_of(&CacheKeyParts { query: without, ..all.clone() }, &[]), None);
        assert_eq!(beside_of(&CacheKeyParts { cookies: vec!["a".to_owned()], ..all }, &[]), None);
    }

    #[test]
    fn what_a_client_says_cannot_look_like_another_part() {
        let parts = CacheKeyParts {
            headers: vec![HeaderName::from_static("x-a"), HeaderName::from_static("x-b")],
            cookies: vec!["user".to_owned()],
            ..CacheKeyParts::default()
        };
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            key("/", &parts, &headers)
        };
        let all = [
            with("x-a", "1"),
            with("x-b", "1"),
            with("x-a", "%31"),
            with("cookie", "user=1"),
            with("cookie", "user="),
        ];
        for (at, one) in all.iter().enumerate() {
            for other in all.iter().skip(at + 1) {
                assert_ne!(one, other);
            }
        }
    }
}
