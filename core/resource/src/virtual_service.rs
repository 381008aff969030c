//! Istio's `VirtualService`: which requests go where.

use crate::{Flag, Meta, Number, Place, Placed, Seconds, StringMatch, Text, Texts};

objects! {
    VirtualService {
        meta: Meta,
        spec: VirtualServiceSpec,
        /// It was made of routes of the Gateway API, for one listener.
        bound: Option<Bound>,
    }

    /// The listener of a Gateway that routes are for, and no other.
    Bound {
        namespace: String,
        gateway: String,
        listener: String,
    }

    VirtualServiceSpec {
        hosts: Texts,
        gateways: Texts,
        http: Vec<HttpRoute>,
        tls: Vec<TlsRoute>,
        tcp: Vec<TcpRoute>,
        export_to: Texts,
    }

    HttpRoute {
        name: Option<Text>,
        matches: Vec<HttpMatch>,
        route: Vec<HttpDestination>,
        redirect: Option<HttpRedirect>,
        direct_response: Option<HttpDirectResponse>,
        delegate: Option<Delegate>,
        rewrite: Option<HttpRewrite>,
        timeout: Option<Seconds>,
        retries: Option<HttpRetry>,
        fault: Option<HttpFault>,
        mirror: Option<Destination>,
        mirrors: Vec<HttpMirror>,
        mirror_percent: Option<Number>,
        mirror_percentage: Option<Percent>,
        cors_policy: Option<CorsPolicy>,
        headers: Option<Headers>,
        /// What only the Gateway API can say.
        beyond: Option<Box<Beyond>>,
    }

    /// Of a route of the Gateway API.
    Beyond {
        /// Of the document.
        kind: &'static str,
        namespace: String,
        name: String,
        /// Where the rule stands in it: `spec.rules[1]`.
        path: String,
        rewrite: Option<PathChange>,
        redirect: Option<PathChange>,
        persistence: Option<Persistence>,
    }

    /// A client stays with its endpoint.
    Persistence {
        /// By a header, and not by a cookie.
        is_header: bool,
        name: String,
        lifetime: Option<std::time::Duration>,
    }

    /// One block: everything in it must hold.
    HttpMatch {
        name: Option<Text>,
        uri: Option<StringMatch>,
        ignore_uri_case: Option<Flag>,
        scheme: Option<StringMatch>,
        method: Option<StringMatch>,
        authority: Option<StringMatch>,
        headers: Vec<(Text, StringMatch)>,
        without_headers: Vec<(Text, StringMatch)>,
        query_params: Vec<(Text, StringMatch)>,
        port: Option<Number>,
        source_labels: Vec<(Text, Text)>,
        source_namespace: Option<Text>,
        gateways: Texts,
        stat_prefix: Option<Text>,
    }

    HttpDestination {
        destination: Destination,
        weight: Option<Number>,
        headers: Option<Headers>,
    }

    Destination {
        host: Text,
        subset: Option<Text>,
        port: Option<PortSelector>,
    }

    PortSelector {
        number: Number,
    }

    Headers {
        request: Option<HeaderOperations>,
        response: Option<HeaderOperations>,
    }

    HeaderOperations {
        set: Vec<(Text, Text)>,
        add: Vec<(Text, Text)>,
        remove: Texts,
    }

    HttpRedirect {
        uri: Option<Text>,
        authority: Option<Text>,
        port: Option<Number>,
        derive_port: Option<Placed<DerivePort>>,
        scheme: Option<Text>,
        redirect_code: Option<Number>,
    }

    HttpDirectResponse {
        status: Number,
        body: Option<HttpBody>,
    }

    HttpBody {
        string: Option<Text>,
        bytes: Option<Placed<Vec<u8>>>,
    }

    Delegate {
        name: Text,
        namespace: Option<Text>,
    }

    HttpRewrite {
        uri: Option<Text>,
        authority: Option<Text>,
        uri_regex_rewrite: Option<RegexRewrite>,
    }

    RegexRewrite {
        pattern: Text,
        rewrite: Text,
    }

    HttpRetry {
        attempts: Option<Number>,
        per_try_timeout: Option<Seconds>,
        retry_on: Option<Text>,
        retry_remote_localities: Option<Flag>,
        retry_ignore_previous_hosts: Option<Flag>,
        backoff: Option<Seconds>,
    }

    HttpFault {
        delay: Option<FaultDelay>,
        abort: Option<FaultAbort>,
    }

    FaultDelay {
        percent: Option<Number>,
        percentage: Option<Percent>,
        fixed_delay: Option<Seconds>,
        exponential_delay: Option<Seconds>,
    }

    FaultAbort {
        percent: Option<Number>,
        percentage: Option<Percent>,
        http_status: Option<Number>,
        grpc_status: Option<Text>,
        http2_error: Option<Text>,
    }

    /// 0 to 100.
    Percent {
        value: Option<Placed<f64>>,
    }

    HttpMirror {
        destination: Destination,
        percentage: Option<Percent>,
    }

    CorsPolicy {
        allow_origin: Texts,
        allow_origins: Vec<StringMatch>,
        allow_methods: Texts,
        allow_headers: Texts,
        expose_headers: Texts,
        max_age: Option<Seconds>,
        allow_credentials: Option<Flag>,
        unmatched_preflights: Option<Text>,
    }

    TlsRoute {
        matches: Vec<TlsMatch>,
        route: Vec<RouteDestination>,
    }

    TlsMatch {
        sni_hosts: Texts,
        destination_subnets: Texts,
        port: Option<Number>,
        source_labels: Vec<(Text, Text)>,
        gateways: Texts,
        source_namespace: Option<Text>,
    }

    TcpRoute {
        matches: Vec<TcpMatch>,
        route: Vec<RouteDestination>,
    }

    TcpMatch {
        destination_subnets: Texts,
        port: Option<Number>,
        source_subnet: Option<Text>,
        source_labels: Vec<(Text, Text)>,
        gateways: Texts,
        source_namespace: Option<Text>,
    }

    RouteDestination {
        destination: Destination,
        weight: Option<Number>,
    }
}

/// What a path becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    Full(String),
    /// The segments that were matched, which do not end in a slash, are replaced.
    Prefix {
        matched: String,
        by: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivePort {
    FromProtocolDefault,
    FromRequestPort,
}
