//! Why a request ended as it did: one closed list.
//!
//! The same value is the flag and the details of the access log, the label of a metric, the answer
//! of `explain` and a line in the simulator's transcript. Flags and wording follow Envoy, so that
//! what people grep for is found.

/// Whose doing an ending is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Client,
    Proxy,
    Upstream,
}

/// Why no other attempt followed one that would have been retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum RetryEnd {
    /// For none of these reasons.
    #[default]
    Open,
    /// All retries that are allowed were made.
    LimitReached,
    /// The cluster bore no more of them.
    Overflow,
}

/// Everything that an ending is known by, in one row.
struct Row {
    name: &'static str,
    flag: &'static str,
    /// Where it was delayed; where a retry was wanted and none was left, or the cluster bore no more; both.
    longer_flags: [&'static str; 5],
    side: Side,
    status: u16,
    details: &'static str,
    body: &'static str,
}

macro_rules! reasons {
    ($( $(#[$doc:meta])* $name:ident { $flag:literal, $side:ident, $status:literal, $details:literal, $body:literal } )*) => {
        /// Why a request ended as it did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason { $( $(#[$doc])* $name ),* }

        impl Reason {
            pub const ALL: &'static [Reason] = &[ $( Reason::$name ),* ];

            const fn row(self) -> Row {
                match self {
                    $( Reason::$name => Row {
                        name: stringify!($name), flag: $flag,
                        longer_flags: [
                            concat!("DI,", $flag), concat!("URX,", $flag), concat!("UO,", $flag),
                            concat!("DI,URX,", $flag), concat!("DI,UO,", $flag),
                        ],
                        side: Side::$side, status: $status, details: $details, body: $body,
                    } ),*
                }
            }
        }
    };
}

const RESET: &str = "upstream connect error or disconnect/reset before headers. ";

reasons! {
    // Name { Envoy flag, side, status of a local reply, response code details, what follows in the body }
    /// The upstream's own answer went through.
    Forwarded { "-", Upstream, 0, "via_upstream", "" }
    /// The upstream's answer was a bad one, and one that stands in the configuration was given instead.
    AnswerReplaced { "-", Upstream, 503, "fallback_answer", "" }
    /// A rule answers by itself.
    DirectResponse { "-", Proxy, 200, "direct_response", "" }
    /// No rule takes a request for what the server as a whole can do, `OPTIONS *`.
    ServerOptions { "-", Proxy, 200, "server_options", "" }
    /// A rule, or a virtual host that requires TLS, sends the client elsewhere.
    Redirect { "-", Proxy, 301, "direct_response", "" }

    /// It was kept, and fresh. Envoy's flag and details of its cache.
    CacheHit { "RFCF", Proxy, 200, "cache.response_from_cache_filter", "" }
    /// It was kept, and its origin says that it has not changed.
    CacheValidated { "RFCF", Upstream, 200, "cache.response_from_cache_filter{validated}", "" }
    /// It was kept, and is given although it is stale, as nothing better came.
    CacheStale { "RFCF", Upstream, 200, "cache.response_from_cache_filter{stale}", "" }
    /// The client wants nothing but what is kept (RFC 9111, section 5.2.1.7), and nothing is.
    NotCached { "-", Client, 504, "cache.only_if_cached", "" }

    /// A file, or what its client has of it already.
    StaticFile { "-", Proxy, 200, "static_file", "" }
    /// There is no file of this name that may be given.
    FileNotFound { "-", Client, 404, "static_file_not_found", "Not Found" }
    /// Files are only read.
    FileMethod { "-", Client, 405, "static_file_method_not_allowed", "Method Not Allowed" }
    /// The disk does not answer, or the directory is not there.
    FileUnreadable { "-", Proxy, 503, "static_file_unreadable", "Service Unavailable" }

    /// No virtual host or no rule takes the request.
    NoRoute { "NR", Proxy, 404, "route_not_found", "" }
    /// The rule names a cluster that does not exist.
    NoCluster { "NC", Proxy, 503, "cluster_not_found", "" }
    /// The cluster has no endpoint that may be used.
    NoHealthyUpstream { "UH", Upstream, 503, "no_healthy_upstream", "no healthy upstream" }
    /// The circuit breaker of the route or the cluster lets the call not through.
    BreakerOpen { "UO", Proxy, 503, "circuit_breaker_open", "circuit breaker open" }

    /// The connection was refused, unreachable or reset while connecting.
    ConnectFailure { "UF", Upstream, 503, "upstream_reset_before_response_started{remote_connection_failure}", "remote connection failure" }
    /// The connection was not there within the connect timeout.
    ConnectTimeout { "UF", Upstream, 503, "upstream_reset_before_response_started{connection_timeout}", "connection timeout" }
    /// TLS with the upstream failed: an untrusted certificate, no common version, garbage.
    UpstreamTls { "UF", Upstream, 503, "upstream_reset_before_response_started{remote_connection_failure|TLS_error}", "remote connection failure, transport failure reason: TLS_error" }
    /// The upstream closed its connection before the response began.
    UpstreamClosed { "UC", Upstream, 503, "upstream_reset_before_response_started{connection_termination}", "connection termination" }
    /// The upstream reset the stream before the response began.
    UpstreamReset { "UR", Upstream, 503, "upstream_reset_before_response_started{remote_reset}", "remote reset" }
    /// The upstream has not looked at the request: it refused the stream, or goes away and said so.
    UpstreamRefused { "UR", Upstream, 503, "upstream_reset_before_response_started{remote_refused_stream_reset}", "remote refused stream reset" }
    /// What the upstream sent is not HTTP.
    UpstreamProtocol { "UPE", Upstream, 502, "upstream_reset_before_response_started{protocol_error}", "protocol error" }
    /// The upstream broke off after its response had begun.
    UpstreamAborted { "UC", Upstream, 0, "upstream_reset_after_response_started{connection_termination}", "" }

    /// A cluster has as many connections, requests or requests that wait as it may.
    Overflow { "UO", Proxy, 503, "upstream_reset_before_response_started{overflow}", "overflow" }
    /// As many requests are at a service or route as may be, and no more may wait. Resilience4j's BulkheadFullException.
    BulkheadFull { "UO", Proxy, 503, "bulkhead_full", "bulkhead full" }
    /// It waited for its turn at a service or route as long as it may.
    BulkheadTimeout { "UO", Proxy, 503, "bulkhead_timeout", "bulkhead wait timeout" }
    /// The limit that adapts itself to the latency is reached.
    ConcurrencyLimit { "-", Proxy, 503, "reached_concurrency_limit", "reached concurrency limit" }
    /// Too few requests succeed, and chance chose this one to be left out.
    AdmissionDenied { "-", Proxy, 503, "denied_by_admission_control", "" }
    /// More calls than a service may be sent in this time.
    RateLimited { "RL", Proxy, 429, "local_rate_limited", "local_rate_limited" }
    /// A token that is not there, or not valid; the answer says why.
    TokenDenied { "-", Client, 401, "jwt_authn_access_denied", "" }
    /// Whoever else is asked refuses it; the answer is theirs.
    ExternalDenied { "UAEX", Proxy, 403, "ext_authz_denied", "" }
    /// Whoever else is asked says nothing, or nothing that can be done.
    ExternalFailed { "UAEX", Proxy, 403, "ext_authz_error", "" }
    /// No policy allows it, or one denies it.
    PolicyDenied { "-", Proxy, 403, "rbac_access_denied_matched_policy[none]", "RBAC: access denied" }
    /// Its address is denied, or is none of those that are allowed.
    AddressDenied { "-", Client, 403, "address_denied", "address denied" }
    /// A browser that asks whether its page may ask (Fetch, "CORS-preflight fetch") is answered by the proxy.
    CorsPreflight { "-", Proxy, 200, "cors_response", "" }
    /// A page of another origin would change something.
    CsrfDenied { "-", Client, 403, "csrf_origin_mismatch", "Invalid origin" }
    /// An API key that is not there, or is none.
    KeyDenied { "-", Client, 401, "unknown_api_key", "Client authentication failed." }
    /// A name and a password that are not there, or not right.
    PasswordDenied { "-", Client, 401, "invalid_credential_for_basic_auth", "User authentication failed. Invalid username/password combination." }
    /// Too many passwords wait to be held against their hashes.
    PasswordsBusy { "-", Proxy, 503, "passwords_busy", "too many passwords wait to be checked" }
    /// A client has asked more often than it may.
    QuotaExceeded { "RL", Proxy, 429, "request_rate_limited", "" }
    /// Whether a client has asked too often is not known, and it is not let through for that.
    QuotaUnknown { "RLSE", Proxy, 500, "rate_limiter_error", "" }
    /// The proxy itself runs short of something.
    Overloaded { "OM", Proxy, 503, "overload", "overloaded" }

    /// More comes than there is room for, and this request is of those that are given up first.
    Shed { "OM", Proxy, 503, "surge_shed", "shed" }

    /// A client's connection while the proxy itself runs short of something.
    ConnectionRejected { "OM", Proxy, 0, "overload_reject", "" }
    /// A client's connection that is one too many: of all, of its listener, or of its address.
    ConnectionLimit { "OM", Proxy, 0, "over_connection_limit", "" }

    /// The route's timeout passed.
    RouteTimeout { "UT", Upstream, 504, "response_timeout", "upstream request timeout" }
    /// The last attempt that was allowed took longer than one may.
    PerTryTimeout { "UT", Upstream, 504, "upstream_per_try_timeout", "upstream request timeout" }
    /// Nothing moved on it for longer than may be.
    PerTryIdle { "UT", Upstream, 504, "upstream_per_try_idle_timeout", "upstream request timeout" }
    /// The request and its response took longer than the cluster allows.
    StreamDuration { "UMSDR", Upstream, 408, "upstream_max_stream_duration_reached", "upstream max stream duration reached" }
    /// Nothing moved in either direction for the stream idle timeout.
    StreamIdle { "SI", Proxy, 504, "stream_idle_timeout", "stream timeout" }
    /// The client did not finish sending its request in time.
    RequestTimeout { "-", Client, 408, "request_overall_timeout", "request timeout" }

    /// The client went away before its response was complete.
    ClientGone { "DC", Client, 0, "downstream_remote_disconnect", "" }
    /// The client broke off its own request body.
    ClientAborted { "DR", Client, 400, "downstream_remote_reset", "" }
    /// The request is not valid HTTP, or says two things at once.
    ClientProtocol { "DPE", Client, 400, "http1.codec_error", "Bad Request" }
    /// A connection of HTTP/2 is closed for what it had the proxy do for nothing.
    ClientAbuse { "DPE", Client, 0, "http2.abuse", "" }
    /// A request that needs exactly one Host has none, or several.
    BadHost { "DPE", Client, 400, "missing_host_header", "no Host, several, or none that is one" }
    /// The path cannot be brought into the form that is asked for, or has escaped slashes, which are refused.
    PathRefused { "-", Client, 400, "path_normalization_failed", "" }
    /// The client is led to its path without escaped slashes.
    PathRedirected { "-", Proxy, 307, "path_normalization_failed", "" }
    /// The body of the request is larger than allowed.
    BodyTooLarge { "-", Client, 413, "request_payload_too_large", "Payload Too Large" }
    /// More comes out of the body of the request than is allowed, once it is read out of its coding.
    InflatedTooLarge { "-", Client, 413, "request_inflated_too_large", "Payload Too Large" }
    /// The body of the request is not of the coding that it says.
    BodyCoding { "-", Client, 400, "request_decompression_failed", "Bad Request" }
    /// More comes out of the body of an answer than is allowed, once it is read out of its coding.
    AnswerInflatedTooLarge { "UPE", Upstream, 502, "response_inflated_too_large", "" }
    /// The body of an answer is not of the coding that it says.
    AnswerCoding { "UPE", Upstream, 502, "response_decompression_failed", "" }
    /// The head of the request is larger than allowed.
    HeadTooLarge { "DPE", Client, 431, "request_headers_too_large", "" }
    /// A body in a coding that naru does not know (RFC 9112, section 6.1).
    TransferCoding { "DPE", Client, 501, "http1.transfer_coding_not_supported", "Not Implemented" }
    /// Neither HTTP/1.0 nor HTTP/1.1, where it is one of them that is spoken.
    HttpVersion { "DPE", Client, 505, "http1.version_not_supported", "HTTP Version Not Supported" }
    /// The client did not finish sending the head of its request in time.
    HeadTimeout { "-", Client, 408, "request_header_timeout", "request header timeout" }
    /// A change of protocol (or a tunnel) that is not offered here.
    UpgradeRefused { "-", Proxy, 403, "upgrade_failed", "" }

    /// A failure that was made on purpose; its status is the fault's.
    FaultInjected { "FI", Proxy, 503, "fault_filter_abort", "fault filter abort" }

    /// An answer about a session by naru itself: a new pair of tokens, a logout, the keys.
    SessionAnswered { "-", Proxy, 200, "session_answered", "" }
    /// The request needs an access token, and has none.
    SessionMissing { "-", Client, 401, "session_token_missing", "Jwt is missing" }
    /// Its access token is none of ours, or was changed.
    SessionInvalid { "-", Client, 401, "session_token_invalid", "Jwt verification fails" }
    /// Its access token has expired.
    SessionExpired { "-", Client, 401, "session_token_expired", "Jwt is expired" }
    /// Its access token was signed by a key that is not in force any more.
    SessionKeyRotated { "-", Client, 401, "session_key_rotated", "Jwt was signed by a key that was replaced" }
    /// Its session is over: somebody has logged out, or a refresh token was used twice.
    SessionRevoked { "-", Client, 401, "session_revoked", "Session is over" }
    /// A page of another origin asked for something about sessions.
    SessionOrigin { "-", Client, 403, "session_origin_refused", "Origin is not allowed" }
    /// What is known of sessions cannot be read or written.
    SessionStoreAway { "-", Proxy, 503, "session_store_away", "session store is away" }
    /// Somebody is led to the provider that says who he is.
    SessionLogin { "-", Proxy, 302, "session_login", "" }
    /// What a browser brings back from a provider is not what it was sent for, or was used before.
    SessionLoginRefused { "-", Client, 400, "session_login_refused", "This login is over, or was begun in another browser. Please begin again." }
    /// The provider lets somebody not in.
    SessionLoginDenied { "-", Client, 403, "session_login_denied", "The login was denied." }
    /// What the provider says of who logs in cannot be believed.
    SessionLoginInvalid { "-", Upstream, 502, "session_login_invalid", "The answer of the login provider cannot be believed." }
    /// The provider does not answer, or not as one does.
    SessionProviderAway { "-", Upstream, 503, "session_provider_away", "The login provider does not answer." }

    /// A tunnel with HTTP in it: the requests have their own lines.
    TunnelServed { "-", Proxy, 200, "tunnel_served", "" }
    /// The name that a tunnel leads to has no address.
    NameNotFound { "DF", Upstream, 503, "dns_resolution_failure", "DNS resolution failure" }
    /// Nothing moved in either direction on a connection of TCP for as long as may be.
    TcpIdle { "-", Proxy, 0, "tcp_session_idle_timeout", "" }
    /// A client's connection stood as long as it may.
    ConnectionDuration { "DT", Proxy, 0, "max_connection_duration", "" }
    /// A tunnel that had not ended by itself when the proxy ended, or its listener went.
    Drained { "DC", Proxy, 0, "downstream_local_disconnect", "" }
}

impl Reason {
    /// The name as metrics and transcripts say it: `NoRoute`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Envoy's short response flag, or `-`.
    pub fn flag(self) -> &'static str {
        self.row().flag
    }

    /// Envoy's flags: with `DI` where a fault had delayed the request, and with what ended the retries.
    pub fn flags(self, is_delayed: bool, end: RetryEnd) -> &'static str {
        let row = self.row();
        let [delayed, exceeded, overflown, delayed_exceeded, delayed_overflown] = row.longer_flags;
        let (long, short) = match (is_delayed, end) {
            (false, RetryEnd::Open) => (row.flag, row.flag),
            (true, RetryEnd::Open) => (delayed, "DI"),
            (false, RetryEnd::LimitReached) => (exceeded, "URX"),
            (false, RetryEnd::Overflow) => (overflown, "UO"),
            (true, RetryEnd::LimitReached) => (delayed_exceeded, "DI,URX"),
            (true, RetryEnd::Overflow) => (delayed_overflown, "DI,UO"),
        };
        if row.flag == "-" { short } else { long }
    }

    pub fn side(self) -> Side {
        self.row().side
    }

    /// The status of the proxy's own answer; 0 where there is none to give.
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub fn details(self) -> &'static str {
        self.row().details
    }

