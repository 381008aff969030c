//! The same requests to naru and to nginx, for the same directory.
//!
//! What differs is written down: naru answers 404 where nginx answers 400 or 403, has no file for hidden names, and knows
//! the time of a file by the nanosecond.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use naru_tests::files::Directory;
use naru_tests::up::free_address;
use naru_tests::wire::{Message, Transfer};
use naru_tests::{Wire, until};

use super::{given, of, site, start};

struct Nginx {
    child: Child,
    _files: Directory,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn nginx(root: &str) -> (Nginx, std::net::SocketAddr) {
    loop {
        let (files, address) = (Directory::new(), free_address());
        let own = files.path("");
        let own = own.to_str().unwrap();
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("  {name}_temp_path {own}/{name};\n"))
            .collect();
        let text = format!(
            "daemon off;\nmaster_process off;\npid {own}/pid;\nerror_log {own}/errors crit;\n\
             events {{ worker_connections 512; }}\nhttp {{\n  access_log off;\n{paths}  \
             types {{ text/html html; text/plain txt; text/css css; }}\n  \
             default_type application/octet-stream;\n  absolute_redirect off;\n  server {{\n    \
             listen {address};\n    root {root};\n    index index.html;\n    disable_symlinks if_not_owner;\n  }}\n}}\n"
        );
        let file = files.write("nginx.conf", &text);
        let output = File::create(files.path("output")).unwrap();
        let mut child = Command::new("nginx")
            .arg("-p")
            .arg(own)
            .arg("-e")
            .arg(files.path("errors"))
            .arg("-c")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("nginx, of `cargo xtask setup`: {error}"));
        let is_up = until("nginx to listen", async || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            tokio::net::TcpStream::connect(address).await.ok().map(|_| true)
        });
        if is_up.await {
            return (Nginx { child, _files: files }, address);
        }
        let said = std::fs::read_to_string(files.path("output")).unwrap();
        assert!(said.to_lowercase().contains("address"), "nginx has ended: {said}");
    }
}

/// What of an answer both must say alike.
fn said(answer: &Message) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let names = ["content-type", "content-length", "last-modified", "content-range", "location"];
    let status = answer.status();
    let is_given = matches!(status, 200 | 206 | 304);
    let headers = answer.head.headers.iter().filter(|(name, _)| {
        let is_of_file =
            names.contains(&name.as_str()) && (is_given || status == 416 && name == "content-range");
        is_of_file || (status == 301 && name == "location")
    });
    let mut headers: Vec<(String, String)> = headers.cloned().collect();
    // Each has a boundary of its own.
    let boundary =
        answer.head.get("content-type").and_then(|said| said.split_once("boundary=")).map(|(_, it)| it);
    let mut body = if is_given { answer.body.clone() } else { Vec::new() };
    if let Some(boundary) = boundary {
        let text: String = body.iter().map(|byte| char::from(*byte)).collect();
        body = text.replace(boundary, "B").chars().map(|character| character as u8).collect();
        headers.retain(|(name, _)| name != "content-type" && name != "content-length");
    }
    headers.sort();
    (status, headers, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn naru_gives_what_nginx_gives() {
    let directory = site();
    let root = directory.path("www");
    // Times without a fraction, so that both have one tag for a state.
    let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    for name in ["a.txt", "index.html", "style.css", "data.bin", "nothing.txt", "noext", "sub/index.html"] {
        File::options().write(true).open(root.join(name)).unwrap().set_modified(then).unwrap();
    }
    let naru = start(given(of(&directory)));
    let (_nginx, address) = nginx(root.to_str().unwrap()).await;
    let tag = {
        let mut wire = Wire::connect(address).await;
        wire.send("GET /a.txt HTTP/1.1\r\nhost: a\r\n\r\n").await;
        wire.response().await.head.get("etag").unwrap().to_owned()
    };
    let (same, before, after) =
        ("Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:21 GMT");
    let mut fields = vec![String::new()];
    for name in ["if-none-match", "if-match", "if-range"] {
        let values = [tag.clone(), format!("W/{tag}"), "\"other\"".to_owned(), format!("\"other\", {tag}")];
        for value in &values[..if name == "if-range" { 3 } else { 4 }] {
            fields.push(format!("{name}: {value}\r\nrange: bytes=2-3\r\n"));
        }
    }
    for value in [same, before] {
        fields.push(format!("if-modified-since: {value}\r\n"));
    }
    for value in [same, before, after] {
        fields.push(format!("if-unmodified-since: {value}\r\n"));
    }
    fields.push(format!("if-range: {same}\r\nrange: bytes=0-0\r\n"));
    fields.push(format!("if-range: {before}\r\nrange: bytes=0-0\r\n"));
    for range in [
        "0-0", "0-", "-1", "-100", "5-2", "9-100", "10-", "10-20", "0-1,4-5", "0-0,-1", "0-8,0-8", "a-b",
        "1-1,10-", "",
    ] {
        fields.push(format!("range: bytes={range}\r\n"));
    }
    fields.push("range: lines=0-1\r\n".to_owned());
    let paths = [
        "/a.txt",
        "/",
        "/index.html",
        "/style.css?x",
        "/data.bin",
        "/nothing.txt",
        "/noext",
        "/sub/",
        "/sub",
        "/sub?a=b",
        "/none",
        "/sub/with%20space.txt",
        "//a.txt",
        "/a%2etxt",
        "/%61.txt",
        "/in.txt",
    ];
    let (mut cases, mut differences) = (0, Vec::new());
    for path in paths {
        for fields in &fields {
            for method in ["GET", "HEAD"] {
                let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
                let mut both = Vec::new();
                for address in [naru.address, address] {
                    let mut wire = Wire::connect(address).await;
                    wire.send(&request).await;
                    let head = wire.head().await;
                    let answer = match (method, head.status()) {
                        ("HEAD", _) | (_, 304) => Message { head, ..Message::default() },
                        _ => match wire.rest(head, true).await {
                            Transfer::Whole(message) => message,
                            broken => panic!("{request}: {broken:?}"),
                        },
                    };
                    both.push(said(&answer));
                }
                if !differs(path, method, fields, &both[0], &both[1]) {
                    let heads =
                        format!("naru: {:?}\nnginx: {:?}", (both[0].0, &both[0].1), (both[1].0, &both[1].1));
                    if both[0] != both[1] {
                        differences.push(format!("{request}{heads}\n"));
                    }
                }
                cases += 1;
            }
        }
    }
    assert!(differences.is_empty(), "{} of {cases}:\n{}", differences.len(), differences.concat());
    assert!(cases > 800, "{cases}");
    naru.settles().await;
}

type Said = (u16, Vec<(String, String)>, Vec<u8>);

/// What is known to differ.
fn differs(path: &str, method: &str, fields: &str, naru: &Said, nginx: &Said) -> bool {
    // A range is for GET alone (RFC 9110, section 14.2).
    let is_range = fields.contains("range: bytes=") && method == "HEAD";
    // nginx takes an empty file for one without parts.
    let is_empty = path == "/nothing.txt" && fields.contains("range:");
    if is_range && nginx.0 != naru.0 {
        return matches!((naru.0, nginx.0), (200, 206 | 416));
    }
    // What is no range is as if it were not there (RFC 9110, section 14.2).
    let is_none = ["=5-2\r", "=a-b\r", "=\r"].iter().any(|range| fields.contains(range));
    if is_none && (naru.0, nginx.0) == (200, 416) {
        return true;
    }
    is_empty && matches!((naru.0, nginx.0), (416, 200) | (200, 416))
}
