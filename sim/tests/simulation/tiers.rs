//! What is behind the memories of gateways, asked one request after the other, and drawn at random against what must hold:
//! nobody fails or waits for long for the sake of a tier, and what was written is not given as it was before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use naru_base::{Chance, Instant, Reason};
use naru_journey::{ChainId, Snapshot};
use naru_sim::distribution::Distribution;
use naru_sim::scenario::StoreState;
use naru_sim::stores::{Around, Files, StoreSaid, StoreWindow};
use naru_sim::tiers::TierTold;
use naru_sim::{
    Answer, Body, Caller, Dial, Fleet, IdleClose, Place, Probed, ProxyId, Request, Settled, Turn, Upstreams,
    Waits, World,
};
use naru_spec::Probe;

use crate::goldens::documents_of;
use crate::leases::EDGE;
use crate::support::{compile, seeds};

/// Every page is at an address of its own, and kept for an hour.
fn documents(tiers: &str) -> String {
    let page = |at: u64| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: page{at} }}
spec:
  hosts: [page{at}.internal]
  resolution: STATIC
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  endpoints: [{{ address: 10.0.2.{at} }}]
"
        )
    };
    let route = |at: u64| {
        format!(
            "  - match: [{{ uri: {{ exact: /page{at} }} }}]
    route: [{{ destination: {{ host: page{at}.internal }} }}]
    retries: {{ attempts: 0 }}
"
        )
    };
    let (pages, routes): (String, String) = ((0..PAGES).map(page).collect(), (0..PAGES).map(route).collect());
    let gateway = EDGE.split("---").next().unwrap();
    format!(
        "{gateway}{pages}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: pages }}
spec:
  hosts: ['*']
  gateways: [edge]
  http:
{routes}---
apiVersion: naru.dev/v1alpha1
kind: ResponseCache
metadata: {{ name: memory }}
spec:
  tiers: {tiers}
---
apiVersion: naru.dev/v1alpha1
kind: ResponseCache
metadata: {{ name: pages }}
spec:
  targetRef: {{ kind: VirtualService, name: pages }}
  ttl: 1h
"
    )
}

const PAGES: u64 = 3;
const BEHIND: &str = "{ redis: { addresses: ['10.0.9.1:6379'] } }";
const THROUGH: &str = "{ redis: { addresses: ['10.0.9.1:6379'], write: through } }";

/// Pages that have versions: an answer has as many bytes as its page has had writers.
#[derive(Debug, Default)]
struct Origin {
    versions: BTreeMap<std::net::SocketAddr, u64>,
    /// Requests that write, as they are known.
    writers: BTreeSet<u64>,
    fetched: u64,
    takes: Duration,
    says: HeaderMap,
}

impl Upstreams for Origin {
    fn dial(&mut self, _now: Instant, _place: Place) -> Dial {
        Dial::Accepted { after: Duration::ZERO }
    }

    fn is_early(&mut self, _place: Place) -> bool {
        false
    }

    fn answer(&mut self, _now: Instant, place: Place, caller: Caller) -> Answer {
        let version = self.versions.entry(place.address).or_insert(1);
        // Who writes is answered while others still fetch what was there before.
        let mut after = self.takes;
        if self.writers.contains(&caller.trace) {
            *version += 1;
            after /= 4;
        } else {
            self.fetched += 1;
        }
        let body = Body::new(*version, Duration::ZERO);
        Answer::Response { after, status: 200, grpc_status: None, body }
    }

    fn on_abandoned(&mut self, _now: Instant, _ticket: naru_sim::arena::Ticket) {}

    fn probe(&mut self, _now: Instant, _place: Place, probe: &Probe, _is_connected: bool) -> Probed {
        Probed { after: Duration::ZERO, result: Some(Probed::passing(probe)), stays: true }
    }

    fn says_anything(&self) -> bool {
        true
    }

    fn head(&self, _now: Instant, _place: Place, _status: u16) -> Option<HeaderMap> {
        Some(self.says.clone())
    }

    fn idle_close(&self, _place: Place) -> Option<IdleClose> {
        None
    }
}

struct Gateways<'a> {
    world: World<'a, Origin, u64>,
    traces: u64,
}

/// What a client saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    reason: Reason,
    version: u64,
    took: Duration,
}

