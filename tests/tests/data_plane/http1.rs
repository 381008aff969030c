//! HTTP/1 as RFC 9110 and RFC 9112 have it, and nothing else: what is refused, what is passed on, and that nobody
//! behind naru reads it otherwise.

mod refused;
mod taken;
mod responses;
mod smuggling;
mod beside;
mod reader;

use naru_tests::Wire;
use naru_tests::wire::End;

/// The answer to a request that is refused, and that the connection ends with it.
async fn refusal(address: std::net::SocketAddr, request: &[u8]) -> u16 {
    let mut client = Wire::connect(address).await;
    client.try_send(request).await;
    let answer = client.response().await;
    let shown = String::from_utf8_lossy(request);
    assert_eq!(answer.head.get("connection"), Some("close"), "{shown:?}");
    assert!(!answer.body.is_empty(), "it is not said what is wrong with {shown:?}");
    assert!(matches!(client.ends().await, End::Closed), "{shown:?}");
    answer.status()
}
