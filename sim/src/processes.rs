//! What of a scenario can real processes play?
//!
//! Comes in: a [`Scenario`] with the mark `processes`. Goes out: a [`Play`], in plain values and with every length of
//! time divided by `faster`; or each field that processes cannot obey, by its name. Whoever plays it (the tests of
//! naru do) starts `naru workload` for each instance, sends the loads, and at each of [`Play::moments`] has every
//! instance behave as [`Part::behaviour`] says.
//!
//! Deliberately not here: sockets, processes, documents.

use std::collections::BTreeSet;
use std::time::Duration;

use naru_spec::{Problem, Severity};
use serde_saphyr::{Location, Spanned};

use crate::distribution::{Distribution, Shape};
use crate::quantity::Rate;
use crate::scenario::{
    Abandoned, Arrivals, Bounds, Call, Deadline, Fault, FaultShare, Load, Protocol, RetryHints, Scenario,
    Service, State, Version, Window,
};

#[derive(Clone, Debug)]
pub struct Play {
    /// A directory of documents, beside the scenario.
    pub config: String,
    pub faster: u32,
    pub bounds: Bounds,
    pub duration: Duration,
    pub workers: u32,
    pub loads: Vec<Sent>,
    pub parts: Vec<Part>,
}

/// A load.
#[derive(Clone, Debug)]
pub struct Sent {
    pub name: String,
    pub from: Duration,
    pub to: Duration,
    pub arrival: Arrival,
    pub requests: Vec<Asked>,
    /// How often a client asks where it is answered 5xx, and how long it waits between.
    pub attempts: u32,
    pub wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// From one to the next.
    Every(Duration),
    /// The same in the mean, independently of each other.
    Poisson(Duration),
    Herd {
        count: u32,
        over: Duration,
        every: Option<Duration>,
    },
    Users {
        count: u32,
        think: Duration,
    },
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub weight: u32,
    pub method: String,
    pub path: String,
    pub host: String,
    pub headers: Vec<(String, String)>,
}

/// A service, or a version of it.
#[derive(Clone, Debug)]
pub struct Part {
    pub service: String,
    /// Empty where there is only one.
    pub version: String,
    /// URLs that are asked for each request, all at once.
    pub calls: Vec<String>,
    /// A call that fails makes the answer 502.
    pub needs_calls: bool,
    pub body_bytes: u64,
    usual: Behaviour,
    windows: Vec<Meanwhile>,
}

/// How an instance answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behaviour {
    pub latency: Shape,
    pub status: u16,
    /// In millionths, and with which status.
    pub errors: (u32, u16),
}

#[derive(Clone, Debug)]
struct Meanwhile {
    from: Duration,
    to: Option<Duration>,
    /// Counted from 1; all where it is empty.
    replicas: Vec<u32>,
    latency: Option<Shape>,
    errors: Option<(u32, u16)>,
}

impl Part {
    /// `orders`, or `orders-v2`: what its Deployment is called.
    pub fn name(&self) -> String {
        match self.version.as_str() {
            "" => self.service.clone(),
            version => format!("{}-{version}", self.service),
        }
    }

    /// Of a replica, counted from 1, at that moment.
    pub fn behaviour(&self, replica: u32, at: Duration) -> Behaviour {
        let mut now = self.usual;
        for window in &self.windows {
            let is_meant = window.replicas.is_empty() || window.replicas.contains(&replica);
            if is_meant && window.from <= at && window.to.is_none_or(|to| at < to) {
                now.latency = window.latency.unwrap_or(now.latency);
                now.errors = window.errors.unwrap_or(now.errors);
            }
        }
        now
    }
}

impl Play {
    /// When somebody may behave differently, in order.
    pub fn moments(&self) -> BTreeSet<Duration> {
        let windows = self.parts.iter().flat_map(|part| &part.windows);
        windows.flat_map(|window| [Some(window.from), window.to]).flatten().collect()
    }
}

