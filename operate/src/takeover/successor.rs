//! The new process: it asks, serves, and tells the old one to drain.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use naru_proxy::Inherited;

use super::Predecessors;
use super::channel::{Channel, has_hung_up};
use super::packet::{Packet, SOCKETS_TOTAL_MAX};

/// The old process answers within this time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// And says within this time that it drains.
const DRAINING_TIME_MAX: Duration = Duration::from_secs(10);

/// Why nothing is taken over.
#[derive(Debug)]
pub enum TakeoverError {
    /// Nobody is there who could be taken over.
    Nobody,
    Failed(String),
}

impl fmt::Display for TakeoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TakeoverError::Nobody => f.write_str("nobody is there"),
            TakeoverError::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TakeoverError {}

impl From<io::Error> for TakeoverError {
    fn from(error: io::Error) -> TakeoverError {
        let has_hung_up = has_hung_up(&error);
        TakeoverError::Failed(if has_hung_up {
            "the old process has hung up".to_owned()
        } else {
            error.to_string()
        })
    }
}

/// What an old process has given.
#[derive(Debug)]
pub struct Inheritance {
    channel: Channel,
    sites: Vec<Site>,
    /// The socket of the admin interface, and where it is.
    pub admin: Option<(OwnedFd, SocketAddr)>,
}

/// A listener of the old process.
#[derive(Debug)]
struct Site {
    id: u64,
    name: String,
    wanted: SocketAddr,
    address: SocketAddr,
    is_kept: bool,
    sockets: Vec<OwnedFd>,
}

impl Inheritance {
    /// Asks whoever is at this path.
    pub async fn ask(path: &Path) -> Result<Inheritance, TakeoverError> {
        let channel = Channel::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => TakeoverError::Nobody,
            _ => error.into(),
        })?;
        let ask = Packet::Ask { version: env!("CARGO_PKG_VERSION").to_owned() };
        channel.send(&ask, &[]).await?;
        let mut inheritance = Inheritance { channel, sites: Vec::new(), admin: None };
        let received = tokio::time::timeout(ANSWER_TIME_MAX, inheritance.receive()).await;
        received.unwrap_or_else(|_| {
            let limit = ANSWER_TIME_MAX.as_secs();
            Err(TakeoverError::Failed(format!("the old process does not answer ({limit} s)")))
        })?;
        Ok(inheritance)
    }

    async fn receive(&mut self) -> Result<(), TakeoverError> {
        let failed = |why: &str| Err(TakeoverError::Failed(why.to_owned()));
        let mut total = 0;
        loop {
            let (packet, sockets) = self.channel.receive().await?;
            total += sockets.len();
            if total > SOCKETS_TOTAL_MAX {
                return failed("the old process has given more sockets than there can be");
            }
            match packet {
                Packet::Listener { id, name, wanted, address, is_kept } => {
                    match self.sites.iter_mut().find(|site| site.id == id) {
                        Some(site) => site.sockets.extend(sockets),
                        None => self.sites.push(Site { id, name, wanted, address, is_kept, sockets }),
                    }
                }
                Packet::Admin { address } => {
                    self.admin = sockets.into_iter().next().map(|socket| (socket, address));
                }
                Packet::Complete { sockets } if sockets == total as u64 => return Ok(()),
                Packet::Complete { .. } => return failed("not all sockets of the old process have arrived"),
                Packet::Refused { why } => return failed(&format!("the old process refuses: {why}")),
                Packet::Ask { .. } | Packet::Serving { .. } | Packet::Draining | Packet::Status(_) => {
                    return failed("the old process says what does not belong here");
                }
            }
        }
    }

    /// The listening sockets, to be served from; to be called once.
    pub fn sockets(&mut self) -> Result<Vec<Inherited>, TakeoverError> {
        let all = self.sites.iter_mut().map(|site| {
            let sockets = std::mem::take(&mut site.sockets);
            let inherited = Inherited::new(Some(site.name.clone()), Some(site.wanted), sockets)?;
            if inherited.address() == site.address {
                Ok(inherited.kept(site.is_kept))
            } else {
                Err(io::Error::other(format!(
                    "a socket of listener '{}' is not at {}",
                    site.name, site.address
                )))
            }
        });
        Ok(all.collect::<io::Result<Vec<_>>>()?)
    }

    /// Says that this process serves, but for the sockets that are `left`, which it lets go of. Returns once the old one
    /// takes no more connections; with an error that one goes on.
    pub async fn serving(self, left: Vec<Inherited>, has_admin: bool) -> Result<Predecessor, TakeoverError> {
        let is_left = |site: &&Site| {
            left.iter().any(|left| left.address() == site.address && left.name() == Some(&*site.name))
        };
        let ids: Vec<u64> = self.sites.iter().filter(is_left).map(|site| site.id).collect();
        // The old process closes them, and nobody else has them then.
        drop(left);
        // Where it does not hear, it has refused before, or has ended.
        let _ = self.channel.send(&Packet::Serving { left: ids, has_admin }, &[]).await;
        match tokio::time::timeout(DRAINING_TIME_MAX, self.channel.receive()).await {
            Ok(Ok((Packet::Draining, _))) => {}
            Ok(Ok((Packet::Refused { why }, _))) => {
                return Err(TakeoverError::Failed(format!("the old process refuses: {why}")));
            }
            Ok(Ok(_)) => {
                return Err(TakeoverError::Failed(
                    "the old process says what does not belong here".to_owned(),
                ));
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => return Err(error.into()),
            // It has ended, and somebody has to serve.
            Ok(Err(_)) => {}
            // It has been stopped, perhaps; once it goes on, it hears.
            Err(_) => naru_say::say!("naru: the old process does not say that it drains; both serve"),
        }
        Ok(Predecessor { channel: self.channel })
    }
}

/// An old process that drains.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
}

impl Predecessor {
    /// Learns how far it is; returns once it has ended.
    pub async fn follow(self, known: Predecessors) {
        while let Ok((packet, _)) = self.channel.receive().await {
            if let Packet::Status(processes) = packet {
                known.set(processes);
            }
        }
        known.set(Vec::new());
    }
}
