//! Istio's, Kubernetes' and our own documents, in YAML or JSON.

use naru_doc::Loaded;
use naru_journey::Snapshot;
use naru_plan::{Client, Surroundings, locate, plan};
use naru_spec::Problem;

use crate::place;

/// Problems have their places, in a strict surrounding and in an easy one; what has no error can be compiled, or says
/// where it cannot.
pub fn documents(bytes: &[u8]) {
    const FILE: &str = "fuzz.yaml";
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut loaded = Loaded::default();
    naru_doc::load(FILE, text, &mut loaded);
    place::check(FILE, text, &loaded.problems);
    for is_strict in [false, true] {
        let surroundings =
            Surroundings { is_strict, clients: vec![Client::unnamed()], ..Surroundings::default() };
        let planned = plan(&loaded.resources, &surroundings);
        place::check(FILE, text, &planned.problems);
        if loaded.problems.iter().chain(&planned.problems).any(Problem::is_error) {
            continue;
        }
        if let Err(found) = Snapshot::compile(planned.config.clone()) {
            let located = locate(&planned.config, &found, &loaded.resources.files);
            assert!(!located.is_empty(), "it cannot be compiled, and nobody says why: {found:?}");
        }
    }
}
