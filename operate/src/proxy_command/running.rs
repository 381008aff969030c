//! A proxy that runs, until it ends.

use std::cell::Cell;
use std::future::pending;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use naru_proxy::Proxy;
use naru_sources::{Texts, Watch};
use tokio::signal::unix::Signal;
use tokio::task::JoinHandle;

use super::document::{Document, load_apart};
use super::{Ends, recall, status};
use crate::admin::Admin;
use crate::cli::{Failure, ProxyArgs};
use crate::discovery::Discovery;
use crate::systemd::Manager;
use crate::takeover::{Handed, Offer, Offered};

/// Between two looks at whether requests are still under way.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between two looks at certificates.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(1);
/// What is broken off at the end is logged within this time.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);

/// Everything of it.
pub struct Running<'a> {
    pub args: &'a ProxyArgs,
    pub document: Document,
    pub proxy: Rc<Proxy>,
    pub admin: Rc<Admin>,
    /// Where some of what holds comes from a control plane.
    pub discovery: Option<Rc<Discovery>>,
    pub admin_socket: Option<AdminSocket>,
    pub offer: Option<Offer>,
    pub manager: Manager,
    pub ends: Ends,
    /// To read the file again; to start a successor.
    pub signals: (Signal, Signal),
}

/// Where the admin interface is served.
pub struct AdminSocket {
    /// Another handle to it.
    pub socket: OwnedFd,
    /// What the configuration says.
    pub wanted: SocketAddr,
    pub task: JoinHandle<()>,
}

/// How it comes to an end.
enum End {
    Asked,
    Succeeded(Handed),
}

impl Running<'_> {
    pub async fn run(mut self) -> Result<(), Failure> {
        match self.serve().await {
            End::Asked => {
                self.manager.stopping();
                naru_say::say!("naru: draining; a second signal ends at once");
                self.proxy.drain();
                // Nobody takes over from a process that drains.
                self.offer = None;
            }
            End::Succeeded(handed) => {
                naru_say::say!("naru: another process has taken over; draining");
                if let Some(offer) = self.offer.take() {
                    offer.give_up();
                }
                if handed.has_admin
                    && let Some(AdminSocket { task, .. }) = self.admin_socket.take()
                {
                    task.abort();
                }
                let (proxy, before) = (Rc::clone(&self.proxy), self.admin.predecessors.clone());
                tokio::task::spawn_local(async move { handed.tell(&proxy, &before).await });
            }
        }
        drained(&self.proxy, self.args.drain_time, &mut self.ends).await;
        Ok(())
    }

    /// Serves and changes until it is to end.
    async fn serve(&mut self) -> End {
        let Running { args, document, proxy, admin, discovery, admin_socket, offer, manager, ends, signals } =
            self;
        let discovery = discovery.as_deref();
        let (changes, is_given) = (Cell::new(0), Cell::new(false));
        let offered = Offered {
            proxy,
            admin: admin_socket.as_ref().map(|admin| (&admin.socket, admin.wanted)),
            changes: &changes,
            is_given: &is_given,
        };
        let taken = async {
            match offer {
                Some(offer) => offer.taken(&offered).await,
                None => pending().await,
            }
        };
        let mut taken = pin!(taken);
        let mut certificates = watch(document);
        let mut watchdog = manager.watchdog_every().map(tokio::time::interval);
        loop {
            tokio::select! {
                biased;
                () = ends.asked() => return End::Asked,
                () = admin.quit.notified() => return End::Asked,
                handed = &mut taken => return End::Succeeded(handed),
                () = due(&mut watchdog) => {
                    if proxy.is_alive().await {
                        manager.well();
                    }
                }
                _ = signals.0.recv() => {
                    // What it would open and close is another process's already.
                    if is_given.get() {
                        naru_say::say!("naru: '{}' is not read again: another process takes over", document.file);
                        continue;
                    }
                    changes.set(changes.get() + 1);
                    manager.reloading();
                    if let Some(newer) = reload(args, proxy, discovery, document).await {
                        if discovery.is_none() {
                            let _ = admin.recall.replace(recall(&newer));
                        }
                        *document = newer;
                        certificates = watch(document);
                    }
                    manager.ready(&status(proxy));
                }
                _ = signals.1.recv() => succeed(args),
                changed = changed(&mut certificates) => {
                    if is_given.get() {
                        continue;
                    }
                    changes.set(changes.get() + 1);
                    match changed {
                        Ok(_) => renew(proxy, discovery, document).await,
                        Err(error) => naru_say::say!("error: {error}\n  the certificates that are in force stay so"),
                    }
                }
            }
        }
    }
}

