//! How requests are read from clients: the settings of Envoy's HTTP connection manager.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::cluster::Http2Settings;
use crate::limits::PaceLimit;
use crate::{
    AccessLog, Addresses, ClientCertDetails, Fault, ForwardClientCert, Gate, Geo, RouteTable, SessionAuth,
    Upgrades, defaults,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// The prefix of this manager's statistics.
    pub stat_prefix: String,
    pub codec: Codec,
    pub routes: RouteTable,
    pub access_log: Vec<AccessLog>,

    pub server_name: String,
    pub server_header: ServerHeader,
    /// Whether the proxy stands at the edge: the peer's address is the client's, X-Forwarded-For is
    /// appended to, and headers that only a trusted peer may set are removed.
    pub use_remote_address: bool,
    /// How many proxies in front of this one are trusted to have appended to X-Forwarded-For.
    pub xff_num_trusted_hops: u32,
    pub skip_xff_append: bool,
    /// Clients here are our own, where nobody stands between: they may set timeouts and the like by
    /// `x-envoy-*` headers. Empty: nobody is.
    pub internal_networks: Vec<IpNet>,
    /// Added to the `Via` header of requests and responses; empty adds none.
    pub via: String,
    pub generate_request_id: bool,
    pub preserve_external_request_id: bool,
    pub always_set_request_id_in_response: bool,
    pub forward_client_cert: ForwardClientCert,
    pub client_cert_details: ClientCertDetails,
    /// What `:scheme` and `X-Forwarded-Proto` become, before routing and towards the upstream.
    pub scheme_to_overwrite: Option<Scheme>,
    pub host_port: HostPort,
    /// `a.example.` is `a.example`.
    pub strip_trailing_host_dot: bool,
    /// What becomes of paths before routing and towards the upstream.
    pub paths: Paths,
    /// No `x-envoy-*` header is added to requests or responses.
    pub suppress_envoy_headers: bool,

    /// All header bytes of one request; more is answered 431.
    pub header_bytes_max: u32,
    pub header_count_max: u32,
    /// Nothing moves in either direction for this long: the stream is ended. `None` waits for ever.
    pub stream_idle_timeout: Option<Duration>,
    /// From the first byte of a request to its last.
    pub request_timeout: Option<Duration>,
    /// From the first byte of a request's head to its last.
    pub request_headers_timeout: Option<Duration>,
    /// Of the body of a request; more is answered 413.
    pub body_bytes_max: Option<u64>,
    /// Of the body of a request that is waited for. Slower ones are answered 408.
    pub request_pace: Option<PaceLimit>,
    /// Of a response that a client takes. Slower ones are broken off.
    pub response_pace: Option<PaceLimit>,
    /// A connection without a request is closed after this long.
    pub connection_idle_timeout: Option<Duration>,
    pub max_requests_per_connection: Option<u32>,
    /// How long a draining HTTP/2 connection goes on taking requests after its first GOAWAY.
    pub drain_timeout: Duration,
    /// Whether clients may ask for tunnels (`CONNECT host:port`): for workloads whose outbound proxy this is. What is
    /// in a tunnel is served as if it had come without one, where it is HTTP, and else passed through.
    pub tunnels: bool,
    /// Protocols that clients may change to; a route may say otherwise.
    pub upgrades: Upgrades,
    /// Calls of gRPC-Web go on as calls of gRPC.
    pub grpc_web: bool,
    /// Made for requests of all routes that have none of their own.
    pub fault: Option<Fault>,
    /// Who is logged in is asked of each request.
    pub sessions: Vec<Arc<SessionAuth>>,
    /// What requests pass before anything is asked of them.
    pub door: Option<Box<Door>>,
    /// What requests pass before they go anywhere.
    pub gate: Gate,
    pub http2: Http2Settings,
    pub http2_limits: Http2Limits,
}

