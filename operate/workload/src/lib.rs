//! What does a service do that only pretends to work?
//!
//! `naru workload`: HTTP/1.1, HTTP/2 with prior knowledge and gRPC on one port, with settable latency,
//! errors and body, and calls to others that are made for every request. For examples and tests;
//! docs/workload.md tells what it answers.
//!
//! In come a command line and the environment (`PORT`, `http_proxy` and its kin); out go answers, calls,
//! and lines on standard output. One thread, so that many of them fit on a small machine.
//!
//! Deliberately not here: TLS, and anything that a proxy does. It is a client and a server like any other.
#![forbid(unsafe_code)]

// In the order of a request: in, answered, calls to others.
mod settings;
mod latency;
mod errors;
mod serve;
mod answer;
mod pages;
mod grpc;
mod body;
mod calls;
mod environment;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

pub use settings::WorkloadArgs;

use crate::answer::Service;

/// How long requests under way may take to finish after SIGTERM.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Serves until it is told to end.
///
/// # Errors
/// It cannot start: the address cannot be had, a file cannot be read, the environment is wrong.
pub fn run(args: WorkloadArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    let ended = runtime.block_on(work(args));
    // A name that is still being looked up keeps nobody waiting.
    runtime.shutdown_background();
    ended
}

async fn work(args: WorkloadArgs) -> anyhow::Result<()> {
    let address = SocketAddr::new(args.address, args.port()?);
    let name = args.full_name(' ');
    let (lifetime, exit_code) = (args.exit_after, args.exit_code);
    let service = Rc::new(Service::new(args)?);
    // Before anybody is told that we are here.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("{name} cannot listen on {address}; choose another with --port, or free it ('ss -ltnp' shows who has it)")
    })?;
    print_line(&format!("{name} listens on {}", listener.local_addr()?));
    let server = serve::Server::new(Rc::clone(&service));
    let life_is_over = async {
        match lifetime {
            Some(lifetime) => tokio::time::sleep(lifetime.0).await,
            None => std::future::pending().await,
        }
    };
    let asked_to_end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        () = life_is_over => std::process::exit(i32::from(exit_code)),
        () = server.accept(listener, asked_to_end) => {}
    }
    // Whatever is not finished by then is left.
    let _ = tokio::time::timeout(DRAIN_TIME, server.drained()).await;
    Ok(())
}

/// Writes a line for whoever watches; one who has left misses nothing.
fn print_line(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}
