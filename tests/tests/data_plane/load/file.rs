//! The file that processes under load are started on: a listener without TLS, one with it, whose certificate is in files
//! that change, and one that passes bytes through; all of them with one log.

use std::path::PathBuf;

use naru_tests::bootstrap::json_log;
use naru_tests::files::Directory;
use naru_tests::{Authority, Bootstrap, Program};

use super::Listeners;
use super::books::FIELDS;

/// To the clusters `up`, `calls` and `peers`; `bytes` is that of the connections that are passed through. The number of the
/// snapshot is to be replaced.
pub const ROUTES: &str = "
- match: { prefix: /echo, headers: [{ name: content-type, string_match: { exact: application/grpc } }] }
  route: { cluster: calls, timeout: 0s }
- match: { prefix: /naru.Test/ }
  route: { cluster: peers, timeout: 0s }
- match: { prefix: /chat }
  route: { cluster: up, timeout: 0s }
- match: { prefix: / }
  route: { cluster: up, timeout: 0s }
  response_headers_to_add: [{ header: { key: x-snapshot, value: number 0 } }]
";

pub struct File {
    directory: Directory,
    pub authority: Authority,
}

impl File {
    pub fn new() -> File {
        let file = File { directory: Directory::new(), authority: Authority::new() };
        file.issue();
        file
    }

    /// Another certificate.
    pub fn issue(&self) {
        let issued = self.authority.issue();
        self.directory.write("chain.pem", &issued.chain);
        self.directory.write("key.pem", &issued.key);
    }

    pub fn log(&self) -> PathBuf {
        self.directory.path("access.log")
    }

    /// A path for whatever goes away with it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }

    /// `made` says the routes and the clusters, `passing` more lines of the TCP proxy.
    pub fn text(&self, passing: &str, made: impl Fn() -> Bootstrap) -> String {
        let bootstrap = || {
            let upgrades = "upgrade_configs: [{ upgrade_type: websocket }]";
            made().manager(upgrades).json_log(&self.log(), FIELDS).admin()
        };
        let secured = listener(&bootstrap().tls(&self.authority, &["http/1.1"]).text(), "secured");
        let log = json_log(&self.log(), FIELDS);
        let passing =
            listener(&Bootstrap::tcp(&format!("cluster: bytes\n{passing}\n{log}")).text(), "passing");
        let others = self.in_files(&secured) + &passing;
        bootstrap().text().replacen("  clusters:\n", &format!("{others}  clusters:\n"), 1)
    }

    fn in_files(&self, listener: &str) -> String {
        let lines = listener.lines().map(|line| {
            let (before, _) = line.split_once("{ inline_string: \"-----BEGIN").unwrap_or((line, ""));
            let file = match before.trim() {
                "- certificate_chain:" => self.path("chain.pem"),
                "private_key:" => self.path("key.pem"),
                _ => return format!("{line}\n"),
            };
            format!("{before}{{ filename: {file:?} }}\n")
        });
        lines.collect()
    }
}

/// The only one of this file, under another name.
fn listener(text: &str, name: &str) -> String {
    let (_, listener) = text.split_once("  listeners:\n").unwrap();
    let listener = listener.split("  clusters:\n").next().unwrap();
    listener.replace("- name: main", &format!("- name: {name}"))
}

impl Listeners {
    /// Where a process listens that was started on such a file.
    pub fn of(program: &Program) -> Listeners {
        let said = program.stderr();
        let address = |listener: &str| {
            let words = format!("naru: listener '{listener}' on ");
            said.lines().find_map(|line| line.strip_prefix(&words)).unwrap().parse().unwrap()
        };
        Listeners { plain: program.address, secured: address("secured"), passing: address("passing") }
    }
}
