//! What reached services, and what came of it: counted where it happens.

use naru_base::Instant;

use crate::expect::Meter;
use crate::latencies::Latencies;
use crate::transcript::INTERVALS_MAX;

/// How an instance was done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Answered(u16),
    /// The queue was full.
    Refused,
    /// Its deadline had passed before the work began.
    Late,
    /// The connection or the stream broke, no answer was ever meant to come, or the instance died.
    Lost,
    /// Nobody waited any more, and the instance stopped.
    Stopped,
}

/// Of one version of a service.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub arrived: u64,
    /// Statuses 2xx, 3xx, 4xx, 5xx.
    pub by_class: [u64; 4],
    pub refused: u64,
    pub late: u64,
    pub lost: u64,
    pub stopped: u64,
    /// At one instance.
    pub working_max: u32,
    pub waiting_max: u32,
    /// Of those that were answered, waiting included, in microseconds.
    pub latencies: Latencies,
}

impl Counts {
    /// All that came to an end.
    pub fn ended(&self) -> u64 {
        self.by_class.iter().sum::<u64>() + self.refused + self.late + self.lost + self.stopped
    }
}

#[derive(Debug)]
pub struct Ledger {
    /// By group.
    pub counts: Vec<Counts>,
    /// The service of each group.
    services: Vec<usize>,
    /// What reached each service in each interval.
    pub intervals: Vec<Vec<u64>>,
    current: Vec<u64>,
    interval_ns: u64,
    interval_ends: u64,
    /// What expectations measure, and the meters of each group.
    pub meters: Vec<Meter>,
    meters_of: Vec<Vec<usize>>,
}

impl Ledger {
    /// `services` has the service of each group, `meters` those of each meter.
    pub fn new(services: Vec<usize>, interval_ns: u64, meters: Vec<(Meter, Vec<usize>)>) -> Ledger {
        let interval_ns = interval_ns.max(1);
        let service_count = services.iter().max().map_or(0, |last| last + 1);
        let mut meters_of = vec![Vec::new(); services.len()];
        for (at, (_, groups)) in meters.iter().enumerate() {
            groups.iter().for_each(|group| meters_of[*group].push(at));
        }
        Ledger {
            counts: vec![Counts::default(); services.len()],
            services,
            intervals: Vec::new(),
            current: vec![0; service_count],
            interval_ns,
            interval_ends: interval_ns,
            meters: meters.into_iter().map(|(meter, _)| meter).collect(),
            meters_of,
        }
    }

    #[inline]
    pub fn on_arrived(&mut self, now: Instant, group: usize) {
        while now.0 >= self.interval_ends && self.intervals.len() + 1 < INTERVALS_MAX {
            self.interval_ends = self.interval_ends.saturating_add(self.interval_ns);
            let zeros = vec![0; self.current.len()];
            self.intervals.push(std::mem::replace(&mut self.current, zeros));
        }
        self.counts[group].arrived += 1;
        self.current[self.services[group]] += 1;
        for meter in &self.meters_of[group] {
            self.meters[*meter].on_begun(now);
        }
    }

    /// Of a request that had arrived at `arrived`. `ended` may be a moment to come.
    #[inline]
    pub fn on_ended(&mut self, arrived: Instant, ended: Instant, group: usize, end: End) {
        let counts = &mut self.counts[group];
        let micros = ended.since(arrived).as_nanos() as u64 / 1_000;
        let is_error = match end {
            End::Answered(status) => {
                let class = usize::from(status / 100).clamp(2, 5) - 2;
                counts.by_class[class] += 1;
                counts.latencies.record(micros);
                status >= 500
            }
            End::Refused => {
                counts.refused += 1;
                true
            }
            End::Late => {
                counts.late += 1;
                true
            }
            End::Lost => {
                counts.lost += 1;
                true
            }
            End::Stopped => {
                counts.stopped += 1;
                true
            }
        };
        for meter in &self.meters_of[group] {
            self.meters[*meter].on_ended(arrived, micros, is_error);
        }
    }

    #[inline]
    pub fn on_busy(&mut self, group: usize, working: usize, waiting: usize) {
        let counts = &mut self.counts[group];
        counts.working_max = counts.working_max.max(working as u32);
        counts.waiting_max = counts.waiting_max.max(waiting as u32);
    }

    /// The last interval is over.
    pub fn finish(&mut self) {
        let last = std::mem::take(&mut self.current);
        self.intervals.push(last);
    }
}
