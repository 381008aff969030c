//! A mirror that breaks at every step, and clients that do: by seeds. After each request all is given back, the copy has
//! one ending, and the client has seen what it would have seen without a mirror.
//!
//! `NARU_SEED` replays one seed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use naru_base::Chance;
use naru_proxy::Options;
use naru_spec::Comparison;
use naru_tests::bootstrap::HTTP2;
use naru_tests::client::request;
use naru_tests::http2::{self, H2Server};
use naru_tests::wire::WireListener;
use naru_tests::{Client, Naru, Outbound, Speaks, Upstream, Wire, until};
use tokio::task::LocalSet;

use super::{OK, ended, mirrored, report, with_mirrors};
use crate::cancellation::panics;

const SEEDS: u64 = 256;
/// Longer than the timeout of the route, which is long enough for the upstream that answers.
const UNTIL_TIMED_OUT: Duration = Duration::from_secs(2);

/// What a mirror does with each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Does {
    Answers,
    AnswersWithoutReading,
    AnswersInPieces,
    AnswersTwice,
    ClosesAtOnce,
    ResetsAtOnce,
    ClosesAfterTheHead,
    ResetsAfterTheHead,
    ClosesAfterTheRequest,
    SendsHalfAHead,
    SendsHalfABody,
    SendsNonsense,
    SaysNothing,
    TakesNothing,
}

const ALL: [Does; 14] = [
    Does::Answers,
    Does::AnswersWithoutReading,
    Does::AnswersInPieces,
    Does::AnswersTwice,
    Does::ClosesAtOnce,
    Does::ResetsAtOnce,
    Does::ClosesAfterTheHead,
    Does::ResetsAfterTheHead,
    Does::ClosesAfterTheRequest,
    Does::SendsHalfAHead,
    Does::SendsHalfABody,
    Does::SendsNonsense,
    Does::SaysNothing,
    Does::TakesNothing,
];

async fn speak_http1(mut wire: Wire, does: Does) {
    match does {
        Does::Answers | Does::AnswersTwice | Does::AnswersInPieces | Does::ClosesAfterTheRequest => {
            while let Ok(head) = wire.try_head().await {
                wire.rest(head, false).await;
                match does {
                    Does::AnswersInPieces => {
                        for piece in OK.as_bytes().chunks(7) {
                            wire.try_send(piece).await;
                            tokio::task::yield_now().await;
                        }
                    }
                    Does::AnswersTwice => drop(wire.try_send(format!("{OK}{OK}")).await),
                    Does::ClosesAfterTheRequest => return,
                    _ => drop(wire.try_send(OK).await),
                }
            }
        }
        Does::ClosesAtOnce => {}
        Does::ResetsAtOnce => wire.reset(),
        Does::AnswersWithoutReading => {
            wire.try_send(OK).await;
            wire.end().await;
        }
        Does::ClosesAfterTheHead => drop(wire.try_head().await),
        Does::ResetsAfterTheHead => {
            let _ = wire.try_head().await;
            wire.reset();
        }
        Does::SendsHalfAHead | Does::SendsHalfABody | Does::SendsNonsense => {
            let _ = wire.try_head().await;
            wire.try_send(match does {
                Does::SendsHalfAHead => "HTTP/1.1 200 OK\r\ncontent-",
                Does::SendsHalfABody => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
                _ => "\x00\x01 no HTTP\r\n\r\n",
            })
            .await;
        }
        Does::SaysNothing => drop(wire.end().await),
        Does::TakesNothing => tokio::time::sleep(UNTIL_TIMED_OUT).await,
    }
}

