//! Readers that are asynchronous, given bytes that are there already.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// What a future comes to that waits for nothing outside.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    // It may give way a few times.
    for _ in 0..1_000 {
        if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return result;
        }
    }
    panic!("it waits for something, and nothing will come");
}
