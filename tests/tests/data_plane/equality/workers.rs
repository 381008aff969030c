//! Several workers: each decides alone, and all of them together stay within bounds.
//!
//! | what                    | after `n` requests it is off by at most                             |
//! |-------------------------|---------------------------------------------------------------------|
//! | a share `p` by chance   | 6 standard deviations, `6 * sqrt(n * p * (1 - p))`: once in 10^9     |
//! | a turn                  | one for each worker, as each has a rotation of its own              |
//! | a turn of `e` by weight | `e` for each worker (a round is never off by more)                  |

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::HeaderValue;
use naru_journey::{ChainId, Snapshot};
use naru_proxy::Options;
use naru_sim::{Driver, Fleet, Request, Script, Turn, World};
use naru_tests::{Bootstrap, Client, Naru, Speaks, Upstream};

const WORKERS: u64 = 4;
const REQUESTS_EACH: u64 = 20_000;
const WEIGHTS: [u32; 3] = [1, 2, 5];
const SHARES: [(&str, u32); 3] = [("turns", 70), ("by-weight", 20), ("random", 10)];

fn bootstrap(addresses: &[SocketAddr]) -> Bootstrap {
    let shares: Vec<_> =
        SHARES.iter().map(|(name, weight)| format!("{{ name: {name}, weight: {weight} }}")).collect();
    let mut routes = format!(
        "- {{ name: split, match: {{ prefix: /split }}, route: {{ weighted_clusters: {{ clusters: [{}] }} }} }}\n",
        shares.join(", ")
    );
    for name in ["turns", "by-weight", "random", "least"] {
        routes.push_str(&format!(
            "- {{ name: {name}, match: {{ prefix: /{name} }}, route: {{ cluster: {name} }} }}\n"
        ));
    }
    let weighted: Vec<_> = addresses.iter().copied().zip(WEIGHTS).collect();
    Bootstrap::new(&routes)
        .cluster_of("turns", addresses, "")
        .weighted_cluster("by-weight", &weighted, "")
        .cluster_of("random", addresses, "lb_policy: RANDOM\n")
        .cluster_of("least", addresses, "lb_policy: LEAST_REQUEST\n")
}

/// Whether `count` of `all` is the share `part / whole`, as far as chance allows.
fn check_share(what: &str, count: u64, all: u64, part: u32, whole: u32) {
    let (n, p) = (all as f64, f64::from(part) / f64::from(whole));
    let (off, bound) = ((count as f64 - n * p).abs(), 6.0 * (n * p * (1.0 - p)).sqrt());
    assert!(
        off <= bound,
        "{what}: {count} of {all} is off by {off:.0} from {part}/{whole}; bound {bound:.0}"
    );
}

/// Whether the endpoints had their turns, `slack` being how far one may be off.
fn check_turns(what: &str, counts: &[u64], weights: &[u32], slack: u64) {
    let (all, whole): (u64, u64) = (counts.iter().sum(), weights.iter().map(|w| u64::from(*w)).sum());
    for (count, weight) in counts.iter().zip(weights) {
        let off = (count * whole).abs_diff(all * u64::from(*weight));
        assert!(off <= slack * whole, "{what}: {counts:?} by weights {weights:?}, off by more than {slack}");
    }
}

/// What one worker of the simulator did on one path: counts by cluster and by endpoint.
#[derive(Default)]
struct Seen {
    clusters: BTreeMap<String, u64>,
    endpoints: BTreeMap<SocketAddr, u64>,
    /// The first decisions, in order.
    first: Vec<(String, SocketAddr)>,
}

impl Seen {
    fn add(&mut self, cluster: &str, endpoint: SocketAddr) {
        *self.clusters.entry(cluster.to_owned()).or_default() += 1;
        *self.endpoints.entry(endpoint).or_default() += 1;
        if self.first.len() < 100 {
            self.first.push((cluster.to_owned(), endpoint));
        }
    }

    fn counts(&self, addresses: &[SocketAddr]) -> Vec<u64> {
        addresses.iter().map(|address| self.endpoints.get(address).copied().unwrap_or(0)).collect()
    }
}

fn get(path: &'static str) -> Request {
    Request::get(ChainId(0), &HeaderValue::from_static("naru.test"), path.parse().unwrap())
}

/// All workers in turn, each with its own chance.
fn simulate(snapshot: &Snapshot, seed: u64, path: &'static str, each: u64) -> Vec<Seen> {
    let fleet = Fleet::new(snapshot, &|_| None);
    let mut world = World::new(snapshot, WORKERS as usize, seed, fleet, Script::default());
    let mut seen: Vec<Seen> = (0..WORKERS).map(|_| Seen::default()).collect();
    let request = get(path);
    for number in 0..each * WORKERS {
        let worker = (number % WORKERS) as usize;
        let mut turn = world.begin(worker, &request, None, (), &mut ()).unwrap();
        let settled = loop {
            match turn {
                Turn::Settled(settled) => break settled,
                _ => turn = world.step().unwrap().unwrap(),
            }
        };
        seen[worker].add(settled.decision.cluster.unwrap(), settled.decision.endpoint.unwrap());
    }
    seen
}