    /// The body of the proxy's own answer, as Envoy words it. An answer `after_retries` says that there were some.
    pub fn body(self, after_retries: bool) -> String {
        let row = self.row();
        if !self.is_reset_before_response() {
            return row.body.to_owned();
        }
        let which = if after_retries { "retried and the latest reset reason: " } else { "reset reason: " };
        format!("{RESET}{which}{}", row.body)
    }

    /// Whether the upstream's connection or stream broke before the response began.
    pub fn is_reset_before_response(self) -> bool {
        self.details().starts_with("upstream_reset_before_response_started")
    }

    /// The header, with the value `true`, that tells the client that this was for want of room: not to try again at
    /// once. Envoy's "router" and "overload manager" pages.
    pub fn overload_header(self) -> Option<&'static str> {
        match self {
            Reason::Overflow | Reason::BulkheadFull | Reason::BulkheadTimeout => Some("x-envoy-overloaded"),
            Reason::Overloaded | Reason::Shed => Some("x-envoy-local-overloaded"),
            _ => None,
        }
    }

    /// Whether the request went its whole way: an answer of the upstream, or one that a rule gives.
    pub fn is_success(self) -> bool {
        use Reason::{DirectResponse, Forwarded, Redirect, StaticFile, TunnelServed};
        matches!(self, Forwarded | DirectResponse | Redirect | StaticFile | TunnelServed) || self.is_cached()
    }

    /// Whether the answer is one that was kept.
    #[inline]
    pub fn is_cached(self) -> bool {
        matches!(self, Reason::CacheHit | Reason::CacheValidated | Reason::CacheStale)
    }
}

