//! What two processes say to each other: a packet of JSON each, with sockets beside it.
//!
//! The other side is another version of this program, perhaps a broken one: every packet names the version of these
//! words, has a length that is checked, and is refused where anything in it is not as it should be.

use std::fmt;
use std::net::SocketAddr;

use serde_json::{Value, json};

/// Of the words in this file. Another number is another language.
pub const VERSION: u64 = 1;
/// A packet that is longer is none.
pub const BYTES_MAX: usize = 64 * 1024;
/// With one packet. The kernel takes 253.
pub const SOCKETS_MAX: usize = 64;
/// In one takeover.
pub const SOCKETS_TOTAL_MAX: usize = 16_384;
/// So many processes before this one are told of.
const PROCESSES_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Somebody wants to take over.
    Ask { version: String },
    /// Sockets of a listener come with it; those of one listener may come in several packets.
    Listener { id: u64, name: String, wanted: SocketAddr, address: SocketAddr, is_kept: bool },
    /// The socket of the admin interface comes with it.
    Admin { address: SocketAddr },
    /// That was all.
    Complete { sockets: u64 },
    /// The new process accepts from all listeners but these.
    Serving { left: Vec<u64>, has_admin: bool },
    /// The old process accepts no more.
    Draining,
    /// Processes that are not done yet: the old one, and those before it.
    Status(Vec<Draining>),
    /// The old process goes on, and nothing comes of this.
    Refused { why: String },
}

/// A process that finishes what has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    pub version: String,
    pub connections: u64,
    pub requests: u64,
}

