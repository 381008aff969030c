//! What a block asks, point by point; the tables and the reference must both say so.
#![allow(clippy::unwrap_used, clippy::panic)]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use naru_base::share::Denominator;
use naru_base::{Chance, Fraction};
use naru_route::reference::{self, Decision};
use naru_route::{Field, Place, Subject, Table, Verdict};
use naru_spec::{
    Action, Domain, Forward, HeaderMatch, HeaderOps, HeaderTest, Match, NameMatch, PathMatch, Pattern,
    RouteTable, Rule, Scheme, StringMatch, TlsRequirement, ValueTest, VirtualHost,
};

fn rule(matches: Vec<Match>) -> Rule {
    Rule {
        gate: Vec::new(),
        name: String::new(),
        origin: String::new(),
        matches,
        action: Action::Forward(Box::new(Forward::to("cluster"))),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    }
}

fn host(domains: &[&str], rules: Vec<Rule>) -> VirtualHost {
    VirtualHost {
        name: "host".to_owned(),
        domains: domains.iter().map(|domain| Domain::parse(domain).unwrap()).collect(),
        rules,
        tls: TlsRequirement::None,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    }
}

fn routes(virtual_hosts: Vec<VirtualHost>) -> RouteTable {
    RouteTable { virtual_hosts, ..RouteTable::default() }
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

#[derive(Clone)]
struct Request {
    method: Method,
    authority: &'static str,
    path: &'static str,
    query: Option<&'static str>,
    headers: HeaderMap,
    source: &'static str,
    scheme: Scheme,
    is_internal: bool,
    draw: u64,
}

fn get(path: &'static str) -> Request {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    Request {
        method: Method::GET,
        authority: "a.test",
        path,
        query,
        headers: HeaderMap::new(),
        source: "192.0.2.1",
        scheme: Scheme::Http,
        is_internal: false,
        draw: 0,
    }
}

impl Request {
    fn header(mut self, name: &'static str, value: &'static str) -> Request {
        self.headers.append(name, HeaderValue::from_static(value));
        self
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            method: &self.method,
            authority: self.authority,
            path: self.path,
            query: self.query,
            scheme: self.scheme,
            headers: &self.headers,
            source: self.source.parse().unwrap(),
            is_internal: self.is_internal,
            draw: self.draw,
            claims: None,
        }
    }
}

fn verdict(routes: &RouteTable, request: &Request) -> Verdict {
    let table = Table::compile(routes, &|_| None).unwrap();
    let found = table.find(&request.subject(), &mut ());
    assert_eq!(found, reference::find(routes, &request.subject()));
    found
}

/// How many bytes of the path a block matches, if it takes the request.
fn matched(block: &Match, request: &Request) -> Option<u32> {
    match verdict(&routes(vec![host(&["*"], vec![rule(vec![block.clone()])])]), request) {
        Verdict::Rule { matched, .. } => Some(matched),
        _ => None,
    }
}

fn takes(block: &Match, request: &Request) -> bool {
    matched(block, request).is_some()
}

#[test]
fn the_exact_domain_comes_before_the_longest_suffix_before_the_longest_prefix_before_the_star() {
    let all = ["a.b.test", "*.b.test", "*.test", "a.b.*", "a.*", "*", "*-x.test"];
    // From the least to the most important, so that order alone would choose wrongly.
    let table =
        routes(all.iter().rev().map(|domain| host(&[domain], vec![rule(vec![Match::default()])])).collect());
    let check = |authority: &'static str, expected: &str| {
        let request = Request { authority, ..get("/") };
        let Verdict::Rule { rule, .. } = verdict(&table, &request) else { panic!("{authority}") };
        assert_eq!(all[all.len() - 1 - rule.0 as usize], expected, "{authority}");
    };
    check("a.b.test", "a.b.test");
    check("A.B.Test", "a.b.test");
    check("x.b.test", "*.b.test");
    check("x.y.b.test", "*.b.test");
    check("b.test", "*.test");
    check("y-x.test", "*-x.test");
    check("a.b.other", "a.b.*");
    check("a.other", "a.*");
    check("a.b.test:8080", "a.b.*");
    check("other", "*");
    check("", "*");
}

