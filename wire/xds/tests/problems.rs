//! Documents with something wrong in them: what is told, and where.
//!
//! `data/problems.txt` holds the cases. Each begins with `#` and a sentence, says by `-` which lines
//! of the seed are replaced by which (`+`), and what is told (`>`). `HCM`, `VH`, `L0` and `C0` stand
//! for the long way to the manager, its virtual host, the listener and the cluster.
//! `NARU_BLESS=1 cargo test -p naru-xds --test problems` writes what is told into the file: read it.

use naru_xds::Schema;

const SEED: &str = include_str!("data/envoy-bootstrap.yaml");
const CASES: &str = include_str!("data/problems.txt");

#[test]
fn every_problem_is_told_with_its_place_path_and_hint() {
    let schema = Schema::new();
    let mut written = String::new();
    for case in CASES.split_inclusive("\n\n") {
        let lines = |mark: &str| -> Vec<&str> {
            case.lines()
                .filter_map(|line| line.strip_prefix(mark))
                .map(|l| l.strip_prefix(' ').unwrap_or(l))
                .collect()
        };
        let from = format!("{}\n", lines("-").join("\n"));
        let to: String = lines("+").iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(SEED.matches(&from).count(), 1, "{case}: the lines stand in the seed once");
        let told = tell(&schema, &SEED.replacen(&from, &to, 1));
        written
            .extend(case.lines().filter(|l| !l.starts_with('>') && !l.is_empty()).map(|l| format!("{l}\n")));
        written.extend(told.iter().map(|line| format!("> {line}\n")));
        written.push('\n');
        if std::env::var_os("NARU_BLESS").is_none() {
            assert_eq!(told, lines(">"), "{case}");
        }
    }
    if std::env::var_os("NARU_BLESS").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/problems.txt");
        std::fs::write(file, written).expect("the file can be written");
    }
}

/// All but the warning that the seed itself has.
fn tell(schema: &Schema, text: &str) -> Vec<String> {
    let problems = match naru_xds::load_with(schema, "f.yaml", text) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    let told = problems.iter().filter(|p| p.code != "certificate-not-verified").map(|p| {
        assert_eq!(p.file, "f.yaml");
        let path = p
            .path
            .replace("static_resources.listeners[0].filter_chains[0].filters[0].typed_config", "HCM")
            .replace("static_resources.listeners[0]", "L0")
            .replace("static_resources.clusters[0]", "C0")
            .replace("HCM.route_config.virtual_hosts[0]", "VH");
        let level = if p.is_error() { "" } else { "warning " };
        let hint = if p.hint.is_empty() { String::new() } else { format!(" ({})", p.hint) };
        format!("{level}{} {}:{} {path}: {}{hint}", p.code, p.line, p.column, p.message)
    });
    told.collect()
}

#[test]
fn the_cases_cover_every_code() {
    use naru_xds::findings::code;
    for code in [
        code::SYNTAX,
        code::UNKNOWN_FIELD,
        code::WRONG_TYPE,
        code::UNKNOWN_VALUE,
        code::INVALID_VALUE,
        code::MISSING_FIELD,
        code::CONFLICTING_FIELDS,
        code::UNSUPPORTED_FIELD,
        code::UNSUPPORTED_EXTENSION,
        code::UNKNOWN_CLUSTER,
        code::DUPLICATE,
        code::NO_EFFECT,
    ] {
        assert!(
            CASES.contains(&format!("> {code} ")) || CASES.contains(&format!("> warning {code} ")),
            "{code}"
        );
    }
}
