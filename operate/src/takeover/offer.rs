//! The old process: it offers itself, and hands over.

use std::cell::Cell;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use naru_proxy::{ListenerKey, Proxy};

use super::Predecessors;
use super::channel::{Acceptor, Channel, has_hung_up};
use super::packet::{Draining, Packet, SOCKETS_MAX, SOCKETS_TOTAL_MAX};
use super::place::Place;

/// Who has connected says within this time what it wants.
const ASK_TIME_MAX: Duration = Duration::from_secs(5);
/// A packet is taken within this time.
const SEND_TIME_MAX: Duration = Duration::from_secs(5);
/// The new process serves within this time, or nothing comes of it. It looks names up and probes endpoints.
const SERVING_TIME_MAX: Duration = Duration::from_secs(60);
/// Between two words of how far this process is.
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// Where this process can be taken over.
#[derive(Debug)]
pub struct Offer {
    acceptor: Acceptor,
    path: PathBuf,
    /// Of the file, by which it is known whether it is still this process's.
    identity: (u64, u64),
    /// Another process stands there, or soon will.
    is_given_up: bool,
}

/// What this process has to give.
#[derive(Debug)]
pub struct Offered<'a> {
    pub proxy: &'a Proxy,
    /// The admin interface's socket, and where it is.
    pub admin: Option<(&'a OwnedFd, SocketAddr)>,
    /// Counts changes of the configuration: what was given away before one is not what there is after it.
    pub changes: &'a Cell<u64>,
    /// Another process is told that it has them: from here on there are no more changes.
    pub is_given: &'a Cell<bool>,
}

/// It is done: another process serves.
#[derive(Debug)]
pub struct Handed {
    channel: Channel,
    /// It serves the admin interface as well.
    pub has_admin: bool,
}

