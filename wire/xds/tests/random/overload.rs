//! What is given up when the proxy runs short, and limits of connections.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_spec::overload::{
    CpuScope, LeastTimeout, Monitor, OverloadAction, Relief, Resource, ScaledTimeout, Timer, Trigger,
    TriggerAt,
};
use naru_spec::{ConnectionLimit, Overload};

use super::Dice;

impl Dice {
    pub(super) fn overload(&mut self) -> Overload {
        let resources = [
            Resource::Memory { bytes_max: Some(1 + self.below(1 << 40)) },
            Resource::CgroupMemory { bytes_max: self.maybe(|dice| 1 + dice.below(1 << 40)) },
            Resource::Cpu(self.one(&[CpuScope::Host, CpuScope::Container])),
            Resource::Connections { max: 1 + self.below(1 << 30) },
            Resource::Injected { file: "/tmp/pressure".to_owned() },
        ];
        let monitors = resources.into_iter().enumerate();
        let monitors = monitors.map(|(at, resource)| Monitor { name: format!("monitor {at}"), resource });
        let monitors: Vec<Monitor> = monitors.collect();
        // The points come behind the actions, as there.
        let reliefs = [
            Relief::StopAcceptingRequests,
            Relief::DisableKeepalive,
            Relief::ShrinkHeap { every: self.one(&[Duration::from_secs(10), Duration::from_secs(1)]) },
            Relief::ReduceTimeouts(vec![self.timeout(Timer::ConnectionIdle)]),
            Relief::RejectConnections,
            Relief::ShedRequest,
            Relief::ShedByGoAway,
        ];
        let mut actions = Vec::new();
        for relief in reliefs {
            if self.coin() {
                let triggers = monitors.iter().take(1 + self.below(2) as usize);
                let triggers: Vec<String> = triggers.map(|monitor| monitor.name.clone()).collect();
                let triggers = triggers.into_iter().map(|resource| Trigger { resource, at: self.trigger() });
                actions.push(OverloadAction { relief, triggers: triggers.collect() });
            }
        }
        let refresh = self.one(&[Duration::from_secs(1), Duration::from_millis(250)]);
        Overload { refresh, monitors, actions, spared: Vec::new() }
    }

    pub(super) fn connection_limit(&mut self) -> ConnectionLimit {
        ConnectionLimit {
            stat_prefix: "limited".to_owned(),
            max: 1 + self.below(1 << 40),
            delay: self.one(&[Duration::ZERO, Duration::from_millis(1_500)]),
        }
    }

    fn trigger(&mut self) -> TriggerAt {
        let from = self.below(999_999);
        let to = from + 1 + self.below(1_000_000 - from);
        let [from, to] = [from, to].map(|part| Fraction::new(part as u32, Denominator::Million));
        if self.coin() { TriggerAt::Threshold(to) } else { TriggerAt::Scaled { from, to } }
    }

    fn timeout(&mut self, timer: Timer) -> ScaledTimeout {
        let scale = Fraction::new(self.below(1_000_000) as u32, Denominator::Million);
        let least = self.one(&[LeastTimeout::Time(Duration::from_millis(2_500)), LeastTimeout::Scale(scale)]);
        ScaledTimeout { timer, least }
    }
}
