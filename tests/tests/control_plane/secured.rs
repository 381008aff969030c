//! xDS by TLS: certificates of both sides, nodes that are whom they say, files that are renewed; Envoy, naru and a client
//! of gRPC.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use naru_tests::certificates::Issued;
use naru_tests::control::{bootstrap, is_current};
use naru_tests::files::Directory;
use naru_tests::program::program;
use naru_tests::up::free_address;
use naru_tests::{Authority, Client, Control, Envoy, Foreign, Speaks, Upstream, client, until};
use rcgen::SanType;
use serde_json::{Value, json};

use super::{free_port, written};

/// Certificates and keys as files.
struct Files(Directory);

impl Files {
    fn path(&self, name: &str) -> String {
        self.0.path(name).display().to_string()
    }

    /// Put in their places, so that nobody sees a half of them.
    fn put(&self, name: &str, issued: &Issued) {
        for (ending, text) in [("pem", &issued.chain), ("key", &issued.key)] {
            let new = self.0.write("new", text);
            std::fs::rename(new, self.0.path(&format!("{name}.{ending}"))).unwrap();
        }
    }

    /// What a proxy is started with that shows this certificate.
    fn shown(&self, name: &str) -> [String; 6] {
        let (certificate, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        let words = ["--tls-ca", &self.path("ca.pem"), "--tls-certificate", &certificate, "--tls-key", &key];
        words.map(str::to_owned)
    }
}

fn named(authority: &Authority, names: &[SanType]) -> Issued {
    authority.issue_with(|params| params.subject_alt_names = names.to_vec())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

/// `naru proxy` that is driven.
struct Naru {
    child: Child,
    files: Directory,
}

impl Naru {
    fn start(text: &str) -> Naru {
        let files = Directory::new();
        let file = files.write("naru.yaml", text);
        let child = Command::new(program())
            .args(["proxy", "--workers", "1", "--takeover-path", "none", "--state", "none", "--config"])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(files.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Naru { child, files }
    }

    async fn says(&self, words: &str) {
        until(&format!("naru to say {words:?}"), async || {
            let said = std::fs::read_to_string(self.files.path("stderr")).unwrap();
            said.contains(words).then_some(())
        })
        .await;
    }
}

impl Drop for Naru {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn is_gone(control: &Control, why: &str) {
    until(&format!("{why:?} to be told"), async || {
        let status = control.status().await;
        let mut gone = status["gone"].as_array().unwrap().iter();
        gone.find(|gone| gone["why"].as_str().unwrap().contains(why)).map(drop)
    })
    .await;
}

#[tokio::test]
async fn proxies_show_certificates_and_are_whom_they_say() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let (authority, other) = (Authority::new(), Authority::new());
    let files = Files(Directory::new());
    let write = |name: &str, text: &str| -> PathBuf { files.0.write(name, text) };
    write("ca.pem", &authority.pem());
    write("clients.pem", &authority.pem());
    let here = SanType::IpAddress([127, 0, 0, 1].into());
    files.put("server", &named(&authority, &[here.clone(), dns("localhost"), dns("xds.test")]));
    files.put("edge-1", &named(&authority, &[dns("edge-1"), uri("spiffe://test/ns/default/sa/edge")]));
    files.put("edge-2", &named(&authority, &[dns("edge-2")]));
    files.put("stranger", &named(&other, &[dns("edge-1")]));
    let directory = Directory::new();
    directory.write("all.yaml", &written(port, upstream.address, "1"));
    let config = directory.path("").display().to_string();
    let (certificate, key, clients) =
        (files.path("server.pem"), files.path("server.key"), files.path("clients.pem"));
    let arguments = ["--config", &config, "--tls-certificate", &certificate, "--tls-key", &key];
    let arguments = [&arguments[..], &["--client-ca", &clients, "--check-nodes"]].concat();
    let control = Control::run(directory, free_address(), &arguments).await;
    let of = |kind: &'static str, id: &str, shown: &str, more: &[&str]| -> String {
        let shown = files.shown(shown);
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        let own: &[&str] = if kind == "--grpc" { &[] } else { &["--admin", "127.0.0.1:0"] };
        bootstrap(control.xds, &[&[kind, "--id", id], own, &shown[..], more].concat())
    };

    // Those who are right: naru by its SPIFFE id, then Envoy, in its place, by a name.
    let spiffe = "spiffe://test/ns/default/sa/edge";
    let naru = Naru::start(&of("--naru", spiffe, "edge-1", &["--tls-name", "xds.test"]));
    is_current(control.admin, spiffe).await;
    let gate: std::net::SocketAddr = ([127, 0, 0, 1], port).into();
    until("naru to listen", async || tokio::net::TcpStream::connect(gate).await.ok()).await;
    assert_eq!(client::get(gate, "/").await.header("x-says"), Some("1"));
    drop(naru);
    let envoy = Envoy::start(&of("--envoy", "edge-1", "edge-1", &[])).await;
    let mut client = Client::plain(envoy.address, Speaks::Http1).await;
    assert_eq!(client.get("/").await.header("x-says"), Some("1"));
    let told = is_current(control.admin, "edge-1").await;
    assert_eq!(told["certificate"], json!([spiffe, "edge-1"]));

    // Those who are not: who says to be another, who shows nothing, who shows what nobody knows, who speaks in plain.
    let liar = Naru::start(&of("--naru", "edge-1", "edge-2", &[]));
    is_gone(&control, "node.id 'edge-1' is not in its certificate, which has 'edge-2'").await;
    liar.says("gRPC status 7").await;
    drop(liar);
    let liar = Naru::start(&of("--naru", "edge-1", "edge-1", &["--namespace", "bank"]));
    is_gone(&control, "node.metadata.namespace 'bank' is not in its certificate").await;
    drop(liar);
    let nobody = bootstrap(
        control.xds,
        &["--naru", "--id", "edge-1", "--admin", "127.0.0.1:0", "--tls-ca", &files.path("ca.pem")],
    );
    let nobody = Naru::start(&nobody);
    is_gone(&control, "TLS: peer sent no certificates").await;
    drop(nobody);
    let stranger = Naru::start(&of("--naru", "edge-1", "stranger", &[]));
    is_gone(&control, "TLS: invalid peer certificate").await;
    drop(stranger);
    let plain = Naru::start(&bootstrap(control.xds, &["--naru", "--id", "plain", "--admin", "127.0.0.1:0"]));
    plain.says("the control plane is away").await;
    drop(plain);
    // A proxy believes none but who has the right name, by the right authority.
    let mistrusts = Naru::start(&of("--naru", "edge-2", "edge-2", &["--tls-name", "elsewhere.test"]));
    mistrusts.says("TLS: invalid peer certificate").await;
    drop(mistrusts);
    write("ca-other.pem", &other.pem());
    let text =
        of("--naru", "edge-2", "edge-2", &[]).replace(&files.path("ca.pem"), &files.path("ca-other.pem"));
    let mistrusts = Naru::start(&text);
    mistrusts.says("TLS: invalid peer certificate").await;
    drop(mistrusts);

    // Other clients are let in from now on, and who is connected stays.
    let new = files.0.write("clients.new", &other.pem());
    std::fs::rename(new, files.0.path("clients.pem")).unwrap();
    control.says("the certificate of xDS was read again").await;
    let late = Naru::start(&of("--naru", "edge-2", "edge-2", &[]));
    late.says("the control plane is away").await;
    drop(late);
    let welcome = Naru::start(&of("--naru", "edge-1", "stranger", &[]));
    until("two of one name", async || {
        let status = control.status().await;
        let all = status["proxies"].as_array().unwrap().clone();
        (all.iter().filter(|proxy| proxy["id"] == "edge-1").count() == 2).then_some(())
    })
    .await;
    drop(welcome);
    // A key that does not belong to the certificate is told, and changes nothing.
    let wrong = files.0.write("server.new", &named(&authority, &[here]).key);
    std::fs::rename(wrong, files.0.path("server.key")).unwrap();
    control.says("error: TLS of xDS:").await;
    control.save("all.yaml", &written(port, upstream.address, "2"));
    until("a change", async || (client.get("/").await.header("x-says") == Some("2")).then_some(())).await;
}

#[tokio::test]
async fn clients_of_grpc_speak_tls_as_well() {
    let upstream = naru_tests::Workload::start(&["--name", "reviews"]).await;
    let authority = Authority::new();
    let files = Files(Directory::new());
    files.0.write("ca.pem", &authority.pem());
    let here = SanType::IpAddress([127, 0, 0, 1].into());
    files.put("server", &named(&authority, &[here]));
    files.put("caller", &named(&authority, &[dns("caller")]));
    let documents = written(free_port(), upstream.address, "1").replace("name: http,", "name: grpc,");
    let directory = Directory::new();
    directory.write("all.yaml", &documents);
    let config = directory.path("").display().to_string();
    let (certificate, key, clients) =
        (files.path("server.pem"), files.path("server.key"), files.path("ca.pem"));
    let arguments = ["--config", &config, "--tls-certificate", &certificate, "--tls-key", &key];
    let arguments = [&arguments[..], &["--client-ca", &clients, "--check-nodes"]].concat();
    let control = Control::run(directory, free_address(), &arguments).await;
    let shown = files.shown("caller");
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let text = bootstrap(control.xds, &[&["--grpc", "--id", "caller"], &shown[..]].concat());
    let mut client = Foreign::start("xds/client.py");
    let bootstrap: Value = serde_json::from_str(&text).unwrap();
    client.ask(json!({ "do": "begin", "bootstrap": bootstrap })).await;
    let command = json!({ "do": "call", "to": "xds:///shop", "count": 5 });
    until("calls to succeed", async || {
        let answer = client.ask(command.clone()).await;
        (answer["codes"] == json!({ "OK": 5 })).then_some(())
    })
    .await;
    let told = is_current(control.admin, "caller").await;
    assert_eq!(told["certificate"], json!(["caller"]));
}

/// What is said where everybody could hear it.
#[test]
fn everything_is_told_to_everybody_only_if_somebody_insists() {
    let directory = Directory::new();
    directory.write(
        "a.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec: { ports: [{ port: 80 }] }\n",
    );
    let config = directory.path("").display().to_string();
    let authority = Authority::new();
    let issued = authority.issue();
    let certificate = directory.write("own.pem", &issued.chain).display().to_string();
    let key = directory.write("own.key", &issued.key).display().to_string();
    let state = directory.path(".state").display().to_string();
    let check = |arguments: &[&str], expected: &str| {
        let output = Command::new(program()).args(arguments).args(["--state", &state]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
    };
    let tls = ["--tls-certificate", &certificate, "--tls-key", &key];
    let control = ["control", "--config", &config, "--address", "0.0.0.0:0", "--admin", "127.0.0.1:0"];
    check(&control, "say --tls-certificate, --tls-key and --client-ca");
    // Encrypted, and told to everybody all the same.
    check(&[&control[..], &tls].concat(), "so that only those are told who show a certificate");
    let up = ["up", &config, "--admin", "127.0.0.1:0", "--access-log", "none"];
    check(&[&up[..], &["--xds", "0.0.0.0:0"]].concat(), "say --tls-certificate, --tls-key and --client-ca");
    check(&[&up[..], &tls].concat(), "--tls-certificate is that of --xds, which is not said");
    check(&[&control[..], &["--tls-certificate", &certificate]].concat(), "--tls-key");
    check(&[&control[..], &tls, &["--check-nodes"]].concat(), "--client-ca");
    let wrong = ["--tls-certificate", &certificate, "--tls-key", &certificate];
    check(&[&control[..], &["--insecure"], &wrong].concat(), "TLS of xDS:");
}
