//! What is given up, step by step, while more comes than there is room for: the levels of a `Surge`.
//!
//! Level 0 is the ordinary one. Each level has what it is entered for, what it is left for, and its steps; at a level the
//! steps of all levels up to it act, and of two for the same thing that of the higher one. Nothing of the configuration
//! changes for it: a step says what its owner does otherwise at a level, and whoever owns it asks for the level.

use std::time::Duration;

use naru_base::Fraction;

use crate::{Invalid, Match, QuotaAlgorithm, defaults};

#[derive(Clone, Debug, PartialEq)]
pub struct Surge {
    /// Between two looks at the signals.
    pub every: Duration,
    /// So many requests per second are all that can be served.
    pub capacity: Option<u32>,
    /// From the first one up.
    pub levels: Vec<SurgeLevel>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SurgeLevel {
    pub name: String,
    /// One of them reached, for `enter_after`, and the level is entered from the one below.
    pub enter: Vec<SurgeThreshold>,
    /// All of them below, for `leave_after`, and it is left for the one below.
    pub leave: Vec<SurgeThreshold>,
    pub enter_after: Duration,
    pub leave_after: Duration,
    pub steps: Vec<SurgeStep>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurgeThreshold {
    pub signal: SurgeSignal,
    /// In the unit of the signal.
    pub value: u64,
}

/// What is measured. More of it is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SurgeSignal {
    /// Requests per second, in thousandths of the capacity.
    Requests,
    /// How long the slowest twentieth of what was forwarded took at least, in microseconds.
    P95,
    /// The slowest hundredth.
    P99,
    /// Of what was forwarded, the share that was answered 500 to 599; in thousandths.
    Errors,
    /// Use of the processors of this machine, in thousandths.
    Cpu,
    /// Use of the memory of this machine, in thousandths.
    Memory,
    /// Requests that wait at a limit.
    Queued,
    /// Of what could have been answered from memory, the share that was not; in thousandths.
    CacheMisses,
}

impl SurgeSignal {
    pub const ALL: [SurgeSignal; 8] = [
        SurgeSignal::Requests,
        SurgeSignal::P95,
        SurgeSignal::P99,
        SurgeSignal::Errors,
        SurgeSignal::Cpu,
        SurgeSignal::Memory,
        SurgeSignal::Queued,
        SurgeSignal::CacheMisses,
    ];

    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            SurgeSignal::Requests => "requestsPercent",
            SurgeSignal::P95 => "p95",
            SurgeSignal::P99 => "p99",
            SurgeSignal::Errors => "errorsPercent",
            SurgeSignal::Cpu => "cpuPercent",
            SurgeSignal::Memory => "memoryPercent",
            SurgeSignal::Queued => "queued",
            SurgeSignal::CacheMisses => "cacheMissPercent",
        }
    }

    pub fn index(self) -> usize {
        self as usize
    }

    /// A value with its unit.
    pub fn phrase(self, value: u64) -> String {
        match self {
            SurgeSignal::Queued => value.to_string(),
            SurgeSignal::P95 | SurgeSignal::P99 if value.is_multiple_of(1_000) => {
                format!("{}ms", value / 1_000)
            }
            SurgeSignal::P95 | SurgeSignal::P99 => format!("{}.{:03}ms", value / 1_000, value % 1_000),
            _ if value.is_multiple_of(10) => format!("{}%", value / 10),
            _ => format!("{}.{}%", value / 10, value % 10),
        }
    }
}

/// What is done at a level.
#[derive(Clone, Debug, PartialEq)]
pub enum SurgeStep {
    /// What routes say of how long answers are fresh is multiplied, of one class or of all. What answers say themselves
    /// holds.
    CacheLifetime { class: Option<String>, percent: u32 },
    /// Limits of clients allow a part of what they say; by the names of their counts.
    RateLimit { quotas: Vec<String>, percent: u32 },
    /// Requests for which a block holds are refused at the gateways, or a share of them.
    Shed { blocks: Vec<Match>, share: Fraction, retry_after: Duration },
    /// No process of it runs.
    Pause { workload: String },
    /// More processes of it run, up to so many.
    Replicas { workload: String, percent: u32, max: u32 },
}

/// What is shed at a gateway, by the levels from which it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Shed {
    pub rules: Vec<ShedRule>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ShedRule {
    /// It acts there and above.
    pub from_level: u32,
    pub blocks: Vec<Match>,
    pub share: Fraction,
    pub retry_after: Duration,
}

impl Surge {
    /// Those that act at a level, the strongest last.
    pub fn steps_at(&self, level: u32) -> impl Iterator<Item = &SurgeStep> {
        self.levels.iter().take(level as usize).flat_map(|level| &level.steps)
    }

