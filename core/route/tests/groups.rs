//! Which group takes a request, and why.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use naru_base::{Chance, ClusterId, Weight};
use naru_route::{CompiledAction, CompiledForward, Group, Grouped, RuleId, SessionId, Subject, Table, Why};
use naru_spec::{
    Action, ClusterChoice, Domain, Forward, HeaderOps, Match, Pattern, ReadWriteGroups, ReadYourWrites,
    RouteTable, Rule, Scheme, SessionKey, StringMatch, TlsRequirement, ValueTest, VirtualHost,
    WeightedCluster,
};

const CLUSTERS: &[&str] = &["one", "two", "reads", "writes"];

fn compiled(forward: Forward) -> CompiledForward {
    let rule = Rule {
        gate: Vec::new(),
        name: "rule".to_owned(),
        origin: String::new(),
        matches: vec![Match::default()],
        action: Action::Forward(Box::new(forward)),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    };
    let host = VirtualHost {
        name: "host".to_owned(),
        domains: vec![Domain::Any],
        rules: vec![rule],
        tls: TlsRequirement::None,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    };
    let table = RouteTable { virtual_hosts: vec![host], ..RouteTable::default() };
    let id = |name: &str| (0..).zip(CLUSTERS).find(|(_, known)| **known == name).map(|(id, _)| ClusterId(id));
    let table = Table::compile(&table, &id).unwrap();
    match &table.rule(RuleId(0)).action {
        CompiledAction::Forward(forward) => forward.clone(),
        other => panic!("{other:?}"),
    }
}

fn grouped(groups: ReadWriteGroups) -> CompiledForward {
    compiled(Forward { groups: Some(Box::new(groups)), ..Forward::to("one") })
}

fn both() -> ReadWriteGroups {
    let name = |name: &str| Some(name.to_owned());
    ReadWriteGroups { read: name("reads"), write: name("writes"), ..ReadWriteGroups::default() }
}

fn by_header(name: &str, scope: &str) -> Option<ReadYourWrites> {
    Some(ReadYourWrites::by_header(Duration::from_secs(5), name.parse().unwrap(), scope).unwrap())
}

fn by_cookie(name: &str) -> Option<ReadYourWrites> {
    Some(ReadYourWrites::by_cookie(Duration::from_secs(5), name).unwrap())
}

fn subject<'a>(method: &'a Method, path: &'a str, headers: &'a HeaderMap) -> Subject<'a> {
    Subject {
        method,
        authority: "a",
        path,
        query: Some("id=1"),
        scheme: Scheme::Http,
        headers,
        source: [127, 0, 0, 1].into(),
        is_internal: false,
        draw: 7,
        claims: None,
    }
}

fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
    let all =
        all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let mut map = HeaderMap::new();
    all.for_each(|(name, value)| {
        map.append(name, value);
    });
    map
}

fn ask(forward: &CompiledForward, method: &str, path: &str, headers: &HeaderMap) -> Grouped {
    let method = method.parse().unwrap();
    forward.groups.as_ref().unwrap().group(&subject(&method, path, headers), |_| false)
}

#[test]
fn methods_that_are_safe_are_reads_unless_other_methods_are_said_to_write() {
    let plain = grouped(both());
    let said = grouped(ReadWriteGroups { write_methods: Some(vec![Method::GET]), ..both() });
    let none = HeaderMap::new();
    for (method, is_read) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("TRACE", true),
        ("POST", false),
        ("PUT", false),
        ("PATCH", false),
        ("DELETE", false),
        ("PURGE", false),
    ] {
        let why = if is_read { Why::ReadByMethod } else { Why::WriteByMethod };
        assert_eq!(ask(&plain, method, "/", &none), Grouped { why, session: None }, "{method}");
        let why = if method == "GET" { Why::WriteByMethod } else { Why::ReadByMethod };
        assert_eq!(ask(&said, method, "/", &none).why, why, "{method}");
    }
}

#[test]
fn paths_go_before_methods_and_those_of_writes_before_those_of_reads() {
    let regex =
        |text: &str| StringMatch { test: ValueTest::Regex(Pattern::new(text).unwrap()), ignore_case: false };
    let prefix = |text: &str| StringMatch { test: ValueTest::Prefix(text.into()), ignore_case: false };
    let forward = grouped(ReadWriteGroups {
        write_paths: vec![StringMatch::exact("/find/and-keep"), StringMatch::exact("/logout")],
        read_paths: vec![prefix("/find"), regex("/v[0-9]/search")],
        ..both()
    });
    let none = HeaderMap::new();
    let check = |method, path, why| assert_eq!(ask(&forward, method, path, &none).why, why, "{path}");
    check("POST", "/find", Why::ReadByPath);
    check("POST", "/v1/search", Why::ReadByPath);
    check("POST", "/v1/search/all", Why::WriteByMethod);
    check("GET", "/logout", Why::WriteByPath);
    check("GET", "/find/and-keep", Why::WriteByPath);
    check("GET", "/", Why::ReadByMethod);
}

