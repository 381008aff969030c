//! Which tokens requests have to show, held against a slow model that asks each requirement by itself.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use naru_base::{Chance, Json};
use naru_identity::{Authentication, Denial, Known, Token, Verdict, Wanted};
use naru_route::Subject;
use naru_spec::{
    ClaimHeader, DataSource, Jwt, JwtHeader, JwtKeys, JwtProvider, JwtRequirement, JwtRule, Match, PathMatch,
    Scheme,
};

const NOW: i64 = 1_000_000;

fn provider(name: &str) -> JwtProvider {
    JwtProvider {
        claims_name: name.to_owned(),
        from_headers: vec![JwtHeader { name: HeaderName::from_static("x-auth"), prefix: "Bearer ".into() }],
        ..JwtProvider::new(name, name, JwtKeys::Local(DataSource::Inline(Vec::new())))
    }
}

fn named(name: &str) -> JwtRequirement {
    JwtRequirement::Provider { name: name.to_owned(), audiences: Vec::new() }
}

fn asking(providers: Vec<JwtProvider>, requires: JwtRequirement) -> Authentication {
    let rules = vec![JwtRule { matches: Match::default(), requires }];
    Authentication::compile(&Jwt { providers, rules, ..Jwt::default() }).unwrap()
}

/// Tokens are `issuer.ok`, `issuer.bad` (not signed) or `issuer.late` (expired).
fn read(
    authentication: &Authentication,
    wanted: &Wanted,
) -> Result<(naru_identity::Accepted, Arc<Token>), Denial> {
    let (issuer, fate) = wanted.token.split_once('.').ok_or(Denial::Unreadable("Jwt is no token"))?;
    let expiry = if fate == "late" { 1 } else { NOW };
    let claims = Json::Map(vec![("iss".into(), issuer.into()), ("exp".into(), expiry.into())]);
    let accepted = authentication.accept(wanted, &claims, NOW)?;
    if fate == "bad" {
        return Err(Denial::Unreadable("Jwt verification fails"));
    }
    Ok((accepted, Arc::new(Token { claims, payload: wanted.token.as_str().into() })))
}

fn headers(tokens: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = tokens.iter().map(|(name, token)| {
        let value = if *name == "x-auth" { format!("Bearer {token}") } else { (*token).to_owned() };
        (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap())
    });
    pairs.collect()
}

fn subject<'a>(method: &'a Method, path: &'a str, headers: &'a HeaderMap) -> Subject<'a> {
    Subject {
        method,
        authority: "a.example",
        path,
        query: None,
        scheme: Scheme::Http,
        headers,
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_internal: false,
        draw: 0,
        claims: None,
    }
}

/// Whether it passes; how often somebody had to read a token.
fn decide(
    authentication: &Authentication,
    headers: &mut HeaderMap,
    query: &mut Option<String>,
) -> (Verdict, usize) {
    let mut known = Known::default();
    let rule = authentication.rule(&subject(&Method::GET, "/", headers)).unwrap();
    for asked in 0.. {
        match authentication.decide(rule, &known, headers, query) {
            Verdict::Ask(wanted) => {
                let answer = read(authentication, &wanted);
                known.learn(&wanted, answer);
            }
            verdict => return (verdict, asked),
        }
    }
    unreachable!()
}

