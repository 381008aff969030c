//! Which fields of policies act?
//!
//! Comes in: every field that could, and from whoever compiles a rule or a cluster what it took and what it passed by.
//! Goes out: a warning for each field that nobody took. Deliberately not here: what a field means, and what is wrong
//! with its value.

use std::collections::{BTreeMap, BTreeSet};

use naru_resource::Place;
use naru_spec::{Path, code};

use crate::attached::RouteKey;
use crate::findings::Findings;

/// Where a field stands, and its name: two fields of one mapping may have one place.
type Key = (Place, &'static str);

/// The path of what is said by a whole document.
pub(crate) const DOCUMENT: &str = "metadata.name";

#[derive(Debug, Default)]
pub(crate) struct Account {
    said: Vec<Said>,
    taken: BTreeSet<Key>,
    passed: BTreeMap<Key, Idle>,
    /// Of routes that could not be compiled, which was told: nobody knows what would have acted there.
    broken: BTreeSet<RouteKey>,
}

/// A field that could act.
#[derive(Debug)]
pub(crate) struct Said {
    pub place: Place,
    pub field: &'static str,
    pub path: String,
    /// Of whom it is said, where that is a route.
    pub route: Option<RouteKey>,
    /// Why it does not act if nobody even passes it by.
    pub otherwise: Idle,
}

/// Why a field does not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// All that it is for only redirects, answers, or passes bytes through.
    SendsNothing,
    /// Something more specific says the same, everywhere.
    Outdone,
    NoFault,
    NoMirror,
    NoRetry,
    /// Requests bring their endpoints with them.
    OnDemand,
    /// Nobody defines a service that it is for.
    NoService,
    /// All ports that it is for have settings of their own, which do not inherit.
    OwnPorts,
    /// No port that it is for speaks HTTP.
    NoHttp,
}

impl Idle {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Idle::SendsNothing => (
                "no route that it is for sends HTTP requests on",
                "attach it to a route with destinations: redirects, direct responses, tcp and tls routes have none of it",
            ),
            Idle::Outdone => ("whatever it is for has one of its own", "leave it out"),
            Idle::NoFault => ("no route that it is for has a fault", "say 'fault' in the VirtualService"),
            Idle::OnDemand => (
                "requests to this host bring their endpoints with them: none is chosen, watched or ejected",
                "leave it out, or say resolution: STATIC or DNS",
            ),
            Idle::NoService => {
                ("no Service and no ServiceEntry is for its host", "correct the host, or define it")
            }
            Idle::OwnPorts => {
                ("every port has settings of its own", "say it in portLevelSettings: they inherit nothing")
            }
            Idle::NoHttp => ("no port that it is for speaks HTTP", "leave it out"),
            Idle::NoMirror => ("no route that it is for has a mirror", "say 'mirrors' in the VirtualService"),
            Idle::NoRetry => {
                ("no route that it is for retries anything", "allow retries there, or leave it out")
            }
        }
    }
}

impl Account {
    pub fn expect(&mut self, said: Said) {
        self.said.push(said);
    }

    /// It acts.
    pub fn take(&mut self, place: Place, field: &'static str) {
        self.taken.insert((place, field));
    }

    /// It could have acted here, and does not. Of several reasons the first is told.
    pub fn pass(&mut self, place: Place, field: &'static str, why: Idle) {
        self.passed.entry((place, field)).or_insert(why);
    }

    /// Either of the two.
    pub fn take_if(&mut self, acts: bool, place: Place, field: &'static str, or: Idle) {
        if acts { self.take(place, field) } else { self.pass(place, field, or) }
    }

    pub fn forgive(&mut self, routes: &[RouteKey]) {
        self.broken.extend(routes.iter().cloned());
    }

    /// Tells what nobody took.
    pub fn tell(&self, findings: &mut Findings<'_>) {
        for said in &self.said {
            let key = (said.place, said.field);
            let is_broken = said.route.as_ref().is_some_and(|route| self.broken.contains(route));
            // What is wrong with it has been told.
            if self.taken.contains(&key) || is_broken || findings.has_error_at(said.place) {
                continue;
            }
            let (why, hint) = self.passed.get(&key).copied().unwrap_or(said.otherwise).words();
            let message = match said.path.as_str() {
                DOCUMENT => format!("it has no effect: {why}"),
                _ => format!("'{}' has no effect: {why}", said.field),
            };
            findings.warning(code::NO_EFFECT, said.place, &Path::ROOT.field(&said.path), message, hint);
        }
    }
}
