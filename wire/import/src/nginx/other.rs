//! Directives that become nothing: what naru does unasked, and what is lost.

use super::parse::Directive;
use super::scope::Scope;
use crate::notes::{Notes, code};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Http,
    Server,
    Location,
}

/// Read elsewhere, where they mean something.
const READ: &[&str] = &[
    "add_header",
    "allow",
    "deny",
    "grpc_pass",
    "http2",
    "listen",
    "location",
    "proxy_connect_timeout",
    "proxy_hide_header",
    "proxy_next_upstream",
    "proxy_next_upstream_tries",
    "proxy_pass",
    "proxy_read_timeout",
    "proxy_send_timeout",
    "proxy_set_header",
    "return",
    "server_name",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_client_certificate",
    "ssl_protocols",
    "ssl_verify_client",
];

/// About nginx's own working: nothing of it needs to be said to naru.
const UNNEEDED: &[&str] = &[
    "absolute_redirect",
    "access_log",
    "charset",
    "client_body_buffer_size",
    "client_header_buffer_size",
    "daemon",
    "default_type",
    "error_log",
    "events",
    "keepalive_requests",
    "keepalive_timeout",
    "large_client_header_buffers",
    "load_module",
    "log_format",
    "pid",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_http_version",
    "proxy_pass_header",
    "proxy_request_buffering",
    "reset_timedout_connection",
    "sendfile",
    "server_names_hash_bucket_size",
    "server_tokens",
    "tcp_nodelay",
    "tcp_nopush",
    "types",
    "types_hash_max_size",
    "user",
    "worker_processes",
    "worker_rlimit_nofile",
];

/// What is lost, and what comes closest.
const LOST: &[(&[&str], &str)] = &[
    (&["include"], "import that file too: includes are not followed"),
    (
        &["alias", "autoindex", "index", "root", "try_files"],
        "say it in a StaticFiles at its route: see docs/static-files.md",
    ),
    (&["rewrite"], "say rewrite.uri, or rewrite.uriRegexRewrite, of the route"),
    (&["if"], "conditions on headers, methods and queries stand in a route's match"),
    (
        &["auth_basic", "auth_basic_user_file"],
        "anybody may call it now: say basicAuth in an EdgePolicy: see docs/edge-policies.md",
    ),
    (
        &["auth_jwt", "auth_request"],
        "anybody may call it now: say it in a RequestAuthentication and an AuthorizationPolicy: see docs/identity.md",
    ),
    (&["limit_except"], "every method may be called now: say match.method"),
    (
        &["limit_req", "limit_req_zone"],
        "nothing limits callers now: say it in a RateLimit: see docs/rate-limits.md",
    ),
    (
        &["limit_conn", "limit_conn_zone"],
        "nothing limits connections of a client now: say connections.maxPerSource in an EdgePolicy",
    ),
    (&["limit_rate"], "answers go as fast as clients take them"),
    (
        &["client_max_body_size"],
        "say requests.maxBodyBytes in an EdgePolicy, or maxRequestBytes in a TrafficPolicy of the route",
    ),
    (&["error_page", "proxy_intercept_errors"], "errors are passed on as they come"),
    (
        &["proxy_cache", "proxy_cache_path", "proxy_cache_valid", "proxy_cache_key"],
        "nothing is kept now: say it in a ResponseCache: see docs/cache.md",
    ),
    (
        &["gzip", "gzip_types", "gzip_min_length", "gzip_vary", "brotli"],
        "say it in a Compression: see docs/compression.md",
    ),
    (&["map", "geo", "split_clients", "set"], "variables are not carried over: weights split traffic"),
    (
        &["fastcgi_pass", "scgi_pass", "uwsgi_pass", "memcached_pass"],
        "naru speaks HTTP only: put an HTTP server in front of the program",
    ),
    (&["stream"], "say it in a Gateway of TCP or TLS and a VirtualService: see docs/tcp.md"),
    (&["mail"], "naru does not speak the protocols of mail: see docs/tcp.md for bytes that nobody reads"),
    (&["proxy_ssl_verify", "proxy_ssl_trusted_certificate"], "say tls.caCertificates in the DestinationRule"),
    (&["proxy_ssl_certificate", "proxy_ssl_certificate_key"], "say tls.mode MUTUAL in the DestinationRule"),
    (
        &["proxy_redirect", "proxy_cookie_domain", "proxy_cookie_path"],
        "headers of responses are passed on as they come",
    ),
    (&["mirror"], "say mirrors in the route"),
    (
        &["set_real_ip_from", "real_ip_header", "real_ip_recursive"],
        "whoever connects is the client: say requests.trustedHops in an EdgePolicy",
    ),
];

pub(super) fn tell(directive: &Directive, scope: &Scope<'_>, level: Level, notes: &mut Notes<'_>) {
    let name = directive.name.as_str();
    let path = scope.path_to(name);
    // nginx's own file of types says nothing of a proxy.
    let is_types = name == "include" && directive.arg(0).is_some_and(|file| file.ends_with("mime.types"));
    let is_read = READ.contains(&name) && (level != Level::Http || !["location", "return"].contains(&name));
    if is_read {
        return;
    }
    if is_types || UNNEEDED.contains(&name) {
        let message = format!("'{name}' has nothing to say to naru");
        return notes.note(code::BY_DEFAULT, directive.at, &path, message, "");
    }
    let hint = LOST.iter().find(|(names, _)| names.contains(&name)).map_or("", |(_, hint)| *hint);
    notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, format!("'{name}' is not carried over"), hint);
}

/// Everything of a block that becomes nothing.
pub(super) fn tell_all(scope: &Scope<'_>, level: Level, notes: &mut Notes<'_>) {
    for directive in scope.innermost() {
        tell(directive, scope, level, notes);
    }
}
