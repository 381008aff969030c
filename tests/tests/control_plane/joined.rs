//! Machines that join a WorkloadGroup by themselves: a naru and an Envoy that nobody has written down are called while
//! they are there and well.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use naru_tests::control::{bootstrap, is_current, status};
use naru_tests::files::Directory;
use naru_tests::up::{Up, free_address};
use naru_tests::{Authority, Client, Control, Envoy, Etcd, Fleet, Speaks, Upstream, until};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::free_port;
use super::ours::Proxy;

/// What runs on a machine: it says its name, and on `/health` whether it is well.
struct Machine {
    address: SocketAddr,
    is_well: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Machine {
    async fn start(name: &'static str) -> Machine {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_well = Arc::new(AtomicBool::new(true));
        let told = Arc::clone(&is_well);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let (mut first, mut line) = (String::new(), String::new());
                    while stream.read_line(&mut first).await.is_ok_and(|read| read > 0) {
                        while stream.read_line(&mut line).await.is_ok() && line != "\r\n" && !line.is_empty()
                        {
                            line.clear();
                        }
                        let is_well = told.load(Ordering::Relaxed) || !first.contains("/health");
                        let status = if is_well { "200 OK" } else { "500 No" };
                        let answer =
                            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                        // Whoever has gone is asked nothing more.
                        let _ = stream.write_all(answer.as_bytes()).await;
                        first.clear();
                        line.clear();
                    }
                });
            }
        });
        Machine { address, is_well, task }
    }

    fn says(&self, is_well: bool) {
        self.is_well.store(is_well, Ordering::Relaxed);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A gateway, a service, and groups of it, each at a port of its own, as all machines are this one.
fn documents(gate: u16, groups: &[(&str, u16, &str)]) -> String {
    let mut text = format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: shop }}
