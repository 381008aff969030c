//! Our own `EdgePolicy`: the bounds of an edge, what naru gives up when it runs short itself, who may come in, and what
//! browsers are told.

use crate::traffic_policy::TargetRef;
use crate::{Flag, Meta, Number, Place, Placed, Seconds, StringMatch, Text, Texts};

objects! {
    EdgePolicy {
        meta: Meta,
        spec: EdgePolicySpec,
    }

    EdgePolicySpec {
        /// A Gateway, or a VirtualService; without it, the process as a whole.
        target_ref: Option<TargetRef>,
        connections: Option<EdgeConnections>,
        requests: Option<EdgeRequests>,
        http2: Option<EdgeHttp2>,
        /// Of the process.
        overload: Option<EdgeOverload>,
        addresses: Option<EdgeAddresses>,
        /// What has to hold of requests, in CEL.
        conditions: Option<EdgeConditions>,
        /// Of gateways.
        geo: Option<EdgeGeo>,
        csrf: Option<EdgeCsrf>,
        api_keys: Option<EdgeKeys>,
        basic_auth: Option<EdgeBasicAuth>,
        security_headers: Option<EdgeSecurityHeaders>,
    }

    /// `10.0.0.0/8`; of the client, behind trusted hops.
    EdgeAddresses {
        allow: Texts,
        deny: Texts,
    }

    EdgeConditions {
        allow: Vec<EdgeCondition>,
        deny: Vec<EdgeCondition>,
        /// Who would be refused is only counted.
        shadow: Option<Flag>,
    }

    EdgeCondition {
        name: Text,
        when: Text,
    }

    EdgeGeo {
        /// A file in MaxMind's format.
        database: Text,
        headers: Option<EdgeGeoHeaders>,
    }

    EdgeGeoHeaders {
        country: Option<Text>,
        continent: Option<Text>,
        region: Option<Text>,
        city: Option<Text>,
        asn: Option<Text>,
    }

    EdgeCsrf {
        disabled: Option<Flag>,
        /// Who comes from elsewhere is only counted.
        shadow: Option<Flag>,
        /// Hosts, with their ports.
        additional_origins: Vec<StringMatch>,
    }

    EdgeKeys {
        disabled: Option<Flag>,
        from: Vec<EdgeKeyPlace>,
        keys: Vec<EdgeKey>,
        /// Lines of `name:sha256`.
        file: Option<Text>,
        /// Its entries are names and keys.
        secret: Option<Text>,
        client_header: Option<Text>,
        forward: Option<Flag>,
        /// Of those that have keys, who may.
        clients: Texts,
    }

    EdgeKeyPlace {
        header: Option<Text>,
        query: Option<Text>,
        cookie: Option<Text>,
    }

    EdgeKey {
        client: Text,
        /// In hexadecimal.
        sha256: Text,
    }

    EdgeBasicAuth {
        disabled: Option<Flag>,
        /// Of htpasswd.
        file: Option<Text>,
        /// With an entry `.htpasswd` or `auth`.
        secret: Option<Text>,
        realm: Option<Text>,
        client_header: Option<Text>,
        forward: Option<Flag>,
    }

    /// Values as they stand in the headers; an empty one leaves its header out.
    EdgeSecurityHeaders {
        disabled: Option<Flag>,
        strict_transport_security: Option<Text>,
        content_type_options: Option<Text>,
        referrer_policy: Option<Text>,
        frame_ancestors: Option<Texts>,
        content_security_policy: Option<Text>,
        permissions_policy: Option<Text>,
        /// They take the place of what answers say.
        overrides: Option<Flag>,
    }

    /// Of all listeners of a Gateway together with others at the same address; of the process, `max` only.
    EdgeConnections {
        max: Option<Number>,
        /// Of one address, of IPv6 of one /64.
        max_per_source: Option<Number>,
        handshake_timeout: Option<Seconds>,
        idle_timeout: Option<Seconds>,
        max_requests: Option<Number>,
    }

    EdgeRequests {
        max_header_bytes: Option<Number>,
        max_header_count: Option<Number>,
        max_body_bytes: Option<Number>,
        headers_timeout: Option<Seconds>,
        timeout: Option<Seconds>,
        idle_timeout: Option<Seconds>,
        body_pace: Option<EdgePace>,
        response_pace: Option<EdgePace>,
        /// Proxies in front that are trusted to have said who asks.
        trusted_hops: Option<Number>,
    }

    /// So many bytes, at least, in so much time of waiting; no bytes are no bound.
    EdgePace {
        bytes: Number,
        window: Seconds,
    }

    EdgeHttp2 {
        max_concurrent_streams: Option<Number>,
        resets: Option<EdgeAllowance>,
        mistakes: Option<EdgeAllowance>,
        frames: Option<EdgeAllowance>,
        frames_per_useful: Option<Number>,
        max_block_frames: Option<Number>,
        frame_timeout: Option<Seconds>,
    }

    /// So much at once, and so much each second.
    EdgeAllowance {
        burst: Option<Number>,
        per_second: Option<Number>,
    }

    EdgeOverload {
        /// Nothing is measured, and nothing given up.
        disabled: Option<Flag>,
        refresh_interval: Option<Seconds>,
        memory: Option<EdgeMemory>,
        cpu: Option<EdgeCpu>,
        /// Paths whose requests are always answered.
        keep_paths: Option<Texts>,
    }

    EdgeMemory {
        disabled: Option<Flag>,
        /// Of the process; else what its control group or the machine allows.
        limit_bytes: Option<Number>,
        shed_at_percent: Option<Placed<f64>>,
        until_percent: Option<Placed<f64>>,
    }

    EdgeCpu {
        disabled: Option<Flag>,
        shed_from_percent: Option<Placed<f64>>,
        shed_all_at_percent: Option<Placed<f64>>,
    }
}