    /// By how many percent of itself the lifetime of a class is longer at a level; 100 is as it is said.
    pub fn cache_percent(&self, class: &str, level: u32) -> u32 {
        let of_class = self.steps_at(level).filter_map(|step| match step {
            SurgeStep::CacheLifetime { class: of, percent } => {
                of.as_ref().is_none_or(|of| of == class).then_some(*percent)
            }
            _ => None,
        });
        of_class.last().unwrap_or(100)
    }

    /// What part of a limit is allowed at a level, in percent. What is counted without its store is a part of it.
    pub fn quota_percent(&self, quota: &str, level: u32) -> u32 {
        let quota = quota.strip_suffix(defaults::QUOTA_LOCAL_SUFFIX).unwrap_or(quota);
        let of_quota = self.steps_at(level).filter_map(|step| match step {
            SurgeStep::RateLimit { quotas, percent } => {
                quotas.iter().any(|of| of == quota).then_some(*percent)
            }
            _ => None,
        });
        of_quota.last().unwrap_or(100)
    }

    /// How many processes of a workload run at a level, of which so many do else.
    pub fn replicas(&self, workload: &str, usual: u32, level: u32) -> u32 {
        let (mut replicas, mut is_paused) = (usual, false);
        for step in self.steps_at(level) {
            match step {
                SurgeStep::Pause { workload: of } if of == workload => is_paused = true,
                SurgeStep::Replicas { workload: of, percent, max } if of == workload => {
                    let more = (u64::from(usual) * u64::from(*percent)).div_ceil(100).min(u64::from(*max));
                    replicas = usual.max(u32::try_from(more).unwrap_or(u32::MAX));
                }
                _ => {}
            }
        }
        if is_paused { 0 } else { replicas }
    }

    /// What its levels shed.
    pub fn shed(&self) -> Option<Shed> {
        let rules = (1u32..).zip(&self.levels).flat_map(|(from_level, level)| {
            level.steps.iter().filter_map(move |step| match step {
                SurgeStep::Shed { blocks, share, retry_after } => Some(ShedRule {
                    from_level,
                    blocks: blocks.clone(),
                    share: *share,
                    retry_after: *retry_after,
                }),
                _ => None,
            })
        });
        let rules: Vec<ShedRule> = rules.collect();
        (!rules.is_empty()).then_some(Shed { rules })
    }

    /// Whether a signal decides anything.
    pub fn asks_for(&self, signal: SurgeSignal) -> bool {
        self.levels.iter().flat_map(|level| &level.enter).any(|threshold| threshold.signal == signal)
    }

    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if self.every < defaults::SURGE_EVERY_MIN {
            let text = format!("{} ms or more", defaults::SURGE_EVERY_MIN.as_millis());
            found.push(Invalid::new("a Surge looks too often").hint(text));
        }
        if self.levels.is_empty() || self.levels.len() > defaults::SURGE_LEVELS_MAX {
            found.push(Invalid::new(format!("a Surge has 1 to {} levels", defaults::SURGE_LEVELS_MAX)));
        }
        if self.capacity.is_none_or(|capacity| capacity == 0) && self.asks_for(SurgeSignal::Requests) {
            found.push(
                Invalid::new("nobody knows what requests are a part of")
                    .hint("say capacity.requestsPerSecond"),
            );
        }
        for level in &self.levels {
            let name = &level.name;
            if level.enter.is_empty() {
                found.push(Invalid::new(format!("level '{name}' is never entered")));
            }
            for enter in &level.enter {
                let is_left = level.leave.iter().any(|leave| leave.signal == enter.signal);
                let is_above =
                    level.leave.iter().any(|leave| leave.signal == enter.signal && leave.value > enter.value);
                if !is_left || is_above {
                    let signal = enter.signal.name();
                    found.push(Invalid::new(format!(
                        "level '{name}' is left at a {signal} above which it is entered"
                    )));
                }
            }
            for step in &level.steps {
                let is_out_of_range = match step {
                    SurgeStep::CacheLifetime { percent, .. } => {
                        !(100..=defaults::SURGE_LIFETIME_PERCENT_MAX).contains(percent)
                    }
                    SurgeStep::RateLimit { percent, .. } => !(1..=100).contains(percent),
                    SurgeStep::Replicas { percent, max, .. } => *percent < 100 || *max == 0,
                    SurgeStep::Shed { blocks, .. } => blocks.is_empty(),
                    SurgeStep::Pause { .. } => false,
                };
                if is_out_of_range {
                    found.push(Invalid::new(format!("a step of level '{name}' is out of range")));
                }
            }
        }
        found
    }
}

