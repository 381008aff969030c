//! Pages of other origins: which may read an answer, and what a browser is told that asks before it asks (CORS).
//!
//! Envoy's `source/extensions/filters/http/cors/cors_filter.cc`; Fetch, section "CORS protocol". What is found out of a
//! request is told in its response, whoever gives that. Beside Envoy, responses say that they vary by `Origin`, as a
//! cache in between would else give one page what was said to another.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use naru_base::Reason;
use naru_base::chance::mix;
use naru_route::TextTest;
use naru_spec::{Cors, Invalid};

use super::{CheckCount, Refusal, Step};
use crate::View;

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// A policy, ready to be asked.
#[derive(Debug)]
pub struct CompiledCors {
    origins: Box<[TextTest]>,
    methods: Listed,
    headers: Listed,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    settings: Cors,
}

/// What is allowed.
#[derive(Debug)]
enum Listed {
    Nothing,
    /// Whatever was asked for.
    Any,
    These(HeaderValue),
}

/// What is known of a request's page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// It may read the response.
    allowed: Option<HeaderValue>,
}

/// What checks read of a request here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asks<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub draw: u64,
}

impl CompiledCors {
    pub(crate) fn new(said: &Cors) -> Result<CompiledCors, Vec<Invalid>> {
        let (mut origins, mut problems) = (Vec::new(), Vec::new());
        for origin in &said.origins {
            match TextTest::compile(origin) {
                Ok(test) => origins.push(test),
                Err(invalid) => problems.push(invalid),
            }
        }
        let mut value = |text: &str, what: &str| match HeaderValue::from_str(text) {
            _ if text.is_empty() => None,
            Ok(value) => Some(value),
            Err(_) => {
                problems.push(Invalid::new(format!("{what} of a CORS policy cannot stand in a header")));
                None
            }
        };
        let mut listed = |text: &str, what: &str| match text {
            "*" => Listed::Any,
            _ => value(text, what).map_or(Listed::Nothing, Listed::These),
        };
        let (methods, headers) = (listed(&said.methods, "the methods"), listed(&said.headers, "the headers"));
        let exposed = value(&said.exposed, "what is exposed");
        let max_age = value(&said.max_age, "the age");
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(CompiledCors {
            origins: origins.into(),
            methods,
            headers,
            exposed,
            max_age,
            settings: said.clone(),
        })
    }

