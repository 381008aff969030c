//! Login sessions.

use naru_resource::session_auth::{self as session, OidcClientAuthentication, SessionAlgorithm};

use crate::kind::document;
use crate::read::{record, words};

document!(session::SessionAuth { spec: "spec" });
record!(session::SessionAuthSpec {
    target_ref: "targetRef",
    hosts: "hosts",
    issuer: "issuer",
    audiences: "audiences",
    login: "login",
    refresh: "refresh",
    logout: "logout",
    jwks: "jwks",
    protect: "protect",
    public: "public",
    keys: "keys",
    access_token: "accessToken",
    refresh_token: "refreshToken",
    transparent_refresh: "transparentRefresh",
    cors: "cors",
    store: "store",
});
record!(session::SessionLogin {
    paths: "paths",
    subject_header: "subjectHeader",
    claims: "claims",
    oidc: "oidc",
});
record!(session::SessionOidc {
    issuer: "issuer",
    client_id: "clientId",
    client_secret: "clientSecret",
    client_authentication: "clientAuthentication",
    scopes: "scopes",
    callback_path: "callbackPath",
    start_path: "startPath",
    origin: "origin",
    subject_claim: "subjectClaim",
    claims: "claims",
    endpoints: "endpoints",
    hosts: "hosts",
    ca_certificates: "caCertificates",
    parameters: "parameters",
    timeout: "timeout",
    logout_at_provider: "logoutAtProvider",
    after_logout: "afterLogout",
});
record!(session::OidcClaim { claim: "claim", name: "as" });
record!(session::OidcEndpoints {
    authorization: "authorization",
    token: "token",
    jwks: "jwks",
    end_session: "endSession",
});
record!(session::SessionClaim { claim: "claim", header: "header" });
record!(session::SessionPath { path: "path" });
record!(session::SessionJwks { path: "path", disabled: "disabled" });
record!(session::SessionKeys { rotate_every: "rotateEvery", grace: "grace", algorithm: "algorithm" });
record!(session::SessionAccess {
    lifetime: "lifetime",
    clock_skew: "clockSkew",
    forward: "forward",
    cookie: "cookie",
    claims_to_headers: "claimsToHeaders",
});
record!(session::SessionRefresh {
    cookie: "cookie",
    cookie_path: "cookiePath",
    domain: "domain",
    lifetime: "lifetime",
    reuse_interval: "reuseInterval",
});
record!(session::SessionCors { allow_origins: "allowOrigins" });
record!(session::SessionStore {
    directory: "directory",
    redis: "redis",
    seal: "seal",
    timeout: "timeout",
    poll_every: "pollEvery",
    revoked_max: "revokedMax",
});
record!(session::SessionRedis { urls: "urls", prefix: "prefix" });
record!(session::SessionSecret { file: "file", environment: "environment" });
words!(SessionAlgorithm {
    "ES256" => SessionAlgorithm::Es256,
    "EdDSA" => SessionAlgorithm::EdDsa,
});
words!(OidcClientAuthentication {
    "client_secret_basic" => OidcClientAuthentication::Basic,
    "client_secret_post" => OidcClientAuthentication::Post,
});
