//! `naru check`: every form of its answer, and its exit codes.

use naru_tests::files::Directory;
use serde_json::Value;

use crate::documents::naru;

/// One that naru acts by, and that most often is a mistake.
const ODD: &str = "\
apiVersion: v1
kind: Service
metadata: { name: a }
spec: { ports: [{ name: http, port: 80 }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: a }
spec:
  hosts: [a]
  http:
  - route:
    - { destination: { host: a }, weight: 10 }
    timeout: 1s
    retries: { attempts: 2, perTryTimeout: 1s }
";
const WRONG: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: b }
spec: { hosts: [b], http: [{ route: [{ destination: { host: nobody } }] }] }
";

#[test]
fn a_mistake_is_told_with_its_code_and_place_and_fails_as_it_is_asked_to() {
    let directory = Directory::new();
    directory.write("odd.yaml", ODD);
    let said = naru(&directory, &["check", "odd.yaml"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for expected in [
        "note[KIA1104]: the only destination takes all requests, whatever its weight 10",
        "  --> odd.yaml:13:43",
        "  at spec.http[0].route[0].weight",
        "warning[tries-longer-than-timeout]: 3 tries of 1s each take 3s, and the timeout of the whole is 1s",
    ] {
        assert!(said.err.contains(expected), "{expected:?} is not in\n{}", said.err);
    }
    for (fail_on, code) in [("error", 0), ("warning", 1), ("note", 1)] {
        assert_eq!(naru(&directory, &["check", ".", "--fail-on", fail_on]).code, Some(code), "{fail_on}");
    }
    directory.write("wrong.yaml", WRONG);
    let said = naru(&directory, &["check", "."]);
    assert_eq!(said.code, Some(1));
    // What both say is told once, with both names.
    let of_host =
        |line: &&str| line.contains("nobody") && (line.contains("error[") || line.contains("warning["));
    assert_eq!(said.err.lines().filter(of_host).count(), 1, "{}", said.err);
    assert!(said.err.contains("error[unknown-host]") && said.err.contains("also: IST0101"), "{}", said.err);
    let json = naru(&directory, &["check", ".", "--output", "json"]).json();
    let all = json.as_array().unwrap();
    let host = all.iter().find(|problem| problem["code"] == "unknown-host").unwrap();
    assert_eq!(host["about"], "VirtualService default/b");
    assert!(host["also"].as_array().unwrap().contains(&"KIA1101".into()));
    // Where documents cannot be read, what is missing may be in them.
    directory.write("wrong.yaml", "kind: [");
    let said = naru(&directory, &["check", "."]);
    assert!(said.err.contains("was not looked for") && !said.err.contains("KIA1104"), "{}", said.err);
}

#[test]
fn usage_is_exit_code_two() {
    let directory = Directory::new();
    for arguments in [
        &["check", "nowhere"][..],
        &["check", "."],
        &["check"],
        &["check", "--explain", "IST9999"],
        &["check", ".", "--output", "xml"],
        &["diff", "nowhere", "."],
    ] {
        let said = naru(&directory, arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}: {}{}", said.out, said.err);
        assert!(!said.err.is_empty());
    }
}

#[test]
fn every_code_is_explained_also_by_the_names_that_others_have_for_it() {
    let directory = Directory::new();
    for (code, expected) in [
        ("IST0101", "something that is named is not there"),
        ("kia1101", "IST0101: "),
        ("unknown-host", "nobody defines the host"),
        ("weights-not-100", "level: note"),
    ] {
        let said = naru(&directory, &["check", "--explain", code]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert!(said.out.contains(expected), "{expected:?} is not in\n{}", said.out);
    }
    let said = naru(&directory, &["check", "--explain", "weights-not-10"]);
    assert!(said.err.contains("did you mean 'weights-not-100'?"), "{}", said.err);
}

#[test]
fn a_log_of_sarif_holds_every_problem_with_its_rule_and_region() {
    let directory = Directory::new();
    directory.write("odd file.yaml", ODD);
    directory.write("wrong.yaml", WRONG);
    let json = naru(&directory, &["check", ".", "--output", "json"]).json();
    let said = naru(&directory, &["check", ".", "--output", "sarif"]);
    assert_eq!(said.code, Some(1));
    let log = said.json();
    // What SARIF 2.1.0 requires (sections 3.13, 3.14, 3.18, 3.19, 3.27, 3.30).
    assert_eq!(log["version"], "2.1.0");
    let [run] = log["runs"].as_array().unwrap().as_slice() else { panic!("{log}") };
    assert_eq!(run["tool"]["driver"]["name"], "naru");
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), json.as_array().unwrap().len());
    for (result, problem) in results.iter().zip(json.as_array().unwrap()) {
        assert_eq!(result["level"], problem["severity"]);
        assert!(
            result["message"]["text"].as_str().unwrap().starts_with(problem["message"].as_str().unwrap())
        );
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(rule["shortDescription"]["text"].is_string());
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["region"]["startLine"], problem["line"]);
        assert_eq!(place["region"]["startColumn"], problem["column"]);
        let uri = place["artifactLocation"]["uri"].as_str().unwrap();
        assert!(["odd%20file.yaml", "wrong.yaml"].contains(&uri), "{uri}");
    }
    let ids: Vec<&Value> = rules.iter().map(|rule| &rule["id"]).collect();
    assert!(ids.contains(&&"KIA1104".into()) && ids.contains(&&"unknown-host".into()), "{ids:?}");
}