#[track_caller]
fn check(requires: JwtRequirement, tokens: &[(&'static str, &str)], expected: Result<(), Denial>) {
    let authentication = asking(vec![provider("a"), provider("b")], requires);
    let (verdict, _) = decide(&authentication, &mut headers(tokens), &mut None);
    let verdict = match verdict {
        Verdict::Pass(_) => Ok(()),
        Verdict::Deny(denial) => Err(denial),
        Verdict::Ask(_) => panic!("asked without an end"),
    };
    assert_eq!(verdict, expected, "{tokens:?}");
}

const BAD: Denial = Denial::Unreadable("Jwt verification fails");

#[test]
fn a_token_of_the_provider_has_to_be_there_and_valid() {
    let bearer = |token: &'static str| [("x-auth", token)];
    check(named("a"), &[], Err(Denial::Missing));
    check(named("a"), &bearer("a.ok"), Ok(()));
    check(named("a"), &bearer("a.bad"), Err(BAD));
    check(named("a"), &bearer("a.late"), Err(Denial::Expired));
    check(named("a"), &bearer("b.ok"), Err(Denial::UnknownIssuer));
    check(named("a"), &bearer("nothing"), Err(Denial::Unreadable("Jwt is no token")));
}

#[test]
fn all_tokens_in_the_places_of_a_provider_are_valid() {
    let both = |first, second| [("x-auth", first), ("x-auth", second)];
    check(named("a"), &both("a.ok", "a.ok"), Ok(()));
    check(named("a"), &both("a.ok", "a.bad"), Err(BAD));
    check(named("a"), &both("a.bad", "a.ok"), Err(BAD));
}

#[test]
fn a_missing_token_may_be_allowed_and_a_bad_one_is_not() {
    let optional = || JwtRequirement::Any(vec![named("a"), JwtRequirement::AllowMissing]);
    check(optional(), &[], Ok(()));
    check(optional(), &[("x-auth", "a.ok")], Ok(()));
    check(optional(), &[("x-auth", "a.bad")], Err(BAD));
    check(optional(), &[("x-auth", "b.ok")], Err(Denial::UnknownIssuer));
    check(JwtRequirement::AllowMissing, &[("x-auth", "b.ok")], Ok(()));
    check(JwtRequirement::AllowMissing, &[("x-auth", "c.ok")], Err(Denial::UnknownIssuer));
    check(JwtRequirement::AllowMissing, &[("x-auth", "b.bad")], Err(BAD));
    check(JwtRequirement::AllowMissingOrFailed, &[("x-auth", "b.bad")], Ok(()));
    let lax = JwtRequirement::Any(vec![named("a"), JwtRequirement::AllowMissingOrFailed]);
    check(lax, &[("x-auth", "a.bad")], Ok(()));
}

#[test]
fn of_several_faults_the_one_that_says_most_is_told() {
    let any = || JwtRequirement::Any(vec![named("a"), named("b")]);
    check(any(), &[], Err(Denial::Missing));
    check(any(), &[("x-auth", "b.ok")], Ok(()));
    check(any(), &[("x-auth", "b.bad")], Err(BAD));
    check(any(), &[("x-auth", "a.bad")], Err(BAD));
    check(any(), &[("x-auth", "c.ok")], Err(Denial::UnknownIssuer));
    let all = || JwtRequirement::All(vec![named("a"), named("b")]);
    check(all(), &[("x-auth", "a.ok")], Err(Denial::UnknownIssuer));
}

#[test]
fn a_request_that_no_rule_takes_is_asked_for_nothing() {
    let rule = |prefix: &str, requires| JwtRule {
        matches: Match { path: PathMatch::Prefix(prefix.into()), ..Match::default() },
        requires,
    };
    let rules = vec![rule("/open", JwtRequirement::Nothing), rule("/", named("a"))];
    let said = Jwt { providers: vec![provider("a")], rules, bypass_cors_preflight: true, ..Jwt::default() };
    let authentication = Authentication::compile(&said).unwrap();
    let none = HeaderMap::new();
    assert_eq!(authentication.rule(&subject(&Method::GET, "/open/x", &none)), Some(0));
    assert_eq!(authentication.rule(&subject(&Method::GET, "/x", &none)), Some(1));
    assert_eq!(authentication.rule(&subject(&Method::GET, "x", &none)), None);
    let mut preflight = HeaderMap::new();
    preflight.insert("origin", HeaderValue::from_static("http://b.example"));
    preflight.insert("access-control-request-method", HeaderValue::from_static("PUT"));
    assert_eq!(authentication.rule(&subject(&Method::OPTIONS, "/x", &preflight)), None);
    assert_eq!(authentication.rule(&subject(&Method::PUT, "/x", &preflight)), Some(1));
}

#[test]
fn a_request_that_passes_is_told_of_and_loses_its_token() {
    let told = JwtProvider {
        payload_header: Some(HeaderName::from_static("x-payload")),
        claim_headers: vec![ClaimHeader { header: HeaderName::from_static("x-iss"), claim: "iss".into() }],
        from_headers: vec![JwtHeader { name: HeaderName::from_static("x-token"), prefix: String::new() }],
        from_params: vec!["t".into()],
        ..provider("a")
    };
    let authentication = asking(vec![told], named("a"));
    let mut given = headers(&[("x-token", "a.ok"), ("x-iss", "forged"), ("x-other", "1")]);
    let mut query = Some("q=1&t=a.ok".to_owned());
    let rule = authentication.rule(&subject(&Method::GET, "/", &given)).unwrap();
    let mut known = Known::default();
    let verdict = loop {
        match authentication.decide(rule, &known, &mut given, &mut query) {
            Verdict::Ask(wanted) => known.learn(&wanted, read(&authentication, &wanted)),
            verdict => break verdict,
        }
    };
    let Verdict::Pass(identified) = verdict else { panic!("{verdict:?}") };
    assert_eq!(identified.claims("a").and_then(|claims| claims.get("iss")), Some(&"a".into()));
    assert_eq!(query.as_deref(), Some("q=1"));
    assert!(!given.contains_key("x-token") && given.contains_key("x-other"));
    let told: Vec<_> = given.get_all("x-iss").iter().collect();
    // One for each token that was shown, and none that the client wrote.
    assert_eq!(told, ["a", "a"]);
}

#[test]
fn audiences_of_a_requirement_stand_in_for_those_of_the_provider() {
    let strict = JwtProvider { audiences: vec!["x".into()], ..provider("a") };
    let requires = JwtRequirement::Provider { name: "a".into(), audiences: vec!["y".into()] };
    let authentication = asking(vec![strict], requires);
    let (verdict, _) = decide(&authentication, &mut headers(&[("x-auth", "a.ok")]), &mut None);
    assert_eq!(verdict, Verdict::Deny(Denial::Audience));
}

#[test]
fn a_requirement_of_a_provider_that_is_not_there_is_refused() {
    let rules = vec![JwtRule { matches: Match::default(), requires: JwtRequirement::All(vec![named("c")]) }];
    let found = Authentication::compile(&Jwt { providers: vec![provider("a")], rules, ..Jwt::default() });
    assert!(found.unwrap_err()[0].message.contains("'c'"));
}

// A walk: random requirements, random tokens, against the model.

/// What comes of a requirement, asked by itself and all of it: no order, no memory, no end before the end.
fn model(requires: &JwtRequirement, tokens: &BTreeMap<&str, Vec<&str>>) -> Result<(), Denial> {
    let judge = |provider: Option<&str>, token: &str| -> Result<(), Denial> {
        let (issuer, fate) = token.split_once('.').ok_or(Denial::Unreadable("Jwt is no token"))?;
        let is_known = provider.map_or(["a", "b", "c"].contains(&issuer), |name| name == issuer);
        match (is_known, fate) {
            (false, _) => Err(Denial::UnknownIssuer),
            (true, "late") => Err(Denial::Expired),
            (true, "bad") => Err(BAD),
            (true, _) => Ok(()),
        }
    };
    // In the order of places: headers by name, which are those of `tokens`.
    let all = || tokens.values().flatten();
    let places = |name: &str| if name == "c" { "x-c" } else { "x-auth" };
    match requires {
        JwtRequirement::Nothing => Ok(()),
        JwtRequirement::Provider { name, .. } => {
            let mine = tokens.get(places(name)).map_or(&[][..], Vec::as_slice);
            if mine.is_empty() {
                return Err(Denial::Missing);
            }
            mine.iter().rev().try_for_each(|token| judge(Some(name), token))
        }
        JwtRequirement::AllowMissingOrFailed => Ok(()),
        JwtRequirement::AllowMissing => {
            let judged = tokens
                .iter()
                .rev()
                .flat_map(|(place, list)| list.iter().rev().map(move |token| (place, token)));
            for (place, token) in judged {
                let issuer = token.split_once('.').map_or("", |(issuer, _)| issuer);
                // A place is only for those who name it.
                if token.contains('.') && places(issuer) != *place {
                    return Err(Denial::UnknownIssuer);
                }
                judge(None, token)?;
            }
            let _ = all();
            Ok(())
        }
        JwtRequirement::All(list) => list.iter().try_for_each(|inner| model(inner, tokens)),
        JwtRequirement::Any(list) => {
            let is_leave = |said: &&JwtRequirement| {
                matches!(said, JwtRequirement::AllowMissing | JwtRequirement::AllowMissingOrFailed)
            };
            let others: Vec<_> =
                list.iter().filter(|said| !is_leave(said)).map(|said| model(said, tokens)).collect();
            if others.is_empty() && !list.is_empty() {
                let failed = list.contains(&JwtRequirement::AllowMissingOrFailed);
                return if failed { Ok(()) } else { model(&JwtRequirement::AllowMissing, tokens) };
            }
            if others.contains(&Ok(())) {
                return Ok(());
            }
            let faults = || others.iter().filter_map(|other| other.err());
            let says_more = faults().rfind(|fault| !matches!(fault, Denial::Missing | Denial::UnknownIssuer));
            let unknown = faults().find(|fault| *fault == Denial::UnknownIssuer);
            let fault = says_more.or(unknown).unwrap_or(Denial::Missing);
            let is_left = list.contains(&JwtRequirement::AllowMissingOrFailed)
                || (list.contains(&JwtRequirement::AllowMissing) && fault == Denial::Missing);
            if is_left { Ok(()) } else { Err(fault) }
        }
    }
}

fn random(chance: &mut Chance, depth: u32) -> JwtRequirement {
    let pick = chance.below(if depth == 0 { 6 } else { 10 });
    match pick {
        0 => named("a"),
        1 => named("b"),
        2 => named("c"),
        3 => JwtRequirement::AllowMissing,
        4 => JwtRequirement::AllowMissingOrFailed,
        5 => JwtRequirement::Nothing,
        _ => {
            let list = (0..1 + chance.below(3)).map(|_| random(chance, depth - 1)).collect();
            if pick < 8 { JwtRequirement::Any(list) } else { JwtRequirement::All(list) }
        }
    }
}

#[test]
fn a_walk_agrees_with_the_model() {
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        for _ in 0..40 {
            let requires = random(&mut chance, 3);
            let own = JwtProvider {
                from_headers: vec![JwtHeader { name: HeaderName::from_static("x-c"), prefix: String::new() }],
                ..provider("c")
            };
            let authentication = asking(vec![provider("a"), provider("b"), own], requires.clone());
            let mut tokens: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for name in ["x-auth", "x-c"] {
                for _ in 0..chance.below(3) {
                    let token = ["a.ok", "a.bad", "b.ok", "b.late", "c.ok", "c.ok", "d.ok", "none"];
                    let token = token[chance.below(8) as usize];
                    tokens.entry(name).or_default().push(token);
                }
            }
            let pairs: Vec<_> = tokens
                .iter()
                .flat_map(|(name, list)| list.iter().map(move |token| (*name, *token)))
                .collect();
            let pairs: Vec<(&'static str, &str)> = pairs
                .iter()
                .map(|(name, token)| (if *name == "x-c" { "x-c" } else { "x-auth" }, *token))
                .collect();
            let (verdict, asked) = decide(&authentication, &mut headers(&pairs), &mut None);
            let verdict = match verdict {
                Verdict::Pass(_) => Ok(()),
                Verdict::Deny(denial) => Err(denial),
                Verdict::Ask(_) => panic!("asked without an end"),
            };
            assert_eq!(verdict, model(&requires, &tokens), "seed {seed}: {requires:?} {tokens:?}");
            assert!(asked <= 4 * 40, "seed {seed}: {asked} questions");
        }
    }
}
