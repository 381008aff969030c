//! What do nginx and docker-compose files say in our words?
//!
//! Comes in: the names and texts of files that are imported together. Goes out: documents of Istio's,
//! Kubernetes' and our own kinds as YAML, the same bytes for the same texts, and a note for whatever
//! could not be carried over, or means something else now, with its place.
//!
//! Deliberately not here: reading files (an `include` is told, not followed), and whether the documents
//! are right together (`naru check` says that).
#![forbid(unsafe_code)]

// What is read, then what is written.
mod nginx;
mod compose;
mod fragment;
mod caching;
mod kubernetes;
mod yaml;
mod notes;

use std::collections::BTreeMap;

use naru_doc::tree::{self, Kind, Node};
use naru_spec::Problem;

use crate::kubernetes::Names;
use crate::notes::Notes;

pub use notes::code;

/// What was made of some files.
#[derive(Debug, Default)]
pub struct Imported {
    pub documents: Vec<Document>,
    /// In the order of the files, and within each of its lines.
    pub notes: Vec<Problem>,
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub kind: &'static str,
    pub name: String,
    /// `nginx.conf:12`, and what stands there.
    pub origin: String,
    /// Ends with a line break; without `---`.
    pub yaml: String,
}

impl Document {
    /// The document below a comment that says where it comes from.
    pub fn with_origin(&self) -> String {
        format!("# from {}\n{}", self.origin, self.yaml)
    }
}

/// Reads files that belong together: what nginx calls `app` may be a service of the compose file.
pub fn import(files: &[(String, String)]) -> Imported {
    let mut output = Output::default();
    let read: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), Format::read(name, text))).collect();
    let mut services = BTreeMap::new();
    for (_, format) in &read {
        if let Format::Compose(nodes) = format {
            nodes.iter().for_each(|node| compose::collect(node, &mut services));
        }
    }
    // Which ports nginx calls is known before compose's services are written.
    for (_, format) in &read {
        if let Format::Nginx(parsed) = format {
            nginx::calls(&parsed.directives, &mut services);
        }
    }
    // Pieces of settings are about what the other files have.
    let (pieces, others): (Vec<_>, Vec<_>) =
        (0..).zip(read).partition(|(_, (_, format))| matches!(format, Format::Fragment(_)));
    let mut told = Vec::new();
    for (at, (file, format)) in others.into_iter().chain(pieces) {
        let mut notes = Notes::new(file);
        match format {
            Format::Nginx(parsed) => {
                notes.extend(parsed.problems);
                nginx::import(&parsed.directives, &services, &mut notes, &mut output);
            }
            Format::Compose(nodes) => {
                for node in &nodes {
                    compose::import(node, &services, &mut notes, &mut output);
                }
            }
            Format::Fragment(nodes) => {
                nodes.iter().for_each(|node| fragment::import(node, &mut notes, &mut output));
            }
            Format::Broken(problem) => notes.extend(vec![problem]),
        }
        told.push((at, notes.into_problems()));
    }
    told.sort_by_key(|(at, _): &(usize, _)| *at);
    output.imported.notes.extend(told.into_iter().flat_map(|(_, notes)| notes));
    output.imported
}

/// Ports of compose's services, by the service's name there: those that it says, and those that nginx
/// calls.
type Services = BTreeMap<String, compose::Known>;

/// Where documents go.
#[derive(Default)]
struct Output {
    imported: Imported,
    names: Names,
    /// What a service is called here, by what its file calls it.
    hosts: BTreeMap<String, String>,
}

impl Output {
    fn add(&mut self, kind: &'static str, name: String, origin: String, map: yaml::Map) {
        self.imported.documents.push(Document { kind, name, origin, yaml: map.print() });
    }

    /// The service that another file means by a name.
    fn host_of(&self, said: &str) -> Option<String> {
        self.hosts.get(said).or_else(|| self.hosts.get(&kubernetes::valid(said))).cloned()
    }
}

/// What a text is, by its name and by what stands in it.
enum Format {
    Nginx(nginx::Parsed),
    Compose(Vec<Node>),
    /// YAML of another kind.
    Fragment(Vec<Node>),
    Broken(Problem),
}

impl Format {
    fn read(name: &str, text: &str) -> Format {
        // A byte order mark is of the file, not of the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let is_yaml = [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending));
        if !is_yaml && (name.ends_with(".conf") || nginx::is_likely(text)) {
            return Format::Nginx(nginx::parse(name, text));
        }
        match tree::parse_all(text) {
            Err(error) => Format::Broken(error.into_problem(name)),
            Ok(nodes) if nodes.iter().any(|node| compose::services(node).is_some()) => Format::Compose(nodes),
            Ok(nodes) => Format::Fragment(nodes),
        }
    }
}

/// The value of a key.
fn field<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    match &node.kind {
        Kind::Map(entries) => entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node),
        _ => None,
    }
}