#[test]
fn a_star_stands_for_at_least_one_character() {
    let table = routes(vec![host(&["*.test", "a.*"], vec![rule(vec![Match::default()])])]);
    let check = |authority: &'static str, expected: bool| {
        let found = verdict(&table, &Request { authority, ..get("/") });
        assert_eq!(found != Verdict::NoVirtualHost, expected, "{authority}");
    };
    check(".test", false);
    check("x.test", true);
    check("a.", false);
    check("a.x", true);
    check("", false);
}

#[test]
fn a_very_long_authority_is_looked_up_like_any_other() {
    let name: &'static str = Box::leak(format!("{}.Test", "x".repeat(1_000)).into_boxed_str());
    let table = routes(vec![host(&["*.test"], vec![rule(vec![Match::default()])])]);
    assert_eq!(
        verdict(&table, &Request { authority: name, ..get("/") }),
        Verdict::Rule { rule: naru_route::RuleId(0), matched: 1 }
    );
}

#[test]
fn paths_match_as_they_are_written() {
    let check = |path: PathMatch, ignore_path_case: bool, sent: &'static str, expected: Option<u32>| {
        let block = Match { path: path.clone(), ignore_path_case, ..Match::default() };
        assert_eq!(matched(&block, &get(sent)), expected, "{path:?} {sent}");
    };
    let prefix = || PathMatch::Prefix("/api".to_owned());
    check(prefix(), false, "/api", Some(4));
    check(prefix(), false, "/apix", Some(4));
    check(prefix(), false, "/api/x?y", Some(4));
    check(prefix(), false, "/ap", None);
    check(prefix(), false, "/Api", None);
    check(prefix(), true, "/Api/x", Some(4));
    let segment = || PathMatch::SegmentPrefix("/api".to_owned());
    check(segment(), false, "/api", Some(4));
    check(segment(), false, "/api?x", Some(4));
    check(segment(), false, "/api/", Some(4));
    check(segment(), false, "/apix", None);
    check(segment(), false, "/API/x", None);
    check(segment(), true, "/API/x", Some(4));
    let exact = || PathMatch::Exact("/a/B".to_owned());
    check(exact(), false, "/a/B?c", Some(4));
    check(exact(), false, "/a/b", None);
    check(exact(), false, "/a/B/", None);
    check(exact(), true, "/A/b", Some(4));
    let regex = || PathMatch::Regex(pattern("/a/[0-9]+"));
    check(regex(), false, "/a/12?x", Some(5));
    check(regex(), false, "/a/12/", None);
    check(regex(), true, "/A/12", None);
    check(PathMatch::Regex(pattern("(?i)/a/.*")), false, "/A/x", Some(4));
}

#[test]
fn the_first_rule_wins_and_the_first_block_says_what_matched() {
    let prefix = |text: &str| Match { path: PathMatch::Prefix(text.to_owned()), ..Match::default() };
    let table = routes(vec![host(
        &["*"],
        vec![
            rule(vec![]),
            rule(vec![prefix("/long/path"), prefix("/")]),
            rule(vec![Match { path: PathMatch::Exact("/long/path".to_owned()), ..Match::default() }]),
        ],
    )]);
    let expected = |matched| Verdict::Rule { rule: naru_route::RuleId(1), matched };
    assert_eq!(verdict(&table, &get("/long/path")), expected(10));
    assert_eq!(verdict(&table, &get("/short")), expected(1));
    assert_eq!(verdict(&table, &get("*")), Verdict::NoRule { virtual_host: 0 });
    let options = |path| Request { method: Method::OPTIONS, ..get(path) };
    assert_eq!(verdict(&table, &options("*")), Verdict::ServerOptions { virtual_host: 0 });
    assert_eq!(verdict(&table, &options("/short")), expected(1));
}

