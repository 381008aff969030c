//! `healthcheck` as a readiness probe.

use naru_doc::tree::{Kind, Node};

use super::amount;
use super::said::{Reader, literal, plain, words};
use crate::field;
use crate::notes::code;
use crate::yaml::Map;

/// compose's defaults.
const INTERVAL_S: u32 = 30;
const TIMEOUT_S: u32 = 30;
const RETRIES: u32 = 3;

pub(super) fn probe(service: &Node, reader: &mut Reader<'_, '_>) -> Option<Map> {
    let check = field(service, "healthcheck")?;
    if matches!(field(check, "disable").map(|node| &node.kind), Some(Kind::Bool(true))) {
        return None;
    }
    let Some(test) = field(check, "test") else {
        let message = "a health check without 'test' is its image's".to_owned();
        reader.warning(code::NOT_CARRIED_OVER, check.position, "healthcheck", message, "say 'test'");
        return None;
    };
    let how = match command(test, reader)? {
        Command::None => return None,
        Command::Shell(line) => match get(&words(&line)) {
            Some(get) => get.to_map(),
            None => exec(&["/bin/sh".to_owned(), "-c".to_owned(), line]),
        },
        Command::Words(list) => match get(&list) {
            Some(get) => get.to_map(),
            None => exec(&list),
        },
    };
    let mut seconds = |name: &str, default: u32| {
        let path = format!("healthcheck.{name}");
        field(check, name).and_then(|node| amount::seconds(node, &path, reader)).unwrap_or(default).max(1)
    };
    let (period, timeout) = (seconds("interval", INTERVAL_S), seconds("timeout", TIMEOUT_S));
    let start = field(check, "start_period").is_some().then(|| seconds("start_period", 1));
    let retries = field(check, "retries").and_then(|node| amount::count(node, "healthcheck.retries", reader));
    let message = "a container that fails its health check gets no requests until it is well".to_owned();
    let hint = "compose only says that it is unhealthy";
    reader.note(code::DIFFERS, check.position, "healthcheck", message, hint);
    let times = Map::new()
        .with_some("initialDelaySeconds", start)
        .with("periodSeconds", period)
        .with("timeoutSeconds", timeout)
        .with("failureThreshold", retries.unwrap_or(RETRIES).max(1));
    Some(how.and(times))
}

/// The port that a health check asks by HTTP.
pub(super) fn port(service: &Node) -> Option<u16> {
    let words = match &field(field(service, "healthcheck")?, "test")?.kind {
        Kind::Text(line) => words(line),
        Kind::List(items) => {
            let mut list: Vec<String> = items.iter().filter_map(plain).collect();
            if list.is_empty() {
                return None;
            }
            match list.remove(0).as_str() {
                "CMD-SHELL" => words(list.first()?),
                _ => list,
            }
        }
        _ => return None,
    };
    get(&words).map(|get| get.port)
}

enum Command {
    None,
    Shell(String),
    Words(Vec<String>),
}

fn command(test: &Node, reader: &mut Reader<'_, '_>) -> Option<Command> {
    let Kind::List(items) = &test.kind else {
        return reader.text(test, "healthcheck.test").map(Command::Shell);
    };
    let mut list: Vec<String> =
        items.iter().filter_map(|item| reader.text(item, "healthcheck.test")).collect();
    let first = if list.is_empty() { String::new() } else { list.remove(0) };
    match (first.as_str(), list.first()) {
        ("NONE", _) => Some(Command::None),
        ("CMD-SHELL", Some(line)) => Some(Command::Shell(line.clone())),
        ("CMD", Some(_)) => Some(Command::Words(list)),
        _ => {
            let message = "the test begins with none of CMD, CMD-SHELL and NONE: it is left out".to_owned();
            reader.warning(code::NOT_CARRIED_OVER, test.position, "healthcheck.test", message, "");
            None
        }
    }
}

fn exec(command: &[String]) -> Map {
    let command: Vec<String> = command.iter().map(|word| literal(word)).collect();
    Map::new().with("exec", Map::new().with("command", command))
}

/// A request of one's own machine.
struct Get {
    path: String,
    port: u16,
    is_tls: bool,
}

impl Get {
    fn to_map(&self) -> Map {
        let get = Map::new().with("path", self.path.as_str()).with("port", self.port);
        Map::new().with("httpGet", get.with_some("scheme", self.is_tls.then_some("HTTPS")))
    }
}

/// `curl -f http://localhost:8080/health || exit 1`, and so with wget.
fn get(words: &[String]) -> Option<Get> {
    /// Ways to be quiet, to fail on an error, to throw the body away, to give up.
    const FLAGS: &[&str] = &[
        "-f",
        "-s",
        "-S",
        "-sf",
        "-fs",
        "-fsS",
        "-sS",
        "-sSf",
        "-fSs",
        "-k",
        "-L",
        "-q",
        "-qO-",
        "-O-",
        "-O",
        "-o",
        "-nv",
        "-",
        "/dev/null",
        "--fail",
        "--silent",
        "--show-error",
        "--spider",
        "--quiet",
        "--no-verbose",
        "--tries=1",
        "--output",
        "--output-document=-",
    ];
    let (program, rest) = words.split_first()?;
    if !["curl", "wget"].contains(&program.rsplit('/').next()?) {
        return None;
    }
    let end = rest.iter().position(|word| word == "||").unwrap_or(rest.len());
    let (rest, fallback) = rest.split_at(end);
    if !matches!(fallback, [] | [_, _, _]) || fallback.get(1).is_some_and(|word| word != "exit") {
        return None;
    }
    let mut url = None;
    for word in rest {
        if word.contains("://") || word.starts_with("localhost") {
            if url.replace(word).is_some() {
                return None;
            }
        } else if !FLAGS.contains(&word.as_str()) {
            return None;
        }
    }
    let url = url?;
    let (is_tls, rest) = match url.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(_) => return None,
        None => (false, url.as_str()),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], &rest[at..]),
        None => (rest, "/"),
    };
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
        None => (authority, if is_tls { 443 } else { 80 }),
    };
    let is_own = ["localhost", "127.0.0.1", "0.0.0.0"].contains(&host);
    is_own.then(|| Get { path: path.to_owned(), port, is_tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_ones_own_machine_is_a_probe_by_http() {
        let check = |line: &str, expected: Option<(&str, u16)>| {
            let found = get(&words(line));
            assert_eq!(found.as_ref().map(|get| (get.path.as_str(), get.port)), expected, "{line}");
        };
        check("curl -f http://localhost:8080/health || exit 1", Some(("/health", 8080)));
        check("wget -q --spider http://127.0.0.1/ ", Some(("/", 80)));
        check("curl --fail https://localhost", Some(("/", 443)));
        check("curl -f http://other:8080/", None);
        check("curl -X POST http://localhost/", None);
        check("curl -f http://localhost/ | grep ok", None);
        check("curl -f http://localhost/ || kill 1", None);
        check("pg_isready -U postgres", None);
        check("curl http://localhost:0/", None);
        check("", None);
    }
}
