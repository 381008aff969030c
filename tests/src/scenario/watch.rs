//! What states do the endpoints and breakers of a running naru have, and when do they change?

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::time::Instant;

use super::{Seen, States};
use crate::{Client, Speaks};

/// Words of `/clusters`, and what it is called where they stand, and where they do not any more.
const FLAGS: [(&str, &str, &str); 2] =
    [("/failed_outlier_check", "ejected", "returned"), ("/failed_active_hc", "unhealthy", "healthy")];

#[derive(Debug)]
pub struct Watch {
    client: Client,
    /// How endpoints are called.
    names: BTreeMap<SocketAddr, String>,
    /// By whose it is: for each flag of an endpoint one, and one for a breaker.
    now: BTreeMap<(String, usize), &'static str>,
    pub states: States,
}

impl Watch {
    pub async fn begin(admin: SocketAddr, names: BTreeMap<SocketAddr, String>) -> Watch {
        let client = Client::plain(admin, Speaks::Http1).await;
        let mut watch = Watch { client, names, now: BTreeMap::new(), states: States::new() };
        watch.look(None).await;
        watch
    }

    /// Looks once. What it sees at first is no change.
    pub async fn look(&mut self, began: Option<Instant>) {
        let page = self.client.get("/clusters").await.text();
        for line in page.lines() {
            if let Some((cluster, state)) = line.split_once("::circuit_breaker::state::") {
                let state = match state {
                    "CLOSED" => "closed",
                    "OPEN" => "opened",
                    "HALF_OPEN" => "half_opened",
                    other => panic!("a breaker is {other}"),
                };
                self.note(cluster.to_owned(), FLAGS.len(), state, began);
            }
            let Some((place, flags)) = line.split_once("::health_flags::") else { continue };
            let (cluster, address) = place.rsplit_once("::").unwrap();
            let address: SocketAddr = address.parse().unwrap();
            let Some(name) = self.names.get(&address) else { continue };
            let subject = format!("{name} of {cluster}");
            for (at, (flag, is, is_not)) in FLAGS.iter().enumerate() {
                let state = if flags.contains(flag) { is } else { is_not };
                self.note(subject.clone(), at, state, began);
            }
        }
    }

    fn note(&mut self, subject: String, which: usize, state: &'static str, began: Option<Instant>) {
        let before = self.now.insert((subject.clone(), which), state);
        if let Some(began) = began
            && before.is_some_and(|before| before != state)
        {
            self.states.entry(subject).or_default().push(Seen { state, at: began.elapsed() });
        }
    }
}