fn seen(settled: &Settled<'_, u64>) -> Seen {
    let outcome = settled.outcome;
    let took = outcome.ended.since(outcome.began);
    Seen { status: outcome.status, reason: outcome.reason, version: settled.bytes_sent, took }
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn window(from: u64, to: u64, state: StoreState) -> StoreWindow {
    StoreWindow { from: at(from), to: at(to), state, latency: None }
}

impl<'a> Gateways<'a> {
    fn new(
        snapshot: &'a Snapshot,
        gateways: u64,
        seed: u64,
        windows: Vec<StoreWindow>,
        origin: Origin,
    ) -> Self {
        let mut world = World::empty(origin);
        let latency = Distribution::uniform(Duration::from_micros(300), Duration::from_millis(2)).unwrap();
        let redis = StoreSaid { at: None, latency, windows, chance: Chance::split(seed, "store") };
        world.put_around(Around::new(vec![redis], Files::default()));
        for gateway in 0..gateways {
            world.add_proxy(snapshot, 1, seed + gateway, Fleet::new(snapshot, &|_| None));
        }
        Gateways { world, traces: 0 }
    }

    fn request(&mut self, page: u64, is_writer: bool, language: Option<&'static str>) -> (Request, Waits) {
        let host = HeaderValue::from_static("a.example");
        let mut request = Request::get(ChainId(0), &host, format!("/page{page}").parse().unwrap());
        if is_writer {
            request.head.method = Method::PUT;
        }
        if let Some(language) = language {
            request.head.headers.insert("accept-language", HeaderValue::from_static(language));
        }
        self.traces += 1;
        let trace = self.traces << 8;
        if is_writer {
            self.world.upstreams().writers.insert(trace);
        }
        (request, Waits { trace, ..Waits::default() })
    }

    /// One request from its beginning to its end.
    fn ask(&mut self, gateway: u32, page: u64, is_writer: bool, language: Option<&'static str>) -> Seen {
        let (request, waits) = self.request(page, is_writer, language);
        let number = self.traces;
        let (_, turn) = self.world.begin_at(ProxyId(gateway), 0, &request, waits, number, &mut ());
        let mut turn = Some(turn.unwrap());
        loop {
            if let Some(Turn::Settled(settled)) = &turn
                && settled.tag == number
            {
                return seen(settled);
            }
            turn = self.world.step().unwrap();
            assert!(turn.is_some(), "nothing will happen any more");
        }
    }

    fn get(&mut self, gateway: u32, page: u64) -> Seen {
        self.ask(gateway, page, false, None)
    }

    fn wait(&mut self, millis: u64) {
        let until = self.world.now() + Duration::from_millis(millis);
        self.world.call_at(until, 0);
        while !matches!(self.world.step().unwrap(), Some(Turn::Called(0)) | None) {}
    }

    fn fetched(&mut self) -> u64 {
        self.world.upstreams().fetched
    }
}

fn origin() -> Origin {
    Origin { takes: Duration::from_millis(20), ..Origin::default() }
}

#[test]
fn what_one_gateway_has_fetched_the_others_find_until_somebody_writes_it() {
    for tiers in [BEHIND, THROUGH] {
        let snapshot = compile(documents_of(&documents(tiers)));
        let mut gateways = Gateways::new(&snapshot, 3, 1, Vec::new(), origin());
        gateways.wait(100);
        let first = gateways.get(0, 0);
        assert_eq!((first.status, first.reason, first.version), (200, Reason::Forwarded, 1));
        gateways.wait(10);
        let second = gateways.get(1, 0);
        assert_eq!((second.reason, second.version), (Reason::CacheHit, 1));
        assert!(second.took >= Duration::from_micros(300), "it was in the Redis: {second:?}");
        let again = gateways.get(1, 0);
        assert_eq!((again.reason, again.took), (Reason::CacheHit, Duration::ZERO), "it is in memory now");
        assert_eq!(gateways.fetched(), 1);
        // Another page is another one.
        assert_eq!(gateways.get(2, 1).reason, Reason::Forwarded);
        // Whoever writes it has it forgotten: at once where that was, and at the others once they have heard of it.
        gateways.ask(0, 0, true, None);
        gateways.wait(300);
        let other = gateways.get(1, 0);
        assert_eq!((other.reason, other.version), (Reason::Forwarded, 2));
        gateways.wait(10);
        assert_eq!((gateways.get(0, 0).version, gateways.get(2, 0).version), (2, 2));
        assert_eq!(gateways.fetched(), 3, "one of them for all");
    }
}

#[test]
fn what_is_chosen_by_a_header_is_found_by_it() {
    let snapshot = compile(documents_of(&documents(BEHIND)));
    let mut says = HeaderMap::new();
    says.insert("vary", HeaderValue::from_static("accept-language"));
    let mut gateways = Gateways::new(&snapshot, 2, 2, Vec::new(), Origin { says, ..origin() });
    gateways.wait(100);
    gateways.ask(0, 0, false, Some("ko"));
    gateways.wait(10);
    assert_eq!(gateways.ask(1, 0, false, Some("ko")).reason, Reason::CacheHit);
    assert_eq!(gateways.ask(1, 0, false, Some("en")).reason, Reason::Forwarded);
    gateways.wait(10);
    assert_eq!(gateways.ask(0, 0, false, Some("en")).reason, Reason::CacheHit);
    assert_eq!(gateways.fetched(), 2);
}

#[test]
fn a_redis_that_is_gone_is_missed_and_nothing_else() {
    let snapshot = compile(documents_of(&documents(BEHIND)));
    let windows = vec![window(1_000, 3_000, StoreState::Away), window(6_000, 9_000, StoreState::Silent)];
    let mut gateways = Gateways::new(&snapshot, 2, 3, windows, origin());
    gateways.wait(1_500);
    // Away: nobody waits, and each fetches for itself.
    for gateway in [0, 1] {
        let seen = gateways.get(gateway, 0);
        assert_eq!((seen.reason, seen.took), (Reason::Forwarded, Duration::from_millis(20)), "{gateway}");
    }
    // Back: what is fetched now is found by the other.
    gateways.wait(3_500);
    assert_eq!(gateways.get(0, 1).reason, Reason::Forwarded);
    gateways.wait(20);
    assert_eq!(gateways.get(1, 1).reason, Reason::CacheHit);
    // Silent: who finds out waits for the timeout, and after a few nobody does.
    let until = at(6_100).since(gateways.world.now());
    gateways.wait(until.as_millis() as u64);
    let seen = gateways.get(0, 2);
    assert_eq!((seen.reason, seen.took), (Reason::Forwarded, Duration::from_millis(70)));
    gateways.ask(0, 0, true, None);
    assert_eq!(gateways.get(0, 0).took, Duration::from_millis(20), "nothing of it is looked for there");
    assert_eq!(gateways.get(1, 0).version, 1, "who can have told the other?");
    gateways.wait(2_000);
    gateways.ask(0, 2, true, None);
    assert_eq!(gateways.get(0, 2).took, Duration::from_millis(20));
    // It is found again, and hears what was written meanwhile.
    gateways.wait(8_000);
    let other = gateways.get(1, 0);
    assert_eq!((other.version, other.reason), (2, Reason::Forwarded));
    let notes: Vec<String> =
        std::iter::from_fn(|| gateways.world.next_store_note()).map(|(_, what)| what).collect();
    let of = |part: &str| notes.iter().filter(|note| note.contains(part)).count();
    assert!(of("gives no answer") >= 3 && of("answers again") >= 3, "{notes:#?}");
}

#[test]
fn what_does_not_fit_into_the_memory_is_on_the_disk() {
    let tiers = "{ disk: { directory: /nowhere, maxBytes: 16777216 } }";
    let text = documents(tiers).replace("spec:\n  tiers", "spec:\n  maxBytes: 1048576\n  tiers");
    let snapshot = compile(documents_of(&text));
    let mut says = HeaderMap::new();
    says.insert("vary", HeaderValue::from_static("accept-language"));
    let mut origin = Origin { says, ..origin() };
    // Six of these are more than a memory of a megabyte has room for.
    const BYTES: u64 = 240_000;
    const LANGUAGES: [&str; 6] = ["ko", "en", "de", "fr", "it", "rm"];
    origin.versions.insert("10.0.2.0:80".parse().unwrap(), BYTES);
    let mut gateways = Gateways::new(&snapshot, 2, 4, Vec::new(), origin);
    for language in LANGUAGES {
        assert_eq!(gateways.ask(0, 0, false, Some(language)).reason, Reason::Forwarded);
    }
    for _ in 0..4 {
        for language in LANGUAGES {
            let seen = gateways.ask(0, 0, false, Some(language));
            assert_eq!((seen.reason, seen.version), (Reason::CacheHit, BYTES));
        }
    }
    assert_eq!(gateways.fetched(), 6);
    gateways.ask(0, 0, true, None);
    assert_eq!(gateways.ask(0, 0, false, Some("rm")).version, BYTES + 1);
    assert_eq!(gateways.fetched(), 7);
    // The other has a disk of its own.
    assert_eq!(gateways.ask(1, 0, false, Some("ko")).reason, Reason::Forwarded);
    let tiers = gateways.world.into_parts().tiers;
    let told = TierTold::of(&tiers);
    let [disk] = told.as_slice() else { panic!("{told:?}") };
    assert!(disk.counts.hits > 0 && disk.counts.stored == 8, "{disk:?}");
}

/// When everybody is to know of what was written at a moment, where the Redis was gone for a while: two seconds of a
/// shard that is left alone longer each time, four at most, and as long for the question that finds it again.
fn known_at(written: Instant, windows: &[StoreWindow]) -> Instant {
    const SLACK: Duration = Duration::from_millis(300);
    const RECOVERY: Duration = Duration::from_secs(7);
    let gone = windows.iter().find(|gone| written + SLACK > gone.from && written < gone.to + RECOVERY);
    gone.map_or(written, |gone| gone.to + RECOVERY) + SLACK
}

#[test]
fn walks_in_which_a_redis_comes_and_goes() {
    let (mut hits, mut known, mut behind) = (0u64, 0u64, 0u64);
    for seed in seeds(48) {
        let mut chance = Chance::split(seed, "tiers");
        let tiers = if chance.below(2) == 0 { BEHIND } else { THROUGH };
        let snapshot = compile(documents_of(&documents(tiers)));
        let state = if chance.below(2) == 0 { StoreState::Away } else { StoreState::Silent };
        let from = 2_000 + chance.below(10_000);
        let windows = match chance.below(3) {
            0 => Vec::new(),
            _ => vec![window(from, from + 200 + chance.below(6_000), state)],
        };
        let count = 2 + chance.below(2);
        let mut gateways = Gateways::new(&snapshot, count, seed, windows.clone(), origin());
        gateways.wait(100);
        // By request: where, which page, whether it writes, when it began.
        let mut asked: BTreeMap<u64, (u32, u64, bool, Instant)> = BTreeMap::new();
        // What was written: where, which page, the version, when that was answered.
        let mut written: Vec<(u32, u64, u64, Instant)> = Vec::new();
        gateways.world.call_at(gateways.world.now(), 0);
        let end = at(24_000);
        let mut left = true;
        while left || !asked.is_empty() {
            let now = gateways.world.now();
            let mut over = None;
            match gateways.world.step().unwrap_or_else(|violation| panic!("seed {seed}: {violation}")) {
                None => break,
                Some(Turn::Settled(settled)) => over = Some((settled.tag, seen(&settled))),
                Some(Turn::Called(0)) if left => {
                    let gateway = chance.below(count) as u32;
                    let (page, is_writer) = (chance.below(PAGES), chance.below(12) == 0);
                    let (request, waits) = gateways.request(page, is_writer, None);
                    let number = gateways.traces;
                    let now = gateways.world.now();
                    asked.insert(number, (gateway, page, is_writer, now));
                    let begun =
                        gateways.world.begin_at(ProxyId(gateway), 0, &request, waits, number, &mut ());
                    let next = now + Duration::from_micros(1_000 + chance.below(60_000));
                    if let Turn::Settled(settled) = begun.1.unwrap() {
                        over = Some((settled.tag, seen(&settled)));
                    }
                    left = next < end;
                    if left {
                        gateways.world.call_at(next, 0);
                    }
                }
                Some(_) => {}
            }
            let Some((number, seen)) = over else { continue };
            let (gateway, page, is_writer, began) = asked.remove(&number).unwrap();
            assert_eq!(seen.status, 200, "seed {seed}: {seen:?}");
            // Its own fetch or another's before it, and two questions to a Redis that says nothing with each.
            assert!(seen.took <= Duration::from_millis(400), "seed {seed}: {seen:?}");
            if is_writer {
                written.push((gateway, page, seen.version, gateways.world.now()));
                continue;
            }
            hits += u64::from(seen.reason == Reason::CacheHit);
            behind += u64::from(seen.reason == Reason::CacheHit && !seen.took.is_zero());
            for (by, of, version, when) in &written {
                let knows = if *by == gateway { *when } else { known_at(*when, &windows) };
                if *of == page && knows < began {
                    known += 1;
                    assert!(
                        seen.version >= *version,
                        "seed {seed}: at {now} gateway {gateway} gives version {} of page {page}, and {by} had \
                         {version} written at {when}; {windows:?}",
                        seen.version
                    );
                }
            }
        }
    }
    if seeds(48).count() == 48 {
        assert!(
            hits > 5_000 && behind > 200 && known > 10_000,
            "{hits} hits, {behind} behind, {known} known"
        );
    }
}
