//! Who a request is from: tokens that clients show, and what is asked of them. Envoy's `jwt_authn`.

use std::time::Duration;

use http::HeaderName;

use crate::{DataSource, Invalid, Match, defaults};

/// What tokens the requests of a chain have to show.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Jwt {
    pub providers: Vec<JwtProvider>,
    /// The first that matches says what is asked. A request that none of them takes is asked for nothing.
    pub rules: Vec<JwtRule>,
    /// What a route may ask for instead, by name.
    pub named: Vec<(String, JwtRequirement)>,
    /// Browsers ask without a token whether they may ask with one.
    pub bypass_cors_preflight: bool,
    /// Who is refused is not told why.
    pub strip_failure_response: bool,
}

/// Who issues tokens, where they stand, and what becomes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtProvider {
    pub name: String,
    /// `iss`. `None` takes every issuer's.
    pub issuer: Option<String>,
    /// One of them must be in `aud`. Empty asks for none.
    pub audiences: Vec<String>,
    pub keys: JwtKeys,
    /// The token goes on to the upstream. Else it is taken out of its header or parameter; a cookie stays.
    pub forward: bool,
    pub from_headers: Vec<JwtHeader>,
    pub from_params: Vec<String>,
    pub from_cookies: Vec<String>,
    /// Upstreams are told the payload, as it is written in the token.
    pub payload_header: Option<HeaderName>,
    /// With `=` at its end.
    pub pads_payload: bool,
    pub claim_headers: Vec<ClaimHeader>,
    /// By how much clocks may differ.
    pub clock_skew: Duration,
    /// What authorization knows the claims by; empty keeps none.
    pub claims_name: String,
    /// Claims whose texts are lists of words.
    pub spaced_claims: Vec<String>,
    /// A token without `exp` is refused.
    pub requires_expiry: bool,
    /// How long a token may be valid from its `iat` on.
    pub lifetime_max: Option<Duration>,
    /// What upstreams are told may change which rule takes the request.
    pub reroutes: bool,
}

impl JwtProvider {
    /// Tokens in their usual places: `Authorization: Bearer`, and the parameter `access_token`.
    pub fn new(name: impl Into<String>, issuer: impl Into<String>, keys: JwtKeys) -> JwtProvider {
        JwtProvider {
            name: name.into(),
            issuer: Some(issuer.into()),
            audiences: Vec::new(),
            keys,
            forward: false,
            from_headers: Vec::new(),
            from_params: Vec::new(),
            from_cookies: Vec::new(),
            payload_header: None,
            pads_payload: false,
            claim_headers: Vec::new(),
            clock_skew: defaults::JWT_CLOCK_SKEW,
            claims_name: String::new(),
            spaced_claims: Vec::new(),
            requires_expiry: false,
            lifetime_max: None,
            reroutes: false,
        }
    }

    /// Whether it says no place of its own where tokens stand.
    pub fn has_usual_places(&self) -> bool {
        self.from_headers.is_empty() && self.from_params.is_empty() && self.from_cookies.is_empty()
    }
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq)]
pub enum JwtKeys {
    Local(DataSource),
    Remote(RemoteKeys),
}

/// Keys that are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteKeys {
    /// `http://` or `https://`.
    pub uri: String,
    /// Where it is asked.
    pub cluster: String,
    pub timeout: Duration,
    /// How long they are good; then they are fetched again.
    pub cache: Duration,
}

/// A header with a token in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtHeader {
    pub name: HeaderName,
    /// What stands before it.
    pub prefix: String,
}

/// Upstreams are told a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimHeader {
    pub header: HeaderName,
    /// `a.b` is `b` within `a`.
    pub claim: String,
}

/// What requests of a kind are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtRule {
    pub matches: Match,
    pub requires: JwtRequirement,
}

/// What is asked of a request. Providers go by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtRequirement {
    Nothing,
    /// A token of this provider; with audiences, for one of them instead of the provider's.
    Provider {
        name: String,
        audiences: Vec<String>,
    },
    Any(Vec<JwtRequirement>),
    All(Vec<JwtRequirement>),
    /// Tokens that are there must be valid.
    AllowMissing,
    AllowMissingOrFailed,
}

impl Jwt {
    /// With one requirement for all requests. One that nobody has named takes nobody's token.
    pub fn requiring(&self, name: &str) -> Jwt {
        let requires = self.named.iter().find(|(known, _)| known == name);
        let requires = requires.map_or(JwtRequirement::Any(Vec::new()), |(_, requires)| requires.clone());
        Jwt { rules: vec![JwtRule { matches: Match::default(), requires }], ..self.clone() }
    }

    /// What is wrong with it, each with the provider or the rule that it is about.
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        for (at, provider) in self.providers.iter().enumerate() {
            let is_twice = self.providers.iter().take(at).any(|known| known.name == provider.name);
            if is_twice {
                found.push(Invalid::new(format!("there are two providers named '{}'", provider.name)));
            }
            if let JwtKeys::Remote(remote) = &provider.keys {
                if remote.timeout.is_zero() {
                    found.push(Invalid::new("a timeout of 0 leaves no time to fetch keys"));
                }
                if !remote.uri.starts_with("http://") && !remote.uri.starts_with("https://") {
                    let text = format!("'{}' is no address of keys", remote.uri);
                    found.push(Invalid::new(text).hint("it begins with http:// or https://"));
                }
            }
        }
        for requires in self.rules.iter().map(|rule| &rule.requires) {
            self.missing(requires, &mut found);
        }
        for (_, requires) in &self.named {
            self.missing(requires, &mut found);
        }
        found
    }

    fn missing(&self, requires: &JwtRequirement, found: &mut Vec<Invalid>) {
        match requires {
            JwtRequirement::Provider { name, .. } => {
                if !self.providers.iter().any(|provider| provider.name == *name) {
                    found.push(Invalid::new(format!("there is no provider '{name}'")));
                }
            }
            JwtRequirement::Any(list) | JwtRequirement::All(list) => {
                list.iter().for_each(|inner| self.missing(inner, found));
            }
            JwtRequirement::Nothing | JwtRequirement::AllowMissing | JwtRequirement::AllowMissingOrFailed => {
            }
        }
    }
}
