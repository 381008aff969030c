//! Documents in an etcd: one that is there, that goes, that comes back empty, that is asked by several; and `naru config`
//! that writes into it.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use naru_sources::etcd::{Desk, Outcome, Settings};
use naru_tests::control::{bootstrap, is_current};
use naru_tests::files::Directory;
use naru_tests::program::program;
use naru_tests::up::free_address;
use naru_tests::{Authority, Client, Control, Envoy, Etcd, Speaks, Up, Upstream, client, until};
use serde_json::Value;

use super::{free_port, written};

/// A gateway that is driven.
struct Driven {
    client: Client,
    _envoy: Envoy,
}

impl Driven {
    async fn by(control: &Control, id: &str) -> Driven {
        let own = ["--envoy", "--admin", "127.0.0.1:0", "--id", id];
        let envoy = Envoy::start(&bootstrap(control.xds, &own)).await;
        Driven { client: Client::plain(envoy.address, Speaks::Http1).await, _envoy: envoy }
    }

    /// Whatever happens, it answers.
    async fn says(&mut self) -> String {
        let answer = self.client.get("/").await;
        assert_eq!(answer.status, 200);
        answer.header("x-says").unwrap().to_owned()
    }

    async fn comes_to_say(&mut self, what: &str) {
        until(&format!("the answer {what}"), async || (self.says().await == what).then_some(())).await;
    }
}

async fn source(control: &Control) -> Value {
    control.status().await["source"].clone()
}

#[tokio::test]
async fn what_an_etcd_says_holds_also_while_it_is_away() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let shop = |says: &str| written(port, upstream.address, says);
    let mut etcd = Etcd::start().await;
    let url = etcd.url();
    // Nobody has written anything yet: it waits.
    let waiting = Control::spawn(Directory::new(), free_address(), &["--etcd", &url]);
    waiting.says("there is no key below '/naru/'").await;
    waiting.says("'etcd:/naru/' says nothing yet; it is waited for").await;
    etcd.put("/naru/shop.yaml", &shop("1"));
    etcd.put("/narutoo", "it is not below the prefix");
    let control = waiting.answers().await;
    let mut driven = Driven::by(&control, "gateway").await;
    assert_eq!(driven.says().await, "1");

    etcd.put("/naru/shop.yaml", &shop("2"));
    driven.comes_to_say("2").await;
    let told = source(&control).await;
    assert_eq!((told["name"].as_str(), told["endpoint"].as_str()), (Some("etcd:/naru/"), Some(&*url)));
    assert_eq!(told["revision"].as_i64(), Some(etcd.revision()), "{told}");

    // What is wrong is told with its key and its line, and changes nothing.
    etcd.put("/naru/more/bad.yaml", "apiVersion: v1\nkind: Service\nmetadata: { nam: x }\n");
    control.says("etcd:/naru/more/bad.yaml:3").await;
    etcd.put("/naru/shop.yaml", &shop("3"));
    control.says("cannot be; what was there before goes on").await;
    assert_eq!(driven.says().await, "2");
    // A key that is hidden is none of the documents.
    etcd.put("/naru/.hidden.yaml", "{");
    etcd.delete("/naru/more/bad.yaml");
    driven.comes_to_say("3").await;
    // Two keys in one transaction are one change.
    let changes = control.status().await["changes"].as_u64().unwrap();
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: { name: other }\nspec: { ports: [{ port: 80 }] }\n";
    let put = |key: &str, value: &str| format!("put {key} {value:?}\n");
    let both = [put("/naru/a.yaml", service), put("/naru/shop.yaml", &shop("4"))].concat();
    etcd.ctl(&["txn"], &format!("\n{both}\n\n"));
    driven.comes_to_say("4").await;
    assert_eq!(control.status().await["changes"], changes + 1);

    // It goes, is compacted, and comes back.
    etcd.ctl(&["compact", &etcd.revision().to_string()], "");
    etcd.kill();
    until("the trouble to be told", async || source(&control).await["trouble"].is_string().then_some(()))
        .await;
    assert_eq!(driven.says().await, "4");
    etcd.again();
    etcd.answers().await;
    etcd.put("/naru/shop.yaml", &shop("5"));
    driven.comes_to_say("5").await;
    let told = source(&control).await;
    assert!(told["trouble"].is_null() && control.said().contains("cannot be read: http://"), "{told}");

    // Also the control plane is killed meanwhile: what was in force is on disk.
    etcd.kill();
    let control = control.again(&["--etcd", &url]).await;
    let told = is_current(control.admin, "gateway").await;
    assert_eq!(told["held_back"], Value::Null);
    assert_eq!(source(&control).await["is_from_disk"], true);
    assert!(control.said().contains("which was kept on disk"), "{}", control.said());
    assert_eq!(driven.says().await, "5");
    etcd.again();
    etcd.answers().await;
    until("it to be read again", async || (source(&control).await["is_from_disk"] == false).then_some(()))
        .await;
    etcd.put("/naru/shop.yaml", &shop("6"));
    driven.comes_to_say("6").await;

    // One that has lost everything takes nothing down.
    etcd.forget();
    etcd.again();
    etcd.answers().await;
    control.says("there is no key below '/naru/'").await;
    assert_eq!(driven.says().await, "6");
    etcd.put("/naru/shop.yaml", &shop("7"));
    driven.comes_to_say("7").await;
    control.says("is another etcd than before, or has lost what it knew").await;
    let said = Command::new(program()).args(["status", "--admin", &control.admin.to_string()]).output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    assert!(said.contains("documents of etcd:/naru/, revision "), "{said}");
}

