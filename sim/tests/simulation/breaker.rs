//! When a breaker is in which state, by hand.

use crate::goldens::{folder, play};

/// Ten calls are remembered, half of them must fail or all be slower than 3 s; 30 s later five may try.
///
/// A call is made each second and takes 0.1 s, or 4 s from 99.5 s to 150 s.
const STATES: [(u64, &str, &str); 8] = [
    (24_100, "opened", "the calls of 20, 21, 22, 23 and 24 s have failed: five of ten"),
    (55_000, "half_opened", "the first call after 54.1 s"),
    (59_100, "closed", "the calls of 55 to 59 s went well"),
    (113_000, "opened", "the ten calls of 100 to 109 s took 4 s each"),
    (143_000, "half_opened", "the first call that comes 30 s later"),
    (151_000, "opened", "the calls of 143 to 147 s took 4 s each; those of 148 to 150 s were not let in"),
    (181_000, "half_opened", "the first call that comes 30 s later"),
    (185_100, "closed", "the calls of 181 to 185 s went well"),
];

#[test]
fn a_breaker_is_in_the_states_that_were_worked_out_by_hand() {
    let transcript = play(&folder("tests/scenarios/circuit-breaker.yaml"), 1);
    let found: Vec<(u64, &str)> = transcript
        .changes
        .iter()
        .filter(|change| change.kind == "breaker")
        .map(|change| (change.at_us / 1_000, change.state.map_or("", |state| state.name())))
        .collect();
    let expected: Vec<(u64, &str)> = STATES.iter().map(|(at, state, _)| (*at, *state)).collect();
    assert_eq!(found, expected, "{transcript}");
    // What was let in while it was closed: 1 to 24 s, 60 to 99 s and on to 112 s, 186 to 219 s; and five for each trial.
    let arrived: u64 = transcript.summary.by_service.iter().map(|service| service.arrived).sum();
    let closed = 24 + 40 + 13 + 34;
    assert_eq!(arrived, closed + 3 * 5, "{transcript}");
}
