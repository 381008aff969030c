//! Who issues tokens: whether what one claims is accepted, and what upstreams are told of it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::Json;
use naru_spec::{ClaimHeader, JwtProvider};

use crate::denial::Denial;
use crate::identified::Token;
use crate::places::Kind;

/// A provider, and what its tokens are held against.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub name: String,
    pub issuer: Option<String>,
    pub audiences: Vec<String>,
    pub claims_name: Arc<str>,
    pub forward: bool,
    payload_header: Option<HeaderName>,
    pads_payload: bool,
    claim_headers: Vec<ClaimHeader>,
    spaced_claims: Vec<String>,
    clock_skew: Duration,
    requires_expiry: bool,
    lifetime_max: Option<Duration>,
    pub reroutes: bool,
    pub kinds: Vec<Kind>,
}

/// A token's claims are accepted; what is left is who signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// By whose keys it must be signed: the index of a provider in the settings.
    pub provider: usize,
}

impl Provider {
    pub fn compile(said: &JwtProvider) -> Provider {
        let mut kinds: Vec<Kind> = Vec::new();
        for header in &said.from_headers {
            kinds.push(Kind::Header { name: header.name.as_str().to_owned(), prefix: header.prefix.clone() });
        }
        kinds.extend(said.from_params.iter().cloned().map(Kind::Param));
        kinds.extend(said.from_cookies.iter().cloned().map(Kind::Cookie));
        if said.has_usual_places() {
            kinds.push(Kind::Header { name: "authorization".to_owned(), prefix: "Bearer ".to_owned() });
            kinds.push(Kind::Param("access_token".to_owned()));
        }
        Provider {
            name: said.name.clone(),
            issuer: said.issuer.clone(),
            audiences: said.audiences.iter().map(|audience| sanitized(audience).to_owned()).collect(),
            claims_name: said.claims_name.as_str().into(),
            forward: said.forward,
            payload_header: said.payload_header.clone(),
            pads_payload: said.pads_payload,
            claim_headers: said.claim_headers.clone(),
            spaced_claims: said.spaced_claims.clone(),
            clock_skew: said.clock_skew,
            requires_expiry: said.requires_expiry,
            lifetime_max: said.lifetime_max,
            reroutes: said.reroutes,
            kinds,
        }
    }

    /// Whether this issuer's tokens are this provider's.
    pub fn takes_issuer(&self, issuer: &str) -> bool {
        self.issuer.as_deref().is_none_or(|known| known == issuer)
    }

