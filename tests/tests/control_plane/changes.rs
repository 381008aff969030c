//! Changes under load: documents in every order, edits of which a third cannot be, and a control plane that is killed again
//! and again. No request fails meanwhile, at a proxy of ours and at an Envoy.
//!
//! `cargo xtask control-plane` makes a thousand edits, and kills it twenty times.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::{HeaderValue, Method};
use naru_base::Chance;
use naru_tests::client::request;
use naru_tests::control::{bootstrap, is_current};
use naru_tests::files::Directory;
use naru_tests::{Client, Control, Driven, Envoy, Outbound, Speaks, Upstream, until};

use super::{count, free_port};

const SERVICES: usize = 4;

/// Requests, one after another, over some connections to each proxy.
struct Load {
    is_over: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    wrong: Arc<Mutex<Vec<String>>>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn begin(proxies: &[SocketAddr]) -> Load {
        let mut load = Load {
            is_over: Arc::default(),
            asked: Arc::default(),
            wrong: Arc::default(),
            clients: Vec::new(),
        };
        for address in proxies.iter().copied() {
            for speaks in [Speaks::Http1, Speaks::Http2] {
                let (is_over, asked) = (Arc::clone(&load.is_over), Arc::clone(&load.asked));
                let wrong = Arc::clone(&load.wrong);
                load.clients.push(tokio::spawn(async move {
                    let mut client = Client::plain(address, speaks).await;
                    while !is_over.load(Ordering::Relaxed) {
                        let answer = client.exchange(to("base.test", "/")).await;
                        asked.fetch_add(1, Ordering::Relaxed);
                        if answer.status != 200 {
                            let text = format!("{address} {speaks:?}: {} {}", answer.status, answer.text());
                            wrong.lock().unwrap().push(text);
                        }
                        // Others want the processors, too.
                        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                    }
                }));
            }
        }
        load
    }

    /// As many more are answered.
    async fn goes_on(&self, more: u64) {
        let least = self.asked.load(Ordering::Relaxed) + more;
        until("the load to go on", async || (self.asked.load(Ordering::Relaxed) >= least).then_some(()))
            .await;
    }

    /// How many were asked, of which none has failed.
    async fn ends(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} failed: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
        self.asked.load(Ordering::Relaxed)
    }
}

fn to(host: &'static str, path: &str) -> http::Request<Outbound> {
    let mut request = request(Method::GET, path, Outbound::empty());
    request.headers_mut().insert("host", HeaderValue::from_static(host));
    request
}

/// Status, and which edit answered.
async fn says(client: &mut Client, host: &'static str) -> (u16, Option<usize>) {
    let answer = client.exchange(to(host, "/")).await;
    (answer.status.as_u16(), answer.header("x-says").map(|number| number.parse().unwrap()))
}

fn gateway(port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec:
  servers: [{{ port: {{ number: {port}, name: http, protocol: HTTP }}, hosts: ['*'] }}]
"
    )
}

fn service(name: &str, endpoint: SocketAddr) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec: {{ ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: {name}-1, labels: {{ kubernetes.io/service-name: {name} }} }}
addressType: IPv4
ports: [{{ name: http, port: {} }}]
endpoints: [{{ addresses: ['{}'] }}]
",
        endpoint.port(),
        endpoint.ip()
    )
}

/// Somebody with versions, each another endpoint.
fn versions(name: &str, endpoints: &[SocketAddr]) -> String {
    let endpoints = endpoints.iter().enumerate().map(|(at, endpoint)| {
        let (ip, port) = (endpoint.ip(), endpoint.port());
        format!("{{ address: {ip}, ports: {{ http: {port} }}, labels: {{ version: v{at} }} }}")
    });
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: {name} }}
spec:
  hosts: [{name}.internal]
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  resolution: STATIC
  endpoints: [{}]
",
        endpoints.collect::<Vec<_>>().join(", ")
    )
}

