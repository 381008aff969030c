//! `naru status`: what a control plane says of its proxies.

use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::{Request, Uri};
use http_body::Body as _;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::cli::{Failure, Output, StatusArgs};
use crate::say::say;

const PATIENCE: Duration = Duration::from_secs(10);
/// Where none is said.
const CONTROL_ADMIN_PORT: u16 = 15_014;

pub fn run(args: &StatusArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let admin = address(&args.admin)?;
    let asked = async { tokio::time::timeout(PATIENCE, ask(admin)).await? };
    let status = runtime.block_on(asked).with_context(|| {
        format!("no control plane answers on http://{admin}; say where it is with --admin")
    })?;
    match args.output {
        Output::Json => say(&format!("{status:#}\n"))?,
        Output::Text => say(&text(&status))?,
    }
    Ok(())
}

/// Of `127.0.0.1:15014`, of `http://localhost:15014/`.
fn address(admin: &Uri) -> anyhow::Result<SocketAddr> {
    let is_plain = admin.scheme_str().is_none_or(|scheme| scheme == "http");
    let authority = admin.authority().filter(|_| is_plain);
    let authority =
        authority.with_context(|| format!("'{admin}' is no admin interface: write 127.0.0.1:15014"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(CONTROL_ADMIN_PORT);
    let found = (host, port).to_socket_addrs().ok().and_then(|mut found| found.next());
    found.with_context(|| format!("'{host}' has no address"))
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
    if let Some(error) = status["source"]["error"].as_str() {
        let seconds = ago(&status["source"]["seconds_ago"]);
        let name = word(&status["source"]["name"]);
        let _ = writeln!(out, "'{name}' cannot be, {seconds}: {}", shown(error));
        out.push_str("  what was there before goes on\n");
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
            let _ = writeln!(out, "  held back: {}", shown(why));
        }
        for lost in proxy["left_out"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "  left out: {}", word(lost));
        }
    }
    if proxies.is_empty() {
        out.push_str("\nno proxy is connected\n");
    }
    for (at, member) in status["members"].as_array().into_iter().flatten().enumerate() {
        let _ = writeln!(out, "{}{}", if at == 0 { "\n" } else { "" }, of_member(member));
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

/// Somebody who has joined a group.
fn of_member(member: &Value) -> String {
    let mut line = format!(
        "{}: member of {}/{} at {}, ",
        word(&member["name"]),
        word(&member["namespace"]),
        word(&member["group"]),
        word(&member["address"]),
    );
    line.push_str(if member["is_ready"] == true { "ready" } else { "not ready" });
    if let Some(why) = member["why"].as_str() {
        let _ = write!(line, " ({})", shown(why));
    }
    let ids: Vec<String> = member["connected"].as_array().into_iter().flatten().map(word).collect();
    let _ = match member["leaves_in_seconds"].as_f64() {
        Some(seconds) => write!(line, ", leaving in {}", span(seconds)),
        None if ids.is_empty() => write!(line, ", connected to another control plane"),
        None => write!(line, ", connected as {}", ids.join(", ")),
    };
    line
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
    if let Some(why) = source["trouble"].as_str() {
        let _ = write!(line, "; not read now: {}", shown(why));
    }
    Some(line)
}

fn line(kind: &Value) -> String {
    let mut line = format!("{:<14}", word(&kind["kind"]));
    let there = &kind["there"];
    let _ = match kind["subscribed"].as_u64() {
        Some(0) => write!(line, "{there}, none asked for"),
        Some(wanted) if there.as_u64().is_some_and(|there| wanted > there) => {
            write!(line, "{wanted} asked for, {there} there")
        }
        Some(wanted) => write!(line, "{wanted} of {there} asked for"),
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
        let _ = write!(line, ", refused {} ago: {}", span(seconds), shown(reason));
    }
    line
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), shown)
}

/// What a proxy says of itself is shown in one line, and not obeyed.
fn shown(text: &str) -> String {
    let mut out = String::new();
    for char in text.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match char {
            '\'' | '"' | '\\' => out.push(char),
            other => out.extend(other.escape_debug()),
        }
    }
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_stands_in_one_line_and_moves_no_cursor() {
        assert_eq!(shown("rules[0]: 'a' is\n  wrong: \"b\" \\d"), "rules[0]: 'a' is wrong: \"b\" \\d");
        assert_eq!(shown("\u{1b}[31mred"), "\\u{1b}[31mred");
        assert_eq!(shown("나루"), "나루");
    }

    #[test]
    fn an_admin_interface_is_an_address_or_a_url() {
        let of = |text: &str| address(&text.parse().unwrap()).ok().map(|found| found.to_string());
        for text in
            ["127.0.0.1:15014", "http://127.0.0.1:15014", "http://127.0.0.1:15014/", "http://127.0.0.1"]
        {
            assert_eq!(of(text).as_deref(), Some("127.0.0.1:15014"), "{text}");
        }
        assert_eq!(of("http://[::1]:7").as_deref(), Some("[::1]:7"));
        assert_eq!(of("https://127.0.0.1:15014"), None);
        assert_eq!(of("/proxies"), None);
    }

    #[test]
    fn what_is_there_and_what_is_asked_for_are_told_apart() {
        let of = |there: u64, wanted: Value| {
            line(&serde_json::json!({ "kind": "endpoints", "there": there, "subscribed": wanted }))
        };
        assert_eq!(of(1, 0.into()), "endpoints     1, none asked for, none accepted");
        assert_eq!(of(5, 4.into()), "endpoints     4 of 5 asked for, none accepted");
        assert_eq!(of(0, 1.into()), "endpoints     1 asked for, 0 there, none accepted");
        assert_eq!(of(6, "all".into()), "endpoints     6, all, none accepted");
    }

    #[test]
    fn a_directory_that_cannot_be_is_told() {
        let status = serde_json::json!({
            "changes": 3, "changed_seconds_ago": 12.0, "proxies": [], "gone": [],
            "source": { "name": "shop", "error": "shop/a.yaml:3:5: 'x' is\nnot known", "seconds_ago": 1.5 },
        });
        assert_eq!(
            text(&status),
            "3 changes, the last 12.0s ago\ndocuments of shop\n'shop' cannot be, 1.5s ago: shop/a.yaml:3:5: 'x' is not known\n  \
             what was there before goes on\n\nno proxy is connected\n"
        );
    }
}