    /// Whether its times and audiences are accepted at a moment, in seconds since 1970.
    pub fn accept(&self, claims: &Json, audiences: &[String], now: i64) -> Result<(), Denial> {
        let skew = i64::try_from(self.clock_skew.as_secs()).unwrap_or(i64::MAX);
        let expiry = time(claims, "exp");
        if self.requires_expiry && expiry.is_none() {
            return Err(Denial::Lifetime);
        }
        if let Some(max) = self.lifetime_max {
            let latest = now.saturating_add(i64::try_from(max.as_secs()).unwrap_or(i64::MAX));
            if expiry.is_none_or(|expiry| expiry > latest) {
                return Err(Denial::Lifetime);
            }
        }
        if time(claims, "nbf").is_some_and(|first| now.saturating_add(skew) < first) {
            return Err(Denial::NotYetValid);
        }
        // 0 is how Envoy says that there is none.
        let expiry = expiry.filter(|expiry| *expiry != 0);
        if expiry.is_some_and(|last| now > last.saturating_add(skew)) {
            return Err(Denial::Expired);
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let said = claims.get("aud").map_or(&[][..], Json::each);
        let is_for = |audience: &str| wanted.iter().any(|known| known == sanitized(audience));
        if !wanted.is_empty() && !said.iter().filter_map(Json::as_text).any(is_for) {
            return Err(Denial::Audience);
        }
        Ok(())
    }

    /// Takes headers away that only a verified token may set.
    pub fn sanitize(&self, headers: &mut HeaderMap) {
        let of_claims = self.claim_headers.iter().map(|claim| &claim.header);
        for name in of_claims.chain(&self.payload_header) {
            headers.remove(name);
        }
    }

    /// Tells upstreams what the token says.
    pub fn tell(&self, token: &Token, headers: &mut HeaderMap) {
        if let Some(name) = &self.payload_header {
            let padding = if self.pads_payload { (4 - token.payload.len() % 4) % 4 } else { 0 };
            let text = format!("{}{}", token.payload, &"==="[..padding]);
            headers.extend(HeaderValue::try_from(text).ok().map(|value| (name.clone(), value)));
        }
        for ClaimHeader { header, claim } in &self.claim_headers {
            let value = token.claims.at(claim.split('.')).map(in_words).filter(|text| !text.is_empty());
            // What a claim says may be no value of a header; then upstreams are told nothing.
            let value = value.and_then(|text| HeaderValue::try_from(text).ok());
            if let Some(value) = value {
                headers.append(header.clone(), value);
            }
        }
    }

    /// The claims as authorization sees them: those that are lists of words as lists.
    pub fn normalized(&self, token: &Arc<Token>) -> Arc<Token> {
        let is_spaced = |name: &str, value: &Json| {
            self.spaced_claims.iter().any(|known| known == name) && matches!(value, Json::Text(_))
        };
        let Json::Map(members) = &token.claims else { return Arc::clone(token) };
        if !members.iter().any(|(name, value)| is_spaced(name, value)) {
            return Arc::clone(token);
        }
        let words = |name: &String, value: &Json| match value {
            Json::Text(text) if is_spaced(name, value) => {
                Json::List(text.split(' ').filter(|word| !word.is_empty()).map(Json::from).collect())
            }
            value => value.clone(),
        };
        let claims = members.iter().map(|(name, value)| (name.clone(), words(name, value))).collect();
        Arc::new(Token { claims: Json::Map(claims), payload: token.payload.clone() })
    }
}

/// Seconds since 1970. Who reads tokens lets no other times through than whole ones.
fn time(claims: &Json, name: &str) -> Option<i64> {
    match claims.get(name)? {
        Json::Whole(seconds) => Some(*seconds),
        Json::Real(_) => Some(i64::MAX),
        _ => None,
    }
}

/// Without its scheme and without a slash at its end: Envoy's `sanitizeAudience`.
fn sanitized(audience: &str) -> &str {
    let audience = audience.strip_prefix("https://").or(audience.strip_prefix("http://")).unwrap_or(audience);
    audience.strip_suffix('/').unwrap_or(audience)
}

/// Envoy's `convertClaimDoubleToString`, and no lists and objects.
fn in_words(claim: &Json) -> String {
    match claim {
        Json::Text(text) => text.clone(),
        Json::Bool(is_true) => is_true.to_string(),
        Json::Whole(whole) if *whole >= 0 => whole.to_string(),
        Json::Whole(whole) => format!("{whole}.000000"),
        Json::Real(real) if *real >= 0.0 && real.trunc() == *real && *real < 18_446_744_073_709_551_616.0 => {
            (*real as u64).to_string()
        }
        Json::Real(real) => format!("{real:.6}"),
        Json::Null | Json::List(_) | Json::Map(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_spec::{DataSource, JwtKeys};

    fn said() -> JwtProvider {
        JwtProvider::new("p", "me", JwtKeys::Local(DataSource::Inline(Vec::new())))
    }

    fn map(members: &[(&str, Json)]) -> Json {
        Json::Map(members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    #[test]
    fn times_are_held_against_the_clock_with_its_skew() {
        let provider = Provider::compile(&said());
        for (name, seconds, now, expected) in [
            ("exp", 1_000, 1_060, Ok(())),
            ("exp", 1_000, 1_061, Err(Denial::Expired)),
            ("exp", 0, 1_061, Ok(())),
            ("exp", i64::MAX, i64::MAX, Ok(())),
            ("nbf", 1_000, 940, Ok(())),
            ("nbf", 1_000, 939, Err(Denial::NotYetValid)),
            ("nbf", i64::MAX, 5, Err(Denial::NotYetValid)),
        ] {
            let claims = map(&[(name, seconds.into())]);
            assert_eq!(provider.accept(&claims, &[], now), expected, "{name} {seconds} at {now}");
        }
    }

    #[test]
    fn a_token_may_have_to_end() {
        let mut provider = Provider::compile(&JwtProvider { requires_expiry: true, ..said() });
        assert_eq!(provider.accept(&map(&[]), &[], 5), Err(Denial::Lifetime));
        provider.lifetime_max = Some(Duration::from_secs(10));
        assert_eq!(provider.accept(&map(&[("exp", 16.into())]), &[], 5), Err(Denial::Lifetime));
        assert_eq!(provider.accept(&map(&[("exp", 15.into())]), &[], 5), Ok(()));
    }

    #[test]
    fn one_audience_is_enough() {
        let provider = Provider::compile(&JwtProvider { audiences: vec!["https://a/".into()], ..said() });
        let list = Json::List(vec!["b".into(), "http://a".into()]);
        for (aud, expected) in
            [(Json::from("a"), Ok(())), (list, Ok(())), ("b".into(), Err(Denial::Audience))]
        {
            assert_eq!(provider.accept(&map(&[("aud", aud)]), &[], 0), expected);
        }
        assert_eq!(provider.accept(&map(&[]), &[], 0), Err(Denial::Audience));
        assert_eq!(provider.accept(&map(&[("aud", "b".into())]), &["b".to_owned()], 0), Ok(()));
    }

    #[test]
    fn upstreams_are_told_claims() {
        let header = |name: &'static str, claim: &str| ClaimHeader {
            header: HeaderName::from_static(name),
            claim: claim.to_owned(),
        };
        let provider = Provider::compile(&JwtProvider {
            payload_header: Some(HeaderName::from_static("x-payload")),
            pads_payload: true,
            claim_headers: vec![
                header("x-sub", "sub"),
                header("x-deep", "a.b"),
                header("x-real", "real"),
                header("x-list", "list"),
                header("x-line", "line"),
            ],
            ..said()
        });
        let claims = map(&[
            ("sub", "me".into()),
            ("a", map(&[("b", 7.into())])),
            ("real", Json::Real(-1.5)),
            ("list", Json::List(vec![])),
            ("line", "a\r\nx: y".into()),
        ]);
        let mut headers = HeaderMap::new();
        for name in ["x-sub", "x-payload", "x-list"] {
            headers.insert(name, HeaderValue::from_static("forged"));
        }
        provider.sanitize(&mut headers);
        provider.tell(&Token { claims, payload: "abcde".into() }, &mut headers);
        let told =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        assert_eq!(
            ["x-payload", "x-sub", "x-deep", "x-real", "x-list", "x-line"].map(told),
            ["abcde===", "me", "7", "-1.500000", "-", "-"]
        );
    }

    #[test]
    fn a_claim_of_words_is_a_list_for_policies() {
        let provider = Provider::compile(&JwtProvider { spaced_claims: vec!["scope".into()], ..said() });
        let token = Arc::new(Token {
            claims: map(&[("scope", "a  b".into()), ("x", "c d".into())]),
            payload: "".into(),
        });
        let normalized = provider.normalized(&token);
        assert_eq!(normalized.claims.get("scope"), Some(&Json::List(vec!["a".into(), "b".into()])));
        assert_eq!(normalized.claims.get("x"), Some(&"c d".into()));
    }
}