fn rule(name: &str, subsets: &BTreeSet<usize>, timeout: u64) -> String {
    let subsets = subsets.iter().map(|at| format!("{{ name: v{at}, labels: {{ version: v{} }} }}", at % 2));
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: {name} }}
spec:
  host: {name}.internal
  trafficPolicy: {{ connectionPool: {{ tcp: {{ connectTimeout: {timeout}s }} }} }}
  subsets: [{}]
",
        subsets.collect::<Vec<_>>().join(", ")
    )
}

fn routes(name: &str, host: &str, number: usize, route: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: {name} }}
spec:
  hosts: [{host}]
  gateways: [gate]
  http:
  - name: edit-{number}-of-{name}
    headers: {{ response: {{ set: {{ x-says: '{number}' }} }} }}
    route: [{route}]
"
    )
}

/// What the documents say, as far as edits have to know it.
#[derive(Clone)]
struct World {
    services: BTreeSet<usize>,
    subsets: BTreeSet<usize>,
    /// Of the route.
    to_services: Vec<usize>,
    to_subsets: Vec<usize>,
    timeout: u64,
    number: usize,
}

impl World {
    fn route(&self) -> String {
        let services = self.to_services.iter().map(|at| format!("{{ host: shop{at} }}"));
        let subsets = self.to_subsets.iter().map(|at| format!("{{ host: parts.internal, subset: v{at} }}"));
        let all: Vec<String> = services.chain(subsets).collect();
        let weight = 100 / all.len().max(1);
        let all = all.iter().map(|to| format!("{{ destination: {to}, weight: {weight} }}"));
        routes("base", "base.test", self.number, &all.collect::<Vec<_>>().join(", "))
    }

    fn is_whole(&self) -> bool {
        self.to_services.iter().all(|at| self.services.contains(at))
            && self.to_subsets.iter().all(|at| self.subsets.contains(at))
            && self.to_services.len() + self.to_subsets.len() > 0
    }
}

/// The file that is written, or taken away, and its text.
type Edit = (String, Option<String>);

/// One edit that can be, or one that cannot.
fn draw(world: &mut World, is_right: bool, up: &[SocketAddr], chance: &mut Chance) -> Edit {
    loop {
        let mut other = world.clone();
        let below = |chance: &mut Chance, end: usize| usize::try_from(chance.below(end as u64)).unwrap();
        let edit: Edit = match below(chance, if is_right { 6 } else { 10 }) {
            0 => {
                let at = below(chance, SERVICES);
                let file = format!("shop{at}.yaml");
                match other.services.remove(&at) {
                    true => (file, None),
                    false => {
                        other.services.insert(at);
                        (file, Some(service(&format!("shop{at}"), up[below(chance, up.len())])))
                    }
                }
            }
            1 => {
                let at = below(chance, 4);
                if !other.subsets.remove(&at) {
                    other.subsets.insert(at);
                }
                ("rule.yaml".to_owned(), Some(rule("parts", &other.subsets, other.timeout)))
            }
            2 => {
                other.timeout = 1 + chance.below(20);
                if other.timeout == world.timeout {
                    continue;
                }
                ("rule.yaml".to_owned(), Some(rule("parts", &other.subsets, other.timeout)))
            }
            3..6 => {
                let some = |chance: &mut Chance, end: usize| -> Vec<usize> {
                    (0..end).filter(|_| chance.below(3) == 0).collect()
                };
                (other.to_services, other.to_subsets) = (some(chance, SERVICES), some(chance, 4));
                other.number += 1;
                ("routes.yaml".to_owned(), Some(other.route()))
            }
            // What is wrong in itself.
            6 => {
                let text = world.route();
                let half = below(chance, text.len() / 2) + text.len() / 4;
                ("routes.yaml".to_owned(), Some(format!("{}\n  : [", &text[..half])))
            }
            7 => ("routes.yaml".to_owned(), Some(world.route().replace("  http:", "  htttp:"))),
            8 => {
                ("routes.yaml".to_owned(), Some(world.route().replace("gateways: [gate]", "gateways: [gat]")))
            }
            _ => ("rule.yaml".to_owned(), Some(rule("parts", &world.subsets, 0).replace("0s", "soon"))),
        };
        let is_of_itself = matches!(&edit.1, Some(text) if text.contains("htttp") || text.contains("[gat]")
            || text.contains("soon") || text.ends_with(": ["));
        if is_right == (other.is_whole() && !is_of_itself) {
            if is_right {
                *world = other;
            }
            return edit;
        }
    }
}

