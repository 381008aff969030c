//! A million answers, and the memory they take.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use naru_base::{Chance, Instant, WallTime};
use naru_cache::{Asked, Fetched, FlightId, Key, Look, Object, Outcome, Place, Shelf, terms};
use naru_spec::CachePolicy;

const OBJECTS: u64 = 1_000_000;
const BODY: usize = 1_024;
const BYTES_MAX: u64 = 256 << 20;
/// Wanted again and again, while all others are wanted once.
const HOT: u64 = 1_000;

/// In bytes, as the kernel says it.
fn resident() -> u64 {
    let said = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = said.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

fn key(at: u64) -> Key {
    let target = format!("/objects/{at}");
    let place = Place { is_tls: false, authority: "naru.test", target: &target };
    Key::new(place, &CachePolicy::default().key, &HeaderMap::new(), &["rule", "cluster"])
}

#[test]
fn a_million_answers_stay_within_their_bytes_and_a_scan_leaves_what_is_wanted() {
    let (none, policy, asked) = (HeaderMap::new(), CachePolicy::default(), Asked::default());
    let mut response = HeaderMap::new();
    response.insert("cache-control", HeaderValue::from_static("max-age=36000"));
    response.insert("content-type", HeaderValue::from_static("application/json"));
    let now = Instant(1);
    let fetched = Fetched {
        method: &Method::GET,
        request: &none,
        status: 200,
        response: &response,
        sent: now,
        came: now,
        wall: WallTime(0),
        is_own_location: false,
        is_identified: false,
    };
    let terms = terms(&policy, &fetched).expect("it may be kept");
    let mut shelf: Shelf<u32> = Shelf::new(BYTES_MAX, Chance::new(7));
    let whole = Object::new(key(0), &none, 200, &response, Bytes::new(), terms).expect("no star");
    let before = resident();
    let (mut fetches, mut hot_fetches) = (0, 0);
    let mut fetch = |shelf: &mut Shelf<u32>, key: Key, flight: FlightId| {
        fetches += 1;
        let mut object = whole.clone();
        object.key = key.clone();
        object.body = Bytes::from(vec![fetches as u8; BODY]);
        assert!(shelf.keep(now, flight, Arc::new(object), &none, 16));
        shelf.end(now, flight, &key, Outcome::Kept);
    };
    for at in 0..OBJECTS {
        let of_scan = key(HOT + at);
        let flight = shelf.go_alone(&of_scan);
        fetch(&mut shelf, of_scan, flight);
        // Each of the others once in so many.
        if at % 4 == 0 {
            let wanted = key(at / 4 % HOT);
            match shelf.look(now, &wanted, &none, &asked, 100, true) {
                Look::Given { .. } => {}
                Look::Fetch { flight, .. } => {
                    hot_fetches += 1;
                    fetch(&mut shelf, wanted, flight);
                }
                other => panic!("{other:?}"),
            }
        }
        if at % 50_000 == 0 {
            let counts = shelf.counts();
            assert!(counts.bytes <= BYTES_MAX, "{counts:?}");
        }
    }
    let counts = shelf.counts();
    assert_eq!(fetches, OBJECTS + hot_fetches);
    assert!(counts.bytes <= BYTES_MAX && counts.bytes > BYTES_MAX * 9 / 10, "{counts:?}");
    assert!(counts.objects > 100_000 && counts.evicted + counts.objects == fetches, "{counts:?}");
    assert!(hot_fetches < HOT * 2, "the scan has taken what was wanted: {hot_fetches}");
    let grown = resident().saturating_sub(before);
    println!("{counts:?}, resident {} MiB more", grown >> 20);
    assert!(grown < BYTES_MAX * 5 / 4, "{} MiB for {} MiB", grown >> 20, BYTES_MAX >> 20);
    shelf.check_invariants().expect("what always holds");
}
