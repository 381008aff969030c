//! Which codings does a body leave and come into on its way, and what head has it then?
//!
//! Envoy's `source/extensions/filters/http/compressor/compressor_filter.cc`, but that parts (206, or whatever has a
//! `Content-Range`) and answers of gRPC are never compressed: a client puts parts together by where they are, and gRPC
//! has codings of its own.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use naru_spec::{Coder, CompressedRequests, Compressor, ContentCoding, Decompressor, OnEtag};

use crate::{Accepted, members};

/// `x-envoy-compression-status`.
pub const STATUS: HeaderName = HeaderName::from_static("x-envoy-compression-status");

/// Somebody on the way of an answer.
#[derive(Clone, Copy, Debug)]
pub enum OnWay<'a> {
    /// With whether it knows what the client accepts: one before it may have taken that away.
    Compress(&'a Compressor, bool),
    Decompress(&'a Decompressor),
}

/// What is done to the body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Decode(Decode),
    Encode(Coder),
}

/// Out of which coding a body is read, and how much may come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decode {
    pub coding: ContentCoding,
    pub bytes_max: u64,
    pub ratio_max: u32,
}

impl Decode {
    fn of(coding: ContentCoding, settings: &Decompressor) -> Decode {
        Decode { coding, bytes_max: settings.bytes_max, ratio_max: settings.ratio_max }
    }
}

/// Decides about an answer, and changes its head for it. `way` are those that it meets, in their order on the way of the
/// request. `has_ended` says that the head is all of the answer. What is to be done stands in the order in which it is.
pub fn begin(
    way: &[OnWay<'_>],
    accepted: Option<&Accepted>,
    status: u16,
    headers: &mut HeaderMap,
    has_ended: bool,
) -> Vec<Layer> {
    let content_type = content_type(headers);
    let there = codings(way, content_type.as_deref());
    let chosen = accepted.and_then(|accepted| accepted.choose(&there));
    let mut layers = Vec::new();
    let mut varies = false;
    // The last is the first on the way back.
    for one in way.iter().rev() {
        let (compressor, knows) = match *one {
            OnWay::Compress(compressor, knows) => (compressor, knows),
            OnWay::Decompress(settings) => {
                layers.extend(undone(settings, status, headers, has_ended));
                continue;
            }
        };
        if let Some(skipped) = skipped(compressor, status, headers, content_type.as_deref()) {
            tell(compressor, skipped.map(str::as_bytes), headers);
            continue;
        }
        varies = true;
        let coding = compressor.coder.coding();
        let is_encoded = layers.iter().any(|layer| matches!(layer, Layer::Encode(_)));
        if knows && !has_ended && chosen == Some(coding) && !is_encoded {
            layers.push(Layer::Encode(compressor.coder));
            match compressor.etag {
                OnEtag::Weaken => weaken(headers),
                OnEtag::Remove | OnEtag::Leave => remove_strong(headers),
            }
            let length = headers.remove(header::CONTENT_LENGTH);
            headers.remove(header::ACCEPT_RANGES);
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            let length = length.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
            let said = [&b"Compressed;OriginalLength="[..], length].concat();
            tell(compressor, Some(&said), headers);
        }
    }
    if varies {
        vary(headers);
    }
    layers
}

/// An answer is read out of its coding. Parts are parts of what is in it.
fn undone(settings: &Decompressor, status: u16, headers: &mut HeaderMap, has_ended: bool) -> Option<Layer> {
    let answers = settings.answers.as_ref()?;
    if has_ended || status < 200 || status == 206 || headers.contains_key(header::CONTENT_RANGE) {
        return None;
    }
    let coding = decode(&settings.codings, answers.ignores_no_transform, headers)?;
    // What it said of its bytes was of others.
    weaken(headers);
    headers.remove(header::ACCEPT_RANGES);
    Some(Layer::Decode(Decode::of(coding, settings)))
}

/// Says what a compressor did, where it is asked to.
fn tell(compressor: &Compressor, status: Option<&[u8]>, headers: &mut HeaderMap) {
    let Some(status) = status.filter(|_| compressor.tells_status) else { return };
    let said = [compressor.coder.coding().name().as_bytes(), b";", status].concat();
    if let Ok(said) = HeaderValue::from_bytes(&said) {
        headers.append(STATUS, said);
    }
}

/// Which coding the body of a request comes into, with the head that it then has.
pub fn encode(compressor: &Compressor, headers: &mut HeaderMap) -> Option<Coder> {
    let CompressedRequests { length_min, content_types } = compressor.requests.as_ref()?;
    let content_type = content_type(headers);
    let is_one = is_long(headers, *length_min)
        && is_of_type(content_types, content_type.as_deref())
        && !is_grpc(content_type.as_deref())
        && !must_stay(headers)
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE);
    if !is_one {
        return None;
    }
    forget_bytes(headers);
    let coding = compressor.coder.coding();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    Some(compressor.coder)
}

