//! Who may come in, and what browsers are told: of `EdgePolicy` documents all that is about requests themselves, and
//! Istio's `corsPolicy`.
//!
//! A policy without a target is for all gateways; what one of a Gateway says stands above it, and above that what one of
//! a VirtualService or of one of its routes says, field by field. Of addresses both are asked: a route may be for fewer
//! than its gateway, and not for more.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method, header};
use ipnet::IpNet;
use naru_base::Fraction;
use naru_resource::edge_policy::{
    EdgeAddresses, EdgeBasicAuth, EdgeCsrf, EdgeGeo, EdgeKeys, EdgePolicy, EdgeSecurityHeaders,
};
use naru_resource::virtual_service::CorsPolicy;
use naru_resource::{Flag, Gateway, Place, Resources, Text, Texts};
use naru_spec::{
    Addresses, ApiKeys, BasicAuth, Check, CheckKind, Cors, Credentials, Csrf, DataSource, Door, GateChange,
    Geo, GeoFact, Hashes, KeyPlace, KeySource, Listener, Path, SecurityHeaders, StringMatch, ValueTest, code,
    defaults,
};

use crate::account::{Account, Idle, Said};
use crate::attached::{self, RouteKey, Target};
use crate::conditions::{self, CONDITIONS};
use crate::findings::Findings;
use crate::matching::string_match;
use crate::registry::Registry;
use crate::tls::{entry, secret};

const CORS_FILTER: &str = "envoy.filters.http.cors";
const ADDRESSES: &str = "addresses";
const CSRF: &str = "csrf";
const API_KEYS: &str = "apiKeys";
const BASIC_AUTH: &str = "basicAuth";
const SECURITY_HEADERS: &str = "securityHeaders";
const GEO: &str = "geo";

/// Headers that say where a message goes and where it ends.
const OF_MESSAGES: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::COOKIE,
];

/// What a policy says of requests. What it turns off is `Some(None)`.
#[derive(Debug, Default)]
struct Asked {
    /// Where each field stands.
    places: BTreeMap<&'static str, Place>,
    addresses: Option<Addresses>,
    geo: Option<Geo>,
    conditions: Option<Vec<Check>>,
    /// By name, what the gate asks.
    checks: BTreeMap<&'static str, Option<CheckKind>>,
}

/// Policies by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Doors<'a> {
    whole: Option<Asked>,
    of_gateways: Vec<(&'a Gateway, Asked)>,
    of_routes: BTreeMap<RouteKey, (Place, Asked)>,
}

