//! What one worker has learned of how long the routes take whose timeout follows what is observed.
//!
//! Ids mean nothing under another snapshot: what was learned of a route goes on with the one of the same names.

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::Instant;
use naru_recover::auto::Observed;
use naru_route::{CompiledAction, RuleId};
use naru_spec::AutoTimeout;

use crate::{ChainId, Snapshot};

/// What the timeout of a route has become.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LearnedTimeout {
    pub virtual_host: String,
    pub route: String,
    pub timeout: Duration,
    /// That it was computed of; what is old counts less.
    pub responses: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Timeouts {
    of_routes: BTreeMap<(ChainId, RuleId), Box<Observed>>,
}

impl Timeouts {
    /// What holds for a request that begins now.
    pub fn timeout(&mut self, now: Instant, route: (ChainId, RuleId), settings: AutoTimeout) -> Duration {
        let observed = self.of_routes.entry(route).or_insert_with(|| Box::new(Observed::new(now, settings)));
        observed.tick(now);
        observed.timeout()
    }

    /// A response took this long, or was given up after this long.
    pub fn learn(&mut self, route: (ChainId, RuleId), took: Duration) {
        if let Some(observed) = self.of_routes.get_mut(&route) {
            observed.on_response(took);
        }
    }

    /// What holds now, of each route in the order of their ids.
    pub fn learned(&self, snapshot: &Snapshot) -> Vec<LearnedTimeout> {
        let known = self.of_routes.iter().map(|((chain, rule), observed)| {
            let table = &snapshot.chain(*chain).table;
            let of = table.rule(*rule);
            LearnedTimeout {
                virtual_host: table.virtual_host_name(of.virtual_host).to_owned(),
                route: of.name.to_string(),
                timeout: observed.timeout(),
                responses: observed.responses(),
            }
        });
        known.collect()
    }

    /// What is known under `new` of what was learned under `old`.
    pub fn succeed(&self, old: &Snapshot, new: &Snapshot) -> Timeouts {
        if self.of_routes.is_empty() {
            return Timeouts::default();
        }
        let named = self.of_routes.iter().filter_map(|(route, it)| Some((names(old, *route)?, &**it)));
        let known: BTreeMap<[&str; 5], &Observed> = named.collect();
        let mut of_routes = BTreeMap::new();
        for (chain, rules) in new.chains().iter().enumerate().map(|(at, chain)| (ChainId(at as u32), chain)) {
            for (rule, _) in rules.table.rules() {
                let Some(settings) = rules.recovery(rule).auto_timeout else { continue };
                let before = names(new, (chain, rule)).and_then(|names| known.get(&names));
                if let Some(observed) = before.filter(|observed| observed.settings() == settings) {
                    of_routes.insert((chain, rule), Box::new((*observed).clone()));
                }
            }
        }
        Timeouts { of_routes }
    }
}

/// Of the listener, the chain, the virtual host, the rule, and of where it leads first.
fn names(snapshot: &Snapshot, (chain, rule): (ChainId, RuleId)) -> Option<[&str; 5]> {
    let (listener, filter_chain) = snapshot.place_of(chain)?;
    let table = &snapshot.chain(chain).table;
    let compiled = table.rule(rule);
    let CompiledAction::Forward(forward) = &compiled.action else { return None };
    let (_, cluster) = forward.choices().next()?;
    let host = table.virtual_host_name(compiled.virtual_host);
    Some([&listener.name, &filter_chain.name, host, &compiled.name, cluster])
}
