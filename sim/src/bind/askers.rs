//! Who asks, and what stands around: as they are written.

use std::collections::BTreeSet;
use std::rc::Rc;

use naru_base::{Chance, Instant, Json};
use naru_journey::{ChainId, Snapshot};
use naru_spec::CountPlace;
use naru_spec::suggest::did_you_mean;
use serde_saphyr::Spanned;

use super::{Binder, moment};
use crate::asker::{Asker, Places, SaidSession, SaidToken, claims_of};
use crate::distribution::Distribution;
use crate::scenario::As;
use crate::stores::{Around, Files, StoreSaid, StoreWindow};
use crate::tiers::name_of;

impl Binder<'_> {
    /// Who asks, where it is said of a request of this chain.
    pub(super) fn asker(
        &mut self,
        said: Option<&Spanned<As>>,
        snapshot: &Snapshot,
        chain: ChainId,
        path: &str,
    ) -> Option<Rc<Asker>> {
        let place = said?;
        let said = &place.value;
        let claims = |members: &std::collections::BTreeMap<String, serde_json::Value>| {
            Json::Map(members.iter().map(|(name, value)| (name.clone(), claims_of(value))).collect())
        };
        let has_token = said.token.is_some() || said.token_is.is_some();
        let has_session = said.session.is_some() || said.session_is.is_some();
        let token_claims = said.token.as_ref().map_or(Json::Map(Vec::new()), claims);
        let session_claims = said.session.as_ref().map_or(Json::Map(Vec::new()), claims);
        let asker = Asker {
            token: has_token
                .then(|| SaidToken { claims: token_claims, is: said.token_is.unwrap_or_default() }),
            key: said.key.as_ref().map(|key| key.value.clone()),
            user: said.user.as_ref().map(|user| user.value.clone()),
            has_wrong_password: said.wrong_password,
            session: has_session
                .then(|| SaidSession { claims: session_claims, is: said.session_is.unwrap_or_default() }),
        };
        let compiled = snapshot.chain(chain);
        let unused = Places::of(compiled.gate.as_deref()).unused(&asker);
        let unused = unused.or((has_session && compiled.http.sessions.is_empty()).then_some("session"));
        if let Some(name) = unused {
            let what = format!("nothing in the configuration asks for a {name} where this request comes in");
            self.tell(place, format!("{path}.as.{name}"), "no-effect", &what);
        }
        if said.wrong_password && said.user.is_none() {
            let what = "a password is that of a 'user'";
            self.tell(place, format!("{path}.as.wrong_password"), "contradiction", what);
        }
        Some(Rc::new(asker))
    }

    pub(super) fn around(&mut self, seed: u64) -> Around {
        let scenario = self.scenario;
        let snapshots = self.compiled.snapshots.iter();
        let of_counts = (snapshots.clone().flat_map(|snapshot| &snapshot.stores))
            .filter(|store| matches!(store.place, CountPlace::Redis(_)))
            .map(|store| store.name.clone());
        let of_answers =
            snapshots.filter_map(|snapshot| Some(name_of(&snapshot.cache.redis.as_ref()?.redis)));
        let known: BTreeSet<String> = of_counts.chain(of_answers).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let mut stores = Vec::new();
        for (at, store) in scenario.stores.iter().enumerate() {
            let path = format!("stores[{at}]");
            if let Some(place) = &store.at
                && !known.iter().any(|name| name.contains(&place.value))
            {
                let what = format!("'{}' is the address of no store of the configuration", place.value);
                let hint = match did_you_mean(&place.value, known.iter().copied()).as_str() {
                    "" => format!("its stores are {}", known.join(", ")),
                    near => near.to_owned(),
                };
                self.tell_with_hint(place, format!("{path}.at"), "unknown-name", what, hint);
            }
            for (window_at, window) in store.during.iter().enumerate() {
                if window.to.is_some_and(|to| to <= window.from.value) {
                    let path = format!("{path}.during[{window_at}]");
                    self.tell(&window.from, path, "invalid-value", "it ends before it begins");
                }
            }
            let usual = || Distribution::constant(std::time::Duration::from_micros(500));
            stores.push(StoreSaid {
                at: store.at.as_ref().map(|at| at.value.clone()),
                latency: store.latency.clone().unwrap_or_else(usual),
                windows: (store.during.iter())
                    .map(|window| StoreWindow {
                        from: moment(window.from.value.0),
                        to: window.to.map_or(Instant(u64::MAX), |to| moment(to.0)),
                        state: window.state,
                        latency: window.latency.clone(),
                    })
                    .collect(),
                chance: Chance::split(seed, &format!("store {at}")),
            });
        }
        if !scenario.stores.is_empty() && known.is_empty() {
            self.tell_of_nothing(
                "stores",
                "the configuration counts and keeps nothing in a store".to_owned(),
            );
        }
        let mut around = Around::new(stores, Files(scenario.files.clone()));
        around.places = Rc::new(self.places());
        around
    }
}
