//! A shelf, case by case, and beside the obvious model.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use naru_base::WallTime;
use naru_spec::{CacheKeyParts, CachePolicy};

use super::*;
use crate::{Fetched, Place, terms};

fn key(path: &str) -> Key {
    let place = Place { is_tls: false, authority: "a", target: path };
    Key::new(place, &CacheKeyParts::default(), &HeaderMap::new(), &["rule"])
}

fn request(language: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-tongue", HeaderValue::from(language));
    headers
}

fn object(now: Instant, path: &str, tongue: u64, seconds: u32, body: Vec<u8>) -> Object {
    let (method, request) = (Method::GET, request(tongue));
    let mut response = HeaderMap::new();
    response.insert("vary", HeaderValue::from_static("x-tongue"));
    response.insert("etag", HeaderValue::from_static("\"e\""));
    response.insert("cache-tag", HeaderValue::from_static("t1,t2"));
    let value =
        HeaderValue::try_from(format!("max-age={seconds}, stale-while-revalidate=5")).expect("a value");
    response.insert("cache-control", value);
    let fetched = Fetched {
        method: &method,
        request: &request,
        status: 200,
        response: &response,
        sent: now,
        came: now,
        wall: WallTime(0),
        is_own_location: false,
        is_identified: false,
    };
    let terms = terms(&CachePolicy::default(), &fetched).expect("terms");
    Object::new(key(path), &request, 200, &response, Bytes::from(body), terms).expect("no star")
}

fn fetch(look: Look) -> FlightId {
    match look {
        Look::Fetch { flight, .. } => flight,
        other => panic!("{other:?}"),
    }
}

fn second(at: u64) -> Instant {
    Instant(at * 1_000_000_000)
}

struct Fixture {
    shelf: Shelf<u32>,
    percent: u32,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { shelf: Shelf::new(1 << 20, Chance::new(1)), percent: 100 }
    }

    fn look(&mut self, now: Instant, path: &str) -> Look {
        self.shelf.look(now, &key(path), &request(0), &Asked::default(), self.percent, true)
    }
}

#[test]
fn a_look_goes_over_nothing_of_others_however_many_keys_a_url_has() {
    let mut f = Fixture::new();
    let parts = CacheKeyParts { cookies: vec!["user".to_owned()], ..CacheKeyParts::default() };
    let place = Place { is_tls: false, authority: "a", target: "/x" };
    for user in 0..5_000 {
        let mut asked = request(0);
        asked.insert("cookie", HeaderValue::try_from(format!("user={user}")).expect("a value"));
        let key = Key::new(place, &parts, &asked, &["rule", "cluster"]);
        let flight = fetch(f.shelf.look(second(0), &key, &asked, &Asked::default(), 100, false));
        let object = Object { key: key.clone(), ..object(second(0), "/x", 0, 60, vec![1]) };
        assert!(f.shelf.keep(second(0), flight, object, &asked, 16));
        f.shelf.end(second(0), flight, &key, Outcome::Kept);
    }
    let objects = f.shelf.counts().objects;
    assert!(objects > 500, "{objects} have room");
    assert_eq!(f.shelf.index.keys().map(|at| f.shelf.slots(*at).count()).max(), Some(1));
    assert_eq!(f.shelf.check_invariants(), Ok(()));
    assert_eq!(f.shelf.invalidate("http://a/x"), objects, "they are of one URL all the same");
    assert_eq!(f.shelf.counts().objects, 0);
}

#[test]
fn of_what_cannot_be_shared_so_much_is_remembered_and_looked_through_once() {
    let mut f = Fixture::new();
    let mut note = |at: u64, path: &str| {
        let flight = fetch(f.look(second(at), path));
        f.shelf.end(second(at), flight, &key(path), Outcome::Unshared);
        (f.shelf.is_for_one(second(at), &key(path)), f.shelf.unshared_until)
    };
    for path in 0..UNSHARED_MAX {
        assert!(note(0, &format!("/{path}")).0);
    }
    let (is_noted, until) = note(1, "/one-too-many");
    assert!(!is_noted, "there is no room");
    assert_eq!(until, Instant::ZERO + defaults::CACHE_UNSHARED, "nobody looks for any before that");
    assert_eq!(note(2, "/another"), (false, until));
    assert!(note(121, "/later").0, "the others are forgotten by then");
}