    pub(crate) fn decide(&self, asks: Asks<'_>, page: &mut Option<Page>, view: &impl View) -> Step {
        let is_enabled = self.settings.enabled.takes(mix(asks.draw ^ 0x63_6f72_7365_6e61));
        if !is_enabled && !self.settings.shadow.takes(mix(asks.draw ^ 0x63_6f72_7373_6861)) {
            return Step::Pass;
        }
        let found = self.page(asks.headers);
        if let Some(is_allowed) = found.as_ref().map(|page| page.allowed.is_some()) {
            view.count_check(if is_allowed { CheckCount::OriginAllowed } else { CheckCount::OriginDenied });
        }
        if !is_enabled {
            return Step::Pass;
        }
        let is_cross = found.is_some();
        let told = page.insert(found.unwrap_or_default());
        let asked = asks.headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|asked| !asked.is_empty());
        let Some(asked) = asked.filter(|_| is_cross && asks.method == Method::OPTIONS) else {
            return Step::Pass;
        };
        if told.allowed.is_none() && self.settings.forwards_unmatched {
            return Step::Pass;
        }
        let mut refusal = Refusal::of(Reason::CorsPreflight);
        let mut say = |name, value: &HeaderValue| refusal.headers.push((name, value.clone()));
        if self.settings.credentials {
            say(ACCESS_CONTROL_ALLOW_CREDENTIALS, &TRUE);
        }
        match &self.methods {
            Listed::Nothing => {}
            Listed::Any => say(ACCESS_CONTROL_ALLOW_METHODS, asked),
            Listed::These(value) => say(ACCESS_CONTROL_ALLOW_METHODS, value),
        }
        match (&self.headers, asks.headers.get(ACCESS_CONTROL_REQUEST_HEADERS)) {
            (Listed::Nothing, _) => {}
            (Listed::Any, Some(asked)) => say(ACCESS_CONTROL_ALLOW_HEADERS, asked),
            // As Envoy: nothing was asked for, and nothing is what is allowed.
            (Listed::Any, None) => say(ACCESS_CONTROL_ALLOW_HEADERS, &HeaderValue::from_static("")),
            (Listed::These(value), _) => say(ACCESS_CONTROL_ALLOW_HEADERS, value),
        }
        if let Some(age) = &self.max_age {
            say(ACCESS_CONTROL_MAX_AGE, age);
        }
        let is_private = asks.headers.get(REQUEST_PRIVATE_NETWORK).is_some_and(|asked| asked == TRUE);
        if self.settings.private_network && is_private {
            say(ALLOW_PRIVATE_NETWORK, &TRUE);
        }
        Step::Refuse(Box::new(refusal))
    }

    /// Of a request that nobody has asked this policy about, as it was refused before.
    pub(crate) fn late(&self, asks: Asks<'_>) -> Option<Page> {
        let is_enabled = self.settings.enabled.takes(mix(asks.draw ^ 0x63_6f72_7365_6e61));
        is_enabled.then(|| self.page(asks.headers).unwrap_or_default())
    }

    /// Nothing, where a request does not say which page it comes of.
    fn page(&self, headers: &HeaderMap) -> Option<Page> {
        let origin = headers.get(ORIGIN).filter(|origin| !origin.is_empty())?;
        let takes = |test: &TextTest| test.is_match(b"*") || test.is_match(origin.as_bytes());
        Some(Page { allowed: self.origins.iter().any(takes).then(|| origin.clone()) })
    }

    /// Says in a response what its page may read, in the place of what the upstream says of it.
    pub(crate) fn tell(&self, page: &Page, headers: &mut HeaderMap) {
        add_to_list(headers, &VARY, "origin", || HeaderValue::from_static("Origin"));
        let Some(origin) = &page.allowed else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.settings.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(exposed) = &self.exposed {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}

/// Adds what a list of names does not have.
fn add_to_list(headers: &mut HeaderMap, list: &HeaderName, name: &str, value: impl FnOnce() -> HeaderValue) {
    let lines = headers.get_all(list).iter().map(HeaderValue::as_bytes);
    let mut known = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if !known.any(|known| known == b"*" || known.eq_ignore_ascii_case(name.as_bytes())) {
        headers.append(list, value());
    }
}

/// Exposes more names in a response that its page may read, beside those that are.
pub fn expose(headers: &mut HeaderMap, names: &'static [&'static str]) {
    let lines = headers.get_all(ACCESS_CONTROL_EXPOSE_HEADERS).iter().filter_map(|line| line.to_str().ok());
    let known = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|name| !name.is_empty());
    let mut all: Vec<&str> = known.collect();
    for name in names {
        if !all.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            all.push(name);
        }
    }
    if let Ok(value) = HeaderValue::try_from(all.join(", ")) {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, value);
    }
}

