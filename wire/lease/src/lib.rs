//! What do proxies say to each other that share limits, and who has said it?
//!
//! A message is a datagram: a [`Beat`], what is asked and what is lent, and at its end a code over all of it (HMAC with
//! SHA-256) that takes the secret of the circle. What has another code is nobody's, and none of it is looked at. That a
//! message is not an old one again is said by the processes and the number in its beat (`core/admit/src/lease`).
//!
//! Whom a limit counts is said by a number that takes the secret, too: nobody who listens learns who asks.
//!
//! Numbers are written with the greater end first:
//!
//! | what | bytes |
//! |---|---|
//! | version (1), circle | 1, 8 |
//! | from, to | 1, 1 |
//! | processes of both, number, stamp, echo | 8 each |
//! | grant (0, 1) | 1 |
//! | who is let go, how often lent, milliseconds since | 4 each |
//! | how many things follow | 1 |
//! | of each: kind (1 asked, 2 lent), limit, key, asked at, parts, units, more (0, 1) | 1, 8, 8, 8, 4, 8, 1 |
//! | code | 32 |
//!
//! Deliberately not here: sockets, and what a message means.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use naru_admit::lease::{Beat, Circle, Lent};
use naru_base::Instant;
use naru_jose::secret::Mac;

const VERSION: u8 = 1;
/// So that a message is one packet on any way.
pub const ITEMS_MAX: usize = 24;
/// Of a message.
pub const BYTES_MAX: usize = 9 + 2 + 5 * 8 + 1 + 3 * 4 + 1 + ITEMS_MAX * 38 + Mac::BYTES;

/// What one member says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub beat: Beat,
    /// At most [`ITEMS_MAX`]; what is beyond is not said.
    pub items: Vec<Item>,
}

/// Of one key of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub limit: u64,
    pub key: u64,
    /// By the clock of who has asked.
    pub asked_at: Instant,
    /// So many parts the limit has for who says it: units are of his.
    pub parts: u32,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Asked { units: u64 },
    Lent(Lent),
}

/// Writes and reads the messages of one circle.
pub struct Words {
    circle: u64,
    messages: Mac,
    names: Mac,
}

/// Without its secrets.
impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("circle", &self.circle).finish_non_exhaustive()
    }
}

impl Words {
    /// `circle` is what all members say of it alike: who they are.
    pub fn new(secret: &[u8], circle: &str) -> Words {
        let names = Mac::new(secret, "naru lease 1: names");
        let messages = Mac::new(secret, "naru lease 1: messages");
        Words { circle: names.number(circle.as_bytes()), messages, names }
    }

    /// What a limit, or somebody whom it counts, is called.
    pub fn name(&self, bytes: &[u8]) -> u64 {
        self.names.number(bytes)
    }

    pub fn write(&self, message: &Message) -> Vec<u8> {
        let Message { beat, items } = message;
        let mut out = Vec::with_capacity(BYTES_MAX);
        out.push(VERSION);
        out.extend(self.circle.to_be_bytes());
        out.extend([beat.from, beat.to]);
        for number in [beat.from_process, beat.to_process, beat.number, beat.stamp, beat.echo] {
            out.extend(number.to_be_bytes());
        }
        out.push(u8::from(beat.is_grant));
        for number in [beat.let_go, beat.lent, beat.lent_ago] {
            out.extend(number.to_be_bytes());
        }
        let items = items.get(..ITEMS_MAX).unwrap_or(items);
        out.push(items.len() as u8);
        for item in items {
            let (kind, units, is_more) = match item.what {
                What::Asked { units } => (1, units, false),
                What::Lent(Lent { units, is_more }) => (2, units, is_more),
            };
            out.push(kind);
            for number in [item.limit, item.key, item.asked_at.0] {
                out.extend(number.to_be_bytes());
            }
            out.extend(item.parts.to_be_bytes());
            out.extend(units.to_be_bytes());
            out.push(u8::from(is_more));
        }
        let code = self.messages.sign(&out);
        out.extend(code);
        out
    }

    /// `None` where nobody of this circle has written it.
    pub fn read(&self, bytes: &[u8]) -> Option<Message> {
        let (said, code) = bytes.split_last_chunk::<{ Mac::BYTES }>()?;
        if bytes.len() > BYTES_MAX || !self.messages.is_of(said, code) {
            return None;
        }
        self.parse(said)
    }

    fn parse(&self, said: &[u8]) -> Option<Message> {
        let mut rest = Rest(said);
        if rest.byte()? != VERSION || rest.long()? != self.circle {
            return None;
        }
        let (from, to) = (rest.byte()?, rest.byte()?);
        let (from_process, to_process) = (rest.long()?, rest.long()?);
        let (number, stamp, echo) = (rest.long()?, rest.long()?, rest.long()?);
        let is_grant = rest.flag()?;
        let (let_go, lent, lent_ago) = (rest.word()?, rest.word()?, rest.word()?);
        let beat = Beat {
            from,
            to,
            from_process,
            to_process,
            number,
            stamp,
            echo,
            is_grant,
            let_go,
            lent,
            lent_ago,
        };
        let count = rest.byte()?;
        let items: Option<Vec<Item>> = (0..count).map(|_| rest.item()).collect();
        Some(Message { beat, items: items? }).filter(|_| rest.0.is_empty())
    }
}

