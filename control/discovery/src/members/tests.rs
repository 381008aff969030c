//! Members one by one, and a walk of many against a model that looks at everything anew each time.

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_plan::{Group, GroupProbe, GroupProbeKind, Member};

use super::{Connected, GRACE, Key, Members, Own, Refused};

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(1_000 + seconds)
}

fn probe(initial: u64, successes: u32, failures: u32) -> GroupProbe {
    GroupProbe {
        kind: GroupProbeKind::Tcp,
        host: None,
        port: 80,
        initial_delay: Duration::from_secs(initial),
        period: Duration::from_secs(3),
        timeout: Duration::from_secs(1),
        success_threshold: successes,
        failure_threshold: failures,
    }
}

fn group(name: &str, probe: Option<GroupProbe>) -> Group {
    Group {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        labels: vec![("app".to_owned(), name.to_owned())],
        probe,
        account: None,
    }
}

fn key(group: &str, last: u8) -> Key {
    Key {
        namespace: "shop".to_owned(),
        group: group.to_owned(),
        address: [10, 0, 0, last].into(),
        network: String::new(),
    }
}

fn own(id: &str) -> Own {
    Own { id: id.to_owned(), labels: vec![("of".to_owned(), id.to_owned())], locality: String::new() }
}

/// Addresses that are called.
fn called(members: &Members) -> Vec<String> {
    members.called().iter().map(|member| member.address.to_string()).collect()
}

#[test]
fn who_is_away_for_less_than_the_grace_period_was_never_away() {
    let mut members = Members::default();
    let a = key("a", 1);
    assert_eq!(members.join(at(0), 1, &a, own("x")), Err(Refused::NotYet));
    members.on_groups(at(0), vec![group("a", None)]);
    assert_eq!(members.join(at(0), 1, &key("b", 1), own("x")), Err(Refused::NoGroup));
    assert_eq!(members.homes_of("a"), ["shop"]);
    members.join(at(0), 1, &a, own("x")).unwrap();
    let revision = members.revision();
    members.leave(at(1), 1, &a);
    assert_eq!(members.deadline(), Some(at(11)));
    members.tick(at(10));
    members.join(at(10), 2, &a, own("x")).unwrap();
    assert_eq!((called(&members), members.revision()), (vec!["10.0.0.1".to_owned()], revision));
    members.leave(at(20), 2, &a);
    members.tick(at(30));
    assert_eq!((called(&members), members.standings().len()), (vec![], 0));
    assert_ne!(members.revision(), revision);
}

#[test]
fn two_nodes_of_one_address_are_one_member_while_either_is_there() {
    let mut members = Members::default();
    members.on_groups(at(0), vec![group("a", None)]);
    let a = key("a", 1);
    members.join(at(0), 1, &a, own("x")).unwrap();
    members.join(at(0), 2, &a, own("y")).unwrap();
    let of = |members: &Members| members.called()[0].labels[0].1.clone();
    assert_eq!((members.called().len(), of(&members)), (1, "x".to_owned()));
    assert_eq!(members.standings()[0].connected, ["x", "y"]);
    members.leave(at(1), 1, &a);
    members.tick(at(100));
    assert_eq!((members.called().len(), of(&members)), (1, "y".to_owned()));
}

#[test]
fn it_is_called_once_its_probe_has_succeeded_often_enough_and_until_it_has_failed_often_enough() {
    let mut members = Members::default();
    members.on_groups(at(0), vec![group("a", Some(probe(5, 2, 2)))]);
    let a = key("a", 1);
    members.join(at(0), 1, &a, own("x")).unwrap();
    assert_eq!((called(&members).len(), members.deadline()), (0, Some(at(5))));
    let mut answer = |now: u64, is_well: bool| {
        members.tick(at(now));
        let ask = members.next_ask().unwrap_or_else(|| panic!("nobody is asked at {now}"));
        assert_eq!((members.next_ask(), members.deadline()), (None, None), "no probe overlaps itself");
        let answer = if is_well { Ok(()) } else { Err("no".to_owned()) };
        members.on_answer(at(now), &ask.key, ask.number, answer);
        called(&members).len()
    };
    let all = [(5, true, 0), (8, false, 0), (11, true, 0), (14, true, 1), (17, false, 1), (20, true, 1)];
    for (now, is_well, expected) in all.into_iter().chain([(23, false, 1), (26, false, 0), (29, true, 0)]) {
        assert_eq!(answer(now, is_well), expected, "at {now}");
    }
    assert!(!members.standings()[0].is_ready);
}

