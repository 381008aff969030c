//! What requests pass before they go anywhere, as it is said.

use naru_spec::{
    ApiKeys, ApiKeysChange, AuthTest, BasicAuth, BodyChange, Cel, CelCall, CelFold, CelSelect, Check,
    CheckKind, ClaimHeader, ClaimMatch, Coder, CompressedRequests, Compressor, CompressorChange,
    ContentCoding, Cors, Credentials, Csrf, DataSource, DecompressedAnswers, Decompressor, DescribedHeader,
    Descriptor, DescriptorPart, External, ExternalBody, ExternalChange, ExternalGrpc, ExternalHttp,
    ExternalService, Gate, GateChange, Hashes, HitCount, Hits, HostRates, Jwt, JwtHeader, JwtKeys,
    JwtProvider, JwtRequirement, JwtRule, KeyForwarding, KeyPlace, KeySource, Lacking, Lifetime, Links,
    LocalDescriptor, LocalRate, OnEtag, PseudoHeader, Quota, QuotaAlgorithm, QuotaKey, Quotas, RateOverride,
    RateRequests, RateService, RateServiceChange, Rbac, RbacAction, RbacPolicy, RbacRules, RemoteKeys,
    RuleRates, SecurityHeaders, StaticFiles, ValueMatch,
};
use serde_json::Value as Json;

use super::{Fields, Said, Wrong, object};

structs! {
    Gate { checks }
    Check { name, kind }
    Jwt { providers, rules, named, bypass_cors_preflight, strip_failure_response }
    JwtProvider {
        name, issuer, audiences, keys, forward, from_headers, from_params, from_cookies, payload_header,
        pads_payload, claim_headers, clock_skew, claims_name, spaced_claims, requires_expiry, lifetime_max,
        reroutes,
    }
    JwtRule { matches, requires }
    JwtHeader { name, prefix }
    ClaimHeader { header, claim }
    RemoteKeys { uri, cluster, timeout, cache }
    ClaimMatch { claims_name, path, test, invert }
    Rbac { rules, shadow, shadow_prefix }
    RbacRules { action, policies }
    CelSelect { of, field, tests }
    CelCall { target, function, args }
    CelFold { item, over, kept, first, goes_on, step, result }
    ExternalChange { context, body }
    External {
        service, timeout, failure_allows, tells_failure, status_on_error, reroutes, body, allowed_headers,
        disallowed_headers, raw_headers, tells_certificate, tells_server_name, tells_claims,
        denied_body_bytes_max, context, enabled, denies_others, only_for,
    }
    ExternalBody { bytes_max, allows_partial, is_raw }
    ExternalGrpc { cluster, authority, metadata }
    ExternalHttp {
        cluster, path_prefix, path, headers_to_add, upstream_headers, upstream_headers_to_append,
        client_headers, client_headers_on_success,
    }
    RuleRates { own, of_host, includes_host }
    Descriptor { stage, parts, hits, limit, tells }
    Hits { count, gives_back }
    RateOverride { requests, unit }
    LocalRate {
        stat_prefix, bucket, descriptors, rates, stage, host_rates, always_takes_of_all, values_max,
        is_of_connection, is_of_host, enabled, enforced, status, response_headers, request_headers, tells,
        tells_retry, is_resource_exhausted,
    }
    LocalDescriptor { entries, bucket, is_shadow }
    RateServiceChange { host_rates, rates, domain }
    RateService {
        service, domain, stage, rates, rule_rates, host_rates, only, timeout, denies_failed,
        status_on_error, status, response_headers, enabled, enforced, tells, tells_retry, marks,
        is_resource_exhausted,
    }
    Quotas { limits, store }
    Quota { name, algorithm, key, lacking, cost, is_shadow, keys_max }
    ApiKeysChange { keys, places, clients, forwarding }
    KeyForwarding { client_header, forwards }
    ApiKeys { places, keys, client_header, forwards, clients }
    BasicAuth { passwords, realm, header, client_header, forwards }
    Compressor {
        coder, is_enabled, length_min, content_types, etag, removes_accept_encoding, statuses_not, is_first,
        tells_status, requests,
    }
    CompressedRequests { length_min, content_types }
    CompressorChange { answers, removes_accept_encoding, coder }
    Decompressor { codings, is_enabled, ignores_no_transform, answers, bytes_max, ratio_max }
    DecompressedAnswers { ignores_no_transform, is_told }
    StaticFiles {
        root, prefix, index, endings, fallback, not_found, passes_on, precompressed, links, gives_hidden,
        lifetimes, types, usual_type,
    }
    Lifetime { pattern, cache_control }
    Cors {
        origins, methods, headers, exposed, max_age, credentials, private_network, forwards_unmatched,
        enabled, shadow,
    }
    Csrf { enabled, shadow, origins }
    SecurityHeaders { headers, transport, overrides }
}

