//! How do machines join a WorkloadGroup? What `members.rs` decides is carried out: probes are asked, and who may be called
//! is told, not for each who comes and goes but for all of a moment together.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use naru_base::Instant;
use naru_plan::{Group, GroupProbeKind, Member};
use naru_probe::Question;
use naru_xds::discovery::{Node, Struct};
use tokio::sync::{Notify, Semaphore, watch};

use crate::body::{Code, End};
use crate::hub::{Hub, lock};
use crate::members::{Ask, Connected, Key, Members, Own, Refused, Standing};
use crate::node::text;

/// Nobody has come or gone for so long: what there is then is told.
const QUIET: Duration = Duration::from_millis(50);
/// Whoever comes and goes, it is told as late as this.
const LATE: Duration = Duration::from_millis(500);
/// Between two looks, at least.
const PAUSE: Duration = Duration::from_millis(10);
/// Asked at the same time.
const ASKED_MAX: usize = 256;
/// Of the name of a group, as of any object in Kubernetes.
const NAME_BYTES_MAX: usize = 253;
/// Addresses of one node that are looked at: the first counts.
const SAID_BYTES_MAX: usize = 1_000;

/// Who is there, and who carries it out.
#[derive(Debug)]
pub(crate) struct Joining {
    members: Mutex<Members>,
    stirred: Notify,
    /// How many groups there are, each time that documents say it.
    groups: watch::Sender<Option<usize>>,
    called: watch::Sender<Arc<[Member]>>,
    connected: watch::Sender<Arc<[Connected]>>,
}

/// What a node wishes that names a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub key: Key,
    pub locality: String,
}

impl Wish {
    /// `None` where it names none. `Err` says to the node what is wrong.
    pub fn of(node: &Node, namespace: &str, peer: IpAddr) -> Result<Option<Wish>, String> {
        let empty = Struct::default();
        let metadata = node.metadata.as_ref().unwrap_or(&empty);
        let group = text(metadata, &["auto_register_group", "AUTO_REGISTER_GROUP"])?;
        let Some(group) = group.filter(|group| !group.is_empty()) else { return Ok(None) };
        if group.contains('/') || group.len() > NAME_BYTES_MAX {
            return Err(format!(
                "node.metadata.auto_register_group: '{group}' is no name of a WorkloadGroup; a node joins one of its own namespace"
            ));
        }
        let said = text(metadata, &["instance_address", "INSTANCE_IPS"])?;
        let said = said.filter(|said| said.len() <= SAID_BYTES_MAX && !said.trim().is_empty());
        let mut of_id = node.id.split('~').skip(1);
        let of_id = of_id.next().filter(|_| node.id.split('~').count() == 4);
        let address = match (said, of_id) {
            (Some(said), _) => {
                let first = said.split(',').next().unwrap_or_default().trim();
                first
                    .parse()
                    .map_err(|_| format!("node.metadata.instance_address: '{first}' is no IP address"))?
            }
            // Istio's ids have it: `sidecar~10.0.0.7~..`.
            (None, Some(of_id)) => of_id.parse().unwrap_or(peer),
            (None, None) => peer,
        };
        let address = reachable(address, peer)?;
        let network = text(metadata, &["network", "NETWORK"])?.unwrap_or_default();
        let locality = node.locality.as_ref().map_or(String::new(), |locality| {
            let parts = [&locality.region, &locality.zone, &locality.sub_zone];
            let parts: Vec<&str> = parts.into_iter().map(String::as_str).collect();
            parts.join("/").trim_end_matches('/').chars().take(SAID_BYTES_MAX).collect()
        });
        let key = Key { namespace: namespace.to_owned(), group, address, network };
        Ok(Some(Wish { key, locality }))
    }
}

