//! The documents of a scenario as real processes have them: faster, at a gate of their own, and doing what the
//! scenario says of their services.
//!
//! Three things are not as they are written: lengths of time, which are divided (but in Deployments, which start
//! before time is counted); ports of gateways, which are free ones; and the arguments of `naru workload`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use naru_doc::tree::{Entry, Kind, Node, Position, parse_all};
use naru_sim::processes::{Part, Play};
use naru_sim::quantity::Span;

use crate::up::free_address;

/// Files of a directory that `naru up` can run, and where its gate is.
#[derive(Debug)]
pub struct Real {
    pub files: Vec<(String, String)>,
    pub gate: SocketAddr,
    /// How many processes each part has.
    pub replicas: BTreeMap<String, u32>,
}

impl Real {
    pub fn of(files: &[(String, String)], play: &Play) -> Real {
        let mut editor = Editor { play, gate: None, edits: Vec::new() };
        let files: Vec<(String, String)> =
            files.iter().map(|(name, text)| (name.clone(), editor.rewritten(text))).collect();
        let gate = editor.gate.expect("a Gateway lets the loads in");
        let mut loaded = naru_doc::Loaded::default();
        for (name, text) in &files {
            naru_doc::load(name, text, &mut loaded);
        }
        let processes = naru_plan::processes(&loaded.resources);
        let replicas = processes.into_iter().map(|process| (process.name, process.replicas)).collect();
        Real { files, gate, replicas }
    }
}

struct Editor<'a> {
    play: &'a Play,
    gate: Option<SocketAddr>,
    /// Where something else shall stand: what stands there, and what shall.
    edits: Vec<(Position, String, String)>,
}

impl Editor<'_> {
    fn rewritten(&mut self, text: &str) -> String {
        for document in &parse_all(text).expect("documents that the simulator has read") {
            match field(document, "kind").map(|node| &node.kind) {
                Some(Kind::Text(kind)) if kind == "Deployment" => self.deployment(document),
                Some(Kind::Text(kind)) if kind == "Gateway" => self.gateway(document),
                _ => self.times(document),
            }
        }
        self.edits.sort_by_key(|(position, ..)| (position.line, position.column));
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // From the last to the first: what stands before stays where it is.
        while let Some((position, old, new)) = self.edits.pop() {
            let line = &mut lines[position.line as usize - 1];
            let from = position.column as usize - 1;
            let at = from + line[from..].find(&old).unwrap_or_else(|| panic!("'{old}' is not in '{line}'"));
            line.replace_range(at..at + old.len(), &new);
        }
        lines.join("\n") + "\n"
    }

    fn times(&mut self, node: &Node) {
        match &node.kind {
            Kind::Map(entries) => entries.iter().for_each(|entry| self.times(&entry.node)),
            Kind::List(items) => items.iter().for_each(|item| self.times(item)),
            Kind::Text(text) => {
                if let Ok(Span(time)) = Span::try_from(text.clone())
                    && text != "0"
                {
                    let micros = (time / self.play.faster).as_micros().max(1);
                    self.edits.push((node.position, text.clone(), format!("{micros}us")));
                }
            }
            Kind::Null | Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) => {}
        }
    }

    fn gateway(&mut self, document: &Node) {
        let servers = field(document, "spec").and_then(|spec| field(spec, "servers"));
        for server in servers.map(items).unwrap_or_default() {
            let number = field(server, "port").and_then(|port| field(port, "number"));
            let Some(Node { position, kind: Kind::Integer(written) }) = number else { continue };
            let free = free_address();
            self.edits.push((*position, written.to_string(), free.port().to_string()));
            self.gate.get_or_insert(free);
        }
    }

    fn deployment(&mut self, document: &Node) {
        let name = text(field(document, "metadata").and_then(|meta| field(meta, "name")));
        let Some(part) = self.play.parts.iter().find(|part| part.name() == name) else { return };
        let template = field(document, "spec").and_then(|spec| field(spec, "template"));
        let containers =
            template.and_then(|node| field(node, "spec")).and_then(|node| field(node, "containers"));
        for container in containers.map(items).unwrap_or_default() {
            let command = field(container, "command");
            if let [.., last] = command.map(items).unwrap_or_default()
                && text(Some(last)) == "workload"
            {
                let arguments = serde_json::to_string(&arguments(part)).unwrap();
                let arguments = arguments.trim_matches(['[', ']']).replace("\",\"", "\", \"");
                self.edits.push((last.position, "workload".to_owned(), format!("workload, {arguments}")));
            }
        }
    }
}

/// What does not change while it runs.
fn arguments(part: &Part) -> Vec<String> {
    let mut arguments = vec!["--name".to_owned(), part.service.clone()];
    if !part.version.is_empty() {
        arguments.extend(["--version".to_owned(), part.version.clone()]);
    }
    arguments.extend(["--body".to_owned(), "x".repeat(part.body_bytes as usize)]);
    if part.needs_calls {
        arguments.push("--strict".to_owned());
    }
    for url in &part.calls {
        arguments.extend(["--call".to_owned(), url.clone()]);
    }
    arguments
}

fn field<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Kind::Map(entries) = &node.kind else { return None };
    entries.iter().find(|Entry { key, .. }| key == name).map(|entry| &entry.node)
}

fn items(node: &Node) -> &[Node] {
    match &node.kind {
        Kind::List(items) => items,
        _ => &[],
    }
}

fn text(node: Option<&Node>) -> &str {
    match node.map(|node| &node.kind) {
        Some(Kind::Text(text)) => text,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use naru_sim::Scenario;

    use super::*;

    const SCENARIO: &str = "\
config: documents
duration: 60s
load: [{ name: clients, arrivals: { constant: 1/s }, requests: [{ path: /, host: a }] }]
services:
  - name: a
    body: { bytes: 3 }
    fails_with: 502
    calls: [{ host: b }]
    versions: [{ name: v1 }]
processes: { faster: 20 }
";
    const DOCUMENTS: &str = "\
kind: Deployment
metadata: { name: a-v1 }
spec: { template: { spec: { containers: [{ command: [naru, workload], env: [{ name: T, value: 9s }] }] } } }
---
kind: Gateway
metadata: { name: gate }
spec: { servers: [{ port: { number: 8080 } }] }
---
kind: Other
spec: { of: ['30s', text, 1s], times: 3 } # 30s
";

    #[test]
    fn lengths_of_time_gates_and_arguments_are_those_of_real_processes() {
        let scenario = Scenario::parse("s.yaml", SCENARIO).unwrap();
        let play = naru_sim::processes::play(&scenario).unwrap().unwrap();
        let mut editor = Editor { play: &play, gate: None, edits: Vec::new() };
        let found = editor.rewritten(DOCUMENTS);
        let gate = editor.gate.unwrap();
        let expected = DOCUMENTS
            .replace(
                "workload]",
                "workload, \"--name\", \"a\", \"--version\", \"v1\", \"--body\", \"xxx\", \"--strict\", \
                 \"--call\", \"http://b/\"]",
            )
            .replace("8080", &gate.port().to_string())
            .replace("'30s'", "'1500000us'")
            .replace("1s]", "50000us]");
        assert_eq!(found, expected);
    }
}
