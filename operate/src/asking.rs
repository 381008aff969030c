//! What is a naru that runs asked by its admin interface, and what does it answer?
//!
//! The pages put questions to whoever runs everything (`up_command`), who answers between two changes; the commands
//! (`naru explain --admin`, `naru config`, `naru sessions`) ask the pages.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use http::{Method, Response, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::admin::{Query, Whole, json as json_page, text};
use crate::cli::{ExplainArgs, Failure, Output};
use crate::explain_command::Question;
use crate::say::say;

/// How long an answer may take: a compilation of a large configuration is among it.
const PATIENCE: Duration = Duration::from_secs(60);
/// An answer that is larger is none of ours.
const ANSWER_BYTES_MAX: u64 = 512 << 20;

/// Where questions are put.
pub type Desk = mpsc::UnboundedSender<Asked>;

/// A question, and where its answer goes.
pub struct Asked {
    pub what: What,
    pub reply: oneshot::Sender<Result<Value, Refusal>>,
}

pub enum What {
    History,
    Show(u64),
    Rollback(u64),
    /// Documents, each with its name.
    Apply(Vec<(String, String)>),
    /// The same, to be told what it would do, and not done.
    Try(Vec<(String, String)>),
    Explain(Box<Question>),
    /// The last request with this id.
    ExplainId(String),
}

/// Why there is no answer.
pub struct Refusal(pub StatusCode, pub String);

/// Puts a question, and answers what is answered.
pub async fn put(desk: Option<&Desk>, what: What) -> Response<Whole> {
    let Some(desk) = desk else {
        return text(StatusCode::NOT_FOUND, "only 'naru up' answers this\n");
    };
    let (reply, answer) = oneshot::channel();
    if desk.send(Asked { what, reply }).is_err() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "it is ending\n");
    }
    match answer.await {
        Ok(Ok(value)) => json_page(&value),
        Ok(Err(Refusal(status, why))) => text(status, format!("{}\n", why.trim_end())),
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "it is ending\n"),
    }
}

/// The question of a page.
pub fn question(path: &str, query: &Query<'_>) -> Result<What, String> {
    let number = || {
        let number = query.get("version").and_then(|number| number.parse().ok());
        number.ok_or_else(|| "say ?version=N\n".to_owned())
    };
    match path {
        "/config/history" => Ok(What::History),
        "/config/show" => Ok(What::Show(number()?)),
        "/config/rollback" => Ok(What::Rollback(number()?)),
        _ => explained(query),
    }
}

fn explained(query: &Query<'_>) -> Result<What, String> {
    if let Some(id) = query.get("id") {
        return Ok(What::ExplainId(decode(id)));
    }
    let url = query.get("url").map(decode).ok_or("say ?url=http://HOST:PORT/PATH, or ?id=X-REQUEST-ID\n")?;
    let url: Uri = url.parse().map_err(|_| format!("'{url}' is no URL\n"))?;
    let method = query.get("method").map_or_else(|| "GET".to_owned(), decode);
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("'{method}' is no method\n"))?;
    let source = match query.get("source").map(decode) {
        None => std::net::Ipv4Addr::LOCALHOST.into(),
        Some(text) => text.parse().map_err(|_| format!("'{text}' is no address\n"))?,
    };
    let headers = query.all("header").map(decode).collect();
    let from = query.get("from").map(|name| {
        let name = decode(name);
        let (namespace, short) = name.split_once('/').unwrap_or(("default", &name));
        format!("outbound/{short}.{namespace}")
    });
    Ok(What::Explain(Box::new(Question {
        method,
        url,
        headers,
        source,
        port: None,
        from,
        is_recorded: false,
        asker: None,
    })))
}

/// `%XX` becomes its byte.
pub fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        if byte == b'%' {
            let mut ahead = bytes.clone();
            if let (Some(high), Some(low)) = (digit(ahead.next()), digit(ahead.next())) {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                bytes = ahead;
                continue;
            }
        }
        out.push(byte);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// As a value of a query.
pub fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// `naru explain --admin`.
pub fn explain(admin: &Uri, args: &ExplainArgs) -> Result<(), Failure> {
    let mut page = "/explain?".to_owned();
    match (&args.id, &args.method, &args.url) {
        (Some(id), ..) => page.push_str(&format!("id={}", encode(id))),
        (None, Some(method), Some(url)) => {
            page.push_str(&format!("method={}&url={}", encode(method.as_str()), encode(&url.to_string())));
            for header in &args.headers {
                page.push_str(&format!("&header={}", encode(header)));
            }
            page.push_str(&format!("&source={}", encode(&args.source.to_string())));
            if let Some(from) = &args.from {
                page.push_str(&format!("&from={}", encode(from)));
            }
        }
        _ => return Err(anyhow!("say the request, or --id").into()),
    }
    let answer = ask(admin, &Method::GET, &page, &[])?;
    Ok(match args.output {
        Output::Json => say(&format!("{answer}\n")),
        Output::Text => say(answer.get("text").and_then(Value::as_str).unwrap_or("")),
    }?)
}

/// Asks a page for an object.
pub fn ask(admin: &Uri, method: &Method, page: &str, body: &[u8]) -> anyhow::Result<Value> {
    let authority = admin
        .authority()
        .with_context(|| format!("'{admin}' is no admin interface: write http://127.0.0.1:15000"))?;
    if admin.scheme_str().is_some_and(|scheme| scheme != "http") {
        bail!("the admin interface speaks http");
    }
    let port = authority.port_u16().unwrap_or(15_000);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let address =
        (host, port).to_socket_addrs()?.next().with_context(|| format!("'{host}' has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .with_context(|| format!("nobody answers at {authority}: does 'naru up' run?"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {page} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").context("the answer is no HTTP")?;
    let (head, body) = answer.split_at(end + 4);
    let head = String::from_utf8_lossy(head);
    let status = head.split(' ').nth(1).unwrap_or("");
    let body = String::from_utf8_lossy(body);
    if status != "200" {
        bail!("{}", body.trim_end());
    }
    serde_json::from_str(&body).context("the answer is no JSON")
}

/// The documents of a batch, as they are sent.
pub fn batch(files: &[(String, String)]) -> Vec<u8> {
    let files: Vec<Value> = files.iter().map(|(name, text)| json!({ "name": name, "text": text })).collect();
    json!({ "files": files }).to_string().into_bytes()
}

/// As it comes in.
pub fn of_batch(body: &[u8]) -> Option<Vec<(String, String)>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let files =
        value.get("files")?.as_array()?.iter().map(|file| {
            Some((file.get("name")?.as_str()?.to_owned(), file.get("text")?.as_str()?.to_owned()))
        });
    files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for text in ["", "GET", "http://a/b?c=d&e=%20f", "end-user: 나루 +", "%", "%4", "%zz"] {
            assert_eq!(decode(&encode(text)), text, "{text}");
        }
        assert_eq!(decode("%zz%41%4"), "%zzA%4");
    }

    #[test]
    fn a_batch_is_read_as_it_is_written() {
        let files = vec![("a.yaml".to_owned(), "x: \"1\"\n".to_owned())];
        assert_eq!(of_batch(&batch(&files)), Some(files));
        assert_eq!(of_batch(b"{\"files\":[{\"name\":1}]}"), None);
    }
}
