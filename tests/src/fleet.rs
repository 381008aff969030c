//! Many proxies in one process, as far as a control plane can tell: each a connection with a stream of delta ADS, which
//! asks for what clusters and listeners name and accepts whatever comes.
//!
//! They are light: of a resource only as much is held as is needed to know what it leads to, and of a large one nothing.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Version};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use naru_xds::discovery::{DELTA, DeltaDiscoveryRequest, Kind, Node, Struct, Value, value, write};
use tokio::task::JoinHandle;

use crate::Outbound;
use crate::client::request;
use crate::message::{LiveSender, next_frame};

/// What is larger is passed by unread.
const HELD_MAX: usize = 64 << 10;
/// Of what is passed by, this much is looked at: enough to know its kind.
const LOOKED_AT: usize = 256;

/// What a connection takes before it is read.
const WINDOW: u32 = 64 << 10;

/// What all of them have heard.
#[derive(Debug)]
pub struct Fleet {
    streams: Vec<Arc<Heard>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What one has heard.
#[derive(Debug, Default)]
pub struct Heard {
    pub bytes: AtomicU64,
    pub resources: AtomicU64,
    pub responses: AtomicU64,
    /// When the last routes came.
    routes_at: Mutex<Option<Instant>>,
    /// Why it is over, where it is.
    end: Mutex<Option<String>>,
}

impl Fleet {
    /// Connects so many, each by an id of its own.
    pub fn start(xds: SocketAddr, count: usize, metadata: &[(&str, &str)]) -> Fleet {
        let fields: Vec<(&str, String)> =
            metadata.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Fleet::start_each(xds, count, |_| fields.clone())
    }

    /// The same, where each says something of its own.
    pub fn start_each<'a>(
        xds: SocketAddr,
        count: usize,
        metadata: impl Fn(usize) -> Vec<(&'a str, String)>,
    ) -> Fleet {
        let text = |text: String| Value { kind: Some(value::Kind::StringValue(text)) };
        let members = (0..count).map(|at| {
            let fields = metadata(at).into_iter().map(|(name, value)| (name.to_owned(), text(value)));
            let node = Node {
                id: format!("fleet-{at}"),
                cluster: "fleet".to_owned(),
                user_agent_name: "naru-fleet".to_owned(),
                metadata: Some(Struct { fields: fields.collect() }),
                ..Node::default()
            };
            let heard = Arc::new(Heard::default());
            let told = Arc::clone(&heard);
            let task = tokio::spawn(async move {
                let why = Member::connect(xds, node, Arc::clone(&told)).await.run().await;
                *told.end.lock().unwrap() = Some(why);
            });
            (heard, task)
        });
        let (streams, tasks) = members.unzip();
        Fleet { streams, tasks }
    }

    /// # Panics
    /// If one has ended.
    pub fn is_whole(&self) {
        for (at, heard) in self.streams.iter().enumerate() {
            if let Some(why) = &*heard.end.lock().unwrap() {
                panic!("fleet-{at} has ended: {why}");
            }
        }
    }

    pub fn bytes(&self) -> u64 {
        self.streams.iter().map(|heard| heard.bytes.load(Ordering::Relaxed)).sum()
    }

    pub fn resources(&self) -> u64 {
        self.streams.iter().map(|heard| heard.resources.load(Ordering::Relaxed)).sum()
    }

