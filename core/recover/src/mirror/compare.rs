//! Does a copy's answer say the same?
//!
//! The answer that the client got (the primary's) is compared with that of the copy (the candidate's):
//! status, headers, and the body as JSON, or as bytes where it is none. What differs between two
//! answers of the *same* version, such as times and random identities, is noise: it is learned from
//! requests that are sent to the primary twice, by the place where it stands, and no longer told.
//! The idea is Diffy's (Twitter, 2015).
//!
//! Bounded: [`DIFFERENCES_MAX`] of an answer, [`PLACES_MAX`] places of noise, [`EXAMPLES_MAX`]
//! examples of a report. Where there is more noise than is remembered, the rest is told as different,
//! which is on the safe side. What lets its owner in (a cookie, a token) is compared and not shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use http::{HeaderMap, HeaderName, header};
use naru_spec::Comparison;

use super::json::Json;

pub const DIFFERENCES_MAX: usize = 32;
pub const PLACES_MAX: usize = 256;
pub const EXAMPLES_MAX: usize = 8;
/// Letters of a value in an example.
const SHOWN_MAX: usize = 80;
/// Letters of a place. Two that begin with the same so many are one.
const PLACE_LETTERS_MAX: usize = 160;

/// An answer as far as it is compared.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub status: u16,
    pub headers: &'a HeaderMap,
    /// `None` where it is larger than what is compared.
    pub body: Option<&'a [u8]>,
}

/// One thing that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `status`, `header.etag`, `body`, `body.items[].id`: places in a list are one place.
    pub place: String,
    /// What the primary said and what the candidate, cut short; `(none)` where it said nothing, `(hidden)` where it is
    /// not shown.
    pub primary: String,
    pub candidate: String,
}

/// Differs by what it is, by when it is or by what it came by, whoever answers.
const ALWAYS_IGNORED: [HeaderName; 8] = [
    header::DATE,
    header::AGE,
    header::VIA,
    header::SERVER,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
];

/// Headers whose values let their owner in.
const HIDDEN: [HeaderName; 4] =
    [header::SET_COOKIE, header::AUTHORIZATION, header::WWW_AUTHENTICATE, header::PROXY_AUTHENTICATE];

/// All that differs, [`DIFFERENCES_MAX`] at most, each place once.
pub fn differences(primary: &Answer<'_>, candidate: &Answer<'_>, settings: &Comparison) -> Vec<Difference> {
    let mut found = Found { list: Vec::new(), places: BTreeSet::new() };
    if primary.status != candidate.status {
        found.tell("status", &primary.status.to_string(), &candidate.status.to_string());
    }
    headers(primary.headers, candidate.headers, settings, &mut found);
    if let (Some(one), Some(other)) = (primary.body, candidate.body)
        && one != other
    {
        match (Json::parse(one), Json::parse(other)) {
            (Some(one), Some(other)) => values(&one, &other, &mut "body".to_owned(), &mut found),
            _ => found.tell("body", &String::from_utf8_lossy(one), &String::from_utf8_lossy(other)),
        }
    }
    found.list
}

struct Found {
    list: Vec<Difference>,
    places: BTreeSet<String>,
}

impl Found {
    fn is_full(&self) -> bool {
        self.list.len() >= DIFFERENCES_MAX
    }

    fn tell(&mut self, place: &str, primary: &str, candidate: &str) {
        let place = cut(place, PLACE_LETTERS_MAX);
        if !self.is_full() && self.places.insert(place.clone()) {
            let (primary, candidate) = (cut(primary, SHOWN_MAX), cut(candidate, SHOWN_MAX));
            self.list.push(Difference { place, primary, candidate });
        }
    }
}