fn header(test: HeaderTest) -> HeaderMatch {
    HeaderMatch { name: HeaderName::from_static("x-a"), test, invert: false, missing_as_empty: false }
}

fn with_header(header: HeaderMatch) -> Match {
    Match { headers: vec![header], ..Match::default() }
}

#[test]
fn a_missing_header_fails_every_test_of_a_value_even_an_inverted_one() {
    let value = || header(HeaderTest::Value(StringMatch::exact("1")));
    let check = |header: HeaderMatch, absent: bool, one: bool, two: bool, empty: bool| {
        let block = with_header(header.clone());
        assert_eq!(takes(&block, &get("/")), absent, "absent: {header:?}");
        assert_eq!(takes(&block, &get("/").header("x-a", "1")), one, "1: {header:?}");
        assert_eq!(takes(&block, &get("/").header("x-a", "2")), two, "2: {header:?}");
        assert_eq!(takes(&block, &get("/").header("x-a", "")), empty, "empty: {header:?}");
    };
    check(value(), false, true, false, false);
    check(HeaderMatch { invert: true, ..value() }, false, false, true, true);
    check(HeaderMatch { invert: true, missing_as_empty: true, ..value() }, true, false, true, true);
    let empty =
        || HeaderMatch { missing_as_empty: true, ..header(HeaderTest::Value(StringMatch::exact(""))) };
    check(empty(), true, false, false, true);
    check(HeaderMatch { invert: true, ..empty() }, false, true, true, false);
    let present = |is_present| header(HeaderTest::Present(is_present));
    check(present(true), false, true, true, true);
    check(present(false), true, false, false, false);
    check(HeaderMatch { invert: true, ..present(true) }, true, false, false, false);
    check(HeaderMatch { invert: true, ..present(false) }, false, true, true, true);
    // As in Envoy: an absent header that counts as empty counts as present.
    check(HeaderMatch { missing_as_empty: true, ..present(true) }, true, true, true, true);
}

#[test]
fn several_values_of_a_header_are_one_joined_by_commas() {
    let twice = get("/").header("x-a", "1").header("x-a", "2");
    let exact = |text: &str| with_header(header(HeaderTest::Value(StringMatch::exact(text))));
    assert!(takes(&exact("1,2"), &twice));
    assert!(!takes(&exact("1"), &twice));
    assert!(!takes(&exact("1, 2"), &twice));
}

#[test]
fn a_range_is_of_decimal_numbers_and_leaves_its_end_out() {
    let block = with_header(header(HeaderTest::Range { start: -10, end: 0 }));
    for (value, expected) in [
        ("-10", true),
        ("-1", true),
        (" -5 ", true),
        ("0", false),
        ("-11", false),
        ("-5x", false),
        ("", false),
    ] {
        assert_eq!(takes(&block, &get("/").header("x-a", value)), expected, "{value:?}");
    }
    let inverted =
        with_header(HeaderMatch { invert: true, ..header(HeaderTest::Range { start: 1, end: 2 }) });
    assert!(takes(&inverted, &get("/").header("x-a", "no number")));
    assert!(!takes(&inverted, &get("/").header("x-a", "1")));
    assert!(!takes(&inverted, &get("/")));
}

