//! Login sessions of gateways: what `SessionAuth` documents mean.
//!
//! One is for all servers of its Gateway that speak HTTP, or for some of their hosts. Servers that lead all their clients to HTTPS ask for no token.

mod login;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use naru_resource::session_auth::{self as said, SessionAuthSpec};
use naru_resource::{Flag, Gateway, Place, Resources, Seconds, Text, Texts};
use naru_spec::{
    Cluster, DataSource, Domain, Listener, Path, Seal, SessionAlgorithm, SessionAuth, SessionClaim, Severity,
    StorePlace, TlsRequirement, code, defaults,
};

use crate::findings::Findings;
use crate::identity::passes_through;
use crate::routes::is_gateway;

#[derive(Debug, Default)]
pub(crate) struct Sessions<'a> {
    of_gateways: Vec<(&'a Gateway, &'a said::SessionAuth, Arc<SessionAuth>)>,
}

impl<'a> Sessions<'a> {
    pub fn of(resources: &'a Resources, findings: &mut Findings<'_>) -> Sessions<'a> {
        let mut sessions = Sessions::default();
        for written in &resources.session_auths {
            let Some(gateway) = gateway_of(written, resources, findings) else { continue };
            let auth = read(written, findings);
            check_hosts(written, gateway, resources, findings);
            check_paths(written, &auth, findings);
            let of_same = sessions.of_gateways.iter().filter(|(known, ..)| std::ptr::eq(*known, gateway));
            let is_twice = |other: &SessionAuth| {
                auth.hosts.is_empty() && other.hosts.is_empty()
                    || auth.hosts.iter().any(|host| other.hosts.contains(host))
            };
            if let Some((_, before, _)) = of_same.into_iter().find(|(_, _, other)| is_twice(other)) {
                let other = findings.locate(before.meta.name.place);
                let message =
                    format!("two documents are for the same hosts of this Gateway: the other is {other}");
                let path = Path::ROOT.field("spec.targetRef");
                let hint = "join them, or say hosts";
                findings.error(code::CONFLICT, written.meta.name.place, &path, message, hint);
            }
            sessions.of_gateways.push((gateway, written, Arc::new(auth)));
        }
        sessions
    }

    /// Those that lead to providers.
    pub fn clusters(&self) -> Vec<Cluster> {
        self.of_gateways.iter().flat_map(|(_, written, auth)| login::clusters(written, auth)).collect()
    }

    /// Changes a listener of these gateways.
    pub fn change(&self, gateways: &[&Gateway], listener: &mut Listener, findings: &mut Findings<'_>) {
        let of = |gateway: &Gateway| -> Vec<&(&'a Gateway, &'a said::SessionAuth, Arc<SessionAuth>)> {
            self.of_gateways.iter().filter(|(known, ..)| std::ptr::eq(*known, gateway)).collect()
        };
        let Some(all) = gateways.iter().map(|gateway| of(gateway)).find(|all| !all.is_empty()) else {
            return;
        };
        let names = |all: &[&(&Gateway, &said::SessionAuth, Arc<SessionAuth>)]| -> Vec<String> {
            all.iter().map(|(_, _, auth)| auth.name.clone()).collect()
        };
        if let Some((_, written, _)) = all.first()
            && gateways.iter().any(|gateway| names(&of(gateway)) != names(&all))
        {
            let message = format!("gateways at {} have different sessions, and share it", listener.address);
            let path = Path::ROOT.field("spec.targetRef");
            findings.error(code::CONFLICT, written.meta.name.place, &path, message, "use two ports");
        }
        let auths: Vec<Arc<SessionAuth>> = all.iter().map(|(_, _, auth)| Arc::clone(auth)).collect();
        for chain in listener.chains.iter_mut().filter(|chain| chain.tcp.is_none()) {
            let hosts = &chain.http.routes.virtual_hosts;
            if hosts.is_empty() || hosts.iter().any(|host| host.tls == TlsRequirement::None) {
                chain.http.sessions.clone_from(&auths);
            }
            let domains = hosts.iter().flat_map(|host| &host.domains);
            for (_, written, auth) in &all {
                let open = domains.clone().find(|domain| is_left_open(domain, auth, &auths));
                if let (Some(domain), Some(host)) = (open, written.spec.hosts.first()) {
                    let message = format!(
                        "routes for '{domain}' take requests for these hosts, and for others that nobody is asked \
                         for a token at: whoever writes another host comes past the sessions"
                    );
                    let hint = "name the hosts of the routes (hosts of a server or a VirtualService), or add a \
                                SessionAuth without hosts";
                    let path = Path::ROOT.field("spec.hosts");
                    findings.error(code::INVALID_VALUE, host.place, &path, message, hint);
                }
            }
        }
    }
}

