//! What hostile peers send, at default settings: each is told to calm down and closed, is counted under what it did,
//! and a client beside it sees nothing of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use naru_base::Reason;
use naru_proxy::metrics::Abuse;
use naru_tests::frames::*;
use naru_tests::{Bootstrap, Client, Naru, Speaks, Upstream, until};
use tokio::task::JoinHandle;

/// A client that sends 200 requests a second, and fails the test where one is not answered.
struct Beside {
    task: JoinHandle<u64>,
    is_over: Arc<AtomicBool>,
}

impl Beside {
    async fn start(naru: &Naru) -> Beside {
        let mut client = Client::plain(naru.address, Speaks::Http2).await;
        let is_over = Arc::<AtomicBool>::default();
        let over = Arc::clone(&is_over);
        let task = tokio::spawn(async move {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(client.get("/bytes/10").await.body.len(), 10);
                count += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            count
        });
        Beside { task, is_over }
    }

    async fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Floods until the proxy has enough.
async fn flood(abuse: Abuse, begin: &[u8], chunk: impl FnMut(u32) -> Vec<u8>) {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(upstream.address));
    let beside = Beside::start(&naru).await;
    let mut peer = Peer::start(naru.address, None, &[]).await;
    peer.send(begin).await;
    assert_eq!(peer.flood(chunk).await, Some(ENHANCE_YOUR_CALM), "{abuse:?}");
    drop(peer);
    assert!(beside.end().await > 0);
    check(&naru, &[abuse]).await;
}

/// These were counted, each once, and each has its line.
async fn check(naru: &Naru, abuses: &[Abuse]) {
    naru.settles().await;
    let report = naru.report().await;
    let counted = Abuse::ALL.iter().zip(report.downstream.abuses);
    let counted: Vec<_> =
        counted.filter(|(_, count)| *count > 0).map(|(abuse, count)| (*abuse, count)).collect();
    let mut expected: Vec<_> = abuses.iter().map(|abuse| (*abuse, 1)).collect();
    expected.sort_unstable();
    assert_eq!(counted, expected);
    let told = report.series.iter().filter(|series| series.labels.reason == Reason::ClientAbuse);
    assert_eq!(told.map(|series| series.requests()).sum::<u64>(), abuses.len() as u64);
}

fn id(number: u32) -> u32 {
    number * 2 + 1
}

fn get(stream: u32) -> Vec<u8> {
    headers(END_STREAM | END_HEADERS, stream, &request("GET", "/slow/1000"))
}

#[tokio::test]
async fn requests_that_are_cancelled_at_once() {
    flood(Abuse::Resets, &[], |n| [get(id(n)), reset(id(n), CANCEL)].concat()).await;
}

#[tokio::test]
async fn streams_that_the_proxy_is_made_to_reset() {
    flood(Abuse::Mistakes, &[], |n| [get(id(n)), window_update(id(n), 0)].concat()).await;
    flood(Abuse::Mistakes, &[], |n| [get(id(n)), frame(DATA, 0, id(n), b"more")].concat()).await;
    flood(Abuse::Mistakes, &[], |n| {
        headers(END_STREAM | END_HEADERS, id(n), &[&request("GET", "/")[..], &[("X", "y")]].concat())
    })
    .await;
}

#[tokio::test]
async fn header_blocks_without_an_end() {
    let begin = frame(HEADERS, END_STREAM, 1, block(&request("GET", "/")));
    flood(Abuse::Continuations, &begin, |_| frame(CONTINUATION, 0, 1, [])).await;
    let field = block(&[("x", "y")]);
    flood(Abuse::Continuations, &begin, |_| frame(CONTINUATION, 0, 1, &field)).await;
    let large = block(&[("x", "y".repeat(16_000))]);
    flood(Abuse::Continuations, &begin, |_| frame(CONTINUATION, 0, 1, &large)).await;
}

#[tokio::test]
async fn frames_that_carry_nothing() {
    flood(Abuse::Pings, &[], |_| frame(PING, 0, 0, [0; 8])).await;
    flood(Abuse::Pings, &[], |_| frame(PING, ACK, 0, [0; 8])).await;
    flood(Abuse::Settings, &[], |n| settings(&[(3, n)])).await;
    flood(Abuse::Settings, &[], |_| settings(&[])).await;
    flood(Abuse::Priorities, &[], |n| frame(PRIORITY, 0, id(n), [0, 0, 0, 0, 1])).await;
    flood(Abuse::WindowUpdates, &[], |_| window_update(0, 1)).await;
    flood(Abuse::WindowUpdates, &get(1), |_| window_update(1, 1)).await;
    flood(Abuse::UnknownFrames, &[], |_| frame(0x77, 0, 0, [])).await;
    let post = headers(END_HEADERS, 1, &request("POST", "/slow/1000"));
    flood(Abuse::EmptyFrames, &post, |_| frame(DATA, 0, 1, [])).await;
    flood(Abuse::EmptyFrames, &post, |_| frame(DATA, PADDED, 1, [0; 1])).await;
}

