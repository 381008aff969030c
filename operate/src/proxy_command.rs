//! `naru proxy`: the data plane, as an Envoy bootstrap file says.
//!
//! Its life: it starts, perhaps on sockets of another process or of systemd; it changes when its file is read again or
//! a certificate changes; it ends because it is asked to, or because another process has taken over.

mod document;
mod running;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use naru_journey::Snapshot;
use naru_proxy::{Inherited, Options, Proxy};
use naru_xds::discovery::{Client, Dynamic};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::admin::{self, Admin, Recall};
use crate::cli::{Failure, Output, ProxyArgs};
use crate::discovery::{Discovery, Keeper};
use crate::pages::do_without_huge_pages;
use crate::proxy_command::document::Document;
use crate::proxy_command::running::{AdminSocket, Running, drained};
use crate::say::say;
use crate::systemd::{self, Manager};
use crate::takeover::{Inheritance, Offer, Place, Predecessors, TakeoverError, default_place};

/// A process that takes over waits so long for names and probes before it accepts; the old one serves meanwhile.
const WARM_TIME_MAX: Duration = Duration::from_secs(10);

pub fn run(args: &ProxyArgs) -> Result<(), Failure> {
    do_without_huge_pages();
    let frugal = naru_memory::be_frugal();
    let (document, snapshot) = Document::read(args)?;
    drop(frugal);
    if args.check {
        naru_proxy::check(&snapshot).map_err(|error| document.refuse_to_start(error))?;
        document.warn()?;
        if args.output == Output::Text {
            say(&format!("{}: fine\n", document.file))?;
        }
        return Ok(());
    }
    let given = systemd::sockets()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(args, snapshot, document, given))
}

async fn serve(
    args: &ProxyArgs,
    snapshot: Snapshot,
    document: Document,
    given: Vec<Inherited>,
) -> Result<(), Failure> {
    let mut client = document.dynamic.as_deref().map(|dynamic| {
        let schema = naru_xds::Schema::new();
        Client::new(
            schema,
            dynamic.clone(),
            args.seed.unwrap_or_else(naru_proxy::seed),
            naru_base::Instant::ZERO,
        )
    });
    let keeper = document.dynamic.as_deref().and_then(|dynamic| keeper(args, dynamic));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.workers.map_or(processors, usize::from);
    let mut ends = Ends::listen()?;
    let signals = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined2())?);
    let manager = Manager::from_environment();
    let place = place(args)?;
    let mut inheritance = match &place {
        Some(place) if args.takeover => ask(place).await?,
        _ => None,
    };
    let mut inherited = match &mut inheritance {
        Some(inheritance) => inheritance.sockets().map_err(not_taken)?,
        None => Vec::new(),
    };
    inherited.extend(given);
    let mut snapshot = snapshot;
    let mut is_from_disk = false;
    if let (Some(client), Some(keeper), true) = (&mut client, &keeper, inheritance.is_some()) {
        // The sockets of listeners that a control plane has named are to be taken over as well.
        if let Some(restored) = restored(client, keeper) {
            (snapshot, is_from_disk) = (restored, true);
        }
    }
    let admin_wanted = snapshot.admin.as_ref().map(|admin| admin.address);
    let old_admin = inheritance.as_mut().and_then(|inheritance| inheritance.admin.take());
    let (admin_listener, has_old_admin) = match admin_wanted {
        None => (None, false),
        Some(wanted) => match old_admin {
            Some((socket, its)) if its == wanted => (Some(admin::adopt(socket)?), true),
            _ => (Some(bind_admin(wanted, &document.file).await?), false),
        },
    };
    let mut starting = Proxy::begin(snapshot, &Options { workers, seed: args.seed }, inherited)
        .map_err(|error| document.refuse_to_start(error))?;
    document.warn()?;
    let predecessors = Predecessors::default();
    if inheritance.is_some() {
        starting.warm(WARM_TIME_MAX).await;
    }
    let left: Vec<Inherited> = starting.left_over();
    let proxy = Rc::new(starting.accept().await?);
    let has_taken_over = inheritance.is_some();
    match inheritance {
        Some(inheritance) => match inheritance.serving(left, has_old_admin).await {
            Ok(predecessor) => {
                tokio::task::spawn_local(predecessor.follow(predecessors.clone()));
                naru_say::say!("naru: has taken over; the old process finishes what it has begun");
            }
            Err(error) => {
                // What was accepted meanwhile is served; the queues are the old process's, as before.
                proxy.leave_to_others().await;
                drained(&proxy, args.drain_time, &mut ends).await;
                return Err(not_taken(error));
            }
        },
        None => {
            for unused in &left {
                let name = unused.name().unwrap_or("without a name");
                naru_say::say!("naru: the socket {name} on {} is for no listener", unused.address());
            }
        }
    }
    for (listener, address) in proxy.snapshot().listeners.iter().zip(proxy.addresses()) {
        naru_say::say!("naru: listener '{}' on {}", listener.name, admin::place_of(listener, address));
    }
    proxy.give_back_by(naru_memory::give_back);
    naru_memory::give_back();
    let discovery = client.map(|client| Discovery::new(client, Rc::clone(&proxy), keeper, is_from_disk));
    let recall = RefCell::new(match &discovery {
        Some(discovery) => {
            let discovery = Rc::clone(discovery);
            Box::new(move || Some(discovery.config()))
        }
        None => recall(&document),
    });
    let file = document.file.clone();
    let (of_proxy, of_discovery) = (Rc::clone(&proxy), discovery.clone());
    let admin = Rc::new(Admin {
        proxy: of_proxy,
        file,
        recall,
        workers,
        predecessors,
        control: None,
        discovery: of_discovery,
        statuses: Default::default(),
        quit: Notify::new(),
        desk: None,
    });
    let admin_socket = match (admin_listener, admin_wanted) {
        (Some(listener), Some(wanted)) => {
            let address = listener.local_addr()?;
            let socket = listener.as_fd().try_clone_to_owned()?;
            let task = tokio::task::spawn_local(admin::serve(listener, Rc::clone(&admin)));
            naru_say::say!("naru: admin on http://{address}");
            Some(AdminSocket { socket, wanted, task })
        }
        _ => None,
    };
    if let Some(discovery) = &discovery {
        tokio::task::spawn_local(Rc::clone(discovery).run());
    }
    let offer = offer(place, has_taken_over)?;
    if has_taken_over {
        manager.ready_instead(&status(&proxy));
    } else {
        manager.ready(&status(&proxy));
    }
    naru_memory::give_back_code();
    Running { args, document, proxy, admin, discovery, admin_socket, offer, manager, ends, signals }
        .run()
        .await
}