/// Reads what stands behind version and circle, as if the secret were known, and has a member hear it.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let words = Words::new(b"a secret that everybody knows", "fuzz");
    assert_eq!(words.read(bytes), None, "nobody who knows the secret has written it");
    let mut said = vec![VERSION];
    said.extend(words.circle.to_be_bytes());
    said.extend(bytes);
    let Some(message) = words.parse(&said) else { return };
    if message.items.len() <= ITEMS_MAX {
        let written = words.write(&message);
        assert_eq!(written.strip_prefix(said.as_slice()).map(<[u8]>::len), Some(Mac::BYTES));
        assert_eq!(words.read(&written).as_ref(), Some(&message));
    }
    let now = Instant(1 << 40);
    let mut circle = Circle::new(0, 3, 7, Duration::from_secs(2), now);
    for _ in 0..2 {
        circle.on_beat(now, &message.beat);
        let right = circle.turn(now).right;
        assert!(right.parts >= 1 && !right.is_active, "one who speaks is no quorum");
        circle.beat(now, usize::from(message.beat.from));
    }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn item(&mut self) -> Option<Item> {
        let kind = self.byte()?;
        let (limit, key, asked_at) = (self.long()?, self.long()?, Instant(self.long()?));
        let parts = self.word().filter(|parts| *parts > 0)?;
        let (units, is_more) = (self.long()?, self.flag()?);
        let what = match kind {
            1 if !is_more => What::Asked { units },
            2 => What::Lent(Lent { units, is_more }),
            _ => return None,
        };
        Some(Item { limit, key, asked_at, parts, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(count: usize) -> Message {
        let beat = Beat {
            from: 1,
            to: 2,
            from_process: 3,
            to_process: 4,
            number: 5,
            stamp: 6,
            echo: 7,
            is_grant: true,
            let_go: 8,
            lent: 9,
            lent_ago: 10,
        };
        let items = (0..count as u64).map(|at| Item {
            limit: at,
            key: u64::MAX - at,
            asked_at: Instant(at * 3),
            parts: 3,
            what: match at % 2 {
                0 => What::Asked { units: at },
                _ => What::Lent(Lent { units: u64::MAX, is_more: at % 3 == 0 }),
            },
        });
        Message { beat, items: items.collect() }
    }

    #[test]
    fn what_is_written_is_read_by_who_knows_the_secret_and_by_nobody_else() {
        let words = Words::new(b"a secret of a test", "a,b");
        for count in [0, 1, ITEMS_MAX] {
            let bytes = words.write(&message(count));
            assert!(bytes.len() <= BYTES_MAX);
            assert_eq!(words.read(&bytes), Some(message(count)));
            assert_eq!(Words::new(b"another secret", "a,b").read(&bytes), None);
            assert_eq!(Words::new(b"a secret of a test", "a,b,c").read(&bytes), None);
            // Whatever is changed, or cut off.
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert_eq!(words.read(&changed), None, "{at}");
                assert_eq!(words.read(&bytes[..at]), None);
            }
        }
        assert_eq!(words.read(&words.write(&message(ITEMS_MAX + 1))).unwrap().items.len(), ITEMS_MAX);
        assert_eq!(words.read(&[]), None);
    }

    #[test]
    fn what_a_member_could_not_mean_is_nothing() {
        let words = Words::new(b"a secret of a test", "a");
        let good = words.write(&message(1));
        let said = &good[..good.len() - Mac::BYTES];
        let resigned = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = said.to_vec();
            change(&mut bytes);
            let code = words.messages.sign(&bytes);
            bytes.extend(code);
            words.read(&bytes)
        };
        assert!(resigned(&|_| {}).is_some());
        let last = said.len() - 1;
        assert_eq!(resigned(&|bytes| bytes[0] = 2), None, "another version");
        assert_eq!(resigned(&|bytes| bytes[last] = 2), None, "neither yes nor no");
        assert_eq!(resigned(&|bytes| bytes[last] = 1), None, "who asks has no more");
        assert_eq!(resigned(&|bytes| bytes.push(0)), None, "something behind the end");
        assert_eq!(resigned(&|bytes| bytes.truncate(last)), None);
        assert_eq!(resigned(&|bytes| bytes[last - 9] = 0), None, "no parts");
    }

    #[test]
    fn no_secret_is_printed() {
        let text = format!("{:?}", Words::new(b"hush", "a"));
        assert!(text.starts_with("Words") && !text.contains("hush"), "{text}");
    }
}
