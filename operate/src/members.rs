//! Who had joined a WorkloadGroup when a process ended, and who is connected to another control plane? The first is kept
//! beside the documents that were in force, so that those who come again to the next one are called meanwhile; the other
//! is told in the etcd that both follow.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::rc::Weak;
use std::sync::Arc;

use bytes::Bytes;
use naru_discovery::{Connected, ControlPlane};
use naru_plan::Member;
use naru_sources::etcd::{Circle, Settings};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::history::{History, write_whole};

/// Of one key of an etcd, which takes 1.5 MiB; one member may go beyond it, who has a tenth of that at most.
const PIECE_BYTES: usize = 512 << 10;
/// A file that is larger is none of ours.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Where they are kept.
pub fn file(history: &History) -> PathBuf {
    history.beside("members.json")
}

/// Nobody where there is no such file, or one that is none.
pub fn read(file: &Path) -> Vec<Member> {
    let mut text = String::new();
    let read = fs::File::open(file).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            naru_say::say!("warning: '{}' cannot be read: {error}", file.display());
            return Vec::new();
        }
        Ok(_) => {}
    }
    let value: Option<Value> = serde_json::from_str(&text).ok();
    let all = value.as_ref().and_then(|value| value["members"].as_array());
    let all: Option<Vec<Member>> = all.and_then(|all| all.iter().map(of).collect());
    all.unwrap_or_else(|| {
        let file = file.display();
        naru_say::say!("warning: '{file}' is not what naru writes; nobody is known who had joined a group");
        Vec::new()
    })
}

/// Writes them each time that they are others, until nobody says so any more.
pub async fn follow(mut members: watch::Receiver<Arc<[Member]>>, file: PathBuf) {
    while members.changed().await.is_ok() {
        let now = Arc::clone(&members.borrow_and_update());
        keep(file.clone(), now).await;
    }
}

/// Tells other control planes who is connected here, and hears from them, for as long as this one is there.
/// Where nobody can join, nothing is asked of the etcd.
pub async fn share(plane: Weak<ControlPlane>, settings: Settings) {
    let watched = plane.upgrade().map(|plane| (plane.groups(), plane.connected()));
    let Some((mut groups, mut connected)) = watched else { return };
    if groups.wait_for(|count| count.is_some_and(|count| count > 0)).await.is_err() {
        return;
    }
    let circle = Circle::follow(settings, &format!("{:016x}", naru_proxy::seed()));
    let mut others = circle.others();
    loop {
        tokio::select! {
            Ok(()) = connected.changed() => {
                let now = Arc::clone(&connected.borrow_and_update());
                circle.say(pieces(&now));
            }
            Ok(()) = others.changed() => {
                let said = Arc::clone(&others.borrow_and_update());
                let Some(plane) = plane.upgrade() else { return };
                let heard = said.iter().map(|(name, pieces)| {
                    (name.clone(), pieces.iter().flat_map(|piece| of_piece(piece)).collect())
                });
                plane.others(heard.collect::<BTreeMap<_, _>>());
            }
            else => return,
        }
    }
}

fn pieces(members: &[Connected]) -> Vec<Bytes> {
    let mut pieces: Vec<String> = Vec::new();
    for connected in members {
        let mut value = said(&connected.member);
        value["is_ready"] = connected.is_ready.into();
        let one = value.to_string();
        match pieces.last_mut().filter(|last| last.len() < PIECE_BYTES) {
            Some(last) => {
                last.push(',');
                last.push_str(&one);
            }
            None => pieces.push(format!("{{\"members\":[{one}")),
        }
    }
    pieces.into_iter().map(|piece| Bytes::from(piece + "]}")).collect()
}

/// What is none of them is passed by: a later naru may say more.
fn of_piece(piece: &[u8]) -> Vec<Connected> {
    let value: Value = serde_json::from_slice(piece).unwrap_or_default();
    let all = value["members"].as_array().map_or(&[][..], Vec::as_slice);
    let one = |value: &Value| Some(Connected { member: of(value)?, is_ready: value["is_ready"].as_bool()? });
    all.iter().filter_map(one).collect()
}

/// What cannot be kept is told, and stops nothing.
pub async fn keep(file: PathBuf, members: Arc<[Member]>) {
    let written = tokio::task::spawn_blocking(move || write(&file, &members)).await;
    if let Ok(Err(error)) = written {
        naru_say::say!("warning: those who have joined groups cannot be kept: {error}");
    }
}

fn write(file: &Path, members: &[Member]) -> io::Result<()> {
    if members.is_empty() && !file.exists() {
        return Ok(());
    }
    if let Some(directory) = file.parent() {
        History::make(directory)?;
    }
    let all: Vec<Value> = members.iter().map(said).collect();
    write_whole(file, json!({ "members": all }).to_string().as_bytes())
}

fn said(member: &Member) -> Value {
    json!({
        "namespace": member.namespace,
        "group": member.group,
        "address": member.address.to_string(),
        "network": member.network,
        "locality": member.locality,
        "labels": member.labels,
    })
}

fn of(value: &Value) -> Option<Member> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let label = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()));
    Some(Member {
        namespace: text("namespace")?,
        group: text("group")?,
        address: text("address")?.parse().ok()?,
        network: text("network")?,
        locality: text("locality")?,
        labels: value["labels"].as_array()?.iter().map(label).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use naru_plan::Member;

    use naru_discovery::Connected;

    use super::{PIECE_BYTES, of, of_piece, pieces, said};

    #[test]
    fn what_is_kept_is_what_there_was() {
        let member = Member {
            namespace: "shop".to_owned(),
            group: "vm".to_owned(),
            address: "fd00::7".parse().unwrap(),
            network: "n".to_owned(),
            locality: "r/z".to_owned(),
            labels: vec![("a".to_owned(), "b\"\n".to_owned())],
        };
        let text = said(&member).to_string();
        assert_eq!(of(&serde_json::from_str(&text).unwrap()), Some(member.clone()));
        let connected = Connected { member, is_ready: false };
        let many = vec![connected; 10_000];
        let pieces = pieces(&many);
        assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() < PIECE_BYTES + 1_000));
        let back: Vec<Connected> = pieces.iter().flat_map(|piece| of_piece(piece)).collect();
        assert!(back == many);
        assert_eq!(of_piece(b"{ half"), []);
        for broken in ["{}", "[]", "1", "{\"namespace\": 1}"] {
            assert_eq!(of(&serde_json::from_str(broken).unwrap()), None, "{broken}");
        }
    }
}