async fn speak_http2(stream: tokio::net::TcpStream, does: Does) {
    match does {
        Does::ClosesAtOnce => return,
        Does::ResetsAtOnce => return Wire::new(stream).reset(),
        Does::SendsNonsense => {
            Wire::new(stream).try_send("\x00\x01 no HTTP\r\n\r\n").await;
            return;
        }
        Does::TakesNothing => return tokio::time::sleep(UNTIL_TIMED_OUT).await,
        _ => {}
    }
    let mut server = H2Server::accept(stream).await;
    let Some((request, mut respond)) = server.request().await else { return };
    let answer = |is_end| (http::Response::new(()), is_end);
    match does {
        Does::ClosesAfterTheHead | Does::SendsHalfAHead => return server.close().await,
        Does::ResetsAfterTheHead => return respond.send_reset(h2::Reason::INTERNAL_ERROR),
        Does::SaysNothing => return tokio::time::sleep(UNTIL_TIMED_OUT).await,
        Does::AnswersWithoutReading => {}
        _ => drop(http2::read(&mut request.into_body()).await),
    }
    if does == Does::ClosesAfterTheRequest {
        return server.close().await;
    }
    let (response, _) = answer(false);
    let Ok(mut body) = respond.send_response(response, false) else { return };
    let pieces: &[&'static str] = if does == Does::AnswersInPieces { &["o", "", "k"] } else { &["ok"] };
    for piece in pieces {
        let _ = body.send_data(piece.as_bytes().into(), false);
        tokio::task::yield_now().await;
    }
    if does == Does::SendsHalfABody {
        body.send_reset(h2::Reason::CANCEL);
    } else {
        let _ = body.send_data(Default::default(), true);
    }
    while let Some((_, mut respond)) = server.request().await {
        let _ = respond.send_response(answer(true).0, true);
    }
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Client1 {
    Gets,
    Posts(u64),
    LeavesInTheBody,
    LeavesAfterAll,
}

struct Stand {
    naru: Naru,
    speaks: Speaks,
    does: Arc<AtomicUsize>,
    asked: u64,
    copies: u64,
}

impl Stand {
    async fn new(up: &Upstream, is_http2: bool, speaks: Speaks) -> Stand {
        let listener = WireListener::bind_narrow();
        let does = Arc::<AtomicUsize>::default();
        let lines = if is_http2 { HTTP2 } else { "" };
        let bootstrap = mirrored(up.address, &format!("timeout: 1s\n    {}", super::TO_MIRROR));
        let config = with_mirrors(&bootstrap.cluster("mirror", listener.address, lines), |mirror| {
            mirror.comparison = Some(Comparison::default());
        });
        let does_now = Arc::clone(&does);
        tokio::spawn(async move {
            loop {
                let stream = listener.accept_stream().await;
                let does = ALL[does_now.load(Ordering::Relaxed)];
                tokio::spawn(async move {
                    if is_http2 {
                        speak_http2(stream, does).await;
                    } else {
                        speak_http1(Wire::new(stream), does).await;
                    }
                });
            }
        });
        let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
        Stand { naru, speaks, does, asked: 0, copies: 0 }
    }

    async fn walk(&mut self, seed: u64) -> Does {
        let mut chance = Chance::new(seed);
        let at = chance.below(ALL.len() as u64) as usize;
        self.does.store(at, Ordering::Relaxed);
        let size = [10, 70_000, 3 << 20][chance.below(3) as usize];
        let client = [Client1::Gets, Client1::Posts(size), Client1::LeavesInTheBody, Client1::LeavesAfterAll]
            [chance.below(4) as usize];
        let mut asked = 0;
        for _ in 0..=chance.below(2) {
            self.ask(client).await;
            asked += 1;
        }
        let what = format!("seed {seed}: {:?}, {client:?}", ALL[at]);
        self.naru.settles().await;
        // One that has left may be seen late, or never.
        let counts = until("every copy to have an end", async || {
            let counts = report(&self.naru).await.counts;
            (counts.copies == ended(&counts)).then_some(counts)
        })
        .await;
        let new = counts.copies - std::mem::replace(&mut self.copies, counts.copies);
        self.asked += asked;
        let stays = matches!(client, Client1::Gets | Client1::Posts(_));
        assert!(
            self.copies <= self.asked && (new >= asked || !stays),
            "{what}: {new} of {asked}, {counts:?}"
        );
        assert_eq!(panics().load(Ordering::Relaxed), 0, "{what}");
        ALL[at]
    }

    async fn ask(&self, does: Client1) {
        let mut client = Client::plain(self.naru.address, self.speaks).await;
        match does {
            Client1::Gets => {
                let answer = client.get("/bytes/5000").await;
                assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 5_000));
            }
            Client1::Posts(size) => {
                let posted = request(Method::POST, "/length", Outbound::filler(size, size > 10));
                assert_eq!(client.exchange(posted).await.text(), format!("{size} whole"));
            }
            Client1::LeavesInTheBody => {
                let (frames_tx, body) = Outbound::live();
                let sent = client.send(request(Method::PUT, "/length", body));
                let left = async {
                    let _ = frames_tx.send(Ok(http_body::Frame::data(vec![b'x'; 1_000].into()))).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    drop(frames_tx.send(Err(naru_tests::message::Abort)).await);
                };
                let _ = tokio::join!(sent, left);
            }
            Client1::LeavesAfterAll => {
                let sent = client.send(request(Method::POST, "/slow/50", Outbound::sized("said")));
                let _ = tokio::time::timeout(Duration::from_millis(10), sent).await;
            }
        }
    }
}

#[tokio::test]
async fn whatever_a_mirror_does_nobody_notices_and_all_is_given_back() {
    let one = std::env::var("NARU_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let local = LocalSet::new();
    let mut walks = Vec::new();
    for at in 0..4 {
        walks.push(local.spawn_local(async move {
            let up = Upstream::plain(Speaks::Http1).await;
            let speaks = if at % 2 == 0 { Speaks::Http1 } else { Speaks::Http2 };
            let mut stand = Stand::new(&up, at >= 2, speaks).await;
            let mut done = BTreeSet::new();
            for seed in (at..SEEDS).step_by(4).filter(|seed| one.is_none_or(|one| one == *seed)) {
                done.insert(stand.walk(seed).await);
            }
            done
        }));
    }
    for walk in walks {
        let done = local.run_until(walk).await.unwrap();
        assert!(one.is_some() || done.len() == ALL.len(), "{done:?}");
    }
}
