//! Where addresses are, as a scenario says it.

use naru_sim::{Configs, Options, RunError, Scenario, simulate};

use crate::goldens::documents_of;
use crate::leases::EDGE;

fn problems(documents: &str, places: &str) -> Vec<String> {
    let scenario = format!(
        "config: documents
duration: 1s
load: [{{ name: all, arrivals: {{ constant: 1/s }}, requests: [{{ path: /, host: a.example }}] }}]
services: [{{ name: places, serves: ['10.0.0.1:80'] }}]
places:
{places}"
    );
    let scenario = Scenario::parse("s.yaml", &scenario).unwrap();
    let configs = Configs::from([("documents".to_owned(), documents_of(documents))]);
    match simulate(&configs, &scenario, Options { seed: 1, is_traced: false }) {
        Err(RunError::Scenario(problems)) => problems
            .iter()
            .map(|problem| format!("{}: {} [{}]", problem.line, problem.message, problem.code))
            .collect(),
        Ok(_) => Vec::new(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_a_place_is_told_with_its_line() {
    let policy = format!(
        "{EDGE}---
apiVersion: naru.dev/v1alpha1
kind: EdgePolicy
metadata: {{ name: edge }}
spec:
  targetRef: {{ kind: Gateway, name: edge }}
  geo: {{ database: /nowhere.mmdb }}
"
    );
    let said = "  - { networks: [192.0.2.0/24, 192.0.2.0/33], country: ch }
  - { networks: [192.0.2.9/24], continent: EUR }
  - networks: [198.51.100.1, office]
  - { networks: ['198.51.100.1/32'], city: Bern }
";
    assert_eq!(
        problems(&policy, said),
        [
            "6: 'ch' is no country, which has two capital letters [invalid-value]",
            "6: '192.0.2.0/33' is no network, which looks like '192.0.2.0/24' [invalid-value]",
            "7: 'EUR' is no continent, which has two capital letters [invalid-value]",
            "7: two places say where 192.0.2.0/24 is [defined-twice]",
            "8: 'office' is no network, which looks like '192.0.2.0/24' [invalid-value]",
            "8: nothing is said of where these addresses are [no-effect]",
            "9: two places say where 198.51.100.1/32 is [defined-twice]",
        ]
    );
    assert_eq!(problems(&policy, "  - { networks: [192.0.2.0/24], country: CH }\n"), [""; 0]);
    assert_eq!(
        problems(EDGE, "  - { networks: [192.0.2.0/24], country: CH }\n"),
        ["6: nothing in the configuration asks where addresses are [no-effect]"]
    );
}
