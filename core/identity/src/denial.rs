//! Why a token is not accepted, in the words of Envoy (`source/common/jwt/status.cc`).

/// Why a request is refused by what it shows, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Denial {
    Missing,
    /// What whoever reads tokens and keys says of it.
    Unreadable(&'static str),
    UnknownIssuer,
    NotYetValid,
    Expired,
    /// It has no expiry where it must, or one too far away.
    Lifetime,
    Audience,
    /// Its keys could not be fetched.
    Fetch,
}

impl Denial {
    pub fn text(self) -> &'static str {
        match self {
            Denial::Missing => "Jwt is missing",
            Denial::Unreadable(text) => text,
            Denial::UnknownIssuer => "Jwt issuer is not configured",
            Denial::NotYetValid => "Jwt not yet valid",
            Denial::Expired => "Jwt is expired",
            Denial::Lifetime => "Jwt verification fails",
            Denial::Audience => "Audiences in Jwt are not allowed",
            Denial::Fetch => "Jwks remote fetch is failed",
        }
    }

    /// 403 where the token is good, but for somebody else.
    pub fn status(self) -> u16 {
        if self == Denial::Audience { 403 } else { 401 }
    }

    /// `WWW-Authenticate` (RFC 6750, section 3): who has shown nothing is told no error.
    pub fn challenge(self, scheme: &str, authority: &str, path: &str) -> String {
        let realm = original_uri(scheme, authority, path);
        let error = if self == Denial::Missing { "" } else { ", error=\"invalid_token\"" };
        format!("Bearer realm=\"{realm}\"{error}")
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub fn details(self) -> String {
        format!("jwt_authn_access_denied{{{}}}", self.text().replace(' ', "_"))
    }
}

/// Envoy's `buildOriginalUri`: at most 256 bytes of path. What a client writes there does not end the quotes.
fn original_uri(scheme: &str, authority: &str, path: &str) -> String {
    const PATH_BYTES_MAX: usize = 256;
    let mut end = path.len().min(PATH_BYTES_MAX);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    let path = path.get(..end).unwrap_or_default();
    format!("{scheme}://{authority}{path}").replace(['"', '\\'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_where_and_why() {
        let missing = Denial::Missing.challenge("http", "a.example", "/b");
        assert_eq!(missing, r#"Bearer realm="http://a.example/b""#);
        let expired = Denial::Expired.challenge("https", "a.example", "/\"b");
        assert_eq!(expired, r#"Bearer realm="https://a.example/b", error="invalid_token""#);
        assert_eq!(Denial::Expired.challenge("http", "", &"é".repeat(300)).len(), 45 + 256);
    }

    #[test]
    fn details_have_no_spaces() {
        assert_eq!(Denial::Missing.details(), "jwt_authn_access_denied{Jwt_is_missing}");
        assert_eq!((Denial::Audience.status(), Denial::Expired.status()), (403, 401));
    }
}
