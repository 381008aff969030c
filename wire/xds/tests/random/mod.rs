//! Random configurations that are valid.

mod gate;
mod identity;
pub mod ours;
mod overload;
mod rates;
mod recovery;

use std::time::Duration;

use http::{HeaderName, StatusCode};
use ipnet::IpNet;
use naru_base::share::Denominator;
use naru_base::{Chance, Fraction, Weight};
use naru_spec::{
    AccessLog, Action, Address, Admin, BalancingPolicy, Certificate, CipherSuite, ClientCertDetails, Cluster,
    ClusterChoice, ClusterLimits, Codec, Config, ConsistentHash, Cookie, Curve, DataSource, DirectResponse,
    Discovery, DnsFamily, DnsSettings, Domain, DownstreamTls, Endpoint, EscapedSlashes, Fault, FaultScope,
    FilterChain, Fingerprint, Format, Forward, ForwardClientCert, GrpcCheck, GuardSettings, HashPolicy,
    HashSource, HashTable, HeaderAction, HeaderMatch, HeaderOp, HeaderOps, HeaderTest, HealthCheck, HostPort,
    HostRewrite, Http, Http2Keepalive, Http2Settings, HttpCheck, JsonField, LeastRequest, Listener,
    LoadBalancing, Locality, LogFormat, LogSink, MaglevSize, Match, NameMatch, Offered, OnDemand,
    OutlierDetection, PathMatch, PathRewrite, Paths, Pattern, PeerTests, Pipe, Probe, ProxyProtocol,
    ProxyVersion, QueryOps, Quic, Redirect, RedirectPath, RetryBudget, RetryLimit, RingSize, RouteTable,
    Rule, SanKind, SanMatch, Scheme, ServerHeader, StaplePolicy, StatusRange, StringMatch, TcpCheck,
    TcpKeepalive, TcpProxy, Terminate, Thousandths, Thresholds, TlsRequirement, TlsVersion, Transport,
    Upgrades, UpstreamProtocol, UpstreamTls, ValueTest, VirtualHost, WarmUp, WeightedCluster,
};

pub fn config(seed: u64) -> Config {
    let mut dice = Dice(Chance::split(seed, "config"));
    let clusters: Vec<Cluster> = (0..dice.below(4)).map(|n| dice.cluster(n)).collect();
    let names: Vec<String> = clusters.iter().map(|c| c.name.clone()).collect();
    let listeners = (0..dice.below(3)).map(|n| dice.listener(n, &names)).collect();
    let admin = dice.maybe(|d| Admin { address: d.socket(9_901) });
    let overload = dice.maybe(Dice::overload);
    Config { admin, listeners, clusters, overload, cache: None, stores: Vec::new(), surge: None }
}

struct Dice(Chance);

