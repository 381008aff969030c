//! Random checks of a gate.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_spec::{
    Check, CheckKind, Coder, Compressor, ContentCoding, Decompressor, GateChange, LocalRate, OnEtag,
    TokenBucket,
};

use super::Dice;

impl Dice {
    pub(super) fn gate_changes(&mut self) -> Vec<GateChange> {
        let rate = self.maybe(|dice| GateChange::Instead(dice.local_rate()));
        // By name, as they are read.
        rate.into_iter().chain(self.maybe(Dice::content_change)).collect()
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
