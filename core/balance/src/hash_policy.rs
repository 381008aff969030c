//! What number do the parts of a request make that choose its endpoint?
//!
//! In come the policies of a rule or a cluster, and the request; out goes a number, where the request
//! has any of the parts, and the cookie that its client is to be given. Source: Envoy,
//! `hash_policy.cc` (which part is hashed how, and how they are put together), `http/utility.cc`
//! (cookies). Envoy makes the value of a new cookie of the connection's addresses; here it is drawn.
//!
//! Deliberately not here: rewriting a header's value before it is hashed.

use std::fmt::Write;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::Chance;
use naru_spec::{HashPolicy, HashSource};

use crate::cookie;
use crate::xxhash::{Xxh64, xxhash64};

/// So many values of one header are put in order; more do not count.
const VALUES_MAX: usize = 32;

/// The parts of a request that can be hashed.
#[derive(Clone, Copy, Debug)]
pub struct Hashable<'a> {
    pub headers: &'a HeaderMap,
    /// What follows the first `?` of the path, as sent.
    pub query: Option<&'a str>,
    /// Of the client.
    pub source: Option<IpAddr>,
}

/// What the policies make of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Hashed {
    /// `None` where it has none of the parts.
    pub hash: Option<u64>,
    pub new_cookies: Option<NewCookies>,
}

/// Cookies that a client is to be given with the response, all of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewCookies {
    value: u64,
    /// A bit for each policy whose cookie it is.
    policies: u64,
}

impl NewCookies {
    /// The values of `Set-Cookie`, of the same policies.
    pub fn headers(self, policies: &[HashPolicy]) -> impl Iterator<Item = HeaderValue> {
        policies.iter().enumerate().filter_map(move |(at, policy)| match &policy.source {
            HashSource::Cookie(cookie) if bit(at) & self.policies != 0 => {
                cookie::set(cookie, &cookie::Hex::of(self.value))
            }
            _ => None,
        })
    }
}

/// Policies beyond the 64th make no cookie.
fn bit(at: usize) -> u64 {
    u32::try_from(at).ok().and_then(|at| 1_u64.checked_shl(at)).unwrap_or(0)
}

/// `chance` is drawn from at most once, and only for a cookie.
pub fn hash(policies: &[HashPolicy], request: &Hashable<'_>, chance: &mut Chance) -> Hashed {
    let mut hashed = Hashed::default();
    for (at, policy) in policies.iter().enumerate() {
        let part = match &policy.source {
            HashSource::Header(name) => of_header(request.headers, name),
            HashSource::SourceIp => request.source.map(of_address),
            HashSource::Query(name) => of_query(request.query, name),
            HashSource::Cookie(settings) => match cookie::find(request.headers, settings.name()) {
                Some(value) if !value.is_empty() => Some(xxhash64(value, 0)),
                _ if settings.ttl().is_some() && bit(at) != 0 => {
                    let new = hashed
                        .new_cookies
                        .get_or_insert_with(|| NewCookies { value: chance.draw(), policies: 0 });
                    new.policies |= bit(at);
                    Some(xxhash64(cookie::Hex::of(new.value).as_bytes(), 0))
                }
                _ => None,
            },
        };
        if let Some(part) = part {
            // Turned, so that two policies that say the same do not cancel each other out.
            hashed.hash = Some(hashed.hash.unwrap_or(0).rotate_left(1) ^ part);
        }
        if policy.is_terminal && hashed.hash.is_some() {
            break;
        }
    }
    hashed
}

/// The same for every order of its values.
fn of_header(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values: [&[u8]; VALUES_MAX] = [&[]; VALUES_MAX];
    let mut count = 0;
    for (place, value) in values.iter_mut().zip(headers.get_all(name)) {
        *place = value.as_bytes();
        count += 1;
    }
    let values = values.get_mut(..count).filter(|values| !values.is_empty())?;
    values.sort_unstable();
    let mut hash = Xxh64::new(0);
    for value in values {
        hash.update(value);
    }
    Some(hash.finish())
}

fn of_address(address: IpAddr) -> u64 {
    let mut hash = Xxh64::new(0);
    // It takes all that is written to it.
    let _ = write!(hash, "{address}");
    hash.finish()
}

