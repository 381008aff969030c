//! Random configurations with all that Envoy has no words for.
#![allow(dead_code, reason = "not every test speaks naru's own words")]

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use naru_base::share::Denominator;
use naru_base::{Chance, Fraction};
use naru_spec::limits::StatusRange as OpenRange;
use naru_spec::{
    Action, AdaptiveConcurrency, Addresses, AdmissionControl, Allowance, ApiKeys, BalancingPolicy, BasicAuth,
    Bulkhead, CacheDisk, CacheKeyParts, CacheKeyQuery, CachePolicy, CacheRedis, CacheStore, CacheWrite,
    Check, CheckKind, CircuitBreaker, ClientAuthentication, Cluster, ClusterChoice, Config, ConnectionLimits,
    Cookie, CountPlace, Credentials, DataSource, Decompressor, Discovery, Domain, Door, Fallback,
    FallbackAnswer, FallbackOn, FallbackStep, Forward, GateChange, Geo, GeoFact, Hashes, Http, KeyPlace,
    KeySource, Lacking, Leases, Lifetime, Links, LoadLimits, MinRtt, Named, OidcClaim, OidcLogin, OidcSite,
    OnDemand, PaceLimit, PeakEwma, Percent, Quota, QuotaAlgorithm, QuotaKey, Quotas, RateClass, Rbac,
    RbacAction, RbacRules, ReadWriteGroups, ReadYourWrites, Redis, RedisTls, Rule, Seal, SecurityHeaders,
    SessionAuth, SessionClaim, Shed, StaticFiles, StatusRange, Sticky, StickyCarrier, Store, StorePlace,
    StoreUse, SuccessCriteria, Surge, SurgeLevel, SurgeSignal, SurgeStep, SurgeThreshold, WaitInOpen, Window,
    WithoutStore,
};

use super::Dice;

/// As a plan makes it, for a proxy that is naru.
pub fn config_of_naru(seed: u64) -> Config {
    let mut config = super::config(seed);
    let mut dice = Dice(Chance::split(seed, "ours"));
    config.admin = None;
    let names: Vec<String> = config.clusters.iter().map(|cluster| cluster.name.clone()).collect();
    for cluster in &mut config.clusters {
        if matches!(cluster.discovery, Discovery::OnDemand(_)) && dice.coin() {
            cluster.discovery = Discovery::OnDemand(OnDemand {
                header: None,
                authority_port: dice.maybe(|dice| 1 + dice.below(60_000) as u16),
                ..OnDemand::default()
            });
        }
        cluster.fallback = dice.maybe(|dice| dice.fallback(&names));
        cluster.load = dice.load();
        cluster.guard.circuit_breaker = dice.maybe(Dice::breaker);
        if cluster.load_balancing.policy != BalancingPolicy::Passthrough {
            cluster.load_balancing.hash = dice.hash_policies();
            cluster.load_balancing.sticky = dice.maybe(Dice::sticky);
            if dice.below(4) == 0 {
                let ewma = PeakEwma { first: dice.duration(), decay: dice.duration() };
                cluster.load_balancing.policy = BalancingPolicy::PeakEwma(ewma);
                cluster.load_balancing.warm_up = None;
            }
        }
        cluster.limits.tcp_idle_timeout = dice.maybe(Dice::duration);
    }
    for listener in &mut config.listeners {
        if dice.coin() {
            listener.connections = ConnectionLimits {
                max: dice.maybe(|dice| 1 + dice.below(u64::MAX - 1)),
                max_per_source: dice.maybe(|dice| 1 + dice.below(1_000) as u32),
                ..listener.connections
            };
        }
        for chain in &mut listener.chains {
            if chain.tcp.is_none() {
                dice.read_by_naru(&mut chain.http, &names);
            }
        }
    }
    // Those whom checks ask.
    let asked = super::WORDS
        .iter()
        .chain(&["a.example.com:80"])
        .map(|name| Cluster::new(*name, Discovery::Static, Vec::new()));
    config.clusters.extend(asked);
    config.cache = dice.maybe(Dice::cache_store);
    config.stores = (0..dice.below(3)).map(|at| dice.store(at)).collect();
    config.surge = dice.maybe(Dice::surge);
    config
}

const WINDOW: Duration = Duration::from_secs(60);