#[test]
fn those_of_a_process_before_this_one_are_called_until_they_had_time_to_come_again() {
    let mut first = Members::default();
    first.on_groups(at(0), vec![group("a", Some(probe(0, 1, 1)))]);
    let a = key("a", 1);
    first.join(at(0), 1, &a, own("x")).unwrap();
    first.tick(at(0));
    let ask = first.next_ask().unwrap();
    first.on_answer(at(0), &ask.key, ask.number, Ok(()));
    let mut second = Members::default();
    second.restore(at(50), first.called());
    second.on_groups(at(50), vec![group("a", Some(probe(0, 1, 1)))]);
    assert_eq!(called(&second), ["10.0.0.1"]);
    second.join(at(55), 1, &a, own("x")).unwrap();
    assert_eq!(second.called(), first.called());
    // One that does not come again.
    let mut third = Members::default();
    third.restore(at(50), first.called());
    third.on_groups(at(50), vec![group("a", None)]);
    third.tick(at(89));
    assert_eq!(called(&third), ["10.0.0.1"]);
    third.tick(at(90));
    assert!(called(&third).is_empty());
}

/// What is known of one member: all that has happened to it.
#[derive(Debug, Default)]
struct RefMember {
    streams: Vec<(u64, Own)>,
    elsewhere: BTreeMap<String, (Own, bool)>,
    own: Own,
    left: u64,
    began_ready: bool,
    /// Since it came, or its probe is another.
    answers: Vec<bool>,
    due: Option<u64>,
    asked: Option<(u64, u64)>,
}

impl RefMember {
    /// Somebody has come or gone.
    fn changed(&mut self, now: u64, had_any: bool, group: Option<&Option<GroupProbe>>) {
        let is_asked = self.due.is_some() || self.asked.is_some();
        if let Some((_, first)) = self.streams.first() {
            self.own = first.clone();
            if group == Some(&None) {
                (self.began_ready, self.answers) = (true, Vec::new());
            }
            if !is_asked && group.is_some_and(Option::is_some) {
                self.due = Some(now);
            }
        } else if let Some((own, is_ready)) = self.elsewhere.values().next() {
            (self.own, self.began_ready) = (own.clone(), *is_ready);
            (self.answers, self.due, self.asked) = (Vec::new(), None, None);
        } else if had_any {
            self.left = now;
        }
    }

    fn has_any(&self) -> bool {
        !self.streams.is_empty() || !self.elsewhere.is_empty()
    }

    /// From the first answer on.
    fn is_ready(&self, probe: Option<&GroupProbe>) -> bool {
        let Some(probe) = probe.filter(|_| !self.answers.is_empty()) else { return self.began_ready };
        let mut is_ready = self.began_ready;
        for end in 1..=self.answers.len() {
            let so_far = &self.answers[..end];
            let last = so_far[end - 1];
            let run = so_far.iter().rev().take_while(|answer| **answer == last).count() as u32;
            match (is_ready, last) {
                (true, false) if run >= probe.failure_threshold => is_ready = false,
                (false, true) if run >= probe.success_threshold => is_ready = true,
                _ => {}
            }
        }
        is_ready
    }
}

#[test]
fn whatever_happens_those_are_called_who_are_there_and_ready() {
    let only = std::env::var("NARU_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..200, |seed| seed..seed + 1) {
        walk(seed);
    }
}

