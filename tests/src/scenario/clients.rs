//! The loads of a scenario, over HTTP/1.1: each request on a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use naru_base::Chance;
use naru_sim::processes::{Arrival, Asked, Sent};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::Counts;
use crate::client::request;
use crate::message::collect;
use crate::{Client, Outbound, Speaks, within};

/// Sends all that there is to send, and waits for the last answer.
pub async fn send(gate: SocketAddr, load: &Sent, began: Instant, seed: u64) -> Counts {
    let mut chance = Chance::split(seed, &load.name);
    let mut clients = JoinSet::new();
    if let Arrival::Users { count, think } = load.arrival {
        for user in 0..count {
            let (load, mut chance) = (load.clone(), Chance::split(seed, &format!("{} {user}", load.name)));
            clients.spawn(async move {
                let mut counts = Counts::default();
                let mut next = began + load.from + think;
                while next < began + load.to {
                    sleep_until(next).await;
                    counts.add(ask(gate, &load, pick(&load, &mut chance)).await);
                    next = Instant::now() + think;
                }
                counts
            });
        }
    }
    let mut arrivals = Arrivals { load, count: 0, last: load.from };
    while let Some(at) = arrivals.next(&mut chance) {
        sleep_until(began + at).await;
        let (load, asked) = (load.clone(), pick(load, &mut chance));
        clients.spawn(async move {
            let mut counts = Counts::default();
            counts.add(ask(gate, &load, asked).await);
            counts
        });
    }
    let counts = within("the last answer", clients.join_all()).await;
    counts.into_iter().fold(Counts::default(), |sum, counts| Counts {
        requests: sum.requests + counts.requests,
        errors: sum.errors + counts.errors,
    })
}

/// When requests come that no user has to send.
struct Arrivals<'a> {
    load: &'a Sent,
    count: u32,
    last: Duration,
}

impl Arrivals<'_> {
    fn next(&mut self, chance: &mut Chance) -> Option<Duration> {
        let at = match self.load.arrival {
            Arrival::Every(interval) => self.last.checked_add(interval)?,
            Arrival::Poisson(mean) => {
                let unit = ((chance.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                self.last + mean.mul_f64(-unit.ln())
            }
            Arrival::Herd { count, over, every } => {
                let round = self.count / count;
                let begins = if round == 0 { Duration::ZERO } else { every? * round };
                self.load.from + begins + over * (self.count % count) / count
            }
            Arrival::Users { .. } => return None,
        };
        self.count += 1;
        self.last = at;
        (at < self.load.to).then_some(at)
    }
}

fn pick(load: &Sent, chance: &mut Chance) -> usize {
    let sum: u64 = load.requests.iter().map(|asked| u64::from(asked.weight)).sum();
    let mut point = chance.below(sum);
    load.requests
        .iter()
        .position(|asked| match point.checked_sub(u64::from(asked.weight)) {
            Some(rest) => {
                point = rest;
                false
            }
            None => true,
        })
        .unwrap()
}

/// A client asks until it is answered well, or has asked often enough. Says whether it was.
async fn ask(gate: SocketAddr, load: &Sent, asked: usize) -> bool {
    for attempt in 0..load.attempts {
        if attempt > 0 {
            sleep(load.wait).await;
        }
        if is_answered(gate, &load.requests[asked]).await {
            return true;
        }
    }
    false
}

async fn is_answered(gate: SocketAddr, asked: &Asked) -> bool {
    let method = Method::from_bytes(asked.method.as_bytes()).unwrap();
    let mut head = request(method, &asked.path, Outbound::empty());
    for (name, value) in &asked.headers {
        let name: HeaderName = name.parse().unwrap();
        head.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    head.headers_mut().insert(header::HOST, HeaderValue::from_str(&asked.host).unwrap());
    let mut client = Client::plain(gate, Speaks::Http1).await;
    let Ok(response) = client.send(head).await else { return false };
    let is_well = response.status().as_u16() < 500;
    within("the end of an answer", collect(response.into_body())).await.is_ok() && is_well
}