fn cut(text: &str, letters_max: usize) -> String {
    match text.char_indices().nth(letters_max) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn headers(primary: &HeaderMap, candidate: &HeaderMap, settings: &Comparison, found: &mut Found) {
    let names: BTreeSet<&str> = primary.keys().chain(candidate.keys()).map(HeaderName::as_str).collect();
    for name in names {
        let is_ignored = ALWAYS_IGNORED.iter().chain(&settings.ignored_headers).any(|known| known == name)
            || name.starts_with("x-envoy-")
            || name.starts_with("x-naru-");
        if is_ignored || found.is_full() {
            continue;
        }
        let values = |headers: &HeaderMap| {
            let all = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            let all: Vec<_> = all.collect();
            if all.is_empty() { "(none)".to_owned() } else { all.join(", ") }
        };
        let (one, other) = (values(primary), values(candidate));
        if one != other {
            let shown = |value: String| if is_hidden(name) { "(hidden)".to_owned() } else { value };
            found.tell(&format!("header.{name}"), &shown(one), &shown(other));
        }
    }
}

fn is_hidden(name: &str) -> bool {
    HIDDEN.iter().any(|hidden| hidden == name)
}

/// `place` is as before when it returns. No deeper than the trees are.
fn values(primary: &Json, candidate: &Json, place: &mut String, found: &mut Found) {
    if found.is_full() || primary == candidate {
        return;
    }
    let len = place.len();
    match (primary, candidate) {
        (Json::Object(one), Json::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let _ = write!(place, ".{name}");
                match (one.get(name), other.get(name)) {
                    (Some(one), Some(other)) => values(one, other, place, found),
                    (one, other) => found.tell(place, &brief(one), &brief(other)),
                }
                place.truncate(len);
            }
        }
        (Json::List(one), Json::List(other)) => {
            if one.len() != other.len() {
                let length = |list: &[Json]| format!("{} items", list.len());
                found.tell(&format!("{place}.length"), &length(one), &length(other));
            }
            place.push_str("[]");
            for (one, other) in one.iter().zip(other) {
                values(one, other, place, found);
            }
            place.truncate(len);
        }
        _ => found.tell(place, &brief(Some(primary)), &brief(Some(candidate))),
    }
}

fn brief(value: Option<&Json>) -> String {
    match value {
        None => "(none)".to_owned(),
        Some(Json::Null) => "null".to_owned(),
        Some(Json::Bool(value)) => value.to_string(),
        Some(Json::Number(text)) => text.clone(),
        Some(Json::Text(text)) => format!("'{text}'"),
        Some(Json::List(list)) => format!("a list of {}", list.len()),
        Some(Json::Object(members)) => format!("an object of {}", members.len()),
    }
}

/// Places that differ between answers of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    places: BTreeSet<String>,
    /// There was noise that is not remembered.
    is_full: bool,
}

impl Noise {
    /// Two answers of the primary to the same request.
    pub fn learn(&mut self, one: &Answer<'_>, other: &Answer<'_>, settings: &Comparison) {
        for difference in differences(one, other, settings) {
            // A status that wavers is a finding about the primary, and hiding it would hide failures.
            if difference.place == "status" || self.places.contains(&difference.place) {
                continue;
            }
            self.remember(difference.place);
        }
    }

    fn remember(&mut self, place: String) {
        if self.places.len() < PLACES_MAX || self.places.contains(&place) {
            self.places.insert(place);
        } else {
            self.is_full = true;
        }
    }

    /// What another has learned of the same primary.
    pub fn add(&mut self, other: &Noise) {
        other.places.iter().for_each(|place| self.remember(place.clone()));
        self.is_full |= other.is_full;
    }

    pub fn contains(&self, place: &str) -> bool {
        self.places.contains(place)
    }

    pub fn places(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(String::as_str)
    }

    pub fn is_full(&self) -> bool {
        self.is_full
    }
}

/// What the comparisons of one route say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub compared: u64,
    pub different: u64,
    /// Answers whose bodies were too large, on either side.
    pub bodies_left_out: u64,
    /// How many answers differed at each place; [`PLACES_MAX`] at most.
    pub places: BTreeMap<String, u64>,
    /// The first of each place, [`EXAMPLES_MAX`] at most.
    pub examples: Vec<Difference>,
}

impl Report {
    /// Compares two answers, and remembers what is different and no noise.
    pub fn compare(
        &mut self,
        primary: &Answer<'_>,
        candidate: &Answer<'_>,
        noise: &Noise,
        settings: &Comparison,
    ) {
        self.compared = self.compared.saturating_add(1);
        if primary.body.is_none() || candidate.body.is_none() {
            self.bodies_left_out = self.bodies_left_out.saturating_add(1);
        }
        let mut found = differences(primary, candidate, settings);
        found.retain(|difference| !noise.contains(&difference.place));
        if !found.is_empty() {
            self.different = self.different.saturating_add(1);
        }
        for difference in found {
            if self.count(&difference.place, 1) && self.examples.len() < EXAMPLES_MAX {
                self.examples.push(difference);
            }
        }
    }

    /// Says whether the place is a new one.
    fn count(&mut self, place: &str, times: u64) -> bool {
        if let Some(count) = self.places.get_mut(place) {
            *count = count.saturating_add(times);
            return false;
        }
        let has_room = self.places.len() < PLACES_MAX;
        if has_room {
            self.places.insert(place.to_owned(), times);
        }
        has_room
    }