#[tokio::test]
async fn lists_that_are_large_once_they_are_read() {
    // One entry of nearly the whole table, and then thousands of times its index.
    let entry = [&[0x40, 1, b'x', 0x7f][..], &[0xa1, 0x1e], &[b'y'; 4_000]].concat();
    let bomb = [&block(&request("GET", "/"))[..], &entry, &[0xbe; 12_000]].concat();
    flood(Abuse::HeaderBomb, &[], |n| frame(HEADERS, END_STREAM | END_HEADERS, id(n), &bomb)).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_counted_and_logged() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(upstream.address));
    let mut peer = Peer::start(naru.address, None, &[]).await;
    let large = block(&[("x-large", "y".repeat(15_000))]);
    let head = block(&request("GET", "/"));
    let frames = [
        frame(HEADERS, END_STREAM, 1, &head),
        frame(CONTINUATION, 0, 1, &large).repeat(4),
        frame(CONTINUATION, END_HEADERS, 1, &large),
    ];
    peer.send(frames.concat()).await;
    let (head, _) = peer.answer(1).await.unwrap();
    assert_eq!(status(&head), 431);
    assert!(peer.is_alive().await);
    assert_eq!(naru.ended(1).await, [(431, Reason::HeadTooLarge)]);
    assert_eq!(upstream.requests(), 0);
}

/// What it is, its settings, what it begins with, and what it sends from time to time.
type Slow = (Abuse, &'static [(u16, u32)], Vec<u8>, fn() -> Vec<u8>);

/// Each of them at its own connection, all at a time: 20 s are enough for all.
#[tokio::test]
async fn clients_that_are_slow_on_purpose() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(upstream.address));
    let beside = Beside::start(&naru).await;
    let large = headers(END_STREAM | END_HEADERS, 1, &request("GET", "/bytes/100000"));
    let begun = frame(HEADERS, END_STREAM, 1, block(&request("GET", "/")));
    let slow: [Slow; 5] = [
        // Nothing of an answer is taken; or a byte of it from time to time.
        (Abuse::SlowReader, &[(4, 0)], large.clone(), || frame(PING, 0, 0, [0; 8])),
        (Abuse::SlowReader, &[(4, 1)], large, || window_update(1, 1)),
        // A block, a frame that trickles; and no beginning.
        (Abuse::SlowHeaders, &[], begun, || frame(CONTINUATION, 0, 1, block(&[("x", "y")]))),
        (Abuse::SlowHeaders, &[], vec![0, 0x40, 0, 0], || vec![0]),
        (Abuse::SlowHeaders, &[], Vec::new(), Vec::new),
    ];
    let mut tasks = Vec::new();
    let mut abuses = Vec::new();
    for (at, (abuse, settings, begin, trickle)) in slow.into_iter().enumerate() {
        let address = naru.address;
        abuses.push(abuse);
        tasks.push(tokio::spawn(async move {
            let mut peer = if at == 4 {
                let mut peer = Peer::connect(address, None).await;
                peer.send(PREFACE).await;
                peer
            } else {
                Peer::start(address, None, settings).await
            };
            peer.send(begin).await;
            loop {
                match tokio::time::timeout(Duration::from_secs(1), peer.goes_away()).await {
                    Ok(code) => break assert_eq!(code, Some(ENHANCE_YOUR_CALM), "{abuse:?}"),
                    Err(_) => peer.send(trickle()).await,
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(beside.end().await > 0);
    until("all of them to be counted", async || {
        let report = naru.report().await;
        (report.downstream.abuses.iter().sum::<u64>() == 5).then_some(())
    })
    .await;
    let report = naru.report().await;
    for abuse in Abuse::ALL {
        let expected = abuses.iter().filter(|known| **known == abuse).count() as u64;
        assert_eq!(report.downstream.abuses[abuse as usize], expected, "{abuse:?}");
    }
}

/// Who takes its time with what it is allowed to is left alone.
#[tokio::test]
async fn many_cancelled_requests_among_more_that_are_answered_are_no_abuse() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(upstream.address));
    let mut peer = Peer::start(naru.address, None, &[]).await;
    for number in 0..400 {
        let (first, second) = (id(2 * number), id(2 * number + 1));
        let answered = headers(END_STREAM | END_HEADERS, first, &request("GET", "/bytes/10"));
        peer.send([answered, get(second), reset(second, CANCEL)].concat()).await;
        assert!(peer.answer(first).await.is_some(), "{number}");
    }
    assert!(peer.is_alive().await);
}
