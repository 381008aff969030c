//! Certificates that a server of ACME (RFC 8555) issues to naru: had, kept, renewed.
//!
//! In come the orders of the documents; out go [`Event`]s: what must be answered while it is proved that a name leads
//! here, and certificates. Both become part of the configuration (`naru_plan`), so that all workers have them at the
//! same time and no request pays for them. When something is to be done is decided by `naru_renew`; one task for each
//! order does it, on the main thread. The protocol itself is the library's; its requests go by `naru_proxy::ask`.
//!
//! An account and a certificate are kept in a directory of their own, readable by naru only, and used after a restart.
//! Of several processes with the same directory one asks at a time, and the others take what it has got.

mod obtain;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use naru_base::{Chance, WallTime};
use naru_plan::{AcmeAnswer, AcmeIssued, AcmeOrder, Surroundings};
use naru_proxy::{seed, wall_now};
use naru_renew::{Action, Lifetime, Renewal};
use naru_spec::Certificate;
use naru_tls::issue;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use store::Store;

/// Of the whole way to a certificate.
const OBTAIN_TIME_MAX: Duration = Duration::from_secs(300);
/// The calendar of a machine may be set: it is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Another process is at it.
const OTHER_EVERY: Duration = Duration::from_secs(5);

/// Something that is to be put in force.
#[derive(Debug)]
pub enum Event {
    /// What one issuer's server asks for is to be answered so from now on; told once it is.
    Answer { issuer: String, answers: Vec<AcmeAnswer>, done: oneshot::Sender<()> },
    /// There is a certificate.
    Issued { issuer: String, certificate: Certificate },
}

/// All issuers.
pub struct Acme {
    directory: PathBuf,
    events: mpsc::UnboundedSender<Event>,
    tasks: BTreeMap<String, (AcmeOrder, AbortHandle)>,
    /// By issuer: certificates, or what stands in their place, and the names that those are for.
    issued: BTreeMap<String, (Vec<String>, Certificate)>,
    answers: BTreeMap<String, Vec<AcmeAnswer>>,
}

impl Acme {
    pub fn new(directory: PathBuf) -> (Acme, mpsc::UnboundedReceiver<Event>) {
        let (events, received) = mpsc::unbounded_channel();
        let (tasks, issued, answers) = Default::default();
        (Acme { directory, events, tasks, issued, answers }, received)
    }

    /// What a configuration with these orders can be made of.
    ///
    /// # Errors
    /// A name cannot stand in a certificate.
    pub fn surround(&mut self, orders: &[AcmeOrder], surroundings: &mut Surroundings) -> anyhow::Result<()> {
        for order in orders {
            let known = self.issued.get(&order.issuer);
            if known.is_some_and(|(names, _)| *names == order.names) {
                continue;
            }
            let kept = Store::of(&self.directory, &order.issuer).certificate();
            // One that is not for all names is better than none until there is another one.
            let certificate = match kept.filter(|kept| issue::inscription(kept).is_some()) {
                Some(kept) => kept,
                None => issue::placeholder(&order.names)?,
            };
            self.issued.insert(order.issuer.clone(), (order.names.clone(), certificate));
        }
        let issued = self.issued.iter();
        surroundings.issued = issued
            .map(|(issuer, (_, certificate))| AcmeIssued {
                issuer: issuer.clone(),
                certificate: certificate.clone(),
            })
            .collect();
        surroundings.answers = self.answers.values().flatten().cloned().collect();
        Ok(())
    }

    /// These and no others are wanted, now that the configuration with them is in force.
    pub fn follow(&mut self, orders: Vec<AcmeOrder>) {
        let is_wanted = |issuer: &String, order: &AcmeOrder| {
            orders.iter().any(|wanted| wanted.issuer == *issuer && wanted == order)
        };
        self.tasks.retain(|issuer, (order, task)| {
            let stays = is_wanted(issuer, order);
            if !stays {
                task.abort();
                self.answers.remove(issuer);
            }
            stays
        });
        self.issued.retain(|issuer, _| orders.iter().any(|order| order.issuer == *issuer));
        for order in orders {
            if !self.tasks.contains_key(&order.issuer) {
                let store = Store::of(&self.directory, &order.issuer);
                let task = tokio::task::spawn_local(keep(order.clone(), store, self.events.clone()));
                self.tasks.insert(order.issuer.clone(), (order, task.abort_handle()));
            }
        }
    }

