//! Envoy's detector over lists of outcomes: runs are counted from the end of a list, rates over
//! the part of it that belongs to the last interval.

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::Instant;
use naru_spec::OutlierDetection;

/// One thing that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Answer {
        status: u16,
        interval: u64,
    },
    Connection {
        is_good: bool,
        interval: u64,
    },
    /// The run of 5xx, of gateway errors, or of local failures begins anew here.
    Reset5xx,
    ResetGateway,
    ResetLocal,
}

#[derive(Clone, Debug, Default)]
struct Host {
    said: Vec<Said>,
    ejected: Option<Instant>,
    returned: Option<Instant>,
    backoff: u32,
}

#[derive(Debug)]
pub struct RefDetector {
    settings: OutlierDetection,
    hosts: BTreeMap<u64, Host>,
    interval: u64,
    sweep: Instant,
}

impl RefDetector {
    pub fn new(settings: OutlierDetection, endpoints: &[u64]) -> RefDetector {
        let hosts = endpoints.iter().map(|endpoint| (*endpoint, Host::default())).collect();
        RefDetector { sweep: Instant::ZERO + settings.interval, settings, hosts, interval: 0 }
    }

    pub fn set_endpoints(&mut self, endpoints: &[u64]) {
        self.hosts.retain(|endpoint, _| endpoints.contains(endpoint));
        for endpoint in endpoints {
            self.hosts.entry(*endpoint).or_default();
        }
    }

    pub fn ejected(&self) -> Vec<u64> {
        let ejected = self.hosts.iter().filter(|(_, host)| host.ejected.is_some());
        ejected.map(|(endpoint, _)| *endpoint).collect()
    }

    /// `status`: an answer. Without one no connection could be made.
    pub fn on_outcome(&mut self, now: Instant, endpoint: u64, status: Option<u16>) {
        let interval = self.interval;
        let is_split = self.settings.split_external_local_origin_errors;
        let Some(host) = self.hosts.get_mut(&endpoint) else { return };
        if is_split {
            host.said.push(Said::Connection { is_good: status.is_some(), interval });
        }
        match status {
            Some(status) => host.said.push(Said::Answer { status, interval }),
            None if !is_split => host.said.push(Said::Answer { status: 503, interval }),
            None => {
                if self.run_of_local(endpoint) == self.settings.consecutive_local_origin_failure {
                    let percent = self.settings.enforcing.consecutive_local_origin_failure;
                    self.on_run(now, endpoint, percent, Said::ResetLocal);
                }
                return;
            }
        }
        let of_gateway = self.run(endpoint, Said::ResetGateway, |status| (502..505).contains(&status));
        if of_gateway > 0 && of_gateway == self.settings.consecutive_gateway_failure {
            let percent = self.settings.enforcing.consecutive_gateway_failure;
            self.on_run(now, endpoint, percent, Said::ResetGateway);
        }
        let of_5xx = self.run(endpoint, Said::Reset5xx, |status| status >= 500);
        if of_5xx > 0 && of_5xx == self.settings.consecutive_5xx {
            self.on_run(now, endpoint, self.settings.enforcing.consecutive_5xx, Said::Reset5xx);
        }
    }

    fn run(&self, endpoint: u64, reset: Said, is_bad: fn(u16) -> bool) -> u32 {
        let mut run = 0;
        for said in self.hosts[&endpoint].said.iter().rev() {
            match said {
                Said::Answer { status, .. } if is_bad(*status) => run += 1,
                Said::Answer { .. } => break,
                said if *said == reset => break,
                _ => {}
            }
        }
        run
    }

    fn run_of_local(&self, endpoint: u64) -> u32 {
        let mut run = 0;
        for said in self.hosts[&endpoint].said.iter().rev() {
            match said {
                Said::Connection { is_good: false, .. } => run += 1,
                Said::Connection { is_good: true, .. } | Said::ResetLocal => break,
                _ => {}
            }
        }
        run
    }

    fn on_run(&mut self, now: Instant, endpoint: u64, percent: u32, reset: Said) {
        if self.hosts[&endpoint].ejected.is_none() {
            self.eject(now, endpoint, percent);
            self.hosts.get_mut(&endpoint).unwrap().said.push(reset);
        }
    }

