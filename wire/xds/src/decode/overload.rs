//! The overload manager: what is measured, and what is given up.

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_spec::overload::{
    CpuScope, LeastTimeout, Monitor, OverloadAction, Part, Relief, Resource, ScaledTimeout, Timer, Trigger,
    TriggerAt,
};
use naru_spec::{Invalid, Overload, Path, defaults};

use super::value;
use crate::findings::{Findings, code};
use crate::proto::{Any, monitors, overload as proto};
use crate::schema::{type_name, unpack};

pub(super) fn read(
    said: &proto::OverloadManager,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Overload> {
    if *said == proto::OverloadManager::default() {
        return None;
    }
    let refresh = said.refresh_interval.as_ref().map_or(defaults::OVERLOAD_REFRESH, |said| {
        value::duration(said, &path.field("refresh_interval"), findings)
    });
    let mut overload = Overload { refresh, ..Overload::default() };
    let all = path.field("resource_monitors");
    for (at, said) in said.resource_monitors.iter().enumerate() {
        let path = all.at(at);
        if let Some(resource) = resource(said, &path, findings) {
            overload.monitors.push(Monitor { name: said.name.clone(), resource });
        }
    }
    let all = path.field("actions");
    for (at, said) in said.actions.iter().enumerate() {
        let path = all.at(at);
        if let Some(relief) = action(said, &path, findings) {
            let triggers = triggers(&said.triggers);
            overload.actions.push(OverloadAction { relief, triggers });
        }
    }
    let all = path.field("loadshed_points");
    for (at, said) in said.loadshed_points.iter().enumerate() {
        let path = all.at(at);
        if let Some(relief) = shed_point(&said.name, &path.field("name"), findings) {
            let triggers = triggers(&said.triggers);
            overload.actions.push(OverloadAction { relief, triggers });
        }
    }
    // What could not be read may be what others refer to.
    if !findings.has_errors() {
        for (part, invalid) in overload.problems() {
            tell(&overload, said, part, &invalid, path, findings);
        }
    }
    Some(overload)
}

/// Where it stands what is wrong.
pub(super) fn tell(
    overload: &Overload,
    said: &proto::OverloadManager,
    part: Part,
    invalid: &Invalid,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let mut error =
        |path: &Path<'_>| findings.error(path, code::INVALID_VALUE, &invalid.message, &invalid.hint);
    let of_action = |action: usize, error: &mut dyn FnMut(&Path<'_>)| {
        let relief = overload.actions.get(action).map(|action| &action.relief);
        let name = relief.map_or("", Relief::name);
        // Of two that are the same it is the last that is one too many.
        if let Some(at) = said.actions.iter().rposition(|said| said.name == name) {
            error(&path.field("actions").at(at));
        } else if let Some(at) = said.loadshed_points.iter().rposition(|said| said.name == name) {
            error(&path.field("loadshed_points").at(at));
        }
    };
    match part {
        Part::Refresh => error(&path.field("refresh_interval")),
        Part::Monitor(at) => error(&path.field("resource_monitors").at(at)),
        Part::Action(action) => of_action(action, &mut error),
        Part::Trigger { action, trigger } => of_action(action, &mut |path| {
            error(&path.field("triggers").at(trigger));
        }),
    }
}

fn resource(said: &proto::ResourceMonitor, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Resource> {
    let path = path.field("typed_config");
    let Some(proto::resource_monitor::ConfigType::TypedConfig(any)) = &said.config_type else {
        findings.missing(&path, "a resource monitor needs a typed_config");
        return None;
    };
    if let Some(heap) = unpack::<monitors::fixed_heap::v3::FixedHeapConfig>(any) {
        if heap.max_heap_size_bytes == 0 {
            findings.missing(&path.field("max_heap_size_bytes"), "a monitor of memory needs its limit");
        }
        return Some(Resource::Memory { bytes_max: Some(heap.max_heap_size_bytes.max(1)) });
    }
    if let Some(group) = unpack::<monitors::cgroup_memory::v3::CgroupMemoryConfig>(any) {
        let bytes_max = Some(group.max_memory_bytes).filter(|bytes| *bytes > 0);
        return Some(Resource::CgroupMemory { bytes_max });
    }
    if let Some(cpu) = unpack::<monitors::cpu_utilization::v3::CpuUtilizationConfig>(any) {
        use monitors::cpu_utilization::v3::cpu_utilization_config::UtilizationComputeStrategy;
        return Some(Resource::Cpu(match cpu.mode() {
            UtilizationComputeStrategy::Host => CpuScope::Host,
            UtilizationComputeStrategy::Container => CpuScope::Container,
        }));
    }
    if let Some(said) = unpack::<monitors::downstream_connections::v3::DownstreamConnectionsConfig>(any) {
        // None at all is told by the API's own rules.
        let max = u64::try_from(said.max_active_downstream_connections).unwrap_or(1).max(1);
        return Some(Resource::Connections { max });
    }
    if let Some(said) = unpack::<monitors::injected_resource::v3::InjectedResourceConfig>(any) {
        return Some(Resource::Injected { file: said.filename });
    }
    let text = format!("the resource monitor '{}' is not supported", type_name(&any.type_url));
    let hint = "fixed_heap, cgroup_memory, cpu_utilization, downstream_connections and injected_resource are";
    findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, hint);
    None
}

fn action(said: &proto::OverloadAction, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Relief> {
    let name = path.field("name");
    let config = path.field("typed_config");
    let relief = match said.name.strip_prefix("envoy.overload_actions.").unwrap_or("") {
        "stop_accepting_requests" => Relief::StopAcceptingRequests,
        "disable_http_keepalive" => Relief::DisableKeepalive,
        "stop_accepting_connections" => Relief::StopAcceptingConnections,
        "reject_incoming_connections" => Relief::RejectConnections,
        "close_idle_http_connections" => Relief::CloseIdleConnections,
        "shrink_heap" => return shrink_heap(said.typed_config.as_ref(), &config, findings),
        "reduce_timeouts" => return reduce_timeouts(said.typed_config.as_ref(), &config, findings),
        "reset_high_memory_stream" => {
            let text = "no stream holds much memory: bodies pass through in small parts";
            let hint = "initial_stream_window_size says how much a stream of HTTP/2 may hold";
            findings.unsupported_value(&name, text, hint);
            return None;
        }
        _ => {
            // That there is none is told by the API's own rules.
            if !said.name.is_empty() {
                let text = format!("'{}' is not an overload action that naru knows", said.name);
                findings.unsupported_value(&name, text, "");
            }
            return None;
        }
    };
    if said.typed_config.is_some() {
        findings.unsupported(&config, format!("'{}' has no settings", said.name), "leave it out");
    }
    Some(relief)
}

fn shrink_heap(said: Option<&Any>, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Relief> {
    let Some(any) = said else {
        return Some(Relief::ShrinkHeap { every: defaults::SHRINK_HEAP_EVERY });
    };
    let said = settings::<proto::ShrinkHeapConfig>(any, path, findings)?;
    let every = said.timer_interval.as_ref().map_or(defaults::SHRINK_HEAP_EVERY, |said| {
        value::duration(said, &path.field("timer_interval"), findings)
    });
    Some(Relief::ShrinkHeap { every })
}

fn reduce_timeouts(said: Option<&Any>, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Relief> {
    use proto::scale_timers_overload_action_config::TimerType;
    use proto::scale_timers_overload_action_config::scale_timer::OverloadAdjust;
    let Some(any) = said else {
        findings.missing(path, "which timeouts are reduced must be said");
        return None;
    };
    let said = settings::<proto::ScaleTimersOverloadActionConfig>(any, path, findings)?;
    let mut timeouts: Vec<ScaledTimeout> = Vec::new();
    let all = path.field("timer_scale_factors");
    for (at, said) in said.timer_scale_factors.iter().enumerate() {
        let path = all.at(at);
        let timer = match said.timer() {
            TimerType::HttpDownstreamConnectionIdle => Timer::ConnectionIdle,
            TimerType::TransportSocketConnect => Timer::TransportConnect,
            // Told by the API's own rules.
            TimerType::Unspecified => continue,
            other => {
                let text = format!("{} cannot be reduced", other.as_str_name());
                let hint = "HTTP_DOWNSTREAM_CONNECTION_IDLE and TRANSPORT_SOCKET_CONNECT can";
                findings.unsupported_value(&path.field("timer"), text, hint);
                continue;
            }
        };
        if timeouts.iter().any(|known| known.timer == timer) {
            findings.error(&path.field("timer"), code::DUPLICATE, "this timeout is said twice", "");
        }
        let least = match &said.overload_adjust {
            Some(OverloadAdjust::MinTimeout(least)) => {
                LeastTimeout::Time(value::duration(least, &path.field("min_timeout"), findings))
            }
            Some(OverloadAdjust::MinScale(scale)) => LeastTimeout::Scale(share(scale.value / 100.0)),
            // Told by the API's own rules.
            None => continue,
        };
        timeouts.push(ScaledTimeout { timer, least });
    }
    Some(Relief::ReduceTimeouts(timeouts))
}

fn settings<M: prost::Message + prost::Name + Default>(
    any: &Any,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<M> {
    let said = unpack::<M>(any);
    if said.is_none() {
        let text = format!("'{}' is not the settings of this action", type_name(&any.type_url));
        findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, M::full_name());
    }
    said
}

fn shed_point(name: &str, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Relief> {
    Some(match name.strip_prefix("envoy.load_shed_points.").unwrap_or("") {
        "tcp_listener_accept" => Relief::ShedConnection,
        "http_connection_manager_decode_headers" => Relief::ShedRequest,
        "http2_server_go_away_on_dispatch" => Relief::ShedByGoAway,
        "connection_pool_new_connection" => Relief::ShedUpstreamConnection,
        _ => {
            // That there is none is told by the API's own rules.
            if !name.is_empty() {
                let text = format!("'{name}' is not a load shed point that naru has");
                let hint = "tcp_listener_accept, http_connection_manager_decode_headers, \
                            http2_server_go_away_on_dispatch and connection_pool_new_connection are";
                findings.unsupported_value(path, text, hint);
            }
            return None;
        }
    })
}

fn triggers(said: &[proto::Trigger]) -> Vec<Trigger> {
    use proto::trigger::TriggerOneof;
    let all = said.iter().filter_map(|said| {
        let at = match said.trigger_oneof.as_ref()? {
            TriggerOneof::Threshold(said) => TriggerAt::Threshold(share(said.value)),
            TriggerOneof::Scaled(said) => TriggerAt::Scaled {
                from: share(said.scaling_threshold),
                to: share(said.saturation_threshold),
            },
        };
        Some(Trigger { resource: said.name.clone(), at })
    });
    all.collect()
}

/// What is out of range is told by the API's own rules.
fn share(said: f64) -> Fraction {
    let millionths = (said * f64::from(Denominator::Million.value())).round();
    Fraction::new(millionths.clamp(0.0, f64::from(u32::MAX)) as u32, Denominator::Million)
}
