//! `naru check`: what is wrong with documents, and what is most often a mistake.

mod codes;
mod sarif;
pub mod unstartable;

use std::fmt::Write as _;
use std::path::PathBuf;

use naru_doc::Loaded;
use naru_journey::Snapshot;
use naru_lint::Rule;
use naru_plan::{Planned, Status, Surroundings, plan};
use naru_sources::Texts;
use naru_spec::suggest::did_you_mean;
use naru_spec::{Config, Problem, Severity, code};

use crate::authority;
use crate::cli::{CheckArgs, CheckOutput, FailOn, Failure};
use crate::problems;
use crate::say::say;

pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    if let Some(code) = &args.explain {
        return Ok(say(&explain(code)?)?);
    }
    let texts = Texts::read(&args.paths).map_err(|error| Failure::Usage(error.into()))?;
    if texts.files.is_empty() {
        return Err(Failure::Usage(anyhow::anyhow!(no_documents(&args.paths))));
    }
    let Examined { mut told, is_linted, statuses, loaded, compiled } = examine(&texts);
    if let Some((config, snapshot)) = &compiled {
        let found = unstartable::of_files(config, snapshot, &loaded.resources);
        told.extend(found.into_iter().map(|problem| Told { problem, also: Vec::new(), about: None }));
        sort(&mut told);
    }
    if args.status {
        return tell_statuses(&statuses, &told, &texts, args);
    }
    match args.output {
        CheckOutput::Text => print(&told, &texts, is_linted),
        CheckOutput::Json => {
            let all: Vec<_> = told.iter().map(Told::to_json).collect();
            say(&format!("{}\n", serde_json::Value::Array(all)))?;
        }
        CheckOutput::Sarif => say(&format!("{:#}\n", sarif::log(&told)))?,
    }
    if args.output == CheckOutput::Text {
        let found: Vec<Problem> = told.iter().map(|told| told.problem.clone()).collect();
        let count = problems::count(&found);
        let files = match texts.files.len() {
            1 => "1 file".to_owned(),
            many => format!("{many} files"),
        };
        say(&format!("{files}: {}\n", if count.is_empty() { "fine" } else { &count }))?;
    }
    let is_failure = |told: &Told| match args.fail_on {
        FailOn::Error => told.problem.severity == Severity::Error,
        FailOn::Warning => told.problem.severity != Severity::Note,
        FailOn::Note => true,
    };
    if told.iter().any(is_failure) { Err(Failure::Told) } else { Ok(()) }
}

fn print(told: &[Told], texts: &Texts, is_linted: bool) {
    let of_file = |file: &str| texts.text(file);
    let is_coloured = problems::is_coloured();
    for told in told {
        let mut text = problems::render(&told.problem, &of_file, is_coloured);
        if !told.also.is_empty() {
            let _ = writeln!(text, "  also: {}", told.also.join(", "));
        }
        naru_say::say!("{text}");
    }
    if !is_linted {
        naru_say::say!(
            "what is most often a mistake was not looked for: first correct what cannot be read\n"
        );
    }
}

/// What a code means.
fn explain(code: &str) -> Result<String, Failure> {
    if let Some(rule) = naru_lint::rule(code) {
        return Ok(of_rule(rule));
    }
    if let Some((code, what)) = codes::CODES.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)) {
        return Ok(format!("{code}: {what}\n"));
    }
    let known =
        naru_lint::CATALOG.iter().map(|rule| rule.code).chain(codes::CODES.iter().map(|(code, _)| *code));
    let hint = did_you_mean(code, known);
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    Err(Failure::Usage(anyhow::anyhow!("there is no code '{code}'{hint}")))
}

fn of_rule(rule: &Rule) -> String {
    let severity = word(rule.severity);
    let mut out = format!("{}: {}\n\n{}\n\n", rule.code, rule.title, rule.explanation);
    if rule.theirs.is_empty() {
        let _ = writeln!(out, "level: {severity}");
    } else {
        let _ = writeln!(out, "level: {severity}; where the code comes from: {}", rule.theirs);
    }
    if !rule.also.is_empty() {
        let _ = writeln!(out, "also: {}", rule.also.join(", "));
    }
    out
}

pub fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// One thing that is told, with all its names.
#[derive(Clone, Debug)]
pub struct Told {
    pub problem: Problem,
    /// Other codes for the same.
    pub also: Vec<&'static str>,
    /// Whose document it is, where that is known.
    pub about: Option<String>,
}

impl Told {
    fn to_json(&self) -> serde_json::Value {
        let mut all = problems::to_json(&self.problem);
        all["also"] = self.also.clone().into();
        all["about"] = self.about.clone().into();
        all
    }
}

/// Everything that can be said of documents.
pub struct Examined {
    /// In the order of files and lines.
    pub told: Vec<Told>,
    /// What is most often a mistake was looked for: where documents could not be read, what is missing may well be
    /// there.
    pub is_linted: bool,
    /// Of documents of the Gateway API.
    pub statuses: Vec<Status>,
    pub loaded: Loaded,
    /// Nothing where a problem is an error.
    pub compiled: Option<(Config, Snapshot)>,
}