fn addresses() -> [SocketAddr; 3] {
    [1, 2, 3].map(|last| ([10, 0, 0, last], 80).into())
}

#[test]
fn the_shares_of_all_workers_add_up() {
    let snapshot = naru_tests::naru::compile(&bootstrap(&addresses()));
    let seen = simulate(&snapshot, 11, "/split", REQUESTS_EACH);
    for (name, weight) in SHARES {
        let mut sum = 0;
        for (at, worker) in seen.iter().enumerate() {
            check_share(&format!("{name}, worker {at}"), worker.clusters[name], REQUESTS_EACH, weight, 100);
            sum += worker.clusters[name];
        }
        check_share(name, sum, WORKERS * REQUESTS_EACH, weight, 100);
    }
    // They do not all draw the same.
    let sequences: std::collections::BTreeSet<_> = seen.iter().map(|worker| &worker.first).collect();
    assert_eq!(sequences.len() as u64, WORKERS);
}

#[test]
fn each_worker_keeps_its_own_turns() {
    let snapshot = naru_tests::naru::compile(&bootstrap(&addresses()));
    for (path, weights, slack) in [("/turns", [1, 1, 1], 1), ("/by-weight", WEIGHTS, WEIGHTS.len() as u64)] {
        // Not a whole number of rounds.
        for each in [1, 7, 100, 2_003] {
            let seen = simulate(&snapshot, 12, path, each);
            let mut sums = vec![0; 3];
            for worker in &seen {
                let counts = worker.counts(&addresses());
                check_turns(path, &counts, &weights, slack);
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            check_turns(path, &sums, &weights, slack * WORKERS);
        }
        // They do not all begin with the same endpoint.
        let seen = simulate(&snapshot, 12, path, 1);
        let first: std::collections::BTreeSet<_> = seen.iter().map(|worker| worker.first[0].1).collect();
        assert!(first.len() > 1, "{path}: {first:?}");
    }
}

#[test]
fn chance_treats_endpoints_alike() {
    let snapshot = naru_tests::naru::compile(&bootstrap(&addresses()));
    for path in ["/random", "/least"] {
        let seen = simulate(&snapshot, 13, path, 5_000);
        for at in 0..3 {
            let sum = seen.iter().map(|worker| worker.counts(&addresses())[at]).sum();
            check_share(path, sum, WORKERS * 5_000, 1, 3);
        }
    }
}

/// So that what one worker of several did can be followed with one.
#[test]
fn a_worker_decides_as_the_only_one_with_its_seed_would() {
    let snapshot = naru_tests::naru::compile(&bootstrap(&addresses()));
    let seen = simulate(&snapshot, 14, "/split", 100);
    for (seed, worker) in (14..).zip(&seen) {
        let mut alone = Driver::new(&snapshot, seed);
        let found: Vec<_> = (0..100)
            .map(|_| {
                let decision = alone.drive_one(&get("/split"), Script::default()).unwrap();
                (decision.cluster.unwrap().to_owned(), decision.endpoint.unwrap())
            })
            .collect();
        assert_eq!(found, worker.first, "seed {seed}");
    }
}

/// The kernel deals connections out to the workers as it likes; the bounds hold for any deal.
#[tokio::test]
async fn several_workers_on_sockets_stay_within_their_bounds() {
    const CONNECTIONS: u64 = 24;
    const EACH: u64 = 40;
    let mut up = Vec::new();
    for _ in 0..3 {
        up.push(Upstream::plain(Speaks::Http1).await);
    }
    let addresses: Vec<_> = up.iter().map(|up| up.address).collect();
    let options = Options { workers: WORKERS as usize, seed: Some(15) };
    let counts = async |path: &'static str| {
        let naru = Naru::start_with(&bootstrap(&addresses), &options);
        let address = naru.address;
        let clients = (0..CONNECTIONS).map(|_| {
            tokio::spawn(async move {
                let mut client = Client::plain(address, Speaks::Http1).await;
                for _ in 0..EACH {
                    assert_eq!(client.get(path).await.status, 200);
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        naru.settles().await;
        let clusters = naru.clusters();
        let of = |name: &str| {
            let cluster = clusters.iter().find(|cluster| cluster.name == name).unwrap();
            cluster.endpoints.iter().map(|endpoint| endpoint.requests_total).collect::<Vec<_>>()
        };
        SHARES.map(|(name, _)| of(name))
    };
    let all = CONNECTIONS * EACH;
    let [turns, ..] = counts("/turns").await;
    check_turns("/turns", &turns, &[1, 1, 1], WORKERS);
    let [_, by_weight, _] = counts("/by-weight").await;
    check_turns("/by-weight", &by_weight, &WEIGHTS, WORKERS * WEIGHTS.len() as u64);
    let split = counts("/split").await;
    for ((name, weight), of_cluster) in SHARES.into_iter().zip(&split) {
        check_share(name, of_cluster.iter().sum(), all, weight, 100);
    }
    assert_eq!(split.iter().flatten().sum::<u64>(), all);
    check_turns("/split to turns", &split[0], &[1, 1, 1], WORKERS);
}
