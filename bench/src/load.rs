//! Load: requests sent, answers counted, anything but a 200 an error that ends the run.
//!
//! The protocols are written by hand, because what the generator costs is taken from the core that it shares with the
//! upstream. Every request is the same bytes.

// In reading order: two ways to ask, then two ways to decide when to ask.
pub mod h1;
pub mod h2;
pub mod closed;
pub mod ticker;
pub mod open;

use std::fmt::Debug;
use std::net::SocketAddr;

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub const USER_AGENT: &str = "naru-bench/1.0";
pub const ACCEPT: &str = "text/html,application/json;q=0.9,*/*;q=0.8";

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Debug {}

impl<Any: AsyncRead + AsyncWrite + Unpin + Debug> Stream for Any {}

/// What every request says.
#[derive(Debug, Clone)]
pub struct Asked {
    pub authority: String,
    pub path: String,
    /// Bytes of the body.
    pub upload: usize,
}

/// Where connections go, and whether they are secured.
#[derive(Clone)]
pub struct Dial {
    pub address: SocketAddr,
    pub connector: Option<TlsConnector>,
}

impl Dial {
    pub async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let connecting = TcpStream::connect(self.address).await;
        let stream = connecting.with_context(|| format!("connecting to {}", self.address))?;
        stream.set_nodelay(true)?;
        match &self.connector {
            None => Ok(Box::new(stream)),
            Some(connector) => Ok(Box::new(connector.connect("localhost".try_into()?, stream).await?)),
        }
    }
}

impl Debug for Dial {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Dial({})", self.address)
    }
}
