//! Answers that were chosen by fields of their requests (RFC 9111, section 4.1).
//!
//! What was said in the fields that `Vary` names is kept with the answer, normalized: lines are joined, space beside
//! commas goes, letters of codings and languages are small, languages stand in the order of how much they are wanted.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::list::{members, split, trim};

/// How many fields an answer may be chosen by. One with more is not stored.
const FIELDS_MAX: usize = 32;

/// What a request says in its fields.
pub trait Said {
    /// The values of all fields of that name, in their order.
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]>;
}

impl Said for HeaderMap {
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

/// The fields that chose an answer, with what the request said: `name`, a zero, the value, a line's end. `None` where no
/// other request can be known to be alike.
pub fn selecting(response: &HeaderMap, request: &HeaderMap) -> Option<Box<[u8]>> {
    let mut names: Vec<HeaderName> = Vec::new();
    for value in response.get_all(header::VARY) {
        for member in members(value.as_bytes()) {
            // What cannot be read may stand for anything, as the star does.
            let name = HeaderName::from_bytes(member).ok().filter(|name| name.as_str() != "*")?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if names.len() > FIELDS_MAX {
        return None;
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    Some(said_in(&names, request))
}

fn said_in(names: &[HeaderName], request: &HeaderMap) -> Box<[u8]> {
    let mut out = Vec::new();
    for name in names {
        out.extend_from_slice(name.as_str().as_bytes());
        out.push(0);
        normalize(request, name, &mut out);
        out.push(b'\n');
    }
    out.into_boxed_slice()
}

/// The names in what [`selecting`] has made, each with a line's end.
pub fn names_of(selecting: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in selecting.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        out.extend(line.split(|byte| *byte == 0).next().unwrap_or_default());
        out.push(b'\n');
    }
    out
}

/// What another request says in the fields that [`names_of`] has named; `None` where these are no such names.
pub fn selecting_by(names: &[u8], request: &HeaderMap) -> Option<Box<[u8]>> {
    let names = names.split(|byte| *byte == b'\n').filter(|name| !name.is_empty());
    let names: Vec<HeaderName> =
        names.take(FIELDS_MAX + 1).map(|name| HeaderName::from_bytes(name).ok()).collect::<Option<_>>()?;
    let is_sorted = names.is_sorted_by(|a, b| a.as_str() < b.as_str());
    (is_sorted && !names.is_empty() && names.len() <= FIELDS_MAX).then(|| said_in(&names, request))
}

/// Whether a request is one that was alike in the fields of `selecting`. `language` is what the answer is written in.
pub fn is_alike(selecting: &[u8], language: Option<&[u8]>, request: &impl Said) -> bool {
    let mut said = Vec::new();
    // Values of fields have no line's end.
    selecting.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).all(|line| {
        let mut halves = line.splitn(2, |byte| *byte == 0);
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        let Ok(name) = HeaderName::from_bytes(name) else { return false };
        said.clear();
        normalize(request, &name, &mut said);
        said == value
            || (name == header::ACCEPT_LANGUAGE && language.is_some_and(|language| is_first(&said, language)))
    })
}

/// A field that is absent is another one than an empty one.
fn normalize(request: &impl Said, name: &HeaderName, out: &mut Vec<u8>) {
    let mut is_said = false;
    let start = out.len();
    for value in request.all(name) {
        for member in members(value) {
            if out.len() > start + 1 {
                out.push(b',');
            }
            if !is_said {
                out.push(b'=');
            }
            is_said = true;
            out.extend_from_slice(member);
        }
        if !is_said {
            out.push(b'=');
            is_said = true;
        }
    }
    let is_of_tokens = [header::ACCEPT_LANGUAGE, header::ACCEPT_ENCODING, header::ACCEPT_CHARSET];
    if is_of_tokens.contains(name)
        && let Some(written) = out.get_mut(start..)
    {
        written.make_ascii_lowercase();
    }
    if *name == header::ACCEPT_LANGUAGE && out.len() > start + 1 {
        let sorted = by_preference(out.get(start + 1..).unwrap_or_default());
        out.truncate(start + 1);
        out.extend_from_slice(&sorted);
    }
}

/// Languages, the most wanted first; those that are wanted alike by their letters.
fn by_preference(list: &[u8]) -> Vec<u8> {
    let mut all: Vec<(u32, &[u8])> = members(list).map(weighed).collect();
    all.sort_by(|(a, x), (b, y)| b.cmp(a).then(x.cmp(y)));
    let mut out = Vec::with_capacity(list.len());
    for (at, (weight, language)) in all.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(language);
        if *weight != 1_000 {
            out.extend_from_slice(format!(";q={weight}").as_bytes());
        }
    }
    out
}

/// In thousandths.
fn weighed(member: &[u8]) -> (u32, &[u8]) {
    let mut parts = split(member, b';');
    let language = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix(b"q=")).map_or(1_000, |text| {
        let (whole, rest) = match text.iter().position(|byte| *byte == b'.') {
            Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
            None => (text, &[][..]),
        };
        let digit = |at: usize| {
            rest.get(at).filter(|byte| byte.is_ascii_digit()).map_or(0, |byte| u32::from(byte - b'0'))
        };
        match trim(whole) {
            b"1" => 1_000,
            // Already in thousandths: that is how it is written here.
            other if !other.is_empty() && other != b"0" => {
                crate::list::seconds(other).map_or(1_000, |thousandths| thousandths.min(1_000))
            }
            _ => digit(0) * 100 + digit(1) * 10 + digit(2),
        }
    });
    (weight, language)
}

