//! What browsers are told to be careful about, in every answer.

use http::{HeaderName, HeaderValue};

use crate::defaults;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SecurityHeaders {
    /// Said where nobody else has said them. An answer that says one itself knows better.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `Strict-Transport-Security`, in answers to requests that came over TLS (RFC 6797, section 7.2).
    pub transport: Option<HeaderValue>,
    /// They take the place of what an answer says itself.
    pub overrides: bool,
}

impl SecurityHeaders {
    /// What holds where nothing else is said: see [`defaults::SECURITY_HEADERS`].
    pub fn preset() -> SecurityHeaders {
        let usual = defaults::SECURITY_HEADERS.iter();
        SecurityHeaders {
            headers: usual
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect(),
            transport: Some(HeaderValue::from_static(defaults::STRICT_TRANSPORT_SECURITY)),
            overrides: false,
        }
    }

    /// Says this, or nothing of that name.
    pub fn set(&mut self, name: HeaderName, value: Option<HeaderValue>) {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.extend(value.map(|value| (name, value)));
    }
}