fn write(control: &Control, (file, text): &Edit) {
    match text {
        Some(text) => control.save(file, text),
        None => std::fs::remove_file(control.directory.path(file)).unwrap(),
    }
}

/// Waits until this has been said as often.
async fn said(control: &Control, words: &str, times: usize) {
    until(&format!("{words:?} for the {times}th time"), async || {
        (control.said().matches(words).count() >= times).then_some(())
    })
    .await;
}

/// A control plane on documents, a proxy of ours and an Envoy, both gateways on this port.
async fn stand(files: &[(&str, String)], port: u16) -> (Control, Driven, Envoy) {
    let control = Control::start(files).await;
    let naru = Driven::start(control.xds, "naru", ([127, 0, 0, 3], port).into()).await;
    let lines = bootstrap(
        control.xds,
        &["--envoy", "--id", "envoy", "--gateway-address", "127.0.0.2", "--admin", "127.0.0.1:0"],
    );
    let envoy = Envoy::start(&lines).await;
    for id in ["naru", "envoy"] {
        is_current(control.admin, id).await;
    }
    (control, naru, envoy)
}

const SENT: &str = "has changed; it is sent";
const REFUSED: &str = "has changed and cannot be";

#[tokio::test]
async fn no_request_fails_whatever_is_edited() {
    let (first, second) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
    let up = [first.address, second.address];
    let port = free_port();
    let mut world = World {
        services: BTreeSet::from([0, 1]),
        subsets: BTreeSet::from([0, 1]),
        to_services: vec![0],
        to_subsets: Vec::new(),
        timeout: 5,
        number: 0,
    };
    let files = [
        ("gateway.yaml", gateway(port)),
        ("shop0.yaml", service("shop0", up[0])),
        ("shop1.yaml", service("shop1", up[1])),
        ("parts.yaml", versions("parts", &up)),
        ("rule.yaml", rule("parts", &world.subsets, world.timeout)),
        ("routes.yaml", world.route()),
    ];
    let (control, naru, envoy) = stand(&files, port).await;
    let load = Load::begin(&[naru.address, envoy.address]);
    let mut clients = Vec::new();
    for address in [naru.address, envoy.address] {
        clients.push(Client::plain(address, Speaks::Http1).await);
    }
    load.goes_on(20).await;

    // Documents that need each other, in every order, and gone in every order.
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let is_long = count("NARU_EDITS", 0) > 0;
    for (round, order) in orders.iter().enumerate().take(if is_long { orders.len() } else { 2 }) {
        let documents = [
            ("new-service.yaml", versions("new", &up)),
            ("new-rule.yaml", rule("new", &BTreeSet::from([0, 1]), 5)),
            (
                "new-routes.yaml",
                routes("new", "new.test", round, "{ destination: { host: new.internal, subset: v1 } }"),
            ),
        ];
        for at in order {
            let (file, text) = &documents[*at];
            control.save(file, text);
            for client in &mut clients {
                let (status, _) = says(client, "new.test").await;
                assert!(status == 404 || status == 200, "round {round}: {status}");
            }
        }
        for client in &mut clients {
            until("the new host", async || {
                let (status, number) = says(client, "new.test").await;
                assert!(status == 404 || status == 200, "round {round}: {status}");
                (status == 200 && number == Some(round)).then_some(())
            })
            .await;
        }
        for at in orders[5 - round] {
            std::fs::remove_file(control.directory.path(documents[at].0)).unwrap();
        }
        for client in &mut clients {
            until("the new host to be gone", async || {
                let (status, _) = says(client, "new.test").await;
                assert!(status == 404 || status == 200, "round {round}: {status}");
                (status == 404).then_some(())
            })
            .await;
        }
    }

    let edits = count("NARU_EDITS", 15);
    let mut chance = Chance::new(count("NARU_SEED", 7) as u64);
    let (mut right, mut wrong) = (0, 0);
    // What was said before is not counted.
    world.number += 1;
    control.save("routes.yaml", &world.route());
    for client in &mut clients {
        until("an edit", async || {
            (says(client, "base.test").await == (200, Some(world.number))).then_some(())
        })
        .await;
    }
    until("all of it to be said", async || {
        let changes = control.status().await["changes"].as_u64().unwrap();
        (control.said().matches(SENT).count() as u64 + 1 == changes).then_some(())
    })
    .await;
    let (mut sent, mut refused) =
        (control.said().matches(SENT).count(), control.said().matches(REFUSED).count());
    let mut last: Vec<Edit> = Vec::new();
    while right + wrong < edits {
        let is_right = !(right + wrong).is_multiple_of(3);
        let before = world.number;
        let edit = draw(&mut world, is_right, &up, &mut chance);
        let path = control.directory.path(&edit.0);
        let old = std::fs::read_to_string(&path).ok();
        write(&control, &edit);
        last.push(edit.clone());
        if is_right {
            right += 1;
            sent += 1;
            said(&control, SENT, sent).await;
            if world.number > before {
                for client in &mut clients {
                    until("the edit", async || {
                        let (status, number) = says(client, "base.test").await;
                        assert_eq!(status, 200, "edit {right} of {last:#?}");
                        (number == Some(world.number)).then_some(())
                    })
                    .await;
                }
            }
        } else {
            wrong += 1;
            refused += 1;
            said(&control, REFUSED, refused).await;
            write(&control, &(edit.0, old));
            sent += 1;
            said(&control, SENT, sent).await;
        }
        last.drain(..last.len().saturating_sub(3));
    }
    load.goes_on(20).await;
    for client in &mut clients {
        assert_eq!(says(client, "base.test").await, (200, Some(world.number)));
    }
    let asked = load.ends().await;
    println!("{right} edits that can be, {wrong} that cannot: {asked} requests, none failed");
    assert!(right > wrong && wrong > 0 && asked > 100);
}