impl Offer {
    /// Stands at the path from now on, instead of whoever stood there. `is_taken_over` where that one has just handed
    /// over.
    pub fn open(place: &Place, is_taken_over: bool) -> io::Result<Offer> {
        let path = &place.path;
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::other("something is there that is no socket"));
            }
            Ok(_) if !is_taken_over && Channel::connect(path).is_ok() => {
                return Err(io::Error::other(
                    "another process of naru is there; --takeover takes over from it",
                ));
            }
            _ => {}
        }
        // Beside it and over it: nobody finds a socket that is not his to use, or none.
        let beside = beside(path);
        let _ = std::fs::remove_file(&beside);
        let acceptor = Acceptor::bind(&beside, || {
            std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))
        })?;
        let found = std::fs::symlink_metadata(&beside)?;
        std::fs::rename(&beside, path)?;
        Ok(Offer { acceptor, path: path.clone(), identity: (found.dev(), found.ino()), is_given_up: false })
    }

    /// Leaves the path to the process that has taken over.
    pub fn give_up(mut self) {
        self.is_given_up = true;
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until another process has taken over. What goes wrong is told, and nothing has changed.
    pub async fn taken(&self, offered: &Offered<'_>) -> Handed {
        loop {
            let Ok(channel) = self.acceptor.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            match hand_over(&channel, offered).await {
                Ok(Some(has_admin)) => return Handed { channel, has_admin },
                // Somebody has only looked whether anybody is here.
                Ok(None) => {}
                Err(error) => {
                    naru_say::say!("naru: another process wanted to take over, and has not: {error}");
                    naru_say::say!("naru: this process goes on");
                    // It has what it was sent until it ends.
                    let gone = async { while channel.receive().await.is_ok() {} };
                    if tokio::time::timeout(ASK_TIME_MAX, gone).await.is_ok() {
                        offered.proxy.take_back();
                    }
                }
            }
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let found = std::fs::symlink_metadata(&self.path);
        if !self.is_given_up && found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            // Where it stays, nobody answers there.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Handed {
    /// Tells the new process how far this one is, for as long as it wants to know.
    pub async fn tell(&self, proxy: &Proxy, before: &Predecessors) {
        loop {
            let downstream = proxy.report().await.downstream;
            let mut all = vec![Draining {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                connections: downstream.connections_active,
                requests: downstream.requests_active,
            }];
            all.extend(before.get());
            if send(&self.channel, &Packet::Status(all), &[]).await.is_err() {
                return;
            }
            tokio::time::sleep(STATUS_EVERY).await;
        }
    }
}

/// Says whether the admin interface was handed over as well; `None` where nobody asked for anything.
async fn hand_over(channel: &Channel, offered: &Offered<'_>) -> io::Result<Option<bool>> {
    match in_time(ASK_TIME_MAX, "it did not ask for anything", channel.receive()).await {
        Ok((Packet::Ask { .. }, _)) => {}
        Ok(_) => return Err(refuse(channel, "it did not begin by asking").await),
        Err(error) if has_hung_up(&error) => return Ok(None),
        Err(error) => return Err(refuse(channel, &error.to_string()).await),
    }
    let changes = offered.changes.get();
    let keys = match lend(channel, offered).await {
        Ok(keys) => keys,
        Err(error) => return Err(refuse(channel, &error.to_string()).await),
    };
    let (left, has_admin) =
        match in_time(SERVING_TIME_MAX, "it did not serve in time", channel.receive()).await {
            Ok((Packet::Serving { left, has_admin }, _)) => (left, has_admin),
            Ok(_) => return Err(refuse(channel, "it did not say that it serves").await),
            Err(error) if has_hung_up(&error) => {
                return Err(io::Error::other("it ended before it served"));
            }
            Err(error) => return Err(refuse(channel, &error.to_string()).await),
        };
    if offered.changes.get() != changes {
        let why = "the configuration of the old process has changed meanwhile; try again";
        return Err(refuse(channel, why).await);
    }
    // The last step that can fail.
    offered.is_given.set(true);
    if let Err(error) = send(channel, &Packet::Draining, &[]).await {
        offered.is_given.set(false);
        return Err(error);
    }
    let taken: Vec<ListenerKey> = keys.into_iter().filter(|key| !left.contains(&key.number())).collect();
    offered.proxy.hand_over(&taken).await;
    Ok(Some(has_admin))
}

/// Gives handles to all listening sockets away.
async fn lend(channel: &Channel, offered: &Offered<'_>) -> io::Result<Vec<ListenerKey>> {
    let all = offered.proxy.lend().await?;
    let mut total = 0;
    for lent in &all {
        for sockets in lent.sockets.chunks(SOCKETS_MAX) {
            let packet = Packet::Listener {
                id: lent.key.number(),
                name: lent.name.clone(),
                wanted: lent.wanted,
                address: lent.address,
                is_kept: lent.is_kept,
            };
            let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.as_fd()).collect();
            send(channel, &packet, &sockets).await?;
            total += sockets.len();
        }
    }
    if total > SOCKETS_TOTAL_MAX {
        return Err(io::Error::other(format!("there are more than {SOCKETS_TOTAL_MAX} sockets")));
    }
    if let Some((socket, address)) = offered.admin {
        send(channel, &Packet::Admin { address }, &[socket.as_fd()]).await?;
        total += 1;
    }
    send(channel, &Packet::Complete { sockets: total as u64 }, &[]).await?;
    Ok(all.iter().map(|lent| lent.key).collect())
}

/// Tells the other process, where it still hears, and whoever calls.
async fn refuse(channel: &Channel, why: &str) -> io::Error {
    // Where it does not hear, it ends by itself.
    let _ = send(channel, &Packet::Refused { why: why.to_owned() }, &[]).await;
    io::Error::other(why.to_owned())
}

async fn send(channel: &Channel, packet: &Packet, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    in_time(SEND_TIME_MAX, "it does not take what it is sent", channel.send(packet, sockets)).await
}

async fn in_time<T>(
    limit: Duration,
    otherwise: &str,
    done: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match tokio::time::timeout(limit, done).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::other(format!("{otherwise} ({} s)", limit.as_secs()))),
    }
}

/// A path in the same directory that is no longer than this one.
fn beside(path: &Path) -> PathBuf {
    // Not the process's number: in containers many have the same.
    let salt = std::hash::RandomState::new().build_hasher().finish();
    path.with_file_name(format!(".n{:06x}", salt & 0xff_ffff))
}