#[test]
fn texts_are_compared_in_five_ways_and_without_case_where_asked() {
    let check = |test: ValueTest, ignore_case: bool, value: &'static str, expected: bool| {
        let block = with_header(header(HeaderTest::Value(StringMatch { test: test.clone(), ignore_case })));
        assert_eq!(takes(&block, &get("/").header("x-a", value)), expected, "{test:?} {value:?}");
    };
    let text = |text: &str| text.to_owned();
    check(ValueTest::Exact(text("Ab")), false, "Ab", true);
    check(ValueTest::Exact(text("Ab")), false, "ab", false);
    check(ValueTest::Exact(text("Ab")), true, "aB", true);
    check(ValueTest::Prefix(text("Ab")), false, "Abc", true);
    check(ValueTest::Prefix(text("Ab")), false, "A", false);
    check(ValueTest::Prefix(text("Ab")), true, "aBc", true);
    check(ValueTest::Suffix(text("Ab")), false, "cAb", true);
    check(ValueTest::Suffix(text("Ab")), false, "Abc", false);
    check(ValueTest::Suffix(text("Ab")), true, "CAB", true);
    check(ValueTest::Contains(text("Ab")), false, "xAbx", true);
    check(ValueTest::Contains(text("Ab")), false, "xabx", false);
    check(ValueTest::Contains(text("Ab")), true, "xabx", true);
    check(ValueTest::Contains(text("")), false, "", true);
    check(ValueTest::Regex(pattern("A|b+")), false, "bb", true);
    check(ValueTest::Regex(pattern("A|b+")), false, "Ab", false);
    // An expression says itself that case does not matter.
    check(ValueTest::Regex(pattern("A|b+")), true, "a", false);
}

fn name(test: Option<&str>, invert: bool) -> NameMatch {
    NameMatch { name: "a".to_owned(), test: test.map(StringMatch::exact), invert }
}

#[test]
fn the_first_query_parameter_of_a_name_counts_as_it_was_sent() {
    let check = |test: NameMatch, sent: &'static str, expected: bool| {
        let block = Match { query: vec![test.clone()], ..Match::default() };
        assert_eq!(takes(&block, &get(sent)), expected, "{test:?} {sent}");
    };
    check(name(Some("1"), false), "/?a=1", true);
    check(name(Some("1"), false), "/?b=2&a=1&a=2", true);
    check(name(Some("2"), false), "/?a=1&a=2", false);
    check(name(Some("1"), false), "/?a=%31", false);
    check(name(Some("1"), false), "/?aa=1", false);
    check(name(Some("1"), false), "/", false);
    check(name(Some("1"), true), "/", true);
    check(name(Some("1"), true), "/?a=1", false);
    check(name(Some("1"), true), "/?a=2", true);
    check(name(Some(""), false), "/?a", true);
    check(name(Some(""), false), "/?a=", true);
    check(name(Some("=b"), false), "/?a==b", true);
    check(name(None, false), "/?a", true);
    check(name(None, false), "/?a=", true);
    check(name(None, false), "/?", false);
    check(name(None, true), "/?b", true);
}

#[test]
fn the_first_cookie_of_a_name_in_all_headers_counts() {
    let check = |test: NameMatch, cookies: &[&'static str], expected: bool| {
        let block = Match { cookies: vec![test.clone()], ..Match::default() };
        let request = cookies.iter().fold(get("/"), |request, cookie| request.header("cookie", cookie));
        assert_eq!(takes(&block, &request), expected, "{test:?} {cookies:?}");
    };
    check(name(Some("1"), false), &["a=1"], true);
    check(name(Some("1"), false), &["b=2; a=1; a=2"], true);
    check(name(Some("1"), false), &["b=2", "a=1"], true);
    check(name(Some("2"), false), &["a=1", "a=2"], false);
    check(name(Some("1"), false), &["a=\"1\""], true);
    check(name(Some("1=2"), false), &["a=1=2"], true);
    check(name(Some("1"), false), &[], false);
    check(name(Some("1"), true), &[], true);
    check(name(None, false), &["a="], true);
    check(name(None, false), &["a"], false);
    check(name(None, false), &["aa=1"], false);
}

