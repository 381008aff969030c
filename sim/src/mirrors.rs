//! What is known of mirrors: how their copies fared, and what their answers differ in. The counterpart of
//! `proxy/src/mirrors.rs` and `proxy/src/shadow/trial.rs`.
//!
//! It is kept by name, for all proxies of a world together, as `/mirrors` adds workers up. A simulated answer has neither
//! headers nor bytes: its status, its status of gRPC and the length of its body (`body.bytes`) are compared, by
//! `naru_recover::mirror`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use naru_base::Instant;
use naru_journey::shadow::ShadowEnd;
use naru_journey::{ChainId, MirrorCounts, MirrorName, Shadow, Snapshot};
use naru_recover::mirror::compare::{Answer, Noise, Report};
use naru_recover::mirror::learns;
use naru_route::RuleId;
use naru_spec::Comparison;

use crate::latencies::Latencies;
use crate::passage::Key;

/// All mirrors of a world.
#[derive(Debug, Default)]
pub struct Mirrors {
    pub all: Vec<MirrorHere>,
}

/// The mirrors of the rules of a proxy, in their order: places in [`Mirrors::all`].
pub type OfRules = BTreeMap<(ChainId, RuleId), Vec<usize>>;

#[derive(Debug)]
pub struct MirrorHere {
    pub name: MirrorName,
    pub counts: MirrorCounts,
    pub report: Report,
    pub noise: Noise,
    /// Times at which the request's own cluster was asked twice.
    pub learned: u64,
    /// Requests of which one of the two answers is missing.
    pub unpaired: u64,
    /// Pairs in which the copy's answer took longer to begin.
    pub slower: u64,
    /// How long the answers that were compared took to begin, in microseconds.
    pub primary: Latencies,
    pub candidate: Latencies,
    /// Requests whose answers were to be compared.
    begun: u64,
}

impl Mirrors {
    /// Those of a proxy.
    pub fn of(&mut self, snapshot: &Snapshot) -> OfRules {
        let mut found = OfRules::new();
        for (id, chain) in (0..).map(ChainId).zip(snapshot.chains()) {
            for (rule, compiled) in chain.table.rules().filter(|(rule, _)| !chain.mirrored(*rule).is_empty())
            {
                let virtual_host = chain.table.virtual_host_name(compiled.virtual_host);
                let mirrors = chain.recovery(rule).mirrors.iter();
                let names =
                    mirrors.map(|mirror| MirrorName::of(virtual_host, compiled, rule.0, &mirror.cluster));
                found.insert((id, rule), names.map(|name| self.named(name)).collect());
            }
        }
        found
    }

    fn named(&mut self, name: MirrorName) -> usize {
        let known = self.all.iter().position(|known| known.name == name);
        known.unwrap_or_else(|| {
            self.all.push(MirrorHere {
                name,
                counts: MirrorCounts::default(),
                report: Report::default(),
                noise: Noise::default(),
                learned: 0,
                unpaired: 0,
                slower: 0,
                primary: Latencies::default(),
                candidate: Latencies::default(),
                begun: 0,
            });
            self.all.len() - 1
        })
    }

    pub fn on_copy(&mut self, mirror: usize) {
        if let Some(here) = self.all.get_mut(mirror) {
            here.counts.copies += 1;
        }
    }

    pub fn on_end(&mut self, mirror: usize, end: ShadowEnd, status: u16) {
        if let Some(here) = self.all.get_mut(mirror) {
            here.counts.on_end(end, status);
        }
    }

    /// A request's answer will be compared; says whether noise is to be learned from it.
    pub fn on_comparison(&mut self, mirror: usize) -> bool {
        self.all.get_mut(mirror).is_some_and(|here| {
            here.begun += 1;
            learns(here.begun - 1)
        })
    }
}

impl MirrorHere {
    fn compare(&mut self, primary: &Said, twin: Option<&Said>, candidate: &Said, settings: &Comparison) {
        let written = |said: &Said| Written::of(said, settings);
        let (one, other) = (written(primary), written(candidate));
        if let Some(twin) = twin.map(written) {
            self.noise.learn(&one.answer(), &twin.answer(), settings);
            self.learned += 1;
        }
        self.report.compare(&one.answer(), &other.answer(), &self.noise, settings);
        self.slower += u64::from(candidate.took > primary.took);
        self.primary.record(micros(primary.took));
        self.candidate.record(micros(candidate.took));
    }
}

