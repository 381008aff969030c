//! What a route matches.

use ipnet::IpNet;
use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_spec::{HeaderMatch, HeaderTest, Invalid, Match, NameMatch, PathMatch, StringMatch, ValueTest};

use super::{headers, identity, value};
use crate::extension::{SOURCE_ADDRESS, is_anything};
use crate::findings::{Findings, code};
use crate::proto::{core, kinds, matcher, route};
use naru_spec::Path;

pub(super) fn read(said: &route::RouteMatch, path: &Path<'_>, findings: &mut Findings<'_>) -> Match {
    let mut found = Match {
        path: path_match(said, path, findings),
        ignore_path_case: said.case_sensitive.is_some_and(|v| !v.value),
        grpc: said.grpc.is_some(),
        fraction: said.runtime_fraction.as_ref().and_then(fraction),
        ..Match::default()
    };
    if found.ignore_path_case && matches!(found.path, PathMatch::Regex(_)) {
        let text = "case_sensitive has no effect on a regular expression";
        findings.warning(
            &path.field("case_sensitive"),
            code::NO_EFFECT,
            text,
            "begin the expression with (?i)",
        );
        found.ignore_path_case = false;
    }
    let listed = path.field("headers");
    for (at, said) in said.headers.iter().enumerate() {
        let path = listed.at(at);
        match said.name.as_str() {
            ":method" => pseudo(said, &mut found.method, &path, findings),
            ":scheme" => pseudo(said, &mut found.scheme, &path, findings),
            ":authority" => pseudo(said, &mut found.authority, &path, findings),
            ":path" => {
                let text = "the pseudo header ':path' cannot be matched as a header";
                let hint = "match prefix, path, safe_regex or query_parameters";
                findings.unsupported_value(&path.field("name"), text, hint);
            }
            _ => found.headers.extend(header(said, &path, findings)),
        }
    }
    let listed = path.field("query_parameters");
    for (at, said) in said.query_parameters.iter().enumerate() {
        found.query.push(query(said, &listed.at(at), findings));
    }
    let listed = path.field("cookies");
    for (at, said) in said.cookies.iter().enumerate() {
        found.cookies.push(cookie(said, &listed.at(at), findings));
    }
    let listed = path.field("filter_state");
    for (at, said) in said.filter_state.iter().enumerate() {
        sources(said, &mut found.sources, &listed.at(at), findings);
    }
    let listed = path.field("dynamic_metadata");
    for (at, said) in said.dynamic_metadata.iter().enumerate() {
        found.claims.extend(identity::claim_of(said, &listed.at(at), findings));
    }
    found
}

fn path_match(said: &route::RouteMatch, path: &Path<'_>, findings: &mut Findings<'_>) -> PathMatch {
    use route::route_match::PathSpecifier;
    match &said.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => PathMatch::Prefix(prefix.clone()),
        Some(PathSpecifier::Path(exact)) => PathMatch::Exact(exact.clone()),
        Some(PathSpecifier::SafeRegex(said)) => {
            PathMatch::Regex(value::pattern(Some(said), &path.field("safe_regex"), findings))
        }
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if prefix.len() < 2 || prefix.contains(['?', '#']) || prefix.ends_with('/') {
                let invalid = Invalid::new(format!("'{prefix}' cannot be a prefix of whole segments"))
                    .hint("it has no '?' and no '#', and does not end in '/'");
                findings.invalid(&path.field("path_separated_prefix"), invalid);
            }
            PathMatch::SegmentPrefix(prefix.clone())
        }
        Some(PathSpecifier::ConnectMatcher(_)) => PathMatch::Connect,
        _ => PathMatch::default(),
    }
}

pub(super) fn fraction(said: &core::RuntimeFractionalPercent) -> Option<Fraction> {
    said.default_value.as_ref().map(percent)
}

pub(super) fn percent(said: &kinds::FractionalPercent) -> Fraction {
    use kinds::fractional_percent::DenominatorType;
    let denominator = match said.denominator() {
        DenominatorType::Hundred => Denominator::Hundred,
        DenominatorType::TenThousand => Denominator::TenThousand,
        DenominatorType::Million => Denominator::Million,
    };
    Fraction::new(said.numerator, denominator)
}

/// A pseudo header is always there, so that many ways to ask come down to one test of its value.
fn pseudo(
    said: &route::HeaderMatcher,
    seat: &mut Option<StringMatch>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if said.invert_match {
        let text = format!("an inverted match of '{}' is not supported", said.name);
        findings.unsupported(&path.field("invert_match"), text, "match what is wanted");
    }
    match header_test(said, path, findings) {
        HeaderTest::Present(true) => {}
        HeaderTest::Value(test) if seat.is_none() => *seat = Some(test),
        HeaderTest::Value(_) => {
            let text = format!("'{}' can be matched only once", said.name);
            findings.unsupported_value(path, text, "use one safe_regex");
        }
        HeaderTest::Present(false) | HeaderTest::Range { .. } => {
            let text = format!("'{}' can only be matched by its text", said.name);
            findings.unsupported_value(path, text, "use string_match");
        }
    }
}

