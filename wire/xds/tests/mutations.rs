//! No text and no bytes make the reader panic.
//!
//! Samples are cut, spliced and changed at random; `NARU_CASES=100000` asks for more of it.

mod random;

use naru_base::Chance;
use naru_xds::{Schema, encode};
use prost::Message;

const SEED: &str = include_str!("data/envoy-bootstrap.yaml");

fn cases() -> u64 {
    std::env::var("NARU_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_500)
}

#[test]
fn changed_texts_are_read_or_refused() {
    let schema = Schema::new();
    let cases_of_problems = include_str!("data/problems.txt");
    let changes: Vec<&str> = cases_of_problems.lines().filter_map(|l| l.strip_prefix("+ ")).collect();
    let json = naru_xds::to_json_with(&schema, &random::config(3)).to_string();
    for case in 0..cases() {
        let mut chance = Chance::split(case, "text");
        let mut text = if chance.below(4) == 0 { json.clone() } else { SEED.to_owned() }.into_bytes();
        for _ in 0..=chance.below(4) {
            change(&mut text, &changes, &mut chance);
        }
        naru_xds::fuzz(&schema, &text);
    }
}

#[test]
fn changed_messages_are_read_or_refused() {
    let schema = Schema::new();
    for case in 0..cases() {
        let mut chance = Chance::split(case, "message");
        let mut bytes = encode::bootstrap(&random::config(case % 40)).encode_to_vec();
        for _ in 0..=chance.below(3) {
            change(&mut bytes, &[], &mut chance);
        }
        naru_xds::fuzz(&schema, &bytes);
    }
}

#[test]
fn every_beginning_of_the_seed_is_read_or_refused() {
    let schema = Schema::new();
    for end in 0..SEED.len() {
        naru_xds::fuzz(&schema, &SEED.as_bytes()[..end]);
    }
}

#[test]
fn deep_texts_are_refused() {
    let schema = Schema::new();
    for (open, close) in [
        ("{a: ", "}"),
        ("[", "]"),
        ("- ", ""),
        ("? ", ""),
        ("node: {metadata: {a: ", "}}"),
        ("{\"node\": ", "}"),
        ("!!a ", ""),
        ("a:\n ", ""),
    ] {
        for depth in [10, 30, 50, 1_000, 20_000] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            naru_xds::fuzz(&schema, text.as_bytes());
        }
    }
    let metadata = |depth| format!("node: {{metadata: {}1{}}}", "{a: ".repeat(depth), "}".repeat(depth));
    naru_xds::load_with(&schema, "deep", &metadata(25)).expect("deep metadata of a node");
    let problems = naru_xds::load_with(&schema, "deeper", &metadata(36)).expect_err("deeper metadata");
    assert_eq!(problems[0].message, "the document is nested too deeply");
}

fn change(bytes: &mut Vec<u8>, lines: &[&str], chance: &mut Chance) {
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "\n",
        "\"",
        "'",
        "*a",
        "&a ",
        "<<: ",
        "!!str ",
        "|\n",
        "null",
        "~",
        "1e999",
        "-1",
        "99999999999999999999",
        "%REQ(",
        "\u{0}",
        "\u{feff}",
        "é",
        "{}",
        "[]",
        "  ",
        "\t",
        "? ",
        "---\n",
        "#",
    ];
    let at = chance.below(bytes.len() as u64 + 1) as usize;
    match chance.below(6) {
        0 => bytes.truncate(at),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = chance.draw() as u8;
            }
        }
        2 => {
            let end = (at + chance.below(40) as usize).min(bytes.len());
            bytes.drain(at..end);
        }
        3 => {
            let end = (at + chance.below(200) as usize).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = chance.below(bytes.len() as u64 + 1) as usize;
            bytes.splice(to..to, piece);
        }
        4 if !lines.is_empty() => {
            let line = lines[chance.below(lines.len() as u64) as usize];
            let start = bytes[..at].iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
            let line = format!("{line}\n").into_bytes();
            bytes.splice(start..start, line);
        }
        _ => {
            let piece = PIECES[chance.below(PIECES.len() as u64) as usize].as_bytes().to_vec();
            bytes.splice(at..at, piece);
        }
    }
}