fn of_query(query: Option<&str>, name: &str) -> Option<u64> {
    let mut parameters =
        query?.split('&').map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
    let (_, value) = parameters.find(|(found, _)| *found == name)?;
    Some(xxhash64(value.as_bytes(), 0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use naru_spec::Cookie;

    use super::*;

    fn header(name: &str) -> HashPolicy {
        HashPolicy::of(HashSource::Header(name.parse().unwrap()))
    }

    fn query(name: &str) -> HashPolicy {
        HashPolicy::of(HashSource::Query(name.to_owned()))
    }

    fn a_cookie(name: &str, ttl: Option<u64>) -> HashPolicy {
        let attributes =
            vec![("SameSite".to_owned(), "Lax".to_owned()), ("Secure".to_owned(), String::new())];
        let cookie = Cookie::new(name, ttl.map(Duration::from_secs), "/shop", attributes).unwrap();
        HashPolicy::of(HashSource::Cookie(cookie))
    }

    const SOURCE: HashPolicy = HashPolicy { source: HashSource::SourceIp, is_terminal: false };

    fn hashed(policies: &[HashPolicy], headers: &[(&str, &str)], query: Option<&str>) -> Hashed {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let request = Hashable { headers: &map, query, source: Some("10.0.0.7".parse().unwrap()) };
        hash(policies, &request, &mut Chance::new(3))
    }

    fn of(text: &str) -> Option<u64> {
        Some(xxhash64(text.as_bytes(), 0))
    }

    #[test]
    fn each_part_is_hashed_as_it_was_sent() {
        assert_eq!(hashed(&[header("x-user")], &[("x-user", "ann")], None).hash, of("ann"));
        assert_eq!(hashed(&[header("x-user")], &[("x-other", "ann")], None).hash, None);
        assert_eq!(hashed(&[header("x-user")], &[("x-user", "")], None).hash, of(""));
        assert_eq!(hashed(&[SOURCE], &[], None).hash, of("10.0.0.7"));
        assert_eq!(hashed(&[query("id")], &[], Some("a=1&id=%20b&id=2")).hash, of("%20b"));
        assert_eq!(hashed(&[query("id")], &[], Some("id")).hash, of(""));
        assert_eq!(hashed(&[query("ID")], &[], Some("id=1")).hash, None);
        assert_eq!(hashed(&[query("id")], &[], None).hash, None);
        assert_eq!(hashed(&[a_cookie("s", None)], &[("cookie", "r=1; s=abc")], None).hash, of("abc"));
        assert_eq!(hashed(&[], &[("x-user", "ann")], None), Hashed::default());
    }

    #[test]
    fn the_order_of_a_headers_values_does_not_count() {
        let one = hashed(&[header("x")], &[("x", "foo"), ("x", "bar")], None).hash;
        assert_eq!(one, hashed(&[header("x")], &[("x", "bar"), ("x", "foo")], None).hash);
        assert_eq!(one, of("barfoo"));
        let many: Vec<(&str, &str)> = vec![("x", "v"); 40];
        assert_eq!(hashed(&[header("x")], &many, None).hash, of(&"v".repeat(32)));
    }

    #[test]
    fn parts_are_put_together_by_turning_and_xor() {
        let (ann, ip) = (of("ann").unwrap(), of("10.0.0.7").unwrap());
        let both = hashed(&[header("x-user"), SOURCE], &[("x-user", "ann")], None).hash;
        assert_eq!(both, Some(ann.rotate_left(1) ^ ip));
        assert_eq!(hashed(&[SOURCE, SOURCE], &[], None).hash, Some(ip.rotate_left(1) ^ ip));
        // A part that is not there changes nothing.
        assert_eq!(hashed(&[SOURCE, header("x-user")], &[], None).hash, Some(ip));
    }

    #[test]
    fn a_terminal_policy_ends_it_once_there_is_a_hash() {
        let first = HashPolicy { is_terminal: true, ..header("x-user") };
        let policies = [first, SOURCE];
        assert_eq!(hashed(&policies, &[("x-user", "ann")], None).hash, of("ann"));
        assert_eq!(hashed(&policies, &[], None).hash, of("10.0.0.7"));
        // Also with a hash of somebody else's.
        let policies = [SOURCE, HashPolicy { is_terminal: true, ..header("x-user") }, query("id")];
        assert_eq!(hashed(&policies, &[], Some("id=1")).hash, of("10.0.0.7"));
    }

    #[test]
    fn a_client_without_the_cookie_is_given_one_that_leads_to_the_same_endpoint() {
        let policies = [a_cookie("s", Some(60)), SOURCE, a_cookie("t", Some(0)), a_cookie("u", None)];
        let first = hashed(&policies, &[("cookie", "s=")], None);
        let set: Vec<_> = first.new_cookies.unwrap().headers(&policies).collect();
        let value = format!("{:016x}", Chance::new(3).draw());
        assert_eq!(
            set,
            [
                format!("s=\"{value}\"; Max-Age=60; Path=/shop; SameSite=Lax; Secure; HttpOnly"),
                format!("t=\"{value}\"; Path=/shop; SameSite=Lax; Secure; HttpOnly"),
            ]
        );
        let again = hashed(&policies, &[("cookie", &format!("s=\"{value}\"; t={value}"))], None);
        assert_eq!(again, Hashed { hash: first.hash, new_cookies: None });
    }
}
