//! Is an answer compressed, and what head has it then?
//!
//! Envoy's `source/extensions/filters/http/compressor/compressor_filter.cc`, but that parts (206, or whatever has a
//! `Content-Range`) and answers of gRPC are never compressed: a client puts parts together by where they are, and gRPC
//! has codings of its own.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use naru_spec::{Coder, Compressor, ContentCoding, OnEtag};

use crate::{Accepted, members};

/// Decides about an answer, and changes its head for it. `compressors` stand in their order on the way of the request,
/// each with whether it knows what the client accepts: one before it may have taken that away. `has_ended` says that the
/// head is all of the answer.
pub fn begin(
    compressors: &[(&Compressor, bool)],
    accepted: &Accepted,
    status: u16,
    headers: &mut HeaderMap,
    has_ended: bool,
) -> Option<Coder> {
    let content_type = content_type(headers);
    let there = codings(compressors, content_type.as_deref());
    let chosen = accepted.choose(&there);
    let mut coder = None;
    let mut varies = false;
    // The last is the first on the way back.
    for (compressor, knows) in compressors.iter().rev() {
        if !may_be(compressor, status, headers, content_type.as_deref()) {
            continue;
        }
        varies = true;
        let coding = compressor.coder.coding();
        if *knows && !has_ended && chosen == Some(coding) && coder.is_none() {
            coder = Some(compressor.coder);
            match compressor.etag {
                OnEtag::Weaken => weaken(headers),
                OnEtag::Remove | OnEtag::Leave => remove_strong(headers),
            }
            headers.remove(header::CONTENT_LENGTH);
            headers.remove(header::ACCEPT_RANGES);
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        }
    }
    if varies {
        vary(headers);
    }
    coder
}

/// Says that the answer depends on `Accept-Encoding`.
pub fn vary(headers: &mut HeaderMap) {
    let said = headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
    let is_it = |name: &str| name == "*" || name.eq_ignore_ascii_case(header::ACCEPT_ENCODING.as_str());
    let is_said = said.flat_map(members).any(is_it);
    if !is_said {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// One that says what it is of, without parameters and in small letters.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let name = value.split(';').next().unwrap_or_default().trim_matches([' ', '\t']);
    Some(name.to_ascii_lowercase())
}

/// Of one coding, the first that is there speaks.
fn codings(compressors: &[(&Compressor, bool)], content_type: Option<&str>) -> Vec<(ContentCoding, bool)> {
    let mut there: Vec<(ContentCoding, bool)> = Vec::new();
    for (compressor, _) in compressors {
        let coding = compressor.coder.coding();
        if is_of_type(compressor, content_type) && there.iter().all(|(known, _)| *known != coding) {
            there.push((coding, compressor.is_first));
        }
    }
    there
}

fn is_of_type(compressor: &Compressor, content_type: Option<&str>) -> bool {
    match content_type {
        Some(name) if !compressor.content_types.is_empty() => {
            compressor.content_types.iter().any(|known| known == name)
        }
        _ => true,
    }
}

fn may_be(compressor: &Compressor, status: u16, headers: &HeaderMap, content_type: Option<&str>) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    let is_long = length.is_none_or(|length| {
        let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
        length.is_some_and(|length| length >= u64::from(compressor.length_min))
    });
    let is_grpc =
        content_type.is_some_and(|name| name == "application/grpc" || name.starts_with("application/grpc+"));
    is_long
        && !is_grpc
        && status >= 200
        && status != 206
        && !headers.contains_key(header::CONTENT_RANGE)
        && !compressor.statuses_not.contains(&status)
        && is_of_type(compressor, content_type)
        && !must_stay(headers)
        && !(compressor.etag == OnEtag::Leave && headers.contains_key(header::ETAG))
        && !headers.contains_key(header::CONTENT_ENCODING)
}

/// RFC 9110, section 7.7.
pub fn must_stay(headers: &HeaderMap) -> bool {
    let said = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    said.flat_map(members).any(|directive| directive.eq_ignore_ascii_case("no-transform"))
}

fn is_weak(etag: &HeaderValue) -> bool {
    etag.as_bytes().starts_with(b"W/") || etag.as_bytes().starts_with(b"w/")
}

fn remove_strong(headers: &mut HeaderMap) {
    if headers.get(header::ETAG).is_some_and(|etag| !is_weak(etag)) {
        headers.remove(header::ETAG);
    }
}

