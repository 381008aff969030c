//! What is another for one kind of node, where little is?
//!
//! Comes in: a change of VirtualServices that reaches little, and what a node of the role was given before. Goes out: the
//! virtual hosts that are others, as resources. Where that cannot be told from what the change reaches, nothing goes out,
//! and all of it is made anew. Only for those who are sent virtual hosts by themselves: of others a whole table changes.

use std::collections::{BTreeMap, BTreeSet};

use naru_plan::{Change, Surroundings};
use naru_xds::discovery::Kind;
use naru_xds::encode::{Unsaid, unsaid};

use crate::node::Role;
use crate::set::View;
use crate::views::{Led, count, is_its, only_its, said};

/// What a node of a role was given.
#[derive(Clone, Debug)]
pub(crate) struct Before<'a> {
    pub view: &'a View,
    pub lost: &'a [Unsaid],
    pub led: &'a Led,
}

/// What is another.
#[derive(Debug)]
pub(crate) struct Patch {
    pub there: Vec<(String, Vec<u8>)>,
    pub gone: Vec<String>,
    pub lost: Vec<Unsaid>,
    pub led: Led,
}

type Said = BTreeMap<(Kind, String), Vec<u8>>;

/// `None` where all of it is to be made anew.
pub(crate) fn patch(
    change: &mut Change<'_>,
    surroundings: &Surroundings,
    role: &Role,
    before: &Before<'_>,
) -> Option<Patch> {
    if !role.is_by_host {
        return None;
    }
    let mut part = change.plan(surroundings, &|gateway| is_its(gateway, role))?;
    only_its(&mut part.before, role);
    only_its(&mut part.after, role);
    let mut led = before.led.clone();
    for changed in &part.hosts {
        changed.before.iter().for_each(|host| count(host, &mut led, -1));
        changed.after.iter().for_each(|host| count(host, &mut led, 1));
    }
    let (led_before, led_after) = part.led_to();
    // A cluster that nobody led to before comes, one that nobody leads to now goes: with all that is beside it.
    if led_before.iter().any(|name| led.get(*name).is_none_or(|count| *count == 0))
        || led_after.iter().any(|name| !before.led.contains_key(*name))
    {
        return None;
    }
    let old: Said =
        said(&part.before, role).into_iter().map(|(kind, name, any)| ((kind, name), any)).collect();
    let mut new: Said =
        said(&part.after, role).into_iter().map(|(kind, name, any)| ((kind, name), any)).collect();
    let is_known = |kind: Kind, name: &str, any: Option<&Vec<u8>>| {
        let known = before.view.set(kind).get(name).map(|item| &*item.any);
        known == any.map(Vec::as_slice)
    };
    for name in &led_after {
        for kind in [Kind::Cluster, Kind::Endpoints] {
            if !is_known(kind, name, new.get(&(kind, (*name).to_owned()))) {
                return None;
            }
        }
    }
    // Listeners and tables say the same with the change and without it; so they do among all others.
    let is_beside = |kind: Kind| matches!(kind, Kind::Listener | Kind::Routes);
    let beside = |said: &Said| -> Vec<(Kind, String, Vec<u8>)> {
        let beside = said.iter().filter(|((kind, _), _)| is_beside(*kind));
        beside.map(|((kind, name), any)| (*kind, name.clone(), any.clone())).collect()
    };
    if beside(&old) != beside(&new) {
        return None;
    }
    let (mut there, mut gone) = (Vec::new(), Vec::new());
    for ((kind, name), any) in old {
        if kind != Kind::VirtualHost {
            continue;
        }
        let next = new.remove(&(kind, name.clone()));
        if next.as_ref() == Some(&any) {
            continue;
        }
        // What it is said to have been is what it was, or this is not the difference.
        if !is_known(kind, &name, Some(&any)) {
            return None;
        }
        match next {
            Some(next) => there.push((name, next)),
            None => gone.push(name),
        }
    }
    for ((kind, name), any) in new {
        if kind == Kind::VirtualHost {
            if !is_known(kind, &name, None) {
                return None;
            }
            there.push((name, any));
        }
    }
    let lost = lost(&unsaid(&part.before, role.dialect), &unsaid(&part.after, role.dialect), &part, before)?;
    Some(Patch { there, gone, lost, led })
}

/// What a node lacks of what documents say, from now on. `None` where something is lost that guards.
fn lost(old: &[Unsaid], new: &[Unsaid], part: &naru_plan::Part, before: &Before<'_>) -> Option<Vec<Unsaid>> {
    let mut lost: BTreeSet<Unsaid> = before.lost.iter().cloned().collect();
    // Clusters stay what they were.
    let is_cluster = |one: &&Unsaid| part.before.clusters.iter().any(|cluster| cluster.name == one.at);
    for gone in old.iter().filter(|one| !new.contains(one) && !is_cluster(one)) {
        lost.remove(gone);
    }
    let came: Vec<&Unsaid> = new.iter().filter(|one| !old.contains(one)).collect();
    lost.extend(came.iter().map(|one| (*one).clone()));
    (!new.iter().any(|one| one.is_guard)).then(|| lost.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use naru_base::chance::Chance;
    use naru_plan::{Known, Surroundings, plan};
    use naru_resource::Resources;
    use naru_sources::Texts;
    use naru_xds::discovery::{Dialect, KINDS};

    use super::{Before, patch};
    use crate::node::{Part, Role};
    use crate::set::{Shelf, View};
    use crate::views::{Made, make_of};
    use naru_xds::discovery::Kind;

    const BASE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: t}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, labels: {}}
