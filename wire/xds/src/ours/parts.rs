//! What is said beside how requests are read and where they go: of a listener, and of the process that has it.

use naru_spec::overload::{
    CpuScope, LeastTimeout, Monitor, OverloadAction, Relief, Resource, ScaledTimeout, Timer, Trigger,
    TriggerAt,
};
use naru_spec::{
    CacheStore, Cluster, Config, ConnectionLimits, Http, Overload, RouteTable, Rule, Store, Surge, TcpProxy,
};
use serde_json::Value as Json;

use super::{Fields, Said, Wrong, object};

/// Of a listener, what Envoy has no words for. Each that it has is said by itself.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Shell {
    pub connections: Option<ConnectionLimits>,
    /// Of each chain that passes bytes through, in order.
    pub tcp: Vec<Option<TcpProxy>>,
    /// Every listener says the same. Of several that are in force the latest counts.
    pub process: Process,
}

/// What a proxy has once.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Process {
    pub cache: Option<CacheStore>,
    pub stores: Vec<Store>,
    pub surge: Option<Surge>,
    /// Where the bootstrap file says nothing of it.
    pub overload: Option<Overload>,
}

impl Process {
    pub fn of(config: &Config) -> Process {
        let Config { admin: _, listeners: _, clusters: _, overload, cache, stores, surge } = config;
        Process {
            cache: cache.clone(),
            stores: stores.clone(),
            surge: surge.clone(),
            overload: overload.clone(),
        }
    }
}

structs! {
    Shell { connections, tcp, process }
    Process { cache, stores, surge, overload }
    ConnectionLimits { max, max_per_source, ignores_global }
    Overload { refresh, monitors, actions, spared }
    Monitor { name, resource }
    OverloadAction { relief, triggers }
    ScaledTimeout { timer, least }
    Trigger { resource, at }
}

enums! {
    Resource {
        Memory { bytes_max },
        CgroupMemory { bytes_max },
        Cpu(it),
        Connections { max },
        Injected { file },
    }
    CpuScope { Host, Container, Process }
    Relief {
        StopAcceptingRequests,
        DisableKeepalive,
        StopAcceptingConnections,
        RejectConnections,
        ShrinkHeap { every },
        CloseIdleConnections,
        ReduceTimeouts(it),
        ShedConnection,
        ShedRequest,
        ShedByGoAway,
        ShedUpstreamConnection,
    }
    Timer { ConnectionIdle, TransportConnect }
    LeastTimeout { Time(it), Scale(it) }
    TriggerAt { Threshold(it), Scaled { from, to }, Latched { at, until } }
}

/// Of structs with parts that are said elsewhere, or not at all.
macro_rules! partial {
    ($( $name:ident { $($field:ident),* $(,)? } but { $($other:ident: $value:expr),* $(,)? } )*) => { $(
        impl Said for $name {
            fn say(&self) -> Json {
                let $name { $($field,)* $($other: _),* } = self;
                object(vec![$((stringify!($field), Said::say($field))),*])
            }

            fn hear(said: Json) -> Result<$name, Wrong> {
                let mut fields = Fields::of(said)?;
                let heard = $name { $($field: fields.take(stringify!($field))?,)* $($other: $value),* };
                fields.finish()?;
                Ok(heard)
            }
        }
    )* };
}

partial! {
    Http {
        stat_prefix, codec, access_log, server_name, server_header, use_remote_address, xff_num_trusted_hops,
        skip_xff_append, internal_networks, via, generate_request_id, preserve_external_request_id,
        always_set_request_id_in_response, forward_client_cert, client_cert_details, scheme_to_overwrite,
        host_port, strip_trailing_host_dot, paths, suppress_envoy_headers, header_bytes_max, header_count_max,
        stream_idle_timeout, request_timeout, request_headers_timeout, body_bytes_max, request_pace,
        response_pace, connection_idle_timeout, max_requests_per_connection, drain_timeout, tunnels, upgrades,
        grpc_web, fault, sessions, door, gate, http2, http2_limits,
    } but { routes: RouteTable::default() }
    Rule { name, matches, action, request_headers, response_headers, gate } but { origin: String::new() }
    TcpProxy {
        stat_prefix, clusters, idle_timeout, duration_max, attempts_max, hash, access_log,
    } but { origin: String::new() }
    Cluster {
        name, discovery, load_balancing, connect_timeout, protocol, proxy_protocol, idle_timeout,
        max_requests_per_connection, http2, guard, limits, load, fallback,
    } but { endpoints: Vec::new(), tls: None }
}