/// Tells upstreams that answers may be in a coding: once, and as gladly as any other.
pub fn advertise(codings: &[ContentCoding], headers: &mut HeaderMap) {
    let said: Vec<String> = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(members)
        .map(str::to_owned)
        .collect();
    let is_other = |member: &&String| {
        let name = member.split(';').next().unwrap_or_default().trim();
        codings.iter().all(|coding| !name.eq_ignore_ascii_case(coding.name()))
    };
    let others = said.iter().filter(is_other).map(String::as_str);
    let all: Vec<&str> = others.chain(codings.iter().map(|coding| coding.name())).collect();
    if let Ok(value) = HeaderValue::try_from(all.join(",")) {
        headers.insert(header::ACCEPT_ENCODING, value);
    }
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
fn codings(way: &[OnWay<'_>], content_type: Option<&str>) -> Vec<(ContentCoding, bool)> {
    let mut there: Vec<(ContentCoding, bool)> = Vec::new();
    for one in way {
        let OnWay::Compress(compressor, _) = one else { continue };
        let coding = compressor.coder.coding();
        if is_of_type(&compressor.content_types, content_type)
            && there.iter().all(|(known, _)| *known != coding)
        {
            there.push((coding, compressor.is_first));
        }
    }
    there
}

fn is_of_type(types: &[String], content_type: Option<&str>) -> bool {
    content_type.is_none_or(|name| types.is_empty() || types.iter().any(|known| known == name))
}

fn is_long(headers: &HeaderMap, min: u32) -> bool {
    headers.get(header::CONTENT_LENGTH).is_none_or(|length| {
        let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
        length.is_some_and(|length| length >= u64::from(min))
    })
}

fn is_grpc(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|name| name == "application/grpc" || name.starts_with("application/grpc+"))
}

/// Whether an answer is one that is not compressed, whatever its client accepts, and what is said of it then.
fn skipped(
    compressor: &Compressor,
    status: u16,
    headers: &HeaderMap,
    content_type: Option<&str>,
) -> Option<Option<&'static str>> {
    if status < 200 || headers.contains_key(header::CONTENT_ENCODING) || must_stay(headers) {
        return Some(None);
    }
    if !is_long(headers, compressor.length_min) {
        return Some(Some("ContentLengthTooSmall"));
    }
    if !is_of_type(&compressor.content_types, content_type) {
        return Some(Some("ContentTypeNotAllowed"));
    }
    if compressor.etag == OnEtag::Leave && headers.contains_key(header::ETAG) {
        return Some(Some("EtagNotAllowed"));
    }
    if compressor.statuses_not.contains(&status) {
        return Some(Some("StatusCodeNotAllowed"));
    }
    let is_part = status == 206 || headers.contains_key(header::CONTENT_RANGE);
    (is_part || is_grpc(content_type)).then_some(None)
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

/// Which coding a body is to be read out of, with the head that it then has. Where several were put on, the last is taken
/// off.
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
    forget_bytes(headers);
    Some(coding)
}

