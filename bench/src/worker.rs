//! Thread per core: how the programs here run and listen.

use std::io;
use std::net::SocketAddr;
use std::thread;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

const BACKLOG: i32 = 1024;

/// Runs `work` once on each of `count` threads, each with a runtime of its own, until the first of them ends.
pub fn run_workers<Work, Ends>(count: usize, work: Work) -> anyhow::Result<()>
where
    Work: Fn() -> Ends + Send + Sync,
    Ends: Future<Output = anyhow::Result<()>>,
{
    thread::scope(|scope| {
        for _ in 1..count {
            scope.spawn(|| run_local(work()));
        }
        run_local(work())
    })
}

/// Drives one `!Send` future, and what it spawns locally, on this thread.
pub fn run_local<Work: Future<Output = anyhow::Result<()>>>(work: Work) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

/// A listener that shares its port with those of the other workers.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
