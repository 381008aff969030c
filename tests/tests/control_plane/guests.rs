//! Proxies that refuse, stall, lie, come back again and again or say what is no message; control planes that end.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use http_body::Frame;
use hyper::body::Incoming;
use naru_tests::client::request;
use naru_tests::control::{bootstrap, is_current, status};
use naru_tests::files::Directory;
use naru_tests::message::{LiveSender, next_frame};
use naru_tests::{Client, Control, Envoy, Outbound, Speaks, Upstream, until, within};
use naru_xds::discovery::{
    DELTA, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Kind, Node,
    STATE_OF_THE_WORLD, Status, Struct, Unframer, Value, read, value, write,
};
use serde_json::Value as Json;

use super::{free_port, written};

/// A stream of ADS, by hand.
struct Guest {
    requests: LiveSender,
    body: Incoming,
    unframer: Unframer,
    end: Option<HeaderMap>,
    // It goes with the connection.
    _client: Client,
}

fn node(id: &str, metadata: &[(&str, &str)]) -> Node {
    let text = |text: &str| Value { kind: Some(value::Kind::StringValue(text.to_owned())) };
    let fields = metadata.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
    Node {
        id: id.to_owned(),
        user_agent_name: "guest".to_owned(),
        metadata: Some(Struct { fields }),
        ..Node::default()
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&[0][..]);
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.freeze()
}

impl Guest {
    async fn connect(control: &Control, method: &str) -> Guest {
        let mut client = Client::plain(control.xds, Speaks::Http2).await;
        let (requests, body) = Outbound::live();
        let mut request = request(Method::POST, method, body);
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let end = response.headers().contains_key("grpc-status").then(|| response.headers().clone());
        Guest { requests, body: response.into_body(), unframer: Unframer::default(), end, _client: client }
    }

    async fn say(&self, bytes: impl Into<Bytes>) {
        // One that is ended by the other side hears it soon.
        let _ = self.requests.send(Ok(Frame::data(bytes.into()))).await;
    }

    async fn ask(&self, request: &DeltaDiscoveryRequest) {
        self.say(framed(&write(request))).await;
    }

    /// The next message; `None` where the stream has ended.
    async fn hear(&mut self) -> Option<Bytes> {
        loop {
            if let Some(message) = self.unframer.message().unwrap() {
                return Some(message);
            }
            match within("a response", next_frame(&mut self.body)).await {
                None => return None,
                Some(frame) => match frame.unwrap().into_data() {
                    Ok(data) => self.unframer.push(&data),
                    Err(frame) => self.end = frame.into_trailers().ok(),
                },
            }
        }
    }

    async fn hear_delta(&mut self) -> DeltaDiscoveryResponse {
        read(&self.hear().await.unwrap()).unwrap()
    }

    /// What its stream ended with.
    async fn ends(mut self) -> (String, String) {
        while self.hear().await.is_some() {}
        let end = self.end.unwrap();
        let text = |name: &str| end.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        (text("grpc-status"), text("grpc-message"))
    }
}

fn wants(kind: Kind, nonce: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node("guest", &[])),
        type_url: kind.type_url().to_owned(),
        response_nonce: nonce.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

async fn proxy(control: &Control, id: &str) -> Option<Json> {
    let status = control.status().await;
    status["proxies"].as_array().unwrap().iter().find(|proxy| proxy["id"] == id).cloned()
}

