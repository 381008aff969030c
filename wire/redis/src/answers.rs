//! Answers that several gateways share, and what they tell each other to forget.
//!
//! | key | what |
//! |---|---|
//! | `PREFIX:a1:URL` | a hash: answers of the URL by field, and in `g` what the URL is called since it was made worthless |
//! | `{PREFIX:a1}:head` and `:urls`, `:purges` | two logs: URLs that were made worthless, and purges of others |
//!
//! What makes a URL worthless takes all of it away and gives it another name for as long as a fetch may take: who has
//! fetched under the name before writes nothing. A purge by prefix or tag looks for nothing: it is written down, and who
//! reads an answer compares. The keys of the log are in one slot, those of a URL are one key: each question is one round
//! trip, and no script sees two slots.
//!
//! Deliberately not here: what answers are, when to ask, and what is done without an answer.

use std::time::Duration;

use naru_spec::Redis;
use redis::{Cmd, RedisResult, Script, ScriptInvocation, Value};

use crate::{Connection, Counts, NoAnswer};

const BEGIN: &str = include_str!("begin.lua");
const NEWS: &str = include_str!("news.lua");
const TELL: &str = include_str!("tell.lua");
const KEEP: &str = include_str!("keep.lua");
/// The URL; its name from now on, and for how long that is remembered, in milliseconds.
const FORGET: &str = "redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'g', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1";
/// So many answers of a URL: with one more it begins anew.
const FIELDS_MAX: usize = 1_024;
/// So many entries are in each log, and so many are read at once.
const LOG_MAX: usize = 10_000;
pub const PAGE_MAX: usize = 1_000;
/// How long a URL that was made worthless has its name: nobody may fetch for longer.
pub const NAME_KEPT: Duration = Duration::from_secs(900);
/// Hash slots, in runs of so many.
const SLOTS: u16 = 16_384;
const RUN: u16 = 256;

/// The answers of gateways that share a prefix. Copies of it use the same connection.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "connections of the library have none")]
pub struct Answers {
    connection: Counts,
    is_cluster: bool,
    prefix: std::sync::Arc<str>,
    scripts: std::sync::Arc<[Script; 4]>,
}

/// What stands there of a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What the URL is called: to be said again by who writes.
    pub name: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// An entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub number: u64,
    /// Which gateway has written it.
    pub by: u64,
    pub what: String,
}

/// What is new in the logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Another number than before: the logs were lost.
    pub began: u64,
    pub last: u64,
    /// Entries up to these numbers were thrown away.
    pub urls_floor: u64,
    pub purges_floor: u64,
    pub urls: Vec<Entry>,
    pub purges: Vec<Entry>,
}

fn strange() -> NoAnswer {
    NoAnswer { text: "the answer is none to what was asked".to_owned(), is_lost: true }
}

impl Answers {
    /// # Errors
    /// Nobody answers there within the time.
    pub async fn connect(redis: &Redis, prefix: &str, timeout: Duration) -> Result<Answers, NoAnswer> {
        let connection = Counts::connect(redis, timeout).await?;
        let with_head = |text: &str| Script::new(&format!("{BEGIN}{text}"));
        let scripts = [with_head(NEWS), with_head(TELL), Script::new(KEEP), Script::new(FORGET)];
        Ok(Answers {
            connection,
            is_cluster: redis.is_cluster,
            prefix: prefix.into(),
            scripts: std::sync::Arc::new(scripts),
        })
    }

