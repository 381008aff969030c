//! What a request that may have changed something makes worthless (RFC 9111, section 4.4).

use http::Method;
use http::header::{self, HeaderMap};
use naru_spec::CacheKeyQuery;

use crate::Place;
use crate::key::{kept_as, url_of};

/// Whether a request may change something. One of a method that is not known may.
pub fn is_unsafe(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// The URLs of which nothing is to be kept: the request's, and those of the same origin that its answer names, each as
/// whatever it may be kept where keys have these parts of queries. None where it was not done.
pub fn invalidated(
    place: Place<'_>,
    status: u16,
    response: &HeaderMap,
    queries: &[CacheKeyQuery],
) -> Vec<String> {
    if !(200..400).contains(&status) {
        return Vec::new();
    }
    let own = url_of(place);
    let named = [header::LOCATION, header::CONTENT_LOCATION].into_iter().filter_map(|name| {
        let said = response.get(name)?.to_str().ok()?;
        resolve(place, said).filter(|url| *url != own)
    });
    let named: Vec<String> = named.collect();
    std::iter::once(own).chain(named).flat_map(|url| kept_as(&url, queries)).collect()
}

/// Whether `Content-Location` is the URL of the request itself.
pub fn is_own_location(place: Place<'_>, response: &HeaderMap) -> bool {
    let said = response.get(header::CONTENT_LOCATION).and_then(|said| said.to_str().ok());
    said.and_then(|said| resolve(place, said)).is_some_and(|url| url == url_of(place))
}

/// What a reference means, where that is of the same origin (RFC 3986, section 5.2).
pub(crate) fn resolve(place: Place<'_>, said: &str) -> Option<String> {
    let said = said.split('#').next().unwrap_or_default();
    let Place { is_tls, authority, target } = place;
    let origin = url_of(Place { is_tls, authority, target: "" });
    let at = |target: &str| Some(url_of(Place { is_tls, authority, target: &without_dots(target) }));
    if let Some((scheme, rest)) = said.split_once("://")
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (other, path) = rest.split_at_checked(end)?;
        let is_tls = scheme.eq_ignore_ascii_case("https");
        let is_http = is_tls || scheme.eq_ignore_ascii_case("http");
        let same = is_http && url_of(Place { is_tls, authority: other, target: "" }) == origin;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        return same.then(|| at(&path)).flatten();
    }
    if let Some(rest) = said.strip_prefix("//") {
        let scheme = if is_tls { "https" } else { "http" };
        return resolve(place, &format!("{scheme}://{rest}"));
    }
    let path = target.split('?').next().unwrap_or_default();
    match said.chars().next() {
        None => at(target),
        Some('/') => at(said),
        Some('?') => at(&format!("{path}{said}")),
        Some(_) => {
            let folder = path.rfind('/').and_then(|end| path.get(..=end)).unwrap_or("/");
            at(&format!("{folder}{said}"))
        }
    }
}

fn without_dots(target: &str) -> String {
    let (path, query) =
        target.split_at_checked(target.find('?').unwrap_or(target.len())).unwrap_or((target, ""));
    if !path.contains("/.") {
        return target.to_owned();
    }
    let mut out: Vec<&str> = Vec::new();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    for (at, part) in parts.iter().enumerate() {
        let is_last = at + 1 == parts.len();
        match *part {
            "." | ".." => {
                if *part == ".." {
                    out.pop();
                }
                if is_last {
                    out.push("");
                }
            }
            part => out.push(part),
        }
    }
    format!("/{}{query}", out.join("/"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PLACE: Place<'_> = Place { is_tls: false, authority: "a.example", target: "/x/y?q" };

    #[test]
    fn what_was_done_is_gone_with_what_it_names_of_its_own() {
        let mut head = HeaderMap::new();
        assert_eq!(invalidated(PLACE, 204, &head, &[]), ["http://a.example/x/y?q"]);
        let only = [CacheKeyQuery::Only(vec!["a".to_owned()])];
        assert_eq!(invalidated(PLACE, 204, &head, &only), ["http://a.example/x/y?q", "http://a.example/x/y"]);
        assert!(invalidated(PLACE, 500, &head, &[]).is_empty());
        assert!(invalidated(PLACE, 404, &head, &[]).is_empty());
        head.insert("location", HeaderValue::from_static("/z"));
        head.insert("content-location", HeaderValue::from_static("http://b.example/z"));
        assert_eq!(invalidated(PLACE, 303, &head, &[]), ["http://a.example/x/y?q", "http://a.example/z"]);
    }

    #[test]
    fn references_are_resolved_where_they_are_of_the_same_origin() {
        let check = |said: &str, expected: Option<&str>| {
            assert_eq!(resolve(PLACE, said).as_deref(), expected, "{said}");
        };
        check("/z", Some("http://a.example/z"));
        check("z", Some("http://a.example/x/z"));
        check("../z/./w", Some("http://a.example/z/w"));
        check("../../../..", Some("http://a.example/"));
        check("?w", Some("http://a.example/x/y?w"));
        check("", Some("http://a.example/x/y?q"));
        check("#a", Some("http://a.example/x/y?q"));
        check("HTTP://A.example:80/z#a", Some("http://a.example/z"));
        check("//a.example", Some("http://a.example/"));
        check("https://a.example/z", None);
        check("http://a.example:81/z", None);
        check("ftp://a.example/z", None);
    }
}
