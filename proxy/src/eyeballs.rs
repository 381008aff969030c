//! A connection to a place with several addresses: to whichever answers first. Who is tried when is decided by
//! [`naru_journey::race`].

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use naru_journey::race::Race;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::clock::Origin;
use crate::dial::{DialFailure, connect_tcp};

/// What is under way; dropping it gives it up.
type Try = (SocketAddr, Pin<Box<dyn Future<Output = Result<TcpStream, DialFailure>>>>);

/// To the first of these addresses, in their order, that takes a connection. The failure is the last one.
pub async fn connect_first(
    origin: Origin,
    addresses: &[SocketAddr],
    nobody: DialFailure,
) -> Result<(TcpStream, SocketAddr), DialFailure> {
    if let [only] = addresses {
        return Ok((connect_tcp(*only).await?, *only));
    }
    let mut race = Race::begin(origin.elapsed(), addresses.len());
    let mut failure = Some(nobody);
    let mut under_way: Vec<Try> = Vec::new();
    let mut turn: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        loop {
            let now = origin.elapsed();
            if let Some(address) = race.next_try(now).and_then(|at| addresses.get(at)) {
                under_way.push((*address, Box::pin(connect_tcp(*address))));
                turn = None;
            }
            let mut has_failed = false;
            let mut at = 0;
            while let Some((address, connects)) = under_way.get_mut(at) {
                match connects.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok((stream, *address))),
                    Poll::Ready(Err(failed)) => {
                        failure = Some(failed);
                        race.on_failure(origin.elapsed());
                        has_failed = true;
                        drop(under_way.swap_remove(at));
                    }
                    Poll::Pending => at += 1,
                }
            }
            if race.is_lost() {
                return Poll::Ready(Err(failure.take().unwrap_or_else(DialFailure::timeout)));
            }
            if has_failed {
                continue;
            }
            let Some(deadline) = race.deadline() else { return Poll::Pending };
            let wait = deadline.since(origin.elapsed());
            let sleep = turn.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            turn = None;
        }
    })
    .await
}