impl<'a> Doors<'a> {
    pub fn of(
        resources: &'a Resources,
        registry: &Registry,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) -> Doors<'a> {
        let mut doors = Doors::default();
        for document in &resources.edge_policies {
            let asked = Reader { document, resources, findings }.read();
            let namespace = document.meta.namespace();
            match &document.spec.target_ref {
                // That there are two is told by who reads the rest of it.
                None => doors.whole = Some(asked),
                Some(target) if attached::is_of_routes(&target.kind) => {
                    attached::check_group(target, findings);
                    let target = Target::of(target, "EdgePolicy", namespace, resources, registry, findings);
                    let Some(Target::Route(key)) = target else { continue };
                    let place = document.meta.name.place;
                    if let Some((before, _)) = doors.of_routes.get(&key) {
                        let message = format!(
                            "two documents are for the same routes: the other is {}",
                            findings.locate(*before)
                        );
                        let path = Path::ROOT.field("spec.targetRef");
                        findings.error(code::CONFLICT, place, &path, message, "join them");
                        continue;
                    }
                    for (field, place) in &asked.places {
                        account.expect(Said {
                            place: *place,
                            field,
                            path: format!("spec.{field}"),
                            route: Some(key.clone()),
                            otherwise: Idle::NoHttp,
                        });
                    }
                    doors.of_routes.insert(key, (place, asked));
                }
                Some(target) => {
                    let is_it = |gateway: &&Gateway| {
                        gateway.meta.name.value == target.name.value
                            && gateway.meta.namespace() == namespace
                            && target.kind.value == "Gateway"
                    };
                    doors
                        .of_gateways
                        .extend(resources.gateways.iter().find(is_it).map(|gateway| (gateway, asked)));
                }
            }
        }
        doors
    }

    /// Changes a listener of these gateways. That they have different policies is told by who reads the rest of them.
    pub fn change(&self, gateways: &[&Gateway], listener: &mut Listener, findings: &mut Findings<'_>) {
        let is_of = |(known, _): &&(&Gateway, Asked)| gateways.iter().any(|one| std::ptr::eq(*one, *known));
        let own = self.of_gateways.iter().find(is_of).map(|(_, asked)| asked);
        let all = || own.into_iter().chain(&self.whole);
        if listener.chains.iter().any(|chain| chain.tcp.is_some()) {
            let of_all = self.whole.iter().flat_map(|asked| &asked.places).map(|said| (said, false));
            let of_own = own.iter().flat_map(|asked| &asked.places).map(|said| (said, true));
            for ((field, place), is_own) in of_own.chain(of_all) {
                let message = format!(
                    "'{field}' is asked of requests: connections that {} passes through are not asked",
                    listener.address
                );
                let path = Path::ROOT.field("spec");
                let path = path.field(field);
                let hint = "a Gateway of its own for what is not HTTP";
                if is_own {
                    findings.error(code::UNSUPPORTED_FIELD, *place, &path, message, hint);
                } else {
                    // Of all gateways, the others ask.
                    findings.warning(code::NO_EFFECT, *place, &path, message, "a policy for each Gateway");
                }
            }
        }
        let door = Door {
            addresses: all().find_map(|asked| asked.addresses.clone()).unwrap_or_default(),
            geo: all().find_map(|asked| asked.geo.clone()),
        };
        let door = (door != Door::default()).then(|| Box::new(door));
        let mut checks: BTreeMap<&str, &Option<CheckKind>> = BTreeMap::new();
        for (name, check) in all().flat_map(|asked| &asked.checks) {
            checks.entry(name).or_insert(check);
        }
        for chain in listener.chains.iter_mut().filter(|chain| chain.tcp.is_none()) {
            chain.http.door.clone_from(&door);
            for (name, kind) in &checks {
                if let Some(kind) = kind {
                    chain.http.gate.insert(Check { name: (*name).to_owned(), kind: kind.clone() });
                }
            }
            for check in all().find_map(|asked| asked.conditions.as_ref()).into_iter().flatten() {
                chain.http.gate.insert(check.clone());
            }
        }
    }

    /// What a route says beside its listener, or instead.
    pub fn of_route(&self, keys: &[RouteKey], account: &mut Account) -> Vec<GateChange> {
        let mut changes = Vec::new();
        let mut is_said: BTreeMap<&str, ()> = BTreeMap::new();
        for (_, asked) in keys.iter().filter_map(|key| self.of_routes.get(key)) {
            let mut is_first = |field: &'static str, account: &mut Account| {
                let is_first = is_said.insert(field, ()).is_none();
                if let Some(place) = asked.places.get(field) {
                    account.take_if(is_first, *place, field, Idle::Outdone);
                }
                is_first
            };
            if let Some(addresses) = &asked.addresses
                && is_first(ADDRESSES, account)
            {
                let kind = CheckKind::Addresses(Box::new(addresses.clone()));
                changes.push(GateChange::Also(Check { name: ADDRESSES.to_owned(), kind }));
            }
            if let Some(checks) = &asked.conditions
                && is_first(CONDITIONS, account)
            {
                changes.extend(checks.iter().cloned().map(GateChange::Also));
            }
            for (name, kind) in &asked.checks {
                if !is_first(name, account) {
                    continue;
                }
                changes.push(GateChange::Without((*name).to_owned()));
                changes.extend(
                    kind.clone().map(|kind| GateChange::Also(Check { name: (*name).to_owned(), kind })),
                );
            }
        }
        changes
    }
}

