//! An Envoy bootstrap: YAML, JSON, or the bytes of its message.

use std::sync::LazyLock;

use naru_journey::Snapshot;
use naru_spec::Config;
use naru_xds::{Loaded, Schema, load_with, to_json_with};

use crate::place;

const FILE: &str = "fuzz.yaml";

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::new);

/// Whatever is wrong is told with its place; what loads is the same once it was written and read again.
pub fn bootstrap(bytes: &[u8]) {
    // As protobuf, too: that is what a control plane sends.
    naru_xds::fuzz(&SCHEMA, bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match load_with(&SCHEMA, FILE, text) {
        Err(problems) => {
            assert!(problems.iter().any(|problem| problem.is_error()), "refused without an error");
            place::check(FILE, text, &problems);
        }
        Ok(Loaded { config, warnings, dynamic }) => {
            assert!(!warnings.iter().any(|problem| problem.is_error()), "accepted with an error");
            place::check(FILE, text, &warnings);
            reads_back(&config);
            // What comes from elsewhere has no place in the text.
            if dynamic.is_none() {
                compiles(text, config);
            }
        }
    }
}

fn reads_back(config: &Config) {
    let written = to_json_with(&SCHEMA, config).to_string();
    let read = load_with(&SCHEMA, "written.json", &written);
    let read = read.unwrap_or_else(|problems| panic!("{problems:#?}\n{written}"));
    assert_eq!(normal(read.config), normal(config.clone()), "{written}");
}

/// Envoy's words put inverted tests of the query behind the others; that changes nothing.
fn normal(mut config: Config) -> Config {
    let chains = config.listeners.iter_mut().flat_map(|listener| &mut listener.chains);
    let hosts = chains.flat_map(|chain| &mut chain.http.routes.virtual_hosts);
    let rules = hosts.flat_map(|host| &mut host.rules);
    for block in rules.flat_map(|rule| &mut rule.matches) {
        block.query.sort_by_key(|query| query.invert && query.test.is_some());
    }
    config
}

fn compiles(text: &str, config: Config) {
    let Err(found) = Snapshot::compile(config) else { return };
    let problems = naru_xds::locate(FILE, text, &found);
    assert!(!problems.is_empty(), "nothing is told of {found:?}");
    place::check(FILE, text, &problems);
}
