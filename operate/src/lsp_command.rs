//! `naru lsp`: what `naru check` says, in an editor.
//!
//! The Language Server Protocol 3.17 on standard input and output. A thread reads messages; what they ask for is
//! answered in order, and the documents of the workspace are checked once no more comes in for a moment. What an editor
//! has open stands above what is on the disk.

mod fields;
mod words;
mod flow;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use naru_sources::Texts;
use naru_spec::{Severity, code};
use serde_json::{Value, json};

use crate::check_command::{Told, examine};
use crate::cli::Failure;

/// Typing goes on if something comes in within this.
const PAUSE: Duration = Duration::from_millis(150);
/// Messages that wait to be answered.
const QUEUE_MAX: usize = 256;

/// Errors of JSON-RPC.
const METHOD_NOT_FOUND: i64 = -32_601;
const NOT_INITIALIZED: i64 = -32_002;

pub fn run() -> Result<(), Failure> {
    let (messages_tx, messages_rx) = sync_channel(QUEUE_MAX);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        // Where the editor is gone, or writes what is no message, there is nothing more to answer.
        while let Ok(Some(message)) = wire::read(&mut input) {
            if messages_tx.send(message).is_err() {
                return;
            }
        }
    });
    let ended_well = Server::default().serve(&messages_rx)?;
    // The protocol asks for 1 where nobody said that it would end.
    if ended_well { Ok(()) } else { Err(Failure::Told) }
}

#[derive(Default)]
struct Server {
    root: Option<PathBuf>,
    /// What the editor has open, as it is there.
    open: BTreeMap<PathBuf, String>,
    /// Files that problems were told of.
    told_of: BTreeSet<PathBuf>,
    /// What was found last.
    found: Vec<Told>,
    texts: Texts,
    is_initialized: bool,
    is_ending: bool,
    has_changed: bool,
}

impl Server {
    fn serve(&mut self, messages: &Receiver<Value>) -> anyhow::Result<bool> {
        loop {
            let message = match self.has_changed {
                true => messages.recv_timeout(PAUSE),
                false => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(message) => {
                    if message.get("method").and_then(Value::as_str) == Some("exit") {
                        return Ok(self.is_ending);
                    }
                    self.on_message(&message)?;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.has_changed = false;
                    self.check()?;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(self.is_ending),
            }
        }
    }

    fn on_message(&mut self, message: &Value) -> anyhow::Result<()> {
        let method = message.get("method").and_then(Value::as_str).unwrap_or("");
        let params = message.get("params").unwrap_or(&Value::Null);
        // A notification has no id, and no answer.
        let Some(id) = message.get("id").filter(|id| !id.is_null()) else {
            self.on_notification(method, params);
            return Ok(());
        };
        if method.is_empty() {
            // An answer to something that nobody here has asked.
            return Ok(());
        }
        let answer = match method {
            "initialize" => Ok(self.initialize(params)),
            _ if !self.is_initialized => Err((NOT_INITIALIZED, "say initialize first")),
            "shutdown" => {
                self.is_ending = true;
                Ok(Value::Null)
            }
            "textDocument/hover" => Ok(self.hover(params)),
            "textDocument/completion" => Ok(self.complete(params)),
            _ => Err((METHOD_NOT_FOUND, "nobody here answers that")),
        };
        let answer = match answer {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err((code, message)) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
            }
        };
        say(&answer)
    }

    fn initialize(&mut self, params: &Value) -> Value {
        let folder = params.get("workspaceFolders").and_then(|folders| folders.get(0)?.get("uri"));
        let root = folder.or_else(|| params.get("rootUri")).and_then(Value::as_str).and_then(wire::path);
        self.root = root.or_else(|| params.get("rootPath").and_then(Value::as_str).map(PathBuf::from));
        self.is_initialized = true;
        self.has_changed = true;
        json!({
            "capabilities": {
                "positionEncoding": "utf-16",
                // Whole texts.
                "textDocumentSync": { "openClose": true, "change": 1, "save": true },
                "hoverProvider": true,
                "completionProvider": { "triggerCharacters": [":", " ", "-", "{", "[", ","] },
            },
            "serverInfo": { "name": "naru", "version": env!("CARGO_PKG_VERSION") },
        })
    }

    fn on_notification(&mut self, method: &str, params: &Value) {
        let uri = params.get("textDocument").and_then(|document| document.get("uri")?.as_str());
        let Some(path) = uri.and_then(wire::path) else { return };
        match method {
            "textDocument/didOpen" => {
                let text = params.get("textDocument").and_then(|document| document.get("text")?.as_str());
                self.open.insert(path, text.unwrap_or("").to_owned());
            }
            "textDocument/didChange" => {
                let changes = params.get("contentChanges").and_then(Value::as_array);
                if let Some(text) = changes.and_then(|changes| changes.last()?.get("text")?.as_str()) {
                    self.open.insert(path, text.to_owned());
                }
            }
            "textDocument/didClose" => {
                self.open.remove(&path);
            }
            "textDocument/didSave" => {}
            _ => return,
        }
        self.has_changed = true;
    }