/// Routes of this domain lead to what is behind sessions, by hosts that have none.
fn is_left_open(domain: &Domain, auth: &SessionAuth, all: &[Arc<SessionAuth>]) -> bool {
    let covers = |host: &Domain| match (host, domain) {
        (Domain::Any, _) => true,
        (Domain::Suffix(suffix), Domain::Suffix(own)) => own.ends_with(suffix.as_str()),
        (Domain::Prefix(prefix), Domain::Prefix(own)) => own.starts_with(prefix.as_str()),
        (host, Domain::Exact(name)) => host.takes(without_port(name)),
        (host, domain) => host == domain,
    };
    let is_covered = all.iter().any(|auth| auth.hosts.is_empty() || auth.hosts.iter().any(covers));
    let meets = |host: &Domain| match (host, domain) {
        (_, Domain::Exact(_)) => false,
        (Domain::Exact(name), domain) => domain.takes(name),
        (Domain::Suffix(suffix), Domain::Suffix(own)) => suffix.ends_with(own.as_str()),
        (Domain::Prefix(prefix), Domain::Prefix(own)) => prefix.starts_with(own.as_str()),
        // A prefix and a suffix may meet in some host.
        _ => true,
    };
    !is_covered && auth.hosts.iter().any(meets)
}

fn without_port(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => name,
    }
}

fn gateway_of<'a>(
    written: &said::SessionAuth,
    resources: &'a Resources,
    findings: &mut Findings<'_>,
) -> Option<&'a Gateway> {
    let target = &written.spec.target_ref;
    let path = Path::ROOT.field("spec.targetRef");
    if target.kind.value != "Gateway" {
        let message = format!("a SessionAuth is for a Gateway, not for a {}", target.kind.value);
        let path = path.field("kind");
        findings.error(code::INVALID_VALUE, target.kind.place, &path, message, "kind: Gateway");
        return None;
    }
    if let Some(section) = &target.section_name {
        let message = "a SessionAuth is for all servers of a Gateway that speak HTTP";
        let path = path.field("sectionName");
        findings.error(code::UNSUPPORTED_FIELD, section.place, &path, message, "remove it");
    }
    let namespace = written.meta.namespace();
    let is_it = |gateway: &&Gateway| {
        gateway.meta.name.value == target.name.value && gateway.meta.namespace() == namespace
    };
    let gateway = resources.gateways.iter().find(is_it);
    if gateway.is_none() {
        let message = format!("there is no Gateway '{}' in namespace {namespace}", target.name.value);
        findings.error(code::UNKNOWN_REFERENCE, target.name.place, &path.field("name"), message, "");
    }
    gateway
}

/// Whether people log in at a Gateway, at any of its hosts.
pub(crate) fn are_at(gateway: &Gateway, resources: &Resources) -> bool {
    resources.session_auths.iter().any(|written| {
        let target = &written.spec.target_ref;
        target.kind.value == "Gateway"
            && target.name.value == gateway.meta.name.value
            && written.meta.namespace() == gateway.meta.namespace()
    })
}

