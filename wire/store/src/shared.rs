//! A Redis, or a Cluster, that several gateways share.
//!
//! What must be one step is a script, so that each question is one round trip. All keys of one name have one hash tag:
//! in a Cluster they are on one shard, as scripts ask for. A key expires with what it holds.
//!
//! A Redis that fails over may have lost its last writes. One that has counted less than a gateway has read draws
//! another epoch, and is told everything once more.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use naru_base::WallTime;
use naru_session::{Cursor, Id};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{Client, RedisError, Script, ScriptInvocation, Value};
use tokio::sync::Mutex;

use crate::{Away, PAGE_MAX, Pair, RING, Rows, Swapped, Write};

/// epoch, list, ring, seq; the cursor's epoch and seq, how many, another epoch.
const NEWS: &str = r"
local epoch, from = redis.call('GET', KEYS[1]), tonumber(ARGV[2])
local seq = tonumber(redis.call('GET', KEYS[4]) or '0')
if not epoch or (epoch == ARGV[1] and seq < from) then
  epoch = ARGV[4]
  redis.call('SET', KEYS[1], epoch)
end
if epoch ~= ARGV[1] then from = 0 end
local rows = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
return { epoch, rows, redis.call('GET', KEYS[3]) }
";
/// The key; what must be there, the value, until when in milliseconds or nothing.
const SWAP: &str = r"
local there = redis.call('GET', KEYS[1]) or ''
if there ~= ARGV[1] then return { 0, there } end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3]) end
return { 1, '' }
";
/// list, ends, seq; now in seconds, then pairs of what and until when in seconds. What is over goes.
const TELL: &str = r"
for at = 2, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[3]), ARGV[at])
  redis.call('ZADD', KEYS[2], ARGV[at + 1], ARGV[at])
end
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, 1000)
if #over > 0 then
  redis.call('ZREM', KEYS[1], unpack(over))
  redis.call('ZREM', KEYS[2], unpack(over))
end
return 1
";

pub(crate) struct Shared {
    client: Target,
    /// There once it was asked for; it makes itself anew.
    connection: Mutex<Option<Connection>>,
    prefix: String,
    scripts: Arc<Scripts>,
    timeout: Duration,
}

struct Scripts {
    news: Script,
    swap: Script,
    tell: Script,
}

enum Target {
    One(Box<Client>),
    Cluster(Box<redis::cluster::ClusterClient>),
}

#[derive(Clone)]
enum Connection {
    One(ConnectionManager),
    Cluster(ClusterConnection),
}

/// Addresses may have passwords.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The kind and what the server says, but no address and no argument.
fn away(error: &RedisError) -> Away {
    Away(match error.code() {
        Some(code) => format!("{} ({code})", error.category()),
        None => error.category().to_owned(),
    })
}

fn strange() -> Away {
    Away("an answer that is none".to_owned())
}

