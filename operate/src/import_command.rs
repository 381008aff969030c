//! `naru import`: what nginx and docker-compose files say in our words.
//!
//! Documents go to standard output or into a directory, what is to be known of them to standard error;
//! with `--output json` both go to standard output as one object.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use naru_import::{Document, Imported, import};
use naru_sources::Texts;
use serde_json::json;

use crate::cli::{Failure, ImportArgs, Output};
use crate::problems;
use crate::say::say;

pub fn run(args: &ImportArgs) -> Result<(), Failure> {
    for path in &args.files {
        if path.is_dir() {
            let message =
                format!("'{}' is a directory: name the files that are to be imported", path.display());
            return Err(anyhow::anyhow!(message).into());
        }
    }
    let texts = Texts::read(&args.files)?;
    let imported = import(&texts.files);
    let written = match &args.out {
        Some(directory) => write(&imported.documents, directory, args.force)?,
        None => Vec::new(),
    };
    match args.output {
        Output::Text => {
            if args.out.is_none() {
                let documents: Vec<String> = imported.documents.iter().map(Document::with_origin).collect();
                say(&documents.join("---\n"))?;
            } else {
                say(&written.iter().map(|path| format!("{path}\n")).collect::<String>())?;
            }
            problems::print(&imported.notes, &|file| texts.text(file), args.output)?;
            naru_say::say!("{}", summary(&imported));
        }
        Output::Json => say(&format!("{}\n", to_json(&imported, &written)))?,
    }
    if imported.documents.is_empty() { Err(Failure::Told) } else { Ok(()) }
}

fn summary(imported: &Imported) -> String {
    let documents = match imported.documents.len() {
        0 => "nothing could be carried over".to_owned(),
        1 => "1 document".to_owned(),
        many => format!("{many} documents"),
    };
    match problems::count(&imported.notes) {
        notes if notes.is_empty() => documents,
        notes => format!("{documents}; {notes}"),
    }
}

/// A file for each document, `gateway-shop.yaml`. Nothing is written where one of them is there already.
fn write(documents: &[Document], directory: &Path, is_forced: bool) -> anyhow::Result<Vec<String>> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for document in documents {
        let name = format!("{}-{}.yaml", document.kind.to_ascii_lowercase(), document.name);
        files.insert(name, document.with_origin());
    }
    if !is_forced && let Some(name) = files.keys().find(|name| directory.join(name).exists()) {
        bail!("'{}' is there already: --force replaces it", directory.join(name).display());
    }
    fs::create_dir_all(directory).with_context(|| format!("'{}' cannot be made", directory.display()))?;
    let mut written = Vec::new();
    for (name, text) in files {
        let path = directory.join(name);
        let mut options = fs::OpenOptions::new();
        options.write(true);
        // Nor is what came into being meanwhile, or what a link leads to.
        if is_forced {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        let result = options.open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        match result {
            Ok(()) => written.push(path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("'{}' is there already: --force replaces it", path.display())
            }
            Err(error) => {
                return Err(error).with_context(|| format!("'{}' cannot be written", path.display()));
            }
        }
    }
    Ok(written)
}

fn to_json(imported: &Imported, written: &[String]) -> serde_json::Value {
    let document = |document: &Document| {
        json!({
            "kind": document.kind,
            "name": document.name,
            "origin": document.origin,
            "yaml": document.yaml,
        })
    };
    json!({
        "documents": imported.documents.iter().map(document).collect::<Vec<_>>(),
        "notes": imported.notes.iter().map(problems::to_json).collect::<Vec<_>>(),
        "written": written,
    })
}