/// Says that a response is another one for another page, once.
pub fn vary_by_origin(headers: &mut HeaderMap) {
    add_to_list(headers, &VARY, "origin", || HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use naru_base::{ClusterId, EndpointId, Fraction};
    use naru_spec::StringMatch;

    use super::*;

    struct Nobody;

    impl View for Nobody {
        fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
            0
        }
    }

    fn policy() -> Cors {
        Cors {
            methods: "GET,PUT".into(),
            headers: "*".into(),
            exposed: "x-own".into(),
            max_age: "60".into(),
            credentials: true,
            ..Cors::new(vec![StringMatch::exact("https://a.test")])
        }
    }

    /// What a request is answered at once, and what its response is told.
    fn play(
        said: &Cors,
        method: &Method,
        pairs: &[(&'static str, &'static str)],
    ) -> (Option<Vec<String>>, Vec<String>) {
        let cors = CompiledCors::new(said).unwrap();
        let headers =
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let headers: HeaderMap = headers.collect();
        let mut page = None;
        let step = cors.decide(Asks { method, headers: &headers, draw: 7 }, &mut page, &Nobody);
        let words = |name: &HeaderName, value: &HeaderValue| format!("{name}: {}", value.to_str().unwrap());
        let answer = match step {
            Step::Refuse(refusal) => {
                assert_eq!((refusal.reason, refusal.status), (Reason::CorsPreflight, 200));
                Some(refusal.headers.iter().map(|(name, value)| words(name, value)).collect())
            }
            _ => None,
        };
        let mut response = HeaderMap::new();
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("https://theirs.test"));
        response.insert(VARY, HeaderValue::from_static("accept, ORIGIN"));
        if let Some(page) = &page {
            cors.tell(page, &mut response);
        }
        (answer, response.iter().map(|(name, value)| words(name, value)).collect())
    }

    #[test]
    fn a_page_that_may_read_is_told_so_in_the_place_of_what_the_upstream_says() {
        let (answer, told) = play(&policy(), &Method::GET, &[("origin", "https://a.test")]);
        assert_eq!(answer, None);
        for line in [
            "access-control-allow-origin: https://a.test",
            "access-control-allow-credentials: true",
            "access-control-expose-headers: x-own",
            "vary: accept, ORIGIN",
        ] {
            assert!(told.iter().any(|said| said == line), "{line}: {told:?}");
        }
        let (_, told) = play(&policy(), &Method::GET, &[("origin", "https://b.test")]);
        assert_eq!(told, ["access-control-allow-origin: https://theirs.test", "vary: accept, ORIGIN"]);
    }

    #[test]
    fn a_preflight_is_answered_and_nothing_else_is() {
        let asked = [
            ("origin", "https://a.test"),
            ("access-control-request-method", "DELETE"),
            ("access-control-request-headers", "x-b"),
        ];
        let (answer, _) = play(&policy(), &Method::OPTIONS, &asked);
        let expected = [
            "access-control-allow-credentials: true",
            "access-control-allow-methods: GET,PUT",
            "access-control-allow-headers: x-b",
            "access-control-max-age: 60",
        ];
        assert_eq!(answer.unwrap(), expected);
        assert_eq!(play(&policy(), &Method::GET, &asked).0, None);
        assert_eq!(play(&policy(), &Method::OPTIONS, &asked[..1]).0, None);
        let other = [("origin", "https://b.test"), asked[1]];
        assert_eq!(play(&policy(), &Method::OPTIONS, &other).0, None, "it goes on");
        let ignore = Cors { forwards_unmatched: false, ..policy() };
        assert!(play(&ignore, &Method::OPTIONS, &other).0.is_some());
    }

    #[test]
    fn a_policy_that_is_off_says_nothing() {
        let off = Cors { enabled: Fraction::NONE, ..policy() };
        let shadow = Cors { enabled: Fraction::NONE, shadow: Fraction::ALL, ..policy() };
        for said in [off, shadow] {
            let asked = [("origin", "https://a.test"), ("access-control-request-method", "GET")];
            let (answer, told) = play(&said, &Method::OPTIONS, &asked);
            assert_eq!(answer, None);
            assert_eq!(told, ["access-control-allow-origin: https://theirs.test", "vary: accept, ORIGIN"]);
        }
    }

    #[test]
    fn what_is_exposed_is_joined() {
        let mut headers = HeaderMap::new();
        headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-own,AUTHORIZATION"));
        expose(&mut headers, &["Authorization", "X-Token"]);
        assert_eq!(headers[ACCESS_CONTROL_EXPOSE_HEADERS], "x-own, AUTHORIZATION, X-Token");
    }
}
