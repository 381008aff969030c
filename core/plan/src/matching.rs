//! Istio's match blocks in the words of rules.

use http::HeaderName;
use naru_resource::virtual_service::HttpMatch;
use naru_resource::{Place, StringMatch as Written, Test, Text};
use naru_spec::{
    HeaderMatch, HeaderTest, Invalid, Match, NameMatch, Path, PathMatch, Pattern, StringMatch, ValueTest,
    code,
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
            _ => block.headers.extend(header(name, said, false, &path, findings)),
        }
    }
    let without = path.field("withoutHeaders");
    for (name, said) in &written.without_headers {
        block.headers.extend(header(name, said, true, &without.key(name), findings));
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
        Test::Present => return None,
        Test::Exact(text) => ValueTest::Exact(text.clone()),
        Test::Prefix(text) => ValueTest::Prefix(text.clone()),
        Test::Regex(text) => ValueTest::Regex(pattern(text, said.place, &path.field("regex"), findings)?),
    };
    Some(StringMatch { test, ignore_case: false })
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

fn header(
    name: &Text,
    said: &Written,
    is_without: bool,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<HeaderMatch> {
    if name.starts_with('@') {
        let message = "naru does not match claims of tokens yet";
        findings.error(code::UNSUPPORTED_FIELD, name.place, path, message, "");
        return None;
    }
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
    let is_present = matches!(&said.test, Test::Present) || said.test == Test::Regex("*".to_owned());
    let test = if is_present {
        HeaderTest::Present(!is_without)
    } else {
        HeaderTest::Value(string_match(said, path, findings)?)
    };
    // Without it Envoy's inverted tests fail for a header that is not there.
    let is_inverted = is_without && !is_present;
    Some(HeaderMatch { name: parsed, test, invert: is_inverted, missing_as_empty: is_inverted })
}
