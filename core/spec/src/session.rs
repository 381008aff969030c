//! Login sessions of a gateway: who issues tokens, for how long, and where they are kept.
//!
//! Plain data. What a token is worth is `session`'s question; who signs and stores is the shell's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::{DataSource, Domain, Invalid, OidcLogin, defaults};

/// A field as documents spell it, and what is wrong with it.
pub type SessionFault = (&'static str, Invalid);

#[derive(Clone, Debug, PartialEq)]
pub struct SessionAuth {
    /// Those of the same name share their keys and sessions: `login.dailyfeed`.
    pub name: String,
    /// Of requests to these hosts, whatever their port; without any, of all that no other one is for.
    pub hosts: Vec<Domain>,
    /// The `iss` of tokens.
    pub issuer: String,
    /// The `aud` of tokens; none where it is empty.
    pub audiences: Vec<String>,
    /// POSTs to these paths go to the application, which answers who it is.
    pub login_paths: Vec<String>,
    /// People log in at a provider of OpenID Connect.
    pub oidc: Option<Box<OidcLogin>>,
    /// Where it says so. The client does not see it.
    pub subject_header: HeaderName,
    /// What else it says, and what that is called in tokens.
    pub claims: Vec<SessionClaim>,
    pub refresh_path: String,
    pub logout_path: String,
    /// Where keys are published; nowhere where it is empty.
    pub jwks_path: String,
    /// Below these a token is asked for; `/` is everywhere.
    pub protected: Vec<String>,
    /// And not below these.
    pub public: Vec<String>,
    pub keys: SessionKeys,
    pub access: AccessTokens,
    pub refresh: RefreshTokens,
    /// Safe requests that bring a refresh token with one that has expired are served, and answered with a new pair.
    pub is_transparent: bool,
    /// Origins beside the own one whose pages may read answers and refresh (`https://app.example`).
    pub origins: Vec<String>,
    pub store: SessionStore,
}

/// What the application says in a header, as a claim; or what a claim becomes for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClaim {
    pub claim: String,
    pub header: HeaderName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKeys {
    pub algorithm: SessionAlgorithm,
    pub rotate_every: Duration,
    /// Tokens of the key before are served for so long.
    pub grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAlgorithm {
    Es256,
    EdDsa,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTokens {
    pub lifetime: Duration,
    /// How far clocks may be apart.
    pub skew: Duration,
    /// The application sees the token.
    pub is_forwarded: bool,
    /// Browsers bring the token in this cookie as well, which no script reads.
    pub cookie: Option<String>,
    /// Who it is, for the application: claims of the token as headers. Clients cannot set them.
    pub to_headers: Vec<SessionClaim>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshTokens {
    pub cookie: String,
    pub cookie_path: String,
    pub cookie_domain: Option<String>,
    /// Of a session, from its login on.
    pub lifetime: Duration,
    /// A token that was replaced no longer ago is answered with the one that replaced it.
    pub reuse_interval: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SessionStore {
    pub place: StorePlace,
    /// What is stored is sealed by this, and refresh tokens are. The same for all who share a store.
    pub seal: Seal,
    /// Who waits for the store waits so long.
    pub timeout: Duration,
    /// Between two looks at what others have written.
    pub poll_every: Duration,
    /// Tokens and sessions that are revoked, and have not expired.
    pub revoked_max: usize,
}

#[derive(Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// A directory of this gateway alone.
    Directory(String),
    /// Shared by several.
    Redis {
        /// `redis://` or `rediss://`; several are nodes of one Cluster.
        urls: Vec<String>,
        /// Of all keys there.
        prefix: String,
    },
}

/// A URL may have a password.
impl fmt::Debug for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorePlace::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
            StorePlace::Redis { urls, prefix } => {
                write!(f, "Redis({} addresses, prefix {prefix:?})", urls.len())
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seal {
    /// One that was made beside the store.
    Beside,
    /// At least 32 bytes that nobody can guess.
    Given(DataSource),
}

impl SessionAuth {
    /// The seed's contract, with what it leaves open.
    pub fn new(name: impl Into<String>, place: StorePlace, seal: Seal) -> SessionAuth {
        let poll_every = match place {
            StorePlace::Directory(_) => defaults::SESSION_POLL_ALONE,
            StorePlace::Redis { .. } => defaults::SESSION_POLL,
        };
        SessionAuth {
            name: name.into(),
            issuer: defaults::SESSION_ISSUER.to_owned(),
            hosts: Vec::new(),
            audiences: Vec::new(),
            login_paths: Vec::new(),
            oidc: None,
            subject_header: HeaderName::from_static(defaults::SESSION_SUBJECT_HEADER),
            claims: Vec::new(),
            refresh_path: defaults::SESSION_REFRESH_PATH.to_owned(),
            logout_path: defaults::SESSION_LOGOUT_PATH.to_owned(),
            jwks_path: defaults::SESSION_JWKS_PATH.to_owned(),
            protected: vec!["/".to_owned()],
            public: Vec::new(),
            keys: SessionKeys {
                algorithm: SessionAlgorithm::Es256,
                rotate_every: defaults::SESSION_KEY_ROTATION,
                grace: defaults::SESSION_KEY_GRACE,
            },
            access: AccessTokens {
                lifetime: defaults::SESSION_ACCESS_LIFETIME,
                skew: defaults::SESSION_CLOCK_SKEW,
                is_forwarded: true,
                cookie: None,
                to_headers: Vec::new(),
            },
            refresh: RefreshTokens {
                cookie: defaults::SESSION_COOKIE.to_owned(),
                cookie_path: defaults::SESSION_REFRESH_PATH.to_owned(),
                cookie_domain: None,
                lifetime: defaults::SESSION_LIFETIME,
                reuse_interval: defaults::SESSION_REUSE_INTERVAL,
            },
            is_transparent: false,
            origins: Vec::new(),
            store: SessionStore {
                place,
                seal,
                timeout: defaults::SESSION_STORE_TIMEOUT,
                poll_every,
                revoked_max: defaults::SESSION_REVOKED_MAX,
            },
        }
    }

    /// How near it is to a host; nothing where it is for others.
    pub fn nearness(&self, host: &str) -> Option<(u8, usize)> {
        if self.hosts.is_empty() {
            return Some((0, 0));
        }
        self.hosts.iter().filter(|domain| domain.takes(host)).map(Domain::nearness).max()
    }

    /// Which of several is for requests to a host, as a client says it.
    pub fn of_host(all: &[Arc<SessionAuth>], authority: &str) -> Option<usize> {
        if let [one] = all
            && one.hosts.is_empty()
        {
            return Some(0);
        }
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if is_port(port) => host,
            _ => authority,
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let near = all.iter().enumerate().filter_map(|(at, auth)| Some((auth.nearness(&host)?, at)));
        near.max_by_key(|(nearness, at)| (*nearness, std::cmp::Reverse(*at))).map(|(_, at)| at)
    }

    /// How long a token that is revoked has to be remembered.
    pub fn remembered(&self) -> Duration {
        self.access.lifetime.saturating_add(self.access.skew)
    }

    /// How long a past key is kept.
    pub fn kept(&self) -> Duration {
        self.keys.grace.max(self.remembered())
    }

    pub fn problems(&self) -> Vec<SessionFault> {
        let mut found = Vec::new();
        let mut complain = |field, invalid: Invalid| found.push((field, invalid));
        if self.login_paths.is_empty() && self.oidc.is_none() {
            let hint = "the path that is answered with who it is, as /api/auth/login; or oidc";
            complain("login.paths", Invalid::new("nobody can log in").hint(hint));
        }
        let paths = [
            ("refresh.path", &self.refresh_path),
            ("logout.path", &self.logout_path),
            ("jwks.path", &self.jwks_path),
            ("refresh.cookiePath", &self.refresh.cookie_path),
        ];
        let lists =
            [("login.paths", &self.login_paths), ("protect", &self.protected), ("public", &self.public)];
        let of_lists = lists.iter().flat_map(|(field, paths)| paths.iter().map(|path| (*field, path)));
        for (field, path) in paths.into_iter().chain(of_lists) {
            let is_left_out = field == "jwks.path" && path.is_empty();
            if !is_left_out && !is_path(path) {
                complain(field, Invalid::new(format!("'{path}' is no path")).hint("/ and what follows it"));
            }
        }
        let of_oidc = self.oidc.iter().flat_map(|oidc| [&oidc.callback_path, &oidc.start_path]);
        let of_oidc = of_oidc.filter(|path| !path.is_empty());
        let mut own: Vec<&String> = self
            .login_paths
            .iter()
            .chain([&self.refresh_path, &self.logout_path, &self.jwks_path])
            .chain(of_oidc)
            .collect();
        own.sort_unstable();
        if let Some([twice, _]) = own.windows(2).find(|pair| matches!(pair, [one, other] if one == other)) {
            let of_oidc =
                |path: fn(&OidcLogin) -> &String| self.oidc.as_ref().is_some_and(|oidc| path(oidc) == *twice);
            let field = match () {
                () if of_oidc(|oidc| &oidc.start_path) => "login.oidc.startPath",
                () if of_oidc(|oidc| &oidc.callback_path) => "login.oidc.callbackPath",
                () => "refresh.path",
            };
            complain(field, Invalid::new(format!("'{twice}' is asked for two things")));
        }
        let second = Duration::from_secs(1);
        for (field, time) in [
            ("keys.rotateEvery", self.keys.rotate_every),
            ("accessToken.lifetime", self.access.lifetime),
            ("refreshToken.lifetime", self.refresh.lifetime),
        ] {
            if time < second || time > defaults::SESSION_TIME_MAX {
                complain(field, Invalid::new(format!("{time:?} is not between a second and ten years")));
            }
        }
        for (field, time) in [
            ("keys.grace", self.keys.grace),
            ("accessToken.clockSkew", self.access.skew),
            ("refreshToken.reuseInterval", self.refresh.reuse_interval),
        ] {
            if time > defaults::SESSION_TIME_MAX {
                complain(field, Invalid::new(format!("{time:?} is more than ten years")));
            }
        }
        if self.refresh.lifetime < self.access.lifetime {
            let message = "a session ends before the token that is issued with it";
            complain("refreshToken.lifetime", Invalid::new(message));
        }
        for (field, time) in
            [("store.timeout", self.store.timeout), ("store.pollEvery", self.store.poll_every)]
        {
            let least = Duration::from_millis(10);
            if time < least || time > Duration::from_secs(60) {
                complain(field, Invalid::new(format!("{time:?} is not between 10 ms and 60 s")));
            }
        }
        if self.store.revoked_max == 0 || self.store.revoked_max > defaults::SESSION_REVOKED_BOUND {
            let message = format!("not between 1 and {}", defaults::SESSION_REVOKED_BOUND);
            complain("store.revokedMax", Invalid::new(message));
        }
        if !is_token(&self.refresh.cookie) {
            let message = format!("'{}' is no name of a cookie", self.refresh.cookie);
            complain("refreshToken.cookie", Invalid::new(message));
        }
        if let Some(cookie) = &self.access.cookie {
            if !is_token(cookie) {
                let message = format!("'{cookie}' is no name of a cookie");
                complain("accessToken.cookie", Invalid::new(message));
            } else if *cookie == self.refresh.cookie {
                let message = "the refresh token is called that";
                complain("accessToken.cookie", Invalid::new(message));
            }
        }
        if self.oidc.is_some() && self.access.cookie.is_none() {
            let message = "a browser that comes back from the provider has nothing to show but a cookie";
            complain("accessToken.cookie", Invalid::new(message));
        }
        if let Some(domain) = &self.refresh.cookie_domain
            && (domain.is_empty() || !domain.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)))
        {
            complain("refreshToken.domain", Invalid::new(format!("'{domain}' is no domain")));
        }
        let covers = |path: &str| is_below(path, &self.refresh.cookie_path);
        if !covers(&self.refresh_path) {
            let message =
                format!("no browser sends a cookie of {} to {}", self.refresh.cookie_path, self.refresh_path);
            complain("refreshToken.cookiePath", Invalid::new(message));
        } else if self.is_transparent && self.refresh.cookie_path != "/" {
            let message = "requests are refreshed only where the browser sends the cookie with them";
            complain("transparentRefresh", Invalid::new(message).hint("refreshToken.cookiePath: /"));
        }
        for origin in &self.origins {
            let is_one = origin.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['/', '*', '@', ' '])
            });
            if !is_one {
                let message = format!("'{origin}' is no origin");
                complain(
                    "cors.allowOrigins",
                    Invalid::new(message).hint("as https://app.example, without a path"),
                );
            }
        }
        for claim in self.claims.iter().filter(|claim| is_reserved(&claim.claim)) {
            let message = format!("the claim '{}' is naru's own", claim.claim);
            complain("login.claims", Invalid::new(message));
        }
        if let Some(oidc) = &self.oidc {
            oidc.problems(&mut found);
        }
        let mut complain = |field, invalid: Invalid| found.push((field, invalid));
        if let StorePlace::Redis { urls, .. } = &self.store.place {
            if urls.is_empty() {
                complain("store.redis.urls", Invalid::new("no address"));
            }
            if self.store.seal == Seal::Beside {
                let message = "those who share a store have to share what seals it";
                complain("store.seal", Invalid::new(message).hint("a file of at least 32 bytes at random"));
            }
        }
        if let StorePlace::Directory(path) = &self.store.place
            && path.is_empty()
        {
            complain("store.directory", Invalid::new("no directory"));
        }
        found
    }
}