/// Where others can call somebody; not the places that mean another one to each who calls there.
fn reachable(address: IpAddr, peer: IpAddr) -> Result<IpAddr, String> {
    let address = address.to_canonical();
    let is_local = match address {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let is_everybody = matches!(address, IpAddr::V4(ip) if ip.is_broadcast() || ip.octets()[0] == 0);
    let why = if address.is_unspecified() || is_everybody {
        "is the address of nobody"
    } else if address.is_multicast() {
        "is the address of many"
    } else if is_local {
        "means something on its own link only"
    } else if address.is_loopback() && !peer.to_canonical().is_loopback() {
        "is each machine's own"
    } else {
        return Ok(address);
    };
    Err(format!("{address} {why}: say node.metadata.instance_address"))
}

impl Joining {
    pub fn new() -> Joining {
        Joining {
            members: Mutex::new(Members::default()),
            stirred: Notify::new(),
            groups: watch::Sender::new(None),
            called: watch::Sender::new(Arc::from([])),
            connected: watch::Sender::new(Arc::from([])),
        }
    }

    /// Those who may be called.
    pub fn called(&self) -> Vec<Member> {
        lock(&self.members).called()
    }

    /// The same, each time that they are others.
    pub fn watch(&self) -> watch::Receiver<Arc<[Member]>> {
        self.called.subscribe()
    }

    pub fn watch_groups(&self) -> watch::Receiver<Option<usize>> {
        self.groups.subscribe()
    }

    /// Those who are connected here, each time that they are others.
    pub fn watch_connected(&self) -> watch::Receiver<Arc<[Connected]>> {
        self.connected.subscribe()
    }

    pub fn others(&self, now: Instant, others: BTreeMap<String, Vec<Connected>>) {
        lock(&self.members).on_others(now, others);
        self.stirred.notify_one();
    }

    pub fn standings(&self) -> Vec<Standing> {
        lock(&self.members).standings()
    }

    pub fn restore(&self, now: Instant, members: Vec<Member>) {
        lock(&self.members).restore(now, members);
        self.stirred.notify_one();
    }

    pub fn put(&self, now: Instant, groups: Vec<Group>) {
        let count = groups.len();
        lock(&self.members).on_groups(now, groups);
        self.groups.send_replace(Some(count));
        self.stirred.notify_one();
    }

    /// The labels of somebody who joins. Waits until it is known which groups there are.
    pub async fn labels(&self, wish: &Wish, own: &[(String, String)]) -> Result<Vec<(String, String)>, End> {
        let mut groups = self.groups.subscribe();
        loop {
            match self.admits(wish, own) {
                Ok(Some(labels)) => return Ok(labels),
                Ok(None) => {}
                Err(end) => return Err(end),
            }
            if groups.changed().await.is_err() {
                return Err(End::new(Code::Unavailable, "the control plane ends"));
            }
        }
    }

    /// As things stand; `None` where nobody knows them yet.
    pub fn admits(
        &self,
        wish: &Wish,
        own: &[(String, String)],
    ) -> Result<Option<Vec<(String, String)>>, End> {
        let members = lock(&self.members);
        match members.admits(&wish.key, own) {
            Ok(labels) => Ok(Some(labels)),
            Err(Refused::NotYet) => Ok(None),
            Err(refused) => Err(end_of(&refused, &wish.key, &members)),
        }
    }

    /// Who it is to others of the mesh that joins: `account`, or, where that is nobody, whom its group says.
    pub fn account(&self, wish: &Wish, account: &str) -> Result<Option<String>, End> {
        let of_group = lock(&self.members).account(&wish.key);
        match &of_group {
            Some(of_group) if !account.is_empty() && account != of_group => {
                let why = format!(
                    "its service account is '{account}', and that of who joins '{}' is '{of_group}'",
                    wish.key.group
                );
                Err(End::new(Code::PermissionDenied, why))
            }
            _ => Ok(of_group),
        }
    }

    /// A stream of somebody begins; it is over when what is answered is dropped.
    pub fn join(
        hub: &Arc<Hub>,
        wish: Wish,
        id: String,
        labels: Vec<(String, String)>,
    ) -> Result<Joined, End> {
        let stream = hub.number();
        let mut members = lock(&hub.joining.members);
        let own = Own { id, labels, locality: wish.locality };
        let joined = members.join(hub.clock.now(), stream, &wish.key, own);
        joined.map_err(|refused| end_of(&refused, &wish.key, &members))?;
        hub.joining.stirred.notify_one();
        drop(members);
        Ok(Joined { hub: Arc::clone(hub), stream, key: wish.key })
    }
}

fn end_of(refused: &Refused, key: &Key, members: &Members) -> End {
    let Key { namespace, group, .. } = key;
    match refused {
        Refused::TooMany => End::new(Code::ResourceExhausted, "too many machines have joined groups"),
        Refused::NotYet | Refused::NoGroup => {
            let mut why = format!("there is no WorkloadGroup '{group}' in the namespace '{namespace}'");
            let homes = members.homes_of(group);
            if !homes.is_empty() {
                let others = homes.join("', '");
                why.push_str(&format!(
                    ", but in '{others}': a node joins a group of its own namespace (node.metadata.namespace)"
                ));
            }
            End::new(Code::FailedPrecondition, why)
        }
    }
}

/// Somebody is there.
#[derive(Debug)]
pub(crate) struct Joined {
    hub: Arc<Hub>,
    stream: u64,
    key: Key,
}

impl Drop for Joined {
    fn drop(&mut self) {
        lock(&self.hub.joining.members).leave(self.hub.clock.now(), self.stream, &self.key);
        self.hub.joining.stirred.notify_one();
    }
}

/// Carries it out for as long as proxies are served.
pub(crate) async fn run(hub: Arc<Hub>) {
    let joining = &hub.joining;
    let room = Arc::new(Semaphore::new(ASKED_MAX));
    let mut told = Told::default();
    loop {
        let now = hub.clock.now();
        let (mut asks, deadline) = {
            let mut members = lock(&joining.members);
            members.tick(now);
            let mut asks = Vec::new();
            while let Some(ask) = members.next_ask() {
                asks.push(ask);
            }
            let is_due = told.look(now, members.revision() + members.own_revision());
            if is_due {
                tell(&joining.called, members.called());
                tell(&joining.connected, members.connected());
            }
            let deadline = members.deadline();
            drop(members);
            if is_due {
                hub.remake();
            }
            (asks, deadline.into_iter().chain(told.due).min())
        };
        for ask in asks.drain(..) {
            tokio::spawn(asked(Arc::clone(&hub), Arc::clone(&room), ask));
        }
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            () = joining.stirred.notified() => {}
            () = hub.clock.until(deadline) => {}
        }
    }
}

