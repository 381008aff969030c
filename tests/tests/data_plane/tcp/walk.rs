//! Any bytes, any ends, at any step: nothing is left behind.

use naru_base::Chance;
use naru_tests::wire::{WireListener, refusing_address};
use naru_tests::{Bootstrap, Naru, Wire};
use tokio::net::TcpStream;

/// `NARU_SEED` replays one seed.
#[tokio::test]
async fn whatever_ends_where_it_is_counted_back_to_zero() {
    let only = std::env::var("NARU_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let up = WireListener::bind().await;
    let bootstrap = Bootstrap::tcp("max_connect_attempts: 2\nidle_timeout: 60s\n").cluster_of(
        "up",
        &[up.address, refusing_address()],
        "circuit_breakers: { thresholds: [{ max_connections: 4 }] }\n",
    );
    let naru = Naru::start(&bootstrap);
    let mut count = 0;
    for seed in only.map_or(0..256, |seed| seed..seed + 1) {
        let mut chance = Chance::split(seed, "tcp");
        count += 1;
        // It may be over before it has begun.
        let Ok(client) = TcpStream::connect(naru.address).await else { continue };
        let mut client = Wire::new(client);
        if chance.below(4) == 0 {
            // Perhaps before it is known where it leads.
            end(client, &mut chance).await;
            continue;
        }
        client.try_send(vec![b'x'; chance.below(70_000) as usize]).await;
        let mut upstream: Option<Wire> =
            tokio::time::timeout(std::time::Duration::from_millis(chance.below(20)), up.accept()).await.ok();
        if let Some(upstream) = &mut upstream {
            upstream.try_send(vec![b'y'; chance.below(70_000) as usize]).await;
        }
        let (first, second) =
            if chance.below(2) == 0 { (Some(client), upstream) } else { (upstream, Some(client)) };
        for wire in [first, second].into_iter().flatten() {
            end(wire, &mut chance).await;
        }
    }
    let takes_all = async {
        loop {
            drop(up.accept_stream().await);
        }
    };
    tokio::select! { () = takes_all => unreachable!("it goes on for ever"), () = naru.settles() => {} }
    assert_eq!(naru.ended(count).await.len() as u64, count);
    assert_eq!(naru.upstream_connections().await, 0);
}

async fn end(mut wire: Wire, chance: &mut Chance) {
    match chance.below(3) {
        0 => wire.reset(),
        1 => drop(wire),
        _ => {
            wire.finish().await;
            if chance.below(2) == 0 {
                wire.reset();
            }
        }
    }
}
