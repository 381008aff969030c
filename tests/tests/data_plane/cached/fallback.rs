//! What is stale, where nothing better comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use naru_proxy::Options;
use naru_spec::{Action, CachePolicy, Fallback, FallbackOn, FallbackStep};
use naru_tests::{Answer, Bootstrap, Client, Naru, Speaks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{ALL, config_of};

fn said<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// An origin that gives the same answer, or none once it is told to.
#[derive(Clone)]
struct Origin {
    address: SocketAddr,
    is_gone: Arc<AtomicBool>,
}

impl Origin {
    async fn start(control: &'static str) -> Origin {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let origin = Origin { address: listener.local_addr().unwrap(), is_gone: Arc::default() };
        let is_gone = Arc::clone(&origin.is_gone);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let is_gone = Arc::clone(&is_gone);
                tokio::spawn(async move {
                    let (mut head, mut byte) = (Vec::new(), [0]);
                    while matches!(stream.read(&mut byte).await, Ok(1)) && !is_gone.load(Ordering::Relaxed) {
                        head.push(byte[0]);
                        if head.ends_with(b"\r\n\r\n") {
                            head.clear();
                            let answer = format!(
                                "HTTP/1.1 200 OK\r\ncache-control: {control}\r\ncontent-length: 9\r\n\r\nsome text"
                            );
                            // Who is gone wants no answer.
                            let _ = stream.write_all(answer.as_bytes()).await;
                        }
                    }
                });
            }
        });
        origin
    }
}

/// An answer is kept, its origin goes away, and it becomes stale.
async fn after_the_origin_is_gone(
    control: &'static str,
    policy: CachePolicy,
    fallback: Option<Fallback>,
) -> Answer {
    let origin = Origin::start(control).await;
    let bootstrap = Bootstrap::new(ALL).cluster("up", origin.address, "");
    let mut config = config_of(&bootstrap, &policy);
    let chains = config.listeners.iter_mut().flat_map(|listener| &mut listener.chains);
    let hosts = chains.flat_map(|chain| &mut chain.http.routes.virtual_hosts);
    for rule in hosts.flat_map(|host| &mut host.rules) {
        if let Action::Forward(forward) = &mut rule.action {
            forward.fallback = fallback.clone();
        }
    }
    let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    assert_eq!(client.get("/x").await.status, 200);
    origin.is_gone.store(true, Ordering::Relaxed);
    let answer = naru_tests::until("it to be stale", async || {
        let answer = client.get("/x").await;
        (!said(&answer, "cache-status").starts_with("naru; hit")).then_some(answer)
    })
    .await;
    drop(client);
    naru.settles().await;
    answer
}

fn chain() -> Fallback {
    Fallback { on: FallbackOn::default(), steps: vec![FallbackStep::StaleResponse] }
}

#[tokio::test]
async fn a_stale_answer_is_given_where_it_may_be_and_nothing_else_comes() {
    let answer =
        after_the_origin_is_gone("max-age=1, stale-if-error=600", CachePolicy::default(), None).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 9));
    assert!(said(&answer, "cache-status").starts_with("naru; fwd=stale; ttl="), "{answer:?}");
    let nothing = after_the_origin_is_gone("max-age=1", CachePolicy::default(), None).await;
    assert_eq!(nothing.status, 503);
}

#[tokio::test]
async fn the_route_may_say_so_in_the_place_of_the_answer() {
    let policy = CachePolicy { stale_if_error: Some(Duration::from_secs(600)), ..CachePolicy::default() };
    let answer = after_the_origin_is_gone("max-age=1", policy.clone(), None).await;
    assert_eq!(answer.status, 200);
    let strict = after_the_origin_is_gone("max-age=1, must-revalidate", policy, None).await;
    assert_eq!(strict.status, 503);
}

#[tokio::test]
async fn a_fallback_has_a_step_for_it() {
    let answer = after_the_origin_is_gone("max-age=1", CachePolicy::default(), Some(chain())).await;
    assert_eq!(answer.status, 200);
    assert!(said(&answer, "x-naru-fallback").ends_with("; step=1; to=cache"), "{answer:?}");
}
