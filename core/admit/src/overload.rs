//! What is given up when the proxy itself runs short?
//!
//! In come the pressures of resources (in millionths of what there is); out comes how strongly each action is called
//! for, in millionths, too. Envoy's overload manager and load shed points. Measuring is the shell's work, about once a
//! second, and so is to tell the workers what came out: to them an action is a number and a draw.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::chance::within;
use naru_base::share::Denominator;
use naru_spec::Overload;
use naru_spec::limits::millionths;
use naru_spec::overload::{LeastTimeout, Relief, Trigger, TriggerAt};

/// How strongly an action is called for, in millionths. All of it is [`SATURATED`].
pub type Strength = u32;
pub const SATURATED: Strength = 1_000_000;

/// The pressures, and what they call for.
#[derive(Clone, Debug)]
pub struct Pressures {
    overload: Overload,
    /// For each action, what each of its triggers calls for.
    strengths: Vec<Vec<Strength>>,
}

impl Pressures {
    /// Nothing is called for until the first pressure is known.
    pub fn new(overload: Overload) -> Pressures {
        let strengths = overload.actions.iter().map(|action| vec![0; action.triggers.len()]).collect();
        Pressures { overload, strengths }
    }

    /// A resource was measured. Says whether anything is called for otherwise than before. One that could not be
    /// measured keeps the pressure that it had.
    pub fn on_pressure(&mut self, resource: &str, pressure: u32) -> bool {
        let mut has_changed = false;
        for (action, strengths) in self.overload.actions.iter().zip(&mut self.strengths) {
            for (trigger, strength) in action.triggers.iter().zip(strengths) {
                if trigger.resource == resource {
                    let new = pull(trigger, pressure, *strength);
                    has_changed |= new != *strength;
                    *strength = new;
                }
            }
        }
        has_changed
    }

    /// What is done, and how strongly it is called for: by its strongest trigger.
    pub fn reliefs(&self) -> impl Iterator<Item = (&Relief, Strength)> {
        let actions = self.overload.actions.iter().zip(&self.strengths);
        actions.map(|(action, strengths)| (&action.relief, strengths.iter().copied().max().unwrap_or(0)))
    }

    /// What holds at any time. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let is_each_known = self.strengths.len() == self.overload.actions.len();
        let is_in_range = self.reliefs().all(|(_, strength)| strength <= SATURATED);
        if is_each_known && is_in_range { Ok(()) } else { Err("more is called for than there is") }
    }
}

fn pull(trigger: &Trigger, pressure: u32, before: Strength) -> Strength {
    match trigger.at {
        TriggerAt::Threshold(threshold) => {
            if pressure >= millionths(threshold) {
                SATURATED
            } else {
                0
            }
        }
        TriggerAt::Scaled { from, to } => {
            let (from, to) = (millionths(from), millionths(to));
            if pressure <= from {
                0
            } else if pressure >= to {
                SATURATED
            } else {
                let part = u64::from(pressure - from) * u64::from(SATURATED) / u64::from(to - from);
                part as Strength
            }
        }
        TriggerAt::Latched { at, until } => {
            let is_held = before == SATURATED && pressure >= millionths(until);
            if is_held || pressure >= millionths(at) { SATURATED } else { 0 }
        }
    }
}

/// Whether it is done this time. What concerns one request or connection is done to a share of them; the rest only
/// once it is wholly called for.
#[inline]
pub fn is_due(relief: &Relief, strength: Strength, draw: u64) -> bool {
    match relief {
        Relief::StopAcceptingRequests
        | Relief::DisableKeepalive
        | Relief::RejectConnections
        | Relief::ShedConnection
        | Relief::ShedRequest
        | Relief::ShedByGoAway
        | Relief::ShedUpstreamConnection => within(draw, u64::from(SATURATED)) < u64::from(strength),
        Relief::StopAcceptingConnections
        | Relief::ShrinkHeap { .. }
        | Relief::CloseIdleConnections
        | Relief::ReduceTimeouts(_) => strength >= SATURATED,
    }
}

/// The pressure of what is measured in peaks: an average in which a new measurement is such a `part`.
pub fn smoothed(before: u32, measured: u32, part: Fraction) -> u32 {
    let part = u64::from(millionths(part));
    let whole = u64::from(Denominator::Million.value());
    let sum = u64::from(measured) * part + u64::from(before) * (whole - part);
    u32::try_from(sum.div_ceil(whole)).unwrap_or(u32::MAX)
}