    /// When each has heard of routes after this moment; those who have not are left out.
    pub fn routes_after(&self, moment: Instant) -> Vec<Instant> {
        let heard = self.streams.iter().filter_map(|heard| *heard.routes_at.lock().unwrap());
        heard.filter(|at| *at > moment).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

struct Member {
    requests: LiveSender,
    body: Incoming,
    node: Option<Node>,
    heard: Arc<Heard>,
    skim: Skim,
    /// Names that were asked for, by their hashes.
    asked: HashSet<u64>,
    // It goes with the connection.
    _sender: http2::SendRequest<Outbound>,
}

impl Member {
    async fn connect(xds: SocketAddr, node: Node, heard: Arc<Heard>) -> Member {
        let socket = tokio::net::TcpStream::connect(xds).await.unwrap();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (mut sender, connection) = builder.handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        let (requests, body) = Outbound::live();
        let mut request = request(Method::POST, &format!("http://naru.test{DELTA}"), body);
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let body = sender.send_request(request).await.unwrap().into_body();
        Member {
            requests,
            body,
            node: Some(node),
            heard,
            skim: Skim::default(),
            asked: HashSet::new(),
            _sender: sender,
        }
    }

    async fn run(mut self) -> String {
        for kind in [Kind::Cluster, Kind::Listener] {
            self.ask(kind.type_url(), "", Vec::new()).await;
        }
        loop {
            let frame = match next_frame(&mut self.body).await {
                None => return "the connection is gone".to_owned(),
                Some(Err(error)) => return error.to_string(),
                Some(Ok(frame)) => frame,
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => return format!("{:?}", frame.into_trailers()),
            };
            self.heard.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            let mut rest = &data[..];
            while let Some(response) = self.skim.push(&mut rest) {
                self.answer(response).await;
            }
        }
    }

    async fn answer(&mut self, response: Skimmed) {
        self.heard.responses.fetch_add(1, Ordering::Relaxed);
        self.heard.resources.fetch_add(response.resources, Ordering::Relaxed);
        if response.type_url == Kind::Routes.type_url() {
            *self.heard.routes_at.lock().unwrap() = Some(Instant::now());
        }
        self.ask(&response.type_url, &response.nonce, Vec::new()).await;
        for (kind, names) in [(Kind::Endpoints, response.endpoints), (Kind::Routes, response.routes)] {
            let is_new = |name: &String| {
                let mut hasher = DefaultHasher::new();
                (kind.type_url(), name).hash(&mut hasher);
                self.asked.insert(hasher.finish())
            };
            let names: Vec<String> = names.into_iter().filter(is_new).collect();
            if !names.is_empty() {
                self.ask(kind.type_url(), "", names).await;
            }
        }
    }

    /// With a nonce: accepts.
    async fn ask(&mut self, type_url: &str, nonce: &str, names: Vec<String>) {
        let message = write(&DeltaDiscoveryRequest {
            node: self.node.take(),
            type_url: type_url.to_owned(),
            response_nonce: nonce.to_owned(),
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        });
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(&message);
        // One that is ended by the other side hears it soon.
        let _ = self.requests.send(Ok(Frame::data(Bytes::from(framed)))).await;
    }
}

/// What matters of a response.
#[derive(Debug, Default, PartialEq, Eq)]
struct Skimmed {
    type_url: String,
    nonce: String,
    resources: u64,
    /// Names of endpoints and routes that its resources lead to.
    endpoints: Vec<String>,
    routes: Vec<String>,
}

/// Reads framed `DeltaDiscoveryResponse`s as they come, piece by piece.
#[derive(Debug, Default)]
struct Skim {
    /// Bytes of the message that are still to come; `None` before its head.
    message: Option<usize>,
    /// The number of a field, its bytes that are still to come, and how many of them are held at most.
    field: Option<(u64, usize, usize)>,
    held: Vec<u8>,
    so_far: Skimmed,
}

impl Skim {
    /// Takes of `rest` what belongs to the next message, and says it once it is whole.
    fn push(&mut self, rest: &mut &[u8]) -> Option<Skimmed> {
        loop {
            let Some(left) = self.message else {
                let head = self.take(rest, 5)?;
                self.message = Some(u32::from_be_bytes(head[1..5].try_into().unwrap()) as usize);
                continue;
            };
            let Some((number, bytes, held_max)) = self.field else {
                if left == 0 {
                    self.message = None;
                    return Some(std::mem::take(&mut self.so_far));
                }
                // A tag and a length, byte by byte: there are few of them.
                let (byte, after) = rest.split_first()?;
                *rest = after;
                self.message = Some(left - 1);
                self.held.push(*byte);
                if let Some((number, bytes)) = head_of(&self.held) {
                    self.held.clear();
                    self.field = Some((number, bytes, if bytes > HELD_MAX { LOOKED_AT } else { bytes }));
                }
                continue;
            };
            let now = bytes.min(rest.len());
            let (taken, after) = rest.split_at(now);
            *rest = after;
            self.held.extend_from_slice(&taken[..now.min(held_max - self.held.len())]);
            self.message = Some(left - now);
            if now < bytes {
                self.field = Some((number, bytes - now, held_max));
                return None;
            }
            self.field = None;
            let held = std::mem::take(&mut self.held);
            self.so_far.add(number, &held);
        }
    }

    fn take(&mut self, rest: &mut &[u8], count: usize) -> Option<Vec<u8>> {
        let missing = (count - self.held.len()).min(rest.len());
        let (taken, after) = rest.split_at(missing);
        *rest = after;
        self.held.extend_from_slice(taken);
        (self.held.len() == count).then(|| std::mem::take(&mut self.held))
    }
}

impl Skimmed {
    fn add(&mut self, field: u64, bytes: &[u8]) {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        match field {
            4 => self.type_url = text(),
            5 => self.nonce = text(),
            2 => {
                self.resources += 1;
                let kind = at(bytes, &[2, 1]).first().map(|kind| kind.to_vec()).unwrap_or_default();
                let first = |path: &[u64]| {
                    at(bytes, path).first().map(|text| String::from_utf8_lossy(text).into_owned())
                };
                if kind == Kind::Cluster.type_url().as_bytes() {
                    // `eds_cluster_config`, and what it calls them; else the name of the cluster.
                    if !at(bytes, &[2, 2, 3]).is_empty() {
                        let said = first(&[2, 2, 3, 2]).filter(|name| !name.is_empty());
                        self.endpoints.extend(said.or_else(|| first(&[2, 2, 1])));
                    }
                } else if kind == Kind::Listener.type_url().as_bytes() {
                    // Chains, filters, their settings, `rds`, `route_config_name`.
                    let names = at(bytes, &[2, 2, 3, 3, 4, 2, 3, 2]);
                    self.routes.extend(names.iter().map(|name| String::from_utf8_lossy(name).into_owned()));
                }
            }
            _ => {}
        }
    }
}

/// Of a field with a length: its number and the length, once both are there. All fields of the message are such.
fn head_of(bytes: &[u8]) -> Option<(u64, usize)> {
    let (tag, rest) = varint(bytes)?;
    assert_eq!(tag & 7, 2, "a response has texts and messages only");
    let (length, _) = varint(rest)?;
    Some((tag >> 3, length as usize))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

/// What stands in a message at this path of fields, each time that it does. What is cut off is not there.
fn at<'a>(message: &'a [u8], path: &[u64]) -> Vec<&'a [u8]> {
    let Some((wanted, deeper)) = path.split_first() else { return vec![message] };
    let (mut found, mut rest) = (Vec::new(), message);
    while let Some((tag, after)) = varint(rest) {
        let (value, after) = match tag & 7 {
            0 => match varint(after) {
                Some((_, after)) => (None, after),
                None => break,
            },
            1 => (None, after.get(8..).unwrap_or_default()),
            5 => (None, after.get(4..).unwrap_or_default()),
            2 => {
                let Some((length, after)) = varint(after) else { break };
                let length = (length as usize).min(after.len());
                (Some(&after[..length]), &after[length..])
            }
            _ => break,
        };
        if let Some(value) = value.filter(|_| tag >> 3 == *wanted) {
            found.extend(at(value, deeper));
        }
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use naru_xds::discovery::{Any, DeltaDiscoveryResponse, Kind, Resource, write};

    use super::{HELD_MAX, Skim, Skimmed};

    #[test]
    fn responses_are_read_in_whatever_pieces_they_come() {
        let any = |size: usize| Any { type_url: Kind::Routes.type_url().to_owned(), value: vec![7; size] };
        let resource = |size: usize| Resource {
            name: "a".to_owned(),
            version: "1".to_owned(),
            resource: Some(any(size)),
            ..Resource::default()
        };
        let message = write(&DeltaDiscoveryResponse {
            type_url: Kind::Routes.type_url().to_owned(),
            nonce: "17".to_owned(),
            resources: vec![resource(10), resource(3 * HELD_MAX), resource(0)],
            ..DeltaDiscoveryResponse::default()
        });
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(&message);
        let twice = [&framed[..], &framed[..]].concat();
        let expected = || Skimmed {
            type_url: Kind::Routes.type_url().to_owned(),
            nonce: "17".to_owned(),
            resources: 3,
            ..Skimmed::default()
        };
        for size in [1, 2, 7, 1_000, 1 << 20] {
            let (mut skim, mut found) = (Skim::default(), Vec::new());
            for piece in twice.chunks(size) {
                let mut rest = piece;
                while let Some(skimmed) = skim.push(&mut rest) {
                    found.push(skimmed);
                }
                assert!(rest.is_empty());
            }
            assert_eq!(found, [expected(), expected()], "pieces of {size}");
        }
    }
}