spec:
  selector: {app: gate}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: back}
spec:
  selector: {app: back}
  servers: [{port: {number: 81, name: http, protocol: HTTP}, hosts: ['*']}]
";

    fn service(at: usize, chance: &mut Chance) -> String {
        let gateways = ["gate", "back", "gate, mesh", "mesh"][chance.below(4) as usize];
        let host = ["a.test", "b.test", "c.test", "s", "'*.test'"][chance.below(5) as usize];
        let host = if gateways.contains("mesh") && host.starts_with('\'') { "t" } else { host };
        let mut action = match chance.below(5) {
            0 => {
                "route: [{destination: {host: s}, weight: 1}, {destination: {host: t}, weight: 1}]".to_owned()
            }
            1 => "route: [{destination: {host: t}}]".to_owned(),
            _ => "route: [{destination: {host: s}}]".to_owned(),
        };
        match chance.below(6) {
            0 => action.push_str(", fault: {abort: {httpStatus: 503, percentage: {value: 1}}}"),
            1 => action.push_str(", headers: {response: {set: {x: y}}}"),
            _ => {}
        }
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{at}}}\nspec:\n  \
             hosts: [{host}]\n  gateways: [{gateways}]\n  http: [{{{action}}}]\n"
        )
    }

    fn load(services: &[String]) -> Resources {
        let named = services.iter().enumerate().map(|(at, text)| (format!("v{at}.yaml"), text.clone()));
        let files = std::iter::once(("base.yaml".to_owned(), BASE.to_owned())).chain(named).collect();
        Texts { files }.load().resources
    }

    fn role(part: Part, labels: &[(&str, &str)]) -> Role {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Role {
            dialect: Dialect::Naru,
            is_by_host: true,
            part,
            namespace: "default".to_owned(),
            account: "default".to_owned(),
            labels,
            workload: String::new(),
        }
    }

    fn view(made: &Made) -> View {
        Shelf::default().view(made.resources.clone(), None)
    }

    /// For each role, after each of many random edits: what is changed in part is what is made anew.
    #[test]
    fn what_is_changed_in_part_is_what_is_made_as_a_whole() {
        let gateway = Part::Gateway { address: [0, 0, 0, 0].into() };
        let roles = [
            role(gateway.clone(), &[]),
            role(gateway, &[("app", "gate")]),
            role(
                Part::Sidecar { address: ([127, 0, 0, 1], 15_001).into(), inbound: [0, 0, 0, 0].into() },
                &[],
            ),
        ];
        let around = Surroundings { is_strict: true, ..Surroundings::default() };
        let (mut patched, mut edits) = (0, 0);
        for seed in 0..6 {
            let mut chance = Chance::new(seed);
            let mut services = vec![String::new(); 6];
            let made = |services: &[String]| -> BTreeMap<Role, Made> {
                let mut resources = load(services);
                let all =
                    roles.iter().map(|role| (role.clone(), make_of(&mut resources, &around, role).unwrap()));
                all.collect()
            };
            let mut before = made(&services);
            for _ in 0..20 {
                let mut known = Known::new(load(&services));
                let at = chance.below(6) as usize;
                let next = if chance.below(8) == 0 { String::new() } else { service(at, &mut chance) };
                let earlier = std::mem::replace(&mut services[at], next);
                // What is wrong is put nowhere.
                if plan(&load(&services), &around).has_errors() {
                    services[at] = earlier;
                    continue;
                }
                let after = made(&services);
                let mut change = known.follow(load(&services));
                for role in &roles {
                    edits += 1;
                    let (old, new) = (&before[role], &after[role]);
                    let view_before = view(old);
                    let had = Before { view: &view_before, lost: &old.lost, led: &old.led };
                    let patch = change.as_mut().and_then(|change| patch(change, &around, role, &had));
                    let Some(patch) = patch else { continue };
                    patched += 1;
                    let changed =
                        Shelf::default().changed(&view_before, Kind::VirtualHost, patch.there, patch.gone);
                    for kind in KINDS {
                        let whole = view(new);
                        let differing: Vec<String> = changed
                            .set(kind)
                            .differing(whole.set(kind))
                            .into_iter()
                            .map(ToString::to_string)
                            .collect();
                        assert!(differing.is_empty(), "seed {seed}, {role:?}: {differing:?} {services:#?}");
                    }
                    assert_eq!(changed.version(), view(new).version());
                    assert_eq!(patch.lost, new.lost);
                    let led = patch.led.into_iter().filter(|(_, count)| *count > 0);
                    assert_eq!(led.collect::<BTreeMap<_, _>>(), new.led);
                }
                before = after;
            }
        }
        assert!(patched * 3 > edits, "{patched} of {edits}");
    }
}