/// Where they are others.
fn tell<T: PartialEq>(told: &watch::Sender<Arc<[T]>>, now: Vec<T>) {
    told.send_if_modified(|before| {
        let is_other = **before != *now;
        if is_other {
            *before = now.into();
        }
        is_other
    });
}

/// When it is told that others may be called.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    revision: u64,
    /// What was seen last, and since when that which was told is old.
    seen: u64,
    since: Option<Instant>,
    due: Option<Instant>,
}

impl Told {
    /// Whether it is to be told now.
    fn look(&mut self, now: Instant, revision: u64) -> bool {
        if revision == self.revision {
            return false;
        }
        if revision != self.seen {
            let since = *self.since.get_or_insert(now);
            self.seen = revision;
            self.due = Some((now + QUIET).min(since + LATE));
        }
        if self.due.is_some_and(|due| due > now) {
            return false;
        }
        *self = Told { revision, seen: revision, since: None, due: None };
        true
    }
}

/// Asks somebody, and says what he has answered.
async fn asked(hub: Arc<Hub>, room: Arc<Semaphore>, ask: Ask) {
    // Closed with the process only.
    let Ok(place) = room.acquire_owned().await else { return };
    let Ask { key, number, probe } = ask;
    let question = match probe.kind {
        GroupProbeKind::Http { path, headers, is_tls } => Question::Http { path, headers, is_tls },
        GroupProbeKind::Tcp => Question::Tcp,
        GroupProbeKind::Grpc { service } => Question::Grpc { service },
    };
    let host = probe.host.unwrap_or_else(|| key.address.to_string());
    let answer = tokio::time::timeout(probe.timeout, naru_probe::ask(&question, &host, probe.port)).await;
    let answer = match answer {
        Ok(answer) => answer.map_err(|unwell| unwell.to_string()),
        Err(_) => Err(format!("no answer within {:?}", probe.timeout)),
    };
    let at = SocketAddr::new(key.address, probe.port);
    let answer = answer.map_err(|why| format!("{at}: {why}"));
    drop(place);
    lock(&hub.joining.members).on_answer(hub.clock.now(), &key, number, answer);
    hub.joining.stirred.notify_one();
}

