//! The cookie of a refresh token (RFC 6265), in and out.

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use naru_spec::RefreshTokens;

/// What a request says of a cookie.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    None,
    One(String),
    /// Two of one name come of two places, and one of them may be somebody else's (RFC 6265, section 8.6).
    Several,
}

pub fn find(headers: &HeaderMap, name: &str) -> Found {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut found = Found::None;
    for (_, value) in pairs.filter(|(known, _)| *known == name) {
        found = match found {
            Found::None => Found::One(value.trim_matches('"').to_owned()),
            Found::One(_) | Found::Several => return Found::Several,
        };
    }
    found
}

/// Sets it, for so many seconds; with none the browser forgets it.
pub fn set(settings: &RefreshTokens, value: &str, seconds: u64) -> Option<HeaderValue> {
    let RefreshTokens { cookie, cookie_path, .. } = settings;
    let mut text = format!("{cookie}={value}; Path={cookie_path}; Max-Age={seconds}");
    if let Some(domain) = &settings.cookie_domain {
        text.push_str("; Domain=");
        text.push_str(domain);
    }
    text.push_str("; HttpOnly; Secure; SameSite=Strict");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&str]) -> Found {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_str(line).unwrap());
        }
        find(&headers, "refreshToken")
    }

    #[test]
    fn a_cookie_is_found_among_others_and_never_taken_for_another() {
        let one = |text: &str| Found::One(text.to_owned());
        assert_eq!(found(&["a=b; refreshToken=x=y ;c=d"]), one("x=y"));
        assert_eq!(found(&["a=b", "refreshToken=\"z\""]), one("z"));
        assert_eq!(found(&["refreshtoken=x; xrefreshToken=y; refreshToken"]), Found::None);
        assert_eq!(found(&["refreshToken=x; refreshToken=x"]), Found::Several);
        assert_eq!(found(&["refreshToken=x", "refreshToken=y"]), Found::Several);
    }
}