pub(super) fn header(
    said: &route::HeaderMatcher,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<HeaderMatch> {
    let test = header_test(said, path, findings);
    Some(HeaderMatch {
        name: headers::name(&said.name, &path.field("name"), findings)?,
        test,
        invert: said.invert_match,
        missing_as_empty: said.treat_missing_header_as_empty,
    })
}

#[expect(deprecated, reason = "the older spelling is still read")]
pub(super) fn header_test(
    said: &route::HeaderMatcher,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> HeaderTest {
    use route::header_matcher::HeaderMatchSpecifier as Said;
    let plain = |test| HeaderTest::Value(StringMatch { test, ignore_case: false });
    match &said.header_match_specifier {
        None => HeaderTest::Present(true),
        Some(Said::PresentMatch(present)) => HeaderTest::Present(*present),
        Some(Said::ExactMatch(text)) => plain(ValueTest::Exact(text.clone())),
        Some(Said::PrefixMatch(text)) => plain(ValueTest::Prefix(text.clone())),
        Some(Said::SuffixMatch(text)) => plain(ValueTest::Suffix(text.clone())),
        Some(Said::ContainsMatch(text)) => plain(ValueTest::Contains(text.clone())),
        Some(Said::SafeRegexMatch(said)) => {
            plain(ValueTest::Regex(value::pattern(Some(said), &path.field("safe_regex_match"), findings)))
        }
        Some(Said::RangeMatch(range)) => HeaderTest::Range { start: range.start, end: range.end },
        Some(Said::StringMatch(said)) => {
            HeaderTest::Value(string_match(said, &path.field("string_match"), findings))
        }
    }
}

pub(super) fn string_match(
    said: &matcher::StringMatcher,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> StringMatch {
    use matcher::string_matcher::MatchPattern;
    let test = match &said.match_pattern {
        Some(MatchPattern::Exact(text)) => ValueTest::Exact(text.clone()),
        Some(MatchPattern::Prefix(text)) => ValueTest::Prefix(text.clone()),
        Some(MatchPattern::Suffix(text)) => ValueTest::Suffix(text.clone()),
        Some(MatchPattern::Contains(text)) => ValueTest::Contains(text.clone()),
        Some(MatchPattern::SafeRegex(said)) => {
            ValueTest::Regex(value::pattern(Some(said), &path.field("safe_regex"), findings))
        }
        Some(MatchPattern::Custom(_)) | None => ValueTest::Exact(String::new()),
    };
    let is_regex = matches!(test, ValueTest::Regex(_));
    if said.ignore_case && is_regex {
        let text = "ignore_case has no effect on a regular expression";
        findings.warning(&path.field("ignore_case"), code::NO_EFFECT, text, "begin the expression with (?i)");
    }
    StringMatch { test, ignore_case: said.ignore_case && !is_regex }
}

pub(super) fn query(
    said: &route::QueryParameterMatcher,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> NameMatch {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier as Said;
    let (test, invert) = match &said.query_parameter_match_specifier {
        None => (None, false),
        Some(Said::PresentMatch(present)) => (None, !present),
        Some(Said::StringMatch(said)) => {
            (Some(string_match(said, &path.field("string_match"), findings)), false)
        }
    };
    NameMatch { name: said.name.clone(), test, invert }
}

fn cookie(said: &route::CookieMatcher, path: &Path<'_>, findings: &mut Findings<'_>) -> NameMatch {
    let test = said.string_match.as_ref();
    let test = test.map(|said| string_match(said, &path.field("string_match"), findings));
    NameMatch { name: said.name.clone(), test: test.filter(|t| !is_anything(t)), invert: said.invert_match }
}

/// The only filter state there is: the client's address.
fn sources(
    said: &matcher::FilterStateMatcher,
    sources: &mut Vec<IpNet>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let Some(matcher::filter_state_matcher::Matcher::AddressMatch(addresses)) = &said.matcher else {
        return;
    };
    if said.key != SOURCE_ADDRESS {
        let text = format!("there is no filter state '{}'", said.key);
        findings.unsupported_value(&path.field("key"), text, format!("only '{SOURCE_ADDRESS}' is known"));
        return;
    }
    if addresses.invert_match {
        let text = "naru does not act on AddressMatcher.invert_match";
        findings.unsupported(&path.field("address_match.invert_match"), text, "");
    }
    if !sources.is_empty() {
        findings.unsupported_value(path, "the client's address can be matched only once", "");
    }
    if addresses.ranges.is_empty() {
        findings.missing(&path.field("address_match.ranges"), "at least one range of addresses is needed");
    }
    let ranges = path.field("address_match.ranges");
    for (at, range) in addresses.ranges.iter().enumerate() {
        let path = ranges.at(at);
        let length = range.prefix_len.map_or(0, |v| v.value);
        sources.extend(value::network(&range.address_prefix, length, &path, findings));
    }
}
