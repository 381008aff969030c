//! What workers read of an endpoint: may it be asked?

use std::fmt;

use naru_spec::Reported;

/// One byte, for an atomic of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Fitness(u8);

/// What the health check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Nobody asks.
    Unchecked,
    /// The first probe is not answered yet. Not to be asked, and not counted either.
    Pending,
    Healthy,
    /// It passes, and says that others should be asked first.
    Degraded,
    Failed,
    /// It said itself that it is not to be asked, not even in panic.
    Excluded,
}

const EJECTED: u8 = 1 << 7;

impl Fitness {
    /// What an endpoint is that nothing is known of.
    pub const FIT: Fitness = Fitness(0);

    pub fn new(is_ejected: bool, health: Health) -> Fitness {
        let health = match health {
            Health::Unchecked => 0,
            Health::Pending => 1,
            Health::Healthy => 2,
            Health::Degraded => 3,
            Health::Failed => 4,
            Health::Excluded => 5,
        };
        Fitness(health | if is_ejected { EJECTED } else { 0 })
    }

    /// What is left of it by the word of whoever tells of the endpoint: the worse of both.
    pub fn reported(self, said: Reported) -> Fitness {
        let worse = match (said, self.health()) {
            (Reported::Fit, _) => return self,
            (Reported::Degraded, Health::Unchecked | Health::Healthy) => Health::Degraded,
            (Reported::Unfit, Health::Unchecked | Health::Healthy | Health::Degraded) => Health::Failed,
            (_, health) => health,
        };
        Fitness::new(self.is_ejected(), worse)
    }

    pub fn of_bits(bits: u8) -> Fitness {
        Fitness(bits)
    }

    pub const fn bits(self) -> u8 {
        self.0
    }

    #[inline]
    pub fn is_ejected(self) -> bool {
        self.0 & EJECTED != 0
    }

    pub fn health(self) -> Health {
        match self.0 & !EJECTED {
            0 => Health::Unchecked,
            1 => Health::Pending,
            2 => Health::Healthy,
            3 => Health::Degraded,
            4 => Health::Failed,
            _ => Health::Excluded,
        }
    }

    /// May be asked. A degraded endpoint is asked where no other is.
    #[inline]
    pub fn is_fit(self) -> bool {
        matches!(self.0, 0 | 2 | 3)
    }

    #[inline]
    pub fn is_degraded(self) -> bool {
        self.0 == 3
    }

    /// Is counted where it is asked how many are fit. Envoy's `excludedHosts` are not.
    pub fn is_counted(self) -> bool {
        !matches!(self.health(), Health::Pending | Health::Excluded)
    }
}

impl fmt::Display for Fitness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let health = match self.health() {
            Health::Unchecked => "unchecked",
            Health::Pending => "pending",
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::Failed => "failed",
            Health::Excluded => "excluded",
        };
        f.write_str(health)?;
        if self.is_ejected() { f.write_str(", ejected") } else { Ok(()) }
    }
}

/// Whether so few are fit that all are asked. Of `counted` endpoints `fit` are; where none is
/// counted, none is fit. Source: Envoy's `LoadBalancerBase::isHostSetInPanic`.
pub fn is_in_panic(panic_percent: u32, fit: u32, counted: u32) -> bool {
    if counted == 0 {
        return panic_percent > 0;
    }
    100 * u64::from(fit) < u64::from(panic_percent) * u64::from(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fitness_comes_back_out_of_its_byte() {
        use Health::{Degraded, Excluded, Failed, Healthy, Pending, Unchecked};
        for health in [Unchecked, Pending, Healthy, Degraded, Failed, Excluded] {
            for is_ejected in [false, true] {
                let fitness = Fitness::new(is_ejected, health);
                assert_eq!(Fitness::of_bits(fitness.bits()), fitness);
                assert_eq!((fitness.is_ejected(), fitness.health()), (is_ejected, health));
                let passes = matches!(health, Unchecked | Healthy | Degraded);
                assert_eq!(fitness.is_fit(), passes && !is_ejected, "{fitness}");
            }
        }
        assert_eq!(Fitness::default(), Fitness::FIT);
    }

    #[test]
    fn what_is_reported_makes_nobody_fitter() {
        use Health::{Degraded, Excluded, Failed, Healthy, Pending, Unchecked};
        for (said, health, left) in [
            (Reported::Fit, Failed, Failed),
            (Reported::Fit, Unchecked, Unchecked),
            (Reported::Degraded, Unchecked, Degraded),
            (Reported::Degraded, Healthy, Degraded),
            (Reported::Degraded, Failed, Failed),
            (Reported::Degraded, Pending, Pending),
            (Reported::Unfit, Healthy, Failed),
            (Reported::Unfit, Degraded, Failed),
            (Reported::Unfit, Excluded, Excluded),
        ] {
            for is_ejected in [false, true] {
                let left = Fitness::new(is_ejected, left);
                assert_eq!(Fitness::new(is_ejected, health).reported(said), left, "{said:?} {health:?}");
            }
        }
    }

    #[test]
    fn panic_begins_below_the_threshold() {
        assert!(!is_in_panic(50, 5, 10));
        assert!(is_in_panic(50, 4, 10));
        assert!(!is_in_panic(0, 0, 10), "0 never panics: Istio's default, then it is 503 UH");
        assert!(is_in_panic(1, 0, 0) && !is_in_panic(0, 0, 0));
    }
}
