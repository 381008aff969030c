//! Random policies of what is done after a failure.

use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_spec::{
    Abort, AbortBy, AutoTimeout, Backoff, Comparison, Delay, DelayBy, Fault, FaultScope, Hedge, Mirror,
    MirrorHost, MirrorWrites, RateLimitedBackoff, ReadWriteGroups, ReadYourWrites, Repeats, ResetFormat,
    ResetHeader, RetryOn, RetryPolicy,
};

use super::Dice;

impl Dice {
    pub(super) fn groups(&mut self, clusters: &[String]) -> ReadWriteGroups {
        ReadWriteGroups {
            read: self.maybe(|d| d.one(clusters)),
            write: self.maybe(|d| d.one(clusters)),
            write_methods: self.maybe(|d| d.few(|d| d.one(&[Method::GET, Method::POST]))),
            write_paths: self.few(Dice::string_match),
            read_paths: self.few(Dice::string_match),
            read_your_writes: self.maybe(|d| {
                let lasts = Duration::from_nanos(1_000_000 + d.below(1_000_000_000_000));
                match d.coin() {
                    true => ReadYourWrites::by_cookie(lasts, "wrote"),
                    false => ReadYourWrites::by_header(lasts, d.name(), d.word()),
                }
                .expect("a time, and a name")
            }),
        }
    }

    pub(super) fn retry(&mut self) -> RetryPolicy {
        let words = RetryOn::WORDS.iter().filter(|_| self.coin());
        let on = words.fold(RetryOn::NONE, |on, (_, more)| on.and(*more));
        RetryPolicy {
            on,
            retries_max: self.one(&[0, 1, 2, 64]),
            statuses: self.few(|d| d.one(&[100, 409, 503, 599])),
            response_headers: self.few(Dice::header_match),
            request_headers: self.few(Dice::header_match),
            per_try_timeout: self.maybe(Dice::duration),
            per_try_idle_timeout: self.maybe(Dice::duration),
            backoff: self.backoff(),
            rate_limited: self.maybe(|d| RateLimitedBackoff {
                headers: vec![ResetHeader {
                    name: d.name(),
                    format: d.one(&[ResetFormat::Seconds, ResetFormat::UnixTimestamp]),
                }],
                max: d.duration(),
            }),
            avoids_tried: self.coin(),
            picks_max: self.one(&[1, 5]),
            avoids_priorities_after: self.one(&[None, Some(1), Some(2)]),
            repeats: self.one(&[Repeats::Idempotent, Repeats::Everything]),
        }
    }

    fn backoff(&mut self) -> Backoff {
        let (base, more) =
            (self.duration(), self.one(&[Duration::ZERO, Duration::from_secs(1), Duration::MAX]));
        let (max, jitter_percent) = (base.saturating_add(more), self.below(101) as u8);
        match self.below(4) {
            // A message has no word for longer ones.
            0 => Backoff::Jittered { base, max: base + more.min(Duration::from_secs(1)) },
            1 => Backoff::Fixed { wait: self.one(&[base, Duration::ZERO]), jitter_percent },
            2 => Backoff::Linear { step: base, max, jitter_percent },
            _ => Backoff::Exponential {
                first: base,
                factor_percent: 100 + self.below(900) as u32,
                max,
                jitter_percent,
            },
        }
    }

    pub(super) fn hedge(&mut self, retry: Option<&RetryPolicy>) -> Hedge {
        Hedge {
            initial: 1 + self.below(4) as u32,
            additional: self.share(),
            on_per_try_timeout: self.coin() && retry.is_some_and(|retry| retry.per_try_timeout.is_some()),
        }
    }

    fn share(&mut self) -> Fraction {
        let denominator = self.one(&[Denominator::Hundred, Denominator::TenThousand, Denominator::Million]);
        Fraction::new(self.below(101) as u32, denominator)
    }

    pub(super) fn auto_timeout(&mut self) -> AutoTimeout {
        let min = self.duration();
        AutoTimeout {
            quantile_permille: 1 + self.below(999) as u32,
            factor_percent: 101 + self.below(900) as u32,
            min,
            max: min + self.duration(),
        }
    }

    pub(super) fn fault(&mut self) -> Fault {
        let delay = Delay {
            by: self.one(&[DelayBy::Header, DelayBy::Fixed(Duration::from_millis(7))]),
            share: self.share(),
        };
        let abort = Abort {
            by: self.one(&[AbortBy::Header, AbortBy::Grpc(14), AbortBy::Status(StatusCode::IM_A_TEAPOT)]),
            share: self.share(),
        };
        let (delay, abort) =
            self.one(&[(Some(delay), None), (None, Some(abort)), (Some(delay), Some(abort))]);
        Fault {
            headers: self.few(Dice::header_match),
            cluster: self.maybe(Dice::token),
            nodes: self.few(Dice::word),
            active_max: self.maybe(|d| d.below(9) as u32),
            scope: self.one(&[FaultScope::Client, FaultScope::Upstream]),
            ..Fault::new(delay, abort)
        }
    }

    pub(super) fn mirror(&mut self, clusters: &[String]) -> Mirror {
        Mirror {
            cluster: self.one(clusters),
            share: self.share(),
            host: self.one(&[MirrorHost::Shadow, MirrorHost::Same, MirrorHost::Literal("a:1".into())]),
            writes: self.one(&[
                MirrorWrites::Sent,
                MirrorWrites::NotSent,
                MirrorWrites::Marked(HeaderName::from_static("x-dry-run")),
            ]),
            comparison: self.maybe(|d| Comparison { ignored_headers: d.few(Dice::name), body_bytes_max: 9 }),
        }
    }
}