impl Shared {
    pub fn open(urls: &[String], prefix: &str, name: &str, timeout: Duration) -> Result<Shared, Away> {
        let client = match urls {
            [one] => Target::One(Box::new(Client::open(one.as_str()).map_err(|error| away(&error))?)),
            several => {
                let builder = ClusterClientBuilder::new(several.iter().map(String::as_str))
                    .retries(1)
                    .response_timeout(timeout)
                    .connection_timeout(timeout);
                Target::Cluster(Box::new(builder.build().map_err(|error| away(&error))?))
            }
        };
        // Braces would be a hash tag of their own.
        let tag = format!("{prefix}:{name}").replace(['{', '}'], "_");
        let scripts = Scripts { news: Script::new(NEWS), swap: Script::new(SWAP), tell: Script::new(TELL) };
        Ok(Shared {
            client,
            connection: Mutex::default(),
            prefix: format!("{{{tag}}}"),
            scripts: Arc::new(scripts),
            timeout,
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    async fn connection(&self) -> Result<Connection, Away> {
        let mut known = self.connection.lock().await;
        if let Some(connection) = &*known {
            return Ok(connection.clone());
        }
        let made = match &self.client {
            Target::One(client) => {
                let config = ConnectionManagerConfig::new()
                    .set_number_of_retries(1)
                    .set_max_delay(Duration::from_millis(200))
                    .set_response_timeout(Some(self.timeout))
                    .set_connection_timeout(Some(self.timeout));
                ConnectionManager::new_with_config((**client).clone(), config).await.map(Connection::One)
            }
            Target::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        };
        let connection = made.map_err(|error| away(&error))?;
        *known = Some(connection.clone());
        Ok(connection)
    }

    async fn invoke(&self, invocation: &ScriptInvocation<'_>) -> Result<Vec<Value>, Away> {
        let answer = match self.connection().await? {
            Connection::One(mut connection) => invocation.invoke_async(&mut connection).await,
            Connection::Cluster(mut connection) => invocation.invoke_async(&mut connection).await,
        };
        match answer {
            Ok(Value::Array(values)) => Ok(values),
            Ok(one) => Ok(vec![one]),
            Err(error) => Err(away(&error)),
        }
    }

    pub async fn news(&self, cursor: Cursor, epoch: u64) -> Result<Rows, Away> {
        let mut asked = self.scripts.news.key(self.key("epoch"));
        asked.key(self.key("revoked")).key(self.key(RING)).key(self.key("seq"));
        asked.arg(cursor.epoch).arg(cursor.seq).arg(PAGE_MAX).arg(epoch.max(1));
        let [epoch, rows, ring] =
            <[Value; 3]>::try_from(self.invoke(&asked).await?).map_err(|_| strange())?;
        let epoch: u64 = number(&epoch)?;
        let Value::Array(rows) = rows else { return Err(strange()) };
        let mut seq = if epoch == cursor.epoch { cursor.seq } else { 0 };
        let (mut revoked, mut seen) = (Vec::new(), 0);
        let mut pairs = flat(rows).into_iter();
        while let (Some(member), Some(score)) = (pairs.next(), pairs.next()) {
            seq = seq.max(number(&score)?);
            seen += 1;
            // An application may have written something else there: that ends no session, and no list.
            revoked.extend(member_of(&member));
        }
        let is_partial = seen >= PAGE_MAX;
        Ok(Rows { cursor: Cursor { epoch, seq }, revoked, is_partial, ring: value(ring)? })
    }

    pub async fn read(&self, name: &str) -> Result<Pair, Away> {
        let mut command = redis::cmd("MGET");
        command.arg(self.key(RING)).arg(self.key(name));
        let answer = match self.connection().await? {
            Connection::One(mut connection) => command.query_async(&mut connection).await,
            Connection::Cluster(mut connection) => command.query_async(&mut connection).await,
        };
        let values: Vec<Value> = answer.map_err(|error| away(&error))?;
        let [ring, own] = <[Value; 2]>::try_from(values).map_err(|_| strange())?;
        Ok((value(ring)?, value(own)?))
    }

    pub async fn swap(&self, write: Write) -> Result<Swapped, Away> {
        let until = write.until.map(|until| (until.0 / 1_000_000).to_string()).unwrap_or_default();
        let mut asked = self.scripts.swap.key(self.key(&write.name));
        asked.arg(write.expected.unwrap_or_default()).arg(write.value).arg(until);
        let [is_done, there] = <[Value; 2]>::try_from(self.invoke(&asked).await?).map_err(|_| strange())?;
        match number::<u64>(&is_done)? {
            1 => Ok(Swapped::Done),
            _ => Ok(Swapped::Beaten(value(there)?.filter(|there| !there.is_empty()))),
        }
    }

    pub async fn tell(&self, now: WallTime, revoked: &[(Id, WallTime)]) -> Result<(), Away> {
        let mut asked = self.scripts.tell.key(self.key("revoked"));
        asked.key(self.key("ends")).key(self.key("seq")).arg(now.0 / 1_000_000_000);
        for (id, until) in revoked {
            asked.arg(format!("{id}:{}", until.0)).arg(until.0 / 1_000_000_000 + 1);
        }
        self.invoke(&asked).await.map(|_| ())
    }
}

/// RESP3 has pairs where RESP2 has one after another.
fn flat(rows: Vec<Value>) -> Vec<Value> {
    let split = |row| match row {
        Value::Array(pair) => pair,
        one => vec![one],
    };
    rows.into_iter().flat_map(split).collect()
}

fn member_of(member: &Value) -> Option<(Id, WallTime)> {
    let Value::BulkString(member) = member else { return None };
    let (id, until) = std::str::from_utf8(member).ok()?.split_once(':')?;
    Some((id.parse().ok()?, WallTime(until.parse().ok()?)))
}

fn number<T: TryFrom<i128>>(value: &Value) -> Result<T, Away> {
    let number = match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::BulkString(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
        Value::SimpleString(text) => text.parse().ok(),
        Value::Double(number) => Some(*number as i128),
        _ => None,
    };
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(strange)
}

fn value(value: Value) -> Result<Option<Vec<u8>>, Away> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        _ => Err(strange()),
    }
}
