//! A client of HTTP/3 that others have written: `tests/http3/client.py`.

use std::net::SocketAddr;

use naru_tests::certificates::{Issued, NAME};
use naru_tests::{Authority, Foreign};
use serde_json::{Value, json};

pub struct Peer(Foreign);

/// Which of its connections.
#[derive(Clone, Copy)]
pub struct Of(u64);

/// What came of a request.
#[derive(Debug)]
pub struct Outcome(pub Value);

impl Outcome {
    pub fn status(&self) -> u64 {
        self.0["status"].as_u64().unwrap_or_else(|| panic!("no response: {self:?}"))
    }

    pub fn text(&self) -> &str {
        self.0["text"].as_str().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        field(&self.0["headers"], name)
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        field(&self.0["trailers"], name)
    }

    /// The code that its stream was reset by.
    pub fn reset(&self) -> Option<u64> {
        self.0["reset"].as_u64()
    }
}

fn field<'a>(fields: &'a Value, name: &str) -> Option<&'a str> {
    fields.as_array()?.iter().find(|field| field[0] == name)?[1].as_str()
}

impl Peer {
    pub fn start() -> Peer {
        Peer(Foreign::start("http3/client.py"))
    }

    /// # Errors
    /// The code that the connection was refused by.
    pub async fn try_connect(
        &mut self,
        to: SocketAddr,
        authority: &Authority,
        more: Value,
    ) -> Result<(Of, String), u64> {
        let mut command =
            json!({ "do": "connect", "to": to.to_string(), "ca": authority.pem(), "name": NAME });
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.0.ask(command).await;
        match answer["client"].as_u64() {
            Some(client) => Ok((Of(client), answer["serial"].as_str().unwrap().to_owned())),
            None => Err(answer["refused"].as_u64().unwrap()),
        }
    }

    pub async fn connect(&mut self, to: SocketAddr, authority: &Authority) -> Of {
        self.try_connect(to, authority, json!({})).await.unwrap().0
    }

    pub fn with(issued: &Issued) -> Value {
        json!({ "certificate": issued.chain, "key": issued.key })
    }

    /// Sends requests at once, and says what their streams are.
    pub async fn begin(&mut self, of: Of, requests: Vec<Value>) -> Vec<u64> {
        let streams = self.0.ask(json!({ "do": "begin", "client": of.0, "requests": requests })).await;
        streams.as_array().unwrap().iter().map(|stream| stream.as_u64().unwrap()).collect()
    }

    /// Waits until they are over.
    pub async fn end(&mut self, of: Of, streams: &[u64]) -> Vec<Outcome> {
        let outcomes = self.0.ask(json!({ "do": "end", "client": of.0, "streams": streams })).await;
        outcomes.as_array().unwrap().iter().cloned().map(Outcome).collect()
    }

    pub async fn all(&mut self, of: Of, requests: Vec<Value>) -> Vec<Outcome> {
        let streams = self.begin(of, requests).await;
        self.end(of, &streams).await
    }

    pub async fn one(&mut self, of: Of, request: Value) -> Outcome {
        self.all(of, vec![request]).await.remove(0)
    }

    pub async fn get(&mut self, of: Of, path: &str) -> Outcome {
        self.one(of, get(path)).await
    }

    /// A command for one stream, or for the connection.
    pub async fn tell(&mut self, of: Of, what: &str, more: Value) -> Value {
        let mut command = json!({ "do": what, "client": of.0 });
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.0.ask(command).await
    }

    /// Opens a stream by these bytes.
    pub async fn open(&mut self, of: Of, one_way: bool, bytes: &[u8], ends: bool) -> u64 {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let opened = json!({ "one_way": one_way, "hex": hex, "end": ends });
        self.tell(of, "open", opened).await["stream"].as_u64().unwrap()
    }

    /// Waits until the connection is closed, and says by which code.
    pub async fn closed(&mut self, of: Of) -> u64 {
        self.tell(of, "closed", json!({})).await["code"].as_u64().unwrap()
    }
}

/// The fields of a request, beside which a test says more.
pub fn fields(method: &str, path: &str, more: &[(&str, &str)]) -> Value {
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", NAME), (":path", path)];
    json!(pseudo.iter().chain(more).collect::<Vec<_>>())
}

pub fn get(path: &str) -> Value {
    json!({ "headers": fields("GET", path, &[]) })
}