/// `None` where the scenario has no mark.
///
/// # Errors
/// Everything that processes cannot do.
pub fn play(scenario: &Scenario) -> Result<Option<Play>, Vec<Problem>> {
    let Some(mark) = &scenario.processes else { return Ok(None) };
    let mut reader = Reader { scenario, faster: mark.faster.value.get(), problems: Vec::new() };
    let play = reader.play(mark.bounds);
    if reader.problems.is_empty() { Ok(Some(play)) } else { Err(reader.problems) }
}

struct Reader<'a> {
    scenario: &'a Scenario,
    faster: u32,
    problems: Vec<Problem>,
}

/// Some of these say something that processes cannot do.
type Refused<'a> = &'a [(bool, &'a str)];

impl Reader<'_> {
    fn play(&mut self, bounds: Bounds) -> Play {
        let scenario = self.scenario;
        self.refuse(
            Location::UNKNOWN,
            "",
            &[
                (scenario.config.is_none(), "config: a directory of documents is needed"),
                (!scenario.dns.is_empty(), "dns"),
                (scenario.gateways() > 1, "gateways"),
                (!scenario.stores.is_empty(), "stores"),
                (scenario.leases.is_some(), "leases"),
                (!scenario.places.is_empty(), "places"),
                (!scenario.files.is_empty(), "files"),
            ],
        );
        let loads = scenario.load.iter().enumerate().map(|(at, load)| self.load(at, load)).collect();
        let mut parts = Vec::new();
        for (at, service) in scenario.services.iter().enumerate() {
            if service.versions.is_empty() {
                parts.push(self.part(at, service, None));
            }
            for version in &service.versions {
                parts.push(self.part(at, service, Some(version)));
            }
        }
        for (at, window) in scenario.events.iter().enumerate() {
            let mut is_meant = |part: &Part| names(&window.services, &part.service);
            self.window(&format!("events[{at}]"), window, &mut parts, &mut is_meant);
        }
        Play {
            config: scenario.config.clone().unwrap_or_default(),
            faster: self.faster,
            bounds,
            duration: self.shorter(scenario.duration.0),
            workers: scenario.workers.get(),
            loads,
            parts,
        }
    }

    fn shorter(&self, time: Duration) -> Duration {
        time / self.faster
    }

    fn load(&mut self, at: usize, load: &Load) -> Sent {
        let place = load.name.referenced;
        let path = format!("load[{at}].");
        let bodies = load.requests.iter().any(|request| request.body.is_some());
        let retry = load.retry.as_ref();
        self.refuse(
            place,
            &path,
            &[
                (load.listener.is_some(), "listener"),
                (load.chain.is_some(), "chain"),
                (load.patience.is_some(), "patience"),
                (load.deadline.is_some(), "deadline"),
                (load.protocol == Protocol::Http2, "protocol: http2"),
                (bodies, "requests.body"),
                (load.requests.iter().any(|request| request.by.is_some()), "requests.as"),
                (load.requests.iter().any(|request| request.numbered.is_some()), "requests.numbered"),
                (retry.is_some_and(|retry| retry.timeout.is_some()), "retry.timeout"),
            ],
        );
        let mean = |rate: Rate| self.shorter(rate.interval());
        let arrival = match &load.arrivals {
            Arrivals::Constant(rate) => Some(Arrival::Every(mean(*rate))),
            Arrivals::Poisson(rate) => Some(Arrival::Poisson(mean(*rate))),
            Arrivals::Herd(herd) => Some(Arrival::Herd {
                count: herd.count.get(),
                over: self.shorter(herd.over.0),
                every: herd.every.map(|every| self.shorter(every.0)),
            }),
            Arrivals::Users { count, think } => {
                let think = self.constant(think);
                think.map(|think| Arrival::Users { count: count.get(), think })
            }
            Arrivals::Ramp { .. } | Arrivals::Profile(_) => None,
        };
        let wait = retry.map_or(Some(Duration::ZERO), |retry| self.constant(&retry.wait));
        self.refuse(place, &path, &[(arrival.is_none(), "arrivals"), (wait.is_none(), "retry.wait")]);
        let requests = load.requests.iter().map(|request| Asked {
            weight: request.weight.get(),
            method: request.method.as_ref().map_or("GET", |method| &method.value).to_owned(),
            path: request.path.value.clone(),
            host: request.host.value.clone(),
            headers: request
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), value.value.clone()))
                .collect(),
        });
        Sent {
            name: load.name.value.clone(),
            from: self.shorter(load.from.0),
            to: self.shorter(load.to.unwrap_or(self.scenario.duration).0),
            arrival: arrival.unwrap_or(Arrival::Every(Duration::MAX)),
            requests: requests.collect(),
            attempts: retry.map_or(1, |retry| retry.attempts.get()),
            wait: wait.unwrap_or_default(),
        }
    }

    /// What processes wait for is always the same.
    fn constant(&self, time: &Distribution) -> Option<Duration> {
        match time.shape() {
            Some(Shape::Constant(time)) => Some(self.shorter(time)),
            _ => None,
        }
    }

    fn shape(&mut self, place: Location, path: &str, time: &Distribution) -> Shape {
        let shape = match time.shape() {
            Some(Shape::Constant(time)) => Some(Shape::Constant(self.shorter(time))),
            Some(Shape::Uniform { min, max }) => {
                Some(Shape::Uniform { min: self.shorter(min), max: self.shorter(max) })
            }
            Some(Shape::Lognormal { median, p99 }) => {
                Some(Shape::Lognormal { median: self.shorter(median), p99: self.shorter(p99) })
            }
            None => None,
        };
        self.refuse(place, path, &[(shape.is_none(), "latency")]);
        shape.unwrap_or(Shape::Constant(Duration::ZERO))
    }

    /// One kind of error, and it is a status.
    fn errors(&mut self, place: Location, path: &str, faults: &[FaultShare]) -> (u32, u16) {
        let errors = match faults {
            [] => Some((0, 503)),
            [FaultShare { share, fault: Fault::Status(status) }] => Some((share.value.millionths(), *status)),
            _ => None,
        };
        self.refuse(place, path, &[(errors.is_none(), "faults")]);
        errors.unwrap_or((0, 503))
    }

    fn part(&mut self, at: usize, service: &Service, version: Option<&Version>) -> Part {
        let place = service.name.referenced;
        let path = format!("services[{at}].");
        let of_version = |is_said: fn(&Version) -> bool| version.is_some_and(is_said);
        let calls = version.and_then(|version| version.calls.as_ref()).unwrap_or(&service.calls);
        let fails_with = service.fails_with.as_ref().map_or(503, |status| status.value);
        let optional = calls.iter().filter(|call| call.optional).count();
        self.refuse(
            place,
            &path,
            &[
                (service.servers.is_some() || of_version(|version| version.servers.is_some()), "servers"),
                (
                    service.queue_max.is_some() || of_version(|version| version.queue_max.is_some()),
                    "queue_max",
                ),
                (!service.zones.is_empty() || of_version(|version| version.zones.is_some()), "zones"),
                (!service.headers.is_empty(), "headers"),
                (service.etag_for.is_some(), "etag_for"),
                (service.grpc_status.is_some(), "grpc_status"),
                (service.idle_close.is_some(), "idle_close"),
                (service.body.over.shape() != Some(Shape::Constant(Duration::ZERO)), "body.over"),
                (service.deadline == Deadline::Obeyed, "deadline"),
                (service.abandoned == Abandoned::Stopped, "abandoned"),
                (service.retry_hints == RetryHints::Dropped, "retry_hints"),
                (service.outbound.is_some(), "outbound"),
                (optional != 0 && optional != calls.len(), "calls.optional: all of them, or none"),
                (
                    optional < calls.len() && fails_with != 502,
                    "fails_with: a process answers 502 where a call fails",
                ),
                (
                    calls.iter().skip(1).any(|call| !call.with_previous),
                    "calls.with_previous: a process makes all of its calls at once",
                ),
            ],
        );
        for (number, call) in calls.iter().enumerate() {
            self.call(place, &format!("{path}calls[{number}]."), call);
        }
        let latency = version.and_then(|version| version.latency.as_ref()).unwrap_or(&service.latency);
        let faults = version.and_then(|version| version.faults.as_ref()).unwrap_or(&service.faults);
        let status = version.and_then(|version| version.status.as_ref()).or(service.status.as_ref());
        let usual = Behaviour {
            latency: self.shape(place, &path, latency),
            status: status.map_or(200, |status| status.value),
            errors: self.errors(place, &path, faults),
        };
        let url = |call: &Call| {
            let path = call.path.as_ref().map_or("/", |path| &path.value);
            format!("http://{}{path}", call.host.value)
        };
        let mut part = [Part {
            service: service.name.value.clone(),
            version: version.map_or_else(String::new, |version| version.name.value.clone()),
            calls: calls.iter().map(url).collect(),
            needs_calls: optional < calls.len(),
            body_bytes: service.body.bytes,
            usual,
            windows: Vec::new(),
        }];
        for (number, window) in service.during.iter().enumerate() {
            self.window(&format!("{path}during[{number}]"), window, &mut part, &mut |_| true);
        }
        let [part] = part;
        part
    }

    fn call(&mut self, place: Location, path: &str, call: &Call) {
        self.refuse(
            place,
            path,
            &[
                (call.method.as_ref().is_some_and(|method| method.value != "GET"), "method"),
                (!call.headers.is_empty(), "headers"),
                (call.body.is_some(), "body"),
                (call.protocol == Protocol::Http2, "protocol: http2"),
                (call.share.millionths() != 1_000_000, "share"),
                (call.timeout.is_some(), "timeout"),
                (call.retry.is_some(), "retry"),
            ],
        );
    }

    fn window(
        &mut self,
        path: &str,
        window: &Window,
        parts: &mut [Part],
        is_meant: &mut dyn FnMut(&Part) -> bool,
    ) {
        let place = window.from.referenced;
        let path = format!("{path}.");
        self.refuse(
            place,
            &path,
            &[
                (window.state != State::Up, "state"),
                (!window.zones.is_empty(), "zones"),
                (!window.endpoints.is_empty(), "endpoints"),
                (window.extra_latency.is_some(), "extra_latency"),
                (window.slower.is_some(), "slower"),
                (window.slow_start.is_some(), "slow_start"),
                (window.servers.is_some(), "servers"),
                (window.queue_max.is_some(), "queue_max"),
                (window.reset_connections, "reset_connections"),
            ],
        );
        let meanwhile = Meanwhile {
            from: self.shorter(window.from.value.0),
            to: window.to.map(|to| self.shorter(to.0)),
            replicas: window.replicas.iter().map(|replica| replica.value.get()).collect(),
            latency: window.latency.as_ref().map(|latency| self.shape(place, &path, latency)),
            errors: window.faults.as_ref().map(|faults| self.errors(place, &path, faults)),
        };
        for part in parts.iter_mut().filter(|part| names(&window.versions, &part.version)) {
            if is_meant(part) {
                part.windows.push(meanwhile.clone());
            }
        }
    }

    fn refuse(&mut self, place: Location, path: &str, fields: Refused<'_>) {
        for (_, field) in fields.iter().filter(|(is_said, _)| *is_said) {
            let number = |of: u64| u32::try_from(of).unwrap_or(0);
            let name = field.split(':').next().unwrap_or(field);
            let problem = Problem {
                severity: Severity::Error,
                code: "not-for-processes",
                message: format!("real processes cannot play '{path}{field}'"),
                hint: "leave it out, or leave out 'processes'".to_owned(),
                file: self.scenario.file.clone(),
                line: number(place.line()),
                column: number(place.column()),
                path: format!("{path}{name}"),
            };
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }
}

