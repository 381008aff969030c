//! What `Cache-Control` says: in an answer ([`Control`]), in a request ([`Asked`]).
//!
//! Of a directive that is said several times the first counts (RFC 9111, section 4.2.1). One whose argument is none is
//! as strict as it can be: no lifetime at all.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use naru_base::WallTime;
use sfv::BareItem;

use crate::list::{directive, members, seconds, split};

/// Takes the place of `Cache-Control`: W3C, "Edge Architecture Specification".
const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
/// The same, farther from us: RFC 9213.
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// Directives whose argument is a number.
const TIMES: [&str; 4] = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];

/// Of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    pub no_store: bool,
    /// Without names of fields.
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    /// `Some(None)`: it has an argument that is none.
    pub max_age: Option<Option<u32>>,
    pub s_maxage: Option<Option<u32>>,
    pub stale_while_revalidate: Option<u32>,
    pub stale_if_error: Option<u32>,
    /// Fields that must not be stored: those named by `no-cache` and `private`.
    pub unstored: Vec<HeaderName>,
    /// It was said by a field that is for us: `Cache-Control` and `Expires` say nothing then.
    pub is_targeted: bool,
}

impl Control {
    pub fn of(headers: &HeaderMap) -> Control {
        let targeted = Control::of_surrogates(headers).or_else(|| Control::of_dictionary(headers));
        if let Some(control) = targeted {
            return control;
        }
        let mut control = Control::default();
        for value in headers.get_all(header::CACHE_CONTROL) {
            for member in members(value.as_bytes()) {
                control.read(member);
            }
        }
        control
    }

    /// One without anything in it that is known says nothing.
    #[cold]
    fn of_surrogates(headers: &HeaderMap) -> Option<Control> {
        let mut control = Control { is_targeted: true, ..Control::default() };
        let mut is_any = false;
        for value in headers.get_all(SURROGATE_CONTROL) {
            for member in members(value.as_bytes()) {
                // `max-age=60;somebody`: its parameters say for whom, and nobody is asked who we are.
                is_any |= control.read(split(member, b';').next().unwrap_or_default());
            }
        }
        is_any.then_some(control)
    }

    /// A dictionary of structured fields. One that is none, and one without anything in it that is known, says nothing
    /// (RFC 9213, section 2.1).
    #[cold]
    fn of_dictionary(headers: &HeaderMap) -> Option<Control> {
        let lines: Vec<&[u8]> =
            headers.get_all(CDN_CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
        let dictionary: sfv::Dictionary = sfv::Parser::new(&lines.join(&b", "[..])).parse().ok()?;
        let mut control = Control { is_targeted: true, ..Control::default() };
        let mut is_any = false;
        for (key, entry) in &dictionary {
            let sfv::ListEntry::Item(item) = entry else { continue };
            let is_time = TIMES.contains(&key.as_str());
            is_any |= match &item.bare_item {
                BareItem::Integer(number) if is_time => {
                    control.take(key.as_str().as_bytes(), Some(number.to_string().as_bytes()))
                }
                BareItem::String(text) if !is_time => {
                    control.take(key.as_str().as_bytes(), Some(text.as_str().as_bytes()))
                }
                BareItem::Boolean(true) if !is_time => control.take(key.as_str().as_bytes(), None),
                // What is of another type is ignored.
                _ => false,
            };
        }
        is_any.then_some(control)
    }

    /// Whether the directive is known.
    fn read(&mut self, member: &[u8]) -> bool {
        let (name, argument) = directive(member);
        self.take(name, argument)
    }

    fn take(&mut self, name: &[u8], argument: Option<&[u8]>) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let time = || argument.and_then(seconds);
        if is("max-age") {
            self.max_age.get_or_insert_with(time);
        } else if is("s-maxage") {
            self.s_maxage.get_or_insert_with(time);
        } else if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache |= !self.leave_out(argument);
        } else if is("private") {
            self.private |= !self.leave_out(argument);
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("stale-while-revalidate") {
            self.stale_while_revalidate = self.stale_while_revalidate.or(time());
        } else if is("stale-if-error") {
            self.stale_if_error = self.stale_if_error.or(time());
        } else {
            return false;
        }
        true
    }

    /// The fields that are named are not stored; `false` where it is about the whole answer.
    fn leave_out(&mut self, argument: Option<&[u8]>) -> bool {
        let Some(argument) = argument.filter(|argument| !argument.is_empty()) else { return false };
        let names = members(argument).map(HeaderName::from_bytes);
        match names.collect::<Result<Vec<_>, _>>() {
            Ok(names) => {
                self.unstored.extend(names);
                true
            }
            // Who cannot be understood means the most.
            Err(_) => false,
        }
    }

    /// Whether a stale answer must not be given (RFC 9111, section 4.2.4).
    pub fn is_strict(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some() || self.no_cache
    }

