//! What does a client begin with: TLS, and for which name, or something else?
//!
//! In comes a stream of which perhaps some was read already; out goes the client with what it said, and all that was
//! read of it, so that either side of a connection can still see it. At most [`OPENING_BYTES_MAX`] are read.

use std::io;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::StartHandshake;

use crate::terminator::Hello;

/// Envoy's bound of a ClientHello: `TLS_MAX_CLIENT_HELLO`.
pub const OPENING_BYTES_MAX: usize = 64 * 1024;
/// The library takes so much at once, whatever it holds already.
const READ_BYTES: usize = 4_096;
/// The record that a handshake begins with (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

/// A client that has said something.
#[derive(Debug)]
pub enum Opening<IO> {
    /// It can be answered, or left to somebody else with what was read.
    Tls(Box<Hello<IO>>),
    Other(IO),
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Opening<IO> {
    /// `start` is what was read of the client before, at most 4,096 bytes; what is read is added to it. Where a client
    /// may only begin with TLS (`takes_other` is false), another one is told so by an alert, and the error is of kind
    /// `InvalidData`.
    pub async fn read(mut io: IO, start: &mut Vec<u8>, takes_other: bool) -> io::Result<Opening<IO>> {
        let mut acceptor = Acceptor::default();
        let mut fed = 0;
        loop {
            if takes_other && start.first().is_some_and(|first| *first != HANDSHAKE) {
                return Ok(Opening::Other(io));
            }
            if fed < start.len() {
                let mut rest = start.get(fed..).unwrap_or_default();
                acceptor.read_tls(&mut rest)?;
                // A chunk is never larger than what is taken at once.
                if !rest.is_empty() {
                    return Err(too_long());
                }
                fed = start.len();
                match acceptor.accept() {
                    Ok(Some(accepted)) => {
                        let hello = Hello::of(StartHandshake::from_parts(accepted, io));
                        return Ok(Opening::Tls(Box::new(hello)));
                    }
                    Ok(None) => {}
                    Err((error, mut alert)) => {
                        let mut bytes = Vec::new();
                        alert.write(&mut bytes)?;
                        // A client that does not hear it learns by the end of its connection.
                        let _ = io.write_all(&bytes).await;
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    }
                }
            }
            if start.len() >= OPENING_BYTES_MAX {
                return Err(too_long());
            }
            read_more(&mut io, start).await?;
        }
    }
}

async fn read_more(io: &mut (impl AsyncRead + Unpin), start: &mut Vec<u8>) -> io::Result<()> {
    let known = start.len();
    start.resize(known + READ_BYTES, 0);
    let read = io.read(start.get_mut(known..).unwrap_or_default()).await;
    start.truncate(known + read.as_ref().map_or(0, |read| *read));
    match read? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the first message of the handshake is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello for this name, as a client of ours says it.
    fn hello(name: &str) -> Vec<u8> {
        let mut config = rustls::ClientConfig::builder_with_provider(crate::handshake::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"x".repeat(255); 40];
        let name = name.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut said = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut said).unwrap();
        }
        assert!(said.len() > READ_BYTES, "more than one read");
        said
    }

    #[tokio::test(flavor = "current_thread")]
    async fn all_that_was_read_is_still_there() {
        let said = hello("a.example");
        for before in [0, 1, 6, 4_096] {
            let (mut client, server) = tokio::io::duplex(1 << 16);
            let (early, late) = said.split_at(before);
            client.write_all(late).await.unwrap();
            let mut start = early.to_vec();
            let Opening::Tls(hello) = Opening::read(server, &mut start, true).await.unwrap() else {
                panic!("it is TLS");
            };
            assert_eq!(hello.server_name(), Some("a.example"));
            assert_eq!(start, said);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_no_tls_is_told_by_its_first_byte_or_refused() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(b"SSH-2.0").await.unwrap();
        let mut start = Vec::new();
        let opening = Opening::read(server, &mut start, true).await.unwrap();
        assert!(matches!(opening, Opening::Other(_)));
        assert_eq!(start, b"SSH-2.0");
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let error = Opening::read(server, &mut Vec::new(), false).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let mut alert = Vec::new();
        client.read_to_end(&mut alert).await.unwrap();
        assert_eq!(alert.first(), Some(&0x15));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_handshake_that_never_ends_is_refused() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        // Records that hold a message of which more is always to come.
        let mut said = Vec::new();
        for at in 0..20 {
            said.extend([0x16, 3, 1, 0x10, 0]);
            let mut body = vec![0; 0x1000];
            if at == 0 {
                body[..4].copy_from_slice(&[1, 0, 0xff, 0xff]);
            }
            said.extend(body);
        }
        client.write_all(&said).await.unwrap();
        let mut start = Vec::new();
        let error = Opening::read(server, &mut start, true).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(start.len() <= OPENING_BYTES_MAX + READ_BYTES);
        let (client, server) = tokio::io::duplex(16);
        drop(client);
        let error = Opening::read(server, &mut Vec::new(), true).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
