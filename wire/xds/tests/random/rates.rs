//! Random limits by what requests are called.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_spec::{
    Action, Check, CheckKind, DescribedHeader, Descriptor, DescriptorPart, ExternalGrpc, Format, GateChange,
    HeaderAction, HeaderOp, HeaderOps, HitCount, Hits, HostRates, LocalDescriptor, LocalRate, NameMatch,
    PseudoHeader, RateOverride, RateRequests, RateService, RateServiceChange, Rule, RuleRates, TokenBucket,
};

use super::Dice;

/// Where descriptors are said, which decides what can be said of them.
#[derive(Clone, Copy, PartialEq)]
enum Said {
    AtRoutes,
    ByLocal,
    ByService,
}

impl Dice {
    fn bucket(&mut self) -> TokenBucket {
        TokenBucket {
            tokens_max: 1 + self.below(1 << 20) as u32,
            tokens_per_fill: 1 + self.below(100) as u32,
            fill_interval: Duration::from_millis(50 + self.below(100_000)),
        }
    }

    fn host_rates(&mut self) -> HostRates {
        self.one(&[HostRates::Override, HostRates::Include, HostRates::Ignore])
    }

    fn known_headers(&mut self) -> HeaderOps {
        let add = self.few(|dice| HeaderOp {
            name: dice.name(),
            value: Format::parse(dice.one(&["plain", "%REQ(x-a?:path)% of %PROTOCOL%"])).expect("it is one"),
            action: dice.one(&[HeaderAction::Append, HeaderAction::Overwrite, HeaderAction::AddIfAbsent]),
            keep_empty: dice.coin(),
        });
        HeaderOps { remove: Vec::new(), add }
    }

    fn local_rate(&mut self) -> Check {
        let bucket = self.bucket();
        self.local_rate_of(Some(bucket))
    }

    /// A route says its bucket itself.
    fn local_rate_of(&mut self, bucket: Option<TokenBucket>) -> Check {
        let mut descriptors: Vec<LocalDescriptor> = Vec::new();
        for at in 0..self.below(3) {
            let mut entries = self.few(|dice| (dice.word(), dice.one(&["", "v"]).to_owned()));
            entries.push(("own".to_owned(), at.to_string()));
            descriptors.push(LocalDescriptor { entries, bucket: self.bucket(), is_shadow: self.coin() });
        }
        let rate = LocalRate {
            rates: if descriptors.is_empty() { Vec::new() } else { self.descriptors(Said::ByLocal) },
            descriptors,
            stage: self.below(11) as u32,
            host_rates: self.host_rates(),
            always_takes_of_all: self.coin(),
            values_max: 1 + self.below(100) as u32,
            is_of_connection: self.coin(),
            enabled: Fraction::new(self.below(101) as u32, Denominator::Hundred),
            enforced: Fraction::new(self.below(10_001) as u32, Denominator::TenThousand),
            status: self.one(&[429, 503, 400]),
            response_headers: self.known_headers(),
            request_headers: self.known_headers(),
            tells: self.coin(),
            tells_retry: self.coin(),
            is_resource_exhausted: self.coin(),
            ..LocalRate::new(self.word(), bucket)
        };
        Check {
            name: "envoy.filters.http.local_ratelimit".into(),
            kind: CheckKind::LocalRate(Box::new(rate)),
        }
    }

    fn descriptors(&mut self, said: Said) -> Vec<Descriptor> {
        self.few(|dice| dice.descriptor(said))
    }

    fn descriptor(&mut self, said: Said) -> Descriptor {
        let mut parts = self.few(Dice::part);
        parts.push(DescriptorPart::RemoteAddress);
        let hits = |dice: &mut Dice| Hits {
            count: match dice.coin() {
                true => HitCount::Number(dice.below(1 << 20)),
                false => HitCount::Format(Format::parse("%REQ(x-cost)%").expect("it is one")),
            },
            gives_back: dice.coin(),
        };
        let limit = |dice: &mut Dice| RateOverride {
            requests: dice.below(1 << 20) as u32,
            unit: 1 + dice.below(6) as u32,
        };
        Descriptor {
            stage: if said == Said::AtRoutes { self.below(11) as u32 } else { 0 },
            parts,
            hits: if said == Said::AtRoutes { None } else { self.maybe(hits) },
            limit: if said == Said::ByLocal { None } else { self.maybe(limit) },
            tells: self.maybe(Dice::coin),
        }
    }