/// What is said of the bytes that came is of no others.
fn forget_bytes(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    for digest in ["content-md5", "digest", "content-digest"] {
        headers.remove(HeaderName::from_static(digest));
    }
}

#[cfg(test)]
mod tests {
    use naru_spec::DecompressedAnswers;

    use super::*;

    /// Of compressors alone.
    fn begin(
        compressors: &[(&Compressor, bool)],
        accepted: &Accepted,
        status: u16,
        headers: &mut HeaderMap,
        has_ended: bool,
    ) -> Option<Coder> {
        let way: Vec<OnWay<'_>> =
            compressors.iter().map(|(one, knows)| OnWay::Compress(one, *knows)).collect();
        match super::begin(&way, Some(accepted), status, headers, has_ended)[..] {
            [] => None,
            [Layer::Encode(coder)] => Some(coder),
            ref other => unreachable!("{other:?}"),
        }
    }

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

    fn decompressor(coding: ContentCoding) -> Decompressor {
        let mut made = Decompressor::new(vec![coding]);
        made.answers = Some(DecompressedAnswers { ignores_no_transform: false, is_told: true });
        made
    }

    #[test]
    fn an_answer_is_read_out_of_its_coding() {
        let gzip = decompressor(ContentCoding::Gzip);
        let mut off = gzip.clone();
        off.answers = None;
        let check = |settings: &Decompressor,
                     status,
                     has_ended,
                     fields: &[(&str, &str)],
                     expected: &[(&str, &str)]| {
            let mut headers = head(fields);
            let layers = super::begin(&[OnWay::Decompress(settings)], None, status, &mut headers, has_ended);
            let is_read = layers == [Layer::Decode(Decode::of(ContentCoding::Gzip, settings))];
            assert!(is_read || layers.is_empty());
            assert_eq!((is_read, &headers), (fields != expected, &head(expected)), "{fields:?}");
        };
        let (coded, length) = (("content-encoding", "gzip"), ("content-length", "9"));
        let ranges = ("accept-ranges", "bytes");
        check(&gzip, 200, false, &[coded, length, ranges, ("etag", "\"a\"")], &[("etag", "W/\"a\"")]);
        check(&gzip, 404, false, &[coded], &[]);
        check(&gzip, 200, false, &[("content-encoding", "br, gzip")], &[("content-encoding", "br")]);
        for (settings, status, has_ended, more) in [
            (&off, 200, false, length),
            (&gzip, 200, true, length),
            (&gzip, 206, false, length),
            (&gzip, 416, false, ("content-range", "bytes */9")),
            (&gzip, 200, false, ("cache-control", "no-transform")),
        ] {
            check(settings, status, has_ended, &[coded, more], &[coded, more]);
        }
        check(
            &gzip,
            200,
            false,
            &[("content-encoding", "br"), length],
            &[("content-encoding", "br"), length],
        );
    }

    #[test]
    fn an_answer_goes_from_one_coding_into_another() {
        let (out, into) =
            (decompressor(ContentCoding::Gzip), Compressor::new(Coder::usual(ContentCoding::Brotli)));
        let fields = [("content-encoding", "gzip"), ("content-type", "text/css"), ("content-length", "900")];
        let mut headers = head(&fields);
        // Who stands last is the first whom an answer meets.
        let way = [OnWay::Compress(&into, true), OnWay::Decompress(&out)];
        let layers = super::begin(&way, Some(&accepted("br")), 200, &mut headers, false);
        assert_eq!(layers, [Layer::Decode(Decode::of(ContentCoding::Gzip, &out)), Layer::Encode(into.coder)]);
        assert_eq!(headers["content-encoding"], "br");
        // The other way round it is in a coding when it might have been compressed.
        let mut headers = head(&fields);
        let way = [OnWay::Decompress(&out), OnWay::Compress(&into, true)];
        let layers = super::begin(&way, Some(&accepted("br")), 200, &mut headers, false);
        assert_eq!(layers, [Layer::Decode(Decode::of(ContentCoding::Gzip, &out))]);
        assert!(!headers.contains_key("content-encoding"));
    }

