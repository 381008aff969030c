//! How does the service manager know how this process is, and what does it give it?
//!
//! The protocols of systemd: sockets that it has opened (`LISTEN_FDS`, sd_listen_fds(3)), and what it is told
//! (`NOTIFY_SOCKET`, sd_notify(3)). Others speak them, too. Where nobody has set the variables, nothing is done.

use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use naru_proxy::Inherited;
use rustix::time::{ClockId, clock_gettime};

/// Takes the sockets that this process was started with; to be called once, before there is another thread.
///
/// # Errors
/// One of them is no socket that clients can come to: which, and why.
pub fn sockets() -> anyhow::Result<Vec<Inherited>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut given = listenfd::ListenFd::from_env();
    let mut all: Vec<(Option<String>, OwnedFd)> = Vec::new();
    for at in 0..given.len() {
        // "unknown" is what systemd calls those without a name.
        let name = names.next().filter(|name| !name.is_empty() && *name != "unknown").map(str::to_owned);
        // What it is not, it stays in its place.
        let socket = match given.take_tcp_listener(at) {
            Ok(socket) => socket.map(OwnedFd::from),
            Err(error) => match (given.take_unix_listener(at), given.take_udp_socket(at)) {
                (Ok(socket), _) => socket.map(OwnedFd::from),
                (_, Ok(socket)) => socket.map(OwnedFd::from),
                _ => return Err(wrong(at, name.as_deref(), &error)),
            },
        };
        all.extend(socket.map(|socket| (name, socket)));
    }
    let mut inherited = Vec::new();
    while let Some((name, socket)) = all.pop() {
        // Several at one address belong to one listener.
        let address = rustix::net::getsockname(&socket)?;
        let is_beside = |other: &(Option<String>, OwnedFd)| {
            other.0 == name && rustix::net::getsockname(&other.1).is_ok_and(|its| its == address)
        };
        let (beside, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_beside);
        all = others;
        let sockets = beside.into_iter().map(|(_, socket)| socket).chain([socket]).collect();
        let shown = name.clone();
        let one = Inherited::new(name, None, sockets).map_err(|error| wrong(0, shown.as_deref(), &error))?;
        inherited.push(one.kept(true));
    }
    inherited.reverse();
    Ok(inherited)
}

fn wrong(at: usize, name: Option<&str>, error: &io::Error) -> anyhow::Error {
    let called = name.unwrap_or("without a name");
    anyhow::anyhow!(
        "socket {} of LISTEN_FDS ({called}) cannot be used: {error}\n  help: ListenStream= or ListenDatagram=, and \
         Accept=no, is what the unit needs",
        at + 3
    )
}

/// Whoever wants to know how this process is.
#[derive(Debug)]
pub struct Manager {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Manager {
    pub fn from_environment() -> Manager {
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            [b'/', ..] => SocketAddr::from_pathname(&name).ok(),
            // Other kinds of addresses are for virtual machines.
            _ => None,
        });
        let to = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_watched = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|_| is_watched && to.is_some());
        Manager { to, watchdog: limit.filter(|limit| *limit > 0).map(Duration::from_micros) }
    }

    /// How often it wants to hear that this process is well: twice as often as it must.
    pub fn watchdog_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// As [`Manager::ready`], from a process that the manager did not start itself.
    pub fn ready_instead(&self, status: &str) {
        self.say(&format!("MAINPID={}\nREADY=1\nSTATUS={status}", std::process::id()));
    }

    /// The configuration is being read; [`Manager::ready`] follows, whatever comes of it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reading the configuration again"));
    }

    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=Draining");
    }

    pub fn well(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, words: &str) {
        if let Some((socket, to)) = &self.to {
            // A manager that does not listen has to know by itself.
            let _: io::Result<usize> = socket.send_to_addr(words.as_bytes(), to);
        }
    }
}
