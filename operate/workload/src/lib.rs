//! What does a service do that only pretends to work?
//!
//! `naru workload`: HTTP/1.1, HTTP/2 and gRPC on one port, with settable latency, errors and body,
//! and calls to others that are made for every request. For examples and tests.
//!
//! Deliberately not here: anything that a proxy does. It is a client and a server like any other.
#![forbid(unsafe_code)]

// In the order of a request: in, answered, calls to others.
mod settings;
mod serve;
mod answer;
mod grpc;
mod calls;
mod environment;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

pub use settings::{Errors, Latency, WorkloadArgs};

use crate::answer::Service;

/// How long requests under way may take to finish after SIGTERM.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Serves until it is told to end.
///
/// # Errors
/// The address cannot be had.
pub fn run(args: WorkloadArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(work(args))
}

async fn work(args: WorkloadArgs) -> anyhow::Result<()> {
    let address = SocketAddr::new(args.address, args.port()?);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("{} cannot listen on {address}", args.full_name()))?;
    let exit_after = args.exit_after.map(|lifetime| lifetime.0);
    let exit_code = args.exit_code;
    let service = Rc::new(Service::new(args)?);
    println_line(&format!("{} listens on {}", service.full_name(), listener.local_addr()?));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = serve::Server::new(Rc::clone(&service));
    let life_is_over = async {
        match exit_after {
            Some(lifetime) => tokio::time::sleep(lifetime).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = server.accept(listener) => {}
        () = life_is_over => std::process::exit(exit_code),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Whatever is not finished by then is left.
    let _ = tokio::time::timeout(DRAIN_TIME, server.drained()).await;
    Ok(())
}

/// Writes a line for whoever watches; one who has left misses nothing.
fn println_line(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}
