//! Walks at random: a proxy that behaves as Envoy does, and now and then lies, refuses or comes back, is given
//! configurations in which everything leads somewhere. At no moment does it know a route to a cluster that it does not
//! have; and when nothing moves any more, it has exactly what there is.
//!
//! `NARU_SEED` says a single walk, `NARU_WALKS` how many there are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use naru_base::Instant;
use naru_base::chance::Chance;
use naru_xds::discovery::{KINDS, Kind};

use crate::set::{Shelf, View};
use crate::stream::{Asked, Mode, Response, Stream, Wish};

const STEPS: usize = 200;
const NOW: Instant = Instant(1);

/// What one resource says, for the reference proxy: what it leads to, and a number that tells versions apart.
fn text(leads_to: &[String], number: u64) -> Vec<u8> {
    format!("{}/{number}", leads_to.join(",")).into_bytes()
}

fn leads_to(text: &str) -> Vec<String> {
    let list = text.split('/').next().unwrap();
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Everything in it leads to something in it. Few numbers: much of it is as before.
fn configuration(chance: &mut Chance, numbers: std::ops::Range<u64>) -> Arc<View> {
    let number = |chance: &mut Chance| numbers.start + chance.below(numbers.end - numbers.start);
    let some = |chance: &mut Chance, prefix: &str, count: u64| -> Vec<String> {
        let all = (0..count).map(|at| format!("{prefix}{at}"));
        all.filter(|_| chance.below(2) == 0).collect()
    };
    let clusters = some(chance, "c", 6);
    let mut resources = Vec::new();
    for cluster in &clusters {
        resources.push((Kind::Cluster, cluster.clone(), text(&[], number(chance))));
        resources.push((Kind::Endpoints, cluster.clone(), text(&[], number(chance))));
    }
    let mut routes = Vec::new();
    for name in some(chance, "r", 4) {
        let to: Vec<String> = clusters.iter().filter(|_| chance.below(2) == 0).cloned().collect();
        resources.push((Kind::Routes, name.clone(), text(&to, number(chance))));
        routes.push(name);
    }
    // Every table of routes is somebody's.
    let listeners = some(chance, "l", 3);
    for (at, name) in listeners.iter().enumerate() {
        let own: Vec<String> = routes
            .iter()
            .enumerate()
            .filter(|(n, _)| n % listeners.len() == at)
            .map(|(_, r)| r.clone())
            .collect();
        resources.push((Kind::Listener, name.clone(), text(&own, number(chance))));
    }
    if listeners.is_empty() {
        resources.retain(|(kind, ..)| *kind != Kind::Routes);
    }
    Arc::new(Shelf::default().view(resources, None))
}

/// The reference: the obvious proxy.
#[derive(Default)]
struct Proxy {
    has: BTreeMap<Kind, BTreeMap<String, (String, u64)>>,
    /// What was asked for by name.
    names: BTreeMap<Kind, BTreeSet<String>>,
    nonces: BTreeMap<Kind, u64>,
    /// Clusters that wait for endpoints since they came or changed.
    warming: BTreeSet<String>,
    inbox: VecDeque<Response>,
    /// It has listeners, or has accepted that there are none: from now on it may become worse.
    listens: bool,
    refuses: bool,
}

impl Proxy {
    fn names_in(&self, kind: Kind) -> BTreeSet<String> {
        self.has.get(&kind).into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    /// What it wants of a kind that is asked for by name.
    fn wanted(&self, kind: Kind) -> BTreeSet<String> {
        match kind {
            Kind::Endpoints => self.names_in(Kind::Cluster),
            Kind::Routes => {
                let listeners = self.has.get(&Kind::Listener).into_iter().flatten();
                listeners.flat_map(|(_, (text, _))| leads_to(text)).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    fn ask(&mut self, stream: &mut Stream, kind: Kind, nonce: u64, error: Option<String>) {
        let nonce = if nonce == 0 { String::new() } else { nonce.to_string() };
        let before = self.names.get(&kind).cloned().unwrap_or_default();
        let wanted = self.wanted(kind);
        let wish = match stream.mode() {
            Mode::StateOfTheWorld => Wish::All(wanted.iter().cloned().collect()),
            Mode::Delta => Wish::Change {
                subscribe: wanted.difference(&before).cloned().collect(),
                unsubscribe: before.difference(&wanted).cloned().collect(),
                known: Vec::new(),
            },
        };
        self.names.insert(kind, wanted);
        stream.on_request(NOW, Asked { kind, nonce, error, wish }).unwrap();
    }

    /// A new stream. In delta it says what it has.
    fn connect(&mut self, stream: &mut Stream) {
        self.inbox.clear();
        self.nonces.clear();
        self.names.clear();
        if stream.mode() == Mode::StateOfTheWorld {
            (self.has, self.warming) = Default::default();
        }
        self.listens = self.has.get(&Kind::Listener).is_some_and(|has| !has.is_empty());
        for kind in [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Routes] {
            let known = self.has.get(&kind).into_iter().flatten();
            let known: Vec<_> =
                known.map(|(name, (_, version))| (name.clone(), format!("{version:016x}"))).collect();
            let wanted = self.wanted(kind);
            let is_named = matches!(kind, Kind::Endpoints | Kind::Routes);
            // Envoy asks for listeners once it has clusters.
            if known.is_empty() && kind != Kind::Cluster || is_named && wanted.is_empty() {
                continue;
            }
            let wish = match stream.mode() {
                Mode::StateOfTheWorld => Wish::All(wanted.iter().cloned().collect()),
                Mode::Delta => Wish::Change {
                    // What it has of endpoints and waits for is wanted anew.
                    subscribe: wanted.iter().cloned().collect(),
                    unsubscribe: Vec::new(),
                    known: known
                        .into_iter()
                        .filter(|(name, _)| kind != Kind::Endpoints || !self.warming.contains(name))
                        .collect(),
                },
            };
            self.names.insert(kind, wanted);
            let asked = Asked { kind, nonce: String::new(), error: None, wish };
            stream.on_request(NOW, asked).unwrap();
        }
    }

    /// Takes one response, or refuses it, and asks for what it wants then.
    fn take(&mut self, stream: &mut Stream, chance: &mut Chance) {
        let Some(response) = self.inbox.pop_front() else { return };
        let (kind, nonce) = (response.kind, response.nonce);
        self.nonces.insert(kind, nonce);
        // There is nothing to say against what goes.
        let may_refuse = self.refuses && self.listens && !response.resources.is_empty();
        if may_refuse && chance.below(4) == 0 {
            self.ask(stream, kind, nonce, Some("I would rather not".to_owned()));
            return;
        }
        self.listens |= kind == Kind::Listener;
        let has = self.has.entry(kind).or_default();
        let mut changed = Vec::new();
        if response.mode == Mode::StateOfTheWorld && kind.is_whole() {
            let there: BTreeSet<&str> = response.resources.iter().map(|(name, _)| &**name).collect();
            has.retain(|name, _| there.contains(name.as_str()));
        }
        for (name, item) in &response.resources {
            let text = String::from_utf8(item.any.to_vec()).unwrap();
            let before = has.insert(name.to_string(), (text, item.version));
            if before.is_none_or(|(_, version)| version != item.version) {
                changed.push(name.to_string());
            }
        }
        for name in &response.removed {
            has.remove(&**name);
        }
        match kind {
            Kind::Cluster => self.warming.extend(changed),
            Kind::Endpoints => {
                for (name, _) in &response.resources {
                    self.warming.remove(&**name);
                }
            }
            _ => {}
        }
        let clusters = self.names_in(Kind::Cluster);
        self.warming.retain(|name| clusters.contains(name));
        for (named, by) in [(Kind::Endpoints, Kind::Cluster), (Kind::Routes, Kind::Listener)] {
            let wanted = self.wanted(named);
            if kind == by
                && let Some(has) = self.has.get_mut(&named)
            {
                has.retain(|name, _| wanted.contains(name));
            }
        }
        self.check();
        self.ask(stream, kind, nonce, None);
        for (named, by) in [(Kind::Endpoints, Kind::Cluster), (Kind::Routes, Kind::Listener)] {
            if kind == by && self.names.get(&named).cloned().unwrap_or_default() != self.wanted(named) {
                let nonce = self.nonces.get(&named).copied().unwrap_or(0);
                self.ask(stream, named, nonce, None);
            }
        }
        if !self.names.contains_key(&Kind::Listener) && kind == Kind::Cluster {
            self.ask(stream, Kind::Listener, 0, None);
        }
    }

    /// Nothing leads nowhere.
    fn check(&self) {
        for (route, (text, _)) in self.has.get(&Kind::Routes).into_iter().flatten() {
            for cluster in leads_to(text) {
                let is_in = |kind| self.has.get(&kind).is_some_and(|has| has.contains_key(&cluster));
                assert!(is_in(Kind::Cluster), "{route} leads to {cluster}, which is not there");
                assert!(is_in(Kind::Endpoints), "{route} leads to {cluster}, which has no endpoints");
            }
        }
    }

    /// Says what makes no sense.
    fn lie(&mut self, stream: &mut Stream, chance: &mut Chance) {
        let kind = KINDS[usize::try_from(chance.below(5)).unwrap()];
        let Some(names) = self.names.get(&kind) else { return };
        let last = self.nonces.get(&kind).copied().unwrap_or(0);
        let nonce = match chance.below(3) {
            0 => (last + 1 + chance.below(1_000) * 1_000).to_string(),
            1 => "made up".to_owned(),
            _ => last.saturating_sub(1 + chance.below(3)).to_string(),
        };
        let wish = match stream.mode() {
            Mode::StateOfTheWorld => Wish::All(names.iter().cloned().collect()),
            Mode::Delta => Wish::Change { subscribe: Vec::new(), unsubscribe: Vec::new(), known: Vec::new() },
        };
        // What a lie hits by chance is an answer: nonces of what is on its way are none.
        if self.inbox.iter().any(|response| response.nonce.to_string() == nonce) {
            return;
        }
        let error = (chance.below(2) == 0).then(|| "a lie".to_owned());
        if stream.tracks[kind as usize].is_last(&nonce) {
            return;
        }
        stream.on_request(NOW, Asked { kind, nonce, error, wish }).unwrap();
    }
}

fn walk(seed: u64, mode: Mode) {
    let mut chance = Chance::new(seed);
    let mut stream = Stream::new(mode, configuration(&mut chance, 0..3));
    let mut proxy = Proxy { refuses: chance.below(2) == 0, ..Proxy::default() };
    proxy.connect(&mut stream);
    for _ in 0..STEPS {
        match chance.below(20) {
            0 | 1 => stream.on_view(configuration(&mut chance, 0..3)),
            2 => proxy.lie(&mut stream, &mut chance),
            3 if chance.below(4) == 0 => {
                let view = Arc::clone(stream.view());
                stream = Stream::new(mode, view);
                proxy.connect(&mut stream);
            }
            3..10 => proxy.inbox.extend(stream.next(NOW)),
            _ => proxy.take(&mut stream, &mut chance),
        }
    }
    // What was refused is mended: nothing in it is as it was.
    proxy.refuses = false;
    let last = configuration(&mut chance, 10..13);
    if chance.below(2) == 0 {
        // Or nothing is there any more.
        stream.on_view(Arc::new(View::default()));
        settle(&mut stream, &mut proxy, &mut chance);
        check_end(&stream, &proxy, &View::default());
    }
    stream.on_view(Arc::clone(&last));
    settle(&mut stream, &mut proxy, &mut chance);
    check_end(&stream, &proxy, &last);
}

/// Until nothing moves any more.
fn settle(stream: &mut Stream, proxy: &mut Proxy, chance: &mut Chance) {
    loop {
        let before = proxy.inbox.len();
        proxy.inbox.extend(std::iter::from_fn(|| stream.next(NOW)));
        if proxy.inbox.len() == before && before == 0 {
            break;
        }
        while !proxy.inbox.is_empty() {
            proxy.take(stream, chance);
        }
    }
}

fn check_end(stream: &Stream, proxy: &Proxy, last: &View) {
    for kind in [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Routes] {
        let has: BTreeMap<String, u64> = proxy
            .has
            .get(&kind)
            .into_iter()
            .flatten()
            .map(|(name, (_, version))| (name.clone(), *version))
            .collect();
        let there: BTreeMap<String, u64> =
            last.set(kind).iter().map(|(name, item)| (name.to_string(), item.version)).collect();
        assert_eq!(has, there, "{kind}: {:?}", stream.standings());
    }
    assert!(proxy.warming.is_empty(), "without endpoints: {:?}", proxy.warming);
    for standing in stream.standings() {
        assert!(standing.is_current, "{standing:?}");
    }
}

#[test]
fn a_proxy_has_at_every_moment_what_it_needs_and_at_the_end_what_there_is() {
    let said = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds: Vec<u64> = match said("NARU_SEED") {
        Some(seed) => vec![seed],
        None => (0..said("NARU_WALKS").unwrap_or(150)).collect(),
    };
    for seed in seeds {
        for mode in [Mode::StateOfTheWorld, Mode::Delta] {
            let result = std::panic::catch_unwind(|| walk(seed, mode));
            assert!(result.is_ok(), "NARU_SEED={seed}, {mode:?}");
        }
    }
}
