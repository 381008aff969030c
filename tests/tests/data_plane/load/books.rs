//! What clients saw, what naru's access log says and what upstreams have read must agree, request for request.

use std::collections::BTreeMap;
use std::path::Path;

use naru_tests::journal::Journal;
use serde_json::Value;

use super::ledger::{Entry, Ledger, Seen};
use super::{Kind, is_safe};

/// The fields of a line, of HTTP and of TCP.
pub const FIELDS: &str = "number: \"%REQ(X-NUMBER)%\"\nreason: \"%REASON%\"\nstatus: \"%RESPONSE_CODE%\"\n\
                          attempts: \"%UPSTREAM_REQUEST_ATTEMPT_COUNT%\"\nprotocol: \"%PROTOCOL%\"\n\
                          peer: \"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%\"\nduration: \"%DURATION%\"\n\
                          sent: \"%BYTES_SENT%\"\nflags: \"%RESPONSE_FLAGS%\"\nhost: \"%UPSTREAM_HOST%\"\n";

/// What naru says of one request or connection.
#[derive(Clone)]
struct Line {
    reason: String,
    status: u64,
    attempts: u64,
    text: String,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Line {
    fn is_forwarded(&self) -> bool {
        self.reason == "Forwarded"
    }
}

#[derive(Debug, Default)]
pub struct Log {
    numbered: BTreeMap<u64, Vec<Line>>,
    /// Of connections of TCP, by their client's port.
    by_port: BTreeMap<u16, Vec<Line>>,
    /// Of what could not be read.
    unread: Vec<Line>,
}

impl Log {
    pub fn read(path: &Path) -> Log {
        let mut log = Log::default();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is not whole");
        for text in text.lines() {
            let value: Value =
                serde_json::from_str(text).unwrap_or_else(|error| panic!("a torn line: {error}: {text}"));
            let line = Line {
                reason: value["reason"].as_str().unwrap().to_owned(),
                status: value["status"].as_u64().unwrap_or(0),
                attempts: value["attempts"].as_u64().unwrap_or(0),
                text: text.to_owned(),
            };
            if let Some(number) = value["number"].as_str() {
                log.numbered.entry(number.parse().unwrap()).or_default().push(line);
            } else if value["protocol"].is_null() {
                let peer: std::net::SocketAddr = value["peer"].as_str().unwrap().parse().unwrap();
                log.by_port.entry(peer.port()).or_default().push(line);
            } else {
                log.unread.push(line);
            }
        }
        log
    }

    /// How many lines say what.
    pub fn reasons(&self) -> BTreeMap<&str, u64> {
        let mut reasons = BTreeMap::new();
        let lines = self.numbered.values().chain(self.by_port.values()).flatten().chain(&self.unread);
        for line in lines {
            *reasons.entry(line.reason.as_str()).or_default() += 1;
        }
        reasons
    }
}

/// What does not agree, in words; nothing where the ledger balances.
pub fn differences(ledger: &Ledger, log: &Log, journal: &Journal) -> Vec<String> {
    let entries = ledger.entries();
    let mut wrong = ledger.faults();
    let mut ports: BTreeMap<u16, Vec<&Entry>> = BTreeMap::new();
    let mut unheard = 0;
    for (number, entry) in (0..).zip(&entries) {
        let lines = log.numbered.get(&number).map_or(&[][..], Vec::as_slice);
        if entry.kind == Kind::Bytes {
            // One that was not connected to has no port.
            entry.port.iter().for_each(|port| ports.entry(*port).or_default().push(entry));
        } else if let Err(why) = is_balanced(number, entry, lines, journal, &mut unheard) {
            wrong.push(format!("{number}: {why}: {entry:?}, {lines:?}"));
        }
        let times = journal.read(number).times;
        if times > 1 && !is_safe(entry.kind, number) {
            wrong.push(format!("{number} may have acted {times} times: {entry:?}, {lines:?}"));
        }
    }
    wrong.extend(of_ports(&ports, log));
    for number in log.numbered.keys().filter(|number| **number >= entries.len() as u64) {
        wrong.push(format!("a line of {number}, which nobody sent"));
    }
    // What cannot be read was begun by somebody, and broken in the middle.
    if log.unread.len() > unheard {
        wrong.push(format!(
            "{} lines without a number, {unheard} requests: {:?}",
            log.unread.len(),
            log.unread
        ));
    }
    wrong
}

fn is_balanced(
    number: u64,
    entry: &Entry,
    lines: &[Line],
    journal: &Journal,
    unheard: &mut usize,
) -> Result<(), &'static str> {
    let read = journal.read(number).times;
    let (Some(seen), [] | [_]) = (&entry.seen, lines) else {
        return Err(if lines.len() > 1 { "two lines" } else { "it never ended" });
    };
    let line = match (lines.first(), seen) {
        (Some(line), _) => line,
        (None, _) if read > 0 => return Err("an upstream has read it, and no line says so"),
        (None, Seen::Disclaimed) => return Ok(()),
        // What came of the head was not enough to know its number.
        (None, Seen::Broken(_) | Seen::Refused(400 | 408)) if entry.is_relayed => {
            *unheard += 1;
            return Ok(());
        }
        (None, _) => return Err("no line"),
    };
    // Peers that others have written keep no journal. A retry may be replayed once, on a connection that was gone.
    if entry.kind != Kind::Grpc && u64::from(read) > 2 * line.attempts {
        return Err("more has reached upstreams than naru says");
    }
    match seen {
        Seen::Wrong(_) => Err("a wrong answer"),
        Seen::Disclaimed => Err("naru says that it has not looked at it, and has"),
        Seen::Answered if !line.is_forwarded() => Err("answered, and the log says otherwise"),
        Seen::Answered if read == 0 && entry.kind != Kind::Grpc => {
            Err("answered, and no upstream has read it")
        }
        Seen::Answered => Ok(()),
        Seen::Refused(status) if line.is_forwarded() || line.status != u64::from(*status) => {
            Err("refused otherwise than the log says")
        }
        Seen::Refused(_) => Ok(()),
        // Where bytes are passed through an upstream that is killed ends in good order, for all that naru can see.
        Seen::Broken(_) if line.is_forwarded() && !entry.is_relayed && entry.kind != Kind::Chats => {
            Err("broken off, and the log says that it went through")
        }
        Seen::Broken(_) => Ok(()),
    }
}

/// Ports come again: what is compared of each is how often.
fn of_ports(ports: &BTreeMap<u16, Vec<&Entry>>, log: &Log) -> Vec<String> {
    let mut wrong = Vec::new();
    let all: std::collections::BTreeSet<u16> = ports.keys().chain(log.by_port.keys()).copied().collect();
    for port in all {
        let entries = ports.get(&port).map_or(&[][..], Vec::as_slice);
        let lines = log.by_port.get(&port).map_or(&[][..], Vec::as_slice);
        let whole = entries.iter().filter(|entry| entry.seen == Some(Seen::Answered)).count();
        let forwarded = lines.iter().filter(|line| line.is_forwarded()).count();
        if entries.len() != lines.len() || whole > forwarded {
            wrong.push(format!("connections of TCP from port {port}: {entries:?}, {lines:?}"));
        }
    }
    wrong
}