fn weaken(headers: &mut HeaderMap) {
    let Some(etag) = headers.get(header::ETAG).filter(|etag| !is_weak(etag)) else { return };
    let weak = [b"W/", etag.as_bytes()].concat();
    match HeaderValue::from_bytes(&weak) {
        Ok(weak) => headers.insert(header::ETAG, weak),
        Err(_) => headers.remove(header::ETAG),
    };
}

/// Which coding the body of a request is to be read out of, with the head that it then has. Where several were put on,
/// the last is taken off.
pub fn decode(
    codings: &[ContentCoding],
    ignores_no_transform: bool,
    headers: &mut HeaderMap,
) -> Option<ContentCoding> {
    if must_stay(headers) && !ignores_no_transform {
        return None;
    }
    let said: Vec<&str> = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .map(|value| value.to_str().unwrap_or("?"))
        .flat_map(members)
        .collect();
    let (last, before) = said.split_last()?;
    let is_it = |coding: &&ContentCoding| {
        last.eq_ignore_ascii_case(coding.name())
            || (**coding == ContentCoding::Gzip && last.eq_ignore_ascii_case("x-gzip"))
    };
    let coding = *codings.iter().find(is_it)?;
    let rest = HeaderValue::try_from(before.join(", ")).ok().filter(|_| !before.is_empty());
    headers.remove(header::CONTENT_ENCODING);
    if let Some(rest) = rest {
        headers.insert(header::CONTENT_ENCODING, rest);
    }
    // Both are of what came.
    headers.remove(header::CONTENT_LENGTH);
    for digest in ["content-md5", "digest", "content-digest"] {
        headers.remove(HeaderName::from_static(digest));
    }
    Some(coding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip() -> Compressor {
        Compressor::new(Coder::usual(ContentCoding::Gzip))
    }

    fn head(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn accepted(said: &str) -> Accepted {
        Accepted::of(&head(&[("accept-encoding", said)]))
    }

    fn check(what: &str, status: u16, fields: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut headers = head(fields);
        begin(&[(&gzip(), true)], &accepted("gzip"), status, &mut headers, false);
        assert_eq!(headers, head(expected), "{what}");
    }

    #[test]
    fn a_head_says_what_became_of_its_body() {
        let html = ("content-type", "text/html; charset=utf-8");
        let (coded, vary) = (("content-encoding", "gzip"), ("vary", "Accept-Encoding"));
        check("plain", 200, &[html, ("content-length", "30")], &[html, coded, vary]);
        check("without a length", 200, &[html], &[html, coded, vary]);
        check("an error", 500, &[html], &[html, coded, vary]);
        check("no type", 200, &[], &[coded, vary]);
        check("a strong tag", 200, &[html, ("etag", "\"a\"")], &[html, coded, vary]);
        check("a weak tag", 200, &[html, ("etag", "W/\"a\"")], &[html, ("etag", "W/\"a\""), coded, vary]);
        check("ranges", 200, &[html, ("accept-ranges", "bytes")], &[html, coded, vary]);
        let star = ("vary", "*");
        check("it varies with all", 200, &[html, star], &[html, coded, star]);
        let both = ("vary", "origin, accept-encoding");
        check("it says so", 200, &[html, both], &[html, coded, both]);
    }

    #[test]
    fn what_is_left_as_it_is_says_nothing() {
        let html = ("content-type", "text/html");
        let stays = |what: &str, status, fields: &[(&str, &str)]| check(what, status, fields, fields);
        stays("short", 200, &[html, ("content-length", "29")]);
        stays("no length", 200, &[html, ("content-length", "many")]);
        stays("another type", 200, &[("content-type", "image/png")]);
        stays("another coding", 200, &[html, ("content-encoding", "br")]);
        stays("no transform", 200, &[html, ("cache-control", "public, No-Transform")]);
        stays("a part", 206, &[html]);
        stays("a range", 416, &[html, ("content-range", "bytes */10")]);
        stays("interim", 101, &[html]);
    }

    #[test]
    fn who_does_not_want_it_is_told_that_others_may() {
        for (said, has_ended) in [("br", false), ("gzip", true)] {
            let mut headers = head(&[("content-length", "100"), ("etag", "\"a\"")]);
            assert_eq!(begin(&[(&gzip(), true)], &accepted(said), 200, &mut headers, has_ended), None);
            let expected = [("content-length", "100"), ("etag", "\"a\""), ("vary", "Accept-Encoding")];
            assert_eq!(headers, head(&expected));
        }
    }

    #[test]
    fn settings_act() {
        let mut etag = gzip();
        etag.etag = OnEtag::Leave;
        let mut headers = head(&[("etag", "W/\"a\"")]);
        assert_eq!(begin(&[(&etag, true)], &accepted("gzip"), 200, &mut headers, false), None);
        assert!(!headers.contains_key("vary"));
        etag.etag = OnEtag::Weaken;
        let mut headers = head(&[("etag", "\"a\"")]);
        assert!(begin(&[(&etag, true)], &accepted("gzip"), 200, &mut headers, false).is_some());
        assert_eq!(headers["etag"], "W/\"a\"");
        let mut codes = gzip();
        codes.statuses_not = vec![404];
        assert_eq!(begin(&[(&codes, true)], &accepted("gzip"), 404, &mut HeaderMap::new(), false), None);
        assert!(begin(&[(&codes, true)], &accepted("gzip"), 200, &mut HeaderMap::new(), false).is_some());
        let mut types = gzip();
        types.content_types = Vec::new();
        let mut headers = head(&[("content-type", "image/png")]);
        assert!(begin(&[(&types, true)], &accepted("gzip"), 200, &mut headers, false).is_some());
        let mut headers = head(&[("content-type", "application/grpc")]);
        assert_eq!(begin(&[(&types, true)], &accepted("gzip"), 200, &mut headers, false), None);
    }

    #[test]
    fn of_several_one_compresses() {
        let brotli = Compressor::new(Coder::usual(ContentCoding::Brotli));
        let gzip = gzip();
        let both = [(&gzip, true), (&brotli, true)];
        for (said, expected) in
            [("gzip, br", "gzip"), ("br, gzip", "br"), ("gzip;q=0.1, br", "br"), ("*", "gzip")]
        {
            let mut headers = head(&[("content-type", "text/css")]);
            assert!(begin(&both, &accepted(said), 200, &mut headers, false).is_some(), "{said}");
            assert_eq!(headers["content-encoding"], expected, "{said}");
            assert_eq!(headers.get_all("vary").iter().count(), 1, "{said}");
        }
        // One that is for another type leaves the choice to others.
        let mut scripts = gzip.clone();
        scripts.content_types = vec!["application/javascript".to_owned()];
        let mut headers = head(&[("content-type", "text/css")]);
        assert!(
            begin(
                &[(&scripts, true), (&brotli, true)],
                &accepted("gzip, br;q=0.1"),
                200,
                &mut headers,
                false
            )
            .is_some()
        );
        assert_eq!(headers["content-encoding"], "br");
    }

    #[test]
    fn the_last_coding_of_a_request_is_taken_off() {
        let all = ContentCoding::ALL;
        let check = |said: &[&str], expected, rest: Option<&str>| {
            let mut headers: HeaderMap = head(&[("content-length", "9"), ("content-md5", "x")]);
            said.iter().for_each(|said| {
                headers.append("content-encoding", said.parse().unwrap());
            });
            assert_eq!(decode(&all, false, &mut headers), expected, "{said:?}");
            assert_eq!(headers.get("content-encoding").map(|v| v.to_str().unwrap()), rest, "{said:?}");
            assert_eq!(headers.contains_key("content-length"), expected.is_none());
            assert_eq!(headers.contains_key("content-md5"), expected.is_none());
        };
        check(&["gzip"], Some(ContentCoding::Gzip), None);
        check(&["x-GZIP"], Some(ContentCoding::Gzip), None);
        check(&["zstd, br"], Some(ContentCoding::Brotli), Some("zstd"));
        check(&["zstd", "br"], Some(ContentCoding::Brotli), Some("zstd"));
        check(&["deflate"], None, Some("deflate"));
        check(&[], None, None);
        let mut headers = head(&[("content-encoding", "gzip"), ("cache-control", "no-transform")]);
        assert_eq!(decode(&all, false, &mut headers), None);
        assert_eq!(decode(&all, true, &mut headers), Some(ContentCoding::Gzip));
        let mut headers = head(&[("content-encoding", "gzip")]);
        assert_eq!(decode(&[ContentCoding::Zstd], false, &mut headers), None);
    }
}
