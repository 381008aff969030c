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
    let mut found = Found::None;
    for (_, value) in pairs(headers).filter(|(known, _)| *known == name.as_bytes()) {
        found = match found {
            // One that is no text is none of ours.
            Found::None => Found::One(String::from_utf8_lossy(value).trim_matches('"').to_owned()),
            Found::One(_) | Found::Several => return Found::Several,
        };
    }
    found
}

/// The names that begin so, as far as a few dozen.
pub fn names(headers: &HeaderMap, beginning: &str) -> Vec<String> {
    let names = pairs(headers).filter_map(|(name, _)| std::str::from_utf8(name).ok());
    names.filter(|name| name.starts_with(beginning)).take(32).map(str::to_owned).collect()
}

/// Names and values. What is beside ours may be bytes of any kind: browsers send whatever scripts have written.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let all = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    all.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((pair.get(..at)?, pair.get(at + 1..)?))
    })
}

/// Takes cookies out that are naru's own: the application has no business with them.
pub fn strip(headers: &mut HeaderMap, is_own: impl Fn(&str) -> bool) {
    let has_own =
        |line: &HeaderValue| line.as_bytes().split(|byte| *byte == b';').any(|pair| is_of(pair, &is_own));
    if !headers.get_all(COOKIE).iter().any(has_own) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let kept = line.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_of(pair, &is_own));
        let kept = kept.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty());
        let kept = kept.collect::<Vec<_>>().join(&b"; "[..]);
        if !kept.is_empty()
            && let Ok(mut value) = HeaderValue::from_bytes(&kept)
        {
            value.set_sensitive(line.is_sensitive());
            headers.append(COOKIE, value);
        }
    }
}

fn is_of(pair: &[u8], is_own: &impl Fn(&str) -> bool) -> bool {
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    std::str::from_utf8(name.trim_ascii()).is_ok_and(is_own)
}

/// Sets one for this host and all its paths, which other sites send along only where somebody follows a link.
pub fn of_host(name: &str, value: &str, seconds: u64) -> Option<HeaderValue> {
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Lax");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
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
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        find(&headers, "refreshToken")
    }

    #[test]
    fn a_cookie_is_found_among_others_and_never_taken_for_another() {
        let one = |text: &str| Found::One(text.to_owned());
        assert_eq!(found(&["a=b; refreshToken=x=y ;c=d"]), one("x=y"));
        assert_eq!(found(&["a=b", "refreshToken=\"z\""]), one("z"));
        assert_eq!(found(&["nick=철수; refreshToken=x; b=\u{e9}"]), one("x"), "others are no text of ours");
        assert_eq!(found(&["nick=철수; refreshToken=x; refreshToken=철수"]), Found::Several);
        assert_eq!(found(&["refreshtoken=x; xrefreshToken=y; refreshToken"]), Found::None);
        assert_eq!(found(&["refreshToken=x; refreshToken=x"]), Found::Several);
        assert_eq!(found(&["refreshToken=x", "refreshToken=y"]), Found::Several);
    }

    #[test]
    fn our_own_are_taken_out_and_others_stay_as_they_are() {
        let stripped = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            strip(&mut headers, |name| name == "own" || name.starts_with("__Host-oidc-"));
            headers
                .get_all(COOKIE)
                .iter()
                .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(stripped(&["a=b; own=x=y ;c=d"]), ["a=b; c=d"]);
        assert_eq!(stripped(&["own=x", "__Host-oidc-1=y; b"]), ["b"]);
        assert_eq!(
            stripped(&["owner=x;  a=\u{e9}"]),
            ["owner=x;  a=\u{e9}"],
            "none of ours: nothing is touched"
        );
        assert_eq!(stripped(&["own=1; own=2"]), [""; 0]);
        assert_eq!(stripped(&[]), [""; 0]);
    }

    #[test]
    fn names_are_found_by_how_they_begin() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("x-1=a; b=c; x-2=d; x"));
        assert_eq!(names(&headers, "x-"), ["x-1", "x-2"]);
    }
}
