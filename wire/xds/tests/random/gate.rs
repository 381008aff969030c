//! Random checks of a gate.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_spec::{
    ApiKeysChange, BodyChange, Check, CheckKind, Coder, CompressedRequests, Compressor, CompressorChange,
    ContentCoding, Cors, Credentials, Csrf, DataSource, DecompressedAnswers, Decompressor, External,
    ExternalBody, ExternalChange, ExternalGrpc, ExternalHttp, ExternalService, GateChange, Hashes,
    KeyForwarding, KeyPlace, KeySource, OnEtag, StringMatch, ValueTest,
};

use super::Dice;

impl Dice {
    fn origins(&mut self) -> Vec<StringMatch> {
        let test = match self.below(3) {
            0 => ValueTest::Exact(format!("https://{}", self.word())),
            1 => ValueTest::Prefix(format!("https://{}", self.word())),
            _ => ValueTest::Suffix(self.word()),
        };
        vec![StringMatch { test, ignore_case: self.coin() }]
    }

    fn cors(&mut self) -> Check {
        let cors = Cors {
            methods: self.one(&["", "*", "GET,POST"]).into(),
            headers: self.word(),
            exposed: self.word(),
            max_age: self.below(100).to_string(),
            credentials: self.coin(),
            private_network: self.coin(),
            forwards_unmatched: self.coin(),
            enabled: Fraction::new(self.below(101) as u32, Denominator::Hundred),
            shadow: Fraction::new(self.below(101) as u32, Denominator::Hundred),
            ..Cors::new(self.origins())
        };
        Check { name: "envoy.filters.http.cors".into(), kind: CheckKind::Cors(Box::new(cors)) }
    }

    pub(super) fn csrf(&mut self) -> Check {
        let csrf = Csrf {
            enabled: Fraction::new(self.below(101) as u32, Denominator::Hundred),
            shadow: Fraction::new(self.below(101) as u32, Denominator::Million),
            origins: self.origins(),
        };
        Check { name: "envoy.filters.http.csrf".into(), kind: CheckKind::Csrf(Box::new(csrf)) }
    }

    /// Of one of these clusters.
    pub(super) fn external(&mut self, clusters: &[String]) -> Check {
        let cluster = if clusters.is_empty() { self.token() } else { self.one(clusters) };
        let literals = |dice: &mut Dice| dice.few(|dice| (dice.name(), dice.one(&["a", "50%"]).to_owned()));
        let service = if self.coin() {
            let authority = self.one(&["", "authz.example"]).to_owned();
            ExternalService::Grpc(ExternalGrpc { cluster, authority, metadata: literals(self) })
        } else {
            let (path_prefix, path) = self.one(&[("", ""), ("/check", ""), ("", "/all")]);
            ExternalService::Http(ExternalHttp {
                cluster,
                path_prefix: path_prefix.into(),
                path: path.into(),
                headers_to_add: literals(self),
                upstream_headers: self.few(Dice::string_match),
                upstream_headers_to_append: self.few(Dice::string_match),
                client_headers: self.few(Dice::string_match),
                client_headers_on_success: self.few(Dice::string_match),
            })
        };
        let external = External {
            timeout: Duration::from_millis(1 + self.below(10_000)),
            failure_allows: self.coin(),
            tells_failure: self.coin(),
            status_on_error: self.one(&[403, 503, 200]),
            reroutes: self.coin(),
            body: self.maybe(Dice::external_body),
            allowed_headers: Some(self.few(Dice::string_match)).filter(|list| !list.is_empty()),
            disallowed_headers: self.few(Dice::string_match),
            raw_headers: self.coin(),
            tells_certificate: self.coin(),
            tells_server_name: self.coin(),
            tells_claims: self.coin(),
            denied_body_bytes_max: self.maybe(|dice| 1 + dice.below(1 << 20) as u32),
            enabled: self.one(&[Fraction::ALL, Fraction::new(50, Denominator::TenThousand)]),
            denies_others: self.coin(),
            ..External::new(service)
        };
        Check { name: "envoy.filters.http.ext_authz".into(), kind: CheckKind::External(Box::new(external)) }
    }

    fn external_body(&mut self) -> ExternalBody {
        ExternalBody {
            bytes_max: 1 + self.below(1 << 20) as u32,
            allows_partial: self.coin(),
            is_raw: self.coin(),
        }
    }

