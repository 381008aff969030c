//! Somebody in the middle of a TCP connection, who breaks, slows and cuts what passes through: what a bad network and
//! bad neighbours do, drawn from a seed, connection by connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use naru_base::Chance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const BLOCK: usize = 16 * 1024;
/// Of one direction of a connection, so that it comes to an end.
const SLICES_MAX: usize = 400;

/// Serves on the runtime that it was started on, for as long as that lasts.
#[derive(Debug)]
pub struct Relay {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    target: SocketAddr,
    seed: u64,
    connections: AtomicU64,
    /// Where not, everything passes as it comes.
    is_bad: AtomicBool,
    is_frozen: watch::Sender<bool>,
    /// Counts how often everything was broken off.
    broken: watch::Sender<u64>,
    done: Mutex<[u64; 7]>,
}

/// What is done to the bytes of one connection, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Pass,
    /// Each block comes so much later.
    Delay(Duration),
    /// No write has more bytes than this, and each goes by itself.
    Slice(usize),
    /// So many bytes, and then a pause, again and again.
    Throttle(usize, Duration),
    /// After so many bytes in both directions together both ends see a reset.
    Reset(u64),
    /// After so many bytes nothing more comes from this side, and the other direction goes on.
    HalfClose {
        after: u64,
        towards_target: bool,
    },
    /// The same, but nothing says so: bytes are swallowed.
    Swallow {
        after: u64,
        towards_target: bool,
    },
}

impl Plan {
    /// Half of them are harmless.
    pub fn draw(chance: &mut Chance) -> Plan {
        let after = |chance: &mut Chance| {
            let most = 1 << (4 + chance.below(13));
            chance.below(most)
        };
        let towards_target = chance.below(2) == 0;
        match chance.below(16) {
            0..=1 => Plan::Delay(Duration::from_millis(1 + chance.below(60))),
            2..=3 => Plan::Slice(1 + chance.below(40) as usize),
            4 => {
                Plan::Throttle(64 + chance.below(1_000) as usize, Duration::from_millis(1 + chance.below(20)))
            }
            5..=7 => Plan::Reset(after(chance)),
            8 => Plan::HalfClose { after: after(chance), towards_target },
            9 => Plan::Swallow { after: after(chance), towards_target },
            _ => Plan::Pass,
        }
    }

    fn index(self) -> usize {
        match self {
            Plan::Pass => 0,
            Plan::Delay(_) => 1,
            Plan::Slice(_) => 2,
            Plan::Throttle(..) => 3,
            Plan::Reset(_) => 4,
            Plan::HalfClose { .. } => 5,
            Plan::Swallow { .. } => 6,
        }
    }
}

const NAMES: [&str; 7] = ["passed", "delayed", "sliced", "throttled", "reset", "half-closed", "swallowed"];

impl Relay {
    pub async fn start(target: SocketAddr, seed: u64) -> Relay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            target,
            seed,
            connections: AtomicU64::new(0),
            is_bad: AtomicBool::new(true),
            is_frozen: watch::Sender::new(false),
            broken: watch::Sender::new(0),
            done: Mutex::new([0; 7]),
        });
        let serving = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).pass(stream));
            }
        });
        Relay { address, inner }
    }

    /// From now on connections pass as they come.
    pub fn behaves(&self) {
        self.inner.is_bad.store(false, Ordering::Relaxed);
        self.thaw();
        self.break_all();
    }

    /// Resets every connection that stands.
    pub fn break_all(&self) {
        self.inner.broken.send_modify(|count| *count += 1);
    }

    /// Nothing passes any more, until it [thaws](Relay::thaw).
    pub fn freeze(&self) {
        self.inner.is_frozen.send_replace(true);
    }

    pub fn thaw(&self) {
        self.inner.is_frozen.send_replace(false);
    }

    /// What was done to how many connections.
    pub fn told(&self) -> String {
        let done = self.inner.done.lock().unwrap();
        let told = NAMES.iter().zip(*done).map(|(name, count)| format!("{count} {name}"));
        told.collect::<Vec<_>>().join(", ")
    }
}

impl Inner {
    async fn pass(self: Arc<Inner>, client: TcpStream) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let mut chance = Chance::split(self.seed ^ number, "relay");
        let plan = Plan::draw(&mut chance);
        let plan = if self.is_bad.load(Ordering::Relaxed) { plan } else { Plan::Pass };
        self.done.lock().unwrap()[plan.index()] += 1;
        let mut broken = self.broken.subscribe();
        let target = tokio::select! {
            target = TcpStream::connect(self.target) => target,
            _ = broken.changed() => return reset(&client),
        };
        // Who cannot be reached is told by a reset.
        let Ok(target) = target else { return reset(&client) };
        for stream in [&client, &target] {
            // One that is gone already is found to be so when it is read.
            let _ = stream.set_nodelay(true);
        }
        let (mut client, mut target) = (client, target);
        let moved = AtomicU64::new(0);
        let is_whole = {
            let (from_client, to_client) = client.split();
            let (from_target, to_target) = target.split();
            let onward = self.one_way(plan, true, &moved, from_client, to_target);
            let back = self.one_way(plan, false, &moved, from_target, to_client);
            tokio::select! {
                ends = async { tokio::try_join!(onward, back) } => ends.is_ok(),
                _ = broken.changed() => false,
            }
        };
        if !is_whole {
            reset(&client);
            reset(&target);
        }
    }

    /// Moves bytes until they end; an error is for both directions.
    async fn one_way(
        &self,
        plan: Plan,
        is_onward: bool,
        moved: &AtomicU64,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> std::io::Result<()> {
        let mut frozen = self.is_frozen.subscribe();
        let mut block = vec![0; BLOCK];
        let (mut here, mut slices) = (0, SLICES_MAX);
        loop {
            let count = from.read(&mut block).await?;
            // The sender lives as long as this.
            let _ = frozen.wait_for(|is_frozen| !is_frozen).await;
            if count == 0 {
                return to.shutdown().await;
            }
            let mut bytes = &block[..count];
            here += count as u64;
            match plan {
                Plan::Delay(delay) => tokio::time::sleep(delay).await,
                Plan::Reset(after) => {
                    let before = moved.fetch_add(count as u64, Ordering::Relaxed);
                    if before + count as u64 >= after {
                        let last = after.saturating_sub(before) as usize;
                        to.write_all(&bytes[..last]).await?;
                        return Err(std::io::ErrorKind::ConnectionReset.into());
                    }
                }
                Plan::HalfClose { after, towards_target } if towards_target == is_onward && here >= after => {
                    to.write_all(&bytes[..count - (here - after) as usize]).await?;
                    return to.shutdown().await;
                }
                Plan::Swallow { after, towards_target } if towards_target == is_onward && here > after => {
                    bytes = &bytes[..count.saturating_sub((here - after) as usize)];
                }
                Plan::Pass
                | Plan::Slice(_)
                | Plan::Throttle(..)
                | Plan::HalfClose { .. }
                | Plan::Swallow { .. } => {}
            }
            let (length, pause) = match plan {
                Plan::Slice(length) => (length, Duration::ZERO),
                Plan::Throttle(length, pause) => (length, pause),
                _ => (BLOCK, Duration::ZERO),
            };
            while !bytes.is_empty() {
                let length = if slices == 0 { bytes.len() } else { length.min(bytes.len()) };
                to.write_all(&bytes[..length]).await?;
                bytes = &bytes[length..];
                if !bytes.is_empty() {
                    slices -= 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Whoever is at its other end sees a reset once it is dropped.
fn reset(stream: &TcpStream) {
    // One that is gone already needs none.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
