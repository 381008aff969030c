//! Whether a request that changes something comes of a page of our own.
//!
//! Envoy's `source/extensions/filters/http/csrf/csrf_filter.cc`: the host of `Origin`, else of `Referer`, has to be the
//! one that is asked, or one of those that are named. A request without either comes of nowhere, and is refused.

use http::header::{HOST, ORIGIN, REFERER};
use http::{HeaderMap, HeaderValue, Method};
use naru_base::Reason;
use naru_base::chance::mix;
use naru_route::TextTest;
use naru_spec::{Csrf, Invalid, Scheme};

use super::{CheckCount, Head, Refusal, Step};
use crate::View;

#[derive(Debug)]
pub struct CompiledCsrf {
    origins: Box<[TextTest]>,
    settings: Csrf,
}

impl CompiledCsrf {
    pub(crate) fn new(said: &Csrf) -> Result<CompiledCsrf, Vec<Invalid>> {
        let (mut origins, mut problems) = (Vec::new(), Vec::new());
        for origin in &said.origins {
            match TextTest::compile(origin) {
                Ok(test) => origins.push(test),
                Err(invalid) => problems.push(invalid),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(CompiledCsrf { origins: origins.into(), settings: said.clone() })
    }

    pub(crate) fn decide(&self, head: &Head<'_>, draw: u64, view: &impl View) -> Step {
        let is_enabled = self.settings.enabled.takes(mix(draw ^ 0x63_7372_6665_6e61));
        let is_looked_at = is_enabled || self.settings.shadow.takes(mix(draw ^ 0x63_7372_6673_6861));
        let changes = [Method::POST, Method::PUT, Method::DELETE, Method::PATCH].contains(&head.line.method);
        if !is_looked_at || !changes {
            return Step::Pass;
        }
        let is_ours = self.is_ours(head.headers, head.line.scheme);
        view.count_check(if is_ours { CheckCount::CsrfAllowed } else { CheckCount::CsrfDenied });
        if is_ours || !is_enabled {
            Step::Pass
        } else {
            Step::Refuse(Box::new(Refusal::of(Reason::CsrfDenied)))
        }
    }

    fn is_ours(&self, headers: &HeaderMap, scheme: Scheme) -> bool {
        let said = |name| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        let source = match host_of(said(ORIGIN)) {
            source if source.is_empty() => host_of(said(REFERER)),
            source => source,
        };
        if source.is_empty() {
            return false;
        }
        let target = said(HOST);
        let target = host_of(&[scheme.as_str().as_bytes(), b"://", target].concat());
        source == target || self.origins.iter().any(|origin| origin.is_match(&source))
    }
}

/// Host and port of a URL as they are written, which browsers do in one way only; what is no URL as it is.
fn host_of(text: &[u8]) -> Vec<u8> {
    let url = std::str::from_utf8(text).ok().and_then(|text| {
        let (_, rest) = text.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // What stands before an @ is no host, whatever it looks like.
        authority.rsplit('@').next().filter(|host| !host.is_empty())
    });
    url.map_or(text, str::as_bytes).to_vec()
}

#[cfg(test)]
mod tests {
    use naru_base::Fraction;
    use naru_spec::{StringMatch, ValueTest};

    use super::*;

    #[track_caller]
    fn check(said: &[(&'static str, &'static str)], scheme: Scheme, expected: bool) {
        let suffix = StringMatch { test: ValueTest::Suffix(".friends.example".into()), ignore_case: false };
        let settings = Csrf { enabled: Fraction::ALL, shadow: Fraction::NONE, origins: vec![suffix] };
        let csrf = CompiledCsrf::new(&settings).unwrap();
        let headers = said
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        assert_eq!(csrf.is_ours(&headers, scheme), expected, "{said:?}");
    }

    #[test]
    fn a_page_is_ours_where_its_host_is_the_one_that_is_asked() {
        use Scheme::{Http, Https};
        check(&[("host", "shop.example"), ("origin", "https://shop.example")], Https, true);
        check(&[("host", "shop.example"), ("origin", "http://shop.example")], Http, true);
        check(&[("host", "shop.example"), ("origin", "https://SHOP.example")], Https, false);
        check(&[("host", "shop.example"), ("origin", "https://shop.example:443")], Https, false);
        check(&[("host", "shop.example:8443"), ("origin", "https://shop.example:8443")], Https, true);
        check(&[("host", "shop.example:8443"), ("origin", "https://shop.example")], Https, false);
        check(&[("host", "shop.example"), ("origin", "https://evil.example")], Https, false);
        check(&[("host", "shop.example"), ("origin", "https://shop.example.evil.example")], Https, false);
        check(&[("host", "shop.example"), ("origin", "https://shop.example@evil.example")], Https, false);
        check(&[("host", "shop.example"), ("origin", "null")], Https, false);
        check(&[("host", "shop.example")], Https, false);
        check(&[], Https, false);
    }

    #[test]
    fn where_no_origin_is_said_the_referer_says_it() {
        use Scheme::Https;
        check(&[("host", "a"), ("referer", "https://a/page?x=https://b")], Https, true);
        check(&[("host", "a"), ("referer", "https://b/a")], Https, false);
        check(&[("host", "a"), ("origin", "https://b"), ("referer", "https://a/")], Https, false);
    }

    #[test]
    fn pages_of_hosts_that_are_named_may_ask_too() {
        use Scheme::Https;
        check(&[("host", "a"), ("origin", "https://b.friends.example")], Https, true);
        check(&[("host", "a"), ("origin", "https://b.friends.example.evil.example")], Https, false);
    }
}