impl Dice {
    fn read_by_naru(&mut self, http: &mut Http, clusters: &[String]) {
        http.sessions = self.few(|dice| Arc::new(dice.session(clusters)));
        http.door =
            self.maybe(|dice| Box::new(Door { addresses: dice.addresses(), geo: dice.maybe(Dice::geo) }));
        http.tunnels = self.coin();
        http.request_pace =
            self.maybe(|dice| PaceLimit { bytes: 1 + dice.below(9), window: dice.duration() });
        http.header_bytes_max += self.below(2) as u32;
        http.header_bytes_max = http.header_bytes_max.min(8_192 << 10);
        http.body_bytes_max = self.maybe(|dice| 1 + dice.below(u64::MAX - 1));
        http.http2_limits.resets = Allowance { burst: self.below(100) as u32, per_second: 1 };
        http.http2_limits.frame_timeout = self.duration();
        for at in 0..self.below(4) {
            let name = format!("naru.dev/{at}");
            let kind = self.check_of_naru();
            http.gate.insert(Check { name, kind });
        }
        for rule in http.routes.virtual_hosts.iter_mut().flat_map(|host| &mut host.rules) {
            self.rule_of_naru(rule, clusters);
        }
    }

    fn rule_of_naru(&mut self, rule: &mut Rule, clusters: &[String]) {
        rule.origin = self.one(&["", "shop.yaml:7:3"]).to_owned();
        if self.below(3) == 0 {
            let check = Check { name: "naru.dev/also".to_owned(), kind: self.check_of_naru() };
            rule.gate.push(GateChange::Also(check));
            rule.gate.push(GateChange::Without("naru.dev/0".to_owned()));
        }
        let Action::Forward(forward) = &mut rule.action else { return };
        self.forward_of_naru(forward, clusters);
    }

    fn forward_of_naru(&mut self, forward: &mut Forward, clusters: &[String]) {
        match self.below(3) {
            0 => forward.load = self.load(),
            1 => forward.fallback = Some(self.fallback(clusters)),
            _ => forward.cache = Some(Box::new(self.cache_policy())),
        }
        if self.below(4) == 0 {
            let lasts = Duration::from_millis(1 + self.below(60_000));
            let sessions = ReadYourWrites::by_cookie(lasts, "wrote").expect("a time");
            forward.groups = Some(Box::new(ReadWriteGroups {
                read: clusters.first().cloned(),
                read_your_writes: Some(sessions),
                ..ReadWriteGroups::default()
            }));
        }
        if let ClusterChoice::Weighted(clusters) = &forward.clusters
            && self.below(4) == 0
        {
            let without = GateChange::Without("naru.dev/1".to_owned());
            forward.cluster_gates = vec![None; clusters.len()];
            forward.cluster_gates[0] = Some(vec![without]);
        }
    }

    fn check_of_naru(&mut self) -> CheckKind {
        match self.below(9) {
            0 => CheckKind::Quotas(Box::new(self.quotas())),
            1 => CheckKind::Addresses(Box::new(self.addresses())),
            2 => CheckKind::SecurityHeaders(Box::new(SecurityHeaders {
                transport: self.maybe(|_| HeaderValue::from_static("max-age=1")),
                overrides: self.coin(),
                ..SecurityHeaders::preset()
            })),
            3 => CheckKind::ApiKeys(Box::new(ApiKeys {
                places: vec![KeyPlace::Header(self.name()), KeyPlace::Query(self.word())],
                keys: Credentials::Keys(vec![
                    KeySource::File("/etc/keys".to_owned()),
                    KeySource::Sha256 { client: self.word(), hash: [self.below(256) as u8; 32] },
                    KeySource::Key { client: self.word(), key: self.secret() },
                ]),
                client_header: self.maybe(Dice::name),
                forwards: self.coin(),
                clients: self.few(Dice::word),
            })),
            4 => CheckKind::BasicAuth(Box::new(BasicAuth {
                passwords: Credentials::Passwords { file: self.secret(), hashes: Hashes::All },
                realm: self.maybe(Dice::word),
                header: self.maybe(Dice::name),
                client_header: self.maybe(Dice::name),
                forwards: self.coin(),
            })),
            5 => CheckKind::Files(Box::new(self.files())),
            6 => CheckKind::Decompress(Box::new(Decompressor {
                bytes_max: 1 + self.below(1 << 40),
                ratio_max: 1 + self.below(1_000) as u32,
                ..Decompressor::new(naru_spec::ContentCoding::ALL.to_vec())
            })),
            7 => CheckKind::Shed(Box::new(self.shed())),
            _ => CheckKind::Rbac(Box::new(self.deny())),
        }
    }

