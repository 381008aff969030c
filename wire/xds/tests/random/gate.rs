//! Random checks of a gate.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_spec::{Check, CheckKind, Cors, Csrf, GateChange, LocalRate, StringMatch, TokenBucket, ValueTest};

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

    /// What a route says to filters.
    pub(super) fn gate_of_rule(&mut self) -> Vec<GateChange> {
        let cors = self.maybe(|dice| GateChange::Instead(dice.cors()));
        let csrf = self.maybe(|dice| GateChange::Instead(dice.csrf()));
        let rate = self.maybe(|dice| GateChange::Instead(dice.local_rate()));
        cors.into_iter().chain(csrf).chain(rate).collect()
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

    pub(super) fn local_rate(&mut self) -> Check {
        let bucket = self.maybe(|dice| TokenBucket {
            tokens_max: 1 + dice.below(1 << 20) as u32,
            tokens_per_fill: 1 + dice.below(100) as u32,
            fill_interval: Duration::from_millis(50 + dice.below(100_000)),
        });
        let rate = LocalRate {
            enabled: Fraction::new(self.below(101) as u32, Denominator::Hundred),
            enforced: Fraction::new(self.below(10_001) as u32, Denominator::TenThousand),
            status: self.one(&[429, 503, 400]),
            tells: self.coin(),
            is_resource_exhausted: self.coin(),
            ..LocalRate::new(self.word(), bucket)
        };
        Check {
            name: "envoy.filters.http.local_ratelimit".into(),
            kind: CheckKind::LocalRate(Box::new(rate)),
        }
    }
}
