//! What another process says when it takes over: it may be another version, or a broken one.
//!
//! The program is no library. Its file is compiled a second time here.

#[path = "../../../operate/src/takeover/packet.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "the program uses all of it")]
mod packet;

use packet::{BYTES_MAX, Packet, Unreadable, VERSION};

/// A packet is read, and said again it is the same; or it is refused, and it is said why.
pub fn takeover(bytes: &[u8]) {
    match Packet::decode(bytes) {
        Ok(packet) => {
            assert!(bytes.len() <= BYTES_MAX);
            let again = packet.encode();
            assert_eq!(Packet::decode(&again).as_ref(), Ok(&packet), "said again");
        }
        Err(Unreadable::Version(theirs)) => assert_ne!(theirs, VERSION),
        Err(Unreadable::Malformed(what)) => assert!(!what.is_empty()),
    }
}
