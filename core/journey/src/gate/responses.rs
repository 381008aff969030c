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

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};

    use super::*;

    fn dressed(said: &SecurityHeaders, is_secure: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        dress(said, is_secure, &mut headers);
        headers
    }

    #[test]
    fn an_answer_that_says_it_itself_knows_better_unless_it_is_overridden() {
        let preset = SecurityHeaders::preset();
        let headers = dressed(&preset, false);
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[REFERRER_POLICY], "no-referrer");
        let headers = dressed(&SecurityHeaders { overrides: true, ..preset }, false);
        assert_eq!(headers[REFERRER_POLICY], "strict-origin-when-cross-origin");
    }

    #[test]
    fn what_is_said_of_tls_is_said_over_tls_only() {
        let preset = SecurityHeaders::preset();
        assert_eq!(dressed(&preset, true)[STRICT_TRANSPORT_SECURITY], "max-age=31536000");
        assert!(!dressed(&preset, false).contains_key(STRICT_TRANSPORT_SECURITY));
    }
}
