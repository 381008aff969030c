//! The seam to HTTP's wire formats: read a head and a body, write a head and a body.
//!
//! Only this folder names hyper. What crosses the seam is `http`'s heads, and bodies as
//! [`http_body::Body`]: [`InBody`] for what was read, [`crate::settle::OutBody`] and
//! [`crate::upload::UploadBody`] for what is to be written.

pub mod body;
pub mod client;
mod http1;
pub mod http2;
#[cfg(feature = "http3")]
pub mod http3;
pub mod inquiry;
mod interim;
pub mod server;

pub use body::{BodyBroken, HyperBody, InBody};
pub use client::SendFailure;
pub use http1::client::Http1Client;
pub use http1::output::Output;
pub use http1::server::Answers;
pub use http2::server::Told;
pub use http2::{Abuse, Http2Client, Http2Tunnel, Protocol as ExtendedConnect};
pub use inquiry::{Inquirer, Unanswered, WholeBody};
pub use interim::Interim;
pub use server::{Leave, Protocol, ServeError, Terms, serve};
