//! Asks a process whether it is well.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::{Probe, ProbeKind};

/// Whether it answers well, and in time. `own` is the process's own port.
pub async fn ask(probe: &Probe, own: u16, env: &[(String, String)]) -> bool {
    let answer = async {
        let address = |port: &Option<u16>| SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(own)));
        match &probe.kind {
            ProbeKind::Http { path, port, headers } => http(address(port), path, headers).await,
            ProbeKind::Tcp { port } => Some(TcpStream::connect(address(port)).await.is_ok()),
            ProbeKind::Grpc { port, service } => grpc(address(port), service).await,
            ProbeKind::Exec { command } => exec(command, env).await,
        }
    };
    tokio::time::timeout(probe.timeout, answer).await.ok().flatten().unwrap_or(false)
}

/// Kubernetes takes 200 to 399 for well.
async fn http(address: SocketAddr, path: &str, headers: &[(String, String)]) -> Option<bool> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let mut head =
        format!("GET {path} HTTP/1.1\r\nuser-agent: naru-probe\r\naccept: */*\r\nconnection: close\r\n");
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
    let mut message = Vec::new();
    if let Ok(length) = u8::try_from(service.len())
        && length < 128
        && length > 0
    {
        message.extend([0x0a, length]);
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
        if answer.len() > 1_024 {
            return Some(false);
        }
    }
    Some(answer.get(5..) == Some(&[0x08, 0x01]))
}

async fn exec(command: &[String], env: &[(String, String)]) -> Option<bool> {
    let (program, args) = command.split_first()?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    let null = std::process::Stdio::null;
    command.stdin(null()).stdout(null()).stderr(null()).kill_on_drop(true);
    Some(command.status().await.ok()?.success())
}