    /// A policy that refuses where an expression holds.
    fn deny(&mut self) -> Rbac {
        let RbacRules { policies, .. } = self.rules();
        let rules = RbacRules { action: RbacAction::Deny, policies };
        Rbac { rules: Some(rules), shadow: self.maybe(Dice::rules), shadow_prefix: self.word() }
    }

    fn shed(&mut self) -> Shed {
        let rule = |dice: &mut Dice| naru_spec::ShedRule {
            from_level: 1 + dice.below(3) as u32,
            blocks: vec![dice.block()],
            share: dice.of_all(),
            retry_after: dice.duration(),
        };
        Shed { rules: self.few(rule) }
    }

    fn of_all(&mut self) -> Fraction {
        let of = self.one(&[Denominator::Hundred, Denominator::TenThousand, Denominator::Million]);
        Fraction::new(self.below(101) as u32, of)
    }

    fn secret(&mut self) -> DataSource {
        match self.below(3) {
            0 => DataSource::File("/etc/secret".to_owned()),
            1 => DataSource::Inline(vec![0xff, 0, self.below(256) as u8]),
            _ => DataSource::Inline(b"text that is a secret".to_vec()),
        }
    }

    fn addresses(&mut self) -> Addresses {
        Addresses { allow: self.few(Dice::network), deny: self.few(Dice::network) }
    }

    fn geo(&mut self) -> Geo {
        let fact = |dice: &mut Dice| (dice.one(&GeoFact::ALL), dice.name());
        Geo { database: "/var/geo.mmdb".to_owned(), headers: self.few(fact) }
    }

    fn quotas(&mut self) -> Quotas {
        let limits = (0..1 + self.below(3)).map(|at| {
            let (requests, window) = (1 + self.below(1_000) as u32, WINDOW);
            let algorithm = self.one(&[
                QuotaAlgorithm::TokenBucket { requests, window, burst: requests },
                QuotaAlgorithm::FixedWindow { requests, window },
                QuotaAlgorithm::SlidingWindow { requests, window },
            ]);
            Quota {
                name: format!("limit {at}"),
                algorithm,
                key: self.few(Dice::quota_key),
                lacking: self.one(&[Lacking::Uncounted, Lacking::Together]),
                cost: 1,
                is_shadow: self.coin(),
                keys_max: 1 + self.below(1_000) as u32,
            }
        });
        let limits = limits.collect();
        let store = self.maybe(|dice| StoreUse {
            name: "store 0".to_owned(),
            timeout: dice.duration(),
            otherwise: dice.one(&[WithoutStore::Allow, WithoutStore::Refuse, WithoutStore::Local]),
            proxies: 1 + dice.below(9) as u32,
        });
        Quotas { limits, store }
    }

    fn quota_key(&mut self) -> QuotaKey {
        match self.below(7) {
            0 => QuotaKey::Address { ipv6_bits: self.below(129) as u8 },
            1 => QuotaKey::Header(self.name()),
            2 => QuotaKey::Cookie(self.word()),
            3 => QuotaKey::Path,
            4 => QuotaKey::Method,
            5 => QuotaKey::Claim(vec![self.word(), self.word()]),
            _ => QuotaKey::Session,
        }
    }

    fn files(&mut self) -> StaticFiles {
        StaticFiles {
            prefix: self.path(),
            endings: self.few(|_| ".html".to_owned()),
            fallback: self.maybe(Dice::path),
            not_found: self.maybe(Dice::path),
            passes_on: self.coin(),
            precompressed: self.few(|dice| dice.one(&naru_spec::ContentCoding::ALL)),
            links: self.one(&[Links::Refused, Links::Within, Links::Followed]),
            gives_hidden: self.coin(),
            lifetimes: self
                .few(|dice| Lifetime { pattern: dice.path(), cache_control: "no-store".to_owned() }),
            types: self.few(|dice| (dice.word(), "text/plain".to_owned())),
            ..StaticFiles::new("/srv/www")
        }
    }

