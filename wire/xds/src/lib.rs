//! What does an Envoy v3 document mean, and how is our meaning said in Envoy's words?
//!
//! Comes in: the text of a bootstrap (YAML or JSON), or Envoy's protobuf messages. Goes out: a
//! [`naru_spec::Config`], or every problem with file, line, column and path; and the way back.
//! A field that is accepted acts: one that naru cannot act on is an error, never ignored.
//!
//! Deliberately not here: what a configuration does (`core`), files that it names, any network.
#![forbid(unsafe_code)]

// In the order of a document: text, tree, message, check, meaning; then the way back.
mod read;
mod supported;
mod rules;
pub mod decode;
pub mod encode;
mod json;
// What is said to those who run by it.
pub mod discovery;
// What they all use.
mod schema;
mod proto;
mod extension;
mod ours;
pub mod findings;
mod suggest;

use naru_base::Instant;
use naru_doc::tree;
use naru_spec::config::Place;
use naru_spec::{Config, Invalid, Path, Problem};
use prost::Message;

use crate::findings::{Findings, code};

pub use json::{REDACTED, config_dump, redacted, to_json, to_json_with};
pub use schema::Schema;

/// The messages of Envoy's API that are read and written.
pub mod message {
    pub use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
    pub use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    pub use envoy_types::pb::envoy::config::listener::v3::Listener;
    pub use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
}

/// What a document means, and what its author should know about it.
#[derive(Debug)]
pub struct Loaded {
    /// Where some of it comes from elsewhere: what can be in force before that.
    pub config: Config,
    pub warnings: Vec<Problem>,
    /// What comes from elsewhere, and from where.
    pub dynamic: Option<Box<discovery::Dynamic>>,
}

/// Reads a bootstrap, YAML or JSON. All problems are told at once, the warnings among them; only a
/// text that is not YAML at all has just one.
pub fn load(file_name: &str, text: &str) -> Result<Loaded, Vec<Problem>> {
    load_with(&Schema::new(), file_name, text)
}

/// [`load`] for many documents.
pub fn load_with(schema: &Schema, file_name: &str, text: &str) -> Result<Loaded, Vec<Problem>> {
    let document = match tree::parse(text) {
        Ok(document) => document,
        Err(error) => return Err(vec![error.into_problem(file_name)]),
    };
    let mut findings = Findings::in_document(file_name, &document);
    let descriptor = schema.message("envoy.config.bootstrap.v3.Bootstrap");
    let (mut config, mut elsewhere) = (Config::default(), None);
    if let Some(dynamic) = read::message(&descriptor, &document, &Path::ROOT, &mut findings) {
        supported::Check::new().message(&dynamic, &Path::ROOT, &mut findings);
        // One form at a time: a large document should not be in memory four times.
        let bytes = dynamic.encode_to_vec();
        drop(dynamic);
        match proto::bootstrap::Bootstrap::decode(bytes.as_slice()) {
            Ok(message) => (config, elsewhere) = read_parts(&message, &mut findings),
            Err(_) => findings.error(&Path::ROOT, code::SYNTAX, "the document is nested too deeply", ""),
        }
    }
    let has_errors = findings.has_errors();
    let problems = findings.into_problems();
    if has_errors {
        return Err(problems);
    }
    let dynamic = elsewhere.map(Box::new);
    if let Some(dynamic) = &dynamic {
        config = discovery::Client::new(schema.clone(), (**dynamic).clone(), 0, Instant::ZERO).config();
    }
    Ok(Loaded { config, warnings: problems, dynamic })
}

/// What the file says itself, and what is to come from elsewhere.
fn read_parts(
    message: &proto::bootstrap::Bootstrap,
    findings: &mut Findings<'_>,
) -> (Config, Option<discovery::Dynamic>) {
    let Some(mut dynamic) = discovery::Dynamic::read(message, &Path::ROOT, findings) else {
        return (decode::read_bootstrap(message, &Path::ROOT, findings), None);
    };
    let resources = message.static_resources.clone().unwrap_or_default();
    let path = Path::ROOT.field("static_resources");
    let (listeners, clusters) = (path.field("listeners"), path.field("clusters"));
    for (at, listener) in resources.listeners.iter().enumerate() {
        discovery::check_routes_at(listener, &listeners.at(at), findings);
    }
    for (at, cluster) in resources.clusters.iter().enumerate() {
        discovery::check_discovery_at(cluster, &clusters.at(at), findings);
    }
    let config = decode::read_bootstrap(&dynamic.filled(message), &Path::ROOT, findings);
    if !findings.has_errors() {
        dynamic.keep(message, &config, &mut discovery::Stamps::default());
    }
    (config, Some(dynamic))
}

/// What was found wrong with a configuration that [`load`] read from this text, with its places.
/// The text is read again: that is for when something is wrong, which is seldom.
pub fn locate(file_name: &str, text: &str, found: &[(Place, Invalid)]) -> Vec<Problem> {
    let schema = Schema::new();
    let Ok(document) = tree::parse(text) else { return Vec::new() };
    let descriptor = schema.message("envoy.config.bootstrap.v3.Bootstrap");
    // What `load` told already is not told again.
    let mut again = Findings::in_document(file_name, &document);
    let message = read::message(&descriptor, &document, &Path::ROOT, &mut again)
        .and_then(|dynamic| proto::bootstrap::Bootstrap::decode(dynamic.encode_to_vec().as_slice()).ok());
    let mut findings = Findings::in_document(file_name, &document);
    if let Some(message) = message {
        decode::tell_at_places(&message, found, &mut findings);
    }
    findings.into_problems()
}

/// The smallest configuration with one part in naru's own words (`Http`, `Rule`, `Cluster`, `Listener`), where it can be;
/// for fuzzing.
pub fn fuzz_part(part: &str, json: &str) -> Option<Config> {
    decode::fuzz_part(part, json)
}

/// Reads whatever bytes there are; for fuzzing.
pub fn fuzz(schema: &Schema, data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = load_with(schema, "fuzz", text);
    }
    if let Ok(message) = proto::bootstrap::Bootstrap::decode(data) {
        let _ = decode::bootstrap(schema, &message);
    }
}