    /// How long the answer says that it is fresh, if it does; counted from when it was made.
    pub fn lifetime(&self, headers: &HeaderMap, date: u64, now: WallTime) -> Option<u32> {
        if let Some(said) = self.s_maxage.or(self.max_age) {
            return Some(said.unwrap_or(0));
        }
        if self.is_targeted {
            return None;
        }
        let expires = headers.get(header::EXPIRES)?;
        let at = crate::date::parse(expires.as_bytes(), now);
        Some(at.map_or(0, |at| {
            u32::try_from(at.saturating_sub(date)).unwrap_or(u32::MAX).min(crate::list::SECONDS_MAX)
        }))
    }

    pub fn is_explicit(&self, headers: &HeaderMap) -> bool {
        self.s_maxage.is_some()
            || self.max_age.is_some()
            || (!self.is_targeted && headers.contains_key(header::EXPIRES))
    }
}

/// What a client asks of caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub no_cache: bool,
    pub no_store: bool,
    pub only_if_cached: bool,
    pub max_age: Option<u32>,
    pub min_fresh: Option<u32>,
    /// How stale it may be.
    pub max_stale: Option<u32>,
    pub stale_if_error: Option<u32>,
}

impl Asked {
    /// `obeys` says whether clients may ask for anything but what is there.
    pub fn of(headers: &HeaderMap, obeys: bool) -> Asked {
        let mut asked = Asked::default();
        if !obeys {
            return asked;
        }
        let mut is_said = false;
        for value in headers.get_all(header::CACHE_CONTROL) {
            is_said = true;
            members(value.as_bytes()).for_each(|member| asked.read(member));
        }
        // RFC 9111, section 5.4: where there is no `Cache-Control`.
        if !is_said {
            let mut pragmas =
                headers.get_all(header::PRAGMA).iter().flat_map(|value| members(value.as_bytes()));
            asked.no_cache = pragmas.any(|member| member.eq_ignore_ascii_case(b"no-cache"));
        }
        asked
    }

    fn read(&mut self, member: &[u8]) {
        let (name, argument) = directive(member);
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let time = argument.and_then(seconds);
        if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            self.max_age = self.max_age.or(Some(time.unwrap_or(0)));
        } else if is("min-fresh") {
            self.min_fresh = self.min_fresh.or(time);
        } else if is("max-stale") {
            // Without an argument: however stale it is.
            self.max_stale = self.max_stale.or(if argument.is_none() { Some(u32::MAX) } else { time });
        } else if is("stale-if-error") {
            self.stale_if_error = self.stale_if_error.or(time);
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::headers;

    #[test]
    fn the_first_of_several_counts_and_quotes_hide_nothing() {
        let said = headers(&[("cache-control", "x=\"max-age=3600\", MaX-AgE=\"1\", max-age=5")]);
        assert_eq!(Control::of(&said).max_age, Some(Some(1)));
        let said = headers(&[("cache-control", "max-age='3600'")]);
        assert_eq!(Control::of(&said).max_age, Some(None));
    }

    #[test]
    fn a_field_for_us_takes_the_place_of_what_is_for_all() {
        let said = headers(&[("cache-control", "no-store"), ("cdn-cache-control", "max-age=60")]);
        let control = Control::of(&said);
        assert!(control.is_targeted && !control.no_store);
        assert_eq!(control.max_age, Some(Some(60)));
        let nothing = headers(&[("cache-control", "no-store"), ("cdn-cache-control", "")]);
        assert!(Control::of(&nothing).no_store);
        // What is no dictionary, or of another type, is as if it were not there.
        for wrong in
            ["max-age=60, &&&&&", "max-age=\"60\"", "max-age =60", "MAX-AGE=60", "max-age=60.5", "max-age"]
        {
            let said = headers(&[("cache-control", "no-store"), ("cdn-cache-control", wrong)]);
            assert!(Control::of(&said).no_store, "{wrong}");
        }
        let said =
            headers(&[("cdn-cache-control", "max-age=1, x, max-age=99999999999;for=us, no-cache=\"a\"")]);
        let control = Control::of(&said);
        assert_eq!((control.max_age, control.no_cache), (Some(Some(crate::list::SECONDS_MAX)), false));
        assert_eq!(control.unstored, ["a"]);
    }

    #[test]
    fn fields_that_are_named_are_left_out_and_the_rest_is_not() {
        let control = Control::of(&headers(&[("cache-control", "no-cache=\"a, B\", private=c")]));
        assert!(!control.no_cache && !control.private);
        assert_eq!(control.unstored, ["a", "b", "c"]);
        assert!(Control::of(&headers(&[("cache-control", "private=\"a b\"")])).private);
    }

    #[test]
    fn a_request_asks_in_either_field() {
        let asked = |all| Asked::of(&headers(all), true);
        assert!(asked(&[("pragma", "no-cache")]).no_cache);
        assert!(!asked(&[("pragma", "no-cache"), ("cache-control", "x")]).no_cache);
        assert_eq!(asked(&[("cache-control", "max-stale")]).max_stale, Some(u32::MAX));
        assert_eq!(asked(&[("cache-control", "max-stale=x")]).max_stale, None);
        assert_eq!(Asked::of(&headers(&[("cache-control", "no-cache")]), false), Asked::default());
    }
}
