//! An upstream of HTTP/2 that breaks off anywhere, and goes away in the middle.
//!
//! Before a server that answers, or resets streams, stands somebody who passes frames on, and at some frame ends the
//! connection or says that the server goes away (RFC 9113, section 6.8): what he names as not looked at, the server never
//! sees.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use naru_base::Chance;
use naru_tests::journal::Journal;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;

use super::End;

const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const BUFFER: usize = 1 << 16;

/// What happens at a request.
#[derive(Clone, Copy)]
enum Plan {
    /// The connection ends, with its head or without.
    End { has_head: bool },
    /// The server goes away, and looks at nothing from this request on; or at it as the last, and leaves it unanswered.
    GoAway { has_head: bool },
}

pub(super) async fn serve(mut stream: TcpStream, mut chance: Chance, journal: Arc<Journal>) {
    let (mut relay, server) = tokio::io::duplex(BUFFER);
    tokio::spawn(answer(server, Chance::new(chance.draw()), journal));
    let mut left = 1 + chance.below(40);
    let has_head = chance.below(2) == 0;
    let plan = if chance.below(2) == 0 { Plan::End { has_head } } else { Plan::GoAway { has_head } };
    let (mut from_naru, mut from_server) = (Vec::with_capacity(BUFFER), Vec::with_capacity(BUFFER));
    let mut is_begun = false;
    // The last stream that the server looks at, once it goes away.
    let mut last = u32::MAX;
    loop {
        tokio::select! {
            count = stream.read_buf(&mut from_naru) => if count.unwrap_or(0) == 0 { return },
            count = relay.read_buf(&mut from_server) => if count.unwrap_or(0) == 0 { return },
        }
        if !is_begun && from_naru.len() >= PREFACE {
            let preface: Vec<u8> = from_naru.drain(..PREFACE).collect();
            if relay.write_all(&preface).await.is_err() {
                return;
            }
            is_begun = true;
        }
        while let Some(frame) = next_frame(&mut from_server) {
            if stream.write_all(&frame).await.is_err() {
                return;
            }
        }
        while is_begun && let Some(frame) = next_frame(&mut from_naru) {
            let of = stream_of(&frame);
            if frame[3] == HEADERS && last == u32::MAX {
                left -= 1;
                if left == 0 {
                    let (Plan::End { has_head } | Plan::GoAway { has_head }) = plan;
                    if has_head && relay.write_all(&frame).await.is_err() {
                        return;
                    }
                    if let Plan::GoAway { .. } = plan {
                        last = if has_head { of } else { of.saturating_sub(2) };
                        if stream.write_all(&go_away(last)).await.is_err() {
                            return;
                        }
                    }
                    if has_head || matches!(plan, Plan::End { .. }) {
                        // The server is given the time to read it.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        return End::draw(&mut chance).of(stream);
                    }
                }
            }
            if of <= last && relay.write_all(&frame).await.is_err() {
                return;
            }
        }
    }
}

/// The first frame, where it is there as a whole.
fn next_frame(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let &[high, middle, low, ..] = buffer.as_slice() else { return None };
    let length = FRAME_HEAD + u32::from_be_bytes([0, high, middle, low]) as usize;
    (buffer.len() >= length).then(|| buffer.drain(..length).collect())
}

fn stream_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes([frame[5] & 0x7f, frame[6], frame[7], frame[8]])
}

/// NO_ERROR; `last` was the last request that was looked at.
fn go_away(last: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&last.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame
}

async fn answer(stream: DuplexStream, mut chance: Chance, journal: Arc<Journal>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let number = request.headers()["x-n"].to_str().unwrap().parse().unwrap();
        journal.saw(number);
        let draw = chance.below(32);
        if draw < 2 {
            journal.disclaimed(number);
        }
        tokio::spawn(answer_one(request, respond, draw));
    }
}

async fn answer_one(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, draw: u64) {
    match draw {
        0 | 1 => return respond.send_reset(Reason::REFUSED_STREAM),
        2 => return respond.send_reset(Reason::CANCEL),
        _ => {}
    }
    let mut body = request.into_body();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
    let mut response = Response::new(());
    match draw {
        3 => return respond.send_reset(Reason::INTERNAL_ERROR),
        4 => *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE,
        5 => {
            response.headers_mut().insert("grpc-status", 14.into());
            let _ = respond.send_response(response, true);
            return;
        }
        _ => {}
    }
    // Whoever has gone meanwhile wants no answer.
    let Ok(mut body) = respond.send_response(response, false) else { return };
    let _ = body.send_data(Bytes::from_static(b"ok"), draw != 6);
    if draw == 6 {
        body.send_reset(Reason::CANCEL);
    }
}