    /// Whoever is to be told once it is in force.
    pub fn on_event(&mut self, event: Event) -> Option<oneshot::Sender<()>> {
        match event {
            Event::Answer { issuer, answers, done } => {
                if answers.is_empty() || !self.tasks.contains_key(&issuer) {
                    self.answers.remove(&issuer);
                } else {
                    self.answers.insert(issuer, answers);
                }
                Some(done)
            }
            Event::Issued { issuer, certificate } => {
                if let Some((order, _)) = self.tasks.get(&issuer) {
                    self.issued.insert(issuer, (order.names.clone(), certificate));
                }
                None
            }
        }
    }
}

/// Has a certificate for as long as it is wanted.
async fn keep(order: AcmeOrder, store: Store, events: mpsc::UnboundedSender<Event>) {
    let mut renewal = Renewal::new(Chance::new(seed()));
    let known = store.certificate();
    renewal.on_certificate(known.as_ref().and_then(|kept| lifetime(kept, &order.names)));
    let names = order.names.join(", ");
    loop {
        let now = wall_now();
        match renewal.next_action(now) {
            Action::Await => return,
            Action::Wait(until) => {
                tokio::time::sleep(Duration::from_nanos(until.0.saturating_sub(now.0)).min(LOOK_EVERY)).await;
            }
            Action::Obtain => {
                let lock = match store.lock() {
                    Ok(Some(lock)) => lock,
                    Ok(None) => {
                        tokio::time::sleep(OTHER_EVERY).await;
                        continue;
                    }
                    Err(error) => {
                        naru_say::say!("error: the certificate for {names} cannot be kept: {error:#}");
                        renewal.on_begun();
                        renewal.on_failed(now, None);
                        continue;
                    }
                };
                // Another process may have been faster.
                if let Some(kept) = store.certificate().filter(|kept| known.as_ref() != Some(kept))
                    && let Some(lifetime) = lifetime(&kept, &order.names)
                {
                    let mut other = Renewal::new(Chance::new(seed()));
                    other.on_certificate(Some(lifetime));
                    if matches!(other.next_action(now), Action::Wait(_)) {
                        renewal.on_certificate(Some(lifetime));
                        let issuer = order.issuer.clone();
                        let _ = events.send(Event::Issued { issuer, certificate: kept });
                        continue;
                    }
                }
                renewal.on_begun();
                let obtained = obtain::obtain(&order, &store, &events);
                let obtained = tokio::time::timeout(OBTAIN_TIME_MAX, obtained).await;
                obtain::answer(&order, Vec::new(), &events).await;
                let obtained = obtained.unwrap_or_else(|_| {
                    Err(anyhow::anyhow!("it took longer than {} s", OBTAIN_TIME_MAX.as_secs()))
                });
                let obtained = obtained.and_then(|certificate| {
                    let lifetime = lifetime(&certificate, &order.names);
                    let lifetime = lifetime.ok_or_else(|| anyhow::anyhow!("it is not for these names"))?;
                    store.keep_certificate(&certificate)?;
                    Ok((certificate, lifetime))
                });
                drop(lock);
                match obtained {
                    Ok((certificate, lifetime)) => {
                        renewal.on_obtained(lifetime);
                        let days = lifetime.until.0.saturating_sub(wall_now().0) / 86_400_000_000_000;
                        naru_say::say!("naru: there is a certificate for {names}; it holds for {days} days");
                        let issuer = order.issuer.clone();
                        let _ = events.send(Event::Issued { issuer, certificate });
                    }
                    Err(error) => {
                        let now = wall_now();
                        renewal.on_failed(now, obtain::retry_after(&error));
                        let seconds =
                            renewal.deadline().unwrap_or_default().0.saturating_sub(now.0) / 1_000_000_000;
                        naru_say::say!(
                            "error: no certificate for {names} from {}: {error:#}; the next attempt is in {seconds} s",
                            order.server
                        );
                    }
                }
            }
        }
    }
}

/// How long a certificate holds, where it is for these names.
fn lifetime(certificate: &Certificate, names: &[String]) -> Option<Lifetime> {
    let read = issue::inscription(certificate)?;
    let wall = |seconds: u64| WallTime(seconds.saturating_mul(1_000_000_000));
    let is_for_all = names.iter().all(|name| read.names.contains(name));
    is_for_all.then(|| Lifetime { from: wall(read.from), until: wall(read.until) })
}