#[test]
fn a_source_lies_in_any_of_the_nets_in_either_spelling() {
    let check = |nets: &[&str], source: &'static str, expected: bool| {
        let sources = nets.iter().map(|net| net.parse().unwrap()).collect();
        let block = Match { sources, ..Match::default() };
        assert_eq!(takes(&block, &Request { source, ..get("/") }), expected, "{nets:?} {source}");
    };
    check(&["10.0.0.0/8", "192.168.0.0/16"], "192.168.1.1", true);
    check(&["10.0.0.0/8", "10.1.0.0/16"], "10.255.255.255", true);
    check(&["10.0.0.0/8"], "11.0.0.0", false);
    check(&["10.0.0.1/8"], "10.200.0.0", true);
    check(&["10.0.0.0/8"], "::ffff:10.1.2.3", true);
    check(&["::ffff:10.0.0.0/104"], "10.1.2.3", true);
    check(&["::/0"], "10.1.2.3", false);
    check(&["0.0.0.0/0"], "2001:db8::1", false);
    check(&["2001:db8::/32"], "2001:db8:1::1", true);
}

#[test]
fn grpc_is_told_by_its_content_type() {
    let block = Match { grpc: true, ..Match::default() };
    for (value, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        assert_eq!(takes(&block, &get("/").header("content-type", value)), expected, "{value}");
    }
    assert!(!takes(&block, &get("/")));
}

#[test]
fn a_block_asks_for_everything_it_says() {
    let block = Match {
        path: PathMatch::Prefix("/a".to_owned()),
        method: Some(StringMatch::exact("POST")),
        scheme: Some(StringMatch::exact("http")),
        authority: Some(StringMatch::exact("a.test")),
        ..Match::default()
    };
    let request = Request { method: Method::POST, ..get("/a") };
    assert!(takes(&block, &request));
    assert!(!takes(&block, &get("/a")));
    assert!(!takes(&block, &Request { path: "/b", ..request.clone() }));
    assert!(!takes(&block, &Request { authority: "A.test", ..request.clone() }));
    assert!(!takes(&Match { scheme: Some(StringMatch::exact("https")), ..block }, &request));
}

#[test]
fn a_fraction_takes_its_share_and_all_rules_see_the_same_draw() {
    let half = || Match { fraction: Some(Fraction::new(50, Denominator::Hundred)), ..Match::default() };
    let table = routes(vec![host(&["*"], vec![rule(vec![half()]), rule(vec![half()])])]);
    let compiled = Table::compile(&table, &|_| None).unwrap();
    let mut chance = Chance::new(5);
    let mut counts = [0; 2];
    for _ in 0..10_000 {
        let request = Request { draw: chance.draw(), ..get("/") };
        match compiled.find(&request.subject(), &mut ()) {
            Verdict::Rule { rule, .. } => counts[rule.index()] += 1,
            other => assert_eq!(other, Verdict::NoRule { virtual_host: 0 }),
        }
    }
    assert!((4_800..5_200).contains(&counts[0]), "{counts:?}");
    assert_eq!(counts[1], 0);
}

