//! Istio's match blocks in the words of rules.

use http::HeaderName;
use naru_resource::virtual_service::HttpMatch;
use naru_resource::{Place, StringMatch as Written, Test, Text};
use naru_spec::{
    ClaimMatch, HeaderMatch, HeaderTest, Invalid, Match, NameMatch, Path, PathMatch, Pattern, StringMatch,
    ValueMatch, ValueTest, code,
};

use crate::findings::Findings;

/// One block. What is wrong in it is told, and left out.
pub(crate) fn block(written: &HttpMatch, path: &Path<'_>, findings: &mut Findings<'_>) -> Match {
    let mut block = Match::default();
    if let Some(uri) = &written.uri {
        block.path = match &uri.test {
            Test::Present => PathMatch::default(),
            Test::Exact(text) => PathMatch::Exact(text.clone()),
            Test::Prefix(text) => PathMatch::Prefix(text.clone()),
            Test::Segments(text) if text.is_empty() => PathMatch::default(),
            Test::Segments(text) => PathMatch::SegmentPrefix(text.clone()),
            Test::Regex(text) => match pattern(text, uri.place, &path.field("uri.regex"), findings) {
                Some(pattern) => PathMatch::Regex(pattern),
                None => PathMatch::default(),
            },
        };
    }
    block.ignore_path_case = written.ignore_uri_case.as_ref().is_some_and(|flag| flag.value);
    let mut text = |said: &Option<Written>, name| {
        said.as_ref().and_then(|said| string_match(said, &path.field(name), findings))
    };
    block.scheme = text(&written.scheme, "scheme");
    block.method = text(&written.method, "method");
    block.authority = text(&written.authority, "authority");
    let headers = path.field("headers");
    for (name, said) in &written.headers {
        let path = headers.key(name);
        match name.as_str() {
            ":path" | ":method" | ":authority" | ":scheme" => pseudo(name, said, &mut block, &path, findings),
            _ if is_claim(name) => block.claims.extend(claim(name, said, false, &path, findings)),
            _ => block.headers.extend(header(name, said, false, &path, findings)),
        }
    }
    let without = path.field("withoutHeaders");
    for (name, said) in &written.without_headers {
        let path = without.key(name);
        if is_claim(name) {
            block.claims.extend(claim(name, said, true, &path, findings));
        } else {
            block.headers.extend(header(name, said, true, &path, findings));
        }
    }
    let query = path.field("queryParams");
    for (name, said) in &written.query_params {
        let test = string_match(said, &query.key(name), findings);
        block.query.push(NameMatch { name: name.value.clone(), test, invert: false });
    }
    if let Some(prefix) = &written.stat_prefix {
        let message = "naru does not act on 'statPrefix': metrics have the route's cluster";
        findings.warning(code::NOT_YET, prefix.place, &path.field("statPrefix"), message, "");
    }
    block
}

/// Tests of cookies, for our own policies.
pub(crate) fn cookie(name: &Text, said: &Written, path: &Path<'_>, findings: &mut Findings<'_>) -> NameMatch {
    NameMatch { name: name.value.clone(), test: string_match(said, path, findings), invert: false }
}

fn pseudo(name: &Text, said: &Written, block: &mut Match, path: &Path<'_>, findings: &mut Findings<'_>) {
    if name.value == ":path" {
        let message = "a path is matched by 'uri'";
        findings.error(code::INVALID_VALUE, name.place, path, message, "write uri beside headers");
        return;
    }
    let place = match name.as_str() {
        ":method" => &mut block.method,
        ":scheme" => &mut block.scheme,
        _ => &mut block.authority,
    };
    if place.is_some() {
        let message = format!("'{}' is matched twice", name.value);
        findings.error(code::CONFLICTING_FIELDS, name.place, path, message, "");
    }
    *place = string_match(said, path, findings);
}

