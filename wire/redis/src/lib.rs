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
use naru_spec::{DataSource, QuotaAlgorithm, Redis};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, TlsCertificates, Value,
};

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

fn failure(text: String) -> NoAnswer {
    NoAnswer { text, is_lost: true }
}

/// What is said of a failure names the place and never what is there.
fn read(source: &DataSource) -> Result<Vec<u8>, NoAnswer> {
    match source {
        DataSource::File(path) => std::fs::read(path).map_err(|error| failure(format!("{path}: {error}"))),
        DataSource::Inline(bytes) => Ok(bytes.clone()),
        DataSource::Environment(name) => std::env::var_os(name)
            .map(|value| value.into_encoded_bytes())
            .ok_or_else(|| failure(format!("{name} is not in the environment"))),
    }
}

impl Counts {
    /// A password and who vouches are read each time, so that they can be replaced.
    ///
    /// # Errors
    /// Nobody answers there within the time, or it is not who it should be.
    pub async fn connect(redis: &Redis, timeout: Duration) -> Result<Counts, NoAnswer> {
        let scheme = if redis.tls.is_some() { "rediss" } else { "redis" };
        let mut login = RedisConnectionInfo::default();
        if let Some(user) = &redis.user {
            login = login.set_username(user);
        }
        if let Some(password) = &redis.password {
            let password = read(password)?;
            let password = std::str::from_utf8(password.trim_ascii_end())
                .map_err(|_| failure("the password is no text".to_owned()))?;
            login = login.set_password(password);
        }
        let certificates = redis.tls.as_ref().map(|tls| read(&tls.authority)).transpose()?;
        let certificates =
            certificates.map(|authority| TlsCertificates { client_tls: None, root_cert: Some(authority) });
        let nodes = redis.nodes.iter().map(|node| {
            let known = format!("{scheme}://{node}").into_connection_info()?;
            Ok(known.set_redis_settings(login.clone()))
        });
        let nodes: Vec<ConnectionInfo> = nodes.collect::<RedisResult<_>>()?;
        if redis.is_cluster {
            let mut builder = redis::cluster::ClusterClientBuilder::new(nodes)
                .connection_timeout(timeout)
                .response_timeout(timeout)
                .retries(1);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            let client = builder.build()?;
            return Ok(Counts(Connection::Cluster(client.get_async_connection().await?)));
        }
        let one = nodes.into_iter().next().ok_or_else(|| failure("it has no address".to_owned()))?;
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(one, certificates)?,
            None => Client::open(one)?,
        };
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
