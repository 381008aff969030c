//! Programs of others, in Python and JavaScript: they are asked by lines of JSON and answer by lines of JSON.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::within;

/// One that runs for as long as its test.
#[derive(Debug)]
pub struct Foreign {
    child: Child,
    commands: ChildStdin,
    answers_rx: mpsc::UnboundedReceiver<String>,
    script: &'static str,
}

impl Foreign {
    /// `script` stands in the folder `tests`. One of JavaScript is told where its packages are.
    pub fn start(script: &'static str) -> Foreign {
        let mut command = if script.ends_with(".py") {
            Command::new(tool("venv/bin/python"))
        } else {
            Command::new("node")
        };
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
        if script.ends_with(".mjs") {
            command.arg(tool("node"));
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let commands = child.stdin.take().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let (answers_tx, answers_rx) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                // A test that is over wants no more.
                let _ = answers_tx.send(line);
            }
        });
        Foreign { child, commands, answers_rx, script }
    }

    pub async fn answer(&mut self) -> Value {
        let line = within(&format!("an answer of {}", self.script), self.answers_rx.recv()).await;
        let line = line.unwrap_or_else(|| panic!("{} has ended; above stands why", self.script));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    pub async fn ask(&mut self, command: Value) -> Value {
        writeln!(self.commands, "{command}").unwrap();
        self.answer().await
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `cargo xtask setup` has made.
fn tool(path: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let tool = target.join("tools").join(path);
    assert!(tool.exists(), "there is no {}: run `cargo xtask setup` once", tool.display());
    tool
}
