//! A client that sends what a case says, frames that nobody should send among it, and keeps what comes byte for byte.

use std::net::SocketAddr;
use std::rc::Rc;

use naru_tests::Wire;
use naru_tests::side::Side;
use naru_tests::websocket::{ASK, CLOSE, frame};
use naru_tests::wire::End;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use super::cases::{Case, Step};
use super::peers::Version;

/// What a client of HTTP/2 says of itself.
const VERSION: &[(&str, &str)] = &[("sec-websocket-version", "13")];
/// Cases at a time.
const AT_ONCE: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// In one piece, whatever comes meanwhile.
    AllAtOnce,
    /// In the pieces that the case names, each once what it waits for is there.
    StepByStep,
}

#[derive(PartialEq, Eq)]
pub struct Outcome {
    /// All that came after the handshake.
    pub bytes: Vec<u8>,
    /// How the connection ended, which its server closes first.
    pub end: End,
    frames: Vec<(u8, Vec<u8>)>,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.end)?;
        for (kind, payload) in &self.frames {
            write!(f, " {kind:02x}+{}", payload.len())?;
            if payload.len() < 64 {
                write!(f, " {:?}", String::from_utf8_lossy(payload))?;
            }
        }
        let whole: usize = self.frames.iter().map(|(_, payload)| payload.len()).sum();
        write!(f, " ({} bytes, {whole} of payload)", self.bytes.len())
    }
}

impl Outcome {
    /// That a server which obeys RFC 6455 does so.
    pub fn check(&self, case: &Case) {
        let (answers, close) = match self.frames.split_last() {
            Some(((CLOSE, close), answers)) => (answers, close),
            _ => panic!("{}: no close: {self:?}", case.name),
        };
        assert!(answers == case.answers, "{}: {self:?}", case.name);
        let code = close.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
        assert!(case.codes.is_empty() || case.codes.contains(&code), "{}: {code}", case.name);
    }

    /// The next frame, where all of it comes.
    async fn hear(&mut self, side: &mut Side) -> Option<(u8, Vec<u8>)> {
        match self.read(side).await {
            Ok(frame) => {
                self.frames.push(frame.clone());
                Some(frame)
            }
            Err(end) => {
                self.end = end;
                None
            }
        }
    }

    async fn read(&mut self, side: &mut Side) -> Result<(u8, Vec<u8>), End> {
        let head = self.take(side, 2).await?;
        let length = match head[1] {
            126 => self.take(side, 2).await?.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)),
            127 => self.take(side, 8).await?.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)),
            length => length.into(),
        };
        Ok((head[0], self.take(side, length).await?))
    }

    async fn take(&mut self, side: &mut Side, count: usize) -> Result<Vec<u8>, End> {
        match side.exactly(count).await {
            Ok(bytes) => {
                self.bytes.extend_from_slice(&bytes);
                Ok(bytes)
            }
            Err(end) => {
                self.bytes.extend(side.end().await.0);
                Err(end)
            }
        }
    }
}

/// All of them, some at a time, in their order.
pub async fn play_all(to: SocketAddr, version: Version, all: &[Case], manner: Manner) -> Vec<Outcome> {
    let room = Rc::new(Semaphore::new(AT_ONCE));
    let mut playing = JoinSet::new();
    let tasks = LocalSet::new();
    for (at, case) in all.iter().cloned().enumerate() {
        let room = Rc::clone(&room);
        playing.spawn_local_on(
            async move {
                let _leave = room.acquire().await.unwrap();
                (at, play(to, version, case, manner).await)
            },
            &tasks,
        );
    }
    let mut outcomes = tasks.run_until(playing.join_all()).await;
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

async fn join(to: SocketAddr, version: Version) -> Side {
    match version {
        Version::Http1 => {
            let mut wire = Wire::connect(to).await;
            wire.send(format!("GET /chat HTTP/1.1\r\nhost: naru.test\r\n{ASK}\r\n")).await;
            assert_eq!(wire.head().await.status(), 101);
            Side::Connection(wire)
        }
        Version::Http2 => {
            let (granted, side) = Side::ask_by_http2(to, "websocket", VERSION).await.unwrap();
            assert_eq!(granted.status(), 200);
            side
        }
    }
}

async fn play(to: SocketAddr, version: Version, case: Case, manner: Manner) -> Outcome {
    let mut side = join(to, version).await;
    let mut outcome = Outcome { bytes: Vec::new(), end: End::Reset, frames: Vec::new() };
    // Whoever has closed says no more, but what its case has it say.
    let mut has_closed = case.closes;
    match manner {
        Manner::AllAtOnce => {
            let all: Vec<u8> = case.steps.iter().flat_map(Step::bytes).copied().collect();
            // The server may have failed it before all is sent.
            side.try_send(all).await;
        }
        Manner::StepByStep => {
            for step in &case.steps {
                match step {
                    Step::Send(bytes) => {
                        side.try_send(bytes).await;
                    }
                    Step::Chopped(bytes, size) => {
                        for piece in bytes.chunks(*size) {
                            side.try_send(piece).await;
                            tokio::task::yield_now().await;
                        }
                    }
                    Step::Await(count) => {
                        while outcome.frames.len() < *count
                            && outcome.frames.last().is_none_or(|(kind, _)| *kind != CLOSE)
                        {
                            if outcome.hear(&mut side).await.is_none() {
                                return outcome;
                            }
                        }
                    }
                }
            }
        }
    }
    if let Some((CLOSE, payload)) = outcome.frames.last()
        && !has_closed
    {
        has_closed = true;
        side.try_send(frame(CLOSE, &payload.clone())).await;
    }
    while let Some((kind, payload)) = outcome.hear(&mut side).await {
        if kind == CLOSE && !has_closed {
            has_closed = true;
            side.try_send(frame(CLOSE, &payload)).await;
        }
    }
    outcome
}