#[tokio::test]
async fn no_request_fails_while_a_control_plane_is_killed_and_a_proxy_begins_without_it() {
    let up = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let files = |number: usize| {
        let route = "{ destination: { host: shop } }";
        [
            ("gateway.yaml", gateway(port)),
            ("shop.yaml", service("shop", up.address)),
            ("routes.yaml", routes("base", "base.test", number, route)),
        ]
    };
    let (mut control, naru, envoy) = stand(&files(0), port).await;
    let xds = control.xds;
    // One that is started anew each time; nobody is connected to it meanwhile.
    let mut other = Driven::start(xds, "other", ([127, 0, 0, 4], port).into()).await;
    is_current(control.admin, "other").await;
    let load = Load::begin(&[naru.address, envoy.address]);
    for round in 1..=count("NARU_KILLS", 2) {
        load.goes_on(50).await;
        other.has_kept(&format!("edit-{}-of-base", round - 1)).await;
        control.child.kill().unwrap();
        control.child.wait().unwrap();
        other = other.again().await;
        let mut client = Client::plain(other.address, Speaks::Http1).await;
        assert_eq!(says(&mut client, "base.test").await, (200, Some(round - 1)), "what it has kept");
        load.goes_on(50).await;
        let directory = Directory::new();
        for (name, text) in files(round) {
            directory.write(name, &text);
        }
        control = Control::on(directory, xds).await;
        for address in [naru.address, envoy.address, other.address] {
            let mut client = Client::plain(address, Speaks::Http1).await;
            until("what the next one says", async || {
                let (status, number) = says(&mut client, "base.test").await;
                assert_eq!(status, 200, "round {round}");
                (number == Some(round)).then_some(())
            })
            .await;
        }
    }
    let asked = load.ends().await;
    println!("killed {} times: {asked} requests, none failed", count("NARU_KILLS", 2));
}