#[test]
fn of_a_thousand_that_want_it_one_fetches() {
    let mut f = Fixture::new();
    let flight = fetch(f.look(second(0), "/"));
    for waker in 0..999 {
        let Look::Wait(other) = f.look(second(0), "/") else { panic!("it does not wait") };
        assert_eq!(other, flight);
        f.shelf.wait(other, waker).expect("it is under way");
    }
    assert!(f.shelf.keep(second(1), flight, object(second(1), "/", 0, 60, vec![1]), &request(0), 4));
    assert_eq!(f.shelf.end(second(1), flight, &key("/"), Outcome::Kept).len(), 999);
    assert!(matches!(f.look(second(1), "/"), Look::Given { judgement: Judgement::Fresh, .. }));
    assert_eq!(f.shelf.check_invariants(), Ok(()));
}

#[test]
fn who_fetches_for_others_and_fails_is_followed_by_the_first_of_them() {
    let mut f = Fixture::new();
    let flight = fetch(f.look(second(0), "/"));
    let first = f.shelf.wait(flight, 1).expect("it is under way");
    let second_one = f.shelf.wait(flight, 2).expect("it is under way");
    assert_eq!(f.shelf.end(second(0), flight, &key("/"), Outcome::Nothing), [1]);
    assert_eq!(f.shelf.turn(second_one, 2), Turn::Wait);
    // It goes away before it looks.
    assert_eq!(f.shelf.leave(first), Some(2));
    assert_eq!(f.shelf.turn(second_one, 2), Turn::Lead(flight));
    assert!(f.shelf.end(second(0), flight, &key("/"), Outcome::Nothing).is_empty());
    assert_eq!(f.shelf.counts().flights, 0);
}

#[test]
fn nobody_waits_for_what_cannot_be_shared() {
    let mut f = Fixture::new();
    let flight = fetch(f.look(second(0), "/"));
    f.shelf.wait(flight, 1);
    assert_eq!(f.shelf.end(second(0), flight, &key("/"), Outcome::Unshared), [1]);
    let (one, other) = (fetch(f.look(second(0), "/")), fetch(f.look(second(0), "/")));
    assert_ne!(one, other);
    assert!(matches!(f.look(second(200), "/"), Look::Fetch { .. }));
    assert!(matches!(f.look(second(200), "/"), Look::Wait(_)), "it is not believed for ever");
}

#[test]
fn what_one_in_particular_is_answered_says_nothing_of_others() {
    let mut f = Fixture::new();
    let flight = f.shelf.go_alone(&key("/"));
    f.shelf.end(second(0), flight, &key("/"), Outcome::Unshared);
    assert!(matches!(f.look(second(0), "/"), Look::Fetch { .. }));
    assert!(matches!(f.look(second(0), "/"), Look::Wait(_)));
}

#[test]
fn what_is_stale_is_given_while_one_fetches_it() {
    let mut f = Fixture::new();
    let flight = fetch(f.look(second(0), "/"));
    assert!(f.shelf.keep(second(0), flight, object(second(0), "/", 0, 10, vec![]), &request(0), 4));
    f.shelf.end(second(0), flight, &key("/"), Outcome::Kept);
    let Look::Given { refresh: Some(refresh), .. } = f.look(second(12), "/") else { panic!("it is given") };
    assert!(matches!(f.look(second(12), "/"), Look::Given { refresh: None, .. }));
    assert!(matches!(f.look(second(17), "/"), Look::Wait(flight) if flight == refresh));
}

#[test]
fn what_was_changed_meanwhile_is_not_kept() {
    let mut f = Fixture::new();
    let flight = fetch(f.look(second(0), "/"));
    f.shelf.wait(flight, 1);
    assert_eq!(f.shelf.invalidate("http://a/"), 0);
    assert!(matches!(f.look(second(0), "/"), Look::Fetch { .. }), "nobody new waits for it");
    assert!(!f.shelf.keep(second(0), flight, object(second(0), "/", 0, 10, vec![]), &request(0), 4));
    assert_eq!(f.shelf.end(second(0), flight, &key("/"), Outcome::Unshared), [1]);
    assert!(matches!(f.look(second(0), "/"), Look::Wait(_)), "that it was old says nothing of the next");
}

#[test]
fn purges_forget_what_they_mean() {
    for (purge, left) in [
        (Purge::All, 0),
        (Purge::Url("http://a/x/1".to_owned()), 2),
        (Purge::Prefix("http://a/x/".to_owned()), 1),
        (Purge::Tag("t2".to_owned()), 0),
        (Purge::Tag("t".to_owned()), 3),
    ] {
        let mut f = Fixture::new();
        for path in ["/x/1", "/x/2", "/y"] {
            let flight = fetch(f.look(second(0), path));
            assert!(f.shelf.keep(second(0), flight, object(second(0), path, 0, 10, vec![]), &request(0), 4));
            f.shelf.end(second(0), flight, &key(path), Outcome::Kept);
        }
        f.shelf.begin_purge(&purge);
        let mut from = Some(0);
        while let Some(at) = from {
            from = f.shelf.purge(&purge, at, 2).1;
        }
        assert_eq!(f.shelf.counts().objects, left, "{purge:?}");
        assert_eq!(f.shelf.check_invariants(), Ok(()));
    }
}

