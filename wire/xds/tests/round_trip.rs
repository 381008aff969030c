//! What is written in Envoy's words reads back as it was, for thousands of random configurations.
//!
//! `NARU_SEED=n cargo test -p naru-xds --test round_trip` replays one.
#![allow(clippy::panic, reason = "a test says what it found")]

mod random;

use naru_spec::{Config, Match};
use naru_xds::discovery::Dialect;
use naru_xds::encode::resources;
use naru_xds::{Schema, decode, encode};

const CASES: u64 = 2_000;
/// Text costs more than messages in a debug build.
const TEXT_CASES: u64 = 200;
/// All of it is written six times.
const BYTES_CASES: u64 = 60;

fn seeds(cases: u64) -> std::ops::Range<u64> {
    match std::env::var("NARU_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..cases,
    }
}

#[test]
fn messages_read_back_as_they_were_written() {
    let schema = Schema::new();
    for seed in seeds(CASES) {
        let config = random::config(seed);
        let (read, _) = decode::bootstrap(&schema, &encode::bootstrap(&config))
            .unwrap_or_else(|problems| panic!("seed {seed}: {problems:#?}"));
        let expected = normal(config);
        assert!(read == expected, "seed {seed}:\n{}", first_difference(&read, &expected));
        // The normal form is one: it stays as it is.
        let (again, _) = decode::bootstrap(&schema, &encode::bootstrap(&read)).expect("seed {seed}");
        assert!(again == read, "seed {seed}");
    }
}

/// Envoy's words have maps, which are gone through in another order each time.
#[test]
fn equal_configurations_are_equal_bytes_for_everybody() {
    for seed in seeds(BYTES_CASES) {
        let config = random::config(seed);
        for dialect in [Dialect::Envoy, Dialect::Grpc, Dialect::Naru] {
            let (one, other) = (resources(&config, dialect), resources(&config.clone(), dialect));
            assert!(one == other, "seed {seed}, {dialect:?}");
        }
    }
}

#[test]
fn json_reads_back_as_it_was_written() {
    let schema = Schema::new();
    for seed in seeds(TEXT_CASES) {
        let config = random::config(seed);
        let text = naru_xds::to_json_with(&schema, &config).to_string();
        let read = naru_xds::load_with(&schema, "config.json", &text)
            .unwrap_or_else(|problems| panic!("seed {seed}: {problems:#?}\n{text}"));
        let expected = normal(config);
        assert!(read.config == expected, "seed {seed}:\n{}", first_difference(&read.config, &expected));
    }
}

#[test]
fn parts_read_back_on_their_own() {
    let schema = Schema::new();
    for seed in 0..50 {
        let config = normal(random::config(seed));
        for listener in &config.listeners {
            let (read, _) = decode::listener(&schema, &encode::listener(listener)).expect("a listener");
            assert_eq!(&read, listener, "seed {seed}");
            let routes = &listener.chains[0].http.routes;
            assert_eq!(&decode::routes(&schema, &encode::routes(routes)).expect("routes").0, routes);
        }
        for cluster in &config.clusters {
            let (read, _) = decode::cluster(&schema, &encode::cluster(cluster)).expect("a cluster");
            assert_eq!(&read, cluster, "seed {seed}");
        }
    }
}

/// What `encode` says about its normal form.
fn normal(mut config: Config) -> Config {
    for chain in config.listeners.iter_mut().flat_map(|listener| &mut listener.chains) {
        let of_tcp = chain.tcp.iter_mut().flat_map(|tcp| &mut tcp.access_log);
        for log in of_tcp.chain(&mut chain.http.access_log) {
            if let naru_spec::LogFormat::Json(fields) = &mut log.format {
                sort(fields);
            }
        }
        for host in &mut chain.http.routes.virtual_hosts {
            let rules = std::mem::take(&mut host.rules);
            for rule in rules {
                for block in &rule.matches {
                    host.rules.push(naru_spec::Rule { matches: vec![normal_match(block)], ..rule.clone() });
                }
            }
        }
    }
    config
}

fn normal_match(block: &Match) -> Match {
    let mut block = block.clone();
    let (not, plain) = block.query.into_iter().partition(|q| q.invert && q.test.is_some());
    block.query = plain;
    block.query.extend::<Vec<_>>(not);
    block
}

fn sort(fields: &mut [(String, naru_spec::JsonField)]) {
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (_, field) in fields {
        sort_field(field);
    }
}

fn sort_field(field: &mut naru_spec::JsonField) {
    match field {
        naru_spec::JsonField::Object(fields) => sort(fields),
        naru_spec::JsonField::List(items) => items.iter_mut().for_each(sort_field),
        _ => {}
    }
}

fn first_difference(read: &Config, expected: &Config) -> String {
    let (read, expected) = (format!("{read:#?}"), format!("{expected:#?}"));
    let lines: Vec<_> = read.lines().zip(expected.lines()).collect();
    let at = lines.iter().position(|(a, b)| a != b).unwrap_or(lines.len().saturating_sub(1));
    let around = at.saturating_sub(20)..(at + 5).min(lines.len());
    around.map(|n| format!("{:60} | {}\n", lines[n].0, lines[n].1)).collect()
}
