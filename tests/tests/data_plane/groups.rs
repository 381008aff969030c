//! Groups for reads and writes, on sockets: who is asked, and what a session reads after its writes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderName, HeaderValue, Method};
use naru_proxy::Options;
use naru_spec::Config;
use naru_tests::client::request;
use naru_tests::{Client, Naru, Outbound, Speaks, Upstream, until};

use crate::explained::planned;

/// A service in two groups.
struct Posts {
    reads: Upstream,
    writes: Upstream,
}

/// Which group was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Read,
    Write,
}

use Asked::{Read, Write};

const LONG: &str = "60s";

fn by_header(lasts: &str) -> String {
    format!("readYourWrites: {{ for: {lasts}, session: {{ header: x-user }} }}")
}

fn by_cookie(lasts: &str) -> String {
    format!("readYourWrites: {{ for: {lasts}, session: {{ cookie: wrote }} }}")
}

impl Posts {
    async fn start() -> Posts {
        Posts { reads: Upstream::plain(Speaks::Http1).await, writes: Upstream::plain(Speaks::Http1).await }
    }

    /// A gateway, and the proxy of a workload, at ports of their own. The policy is for all of the service.
    fn config(&self, more: &str) -> Config {
        let (reads, writes) = (self.reads.address.port(), self.writes.address.port());
        let policy = format!(
            "---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {{ name: groups }}
spec:
  targetRef: {{ kind: Service, name: posts.internal }}
  readWrite:
    read: {{ subset: reads }}
    write: {{ subset: writes }}
    {more}
"
        );
        let mut config = planned(&format!(
            "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec:
  servers: [{{ port: {{ number: 80, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: posts }}
spec:
  hosts: ['*']
  gateways: [gate]
  http: [{{ route: [{{ destination: {{ host: posts.internal }} }}] }}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: posts }}
spec:
  hosts: [posts.internal]
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  resolution: STATIC
  endpoints:
  - {{ address: 127.0.0.1, ports: {{ http: {reads} }}, labels: {{ group: read }} }}
  - {{ address: 127.0.0.1, ports: {{ http: {writes} }}, labels: {{ group: write }} }}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: posts }}
spec:
  host: posts.internal
  subsets: [{{ name: reads, labels: {{ group: read }} }}, {{ name: writes, labels: {{ group: write }} }}]
{}",
            if more == NO_GROUPS { "" } else { &policy }
        ));
        config.listeners[0].address.set_port(0);
        config
    }

    fn naru(&self, more: &str, workers: usize) -> Naru {
        Naru::start_on(self.config(more), &Options { workers, seed: Some(1) })
    }

    /// Sends one request, on a connection of its own: it may come to any worker.
    async fn ask(&self, address: SocketAddr, method: Method, path: &str, said: &Said) -> Answered {
        let before = (self.reads.requests(), self.writes.requests());
        let mut asked = request(method, path, Outbound::empty());
        asked.headers_mut().insert("host", HeaderValue::from_static("posts.internal"));
        if let Some((name, value)) = said {
            asked.headers_mut().insert(name, value.clone());
        }
        let answer = Client::plain(address, Speaks::Http1).await.exchange(asked).await;
        let by = match (self.reads.requests() - before.0, self.writes.requests() - before.1) {
            (1, 0) => Read,
            (0, 1) => Write,
            other => panic!("{path}: {other:?}"),
        };
        Answered { by, status: answer.status.as_u16(), given: answer.headers.get(SET_COOKIE).cloned() }
    }

    async fn reads(&self, address: SocketAddr, said: &Said) -> Asked {
        self.ask(address, Method::GET, "/status/200", said).await.by
    }

    async fn writes(&self, address: SocketAddr, said: &Said) -> Answered {
        let answered = self.ask(address, Method::POST, "/status/201", said).await;
        assert_eq!((answered.status, answered.by), (201, Write));
        answered
    }
}

/// In place of what a policy says.
const NO_GROUPS: &str = "none";

type Said = Option<(HeaderName, HeaderValue)>;

fn user(name: &str) -> Said {
    Some((HeaderName::from_static("x-user"), name.parse().unwrap()))
}

struct Answered {
    by: Asked,
    status: u16,
    given: Option<HeaderValue>,
}