enums! {
    GateChange {
        Instead(it), Without(it), Also(it), Ask(first, second), Count(first, second), Describe(it),
        Keys(first, second), Passwords(first, second), Compress(first, second), Require(first, second),
    }
    CheckKind {
        Shed(it), SecurityHeaders(it), Addresses(it), Cors(it), Csrf(it), ApiKeys(it), BasicAuth(it),
        Jwt(it), External(it), Rbac(it), LocalRate(it), RateService(it), Quotas(it), Compress(it),
        Decompress(it), BodyLimit(it), Files(it),
    }
    JwtRequirement {
        Nothing, Provider { name, audiences }, Any(it), All(it), AllowMissing, AllowMissingOrFailed,
    }
    JwtKeys { Local(it), Remote(it) }
    ValueMatch { Null, Present(it), Bool(it), Text(it), Number(it), Range(first, second), OneOf(it), Any(it) }
    RbacAction { Allow, Deny, Log }
    AuthTest {
        Always, All(it), Any(it), Not(it), Header(it), Method(it), Authority(it), Path(it),
        PathTemplate(it), DestinationIp(it), DestinationPorts(first, second), ServerName(it),
        Authenticated(it), PeerIp(it), RemoteIp(it), Claim(it),
    }
    Cel {
        Null, Bool(it), Int(it), Uint(it), Double(it), Text(it), Bytes(it), Ident(it), Select(it), Call(it),
        List(it), Map(it), Fold(it),
    }
    BodyChange { AsBefore, Without, Instead(it) }
    ExternalService { Http(it), Grpc(it) }
    HostRates { Override, Include, Ignore }
    DescriptorPart {
        SourceCluster(it), DestinationCluster, Header { name, key, skips },
        QueryParameter { name, key, skips }, RemoteAddress, MaskedRemoteAddress { v4_bits, v6_bits },
        Literal { key, value }, Headers { key, value, expects, tests },
        Query { key, value, expects, tests }, AddressMatch { key, value, default, networks, inverts },
        Claim { key, path, default, skips },
    }
    DescribedHeader { Own(it), Pseudo { which, test, inverts } }
    HitCount { Number(it), Format(it) }
    PseudoHeader { Method, Scheme, Authority, Path }
    RateRequests { Internal, External }
    QuotaAlgorithm {
        TokenBucket { requests, window, burst }, FixedWindow { requests, window },
        SlidingWindow { requests, window },
    }
    QuotaKey { Address { ipv6_bits }, Header(it), Cookie(it), Path, Method, Claim(it), Session }
    Lacking { Uncounted, Together }
    Credentials { Keys(it), Passwords { file, hashes } }
    KeyPlace { Header(it), Query(it), Cookie(it) }
    KeySource { File(it), Sha256 { client, hash }, Key { client, key } }
    Hashes { Sha1, All }
    Coder { Gzip { level, window_bits }, Brotli { quality, window_bits }, Zstd { level, has_checksum } }
    OnEtag { Remove, Weaken, Leave }
    ContentCoding { Gzip, Brotli, Zstd }
    Links { Refused, Within, Followed }
    DataSource { File(it), Inline(it), Environment(it) }
}

impl Said for RbacPolicy {
    fn say(&self) -> Json {
        let RbacPolicy { name, origin: _, permissions, principals, condition } = self;
        object(vec![
            ("name", name.say()),
            ("permissions", permissions.say()),
            ("principals", principals.say()),
            ("condition", condition.say()),
        ])
    }

    fn hear(said: Json) -> Result<RbacPolicy, Wrong> {
        let mut fields = Fields::of(said)?;
        let policy = RbacPolicy {
            name: fields.take("name")?,
            origin: String::new(),
            permissions: fields.take("permissions")?,
            principals: fields.take("principals")?,
            condition: fields.take("condition")?,
        };
        fields.finish()?;
        Ok(policy)
    }
}

/// Where a policy is written is not said.
pub(super) fn forget_origins(change: &mut GateChange) {
    if let GateChange::Instead(check) | GateChange::Also(check) = change {
        forget_origins_of(check);
    }
}

fn forget_origins_of(check: &mut Check) {
    let rules = match &mut check.kind {
        CheckKind::Rbac(said) => [said.rules.as_mut(), said.shadow.as_mut()],
        CheckKind::External(said) => [said.only_for.as_mut(), None],
        _ => return,
    };
    for policy in rules.into_iter().flatten().flat_map(|rules| &mut rules.policies) {
        policy.origin.clear();
    }
}
