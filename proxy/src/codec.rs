//! The seam to HTTP's wire formats: read a head and a body, write a head and a body.
//!
//! Only this folder names hyper. What crosses the seam is `http`'s heads, and bodies as
//! [`http_body::Body`]: [`InBody`] for what was read, [`crate::settle::OutBody`] and
//! [`crate::upload::UploadBody`] for what is to be written.

pub mod body;
pub mod client;
mod http1;
pub mod inquiry;
pub mod server;

pub use body::{BodyBroken, HyperBody, InBody};
pub use client::{Http2Client, SendFailure};
pub use http1::client::Http1Client;
pub use http1::interim::Interim;
pub use http1::server::Answers;
pub use inquiry::{Inquirer, Unanswered, WholeBody};
pub use server::{Leave, Protocol, ServeError, Terms, serve};

/// Spawns onto the worker that asks.
#[derive(Clone, Copy, Debug)]
struct OnThisWorker;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisWorker {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
