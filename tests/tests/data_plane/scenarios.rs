//! Scenarios that are marked with `processes`: what happens on virtual time is what real processes do.

use std::path::{Path, PathBuf};

use naru_tests::scenario::{Marked, Outcome};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/scenarios").join(name)
}

/// Both, which agree within the bounds of the mark.
async fn both(name: &str) -> (Outcome, Outcome) {
    let marked = Marked::read(&file(name));
    let (simulated, real) = (marked.simulated(1), marked.real(1).await);
    let differences = marked.differences(&simulated, &real);
    assert!(differences.is_empty(), "{name}:\n{differences}\nsimulated {simulated:#?}\nreal {real:#?}");
    (simulated, real)
}

fn states(outcome: &Outcome, subject: &str) -> Vec<(&'static str, u64)> {
    outcome.states[subject].iter().map(|seen| (seen.state, seen.at.as_secs())).collect()
}

#[tokio::test]
async fn one_of_two_endpoints_is_ejected_twice_and_longer_the_second_time() {
    const FIRST: &str = "reviews/1 of outbound|9080||reviews.default.svc.cluster.local";
    let (simulated, real) = both("ejected-twice.yaml").await;
    for outcome in [simulated, real] {
        assert_eq!(outcome.states.len(), 1, "never both: {outcome:#?}");
        let [(first, out), (second, back), (third, out_again), (fourth, back_again)] =
            states(&outcome, FIRST)[..]
        else {
            panic!("{outcome:#?}");
        };
        assert_eq!([first, second, third, fourth], ["ejected", "returned", "ejected", "returned"]);
        // It returns at a sweep, every 30 s; a look comes late by some of the scenario's seconds.
        let late = 12;
        assert!((28..=60 + late).contains(&(back - out)), "{outcome:#?}");
        assert!((58..=90 + late).contains(&(back_again - out_again)), "{outcome:#?}");
    }
}

#[tokio::test]
async fn a_breaker_opens_twice_and_closes() {
    const ORDERS: &str = "outbound|80||orders.default.svc.cluster.local";
    let (simulated, real) = both("breaker-twice.yaml").await;
    for outcome in [simulated, real] {
        let states = states(&outcome, ORDERS);
        let names: Vec<_> = states.iter().map(|(state, _)| *state).collect();
        assert_eq!(names, ["opened", "half_opened", "opened", "half_opened", "closed"]);
        for two in [0, 2] {
            let waited = states[two + 1].1 - states[two].1;
            assert!((28..=45).contains(&waited), "{outcome:#?}");
        }
    }
}

#[tokio::test]
async fn a_chain_amplifies_a_failure_as_much_as_it_is_simulated_to() {
    let (_, real) = both("chain.yaml").await;
    assert!(real.states.is_empty(), "nobody is ejected: {real:#?}");
    assert!(real.loads["clients"].errors > 0);
}
