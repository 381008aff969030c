//! Who may do what, test by test, and held against a model that knows no compiled form.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use naru_base::{Chance, Json};
use naru_identity::{Asker, Authorization, Identified, Names, Token};
use naru_route::Subject;
use naru_spec::{
    AuthTest, ClaimMatch, HeaderMatch, HeaderTest, Pattern, Rbac, RbacAction, RbacPolicy, RbacRules, Scheme,
    StringMatch, ValueMatch, ValueTest,
};

struct World {
    method: Method,
    path: &'static str,
    authority: &'static str,
    headers: HeaderMap,
    peer: IpAddr,
    remote: IpAddr,
    local: SocketAddr,
    is_tls: bool,
    server_name: Option<&'static str>,
    names: Option<Names>,
    identified: Identified,
    is_http: bool,
}

impl World {
    fn new() -> World {
        World {
            method: Method::GET,
            path: "/a/b",
            authority: "a.example",
            headers: HeaderMap::new(),
            peer: [10, 0, 0, 1].into(),
            remote: [192, 0, 2, 7].into(),
            local: ([10, 0, 0, 2], 8080).into(),
            is_tls: false,
            server_name: None,
            names: None,
            identified: Identified::default(),
            is_http: true,
        }
    }

    fn with_claims(claims: &[(&str, Json)]) -> World {
        let claims = claims.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let mut world = World::new();
        world
            .identified
            .add(&Arc::from("payload"), Arc::new(Token { claims: Json::Map(claims), payload: "".into() }));
        world
    }

