//! Numbers and templates change; what is called stays.

use std::time::Duration;

use naru_workloads::{Instance, Workload};

use crate::world::{Scratch, World, gone, http, script, service};

fn pids(all: &[Instance]) -> Vec<u32> {
    all.iter().filter_map(|one| one.pid).collect()
}

#[tokio::test]
async fn a_changed_workload_is_replaced_one_by_one_and_never_fewer_are_ready() {
    let ready = Scratch::new();
    ready.write();
    let world = World::new();
    let before = Workload { replicas: 2, ..service(&ready) };
    world.supervisor.apply(vec![before.clone()]);
    let old = world.until("two are ready", |all| all.iter().filter(|one| one.is_ready).count() == 2).await;
    let after = Workload { env: vec![("A".to_owned(), "2".to_owned())], ..before };
    world.supervisor.apply(vec![after]);
    let mut instances = world.instances.clone();
    let replaced = async {
        loop {
            instances.changed().await.expect("the supervisor is there");
            let all = instances.borrow_and_update().to_vec();
            assert!(all.iter().filter(|one| one.is_ready).count() >= 2, "{all:?}");
            let staying = all.iter().filter(|one| pids(&old).iter().any(|pid| Some(*pid) == one.pid)).count();
            let living = all.iter().filter(|one| one.pid.is_some()).count();
            // One more than asked for, and one that is on its way out.
            assert!(living <= 4, "{all:?}");
            if all.len() == 2 && staying == 0 {
                return all;
            }
        }
    };
    let new = tokio::time::timeout(Duration::from_secs(30), replaced).await.expect("it ends");
    assert!(new.iter().all(|one| one.is_ready && one.restarts == 0), "{new:?}");
    gone(&pids(&old)).await;
    world.stop().await;
}

#[tokio::test]
async fn one_that_never_gets_ready_replaces_nobody_until_it_is_put_right() {
    let (good, bad) = (Scratch::new(), Scratch::new());
    good.write();
    let world = World::new();
    world.supervisor.apply(vec![service(&good)]);
    let old = world.one_ready().await;
    world.supervisor.apply(vec![Workload { readiness: Some(http(&bad)), ..service(&good) }]);
    let both = world.until("two run", |all| pids(all).len() == 2).await;
    assert!(both.iter().any(|one| one.pid == old.pid && one.is_ready), "{both:?}");
    // Back to what was: the old one stays, the new one goes.
    world.supervisor.apply(vec![service(&good)]);
    let back = world.until("one is left", |all| all.len() == 1).await;
    assert_eq!(pids(&back), [old.pid.unwrap()]);
    world.stop().await;
}

#[tokio::test]
async fn what_did_not_change_is_not_touched_and_the_highest_index_goes_first() {
    let other = Workload { name: "shop/other".to_owned(), ..script("echo $NARU_INSTANCE; exec sleep 1000") };
    let three = Workload { replicas: 3, ..script("exec sleep 1000") };
    let world = World::new();
    world.supervisor.apply(vec![three.clone(), other.clone()]);
    let ready =
        |count: usize| move |all: &[Instance]| all.len() == count && all.iter().all(|one| one.is_ready);
    let before = world.until("four are ready", ready(4)).await;
    world.line("shop/other-0").await;
    world.supervisor.apply(vec![other.clone(), Workload { replicas: 1, ..three.clone() }]);
    let fewer = world.until("two are left", ready(2)).await;
    assert_eq!(fewer, [before[0].clone(), before[3].clone()]);
    world.supervisor.apply(vec![three, other]);
    let more = world.until("four are ready", ready(4)).await;
    assert_eq!((&more[0], &more[3]), (&before[0], &before[3]));
    world.supervisor.apply(Vec::new());
    world.until("all are gone", <[Instance]>::is_empty).await;
    gone(&pids(&before)).await;
    world.stop().await;
}
