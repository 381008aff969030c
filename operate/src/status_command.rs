//! `naru status`: what a control plane says of its proxies.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::Request;
use http_body::Body as _;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::cli::{Failure, Output, StatusArgs};
use crate::say::say;

const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(args: &StatusArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async { tokio::time::timeout(PATIENCE, ask(args.admin)).await? };
    let status = runtime.block_on(asked).with_context(|| {
        format!("no control plane answers on http://{}; say where it is with --admin", args.admin)
    })?;
    match args.output {
        Output::Json => say(&format!("{status:#}\n"))?,
        Output::Text => say(&text(&status))?,
    }
    Ok(())
}

async fn ask(admin: SocketAddr) -> anyhow::Result<Value> {
    let stream = tokio::net::TcpStream::connect(admin).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/proxies").header("host", admin.to_string()).body(String::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "it knows of no proxies ({})", response.status());
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(serde_json::from_slice(&bytes)?)
}

/// A paragraph for each proxy: a line of what it is, and one for each kind.
fn text(status: &Value) -> String {
    let mut out = String::new();
    let ago =
        |value: &Value| value.as_f64().map_or("never".to_owned(), |seconds| format!("{} ago", span(seconds)));
    let _ = writeln!(out, "{} changes, the last {}", status["changes"], ago(&status["changed_seconds_ago"]));
    if let Some(line) = of_source(&status["source"]) {
        let _ = writeln!(out, "{line}");
    }
    let proxies = status["proxies"].as_array().map_or(&[][..], Vec::as_slice);
    for proxy in proxies {
        let _ = writeln!(
            out,
            "\n{}: {} ({} {}, {}, {}), {} for {}, {} sent",
            word(&proxy["id"]),
            word(&proxy["state"]),
            word(&proxy["role"]),
            word(&proxy["namespace"]),
            word(&proxy["agent"]),
            word(&proxy["mode"]),
            word(&proxy["peer"]),
            span(proxy["connected_seconds"].as_f64().unwrap_or(0.0)),
            size(proxy["bytes_sent"].as_f64().unwrap_or(0.0)),
        );
        for kind in proxy["resources"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "  {}", line(kind));
        }
        if let Some(why) = proxy["held_back"].as_str() {
            let _ = writeln!(out, "  held back: {why}");
        }
        for lost in proxy["left_out"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "  left out: {}", word(lost));
        }
    }
    if proxies.is_empty() {
        out.push_str("\nno proxy is connected\n");
    }
    let gone = status["gone"].as_array().map_or(&[][..], Vec::as_slice);
    for gone in gone {
        let _ = writeln!(
            out,
            "\n{} {} is gone ({}): {}",
            word(&gone["id"]),
            word(&gone["peer"]),
            ago(&gone["seconds_ago"]),
            word(&gone["why"])
        );
    }
    out
}

/// Where documents come from, where that is more than a directory, or more than well.
fn of_source(source: &Value) -> Option<String> {
    let mut line = format!("documents of {}", word(source.get("name")?));
    if let Some(revision) = source["revision"].as_i64() {
        let _ = write!(line, ", revision {revision}");
    }
    if let Some(endpoint) = source["endpoint"].as_str() {
        let _ = write!(line, ", from {}", endpoint.escape_debug());
    }
    if source["is_from_disk"] == true {
        line.push_str(", as they were kept on disk");
    }
    for (field, words) in [("refused", "what is there now is not in force"), ("trouble", "not read now")] {
        if let Some(why) = source[field].as_str() {
            let _ = write!(line, "; {words}: {}", why.escape_debug());
        }
    }
    Some(line)
}

fn line(kind: &Value) -> String {
    let mut line = format!("{:<14}", word(&kind["kind"]));
    let there = &kind["there"];
    let _ = match kind["subscribed"].as_u64() {
        Some(wanted) => write!(line, "{there} of {wanted} asked for"),
        None => write!(line, "{there}, all"),
    };
    let accepted = &kind["accepted"];
    match accepted["seconds_ago"].as_f64() {
        Some(seconds) => {
            let _ = write!(line, ", accepted {} ago ({})", span(seconds), word(&accepted["version"]));
        }
        None => line.push_str(", none accepted"),
    }
    if let Some(seconds) = kind["unanswered_seconds"].as_f64() {
        let _ = write!(line, ", no answer for {}", span(seconds));
    }
    if let Some(reason) = kind["refused"]["reason"].as_str() {
        let seconds = kind["refused"]["seconds_ago"].as_f64().unwrap_or(0.0);
        let _ = write!(line, ", refused {} ago: {}", span(seconds), reason.escape_debug());
    }
    line
}

fn word(value: &Value) -> String {
    // What a proxy says of itself is shown, not obeyed.
    value.as_str().map_or_else(|| value.to_string(), |text| text.escape_debug().to_string())
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1}s"),
        s if s < 7_200.0 => format!("{:.0}m", s / 60.0),
        s => format!("{:.0}h", s / 3_600.0),
    }
}

fn size(bytes: f64) -> String {
    match bytes {
        b if b < 2_048.0 => format!("{b:.0} B"),
        b if b < 2_097_152.0 => format!("{:.0} KiB", b / 1_024.0),
        b => format!("{:.1} MiB", b / 1_048_576.0),
    }
}
