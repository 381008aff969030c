//! Random checks of a gate.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_spec::{
    BodyChange, Check, CheckKind, Coder, Compressor, ContentCoding, Cors, Csrf, Decompressor, External,
    ExternalBody, ExternalChange, ExternalGrpc, ExternalHttp, ExternalService, GateChange, OnEtag,
    StringMatch, ValueTest,
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
        let mut changes = Vec::new();
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
        changes.extend(self.rate_changes());
        // By name, as they are read.
        changes.extend(self.maybe(Dice::content_change));
        changes
    }

    pub(super) fn compressor(&mut self) -> Check {
        let coder = match self.below(3) {
            0 => Coder::Gzip {
                level: self.maybe(|dice| 1 + dice.below(9) as u32),
                window_bits: 9 + self.below(7) as u8,
            },
            1 => Coder::Brotli { quality: self.below(12) as u32, window_bits: 10 + self.below(15) as u32 },
            _ => Coder::Zstd { level: 1 + self.below(19) as u32, has_checksum: self.coin() },
        };
        let mut made = Compressor::new(coder);
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
        let name = format!("compress-{}", self.below(1 << 20));
        Check { name, kind: CheckKind::Compress(Box::new(made)) }
    }

    pub(super) fn decompressor(&mut self) -> Check {
        let coding = self.one(&ContentCoding::ALL);
        let mut made = Decompressor::new(vec![coding]);
        made.bytes_max = u64::MAX;
        made.is_enabled = self.coin();
        made.ignores_no_transform = self.coin();
        if coding == ContentCoding::Gzip {
            made.ratio_max = 1 + self.below(1_032) as u32;
        }
        let name = format!("inflate-{}", self.below(1 << 20));
        Check { name, kind: CheckKind::Decompress(Box::new(made)) }
    }

    /// What a route says to a filter.
    fn content_change(&mut self) -> GateChange {
        let kind = match self.below(3) {
            0 => {
                let mut off = Compressor::new(Coder::usual(ContentCoding::Gzip));
                off.is_enabled = false;
                CheckKind::Compress(Box::new(off))
            }
            1 => CheckKind::BodyLimit(u64::MAX),
            _ => CheckKind::BodyLimit(1 + self.below(1 << 30)),
        };
        GateChange::Instead(Check { name: format!("filter-{}", self.below(1 << 20)), kind })
    }
}
