//! What a route matches.

use ipnet::IpNet;
use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_spec::{HeaderMatch, HeaderTest, Match, NameMatch, PathMatch, StringMatch, ValueTest};

use super::{identity, value};
use crate::extension::{SOURCE_ADDRESS, anything};
use crate::proto::{core, kinds, matcher, route, xds_core};

/// Without the inverted query matches that [`is_beyond_words`].
pub(super) fn write(block: &Match) -> route::RouteMatch {
    use route::route_match::PathSpecifier;
    let pseudo = [(":scheme", &block.scheme), (":method", &block.method), (":authority", &block.authority)];
    let pseudo = pseudo.into_iter().filter_map(|(name, test)| {
        Some(header_matcher(name, HeaderTest::Value(test.clone()?), false, false))
    });
    let headers = block.headers.iter().map(header);
    let is_regex = matches!(block.path, PathMatch::Regex(_));
    route::RouteMatch {
        path_specifier: Some(match &block.path {
            PathMatch::Exact(path) => PathSpecifier::Path(path.clone()),
            PathMatch::Prefix(prefix) => PathSpecifier::Prefix(prefix.clone()),
            PathMatch::SegmentPrefix(prefix) => PathSpecifier::PathSeparatedPrefix(prefix.clone()),
            PathMatch::Regex(pattern) => PathSpecifier::SafeRegex(value::pattern(pattern)),
            PathMatch::Connect => PathSpecifier::ConnectMatcher(Default::default()),
        }),
        case_sensitive: (block.ignore_path_case && !is_regex).then(|| value::flag(false)),
        runtime_fraction: block.fraction.map(fraction),
        headers: pseudo.chain(headers).collect(),
        query_parameters: block.query.iter().filter(|q| !is_beyond_words(q)).map(query).collect(),
        cookies: block.cookies.iter().map(cookie).collect(),
        grpc: block.grpc.then(Default::default),
        filter_state: if block.sources.is_empty() { Vec::new() } else { vec![sources(&block.sources)] },
        dynamic_metadata: block.claims.iter().map(identity::claim).collect(),
        ..Default::default()
    }
}

/// Envoy cannot invert a test of a query parameter's value.
pub(super) fn is_beyond_words(query: &NameMatch) -> bool {
    query.invert && query.test.is_some()
}

pub(super) fn fraction(fraction: Fraction) -> core::RuntimeFractionalPercent {
    core::RuntimeFractionalPercent { default_value: Some(percent(fraction)), ..Default::default() }
}

pub(super) fn percent(fraction: Fraction) -> kinds::FractionalPercent {
    use kinds::fractional_percent::DenominatorType;
    kinds::FractionalPercent {
        numerator: fraction.numerator(),
        denominator: match fraction.denominator() {
            Denominator::Hundred => DenominatorType::Hundred,
            Denominator::TenThousand => DenominatorType::TenThousand,
            Denominator::Million => DenominatorType::Million,
        }
        .into(),
    }
}

pub(super) fn header(said: &HeaderMatch) -> route::HeaderMatcher {
    header_matcher(said.name.as_str(), said.test.clone(), said.invert, said.missing_as_empty)
}

pub(super) fn header_matcher(
    name: &str,
    test: HeaderTest,
    invert: bool,
    missing_as_empty: bool,
) -> route::HeaderMatcher {
    use route::header_matcher::HeaderMatchSpecifier;
    route::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(match test {
            HeaderTest::Present(present) => HeaderMatchSpecifier::PresentMatch(present),
            HeaderTest::Value(test) => HeaderMatchSpecifier::StringMatch(string_match(&test)),
            HeaderTest::Range { start, end } => {
                HeaderMatchSpecifier::RangeMatch(kinds::Int64Range { start, end })
            }
        }),
        invert_match: invert,
        treat_missing_header_as_empty: missing_as_empty,
    }
}

pub(super) fn string_match(said: &StringMatch) -> matcher::StringMatcher {
    use matcher::string_matcher::MatchPattern;
    let is_regex = matches!(said.test, ValueTest::Regex(_));
    matcher::StringMatcher {
        match_pattern: Some(match &said.test {
            ValueTest::Exact(text) => MatchPattern::Exact(text.clone()),
            ValueTest::Prefix(text) => MatchPattern::Prefix(text.clone()),
            ValueTest::Suffix(text) => MatchPattern::Suffix(text.clone()),
            ValueTest::Contains(text) => MatchPattern::Contains(text.clone()),
            ValueTest::Regex(pattern) => MatchPattern::SafeRegex(value::pattern(pattern)),
        }),
        ignore_case: said.ignore_case && !is_regex,
    }
}

pub(super) fn query(said: &NameMatch) -> route::QueryParameterMatcher {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier;
    route::QueryParameterMatcher {
        name: said.name.clone(),
        query_parameter_match_specifier: Some(match &said.test {
            Some(test) => QueryParameterMatchSpecifier::StringMatch(string_match(test)),
            None => QueryParameterMatchSpecifier::PresentMatch(!said.invert),
        }),
    }
}

fn cookie(said: &NameMatch) -> route::CookieMatcher {
    let test = said.test.clone().unwrap_or_else(anything);
    route::CookieMatcher {
        name: said.name.clone(),
        string_match: Some(string_match(&test)),
        invert_match: said.invert,
    }
}

fn sources(sources: &[IpNet]) -> matcher::FilterStateMatcher {
    let ranges = sources.iter().map(|network| xds_core::CidrRange {
        address_prefix: network.addr().to_string(),
        prefix_len: Some(value::number(network.prefix_len().into())),
    });
    let addresses = matcher::AddressMatcher { ranges: ranges.collect(), ..Default::default() };
    matcher::FilterStateMatcher {
        key: SOURCE_ADDRESS.to_owned(),
        matcher: Some(matcher::filter_state_matcher::Matcher::AddressMatch(addresses)),
    }
}