impl Http {
    /// Envoy's defaults around a table of routes, but for HTTP/2 an edge's.
    pub fn new(stat_prefix: impl Into<String>, routes: RouteTable) -> Http {
        Http {
            stat_prefix: stat_prefix.into(),
            codec: Codec::Auto,
            routes,
            access_log: Vec::new(),
            server_name: defaults::SERVER_NAME.to_owned(),
            server_header: ServerHeader::Overwrite,
            use_remote_address: false,
            xff_num_trusted_hops: 0,
            skip_xff_append: false,
            internal_networks: Vec::new(),
            via: String::new(),
            generate_request_id: true,
            preserve_external_request_id: false,
            always_set_request_id_in_response: false,
            forward_client_cert: ForwardClientCert::default(),
            client_cert_details: ClientCertDetails::default(),
            scheme_to_overwrite: None,
            host_port: HostPort::Keep,
            strip_trailing_host_dot: false,
            paths: Paths::NONE,
            suppress_envoy_headers: false,
            header_bytes_max: defaults::HEADER_BYTES_MAX,
            header_count_max: defaults::HEADER_COUNT_MAX,
            stream_idle_timeout: Some(defaults::STREAM_IDLE_TIMEOUT),
            request_timeout: None,
            request_headers_timeout: Some(defaults::REQUEST_HEADERS_TIMEOUT),
            body_bytes_max: None,
            request_pace: Some(defaults::REQUEST_PACE),
            response_pace: Some(defaults::RESPONSE_PACE),
            connection_idle_timeout: Some(defaults::CONNECTION_IDLE_TIMEOUT),
            max_requests_per_connection: None,
            drain_timeout: defaults::DRAIN_TIMEOUT,
            tunnels: false,
            upgrades: Upgrades::default(),
            grpc_web: false,
            fault: None,
            sessions: Vec::new(),
            door: None,
            gate: Gate::default(),
            http2: Http2Settings::edge(),
            http2_limits: Http2Limits::default(),
        }
    }
}

/// What is done with every request before sessions, rules and checks see it: who may not even ask is refused, and who
/// may is given headers of where he is, which rules may then ask for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Door {
    pub addresses: Addresses,
    pub geo: Option<Geo>,
}

/// What a peer of HTTP/2 may have us do for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Limits {
    /// Requests that it cancels, beside one for each that is answered.
    pub resets: Allowance,
    /// Streams that we have to reset, or to answer before anybody sees them.
    pub mistakes: Allowance,
    /// Frames that carry nothing of a request or an answer. SETTINGS and DATA without data count ten times.
    pub frames: Allowance,
    /// So many of these for each frame that carries something.
    pub frames_per_useful: u32,
    /// Frames of one header block.
    pub block_frames_max: u32,
    /// For any one frame, from its first byte to its last.
    pub frame_timeout: Duration,
}

/// So much at once, and so much each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub burst: u32,
    pub per_second: u32,
}

impl Default for Http2Limits {
    fn default() -> Http2Limits {
        Http2Limits {
            resets: Allowance {
                burst: defaults::HTTP2_RESETS_BURST,
                per_second: defaults::HTTP2_RESETS_PER_SECOND,
            },
            mistakes: Allowance {
                burst: defaults::HTTP2_MISTAKES_BURST,
                per_second: defaults::HTTP2_MISTAKES_PER_SECOND,
            },
            frames: Allowance {
                burst: defaults::HTTP2_FRAMES_BURST,
                per_second: defaults::HTTP2_FRAMES_PER_SECOND,
            },
            frames_per_useful: defaults::HTTP2_FRAMES_PER_USEFUL,
            block_frames_max: defaults::HTTP2_BLOCK_FRAMES_MAX,
            frame_timeout: defaults::HTTP2_FRAME_TIMEOUT,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// By ALPN where there is TLS, else by the first bytes.
    Auto,
    Http1,
    Http2,
    /// Of a listener of QUIC, and of no other.
    Http3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerHeader {
    Overwrite,
    AppendIfAbsent,
    PassThrough,
}

/// What becomes of a port in the Host of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPort {
    Keep,
    /// Removed where it is the listener's own.
    StripMatching,
    StripAny,
}

/// How paths are brought into one form. Istio's `pathNormalization` and Envoy's settings of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Dots, backslashes, and escapes of what needs none.
    pub normalize: bool,
    pub merge_slashes: bool,
    /// `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
}

impl Paths {
    /// Envoy's default.
    pub const NONE: Paths =
        Paths { normalize: false, merge_slashes: false, escaped_slashes: EscapedSlashes::Keep };
    /// Istio's.
    pub const BASE: Paths = Paths { normalize: true, ..Paths::NONE };

    #[inline]
    pub fn is_active(&self) -> bool {
        self.normalize || self.merge_slashes || self.escaped_slashes != EscapedSlashes::Keep
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscapedSlashes {
    Keep,
    /// The request is refused.
    Reject,
    /// Its client is led to the path without escapes.
    Redirect,
    /// It goes on with the path without escapes.
    Forward,
}