/// What no configuration can be made of, and what is most often a mistake.
pub fn examine(texts: &Texts) -> Examined {
    let loaded = texts.load();
    let is_linted = !loaded.problems.iter().any(Problem::is_error);
    let identity = authority::stand_in(&loaded.resources);
    let checked = check_loaded(&loaded, &Surroundings { identity, ..Surroundings::default() });
    let mut told: Vec<Told> =
        checked.problems.into_iter().map(|problem| Told { problem, also: Vec::new(), about: None }).collect();
    if is_linted {
        for finding in naru_lint::check(&loaded.resources) {
            join(finding.to_problem(&loaded.resources), finding.about, finding.rule, &mut told);
        }
    }
    sort(&mut told);
    Examined { told, is_linted, statuses: checked.statuses, loaded, compiled: checked.compiled }
}

fn sort(told: &mut [Told]) {
    told.sort_by_key(|told| (told.problem.file.clone(), told.problem.line, told.problem.column));
}

/// Said of paths that are there.
pub fn no_documents(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| format!("'{}'", path.display())).collect();
    format!("there is no .yaml, .yml or .json file in {}", paths.join(", "))
}

/// What two say of one place is told once, with both names.
fn join(problem: Problem, about: String, rule: &'static Rule, told: &mut Vec<Told>) {
    let is_same = |known: &&mut Told| {
        known.problem.file == problem.file
            && known.problem.line == problem.line
            && codes::are_same(rule.code, known.problem.code)
            && known.about.as_ref().is_none_or(|known| *known == about)
    };
    let codes = std::iter::once(rule.code).chain(rule.also.iter().copied());
    match told.iter_mut().find(is_same) {
        Some(known) => {
            known.about = Some(about);
            for code in codes {
                if !known.also.contains(&code) {
                    known.also.push(code);
                }
            }
        }
        None => told.push(Told { problem, also: rule.also.to_vec(), about: Some(about) }),
    }
}

/// What a controller of the Gateway API would write into the documents. What could not be read has no status, and is
/// told instead.
fn tell_statuses(statuses: &[Status], told: &[Told], texts: &Texts, args: &CheckArgs) -> Result<(), Failure> {
    let errors: Vec<Told> =
        told.iter().filter(|told| told.problem.severity == Severity::Error).cloned().collect();
    print(&errors, texts, true);
    match args.output {
        CheckOutput::Text => say(&crate::statuses::to_text(statuses))?,
        CheckOutput::Json => say(&format!("{}\n", crate::statuses::to_json(statuses)))?,
        CheckOutput::Sarif => {
            return Err(Failure::Usage(anyhow::anyhow!("SARIF is for problems; a status is text or JSON")));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

/// Documents, and what was made of them.
pub struct Checked {
    /// Nothing where a problem is an error.
    pub compiled: Option<(Config, Snapshot)>,
    pub problems: Vec<Problem>,
    /// Of documents of the Gateway API.
    pub statuses: Vec<Status>,
}

/// Everything that can be known of documents without running them.
pub fn check_loaded(loaded: &Loaded, surroundings: &Surroundings) -> Checked {
    compile(plan(&loaded.resources, surroundings), loaded, |_| {})
}

/// Keys that no token can be held against, which else only show when they are put in force.
pub fn keys_of_tokens(loaded: &Loaded) -> Vec<Problem> {
    let mut found = Vec::new();
    for document in &loaded.resources.request_authentications {
        for (at, rule) in document.spec.jwt_rules.iter().enumerate() {
            let file = rule.jwks_uri.as_ref().and_then(|uri| Some((uri, naru_plan::file_of(&uri.value)?)));
            let (said, field, text) = match (&rule.jwks, file) {
                (Some(jwks), _) => (jwks, "jwks", Ok(jwks.value.clone().into_bytes())),
                (None, Some((uri, file))) => (uri, "jwksUri", std::fs::read(file)),
                (None, None) => continue,
            };
            let mut tell = |severity, message| {
                found.push(Problem {
                    severity,
                    code: code::INVALID_VALUE,
                    message,
                    hint: "a set of keys (JWKS): {\"keys\": [..]}, of RSA, EC, Ed25519 or a shared secret"
                        .to_owned(),
                    file: loaded.resources.files.name(said.place.file).to_owned(),
                    line: said.place.line,
                    column: said.place.column,
                    path: format!("spec.jwtRules[{at}].{field}"),
                });
            };
            let text = match text {
                Ok(text) => text,
                Err(why) => {
                    tell(Severity::Error, format!("the keys of tokens cannot be read: {why}"));
                    continue;
                }
            };
            match naru_proxy::check_keys(&text) {
                Err(why) => tell(Severity::Error, format!("the keys of tokens are none: {why}")),
                Ok(left_out) => {
                    for why in left_out {
                        tell(Severity::Warning, format!("a key of tokens is left out: {why}"));
                    }
                }
            }
        }
    }
    found
}

/// The same of what was planned already. The configuration that documents mean may be completed before tables are made of
/// it.
pub fn compile(planned: Planned, loaded: &Loaded, complete: impl FnOnce(&mut Config)) -> Checked {
    let Planned { mut config, problems: of_plan } = planned;
    let mut problems = loaded.problems.clone();
    problems.extend(of_plan);
    problems.extend(keys_of_tokens(loaded));
    problems.extend(authority::problems(loaded));
    let mut compiled = None;
    // A configuration that lacks what could not be read may have faults that nobody made.
    if !problems.iter().any(Problem::is_error) {
        complete(&mut config);
        match Snapshot::compile(config.clone()) {
            Ok(snapshot) => compiled = Some((config, snapshot)),
            Err(found) => problems.extend(naru_plan::locate(&config, &found, &loaded.resources.files)),
        }
    }
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    Checked { compiled, problems, statuses: naru_plan::statuses(&loaded.resources) }
}
