//! The cancellation walk on sockets: at every step of a request something breaks.
//!
//! The half on virtual time is `sim/tests/simulation/cancellation.rs`, and the machine alone is
//! walked in `core/journey/tests/machine.rs`. Here the steps are taken by a client and an upstream
//! that send byte for byte and frame for frame, over HTTP/1 and HTTP/2 in each combination, with
//! real time passing. After each plan ([`plan`]):
//!
//! - one ending is recorded, no more and no less, and it is one that the plan allows;
//! - what the client saw agrees with it, and the upstream was told where nobody waits for it;
//! - every count of active things is zero, and no thread of naru has panicked;
//! - the next plain request succeeds.
//!
//! `NARU_SEED` replays one seed.

mod callee;
mod caller;
mod ends;
mod exchange;
mod found;
mod plan;
mod stand;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use naru_base::Reason;
use naru_tests::wire::BlackHole;
use tokio::task::LocalSet;

use exchange::{Exchange, check};
use plan::{Disturbance, Ending, FINE, Limit, Plan, STATUS, Target};
use stand::Stand;

const SEEDS: u64 = 256;
/// So many stands are walked on at a time.
const STANDS: u64 = 8;

/// How requests must have ended, each at least once.
const REASONS: [Reason; 14] = [
    Reason::Forwarded,
    Reason::ClientGone,
    Reason::ClientAborted,
    Reason::ClientProtocol,
    Reason::ConnectFailure,
    Reason::ConnectTimeout,
    Reason::UpstreamAborted,
    Reason::UpstreamClosed,
    Reason::UpstreamReset,
    Reason::UpstreamRefused,
    Reason::UpstreamProtocol,
    Reason::RouteTimeout,
    Reason::RequestTimeout,
    Reason::StreamIdle,
];
/// So many different things must have gone wrong.
const DISTURBANCES: usize = 26;

/// What was walked through: how often each disturbance happened and each reason was given.
#[derive(Debug, Default)]
struct Walked {
    plans: u64,
    reasons: BTreeMap<Reason, u64>,
    disturbances: BTreeMap<Disturbance, u64>,
}

impl Walked {
    fn add(&mut self, plan: &Plan, ending: Ending) {
        self.plans += 1;
        if let Some((_, reason)) = ending {
            *self.reasons.entry(reason).or_default() += 1;
        }
        for disturbance in &plan.disturbances {
            *self.disturbances.entry(*disturbance).or_default() += 1;
        }
    }
}

/// Threads of naru that have panicked, also where the runtime has caught it.
pub fn panics() -> &'static AtomicU64 {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some_and(|name| name.starts_with("naru-")) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            before(info);
        }));
    });
    &PANICS
}

fn expect(plan: &Plan, ending: Ending) {
    let expected = plan.expected();
    assert!(expected.contains(&ending), "it ended with {ending:?}; expected was one of {expected:?}");
}

/// One plan on a stand that others have been walked on.
async fn walk(plan: &Plan, stand: &Stand, id: &str) -> Ending {
    let mut exchange = Exchange::new(plan, stand, id);
    if plan.is_warm && plan.target == Target::Up {
        let warm = format!("{id}.warm");
        exchange.warm_up(&warm).await;
        assert_eq!(Some(stand.next_ending(&warm).await), FINE);
    }
    exchange.run().await;
    let ending = tokio::select! {
        never = stand.relieve() => match never {},
        ending = async {
            let seen = exchange.conclude().await;
            let ending = if plan.expected() == [None] {
                None
            } else {
                Some(stand.next_ending(id).await)
            };
            expect(plan, ending);
            check(plan, seen.as_ref(), ending)
                .unwrap_or_else(|what| panic!("{what}, recorded was {ending:?}"));
            if let Some(caller) = exchange.caller.take() {
                caller.close(false).await;
            }
            drop(exchange);
            stand.naru.settles().await;
            stand.has_no_more_endings().await;
            let after = format!("{id}.after");
            assert_eq!(stand.get(plan.up, &after).await, STATUS);
            assert_eq!(Some(stand.next_ending(&after).await), FINE);
            ending
        } => ending,
    };
    stand.has_no_streams().await;
    stand.naru.settles().await;
    ending
}