    /// Everything in the workspace, with what is open in the place of what is on the disk.
    fn read(&self) -> Texts {
        let root = self.root.clone().or_else(|| self.open.keys().next()?.parent().map(Path::to_owned));
        let mut texts = root.map(|root| Texts::readable(&root)).unwrap_or_default();
        for (path, text) in &self.open {
            let name = path.display().to_string();
            match texts.files.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.clone_from(text),
                // One that is not written yet.
                None if is_document(path) => texts.files.push((name, text.clone())),
                None => {}
            }
        }
        texts
    }

    fn check(&mut self) -> anyhow::Result<()> {
        self.texts = self.read();
        // In a workspace there is much that is no business of ours.
        let is_ours = |told: &Told| {
            told.problem.severity != Severity::Note || told.problem.code != code::UNSUPPORTED_KIND
        };
        self.found = examine(&self.texts).told.into_iter().filter(is_ours).collect();
        let mut by_file: BTreeMap<PathBuf, Vec<Value>> = BTreeMap::new();
        // Where there was something, there may be nothing now.
        for path in std::mem::take(&mut self.told_of) {
            by_file.insert(path, Vec::new());
        }
        for told in &self.found {
            let path = PathBuf::from(&told.problem.file);
            by_file.entry(path).or_default().push(self.diagnostic(told));
        }
        for (path, diagnostics) in by_file {
            let params = json!({ "uri": wire::uri(&path), "diagnostics": diagnostics });
            if !diagnostics.is_empty() {
                self.told_of.insert(path);
            }
            say(&json!({ "jsonrpc": "2.0", "method": "textDocument/publishDiagnostics", "params": params }))?;
        }
        Ok(())
    }

    fn diagnostic(&self, told: &Told) -> Value {
        let problem = &told.problem;
        let severity = match problem.severity {
            Severity::Error => 1,
            Severity::Warning => 2,
            Severity::Note => 3,
        };
        let line = problem.line.saturating_sub(1);
        let text =
            self.texts.text(&problem.file).and_then(|text| text.lines().nth(line as usize)).unwrap_or("");
        let from = words::utf16(text, problem.column.saturating_sub(1) as usize);
        let to = words::end_of_value(text, from);
        let mut message = problem.message.clone();
        if !problem.hint.is_empty() {
            message.push('\n');
            message.push_str(&problem.hint);
        }
        json!({
            "range": { "start": { "line": line, "character": from }, "end": { "line": line, "character": to } },
            "severity": severity,
            "code": problem.code,
            "source": "naru",
            "message": message,
        })
    }

    /// The text of a document, and where in it somebody looks.
    fn looked_at(&self, params: &Value) -> Option<(PathBuf, &str, usize, usize)> {
        let path = wire::path(params.get("textDocument")?.get("uri")?.as_str()?)?;
        let place = params.get("position")?;
        let number = |name: &str| usize::try_from(place.get(name)?.as_u64()?).ok();
        let name = path.display().to_string();
        let text = match self.open.get(&path) {
            Some(text) => text.as_str(),
            None => self.texts.text(&name)?,
        };
        Some((path, text, number("line")?, number("character")?))
    }

    /// What a problem there means, else what the field is for.
    fn hover(&self, params: &Value) -> Value {
        let Some((path, text, line, _)) = self.looked_at(params) else { return Value::Null };
        let name = path.display().to_string();
        let here = self.found.iter().filter(|told| told.problem.file == name);
        let mut parts: Vec<String> = here
            .filter(|told| told.problem.line as usize == line + 1)
            .filter_map(|told| {
                naru_lint::rule(told.problem.code).or_else(|| naru_lint::rule(told.also.first()?))
            })
            .map(|rule| format!("**{}**: {}\n\n{}", rule.code, rule.title, rule.explanation))
            .collect();
        parts.dedup();
        if let Some(of_field) = words::field_at(text, line).and_then(|(kind, path)| fields::of(&kind, &path))
        {
            parts.push(of_field.to_owned());
        }
        if parts.is_empty() {
            return Value::Null;
        }
        json!({ "contents": { "kind": "markdown", "value": parts.join("\n\n---\n\n") } })
    }

    /// Names of what is there.
    fn complete(&self, params: &Value) -> Value {
        let Some((_, text, line, character)) = self.looked_at(params) else { return json!([]) };
        let (key, host) = match flow::at(text, line, character) {
            Some(place) => (place.key.clone(), place.value("host")),
            None => (words::key_of_line(text, line), words::beside(text, line, "host")),
        };
        let resources = self.texts.load().resources;
        // In the words of the protocol: 18 is a reference.
        let items = words::names(&key, host.as_deref(), &resources);
        let items: Vec<Value> = items
            .into_iter()
            .map(|(label, detail)| json!({ "label": label, "kind": 18, "detail": detail }))
            .collect();
        json!(items)
    }
}

fn is_document(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ["yaml", "yml", "json"].contains(&ending))
}

/// Standard output is the editor's.
fn say(message: &Value) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(&wire::written(message))?;
    Ok(out.flush()?)
}