    fn ask<T>(&self, asked: impl FnOnce(&Asker<'_>) -> T) -> T {
        let subject = Subject {
            method: &self.method,
            authority: self.authority,
            path: self.path,
            query: Some("q=1"),
            scheme: Scheme::Http,
            headers: &self.headers,
            source: self.remote,
            is_internal: false,
            draw: 0,
            claims: None,
        };
        asked(&Asker {
            request: self.is_http.then_some(&subject),
            peer: self.peer,
            remote: (self.remote, 0).into(),
            local: self.local,
            is_tls: self.is_tls,
            is_certified: false,
            protocol: "HTTP/1.1",
            server_name: self.server_name,
            names: self.names.as_ref(),
            identified: &self.identified,
            session: None,
            now: naru_base::WallTime(0),
        })
    }
}

fn rules(action: RbacAction, policies: Vec<RbacPolicy>) -> Rbac {
    Rbac { rules: Some(RbacRules { action, policies }), ..Rbac::default() }
}

fn policy(name: &str, permission: AuthTest, principal: AuthTest) -> RbacPolicy {
    RbacPolicy {
        name: name.into(),
        origin: format!("{name}.yaml:1:1"),
        permissions: vec![permission],
        principals: vec![principal],
        condition: None,
    }
}

fn holds(test: AuthTest, world: &World) -> bool {
    let said = rules(RbacAction::Allow, vec![policy("p", test, AuthTest::Always)]);
    let compiled = Authorization::compile(&said).unwrap();
    world.ask(|asker| compiled.decide(asker).unwrap().is_allowed)
}

fn exact(text: &str) -> StringMatch {
    StringMatch::exact(text)
}

fn claim(path: &[&str], test: ValueMatch) -> AuthTest {
    AuthTest::Claim(ClaimMatch {
        claims_name: "payload".into(),
        path: path.iter().map(|&name| name.into()).collect(),
        test,
        invert: false,
    })
}

#[test]
fn each_thing_of_a_request_can_be_asked_for() {
    let mut world = World::new();
    world.headers.insert("x-a", HeaderValue::from_static("1"));
    world.server_name = Some("sni.example");
    let header = |value| {
        AuthTest::Header(HeaderMatch {
            name: HeaderName::from_static("x-a"),
            test: HeaderTest::Value(exact(value)),
            invert: false,
            missing_as_empty: false,
        })
    };
    for (test, expected) in [
        (AuthTest::Always, true),
        (AuthTest::Method(exact("GET")), true),
        (AuthTest::Method(exact("get")), false),
        (AuthTest::Authority(exact("a.example")), true),
        (AuthTest::Path(exact("/a/b")), true),
        (AuthTest::Path(exact("/a/b?q=1")), false),
        (AuthTest::PathTemplate("/a/*".into()), true),
        (AuthTest::PathTemplate("/*".into()), false),
        (header("1"), true),
        (header("2"), false),
        (AuthTest::PeerIp("10.0.0.0/8".parse().unwrap()), true),
        (AuthTest::PeerIp("192.0.2.0/24".parse().unwrap()), false),
        (AuthTest::RemoteIp("192.0.2.0/24".parse().unwrap()), true),
        (AuthTest::DestinationIp("10.0.0.2/32".parse().unwrap()), true),
        (AuthTest::DestinationPorts(8080, 8081), true),
        (AuthTest::DestinationPorts(8000, 8080), false),
        (AuthTest::ServerName(exact("sni.example")), true),
        (AuthTest::Authenticated(None), false),
        (AuthTest::All(vec![]), true),
        (AuthTest::Any(vec![]), false),
        (AuthTest::Not(Box::new(AuthTest::Always)), false),
    ] {
        assert_eq!(holds(test.clone(), &world), expected, "{test:?}");
    }
}

#[test]
fn addresses_of_ipv4_are_the_same_in_either_spelling() {
    let mut world = World::new();
    world.peer = "::ffff:10.0.0.1".parse().unwrap();
    assert!(holds(AuthTest::PeerIp("10.0.0.0/8".parse().unwrap()), &world));
}

#[test]
fn any_name_of_a_certificate_will_do() {
    let mut world = World::new();
    let is = |name: &str| AuthTest::Authenticated(Some(exact(name)));
    world.names = Some(Names {
        uris: vec!["spiffe://cluster.local/ns/default/sa/a".into()],
        dns: vec!["a.example".into()],
        subject: "CN=a".into(),
    });
    assert!(!holds(is("CN=a"), &world), "without TLS nobody has a name");
    world.is_tls = true;
    for name in ["spiffe://cluster.local/ns/default/sa/a", "a.example", "CN=a"] {
        assert!(holds(is(name), &world), "{name}");
    }
    assert!(!holds(is("CN=b"), &world));
    world.names = None;
    assert!(holds(AuthTest::Authenticated(None), &world));
    let anybody = StringMatch { test: ValueTest::Regex(Pattern::new(".+").unwrap()), ignore_case: false };
    assert!(!holds(AuthTest::Authenticated(Some(anybody)), &world));
}

#[test]
fn claims_are_asked_for_by_what_they_are() {
    let list = Json::List(vec!["x".into(), "y".into(), Json::Whole(3)]);
    let world = World::with_claims(&[
        ("sub", "me".into()),
        ("groups", list),
        ("deep", Json::Map(vec![("n".into(), Json::Whole(7))])),
        ("is", Json::Bool(true)),
        ("nothing", Json::Null),
    ]);
    let text = |value: &str| ValueMatch::Text(exact(value));
    let one_of = |test| ValueMatch::OneOf(Box::new(test));
    for (test, expected) in [
        (claim(&["sub"], text("me")), true),
        (claim(&["sub"], one_of(text("me"))), false),
        (claim(&["groups"], text("x")), false),
        (claim(&["groups"], one_of(text("y"))), true),
        (claim(&["groups"], one_of(ValueMatch::Number(3.0))), true),
        (claim(&["deep", "n"], ValueMatch::Range(7.0, 8.0)), true),
        (claim(&["deep", "n"], ValueMatch::Range(6.0, 7.0)), false),
        (claim(&["deep", "m"], ValueMatch::Present(true)), false),
        (claim(&["deep", "m"], ValueMatch::Present(false)), false),
        (claim(&["deep", "n"], ValueMatch::Present(true)), true),
        (claim(&["is"], ValueMatch::Bool(true)), true),
        (claim(&["nothing"], ValueMatch::Null), true),
        (claim(&["missing"], ValueMatch::Null), false),
        (claim(&["sub"], ValueMatch::Any(vec![text("you"), text("me")])), true),
    ] {
        assert_eq!(holds(test.clone(), &world), expected, "{test:?}");
    }
    assert!(!holds(claim(&["sub"], text("me")), &World::new()));
}

#[test]
fn an_action_says_what_a_policy_means() {
    let on = |path: &str| AuthTest::Path(exact(path));
    for (action, path, is_allowed, named) in [
        (RbacAction::Allow, "/a/b", true, Some("p")),
        (RbacAction::Allow, "/other", false, None),
        (RbacAction::Deny, "/a/b", false, Some("p")),
        (RbacAction::Deny, "/other", true, None),
        (RbacAction::Log, "/a/b", true, Some("p")),
    ] {
        let compiled =
            Authorization::compile(&rules(action, vec![policy("p", on(path), AuthTest::Always)])).unwrap();
        let world = World::new();
        world.ask(|asker| {
            let decision = compiled.decide(asker).unwrap();
            assert_eq!((decision.is_allowed, decision.policy), (is_allowed, named), "{action:?} {path}");
        });
    }
}

#[test]
fn the_first_policy_by_name_is_told_and_where_it_stands() {
    let policies = ["c", "a b", "b"].map(|name| policy(name, AuthTest::Always, AuthTest::Always)).to_vec();
    let compiled = Authorization::compile(&rules(RbacAction::Deny, policies)).unwrap();
    World::new().ask(|asker| {
        let decision = compiled.decide(asker).unwrap();
        assert_eq!((decision.policy, decision.origin), (Some("a b"), "a b.yaml:1:1"));
        assert_eq!(decision.details(), "rbac_access_denied_matched_policy[a_b]");
    });
}

#[test]
fn nobody_is_refused_by_a_shadow() {
    let shadow = Some(RbacRules { action: RbacAction::Allow, policies: vec![] });
    let compiled = Authorization::compile(&Rbac { shadow, ..Rbac::default() }).unwrap();
    assert!(compiled.only_watches());
    World::new().ask(|asker| {
        assert_eq!(compiled.decide(asker), None);
        let told = compiled.decide_in_shadow(asker).unwrap();
        assert_eq!(
            (told.is_allowed, told.details().as_str()),
            (false, "rbac_access_denied_matched_policy[none]")
        );
    });
}

#[test]
fn every_pattern_that_is_none_is_told() {
    let bad = || StringMatch { test: ValueTest::Regex(Pattern::new("(").unwrap()), ignore_case: false };
    let tests = AuthTest::All(vec![AuthTest::Path(bad()), AuthTest::PathTemplate("x".into())]);
    let found = Authorization::compile(&rules(RbacAction::Allow, vec![policy("p", tests, AuthTest::Always)]));
    assert_eq!(found.unwrap_err().len(), 2);
}

/// Without anything that is compiled, and for the tests that the walk makes.
fn model(test: &AuthTest, world: &World) -> bool {
    match test {
        AuthTest::All(tests) => tests.iter().all(|test| model(test, world)),
        AuthTest::Any(tests) => tests.iter().any(|test| model(test, world)),
        AuthTest::Not(test) => !model(test, world),
        AuthTest::Method(said) => world.is_http && said.test == ValueTest::Exact(world.method.to_string()),
        AuthTest::Path(StringMatch { test: ValueTest::Prefix(prefix), .. }) => {
            world.is_http && world.path.starts_with(prefix.as_str())
        }
        AuthTest::DestinationPorts(first, end) => {
            let port = u32::from(world.local.port());
            *first <= port && port < *end
        }
        AuthTest::Authenticated(None) => world.is_tls,
        AuthTest::Always => true,
        other => panic!("{other:?}"),
    }
}

fn random(chance: &mut Chance, depth: u32) -> AuthTest {
    let prefix = |text: &str| StringMatch { test: ValueTest::Prefix(text.into()), ignore_case: false };
    match chance.below(if depth == 0 { 5 } else { 8 }) {
        0 => AuthTest::Always,
        1 => AuthTest::Method(exact(["GET", "POST"][chance.below(2) as usize])),
        2 => AuthTest::Path(prefix(["/", "/a", "/b"][chance.below(3) as usize])),
        3 => AuthTest::DestinationPorts(8080, 8080 + chance.below(2) as u32),
        4 => AuthTest::Authenticated(None),
        5 => AuthTest::Not(Box::new(random(chance, depth - 1))),
        6 => AuthTest::All((0..chance.below(3)).map(|_| random(chance, depth - 1)).collect()),
        _ => AuthTest::Any((0..chance.below(3)).map(|_| random(chance, depth - 1)).collect()),
    }
}

#[test]
fn a_walk_agrees_with_the_model() {
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        let mut list: Vec<RbacPolicy> = Vec::new();
        for at in 0..chance.below(4) {
            let (permission, principal) = (random(&mut chance, 3), random(&mut chance, 3));
            list.push(policy(&format!("p{at}"), permission, principal));
        }
        let action = [RbacAction::Allow, RbacAction::Deny][chance.below(2) as usize];
        let compiled = Authorization::compile(&rules(action, list.clone())).unwrap();
        for _ in 0..20 {
            let mut world = World::new();
            world.method = [Method::GET, Method::POST][chance.below(2) as usize].clone();
            world.path = ["/a/b", "/b", "/"][chance.below(3) as usize];
            world.is_tls = chance.below(2) == 0;
            world.is_http = chance.below(4) > 0;
            let found = list
                .iter()
                .find(|policy| model(&policy.permissions[0], &world) && model(&policy.principals[0], &world));
            world.ask(|asker| {
                let decision = compiled.decide(asker).unwrap();
                assert_eq!(decision.policy, found.map(|policy| policy.name.as_str()), "seed {seed}");
                assert_eq!(
                    decision.is_allowed,
                    found.is_some() == (action == RbacAction::Allow),
                    "seed {seed}"
                );
            });
        }
    }
}
