//! `naru diff`: what another configuration changes, and which of the requests that were sent it would send elsewhere.

pub mod logged;
pub mod replayed;
mod callers;
pub mod settings;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::Context as _;
use naru_doc::Loaded;
use naru_plan::{Client, Instance, Surroundings, outbound_name, pretended};
use naru_resource::Resources;
use naru_sources::Texts;
use naru_spec::{Config, Format, Problem};
use serde_json::json;

use crate::check_command::{check_loaded, no_documents};
use crate::cli::{DiffArgs, Failure, Output};
use crate::problems;
use crate::say::say;

use logged::Reader;
use replayed::Shapes;

/// A line that is longer is no line of a log.
const LINE_BYTES_MAX: u64 = 256 << 10;

pub fn run(args: &DiffArgs) -> Result<(), Failure> {
    let format = match &args.log_format {
        Some(text) => Some(readable(text)?),
        None => None,
    };
    let (old_texts, new_texts) = (read(&args.old)?, read(&args.new)?);
    let (old_loaded, new_loaded) = (old_texts.load(), new_texts.load());
    problems::tell_passed_over(&old_loaded.problems);
    problems::tell_passed_over(&new_loaded.problems);
    let (before, after) = as_written(&old_loaded.resources, &new_loaded.resources);
    let clients = callers::of(&[&old_loaded.resources, &new_loaded.resources]);
    let whole_old = compile(&old_loaded, before, &clients, &old_texts, args.output)?;
    let whole_new = compile(&new_loaded, after, &clients, &new_texts, args.output)?;
    let nobody = outbound_name(&Client::unnamed());
    let (old, new) = (callers::only(&whole_old, &nobody), callers::only(&whole_new, &nobody));
    let differences = settings::between(&old, &new);
    let (replayed, of_callers) = match &args.replay {
        Some(log) => {
            let mut shapes = Shapes::of(&[&whole_old, &whole_new]);
            gather(log, &Reader::new(format), &mut shapes)?;
            let told = callers::replayed(&old, &new, &shapes)?;
            let others = callers::others(&whole_old, &whole_new, &clients, &told, &shapes)?;
            (Some(told), others)
        }
        None => (None, Vec::new()),
    };
    let answer = match args.output {
        Output::Text => {
            let mut text = differences.to_text();
            if let Some(replayed) = &replayed {
                text.push('\n');
                text.push_str(&replayed.to_text());
            }
            for caller in &of_callers {
                text.push_str(&caller.to_text());
            }
            text
        }
        Output::Json => {
            let mut replayed = replayed.as_ref().map(replayed::Told::to_json);
            if let Some(replayed) = &mut replayed {
                replayed["callers"] = of_callers.iter().map(callers::OfCaller::to_json).collect();
            }
            format!("{:#}\n", json!({ "differences": differences.to_json(), "replay": replayed }))
        }
    };
    Ok(say(&answer)?)
}

fn readable(text: &str) -> Result<Format, Failure> {
    // As a shell writes a line's end.
    let text = text.replace("\\n", "\n");
    let format = Format::parse(&text).and_then(|format| format.check_readable().map(|()| format));
    format.map_err(|invalid| {
        let hint = if invalid.hint.is_empty() { String::new() } else { format!(": {}", invalid.hint) };
        Failure::Usage(anyhow::anyhow!("--log-format: {}{hint}", invalid.message))
    })
}

fn read(path: &PathBuf) -> Result<Texts, Failure> {
    let texts = Texts::read(std::slice::from_ref(path)).map_err(|error| Failure::Usage(error.into()))?;
    match texts.files.is_empty() {
        true => Err(Failure::Usage(anyhow::anyhow!(no_documents(std::slice::from_ref(path))))),
        false => Ok(texts),
    }
}

fn compile(
    loaded: &Loaded,
    instances: Vec<Instance>,
    clients: &[Client],
    texts: &Texts,
    output: Output,
) -> Result<Config, Failure> {
    let surroundings = Surroundings { instances, clients: clients.to_vec(), ..Surroundings::default() };
    let checked = check_loaded(loaded, &surroundings);
    checked.compiled.map(|(config, _)| config).ok_or_else(|| {
        let errors: Vec<_> = checked.problems.into_iter().filter(Problem::is_error).collect();
        problems::refuse(&errors, &|file| texts.text(file), output)
    })
}

/// As many processes as both say, wherever any of them runs by now: what is compared is what documents ask for.
pub fn as_written(old: &Resources, new: &Resources) -> (Vec<Instance>, Vec<Instance>) {
    let before = pretended(old);
    let after = at_the_same_place(&before, pretended(new));
    (before, after)
}

/// A process of a workload that is in both has one address in both: where it is pretended to be follows from the
/// order of documents, which says nothing.
fn at_the_same_place(before: &[Instance], after: Vec<Instance>) -> Vec<Instance> {
    type Key = (String, Vec<(String, String)>);
    let key = |instance: &Instance| -> Key { (instance.namespace.clone(), instance.labels.clone()) };
    let mut known: BTreeMap<Key, Vec<IpAddr>> = BTreeMap::new();
    for instance in before.iter().rev() {
        known.entry(key(instance)).or_default().push(instance.address);
    }
    let mut new = 0_u16;
    let place = |mut instance: Instance| {
        instance.address = known.get_mut(&key(&instance)).and_then(Vec::pop).unwrap_or_else(|| {
            let [high, low] = new.to_be_bytes();
            new = new.wrapping_add(1);
            Ipv4Addr::new(10, 2, high, low).into()
        });
        instance
    };
    after.into_iter().map(place).collect()
}

/// Reads a log line by line.
fn gather(log: &PathBuf, reader: &Reader, shapes: &mut Shapes) -> anyhow::Result<()> {
    let input: Box<dyn Read> = if log.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(log).with_context(|| format!("'{}' cannot be read", log.display()))?)
    };
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A directory can be opened, and only then is none.
        let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let read = read.with_context(|| format!("'{}' cannot be read", log.display()))?;
        if read == 0 {
            return Ok(());
        }
        shapes.add(reader.read(&String::from_utf8_lossy(&line)));
    }
}