/// Whether the one path is the other, or below it: by whole segments.
pub fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| (b'!'..=b'~').contains(&b) && !b"?#;\"\\%".contains(&b))
}

/// RFC 9110, section 5.6.2.
pub(crate) fn is_token(name: &str) -> bool {
    let is_known = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_known)
}

/// The claim of an access token that says in which second its session began (a NumericDate).
pub const SESSION_BEGAN: &str = "naru_began";

pub(crate) fn is_reserved(claim: &str) -> bool {
    matches!(claim, "" | "iss" | "sub" | "aud" | "exp" | "nbf" | "iat" | "jti" | "sid" | SESSION_BEGAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> SessionAuth {
        let place = StorePlace::Directory("/var/lib/naru".to_owned());
        let mut auth = SessionAuth::new("default/login", place, Seal::Beside);
        auth.login_paths.push("/api/auth/login".to_owned());
        auth
    }

    #[test]
    fn the_contract_of_the_seed_is_what_holds_where_nothing_is_said() {
        let auth = valid();
        assert_eq!(auth.problems(), []);
        assert_eq!(auth.keys.rotate_every, Duration::from_secs(3_600));
        assert_eq!(auth.refresh_path, "/api/key/refresh");
        assert_eq!(auth.refresh.cookie, "refreshToken");
    }

    #[test]
    fn what_cannot_be_is_told_all_at_once() {
        let fields = |change: &dyn Fn(&mut SessionAuth)| {
            let mut auth = valid();
            change(&mut auth);
            auth.problems().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(fields(&|auth| auth.login_paths.clear()), ["login.paths"]);
        assert_eq!(fields(&|auth| auth.logout_path = "out".into()), ["logout.path"]);
        assert_eq!(fields(&|auth| auth.logout_path = auth.refresh_path.clone()), ["refresh.path"]);
        assert_eq!(fields(&|auth| auth.keys.rotate_every = Duration::ZERO), ["keys.rotateEvery"]);
        assert_eq!(fields(&|auth| auth.refresh.lifetime = Duration::from_secs(5)), ["refreshToken.lifetime"]);
        assert_eq!(fields(&|auth| auth.refresh.cookie = "a b".into()), ["refreshToken.cookie"]);
        assert_eq!(
            fields(&|auth| auth.refresh.cookie_path = "/api/key/re".into()),
            ["refreshToken.cookiePath"]
        );
        assert_eq!(fields(&|auth| auth.is_transparent = true), ["transparentRefresh"]);
        assert_eq!(fields(&|auth| auth.origins.push("https://a/b".into())), ["cors.allowOrigins"]);
        assert_eq!(fields(&|auth| auth.store.revoked_max = 0), ["store.revokedMax"]);
        let redis = StorePlace::Redis { urls: vec![], prefix: "naru".into() };
        assert_eq!(fields(&|auth| auth.store.place = redis.clone()), ["store.redis.urls", "store.seal"]);
        let claim = SessionClaim { claim: "jti".into(), header: http::header::VIA };
        assert_eq!(fields(&|auth| auth.claims.push(claim.clone())), ["login.claims"]);
    }

    #[test]
    fn a_password_in_a_url_is_not_printed() {
        let urls = vec!["redis://:hunter2@cache:6379".to_owned()];
        let place = StorePlace::Redis { urls, prefix: "naru".into() };
        assert!(!format!("{:?}", SessionAuth::new("a", place, Seal::Beside)).contains("hunter2"));
    }

    #[test]
    fn a_path_is_below_another_by_whole_segments() {
        assert!(is_below("/api/key", "/api") && is_below("/api", "/api/") && is_below("/x", "/"));
        assert!(!is_below("/apis", "/api") && !is_below("/", "/api"));
    }
}
