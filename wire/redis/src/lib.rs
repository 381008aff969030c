//! How are counts and answers kept in a Redis that several proxies share?
//!
//! Answers are in [`answers`]; what follows is about counts.
//!
//! In come the limits of one request, each with the name of its count; out comes what `naru_admit::quota` would have
//! said of counts in this process. One round trip asks for all of them: a script looks at all counts, takes from all or
//! from none, and says what is left. It counts by the clock of the Redis, so that proxies need not agree on the time.
//!
//! In a cluster the counts of one request must be on one node, or no script sees them all. What stands in braces of a
//! name says the node: [`Take::new`] puts the name of the document there.
//!
//! Deliberately not here: when to ask, how long to wait, and what is done without an answer.

mod script;
pub mod answers;

use std::time::Duration;

use naru_admit::quota::{Room, Spent};
use naru_spec::{QuotaAlgorithm, Redis};
use redis::{AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, Value};

/// What one request takes of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    name: String,
    algorithm: QuotaAlgorithm,
    cost: u32,
    is_shadow: bool,
}

impl Take {
    /// `group` is common to all limits of a request; `key` tells who is counted.
    pub fn new(
        group: &str,
        limit: &str,
        key: &[u8],
        algorithm: QuotaAlgorithm,
        cost: u32,
        is_shadow: bool,
    ) -> Take {
        let mut name = format!("naru:{{{group}}}:{limit}:");
        for byte in key {
            // What is printed as it is cannot be taken for an escape.
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(char::from(*byte)),
                _ => name.push_str(&format!("%{byte:02x}")),
            }
        }
        Take { name, algorithm, cost, is_shadow }
    }
}

/// A connection to a Redis, or to a cluster of them. Copies of it are the same connection.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "connections of the library have none")]
pub struct Counts(Connection);

#[derive(Clone)]
enum Connection {
    Single(redis::aio::MultiplexedConnection),
    Cluster(redis::cluster_async::ClusterConnection),
}

/// Why there is no answer.
#[derive(Debug)]
pub struct NoAnswer {
    pub text: String,
    /// The connection is of no use any more.
    pub is_lost: bool,
}

impl From<RedisError> for NoAnswer {
    fn from(error: RedisError) -> NoAnswer {
        // What a server says of itself (it only reads, it has no memory, it loads) ends by itself.
        let is_lost =
            error.is_unrecoverable_error() || error.is_io_error() || error.kind() == ErrorKind::Parse;
        NoAnswer { text: error.to_string(), is_lost }
    }
}

impl Counts {
    /// # Errors
    /// Nobody answers there within the time.
    pub async fn connect(redis: &Redis, timeout: Duration) -> Result<Counts, NoAnswer> {
        let urls = redis.nodes.iter().map(|node| format!("redis://{node}"));
        if redis.is_cluster {
            let nodes: RedisResult<Vec<_>> = urls.map(|url| url.into_connection_info()).collect();
            let client = redis::cluster::ClusterClientBuilder::new(nodes?)
                .connection_timeout(timeout)
                .response_timeout(timeout)
                .retries(1)
                .build()?;
            return Ok(Counts(Connection::Cluster(client.get_async_connection().await?)));
        }
        let client = Client::open(urls.into_iter().next().unwrap_or_default())?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        Ok(Counts(Connection::Single(client.get_multiplexed_async_connection_with_config(&config).await?)))
    }

    /// Takes from all limits, or from none.
    ///
    /// # Errors
    /// There is no answer, or none that says anything.
    pub async fn spend(&mut self, takes: &[Take]) -> Result<(Spent, Vec<Room>), NoAnswer> {
        let said = match self.ask("EVALSHA", script::SHA1, takes).await {
            Err(error) if error.kind() == ErrorKind::Server(redis::ServerErrorKind::NoScript) => {
                self.ask("EVAL", script::TEXT, takes).await
            }
            said => said,
        }?;
        script::read(&said, takes).ok_or_else(|| NoAnswer {
            text: "the answer is none to what was asked".to_owned(),
            is_lost: true,
        })
    }

    async fn ask(&mut self, command: &str, script: &str, takes: &[Take]) -> RedisResult<Value> {
        let mut asked = redis::cmd(command);
        asked.arg(script).arg(takes.len());
        takes.iter().for_each(|take| {
            asked.arg(&take.name);
        });
        takes.iter().for_each(|take| script::say(take, &mut asked));
        match &mut self.0 {
            Connection::Single(connection) => asked.query_async(connection).await,
            Connection::Cluster(connection) => asked.query_async(connection).await,
        }
    }
}
