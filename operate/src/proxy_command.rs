//! `naru proxy`: the data plane, as an Envoy bootstrap file says.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use naru_journey::Snapshot;
use naru_proxy::{Options, Proxy, StartError};
use naru_spec::config::Place;
use naru_spec::{Invalid, Problem};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::admin::{self, Admin, Recall};
use crate::cli::{Failure, Output, ProxyArgs};
use crate::problems;
use crate::say::say;

pub fn run(args: &ProxyArgs) -> Result<(), Failure> {
    let file = args.config.display().to_string();
    let text = std::fs::read_to_string(&args.config).with_context(|| format!("'{file}' cannot be read"))?;
    let loaded = naru_xds::load(&file, &text)
        .map_err(|found| problems::refuse(&found, &|_| Some(&text), args.output))?;
    let document = Document { file, text, warnings: loaded.warnings, output: args.output };
    let snapshot = Snapshot::compile(loaded.config).map_err(|found| document.refuse(&found))?;
    // Reading the configuration took more memory than keeping it does.
    naru_memory::give_back();
    if args.check {
        naru_proxy::check(&snapshot).map_err(|error| document.refuse_to_start(error))?;
        problems::print(&document.warnings, &|_| Some(&document.text), args.output)?;
        if args.output == Output::Text {
            say(&format!("{}: fine\n", document.file))?;
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(args, snapshot, document))
}

/// The file that was read, and what it is not refused for.
struct Document {
    file: String,
    text: String,
    warnings: Vec<Problem>,
    output: Output,
}

impl Document {
    /// Prints everything that was found, the warnings first: in JSON that is one array.
    fn refuse(&self, found: &[(Place, Invalid)]) -> Failure {
        let mut all = self.warnings.clone();
        all.extend(naru_xds::locate(&self.file, &self.text, found));
        problems::refuse(&all, &|_| Some(&self.text), self.output)
    }

    fn refuse_to_start(&self, error: StartError) -> Failure {
        match error {
            StartError::Config(found) => self.refuse(&found),
            error => error.into(),
        }
    }
}

async fn serve(args: &ProxyArgs, snapshot: Snapshot, document: Document) -> Result<(), Failure> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.workers.map_or(processors, usize::from);
    let mut end = Ends::listen()?;
    let admin_listener = match &snapshot.admin {
        None => None,
        Some(wanted) => {
            let address = wanted.address;
            let bound = admin::bind(address).await;
            let why = || {
                format!(
                    "the admin interface cannot listen on {address}; \
                     'ss -ltnp' shows who does, or change admin.address in '{}'",
                    document.file
                )
            };
            Some(bound.with_context(why)?)
        }
    };
    let proxy = Proxy::start(snapshot, &Options { workers, seed: args.seed })
        .map_err(|error| document.refuse_to_start(error))?;
    problems::print(&document.warnings, &|_| Some(&document.text), args.output)?;
    let Document { file, text, .. } = document;
    let proxy = Rc::new(proxy);
    for (listener, address) in proxy.snapshot().listeners.iter().zip(proxy.addresses()) {
        eprintln!("naru: listener '{}' on {}", listener.name, admin::place_of(listener, address));
    }
    naru_memory::give_back();
    let of = file.clone();
    let recall: Recall = Box::new(move || Some(naru_xds::load(&of, &text).ok()?.config));
    let recall = RefCell::new(recall);
    let admin = Rc::new(Admin { proxy: Rc::clone(&proxy), file, recall, workers, quit: Notify::new() });
    if let Some(listener) = admin_listener {
        eprintln!("naru: admin on http://{}", listener.local_addr()?);
        tokio::task::spawn_local(admin::serve(listener, Rc::clone(&admin)));
    }
    tokio::select! {
        () = end.asked() => {}
        () = admin.quit.notified() => {}
    }
    eprintln!("naru: draining; a second signal ends at once");
    proxy.drain();
    let drained = async {
        while !proxy.has_ended() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = drained => Ok(()),
        () = end.asked() => {
            eprintln!("naru: ended before all requests were finished");
            std::process::exit(1);
        }
        () = tokio::time::sleep(Duration::from_secs(args.drain_time)) => {
            eprintln!("naru: the drain time is over");
            std::process::exit(1);
        }
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
