//! What documents become, in a few lines that a person can read.
#![allow(dead_code, reason = "each test has its own use for it")]

use std::fmt::Write as _;

use naru_plan::{Planned, Surroundings, plan};
use naru_spec::{Action, ClusterChoice, Config, HeaderTest, Match, PathMatch, Rule, ValueTest};

/// Of documents, and what is told of them: `severity[code] line: message`.
pub fn planned(documents: &str) -> (Config, Vec<String>) {
    planned_for(documents, &Surroundings::default())
}

pub fn planned_for(documents: &str, surroundings: &Surroundings) -> (Config, Vec<String>) {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", documents, &mut loaded);
    let Planned { config, problems } = plan(&loaded.resources, surroundings);
    let told = loaded.problems.iter().chain(&problems).map(|problem| {
        let head = problem.to_string();
        let severity = head.split('[').next().unwrap_or("").to_owned();
        format!("{severity}[{}] {}: {}", problem.code, problem.path, problem.message)
    });
    (config, told.collect())
}

/// Every listener but those that workloads call through, unless nothing else is there.
pub fn gateways(config: &Config) -> String {
    let mut out = String::new();
    for listener in config.listeners.iter().filter(|listener| listener.name.starts_with("gateway/")) {
        let _ = writeln!(out, "{}", listener.address);
        for chain in &listener.chains {
            let names: Vec<String> = chain.server_names.iter().map(ToString::to_string).collect();
            if chain.tls.is_some() || !names.is_empty() {
                let ends = if chain.tls.is_some() { "ends" } else { "passes" };
                let _ = writeln!(out, "  TLS {ends} {}", names.join(" "));
            }
            if let Some(tcp) = &chain.tcp {
                let _ = writeln!(out, "  -> {}", clusters(&tcp.clusters));
                continue;
            }
            for host in &chain.http.routes.virtual_hosts {
                let domains: Vec<String> = host.domains.iter().map(ToString::to_string).collect();
                let _ = writeln!(out, "  {}", domains.join(" "));
                for one in &host.rules {
                    let _ = writeln!(out, "    {}", rule(one));
                }
            }
        }
    }
    out
}

pub fn rule(rule: &Rule) -> String {
    let matches: Vec<String> = rule.matches.iter().map(one_match).collect();
    let action = match &rule.action {
        Action::Forward(forward) => clusters(&forward.clusters),
        Action::Redirect(redirect) => format!("redirect {}", redirect.status.as_u16()),
        Action::Direct(direct) => format!("answer {}", direct.status.as_u16()),
    };
    format!("{} -> {action}", matches.join(" or "))
}

fn one_match(block: &Match) -> String {
    let mut parts = Vec::new();
    parts.push(match &block.path {
        PathMatch::Exact(path) => format!("={path}"),
        PathMatch::Prefix(path) => format!("{path}*"),
        PathMatch::SegmentPrefix(path) => format!("{path}/*"),
        PathMatch::Regex(pattern) => format!("~{}", pattern.as_str()),
        PathMatch::Connect => "CONNECT".to_owned(),
    });
    let value = |test: &ValueTest| match test {
        ValueTest::Exact(text) => text.clone(),
        other => format!("{other:?}"),
    };
    parts.extend(block.method.as_ref().map(|method| value(&method.test)));
    for header in &block.headers {
        let test = match &header.test {
            HeaderTest::Value(test) => value(&test.test),
            other => format!("{other:?}"),
        };
        parts.push(format!("{}:{test}", header.name));
    }
    for param in &block.query {
        parts.push(format!(
            "?{}={}",
            param.name,
            param.test.as_ref().map_or(String::new(), |t| value(&t.test))
        ));
    }
    parts.join(" ")
}

/// `reviews:80`, or several with their weights.
pub fn clusters(choice: &ClusterChoice) -> String {
    let short = |name: &str| {
        let parts: Vec<&str> = name.split('|').collect();
        match parts.as_slice() {
            ["outbound", port, "", host] => format!("{}:{port}", host.trim_end_matches(".svc.cluster.local")),
            _ => name.to_owned(),
        }
    };
    match choice {
        ClusterChoice::One(name) => short(name),
        ClusterChoice::Weighted(several) => {
            let all: Vec<String> =
                several.iter().map(|one| format!("{}x{}", one.weight.0, short(&one.name))).collect();
            all.join(" ")
        }
    }
}