/// A host that nobody can ask for is most often misspelt: the one that was meant is open to everybody. One of which no
/// host can be asked for keeps nobody out, and is an error as a policy that is for no Gateway.
fn check_hosts(
    written: &said::SessionAuth,
    gateway: &Gateway,
    resources: &Resources,
    findings: &mut Findings<'_>,
) {
    let path = Path::ROOT.field("spec");
    let name = &gateway.meta.name.value;
    let servers: Vec<_> = gateway.spec.servers.iter().filter(|server| !passes_through(server)).collect();
    if servers.is_empty() && !gateway.spec.servers.is_empty() {
        let message =
            format!("no server of the Gateway '{name}' speaks HTTP, and nobody is asked for a token");
        let target = &written.spec.target_ref.name;
        let hint = "a SessionAuth is for servers of HTTP, and of HTTPS that ends here";
        findings.error(code::NO_EFFECT, target.place, &path.field("targetRef.name"), message, hint);
        return;
    }
    let served: Vec<&str> = servers.iter().flat_map(|server| &server.hosts).map(host_of).collect();
    let full = (gateway.meta.namespace(), name.as_str());
    let services = resources.virtual_services.iter().filter(|service| {
        let is_named = match &service.bound {
            Some(bound) => (bound.namespace.as_str(), bound.gateway.as_str()) == full,
            None => {
                let owner = service.meta.namespace();
                !gateway.is_api && service.spec.gateways.iter().any(|said| is_gateway(said, owner, full))
            }
        };
        is_named && !service.spec.http.is_empty()
    });
    let routed: Vec<&str> = services.flat_map(|service| &service.spec.hosts).map(host_of).collect();
    let mut missed = Vec::new();
    for (at, host) in written.spec.hosts.iter().enumerate() {
        let Ok(domain) = Domain::parse(host) else { continue };
        let is_among = |all: &[&str]| all.iter().any(|other| meets(&domain, other));
        if !served.is_empty() && !is_among(&served) {
            missed.push((
                at,
                host,
                format!("the Gateway '{name}' has no server for '{}'", host.value),
                &served,
            ));
        } else if !routed.is_empty() && !is_among(&routed) {
            missed.push((
                at,
                host,
                format!("the Gateway '{name}' has no route for '{}'", host.value),
                &routed,
            ));
        }
    }
    let severity = if missed.len() == written.spec.hosts.len() { Severity::Error } else { Severity::Warning };
    for (at, host, message, known) in missed {
        let message = format!("{message}, and nobody is asked for a token by it");
        let mut known = known.clone();
        known.sort_unstable();
        known.dedup();
        let hint =
            format!("the hosts there are {}; one that no SessionAuth is for is open", known.join(", "));
        findings.tell(severity, code::NO_EFFECT, host.place, &path.field("hosts").at(at), message, hint);
    }
}

/// A server's host may have a namespace before it.
fn host_of(written: &Text) -> &str {
    written.rsplit('/').next().unwrap_or_default()
}

/// Whether some host is one of both.
fn meets(domain: &Domain, other: &str) -> bool {
    match (domain, Domain::parse(other)) {
        (Domain::Exact(name), Ok(Domain::Exact(other))) => without_port(name) == without_port(&other),
        (Domain::Exact(name), Ok(pattern)) => pattern.takes(without_port(name)),
        (pattern, Ok(Domain::Exact(name))) => pattern.takes(without_port(&name)),
        (Domain::Suffix(one), Ok(Domain::Suffix(other))) => one.ends_with(&other) || other.ends_with(one),
        (Domain::Prefix(one), Ok(Domain::Prefix(other))) => one.starts_with(&other) || other.starts_with(one),
        // A prefix and a suffix may meet in some host; what cannot be a host is told elsewhere.
        _ => true,
    }
}