#[test]
fn variants_of_one_url_are_bounded() {
    let mut f = Fixture::new();
    for tongue in 0..20 {
        let flight = f.shelf.go_alone(&key("/"));
        f.shelf.keep(second(0), flight, object(second(0), "/", tongue, 10, vec![]), &request(tongue), 4);
        f.shelf.end(second(0), flight, &key("/"), Outcome::Kept);
    }
    assert_eq!(f.shelf.counts().objects, 4);
}

#[test]
fn a_large_object_is_not_kept_and_many_small_ones_stay_within_their_bytes() {
    let mut f = Fixture::new();
    let flight = f.shelf.go_alone(&key("/"));
    let large = object(second(0), "/", 0, 10, vec![0; 1 << 19]);
    assert!(!f.shelf.keep(second(0), flight, large, &request(0), 4));
    for at in 0..3_000 {
        let path = format!("/{at}");
        let flight = f.shelf.go_alone(&key(&path));
        assert!(f.shelf.keep(
            second(0),
            flight,
            object(second(0), &path, 0, 10, vec![0; 1_000]),
            &request(0),
            4
        ));
        f.shelf.end(second(0), flight, &key(&path), Outcome::Kept);
    }
    let counts = f.shelf.counts();
    assert!(counts.bytes <= counts.bytes_max && counts.bytes > counts.bytes_max * 9 / 10, "{counts:?}");
    assert!(counts.evicted > 1_000);
}

/// What the obvious cache would do: a list of what was kept, and of what is under way.
#[derive(Default)]
struct RefShelf {
    kept: Vec<(String, u64, Vec<u8>, Instant)>,
    flights: Vec<RefFlight>,
}

struct RefFlight {
    id: FlightId,
    path: String,
    is_old: bool,
    waiting: Vec<Ticket>,
}

/// Requests come, wait, leave, fetch and fail, things change and are purged, at every step. Room is plenty, so that the
/// model need not know who is let go.
#[test]
fn it_gives_what_the_obvious_model_gives() {
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        let mut f = Fixture::new();
        let mut model = RefShelf::default();
        let mut now = second(1);
        for step in 0..200u32 {
            now = now + Duration::from_millis(chance.below(1_500));
            let path = format!("/{}", chance.below(4));
            let tongue = chance.below(2);
            match chance.below(8) {
                0..=3 => walk_look(&mut f, &mut model, now, &path, tongue, step),
                4 | 5 => walk_end(&mut f, &mut model, &mut chance, now, tongue, step),
                6 => {
                    let url = format!("http://a{path}");
                    let gone = f.shelf.invalidate(&url);
                    let before = model.kept.len();
                    model.kept.retain(|kept| kept.0 != path);
                    assert_eq!(gone as usize, before - model.kept.len(), "seed {seed}");
                    model
                        .flights
                        .iter_mut()
                        .filter(|flight| flight.path == path)
                        .for_each(|flight| flight.is_old = true);
                }
                _ => {
                    if let Some(flight) = model.flights.iter_mut().find(|flight| !flight.waiting.is_empty()) {
                        let ticket = flight.waiting.remove(0);
                        assert_eq!(f.shelf.leave(ticket), None, "it was not its turn");
                    }
                }
            }
            assert_eq!(f.shelf.check_invariants(), Ok(()), "seed {seed}");
        }
        // Whatever is under way ends, and nobody is left waiting.
        for flight in std::mem::take(&mut model.flights) {
            f.shelf.end(now, flight.id, &key(&flight.path), Outcome::Kept);
        }
        assert_eq!(f.shelf.counts().flights, 0, "seed {seed}");
    }
}