/// What a timeout becomes: in proportion, down to the least, and never more than it is else.
pub fn reduced(usual: Duration, least: LeastTimeout, strength: Strength) -> Duration {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let part = |whole: u64, millionths: u32| {
        let part = u128::from(whole) * u128::from(millionths) / u128::from(Denominator::Million.value());
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    let usual = nanos(usual);
    let least = match least {
        LeastTimeout::Time(time) => nanos(time),
        LeastTimeout::Scale(scale) => part(usual, millionths(scale)),
    };
    let least = least.min(usual);
    Duration::from_nanos(least + part(usual - least, SATURATED.saturating_sub(strength)))
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;
    use naru_spec::overload::OverloadAction;

    use super::*;

    fn percent(part: u32) -> Fraction {
        Fraction::new(part, Denominator::Hundred)
    }

    fn action(relief: Relief, triggers: &[(&str, TriggerAt)]) -> OverloadAction {
        let triggers =
            triggers.iter().map(|(resource, at)| Trigger { resource: (*resource).to_owned(), at: *at });
        OverloadAction { relief, triggers: triggers.collect() }
    }

    fn strengths(pressures: &Pressures) -> Vec<Strength> {
        pressures.check_invariants().unwrap();
        pressures.reliefs().map(|(_, strength)| strength).collect()
    }

    #[test]
    fn a_threshold_calls_for_all_and_a_scale_for_its_part() {
        let scaled = TriggerAt::Scaled { from: percent(80), to: percent(90) };
        let mut pressures = Pressures::new(Overload {
            actions: vec![
                action(Relief::StopAcceptingRequests, &[("memory", TriggerAt::Threshold(percent(95)))]),
                action(
                    Relief::ShedRequest,
                    &[("memory", scaled), ("cpu", TriggerAt::Threshold(percent(100)))],
                ),
            ],
            ..Overload::default()
        });
        assert_eq!(strengths(&pressures), [0, 0]);
        for (pressure, expected) in [
            (800_000, [0, 0]),
            (825_000, [0, 250_000]),
            (900_000, [0, SATURATED]),
            (949_999, [0, SATURATED]),
            (950_000, [SATURATED, SATURATED]),
            (u32::MAX, [SATURATED, SATURATED]),
        ] {
            pressures.on_pressure("memory", pressure);
            assert_eq!(strengths(&pressures), expected, "{pressure}");
        }
        assert!(pressures.on_pressure("memory", 0));
        assert!(!pressures.on_pressure("memory", 1));
        assert!(!pressures.on_pressure("disk", SATURATED));
        assert!(pressures.on_pressure("cpu", SATURATED));
        assert!(!pressures.on_pressure("memory", 1));
        assert_eq!(strengths(&pressures), [0, SATURATED], "the strongest trigger decides");
    }

    #[test]
    fn what_is_latched_ends_below_where_it_began() {
        let latched = TriggerAt::Latched { at: percent(95), until: percent(90) };
        let actions = vec![action(Relief::StopAcceptingRequests, &[("memory", latched)])];
        let mut pressures = Pressures::new(Overload { actions, ..Overload::default() });
        for (pressure, expected) in [
            (949_999, 0),
            (950_000, SATURATED),
            (900_000, SATURATED),
            (899_999, 0),
            (949_999, 0),
            (1_200_000, SATURATED),
        ] {
            pressures.on_pressure("memory", pressure);
            assert_eq!(strengths(&pressures), [expected], "{pressure}");
        }
    }

    /// The pressure of what is measured unevenly.
    #[test]
    fn a_peak_is_smoothed_out_and_what_lasts_is_not() {
        let part = percent(20);
        assert_eq!(smoothed(0, SATURATED, part), 200_000);
        assert_eq!(smoothed(200_000, 0, part), 160_000);
        let lasting = (0..100).fold(0, |pressure, _| smoothed(pressure, SATURATED, part));
        assert!(lasting > 990_000 && lasting <= SATURATED, "{lasting}");
        let over = (0..100).fold(lasting, |pressure, _| smoothed(pressure, 0, part));
        assert!(over < 10_000, "{over}");
    }

    #[test]
    fn a_share_of_requests_is_shed_but_listeners_stop_whole() {
        let mut chance = Chance::new(5);
        let shed = (0..10_000).filter(|_| is_due(&Relief::ShedRequest, 250_000, chance.draw())).count();
        assert!((2_300..2_700).contains(&shed), "{shed}");
        assert!(!is_due(&Relief::ShedRequest, 0, 0) && is_due(&Relief::ShedRequest, SATURATED, u64::MAX));
        assert!(!is_due(&Relief::StopAcceptingConnections, SATURATED - 1, 0));
        assert!(is_due(&Relief::StopAcceptingConnections, SATURATED, u64::MAX));
    }

    #[test]
    fn timeouts_shrink_in_proportion_and_not_below_the_least() {
        let usual = Duration::from_secs(600);
        let to = |least, strength| reduced(usual, least, strength).as_secs();
        let time = LeastTimeout::Time(Duration::from_secs(100));
        assert_eq!((to(time, 0), to(time, 500_000), to(time, SATURATED)), (600, 350, 100));
        let scale = LeastTimeout::Scale(percent(10));
        assert_eq!((to(scale, 0), to(scale, 500_000), to(scale, SATURATED)), (600, 330, 60));
        assert_eq!(to(LeastTimeout::Time(Duration::MAX), SATURATED), 600);
        let _ = reduced(Duration::MAX, scale, 3);
    }

    #[test]
    fn a_walk_over_settings_that_make_no_sense_stays_in_range() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let mut any = || Fraction::new(chance.below(150) as u32, Denominator::Hundred);
            let triggers =
                [("a", TriggerAt::Scaled { from: any(), to: any() }), ("b", TriggerAt::Threshold(any()))];
            let actions = vec![action(Relief::ShedRequest, &triggers)];
            let overload = Overload { actions, ..Overload::default() };
            let mut pressures = Pressures::new(overload);
            let mut highest = 0;
            let mut pressure = 0;
            while pressure < 2_000_000 {
                pressure += chance.below(50_000) as u32;
                pressures.on_pressure(if chance.below(2) == 0 { "a" } else { "b" }, pressure);
                let strength = strengths(&pressures)[0];
                assert!(strength >= highest, "more pressure calls for no less");
                highest = strength;
            }
        }
    }
}
