//! Which endpoint does a request name itself?
//!
//! A cookie or a header carries the xxHash64 of an endpoint's key: the same for every worker, process
//! and configuration, and it tells a client no address. (Envoy's stateful sessions carry the address.)
//! Also deliberate, and as in Envoy: priorities and weights do not count for a session, fitness does.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use naru_base::EndpointId;
use naru_spec::{Sticky, StickyCarrier};

use crate::cookie::{self, Hex};
use crate::xxhash::xxhash64;

/// How a request is bound to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Bound {
    #[default]
    Free,
    /// To this one as long as it can take it.
    Preferring(EndpointId),
    /// To this one or none; `None` is one that is not there any more.
    Only(Option<EndpointId>),
}

/// The names of a cluster's endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    settings: Sticky,
    /// By id.
    names: Vec<u64>,
    /// In order of names.
    ids: Vec<(u64, EndpointId)>,
}

impl Sessions {
    pub(crate) fn new<'a>(settings: &Sticky, keys: impl Iterator<Item = &'a str>) -> Sessions {
        let names: Vec<u64> = keys.map(|key| xxhash64(key.as_bytes(), 0)).collect();
        let mut ids: Vec<(u64, EndpointId)> = names.iter().copied().zip((0..).map(EndpointId)).collect();
        ids.sort_unstable();
        Sessions { settings: settings.clone(), names, ids }
    }

    pub(crate) fn bound(&self, request: &HeaderMap) -> Bound {
        let text = match &self.settings.carrier {
            StickyCarrier::Cookie(cookie) => cookie::find(request, cookie.name()),
            StickyCarrier::Header(name) => request.get(name).map(HeaderValue::as_bytes),
        };
        // What is not one of our names is nobody's.
        let Some(name) = text.and_then(Hex::read) else { return Bound::Free };
        let at = self.ids.partition_point(|(other, _)| *other < name);
        let endpoint = self.ids.get(at).filter(|(other, _)| *other == name).map(|(_, id)| *id);
        match endpoint {
            _ if self.settings.is_strict => Bound::Only(endpoint),
            Some(endpoint) => Bound::Preferring(endpoint),
            None => Bound::Free,
        }
    }

    /// What the response carries so that the next request comes to `picked`; nothing where this one
    /// named it already.
    pub(crate) fn header(&self, picked: EndpointId, bound: Bound) -> Option<(HeaderName, HeaderValue)> {
        if bound == Bound::Preferring(picked) || bound == Bound::Only(Some(picked)) {
            return None;
        }
        let name = Hex::of(*self.names.get(picked.index())?);
        match &self.settings.carrier {
            StickyCarrier::Cookie(settings) => Some((header::SET_COOKIE, cookie::set(settings, &name)?)),
            StickyCarrier::Header(carrier) => {
                Some((carrier.clone(), HeaderValue::from_bytes(name.as_bytes()).ok()?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use naru_spec::Cookie;

    use super::*;

    const KEYS: [&str; 3] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];

    fn sessions(is_strict: bool, by_header: bool) -> Sessions {
        let carrier = if by_header {
            StickyCarrier::Header(HeaderName::from_static("x-session"))
        } else {
            StickyCarrier::Cookie(Cookie::new("at", None, "/", Vec::new()).unwrap())
        };
        Sessions::new(&Sticky { carrier, is_strict }, KEYS.into_iter())
    }

    /// What a client sends that was given this.
    fn answer(given: (HeaderName, HeaderValue)) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if given.0 == header::SET_COOKIE {
            let pair = given.1.to_str().unwrap().split(';').next().unwrap().to_owned();
            headers.insert(header::COOKIE, pair.parse().unwrap());
        } else {
            headers.insert(given.0, given.1);
        }
        headers
    }

    #[test]
    fn what_a_client_is_given_names_the_endpoint_and_is_given_once() {
        for by_header in [true, false] {
            let (lenient, strict) = (sessions(false, by_header), sessions(true, by_header));
            for id in (0..3).map(EndpointId) {
                let headers = answer(lenient.header(id, Bound::Free).unwrap());
                assert_eq!(lenient.bound(&headers), Bound::Preferring(id));
                assert_eq!(strict.bound(&headers), Bound::Only(Some(id)));
                assert_eq!(lenient.header(id, lenient.bound(&headers)), None);
                assert_eq!(strict.header(id, strict.bound(&headers)), None);
                let other = EndpointId((id.0 + 1) % 3);
                assert!(lenient.header(other, lenient.bound(&headers)).is_some());
            }
            assert_eq!(lenient.header(EndpointId(3), Bound::Free), None);
        }
    }

    #[test]
    fn names_of_nobody_bind_to_nobody_and_other_texts_not_at_all() {
        let bound = |is_strict, text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-session", text.parse().unwrap());
            sessions(is_strict, true).bound(&headers)
        };
        assert_eq!(bound(true, "0123456789abcdef"), Bound::Only(None));
        assert_eq!(bound(false, "0123456789abcdef"), Bound::Free);
        assert_eq!(bound(true, "10.0.0.1:80"), Bound::Free);
        assert_eq!(sessions(true, true).bound(&HeaderMap::new()), Bound::Free);
    }

    #[test]
    fn a_cookie_without_a_lifetime_is_given_all_the_same_and_tells_no_address() {
        let (name, value) = sessions(false, false).header(EndpointId(1), Bound::Free).unwrap();
        assert_eq!(name, header::SET_COOKIE);
        let expected = format!("at=\"{:016x}\"; Path=/; HttpOnly", xxhash64(KEYS[1].as_bytes(), 0));
        assert_eq!(value, expected);
    }
}