    fn fallback(&mut self, clusters: &[String]) -> Fallback {
        let mut steps = self.few(|_| FallbackStep::StaleResponse);
        steps.extend(clusters.first().map(|name| FallbackStep::Cluster(name.clone())));
        steps.push(FallbackStep::Answer(FallbackAnswer {
            status: StatusCode::from_u16(200 + self.below(300) as u16).expect("a status"),
            headers: self.few(|dice| (dice.name(), HeaderValue::from_bytes(b"a\xe4").expect("a value"))),
            body: self.one(&[Vec::new(), b"sorry".to_vec(), vec![0xff, 0xfe]]),
        }));
        let on = FallbackOn {
            is_cut_off: true,
            has_no_endpoint: self.coin(),
            is_failed: self.coin(),
            is_limited: self.coin(),
            statuses: self.few(|_| StatusRange::SERVER_ERRORS),
        };
        Fallback { on, steps }
    }

    fn named<T>(&mut self, settings: T) -> Named<T> {
        Named { name: self.word(), settings }
    }

    fn breaker(&mut self) -> CircuitBreaker {
        CircuitBreaker {
            window: self.one(&[Window::Count(10), Window::Seconds(7)]),
            failure_rate: Percent::of_hundredths(1 + self.below(9_999) as u32).expect("a percentage"),
            wait_in_open: WaitInOpen::Exponential {
                initial: Duration::from_secs(1),
                multiplier: 1_500,
                max: Duration::from_secs(9),
                randomization: 250,
            },
            max_wait_in_half_open: self.maybe(Dice::duration),
            ..CircuitBreaker::default()
        }
    }

    fn load(&mut self) -> LoadLimits {
        let breaker = self.breaker();
        let adaptive = AdaptiveConcurrency {
            min_rtt: self
                .one(&[MinRtt::Fixed(Duration::from_millis(3)), AdaptiveConcurrency::default().min_rtt]),
            ..AdaptiveConcurrency::default()
        };
        let success = SuccessCriteria { http: vec![OpenRange { from: 200, to: 300 }], grpc: 3 };
        let admission = AdmissionControl { success, ..AdmissionControl::default() };
        LoadLimits {
            breaker: self.maybe(|dice| dice.named(breaker)),
            bulkhead: self.maybe(|dice| dice.named(Bulkhead::default())),
            adaptive: self.maybe(|dice| dice.named(adaptive)),
            admission: self.maybe(|dice| dice.named(admission)),
            rate: self.maybe(|dice| dice.named(RateClass::Critical.limit())),
        }
    }

    fn sticky(&mut self) -> Sticky {
        let cookie =
            Cookie::new("stuck", self.maybe(Dice::duration), "/", vec![("Secure".into(), String::new())]);
        let carrier = match self.coin() {
            true => StickyCarrier::Cookie(cookie.expect("a cookie")),
            false => StickyCarrier::Header(self.name()),
        };
        Sticky { carrier, is_strict: self.coin() }
    }

    fn cache_policy(&mut self) -> CachePolicy {
        CachePolicy {
            class: self.word(),
            lifetime: Some(self.duration()),
            overrides: self.coin(),
            negative: self.few(|dice| (StatusRange::SERVER_ERRORS, dice.duration())),
            stale_while_revalidate: self.maybe(Dice::duration),
            stale_if_error: self.maybe(Dice::duration),
            key: CacheKeyParts {
                headers: self.few(Dice::name),
                cookies: self.few(Dice::word),
                query: self.one(&[
                    CacheKeyQuery::All,
                    CacheKeyQuery::Only(vec!["a".to_owned()]),
                    CacheKeyQuery::Without(Vec::new()),
                ]),
            },
            coalesce: self.maybe(Dice::duration),
            object_bytes_max: self.below(u64::MAX),
            variants_max: 1 + self.below(9) as u32,
            obeys_requests: self.coin(),
            tells: self.coin(),
        }
    }

    fn redis(&mut self) -> Redis {
        Redis {
            nodes: vec!["redis.example:6379".to_owned()],
            is_cluster: self.coin(),
            tls: self.maybe(|dice| RedisTls { authority: dice.secret() }),
            user: self.maybe(Dice::word),
            password: self.maybe(Dice::secret),
        }
    }