/// Istio's `corsPolicy`, as Istio makes Envoy's of it.
pub(crate) fn cors(said: &CorsPolicy, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<GateChange> {
    let mut origins = Vec::new();
    let of_origins = path.field("allowOrigins");
    for (at, origin) in said.allow_origins.iter().enumerate() {
        let path = of_origins.at(at);
        match string_match(origin, &path, findings) {
            Some(test) => {
                check_origin(&test, origin.place, &path, findings);
                origins.push(test);
            }
            None if findings.has_error_at(origin.place) => {}
            None => {
                let hint = "exact, prefix or regex; exact: '*' is every origin";
                findings.error(code::MISSING_FIELD, origin.place, &path, "an origin needs a value", hint);
            }
        }
    }
    if let Some(old) = said.allow_origin.first() {
        let path = path.field("allowOrigin");
        if said.allow_origins.is_empty() {
            let hint = "write allowOrigins: [{ exact: ... }]";
            findings.warning(
                code::LEGACY_NAME,
                old.place,
                &path,
                "'allowOrigin' is 'allowOrigins' now",
                hint,
            );
            origins.extend(said.allow_origin.iter().map(|origin| StringMatch::exact(origin.value.clone())));
        } else {
            let message = "only one of allowOrigin and allowOrigins can be said";
            findings.error(code::CONFLICTING_FIELDS, old.place, &path, message, "remove allowOrigin");
        }
    }
    if origins.is_empty() && said.allow_origins.is_empty() {
        let hint = "say allowOrigins, or leave corsPolicy out";
        findings.warning(code::NO_EFFECT, said.place, path, "it allows no origin", hint);
    }
    let of_methods = path.field("allowMethods");
    for (at, method) in said.allow_methods.iter().enumerate() {
        let is_one = method.value == "*" || method.parse::<Method>().is_ok();
        if !is_one {
            let message = format!("'{}' is no method", method.value);
            findings.error(code::INVALID_VALUE, method.place, &of_methods.at(at), message, "GET, POST, ...");
        }
    }
    for (field, names) in [("allowHeaders", &said.allow_headers), ("exposeHeaders", &said.expose_headers)] {
        let of_names = path.field(field);
        for (at, name) in names.iter().enumerate() {
            if name.value != "*" && name.parse::<HeaderName>().is_err() {
                let message = format!("'{}' is no name of a header", name.value);
                findings.error(code::INVALID_VALUE, name.place, &of_names.at(at), message, "");
            }
        }
    }
    let forwards_unmatched = match &said.unmatched_preflights {
        None => true,
        Some(word) => match word.value.as_str() {
            "FORWARD" | "UNSPECIFIED" => true,
            "IGNORE" => false,
            _ => {
                let message = format!("'{}' is not one of its values", word.value);
                let path = path.field("unmatchedPreflights");
                findings.error(code::UNKNOWN_VALUE, word.place, &path, message, "FORWARD or IGNORE");
                true
            }
        },
    };
    let max_age = said.max_age.as_ref().map(|age| {
        if age.value.subsec_nanos() > 0 {
            let path = path.field("maxAge");
            findings.error(code::INVALID_VALUE, age.place, &path, "an age is whole seconds", "10s");
        }
        age.value.as_secs().to_string()
    });
    let joined = |names: &Texts| names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(",");
    let cors = Cors {
        methods: joined(&said.allow_methods),
        headers: joined(&said.allow_headers),
        exposed: joined(&said.expose_headers),
        max_age: max_age.unwrap_or_default(),
        credentials: said.allow_credentials.as_ref().is_some_and(|flag| flag.value),
        forwards_unmatched,
        ..Cors::new(origins)
    };
    let kind = CheckKind::Cors(Box::new(cors));
    Some(GateChange::Also(Check { name: CORS_FILTER.to_owned(), kind }))
}

/// An origin has a scheme, and nothing behind its host: one that is written otherwise is none that a browser says.
fn check_origin(test: &StringMatch, place: Place, path: &Path<'_>, findings: &mut Findings<'_>) {
    let ValueTest::Exact(origin) = &test.test else { return };
    let host = origin.split_once("://").map(|(_, host)| host);
    let is_one = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
    if !is_one && origin != "*" && origin != "null" {
        let message = format!("no browser says the origin '{origin}'");
        let hint = "a scheme, a host and perhaps a port: https://shop.example";
        findings.warning(code::INVALID_VALUE, place, &path.field("exact"), message, hint);
    }
}

fn is_on(flag: &Option<Flag>) -> bool {
    flag.as_ref().is_some_and(|flag| flag.value)
}

struct Reader<'f, 'a, 'd> {
    document: &'d EdgePolicy,
    resources: &'d Resources,
    findings: &'f mut Findings<'a>,
}