#[tokio::test]
async fn proxies_that_mean_no_good_are_contained_and_told() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let control = Control::start(&[("all.yaml", written(port, upstream.address, "1"))]).await;
    let envoy = Envoy::start(&bootstrap(control.xds, &["--envoy", "--admin", "127.0.0.1:0"])).await;
    let mut client = Client::plain(envoy.address, Speaks::Http1).await;

    // What is no request ends its own stream, with a reason.
    let cases: [(&str, Bytes, &str, &str); 8] = [
        (DELTA, Bytes::from_static(&[1, 0, 0, 0, 0]), "12", "compressed messages are not read"),
        (DELTA, Bytes::from_static(&[0, 255, 0, 0, 0]), "8", "the message is too large"),
        (DELTA, framed(&[0xff; 20]), "3", "this is no discovery request"),
        (DELTA, framed(&[]), "3", "the first request says its node"),
        (STATE_OF_THE_WORLD, framed(&[]), "3", "the first request says its node"),
        (
            DELTA,
            framed(&write(&DeltaDiscoveryRequest {
                node: Some(node("guest", &[("role", "king")])),
                ..wants(Kind::Cluster, "")
            })),
            "3",
            "node.metadata.role is 'gateway' or 'sidecar', not 'king'",
        ),
        (
            DELTA,
            framed(&write(&DeltaDiscoveryRequest {
                resource_names_subscribe: (0..100_001).map(|at| at.to_string()).collect(),
                ..wants(Kind::Endpoints, "")
            })),
            "8",
            "too many resources are asked for",
        ),
        (
            "/envoy.service.Other/Method",
            Bytes::new(),
            "12",
            "there is no method '/envoy.service.Other/Method' here",
        ),
    ];
    for (method, bytes, code, message) in cases {
        let guest = Guest::connect(&control, method).await;
        guest.say(bytes).await;
        assert_eq!(guest.ends().await, (code.to_owned(), message.to_owned()), "{method}");
    }
    let told = control.status().await;
    let why: Vec<&str> =
        told["gone"].as_array().unwrap().iter().map(|gone| gone["why"].as_str().unwrap()).collect();
    assert!(why.contains(&"this is no discovery request"), "{why:?}");

    // One that refuses everything is sent nothing twice.
    let mut guest = Guest::connect(&control, DELTA).await;
    guest.ask(&wants(Kind::Cluster, "")).await;
    let response = guest.hear_delta().await;
    assert_eq!(response.control_plane.unwrap().identifier, concat!("naru ", env!("CARGO_PKG_VERSION")));
    let detail = Status { code: 3, message: "I\nrefuse".to_owned(), ..Status::default() };
    for _ in 0..20 {
        let refusal = DeltaDiscoveryRequest {
            error_detail: Some(detail.clone()),
            ..wants(Kind::Cluster, &response.nonce)
        };
        guest.ask(&refusal).await;
        // A lie about nonces, each time.
        guest.ask(&wants(Kind::Cluster, "4711")).await;
    }
    until("the refusal to be told", async || {
        let told = proxy(&control, "guest").await?;
        let clusters = &told["resources"][0];
        assert_eq!(clusters["responses"], 1, "{told}");
        (clusters["stale_requests"] == 20 && clusters["refused"]["reason"] == "I\nrefuse").then_some(())
    })
    .await;
    drop(guest);
    until("it to be gone", async || proxy(&control, "guest").await.is_none().then_some(())).await;

    // One that takes nothing, and does not answer, costs the others nothing.
    let silent = Guest::connect(&control, DELTA).await;
    silent.ask(&wants(Kind::Cluster, "")).await;
    // And one that comes again and again.
    for at in 0..100 {
        let guest = Guest::connect(&control, STATE_OF_THE_WORLD).await;
        let asked = DiscoveryRequest {
            node: Some(node(&format!("again-{at}"), &[])),
            type_url: Kind::Listener.type_url().to_owned(),
            version_info: "of yesterday".to_owned(),
            response_nonce: "17".to_owned(),
            ..DiscoveryRequest::default()
        };
        guest.say(framed(&write(&asked))).await;
        if at % 10 == 0 {
            let mut guest = guest;
            let response: DiscoveryResponse = read(&guest.hear().await.unwrap()).unwrap();
            assert_eq!(response.resources.len(), 1);
        }
    }
    control.save("all.yaml", &written(port, upstream.address, "2"));
    until("the change", async || {
        let answer = client.get("/").await;
        assert_eq!(answer.status, 200);
        (answer.header("x-says") == Some("2")).then_some(())
    })
    .await;
    let told = proxy(&control, "guest").await.unwrap();
    assert!(told["state"] == "behind" && told["resources"][0]["unanswered_seconds"].is_number(), "{told}");
}

