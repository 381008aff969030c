//! Files from a directory, on sockets.

mod beside;

use std::os::unix::fs::symlink;
use std::path::Path;

use naru_base::Reason;
use naru_proxy::Options;
use naru_spec::{
    Action, Check, CheckKind, Coder, Compressor, Config, ContentCoding, DirectResponse, GateChange, Lifetime,
    StaticFiles,
};
use naru_tests::files::Directory;
use naru_tests::naru::config;
use naru_tests::wire::{Message, Transfer};
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, Wire, until};

/// What all of these tests find below a directory.
pub fn site() -> Directory {
    let directory = Directory::new();
    let root = directory.path("www");
    for path in ["", "sub", "empty", ".git"] {
        std::fs::create_dir_all(root.join(path)).unwrap();
    }
    let write = |name: &str, bytes: &[u8]| std::fs::write(root.join(name), bytes).unwrap();
    write("index.html", b"<h1>naru</h1>\n");
    write("a.txt", b"0123456789");
    write("style.css", "a { color: red }\n".repeat(400).as_bytes());
    write("sub/index.html", b"<h1>sub</h1>\n");
    write("sub/with space.txt", b"space");
    write("data.bin", &(0..300_000u64).map(|at| (at * at % 251) as u8).collect::<Vec<_>>());
    write("nothing.txt", b"");
    write("noext", b"noext");
    write(".hidden", b"hidden");
    write(".git/config", b"secret");
    std::fs::write(directory.path("outside"), "outside").unwrap();
    symlink("../outside", root.join("out.txt")).unwrap();
    symlink("a.txt", root.join("in.txt")).unwrap();
    directory
}

fn of(directory: &Directory) -> StaticFiles {
    StaticFiles::new(directory.path("www").to_str().unwrap())
}

fn given(files: StaticFiles) -> Config {
    let up = ([127, 0, 0, 1], 1).into();
    let mut config = config(&Bootstrap::to(up));
    let rule = &mut config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules[0];
    let status = http::StatusCode::NOT_FOUND;
    rule.action = Action::Direct(Box::new(DirectResponse { status, body: Vec::new() }));
    rule.gate = vec![also(files)];
    config
}

fn also(files: StaticFiles) -> GateChange {
    GateChange::Also(Check { name: "files".into(), kind: CheckKind::Files(Box::new(files)) })
}

fn start(config: Config) -> Naru {
    Naru::start_on(config, &Options { workers: 1, seed: Some(1) })
}

async fn ask(naru: &Naru, method: &str, path: &str, fields: &str) -> Message {
    let mut wire = Wire::connect(naru.address).await;
    wire.send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).await;
    let head = wire.head().await;
    if method == "HEAD" {
        return Message { head, ..Message::default() };
    }
    match wire.rest(head, true).await {
        Transfer::Whole(message) => message,
        broken => panic!("{path}: {broken:?}"),
    }
}