#[test]
fn a_group_that_is_not_said_is_the_rules_own_clusters_by_their_weights() {
    let weighted = |name: &str, weight| WeightedCluster {
        name: name.to_owned(),
        weight: Weight(weight),
        host: None,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    };
    let own = ClusterChoice::weighted(vec![weighted("one", 1), weighted("two", 3)]).unwrap();
    let groups = ReadWriteGroups { read: None, ..both() };
    let forward =
        compiled(Forward { clusters: own.clone(), groups: Some(Box::new(groups)), ..Forward::to("") });
    let plain = compiled(Forward { clusters: own, ..Forward::to("") });
    let mut chance = Chance::new(5);
    let mut seen = [0; 2];
    for _ in 0..1_000 {
        let draw = chance.draw();
        let read = forward.choose_in(Group::Read, draw);
        assert_eq!(read, plain.choose(draw));
        seen[usize::from(read.index)] += 1;
        let write = forward.choose_in(Group::Write, draw);
        assert_eq!((write.cluster, forward.cluster_name(write)), (Some(ClusterId(3)), "writes"));
        assert_eq!(plain.cluster_name(write), "", "it is no choice of another rule");
    }
    assert!(seen[0] > 150 && seen[1] > 600, "{seen:?}");
    assert_eq!(forward.weights_in(Group::Write), [("writes".to_owned(), Weight(1))]);
    assert_eq!(forward.weights_in(Group::Read), plain.weights());
    let unknown = ReadWriteGroups { write: Some("nobody".to_owned()), ..both() };
    let choice = grouped(unknown);
    let write = choice.choose_in(Group::Write, 1);
    assert_eq!((write.cluster, choice.cluster_name(write)), (None, "nobody"));
}

#[test]
fn a_read_that_brings_the_cookie_is_for_the_group_for_writes() {
    let forward = grouped(ReadWriteGroups { read_your_writes: by_cookie("wrote"), ..both() });
    let check = |method, cookie, why| {
        assert_eq!(ask(&forward, method, "/", &headers(&[("cookie", cookie)])).why, why, "{cookie}");
    };
    check("GET", "wrote=1", Why::ReadAfterWrite);
    check("GET", "a=b; wrote=anything", Why::ReadAfterWrite);
    check("GET", "wrote=", Why::ReadAfterWrite);
    check("GET", "wrot=1; xwrote=1; wrote2=1", Why::ReadByMethod);
    check("POST", "wrote=1", Why::WriteByMethod);
    assert_eq!(ask(&forward, "GET", "/", &HeaderMap::new()).why, Why::ReadByMethod);
    let sessions = forward.groups.as_ref().unwrap().read_your_writes().unwrap();
    assert_eq!(sessions.cookie().unwrap(), "wrote=1; Max-Age=5; Path=/; HttpOnly");
}

#[test]
fn sessions_of_a_header_are_told_apart_by_all_of_its_values_and_by_their_scope() {
    let session = |forward: &CompiledForward, all: &[(&'static str, &'static str)]| {
        ask(forward, "GET", "/", &headers(all)).session
    };
    let forward = grouped(ReadWriteGroups { read_your_writes: by_header("x-user", "here"), ..both() });
    let other = grouped(ReadWriteGroups { read_your_writes: by_header("x-user", "there"), ..both() });
    let ann = session(&forward, &[("x-user", "ann")]);
    assert!(ann.is_some());
    assert_eq!(ann, session(&forward, &[("x-other", "1"), ("x-user", "ann")]));
    assert_eq!(session(&forward, &[("x-other", "ann")]), None);
    assert_eq!(session(&forward, &[("x-user", "")]), None, "nothing is no session");
    let mut different = vec![ann, session(&other, &[("x-user", "ann")])];
    for value in
        ["bob", "anna", "ann ", "a-rather-long-token.of-many-parts", "a-rather-long-token.of-many-part"]
    {
        different.push(session(&forward, &[("x-user", value)]));
    }
    different.push(session(&forward, &[("x-user", "ann"), ("x-user", "bob")]));
    different.push(session(&forward, &[("x-user", "bob"), ("x-user", "ann")]));
    different.push(session(&forward, &[("x-user", "annbob")]));
    different.sort();
    let count = different.len();
    different.dedup();
    assert_eq!(different.len(), count);
}