#[test]
fn a_virtual_host_may_ask_for_tls_of_all_or_of_clients_from_outside() {
    let check = |tls: TlsRequirement, scheme: Scheme, is_internal: bool, is_redirected: bool| {
        let table = routes(vec![VirtualHost { tls, ..host(&["*"], vec![rule(vec![Match::default()])]) }]);
        let found = verdict(&table, &Request { scheme, is_internal, ..get("/") });
        assert_eq!(
            found == Verdict::RequiresTls { virtual_host: 0 },
            is_redirected,
            "{tls:?} {scheme:?} {is_internal}"
        );
    };
    for is_internal in [false, true] {
        check(TlsRequirement::None, Scheme::Http, is_internal, false);
        check(TlsRequirement::All, Scheme::Http, is_internal, true);
        check(TlsRequirement::All, Scheme::Https, is_internal, false);
        check(TlsRequirement::ExternalOnly, Scheme::Http, is_internal, !is_internal);
        check(TlsRequirement::ExternalOnly, Scheme::Https, is_internal, false);
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    let bad = |text: &str| Match { path: PathMatch::Regex(pattern(text)), ..Match::default() };
    let bad_method = Match {
        method: Some(StringMatch { test: ValueTest::Regex(pattern("(?=x)")), ignore_case: false }),
        ..Match::default()
    };
    let table = routes(vec![
        host(&["a"], vec![rule(vec![Match::default()]), rule(vec![bad("(a"), bad_method])]),
        host(&["b"], vec![rule(vec![bad("(?<!a)b")])]),
    ]);
    let problems = Table::compile(&table, &|_| None).unwrap_err();
    let places: Vec<Place> = problems.iter().map(|(place, _)| *place).collect();
    let place = |virtual_host, rule| Place { virtual_host, rule: Some(rule) };
    assert_eq!(places, [place(0, 1), place(0, 1), place(1, 0)]);
}

#[test]
fn an_explanation_says_for_each_block_what_decided() {
    let table = routes(vec![host(
        &["*"],
        vec![
            rule(vec![Match { path: PathMatch::Exact("/x".to_owned()), ..Match::default() }]),
            rule(vec![
                with_header(HeaderMatch {
                    invert: true,
                    ..header(HeaderTest::Value(StringMatch::exact("1")))
                }),
                Match { method: Some(StringMatch::exact("POST")), ..Match::default() },
            ]),
            rule(vec![Match::default()]),
            rule(vec![Match::default()]),
        ],
    )]);
    let request = get("/y").header("x-a", "1");
    let considered = reference::explain(&table, &request.subject());
    let failed = |field, name: &str, expected: &str, actual: &str| Decision::Failed {
        field,
        name: name.to_owned(),
        expected: expected.to_owned(),
        actual: Some(actual.to_owned()),
    };
    let decisions: Vec<_> =
        considered.iter().map(|one| (one.rule.0, one.block, one.decided_by.clone())).collect();
    assert_eq!(
        decisions,
        [
            (0, 0, failed(Field::Path, "", "is '/x'", "/y")),
            (1, 0, failed(Field::Header, "x-a", "not: is '1'", "1")),
            (1, 1, failed(Field::Method, "", "is 'POST'", "GET")),
            (2, 0, Decision::Matched),
        ]
    );
}

#[test]
fn connect_is_taken_by_rules_for_it_and_they_take_nothing_else() {
    let block = |path: PathMatch| Match { path, ..Match::default() };
    let table = routes(vec![
        host(
            &["a.test"],
            vec![
                rule(vec![block(PathMatch::Prefix(String::new()))]),
                rule(vec![block(PathMatch::Regex(pattern(".*")))]),
                rule(vec![
                    Match {
                        headers: vec![header(HeaderTest::Value(StringMatch::exact("1")))],
                        ..block(PathMatch::Connect)
                    },
                    block(PathMatch::Exact("/x".to_owned())),
                ]),
                rule(vec![block(PathMatch::Connect)]),
            ],
        ),
        host(&["*"], vec![rule(vec![block(PathMatch::default())])]),
    ]);
    let (compiled, model) = (Table::compile(&table, &|_| None).unwrap(), reference::RefTable::new(&table));
    let check = |request: &Request, is_connect: bool, expected: Option<u32>| {
        let subject = request.subject();
        let found = match is_connect {
            true => [compiled.find_for(true, &subject, &mut ()), model.find_connect(&subject)],
            false => [compiled.find(&subject, &mut ()), model.find(&subject)],
        };
        let rules = found.map(|verdict| match verdict {
            Verdict::Rule { rule, .. } => Some(rule.0),
            _ => None,
        });
        assert_eq!(rules, [expected; 2]);
    };
    check(&get("*"), true, Some(3));
    check(&get("*").header("x-a", "1"), true, Some(2));
    check(&get("/x").header("x-a", "1"), false, Some(0));
    check(&Request { authority: "b.test", ..get("*") }, true, None);
    check(&Request { authority: "b.test", ..get("/") }, false, Some(4));
}