#[tokio::test]
async fn two_control_planes_on_one_etcd_say_the_same_and_either_may_go() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let etcd = Etcd::start().await;
    etcd.put("/naru/shop.yaml", &written(port, upstream.address, "1"));
    let url = etcd.url();
    let run = async || Control::run(Directory::new(), free_address(), &["--etcd", &url]).await;
    let (one, other) = (run().await, run().await);
    let mut driven = Driven::by(&one, "gateway").await;
    let of_one = is_current(one.admin, "gateway").await;
    // One after the other on one place, as behind an address that both share.
    let (xds, mut gone) = (one.xds, one);
    gone.kill();
    assert_eq!(driven.says().await, "1");
    let third = Control::run(Directory::new(), xds, &["--etcd", &url]).await;
    let of_third = is_current(third.admin, "gateway").await;
    assert_eq!(of_third["version"], of_one["version"]);
    // It had everything, and said so.
    assert!(of_third["bytes_sent"].as_u64() < of_one["bytes_sent"].as_u64(), "{of_third}");
    // Envoys share a port.
    let mut second = Driven::by(&other, "gateway").await;
    let of_other = is_current(other.admin, "gateway").await;
    assert_eq!(of_other["version"], of_one["version"]);
    etcd.put("/naru/shop.yaml", &written(port, upstream.address, "2"));
    driven.comes_to_say("2").await;
    second.comes_to_say("2").await;
    until("the same of both", async || {
        let of_other = is_current(other.admin, "gateway").await;
        let of_third = is_current(third.admin, "gateway").await;
        (of_other["version"] == of_third["version"] && of_other["version"] != of_one["version"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_member_of_three_may_go_and_without_a_majority_nothing_changes() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let shop = |says: &str| written(port, upstream.address, says);
    let mut members = Etcd::cluster(3).await;
    members[0].put("/naru/shop.yaml", &shop("1"));
    let urls: Vec<String> = members.iter().map(Etcd::url).collect();
    let control =
        Control::run(Directory::new(), free_address(), &["--etcd", &urls.join(","), "--prefix", "/naru"])
            .await;
    let mut driven = Driven::by(&control, "gateway").await;
    let read = source(&control).await["endpoint"].as_str().unwrap().to_owned();
    let at = urls.iter().position(|url| *url == read).unwrap();
    members[at].kill();
    let others: Vec<usize> = (0..3).filter(|other| *other != at).collect();
    members[others[0]].answers().await;
    members[others[0]].put("/naru/shop.yaml", &shop("2"));
    driven.comes_to_say("2").await;
    assert_ne!(source(&control).await["endpoint"], read);
    // Nobody leads the last one, which is there all the same.
    let last = if source(&control).await["endpoint"] == urls[others[0]] { others[1] } else { others[0] };
    members[last].kill();
    until("the trouble to be told", async || source(&control).await["trouble"].as_str().map(str::to_owned))
        .await;
    assert_eq!(driven.says().await, "2");
    members[last].again();
    members[last].answers().await;
    members[last].put("/naru/shop.yaml", &shop("3"));
    driven.comes_to_say("3").await;
}

#[tokio::test]
async fn an_etcd_may_ask_for_a_password_and_for_a_certificate() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let authority = Authority::new();
    let files = Directory::new();
    let file = |name: &str, text: &str| files.write(name, text).display().to_string();
    let server = authority.issue_for("127.0.0.1");
    let own = authority.issue_for("naru");
    let (ca, other_ca) = (file("ca.pem", &authority.pem()), file("other.pem", &Authority::new().pem()));
    let (certificate, key) = (file("server.pem", &server.chain), file("server.key", &server.key));
    let (own_certificate, own_key) = (file("own.pem", &own.chain), file("own.key", &own.key));
    let arguments = ["--cert-file", &certificate, "--key-file", &key, "--trusted-ca-file", &ca];
    let arguments: Vec<String> =
        arguments.iter().map(|word| (*word).to_owned()).chain(["--client-cert-auth".to_owned()]).collect();
    let shown = ["--cacert", &ca, "--cert", &own_certificate, "--key", &own_key];
    let shown: Vec<String> = shown.iter().map(|word| (*word).to_owned()).collect();
    let etcd = Etcd::start_with(&arguments, &shown).await;
    etcd.put("/naru/shop.yaml", &written(free_port(), upstream.address, "1"));
    for words in [
        &["user", "add", "root:of-all"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "reader"],
        &["role", "grant-permission", "reader", "--prefix=true", "read", "/naru/"],
        &["user", "add", "naru:secret"],
        &["user", "grant-role", "naru", "reader"],
        &["auth", "enable"],
    ] {
        etcd.ctl(words, "");
    }
    let (right, wrong) = (file("right", "secret\n"), file("wrong", "geheim"));
    let url = etcd.url();
    let arguments = |ca: &str, password: &str, with_certificate: bool| -> Vec<String> {
        let mut all = vec!["--etcd", &url, "--etcd-ca", ca];
        if !password.is_empty() {
            all.extend(["--etcd-user", "naru", "--etcd-password-file", password]);
        }
        if with_certificate {
            all.extend(["--etcd-certificate", &own_certificate, "--etcd-key", &own_key]);
        }
        all.into_iter().map(str::to_owned).collect()
    };
    for (arguments, expected) in [
        (arguments(&other_ca, &right, true), "invalid peer certificate"),
        (arguments(&ca, &right, false), "'etcd:/naru/' cannot be read"),
        (arguments(&ca, &wrong, true), "authentication failed"),
        (arguments(&ca, "/nowhere", true), "the password in '/nowhere'"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let control = Control::spawn(Directory::new(), free_address(), &arguments);
        control.says(expected).await;
        assert!(!control.said().contains("secret") && !control.said().contains("geheim"));
    }
    let right = arguments(&ca, &right, true);
    let right: Vec<&str> = right.iter().map(String::as_str).collect();
    let control = Control::run(Directory::new(), free_address(), &right).await;
    assert_eq!(source(&control).await["trouble"], Value::Null);
    // What may not be read is told in etcd's words.
    let other =
        Control::spawn(Directory::new(), free_address(), &[&right[..], &["--prefix", "/else/"]].concat());
    other.says("permission denied").await;
    // No word is sent where everybody could listen.
    let refused = Command::new(program())
        .args(["control", "--etcd", "http://192.0.2.1:2379", "--etcd-user", "naru"])
        .args(["--etcd-password-file", "x"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("a password is not sent to another machine without TLS"));
}

#[tokio::test]
async fn naru_up_follows_an_etcd_as_well() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let mut etcd = Etcd::start().await;
    etcd.put("/naru/shop.yaml", &written(port, upstream.address, "1"));
    let url = etcd.url();
    let up = Up::start_on(&["--etcd", &url, "--workers", "1", "--access-log", "none"]).await;
    let address: std::net::SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    let says = async || client::get(address, "/").await.header("x-says").map(str::to_owned);
    let listens = async || {
        until("the gateway", async || tokio::net::TcpStream::connect(address).await.ok()).await;
    };
    listens().await;
    assert_eq!(says().await.as_deref(), Some("1"));
    assert!(up.said().contains("every valid save in 'etcd:/naru/' takes effect"), "{}", up.said());
    etcd.put("/naru/shop.yaml", &written(port, upstream.address, "2"));
    until("the change", async || (says().await? == "2").then_some(())).await;
    // It is kept once it is in effect.
    until("what is told of it", async || up.said().contains("it is in effect").then_some(())).await;
    etcd.kill();
    let up = up.again_on(&["--etcd", &url, "--workers", "1", "--access-log", "none"]).await;
    listens().await;
    assert_eq!(says().await.as_deref(), Some("2"));
    assert!(up.said().contains("which was kept on disk"), "{}", up.said());
    etcd.again();
    etcd.answers().await;
    etcd.put("/naru/shop.yaml", &written(port, upstream.address, "3"));
    until("a change after that", async || (says().await? == "3").then_some(())).await;
}

fn config(arguments: &[&str]) -> Output {
    Command::new(program()).arg("config").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[tokio::test]
async fn who_writes_into_an_etcd_overwrites_nobody() {
    let etcd = Etcd::start().await;
    let url = etcd.url();
    let files = Directory::new();
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec: {{ ports: [{{ port: 80 }}] }}\n"
        )
    };
    std::fs::create_dir(files.path("below")).unwrap();
    files.write("a.yaml", &service("a"));
    files.write("below/b.yaml", &service("b"));
    let directory = files.path("").display().to_string();
    let done = config(&["apply", &directory, "--etcd", &url]);
    assert!(done.status.success(), "{}", text(&done));
    let first = etcd.revision();
    let told = text(&done);
    assert!(told.starts_with(&format!("revision {first} is what there is\n")), "{told}");
    assert!(told.contains("written  etcd:/naru/below/b.yaml"), "{told}");
    let done = config(&["apply", &directory, "--etcd", &url]);
    assert!(text(&done).contains("it says that already"), "{}", text(&done));
    assert_eq!(etcd.revision(), first);

    // What cannot be is not written.
    files.write("a.yaml", "apiVersion: v1\nkind: Service\nmetadata: { nam: x }\n");
    let done = config(&["apply", &directory, "--etcd", &url]);
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done).contains("etcd:/naru/a.yaml:3") && text(&done).contains("nothing is written"));
    assert_eq!(etcd.revision(), first);

    // Somebody else was faster.
    files.write("a.yaml", &service("c"));
    etcd.put("/naru/other.yaml", &service("other"));
    let since = first.to_string();
    let done = config(&["apply", &directory, "--etcd", &url, "--since", &since]);
    assert_eq!(done.status.code(), Some(1));
    assert!(
        text(&done).contains("somebody else has written meanwhile: etcd:/naru/other.yaml"),
        "{}",
        text(&done)
    );
    etcd.delete("/naru/other.yaml");
    // Of many who know the same, one writes.
    let since = etcd.revision().to_string();
    let writers: Vec<_> = (0..8)
        .map(|at| {
            let one = Directory::new();
            one.write("a.yaml", &service(&format!("of-{at}")));
            one.write("below.yaml", &service("b"));
            let (url, since) = (url.clone(), since.clone());
            std::thread::spawn(move || {
                let directory = one.path("").display().to_string();
                config(&["apply", &directory, "--etcd", &url, "--since", &since])
            })
        })
        .collect();
    let done: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    assert_eq!(done.iter().filter(|done| done.status.success()).count(), 1);

    // Also what others have written is there, and one can go back to it.
    let told: Value =
        serde_json::from_slice(&config(&["history", "--etcd", &url, "--output", "json"]).stdout).unwrap();
    let versions = told["versions"].as_array().unwrap();
    let source = |number: i64| {
        let found = versions.iter().find(|version| version["version"] == number).unwrap();
        found["source"].as_str().unwrap().to_owned()
    };
    assert!(source(first).starts_with("naru config apply on "), "{told}");
    assert_eq!(source(first + 1), "etcd");
    assert_eq!(versions.iter().find(|version| version["version"] == first).unwrap()["files"], 2);
    let shown = config(&["show", &first.to_string(), "--etcd", &url]);
    assert!(text(&shown).contains("# etcd:/naru/below/b.yaml\n"), "{}", text(&shown));
    let back = config(&["rollback", &first.to_string(), "--etcd", &url]);
    assert!(back.status.success(), "{}", text(&back));
    let now = etcd.ctl(&["get", "/naru/", "--prefix", "--keys-only"], "");
    let keys: Vec<&str> = now.split_whitespace().collect();
    assert_eq!(keys, ["/naru/.naru", "/naru/a.yaml", "/naru/below/b.yaml"]);
    let told = text(&config(&["history", "--etcd", &url]));
    assert!(told.contains(&format!("naru config rollback {first} on ")), "{told}");

    // What was compacted away is not there any more, and is told.
    etcd.ctl(&["compact", &etcd.revision().to_string()], "");
    let told = text(&config(&["history", "--etcd", &url]));
    assert_eq!(told.lines().count(), 1, "{told}");
    let back = config(&["rollback", &first.to_string(), "--etcd", &url]);
    assert!(text(&back).contains("compacted"), "{}", text(&back));
    // More than etcd takes in one transaction.
    let many = Directory::new();
    for at in 0..200 {
        many.write(&format!("{at}.yaml"), &service(&format!("s{at}")));
    }
    let done = config(&["apply", &many.path("").display().to_string(), "--etcd", &url]);
    assert!(text(&done).contains("'--max-txn-ops' of etcd"), "{}", text(&done));
}

