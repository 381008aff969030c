//! What a request says that may make its answer another one, and that no key has.
//!
//! Many origins believe such fields: they make links of `X-Forwarded-Host`, send who asks by `X-Forwarded-Scheme: http`
//! to where he is already, answer the path of `X-Original-URL`. What somebody is answered who says them is for nobody
//! else: it is not kept, unless the route has the field in its keys, or `Vary` names it. What they say that is so
//! anyway, as proxies do that stand before this one, sways nobody. Source: J. Kettle, "Practical Web Cache Poisoning",
//! 2018.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use naru_spec::CachePolicy;

use crate::list::{directive, members, split};

/// What may be said in a field without swaying anybody.
#[derive(Clone, Copy)]
enum Harmless {
    Nothing,
    /// The host that is asked.
    Host,
    /// The usual ports, and that of the host that is asked.
    Port,
    /// What `X-Forwarded-Proto` says, which is naru's own.
    Scheme,
    /// A list of hops, of which none says a host but the one that is asked (RFC 7239).
    Hops,
}

/// `None` of a field that sways nobody.
fn harmless(name: &str) -> Option<Harmless> {
    if !name.starts_with("x-") && name != "forwarded" {
        return None;
    }
    Some(match name {
        "x-forwarded-host" | "x-forwarded-server" | "x-host" | "x-original-host" | "x-http-host-override" => {
            Harmless::Host
        }
        "forwarded" => Harmless::Hops,
        "x-forwarded-port" => Harmless::Port,
        "x-forwarded-scheme" | "x-scheme" => Harmless::Scheme,
        "x-forwarded-prefix" | "x-original-url" | "x-original-uri" | "x-rewrite-url" => Harmless::Nothing,
        "x-http-method-override" | "x-http-method" | "x-method-override" => Harmless::Nothing,
        _ => return None,
    })
}

/// Whether a request says any of it.
pub(crate) fn is_swayed(request: &HeaderMap) -> bool {
    swaying(request).next().is_some()
}

/// Whether the answer to a request may be another one than others get with the same key.
pub(crate) fn is_unkeyed(policy: &CachePolicy, request: &HeaderMap, response: &HeaderMap) -> bool {
    swaying(request).any(|name| !policy.key.headers.contains(name) && !is_chosen_by(response, name.as_str()))
}

/// Whether an answer says that it was chosen by a field.
pub(crate) fn is_chosen_by(response: &HeaderMap, name: &str) -> bool {
    let mut said = response.get_all(header::VARY).iter().flat_map(|value| members(value.as_bytes()));
    said.any(|member| member.eq_ignore_ascii_case(name.as_bytes()))
}

fn swaying(request: &HeaderMap) -> impl Iterator<Item = &HeaderName> {
    let sways = move |(name, value): &(&HeaderName, &HeaderValue)| {
        harmless(name.as_str()).is_some_and(|harmless| !is_harmless(harmless, value, request))
    };
    request.iter().filter(sways).map(|(name, _)| name)
}

fn is_harmless(harmless: Harmless, value: &HeaderValue, request: &HeaderMap) -> bool {
    let said = |name: HeaderName| request.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let value = value.as_bytes();
    let host = said(header::HOST);
    let is_host = |value: &[u8]| !host.is_empty() && value.eq_ignore_ascii_case(host);
    match harmless {
        Harmless::Nothing => false,
        Harmless::Host => is_host(value) || is_host_without_port(value, host),
        Harmless::Port => matches!(value, b"80" | b"443") || port_of(host).is_some_and(|port| port == value),
        Harmless::Scheme => {
            let own = said(HeaderName::from_static("x-forwarded-proto"));
            !own.is_empty() && value.eq_ignore_ascii_case(own)
        }
        Harmless::Hops => members(value).flat_map(|hop| split(hop, b';')).all(|part| match directive(part) {
            (name, Some(value)) if name.eq_ignore_ascii_case(b"host") => is_host(value),
            _ => true,
        }),
    }
}

/// Behind the last colon, unless that stands in an address.
fn port_of(host: &[u8]) -> Option<&[u8]> {
    let at = host.iter().rposition(|byte| *byte == b':')?;
    let port = host.get(at + 1..)?;
    port.iter().all(u8::is_ascii_digit).then_some(port)
}

fn is_host_without_port(value: &[u8], host: &[u8]) -> bool {
    let Some(port) = port_of(host) else { return false };
    let name = host.len().checked_sub(port.len() + 1).and_then(|end| host.get(..end));
    name.is_some_and(|name| !name.is_empty() && value.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use naru_spec::CacheKeyParts;

    use super::*;
    use crate::headers;

    #[track_caller]
    fn check(said: &[(&'static str, &'static str)], expected: bool) {
        let usual = [("host", "shop.example:8443"), ("x-forwarded-proto", "https"), ("accept", "a")];
        assert_eq!(is_swayed(&headers(&[&usual[..], said].concat())), expected, "{said:?}");
    }

    #[test]
    fn who_says_what_is_not_so_may_be_answered_another_way() {
        check(&[], false);
        check(&[("x-forwarded-host", "evil.example")], true);
        check(&[("x-forwarded-host", "shop.example:8443"), ("x-forwarded-host", "evil.example")], true);
        check(&[("x-forwarded-host", "shop.example.evil.example")], true);
        check(&[("x-host", "")], true);
        check(&[("x-forwarded-port", "123")], true);
        check(&[("x-forwarded-scheme", "http")], true);
        check(&[("x-original-url", "/admin")], true);
        check(&[("x-rewrite-url", "/")], true);
        check(&[("x-http-method-override", "HEAD")], true);
        check(&[("forwarded", "for=192.0.2.1;proto=https, for=\"[::1]\";Host=\"evil.example\"")], true);
        assert!(is_swayed(&headers(&[("x-forwarded-host", "a")])), "nobody knows which host was asked");
    }

    #[test]
    fn who_says_what_is_so_is_answered_as_others_are() {
        check(&[("x-forwarded-host", "SHOP.example:8443")], false);
        check(&[("x-forwarded-host", "shop.example")], false);
        check(&[("x-forwarded-port", "443"), ("x-forwarded-port", "8443")], false);
        check(&[("x-forwarded-scheme", "https"), ("x-scheme", "https")], false);
        check(&[("forwarded", "for=192.0.2.1;proto=http;host=\"shop.example:8443\"")], false);
        check(&[("x-forwarded-for", "192.0.2.1"), ("x-real-ip", "192.0.2.1"), ("via", "1.1 a")], false);
    }

    #[test]
    fn what_the_key_or_vary_has_is_told_apart() {
        let mut policy = CachePolicy::default();
        let request = headers(&[("host", "a"), ("x-forwarded-host", "b")]);
        let (plain, chosen) = (headers(&[]), headers(&[("vary", "accept, X-Forwarded-Host")]));
        assert!(is_unkeyed(&policy, &request, &plain));
        assert!(!is_unkeyed(&policy, &request, &chosen));
        let name = HeaderName::from_static("x-forwarded-host");
        policy.key = CacheKeyParts { headers: vec![name], ..CacheKeyParts::default() };
        assert!(!is_unkeyed(&policy, &request, &plain));
        let both = headers(&[("host", "a"), ("x-forwarded-host", "b"), ("x-original-url", "/c")]);
        assert!(is_unkeyed(&policy, &both, &plain));
    }
}
