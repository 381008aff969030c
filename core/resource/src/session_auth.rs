//! Our own `SessionAuth`: login sessions of a `Gateway`.

use crate::traffic_policy::TargetRef;
use crate::{Flag, Meta, Number, Place, Placed, Seconds, Text, Texts};

objects! {
    SessionAuth {
        meta: Meta,
        spec: SessionAuthSpec,
    }

    SessionAuthSpec {
        /// A Gateway.
        target_ref: TargetRef,
        /// Of its hosts these; without any, all that no other one is for.
        hosts: Texts,
        issuer: Option<Text>,
        audiences: Texts,
        login: SessionLogin,
        refresh: Option<SessionPath>,
        logout: Option<SessionPath>,
        jwks: Option<SessionJwks>,
        /// Everything, where nothing is said.
        protect: Texts,
        public: Texts,
        keys: Option<SessionKeys>,
        access_token: Option<SessionAccess>,
        refresh_token: Option<SessionRefresh>,
        transparent_refresh: Option<Flag>,
        cors: Option<SessionCors>,
        store: SessionStore,
    }

    SessionLogin {
        paths: Texts,
        subject_header: Option<Text>,
        claims: Vec<SessionClaim>,
        oidc: Option<SessionOidc>,
    }

    /// A provider of OpenID Connect.
    SessionOidc {
        issuer: Text,
        client_id: Text,
        /// None of a public client.
        client_secret: Option<SessionSecret>,
        client_authentication: Option<Placed<OidcClientAuthentication>>,
        scopes: Texts,
        callback_path: Option<Text>,
        start_path: Option<Text>,
        /// What browsers know the gateway by.
        origin: Option<Text>,
        subject_claim: Option<Text>,
        claims: Vec<OidcClaim>,
        /// Where nothing is looked up.
        endpoints: Option<OidcEndpoints>,
        /// Where the provider may be asked beside the host of its issuer.
        hosts: Texts,
        /// A file of authorities that the provider's certificates are checked against.
        ca_certificates: Option<Text>,
        parameters: Vec<(Text, Text)>,
        timeout: Option<Seconds>,
        logout_at_provider: Option<Flag>,
        after_logout: Option<Text>,
    }

    OidcClaim {
        claim: Text,
        /// What it is called in our tokens; the same where nothing is said.
        name: Option<Text>,
    }

    OidcEndpoints {
        authorization: Text,
        token: Text,
        jwks: Text,
        end_session: Option<Text>,
    }

    /// One of both.
    SessionSecret {
        file: Option<Text>,
        environment: Option<Text>,
    }

    SessionClaim {
        claim: Text,
        header: Text,
    }

    SessionPath {
        path: Text,
    }

    SessionJwks {
        path: Option<Text>,
        disabled: Option<Flag>,
    }

    SessionKeys {
        rotate_every: Option<Seconds>,
        grace: Option<Seconds>,
        algorithm: Option<Placed<SessionAlgorithm>>,
    }

    SessionAccess {
        lifetime: Option<Seconds>,
        clock_skew: Option<Seconds>,
        forward: Option<Flag>,
        cookie: Option<Text>,
        claims_to_headers: Vec<SessionClaim>,
    }

    SessionRefresh {
        cookie: Option<Text>,
        cookie_path: Option<Text>,
        domain: Option<Text>,
        lifetime: Option<Seconds>,
        reuse_interval: Option<Seconds>,
    }

    SessionCors {
        allow_origins: Texts,
    }

    /// One of both places.
    SessionStore {
        directory: Option<Text>,
        redis: Option<SessionRedis>,
        seal: Option<SessionSecret>,
        timeout: Option<Seconds>,
        poll_every: Option<Seconds>,
        revoked_max: Option<Number>,
    }

    SessionRedis {
        urls: Texts,
        prefix: Option<Text>,
    }

}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAlgorithm {
    Es256,
    EdDsa,
}

/// How a client with a secret says it (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OidcClientAuthentication {
    Basic,
    Post,
}
