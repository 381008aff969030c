//! Asks a process whether it is well.

use std::net::Ipv4Addr;

use naru_probe::Question;

use crate::confine::Confinement;
use crate::guarded::{Guarded, Surroundings};
use crate::launch::{End, Report};
use crate::{Probe, ProbeKind};

/// Whether it answers well, and in time. `own` is the process's own port, `around` what a command is
/// run with.
pub async fn ask(probe: &Probe, own: u16, around: &Surroundings<'_>) -> bool {
    let here = Ipv4Addr::LOCALHOST.to_string();
    let answer = async {
        let (question, port) = match &probe.kind {
            ProbeKind::Http { path, port, headers } => {
                (Question::Http { path: path.clone(), headers: headers.clone(), is_tls: false }, port)
            }
            ProbeKind::Tcp { port } => (Question::Tcp, port),
            ProbeKind::Grpc { port, service } => (Question::Grpc { service: service.clone() }, port),
            ProbeKind::Exec { command } => return exec(command, around).await.unwrap_or(false),
        };
        naru_probe::ask(&question, &here, port.unwrap_or(own)).await.is_ok()
    };
    tokio::time::timeout(probe.timeout, answer).await.unwrap_or(false)
}

/// Out of time, it is ended with all that it started: what guards it is dropped.
async fn exec(command: &[String], around: &Surroundings<'_>) -> Option<bool> {
    let mut asked = Guarded::start(command, around, Confinement::default(), false).ok()?;
    let mut is_well = false;
    while let Some(report) = asked.next().await {
        is_well = matches!(report, Report::Ended { end: End::Status(0), .. });
    }
    Some(is_well)
}
