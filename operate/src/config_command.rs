//! `naru config`: configurations that were in force in a naru that runs, or that an etcd has.

use http::Method;
use naru_sources::Texts;
use serde_json::Value;

use crate::asking::{ask, batch};
use crate::authority;
use crate::bootstrap_command;
use crate::cli::{ConfigArgs, ConfigCommand, Failure, Output, RunningArgs};
use crate::say::say;
use crate::shared_config;

pub fn run(args: &ConfigArgs) -> Result<(), Failure> {
    match &args.command {
        ConfigCommand::History(args) if !args.etcd.etcd.is_empty() => {
            told(args, &shared_config::history(&args.etcd)?, history)
        }
        ConfigCommand::Show(args) if !args.running.etcd.etcd.is_empty() => {
            let answer = shared_config::show(&args.running.etcd, args.number)?;
            told(&args.running, &answer, documents)
        }
        ConfigCommand::Rollback(args) if !args.running.etcd.etcd.is_empty() => {
            let running = &args.running;
            let answer = shared_config::rollback(&running.etcd, args.number)?;
            told(running, &answer, written)
        }
        ConfigCommand::Apply(args) if !args.running.etcd.etcd.is_empty() => {
            told(&args.running, &shared_config::apply(args)?, written)
        }
        ConfigCommand::History(args) => {
            let answer = ask(&args.admin, &Method::GET, "/config/history", &[])?;
            told(args, &answer, history)
        }
        ConfigCommand::Show(args) => {
            let page = format!("/config/show?version={}", args.number);
            let answer = ask(&args.running.admin, &Method::GET, &page, &[])?;
            told(&args.running, &answer, documents)
        }
        ConfigCommand::Rollback(args) => {
            let page = format!("/config/rollback?version={}", args.number);
            let answer = ask(&args.running.admin, &Method::POST, &page, &[])?;
            told(&args.running, &answer, outcome)
        }
        ConfigCommand::Bootstrap(args) => bootstrap_command::run(args),
        ConfigCommand::Authority(args) => Ok(say(&authority::secret(&args.trust_domain)?)?),
        ConfigCommand::Apply(args) => {
            let texts = Texts::read(&args.paths).map_err(|error| Failure::Usage(error.into()))?;
            if texts.files.is_empty() {
                return Err(Failure::Usage(anyhow::anyhow!("there is no .yaml, .yml or .json file there")));
            }
            let page = if args.dry_run { "/config/apply?dry-run=1" } else { "/config/apply" };
            let answer = ask(&args.running.admin, &Method::POST, page, &batch(&texts.files))?;
            told(&args.running, &answer, outcome)
        }
    }
}

fn told(args: &RunningArgs, answer: &Value, words: fn(&Value) -> String) -> Result<(), Failure> {
    Ok(match args.output {
        Output::Json => say(&format!("{answer:#}\n")),
        Output::Text => say(&words(answer)),
    }?)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn history(answer: &Value) -> String {
    let current = number(answer, "current");
    let versions = answer.get("versions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let line = |version: &Value| {
        let number_of = number(version, "version");
        let mark = if number_of == current { "*" } else { " " };
        let files = match number(version, "files") {
            1 => "1 file".to_owned(),
            many => format!("{many} files"),
        };
        format!(
            "{mark} {number_of:>4}  {}  {files}, from {}\n",
            text(version, "since"),
            text(version, "source")
        )
    };
    versions.iter().map(line).collect()
}

fn documents(answer: &Value) -> String {
    let files = answer.get("files").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let one = |file: &Value| format!("# {}\n{}\n---\n", text(file, "name"), text(file, "text").trim_end());
    files.iter().map(one).collect()
}

fn outcome(answer: &Value) -> String {
    let mut out = match answer.get("dry_run") {
        Some(_) => "nothing is changed; this is what would be:\n".to_owned(),
        None => format!("version {} is in force\n", number(answer, "version")),
    };
    if let Some(documents) = answer.get("documents") {
        for (of, word) in [("gone", "gone"), ("new", "new ")] {
            for name in lines_of(documents, of) {
                out.push_str(&format!("{word}  {name}\n"));
            }
        }
        out.push_str(&format!("{} others stay, as they are written now\n", number(documents, "kept")));
    }
    lines(out, answer)
}

fn written(answer: &Value) -> String {
    lines(format!("revision {} is what there is\n", number(answer, "version")), answer)
}

fn lines(mut out: String, answer: &Value) -> String {
    for line in lines_of(answer, "differences").chain(lines_of(answer, "changes")) {
        out.push_str(line);
        out.push('\n');
    }
    out
}

fn lines_of<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    value.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
