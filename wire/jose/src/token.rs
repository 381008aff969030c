//! Tokens as they are written: three parts with two dots (RFC 7515, section 7.1).
//!
//! Parts are looked at in the order in which Envoy does (`Jwt::parseFromString` of
//! `source/common/jwt/jwt.cc`), so that a token with several faults has the same one.

use std::fmt;

use naru_base::Json;

use crate::algorithm::Algorithm;
use crate::{base64url, json};

/// No longer token is looked at. What browsers and proxies carry in headers is shorter.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What is wrong with a token, or between it and the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenFault {
    Form,
    TooLong,
    HeaderBase64,
    HeaderJson,
    HeaderAlgorithm,
    UnknownAlgorithm,
    HeaderKid,
    HeaderCritical,
    PayloadBase64,
    PayloadJson,
    Issuer,
    Subject,
    IssuedAt,
    IssuedAtRange,
    NotBefore,
    NotBeforeRange,
    Expiry,
    ExpiryRange,
    Id,
    Audience,
    SignatureBase64,
    /// No key has the `kid` and is for the algorithm.
    NoKey,
    /// There is a key, but it did not sign this.
    Signature,
}

impl TokenFault {
    pub fn text(self) -> &'static str {
        match self {
            TokenFault::Form => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            TokenFault::TooLong => "Jwt is too long",
            TokenFault::HeaderBase64 => "Jwt header is an invalid Base64url encoded",
            TokenFault::HeaderJson => "Jwt header is an invalid JSON",
            TokenFault::HeaderAlgorithm => "Jwt header [alg] field is required and must be a string",
            TokenFault::UnknownAlgorithm => "Jwt header [alg] is not supported",
            TokenFault::HeaderKid => "Jwt header [kid] field is not a string",
            TokenFault::HeaderCritical => "Jwt header [crit] is not supported",
            TokenFault::PayloadBase64 => "Jwt payload is an invalid Base64url encoded",
            TokenFault::PayloadJson => "Jwt payload is an invalid JSON",
            TokenFault::Issuer => "Jwt payload [iss] field is not a string",
            TokenFault::Subject => "Jwt payload [sub] field is not a string",
            TokenFault::IssuedAt => "Jwt payload [iat] field is not an integer",
            TokenFault::IssuedAtRange => "Jwt payload [iat] field is not a positive 64 bit integer",
            TokenFault::NotBefore => "Jwt payload [nbf] field is not an integer",
            TokenFault::NotBeforeRange => "Jwt payload [nbf] field is not a positive 64 bit integer",
            TokenFault::Expiry => "Jwt payload [exp] field is not an integer",
            TokenFault::ExpiryRange => "Jwt payload [exp] field is not a positive 64 bit integer",
            TokenFault::Id => "Jwt payload [jti] field is not a string",
            TokenFault::Audience => "Jwt payload [aud] field is not a string or string list",
            TokenFault::SignatureBase64 => "Jwt signature is an invalid Base64url encoded",
            TokenFault::NoKey => "Jwks doesn't have key to match kid or alg from Jwt",
            TokenFault::Signature => "Jwt verification fails",
        }
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for TokenFault {}

/// What a header says. Keys and addresses of keys in it are not looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub algorithm: Algorithm,
    /// Empty says as much as none.
    pub kid: Option<String>,
    pub typ: Option<String>,
    /// All of it.
    pub all: Json,
}

impl Header {
    fn parse(text: &str) -> Result<Header, TokenFault> {
        let bytes = base64url::decode(text).ok_or(TokenFault::HeaderBase64)?;
        let all = json::object(&bytes).ok_or(TokenFault::HeaderJson)?;
        let algorithm = all.get("alg").and_then(Json::as_text).ok_or(TokenFault::HeaderAlgorithm)?;
        let algorithm = algorithm.parse().map_err(|_| TokenFault::UnknownAlgorithm)?;
        let kid = match all.get("kid") {
            None => None,
            Some(Json::Text(kid)) => Some(kid.clone()).filter(|kid| !kid.is_empty()),
            Some(_) => return Err(TokenFault::HeaderKid),
        };
        // No extension is understood, so none may be critical (RFC 7515, section 4.1.11). One of them says
        // that the payload is not encoded (RFC 7797): whoever leaves it out of `crit` has not said so.
        if all.get("crit").is_some() {
            return Err(TokenFault::HeaderCritical);
        }
        let typ = all.get("typ").and_then(Json::as_text).map(str::to_owned);
        Ok(Header { algorithm, kid, typ, all })
    }
}

