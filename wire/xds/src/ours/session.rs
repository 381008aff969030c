//! Logins, what proxies share, and what is given up under load, as it is said.

use naru_spec::{
    AccessTokens, ClientAuthentication, CountPlace, Leases, OidcClaim, OidcEndpoints, OidcLogin, OidcSite,
    Redis, RedisTls, RefreshTokens, Seal, SessionAlgorithm, SessionAuth, SessionClaim, SessionKeys,
    SessionStore, Shed, ShedRule, Store, StorePlace, StoreUse, Surge, SurgeLevel, SurgeSignal, SurgeStep,
    SurgeThreshold, WithoutStore,
};

structs! {
    SessionAuth {
        name, hosts, issuer, audiences, login_paths, oidc, subject_header, claims, refresh_path,
        logout_path, jwks_path, protected, public, keys, access, refresh, is_transparent, origins, store,
    }
    SessionClaim { claim, header }
    SessionKeys { algorithm, rotate_every, grace }
    AccessTokens { lifetime, skew, is_forwarded, cookie, to_headers }
    RefreshTokens { cookie, cookie_path, cookie_domain, lifetime, reuse_interval }
    SessionStore { place, seal, timeout, poll_every, revoked_max }
    OidcLogin {
        issuer, client_id, secret, client_authentication, scopes, callback_path, start_path, origin,
        subject, claims, endpoints, parameters, timeout, logs_out_there, after_logout, sites,
    }
    OidcClaim { claim, name }
    OidcEndpoints { authorization, token, jwks, end_session }
    OidcSite { is_tls, host, port, cluster }
    Store { name, place }
    Redis { nodes, is_cluster, tls, user, password }
    Leases { members, secret, lease }
    RedisTls { authority }
    StoreUse { name, timeout, otherwise, proxies }
    Surge { every, capacity, levels }
    SurgeLevel { name, enter, leave, enter_after, leave_after, steps }
    SurgeThreshold { signal, value }
    Shed { rules }
    ShedRule { from_level, blocks, share, retry_after }
}

enums! {
    SessionAlgorithm { Es256, EdDsa }
    StorePlace { Directory(it), Redis { urls, prefix } }
    Seal { Beside, Given(it) }
    ClientAuthentication { Either, Basic, Post }
    CountPlace { Redis(it), Leases(it) }
    WithoutStore { Allow, Refuse, Local }
    SurgeStep {
        CacheLifetime { class, percent }, RateLimit { quotas, percent },
        Shed { blocks, share, retry_after }, Pause { workload }, Replicas { workload, percent, max },
    }
    SurgeSignal { Requests, P95, P99, Errors, Cpu, Memory, Queued, CacheMisses }
}