/// One plan on a stand that ends with it.
async fn walk_to_the_end(plan: &Plan, stand: Stand, id: &str) -> Ending {
    let mut exchange = Exchange::new(plan, &stand, id);
    if plan.is_warm && plan.target == Target::Up {
        exchange.warm_up(&format!("{id}.warm")).await;
    }
    exchange.run().await;
    let seen = tokio::select! {
        never = stand.relieve() => match never {},
        seen = exchange.conclude() => seen,
    };
    // It is for naru to close the connection of a client that stays.
    let caller = exchange.caller.take();
    drop(exchange);
    let logged = stand.ends().await;
    drop(caller);
    let ending = logged.get(id).copied().flatten();
    expect(plan, ending);
    check(plan, seen.as_ref(), ending).unwrap_or_else(|what| panic!("{what}, recorded was {ending:?}"));
    ending
}

async fn walk_seeds(seeds: Vec<u64>, silent: SocketAddr, now: Rc<RefCell<String>>) -> Walked {
    let mut walked = Walked::default();
    let common = Stand::start(silent, false).await;
    let hurried = Stand::start(silent, true).await;
    for seed in seeds {
        for (number, plan) in Plan::draw(seed).into_iter().enumerate() {
            *now.borrow_mut() = format!("NARU_SEED={seed}, plan {number}: {plan}");
            let id = format!("{seed}.{number}");
            let ending = if plan.disturbances.contains(&Disturbance::Drain) {
                walk_to_the_end(&plan, Stand::start(silent, false).await, &id).await
            } else if plan.limit() == Limit::Request {
                walk(&plan, &hurried, &id).await
            } else {
                walk(&plan, &common, &id).await
            };
            assert_eq!(panics().load(Ordering::Relaxed), 0, "a thread of naru has panicked");
            walked.add(&plan, ending);
        }
    }
    "at the end".clone_into(&mut now.borrow_mut());
    common.ends().await;
    hurried.ends().await;
    walked
}

#[tokio::test]
async fn whatever_breaks_at_whatever_step_of_a_request_on_sockets_leaves_nothing_behind() {
    panics();
    let only = std::env::var("NARU_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds: Vec<u64> = only.map_or((0..SEEDS).collect(), |seed| vec![seed]);
    let hole = BlackHole::new();
    let local = LocalSet::new();
    let mut walks = Vec::new();
    for stand in 0..STANDS {
        let seeds: Vec<u64> = seeds.iter().copied().filter(|seed| seed % STANDS == stand).collect();
        if seeds.is_empty() {
            continue;
        }
        let now = Rc::<RefCell<String>>::default();
        walks.push((Rc::clone(&now), local.spawn_local(walk_seeds(seeds, hole.address, now))));
    }
    let walked = local.run_until(async {
        let mut walked = Walked::default();
        let mut failures = Vec::new();
        for (now, walk) in walks {
            match walk.await {
                Ok(one) => {
                    walked.plans += one.plans;
                    for (reason, count) in one.reasons {
                        *walked.reasons.entry(reason).or_default() += count;
                    }
                    for (disturbance, count) in one.disturbances {
                        *walked.disturbances.entry(disturbance).or_default() += count;
                    }
                }
                Err(error) => failures.push(format!("{}\n{error}\n", now.borrow())),
            }
        }
        assert!(failures.is_empty(), "{}", failures.concat());
        walked
    });
    let walked = walked.await;
    if only.is_some() {
        return;
    }
    // A walk that has become a stroll proves nothing.
    assert_eq!(walked.plans, 3 * SEEDS);
    for reason in REASONS {
        assert!(walked.reasons.contains_key(&reason), "nothing ended with {reason:?}: {walked:?}");
    }
    assert!(walked.disturbances.len() >= DISTURBANCES, "{walked:?}");
}
