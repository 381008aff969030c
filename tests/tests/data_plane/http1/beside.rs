//! What naru takes, refuses and passes on, beside Envoy, nginx, HAProxy and Node.js: messages by the grammar, and messages
//! with things done to them, drawn from a seed.
//!
//! Of each message it is compared which requests came out behind it: by method, target and body. Where naru lets less
//! through, its own words say which rule was broken; where it lets more through, or something else, `differences.rs` must
//! have the case and the reason. What it passes on is then given to the others, byte for byte: none of them may read
//! anything else in it.
//!
//! `cargo xtask http1-beside` plays more of them. `NARU_CASES` says how many, `NARU_SEED` which.

mod differences;
mod messages;
mod peers;
mod recorder;

use std::collections::BTreeMap;

use differences::{Finding, Way, known, stricter};
use messages::Drawn;
use peers::{Outcome, PEERS, Peer, Stand};
use recorder::Request;

const CASES: u64 = 400;

/// What of a request is compared.
fn normal(requests: &[Request]) -> Vec<Request> {
    let all = requests.iter().map(|request| {
        // The absolute form is as good as the other one.
        let path =
            request.target.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        Request { target: path.unwrap_or(&request.target).to_owned(), ..request.clone() }
    });
    all.collect()
}

/// How naru's reading stands to another one's.
fn way(naru: &[Request], other: &[Request]) -> Option<Way> {
    let (naru, other) = (normal(naru), normal(other));
    if naru == other {
        None
    } else if other.starts_with(&naru) {
        Some(Way::Stricter)
    } else if naru.starts_with(&other) {
        Some(Way::Laxer)
    } else {
        Some(Way::Otherwise)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naru_is_never_the_laxer_one_where_it_matters() {
    let number =
        |name: &str, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse::<u64>().unwrap());
    let (cases, seed) = (number("NARU_CASES", CASES), number("NARU_SEED", 1));
    let drawn: Vec<Drawn> = (0..cases).map(|at| Drawn::draw(seed, at)).collect();
    let messages: Vec<_> = drawn.iter().map(|drawn| (drawn.number, drawn.bytes.clone())).collect();
    let (by_naru, strange) = Stand::start(Peer::Naru).await.play(&messages).await;
    let open: Vec<_> = drawn.iter().zip(&by_naru).filter(|(_, outcome)| outcome.is_open).collect();
    assert!(open.is_empty(), "naru leaves clients waiting: {open:#?}");
    assert!(strange.is_empty(), "naru has passed on what cannot be read: {strange:#?}");
    let passed: Vec<_> = messages
        .iter()
        .zip(&by_naru)
        .map(|((number, _), outcome)| (*number, outcome.bytes.clone()))
        .collect();
    let behind: Vec<_> = passed.iter().map(|(number, bytes)| (*number, closing(*number, bytes))).collect();
    let mut counts = BTreeMap::<String, u64>::new();
    let mut wrong = Vec::new();
    for peer in PEERS {
        let mut stand = Stand::start(peer).await;
        let (outcomes, _) = stand.play(&messages).await;
        for ((drawn, naru), other) in drawn.iter().zip(&by_naru).zip(&outcomes) {
            let Some(way) = way(&naru.passed, &other.passed) else { continue };
            let finding = Finding { peer, way, drawn, naru, other };
            let name = match way {
                Way::Stricter => stricter(&finding),
                Way::Laxer | Way::Otherwise => known(&finding),
            };
            match name {
                Some(name) => *counts.entry(format!("{peer:?} {way:?}: {name}")).or_default() += 1,
                None => wrong.push(shown(&finding)),
            }
        }
        // What naru has passed on, read by whoever is behind it.
        let (outcomes, _) = stand.play(&behind).await;
        for (((number, bytes), naru), other) in behind.iter().zip(&by_naru).zip(&outcomes) {
            let mut expected = normal(&naru.passed);
            expected.push(end(*number));
            let read = normal(&other.passed);
            if read == expected {
                continue;
            }
            if expected.starts_with(&read) {
                *counts.entry(format!("{peer:?} refuses what naru passes on")).or_default() += 1;
                continue;
            }
            let text = String::from_utf8_lossy(bytes);
            wrong.push(format!("{peer:?} reads otherwise what naru has passed on: {read:?} in {text:?}"));
        }
    }
    let accepted = by_naru.iter().filter(|outcome| !outcome.passed.is_empty()).count();
    println!("seed {seed}, {cases} messages, of {accepted} naru passes something on: {counts:#?}");
    assert!(
        wrong.is_empty(),
        "seed {seed}, {} that nobody has explained: {}",
        wrong.len(),
        wrong[..wrong.len().min(4000)].join("\n")
    );
    // Neither all nor nothing.
    assert!(accepted as u64 * 5 > cases && (accepted as u64) < cases, "{accepted} of {cases}");
}

fn shown(finding: &Finding) -> String {
    let Finding { peer, way, drawn, naru, other } = finding;
    let read = |outcome: &Outcome| {
        let all = outcome
            .passed
            .iter()
            .map(|request| format!("{} {} {:?}", request.method, request.target, request.body));
        format!("{:?} {:?} {:?}", outcome.statuses, all.collect::<Vec<_>>(), outcome.said)
    };
    format!(
        "{peer:?} {way:?} {:?} {:?}\n   naru: {}\n  other: {}",
        drawn.done,
        String::from_utf8_lossy(&drawn.bytes),
        read(naru),
        read(other)
    )
}

fn end(number: u64) -> Request {
    Request { method: "GET".to_owned(), target: format!("/m{number}/behind"), body: String::new() }
}

/// With one more request, that nobody behind it may take for anything else.
fn closing(number: u64, bytes: &[u8]) -> Vec<u8> {
    let last = format!("GET /m{number}/behind HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    [bytes, last.as_bytes()].concat()
}