#[cfg(test)]
mod tests {
    use naru_xds::discovery::{Node, Struct, Value, value::Kind};

    use super::Wish;

    fn wish(id: &str, peer: &str, metadata: &[(&str, &str)]) -> Result<Option<String>, String> {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = metadata.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        let metadata = Some(Struct { fields });
        let node = Node { id: id.to_owned(), metadata, ..Node::default() };
        let wish = Wish::of(&node, "shop", peer.parse().unwrap())?;
        Ok(wish.map(|Wish { key, .. }| {
            format!("{}/{} {}{}", key.namespace, key.group, key.address, key.network)
        }))
    }

    #[test]
    fn a_node_that_names_a_group_wishes_to_join_it_at_an_address() {
        let check = |id: &str, metadata: &[(&str, &str)], expected: Option<&str>| {
            assert_eq!(wish(id, "10.0.0.9", metadata), Ok(expected.map(str::to_owned)), "{metadata:?}");
        };
        check("x", &[], None);
        check("x", &[("auto_register_group", "")], None);
        check("x", &[("auto_register_group", "vm")], Some("shop/vm 10.0.0.9"));
        let istio = ("AUTO_REGISTER_GROUP", "vm");
        check("x", &[istio, ("INSTANCE_IPS", "10.0.0.1, fe80::1,10.0.0.2")], Some("shop/vm 10.0.0.1"));
        check("x", &[istio, ("INSTANCE_IPS", "")], Some("shop/vm 10.0.0.9"));
        check("x", &[istio, ("instance_address", "fd00::7"), ("NETWORK", "-n")], Some("shop/vm fd00::7-n"));
        check("x", &[istio, ("instance_address", "::ffff:10.0.0.1")], Some("shop/vm 10.0.0.1"));
        check("sidecar~10.0.0.3~a.shop~shop.svc.cluster.local", &[istio], Some("shop/vm 10.0.0.3"));
        check("sidecar~~a.shop~shop.svc.cluster.local", &[istio], Some("shop/vm 10.0.0.9"));
    }

    #[test]
    fn an_address_that_is_nobodys_is_refused() {
        let check = |peer: &str, address: &str, expected: &str| {
            let said = [("auto_register_group", "vm"), ("instance_address", address)];
            let found = wish("x", peer, &said).unwrap_err();
            assert!(found.starts_with(expected), "{address}: {found}");
        };
        check("10.0.0.9", "here", "node.metadata.instance_address: 'here' is no IP address");
        check("10.0.0.9", "10.0.0.1:80", "node.metadata.instance_address: '10.0.0.1:80' is no IP address");
        for (address, why) in [
            ("0.0.0.0", "is the address of nobody"),
            ("::", "is the address of nobody"),
            ("255.255.255.255", "is the address of nobody"),
            ("239.1.2.3", "is the address of many"),
            ("ff02::1", "is the address of many"),
            ("169.254.169.254", "means something on its own link only"),
            ("fe80::1", "means something on its own link only"),
            ("127.0.0.1", "is each machine's own"),
            ("::1", "is each machine's own"),
        ] {
            check("10.0.0.9", address, &format!("{address} {why}"));
        }
        assert!(wish("x", "127.0.0.1", &[("auto_register_group", "vm")]).unwrap().is_some());
        let elsewhere = wish("x", "127.0.0.1", &[("auto_register_group", "bank/vm")]).unwrap_err();
        assert!(elsewhere.contains("'bank/vm' is no name of a WorkloadGroup"), "{elsewhere}");
    }
}