#[tokio::test]
async fn an_etcd_with_more_than_is_taken_changes_nothing() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let more = ["--max-request-bytes", "40000000"].map(str::to_owned);
    let etcd = Etcd::start_with(&more, &[]).await;
    etcd.put("/naru/shop.yaml", &written(port, upstream.address, "1"));
    let control = Control::run(Directory::new(), free_address(), &["--etcd", &etcd.url()]).await;
    let mut driven = Driven::by(&control, "gateway").await;
    let settings = |prefix: &str| Settings {
        endpoints: vec![etcd.url().parse().unwrap()],
        prefix: prefix.to_owned(),
        user: None,
        ca: None,
        certificate: None,
        seed: 1,
    };
    // Several large keys are read one after another.
    let large = format!("# {}\n", "x".repeat(9 << 20));
    let desk = Desk::open(&settings("/naru/large/")).await.unwrap();
    for name in ["a.yaml", "b.yaml"] {
        let mut files = desk.files(0).await.unwrap();
        files.insert(name.to_owned(), large.clone());
        let written = desk.write(&files, None, "test").await.unwrap();
        assert!(matches!(written, Outcome::Written { .. }), "{written:?}");
    }
    etcd.put("/naru/shop.yaml", &written(port, upstream.address, "2"));
    driven.comes_to_say("2").await;
    let control = control.again(&["--etcd", &etcd.url()]).await;
    is_current(control.admin, "gateway").await;
    assert_eq!(source(&control).await["is_from_disk"], false, "{}", control.said());
    // One that is too large.
    let too_large = BTreeMap::from([("c.yaml".to_owned(), format!("# {}\n", "x".repeat(17 << 20)))]);
    Desk::open(&settings("/naru/other/")).await.unwrap().write(&too_large, None, "test").await.unwrap();
    control.says("etcd:/naru/other/c.yaml has more than 16777216 bytes").await;
    etcd.put("/naru/shop.yaml", &written(port, upstream.address, "3"));
    assert_eq!(driven.says().await, "2");
    etcd.delete("/naru/other/c.yaml");
    driven.comes_to_say("3").await;
}
