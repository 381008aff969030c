//! An upstream as a process of its own, so that it can be killed and stopped: `upstream JOURNAL HTTP1 HTTP2 BYTES`, where
//! the last three are addresses. Says `serves` once it does.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it is part of a test")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use naru_tests::journal::Journal;
use naru_tests::upstream::echo_bytes;
use naru_tests::{Authority, Speaks, Upstream};
use tokio::net::TcpListener;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let journal = Arc::new(Journal::in_file(Path::new(&arguments.next().unwrap())));
    let addresses: Vec<SocketAddr> = arguments.map(|word| word.parse().unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let authority = Authority::new();
        let mut listeners = Vec::new();
        for address in addresses {
            listeners.push(TcpListener::bind(address).await.unwrap());
        }
        let bytes = listeners.pop().unwrap();
        let http2 =
            Upstream::listen(listeners.pop().unwrap(), Speaks::Http2, &authority, Arc::clone(&journal));
        let http1 =
            Upstream::listen(listeners.pop().unwrap(), Speaks::Http1, &authority, Arc::clone(&journal));
        println!("serves {} {}", http1.address, http2.address);
        echo_bytes(bytes, journal).await;
    });
}
