//! An upstream of HTTP/1 that breaks off anywhere.

use std::sync::Arc;
use std::time::Duration;

use naru_base::Chance;
use naru_tests::journal::Journal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::End;

/// What is done to one request.
enum Plan {
    /// After so many bytes of it, whatever they are.
    BreakAfter(usize),
    /// It is read as a whole, and this is written before the connection ends.
    BreakWith(&'static str),
    Answer(&'static str),
    /// After the answer the connection waits for a moment, and ends.
    AnswerAndLeave,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl Plan {
    fn draw(chance: &mut Chance) -> Plan {
        match chance.below(32) {
            0..=2 => Plan::BreakAfter(chance.below(400) as usize),
            3 | 4 => Plan::BreakWith(""),
            5 => Plan::BreakWith("HTTP/1.1 200 OK\r\nconte"),
            6 => Plan::BreakWith("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf of"),
            7 => Plan::Answer("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy"),
            8 => Plan::Answer("HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n"),
            9 => Plan::Answer("HTTP/1.1 200 OK\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n"),
            10..=13 => Plan::AnswerAndLeave,
            _ => Plan::Answer(OK),
        }
    }
}

pub(super) async fn serve(mut stream: TcpStream, mut chance: Chance, journal: Arc<Journal>) {
    let mut buffer = Vec::new();
    loop {
        let plan = Plan::draw(&mut chance);
        let most = if let Plan::BreakAfter(bytes) = plan { bytes } else { usize::MAX };
        let Some(length) = read(&mut stream, &mut buffer, most, &journal).await else { return };
        buffer.drain(..length);
        let end = End::draw(&mut chance);
        match plan {
            Plan::BreakAfter(_) => return end.of(stream),
            Plan::BreakWith(text) => {
                // Where naru is gone already, nothing is lost.
                let _ = stream.write_all(text.as_bytes()).await;
                return end.of(stream);
            }
            Plan::Answer(text) => {
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Plan::AnswerAndLeave => {
                let _ = stream.write_all(OK.as_bytes()).await;
                // About as long as the next request takes to come.
                tokio::time::sleep(Duration::from_micros(chance.below(3_000))).await;
                return end.of(stream);
            }
        }
    }
}

/// Reads a request, or its first `most` bytes; says how many bytes of the buffer it has. `None` where nothing more comes.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, most: usize, journal: &Journal) -> Option<usize> {
    let mut is_noted = false;
    loop {
        let here = &buffer[..buffer.len().min(most)];
        if let Some(at) = find(here, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&here[..at]).to_ascii_lowercase();
            let value =
                |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            if !std::mem::replace(&mut is_noted, true) {
                journal.saw(value("x-n:").expect("a request without a number"));
            }
            let whole = match value("content-length:") {
                Some(length) => Some(at + 4 + length as usize),
                None => find(&here[at..], b"\r\n0\r\n\r\n").map(|end| at + end + 7),
            };
            if let Some(whole) = whole.filter(|whole| *whole <= here.len()) {
                return Some(whole);
            }
        }
        if buffer.len() >= most {
            return Some(most);
        }
        let mut block = [0; 512];
        let room = block.len().min(most - buffer.len());
        match stream.read(&mut block[..room]).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => buffer.extend_from_slice(&block[..count]),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