    fn cache_store(&mut self) -> CacheStore {
        let disk = |dice: &mut Dice| CacheDisk {
            directory: "/var/cache/naru".to_owned(),
            bytes_max: 64 << 20,
            timeout: dice.duration(),
        };
        let redis = |dice: &mut Dice| CacheRedis {
            redis: dice.redis(),
            prefix: dice.word(),
            timeout: dice.duration(),
            write: dice.one(&[CacheWrite::Through, CacheWrite::Behind]),
            queue_max: 1 + dice.below(100) as u32,
            poll: Duration::from_millis(10 + dice.below(100)),
        };
        CacheStore {
            bytes_max: (1 << 20) + self.below(1 << 40),
            disk: self.maybe(disk),
            redis: self.maybe(redis),
        }
    }

    fn store(&mut self, at: u64) -> Store {
        let leases = Leases {
            members: vec!["127.0.0.1:7000".parse().expect("an address"), self.socket(7_001)],
            secret: self.secret(),
            lease: Duration::from_secs(2),
        };
        let place = match self.coin() {
            true => CountPlace::Redis(self.redis()),
            false => CountPlace::Leases(leases),
        };
        Store { name: format!("store {at}"), place }
    }

    fn surge(&mut self) -> Surge {
        let threshold = |value| vec![SurgeThreshold { signal: SurgeSignal::Cpu, value }];
        let levels = (0..1 + self.below(2)).map(|at| SurgeLevel {
            name: format!("level {at}"),
            enter: threshold(800),
            leave: threshold(600),
            enter_after: self.duration(),
            leave_after: self.duration(),
            steps: vec![
                SurgeStep::CacheLifetime { class: self.maybe(Dice::word), percent: 200 },
                SurgeStep::RateLimit { quotas: self.few(Dice::word), percent: 50 },
                SurgeStep::Shed {
                    blocks: vec![self.block()],
                    share: self.of_all(),
                    retry_after: self.duration(),
                },
                SurgeStep::Pause { workload: self.word() },
                SurgeStep::Replicas { workload: self.word(), percent: 200, max: 3 },
            ],
        });
        let levels = levels.collect();
        Surge { every: Duration::from_secs(1), capacity: self.maybe(|dice| 1 + dice.below(9) as u32), levels }
    }

    fn session(&mut self, clusters: &[String]) -> SessionAuth {
        let place = match self.coin() {
            true => StorePlace::Directory("/var/sessions".to_owned()),
            false => StorePlace::Redis {
                urls: vec!["redis://:hush@redis.example".to_owned()],
                prefix: "naru:".to_owned(),
            },
        };
        let seal = match self.coin() {
            true => Seal::Given(DataSource::Inline(vec![0xfe; 32])),
            false => Seal::Given(DataSource::File("/etc/seal".to_owned())),
        };
        let mut session = SessionAuth::new("shop.login", place, seal);
        session.hosts = self.few(|_| Domain::parse("*.shop.example").expect("a domain"));
        session.audiences = self.few(|_| "shop".to_owned());
        session.login_paths = vec!["/login".to_owned()];
        let header = |name| HeaderName::from_static(name);
        session.claims = vec![SessionClaim { claim: "mail".to_owned(), header: header("x-mail") }];
        session.access.to_headers = vec![SessionClaim { claim: "sub".to_owned(), header: header("x-user") }];
        session.access.is_forwarded = self.coin();
        session.keys.rotate_every = Duration::from_secs(60 + self.below(9_999));
        session.access.cookie = Some("at".to_owned());
        if let Some(cluster) = clusters.first().filter(|_| self.coin()) {
            let mut oidc = OidcLogin::new("https://id.example", "shop");
            oidc.secret = Some(self.secret());
            oidc.client_authentication = self.one(&[
                ClientAuthentication::Either,
                ClientAuthentication::Basic,
                ClientAuthentication::Post,
            ]);
            oidc.claims = vec![OidcClaim { claim: "email".to_owned(), name: "mail".to_owned() }];
            oidc.parameters = vec![("prompt".to_owned(), "login".to_owned())];
            let site =
                OidcSite { is_tls: true, host: "id.example".to_owned(), port: 443, cluster: cluster.clone() };
            oidc.sites = vec![site];
            session.oidc = Some(Box::new(oidc));
        }
        session
    }
}
