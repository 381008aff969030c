//! Every rule of RFC 9113 and RFC 7541 that a server can be asked about from outside, as a table: what is sent, frame
//! for frame, and what must come back. Each case is played on a plain connection and on one with TLS, against a proxy
//! with an upstream behind it.
//!
//! The order is that of the sections. Where the standard lets a server choose, each of its choices passes; a
//! connection that is closed without the code that the section names does not.

mod compression;
mod connection;
mod frames;
mod messages;
mod streams;

use naru_tests::frames::*;
use naru_tests::{Authority, Bootstrap, Naru, Speaks, Upstream};

/// A rule: the section, what is sent, and what must follow.
pub struct Case {
    pub name: &'static str,
    pub settings: Vec<(u16, u32)>,
    pub steps: Vec<Step>,
    pub expected: Expected,
}

#[derive(Debug)]
pub enum Step {
    Send(Vec<u8>),
    /// Waits until the stream was answered whole.
    Answered(u32),
    /// Waits until settings are acknowledged.
    Settled,
}

#[derive(Debug)]
pub enum Expected {
    /// GOAWAY with one of these codes, and the end.
    Connection(&'static [u32]),
    /// The stream is reset with one of these, or else the connection.
    Stream(u32, &'static [u32]),
    /// A whole answer with this status, on a connection that stays.
    Answer(u32, u16),
    /// The connection stays.
    Alive,
    Pong([u8; 8]),
    SettingsAck,
    /// The first DATA of the stream has so many bytes.
    Data(u32, usize),
    /// The body of the answer has so many bytes.
    Body(u32, usize),
}

pub fn case(name: &'static str, steps: Vec<Step>, expected: Expected) -> Case {
    Case { name, settings: Vec::new(), steps, expected }
}

/// Everything at once.
pub fn sends<const N: usize>(frames: [Vec<u8>; N]) -> Vec<Step> {
    vec![Step::Send(frames.concat())]
}

pub fn get(stream: u32) -> Vec<u8> {
    headers(END_STREAM | END_HEADERS, stream, &request("GET", "/describe"))
}

/// The head of a request with a body to come.
pub fn post(stream: u32) -> Vec<u8> {
    headers(END_HEADERS, stream, &request("POST", "/describe"))
}

pub fn data(flags: u8, stream: u32, data: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, data)
}

/// A request with these fields beside what is needed.
pub fn get_with(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    headers(END_STREAM | END_HEADERS, stream, &[&request("GET", "/describe")[..], more].concat())
}

async fn play(case: &Case, naru: &Naru, authority: Option<&Authority>) -> Result<(), String> {
    let mut peer = Peer::start(naru.address, authority, &case.settings).await;
    for step in &case.steps {
        match step {
            Step::Send(bytes) => peer.send(bytes).await,
            Step::Answered(stream) => drop(peer.answer(*stream).await.ok_or("no answer")?),
            Step::Settled => {
                let acked = peer.find(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0).await;
                acked.ok_or("no settings")?;
            }
        }
    }
    match &case.expected {
        Expected::Connection(codes) => match peer.goes_away().await {
            Some(code) if codes.contains(&code) => Ok(()),
            other => Err(format!("GOAWAY {other:?}")),
        },
        Expected::Stream(stream, codes) => loop {
            let Some(frame) = peer.next().await else { return Err("closed without a word".to_owned()) };
            match frame.kind {
                RST_STREAM if frame.stream == *stream && codes.contains(&frame.number(0)) => {
                    let is_alive = peer.is_alive().await;
                    return if is_alive { Ok(()) } else { Err("the connection ended as well".to_owned()) };
                }
                GOAWAY if codes.contains(&frame.number(4)) => return Ok(()),
                RST_STREAM | GOAWAY => return Err(format!("{frame:?}")),
                // What comes after the end of a stream may come after its answer.
                HEADERS if frame.stream == *stream && codes != &[STREAM_CLOSED] => {
                    return Err(format!("it was answered: {}", status(&frame.payload)));
                }
                _ => {}
            }
        },
        Expected::Answer(stream, expected) => {
            let (head, _) = peer.answer(*stream).await.ok_or("no answer")?;
            if status(&head) != *expected {
                return Err(format!("status {}", status(&head)));
            }
            peer.is_alive().await.then_some(()).ok_or_else(|| "the connection has ended".to_owned())
        }
        Expected::Alive => peer.is_alive().await.then_some(()).ok_or_else(|| "it has ended".to_owned()),
        Expected::Pong(opaque) => {
            let pong = peer.find(|frame| frame.kind == PING).await.ok_or("no answer")?;
            (pong.flags == ACK && pong.payload == opaque).then_some(()).ok_or(format!("{pong:?}"))
        }
        Expected::SettingsAck => {
            let acked = peer.find(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0).await;
            acked.map(drop).ok_or_else(|| "no answer".to_owned())
        }
        Expected::Data(stream, length) => {
            let first = peer.find(|frame| frame.kind == DATA && frame.stream == *stream).await;
            let first = first.ok_or("no data")?.payload.len();
            (first == *length).then_some(()).ok_or(format!("{first} bytes"))
        }
        Expected::Body(stream, length) => {
            let (_, body) = peer.answer(*stream).await.ok_or("no answer")?;
            (body.len() == *length).then_some(()).ok_or(format!("{} bytes", body.len()))
        }
    }
}

/// Plays all cases, a number of them at a time, and says which failed.
async fn play_all(cases: Vec<Case>) {
    let authority = Authority::new();
    let upstream = Upstream::plain(Speaks::Http1).await;
    let mut failed = Vec::new();
    for is_tls in [false, true] {
        let mut bootstrap = Bootstrap::to(upstream.address);
        if is_tls {
            bootstrap = bootstrap.tls(&authority, &["h2", "http/1.1"]);
        }
        let naru = Naru::start(&bootstrap);
        for case in &cases {
            if let Err(why) = play(case, &naru, is_tls.then_some(&authority)).await {
                failed.push(format!(
                    "{}{}: {why}, not {:?}",
                    case.name,
                    if is_tls { " (TLS)" } else { "" },
                    case.expected
                ));
            }
        }
        naru.settles().await;
    }
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), 2 * cases.len(), failed.join("\n"));
}