/// A signed payload of whatever kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Compact<'a> {
    pub header: Header,
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
    /// The header and the payload as they are written, with the dot between them: what is signed.
    pub signed: &'a str,
}

impl<'a> Compact<'a> {
    pub fn parse(text: &'a str) -> Result<Compact<'a>, TokenFault> {
        let parts = Parts::of(text)?;
        let header = Header::parse(parts.header)?;
        let payload = base64url::decode(parts.payload).ok_or(TokenFault::PayloadBase64)?;
        let signature = base64url::decode(parts.signature).ok_or(TokenFault::SignatureBase64)?;
        Ok(Compact { header, payload, signature, signed: parts.signed })
    }

    /// The payload as it is written.
    pub fn payload_text(&self) -> &'a str {
        self.signed.split_once('.').map_or("", |(_, payload)| payload)
    }
}

struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Parts<'a>, TokenFault> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenFault::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenFault::Form)?;
        if payload.contains('.') || header.is_empty() || signature.is_empty() {
            return Err(TokenFault::Form);
        }
        Ok(Parts { header, payload, signature, signed })
    }
}

/// A token that makes claims (RFC 7519). Nothing of it is true before [`crate::Jwks::verify`] says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt<'a> {
    pub compact: Compact<'a>,
    /// An object; the registered claims in it are of their types.
    pub claims: Json,
}

impl<'a> Jwt<'a> {
    pub fn parse(text: &'a str) -> Result<Jwt<'a>, TokenFault> {
        let parts = Parts::of(text)?;
        // Nothing is no object, and for Envoy no part. What is signed may be nothing.
        if parts.payload.is_empty() {
            return Err(TokenFault::Form);
        }
        let header = Header::parse(parts.header)?;
        let payload = base64url::decode(parts.payload).ok_or(TokenFault::PayloadBase64)?;
        let claims = json::object(&payload).ok_or(TokenFault::PayloadJson)?;
        for (name, fault) in [("iss", TokenFault::Issuer), ("sub", TokenFault::Subject)] {
            expect_text(&claims, name, fault)?;
        }
        expect_time(&claims, "iat", TokenFault::IssuedAt, TokenFault::IssuedAtRange)?;
        expect_time(&claims, "nbf", TokenFault::NotBefore, TokenFault::NotBeforeRange)?;
        expect_time(&claims, "exp", TokenFault::Expiry, TokenFault::ExpiryRange)?;
        expect_text(&claims, "jti", TokenFault::Id)?;
        if let Some(audience) = claims.get("aud")
            && !audience.each().iter().all(|one| matches!(one, Json::Text(_)))
        {
            return Err(TokenFault::Audience);
        }
        let signature = base64url::decode(parts.signature).ok_or(TokenFault::SignatureBase64)?;
        Ok(Jwt { compact: Compact { header, payload, signature, signed: parts.signed }, claims })
    }

    pub fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Json::as_text)
    }

    /// Seconds since 1970.
    pub fn time(&self, claim: &str) -> Option<i64> {
        match self.claims.get(claim)? {
            Json::Whole(seconds) => Some(*seconds),
            // Beyond all times that come.
            Json::Real(_) => Some(i64::MAX),
            _ => None,
        }
    }

    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.claims.get("aud").map_or(&[][..], Json::each).iter().filter_map(Json::as_text)
    }
}

fn expect_text(claims: &Json, name: &str, fault: TokenFault) -> Result<(), TokenFault> {
    match claims.get(name) {
        None | Some(Json::Text(_)) => Ok(()),
        Some(_) => Err(fault),
    }
}

