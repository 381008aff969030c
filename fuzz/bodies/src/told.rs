//! What a control plane says: messages one after another, or a file of what one has said.

use std::sync::LazyLock;

use naru_base::{Instant, WallTime};
use naru_spec::Config;
use naru_xds::Schema;
use naru_xds::discovery::{
    Client, DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse, Dynamic, Plan, read,
};

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::new);
static STATE: LazyLock<Dynamic> = LazyLock::new(|| dynamic("GRPC"));
static DELTA: LazyLock<Dynamic> = LazyLock::new(|| dynamic("DELTA_GRPC"));

fn dynamic(api: &str) -> Dynamic {
    let text = format!(
        "node: {{ id: a, cluster: b }}
dynamic_resources:
  ads_config: {{ api_type: {api}, transport_api_version: V3, grpc_services: [{{ envoy_grpc: {{ cluster_name: x }} }}] }}
  cds_config: {{ ads: {{}} }}
  lds_config: {{ ads: {{}} }}
static_resources:
  clusters:
  - name: x
    type: STATIC
    load_assignment:
      cluster_name: x
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }} }} }}] }}]
"
    );
    let loaded = naru_xds::load_with(&SCHEMA, "told.yaml", &text).expect("it is ours");
    *loaded.dynamic.expect("it names a control plane")
}

/// The first byte says how: its lowest bit delta, the next one a file. Before each message stand two bytes of its length.
/// What is put in force holds together, what is refused changes nothing, and what was kept is read again, be it bit by bit.
pub fn told(bytes: &[u8]) {
    let Some((how, mut rest)) = bytes.split_first() else { return };
    let is_delta = how & 1 == 1;
    let dynamic = if is_delta { DELTA.clone() } else { STATE.clone() };
    let mut client = Client::new(SCHEMA.clone(), dynamic.clone(), 1, Instant::ZERO);
    let mut running = client.config();
    if how & 2 == 2 {
        // What is not what was written is refused, and changes nothing.
        if client.restore(Instant::ZERO, rest).is_err() {
            assert_eq!(client.config(), running);
        }
        return;
    }
    client.connected(Instant::ZERO);
    client.take_requests();
    let mut file = client.keep_from_now(true);
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let (message, more) = more.split_at(usize::from(u16::from_be_bytes(*length)).min(more.len()));
        rest = more;
        if client.receive(Instant::ZERO, WallTime::default(), message).is_err() {
            let is_one = !is_delta && read::<DiscoveryResponse>(message).is_some();
            assert!(!is_one, "a response is not taken for one");
            return;
        }
        let before = running.clone();
        while let Some(plan) = client.take_plan() {
            follow(&mut running, plan);
            client.settle(Instant::ZERO, WallTime::default(), Ok(()));
        }
        let refused = client.take_requests().iter().filter(|request| refuses(request, is_delta)).count();
        assert!(refused <= 1, "one response is refused once");
        if refused == 1 {
            assert_eq!(running, before, "what is refused changes nothing");
        }
        assert_eq!(client.config(), running);
        match client.changes(true) {
            Some(changes) => file.extend(changes),
            None => file = client.keep_from_now(true),
        }
    }
    let restored = |kept: &[u8]| {
        let mut later = Client::new(SCHEMA.clone(), dynamic.clone(), 1, Instant::ZERO);
        later.restore(Instant::ZERO, kept).unwrap_or_else(|why| panic!("what was kept is refused: {why}"));
        let mut again = later.config();
        // What stayed only because something led to it is not known any more, so that it may be less.
        if let Some(plan) = later.take_plan() {
            follow(&mut again, plan);
        }
        again
    };
    assert_eq!(restored(&file), restored(&client.keep(true)), "bit by bit it is the same");
}

fn follow(running: &mut Config, plan: Plan) {
    match plan {
        Plan::Whole(config) => {
            assert_eq!(config.problems(), Vec::new());
            *running = *config;
        }
        Plan::Endpoints(clusters) => {
            for cluster in clusters {
                let known = running.clusters.iter_mut().find(|known| known.name == cluster.name);
                *known.expect("it is in force") = cluster;
            }
        }
    }
}

fn refuses(request: &[u8], is_delta: bool) -> bool {
    if is_delta {
        read::<DeltaDiscoveryRequest>(request).is_some_and(|request| request.error_detail.is_some())
    } else {
        read::<DiscoveryRequest>(request).is_some_and(|request| request.error_detail.is_some())
    }
}
