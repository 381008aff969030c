//! Asks a process whether it is well.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::confine::Confinement;
use crate::guarded::{Guarded, Surroundings};
use crate::launch::{End, Report};
use crate::{Probe, ProbeKind};

/// What is read of a page behind its status, so that its server is not cut off in the middle of it.
const PAGE_BYTES_MAX: u64 = 64 * 1024;
const PAGE_PATIENCE: Duration = Duration::from_millis(100);
/// A longer answer of a health service is none.
const ANSWER_BYTES_MAX: usize = 1_024;

/// Whether it answers well, and in time. `own` is the process's own port, `around` what a command is
/// run with.
pub async fn ask(probe: &Probe, own: u16, around: &Surroundings<'_>) -> bool {
    let answer = async {
        let address = |port: &Option<u16>| SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(own)));
        match &probe.kind {
            ProbeKind::Http { path, port, headers } => http(address(port), path, headers).await,
            ProbeKind::Tcp { port } => Some(TcpStream::connect(address(port)).await.is_ok()),
            ProbeKind::Grpc { port, service } => grpc(address(port), service).await,
            ProbeKind::Exec { command } => exec(command, around).await,
        }
    };
    tokio::time::timeout(probe.timeout, answer).await.ok().flatten().unwrap_or(false)
}

/// Kubernetes takes 200 to 399 for well.
async fn http(address: SocketAddr, path: &str, headers: &[(String, String)]) -> Option<bool> {
    // Whoever wrote it may not write more of the head than this.
    if path.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return None;
    }
    let mut stream = TcpStream::connect(address).await.ok()?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut head = format!(
        "GET {slash}{path} HTTP/1.1\r\nuser-agent: naru-probe\r\naccept: */*\r\nconnection: close\r\n"
    );
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in headers {
        let is_clean = |text: &str| !text.contains(['\r', '\n']);
        if is_clean(name) && is_clean(value) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    // `HTTP/1.1 200`
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.ok()?;
    let status: u16 = std::str::from_utf8(line.get(9..)?).ok()?.parse().ok()?;
    let page = async { tokio::io::copy(&mut stream.take(PAGE_BYTES_MAX), &mut tokio::io::sink()).await };
    // What it says beside its status, and whether it says it well, is of no interest.
    let _ = tokio::time::timeout(PAGE_PATIENCE, page).await;
    Some(line.starts_with(b"HTTP/1.") && (200..400).contains(&status))
}

/// `grpc.health.v1.Health/Check`: SERVING is 1.
async fn grpc(address: SocketAddr, service: &str) -> Option<bool> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (client, connection) = h2::client::handshake(stream).await.ok()?;
    let connection = tokio::spawn(async move {
        // Its end is seen by the call.
        let _ = connection.await;
    });
    let answer = check(client, address, service).await;
    connection.abort();
    answer
}

async fn check(client: h2::client::SendRequest<Bytes>, address: SocketAddr, service: &str) -> Option<bool> {
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .ok()?;
    let mut client = client.ready().await.ok()?;
    let (response, mut body) = client.send_request(request, false).ok()?;
    // Field 1, a string, behind its length (protobuf's varint).
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).ok()?.to_be_bytes());
    framed.extend(message);
    body.send_data(Bytes::from(framed), true).ok()?;
    let mut stream = response.await.ok()?.into_body();
    let mut answer = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.ok()?;
        answer.extend_from_slice(&data);
        // Credit for what was read; without it a long answer would stop, and this one is short.
        let _ = stream.flow_control().release_capacity(data.len());
        if answer.len() > ANSWER_BYTES_MAX {
            return Some(false);
        }
    }
    Some(answer.get(5..) == Some(&[0x08, 0x01]))
}

/// Out of time, it is ended with all that it started: what guards it is dropped.
async fn exec(command: &[String], around: &Surroundings<'_>) -> Option<bool> {
    let mut asked = Guarded::start(command, around, Confinement::default(), false).ok()?;
    let mut is_well = false;
    while let Some(report) = asked.next().await {
        is_well = matches!(report, Report::Ended { end: End::Status(0), .. });
    }
    Some(is_well)
}
