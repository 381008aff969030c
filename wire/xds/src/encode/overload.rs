//! The overload manager. Envoy has no words for a limit that is found out, for the processors that the process itself
//! uses, for a trigger that is held, and for paths that are spared: what is nearest stands there.

use naru_base::Fraction;
use naru_spec::limits::millionths;
use naru_spec::overload::{
    CpuScope, LeastTimeout, Monitor, Relief, Resource, ScaledTimeout, Timer, Trigger, TriggerAt,
};
use naru_spec::{Overload, defaults};

use super::value;
use crate::proto::{Any, kinds, monitors, overload as proto};
use crate::schema::pack;

pub(super) fn write(overload: &Overload) -> proto::OverloadManager {
    let (points, actions): (Vec<_>, Vec<_>) =
        overload.actions.iter().partition(|action| action.relief.is_shed_point());
    let actions = actions.into_iter().map(|action| proto::OverloadAction {
        name: action.relief.name().to_owned(),
        triggers: action.triggers.iter().map(trigger).collect(),
        typed_config: settings(&action.relief),
    });
    let points = points.into_iter().map(|point| proto::LoadShedPoint {
        name: point.relief.name().to_owned(),
        triggers: point.triggers.iter().map(trigger).collect(),
    });
    proto::OverloadManager {
        refresh_interval: (overload.refresh != defaults::OVERLOAD_REFRESH)
            .then(|| value::duration(overload.refresh)),
        resource_monitors: overload.monitors.iter().map(monitor).collect(),
        actions: actions.collect(),
        loadshed_points: points.collect(),
        buffer_factory_config: None,
    }
}

fn monitor(monitor: &Monitor) -> proto::ResourceMonitor {
    use monitors::cpu_utilization::v3::cpu_utilization_config::UtilizationComputeStrategy;
    let config = match &monitor.resource {
        Resource::Memory { bytes_max } => pack(&monitors::fixed_heap::v3::FixedHeapConfig {
            max_heap_size_bytes: bytes_max.unwrap_or(0),
            ..Default::default()
        }),
        Resource::CgroupMemory { bytes_max } => pack(&monitors::cgroup_memory::v3::CgroupMemoryConfig {
            max_memory_bytes: bytes_max.unwrap_or(0),
        }),
        Resource::Cpu(scope) => pack(&monitors::cpu_utilization::v3::CpuUtilizationConfig {
            mode: match scope {
                CpuScope::Host => UtilizationComputeStrategy::Host,
                CpuScope::Container | CpuScope::Process => UtilizationComputeStrategy::Container,
            }
            .into(),
        }),
        Resource::Connections { max } => {
            pack(&monitors::downstream_connections::v3::DownstreamConnectionsConfig {
                max_active_downstream_connections: i64::try_from(*max).unwrap_or(i64::MAX),
            })
        }
        Resource::Injected { file } => {
            pack(&monitors::injected_resource::v3::InjectedResourceConfig { filename: file.clone() })
        }
    };
    proto::ResourceMonitor {
        name: monitor.name.clone(),
        config_type: Some(proto::resource_monitor::ConfigType::TypedConfig(config)),
    }
}

fn settings(relief: &Relief) -> Option<Any> {
    match relief {
        Relief::ShrinkHeap { every } => (*every != defaults::SHRINK_HEAP_EVERY).then(|| {
            pack(&proto::ShrinkHeapConfig {
                timer_interval: Some(value::duration(*every)),
                max_unfreed_memory_bytes: None,
            })
        }),
        Relief::ReduceTimeouts(timeouts) => Some(pack(&proto::ScaleTimersOverloadActionConfig {
            timer_scale_factors: timeouts.iter().map(scaled).collect(),
        })),
        _ => None,
    }
}

fn scaled(timeout: &ScaledTimeout) -> proto::scale_timers_overload_action_config::ScaleTimer {
    use proto::scale_timers_overload_action_config::TimerType;
    use proto::scale_timers_overload_action_config::scale_timer::OverloadAdjust;
    proto::scale_timers_overload_action_config::ScaleTimer {
        timer: match timeout.timer {
            Timer::ConnectionIdle => TimerType::HttpDownstreamConnectionIdle,
            Timer::TransportConnect => TimerType::TransportSocketConnect,
        }
        .into(),
        overload_adjust: Some(match timeout.least {
            LeastTimeout::Time(least) => OverloadAdjust::MinTimeout(value::duration(least)),
            LeastTimeout::Scale(scale) => {
                OverloadAdjust::MinScale(kinds::Percent { value: share(scale) * 100.0 })
            }
        }),
    }
}

fn trigger(trigger: &Trigger) -> proto::Trigger {
    use proto::trigger::TriggerOneof;
    let threshold = |at| TriggerOneof::Threshold(proto::ThresholdTrigger { value: share(at) });
    proto::Trigger {
        name: trigger.resource.clone(),
        trigger_oneof: Some(match trigger.at {
            TriggerAt::Threshold(at) | TriggerAt::Latched { at, .. } => threshold(at),
            TriggerAt::Scaled { from, to } => TriggerOneof::Scaled(proto::ScaledTrigger {
                scaling_threshold: share(from),
                saturation_threshold: share(to),
            }),
        }),
    }
}

fn share(fraction: Fraction) -> f64 {
    f64::from(millionths(fraction)) / 1_000_000.0
}