    pub(super) fn gate_changes(&mut self) -> Vec<GateChange> {
        // By name, as they are read.
        let mut changes = Vec::new();
        changes.extend(self.maybe(|dice| {
            let change = ApiKeysChange {
                keys: dice.maybe(|dice| {
                    Credentials::Keys(vec![KeySource::Key {
                        client: dice.token(),
                        key: DataSource::Inline(dice.token().into_bytes()),
                    }])
                }),
                places: dice
                    .maybe(|dice| vec![KeyPlace::Query(dice.token()), KeyPlace::Cookie("key".into())]),
                clients: dice.few(Dice::token),
                forwarding: KeyForwarding { client_header: dice.maybe(Dice::name), forwards: dice.coin() },
            };
            GateChange::Keys("envoy.filters.http.api_key_auth".into(), Box::new(change))
        }));
        changes.extend(self.maybe(|dice| {
            let file = DataSource::Inline(dice.word().into_bytes());
            let passwords = Credentials::Passwords { file, hashes: Hashes::Sha1 };
            GateChange::Passwords("envoy.filters.http.basic_auth".into(), passwords)
        }));
        changes.extend(self.maybe(|dice| GateChange::Instead(dice.cors())));
        changes.extend(self.maybe(|dice| GateChange::Instead(dice.csrf())));
        let name = "envoy.filters.http.ext_authz".to_owned();
        match self.below(4) {
            0 => changes.push(GateChange::Without(name)),
            1 => {
                let mut context = self.few(|dice| (dice.word(), dice.word()));
                context.sort();
                context.dedup_by(|one, other| one.0 == other.0);
                let body = match self.below(3) {
                    0 => BodyChange::AsBefore,
                    1 => BodyChange::Without,
                    _ => BodyChange::Instead(self.external_body()),
                };
                changes.push(GateChange::Ask(name, Box::new(ExternalChange { context, body })));
            }
            _ => {}
        }
        let tokens = "envoy.filters.http.jwt_authn".to_owned();
        match self.below(3) {
            0 => changes.push(GateChange::Without(tokens)),
            1 => changes.push(GateChange::Require(tokens, "named".into())),
            _ => {}
        }
        changes.extend(self.rate_changes());
        changes.extend(self.maybe(|dice| GateChange::Instead(dice.policies("envoy.filters.http.rbac"))));
        changes.extend(self.maybe(Dice::content_change));
        changes
    }

    pub(super) fn compressor(&mut self) -> Check {
        let mut made = Compressor::new(self.coder());
        made.is_enabled = self.coin();
        made.length_min = self.below(10_000) as u32;
        if self.coin() {
            made.content_types = vec!["text/css".to_owned(), "text/x-other".to_owned()];
        }
        made.etag = self.one(&[OnEtag::Remove, OnEtag::Weaken, OnEtag::Leave]);
        made.removes_accept_encoding = self.coin();
        if self.coin() {
            made.statuses_not = vec![206, 404];
        }
        made.is_first = self.coin();
        made.tells_status = self.coin();
        made.requests = self.maybe(|dice| CompressedRequests {
            length_min: dice.below(10_000) as u32,
            content_types: vec!["application/json".to_owned()],
        });
        let name = format!("compress-{}", self.below(1 << 20));
        Check { name, kind: CheckKind::Compress(Box::new(made)) }
    }

    fn coder(&mut self) -> Coder {
        match self.below(3) {
            0 => Coder::Gzip {
                level: self.maybe(|dice| 1 + dice.below(9) as u32),
                window_bits: 9 + self.below(7) as u8,
            },
            1 => Coder::Brotli { quality: self.below(12) as u32, window_bits: 10 + self.below(15) as u32 },
            _ => Coder::Zstd { level: 1 + self.below(19) as u32, has_checksum: self.coin() },
        }
    }

    pub(super) fn decompressor(&mut self) -> Check {
        let coding = self.one(&ContentCoding::ALL);
        let mut made = Decompressor::new(vec![coding]);
        made.bytes_max = u64::MAX;
        made.is_enabled = self.coin();
        made.ignores_no_transform = self.coin();
        made.answers = self
            .maybe(|dice| DecompressedAnswers { ignores_no_transform: dice.coin(), is_told: dice.coin() });
        if coding == ContentCoding::Gzip {
            made.ratio_max = 1 + self.below(1_032) as u32;
        }
        let name = format!("inflate-{}", self.below(1 << 20));
        Check { name, kind: CheckKind::Decompress(Box::new(made)) }
    }

    /// What a route says to a filter.
    fn content_change(&mut self) -> GateChange {
        let name = format!("filter-{}", self.below(1 << 20));
        let kind = match self.below(4) {
            0 => {
                let off = CompressorChange { answers: Some(false), ..CompressorChange::default() };
                return GateChange::Compress(name, Box::new(off));
            }
            1 => {
                let answers = self.maybe(|_| true);
                let change = CompressorChange {
                    answers,
                    removes_accept_encoding: answers.and_then(|_| self.maybe(Dice::coin)),
                    coder: self.maybe(Dice::coder),
                };
                return GateChange::Compress(name, Box::new(change));
            }
            2 => CheckKind::BodyLimit(u64::MAX),
            _ => CheckKind::BodyLimit(1 + self.below(1 << 30)),
        };
        GateChange::Instead(Check { name, kind })
    }
}