const WORDS: &[&str] = &[
    "alpha",
    "beta-1",
    "x_y",
    "Ünï→",
    "a b",
    "1",
    "true",
    "~",
    "it's \"so\"",
    "#no: comment",
    "50%",
    "- a",
    "\t\\",
];
const NAMES: &[&str] = &["x-a", "accept", "x-user-id", "content-type", "cookie"];
const FORMATS: &[&str] = &[
    "plain",
    "100%% sure",
    "%REQ(:PATH?X-A):12% took %DURATION%\n",
    "%START_TIME(%Y/%m/%d %3f)%",
    "%GRPC_STATUS(NUMBER)% %DOWNSTREAM_REMOTE_ADDRESS%",
    "",
];

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Dice) -> T) -> Option<T> {
        self.coin().then(|| make(self))
    }

    fn few<T>(&mut self, make: impl Fn(&mut Dice) -> T) -> Vec<T> {
        (0..self.below(3)).map(|_| make(self)).collect()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    fn word(&mut self) -> String {
        self.one(WORDS).to_owned()
    }

    /// What may stand in a header or a host.
    fn token(&mut self) -> String {
        self.one(&["alpha", "beta-1", "a.example.com:80", "1", "true"]).to_owned()
    }

    fn path(&mut self) -> String {
        self.one(&["/", "/a", "/a/b c", "/%2F", "/ü", "/*"]).to_owned()
    }

    fn name(&mut self) -> HeaderName {
        HeaderName::from_static(self.one(NAMES))
    }

    fn duration(&mut self) -> Duration {
        match self.below(3) {
            0 => Duration::from_secs(1 + self.below(10_000)),
            1 => Duration::from_millis(2 + self.below(5_000)),
            _ => Duration::new(1 + self.below(3), 1 + self.below(999_999_999) as u32),
        }
    }

    fn pattern(&mut self) -> Pattern {
        Pattern::new(self.one(&[".*", "^/(a|b)/\\d+$", "(?i)x", "\\Q.\\E"])).expect("a pattern")
    }

    fn format(&mut self) -> Format {
        Format::parse(self.one(FORMATS)).expect("a format")
    }

    fn socket(&mut self, port: u16) -> std::net::SocketAddr {
        let ip = self.one(&["0.0.0.0", "127.0.0.1", "::", "::1", "fd00::1:2"]);
        std::net::SocketAddr::new(ip.parse().expect("an address"), port)
    }

    fn http2(&mut self) -> Http2Settings {
        let mut settings = Http2Settings::default();
        if self.coin() {
            settings.max_concurrent_streams = 1 + self.below(1 << 31).min((1 << 31) - 2) as u32;
        }
        if self.coin() {
            settings.stream_window = 65_535 + self.below(1 << 20) as u32;
            settings.connection_window = (1 << 31) - 1;
        }
        settings
    }

    fn cluster(&mut self, at: u64) -> Cluster {
        let dns = DnsSettings {
            family: self.one(&[
                DnsFamily::Auto,
                DnsFamily::V4Only,
                DnsFamily::V6Only,
                DnsFamily::V4Preferred,
                DnsFamily::All,
            ]),
            refresh: self.duration(),
            failure_refresh: self.duration(),
        };
        let dns = if self.coin() { dns } else { DnsSettings { failure_refresh: dns.refresh, ..dns } };
        let discovery = self.one(&[Discovery::Static, Discovery::StrictDns(dns), Discovery::LogicalDns(dns)]);
        let count = if matches!(discovery, Discovery::LogicalDns(_)) { 1 } else { self.below(4) };
        let endpoints = (0..count).map(|n| self.endpoint(n as u16, &discovery)).collect();
        let mut cluster = Cluster::new(format!("{} {at}", self.word()), discovery, endpoints);
        if self.below(5) == 0 {
            cluster.endpoints.clear();
            cluster.load_balancing = BalancingPolicy::Passthrough.into();
            cluster.discovery = Discovery::OnDemand(self.on_demand());
        } else {
            cluster.load_balancing = self.load_balancing();
            self.place(&mut cluster);
        }
        cluster.connect_timeout = self.duration();
        cluster.protocol = self.one(&[
            UpstreamProtocol::Http1,
            UpstreamProtocol::Http2,
            UpstreamProtocol::Alpn,
            UpstreamProtocol::Downstream,
        ]);
        if cluster.protocol != UpstreamProtocol::Http1 {
            cluster.http2 = self.http2();
        } else {
            cluster.proxy_protocol = self.maybe(|dice| dice.one(&[ProxyVersion::V1, ProxyVersion::V2]));
        }
        if cluster.protocol == UpstreamProtocol::Alpn || self.coin() {
            cluster.tls = Some(self.upstream_tls());
        }
        match self.below(3) {
            0 => cluster.idle_timeout = None,
            1 => cluster.idle_timeout = Some(self.duration()),
            _ => {}
        }
        cluster.max_requests_per_connection = self.maybe(|d| 1 + d.below(1_000) as u32);
        cluster.guard = GuardSettings {
            outlier_detection: self.maybe(Dice::outlier_detection),
            health_check: self.maybe(Dice::health_check),
            circuit_breaker: None,
            panic_percent: self.below(101) as u32,
        };
        if self.coin() {
            cluster.limits = self.limits(cluster.protocol);
        }
        cluster
    }

    fn percent(&mut self) -> u32 {
        self.below(101) as u32
    }

    fn outlier_detection(&mut self) -> OutlierDetection {
        let mut settings = OutlierDetection {
            consecutive_5xx: self.below(9) as u32,
            consecutive_gateway_failure: self.below(9) as u32,
            consecutive_local_origin_failure: self.below(9) as u32,
            split_external_local_origin_errors: self.coin(),
            interval: self.duration(),
            base_ejection_time: self.duration(),
            max_ejection_time_jitter: self.duration(),
            max_ejection_percent: self.percent(),
            always_eject_one_host: self.coin(),
            successful_active_health_check_uneject_host: self.coin(),
            ..OutlierDetection::default()
        };
        settings.max_ejection_time = settings.base_ejection_time + self.duration();
        settings.success_rate.minimum_hosts = self.below(9) as u32;
        settings.success_rate.request_volume = self.below(900) as u32;
        settings.success_rate.stdev_factor = self.below(9_000) as u32;
        settings.failure_percentage.threshold = self.percent();
        settings.failure_percentage.minimum_hosts = self.below(9) as u32;
        settings.failure_percentage.request_volume = self.below(900) as u32;
        settings.enforcing.consecutive_5xx = self.percent();
        settings.enforcing.consecutive_gateway_failure = self.percent();
        settings.enforcing.consecutive_local_origin_failure = self.percent();
        settings.enforcing.success_rate = self.percent();
        settings.enforcing.local_origin_success_rate = self.percent();
        settings.enforcing.failure_percentage = self.percent();
        settings.enforcing.local_origin_failure_percentage = self.percent();
        settings
    }

    fn health_check(&mut self) -> HealthCheck {
        let status = |d: &mut Dice| {
            let start = 100 + d.below(400) as u16;
            StatusRange::new(start, start + 1 + d.below(100) as u16).expect("a range")
        };
        let probe = match self.below(3) {
            0 => Probe::Http(HttpCheck {
                host: self.token(),
                method: self.one(&[http::Method::GET, http::Method::HEAD, http::Method::POST]),
                headers: self.few(|d| (d.name(), http::HeaderValue::from_static("a value"))),
                expected_statuses: self.few(status),
                retriable_statuses: self.few(status),
                is_http2: self.coin(),
                ..HttpCheck::new(self.one(&["/", "/healthz?full"]))
            }),
            1 => Probe::Tcp(TcpCheck {
                send: vec![0, 255, 16],
                receive: self.few(|d| vec![1, d.percent() as u8]),
            }),
            _ => Probe::Grpc(GrpcCheck { service: self.token(), authority: self.token() }),
        };
        let mut check = HealthCheck::new(self.duration(), self.duration(), probe);
        check.initial_jitter = self.duration();
        check.interval_jitter = self.duration();
        check.interval_jitter_percent = self.below(300) as u32;
        check.unhealthy_threshold = 1 + self.below(5) as u32;
        check.healthy_threshold = 1 + self.below(5) as u32;
        check.no_traffic_interval = self.duration();
        check.no_traffic_healthy_interval = self.maybe(Dice::duration);
        check.unhealthy_interval = self.maybe(Dice::duration);
        check.unhealthy_edge_interval = self.maybe(Dice::duration);
        check.healthy_edge_interval = self.maybe(Dice::duration);
        check.reuse_connection = self.coin();
        check
    }

    fn limits(&mut self, protocol: UpstreamProtocol) -> ClusterLimits {
        let has_http2 = protocol != UpstreamProtocol::Http1;
        ClusterLimits {
            normal: self.thresholds(),
            high: self.thresholds(),
            endpoint_connections_max: self.maybe(|d| d.below(10) as u32),
            tcp_keepalive: self.maybe(|d| TcpKeepalive {
                probes: d.below(10) as u32,
                time: Duration::from_secs(d.below(10_000)),
                interval: Duration::from_secs(d.below(100)),
            }),
            http2_keepalive: has_http2
                .then(|| Http2Keepalive { interval: self.keepalive(), timeout: self.keepalive() }),
            connection_duration_max: self.maybe(Dice::keepalive),
            stream_duration_max: self.maybe(Dice::keepalive),
            ..ClusterLimits::envoy()
        }
    }

    fn keepalive(&mut self) -> Duration {
        Duration::from_millis(1 + self.below(100_000))
    }

    fn thresholds(&mut self) -> Thresholds {
        if self.coin() {
            return Thresholds::envoy();
        }
        let [connections_max, pending_max, requests_max] =
            [(); 3].map(|()| if self.coin() { u32::MAX } else { self.below(2_000) as u32 });
        let retries = match self.coin() {
            true => RetryLimit::Concurrent(self.below(10) as u32),
            false => RetryLimit::Budget(RetryBudget {
                share_ppm: self.below(1_000_001) as u32,
                concurrency_min: self.below(10) as u32,
                interval: self.maybe(Dice::duration).unwrap_or_default(),
            }),
        };
        let track_remaining = self.coin();
        Thresholds {
            connections_max,
            pending_max,
            requests_max,
            retries,
            connection_pools_max: u32::MAX,
            track_remaining,
        }
    }

    fn load_balancing(&mut self) -> LoadBalancing {
        let choices = 2 + self.below(8) as u32;
        let bias = Thousandths(self.below(4_000) as u32);
        let min = 1 + self.below(5_000);
        let mut hash = ConsistentHash::new(if self.coin() {
            HashTable::Ring(RingSize::new(min, min + self.below(5_000)).expect("a size"))
        } else {
            HashTable::Maglev(MaglevSize::new(self.one(&[7, 251, 65_537])).expect("a prime"))
        });
        hash.load_max_percent = self.maybe(|d| 100 + d.below(200) as u32);
        hash.by_host_name = self.coin();
        let mut settings = LoadBalancing::from(self.one(&[
            BalancingPolicy::RoundRobin,
            BalancingPolicy::Random,
            BalancingPolicy::LeastRequest(LeastRequest { choices, ..LeastRequest::default() }),
            BalancingPolicy::LeastRequest(LeastRequest { choices, bias }),
            BalancingPolicy::ConsistentHash(hash),
        ]));
        let is_warm = matches!(settings.policy, BalancingPolicy::Random | BalancingPolicy::ConsistentHash(_));
        if !is_warm && self.coin() {
            settings.warm_up = Some(WarmUp {
                aggression: Thousandths(1 + self.below(5_000) as u32),
                min_percent: self.below(101) as u32,
                ..WarmUp::over(Duration::from_millis(1 + self.below(100_000)))
            });
        }
        settings.weighs_localities = self.coin();
        settings.overprovisioning_percent = if self.coin() { 140 } else { 100 + self.below(100) as u32 };
        settings
    }

    /// In localities and priorities, one after the other.
    fn place(&mut self, cluster: &mut Cluster) {
        let is_weighed = cluster.load_balancing.weighs_localities;
        let (mut locality, mut priority, mut weight) = (Locality::default(), 0, Weight(1));
        for (at, endpoint) in (0..).zip(&mut cluster.endpoints) {
            if self.coin() {
                locality = Locality { region: format!("r{at}"), zone: "z".into(), sub_zone: String::new() };
                weight = Weight(if is_weighed { self.below(3) as u32 } else { 1 + self.below(3) as u32 });
            }
            if self.coin() {
                priority += 1;
            }
            endpoint.locality = locality.clone();
            endpoint.priority = priority;
            endpoint.locality_weight = weight;
        }
    }

    fn hash_policies(&mut self) -> Vec<HashPolicy> {
        let count = self.below(3);
        (0..count)
            .map(|_| {
                let attributes = vec![("Secure".to_owned(), String::new()), ("a".to_owned(), "b".to_owned())];
                let ttl = self.maybe(|d| Duration::from_secs(d.below(100)));
                let cookie = Cookie::new("c", ttl, "/p", attributes).expect("a cookie");
                let source = self.one(&[
                    HashSource::Header(HeaderName::from_static("x-user")),
                    HashSource::Cookie(cookie),
                    HashSource::SourceIp,
                    HashSource::Query("Q".to_owned()),
                ]);
                HashPolicy { source, is_terminal: self.coin() }
            })
            .collect()
    }

    fn upgrades(&mut self) -> Upgrades {
        Upgrades::new(self.few(|d| (d.one(&["websocket", "foo", "a/b", "connect"]).to_owned(), d.coin())))
    }

    fn on_demand(&mut self) -> OnDemand {
        let usual = http::HeaderName::from_static(naru_spec::defaults::ON_DEMAND_HEADER);
        OnDemand {
            header: Some(if self.coin() { usual } else { self.name() }),
            authority_port: None,
            port_override: self.maybe(|d| d.below(65_536) as u16),
            cleanup_interval: self.duration(),
        }
    }

    fn endpoint(&mut self, at: u16, discovery: &Discovery) -> Endpoint {
        let port = 8_000 + at;
        let address = if *discovery == Discovery::Static && self.below(4) == 0 {
            Address::Pipe(format!("/run/{port}"))
        } else if *discovery == Discovery::Static || self.coin() {
            Address::Socket(self.socket(port))
        } else {
            Address::Name { host: self.one(&["localhost", "a.b.example.", "1.example"]).to_owned(), port }
        };
        let mut endpoint = Endpoint { weight: Weight(1 + self.below(100) as u32), ..Endpoint::new(address) };
        if *discovery == Discovery::Static && !matches!(endpoint.address, Address::Pipe(_)) {
            endpoint.additional = self.few(|dice| dice.socket(9_000));
        }
        endpoint
    }

    fn data(&mut self) -> DataSource {
        match self.below(4) {
            0 => DataSource::File("/etc/naru/tls.pem".into()),
            1 => DataSource::Environment("TLS_PEM".into()),
            2 => DataSource::Inline(b"-----BEGIN-----\nx\n".to_vec()),
            _ => DataSource::Inline(vec![0xff, 0, 0x80, 7]),
        }
    }

    fn versions(&mut self) -> (TlsVersion, TlsVersion) {
        self.one(&[
            (TlsVersion::V1_2, TlsVersion::V1_2),
            (TlsVersion::V1_2, TlsVersion::V1_3),
            (TlsVersion::V1_3, TlsVersion::V1_3),
        ])
    }

    fn certificate(&mut self) -> Certificate {
        Certificate { chain: self.data(), key: self.data(), staple: self.maybe(Dice::data) }
    }

    fn offered(&mut self) -> Offered {
        let suites = self.one(&[
            vec![],
            vec![vec![CipherSuite::RsaAes256]],
            vec![vec![CipherSuite::EcdsaAes128, CipherSuite::EcdsaChacha], vec![CipherSuite::RsaAes128]],
        ]);
        Offered {
            suites,
            curves: self.one(&[vec![], vec![Curve::X25519MlKem768, Curve::P256], vec![Curve::P384]]),
        }
    }

    fn fingerprint(&mut self) -> Fingerprint {
        Fingerprint(std::array::from_fn(|_| self.below(256) as u8))
    }

    /// `is_trusting`: there is somebody whose word counts.
    fn peer(&mut self, is_trusting: bool) -> PeerTests {
        let mut peer = PeerTests {
            certificates: self.few(Dice::fingerprint),
            keys: self.few(Dice::fingerprint),
            ..PeerTests::default()
        };
        if is_trusting {
            let kind = self.one(&[
                None,
                Some(SanKind::Dns),
                Some(SanKind::Uri),
                Some(SanKind::Email),
                Some(SanKind::Ip),
            ]);
            peer.names = self.few(|dice| SanMatch { kind, test: dice.string_match() });
            peer.crl = self.maybe(Dice::data);
            peer.crl_of_leaf_only = self.coin();
        }
        peer
    }

    fn alpn(&mut self) -> Vec<String> {
        self.one(&[vec![], vec!["h2".to_owned(), "http/1.1".to_owned()], vec!["http/1.1".to_owned()]])
    }

    fn upstream_tls(&mut self) -> UpstreamTls {
        let (version_min, version_max) = self.versions();
        let trusted_ca = self.maybe(Dice::data);
        let peer = self.peer(trusted_ca.is_some());
        UpstreamTls {
            sni: self.maybe(|_| "a.example".to_owned()),
            certificate: self.maybe(Dice::certificate),
            alpn: self.alpn(),
            version_min,
            version_max,
            offered: self.offered(),
            trusted_ca,
            peer,
        }
    }

    fn downstream_tls(&mut self) -> DownstreamTls {
        let (version_min, version_max) = self.versions();
        let trusted_ca = self.maybe(Dice::data);
        let mut certificates = self.few(Dice::certificate);
        certificates.push(self.certificate());
        let has_staples = certificates.iter().all(|certificate| certificate.staple.is_some());
        let peer = self.peer(trusted_ca.is_some());
        DownstreamTls {
            alpn: self.alpn(),
            version_min,
            version_max,
            offered: self.offered(),
            require_client_certificate: (trusted_ca.is_some() || peer.is_pinned()) && self.coin(),
            trusted_ca,
            peer,
            staple_policy: match has_staples {
                true => StaplePolicy::Must,
                false => self.one(&[StaplePolicy::Lenient, StaplePolicy::Strict]),
            },
            ..DownstreamTls::new(certificates)
        }
    }

    fn listener(&mut self, at: u64, clusters: &[String]) -> Listener {
        let mut chains = vec![self.chain(clusters)];
        if self.coin() {
            let mut chain = self.chain(clusters);
            chain.tls = Some(self.downstream_tls());
            chain.server_names =
                vec![Domain::parse("a.example").expect("name"), Domain::parse("*.b.example").expect("name")];
            chains.insert(0, chain);
        }
        if !clusters.is_empty() && self.coin() {
            chains.insert(0, self.tcp_chain(clusters));
        }
        let mut listener = Listener::new(format!("listener {at}"), self.socket(10_000 + at as u16), chains);
        if !clusters.is_empty() && self.below(6) == 0 {
            let mut udp = self.tcp(clusters);
            udp.clusters = ClusterChoice::One(self.one(clusters));
            (udp.attempts_max, udp.duration_max) = (1, None);
            udp.idle_timeout = self.one(&[Some(Duration::from_secs(60)), Some(Duration::from_millis(1_500))]);
            let address = self.socket(20_000 + at as u16);
            let datagrams = Listener::new(format!("listener {at}"), address, vec![FilterChain::of_tcp(udp)]);
            return Listener { is_udp: true, ..datagrams };
        }
        if self.below(6) == 0 {
            return self.quic_listener(at, clusters);
        }
        if self.below(4) == 0 {
            let pipe = Pipe { path: format!("@{at}"), mode: self.one(&[0, 0o600]) };
            listener = Listener::on(pipe, listener.name, listener.chains);
        }
        listener.connections.ignores_global = self.below(8) == 0;
        listener.proxy_protocol = self.maybe(|dice| ProxyProtocol { is_optional: dice.coin() });
        listener
    }

    fn quic_listener(&mut self, at: u64, clusters: &[String]) -> Listener {
        let mut chain = self.chain(clusters);
        let tls = self.downstream_tls();
        chain.tls = Some(DownstreamTls { version_max: TlsVersion::V1_3, ..tls });
        chain.http.codec = Codec::Http3;
        let default = Quic::default();
        let quic = Quic {
            max_concurrent_streams: self.one(&[default.max_concurrent_streams, 7]),
            stream_window: self.one(&[default.stream_window, 1 << 20]),
            connection_window: self.one(&[default.connection_window, 1 << 21]),
            idle_timeout: self.one(&[default.idle_timeout, Duration::from_millis(1_500)]),
            handshake_timeout: self.one(&[default.handshake_timeout, Duration::from_secs(3)]),
        };
        let address = self.socket(30_000 + at as u16);
        Listener::of_quic(format!("listener {at}"), address, quic, vec![chain])
    }

    fn chain(&mut self, clusters: &[String]) -> FilterChain {
        FilterChain {
            name: self.word(),
            tls: self.maybe(Dice::downstream_tls),
            connection_limit: self.maybe(Dice::connection_limit),
            handshake_timeout: self.maybe(|dice| Duration::from_millis(1 + dice.below(20_000))),
            ..FilterChain::of(self.http(clusters))
        }
    }

    /// One that passes the TLS of some through, or takes what is none at some addresses.
    fn tcp_chain(&mut self, clusters: &[String]) -> FilterChain {
        let tcp = self.tcp(clusters);
        let mut chain = FilterChain { name: self.word(), ..FilterChain::of_tcp(tcp) };
        if self.coin() {
            chain.server_names = vec![Domain::parse("passed.example").expect("name")];
            chain.transport = self.one(&[Transport::Any, Transport::Tls]);
        } else {
            chain.networks = vec!["10.0.0.0/8".parse().expect("range"), "fd00::/8".parse().expect("range")];
            chain.transport = self.one(&[Transport::Any, Transport::Plain]);
        }
        chain
    }

    fn tcp(&mut self, clusters: &[String]) -> TcpProxy {
        let mut choice = ClusterChoice::One(self.one(clusters));
        if self.coin() {
            let weighted = (1..4).map(|weight| WeightedCluster {
                name: self.one(clusters),
                weight: Weight(weight),
                host: None,
                request_headers: HeaderOps::default(),
                response_headers: HeaderOps::default(),
            });
            choice = ClusterChoice::weighted(weighted.collect()).expect("weights");
        }
        let mut tcp = TcpProxy::new(self.word(), choice);
        tcp.idle_timeout = self.one(&[tcp.idle_timeout, None, Some(Duration::from_millis(1_500))]);
        tcp.duration_max = self.maybe(|dice| Duration::from_millis(1 + dice.below(9_000)));
        tcp.attempts_max = self.one(&[1, 3]);
        tcp.hash = self.one(&[Vec::new(), vec![HashPolicy::of(HashSource::SourceIp)]]);
        tcp.access_log = self.few(Dice::access_log);
        tcp
    }

    fn http(&mut self, clusters: &[String]) -> Http {
        let mut http = Http::new(self.word(), self.routes(clusters));
        http.codec = self.one(&[Codec::Auto, Codec::Http1, Codec::Http2]);
        http.access_log = self.few(Dice::access_log);
        http.server_name = self.token();
        http.server_header =
            self.one(&[ServerHeader::Overwrite, ServerHeader::AppendIfAbsent, ServerHeader::PassThrough]);
        http.use_remote_address = self.coin();
        http.xff_num_trusted_hops = self.below(4) as u32;
        http.skip_xff_append = self.coin();
        http.internal_networks = self.few(Dice::network);
        http.body_bytes_max = self.maybe(|dice| 1 + dice.below(1 << 31));
        http.gate.checks.extend(self.who_count(clusters));
        http.gate.checks.extend(self.maybe(Dice::csrf));
        http.gate.checks.extend(self.maybe(|dice| dice.external(clusters)));
        http.http2_limits.frames_per_useful = self.one(&[10, 3]);
        http.via = self.one(&["", "naru"]).to_owned();
        http.generate_request_id = self.coin();
        http.preserve_external_request_id = self.coin();
        http.always_set_request_id_in_response = self.coin();
        http.forward_client_cert = self.one(&[
            ForwardClientCert::Sanitize,
            ForwardClientCert::ForwardOnly,
            ForwardClientCert::AppendForward,
            ForwardClientCert::SanitizeSet,
            ForwardClientCert::AlwaysForwardOnly,
        ]);
        http.client_cert_details = ClientCertDetails {
            subject: self.coin(),
            cert: self.coin(),
            chain: self.coin(),
            dns: self.coin(),
            uri: self.coin(),
        };
        http.scheme_to_overwrite = self.one(&[None, Some(Scheme::Http), Some(Scheme::Https)]);
        http.upgrades = self.upgrades();
        http.grpc_web = self.coin();
        http.strip_trailing_host_dot = self.coin();
        http.paths = Paths {
            normalize: self.coin(),
            merge_slashes: self.coin(),
            escaped_slashes: self.one(&[
                EscapedSlashes::Keep,
                EscapedSlashes::Reject,
                EscapedSlashes::Redirect,
                EscapedSlashes::Forward,
            ]),
        };
        http.host_port = self.one(&[HostPort::Keep, HostPort::StripMatching, HostPort::StripAny]);
        http.suppress_envoy_headers = self.coin();
        http.header_bytes_max = 1_024 * (1 + self.below(8_192) as u32);
        http.header_count_max = 1 + self.below(1_000) as u32;
        http.stream_idle_timeout = self.maybe(Dice::duration);
        http.request_timeout = self.maybe(Dice::duration);
        http.request_headers_timeout = self.maybe(Dice::duration);
        http.connection_idle_timeout = self.maybe(Dice::duration);
        http.max_requests_per_connection = self.maybe(|d| 1 + d.below(9) as u32);
        http.drain_timeout = self.maybe(Dice::duration).unwrap_or_default();
        http.http2 = self.http2();
        // A filter has no metadata to say more in.
        http.gate.checks.extend(self.gate(clusters).checks);
        http.fault = self.maybe(|d| Fault { scope: FaultScope::Client, ..d.fault() });
        http
    }

    fn access_log(&mut self) -> AccessLog {
        let sink = self.one(&[LogSink::File("/var/log/naru.log".into()), LogSink::Stdout, LogSink::Stderr]);
        let format = match self.below(2) {
            0 => LogFormat::Text(self.format()),
            _ => LogFormat::Json(self.json_fields(2)),
        };
        AccessLog { sink, format }
    }

    fn json_fields(&mut self, depth: u32) -> Vec<(String, JsonField)> {
        let count = self.below(4);
        (0..count).map(|at| (format!("{}{at}", self.word()), self.json_field(depth))).collect()
    }

    fn json_field(&mut self, depth: u32) -> JsonField {
        match self.below(if depth == 0 { 2 } else { 4 }) {
            0 => JsonField::Value(self.format()),
            1 => JsonField::Literal(self.one(&["true", "false", "null", "7", "-1.5", "0"]).to_owned()),
            2 => JsonField::Object(self.json_fields(depth - 1)),
            _ => JsonField::List(self.few(|d| d.json_field(depth - 1))),
        }
    }

    fn header_value(&mut self) -> Format {
        let text = self.one(&["", "a", "%REQ(X-A)%", "100%%", "%PROTOCOL%:%DURATION%"]);
        Format::parse(text).expect("a format")
    }

    fn ops(&mut self) -> HeaderOps {
        HeaderOps {
            remove: self.few(Dice::name),
            add: self.few(|d| HeaderOp {
                name: d.name(),
                value: d.header_value(),
                action: d.one(&[
                    HeaderAction::Append,
                    HeaderAction::AddIfAbsent,
                    HeaderAction::Overwrite,
                    HeaderAction::OverwriteIfPresent,
                ]),
                keep_empty: d.coin(),
            }),
        }
    }

    fn routes(&mut self, clusters: &[String]) -> RouteTable {
        let domains = ["*", "a.example", "*.a.example", "*-b.example", "a.*", "a.example:8080"];
        let count = self.below(4) as usize;
        let mut hosts = Vec::new();
        for at in 0..count {
            let from = at * domains.len() / count;
            let to = (at + 1) * domains.len() / count;
            hosts.push(VirtualHost {
                name: format!("{} {at}", self.word()),
                domains: domains[from..to].iter().map(|d| Domain::parse(d).expect("a domain")).collect(),
                rules: self.called_rules(clusters),
                tls: self.one(&[TlsRequirement::None, TlsRequirement::ExternalOnly, TlsRequirement::All]),
                request_headers: self.ops(),
                response_headers: self.ops(),
            });
        }
        RouteTable {
            name: self.word(),
            virtual_hosts: hosts,
            ignores_port: self.coin(),
            request_headers: self.ops(),
            response_headers: self.ops(),
        }
    }

    fn rule(&mut self, clusters: &[String]) -> Rule {
        let mut matches = self.few(Dice::block);
        matches.push(self.block());
        Rule {
            gate: self.gate_changes(),
            name: self.word(),
            origin: String::new(),
            matches,
            action: self.action(clusters),
            request_headers: self.ops(),
            response_headers: self.ops(),
        }
    }

    fn block(&mut self) -> Match {
        let path = match self.below(5) {
            0 => PathMatch::Exact(self.path()),
            1 => PathMatch::Prefix(self.path()),
            2 => PathMatch::SegmentPrefix(self.one(&["/a", "/a/b", "/ü"]).to_owned()),
            3 => PathMatch::Connect,
            _ => PathMatch::Regex(self.pattern()),
        };
        Match {
            ignore_path_case: !matches!(path, PathMatch::Regex(_)) && self.coin(),
            path,
            scheme: self.maybe(Dice::string_match),
            method: self.maybe(Dice::string_match),
            authority: self.maybe(Dice::string_match),
            headers: self.few(Dice::header_match),
            query: self.few(Dice::name_match),
            cookies: self.few(Dice::name_match),
            sources: self.few(Dice::network),
            fraction: self.maybe(|d| {
                let denominator =
                    d.one(&[Denominator::Hundred, Denominator::TenThousand, Denominator::Million]);
                Fraction::new(d.below(120) as u32, denominator)
            }),
            grpc: self.coin(),
            claims: self.few(|dice| dice.claim_match()),
        }
    }

    fn network(&mut self) -> IpNet {
        let text = self.one(&["10.0.0.0/8", "0.0.0.0/0", "192.168.1.7/32", "fd00::/8", "::1/128"]);
        text.parse().expect("a network")
    }

    fn string_match(&mut self) -> StringMatch {
        let text = self.word();
        let test = match self.below(5) {
            0 => ValueTest::Exact(self.one(&[text, String::new()])),
            1 => ValueTest::Prefix(text),
            2 => ValueTest::Suffix(text),
            3 => ValueTest::Contains(text),
            _ => ValueTest::Regex(self.pattern()),
        };
        StringMatch { ignore_case: !matches!(test, ValueTest::Regex(_)) && self.coin(), test }
    }

    fn header_match(&mut self) -> HeaderMatch {
        let test = match self.below(3) {
            0 => HeaderTest::Present(self.coin()),
            1 => HeaderTest::Value(self.string_match()),
            _ => HeaderTest::Range { start: -(self.below(9) as i64), end: i64::MAX - self.below(9) as i64 },
        };
        HeaderMatch { name: self.name(), test, invert: self.coin(), missing_as_empty: self.coin() }
    }

    fn name_match(&mut self) -> NameMatch {
        NameMatch { name: self.word(), test: self.maybe(Dice::string_match), invert: self.coin() }
    }

    fn action(&mut self, clusters: &[String]) -> Action {
        match self.below(if clusters.is_empty() { 2 } else { 4 }) {
            0 => Action::Redirect(Box::new(Redirect {
                scheme: self.one(&[None, Some(Scheme::Http), Some(Scheme::Https)]),
                host: self.maybe(Dice::token),
                port: self.maybe(|d| 1 + d.below(65_535) as u16),
                path: self.maybe(|d| match d.below(3) {
                    0 => RedirectPath::Full("/a?b=%20".into()),
                    1 => RedirectPath::Prefix(d.path()),
                    _ => RedirectPath::Regex { pattern: d.pattern(), substitution: "\\1x".into() },
                }),
                status: StatusCode::from_u16(self.one(&[301, 302, 303, 307, 308])).expect("a status"),
                strip_query: self.coin(),
            })),
            1 => Action::Direct(Box::new(DirectResponse {
                status: StatusCode::from_u16(200 + self.below(400) as u16).expect("a status"),
                body: self.one(&[vec![], b"hello\n".to_vec(), vec![0xff, 0xfe], vec![b'x'; 5_000]]),
            })),
            _ => Action::Forward(Box::new(self.forward(clusters))),
        }
    }

    fn forward(&mut self, clusters: &[String]) -> Forward {
        let choice = match self.coin() {
            true => ClusterChoice::One(self.one(clusters)),
            false => {
                let mut weighted = self.few(|d| d.weighted(clusters, 0));
                weighted.push(self.weighted(clusters, 1));
                ClusterChoice::weighted(weighted).expect("weights")
            }
        };
        let retry = self.maybe(Dice::retry);
        let mut forward = Forward {
            clusters: choice,
            // What clusters say to filters is held against Envoy on sockets; an Envoy file has no word for some of the rest.
            timeout: self.maybe(Dice::duration),
            idle_timeout: self.maybe(|d| d.maybe(Dice::duration)),
            path: self.maybe(|d| match d.below(3) {
                0 => PathRewrite::Prefix(d.path()),
                1 => PathRewrite::Regex { pattern: d.pattern(), substitution: "/\\1".into() },
                _ => PathRewrite::Full(d.path()),
            }),
            host: self.maybe(|d| match d.below(3) {
                0 => HostRewrite::Literal(d.token()),
                1 => HostRewrite::Auto,
                _ => HostRewrite::Header(d.name()),
            }),
            append_x_forwarded_host: self.coin(),
            query: QueryOps {
                remove: self.few(Dice::word),
                set: self.few(|d| (d.word(), d.word())),
                add: self.few(|d| (d.word(), d.word())),
            },
            cluster_not_found: StatusCode::from_u16(self.one(&[503, 404, 500])).expect("a status"),
            hash: self.hash_policies(),
            groups: self.maybe(|d| Box::new(d.groups(clusters))),
            hedge: self.maybe(|d| d.hedge(retry.as_ref())),
            retry,
            auto_timeout: self.maybe(Dice::auto_timeout),
            fault: self.maybe(Dice::fault),
            mirrors: self.few(|d| d.mirror(clusters)),
            upgrades: self.upgrades(),
            ..Forward::to("")
        };
        // Envoy says it with the upgrade that it belongs to.
        if forward.upgrades.says(b"connect").is_some() {
            forward.terminate = self.maybe(|d| Terminate {
                proxy_protocol: d.maybe(|d| d.one(&[ProxyVersion::V1, ProxyVersion::V2])),
            });
        }
        forward
    }

    fn weighted(&mut self, clusters: &[String], least: u32) -> WeightedCluster {
        WeightedCluster {
            name: self.one(clusters),
            weight: Weight(least + self.below(100) as u32),
            host: self.maybe(|dice| dice.token()),
            request_headers: self.ops(),
            response_headers: self.ops(),
        }
    }
}