spec: {{ selector: {{ app: shop }}, ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec:
  servers: [{{ port: {{ number: {gate}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: gate }}
spec: {{ hosts: ['*'], gateways: [gate], http: [{{ route: [{{ destination: {{ host: shop }} }}] }}] }}
"
    );
    for (name, port, probe) in groups {
        text.push_str(&format!(
            "---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {{ name: {name} }}
spec:
  metadata: {{ labels: {{ app: shop }} }}
  template: {{ ports: {{ http: {port} }} }}
{probe}"
        ));
    }
    text
}

/// Asks all the time; what was not answered 200 is told in the end.
struct Load {
    ends: Arc<AtomicBool>,
    task: JoinHandle<(u64, Vec<u16>)>,
}

impl Load {
    fn start(gate: SocketAddr) -> Load {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let task = tokio::spawn(async move {
            let mut client = Client::plain(gate, Speaks::Http1).await;
            let (mut count, mut wrong) = (0, Vec::new());
            while !told.load(Ordering::Relaxed) {
                let status = client.get("/").await.status.as_u16();
                count += 1;
                wrong.extend((status != 200).then_some(status));
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            (count, wrong)
        });
        Load { ends, task }
    }

    async fn ends(self) {
        self.ends.store(true, Ordering::Relaxed);
        let (count, wrong) = self.task.await.unwrap();
        assert!(count > 0);
        assert_eq!(wrong, [0; 0], "of {count} requests");
    }
}

/// Who answers, in as many requests as it takes to have met everybody.
async fn answering(gate: SocketAddr) -> BTreeSet<String> {
    let mut client = Client::plain(gate, Speaks::Http1).await;
    let mut met = BTreeSet::new();
    for _ in 0..20 {
        let answer = client.get("/").await;
        met.insert(if answer.status == 200 { answer.text() } else { answer.status.as_str().to_owned() });
    }
    met
}

async fn are_answering(gate: SocketAddr, wanted: &[&str]) {
    until(&format!("{wanted:?} to answer"), async || {
        let met = answering(gate).await;
        met.iter().map(String::as_str).eq(wanted.iter().copied()).then_some(())
    })
    .await;
}

async fn listens(address: SocketAddr) {
    until("the gateway to listen", async || tokio::net::TcpStream::connect(address).await.ok()).await;
}

async fn member(admin: SocketAddr, name: &str) -> Option<Value> {
    let status = status(admin).await;
    status["members"].as_array().unwrap().iter().find(|member| member["name"] == name).cloned()
}

/// How much one was sent, once it has all of it.
async fn responses(admin: SocketAddr, id: &str) -> u64 {
    let told = is_current(admin, id).await;
    told["resources"].as_array().unwrap().iter().map(|kind| kind["responses"].as_u64().unwrap()).sum()
}

/// What a sidecar that joins is started with.
fn joins<'a>(id: &'a str, group: &'a str, outbound: &'a str) -> Vec<&'a str> {
    vec!["--id", id, "--role", "sidecar", "--group", group, "--outbound-address", outbound]
}

#[tokio::test]
async fn a_naru_and_an_envoy_that_join_are_called_until_they_are_gone() {
    let (first, second) = (Machine::start("first").await, Machine::start("second").await);
    let gate: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let groups = [("one", first.address.port(), ""), ("two", second.address.port(), "")];
    let control = Control::start(&[("all.yaml", documents(gate.port(), &groups))]).await;
    let _edge = Proxy::start(control.xds, &["--id", "edge"]);
    listens(gate).await;
    are_answering(gate, &["503"]).await;

    let (a, b) = (free_address().to_string(), free_address().to_string());
    let naru = Proxy::start(control.xds, &joins("naru", "one", &a));
    are_answering(gate, &["first"]).await;
    let load = Load::start(gate);
    let arguments = [
        &["--envoy", "--admin", "127.0.0.1:0", "--instance-address", "127.0.0.1"],
        &joins("envoy", "two", &b)[..],
    ];
    let envoy = Envoy::start(&bootstrap(control.xds, &arguments.concat())).await;
    are_answering(gate, &["first", "second"]).await;
    let told = member(control.admin, "one-127.0.0.1").await.unwrap();
    assert_eq!(
        (&told["is_ready"], &told["connected"][0]),
        (&Value::from(true), &Value::from("naru")),
        "{told}"
    );
    // A node that joins is a workload with the labels of its group.
    let told = is_current(control.admin, "envoy").await;
    assert_eq!(told["labels"], serde_json::json!({ "app": "shop" }));

    // Gone, and back before anybody is told: nobody is sent anything.
    let sent = responses(control.admin, "edge").await;
    drop(naru);
    until("it to be leaving", async || {
        let told = member(control.admin, "one-127.0.0.1").await?;
        told["leaves_in_seconds"].is_number().then_some(())
    })
    .await;
    let naru = Proxy::start(control.xds, &joins("naru", "one", &a));
    is_current(control.admin, "naru").await;
    let told = member(control.admin, "one-127.0.0.1").await.unwrap();
    assert!(told["leaves_in_seconds"].is_null(), "{told}");
    assert_eq!(responses(control.admin, "edge").await, sent);

    drop(envoy);
    are_answering(gate, &["first"]).await;
    assert!(member(control.admin, "two-127.0.0.1").await.is_none());
    load.ends().await;
    drop(naru);
}

#[tokio::test]
async fn a_probe_says_whether_a_member_is_called() {
    let machine = Machine::start("machine").await;
    machine.says(false);
    let gate: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let port = machine.address.port();
    let probe = format!(
        "  probe: {{ periodSeconds: 1, failureThreshold: 1, httpGet: {{ path: /health, port: {port} }} }}\n"
    );
    let text = |probe: &str| documents(gate.port(), &[("vm", port, probe)]);
    let control = Control::start(&[("all.yaml", text(&probe))]).await;
    let _edge = Proxy::start(control.xds, &["--id", "edge"]);
    listens(gate).await;
    let outbound = free_address().to_string();
    let _joined = Proxy::start(control.xds, &joins("vm", "vm", &outbound));
    let why = until("it to be asked", async || {
        let told = member(control.admin, "vm-127.0.0.1").await?;
        told["why"].as_str().filter(|why| why.contains("500")).map(str::to_owned)
    })
    .await;
    assert_eq!(why, format!("{}: it answers 500", machine.address));
    assert_eq!(answering(gate).await, BTreeSet::from(["503".to_owned()]));
    machine.says(true);
    are_answering(gate, &["machine"]).await;
    machine.says(false);
    are_answering(gate, &["503"]).await;
    machine.says(true);
    are_answering(gate, &["machine"]).await;
    // Another port, where nobody listens; then none.
    let tcp = format!(
        "  probe: {{ periodSeconds: 1, failureThreshold: 1, tcpSocket: {{ port: {} }} }}\n",
        free_port()
    );
    control.save("all.yaml", &text(&tcp));
    are_answering(gate, &["503"]).await;
    // By TLS, whoever's certificate it is; and no probe at all.
    let secured = Upstream::serve(Speaks::Http1Tls, &Authority::new()).await;
    let tls = format!(
        "  probe: {{ periodSeconds: 1, httpGet: {{ scheme: HTTPS, path: /describe, port: {} }} }}\n",
        secured.address.port()
    );
    control.save("all.yaml", &text(&tls));
    are_answering(gate, &["machine"]).await;
    control.save("all.yaml", &text(&tcp));
    are_answering(gate, &["503"]).await;
    control.save("all.yaml", &text(""));
    are_answering(gate, &["machine"]).await;
    // Other labels of its group are its own, once it has come again; meanwhile it is called.
    let load = Load::start(gate);
    control.save(
        "all.yaml",
        &text("").replace("{ app: shop } }\n  template", "{ app: shop, track: new } }\n  template"),
    );
    until("it to come again", async || {
        let told = is_current(control.admin, "vm").await;
        (told["labels"]["track"] == "new").then_some(())
    })
    .await;
    load.ends().await;
}

#[tokio::test]
async fn a_control_plane_that_restarts_takes_nobody_away() {
    let machine = Machine::start("machine").await;
    let gate: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let probe = format!("  probe: {{ httpGet: {{ path: /health, port: {} }} }}\n", machine.address.port());
    let groups = [("vm", machine.address.port(), probe.as_str())];
    let control = Control::start(&[("all.yaml", documents(gate.port(), &groups))]).await;
    let _edge = Proxy::start(control.xds, &["--id", "edge"]);
    listens(gate).await;
    let outbound = free_address().to_string();
    let joined = Proxy::start(control.xds, &joins("vm", "vm", &outbound));
    are_answering(gate, &["machine"]).await;
    let load = Load::start(gate);
    // It is written down a moment after it is told to proxies.
    let kept = control.directory.path(".state/naru/configurations");
    until("it to be kept", async || {
        let mut all = std::fs::read_dir(&kept).ok()?.flatten();
        all.any(|one| one.path().join("members.json").exists()).then_some(())
    })
    .await;
    let config = control.directory.path("").display().to_string();
    let control = control.again(&["--config", &config]).await;
    is_current(control.admin, "edge").await;
    is_current(control.admin, "vm").await;
    // One that does not come again is called for a while all the same.
    drop(joined);
    let control = control.again(&["--config", &config]).await;
    is_current(control.admin, "edge").await;
    let told = member(control.admin, "vm-127.0.0.1").await.unwrap();
    assert_eq!(
        (told["is_ready"].clone(), told["leaves_in_seconds"].is_number()),
        (true.into(), true),
        "{told}"
    );
    load.ends().await;
}

#[tokio::test]
async fn who_cannot_join_is_told_why_and_comes_in_once_he_can() {
    let machine = Machine::start("machine").await;
    let gate: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let elsewhere = "---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: { name: vm, namespace: bank }
spec: { template: {} }
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: { name: owned }
spec: { template: { serviceAccount: shop } }
";
    let without = documents(gate.port(), &[]) + elsewhere;
    let control = Control::start(&[("all.yaml", without)]).await;
    let _edge = Proxy::start(control.xds, &["--id", "edge"]);
    let outbound = free_address().to_string();
    let _joined = Proxy::start(control.xds, &joins("vm", "vm", &outbound));
    let _other = Fleet::start_each(control.xds, 4, |at| {
        let address = ["here", "0.0.0.0", "224.0.0.1", "169.254.169.254"][at];
        vec![("AUTO_REGISTER_GROUP", "vm".to_owned()), ("INSTANCE_IPS", address.to_owned())]
    });
    let _owned = Fleet::start_each(control.xds, 2, |at| {
        let account = ["other", ""][at].to_owned();
        vec![("auto_register_group", "owned".to_owned()), ("service_account", account)]
    });
    until("one to be of the account of its group", async || {
        let status = control.status().await;
        let mut all = status["proxies"].as_array().unwrap().iter();
        all.any(|proxy| proxy["service_account"] == "shop").then_some(())
    })
    .await;
    let told = until("all to be refused", async || {
        let status = control.status().await;
        let gone = status["gone"].as_array().unwrap();
        let ids: BTreeSet<&str> = gone.iter().map(|gone| gone["id"].as_str().unwrap()).collect();
        (ids.len() >= 5 && gone.len() >= 6).then(|| gone.clone())
    })
    .await;
    let why = |id: &str| {
        let of_id = told.iter().filter(|gone| gone["id"] == id);
        let mut whys = of_id.map(|gone| gone["why"].as_str().unwrap()).filter(|why| !why.contains("'owned'"));
        whys.next().unwrap().to_owned()
    };
    assert_eq!(
        why("vm"),
        "there is no WorkloadGroup 'vm' in the namespace 'default', but in 'bank': a node joins a group of its own \
         namespace (node.metadata.namespace)"
    );
    let say = ": say node.metadata.instance_address";
    assert_eq!(why("fleet-0"), "node.metadata.instance_address: 'here' is no IP address");
    assert_eq!(why("fleet-1"), format!("0.0.0.0 is the address of nobody{say}"));
    assert_eq!(why("fleet-2"), format!("224.0.0.1 is the address of many{say}"));
    assert_eq!(why("fleet-3"), format!("169.254.169.254 means something on its own link only{say}"));
    let of_owned = "its service account is 'other', and that of who joins 'owned' is 'shop'";
    assert!(told.iter().any(|gone| gone["why"] == of_owned), "{told:?}");
    control.save("all.yaml", &documents(gate.port(), &[("vm", machine.address.port(), "")]));
    listens(gate).await;
    are_answering(gate, &["machine"]).await;
}

#[tokio::test]
async fn many_that_join_at_once_are_planned_together() {
    let gate: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let text = documents(gate.port(), &[("vm", 8_080, "")]);
    let control = Control::start(&[("all.yaml", text)]).await;
    // As many at once as a socket keeps waiting.
    let (waves, size) = (super::count("NARU_WAVES", 10), 100);
    let many = waves * size;
    let mut fleets = Vec::new();
    for wave in 0..waves {
        fleets.push(Fleet::start_each(control.xds, size, |at| {
            let address = format!("10.1.{wave}.{at}");
            vec![("auto_register_group", "vm".to_owned()), ("instance_address", address)]
        }));
        until("all of them to be members", async || {
            let status = control.status().await;
            let there = status["members"].as_array().unwrap().len();
            (there == (wave + 1) * size).then_some(())
        })
        .await;
    }
    until("all of them to be endpoints", async || {
        let status = control.status().await;
        let all = status["proxies"].as_array().unwrap();
        (all.len() == many && all.iter().all(|proxy| proxy["state"] == "current")).then_some(())
    })
    .await;
    fleets.iter().for_each(Fleet::is_whole);
    let status = control.status().await;
    assert_eq!(status["kinds_of_nodes"], 1, "a group and an address make no other kind");
    let plans = status["plans"]["whole"].as_u64().unwrap();
    assert!(plans < 100, "{plans} plans");
}

#[tokio::test]
async fn the_gateway_of_naru_up_leads_to_those_who_join_there() {
    let machine = Machine::start("machine").await;
    let gate: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let text = documents(gate.port(), &[("vm", machine.address.port(), "")]);
    let xds = free_address();
    let address = xds.to_string();
    let arguments = ["--xds", &address];
    let up = Up::start(&[("all.yaml", text)], &arguments).await;
    listens(gate).await;
    are_answering(gate, &["503"]).await;
    let outbound = free_address().to_string();
    let joined = Proxy::start(xds, &joins("vm", "vm", &outbound));
    are_answering(gate, &["machine"]).await;
    let kept = up.directory.path(".state/naru/configurations");
    until("it to be kept", async || {
        let mut all = std::fs::read_dir(&kept).ok()?.flatten();
        all.any(|one| one.path().join("members.json").exists()).then_some(())
    })
    .await;
    // From its first request on.
    let _up = up.again(&arguments).await;
    listens(gate).await;
    assert_eq!(answering(gate).await, BTreeSet::from(["machine".to_owned()]));
    drop(joined);
}

#[tokio::test]
async fn control_planes_of_one_etcd_know_the_members_of_each_other() {
    let machine = Machine::start("machine").await;
    let gate: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let port = machine.address.port();
    let probe = format!(
        "  probe: {{ periodSeconds: 1, failureThreshold: 1, httpGet: {{ path: /health, port: {port} }} }}\n"
    );
    let etcd = Etcd::start().await;
    etcd.put("/naru/all.yaml", &documents(gate.port(), &[("vm", port, &probe)]));
    let told_keys = |etcd: &Etcd| etcd.ctl(&["get", "/naru.joined/", "--prefix", "--keys-only"], "");
    let url = etcd.url();
    let from = ["--etcd", &*url];
    let mut a = Control::run(Directory::new(), free_address(), &from).await;
    let b = Control::run(Directory::new(), free_address(), &from).await;
    let _edge = Proxy::start(b.xds, &["--id", "edge"]);
    listens(gate).await;
    let outbound = free_address().to_string();
    let first = Proxy::start(a.xds, &joins("vm", "vm", &outbound));
    are_answering(gate, &["machine"]).await;
    assert!(told_keys(&etcd).contains("/naru.joined/"));
    let told = member(b.admin, "vm-127.0.0.1").await.unwrap();
    assert_eq!(
        (told["connected"].as_array().unwrap().len(), told["elsewhere"].as_array().unwrap().len()),
        (0, 1)
    );
    // What the probe says there holds here.
    machine.says(false);
    are_answering(gate, &["503"]).await;
    machine.says(true);
    are_answering(gate, &["machine"]).await;
    // One control plane goes at once, and its member comes to the other.
    let load = Load::start(gate);
    a.kill();
    drop(first);
    let outbound = free_address().to_string();
    let _second = Proxy::start(b.xds, &joins("vm", "vm", &outbound));
    is_current(b.admin, "vm").await;
    until("what the dead one has said to be gone", async || {
        let told = member(b.admin, "vm-127.0.0.1").await.unwrap();
        told["elsewhere"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    load.ends().await;
    // Documents are what they were.
    assert_eq!(etcd.ctl(&["get", "/naru/", "--prefix", "--keys-only"], "").trim(), "/naru/all.yaml");
}
