//! How is somebody asked whether he is well?
//!
//! Comes in: a question as Kubernetes' probes have it, and where it is asked. Goes out: whether the answer is good, or
//! why not. Whoever asks says how long it may take. Processes of this machine are asked (`control/workloads`), and
//! machines that have joined by themselves (`control/discovery`).
//!
//! Deliberately not here: when somebody is asked, and what answers mean; commands, which are processes
//! (`control/workloads`); checks of a proxy's endpoints (`proxy/src/prober.rs`).
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use naru_spec::UpstreamTls;
use naru_tls::Connector;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What is read of a page behind its status, so that its server is not cut off in the middle of it.
const PAGE_BYTES_MAX: u64 = 64 * 1024;
const PAGE_PATIENCE: Duration = Duration::from_millis(100);
/// A longer answer of a health service is none.
const ANSWER_BYTES_MAX: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A page, whose certificate nobody looks at where it comes by TLS: as the kubelet asks.
    Http { path: String, headers: Vec<(String, String)>, is_tls: bool },
    /// Whether somebody takes the connection.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc { service: String },
}

/// Why somebody is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwell {
    /// There is no connection, or it breaks.
    Unreached(String),
    Status(u16),
    /// It says that it does not serve.
    NotServing,
    /// What it says is no answer to that.
    Foreign,
    /// It cannot be asked so.
    Unaskable,
}

impl fmt::Display for Unwell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unwell::Unreached(why) => f.write_str(why),
            Unwell::Status(status) => write!(f, "it answers {status}"),
            Unwell::NotServing => f.write_str("it says that it does not serve"),
            Unwell::Foreign => f.write_str("what it says is no answer"),
            Unwell::Unaskable => f.write_str("the path has spaces, or signs that no path has"),
        }
    }
}

impl From<io::Error> for Unwell {
    fn from(error: io::Error) -> Unwell {
        Unwell::Unreached(error.to_string())
    }
}

/// Asks at a name or an address. However long it takes.
///
/// # Errors
/// It is not well, or does not say that it is.
pub async fn ask(question: &Question, host: &str, port: u16) -> Result<(), Unwell> {
    if let Question::Http { path, .. } = question
        // Whoever wrote it may not write more of the head than this.
        && path.contains(|c: char| c.is_ascii_control() || c == ' ')
    {
        return Err(Unwell::Unaskable);
    }
    let stream = TcpStream::connect((host, port)).await?;
    let authority = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    match question {
        Question::Tcp => Ok(()),
        Question::Grpc { service } => grpc(stream, &authority, service).await,
        Question::Http { path, headers, is_tls: false } => http(stream, &authority, path, headers).await,
        Question::Http { path, headers, is_tls: true } => {
            let is_address = host.parse::<std::net::IpAddr>().is_ok();
            let tls = UpstreamTls { sni: (!is_address).then(|| host.to_owned()), ..UpstreamTls::default() };
            let connector =
                Connector::build(&tls).map_err(|invalid| Unwell::Unreached(invalid.to_string()))?;
            let stream = connector.connect(stream).await;
            let (stream, _) = stream.map_err(|error| Unwell::Unreached(error.to_string()))?;
            http(stream, &authority, path, headers).await
        }
    }
}

/// Kubernetes takes 200 to 399 for well.
async fn http<IO>(
    mut stream: IO,
    authority: &str,
    path: &str,
    headers: &[(String, String)],
) -> Result<(), Unwell>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut head = format!(
        "GET {slash}{path} HTTP/1.1\r\nuser-agent: naru-probe\r\naccept: */*\r\nconnection: close\r\n"
    );
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("host: {authority}\r\n"));
    }
    for (name, value) in headers {
        let is_clean = |text: &str| !text.contains(['\r', '\n']);
        if is_clean(name) && is_clean(value) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    // `HTTP/1.1 200`
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    let status = line.get(9..).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u16>().ok());
    let page = async { tokio::io::copy(&mut stream.take(PAGE_BYTES_MAX), &mut tokio::io::sink()).await };
    // What it says beside its status, and whether it says it well, is of no interest.
    let _ = tokio::time::timeout(PAGE_PATIENCE, page).await;
    match status.filter(|_| line.starts_with(b"HTTP/1.")) {
        None => Err(Unwell::Foreign),
        Some(200..400) => Ok(()),
        Some(status) => Err(Unwell::Status(status)),
    }
}

async fn grpc(stream: TcpStream, authority: &str, service: &str) -> Result<(), Unwell> {
    let broken = |error: h2::Error| Unwell::Unreached(error.to_string());
    let (client, connection) = h2::client::handshake(stream).await.map_err(broken)?;
    let connection = tokio::spawn(async move {
        // Its end is seen by the call.
        let _ = connection.await;
    });
    let answer = check(client, authority, service).await;
    connection.abort();
    match answer.map_err(broken)? {
        // `status: SERVING`
        answer if answer.get(5..) == Some(&[0x08, 0x01]) => Ok(()),
        answer if answer.get(5..).is_some_and(|status| status.starts_with(&[0x08]) || status.is_empty()) => {
            Err(Unwell::NotServing)
        }
        _ => Err(Unwell::Foreign),
    }
}

/// What it says, as it stands on the stream.
async fn check(
    client: h2::client::SendRequest<Bytes>,
    authority: &str,
    service: &str,
) -> Result<Vec<u8>, h2::Error> {
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::POST;
    // An authority that is none goes nowhere.
    *request.uri_mut() =
        format!("http://{authority}/grpc.health.v1.Health/Check").parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    headers.insert(http::header::TE, http::HeaderValue::from_static("trailers"));
    let mut client = client.ready().await?;
    let (response, mut body) = client.send_request(request, false)?;
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
    framed.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend(message);
    body.send_data(Bytes::from(framed), true)?;
    let mut stream = response.await?.into_body();
    let mut answer = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        answer.extend_from_slice(&data);
        // Credit for what was read; without it a long answer would stop, and this one is short.
        let _ = stream.flow_control().release_capacity(data.len());
        if answer.len() > ANSWER_BYTES_MAX {
            answer.clear();
            break;
        }
    }
    Ok(answer)
}
