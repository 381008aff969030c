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
        seal: Option<SessionSeal>,
        timeout: Option<Seconds>,
        poll_every: Option<Seconds>,
        revoked_max: Option<Number>,
    }

    SessionRedis {
        urls: Texts,
        prefix: Option<Text>,
    }

    /// One of both.
    SessionSeal {
        file: Option<Text>,
        environment: Option<Text>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAlgorithm {
    Es256,
    EdDsa,
}