impl Reader<'_, '_, '_> {
    fn read(mut self) -> Asked {
        let spec = &self.document.spec;
        let path = Path::ROOT.field("spec");
        let mut asked = Asked::default();
        let is_of_route = spec.target_ref.as_ref().is_some_and(|target| attached::is_of_routes(&target.kind));
        let of_gateways = [
            ("connections", spec.connections.as_ref().map(|said| said.place)),
            ("requests", spec.requests.as_ref().map(|said| said.place)),
            ("http2", spec.http2.as_ref().map(|said| said.place)),
            ("overload", spec.overload.as_ref().map(|said| said.place)),
            (GEO, spec.geo.as_ref().map(|said| said.place)),
        ];
        for (field, place) in of_gateways.into_iter().filter(|_| is_of_route) {
            if let Some(place) = place {
                let message = format!("'{field}' is for gateways: it acts before a route is found");
                let hint = "say it in an EdgePolicy for the Gateway, or without a targetRef";
                self.error(code::NO_EFFECT, place, &path.field(field), message, hint);
            }
        }
        if let Some(said) = &spec.addresses {
            asked.places.insert(ADDRESSES, said.place);
            asked.addresses = Some(self.addresses(said, &path.field(ADDRESSES)));
        }
        if let Some(said) = &spec.conditions {
            asked.places.insert(CONDITIONS, said.place);
            asked.conditions = Some(conditions::read(said, &path.field(CONDITIONS), self.findings));
        }
        if let Some(said) = &spec.geo {
            asked.places.insert(GEO, said.place);
            asked.geo = self.geo(said, &path.field(GEO)).filter(|_| !is_of_route);
        }
        if let Some(said) = &spec.csrf {
            asked.places.insert(CSRF, said.place);
            let csrf = self.csrf(said, &path.field(CSRF));
            let kind = (!is_on(&said.disabled)).then(|| CheckKind::Csrf(Box::new(csrf)));
            asked.checks.insert(CSRF, kind);
        }
        if let Some(said) = &spec.api_keys {
            asked.places.insert(API_KEYS, said.place);
            let kind = if is_on(&said.disabled) { None } else { self.keys(said, &path.field(API_KEYS)) };
            asked.checks.insert(API_KEYS, kind);
        }
        if let Some(said) = &spec.basic_auth {
            asked.places.insert(BASIC_AUTH, said.place);
            let kind = if is_on(&said.disabled) { None } else { self.basic(said, &path.field(BASIC_AUTH)) };
            asked.checks.insert(BASIC_AUTH, kind);
        }
        if let Some(said) = &spec.security_headers {
            asked.places.insert(SECURITY_HEADERS, said.place);
            let headers = self.headers(said, &path.field(SECURITY_HEADERS));
            let kind = (!is_on(&said.disabled)).then(|| CheckKind::SecurityHeaders(Box::new(headers)));
            asked.checks.insert(SECURITY_HEADERS, kind);
        }
        asked
    }

    fn error(
        &mut self,
        code: &'static str,
        place: Place,
        path: &Path<'_>,
        message: impl Into<String>,
        hint: &str,
    ) {
        self.findings.error(code, place, path, message.into(), hint);
    }

    fn addresses(&mut self, said: &EdgeAddresses, path: &Path<'_>) -> Addresses {
        let mut read = |texts: &Texts, field: &'static str| -> Vec<IpNet> {
            let path = path.field(field);
            let mut networks = Vec::new();
            for (at, text) in texts.iter().enumerate() {
                let alone = || text.parse::<std::net::IpAddr>().map(IpNet::from).ok();
                match text.parse::<IpNet>().ok().or_else(alone) {
                    Some(network) if network.trunc() != network => {
                        let message = format!("'{}' has bits behind its prefix", text.value);
                        let hint = format!("write {}", network.trunc());
                        self.error(code::INVALID_VALUE, text.place, &path.at(at), message, &hint);
                    }
                    Some(network) => networks.push(network),
                    None => {
                        let message = format!("'{}' is no address and no network", text.value);
                        let hint = "192.0.2.7, 10.0.0.0/8 or 2001:db8::/32";
                        self.error(code::INVALID_VALUE, text.place, &path.at(at), message, hint);
                    }
                }
            }
            networks
        };
        let addresses = Addresses { allow: read(&said.allow, "allow"), deny: read(&said.deny, "deny") };
        if said.allow.is_empty() && said.deny.is_empty() {
            let message = "it allows everybody, and denies nobody";
            self.error(code::MISSING_FIELD, said.place, path, message, "say allow, deny or both");
        }
        addresses
    }

    fn geo(&mut self, said: &EdgeGeo, path: &Path<'_>) -> Option<Geo> {
        let mut headers = Vec::new();
        match &said.headers {
            None => {
                let name = HeaderName::from_static(defaults::COUNTRY_HEADER);
                headers.push((GeoFact::Country, name));
            }
            Some(said) => {
                let path = path.field("headers");
                let all = [
                    (GeoFact::Country, "country", &said.country),
                    (GeoFact::Continent, "continent", &said.continent),
                    (GeoFact::Region, "region", &said.region),
                    (GeoFact::City, "city", &said.city),
                    (GeoFact::Asn, "asn", &said.asn),
                ];
                for (fact, field, name) in all {
                    let Some(name) = name else { continue };
                    let Some(header) = self.header(name, &path.field(field)) else { continue };
                    if headers.iter().any(|(_, known)| *known == header) {
                        let message = format!("'{header}' says something else already");
                        self.error(code::DUPLICATE, name.place, &path.field(field), message, "");
                    }
                    headers.push((fact, header));
                }
                if headers.is_empty() {
                    let message = "it says nothing to anybody";
                    self.error(code::MISSING_FIELD, said.place, &path, message, "country: x-country");
                }
            }
        }
        if said.database.is_empty() {
            let message = "the field 'database' is empty";
            self.error(code::MISSING_FIELD, said.database.place, &path.field("database"), message, "a file");
            return None;
        }
        Some(Geo { database: said.database.value.clone(), headers })
    }

    fn csrf(&mut self, said: &EdgeCsrf, path: &Path<'_>) -> Csrf {
        let mut origins = Vec::new();
        let of_origins = path.field("additionalOrigins");
        for (at, origin) in said.additional_origins.iter().enumerate() {
            let path = of_origins.at(at);
            let Some(test) = string_match(origin, &path, self.findings) else { continue };
            if let ValueTest::Exact(text) = &test.test
                && text.contains("://")
            {
                let message = "an origin is a host here, and a port where it is not the usual one";
                let hint = "write shop.example or shop.example:8443, without a scheme";
                self.error(code::INVALID_VALUE, origin.place, &path.field("exact"), message, hint);
            }
            origins.push(test);
        }
        let (enabled, shadow) = if is_on(&said.shadow) {
            (Fraction::NONE, Fraction::ALL)
        } else {
            (Fraction::ALL, Fraction::NONE)
        };
        Csrf { enabled, shadow, origins }
    }

    fn header(&mut self, name: &Text, path: &Path<'_>) -> Option<HeaderName> {
        let header = name.parse::<HeaderName>().ok();
        match &header {
            None => {
                let message = format!("'{}' is no name of a header", name.value);
                self.error(code::INVALID_VALUE, name.place, path, message, "");
            }
            Some(header) if OF_MESSAGES.contains(header) => {
                let message = format!("'{header}' is for the message itself");
                self.error(code::INVALID_VALUE, name.place, path, message, "another name");
            }
            Some(_) => {}
        }
        header
    }

    fn keys(&mut self, said: &EdgeKeys, path: &Path<'_>) -> Option<CheckKind> {
        let mut places = Vec::new();
        let of_places = path.field("from");
        for (at, from) in said.from.iter().enumerate() {
            let path = of_places.at(at);
            let place = match (&from.header, &from.query, &from.cookie) {
                (Some(name), None, None) => self.header(name, &path.field("header")).map(KeyPlace::Header),
                (None, Some(name), None) => Some(KeyPlace::Query(name.value.clone())),
                (None, None, Some(name)) => Some(KeyPlace::Cookie(name.value.clone())),
                _ => {
                    let message = "a key stands in one place";
                    let hint = "one of header, query and cookie; several places are several entries";
                    self.error(code::CONFLICTING_FIELDS, from.place, &path, message, hint);
                    None
                }
            };
            places.extend(place);
        }
        if said.from.is_empty() {
            places.push(KeyPlace::Header(HeaderName::from_static(defaults::KEY_HEADER)));
        }
        let mut keys = Vec::new();
        let of_keys = path.field("keys");
        for (at, key) in said.keys.iter().enumerate() {
            let path = of_keys.at(at);
            match hexadecimal(&key.sha256) {
                Some(hash) => keys.push(KeySource::Sha256 { client: key.client.value.clone(), hash }),
                None => {
                    let message = "it is not the SHA-256 of a key in 64 hexadecimal digits";
                    let hint = "printf %s \"$KEY\" | sha256sum";
                    self.error(code::INVALID_VALUE, key.sha256.place, &path.field("sha256"), message, hint);
                }
            }
        }
        keys.extend(said.file.as_ref().map(|file| KeySource::File(file.value.clone())));
        if let Some(name) = &said.secret
            && let Some(found) = self.secret(name, &path.field("secret"))
        {
            keys.extend(found.data.iter().map(|(client, key)| KeySource::Key {
                client: client.value.clone(),
                key: DataSource::Inline(key.0.clone()),
            }));
        }
        if said.keys.is_empty() && said.file.is_none() && said.secret.is_none() {
            let message = "there are no keys, and nobody could come in";
            self.error(code::MISSING_FIELD, said.place, path, message, "say keys, a file or a secret");
        }
        let usual = HeaderName::from_static(defaults::KEY_CLIENT_HEADER);
        let client_header = match &said.client_header {
            Some(name) => self.header(name, &path.field("clientHeader"))?,
            None => usual,
        };
        Some(CheckKind::ApiKeys(Box::new(ApiKeys {
            places,
            keys: Credentials::Keys(keys),
            client_header: Some(client_header),
            forwards: is_on(&said.forward),
            clients: said.clients.iter().map(|client| client.value.clone()).collect(),
        })))
    }

    fn basic(&mut self, said: &EdgeBasicAuth, path: &Path<'_>) -> Option<CheckKind> {
        let file = match (&said.file, &said.secret) {
            (Some(file), None) => DataSource::File(file.value.clone()),
            (None, Some(name)) => {
                let path = path.field("secret");
                let found = self.secret(name, &path)?;
                match entry(found, &[".htpasswd", "auth"]) {
                    Some(source) => source,
                    None => {
                        let message = format!("the Secret '{}' has no entry '.htpasswd'", name.value);
                        self.error(code::MISSING_FIELD, name.place, &path, message, "or 'auth'");
                        return None;
                    }
                }
            }
            _ => {
                let message = "passwords stand in one place";
                let hint = "say a file of htpasswd, or a secret";
                self.error(code::MISSING_FIELD, said.place, path, message, hint);
                return None;
            }
        };
        let client_header = match &said.client_header {
            Some(name) => self.header(name, &path.field("clientHeader"))?,
            None => HeaderName::from_static(defaults::PASSWORD_CLIENT_HEADER),
        };
        if let Some(realm) = said.realm.as_ref().filter(|realm| realm.chars().any(char::is_control)) {
            let message = "a realm stands in a header";
            self.error(code::INVALID_VALUE, realm.place, &path.field("realm"), message, "");
        }
        Some(CheckKind::BasicAuth(Box::new(BasicAuth {
            passwords: Credentials::Passwords { file, hashes: Hashes::All },
            realm: Some(said.realm.as_ref().map_or("naru", |realm| realm).to_owned()),
            header: None,
            client_header: Some(client_header),
            forwards: is_on(&said.forward),
        })))
    }

    fn secret(&mut self, name: &Text, path: &Path<'_>) -> Option<&naru_resource::Secret> {
        let namespace = self.document.meta.namespace();
        let found = secret(name, namespace, self.resources);
        if found.is_none() {
            let message = format!("there is no Secret '{}' in {namespace}", name.value);
            self.findings.error(code::UNKNOWN_REFERENCE, name.place, path, message, "");
        }
        found
    }

    fn headers(&mut self, said: &EdgeSecurityHeaders, path: &Path<'_>) -> SecurityHeaders {
        let mut headers = SecurityHeaders { overrides: is_on(&said.overrides), ..SecurityHeaders::preset() };
        let mut value = |text: &Text, field: &'static str| {
            let value = HeaderValue::from_str(text).ok();
            if value.is_none() {
                let message = "it cannot stand in a header";
                self.error(code::INVALID_VALUE, text.place, &path.field(field), message, "");
            }
            // An empty text leaves it out.
            value.filter(|_| !text.is_empty())
        };
        if let Some(text) = &said.strict_transport_security {
            headers.transport = value(text, "strictTransportSecurity");
        }
        let plain = [
            ("contentTypeOptions", header::X_CONTENT_TYPE_OPTIONS, &said.content_type_options),
            ("referrerPolicy", header::REFERRER_POLICY, &said.referrer_policy),
            ("permissionsPolicy", HeaderName::from_static("permissions-policy"), &said.permissions_policy),
        ];
        for (field, name, text) in plain {
            if let Some(text) = text {
                headers.set(name, value(text, field));
            }
        }
        let csp = said.content_security_policy.as_ref();
        let ancestors: Option<Vec<&str>> =
            said.frame_ancestors.as_ref().map(|all| all.iter().map(|one| one.value.as_str()).collect());
        let says_ancestors = csp.is_some_and(|csp| csp.to_ascii_lowercase().contains("frame-ancestors"));
        if let (true, Some(first)) =
            (says_ancestors, said.frame_ancestors.as_ref().and_then(|all| all.first()))
        {
            let message = "contentSecurityPolicy says frame-ancestors already";
            let path = path.field("frameAncestors");
            self.error(code::CONFLICTING_FIELDS, first.place, &path, message, "say it once");
        }
        let mut directives: Vec<String> =
            csp.map(|csp| csp.trim_end_matches([';', ' ']).to_owned()).into_iter().collect();
        directives.retain(|csp| !csp.is_empty());
        let framing = match (&ancestors, says_ancestors) {
            // What stands in the policy is all that is known of it.
            (_, true) => None,
            (None, false) => Some(vec!["'self'"]),
            (Some(all), false) if all.is_empty() => None,
            (Some(all), false) => Some(all.clone()),
        };
        directives.extend(framing.as_ref().map(|all| format!("frame-ancestors {}", all.join(" "))));
        let joined = directives.join("; ");
        let policy = HeaderValue::from_str(&joined).ok();
        if let (None, Some(text)) = (&policy, csp) {
            let message = "it cannot stand in a header";
            self.error(code::INVALID_VALUE, text.place, &path.field("contentSecurityPolicy"), message, "");
        }
        headers.set(header::CONTENT_SECURITY_POLICY, policy.filter(|policy| !policy.is_empty()));
        // For browsers that know no frame-ancestors; others are not to be shut out by it.
        let options = match framing.as_deref() {
            Some(["'none'"]) => Some(HeaderValue::from_static("DENY")),
            Some(["'self'"]) => Some(HeaderValue::from_static("SAMEORIGIN")),
            _ => None,
        };
        headers.set(header::X_FRAME_OPTIONS, options);
        headers
    }
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, digits) in out.iter_mut().zip(text.chunks_exact(2)) {
        for digit in digits {
            *byte = *byte << 4 | char::from(*digit).to_digit(16)? as u8;
        }
    }
    Some(out)
}
