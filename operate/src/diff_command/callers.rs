//! For whom would it be otherwise? What workloads call may be decided by their labels and namespaces, and no log says them.
//!
//! Requests that come in at gateways are the same for all. The others are decided as a workload without labels does, and
//! once more for each workload whose routes are others; what differs is told.

use naru_journey::Snapshot;
use naru_plan::{Client, outbound_name};
use naru_resource::Resources;
use naru_spec::{Config, Listener, RouteTable};
use serde_json::{Value, json};

use super::replayed::{Listeners, Shapes, Told};

/// As many kinds of callers are looked at.
const KINDS_MAX: usize = 50;

/// Workloads for whom requests change otherwise than for one without labels.
pub struct OfCaller {
    names: Vec<String>,
    told: Told,
}

impl OfCaller {
    pub fn to_text(&self) -> String {
        format!("\nwhere {} calls:\n{}", self.names.join(" or "), self.told.to_text())
    }

    pub fn to_json(&self) -> Value {
        let mut all = self.told.to_json();
        all["names"] = json!(self.names);
        all
    }
}

/// The workload of which nothing is known, then all that there are in any of these.
pub fn of(all: &[&Resources]) -> Vec<Client> {
    let mut clients = vec![Client::unnamed()];
    for deployment in all.iter().flat_map(|resources| &resources.deployments) {
        let labels = deployment.spec.template.meta.as_ref().map_or(&[][..], |meta| &meta.labels);
        let client = Client {
            name: deployment.meta.name.value.clone(),
            namespace: deployment.meta.namespace().to_owned(),
            labels: labels.iter().map(|(key, value)| (key.value.clone(), value.value.clone())).collect(),
            ..Client::unnamed()
        };
        let is_known = |known: &Client| (&known.name, &known.namespace) == (&client.name, &client.namespace);
        if !clients.iter().any(is_known) {
            clients.push(client);
        }
    }
    clients
}

/// A configuration without what other workloads call through.
pub fn only(config: &Config, outbound: &str) -> Config {
    let mut config = config.clone();
    config.listeners.retain(|listener| !is_outbound(listener) || listener.name == outbound);
    config
}

fn is_outbound(listener: &Listener) -> bool {
    listener.name.starts_with("outbound/")
}

pub fn replayed(old: &Config, new: &Config, shapes: &Shapes) -> anyhow::Result<Told> {
    let tables = |config: &Config| {
        // It has been compiled before, with more in it.
        Snapshot::compile(config.clone())
            .map_err(|_| anyhow::anyhow!("a fault of naru's own: please tell it"))
    };
    let (old_tables, new_tables) = (tables(old)?, tables(new)?);
    let told = Told::of((old, &old_tables), (new, &new_tables), shapes, &Listeners::new());
    told.map_err(|fault| anyhow::anyhow!("{fault}"))
}

/// Those for whom it is otherwise than `told`, which is for one of whom nothing is known.
pub fn others(
    old: &Config,
    new: &Config,
    clients: &[Client],
    told: &Told,
    shapes: &Shapes,
) -> anyhow::Result<Vec<OfCaller>> {
    let mut kinds: Vec<([Option<RouteTable>; 2], Vec<&Client>)> = Vec::new();
    for client in clients {
        let name = outbound_name(client);
        let tables = [table(old, &name), table(new, &name)];
        let has_room = kinds.len() <= KINDS_MAX;
        match kinds.iter_mut().find(|(known, _)| *known == tables) {
            Some((_, clients)) => clients.push(client),
            None if has_room => kinds.push((tables, vec![client])),
            None => {}
        }
    }
    let mut found: Vec<OfCaller> = Vec::new();
    // The first kind is that of which nothing is known.
    for (_, clients) in kinds.iter().skip(1) {
        let Some(first) = clients.first() else { continue };
        let name = outbound_name(first);
        let of_caller = replayed(&only(old, &name), &only(new, &name), shapes)?;
        if of_caller.to_text() == told.to_text() {
            continue;
        }
        let names = clients.iter().map(|client| format!("{}/{}", client.namespace, client.name)).collect();
        found.push(OfCaller { names, told: of_caller });
    }
    Ok(found)
}

/// Without its name, which is the caller's.
fn table(config: &Config, outbound: &str) -> Option<RouteTable> {
    let listener = config.listeners.iter().find(|listener| listener.name == outbound)?;
    let table = listener.chains.first()?.http.routes.clone();
    Some(RouteTable { name: String::new(), ..table })
}
