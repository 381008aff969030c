//! One scenario, twice: on virtual time, and by real processes.
//!
//! A scenario with the mark `processes` is read by naru-sim ([`naru_sim::processes`]), and so is what both have to
//! agree on. Its directory of documents is run by `naru up`, with `naru workload` for each service; see
//! [`documents`] for what is written otherwise there. [`Outcome`] is what came of it, in the same words for both:
//! an endpoint is called by its service and its number, and times are those of the scenario.

mod clients;
mod documents;
mod watch;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::{HeaderValue, Method, header};
use naru_plan::{Surroundings, pretended, processes};
use naru_sim::change::Lane;
use naru_sim::distribution::Shape;
use naru_sim::processes::{Behaviour, Play, play};
use naru_sim::{Configs, Options, Scenario, Transcript, simulate};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::request;
use crate::{Client, Outbound, Speaks, Up, until};
use documents::Real;
use watch::Watch;

/// Between two looks at states: shorter than any that a scenario is about.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What came of a scenario.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Of each endpoint and each breaker that had another one than at first.
    pub states: States,
    pub all: Counts,
    /// By load; nothing on virtual time, whose transcripts count all together.
    pub loads: BTreeMap<String, Counts>,
    /// Requests that reached each service.
    pub reached: BTreeMap<String, u64>,
}

pub type States = BTreeMap<String, Vec<Seen>>;

#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub state: &'static str,
    pub at: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    /// Answered 5xx, or not at all.
    pub errors: u64,
}

impl Counts {
    fn add(&mut self, is_answered: bool) {
        self.requests += 1;
        self.errors += u64::from(!is_answered);
    }

    /// In millionths.
    fn share(self) -> u64 {
        self.errors * 1_000_000 / self.requests.max(1)
    }
}

/// A marked scenario, read.
#[derive(Debug)]
pub struct Marked {
    scenario: Scenario,
    play: Play,
    files: Vec<(String, String)>,
}

impl Marked {
    /// # Panics
    /// If it is not marked, or asks for what processes cannot do.
    pub fn read(file: &Path) -> Marked {
        let text = std::fs::read_to_string(file).unwrap();
        let scenario = Scenario::parse(&file.display().to_string(), &text)
            .unwrap_or_else(|problems| panic!("{problems:#?}"));
        let play = play(&scenario).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let play = play.unwrap_or_else(|| panic!("{} is not marked with 'processes'", file.display()));
        let folder = file.with_file_name(&play.config);
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<(String, String)> = entries
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        Marked { scenario, play, files }
    }

    /// On virtual time.
    pub fn simulated(&self, seed: u64) -> Outcome {
        let mut loaded = naru_doc::Loaded::default();
        for (name, text) in &self.files {
            naru_doc::load(name, text, &mut loaded);
        }
        let instances = pretended(&loaded.resources);
        let names = processes(&loaded.resources).into_iter().flat_map(|process| {
            (1..=process.replicas).map(move |replica| format!("{}/{replica}", process.name))
        });
        let names = instances.iter().map(|instance| instance.address).zip(names).collect();
        let surroundings =
            Surroundings { instances: instances.clone(), is_strict: true, ..Surroundings::default() };
        let planned = naru_plan::plan(&loaded.resources, &surroundings);
        assert!(!planned.has_errors(), "{:#?}", planned.problems);
        let configs = Configs::from([(self.play.config.clone(), planned.config)]);
        let options = Options { seed, is_traced: false };
        let transcript =
            simulate(&configs, &self.scenario, options).unwrap_or_else(|error| panic!("{error}"));
        assert!(transcript.is_as_expected(), "{transcript}");
        told(&transcript, &names)
    }

    /// By processes.
    pub async fn real(&self, seed: u64) -> Outcome {
        let real = Real::of(&self.files, &self.play);
        let files: Vec<(&str, String)> =
            real.files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
        let up = Up::start(&files, &["--workers", &self.play.workers.to_string()]).await;
        let mut running = Running::begin(&up, &real, &self.play).await;
        running.run(&real, &up, seed).await
    }

