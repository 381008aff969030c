//! How requests are read from clients, as it is said.

use naru_spec::{
    Abort, AbortBy, AccessLog, Addresses, Allowance, ClientCertDetails, Codec, Comparison, Delay, DelayBy,
    Door, EscapedSlashes, Fault, FaultScope, ForwardClientCert, Geo, GeoFact, HeaderAction, HeaderOp,
    HeaderOps, HostPort, Http2Limits, JsonField, LogFormat, LogSink, Mirror, MirrorHost, MirrorWrites, Paths,
    ProxyVersion, Scheme, ServerHeader,
};

structs! {
    Paths { normalize, merge_slashes, escaped_slashes }
    Door { addresses, geo }
    Http2Limits { resets, mistakes, frames, frames_per_useful, block_frames_max, frame_timeout }
    Allowance { burst, per_second }
    AccessLog { sink, format }
    ClientCertDetails { subject, cert, chain, dns, uri }
    Geo { database, headers }
    Addresses { allow, deny }
    Fault { delay, abort, headers, cluster, nodes, active_max, scope }
    Delay { by, share }
    Abort { by, share }
    Mirror { cluster, share, host, writes, comparison }
    Comparison { ignored_headers, body_bytes_max }
    HeaderOps { remove, add }
    HeaderOp { name, value, action, keep_empty }
}

enums! {
    Codec { Auto, Http1, Http2, Http3 }
    ServerHeader { Overwrite, AppendIfAbsent, PassThrough }
    Scheme { Http, Https }
    HostPort { Keep, StripMatching, StripAny }
    EscapedSlashes { Keep, Reject, Redirect, Forward }
    LogSink { File(it), Stdout, Stderr, Recent }
    LogFormat { Text(it), Json(it) }
    JsonField { Value(it), Object(it), List(it), Literal(it) }
    ForwardClientCert { Sanitize, ForwardOnly, AppendForward, SanitizeSet, AlwaysForwardOnly }
    ProxyVersion { V1, V2 }
    GeoFact { Country, Continent, Region, City, Asn }
    FaultScope { Client, Upstream }
    DelayBy { Fixed(it), Header }
    AbortBy { Status(it), Grpc(it), Header }
    MirrorHost { Shadow, Same, Literal(it) }
    MirrorWrites { Sent, NotSent, Marked(it) }
    HeaderAction { Append, AddIfAbsent, Overwrite, OverwriteIfPresent }
}
