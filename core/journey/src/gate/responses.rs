//! What browsers are told to be careful about, in every response.

use http::HeaderMap;
use http::header::STRICT_TRANSPORT_SECURITY;
use naru_spec::SecurityHeaders;

/// Says in a response what is not said there, or all of it.
pub(crate) fn dress(said: &SecurityHeaders, is_secure: bool, headers: &mut HeaderMap) {
    let transport = said.transport.as_ref().filter(|_| is_secure);
    let transport = transport.map(|value| (&STRICT_TRANSPORT_SECURITY, value));
    for (name, value) in said.headers.iter().map(|(name, value)| (name, value)).chain(transport) {
        if said.overrides || !headers.contains_key(name) {
            headers.insert(name, value.clone());
        }
    }
}
