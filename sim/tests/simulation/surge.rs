//! A surge that comes and goes on virtual time; and what of it is not simulated.

use naru_sim::{Configs, Options, RunError, Scenario, simulate};

use crate::goldens::{check, documents, folder, play};

#[test]
fn a_surge_comes_and_goes_and_leaves_nothing_behind() {
    let folder = folder("../examples/simulation-surge");
    for seed in 1..6 {
        let transcript = play(&folder.join("scenario.yaml"), seed);
        assert!(transcript.is_as_expected(), "seed {seed}\n{transcript}");
        let text = transcript.to_string();
        let levels: Vec<&str> =
            text.lines().filter_map(|line| line.split_once("surge").map(|(_, level)| level)).collect();
        let named = |level: &str| levels.iter().filter(|line| line.contains(level)).count();
        // Up level by level, down level by level, and never back and forth.
        let counts = (named("level 1 (busy)"), named("level 2 (full)"), named("level 0 (normal)"));
        assert_eq!(counts, (2, 1, 1), "seed {seed}: {levels:#?}");
        if seed == 1 {
            check(&folder.join("transcript.txt"), &text);
        }
    }
}

/// What real processes and machines are asked for is refused, not left out.
#[test]
fn what_is_not_simulated_is_refused() {
    let folder = folder("../examples/simulation-surge");
    let scenario = std::fs::read_to_string(folder.join("scenario.yaml")).unwrap();
    let scenario = Scenario::parse("scenario.yaml", &scenario).unwrap();
    let mut config = documents(&folder.join("mesh"));
    let surge = config.surge.as_mut().unwrap();
    surge.levels[0].enter[0].signal = naru_spec::SurgeSignal::Cpu;
    surge.levels[0].leave.iter_mut().for_each(|leave| leave.signal = naru_spec::SurgeSignal::Cpu);
    surge.levels[0].enter.truncate(1);
    surge.levels[0].leave.truncate(1);
    surge.levels[1].steps.push(naru_spec::SurgeStep::Pause { workload: "ads".to_owned() });
    surge.levels[1].steps.push(naru_spec::SurgeStep::Replicas {
        workload: "shop".to_owned(),
        percent: 200,
        max: 4,
    });
    let configs = Configs::from([("mesh".to_owned(), config)]);
    let options = Options { seed: 1, is_traced: false };
    let Err(RunError::Scenario(problems)) = simulate(&configs, &scenario, options) else { panic!() };
    let told: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "level 'busy' of the Surge is entered for cpuPercent, which is not simulated",
            "level 'full' of the Surge pauses 'ads', and workloads are not simulated",
            "level 'full' of the Surge asks for more of 'shop', and workloads are not simulated",
        ]
    );
}
