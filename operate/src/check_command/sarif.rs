//! Problems as a log of SARIF 2.1.0, for tools that show them beside a change (OASIS, Static Analysis Results
//! Interchange Format, 2020).

use std::path::Path;

use serde_json::{Value, json};

use super::{Told, codes, word};

/// One run of one tool.
pub fn log(told: &[Told]) -> Value {
    let mut names: Vec<&str> = told.iter().map(|told| told.problem.code).collect();
    names.sort_unstable();
    names.dedup();
    let rules: Vec<Value> = names.iter().map(|name| rule(name)).collect();
    let results: Vec<Value> = told.iter().map(|told| result(told, &names)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "naru",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(name: &str) -> Value {
    if let Some(rule) = naru_lint::rule(name) {
        return json!({
            "id": rule.code,
            "shortDescription": { "text": rule.title },
            "fullDescription": { "text": rule.explanation },
            "defaultConfiguration": { "level": word(rule.severity) },
        });
    }
    let what = codes::CODES.iter().find(|(code, _)| *code == name).map_or(name, |(_, what)| *what);
    json!({ "id": name, "shortDescription": { "text": what } })
}

fn result(told: &Told, names: &[&str]) -> Value {
    let problem = &told.problem;
    let text = match problem.hint.as_str() {
        "" => problem.message.clone(),
        hint => format!("{}: {hint}", problem.message),
    };
    let mut location = json!({ "physicalLocation": { "artifactLocation": { "uri": uri(&problem.file) } } });
    // A region begins with 1; what has no place is about the whole file.
    if problem.line > 0 {
        location["physicalLocation"]["region"] =
            json!({ "startLine": problem.line, "startColumn": problem.column.max(1) });
    }
    if !problem.path.is_empty() {
        location["logicalLocations"] = json!([{ "fullyQualifiedName": problem.path }]);
    }
    let mut result = json!({
        "ruleId": problem.code,
        "ruleIndex": names.iter().position(|name| *name == problem.code),
        "level": word(problem.severity),
        "message": { "text": text },
        "locations": [location],
    });
    if !told.also.is_empty() || told.about.is_some() {
        result["properties"] = json!({ "also": told.also, "about": told.about });
    }
    result
}

/// A path as a reference (RFC 3986): what is not a letter, a digit or one of `-._~/` is written in hexadecimal.
fn uri(file: &str) -> String {
    let mut out = if Path::new(file).is_absolute() { "file://".to_owned() } else { String::new() };
    for byte in file.strip_prefix("./").unwrap_or(file).bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte))
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_reference() {
        assert_eq!(uri("./a b/ㄱ.yaml"), "a%20b/%E3%84%B1.yaml");
        assert_eq!(uri("/etc/naru/x.yaml"), "file:///etc/naru/x.yaml");
    }
}