    async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        match self.connection.0.clone() {
            Connection::Single(mut connection) => command.query_async(&mut connection).await,
            Connection::Cluster(mut connection) => command.query_async(&mut connection).await,
        }
    }

    async fn invoke(&self, asked: &ScriptInvocation<'_>) -> RedisResult<Value> {
        match self.connection.0.clone() {
            Connection::Single(mut connection) => asked.invoke_async(&mut connection).await,
            Connection::Cluster(mut connection) => asked.invoke_async(&mut connection).await,
        }
    }

    /// What stands in a field of a URL.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn find(&self, url: &str, field: &[u8]) -> Result<Found, NoAnswer> {
        let mut command = redis::cmd("HMGET");
        command.arg(key_of(&self.prefix, url)).arg("g").arg(field);
        let Value::Array(values) = self.ask(&command).await? else { return Err(strange()) };
        let [name, value] = <[Value; 2]>::try_from(values).map_err(|_| strange())?;
        Ok(Found { name: bytes(name)?.unwrap_or_default(), value: bytes(value)? })
    }

    /// Writes fields of a URL that is still called as it was. Whether it was.
    ///
    /// # Errors
    /// There is no answer: nobody knows whether it was written.
    pub async fn keep(
        &self,
        url: &str,
        name: &[u8],
        life: Duration,
        fields: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<bool, NoAnswer> {
        let [_, _, keep, _] = &*self.scripts;
        let mut asked = keep.key(key_of(&self.prefix, url));
        asked.arg(name).arg(millis(life)).arg(FIELDS_MAX);
        for (field, value) in fields {
            asked.arg(&field[..]).arg(&value[..]);
        }
        Ok(self.invoke(&asked).await? == Value::Int(1))
    }

    /// Nothing of a URL is worth anything, nor what is being fetched of it.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn forget(&self, url: &str, name: u64) -> Result<(), NoAnswer> {
        let [_, _, _, forget] = &*self.scripts;
        let mut asked = forget.key(key_of(&self.prefix, url));
        asked.arg(format!("{name:016x}")).arg(millis(NAME_KEPT));
        self.invoke(&asked).await?;
        Ok(())
    }

    /// Writes down what others are to forget: whether it is a purge, and what. The numbers these entries have.
    ///
    /// # Errors
    /// There is no answer: nobody knows whether it was written.
    pub async fn tell(&self, by: u64, entries: &[(bool, String)]) -> Result<Vec<u64>, NoAnswer> {
        let [_, tell, ..] = &*self.scripts;
        let mut asked = tell.prepare_invoke();
        self.log_keys().iter().for_each(|key| {
            asked.key(key);
        });
        asked.arg(LOG_MAX).arg(format!("{by:016x}"));
        for (is_purge, what) in entries {
            asked.arg(u8::from(*is_purge)).arg(what);
        }
        let Value::Array(values) = self.invoke(&asked).await? else { return Err(strange()) };
        let numbers: Option<Vec<u64>> = values.iter().map(number).collect();
        numbers.filter(|numbers| numbers.len() == entries.len()).ok_or_else(strange)
    }

    /// What was written down since.
    ///
    /// # Errors
    /// There is no answer, or none that says anything.
    pub async fn news(&self, urls: u64, purges: u64) -> Result<News, NoAnswer> {
        let [news, ..] = &*self.scripts;
        let mut asked = news.prepare_invoke();
        self.log_keys().iter().for_each(|key| {
            asked.key(key);
        });
        asked.arg(urls).arg(purges).arg(PAGE_MAX);
        read_news(&self.invoke(&asked).await?).ok_or_else(strange)
    }

    /// Whether a part of the store answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn probe(&self, part: usize) -> Result<(), NoAnswer> {
        let mut command = redis::cmd("EXISTS");
        command.arg(probe_key(part));
        self.ask(&command).await?;
        Ok(())
    }

    fn log_keys(&self) -> [String; 3] {
        ["head", "urls", "purges"].map(|name| log_key(&self.prefix, name))
    }

    /// How many parts it has that may fail each by itself.
    pub fn parts(is_cluster: bool) -> usize {
        if is_cluster { usize::from(SLOTS / RUN) } else { 1 }
    }

    pub fn part_of_url(&self, url: &str) -> usize {
        self.part(key_of(&self.prefix, url).as_bytes())
    }

    pub fn part_of_log(&self) -> usize {
        self.part(log_key(&self.prefix, "head").as_bytes())
    }

    fn part(&self, key: &[u8]) -> usize {
        if self.is_cluster { usize::from(slot(key) / RUN) } else { 0 }
    }
}

fn key_of(prefix: &str, url: &str) -> String {
    format!("{prefix}:a1:{url}")
}

fn log_key(prefix: &str, name: &str) -> String {
    format!("{{{prefix}:a1}}:{name}")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Redis Cluster Specification, "Key distribution model" and "Hash tags".
fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let end = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..end).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |mut crc, byte| {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
        crc
    })
}

/// A key that is in a part, and means nothing.
fn probe_key(part: usize) -> String {
    let keys = (0u32..).map(|at| format!("naru:probe:{at}"));
    // Each part has one of 64 keys.
    keys.take(100_000).find(|key| usize::from(slot(key.as_bytes()) / RUN) == part).unwrap_or_default()
}

fn bytes(value: Value) -> Result<Option<Vec<u8>>, NoAnswer> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        _ => Err(strange()),
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    text(value)?.parse().ok()
}

/// What `news.lua` says.
fn read_news(said: &Value) -> Option<News> {
    let Value::Array(values) = said else { return None };
    let [began, last, urls_floor, purges_floor, urls, purges] = values.as_slice() else { return None };
    Some(News {
        began: number(began)?,
        last: number(last)?,
        urls_floor: number(urls_floor)?,
        purges_floor: number(purges_floor)?,
        urls: entries(urls)?,
        purges: entries(purges)?,
    })
}

fn entries(said: &Value) -> Option<Vec<Entry>> {
    let Value::Array(rows) = said else { return None };
    let entry = |row: &Value| {
        let Value::Array(row) = row else { return None };
        let [id, Value::Array(fields)] = row.as_slice() else { return None };
        let [_, by, _, what] = fields.as_slice() else { return None };
        let number = text(id)?.strip_suffix("-0")?.parse().ok()?;
        let by = u64::from_str_radix(text(by)?, 16).ok()?;
        Some(Entry { number, by, what: text(what)?.to_owned() })
    };
    rows.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), crc16(b"{bar") % SLOTS);
        for part in 0..Answers::parts(true) {
            assert_eq!(usize::from(slot(probe_key(part).as_bytes()) / RUN), part);
        }
    }

    #[test]
    fn news_that_are_none_are_not_believed() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let entry = |id: &str, by: &str| {
            let fields = vec![text("by"), text(by), text("what"), text("http://a/b")];
            Value::Array(vec![text(id), Value::Array(fields)])
        };
        let news = |urls: Vec<Value>| {
            let numbers = ["5", "7", "5", "5"].map(text).to_vec();
            Value::Array([numbers, vec![Value::Array(urls), Value::Array(Vec::new())]].concat())
        };
        let read = read_news(&news(vec![entry("7-0", "00ff")])).expect("news");
        assert_eq!((read.began, read.last, read.urls_floor), (5, 7, 5));
        assert_eq!(read.urls, [Entry { number: 7, by: 255, what: "http://a/b".to_owned() }]);
        for strange in [
            news(vec![entry("7-1", "ff")]),
            news(vec![entry("7-0", "x")]),
            news(vec![text("7-0")]),
            Value::Array(vec![text("5"); 6]),
            Value::Array(vec![text("5"); 5]),
            Value::Nil,
        ] {
            assert_eq!(read_news(&strange), None, "{strange:?}");
        }
    }
}