/// Why a packet is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    Version(u64),
    Malformed(&'static str),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Version(theirs) => {
                write!(f, "it speaks version {theirs} of the takeover, this process version {VERSION}")
            }
            Unreadable::Malformed(what) => write!(f, "what it says is no takeover: {what}"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl Packet {
    pub fn encode(&self) -> Vec<u8> {
        let mut value = match self {
            Packet::Ask { version } => json!({ "kind": "ask", "version": version }),
            Packet::Listener { id, name, wanted, address, is_kept } => json!({
                "kind": "listener", "id": id, "name": name,
                "wanted": wanted.to_string(), "address": address.to_string(), "kept": is_kept,
            }),
            Packet::Admin { address } => json!({ "kind": "admin", "address": address.to_string() }),
            Packet::Complete { sockets } => json!({ "kind": "complete", "sockets": sockets }),
            Packet::Serving { left, has_admin } => {
                json!({ "kind": "serving", "left": left, "admin": has_admin })
            }
            Packet::Draining => json!({ "kind": "draining" }),
            Packet::Status(processes) => {
                let processes: Vec<Value> =
                    processes.iter().take(PROCESSES_MAX).map(Draining::encode).collect();
                json!({ "kind": "status", "processes": processes })
            }
            Packet::Refused { why } => json!({ "kind": "refused", "why": why }),
        };
        if let Some(fields) = value.as_object_mut() {
            fields.insert("takeover".to_owned(), VERSION.into());
        }
        value.to_string().into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Packet, Unreadable> {
        if bytes.len() > BYTES_MAX {
            return Err(Unreadable::Malformed("a packet is too long"));
        }
        let value: Value =
            serde_json::from_slice(bytes).map_err(|_| Unreadable::Malformed("a packet is no JSON"))?;
        match number(&value, "takeover")? {
            VERSION => {}
            theirs => return Err(Unreadable::Version(theirs)),
        }
        match text(&value, "kind")?.as_str() {
            "ask" => Ok(Packet::Ask { version: text(&value, "version")? }),
            "listener" => Ok(Packet::Listener {
                id: number(&value, "id")?,
                name: text(&value, "name")?,
                wanted: address(&value, "wanted")?,
                address: address(&value, "address")?,
                is_kept: value.get("kept").and_then(Value::as_bool).unwrap_or_default(),
            }),
            "admin" => Ok(Packet::Admin { address: address(&value, "address")? }),
            "complete" => Ok(Packet::Complete { sockets: number(&value, "sockets")? }),
            "serving" => {
                let left = list(&value, "left")?.iter().map(Value::as_u64).collect::<Option<_>>();
                Ok(Packet::Serving {
                    left: left.ok_or(Unreadable::Malformed("a listener has no number"))?,
                    has_admin: value.get("admin").and_then(Value::as_bool).unwrap_or_default(),
                })
            }
            "draining" => Ok(Packet::Draining),
            "status" => {
                let processes = list(&value, "processes")?.iter().take(PROCESSES_MAX);
                Ok(Packet::Status(processes.map(Draining::decode).collect::<Result<_, _>>()?))
            }
            "refused" => Ok(Packet::Refused { why: text(&value, "why")? }),
            _ => Err(Unreadable::Malformed("a packet is of an unknown kind")),
        }
    }
}

impl Draining {
    fn encode(&self) -> Value {
        json!({ "version": self.version, "connections": self.connections, "requests": self.requests })
    }

    fn decode(value: &Value) -> Result<Draining, Unreadable> {
        Ok(Draining {
            version: text(value, "version")?,
            connections: number(value, "connections")?,
            requests: number(value, "requests")?,
        })
    }
}

fn text(value: &Value, field: &str) -> Result<String, Unreadable> {
    let found = value.get(field).and_then(Value::as_str);
    found.map(str::to_owned).ok_or(Unreadable::Malformed("a text is missing"))
}

fn number(value: &Value, field: &str) -> Result<u64, Unreadable> {
    value.get(field).and_then(Value::as_u64).ok_or(Unreadable::Malformed("a number is missing"))
}

fn list<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>, Unreadable> {
    value.get(field).and_then(Value::as_array).ok_or(Unreadable::Malformed("a list is missing"))
}

fn address(value: &Value, field: &str) -> Result<SocketAddr, Unreadable> {
    text(value, field)?.parse().map_err(|_| Unreadable::Malformed("an address is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Packet> {
        let (four, six) = (([127, 0, 0, 1], 80).into(), "[::1]:443".parse().unwrap());
        let draining = Draining { version: "1.2.3".to_owned(), connections: 4, requests: u64::MAX };
        vec![
            Packet::Ask { version: "0.1.0".to_owned() },
            Packet::Listener {
                id: 3,
                name: "a \"b\" \n".to_owned(),
                wanted: four,
                address: six,
                is_kept: true,
            },
            Packet::Admin { address: six },
            Packet::Complete { sockets: 12 },
            Packet::Serving { left: vec![1, 2], has_admin: true },
            Packet::Draining,
            Packet::Status(vec![draining.clone(), draining]),
            Packet::Refused { why: "no".to_owned() },
        ]
    }

    #[test]
    fn what_is_said_is_understood() {
        for packet in all() {
            assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
        }
    }

    #[test]
    fn another_version_is_told_as_such() {
        for packet in all() {
            let text = String::from_utf8(packet.encode()).unwrap();
            let other = text.replace("\"takeover\":1", "\"takeover\":2");
            assert_ne!(text, other);
            assert_eq!(Packet::decode(other.as_bytes()), Err(Unreadable::Version(2)));
        }
    }

    #[test]
    fn broken_packets_are_refused_and_nothing_panics() {
        for packet in all() {
            let bytes = packet.encode();
            for end in 0..bytes.len() {
                assert!(Packet::decode(&bytes[..end]).is_err());
            }
            for at in 0..bytes.len() {
                for byte in [0, b'"', b'9', b'{', 0xff] {
                    let mut broken = bytes.clone();
                    broken[at] = byte;
                    // Some are still packets.
                    let _ = Packet::decode(&broken);
                }
            }
        }
        let long = Packet::Refused { why: "x".repeat(BYTES_MAX) }.encode();
        assert_eq!(Packet::decode(&long), Err(Unreadable::Malformed("a packet is too long")));
        assert!(Packet::decode("[".repeat(BYTES_MAX).as_bytes()).is_err(), "depth is bounded");
    }
}
