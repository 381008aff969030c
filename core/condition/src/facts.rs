//! What is known of a request, and by which names? Those of Envoy's attributes.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderName};
use naru_base::{Json, WallTime};

use crate::check::Kind;
use crate::value::Value;

/// Whose metadata the claims of tokens are, in Envoy's words.
pub const CLAIMS_OF: &str = "envoy.filters.http.jwt_authn";

/// A request, as conditions see it.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub method: &'a str,
    /// The Host as sent.
    pub authority: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub scheme: &'a str,
    /// `HTTP/1.1`.
    pub protocol: &'a str,
    pub headers: &'a HeaderMap,
    /// When it is asked.
    pub time: WallTime,
    /// The client, as far as it can be trusted.
    pub source: SocketAddr,
    /// Where the connection came to.
    pub destination: SocketAddr,
    pub is_tls: bool,
    /// The client has shown a certificate; its names, each where it has one.
    pub is_certified: bool,
    pub subject: Option<&'a str>,
    pub uri: Option<&'a str>,
    pub dns: Option<&'a str>,
    /// What the client asked for by TLS.
    pub server_name: Option<&'a str>,
    /// What verified tokens claim, by what providers call it.
    pub tokens: &'a [(&'a str, &'a Json)],
    /// What the login session claims.
    pub session: Option<&'a Json>,
}

/// What has fields and is no value itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Request,
    Source,
    Destination,
    Connection,
    Metadata,
    FilterMetadata,
    Session,
}

/// One thing that is known, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Method,
    Path,
    UrlPath,
    Query,
    Host,
    Scheme,
    Protocol,
    Headers,
    Referer,
    UserAgent,
    Id,
    Time,
    SourceAddress,
    SourcePort,
    DestinationAddress,
    DestinationPort,
    IsMutual,
    ServerName,
    Subject,
    Uri,
    Dns,
    Tokens,
    SessionClaims,
}

pub(crate) enum Named {
    Object(Object),
    Attribute(Attribute),
}

impl Object {
    pub fn root(name: &str) -> Option<Object> {
        Some(match name {
            "request" => Object::Request,
            "source" => Object::Source,
            "destination" => Object::Destination,
            "connection" => Object::Connection,
            "metadata" => Object::Metadata,
            "session" => Object::Session,
            _ => return None,
        })
    }

    pub const ROOTS: &str = "request, source, destination, connection, metadata and session";

    pub fn name(self) -> &'static str {
        match self {
            Object::Request => "request",
            Object::Source => "source",
            Object::Destination => "destination",
            Object::Connection => "connection",
            Object::Metadata => "metadata",
            Object::FilterMetadata => "metadata.filter_metadata",
            Object::Session => "session",
        }
    }

    /// The names of its fields.
    pub fn fields(self) -> &'static str {
        match self {
            Object::Request => {
                "path, url_path, query, host, scheme, method, protocol, headers, referer, useragent, id, time, and \
                 of request.auth claims, principal, audiences and presenter"
            }
            Object::Source | Object::Destination => "address and port",
            Object::Connection => {
                "mtls, requested_server_name, subject_peer_certificate, uri_san_peer_certificate and \
                 dns_san_peer_certificate"
            }
            Object::Metadata => "filter_metadata",
            Object::FilterMetadata => CLAIMS_OF,
            Object::Session => "claims",
        }
    }

    pub fn field(self, name: &str) -> Option<Named> {
        Some(Named::Attribute(match (self, name) {
            (Object::Request, "method") => Attribute::Method,
            (Object::Request, "path") => Attribute::Path,
            (Object::Request, "url_path") => Attribute::UrlPath,
            (Object::Request, "query") => Attribute::Query,
            (Object::Request, "host") => Attribute::Host,
            (Object::Request, "scheme") => Attribute::Scheme,
            (Object::Request, "protocol") => Attribute::Protocol,
            (Object::Request, "headers") => Attribute::Headers,
            (Object::Request, "referer") => Attribute::Referer,
            (Object::Request, "useragent") => Attribute::UserAgent,
            (Object::Request, "id") => Attribute::Id,
            (Object::Request, "time") => Attribute::Time,
            (Object::Source, "address") => Attribute::SourceAddress,
            (Object::Source, "port") => Attribute::SourcePort,
            (Object::Destination, "address") => Attribute::DestinationAddress,
            (Object::Destination, "port") => Attribute::DestinationPort,
            (Object::Connection, "mtls") => Attribute::IsMutual,
            (Object::Connection, "requested_server_name") => Attribute::ServerName,
            (Object::Connection, "subject_peer_certificate") => Attribute::Subject,
            (Object::Connection, "uri_san_peer_certificate") => Attribute::Uri,
            (Object::Connection, "dns_san_peer_certificate") => Attribute::Dns,
            (Object::Metadata, "filter_metadata") => return Some(Named::Object(Object::FilterMetadata)),
            (Object::FilterMetadata, CLAIMS_OF) => Attribute::Tokens,
            (Object::Session, "claims") => Attribute::SessionClaims,
            _ => return None,
        }))
    }
}

