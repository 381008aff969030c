//! Probes of every kind, asked of real processes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use naru_workloads::{Probe, ProbeKind, State, Workload};

use crate::world::{
    FIXTURE, Scratch, World, children_of, gone, http, pids, probe, script, service, until, workload,
};

#[tokio::test]
async fn a_process_is_called_when_its_readiness_probe_succeeds_and_not_when_it_fails() {
    let ready = Scratch::new();
    let world = World::new();
    world.supervisor.apply(vec![service(&ready)]);
    world.line("serves as service-0 on ").await;
    let one = world.only("it runs", |one| one.state == State::Unready).await;
    assert!(one.pid.is_some() && !one.is_ready);
    ready.write();
    let one = world.one_ready().await;
    tokio::net::TcpStream::connect(one.address).await.unwrap();
    ready.remove();
    let again = world.only("it is not ready", |one| one.state == State::Unready).await;
    assert_eq!((again.pid, again.restarts), (one.pid, 0), "it goes on");
    world.stop().await;
}

#[tokio::test]
async fn a_process_whose_liveness_probe_fails_is_started_again() {
    let live = Scratch::new();
    live.write();
    let world = World::new();
    let asked = Workload {
        liveness: Some(http(&live)),
        startup: Some(Probe { failure_threshold: 1_000, ..http(&live) }),
        ..workload("service", [FIXTURE, "serve"])
    };
    world.supervisor.apply(vec![asked]);
    let first = world.one_ready().await;
    live.remove();
    world.line("its liveness probe fails: it is ended, and started again").await;
    gone(&[first.pid.unwrap()]).await;
    // Its startup probe keeps the others waiting until it has begun.
    world.only("another runs", |one| one.restarts == 1 && one.state == State::Unready).await;
    live.write();
    let second = world.one_ready().await;
    assert_eq!((second.restarts, second.address), (1, first.address));
    world.stop().await;
}

#[tokio::test]
async fn one_that_does_not_start_up_in_time_is_started_again() {
    let world = World::new();
    let startup = Probe { failure_threshold: 3, ..probe(ProbeKind::Tcp { port: None }) };
    world.supervisor.apply(vec![Workload { startup: Some(startup), ..script("exec sleep 1000") }]);
    world.line("its startup probe fails: it is ended, and started again").await;
    world.only("it is started again", |one| one.restarts >= 1).await;
    world.stop().await;
}

#[tokio::test]
async fn a_command_is_well_when_its_status_is_zero_and_is_ended_when_it_takes_too_long() {
    let ready = Scratch::new();
    let world = World::new();
    let command = ["sh", "-c", &format!("[ $NARU_INSTANCE = script-0 ] && [ -e {} ]", ready.text())];
    let kind = ProbeKind::Exec { command: command.map(str::to_owned).into() };
    let asked = script("exec sleep 1000");
    world.supervisor.apply(vec![Workload { readiness: Some(probe(kind)), ..asked.clone() }]);
    world.only("it runs", |one| one.state == State::Unready).await;
    ready.write();
    world.one_ready().await;

    let slow = Scratch::new();
    let command = ["sh", "-c", &format!("echo $$ >> {}; sleep 1000 & sleep 1000", slow.text())];
    let kind = ProbeKind::Exec { command: command.map(str::to_owned).into() };
    let readiness = Probe { timeout: Duration::from_millis(300), ..probe(kind) };
    world.supervisor.apply(vec![Workload { readiness: Some(readiness), ..asked }]);
    let said = || std::fs::read_to_string(&slow.0).unwrap_or_default();
    until("it was asked twice", || said().lines().count() >= 2).await;
    let first: Vec<String> = said().lines().take(1).map(str::to_owned).collect();
    gone(&pids(&first)).await;
    world.stop().await;
    until("nothing is left of any probe", || children_of(std::process::id()).is_empty()).await;
}

#[tokio::test]
async fn a_port_is_well_when_it_takes_connections() {
    let world = World::new();
    let readiness = Some(probe(ProbeKind::Tcp { port: None }));
    world.supervisor.apply(vec![Workload { readiness, ..workload("service", [FIXTURE, "serve"]) }]);
    world.one_ready().await;
    world.stop().await;
}

#[tokio::test]
async fn a_health_service_is_well_when_it_says_that_it_serves() {
    let long = "s".repeat(300);
    for (service, answer, is_well) in
        [("", 1, true), ("shop", 1, true), (long.as_str(), 1, true), ("", 2, false)]
    {
        let (address, asked) = health_service(answer).await;
        let world = World::new();
        let kind = ProbeKind::Grpc { port: Some(address.port()), service: service.to_owned() };
        world.supervisor.apply(vec![Workload { readiness: Some(probe(kind)), ..script("exec sleep 1000") }]);
        let message =
            tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it is asked").unwrap();
        if is_well {
            world.one_ready().await;
        } else {
            world.only("it runs", |one| one.state == State::Unready).await;
        }
        assert!(message.ends_with(service.as_bytes()), "{message:?}");
        assert_eq!(
            message.len(),
            [5, 7, 8][usize::from(!service.is_empty()) + usize::from(service.len() > 127)] + service.len()
        );
        world.stop().await;
    }
}

/// A server of `grpc.health.v1.Health`; hands out the first message that it was sent.
async fn health_service(answer: u8) -> (SocketAddr, tokio::sync::oneshot::Receiver<Vec<u8>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("a port");
    let (asked_tx, asked_rx) = tokio::sync::oneshot::channel();
    let mut asked_tx = Some(asked_tx);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut connection) = h2::server::handshake(stream).await else { continue };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let mut body = request.into_body();
                let mut asked_tx = asked_tx.take();
                tokio::spawn(async move {
                    let mut message = Vec::new();
                    while let Some(Ok(data)) = body.data().await {
                        message.extend_from_slice(&data);
                    }
                    let head = http::Response::builder().header("content-type", "application/grpc").body(());
                    let Ok(mut stream) = respond.send_response(head.expect("a head"), false) else { return };
                    let _ = stream.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, answer]), false);
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    let _ = stream.send_trailers(trailers);
                    asked_tx.take().map(|tx| tx.send(message));
                });
            }
        }
    });
    (address, asked_rx)
}
