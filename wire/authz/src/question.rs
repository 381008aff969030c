//! A `CheckRequest`.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use naru_base::Json;

use crate::proto::Message;

/// All that is told of a request.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub source: Party<'a>,
    pub destination: Party<'a>,
    /// Since 1970, when the request began.
    pub time_ns: u64,
    pub id: &'a str,
    pub method: &'a str,
    /// With its query.
    pub path: &'a str,
    pub host: &'a str,
    pub scheme: &'a str,
    pub protocol: &'a str,
    /// Of the body, as far as it was read.
    pub size: u64,
    pub headers: &'a [(Box<str>, Bytes)],
    /// Headers are a list of bytes, not a map of texts.
    pub is_raw: bool,
    pub body: Option<&'a [u8]>,
    /// The body is bytes, not a text.
    pub is_raw_body: bool,
    pub context: &'a [(String, String)],
    pub server_name: Option<&'a str>,
    /// By the filter, and then by what providers call them.
    pub claims: &'a [(Box<str>, Json)],
}

/// One end of the client's connection.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    pub address: SocketAddr,
    pub service: &'a str,
    pub principal: &'a str,
    /// URL-encoded PEM.
    pub certificate: &'a str,
}

/// The filter whose metadata is known.
const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";

/// Writes a request, in its frame.
pub fn question(said: &Question<'_>) -> Bytes {
    let mut http = Message::default();
    http.text(1, said.id);
    http.text(2, said.method);
    if said.is_raw {
        let mut list = Message::default();
        for (name, value) in said.headers {
            let mut header = Message::default();
            header.text(1, name);
            header.bytes(3, value);
            list.message(1, &header);
        }
        http.message(13, &list);
    } else {
        for (name, value) in said.headers {
            http.message(3, &entry(name, |entry| entry.bytes(2, value)));
        }
    }
    http.text(4, said.path);
    http.text(5, said.host);
    http.text(6, said.scheme);
    http.number(9, said.size);
    http.text(10, said.protocol);
    if let Some(body) = said.body {
        http.bytes(if said.is_raw_body { 12 } else { 11 }, body);
    }
    let mut time = Message::default();
    time.number(1, said.time_ns / 1_000_000_000);
    time.number(2, said.time_ns % 1_000_000_000);
    let mut request = Message::default();
    request.message(1, &time);
    request.message(2, &http);
    let mut attributes = Message::default();
    attributes.message(1, &party(&said.source));
    attributes.message(2, &party(&said.destination));
    attributes.message(4, &request);
    for (name, value) in said.context {
        attributes.message(10, &entry(name, |entry| entry.text(2, value)));
    }
    let mut metadata = Message::default();
    if !said.claims.is_empty() {
        let claims = fields(said.claims.iter().map(|(name, claims)| (&**name, claims)));
        metadata.message(1, &entry(JWT_FILTER, |entry| entry.message(2, &claims)));
    }
    attributes.message(11, &metadata);
    if let Some(name) = said.server_name {
        let mut session = Message::default();
        session.text(1, name);
        attributes.message(12, &session);
    }
    let mut check = Message::default();
    check.message(1, &attributes);
    framed(check.as_bytes())
}

pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

fn party(said: &Party<'_>) -> Message {
    let mut socket = Message::default();
    socket.text(2, &said.address.ip().to_string());
    socket.always_number(3, said.address.port().into());
    let mut address = Message::default();
    address.message(1, &socket);
    let mut party = Message::default();
    party.message(1, &address);
    party.text(2, said.service);
    party.text(4, said.principal);
    party.text(5, said.certificate);
    party
}

/// Of a map.
fn entry(name: &str, value: impl FnOnce(&mut Message)) -> Message {
    let mut entry = Message::default();
    entry.text(1, name);
    value(&mut entry);
    entry
}

/// A `google.protobuf.Struct`.
fn fields<'a>(members: impl Iterator<Item = (&'a str, &'a Json)>) -> Message {
    let mut all = Message::default();
    for (name, value) in members {
        all.message(1, &entry(name, |entry| entry.message(2, &json(value))));
    }
    all
}

/// A `google.protobuf.Value`.
fn json(said: &Json) -> Message {
    let mut value = Message::default();
    match said {
        Json::Null => value.always_number(1, 0),
        Json::Bool(is_true) => value.always_number(4, u64::from(*is_true)),
        Json::Whole(whole) => value.double(2, *whole as f64),
        Json::Real(real) => value.double(2, *real),
        Json::Text(text) => value.always_text(3, text),
        Json::List(list) => {
            let mut all = Message::default();
            list.iter().for_each(|inner| all.message(1, &json(inner)));
            value.message(6, &all);
        }
        Json::Map(members) => {
            let members = members.iter().map(|(name, value)| (name.as_str(), value));
            value.message(5, &fields(members));
        }
    }
    value
}