    fn part(&mut self) -> DescriptorPart {
        let (key, value) = (self.word(), self.word());
        match self.below(11) {
            0 => DescriptorPart::SourceCluster(String::new()),
            1 => DescriptorPart::DestinationCluster,
            2 => {
                let name = match self.coin() {
                    true => self.name().as_str().to_owned(),
                    false => self.one(&[":path", ":method", ":authority", ":scheme"]).to_owned(),
                };
                DescriptorPart::Header { name, key, skips: self.coin() }
            }
            3 => DescriptorPart::QueryParameter { name: value, key, skips: self.coin() },
            4 => DescriptorPart::RemoteAddress,
            5 => DescriptorPart::MaskedRemoteAddress {
                v4_bits: self.below(33) as u8,
                v6_bits: self.below(129) as u8,
            },
            6 => DescriptorPart::Literal { key, value },
            7 => {
                let mut tests = self.few(|dice| DescribedHeader::Own(dice.header_match()));
                tests.push(DescribedHeader::Pseudo {
                    which: self.one(&PseudoHeader::ALL).1,
                    test: self.maybe(Dice::string_match),
                    inverts: self.coin(),
                });
                DescriptorPart::Headers { key, value, expects: self.coin(), tests }
            }
            8 => {
                let mut tests = self.few(|dice| NameMatch {
                    name: dice.word(),
                    test: Some(dice.string_match()),
                    invert: false,
                });
                tests.push(NameMatch { name: self.word(), test: None, invert: self.coin() });
                DescriptorPart::Query { key, value, expects: self.coin(), tests }
            }
            9 => DescriptorPart::AddressMatch {
                key,
                value: Format::parse(self.one(&["v", "%REQ(:path)% of %PROTOCOL%"])).expect("it is one"),
                default: self.one(&["", "d"]).to_owned(),
                networks: vec![
                    "10.0.0.0/8".parse().expect("it is one"),
                    "fd00::/8".parse().expect("it is one"),
                ],
                inverts: self.coin(),
            },
            _ => DescriptorPart::Claim {
                key,
                path: vec![value, self.word()],
                default: self.one(&["", "d"]).to_owned(),
                skips: self.coin(),
            },
        }
    }

    /// Of one of these clusters.
    fn rate_service(&mut self, clusters: &[String]) -> Check {
        let cluster = if clusters.is_empty() { self.token() } else { self.one(clusters) };
        let metadata = self.few(|dice| (dice.name(), dice.one(&["a", "50%"]).to_owned()));
        let authority = self.one(&["", "limits.example"]).to_owned();
        let grpc = ExternalGrpc { cluster, authority, metadata };
        let part = Fraction::new(50, Denominator::TenThousand);
        let service = RateService {
            stage: self.below(11) as u32,
            rates: self.descriptors(Said::ByService),
            only: self.maybe(|dice| dice.one(&[RateRequests::Internal, RateRequests::External])),
            timeout: self.maybe(|dice| Duration::from_millis(1 + dice.below(10_000))),
            denies_failed: self.one(&[Fraction::ALL, Fraction::NONE, part]),
            status_on_error: self.one(&[500, 404, 200]),
            status: self.one(&[429, 503]),
            response_headers: self.known_headers(),
            enabled: self.one(&[Fraction::ALL, part]),
            enforced: self.one(&[Fraction::ALL, Fraction::NONE]),
            tells: self.coin(),
            tells_retry: self.coin(),
            marks: self.coin(),
            is_resource_exhausted: self.coin(),
            ..RateService::new(grpc, self.word())
        };
        Check { name: "envoy.filters.http.ratelimit".into(), kind: CheckKind::RateService(Box::new(service)) }
    }

    /// What a route says to those who count, by name as they are read.
    pub(super) fn rate_changes(&mut self) -> Vec<GateChange> {
        let mut changes = Vec::new();
        changes.extend(self.maybe(|dice| {
            let bucket = dice.bucket();
            GateChange::Instead(dice.local_rate_of(Some(bucket)))
        }));
        changes.extend(self.maybe(|dice| {
            let change = RateServiceChange {
                host_rates: dice.host_rates(),
                rates: dice.descriptors(Said::ByService),
                domain: dice.one(&["", "other"]).to_owned(),
            };
            GateChange::Count("envoy.filters.http.ratelimit".to_owned(), Box::new(change))
        }));
        changes
    }

    /// What requests of a route are called: what its virtual host says of it is the same for all of its routes.
    fn rule_rates(&mut self, of_host: &[Descriptor]) -> Option<GateChange> {
        let said = RuleRates {
            own: self.descriptors(Said::AtRoutes),
            of_host: of_host.to_vec(),
            includes_host: self.coin(),
        };
        (said != RuleRates::default()).then(|| GateChange::Describe(Box::new(said)))
    }

    /// Those of one virtual host.
    pub(super) fn called_rules(&mut self, clusters: &[String]) -> Vec<Rule> {
        let of_host = self.descriptors(Said::AtRoutes);
        self.few(|dice| {
            let mut rule = dice.rule(clusters);
            if matches!(rule.action, Action::Forward(_)) {
                rule.gate.extend(dice.rule_rates(&of_host));
            }
            rule
        })
    }

    /// Of a listener.
    pub(super) fn who_count(&mut self, clusters: &[String]) -> Vec<Check> {
        let local = self.maybe(Dice::local_rate);
        let service = self.maybe(|dice| dice.rate_service(clusters));
        local.into_iter().chain(service).collect()
    }
}
