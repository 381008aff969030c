//! What naru gives up when it runs short itself: under a pressure that a file says, under its own memory and under the
//! machine's processors.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use naru_base::share::Denominator;
use naru_base::{Fraction, Reason};
use naru_proxy::Options;
use naru_proxy::metrics::TurnedAway;
use naru_spec::overload::TriggerAt;
use naru_tests::files::Directory;
use naru_tests::wire::End;
use naru_tests::{Bootstrap, Client, Naru, Program, Speaks, Upstream, Wire, client, naru, until};

const RESOURCES: &str = "type.googleapis.com/envoy.extensions.resource_monitors";
const GET: &str = "GET /bytes/2 HTTP/1.1\r\nhost: naru.test\r\n\r\n";

/// A file that says how short naru runs.
struct Pressure {
    _files: Directory,
    file: PathBuf,
}

impl Pressure {
    fn new() -> Pressure {
        let files = Directory::new();
        let file = files.write("pressure", "0");
        Pressure { _files: files, file }
    }

    /// As a whole: what is half written is no number.
    fn set(&self, share: &str) {
        let newer = self.file.with_extension("new");
        std::fs::write(&newer, share).unwrap();
        std::fs::rename(&newer, &self.file).unwrap();
    }

    /// The manager that measures it, and does this about it.
    fn manager(&self, actions: &str) -> String {
        format!(
            "overload_manager:\n  refresh_interval: 0.01s\n  resource_monitors:\n  - name: pressure\n    typed_config: \
             {{ \"@type\": {RESOURCES}.injected_resource.v3.InjectedResourceConfig, filename: {} }}\n{actions}",
            self.file.display()
        )
    }
}

fn action(name: &str) -> String {
    format!(
        "  actions:\n  - name: envoy.overload_actions.{name}\n    triggers: [{{ name: pressure, threshold: {{ value: \
         0.9 }} }}]\n"
    )
}

/// Waits until it is in force, or is not any more.
async fn is_called_for(naru: &Naru, is_it: bool) {
    until("what is called for", async || {
        (naru.strain().reliefs.iter().any(|relief| relief.strength > 0) == is_it).then_some(())
    })
    .await;
}

#[tokio::test]
async fn requests_are_refused_while_the_pressure_lasts_and_are_told_why() {
    for (speaks, action) in [
        (Speaks::Http1, action("stop_accepting_requests")),
        (Speaks::Http2, action("stop_accepting_requests")),
        (
            Speaks::Http1,
            "  loadshed_points:\n  - name: envoy.load_shed_points.http_connection_manager_decode_headers\n    triggers: \
             [{ name: pressure, scaled: { scaling_threshold: 0.5, saturation_threshold: 0.9 } }]\n"
                .to_owned(),
        ),
    ] {
        let (pressure, logs) = (Pressure::new(), Directory::new());
        let log = logs.path("log");
        let fields = "{ status: \"%RESPONSE_CODE%\", flags: \"%RESPONSE_FLAGS%\", why: \"%RESPONSE_CODE_DETAILS%\" }";
        let up = Upstream::plain(Speaks::Http1).await;
        let bootstrap = Bootstrap::to(up.address).top(&pressure.manager(&action)).json_log(&log, fields);
        let naru = Naru::start(&bootstrap);
        let mut client = Client::plain(naru.address, speaks).await;
        assert_eq!(client.get("/bytes/2").await.status, 200);
        pressure.set("0.9");
        is_called_for(&naru, true).await;
        let refused = client.get("/bytes/2").await;
        assert_eq!((refused.status.as_u16(), refused.text().as_str()), (503, "overloaded"));
        assert_eq!(refused.header("x-envoy-local-overloaded"), Some("true"));
        // On a connection that stands.
        assert_eq!(client.get("/bytes/2").await.status, 503);
        assert_eq!(naru.strain().reliefs[0].given_up, 2);
        pressure.set("0.3");
        is_called_for(&naru, false).await;
        assert_eq!(client.get("/bytes/2").await.status, 200);
        assert_eq!(up.requests(), 2);
        let ended = naru.ended(4).await;
        assert_eq!(ended.iter().filter(|ended| **ended == (503, Reason::Overloaded)).count(), 2);
        until("the lines of the log", async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let is_it = |line: &str| line.contains("\"OM\"") && line.contains("\"overload\"");
            (text.lines().filter(|line| is_it(line)).count() == 2).then_some(())
        })
        .await;
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_share_of_the_requests_is_refused_where_the_pressure_is_between() {
    let pressure = Pressure::new();
    let scaled = "  actions:\n  - name: envoy.overload_actions.stop_accepting_requests\n    triggers: [{ name: pressure, \
                  scaled: { scaling_threshold: 0.5, saturation_threshold: 0.9 } }]\n";
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address).top(&pressure.manager(scaled)));
    pressure.set("0.7");
    is_called_for(&naru, true).await;
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let mut refused = 0;
    for _ in 0..200 {
        refused += u32::from(client.get("/bytes/2").await.status == 503);
    }
    assert!((60..140).contains(&refused), "{refused} of 200");
}

