//! Just enough HTTP to see whether somebody answers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use crate::process::Spawned;

const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_micros(200);

/// Waits for the first 200 from `port` on this machine, for `patience` from now; says how long that took since `begin`.
pub fn wait_for_200(
    port: u16,
    process: &mut Spawned,
    begin: Instant,
    patience: Duration,
) -> anyhow::Result<Duration> {
    let mut last = String::from("no connection");
    let called = Instant::now();
    while called.elapsed() < patience {
        match get(port, "/") {
            Ok((200, _)) => return Ok(begin.elapsed()),
            Ok((other, _)) => last = format!("status {other}"),
            Err(error) => last = error.to_string(),
        }
        process.ensure_alive()?;
        sleep(RETRY);
    }
    bail!("no 200 within {patience:?}, but {last}: {}", process.last_words())
}

/// What a GET of `path` is answered with: the status and the answer as it came, head and body.
pub fn get(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    ensure!(answer.starts_with("HTTP/1.1 "), "no HTTP: {answer:.40}");
    Ok((answer.split(' ').nth(1).unwrap_or_default().parse()?, answer.into_owned()))
}

/// Ports that were free a moment ago, all different.
pub fn free_ports<const COUNT: usize>() -> anyhow::Result<[u16; COUNT]> {
    let mut held = Vec::with_capacity(COUNT);
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