/// Reads the file again. All of it takes effect; or nothing, and why has been said.
async fn reload(
    args: &ProxyArgs,
    proxy: &Proxy,
    discovery: Option<&Discovery>,
    before: &Document,
) -> Option<Document> {
    let file = &before.file;
    let changed = async {
        let (document, snapshot) = Document::read(args)?;
        let admin = (proxy.snapshot().admin.clone(), snapshot.admin.clone());
        match (discovery, &document.dynamic) {
            (None, None) => proxy.update(snapshot).await.map_err(|error| document.refuse_to_start(error))?,
            (Some(discovery), Some(dynamic)) => {
                let succeeded = discovery.succeed((**dynamic).clone()).await;
                succeeded.map_err(|why| anyhow::anyhow!("{why}"))?;
            }
            (Some(_), None) | (None, Some(_)) => {
                let text = "whether there is a control plane is said when a process begins";
                return Err(anyhow::anyhow!("{text}\n  help: let another process take over: SIGUSR2").into());
            }
        }
        document.warn()?;
        if admin.0 != admin.1 {
            naru_say::say!(
                "naru: admin.address has changed; it is used by the next process only (--takeover)"
            );
        }
        Ok(document)
    };
    match changed.await {
        Ok(document) => {
            naru_say::say!("naru: '{file}' was read again; it is in effect");
            Some(document)
        }
        Err(failure) => {
            if let Failure::Error(error) = failure {
                naru_say::say!("error: {error:#}");
            }
            naru_say::say!("naru: '{file}' was read again and cannot be; what was there before goes on");
            None
        }
    }
}

/// The same configuration, with what its files of certificates hold now.
async fn renew(proxy: &Proxy, discovery: Option<&Discovery>, document: &Document) {
    if let Some(discovery) = discovery {
        match discovery.renew().await {
            Ok(()) => naru_say::say!("naru: certificates have changed; they are in effect"),
            Err(why) => {
                naru_say::say!("error: {why}");
                naru_say::say!(
                    "naru: certificates have changed and cannot be used; those before stay in effect"
                );
            }
        }
        return;
    }
    let snapshot = load_apart(&document.file, &document.text)
        .ok()
        .and_then(|loaded| naru_journey::Snapshot::compile(loaded.config).ok());
    // It was read from the same text before.
    let Some(snapshot) = snapshot else { return };
    match proxy.update(snapshot).await {
        Ok(()) => naru_say::say!("naru: certificates have changed; they are in effect"),
        Err(error) => {
            naru_say::say!("error: {error}");
            naru_say::say!("naru: certificates have changed and cannot be used; those before stay in effect");
        }
    }
}

/// Starts this program anew; that process takes over by itself.
fn succeed(args: &ProxyArgs) {
    let started = std::env::current_exe().and_then(|own| {
        // Where another file was put in its place, that one is meant.
        let path = own.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
        let mut command = Command::new(path);
        command.args(std::env::args_os().skip(1)).stdin(Stdio::null());
        if !args.takeover {
            command.arg("--takeover");
        }
        command.spawn()
    });
    match started {
        Ok(mut child) => {
            naru_say::say!("naru: started process {} to take over", child.id());
            // Where it fails, it says so by itself.
            std::thread::spawn(move || child.wait());
        }
        Err(error) => naru_say::say!("error: no process can be started to take over: {error}"),
    }
}

fn watch(document: &Document) -> Option<Watch> {
    let paths = document.certificates.clone();
    // Texts that cannot be read now were read just before; the next look tells.
    let texts = Texts::read(&paths).unwrap_or_default();
    (!paths.is_empty()).then(|| Watch::new(paths, texts).every(CERTIFICATES_EVERY))
}

async fn changed(watch: &mut Option<Watch>) -> Result<Texts, naru_sources::ReadError> {
    match watch {
        Some(watch) => watch.changed().await,
        None => pending().await,
    }
}

async fn due(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => pending().await,
    }
}

/// Waits until nothing is under way. Where that takes too long, the rest is broken off, and the process ends.
pub async fn drained(proxy: &Proxy, drain_time: u64, ends: &mut Ends) {
    let ended = async {
        while !proxy.has_ended() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = ended => return,
        () = ends.asked() => naru_say::say!("naru: ended before all requests were finished"),
        () = tokio::time::sleep(Duration::from_secs(drain_time)) => naru_say::say!("naru: the drain time is over"),
    }
    proxy.stop();
    let stopped = async {
        while !proxy.has_ended() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // Then all that is left is written.
        proxy.flush_logs();
    };
    // A worker that does not hear is not waited for.
    let _ = tokio::time::timeout(STOP_TIME_MAX, stopped).await;
    std::process::exit(1);
}