/// What is public is left open, whatever is protected around it.
fn check_paths(written: &said::SessionAuth, auth: &SessionAuth, findings: &mut Findings<'_>) {
    let is_below = |path: &str, prefix: &str| {
        let (path, prefix) = (path.trim_end_matches('/'), prefix.trim_end_matches('/'));
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let spec = &written.spec;
    let path = Path::ROOT.field("spec");
    let hint = "public stands above protect: name there what is left open of what is protected";
    for (at, protected) in spec.protect.iter().enumerate() {
        if let Some(public) = spec.public.iter().find(|public| is_below(protected, public)) {
            let message =
                format!("nobody is asked for a token at '{}': '{}' is public", protected.value, public.value);
            findings.warning(code::NO_EFFECT, protected.place, &path.field("protect").at(at), message, hint);
        }
    }
    // Where nothing is said, everything is protected.
    let all = spec
        .public
        .iter()
        .enumerate()
        .find(|(_, public)| auth.protected.iter().all(|own| is_below(own, public)));
    if let Some((at, public)) = all.filter(|_| spec.protect.is_empty()) {
        let message = "everything is public: nobody is asked for a token";
        findings.warning(code::NO_EFFECT, public.place, &path.field("public").at(at), message, hint);
    }
}

fn read(written: &said::SessionAuth, findings: &mut Findings<'_>) -> SessionAuth {
    let spec = &written.spec;
    let path = Path::ROOT.field("spec");
    let (place, seal) = store(&spec.store, &path.field("store"), findings);
    let mut auth = SessionAuth::new(written.meta.full_name(), place, seal);
    let of_hosts = path.field("hosts");
    for (at, host) in spec.hosts.iter().enumerate() {
        match Domain::parse(host) {
            Ok(domain) => auth.hosts.push(domain),
            Err(invalid) => {
                findings.error(
                    code::INVALID_VALUE,
                    host.place,
                    &of_hosts.at(at),
                    invalid.message,
                    &invalid.hint,
                );
            }
        }
    }
    set(&mut auth.issuer, &spec.issuer);
    auth.audiences = texts(&spec.audiences);
    auth.login_paths = texts(&spec.login.paths);
    let login = path.field("login");
    if let Some(name) = &spec.login.subject_header
        && let Some(header) = header(name, &login.field("subjectHeader"), findings)
    {
        auth.subject_header = header;
    }
    auth.claims = claims(&spec.login.claims, &login.field("claims"), findings);
    if let Some(said) = &spec.login.oidc {
        let oidc = login::read(said, &auth.name, &login.field("oidc"), findings);
        auth.oidc = Some(Box::new(oidc));
        // Browsers bring cookies, and nothing else.
        auth.access.cookie = Some(defaults::OIDC_ACCESS_COOKIE.to_owned());
        auth.refresh.cookie_path = "/".to_owned();
        auth.is_transparent = true;
    }
    if let Some(said) = &spec.refresh {
        auth.refresh_path.clone_from(&said.path.value);
        if auth.oidc.is_none() {
            auth.refresh.cookie_path.clone_from(&said.path.value);
        }
    }
    if let Some(said) = &spec.logout {
        auth.logout_path.clone_from(&said.path.value);
    }
    if let Some(said) = &spec.jwks {
        set(&mut auth.jwks_path, &said.path);
        if is_on(&said.disabled, false) {
            auth.jwks_path.clear();
        }
    }
    if !spec.protect.is_empty() {
        auth.protected = texts(&spec.protect);
    }
    auth.public = texts(&spec.public);
    if let Some(said) = &spec.keys {
        time(&mut auth.keys.rotate_every, &said.rotate_every);
        time(&mut auth.keys.grace, &said.grace);
        auth.keys.algorithm = match said.algorithm.map(|algorithm| algorithm.value) {
            None | Some(said::SessionAlgorithm::Es256) => SessionAlgorithm::Es256,
            Some(said::SessionAlgorithm::EdDsa) => SessionAlgorithm::EdDsa,
        };
    }
    if let Some(said) = &spec.access_token {
        time(&mut auth.access.lifetime, &said.lifetime);
        time(&mut auth.access.skew, &said.clock_skew);
        auth.access.is_forwarded = is_on(&said.forward, true);
        auth.access.cookie = said.cookie.as_ref().map(|cookie| cookie.value.clone()).or(auth.access.cookie);
        let path = path.field("accessToken").field("claimsToHeaders").to_string();
        auth.access.to_headers = claims(&said.claims_to_headers, &Path::ROOT.field(&path), findings);
    }
    if let Some(said) = &spec.refresh_token {
        set(&mut auth.refresh.cookie, &said.cookie);
        set(&mut auth.refresh.cookie_path, &said.cookie_path);
        // What needs the cookie everywhere is not what somebody wants who says where it goes.
        auth.is_transparent &= auth.refresh.cookie_path == "/";
        auth.refresh.cookie_domain = said.domain.as_ref().map(|domain| domain.value.clone());
        time(&mut auth.refresh.lifetime, &said.lifetime);
        time(&mut auth.refresh.reuse_interval, &said.reuse_interval);
    }
    auth.is_transparent = is_on(&spec.transparent_refresh, auth.is_transparent);
    auth.origins = spec.cors.as_ref().map(|said| texts(&said.allow_origins)).unwrap_or_default();
    time(&mut auth.store.timeout, &spec.store.timeout);
    time(&mut auth.store.poll_every, &spec.store.poll_every);
    if let Some(max) = &spec.store.revoked_max {
        auth.store.revoked_max = usize::try_from(max.value).unwrap_or(0);
    }
    for (field, invalid) in auth.problems() {
        let place = place_of(spec, field);
        findings.error(code::INVALID_VALUE, place, &path.field(field), invalid.message, invalid.hint);
    }
    auth
}

fn store(said: &said::SessionStore, path: &Path<'_>, findings: &mut Findings<'_>) -> (StorePlace, Seal) {
    let seal = match &said.seal {
        None => Seal::Beside,
        Some(seal) => secret(seal, &path.field("seal"), findings).map_or(Seal::Beside, Seal::Given),
    };
    let place = match (&said.directory, &said.redis) {
        (Some(directory), None) => StorePlace::Directory(directory.value.clone()),
        (None, Some(redis)) => StorePlace::Redis {
            urls: texts(&redis.urls),
            prefix: redis.prefix.as_ref().map_or("naru", |prefix| &prefix.value).to_owned(),
        },
        (directory, _) => {
            let (message, code) = match directory {
                Some(_) => ("sessions are kept in one place", code::CONFLICTING_FIELDS),
                None => ("sessions have to be kept somewhere", code::MISSING_FIELD),
            };
            findings.error(code, said.place, path, message, "directory: /var/lib/naru/sessions, or redis");
            StorePlace::Directory("-".to_owned())
        }
    };
    if let StorePlace::Redis { urls, .. } = &place {
        let is_known = |url: &&String| {
            url.starts_with("redis://") || url.starts_with("rediss://") || url.starts_with("unix:")
        };
        if urls.iter().any(|url| !is_known(&url)) {
            let place = said.redis.as_ref().map_or(said.place, |redis| redis.place);
            // The text may have a password.
            let message = "an address of Redis begins with redis://, rediss:// or unix:";
            findings.error(code::INVALID_VALUE, place, &path.field("redis").field("urls"), message, "");
        }
    }
    (place, seal)
}

fn secret(said: &said::SessionSecret, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<DataSource> {
    match (&said.file, &said.environment) {
        (Some(file), None) => Some(DataSource::File(file.value.clone())),
        (None, Some(name)) => Some(DataSource::Environment(name.value.clone())),
        _ => {
            let message = "exactly one of file and environment is needed";
            findings.error(code::CONFLICTING_FIELDS, said.place, path, message, "");
            None
        }
    }
}

/// Where something is said, or might have been.
fn place_of(spec: &SessionAuthSpec, field: &str) -> Place {
    let keys = spec.keys.as_ref().map(|said| said.place);
    let access = spec.access_token.as_ref().map(|said| said.place);
    let refresh = spec.refresh_token.as_ref().map(|said| said.place);
    let first = |texts: &Texts| texts.first().map(|text| text.place);
    let place = match field {
        "login.paths" => first(&spec.login.paths).or(Some(spec.login.place)),
        "login.claims" => Some(spec.login.place),
        "refresh.path" => spec.refresh.as_ref().map(|said| said.path.place),
        "logout.path" => spec.logout.as_ref().map(|said| said.path.place),
        "jwks.path" => spec.jwks.as_ref().map(|said| said.place),
        "protect" => first(&spec.protect),
        "public" => first(&spec.public),
        "transparentRefresh" => spec.transparent_refresh.as_ref().map(|said| said.place),
        "cors.allowOrigins" => spec.cors.as_ref().map(|said| said.place),
        field if field.starts_with("login.oidc.") => {
            spec.login.oidc.as_ref().map(|said| login::place_of(said, field)).or(Some(spec.login.place))
        }
        field if field.starts_with("keys.") => keys,
        field if field.starts_with("accessToken.") => access,
        field if field.starts_with("refreshToken.") => refresh,
        _ => Some(spec.store.place),
    };
    place.unwrap_or(spec.place)
}

fn claims(said: &[said::SessionClaim], path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<SessionClaim> {
    let mut claims = Vec::new();
    for (at, one) in said.iter().enumerate() {
        if let Some(header) = header(&one.header, &path.at(at).field("header"), findings) {
            claims.push(SessionClaim { claim: one.claim.value.clone(), header });
        }
    }
    claims
}

fn header(name: &Text, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<HeaderName> {
    let header = name.value.parse().ok();
    if header.is_none() {
        let message = format!("'{}' is no name of a header", name.value);
        findings.error(code::INVALID_VALUE, name.place, path, message, "");
    }
    header
}

fn texts(said: &Texts) -> Vec<String> {
    said.iter().map(|text| text.value.clone()).collect()
}

fn set(setting: &mut String, said: &Option<Text>) {
    if let Some(said) = said {
        setting.clone_from(&said.value);
    }
}

fn time(setting: &mut Duration, said: &Option<Seconds>) {
    if let Some(said) = said {
        *setting = said.value;
    }
}

fn is_on(flag: &Option<Flag>, usual: bool) -> bool {
    flag.as_ref().map_or(usual, |flag| flag.value)
}