fn read(directory: &Directory, name: &str) -> Vec<u8> {
    std::fs::read(directory.path("www").join(name)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_given_and_nothing_else_is() {
    let directory = site();
    let naru = start(given(of(&directory)));
    for (path, name, kind) in [
        ("/", "index.html", "text/html"),
        ("/a.txt?x=1", "a.txt", "text/plain"),
        ("/sub/", "sub/index.html", "text/html"),
        ("/sub/with%20space.txt", "sub/with space.txt", "text/plain"),
        ("/data.bin", "data.bin", "application/octet-stream"),
        ("/nothing.txt", "nothing.txt", "text/plain"),
        ("/noext", "noext", "application/octet-stream"),
        ("/in.txt", "a.txt", "text/plain"),
    ] {
        let answer = ask(&naru, "GET", path, "").await;
        assert_eq!((answer.status(), answer.head.get("content-type")), (200, Some(kind)), "{path}");
        assert!(answer.body == read(&directory, name), "{path}");
        let head = ask(&naru, "HEAD", path, "").await;
        for name in ["content-length", "etag", "last-modified", "content-type"] {
            assert_eq!(head.head.get(name), answer.head.get(name), "{path}");
        }
    }
    for path in [
        "/none",
        "/.hidden",
        "/.git/config",
        "/out.txt",
        "/../outside",
        "/sub/../../outside",
        "/%2e%2e/outside",
        "/..%2foutside",
        "/sub%2findex.html",
        "/a.txt%00.html",
        "/a.txt/",
        "/empty/",
        "/%zz",
        "/a.txt/b",
        "//../outside",
        "/sub/%2e%2e/%2e%2e/outside",
    ] {
        let answer = ask(&naru, "GET", path, "").await;
        assert_eq!((answer.status(), answer.text().as_str()), (404, "Not Found"), "{path}");
    }
    for path in ["/sub", "/sub?x=1", "/empty"] {
        let answer = ask(&naru, "GET", path, "").await;
        let (path, query) =
            path.split_once('?').map_or((path, String::new()), |(path, query)| (path, format!("?{query}")));
        assert_eq!(answer.status(), 301);
        assert_eq!(answer.head.get("location"), Some(format!("{path}/{query}").as_str()));
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(&naru, method, "/a.txt", "content-length: 0\r\n").await;
        assert_eq!((answer.status(), answer.head.get("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let report = naru.report().await;
    let reasons: Vec<Reason> = report.series.iter().map(|series| series.labels.reason).collect();
    for reason in [Reason::StaticFile, Reason::FileNotFound, Reason::FileMethod] {
        assert!(reasons.contains(&reason), "{reason:?}");
    }
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_and_conditions_hold() {
    let directory = site();
    let naru = start(given(of(&directory)));
    let whole = ask(&naru, "GET", "/data.bin", "").await;
    let bytes = &whole.body;
    let (etag, modified) = (whole.head.get("etag").unwrap(), whole.head.get("last-modified").unwrap());
    for fields in [format!("if-none-match: {etag}\r\n"), format!("if-modified-since: {modified}\r\n")] {
        let answer = ask(&naru, "GET", "/data.bin", &fields).await;
        assert_eq!((answer.status(), answer.head.get("etag")), (304, Some(etag)), "{fields}");
    }
    assert_eq!(ask(&naru, "GET", "/data.bin", "if-match: \"other\"\r\n").await.status(), 412);
    for (range, start, end) in [
        ("0-0", 0, 1),
        ("100000-199999", 100_000, 200_000),
        ("-5", 299_995, 300_000),
        ("299999-", 299_999, 300_000),
    ] {
        let fields = format!("range: bytes={range}\r\nif-range: {etag}\r\n");
        let answer = ask(&naru, "GET", "/data.bin", &fields).await;
        assert_eq!(answer.status(), 206);
        let expected = format!("bytes {start}-{}/300000", end - 1);
        assert_eq!(answer.head.get("content-range"), Some(expected.as_str()));
        assert!(answer.body == bytes[start..end], "{range}");
    }
    let answer = ask(&naru, "GET", "/data.bin", "range: bytes=0-1,200000-299999\r\n").await;
    let boundary = answer.head.get("content-type").unwrap().rsplit_once('=').unwrap().1;
    let part = |range: &str, bytes: &[u8]| {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/300000\r\n\r\n"
        );
        [head.as_bytes(), bytes].concat()
    };
    let end = format!("\r\n--{boundary}--\r\n");
    let expected =
        [part("0-1", &bytes[..2]), part("200000-299999", &bytes[200_000..]), end.into_bytes()].concat();
    assert!(answer.status() == 206 && answer.body == expected);
    let answer = ask(&naru, "GET", "/data.bin", "range: bytes=300000-\r\n").await;
    assert_eq!((answer.status(), answer.head.get("content-range")), (416, Some("bytes */300000")));
    // Another state has another tag.
    std::fs::write(directory.path("www").join("data.bin"), "other").unwrap();
    let fields = format!("range: bytes=0-0\r\nif-range: {etag}\r\nif-none-match: {etag}\r\n");
    let answer = ask(&naru, "GET", "/data.bin", &fields).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "other"));
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_has_something_in_its_place() {
    let directory = site();
    let up = Upstream::plain(Speaks::Http1).await;
    let mut files = of(&directory);
    files.endings = vec![".css".into()];
    files.fallback = Some("/index.html".into());
    files.lifetimes = vec![Lifetime { pattern: "*.css".into(), cache_control: "max-age=60".into() }];
    let mut config = config(&Bootstrap::to(up.address));
    let rule = &mut config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules[0];
    rule.gate = vec![also(files.clone())];
    let naru = start(config.clone());
    let style = ask(&naru, "GET", "/style", "").await;
    assert_eq!(
        (style.head.get("content-type"), style.head.get("cache-control")),
        (Some("text/css"), Some("max-age=60"))
    );
    for path in ["/app/route", "/.hidden", "/../outside", "/empty/"] {
        let answer = ask(&naru, "GET", path, "").await;
        assert!(answer.status() == 200 && answer.body == read(&directory, "index.html"), "{path}");
    }
    // A page of its own for what is missing.
    files.fallback = None;
    files.not_found = Some("/a.txt".into());
    config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules[0].gate = vec![also(files.clone())];
    naru.update_to(config.clone()).await;
    let answer = ask(&naru, "GET", "/none", "range: bytes=0-0\r\n").await;
    assert_eq!((answer.status(), answer.text().as_str(), answer.head.get("etag")), (404, "0123456789", None));
    // What is no file goes on.
    files.not_found = None;
    files.passes_on = true;
    config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules[0].gate = vec![also(files)];
    naru.update_to(config).await;
    assert_eq!(ask(&naru, "GET", "/a.txt", "").await.text(), "0123456789");
    assert_eq!(up.requests(), 0);
    assert_eq!(ask(&naru, "GET", "/bytes/3", "").await.body.len(), 3);
    assert_eq!(ask(&naru, "POST", "/status/201", "content-length: 0\r\n").await.status(), 201);
    assert_eq!(up.requests(), 2);
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compressed_before_is_given_to_who_accepts_it() {
    let directory = site();
    let plain = read(&directory, "style.css");
    for (ending, bytes) in [("gz", "in gzip"), ("br", "in brotli")] {
        std::fs::write(directory.path("www").join(format!("style.css.{ending}")), bytes).unwrap();
    }
    let mut files = of(&directory);
    files.precompressed = vec![ContentCoding::Brotli, ContentCoding::Gzip];
    let naru = start(given(files.clone()));
    let mut tags = Vec::new();
    for (accepted, coding, body) in [
        ("", None, &plain[..]),
        ("accept-encoding: gzip\r\n", Some("gzip"), b"in gzip"),
        ("accept-encoding: gzip, br\r\n", Some("br"), b"in brotli"),
        ("accept-encoding: gzip, br;q=0.5\r\n", Some("gzip"), b"in gzip"),
        ("accept-encoding: zstd\r\n", None, &plain),
        ("accept-encoding: br;q=0, *;q=0.1\r\n", Some("gzip"), b"in gzip"),
    ] {
        let answer = ask(&naru, "GET", "/style.css", accepted).await;
        assert_eq!(answer.head.get("content-encoding"), coding, "{accepted}");
        assert_eq!(
            (answer.head.get("content-type"), answer.head.get("vary")),
            (Some("text/css"), Some("Accept-Encoding"))
        );
        assert!(answer.body == body, "{accepted}");
        tags.push(answer.head.get("etag").unwrap().to_owned());
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3, "each coding has a tag of its own");
    let part = ask(&naru, "GET", "/style.css", "accept-encoding: br\r\nrange: bytes=3-\r\n").await;
    assert_eq!(
        (part.status(), part.text().as_str(), part.head.get("content-encoding")),
        (206, "brotli", Some("br"))
    );
    // What was not is compressed where it is asked for, but no part of it.
    let mut config = given(files);
    let mut compressor = Compressor::new(Coder::usual(ContentCoding::Zstd));
    compressor.etag = naru_spec::OnEtag::Weaken;
    let check = Check { name: "zstd".into(), kind: CheckKind::Compress(Box::new(compressor)) };
    config.listeners[0].chains[0].http.gate.checks.push(check);
    naru.update_to(config).await;
    let answer = ask(&naru, "GET", "/style.css", "accept-encoding: zstd\r\n").await;
    assert_eq!(answer.head.get("content-encoding"), Some("zstd"));
    let etag = answer.head.get("etag").unwrap();
    assert!(etag.starts_with("W/\""), "{etag}");
    assert!(crate::compressed::decoded("zstd", &answer.body) == plain);
    let fields = format!("accept-encoding: zstd\r\nif-none-match: {etag}\r\n");
    assert_eq!(ask(&naru, "GET", "/style.css", &fields).await.status(), 304);
    let part = ask(&naru, "GET", "/style.css", "accept-encoding: zstd\r\nrange: bytes=0-9\r\n").await;
    assert_eq!((part.status(), part.head.get("content-encoding"), part.body.len()), (206, None, 10));
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_waits_for_its_client_and_delays_nobody() {
    let directory = site();
    let root = directory.path("www");
    let large = std::fs::File::create(root.join("large.bin")).unwrap();
    large.set_len(256 << 20).unwrap();
    let naru = start(given(of(&directory)));
    let mut slow = Wire::connect_narrow(naru.address).await;
    slow.send("GET /large.bin HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = slow.head().await;
    assert_eq!(head.get("content-length"), Some("268435456"));
    // It takes nothing, and others are answered.
    for _ in 0..20 {
        assert_eq!(ask(&naru, "GET", "/a.txt", "").await.status(), 200);
    }
    drop(slow);
    let gone = until("its client to be gone", async || {
        let report = naru.report().await;
        report
            .series
            .iter()
            .find(|series| series.labels.reason == Reason::ClientGone)
            .map(|series| series.requests())
    });
    assert_eq!(gone.await, 1);
    let mut wire = Wire::connect(naru.address).await;
    wire.send("GET /large.bin HTTP/1.1\r\nhost: a\r\nrange: bytes=1000-33555431\r\n\r\n").await;
    let answer = wire.response().await;
    assert_eq!((answer.status(), answer.body.len()), (206, 33_554_432));
    drop(wire);
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_becomes_shorter_breaks_off() {
    let directory = site();
    let path = directory.path("www").join("large.bin");
    std::fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let naru = start(given(of(&directory)));
    let mut client = Wire::connect_narrow(naru.address).await;
    client.send("GET /large.bin HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = client.head().await;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1).unwrap();
    let transfer = client.rest(head, true).await;
    assert!(matches!(transfer, Transfer::Broken(_)));
    drop(client);
    assert_eq!(naru.ended(1).await, [(200, Reason::FileUnreadable)]);
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_directory_nobody_is_told_where_it_was() {
    let naru = start(given(StaticFiles::new(Path::new("/nowhere/at/all").to_str().unwrap())));
    let answer = ask(&naru, "GET", "/a.txt", "").await;
    assert_eq!((answer.status(), answer.text().as_str()), (503, "Service Unavailable"));
    assert_eq!(naru.ended(1).await, [(503, Reason::FileUnreadable)]);
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_over_http2_as_well() {
    let directory = site();
    let naru = start(given(of(&directory)));
    let mut client = naru_tests::Client::plain(naru.address, Speaks::Http2).await;
    for name in ["data.bin", "a.txt", "nothing.txt"] {
        let answer = client.get(&format!("/{name}")).await;
        assert!(answer.status == 200 && answer.body == read(&directory, name), "{name}");
    }
    assert_eq!(client.get("/none").await.status, 404);
    drop(client);
    naru.settles().await;
}