/// RFC 7519 lets a time have a fraction; Envoy does not, nor does anybody write one.
fn expect_time(claims: &Json, name: &str, kind: TokenFault, range: TokenFault) -> Result<(), TokenFault> {
    match claims.get(name) {
        None => Ok(()),
        Some(Json::Whole(seconds)) if *seconds >= 0 => Ok(()),
        Some(Json::Whole(_)) => Err(range),
        Some(Json::Real(real)) if *real < 0.0 || *real >= 18_446_744_073_709_551_616.0 => Err(range),
        Some(Json::Real(real)) if real.trunc() == *real => Ok(()),
        Some(_) => Err(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", base64url::encode(header.as_bytes()), base64url::encode(payload.as_bytes()))
    }

    #[track_caller]
    fn fault(text: &str, expected: TokenFault) {
        assert_eq!(Jwt::parse(text).map(|_| ()), Err(expected), "{text}");
    }

    #[test]
    fn a_token_has_three_parts() {
        for text in ["", ".", "..", "a", "a.b", "a.b.", ".b.c", "a..c", "a.b.c.d", "a.b.c."] {
            fault(text, TokenFault::Form);
        }
        fault(&"a".repeat(TOKEN_BYTES_MAX + 1), TokenFault::TooLong);
    }

    #[test]
    fn what_is_signed_may_be_nothing() {
        let compact = Compact::parse("eyJhbGciOiJFUzI1NiJ9..c2ln").unwrap();
        assert_eq!((compact.payload.as_slice(), compact.payload_text()), (&[][..], ""));
    }

    #[test]
    fn each_fault_of_a_header_has_its_text() {
        for (header, expected) in [
            ("", TokenFault::Form),
            ("{", TokenFault::HeaderJson),
            ("[]", TokenFault::HeaderJson),
            (r#"{"alg":"RS256","alg":"HS256"}"#, TokenFault::HeaderJson),
            ("{}", TokenFault::HeaderAlgorithm),
            (r#"{"alg":1}"#, TokenFault::HeaderAlgorithm),
            (r#"{"alg":"none"}"#, TokenFault::UnknownAlgorithm),
            (r#"{"alg":"rs256"}"#, TokenFault::UnknownAlgorithm),
            (r#"{"alg":"RS256","kid":1}"#, TokenFault::HeaderKid),
            (r#"{"alg":"RS256","crit":["exp"],"exp":1}"#, TokenFault::HeaderCritical),
            (r#"{"alg":"RS256","crit":[]}"#, TokenFault::HeaderCritical),
        ] {
            fault(&written(header, "{}"), expected);
        }
        fault("e30=.e30.c2ln", TokenFault::HeaderBase64);
    }

    #[test]
    fn each_fault_of_a_payload_has_its_text() {
        for (payload, expected) in [
            ("foo", TokenFault::PayloadJson),
            ("1", TokenFault::PayloadJson),
            (r#"{"iss":1}"#, TokenFault::Issuer),
            (r#"{"iss":null}"#, TokenFault::Issuer),
            (r#"{"sub":[]}"#, TokenFault::Subject),
            (r#"{"iat":"1"}"#, TokenFault::IssuedAt),
            (r#"{"iat":-1}"#, TokenFault::IssuedAtRange),
            (r#"{"nbf":true}"#, TokenFault::NotBefore),
            (r#"{"nbf":1.5}"#, TokenFault::NotBefore),
            (r#"{"exp":"never"}"#, TokenFault::Expiry),
            (r#"{"exp":1e30}"#, TokenFault::ExpiryRange),
            (r#"{"exp":-0.5}"#, TokenFault::ExpiryRange),
            (r#"{"jti":1}"#, TokenFault::Id),
            (r#"{"aud":1}"#, TokenFault::Audience),
            (r#"{"aud":["a",1]}"#, TokenFault::Audience),
        ] {
            fault(&written(r#"{"alg":"RS256"}"#, payload), expected);
        }
        let token = written(r#"{"alg":"RS256"}"#, "{}");
        fault(&format!("{token}="), TokenFault::SignatureBase64);
        fault(&token.replace(".e30.", ".e31."), TokenFault::PayloadBase64);
    }

    #[test]
    fn what_a_token_claims_can_be_asked() {
        let text = written(
            r#"{"alg":"ES256","kid":"a","typ":"at+jwt"}"#,
            r#"{"iss":"me","aud":["x","y"],"exp":9300000000000000000,"nbf":7}"#,
        );
        let token = Jwt::parse(&text).unwrap();
        assert_eq!(token.compact.header.kid.as_deref(), Some("a"));
        assert_eq!(token.compact.header.typ.as_deref(), Some("at+jwt"));
        assert_eq!(token.text("iss"), Some("me"));
        assert_eq!(token.audiences().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(
            (token.time("exp"), token.time("nbf"), token.time("iat")),
            (Some(i64::MAX), Some(7), None)
        );
        assert_eq!(token.compact.payload_text(), text.split('.').nth(1).unwrap());
    }
}