/// Says the same of a request, step by step.
fn reference(spec: &ReadWriteGroups, subject: &Subject<'_>, has_written: bool) -> Why {
    let holds = |test: &StringMatch| match &test.test {
        ValueTest::Exact(text) => subject.path == text,
        ValueTest::Prefix(text) => subject.path.starts_with(text.as_str()),
        other => panic!("{other:?}"),
    };
    let writes = match &spec.write_methods {
        Some(methods) => methods.iter().any(|method| method == subject.method),
        None => !["GET", "HEAD", "OPTIONS", "TRACE"].contains(&subject.method.as_str()),
    };
    let why = match (spec.write_paths.iter().any(holds), spec.read_paths.iter().any(holds), writes) {
        (true, _, _) => Why::WriteByPath,
        (false, true, _) => Why::ReadByPath,
        (false, false, true) => Why::WriteByMethod,
        (false, false, false) => Why::ReadByMethod,
    };
    let is_in_session = match spec.read_your_writes.as_ref().map(|sessions| sessions.session()) {
        None => false,
        Some(SessionKey::Header { name, .. }) => {
            has_written && subject.headers.get_all(name).iter().any(|value| !value.is_empty())
        }
        Some(SessionKey::Cookie(cookie)) => {
            let lines = subject.headers.get_all(COOKIE).iter();
            let mut pairs = lines.flat_map(|line| line.to_str().unwrap().split(';'));
            pairs.any(|pair| pair.trim().split_once('=').is_some_and(|(name, _)| name == cookie.name()))
        }
    };
    match why {
        Why::ReadByMethod | Why::ReadByPath if is_in_session => Why::ReadAfterWrite,
        other => other,
    }
}

#[test]
fn random_requests_are_grouped_as_the_reference_says() {
    let methods = ["GET", "HEAD", "POST", "DELETE", "PURGE"].map(|name| name.parse::<Method>().unwrap());
    const PATHS: &[&str] = &["/", "/a", "/a/b", "/ab", "/b"];
    const COOKIES: &[&str] = &["wrote=1", "x=1; wrote=2", "wrote2=1", "x=wrote=1", "wrote"];
    let mut seen = [0; 5];
    for seed in 0..256 {
        let mut chance = Chance::split(seed, "groups");
        let mut spec = both();
        let paths = |chance: &mut Chance| -> Vec<StringMatch> {
            let count = chance.below(3);
            let mut path = || {
                let text = PATHS[chance.below(5) as usize].to_owned();
                let test =
                    if chance.below(2) == 0 { ValueTest::Exact(text) } else { ValueTest::Prefix(text) };
                StringMatch { test, ignore_case: false }
            };
            (0..count).map(|_| path()).filter(|path| path.test != ValueTest::Prefix("/".into())).collect()
        };
        spec.write_paths = paths(&mut chance);
        spec.read_paths = paths(&mut chance);
        if chance.below(3) == 0 {
            spec.write_methods = Some(vec![methods[chance.below(5) as usize].clone()]);
        }
        spec.read_your_writes = match chance.below(3) {
            0 => None,
            1 => by_cookie("wrote"),
            _ => by_header("x-user", "here"),
        };
        let forward = grouped(spec.clone());
        let groups = forward.groups.as_ref().unwrap();
        for _ in 0..100 {
            let mut headers = HeaderMap::new();
            for _ in 0..chance.below(3) {
                headers.append(COOKIE, HeaderValue::from_static(COOKIES[chance.below(5) as usize]));
                headers.append("x-user", HeaderValue::from_static(["", "ann"][chance.below(2) as usize]));
            }
            let method = &methods[chance.below(5) as usize];
            let subject = subject(method, PATHS[chance.below(5) as usize], &headers);
            let has_written = chance.below(2) == 0;
            let found = groups.group(&subject, |_: SessionId| has_written);
            let expected = reference(&spec, &subject, has_written);
            assert_eq!(found.why, expected, "seed {seed}: {subject:?} of {spec:?}");
            let is_write = matches!(expected, Why::WriteByMethod | Why::WriteByPath);
            assert_eq!(found.is_write(), is_write);
            assert!(!is_write || found.group() == Group::Write, "a write is never for the other group");
            seen[expected as usize] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
}