fn walk(seed: u64) {
    let mut chance = Chance::split(seed, "members");
    let mut members = Members::default();
    let mut groups: BTreeMap<String, Option<GroupProbe>> = BTreeMap::new();
    let mut known: BTreeMap<Key, RefMember> = BTreeMap::new();
    let (mut now, mut stream) = (0_u64, 0_u64);
    let (mut seen, mut revision) = (Vec::new(), 0);
    members.on_groups(at(0), Vec::new());
    for step in 0..600 {
        let place = format!("seed {seed}, step {step}");
        let some = key(if chance.below(2) == 0 { "a" } else { "b" }, chance.below(3) as u8);
        match chance.below(12) {
            0 if chance.below(4) == 0 => {
                let before = groups.clone();
                groups.clear();
                for name in ["a", "b"] {
                    if chance.below(5) > 0 {
                        let some = (chance.below(3) > 0).then(|| {
                            probe(chance.below(3), 1 + chance.below(2) as u32, 1 + chance.below(3) as u32)
                        });
                        groups.insert(name.to_owned(), some);
                    }
                }
                for (key, member) in &mut known {
                    let (old, new) = (before.get(&key.group), groups.get(&key.group));
                    let is_elsewhere = member.streams.is_empty() && member.has_any();
                    if old == new && old.is_some() || is_elsewhere {
                        continue;
                    }
                    let is_ready = member.is_ready(old.and_then(Option::as_ref));
                    member.began_ready = is_ready || new == Some(&None);
                    (member.answers, member.asked) = (Vec::new(), None);
                    member.due = new.is_some_and(Option::is_some).then_some(now);
                }
                let all = groups.iter().map(|(name, probe)| group(name, probe.clone())).collect();
                members.on_groups(at(now), all);
            }
            0..4 => {
                stream += 1;
                let own = own(["x", "y"][chance.below(2) as usize]);
                let joined = members.join(at(now), stream, &some, own.clone());
                let probe = groups.get(&some.group);
                assert_eq!(joined, probe.map(|_| ()).ok_or(Refused::NoGroup), "{place}");
                if let Some(probe) = probe {
                    let member = known.entry(some).or_insert_with(|| RefMember {
                        began_ready: probe.is_none(),
                        due: probe.as_ref().map(|probe| now + probe.initial_delay.as_secs()),
                        ..RefMember::default()
                    });
                    member.streams.push((stream, own));
                    member.changed(now, true, Some(probe));
                }
            }
            4..8 => {
                let Some(member) = known.get_mut(&some).filter(|member| !member.streams.is_empty()) else {
                    // Nobody's stream.
                    members.leave(at(now), stream + 1, &some);
                    continue;
                };
                let (gone, _) = member.streams.remove(chance.below(member.streams.len() as u64) as usize);
                member.changed(now, true, groups.get(&some.group));
                members.leave(at(now), gone, &some);
            }
            8 if chance.below(2) == 0 => {
                let mut others: BTreeMap<String, Vec<Connected>> = BTreeMap::new();
                for plane in ["p", "q"] {
                    for last in 0..3 {
                        if chance.below(4) == 0 {
                            let Key { namespace, group, address, network } = key("a", last);
                            let (labels, locality) = (own(plane).labels, String::new());
                            let member = Member { namespace, group, address, network, locality, labels };
                            let is_ready = chance.below(2) == 0;
                            let of_plane = others.entry(plane.to_owned()).or_default();
                            of_plane.push(Connected { member, is_ready });
                        }
                    }
                }
                for last in 0..3 {
                    let key = key("a", last);
                    let mut elsewhere = BTreeMap::new();
                    for (plane, all) in &others {
                        for one in all.iter().filter(|one| one.member.address == key.address) {
                            let own = Own { id: String::new(), ..own(plane) };
                            elsewhere.insert(plane.clone(), (own, one.is_ready));
                        }
                    }
                    if elsewhere.is_empty() && !known.contains_key(&key) {
                        continue;
                    }
                    let member = known.entry(key).or_default();
                    let (had_any, had_others) = (member.has_any(), !member.elsewhere.is_empty());
                    member.elsewhere = elsewhere;
                    if had_others || member.has_any() && !member.elsewhere.is_empty() {
                        member.changed(now, had_any, groups.get("a"));
                    }
                }
                members.on_others(at(now), others);
            }
            8..10 => {
                let awaited = known.iter_mut().filter(|(_, member)| member.asked.is_some());
                let mut awaited: Vec<_> = awaited.collect();
                if awaited.is_empty() {
                    continue;
                }
                let which = chance.below(awaited.len() as u64) as usize;
                let (key, member) = &mut awaited[which];
                let (number, asked) = member.asked.take().unwrap();
                let is_well = chance.below(3) > 0;
                member.answers.push(is_well);
                member.due = Some((asked + 3).max(now));
                let answer = if is_well { Ok(()) } else { Err("no".to_owned()) };
                members.on_answer(at(now), key, number, answer.clone());
                // A second answer is none.
                members.on_answer(at(now), key, number, answer);
            }
            _ => {
                let next = members.deadline().map_or(now + 4, |next| next.since(at(0)).as_secs());
                now = (now + chance.below(4)).min(next.max(now));
                known.retain(|_, member| member.has_any() || member.left + GRACE.as_secs() > now);
                members.tick(at(now));
                let mut asked: BTreeMap<Key, u64> = BTreeMap::new();
                while let Some(ask) = members.next_ask() {
                    assert_eq!(Some(&Some(ask.probe)), groups.get(&ask.key.group), "{place}");
                    assert!(asked.insert(ask.key, ask.number).is_none(), "{place}: asked twice");
                }
                for (key, member) in &mut known {
                    let is_due = member.due.is_some_and(|due| due <= now);
                    assert_eq!(
                        asked.remove(key).is_some_and(|number| {
                            member.asked = Some((number, now));
                            true
                        }),
                        is_due,
                        "{place}: {key:?} {member:?}"
                    );
                    member.due = member.due.filter(|_| !is_due);
                }
                assert!(asked.is_empty(), "{place}: {asked:?}");
            }
        }
        let expected = known.iter().filter(|(key, member)| {
            groups.get(&key.group).is_some_and(|probe| member.is_ready(probe.as_ref()))
        });
        let expected: Vec<Member> = expected
            .map(|(key, member)| Member {
                namespace: key.namespace.clone(),
                group: key.group.clone(),
                address: key.address,
                network: key.network.clone(),
                locality: String::new(),
                labels: member.own.labels.clone(),
            })
            .collect();
        assert_eq!(members.called(), expected, "{place}");
        assert_eq!(members.standings().len(), known.len(), "{place}");
        assert_eq!(members.revision() != revision, expected != seen, "{place}: told, or not told");
        (seen, revision) = (expected, members.revision());
    }
}
