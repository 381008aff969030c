//! What a process still holds when nobody asks it for anything: nothing.

use std::collections::BTreeMap;
use std::path::Path;

use naru_tests::{Program, client, until};

/// Waits until the admin interface counts nothing as active, and no socket is open that does not listen.
pub async fn nothing_is_left_in(program: &Program) {
    let admin = program.admin.unwrap();
    let mut last = Vec::new();
    let ended = tokio::time::timeout(naru_tests::wait::PATIENCE, async {
        loop {
            let connections = connections_of(program.id());
            let stats = client::get(admin, "/stats").await.text();
            last = stats
                .lines()
                .filter(|line| line.split(": ").next().is_some_and(|name| name.ends_with("_active")))
                .filter(|line| !line.ends_with(": 0"))
                .map(str::to_owned)
                .collect();
            last.extend(connections);
            if last.is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(ended.is_ok(), "still there: {last:#?}");
    let stats = client::get(admin, "/stats").await.text();
    let said = |name: &str| stats.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    assert_eq!(said("access_log.lines_dropped: ").as_deref(), Some("0"));
    assert_eq!(said("http.downstream_cx_panic: ").as_deref(), Some("0"));
    // A snapshot that nobody uses goes.
    until("old snapshots to go", async || {
        let stats = client::get(admin, "/stats").await.text();
        stats.contains("server.snapshots_in_use: 1\n").then_some(())
    })
    .await;
}

/// Sockets of TCP that do not listen, but for those of the admin interface; a socket that no table knows is a leak, too.
fn connections_of(pid: u32) -> Vec<String> {
    let process = format!("/proc/{pid}");
    let mut states = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("{process}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            states.insert(words[9].to_owned(), format!("{} to {} in state {}", words[1], words[2], words[3]));
        }
    }
    let of_unix = std::fs::read_to_string(format!("{process}/net/unix")).unwrap_or_default();
    let descriptors = std::fs::read_dir(Path::new(&process).join("fd")).unwrap();
    let mut found = Vec::new();
    for descriptor in descriptors.flatten() {
        let Ok(target) = std::fs::read_link(descriptor.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) else {
            continue;
        };
        match states.get(inode) {
            Some(state) if state.ends_with("state 0A") => {}
            Some(state) => found.push(state.clone()),
            None if of_unix.split_whitespace().any(|word| word == inode) => {}
            None => found.push(format!("socket {inode}, which is in no table")),
        }
    }
    found
}