impl Attribute {
    pub fn kind(self) -> Kind {
        match self {
            Attribute::SourcePort | Attribute::DestinationPort => Kind::Int,
            Attribute::IsMutual => Kind::Bool,
            Attribute::Time => Kind::Time,
            Attribute::Headers | Attribute::Tokens | Attribute::SessionClaims => Kind::Map,
            _ => Kind::Text,
        }
    }

    /// Nothing where it is not there.
    pub fn of<'a>(self, facts: &'a Facts<'a>) -> Option<Value<'a>> {
        let text = |text: &'a str| Some(Value::Text(Cow::Borrowed(text)));
        let named = |name: HeaderName| header(facts, &name).map(Value::Text);
        match self {
            Attribute::Method => text(facts.method),
            Attribute::Path => Some(Value::Text(whole_path(facts))),
            Attribute::UrlPath => text(facts.path),
            Attribute::Query => text(facts.query.unwrap_or("")),
            Attribute::Host => text(facts.authority),
            Attribute::Scheme => text(facts.scheme),
            Attribute::Protocol => text(facts.protocol),
            Attribute::Headers => Some(Value::Headers(facts)),
            Attribute::Referer => named(http::header::REFERER),
            Attribute::UserAgent => named(http::header::USER_AGENT),
            Attribute::Id => named(HeaderName::from_static("x-request-id")),
            Attribute::Time => Some(Value::Time(facts.time.0.into())),
            Attribute::SourceAddress => Some(Value::Text(facts.source.to_string().into())),
            Attribute::SourcePort => Some(Value::Int(facts.source.port().into())),
            Attribute::DestinationAddress => Some(Value::Text(facts.destination.to_string().into())),
            Attribute::DestinationPort => Some(Value::Int(facts.destination.port().into())),
            Attribute::IsMutual => Some(Value::Bool(facts.is_tls && facts.is_certified)),
            Attribute::ServerName => text(facts.server_name.unwrap_or("")),
            Attribute::Subject => facts.subject.and_then(text),
            Attribute::Uri => facts.uri.and_then(text),
            Attribute::Dns => facts.dns.and_then(text),
            Attribute::Tokens => Some(Value::Tokens(facts)),
            Attribute::SessionClaims => facts.session.map(Value::of_json),
        }
    }
}

fn whole_path<'a>(facts: &'a Facts<'a>) -> Cow<'a, str> {
    match facts.query {
        Some(query) => format!("{}?{query}", facts.path).into(),
        None => facts.path.into(),
    }
}

/// Several values are joined by commas, as in Envoy. What is no UTF-8 has its odd bytes replaced.
fn header<'a>(facts: &'a Facts<'a>, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values =
        facts.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = values.next()?;
    Some(values.fold(first, |mut joined, next| {
        let all = joined.to_mut();
        all.push(',');
        all.push_str(&next);
        joined
    }))
}

/// By a name in any case; those with a colon are what they stand for.
pub(crate) fn header_by_name<'a>(facts: &'a Facts<'a>, name: &str) -> Option<Cow<'a, str>> {
    match name {
        ":method" => Some(facts.method.into()),
        ":path" => Some(whole_path(facts)),
        ":authority" => Some(facts.authority.into()),
        ":scheme" => Some(facts.scheme.into()),
        _ => header(facts, &HeaderName::from_bytes(name.as_bytes()).ok()?),
    }
}