/// A test; nothing where anything will do.
pub(crate) fn string_match(
    said: &Written,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<StringMatch> {
    let test = match &said.test {
        test if is_presence(test) => return None,
        Test::Present => return None,
        Test::Exact(text) => ValueTest::Exact(text.clone()),
        Test::Prefix(text) if text.is_empty() => {
            let message = "everything begins with an empty prefix";
            let hint = "leave the test out; {} asks whether it is there";
            findings.error(code::INVALID_VALUE, said.place, &path.field("prefix"), message, hint);
            return None;
        }
        Test::Prefix(text) | Test::Segments(text) => ValueTest::Prefix(text.clone()),
        Test::Regex(text) => ValueTest::Regex(pattern(text, said.place, &path.field("regex"), findings)?),
    };
    Some(StringMatch { test, ignore_case: false })
}

/// Whether it asks only whether something is there. As an expression `*` would mean nothing; it is Istio's word for that.
fn is_presence(test: &Test) -> bool {
    match test {
        Test::Present => true,
        Test::Regex(text) => text == "*",
        Test::Exact(_) | Test::Prefix(_) | Test::Segments(_) => false,
    }
}

fn pattern(text: &str, place: Place, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Pattern> {
    match Pattern::new(text) {
        Ok(pattern) => Some(pattern),
        Err(Invalid { message, hint }) => {
            findings.error(code::INVALID_VALUE, place, path, message, hint);
            None
        }
    }
}

/// Whether it is no header but what a verified token claims.
pub(crate) fn is_claim(name: &str) -> bool {
    name.starts_with('@')
}

/// A test of a claim, which is a text or a list of texts. Istio's `route.go`: `translateMetadataMatch`.
fn claim(
    name: &Text,
    said: &Written,
    is_without: bool,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<ClaimMatch> {
    let Some(parts) = claim_path(name) else {
        let message = format!("'{}' names no claim", name.value);
        let hint = "@request.auth.claims.NAME, or @request.auth.claims[NAME][INNER]";
        findings.error(code::INVALID_VALUE, name.place, path, message, hint);
        return None;
    };
    let test = match string_match(said, path, findings) {
        None if is_presence(&said.test) => ValueMatch::Present(true),
        None => return None,
        Some(test) => {
            let of_list = ValueMatch::OneOf(Box::new(ValueMatch::Text(test.clone())));
            ValueMatch::Any(vec![ValueMatch::Text(test), of_list])
        }
    };
    let claims_name = crate::identity::CLAIMS.to_owned();
    Some(ClaimMatch { claims_name, path: parts, test, invert: is_without })
}

fn claim_path(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix("@request.auth.claims")?;
    let parts: Vec<String> = match rest.strip_prefix('.') {
        Some(dotted) => dotted.split('.').map(str::to_owned).collect(),
        None => {
            let inner = rest.strip_prefix('[')?.strip_suffix(']')?;
            inner.split("][").map(str::to_owned).collect()
        }
    };
    let is_name = |part: &String| !part.is_empty() && !part.contains(['[', ']']);
    parts.iter().all(is_name).then_some(parts)
}

fn header(
    name: &Text,
    said: &Written,
    is_without: bool,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<HeaderMatch> {
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        let message = format!("the header '{}' is not in lower case", name.value);
        let hint = format!("write '{}': Istio takes no other", name.to_ascii_lowercase());
        findings.error(code::INVALID_VALUE, name.place, path, message, hint);
        return None;
    }
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        let message = format!("'{}' cannot be a header", name.value);
        findings.error(code::INVALID_VALUE, name.place, path, message, "");
        return None;
    };
    let is_present = is_presence(&said.test);
    let test = if is_present {
        HeaderTest::Present(!is_without)
    } else {
        HeaderTest::Value(string_match(said, path, findings)?)
    };
    // Without it Envoy's inverted tests fail for a header that is not there.
    let is_inverted = is_without && !is_present;
    Some(HeaderMatch { name: parsed, test, invert: is_inverted, missing_as_empty: is_inverted })
}
