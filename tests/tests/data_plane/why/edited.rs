//! `naru lsp`, asked by a client that speaks the protocol over its pipes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use naru_tests::files::Directory;
use naru_tests::program::program;
use serde_json::{Value, json};

struct Editor {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    directory: Directory,
    asked: u64,
}

impl Editor {
    fn start(files: &[(&str, &str)]) -> Editor {
        let directory = Directory::new();
        for (name, text) in files {
            directory.write(name, text);
        }
        let mut child = Command::new(program())
            .args(["lsp", "--stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut editor = Editor { child, input, output, directory, asked: 0 };
        let root = editor.uri("");
        let answer =
            editor.ask("initialize", &json!({ "processId": null, "rootUri": root, "capabilities": {} }));
        assert_eq!(answer["capabilities"]["textDocumentSync"]["change"], 1);
        editor.tell("initialized", &json!({}));
        editor
    }

    fn uri(&self, name: &str) -> String {
        format!("file://{}", self.directory.path(name).display()).trim_end_matches('/').to_owned()
    }

    fn write(&mut self, message: &Value) {
        let body = message.to_string();
        let text = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let input = self.input.as_mut().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    fn tell(&mut self, method: &str, params: &Value) {
        self.write(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn read(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it has ended");
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn ask_for(&mut self, method: &str, params: &Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.read();
            if message["id"] == id {
                return message;
            }
        }
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.ask_for(method, params)["result"].clone()
    }

    /// The problems of a file, the next time that they are told.
    fn problems(&mut self, name: &str) -> Vec<Value> {
        let uri = self.uri(name);
        loop {
            let message = self.read();
            if message["method"] == "textDocument/publishDiagnostics" && message["params"]["uri"] == uri {
                return message["params"]["diagnostics"].as_array().unwrap().clone();
            }
        }
    }

    fn at(&self, name: &str, line: u32, character: u32) -> Value {
        json!({
            "textDocument": { "uri": self.uri(name) },
            "position": { "line": line, "character": character },
        })
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: { name: reviews }
spec: { ports: [{ name: http, port: 80 }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reviews }
spec:
  host: reviews
  subsets: [{ name: v1, labels: { version: v1 } }]
";

fn routing(subset: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: reviews }}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination:
        host: reviews
        subset: {subset}
      weight: 10
"
    )
}

#[test]
fn an_editor_is_told_what_is_wrong_as_it_is_typed() {
    let mut editor = Editor::start(&[("service.yaml", SERVICE), ("routing.yaml", &routing("나루"))]);
    let problems = editor.problems("routing.yaml");
    let subset = problems.iter().find(|problem| problem["severity"] == 1).unwrap();
    assert_eq!(subset["code"], "unknown-subset");
    assert_eq!(subset["range"]["start"], json!({ "line": 9, "character": 16 }));
    assert_eq!(subset["range"]["end"], json!({ "line": 9, "character": 18 }));
    assert!(
        problems.iter().any(|problem| problem["code"] == "KIA1104" && problem["severity"] == 3),
        "{problems:?}"
    );

    // What is open stands above what is on the disk, as it is typed.
    let uri = editor.uri("routing.yaml");
    let document = json!({ "uri": uri, "languageId": "yaml", "version": 1, "text": routing("v2") });
    editor.tell("textDocument/didOpen", &json!({ "textDocument": document }));
    let change = json!({
        "textDocument": { "uri": uri, "version": 2 },
        "contentChanges": [{ "text": routing("v1").replace("      weight: 10\n", "") }],
    });
    editor.tell("textDocument/didChange", &change);
    assert!(editor.problems("routing.yaml").is_empty());
    // The one on the disk still has a mistake; once nothing is open, that counts.
    editor.tell("textDocument/didClose", &json!({ "textDocument": { "uri": uri } }));
    assert!(!editor.problems("routing.yaml").is_empty());
    editor.directory.write("routing.yaml", &routing("v1"));
    editor.tell("textDocument/didSave", &json!({ "textDocument": { "uri": uri } }));
    let problems = editor.problems("routing.yaml");
    assert!(problems.iter().all(|problem| problem["severity"] != 1), "{problems:?}");

    // What it means.
    let at = editor.at("routing.yaml", 10, 9);
    let hover = editor.ask("textDocument/hover", &at);
    let text = hover["contents"]["value"].as_str().unwrap();
    assert!(text.contains("**KIA1104**") && text.contains("A share of the sum of all weights"), "{text}");
    let at = editor.at("routing.yaml", 0, 0);
    assert_eq!(editor.ask("textDocument/hover", &at), Value::Null);
    // What could stand there.
    for (line, expected) in [(8, "reviews"), (9, "v1")] {
        let at = editor.at("routing.yaml", line, 16);
        let items = editor.ask("textDocument/completion", &at);
        let labels: Vec<&str> =
            items.as_array().unwrap().iter().map(|item| item["label"].as_str().unwrap()).collect();
        assert_eq!(labels, [expected]);
    }
    assert_eq!(editor.ask_for("textDocument/rename", &json!({}))["error"]["code"], -32_601);

    assert_eq!(editor.ask("shutdown", &Value::Null), Value::Null);
    editor.tell("exit", &Value::Null);
    editor.input = None;
    assert_eq!(editor.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_editor_that_goes_away_or_says_nothing_that_can_be_read_ends_it() {
    let mut editor = Editor::start(&[]);
    editor.input.as_mut().unwrap().write_all(b"Content-Length: x\r\n\r\n").unwrap();
    assert_eq!(editor.child.wait().unwrap().code(), Some(1));
    let mut editor = Editor::start(&[]);
    editor.input = None;
    assert_eq!(editor.child.wait().unwrap().code(), Some(1));
}