    /// What the two do not agree on; empty where they do.
    pub fn differences(&self, simulated: &Outcome, real: &Outcome) -> String {
        let mut told = String::new();
        let sequences = |outcome: &Outcome| -> BTreeMap<String, Vec<&'static str>> {
            let states = outcome.states.iter();
            states.map(|(subject, seen)| (subject.clone(), seen.iter().map(|s| s.state).collect())).collect()
        };
        let (expected, found) = (sequences(simulated), sequences(real));
        if expected != found {
            let _ = writeln!(told, "states: simulated {expected:#?}, real {found:#?}");
        }
        let bounds = self.play.bounds;
        let (expected, found) = (simulated.all.share(), real.all.share());
        if expected.abs_diff(found) > u64::from(bounds.share.millionths()) {
            let _ = writeln!(told, "errors: simulated {expected} in a million, real {found}");
        }
        let mut within = |what: &str, expected: u64, found: u64| {
            if expected.abs_diff(found) * 1_000_000 > expected * u64::from(bounds.counts.millionths()) {
                let _ = writeln!(told, "{what}: simulated {expected}, real {found}");
            }
        };
        within("requests", simulated.all.requests, real.all.requests);
        for (service, reached) in &simulated.reached {
            let amplified = |outcome: &Outcome, reached: u64| reached * 1_000 / outcome.all.requests.max(1);
            let here = real.reached.get(service).copied().unwrap_or(0);
            within(
                &format!("requests that reached {service} for a thousand that were made"),
                amplified(simulated, *reached),
                amplified(real, here),
            );
        }
        told
    }
}

/// What a transcript tells, in the words of both.
fn told(transcript: &Transcript, names: &BTreeMap<std::net::IpAddr, String>) -> Outcome {
    let mut outcome = Outcome::default();
    for change in &transcript.changes {
        let Some(state) = change.state else { continue };
        if !matches!(state.lane(), Lane::Ejection | Lane::Health | Lane::Breaker) {
            continue;
        }
        assert!(
            !change.subject.contains(", from "),
            "'{}' is seen by a service's own proxy, but naru up has one view for all",
            change.subject
        );
        let subject = match (change.address, change.subject.split_once(" of ")) {
            (Some(address), Some((_, cluster))) => format!("{} of {cluster}", names[&address.ip()]),
            _ => change.subject.clone(),
        };
        let at = Duration::from_micros(change.at_us);
        outcome.states.entry(subject).or_default().push(Seen { state: state.name(), at });
    }
    for count in &transcript.summary.by_status {
        outcome.all.requests += count.requests;
        outcome.all.errors += if count.status == 0 || count.status >= 500 { count.requests } else { 0 };
    }
    for service in &transcript.summary.by_service {
        *outcome.reached.entry(service.service.clone()).or_default() += service.arrived;
    }
    outcome
}

/// A process of `naru workload`.
#[derive(Debug)]
struct Instance {
    address: SocketAddr,
    /// Among the parts of the scenario.
    part: usize,
    /// Counted from 1, in the order of addresses.
    replica: u32,
    now: Option<Behaviour>,
    client: Client,
}

#[derive(Debug)]
struct Running<'a> {
    play: &'a Play,
    instances: Vec<Instance>,
}

