//! The tests of HTTP caches that are public: the package `http-cache-tests`, see `xtask/package.json`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use naru_proxy::Options;
use naru_spec::CachePolicy;
use naru_tests::files::Directory;
use naru_tests::{Bootstrap, Naru};
use serde_json::Value;

use super::{ALL, config_of};

/// What the package asks for against RFC 9111, section 5.1: of several ages the first counts, and what is none says
/// nothing. Its authors have changed these since. And an answer in a transfer coding that nobody knows is no answer of
/// HTTP/1 (RFC 9112, section 6.1).
const NOT_OURS: [&str; 10] = [
    "headers-store-Transfer-Encoding",
    "age-parse-dup-0",
    "age-parse-dup-0-twoline",
    "age-parse-dup-old",
    "age-parse-float",
    "age-parse-negative",
    "age-parse-nonnumeric",
    "age-parse-numeric-parameter",
    "age-parse-parameter",
    "age-parse-prefix-twoline",
];
/// So many of those that are optimal must pass; Traffic Server's 71 are the most of its peers.
const OPTIMAL_MIN: usize = 80;
/// Answers that are to be fresh for two seconds may be late on a machine that has other things to do.
const TRIES: usize = 4;

struct Server {
    child: Child,
    /// Where it writes which process it is.
    _directory: Directory,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn package() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let package = target.join("tools/node/node_modules/http-cache-tests");
    assert!(package.exists(), "there is no {}: run `cargo xtask setup` once", package.display());
    package.canonicalize().unwrap()
}

/// The origin that the package brings.
fn serve(package: &Path) -> (Server, u16) {
    let directory = Directory::new();
    let mut child = Command::new("node")
        .arg("server/server.mjs")
        .current_dir(package)
        .env("npm_config_protocol", "http")
        .env("npm_config_port", "0")
        .env("npm_config_pidfile", directory.path("pid"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    // It says more as it goes on.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    let port = line.trim().trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
    (Server { child, _directory: directory }, port.unwrap_or_else(|| panic!("it says '{line}'")))
}

#[derive(Debug)]
struct Told {
    kind: String,
    needs: Vec<String>,
    failure: Option<String>,
}

/// Runs those that are named, or all.
fn run(package: &Path, base: &str, ids: &[String]) -> BTreeMap<String, Told> {
    let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/cache/public.mjs");
    let output = Command::new("node")
        .args(["--no-warnings", driver, package.to_str().unwrap(), base])
        .args(ids)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap_or_default();
    let all: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"));
    let told = all.as_array().unwrap().iter().map(|one| {
        let text = |name: &str| one[name].as_str().map(str::to_owned);
        let needs = one["needs"].as_array().unwrap().iter().map(|need| need.as_str().unwrap().to_owned());
        let told = Told { kind: text("kind").unwrap(), needs: needs.collect(), failure: text("result") };
        (text("id").unwrap(), told)
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_required_behaviour_of_the_public_tests_is_there() {
    let package = package();
    let (_server, port) = serve(&package);
    let bootstrap = Bootstrap::new(ALL).cluster("up", ([127, 0, 0, 1], port).into(), "");
    let naru = Naru::start_on(
        config_of(&bootstrap, &CachePolicy::default()),
        &Options { workers: 2, seed: Some(1) },
    );
    let base = format!("http://{}", naru.address);
    let mut all = run(&package, &base, &[]);
    for _ in 1..TRIES {
        let failed = all.iter().filter(|(_, told)| told.failure.is_some() && told.kind != "check");
        let failed: Vec<String> = failed.map(|(id, _)| id.clone()).collect();
        if failed.is_empty() {
            break;
        }
        let again = run(&package, &base, &failed);
        all.extend(again.into_iter().filter(|(_, told)| told.failure.is_none()));
    }
    // As the package judges: where what a test depends on is not there, it says nothing.
    let passes = |id: &String| all.get(id).is_none_or(|told| told.failure.is_none());
    let of_kind = |kind: &str| all.iter().filter(move |(_, told)| told.kind == kind).collect::<Vec<_>>();
    let ours = of_kind("required").into_iter().filter(|(id, told)| {
        told.failure.is_some() && told.needs.iter().all(passes) && !NOT_OURS.contains(&id.as_str())
    });
    let ours: Vec<String> =
        ours.map(|(id, told)| format!("{id}: {}", told.failure.as_deref().unwrap_or(""))).collect();
    let (optimal, missing): (Vec<_>, Vec<_>) = of_kind("optimal").into_iter().partition(|(id, _)| passes(id));
    let missing: Vec<_> =
        missing.iter().map(|(id, told)| format!("{id}: {}", told.failure.as_deref().unwrap_or(""))).collect();
    let required = of_kind("required").into_iter().filter(|(id, _)| passes(id)).count();
    println!("required {required}, optimal {} of {}", optimal.len(), optimal.len() + missing.len());
    assert!(ours.is_empty(), "{ours:#?}");
    assert!(optimal.len() >= OPTIMAL_MIN, "{} pass; {missing:#?}", optimal.len());
    drop(naru);
}