#[tokio::test]
async fn writes_go_to_one_group_and_reads_to_the_other() {
    let posts = Posts::start().await;
    let naru = posts.naru("readPaths: [{ prefix: /status/203 }]", 1);
    for (method, path, expected) in [
        (Method::GET, "/status/200", Read),
        (Method::HEAD, "/status/200", Read),
        (Method::OPTIONS, "/status/200", Read),
        (Method::POST, "/status/200", Write),
        (Method::PUT, "/status/200", Write),
        (Method::PATCH, "/status/200", Write),
        (Method::DELETE, "/status/200", Write),
        (Method::POST, "/status/203", Read),
    ] {
        for address in naru.addresses() {
            let answered = posts.ask(address, method.clone(), path, &None).await;
            assert_eq!((answered.by, answered.given), (expected, None), "{method} {path}");
        }
    }
    naru.settles().await;
}

#[tokio::test]
async fn a_session_reads_its_writes_whichever_worker_and_listener_it_comes_to_and_others_do_not() {
    let posts = Posts::start().await;
    let naru = posts.naru(&by_header(LONG), 4);
    for number in 0..12 {
        let (writer, other) = (user(&format!("writer-{number}")), user(&format!("other-{number}")));
        for address in naru.addresses() {
            assert_eq!(posts.reads(address, &writer).await, Read);
        }
        posts.writes(naru.addresses()[number % 2], &writer).await;
        for _ in 0..6 {
            for address in naru.addresses() {
                assert_eq!(posts.reads(address, &writer).await, Write, "writer-{number}");
                assert_eq!(posts.reads(address, &other).await, Read, "other-{number}");
                assert_eq!(posts.reads(address, &None).await, Read);
            }
        }
    }
    // One that fails leaves its session where it was.
    let failing = user("failing");
    for path in ["/status/409", "/status/500"] {
        assert_eq!(posts.ask(naru.address, Method::POST, path, &failing).await.by, Write);
        assert_eq!(posts.reads(naru.address, &failing).await, Read, "after {path}");
    }
    naru.settles().await;
}

#[tokio::test]
async fn a_session_reads_from_the_group_for_reads_again_once_its_time_is_over() {
    const LASTS: Duration = Duration::from_millis(700);
    let posts = Posts::start().await;
    let naru = posts.naru(&by_header("700ms"), 2);
    let ann = user("ann");
    let before = Instant::now();
    posts.writes(naru.address, &ann).await;
    // The first that goes back is not too early; that there is one, not too late.
    until("reads to go back", async || (posts.reads(naru.address, &ann).await == Read).then_some(())).await;
    assert!(before.elapsed() >= LASTS, "after {:?}", before.elapsed());
    naru.settles().await;
}

#[tokio::test]
async fn a_cookie_holds_with_every_proxy() {
    let posts = Posts::start().await;
    let (one, other) = (posts.naru(&by_cookie("1500ms"), 1), posts.naru(&by_cookie("1500ms"), 1));
    assert_eq!(posts.reads(one.address, &None).await, Read);
    let given = posts.writes(one.address, &None).await.given.unwrap();
    assert_eq!(given, "wrote=1; Max-Age=2; Path=/; HttpOnly");
    let (pair, _) = given.to_str().unwrap().split_once(';').unwrap();
    let brings: Said = Some((COOKIE, format!("theme=dark; {pair}").parse().unwrap()));
    for naru in [&one, &other] {
        assert_eq!(posts.reads(naru.address, &brings).await, Write);
        assert_eq!(posts.reads(naru.address, &None).await, Read, "another client");
    }
    for path in ["/status/409", "/status/503"] {
        let failed = posts.ask(one.address, Method::POST, path, &None).await;
        assert_eq!((failed.by, failed.given), (Write, None), "{path}");
    }
    let read = posts.ask(one.address, Method::GET, "/status/200", &brings).await;
    assert_eq!(read.given, None, "a read makes nothing last longer");
    one.settles().await;
    other.settles().await;
}

#[tokio::test]
async fn what_was_written_is_remembered_over_changes_of_the_configuration() {
    let posts = Posts::start().await;
    let naru = posts.naru(&by_header(LONG), 2);
    let (ann, bob) = (user("ann"), user("bob"));
    posts.writes(naru.address, &ann).await;
    let at_port = |more: &str| {
        let mut config = posts.config(more);
        config.listeners[0].address.set_port(naru.address.port());
        config
    };
    for more in [by_header("30s"), NO_GROUPS.to_owned(), by_header(LONG)] {
        naru.update_to(at_port(&more)).await;
        if more == NO_GROUPS {
            // Both endpoints are one service now.
            posts.ask(naru.address, Method::POST, "/status/201", &bob).await;
            continue;
        }
        for _ in 0..6 {
            assert_eq!(posts.reads(naru.address, &ann).await, Write, "{more}");
            assert_eq!(posts.reads(naru.address, &bob).await, Read, "{more}");
        }
    }
    naru.forgets_old_snapshots().await;
    assert_eq!(posts.reads(naru.address, &ann).await, Write);
    naru.settles().await;
}