/// The gRPC status for an HTTP status of a proxy's own answer.
/// Source: gRPC, "HTTP to gRPC Status Code Mapping".
pub fn grpc_status_of(http_status: u16) -> u8 {
    match http_status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_details_and_a_flag() {
        for reason in Reason::ALL {
            assert!(!reason.details().is_empty(), "{reason:?}");
            assert!(reason.flag() == "-" || reason.flag().chars().all(|c| c.is_ascii_uppercase()));
        }
    }

    #[test]
    fn bodies_are_what_people_grep_for() {
        assert_eq!(Reason::NoHealthyUpstream.body(false), "no healthy upstream");
        assert_eq!(Reason::RouteTimeout.body(true), "upstream request timeout");
        assert_eq!(
            Reason::UpstreamClosed.body(false),
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
        );
        assert_eq!(
            Reason::ConnectFailure.body(true),
            "upstream connect error or disconnect/reset before headers. \
             retried and the latest reset reason: remote connection failure"
        );
    }

    #[test]
    fn flags_say_what_came_before() {
        use RetryEnd::{LimitReached, Open, Overflow};
        assert_eq!(Reason::ConnectFailure.flags(false, Open), "UF");
        assert_eq!(Reason::ConnectFailure.flags(false, LimitReached), "URX,UF");
        assert_eq!(Reason::UpstreamClosed.flags(false, Overflow), "UO,UC");
        assert_eq!(Reason::UpstreamReset.flags(true, LimitReached), "DI,URX,UR");
        assert_eq!(Reason::FaultInjected.flags(true, Open), "DI,FI");
        let of_an_answer = |is_delayed, end| Reason::Forwarded.flags(is_delayed, end);
        assert_eq!(of_an_answer(false, Open), "-");
        assert_eq!(of_an_answer(false, LimitReached), "URX");
        assert_eq!(of_an_answer(false, Overflow), "UO");
        assert_eq!(of_an_answer(true, Open), "DI");
        assert_eq!(of_an_answer(true, Overflow), "DI,UO");
    }
}