/// Whether a language is the only one that is wanted the most, of a list that is normalized.
fn is_first(said: &[u8], language: &[u8]) -> bool {
    let Some(list) = said.strip_prefix(b"=") else { return false };
    let mut all = members(list).map(weighed);
    let Some((weight, first)) = all.next() else { return false };
    let is_alone = all.next().is_none_or(|(next, _)| next < weight);
    is_alone && weight > 0 && first.eq_ignore_ascii_case(trim(language)) && !first.contains(&b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers;

    fn check(
        vary: &'static str,
        first: &[(&'static str, &'static str)],
        then: &[(&'static str, &'static str)],
    ) -> bool {
        let selecting = selecting(&headers(&[("vary", vary)]), &headers(first)).expect("no star");
        is_alike(&selecting, Some(b"de"), &headers(then))
    }

    #[test]
    fn requests_are_alike_in_the_fields_that_are_named() {
        assert!(check("foo", &[("foo", "1"), ("x", "1")], &[("foo", "1"), ("x", "2")]));
        assert!(!check("foo", &[("foo", "1")], &[("foo", "2")]));
        assert!(!check("foo", &[("foo", "1")], &[]));
        assert!(!check("foo", &[], &[("foo", "1")]));
        assert!(!check("foo", &[], &[("foo", "")]));
        assert!(check("foo, bar", &[("bar", "1")], &[("bar", "1")]));
        assert!(!check("foo, bar", &[("bar", "1")], &[("foo", "1")]));
    }

    #[test]
    fn a_star_is_like_nothing() {
        for vary in ["*", "*, *", ", *", "foo, *", "*, foo", "a b"] {
            assert_eq!(selecting(&headers(&[("vary", vary)]), &HeaderMap::new()), None, "{vary}");
        }
        assert!(selecting(&headers(&[("vary", ",")]), &HeaderMap::new()).is_some());
    }

    #[test]
    fn lines_space_order_and_letters_of_languages_make_no_difference() {
        assert!(check("foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")]));
        assert!(check("foo", &[("foo", "1,2")], &[("foo", " 1, 2 ")]));
        assert!(!check("foo", &[("foo", "\"1, 2\"")], &[("foo", "\"1,2\"")]));
        assert!(check("accept-language", &[("accept-language", "en, fr")], &[("accept-language", "FR,eN")]));
        let other = [("accept-language", "fr;q=0.5, de;q=1.0")];
        assert!(check("accept-language", &[("accept-language", "en, de")], &other));
        assert!(!check(
            "accept-language",
            &[("accept-language", "en, de")],
            &[("accept-language", "fr, de")]
        ));
        assert!(!check("foo", &[("foo", "A")], &[("foo", "a")]));
    }
}