    /// Chance is not tossed here: a percentage is 0 or 100.
    fn eject(&mut self, now: Instant, endpoint: u64, percent: u32) {
        let active = self.ejected().len();
        let share = 100.0 * (active + 1) as f64 / self.hosts.len() as f64;
        let is_allowed = share <= f64::from(self.settings.max_ejection_percent);
        let is_first = self.settings.always_eject_one_host && active == 0;
        let host = self.hosts.get_mut(&endpoint).unwrap();
        if host.ejected.is_none() && (is_allowed || is_first) && percent == 100 {
            host.ejected = Some(now);
            let (base, max) = (self.settings.base_ejection_time, self.settings.max_ejection_time);
            if base * host.backoff < max + base {
                host.backoff += 1;
            }
        }
    }

    pub fn tick(&mut self, now: Instant) {
        if now < self.sweep {
            return;
        }
        self.sweep = now + self.settings.interval;
        for host in self.hosts.values_mut() {
            let lasts =
                (self.settings.base_ejection_time * host.backoff).min(self.settings.max_ejection_time);
            if host.ejected.is_some_and(|ejected| now.since(ejected) >= lasts) {
                host.ejected = None;
                host.returned = Some(now);
                host.said.extend([Said::Reset5xx, Said::ResetGateway, Said::ResetLocal]);
            }
        }
        let enforcing = self.settings.enforcing;
        let answers: fn(&Said) -> Option<(bool, u64)> = |said| match said {
            Said::Answer { status, interval } => Some((*status < 500, *interval)),
            _ => None,
        };
        self.compare(now, answers, enforcing.success_rate, enforcing.failure_percentage);
        let connections: fn(&Said) -> Option<(bool, u64)> = |said| match said {
            Said::Connection { is_good, interval } => Some((*is_good, *interval)),
            _ => None,
        };
        let (by_rate, by_percentage) =
            (enforcing.local_origin_success_rate, enforcing.local_origin_failure_percentage);
        self.compare(now, connections, by_rate, by_percentage);
        for host in self.hosts.values_mut().filter(|host| host.ejected.is_none()) {
            let is_quiet = |returned: Instant| now.since(returned) >= self.settings.interval;
            if host.returned.is_some_and(is_quiet) && host.backoff > 0 {
                host.backoff -= 1;
            }
        }
        self.interval += 1;
    }

    fn compare(
        &mut self,
        now: Instant,
        of: fn(&Said) -> Option<(bool, u64)>,
        by_rate: u32,
        by_percentage: u32,
    ) {
        // Endpoint, requests, percentage that succeeded.
        let mut rated: Vec<(u64, usize, f64)> = Vec::new();
        for (endpoint, host) in self.hosts.iter().filter(|(_, host)| host.ejected.is_none()) {
            let said: Vec<bool> = host
                .said
                .iter()
                .filter_map(of)
                .filter(|(_, interval)| *interval == self.interval)
                .map(|(is_good, _)| is_good)
                .collect();
            if !said.is_empty() {
                let good = said.iter().filter(|is_good| **is_good).count();
                rated.push((*endpoint, said.len(), good as f64 * 100.0 / said.len() as f64));
            }
        }
        let enough = |volume: u32, hosts: u32| {
            let enough: Vec<(u64, f64)> = rated
                .iter()
                .filter(|(_, requests, _)| *requests >= volume as usize)
                .map(|(endpoint, _, rate)| (*endpoint, *rate))
                .collect();
            if enough.len() >= hosts as usize { enough } else { Vec::new() }
        };
        let settings = self.settings.success_rate;
        let with_rate = enough(settings.request_volume, settings.minimum_hosts);
        let settings_of_percentage = self.settings.failure_percentage;
        let with_percentage =
            enough(settings_of_percentage.request_volume, settings_of_percentage.minimum_hosts);
        let mean = with_rate.iter().map(|(_, rate)| rate).sum::<f64>() / with_rate.len() as f64;
        let variance =
            with_rate.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / with_rate.len() as f64;
        let lowest = mean - f64::from(settings.stdev_factor) / 1_000.0 * variance.sqrt();
        for (endpoint, rate) in with_rate {
            if rate < lowest {
                self.eject(now, endpoint, by_rate);
            }
        }
        for (endpoint, rate) in with_percentage {
            if 100.0 - rate >= f64::from(settings_of_percentage.threshold) {
                self.eject(now, endpoint, by_percentage);
            }
        }
    }

    pub fn interval(&self) -> Duration {
        self.settings.interval
    }
}
