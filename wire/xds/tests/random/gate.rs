//! Random checks of a gate.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_spec::{Check, CheckKind, LocalRate, TokenBucket};

use super::Dice;

impl Dice {
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
