//! The same file, the same requests, the same failures: does naru do what Envoy 1.40 does?
//!
//! Each case is played twice, on Envoy and on `naru proxy`, which are both started on the same file, with one worker.
//! Endpoints do to each attempt what the request says (`upstreams.rs`); after each step it is seen what the client got,
//! where attempts arrived, what the log says, which endpoints are ejected, and the numbers of the cluster (`play.rs`).
//! All of that must be equal, but for what `differences.rs` lists.

mod play;
mod upstreams;
mod retries;
mod paths;
mod hosts;
mod connects;
mod identity;
mod external;
mod webs;
mod outliers;
mod rates;
mod descriptors;
mod rate_service;
mod edge;
mod conditions;
mod per_filter;
mod drawn;
mod differences;

use std::collections::BTreeSet;
use std::rc::Rc;

use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use differences::WORDS;
use play::{Case, Proxy, Seen, play};

/// A case that does not come out as expected is played again: a retry that is sent within a millisecond of an ejection,
/// or a look at a moment at which something returns, may go either way in both proxies. What really differs does so each
/// time.
const PLAYS: usize = 4;

/// Cases at a time: they mostly wait.
const AT_A_TIME: usize = 4;

/// It comes out equal.
async fn check(case: Case) {
    check_all(vec![case]).await;
}

/// They all come out equal.
async fn check_all(cases: Vec<Case>) {
    expect_all(cases.into_iter().map(|case| (case, String::new())).collect()).await;
}

/// They all come out with these differences, and no others.
async fn expect_all(cases: Vec<(Case, String)>) {
    let (local, room) = (LocalSet::new(), Rc::new(Semaphore::new(AT_A_TIME)));
    let playing: Vec<_> = cases
        .into_iter()
        .map(|(case, expected)| {
            let room = Rc::clone(&room);
            local.spawn_local(async move {
                let _leave = room.acquire().await.unwrap();
                let found = play_both(&case, &expected).await;
                (found != expected).then(|| format!("== {}\n{found}\n", case.name))
            })
        })
        .collect();
    local.await;
    let mut wrong = String::new();
    for case in playing {
        wrong.extend(case.await.unwrap());
    }
    assert!(wrong.is_empty(), "not as Envoy does it, and not as is known:\n{wrong}");
}

/// How they differ, the last time that they were played.
async fn play_both(case: &Case, expected: &str) -> String {
    let mut upstreams = case.upstreams(wish(&case.name)).await;
    let mut found = String::new();
    for _ in 0..PLAYS {
        let by_envoy = play(case, Proxy::Envoy, &mut upstreams).await;
        let by_naru = play(case, Proxy::Naru, &mut upstreams).await;
        found = difference(&by_envoy, &by_naru);
        if found == expected {
            break;
        }
    }
    found
}

/// Which addresses a case would like to have: the same in each run.
fn wish(name: &str) -> u64 {
    name.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
}

/// `NARU_SEED` says a single one, `NARU_CASES` how many there are.
fn seeds(usual: u64) -> Vec<u64> {
    let said = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    match said("NARU_SEED") {
        Some(seed) => vec![seed],
        None => (0..said("NARU_CASES").unwrap_or(usual)).collect(),
    }
}

/// The steps at which they differ, in words; empty where there are none.
fn difference(by_envoy: &[(String, Seen)], by_naru: &[(String, Seen)]) -> String {
    let mut said = String::new();
    for (at, ((step, envoy), (_, naru))) in by_envoy.iter().zip(by_naru).enumerate() {
        let words: BTreeSet<&String> = envoy.keys().chain(naru.keys()).collect();
        let is_equal = |word: &&String| {
            envoy.get(*word) == naru.get(*word)
                || WORDS.iter().any(|known| (known.is_known)(word, envoy, naru))
        };
        let words: Vec<&String> = words.into_iter().filter(|word| !is_equal(word)).collect();
        if !words.is_empty() {
            said.push_str(&format!("step {at}: {step}\n"));
        }
        for word in words {
            let told = |seen: &Seen| seen.get(word).map_or("none", String::as_str).to_owned();
            said.push_str(&format!("  {word}: Envoy {}, naru {}\n", told(envoy), told(naru)));
        }
    }
    said.trim().to_owned()
}