/// Where what a control plane says is kept.
fn keeper(args: &ProxyArgs, dynamic: &Dynamic) -> Option<Keeper> {
    let directory = match &args.state {
        Some(path) if path == Path::new("none") => return None,
        Some(path) => path.clone(),
        None => crate::up_command::default_state(),
    };
    Some(Keeper::new(&directory, &args.config, dynamic.node_id()))
}

/// What the process before this one was told, before anything runs by it; `None` where there is nothing, or it cannot
/// be used.
fn restored(client: &mut Client, keeper: &Keeper) -> Option<Snapshot> {
    let kept = match keeper.read() {
        Ok(kept) => kept?,
        Err(error) => {
            naru_say::say!("warning: what the control plane said last is not used: {error:#}");
            return None;
        }
    };
    let mut next = client.succeed(client.dynamic().clone(), 0, naru_base::Instant::ZERO);
    if let Err(why) = next.restore(naru_base::Instant::ZERO, &kept) {
        naru_say::say!("warning: what the control plane said last cannot be used: {why}");
        return None;
    }
    next.begin_with_restored();
    match Snapshot::compile(next.config()) {
        Ok(snapshot) => {
            *client = next;
            Some(snapshot)
        }
        Err(_) => {
            naru_say::say!("warning: what the control plane said last cannot be used any more");
            None
        }
    }
}

/// Where this process meets others.
fn place(args: &ProxyArgs) -> Result<Option<Place>, Failure> {
    match &args.takeover_path {
        Some(path) if path == Path::new("none") => Ok(None),
        Some(path) => Ok(Some(Place { path: path.clone(), is_asked_for: true })),
        None => match default_place(&args.config) {
            Ok(place) => Ok(Some(place)),
            Err(why) if args.takeover => Err(anyhow::anyhow!(
                "there is no place for the takeover socket: {why}\n  help: name one with --takeover-path"
            )
            .into()),
            Err(why) => {
                naru_say::say!("naru: cannot be taken over: {why}; name a place with --takeover-path");
                Ok(None)
            }
        },
    }
}

async fn ask(place: &Place) -> Result<Option<Inheritance>, Failure> {
    match Inheritance::ask(&place.path).await {
        Ok(inheritance) => Ok(Some(inheritance)),
        Err(TakeoverError::Nobody) => {
            naru_say::say!("naru: nobody to take over from at '{}'", place.path.display());
            Ok(None)
        }
        Err(error) => Err(not_taken(error)),
    }
}

fn not_taken(error: TakeoverError) -> Failure {
    anyhow::anyhow!("nothing is taken over, and the old process goes on: {error}").into()
}

/// Offers this process to the next one.
fn offer(place: Option<Place>, has_taken_over: bool) -> Result<Option<Offer>, Failure> {
    let Some(place) = place else { return Ok(None) };
    match Offer::open(&place, has_taken_over) {
        Ok(offer) => {
            naru_say::say!("naru: can be taken over at '{}'", offer.path().display());
            Ok(Some(offer))
        }
        // It serves already, and somebody else does not any more.
        Err(error) if place.is_asked_for && !has_taken_over => {
            let path = place.path.display();
            Err(anyhow::anyhow!("the takeover socket '{path}' cannot be had: {error}").into())
        }
        Err(error) => {
            naru_say::say!("naru: cannot be taken over at '{}': {error}", place.path.display());
            Ok(None)
        }
    }
}

async fn bind_admin(address: SocketAddr, file: &str) -> anyhow::Result<tokio::net::TcpListener> {
    admin::bind(address).await.with_context(|| {
        format!(
            "the admin interface cannot listen on {address}; \
             'ss -ltnp' shows who does, or change admin.address in '{file}'"
        )
    })
}

fn recall(document: &Document) -> Recall {
    let (file, text) = (document.file.clone(), Arc::clone(&document.text));
    Box::new(move || Some(naru_xds::load(&file, &text).ok()?.config))
}

fn status(proxy: &Proxy) -> String {
    match proxy.addresses().len() {
        1 => "Serving 1 listener".to_owned(),
        count => format!("Serving {count} listeners"),
    }
}

/// The signals that ask a process to end.
pub struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    pub fn listen() -> std::io::Result<Ends> {
        Ok(Ends { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