#[tokio::test]
async fn connections_end_with_the_requests_that_they_carry() {
    let pressure = Pressure::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::to(up.address).top(&pressure.manager(&action("disable_http_keepalive")));
    let naru = Naru::start(&bootstrap);
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    assert_eq!(client.response().await.head.get("connection"), None);
    pressure.set("1");
    is_called_for(&naru, true).await;
    client.send(GET).await;
    let last = client.response().await;
    assert_eq!((last.status(), last.head.get("connection")), (200, Some("close")));
    assert_eq!(client.ends().await, End::Closed);
    let mut client = Client::plain(naru.address, Speaks::Http2).await;
    assert_eq!(client.get("/bytes/2").await.status, 200);
    naru.settles().await;
    assert_eq!(naru.report().await.downstream.keepalives_ended, 2);
}

#[tokio::test]
async fn connections_are_closed_at_once_or_left_to_the_kernel() {
    for shed in [
        action("reject_incoming_connections"),
        action("reject_incoming_connections")
            .replace("actions:\n", "loadshed_points:\n")
            .replace("overload_actions.reject_incoming_connections", "load_shed_points.tcp_listener_accept"),
    ] {
        let pressure = Pressure::new();
        let up = Upstream::plain(Speaks::Http1).await;
        let naru = Naru::start(&Bootstrap::to(up.address).top(&pressure.manager(&shed)));
        let mut before = Wire::connect(naru.address).await;
        before.send(GET).await;
        assert_eq!(before.response().await.status(), 200);
        pressure.set("1");
        is_called_for(&naru, true).await;
        Wire::ended_at_once(naru.address).await;
        // Who is there is served.
        before.send(GET).await;
        assert_eq!(before.response().await.status(), 200);
        pressure.set("0");
        is_called_for(&naru, false).await;
        assert_eq!(client::get(naru.address, "/bytes/2").await.status, 200);
        drop(before);
        let ended = naru.ended(4).await;
        assert_eq!(ended.first(), Some(&(0, Reason::ConnectionRejected)));
        assert_eq!(naru.report().await.downstream.turned_away[TurnedAway::Overload as usize], 1);
    }

    let pressure = Pressure::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let stop = action("stop_accepting_connections");
    let naru = Naru::start(&Bootstrap::to(up.address).top(&pressure.manager(&stop)));
    pressure.set("1");
    is_called_for(&naru, true).await;
    // Reports are asked for behind the message that tells the worker.
    naru.report().await;
    let mut waiting = Wire::connect(naru.address).await;
    waiting.send(GET).await;
    let answer = tokio::spawn(async move { waiting.response().await.status() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((up.requests(), naru.report().await.downstream.connections_total), (0, 0));
    pressure.set("0");
    assert_eq!(answer.await.unwrap(), 200);
}

#[tokio::test]
async fn idle_connections_are_closed_sooner_and_at_last_at_once() {
    let reduce = "  actions:\n  - name: envoy.overload_actions.reduce_timeouts\n    triggers: [{ name: pressure, \
                  threshold: { value: 0.9 } }]\n    typed_config:\n      \"@type\": \
                  type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig\n      \
                  timer_scale_factors:\n      - { timer: HTTP_DOWNSTREAM_CONNECTION_IDLE, min_timeout: 0.05s }\n      - { \
                  timer: TRANSPORT_SOCKET_CONNECT, min_scale: { value: 10 } }\n";
    for relief in [reduce.to_owned(), action("close_idle_http_connections")] {
        let pressure = Pressure::new();
        let up = Upstream::plain(Speaks::Http1).await;
        let naru = Naru::start(&Bootstrap::to(up.address).top(&pressure.manager(&relief)));
        let mut idle = Wire::connect(naru.address).await;
        idle.send(GET).await;
        assert_eq!(idle.response().await.status(), 200);
        let mut busy = Wire::connect(naru.address).await;
        busy.send("GET /slow/300 HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
        until("both to be there", async || (up.requests() == 2).then_some(())).await;
        pressure.set("1");
        assert_eq!(idle.ends().await, End::Closed);
        assert_eq!(busy.response().await.status(), 200, "who is served is not idle");
    }
}

#[tokio::test]
async fn no_more_connections_are_taken_than_there_may_be() {
    let limit = format!(
        "overload_manager:\n  resource_monitors:\n  - name: envoy.resource_monitors.global_downstream_max_connections\n    \
         typed_config: {{ \"@type\": {RESOURCES}.downstream_connections.v3.DownstreamConnectionsConfig, \
         max_active_downstream_connections: 2 }}\n"
    );
    let up = Upstream::plain(Speaks::Http1).await;
    // Whichever workers they come to.
    let options = Options { workers: 2, seed: Some(1) };
    let naru = Naru::start_with(&Bootstrap::to(up.address).top(&limit), &options);
    until("the limit to be known", async || (!naru.strain().resources.is_empty()).then_some(())).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Wire::connect(naru.address).await;
        client.send(GET).await;
        assert_eq!(client.response().await.status(), 200);
        held.push(client);
    }
    for _ in 0..3 {
        Wire::ended_at_once(naru.address).await;
    }
    until("three to be turned away", async || {
        (naru.report().await.downstream.turned_away[TurnedAway::Global as usize] == 3).then_some(())
    })
    .await;
    held.pop();
    until("the place to be free", async || (naru.strain().connections == 1).then_some(())).await;
    assert_eq!(client::get(naru.address, "/bytes/2").await.status, 200);
    drop(held);
    let ended = naru.ended(6).await;
    assert_eq!(ended.iter().filter(|ended| **ended == (0, Reason::ConnectionLimit)).count(), 3);
    naru.settles().await;
    assert_eq!(naru.strain().connections, 0);
}

#[tokio::test]
async fn what_is_held_is_held_until_the_pressure_is_well_below_and_probes_are_spared() {
    let pressure = Pressure::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let manager = pressure.manager(&action("stop_accepting_requests"));
    let mut config = naru::config(&Bootstrap::to(up.address).top(&manager));
    let overload = config.overload.as_mut().unwrap();
    overload.spared = vec!["/status/201".to_owned()];
    let percent = |part| Fraction::new(part, Denominator::Hundred);
    overload.actions[0].triggers[0].at = TriggerAt::Latched { at: percent(90), until: percent(60) };
    let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
    let measured = async |millionths| {
        until("it to be measured", async || {
            naru.strain().resources.iter().any(|resource| resource.pressure == millionths).then_some(())
        })
        .await;
    };
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for (share, millionths, status) in [
        ("0.8", 800_000, 200),
        ("0.9", 900_000, 503),
        ("0.6", 600_000, 503),
        ("0.59", 590_000, 200),
        ("0.8", 800_000, 200),
    ] {
        pressure.set(share);
        measured(millionths).await;
        is_called_for(&naru, status == 503).await;
        assert_eq!(client.get("/bytes/2").await.status.as_u16(), status, "{share}");
        assert_eq!(client.get("/status/201?who=probe").await.status, 201, "{share}");
    }
}

#[tokio::test]
async fn its_own_memory_is_measured_and_the_admin_interface_stays() {
    let heap = |bytes: u64| {
        format!(
            "overload_manager:\n  refresh_interval: 0.02s\n  resource_monitors:\n  - name: \
             envoy.resource_monitors.fixed_heap\n    typed_config: {{ \"@type\": \
             {RESOURCES}.fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: {bytes} }}\n  actions:\n  - name: \
             envoy.overload_actions.stop_accepting_requests\n    triggers: [{{ name: \
             envoy.resource_monitors.fixed_heap, threshold: {{ value: 0.95 }} }}]\n  - name: \
             envoy.overload_actions.shrink_heap\n    triggers: [{{ name: envoy.resource_monitors.fixed_heap, threshold: \
             {{ value: 0.95 }} }}]\n"
        )
    };
    let up = Upstream::plain(Speaks::Http1).await;
    // A megabyte is less than it has, and a terabyte more than it will ever have.
    for (bytes, status, active) in [(1 << 20, 503, 1), (1 << 40, 200, 0)] {
        let program = Program::start(&Bootstrap::to(up.address).admin().top(&heap(bytes)), &[]).await;
        let mut client = Client::plain(program.address, Speaks::Http1).await;
        until("it to be measured", async || {
            (client.get("/bytes/2").await.status.as_u16() == status).then_some(())
        })
        .await;
        let admin = program.admin.unwrap();
        assert_eq!(client::get(admin, "/ready").await.status, 200);
        let stats = client::get(admin, "/stats?filter=overload").await.text();
        for line in [
            format!("overload.envoy.overload_actions.stop_accepting_requests.active: {active}\n"),
            format!(
                "overload.envoy.overload_actions.stop_accepting_requests.scale_percent: {}\n",
                active * 100
            ),
            format!("overload.envoy.overload_actions.shrink_heap.active: {active}\n"),
            "overload.envoy.resource_monitors.fixed_heap.failed_updates: 0\n".to_owned(),
        ] {
            assert!(stats.contains(&line), "{line}{stats}");
        }
        let pressure = stats.lines().find_map(|line| {
            line.strip_prefix("overload.envoy.resource_monitors.fixed_heap.pressure: ")?.parse::<u64>().ok()
        });
        assert!(pressure.is_some_and(|pressure| (pressure >= 95) == (active == 1)), "{stats}");
        assert_eq!(stats.contains("http.test.downstream_rq_overload_close"), active == 1, "{stats}");
        let metrics = client::get(admin, "/metrics").await.text();
        let sample =
            format!("envoy_overload_envoy_overload_actions_stop_accepting_requests_active {active}\n");
        assert!(metrics.contains(&sample), "{metrics}");
        let dump = client::get(admin, "/config_dump").await.text();
        assert!(dump.contains("max_heap_size_bytes"), "{dump}");
    }
}

#[tokio::test]
async fn processors_are_measured() {
    let busy = format!(
        "overload_manager:\n  refresh_interval: 0.1s\n  resource_monitors:\n  - name: cpu\n    typed_config: {{ \
         \"@type\": {RESOURCES}.cpu_utilization.v3.CpuUtilizationConfig, mode: HOST }}\n  actions:\n  - name: \
         envoy.overload_actions.stop_accepting_requests\n    triggers: [{{ name: cpu, threshold: {{ value: 0.2 }} }}]\n"
    );
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address).top(&busy));
    let is_over = Arc::<AtomicBool>::default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads: Vec<_> = (0..processors)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || while !is_over.load(Ordering::Relaxed) {})
        })
        .collect();
    is_called_for(&naru, true).await;
    assert_eq!(client::get(naru.address, "/bytes/2").await.status, 503);
    is_over.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