impl QuotaAlgorithm {
    /// It allows such a part of it: at once, and in each window. At least `at_least` at once, or nothing would ever
    /// pass.
    pub fn tightened(self, percent: u32, at_least: u32) -> QuotaAlgorithm {
        let part = |whole: u32| {
            let part = (u64::from(whole) * u64::from(percent)).div_ceil(100);
            u32::try_from(part).unwrap_or(u32::MAX).max(1)
        };
        let at_once = |whole: u32| part(whole).max(at_least).min(whole);
        match self {
            QuotaAlgorithm::TokenBucket { requests, window, burst } => {
                QuotaAlgorithm::TokenBucket { requests: part(requests), window, burst: at_once(burst) }
            }
            QuotaAlgorithm::FixedWindow { requests, window } => {
                QuotaAlgorithm::FixedWindow { requests: at_once(requests), window }
            }
            QuotaAlgorithm::SlidingWindow { requests, window } => {
                QuotaAlgorithm::SlidingWindow { requests: at_once(requests), window }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(steps: Vec<SurgeStep>) -> SurgeLevel {
        let threshold = |value| vec![SurgeThreshold { signal: SurgeSignal::Cpu, value }];
        SurgeLevel {
            name: "busy".to_owned(),
            enter: threshold(800),
            leave: threshold(600),
            enter_after: Duration::from_secs(10),
            leave_after: Duration::from_secs(60),
            steps,
        }
    }

    fn surge(levels: Vec<SurgeLevel>) -> Surge {
        Surge { every: Duration::from_secs(1), capacity: None, levels }
    }

    #[test]
    fn steps_add_up_and_the_higher_level_wins() {
        let lifetime = |class: Option<&str>, percent| SurgeStep::CacheLifetime {
            class: class.map(str::to_owned),
            percent,
        };
        let pause = SurgeStep::Pause { workload: "ads".to_owned() };
        let twice = SurgeStep::Replicas { workload: "place".to_owned(), percent: 200, max: 3 };
        let half = SurgeStep::RateLimit { quotas: vec!["a".to_owned()], percent: 50 };
        let surge = surge(vec![
            level(vec![lifetime(None, 200), twice]),
            level(vec![lifetime(Some("hot"), 500), pause, half]),
        ]);
        assert_eq!(surge.problems(), []);
        let at = |level| {
            [
                surge.cache_percent("hot", level),
                surge.cache_percent("static", level),
                surge.quota_percent("a", level),
                surge.quota_percent("a@local", level),
                surge.quota_percent("b", level),
                surge.replicas("ads", 2, level),
                surge.replicas("place", 1, level),
                surge.replicas("place", 2, level),
                surge.replicas("place", 4, level),
            ]
        };
        assert_eq!(at(0), [100, 100, 100, 100, 100, 2, 1, 2, 4]);
        assert_eq!(at(1), [200, 200, 100, 100, 100, 2, 2, 3, 4]);
        assert_eq!(at(2), [500, 200, 50, 50, 100, 0, 2, 3, 4]);
        // A level that is not there is the last.
        assert_eq!(at(9), at(2));
    }

    #[test]
    fn a_limit_is_tightened_to_a_part_that_still_lets_something_pass() {
        let window = Duration::from_secs(60);
        let bucket = QuotaAlgorithm::TokenBucket { requests: 100, window, burst: 10 };
        let tight = QuotaAlgorithm::TokenBucket { requests: 5, window, burst: 3 };
        assert_eq!(bucket.tightened(5, 3), tight);
        assert_eq!(bucket.tightened(100, 1), bucket);
        let fixed = |requests| QuotaAlgorithm::FixedWindow { requests, window };
        assert_eq!(fixed(3).tightened(1, 1), fixed(1));
        assert_eq!(fixed(200).tightened(33, 1), fixed(66));
    }

    #[test]
    fn a_level_that_cannot_be_is_told() {
        let mut upside_down = level(vec![SurgeStep::RateLimit { quotas: Vec::new(), percent: 0 }]);
        upside_down.leave[0].value = 900;
        let mut without = surge(vec![upside_down]);
        without.every = Duration::ZERO;
        without.levels[0].enter.push(SurgeThreshold { signal: SurgeSignal::Requests, value: 800 });
        let texts: Vec<String> = without.problems().into_iter().map(|invalid| invalid.message).collect();
        assert_eq!(
            texts,
            [
                "a Surge looks too often",
                "nobody knows what requests are a part of",
                "level 'busy' is left at a cpuPercent above which it is entered",
                "level 'busy' is left at a requestsPercent above which it is entered",
                "a step of level 'busy' is out of range",
            ]
        );
        assert_eq!(surge(Vec::new()).problems().len(), 1);
    }

    #[test]
    fn values_are_told_with_their_units() {
        assert_eq!(SurgeSignal::Cpu.phrase(800), "80%");
        assert_eq!(SurgeSignal::Errors.phrase(55), "5.5%");
        assert_eq!(SurgeSignal::P99.phrase(1_500_000), "1500ms");
        assert_eq!(SurgeSignal::P95.phrase(1_234), "1.234ms");
        assert_eq!(SurgeSignal::Queued.phrase(7), "7");
        for (at, signal) in SurgeSignal::ALL.into_iter().enumerate() {
            assert_eq!(signal.index(), at);
        }
    }
}