#[tokio::test]
async fn documents_that_cannot_be_said_are_given_to_nobody() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let open = written(port, upstream.address, "1");
    let closed = format!(
        "{open}---
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {{ name: all }}
spec:
  targetRef: {{ kind: Gateway, name: gate }}
  limits: [{{ name: all, requests: 1000, window: 1s }}]
"
    );
    let control = Control::start(&[("all.yaml", open.clone())]).await;
    let envoy = Envoy::start(&bootstrap(control.xds, &["--envoy", "--admin", "127.0.0.1:0"])).await;
    let mut client = Client::plain(envoy.address, Speaks::Http1).await;
    assert_eq!(client.get("/").await.status, 200);
    control.save("all.yaml", &closed.replace("x-says: '1'", "x-says: '2'"));
    let told = until("it to be told", async || {
        let told = proxy(&control, "gateway").await?;
        told["held_back"].as_str().map(str::to_owned)
    })
    .await;
    assert!(told.contains("cannot be said"), "{told}");
    assert_eq!(proxy(&control, "gateway").await.unwrap()["state"], "held back");
    until("it to be said who is not told", async || {
        let said = control.said();
        let is_said = said.contains("it is sent to all but one kind of proxies")
            && said.contains("warning: gateways of default (envoy) keep what they have: ");
        is_said.then_some(())
    })
    .await;
    // Who has something keeps it, and who has nothing is given nothing.
    assert_eq!(client.get("/").await.header("x-says"), Some("1"));
    let guest = Guest::connect(&control, DELTA).await;
    let other = Some(node("guest", &[("namespace", "other")]));
    guest.ask(&DeltaDiscoveryRequest { node: other, ..wants(Kind::Listener, "") }).await;
    let (code, message) = guest.ends().await;
    assert_eq!((code.as_str(), message.contains("cannot be said")), ("9", true), "{message}");
}

/// Of a condition that cannot be told Envoy says that it does not hold: whoever is to be refused would be let in. One
/// that lets in is said.
#[tokio::test]
async fn a_condition_that_refuses_is_said_to_naru_and_not_to_envoy() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let policy = |conditions: &str| {
        format!(
            "{}---
apiVersion: naru.dev/v1alpha1
kind: EdgePolicy
metadata: {{ name: conditions }}
spec:
  targetRef: {{ kind: Gateway, name: gate }}
  conditions: {{ {conditions} }}
",
            written(free_port(), upstream.address, "1")
        )
    };
    let when = "[{ name: one, when: \"request.headers['x-role'] == 'guest'\" }]";
    let control = Control::start(&[("all.yaml", policy(&format!("deny: {when}")))]).await;
    let asked = |agent: &str| DeltaDiscoveryRequest {
        node: Some(Node { user_agent_name: agent.to_owned(), ..node(agent, &[]) }),
        ..wants(Kind::Listener, "")
    };
    let envoy = Guest::connect(&control, DELTA).await;
    envoy.ask(&asked("envoy")).await;
    let (code, message) = envoy.ends().await;
    assert_eq!(code, "9", "{message}");
    assert!(message.contains("a condition that refuses"), "{message}");
    let mut naru = Guest::connect(&control, DELTA).await;
    naru.ask(&asked("naru")).await;
    assert_eq!(naru.hear_delta().await.resources.len(), 1);
    control.save("all.yaml", &policy(&format!("allow: {when}")));
    until("one that lets in to be said", async || {
        let mut envoy = Guest::connect(&control, DELTA).await;
        envoy.ask(&asked("envoy")).await;
        let response = envoy.hear().await?;
        let response: DeltaDiscoveryResponse = read(&response).unwrap();
        (response.resources.len() == 1).then_some(())
    })
    .await;
}

/// Killed under load, and another one in its place.
#[tokio::test]
async fn a_control_plane_may_be_killed_and_replaced() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let mut control = Control::start(&[("all.yaml", written(port, upstream.address, "1"))]).await;
    let envoy = Envoy::start(&bootstrap(control.xds, &["--envoy", "--admin", "127.0.0.1:0"])).await;
    let mut client = Client::plain(envoy.address, Speaks::Http1).await;
    let before = is_current(control.admin, "gateway").await;
    control.child.kill().unwrap();
    control.child.wait().unwrap();
    for _ in 0..50 {
        assert_eq!(client.get("/").await.header("x-says"), Some("1"));
    }
    let directory = Directory::new();
    directory.write("all.yaml", &written(port, upstream.address, "1"));
    let other = Control::on(directory, control.xds).await;
    let asked = async || client.get("/").await;
    let mut asked = asked;
    until("it to be found again", async || {
        assert_eq!(asked().await.status, 200);
        proxy(&other, "gateway").await
    })
    .await;
    let after = is_current(other.admin, "gateway").await;
    assert_eq!(after["version"], before["version"], "equal documents are equal");
    // It had everything, and said so.
    assert!(after["bytes_sent"].as_u64() < before["bytes_sent"].as_u64(), "{after}");
    other.save("all.yaml", &written(port, upstream.address, "2"));
    until("a change of the other one", async || {
        let answer = asked().await;
        assert_eq!(answer.status, 200);
        (answer.header("x-says") == Some("2")).then_some(())
    })
    .await;
    assert_eq!(status(other.admin).await["changes"], 2);
}