    /// What another has found on the same route.
    pub fn add(&mut self, other: &Report) {
        self.compared = self.compared.saturating_add(other.compared);
        self.different = self.different.saturating_add(other.different);
        self.bodies_left_out = self.bodies_left_out.saturating_add(other.bodies_left_out);
        for (place, times) in &other.places {
            self.count(place, *times);
        }
        for example in &other.examples {
            let is_known = self.examples.iter().any(|known| known.place == example.place);
            if !is_known && self.examples.len() < EXAMPLES_MAX {
                self.examples.push(example.clone());
            }
        }
    }

    /// In millionths of those compared; 0 where nothing was.
    pub fn different_ppm(&self) -> u64 {
        let part = u128::from(self.different) * 1_000_000;
        part.checked_div(u128::from(self.compared)).and_then(|ppm| u64::try_from(ppm).ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers_of(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn places(primary: (u16, &HeaderMap, &str), candidate: (u16, &HeaderMap, &str)) -> Vec<String> {
        let answer = |(status, headers, body): (u16, _, &'static str)| Answer {
            status,
            headers,
            body: Some(body.as_bytes()),
        };
        let leak = |(status, headers, body): (u16, _, &str)| (status, headers, &*body.to_owned().leak());
        let found = differences(&answer(leak(primary)), &answer(leak(candidate)), &Comparison::default());
        found.into_iter().map(|difference| difference.place).collect()
    }

    fn bodies(primary: &str, candidate: &str) -> Vec<String> {
        let none = HeaderMap::new();
        places((200, &none, primary), (200, &none, candidate))
    }

    #[test]
    fn bodies_are_compared_by_structure() {
        let none: [&str; 0] = [];
        assert_eq!(bodies(r#"{"a":1,"b":[1,2]}"#, r#"{ "b": [1, 2], "a": 1 }"#), none);
        assert_eq!(bodies(r#"{"a":1}"#, r#"{"a":2}"#), ["body.a"]);
        assert_eq!(bodies(r#"{"a":1}"#, r#"{"a":"1"}"#), ["body.a"]);
        assert_eq!(bodies(r#"{"a":1}"#, r#"{"b":1}"#), ["body.a", "body.b"]);
        assert_eq!(bodies(r#"{"l":[{"id":1},{"id":2}]}"#, r#"{"l":[{"id":3},{"id":4}]}"#), ["body.l[].id"]);
        assert_eq!(bodies("[1,2]", "[1]"), ["body.length"]);
        assert_eq!(bodies("plain", "text"), ["body"]);
        assert_eq!(bodies("{}", "text"), ["body"]);
        assert_eq!(bodies("1.0", "1"), ["body"]);
    }

    #[test]
    fn statuses_and_headers_are_compared_but_for_what_always_differs() {
        let one =
            headers_of(&[("date", "now"), ("etag", "a"), ("x-a", "1"), ("x-a", "2"), ("x-envoy-b", "1")]);
        let two = headers_of(&[("date", "then"), ("etag", "b"), ("x-a", "1"), ("x-c", "1")]);
        assert_eq!(
            places((200, &one, ""), (500, &two, "")),
            ["status", "header.etag", "header.x-a", "header.x-c"]
        );
        let answer = |headers| Answer { status: 200, headers, body: None };
        let settings = Comparison { ignored_headers: vec![header::ETAG], ..Comparison::default() };
        let found = differences(&answer(&one), &answer(&two), &settings);
        assert_eq!((found[0].place.as_str(), found[0].primary.as_str()), ("header.x-a", "1, 2"));
        assert_eq!((found[1].primary.as_str(), found[1].candidate.as_str()), ("(none)", "1"));
    }

    #[test]
    fn what_wavers_by_itself_is_noise_and_the_rest_is_told() {
        let none = HeaderMap::new();
        let answer = |body: &'static str| Answer { status: 200, headers: &none, body: Some(body.as_bytes()) };
        let settings = Comparison::default();
        let mut noise = Noise::default();
        noise.learn(
            &answer(r#"{"at":1,"ids":[1,2],"n":7}"#),
            &answer(r#"{"at":2,"ids":[3,4],"n":7}"#),
            &settings,
        );
        assert_eq!(noise.places().collect::<Vec<_>>(), ["body.at", "body.ids[]"]);
        let mut report = Report::default();
        report.compare(
            &answer(r#"{"at":1,"ids":[1],"n":7}"#),
            &answer(r#"{"at":9,"ids":[9],"n":7}"#),
            &noise,
            &settings,
        );
        assert_eq!((report.compared, report.different), (1, 0));
        report.compare(&answer(r#"{"at":1,"n":7}"#), &answer(r#"{"at":9,"n":8}"#), &noise, &settings);
        assert_eq!((report.different, report.different_ppm()), (1, 500_000));
        assert_eq!(
            report.examples,
            [Difference { place: "body.n".into(), primary: "7".into(), candidate: "8".into() }]
        );
        let failed = Answer { status: 503, ..answer("") };
        noise.learn(&failed, &answer(""), &settings);
        assert!(!noise.contains("status"), "a status is never noise");
        report.compare(&Answer { body: None, ..failed }, &failed, &noise, &settings);
        assert_eq!((report.bodies_left_out, report.different), (1, 1), "what is left out is not different");
        assert_eq!(Report::default().different_ppm(), 0);
    }

    #[test]
    fn what_lets_its_owner_in_is_compared_and_not_shown() {
        let answer = |headers| Answer { status: 200, headers, body: None };
        let (one, two) = (headers_of(&[("set-cookie", "a=1")]), headers_of(&[("set-cookie", "a=2")]));
        let found = differences(&answer(&one), &answer(&two), &Comparison::default());
        let hidden = "(hidden)".to_owned();
        assert_eq!(
            found,
            [Difference { place: "header.set-cookie".into(), primary: hidden.clone(), candidate: hidden }]
        );
    }

    #[test]
    fn what_several_have_found_is_one_report() {
        let none = HeaderMap::new();
        let answer = |status| Answer { status, headers: &none, body: None };
        let etag = headers_of(&[("etag", "a")]);
        let (mut one, mut other, settings) = (Report::default(), Report::default(), Comparison::default());
        one.compare(&answer(200), &answer(500), &Noise::default(), &settings);
        other.compare(&answer(200), &answer(404), &Noise::default(), &settings);
        other.compare(&answer(200), &Answer { headers: &etag, ..answer(200) }, &Noise::default(), &settings);
        one.add(&other);
        assert_eq!((one.compared, one.different, one.bodies_left_out), (3, 3, 3));
        assert_eq!(one.places, BTreeMap::from([("header.etag".into(), 1), ("status".into(), 2)]));
        let told: Vec<_> = one.examples.iter().map(|e| (e.place.as_str(), e.candidate.as_str())).collect();
        assert_eq!(told, [("status", "500"), ("header.etag", "a")]);
        let mut noise = Noise::default();
        let mut of_other = Noise::default();
        of_other.learn(&answer(200), &Answer { headers: &etag, ..answer(200) }, &settings);
        noise.add(&of_other);
        assert_eq!(noise, of_other);
    }

    #[test]
    fn nothing_grows_without_a_bound() {
        let none = HeaderMap::new();
        let settings = Comparison::default();
        let mut noise = Noise::default();
        let mut report = Report::default();
        for round in 0..40 {
            let members = |value: u32| {
                let all: Vec<_> = (0..100).map(|at| format!("\"{round}.{at}\":{value}")).collect();
                format!("{{{}}}", all.join(","))
            };
            let (one, two) = (members(1), members(2));
            let answer =
                |body: &'static str| Answer { status: 200, headers: &none, body: Some(body.as_bytes()) };
            let (one, two) = (answer(one.leak()), answer(two.leak()));
            assert_eq!(differences(&one, &two, &settings).len(), DIFFERENCES_MAX);
            report.compare(&one, &two, &noise, &settings);
            noise.learn(&one, &two, &settings);
        }
        assert!(noise.is_full() && noise.places().count() == PLACES_MAX);
        assert!(report.places.len() == PLACES_MAX && report.examples.len() == EXAMPLES_MAX);
        let long = "x".repeat(1_000);
        let found = differences(
            &Answer { status: 200, headers: &none, body: Some(long.as_bytes()) },
            &Answer { status: 200, headers: &none, body: Some(b"") },
            &settings,
        );
        assert_eq!(found[0].primary.len(), SHOWN_MAX + 3);
        assert_eq!(bodies(&format!("{{\"{long}\":1}}"), "{}")[0].len(), PLACE_LETTERS_MAX + 3);
        let (mut all, full) = (report.clone(), noise.clone());
        all.add(&report);
        noise.add(&full);
        assert!(all.places.len() == PLACES_MAX && all.examples.len() == EXAMPLES_MAX && noise == full);
    }
}