/// A whole answer, as far as it is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub status: u16,
    pub grpc_status: Option<u8>,
    pub bytes: u64,
    /// Until its head.
    pub took: Duration,
}

/// The same, as what can be compared.
struct Written {
    status: u16,
    headers: HeaderMap,
    body: Option<String>,
}

impl Written {
    fn of(said: &Said, settings: &Comparison) -> Written {
        let grpc = said.grpc_status.map(|status| HeaderValue::from(u16::from(status)));
        let headers = grpc.map(|status| (http::HeaderName::from_static("grpc-status"), status));
        let is_small = said.bytes <= settings.body_bytes_max as u64;
        Written {
            status: said.status,
            headers: headers.into_iter().collect(),
            body: is_small.then(|| format!("{{\"bytes\":{}}}", said.bytes)),
        }
    }

    fn answer(&self) -> Answer<'_> {
        Answer {
            status: self.status,
            headers: &self.headers,
            body: self.body.as_ref().map(|body| body.as_bytes()),
        }
    }
}

/// The answers to one request. Once all are there that are waited for, they are compared.
#[derive(Debug)]
pub struct Trial {
    primary: Heard,
    /// What the same cluster says the second time.
    twin: Heard,
    candidates: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    mirror: usize,
    settings: Comparison,
    heard: Heard,
    is_judged: bool,
}

#[derive(Clone, Copy, Debug)]
enum Heard {
    Awaited,
    /// Nobody is asked, or nobody answered.
    Absent,
    Here(Said),
}

/// Whose answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Twin,
    Candidate(usize),
}

/// Whoever is to say an answer in a trial.
#[derive(Debug)]
pub struct Hearing {
    pub trial: Rc<RefCell<Trial>>,
    pub role: Role,
    /// When its request was sent.
    pub sent: Instant,
}

impl Trial {
    /// With the mirrors whose answers are compared.
    pub fn new(candidates: Vec<(usize, Comparison)>, has_twin: bool) -> Trial {
        let candidates = candidates.into_iter().map(|(mirror, settings)| Candidate {
            mirror,
            settings,
            heard: Heard::Awaited,
            is_judged: false,
        });
        Trial {
            primary: Heard::Awaited,
            twin: if has_twin { Heard::Awaited } else { Heard::Absent },
            candidates: candidates.collect(),
        }
    }

    /// An answer came to its end, or will not.
    pub fn tell(&mut self, role: Role, said: Option<Said>, mirrors: &mut Mirrors) {
        let heard = said.map_or(Heard::Absent, Heard::Here);
        match role {
            Role::Primary => self.primary = heard,
            Role::Twin => self.twin = heard,
            Role::Candidate(at) => {
                if let Some(candidate) = self.candidates.get_mut(at) {
                    candidate.heard = heard;
                }
            }
        }
        self.judge(mirrors);
    }

    /// Compares what can be compared now, each once.
    fn judge(&mut self, mirrors: &mut Mirrors) {
        let (primary, twin) = match (self.primary, self.twin) {
            (Heard::Awaited, _) | (_, Heard::Awaited) => return,
            (Heard::Absent, _) => (None, None),
            (Heard::Here(primary), Heard::Here(twin)) => (Some(primary), Some(twin)),
            (Heard::Here(primary), Heard::Absent) => (Some(primary), None),
        };
        for candidate in self.candidates.iter_mut().filter(|candidate| !candidate.is_judged) {
            let Some(here) = mirrors.all.get_mut(candidate.mirror) else { continue };
            match (primary, candidate.heard) {
                (_, Heard::Awaited) => continue,
                (Some(primary), Heard::Here(said)) => {
                    here.compare(&primary, twin.as_ref(), &said, &candidate.settings);
                }
                (None, _) | (_, Heard::Absent) => here.unpaired += 1,
            }
            candidate.is_judged = true;
        }
    }
}

/// What makes a passage a copy.
#[derive(Debug)]
pub struct Copied {
    pub shadow: Shadow,
    /// Absent of one that goes to the request's own cluster.
    pub mirror: Option<usize>,
    pub hearing: Option<Hearing>,
    /// No copy, but a question of naru's own about this request.
    pub asked_for: Option<Key>,
    /// Of its answer.
    pub grpc_status: Option<u8>,
    pub said: Option<Box<HeaderMap>>,
    pub took: Duration,
}

/// What a request that has copies knows of them.
#[derive(Debug)]
pub struct Copies {
    /// Those that need its body.
    pub fed: Vec<Key>,
    pub hearing: Option<Hearing>,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
