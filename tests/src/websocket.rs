//! WebSocket (RFC 6455) as far as a ledger needs it: short text messages in one frame each, an echo of them, and the
//! closing handshake; and frames of a client, whatever is in them. The key and its answer are those of the RFC's own example.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Wire;
use crate::wire::End;

/// What a client's head says besides.
pub const ASK: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub const TEXT: u8 = 0x81;
pub const CLOSE: u8 = 0x88;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Of a frame whose length is one byte.
const LENGTH_MAX: usize = 125;

/// A frame of a client, which is masked. `kind` is all of its first byte.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut frame = vec![kind];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if usize::from(length) <= LENGTH_MAX => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(masked(payload));
    frame
}

fn masked(payload: &[u8]) -> Vec<u8> {
    payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

/// The next frame of a server.
///
/// # Errors
/// The connection ended.
pub async fn read(wire: &mut Wire) -> Result<(u8, Vec<u8>), End> {
    let head = wire.exactly(2).await?;
    assert!(usize::from(head[1]) <= LENGTH_MAX, "a server masks nothing, and says nothing long: {head:?}");
    Ok((head[0], wire.exactly(head[1].into()).await?))
}

/// A server that echoes every message until its client closes.
///
/// # Errors
/// The connection ended otherwise.
pub async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    loop {
        let mut head = [0; 6];
        stream.read_exact(&mut head).await?;
        let (kind, length) = (head[0], usize::from(head[1] & 0x7f));
        assert!(head[1] & 0x80 != 0 && length <= LENGTH_MAX && head[2..] == MASK, "{head:?}");
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        let mut answer = vec![kind, length as u8];
        answer.extend(masked(&payload));
        stream.write_all(&answer).await?;
        if kind == CLOSE {
            return stream.shutdown().await;
        }
    }
}
