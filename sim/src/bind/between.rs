//! What is between gateways, and where addresses are: as they are written.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use naru_base::{Chance, Instant};
use naru_journey::door::GeoPlace;
use naru_journey::{Chain, Snapshot};
use naru_spec::CountPlace;
use serde_saphyr::Spanned;

use super::{Binder, moment};
use crate::leases::{Between, BetweenWindow};
use crate::places::AllPlaces;
use crate::scenario::{GatewayState, LeaseWindow};

impl Binder<'_> {
    /// How gateways that share limits hear each other.
    pub(super) fn between(&mut self, seed: u64) -> Between {
        let scenario = self.scenario;
        let mut between = Between { chance: Chance::split(seed, "leases"), ..Between::default() };
        self.check_members();
        let Some(said) = &scenario.leases else { return between };
        let circles = circles(self.snapshot()).count();
        if circles == 0 {
            let what = "no limits of the configuration are shared by leases";
            self.tell(said, "leases".to_owned(), "no-effect", what);
        }
        let said = &said.value;
        between.lost = said.lost;
        between.doubled = said.doubled;
        if let Some(latency) = &said.latency {
            between.latency = latency.clone();
        }
        for (at, window) in said.during.iter().enumerate() {
            let path = format!("leases.during[{at}]");
            if window.to.is_some_and(|to| to <= window.from.value) {
                self.tell(&window.from, path.clone(), "invalid-value", "it ends before it begins");
            }
            for gateway in &window.gateways {
                if gateway.value.get() > scenario.gateways() {
                    let what = format!("there is no gateway {}, only {}", gateway.value, scenario.gateways());
                    self.tell(gateway, format!("{path}.gateways"), "unknown-name", &what);
                }
            }
            between.windows.push(window_of(window));
        }
        self.check_somebody_is_there(&between, &said.during);
        between
    }

    /// Each member is one gateway, and each gateway is a member.
    fn check_members(&mut self) {
        let scenario = self.scenario;
        let Some(said) = &scenario.gateways else { return };
        for (name, members) in circles(self.snapshot()) {
            if scenario.gateways() as usize > members {
                let what = format!(
                    "there are {} gateways, and {name} has {members} members: who is none of them shares nothing",
                    said.value
                );
                self.tell(said, "gateways".to_owned(), "contradiction", &what);
            }
        }
    }

    /// At no moment all gateways are gone: nobody would be there to whom requests could come.
    fn check_somebody_is_there(&mut self, between: &Between, said: &[LeaseWindow]) {
        let gateways = self.scenario.gateways() as usize;
        for (at, (window, said)) in between.windows.iter().zip(said).enumerate() {
            let is_there = |gateway| between.state(window.from, gateway) != GatewayState::Down;
            if window.state == GatewayState::Down && !(0..gateways).any(is_there) {
                let what = "no gateway is left to which requests could come";
                self.tell(&said.from, format!("leases.during[{at}].state"), "contradiction", what);
            }
        }
    }

    /// Services call through proxies of their own, which are members of no circle.
    pub(super) fn check_outbound_limits(&mut self, name: &Spanned<String>, path: &str, chain: &Chain) {
        let circles: BTreeSet<&str> =
            self.compiled.snapshots.iter().flat_map(circles).map(|(name, _)| name).collect();
        let stores = chain.gate.as_deref().into_iter().flat_map(|gate| gate.stores());
        for store in stores.filter(|store| circles.contains(store)).collect::<BTreeSet<_>>() {
            let what = format!(
                "calls of '{}' pass limits of {store}, whose members are gateways: its own proxies are none",
                name.value
            );
            self.tell_with_hint(
                name,
                path.to_owned(),
                "not-served",
                what,
                "say with an 'outbound' of the service a configuration or a listener without them".to_owned(),
            );
        }
    }

    /// Where addresses are.
    pub(super) fn places(&mut self) -> AllPlaces {
        let scenario = self.scenario;
        let mut all: Vec<(IpNet, GeoPlace)> = Vec::new();
        for (at, said) in scenario.places.iter().enumerate() {
            let path = format!("places[{at}]");
            for (name, value) in [("country", &said.country), ("continent", &said.continent)] {
                let Some(value) = value else { continue };
                let is_code =
                    value.value.len() == 2 && value.value.bytes().all(|byte| byte.is_ascii_uppercase());
                if !is_code {
                    let what = format!("'{}' is no {name}, which has two capital letters", value.value);
                    self.tell(value, format!("{path}.{name}"), "invalid-value", &what);
                }
            }
            let place = GeoPlace {
                country: said.country.as_ref().map(|country| country.value.clone()),
                continent: said.continent.as_ref().map(|continent| continent.value.clone()),
                region: said.region.clone(),
                city: said.city.clone(),
                asn: said.asn,
            };
            for network in &said.networks {
                let Some(read) = network_of(&network.value) else {
                    let what = format!("'{}' is no network, which looks like '192.0.2.0/24'", network.value);
                    self.tell(network, format!("{path}.networks"), "invalid-value", &what);
                    continue;
                };
                if all.iter().any(|(known, _)| *known == read) {
                    let what = format!("two places say where {read} is");
                    self.tell(network, format!("{path}.networks"), "defined-twice", &what);
                }
                all.push((read, place.clone()));
            }
            if place == GeoPlace::default()
                && let Some(network) = said.networks.first()
            {
                let what = "nothing is said of where these addresses are";
                self.tell(network, path, "no-effect", what);
            }
        }
        let first = scenario.places.iter().find_map(|said| said.networks.first());
        if let Some(first) = first
            && self.compiled.snapshots.iter().all(|snapshot| snapshot.geo.is_empty())
        {
            let what = "nothing in the configuration asks where addresses are";
            self.tell(first, "places".to_owned(), "no-effect", what);
        }
        AllPlaces::new(all)
    }
}

/// What shares limits by leases, with how many members.
fn circles(snapshot: &Snapshot) -> impl Iterator<Item = (&str, usize)> {
    snapshot.stores.iter().filter_map(|store| match &store.place {
        CountPlace::Leases(leases) => Some((store.name.as_str(), leases.members.len())),
        CountPlace::Redis(_) => None,
    })
}

fn window_of(window: &LeaseWindow) -> BetweenWindow {
    BetweenWindow {
        from: moment(window.from.value.0),
        to: window.to.map_or(Instant(u64::MAX), |to| moment(to.0)),
        gateways: window.gateways.iter().map(|gateway| gateway.value.get() as usize - 1).collect(),
        state: window.state,
        latency: window.latency.clone(),
        lost: window.lost,
    }
}

/// A network by its first address, or a single address.
fn network_of(text: &str) -> Option<IpNet> {
    let network: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse().ok()?,
    };
    Some(network.trunc())
}