impl<'a> Running<'a> {
    /// Once every process is there and known to naru.
    async fn begin(up: &Up, real: &Real, play: &'a Play) -> Running<'a> {
        let count: u32 = real.replicas.values().sum();
        let addresses = until("all processes to be endpoints", async || {
            let page = up.page("/clusters").await;
            let places = page.lines().filter_map(|line| line.split_once("::health_flags::"));
            let found = places.filter_map(|(place, _)| place.rsplit_once("::")?.1.parse().ok());
            let found: std::collections::BTreeSet<SocketAddr> = found.collect();
            (found.len() == count as usize).then_some(found)
        })
        .await;
        until("the gateway to listen", async || TcpStream::connect(real.gate).await.ok()).await;
        let mut instances: Vec<Instance> = Vec::new();
        for address in addresses {
            let mut client = Client::plain(address, Speaks::Http1).await;
            let name = client.get("/healthz").await.header("x-workload").unwrap().replace('/', "-");
            let part = play.parts.iter().position(|part| part.name() == name);
            let part = part.unwrap_or_else(|| panic!("no service of the scenario is a Deployment '{name}'"));
            let replica = instances.iter().filter(|other| other.part == part).count() as u32 + 1;
            instances.push(Instance { address, part, replica, now: None, client });
        }
        Running { play, instances }
    }

    async fn run(&mut self, real: &Real, up: &Up, seed: u64) -> Outcome {
        let named = |instance: &Instance| {
            let part = self.play.parts[instance.part].name();
            (instance.address, format!("{part}/{}", instance.replica))
        };
        let mut watch = Watch::begin(up.admin, self.instances.iter().map(named).collect()).await;
        self.behave(Duration::ZERO).await;
        let before = self.reached().await;
        let began = Instant::now();
        let loads = async {
            let mut all = tokio::task::JoinSet::new();
            for load in &self.play.loads {
                let (load, gate) = (load.clone(), real.gate);
                all.spawn(async move { (load.name.clone(), clients::send(gate, &load, began, seed).await) });
            }
            let all = all.join_all().await;
            sleep_until(began + self.play.duration).await;
            all
        };
        tokio::pin!(loads);
        let moments: Vec<Duration> = self.play.moments().into_iter().filter(|at| !at.is_zero()).collect();
        let instances = &mut self.instances;
        let play = self.play;
        let changes = async {
            for at in moments {
                sleep_until(began + at).await;
                behave(play, instances, at).await;
            }
            std::future::pending::<()>().await;
        };
        let looks = async {
            loop {
                watch.look(Some(began)).await;
                sleep(LOOK_EVERY).await;
            }
        };
        let loads: BTreeMap<String, Counts> = tokio::select! {
            loads = &mut loads => loads.into_iter().collect(),
            () = changes => unreachable!("it never ends"),
            () = looks => unreachable!("it never ends"),
        };
        let mut outcome = Outcome { loads, ..Outcome::default() };
        for counts in outcome.loads.values() {
            outcome.all.requests += counts.requests;
            outcome.all.errors += counts.errors;
        }
        let after = self.reached().await;
        outcome.reached =
            after.into_iter().map(|(name, count)| (name.clone(), count - before[&name])).collect();
        outcome.states = watch.states;
        for seen in outcome.states.values_mut().flatten() {
            seen.at *= self.play.faster;
        }
        outcome
    }

    async fn behave(&mut self, at: Duration) {
        behave(self.play, &mut self.instances, at).await;
    }

    /// By service.
    async fn reached(&mut self) -> BTreeMap<String, u64> {
        let mut reached = BTreeMap::new();
        for instance in &mut self.instances {
            let stats = instance.client.get("/-/stats").await.json();
            let by_path = stats.as_object().unwrap_or_else(|| panic!("{stats}"));
            let is_asked = |path: &str| path != "/healthz" && path != "/readyz" && !path.starts_with("/-/");
            let asked = by_path.iter().filter(|(path, _)| is_asked(path)).filter_map(|(_, n)| n.as_u64());
            let service = self.play.parts[instance.part].service.clone();
            *reached.entry(service).or_default() += asked.sum::<u64>();
        }
        reached
    }
}

/// Has every process behave as it does from that moment on.
async fn behave(play: &Play, instances: &mut [Instance], at: Duration) {
    for instance in instances {
        let next = play.parts[instance.part].behaviour(instance.replica, at);
        if instance.now == Some(next) {
            continue;
        }
        let latency = match next.latency {
            Shape::Constant(time) => micros(time),
            Shape::Uniform { min, max } => format!("{}..{}", micros(min), micros(max)),
            Shape::Lognormal { median, p99 } => format!("p50={},p99={}", micros(median), micros(p99)),
        };
        let (millionths, status) = next.errors;
        let errors = format!("{}%:{status}", f64::from(millionths) / 10_000.0);
        let settings = serde_json::json!({ "latency": latency, "errors": errors, "status": next.status });
        let mut patch = request(Method::PATCH, "/-/settings", Outbound::sized(settings.to_string()));
        patch.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = instance.client.exchange(patch).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        instance.now = Some(next);
    }
}

fn micros(time: Duration) -> String {
    format!("{}us", time.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(states: &[&'static str], (requests, errors): (u64, u64), reached: u64) -> Outcome {
        let seen = states.iter().map(|state| Seen { state, at: Duration::ZERO });
        Outcome {
            states: States::from([("a/1".to_owned(), seen.collect())]),
            all: Counts { requests, errors },
            loads: BTreeMap::new(),
            reached: BTreeMap::from([("a".to_owned(), reached)]),
        }
    }

    /// The mark allows 5 % of all to be errors or not, and a tenth more or less.
    #[test]
    fn what_is_out_of_bounds_is_told() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/scenarios");
        let marked = Marked::read(&folder.join("ejected-twice.yaml"));
        let simulated = outcome(&["ejected", "returned"], (1_000, 100), 2_000);
        let check = |real: Outcome, expected: &[&str]| {
            let told = marked.differences(&simulated, &real);
            let found: Vec<&str> =
                told.lines().filter_map(|line| Some(line.split_once(": simulated")?.0)).collect();
            assert_eq!(found, expected, "{told}");
        };
        check(outcome(&["ejected", "returned"], (1_090, 50 + 109), 2_000), &[]);
        check(outcome(&["returned", "ejected"], (1_000, 100), 2_000), &["states"]);
        check(outcome(&["ejected"], (1_000, 100), 2_000), &["states"]);
        check(outcome(&["ejected", "returned"], (1_000, 151), 2_000), &["errors"]);
        check(outcome(&["ejected", "returned"], (899, 89), 1_800), &["requests"]);
        check(
            outcome(&["ejected", "returned"], (1_000, 100), 2_201),
            &["requests that reached a for a thousand that were made"],
        );
    }
}