fn walk_look(f: &mut Fixture, model: &mut RefShelf, now: Instant, path: &str, tongue: u64, step: u32) {
    let mut text = KeyText::default();
    let beside = crate::beside_of(&CacheKeyParts::default(), &["rule"]).expect("all of the URL");
    text.set(Place { is_tls: false, authority: "a", target: path }, &beside);
    let glanced = f.shelf.glance(now, &text, &request(tongue), f.percent);
    let look = f.shelf.look(now, &key(path), &request(tongue), &Asked::default(), f.percent, true);
    // A glance finds what is given as it is, and nothing else.
    let fresh = match &look {
        Look::Given { object, judgement: Judgement::Fresh, .. } => Some(object),
        _ => None,
    };
    assert_eq!(glanced.as_ref().map(Arc::as_ptr), fresh.map(Arc::as_ptr), "step {step}");
    let known = model.kept.iter().find(|kept| kept.0 == path && kept.1 == tongue);
    let late = known.map(|kept| now.since(kept.3).as_secs());
    match look {
        Look::Given { object, refresh, .. } => {
            let known = known.expect("it is there");
            assert_eq!(object.body, known.2);
            assert!(late.is_some_and(|late| late < 10 + 6), "it is too stale to be given");
            if let Some(id) = refresh {
                model.flights.push(RefFlight {
                    id,
                    path: path.to_owned(),
                    is_old: false,
                    waiting: Vec::new(),
                });
            }
        }
        Look::Fetch { flight, stale, .. } => {
            assert!(late.is_none_or(|late| late > 10 + 5), "it would have been given");
            assert_eq!(stale.map(|stale| stale.body.to_vec()), known.map(|known| known.2.clone()));
            model.flights.push(RefFlight {
                id: flight,
                path: path.to_owned(),
                is_old: false,
                waiting: Vec::new(),
            });
        }
        Look::Wait(id) => {
            let flight = model.flights.iter_mut().find(|flight| flight.id == id).expect("it is under way");
            assert!(!flight.is_old && flight.path == path);
            flight.waiting.extend(f.shelf.wait(id, step));
        }
        Look::Absent => panic!("nobody asked for that"),
    }
}

fn walk_end(
    f: &mut Fixture,
    model: &mut RefShelf,
    chance: &mut Chance,
    now: Instant,
    tongue: u64,
    step: u32,
) {
    if model.flights.is_empty() {
        return;
    }
    let at = chance.below(model.flights.len() as u64) as usize;
    let mut flight = model.flights.swap_remove(at);
    let key = key(&flight.path);
    match chance.below(3) {
        0 => {
            let woken = f.shelf.end(now, flight.id, &key, Outcome::Nothing);
            if flight.is_old || flight.waiting.is_empty() {
                assert_eq!(woken.len(), flight.waiting.len());
                return;
            }
            assert_eq!(woken.len(), 1);
            let next = flight.waiting.remove(0);
            assert_eq!(f.shelf.turn(next, 0), Turn::Lead(flight.id));
            model.flights.push(flight);
        }
        1 => {
            let woken = f.shelf.end(now, flight.id, &key, Outcome::Unshared);
            assert_eq!(woken.len(), flight.waiting.len());
        }
        _ => {
            let body = step.to_le_bytes().to_vec();
            let object = object(now, &flight.path, tongue, 10, body.clone());
            let is_kept = f.shelf.keep(now, flight.id, object, &request(tongue), 4);
            assert_eq!(is_kept, !flight.is_old);
            if is_kept {
                model.kept.retain(|kept| kept.0 != flight.path || kept.1 != tongue);
                model.kept.push((flight.path.clone(), tongue, body, now));
            }
            let woken = f.shelf.end(now, flight.id, &key, Outcome::Kept);
            assert_eq!(woken.len(), flight.waiting.len());
        }
    }
}

/// What a route says lasts longer while that is asked for, and no longer once it is not; what an answer says is as it
/// says.
#[test]
fn lifetimes_that_routes_say_are_stretched_and_are_as_before_after_that() {
    let mut f = Fixture::new();
    let keep = |f: &mut Fixture, path: &str, is_by_route| {
        let mut object = object(second(0), path, 0, 10, Vec::new());
        object.terms.is_by_route = is_by_route;
        object.terms.stale_while_revalidate = 0;
        let flight = fetch(f.look(second(0), path));
        assert!(f.shelf.keep(second(0), flight, object, &request(0), 4));
        f.shelf.end(second(0), flight, &key(path), Outcome::Kept);
    };
    keep(&mut f, "/route", true);
    keep(&mut f, "/said", false);
    let mut is_given = |percent, at, path: &str| {
        f.percent = percent;
        match f.look(second(at), path) {
            Look::Given { judgement, .. } => judgement == Judgement::Fresh,
            Look::Fetch { flight, .. } => {
                f.shelf.end(second(at), flight, &key(path), Outcome::Nothing);
                false
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(is_given(100, 9, "/route") && !is_given(100, 10, "/route"));
    assert!(is_given(300, 29, "/route") && !is_given(300, 30, "/route"));
    assert!(!is_given(100, 20, "/route"), "as before");
    assert!(is_given(300, 9, "/said") && !is_given(300, 10, "/said"));
}
