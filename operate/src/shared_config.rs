//! `naru config --etcd`: the configurations that an etcd has and had, without asking any naru. A version is a revision.
//!
//! What is written is checked first as `naru check` does, and goes in as one transaction, which is refused where somebody
//! else has written meanwhile.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use naru_plan::Surroundings;
use naru_sources::Texts;
use naru_sources::etcd::{Desk, Outcome, Settings, Trouble};
use serde_json::{Value, json};

use crate::check_command::check_loaded;
use crate::cli::{ApplyArgs, EtcdArgs, Failure, Output};
use crate::problems;
use crate::sources::settings;

/// What there was, the newest last.
pub fn history(args: &EtcdArgs) -> anyhow::Result<Value> {
    let settings = settings(args)?;
    let (current, revisions) = asked(&settings, async |desk| desk.past().await)?;
    let versions = revisions.iter().map(|revision| {
        let mark = revision.mark.as_ref().and_then(|mark| serde_json::from_slice(mark).ok());
        let mark: Value = mark.unwrap_or_default();
        let by = mark["by"].as_str().map(|by| match mark["on"].as_str() {
            Some(host) => format!("{by} on {host}"),
            None => by.to_owned(),
        });
        json!({
            "version": revision.number,
            "since": mark["at"].as_str().unwrap_or("-"),
            "source": by.unwrap_or_else(|| "etcd".to_owned()),
            "files": revision.files,
            "written": revision.written,
            "removed": revision.removed,
        })
    });
    let newest = revisions.last().map_or(0, |last| last.number);
    Ok(json!({ "current": newest, "revision": current, "versions": versions.collect::<Vec<_>>() }))
}

pub fn show(args: &EtcdArgs, number: u64) -> anyhow::Result<Value> {
    let number = i64::try_from(number).context("there is no such revision")?;
    let (number, texts) = asked(&settings(args)?, async |desk| desk.texts(number).await)?;
    let files = texts.files.iter().map(|(name, text)| json!({ "name": name, "text": text }));
    Ok(json!({ "version": number, "files": files.collect::<Vec<_>>() }))
}

/// What was there at a revision is there again, all of it.
pub fn rollback(args: &EtcdArgs, number: u64) -> Result<Value, Failure> {
    let revision = i64::try_from(number).context("there is no such revision")?;
    let settings = settings(args).map_err(Failure::Usage)?;
    let files = asked(&settings, async |desk| desk.files(revision).await)?;
    if files.is_empty() {
        return Err(anyhow!("there was nothing below '{}' at revision {number}", settings.prefix).into());
    }
    write(&settings, &files, None, &format!("naru config rollback {number}"))
}

/// Files become all that there is below the prefix.
pub fn apply(args: &ApplyArgs) -> Result<Value, Failure> {
    let settings = settings(&args.running.etcd).map_err(Failure::Usage)?;
    let mut files = BTreeMap::new();
    for path in &args.paths {
        let texts = Texts::read(std::slice::from_ref(path)).map_err(|error| Failure::Usage(error.into()))?;
        for (name, text) in texts.files {
            let key = key_of(path, &name);
            if files.insert(key.clone(), text).is_some() {
                return Err(Failure::Usage(anyhow!("two files would be '{}{key}'", settings.prefix)));
            }
        }
    }
    if files.is_empty() {
        return Err(Failure::Usage(anyhow!("there is no .yaml, .yml or .json file there")));
    }
    write(&settings, &files, args.since, "naru config apply")
}

/// What stands behind the prefix: of a directory, where the file is below it.
fn key_of(path: &Path, file: &str) -> String {
    let file = Path::new(file);
    let below = file.strip_prefix(path).ok().filter(|below| !below.as_os_str().is_empty());
    let below = below.or_else(|| file.file_name().map(Path::new)).unwrap_or(file);
    below.display().to_string()
}

fn write(
    settings: &Settings,
    files: &BTreeMap<String, String>,
    since: Option<i64>,
    by: &str,
) -> Result<Value, Failure> {
    let named = files.iter().map(|(name, text)| (format!("{}{name}", settings.shown()), text.clone()));
    let texts = Texts { files: named.collect() };
    let surroundings = Surroundings { is_strict: true, ..Surroundings::default() };
    let checked = check_loaded(&texts.load(), &surroundings);
    problems::print(&checked.problems, &|file| texts.text(file), Output::Text)?;
    if checked.compiled.is_none() || checked.problems.iter().any(naru_spec::Problem::is_error) {
        naru_say::say!("naru: nothing is written");
        return Err(Failure::Told);
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let at = naru_journey::record::time(naru_proxy::wall_now());
    let mark = json!({ "by": by, "on": host.trim(), "at": at }).to_string();
    let outcome = asked(settings, async |desk| desk.write(files, since, &mark).await)?;
    let told = match outcome {
        Outcome::Same(revision) => json!({ "version": revision, "changes": ["it says that already"] }),
        Outcome::Written { revision, puts, removes } => {
            let puts = puts.iter().map(|name| format!("written  {name}"));
            let lines: Vec<String> =
                puts.chain(removes.iter().map(|name| format!("removed  {name}"))).collect();
            json!({ "version": revision, "changes": lines })
        }
        Outcome::Behind(names) => {
            let who = match names.is_empty() {
                true => "something is gone".to_owned(),
                false => format!("{} is another", names.join(", ")),
            };
            return Err(anyhow!("somebody else has written meanwhile: {who}; nothing is written").into());
        }
    };
    Ok(told)
}

/// Asks the first endpoint that answers.
fn asked<T>(settings: &Settings, ask: impl AsyncFnOnce(&Desk) -> Result<T, Trouble>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async { ask(&Desk::open(settings).await?).await });
    match answer {
        Ok(answer) => Ok(answer),
        Err(Trouble::Refused { why, .. }) if why.contains("too many operations") => {
            bail!("{why}: it takes so many files in one transaction only ('--max-txn-ops' of etcd)")
        }
        Err(trouble) => bail!("{trouble}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::key_of;

    #[test]
    fn a_file_is_named_by_where_it_is_below_what_was_said() {
        let check = |path: &str, file: &str, expected: &str| {
            assert_eq!(key_of(Path::new(path), file), expected);
        };
        check("shop", "shop/a.yaml", "a.yaml");
        check("shop/", "shop/b/c.yaml", "b/c.yaml");
        check("shop/a.yaml", "shop/a.yaml", "a.yaml");
        check(".", "./a.yaml", "a.yaml");
        check("/etc/shop", "/etc/shop/x/a.json", "x/a.json");
    }
}
