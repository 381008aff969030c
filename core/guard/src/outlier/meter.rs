//! How many of an endpoint's requests succeeded in the last interval, and which endpoints stand out?
//!
//! In floating point, as in Envoy, whose results these equal: only sums, products, quotients and a
//! square root, all of them exactly rounded, in the order of the endpoints' keys.

use naru_spec::{FailurePercentage, SuccessRate};

use crate::EndpointKey;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    current: Bucket,
    /// Of the interval that is over.
    last: Bucket,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    successes: u64,
    total: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rated {
    /// Percent.
    pub(super) success_rate: f64,
    pub(super) volume: u64,
}

impl Meter {
    pub(super) fn record(&mut self, is_success: bool) {
        self.current.total = self.current.total.saturating_add(1);
        self.current.successes = self.current.successes.saturating_add(u64::from(is_success));
    }

    pub(super) fn end_interval(&mut self) {
        self.last = std::mem::take(&mut self.current);
    }

    /// `None` without requests.
    pub(super) fn rated(&self) -> Option<Rated> {
        let Bucket { successes, total } = self.last;
        (total > 0).then(|| Rated { success_rate: successes as f64 * 100.0 / total as f64, volume: total })
    }
}

/// Those whose success rate is below the mean by more than some standard deviations.
pub(super) fn below_deviation(rated: &[(EndpointKey, Rated)], settings: SuccessRate) -> Vec<EndpointKey> {
    let enough = enough(rated, settings.request_volume, settings.minimum_hosts);
    let count = enough.len() as f64;
    let mean = enough.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = enough.iter().map(|(_, rate)| (rate - mean) * (rate - mean)).sum::<f64>() / count;
    let threshold = mean - f64::from(settings.stdev_factor) / 1_000.0 * variance.sqrt();
    enough.iter().filter(|(_, rate)| *rate < threshold).map(|(endpoint, _)| *endpoint).collect()
}

/// Those that fail at least so much.
pub(super) fn above_percentage(
    rated: &[(EndpointKey, Rated)],
    settings: FailurePercentage,
) -> Vec<EndpointKey> {
    let enough = enough(rated, settings.request_volume, settings.minimum_hosts);
    let threshold = f64::from(settings.threshold);
    enough.iter().filter(|(_, rate)| 100.0 - rate >= threshold).map(|(endpoint, _)| *endpoint).collect()
}

/// Success rates of those with enough requests; none where these are too few.
fn enough(rated: &[(EndpointKey, Rated)], volume: u32, hosts: u32) -> Vec<(EndpointKey, f64)> {
    let enough: Vec<(EndpointKey, f64)> = rated
        .iter()
        .filter(|(_, rated)| rated.volume >= u64::from(volume))
        .map(|(endpoint, rated)| (*endpoint, rated.success_rate))
        .collect();
    if enough.len() as u64 >= u64::from(hosts) { enough } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rated(rates: &[f64]) -> Vec<(EndpointKey, Rated)> {
        let rated = rates.iter().map(|rate| Rated { success_rate: *rate, volume: 100 });
        (0..).map(EndpointKey).zip(rated).collect()
    }

    #[test]
    fn the_example_of_envoys_source_ejects_the_one_at_fifty() {
        // Mean 90, standard deviation 20, threshold 52.
        let settings = SuccessRate { minimum_hosts: 5, request_volume: 100, stdev_factor: 1_900 };
        let rates = rated(&[50.0, 100.0, 100.0, 100.0, 100.0]);
        assert_eq!(below_deviation(&rates, settings), [EndpointKey(0)]);
        let rates = rated(&[52.0, 100.0, 100.0, 100.0, 100.0]);
        assert_eq!(
            below_deviation(&rates, settings),
            [EndpointKey(0)],
            "the deviation is of the same rates: one of five is always 2 below the mean"
        );
        let wide = SuccessRate { stdev_factor: 2_000, ..settings };
        assert_eq!(below_deviation(&rated(&[50.0, 100.0, 100.0, 100.0, 100.0]), wide), []);
        let many = SuccessRate { minimum_hosts: 6, ..settings };
        assert_eq!(below_deviation(&rates, many), []);
        assert_eq!(below_deviation(&[], SuccessRate { minimum_hosts: 0, ..settings }), []);
    }

    #[test]
    fn a_failure_percentage_at_its_threshold_ejects() {
        let settings = FailurePercentage { threshold: 85, minimum_hosts: 2, request_volume: 50 };
        assert_eq!(above_percentage(&rated(&[15.0, 15.1]), settings), [EndpointKey(0)]);
        assert_eq!(above_percentage(&rated(&[15.0]), settings), []);
    }
}