/// Whether a list that leaves out nothing where it is empty has this name.
fn names(list: &[Spanned<String>], name: &str) -> bool {
    list.is_empty() || list.iter().any(|entry| entry.value == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKED: &str = include_str!("../tests/scenarios/ejected-twice.yaml");

    fn read(text: &str) -> Result<Option<Play>, Vec<Problem>> {
        play(&Scenario::parse("s.yaml", text).unwrap_or_else(|problems| panic!("{problems:?}")))
    }

    #[test]
    fn a_replica_behaves_as_its_windows_say() {
        let play = read(MARKED).unwrap().unwrap();
        let seconds = |count: u64| Duration::from_secs(count) / 30;
        assert_eq!((play.duration, play.workers), (seconds(210), 2));
        assert_eq!(play.loads[0].arrival, Arrival::Every(seconds(1) / 4));
        assert_eq!(Vec::from_iter(play.moments()), [35, 100, 110].map(seconds));
        let errors = |replica: u32, at: u64| play.parts[0].behaviour(replica, seconds(at)).errors;
        assert_eq!([0, 35, 109, 110].map(|at| errors(1, at).0), [0, 1_000_000, 1_000_000, 0]);
        assert_eq!([0, 35, 100, 110].map(|at| errors(2, at).0), [0, 0, 1_000_000, 0]);
        assert_eq!(play.parts[0].behaviour(1, seconds(0)).latency, Shape::Constant(seconds(1) / 10));
    }

    #[test]
    fn the_later_written_goes_first() {
        let later = MARKED.replacen(
            "services:",
            "events:\n  - { from: 50s, to: 60s, latency: 9s, faults: [] }\nservices:",
            1,
        );
        let play = read(&later).unwrap().unwrap();
        let now = play.parts[0].behaviour(1, Duration::from_secs(55) / 30);
        assert_eq!((now.latency, now.errors.0), (Shape::Constant(Duration::from_millis(300)), 0));
    }

    #[test]
    fn what_processes_cannot_do_is_told_by_its_field() {
        let check = |from: &str, to: &str, expected: &str| {
            let problems = read(&MARKED.replacen(from, to, 1)).expect_err(to);
            let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
            assert_eq!(paths, [expected], "{to}");
        };
        check("replicas: [1], faults", "state: unreachable, faults", "services[0].during[0].state");
        check("replicas: [2], faults", "zones: [a], faults", "services[0].during[1].zones");
        check("replicas: [1], faults", "slower: 2x, faults", "services[0].during[0].slower");
        check("fault: { status: 500 }", "fault: reset", "services[0].during[0].faults");
        check("latency: 100ms", "latency: { exponential: { mean: 1s } }", "services[0].latency");
        check("latency: 100ms", "latency: 1s\n    servers: 2", "services[0].servers");
        check("latency: 100ms", "calls: [{ host: b }]", "services[0].fails_with");
        check(
            "latency: 100ms",
            "fails_with: 502\n    calls: [{ host: b, share: 5% }]",
            "services[0].calls[0].share",
        );
        check("constant: 4/s", "ramp: { from: 1/s, to: 4/s }", "load[0].arrivals");
        check("arrivals:", "patience: 1s\n    arrivals:", "load[0].patience");
        check("config: ejected-twice\n", "", "config");
    }

    #[test]
    fn without_a_mark_there_is_nothing_to_say() {
        let plain = MARKED.replacen("processes:", "# processes:", 1);
        assert!(read(&plain.replacen("faults:", "state: stuck, faults:", 1)).unwrap().is_none());
    }
}