    #[test]
    fn upstreams_are_told_of_codings_once() {
        let check = |said: &[&str], expected: &str| {
            let mut headers = HeaderMap::new();
            said.iter().for_each(|said| {
                headers.append("accept-encoding", said.parse().unwrap());
            });
            advertise(&[ContentCoding::Gzip], &mut headers);
            assert_eq!(headers.get_all("accept-encoding").iter().collect::<Vec<_>>(), [expected], "{said:?}");
        };
        check(&[], "gzip");
        check(&["br"], "br,gzip");
        check(&["GZIP;q=0.1, br;q=0.5"], "br;q=0.5,gzip");
        check(&["identity", "gzip"], "identity,gzip");
    }

    #[test]
    fn a_request_comes_into_a_coding() {
        let mut both = gzip();
        let types = vec!["text/plain".to_owned()];
        both.requests = Some(CompressedRequests { length_min: 30, content_types: types });
        let plain = ("content-type", "text/plain; charset=utf-8");
        let check = |fields: &[(&str, &str)], expected: Option<&[(&str, &str)]>| {
            let mut headers = head(fields);
            assert_eq!(encode(&both, &mut headers), expected.map(|_| both.coder), "{fields:?}");
            assert_eq!(headers, head(expected.unwrap_or(fields)));
        };
        let coded = ("content-encoding", "gzip");
        check(&[plain, ("content-length", "30"), ("content-md5", "x")], Some(&[plain, coded]));
        check(&[plain], Some(&[plain, coded]));
        for fields in [
            &[plain, ("content-length", "29")][..],
            &[("content-type", "image/png")],
            &[plain, ("content-encoding", "br")],
            &[plain, ("cache-control", "no-transform")],
            &[plain, ("content-range", "bytes 0-9/10")],
        ] {
            check(fields, None);
        }
        assert_eq!(encode(&gzip(), &mut head(&[plain])), None);
    }

    #[test]
    fn what_became_of_an_answer_is_told_where_that_is_asked_for() {
        let mut telling = gzip();
        telling.tells_status = true;
        telling.etag = OnEtag::Leave;
        telling.statuses_not = vec![404];
        let mut brotli = Compressor::new(Coder::usual(ContentCoding::Brotli));
        brotli.tells_status = true;
        let check = |status, fields: &[(&str, &str)], expected: Option<&str>| {
            let mut headers = head(fields);
            begin(&[(&telling, true)], &accepted("gzip"), status, &mut headers, false);
            assert_eq!(headers.get(STATUS).map(|said| said.to_str().unwrap()), expected, "{fields:?}");
        };
        let css = ("content-type", "text/css");
        check(200, &[css, ("content-length", "30")], Some("gzip;Compressed;OriginalLength=30"));
        // As Envoy has it where nobody said how long it is.
        check(200, &[css], Some("gzip;Compressed;OriginalLength="));
        check(200, &[css, ("content-length", "29")], Some("gzip;ContentLengthTooSmall"));
        check(200, &[("content-type", "image/png")], Some("gzip;ContentTypeNotAllowed"));
        check(200, &[css, ("etag", "\"a\"")], Some("gzip;EtagNotAllowed"));
        check(404, &[css], Some("gzip;StatusCodeNotAllowed"));
        check(200, &[css, ("content-encoding", "br")], None);
        let mut headers = head(&[("content-type", "image/png")]);
        begin(&[(&telling, true), (&brotli, true)], &accepted("gzip"), 200, &mut headers, false);
        let told: Vec<_> = headers.get_all(STATUS).iter().collect();
        assert_eq!(told, ["br;ContentTypeNotAllowed", "gzip;ContentTypeNotAllowed"]);
    }
}
