//! What a rule says to do with a request that it takes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use naru_base::{Chance, ClusterId, Weight};
use naru_route::{
    CompiledAction, CompiledForward, CompiledHost, CompiledRule, RuleId, Subject, Table, https_location,
};
use naru_spec::{
    Action, ClusterChoice, Domain, Format, Forward, HeaderAction, HeaderOp, HeaderOps, HostRewrite, Match,
    PathMatch, PathRewrite, Pattern, QueryOps, Redirect, RedirectPath, RouteTable, Rule, Scheme,
    TlsRequirement, VirtualHost, WeightedCluster,
};

fn table_of(path: PathMatch, action: Action) -> RouteTable {
    let rule = Rule {
        gate: Vec::new(),
        name: "rule".to_owned(),
        origin: String::new(),
        matches: vec![Match { path, ..Match::default() }],
        action,
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
    RouteTable { virtual_hosts: vec![host], ..RouteTable::default() }
}

fn compile(routes: &RouteTable) -> Table {
    Table::compile(routes, &|name| match name {
        "one" => Some(ClusterId(1)),
        "two" => Some(ClusterId(2)),
        _ => None,
    })
    .unwrap()
}

fn forward_of(rule: &CompiledRule) -> &CompiledForward {
    let CompiledAction::Forward(forward) = &rule.action else { panic!("not a forward") };
    forward
}

fn prefix(text: &str) -> PathMatch {
    PathMatch::Prefix(text.to_owned())
}

/// The new target of `/path?query` under a forward, `None` where no rewrite concerns it.
fn target(path: PathMatch, forward: Forward, sent: &str) -> Option<String> {
    let matched = match &path {
        PathMatch::Prefix(text) | PathMatch::SegmentPrefix(text) | PathMatch::Exact(text) => {
            text.len() as u32
        }
        PathMatch::Regex(_) | PathMatch::Connect => sent.split('?').next().unwrap().len() as u32,
    };
    let table = compile(&table_of(path, Action::Forward(Box::new(forward))));
    let (path, query) = sent.split_once('?').map_or((sent, None), |(path, query)| (path, Some(query)));
    forward_of(table.rule(RuleId(0))).rewrite_target(path, query, matched)
}

#[test]
fn a_path_is_rewritten_by_prefix_by_expression_or_whole() {
    let check = |path: PathMatch, rewrite: PathRewrite, sent: &str, expected: &str| {
        let forward = Forward { path: Some(rewrite.clone()), ..Forward::to("one") };
        let found = target(path, forward, sent);
        assert_eq!(found.as_deref(), Some(expected), "{rewrite:?}");
    };
    let to = |text: &str| PathRewrite::Prefix(text.to_owned());
    check(prefix("/api"), to("/v1"), "/api/x?y=1", "/v1/x?y=1");
    check(prefix("/api/"), to("/"), "/api/x", "/x");
    check(prefix("/api"), to("/api"), "/api/x?y", "/api/x?y");
    check(prefix("/api/"), to(""), "/api/x", "/x");
    // Byte for byte, as Envoy does.
    check(prefix("/api"), to("/"), "/api/x", "//x");
    // Whole segments stay whole segments.
    let segment = || PathMatch::SegmentPrefix("/api".to_owned());
    check(segment(), to("/"), "/api/x", "/x");
    check(segment(), to("/v1/"), "/api/x", "/v1/x");
    check(segment(), to("/v1"), "/api/x", "/v1/x");
    check(segment(), to("/"), "/api", "/");
    check(segment(), to(""), "/api?q", "/?q");
    check(PathMatch::Exact("/a".to_owned()), to("/b"), "/a?c", "/b?c");
    check(PathMatch::Regex(Pattern::new("/a.*").unwrap()), to("/b"), "/a/x?c", "/b?c");
    check(prefix("/"), PathRewrite::Full("/all".to_owned()), "/api/x?y=1", "/all?y=1");
    let regex = PathRewrite::Regex {
        pattern: Pattern::new("^/service/([^/]+)(/.*)$").unwrap(),
        substitution: r"\2/instance/\1".to_owned(),
    };
    check(
        prefix("/"),
        regex.clone(),
        "/service/foo/v1/api?q=/service/a/b",
        "/v1/api/instance/foo?q=/service/a/b",
    );
    check(prefix("/"), regex, "/other", "/other");
}

#[test]
fn a_query_is_edited_and_what_no_operation_names_stays_as_sent() {
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let check = |remove: &[&str], set: &[(&str, &str)], add: &[(&str, &str)], sent: &str, expected: &str| {
        let query = QueryOps {
            remove: remove.iter().map(|name| (*name).to_owned()).collect(),
            set: pairs(set),
            add: pairs(add),
        };
        let forward = Forward { query: query.clone(), ..Forward::to("one") };
        let found = target(prefix("/"), forward, sent);
        assert_eq!(found.as_deref().unwrap_or(sent), expected, "{query:?} {sent}");
    };
    check(&["a"], &[], &[], "/?a=1&b=%20&a", "/?b=%20");
    check(&["a"], &[], &[], "/?a=1", "/");
    check(&["a"], &[], &[], "/", "/");
    check(&["a b"], &[], &[], "/?a+b=1&a%20b=2&a%2", "/?a%2");
    check(&[], &[("a", "x")], &[], "/?b&a=1&c&a=2", "/?b&a=x&c");
    check(&[], &[("a", "x"), ("d", "y")], &[], "/?a", "/?a=x&d=y");
    check(&[], &[("a", "x")], &[], "/", "/?a=x");
    check(&[], &[], &[("a", "1 & 2"), ("\u{e9}=", "#")], "/?a=0", "/?a=0&a=1%20%26%202&%C3%A9%3D=%23");
    check(&["a"], &[("a", "1")], &[("a", "2")], "/?a=0", "/?a=1&a=2");
}

#[test]
fn without_a_rewrite_there_is_nothing_to_ask() {
    let table = compile(&table_of(prefix("/"), Action::Forward(Box::new(Forward::to("one")))));
    let forward = forward_of(table.rule(RuleId(0)));
    assert!(!forward.has_target_rewrite());
    assert_eq!(forward.rewrite_target("/a", Some("b"), 1), None);
    assert_eq!(forward.timeout, Some(Duration::from_secs(15)));
    assert!(forward.host().is_none());
}

#[test]
fn a_host_that_no_request_could_have_is_told() {
    let with = |host: &str| {
        let forward = Forward { host: Some(HostRewrite::Literal(host.to_owned())), ..Forward::to("one") };
        Table::compile(&table_of(prefix("/"), Action::Forward(Box::new(forward))), &|_| None)
    };
    assert!(with("a b").is_err());
    assert!(with("").is_err());
    let table = with("www.test:8080").unwrap();
    let Some(CompiledHost::Literal { value, authority }) = forward_of(table.rule(RuleId(0))).host() else {
        panic!("no literal")
    };
    assert_eq!((value.to_str().unwrap(), authority.as_str()), ("www.test:8080", "www.test:8080"));
}

#[test]
fn a_host_is_that_of_the_cluster_that_is_chosen_beside_that_of_the_route() {
    let of = |host: Option<&str>| WeightedCluster {
        name: "one".to_owned(),
        weight: Weight(1),
        host: host.map(str::to_owned),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    };
    let hosts = |clusters: Vec<WeightedCluster>, of_route: Option<&str>| -> Vec<Option<String>> {
        let host = of_route.map(|host| HostRewrite::Literal(host.to_owned()));
        let clusters = ClusterChoice::weighted(clusters).unwrap();
        let forward = Forward { clusters, host, ..Forward::to("") };
        let table = compile(&table_of(prefix("/"), Action::Forward(Box::new(forward))));
        let forward = forward_of(table.rule(RuleId(0)));
        let host = |choice| Some(forward.host_of(Some(choice))?.to_str().unwrap().to_owned());
        forward.choices().map(|(choice, _)| host(choice)).collect()
    };
    let some = |host: &str| Some(host.to_owned());
    assert_eq!(hosts(vec![of(None), of(Some("b.test"))], None), [None, some("b.test")]);
    assert_eq!(hosts(vec![of(Some("a.test"))], None), [some("a.test")]);
    assert_eq!(hosts(vec![of(Some("a.test")), of(None)], Some("r.test")), [some("a.test"), None]);
    assert_eq!(hosts(vec![of(None), of(None)], None), [None, None]);
}

fn weighted(list: &[(&str, u32)]) -> Table {
    let clusters = list
        .iter()
        .map(|(name, weight)| WeightedCluster {
            name: (*name).to_owned(),
            weight: Weight(*weight),
            host: None,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        })
        .collect();
    let forward = Forward { clusters: ClusterChoice::weighted(clusters).unwrap(), ..Forward::to("") };
    compile(&table_of(prefix("/"), Action::Forward(Box::new(forward))))
}

#[test]
fn each_cluster_takes_its_share_of_the_sum_and_a_weight_of_zero_nothing() {
    let table = weighted(&[("zero", 0), ("one", 1), ("none", 0), ("two", 3), ("last", 0)]);
    let forward = forward_of(table.rule(RuleId(0)));
    let mut chance = Chance::new(9);
    let mut counts = [0; 5];
    for _ in 0..40_000 {
        counts[usize::from(forward.choose(chance.draw()).index)] += 1;
    }
    assert!((9_600..10_400).contains(&counts[1]), "{counts:?}");
    assert_eq!(counts[1] + counts[3], 40_000);
    assert_eq!(forward.choose(7), forward.choose(7));
    let names: Vec<&str> = forward.choices().map(|(_, name)| name).collect();
    assert_eq!(names, ["zero", "one", "none", "two", "last"]);
    let clusters: Vec<_> = forward.choices().map(|(choice, _)| choice.cluster).collect();
    assert_eq!(clusters, [None, Some(ClusterId(1)), None, Some(ClusterId(2)), None]);
}

#[test]
fn one_cluster_takes_all_whether_or_not_the_snapshot_has_it() {
    let table = weighted(&[("gone", 1)]);
    let forward = forward_of(table.rule(RuleId(0)));
    let choice = forward.choose(u64::MAX);
    assert_eq!(choice.cluster, None);
    assert_eq!(forward.cluster_name(choice), "gone");
    assert_eq!(forward.cluster_not_found, StatusCode::SERVICE_UNAVAILABLE);
}

fn subject<'a>(authority: &'a str, sent: &'a str, scheme: Scheme, headers: &'a HeaderMap) -> Subject<'a> {
    let (path, query) = sent.split_once('?').map_or((sent, None), |(path, query)| (path, Some(query)));
    Subject {
        method: &Method::GET,
        authority,
        path,
        query,
        scheme,
        headers,
        source: [192, 0, 2, 1].into(),
        is_internal: false,
        draw: 0,
        claims: None,
    }
}

#[test]
fn a_redirect_leads_where_envoy_would_lead() {
    use Scheme::{Http, Https};
    let check = |redirect: Redirect, scheme: Scheme, authority: &str, sent: &str, expected: &str| {
        let table = compile(&table_of(prefix("/old"), Action::Redirect(Box::new(redirect.clone()))));
        let CompiledAction::Redirect(compiled) = &table.rule(RuleId(0)).action else { panic!("no redirect") };
        let headers = HeaderMap::new();
        assert_eq!(
            compiled.location(&subject(authority, sent, scheme, &headers), 4),
            expected,
            "{redirect:?}"
        );
        assert_eq!(compiled.status, redirect.status);
    };
    let plain = Redirect::default;
    let to_https = || Redirect { scheme: Some(Https), ..plain() };
    check(to_https(), Http, "a.test", "/old?x=1", "https://a.test/old?x=1");
    check(to_https(), Http, "a.test:80", "/old", "https://a.test/old");
    check(to_https(), Http, "a.test:8080", "/old", "https://a.test:8080/old");
    check(to_https(), Http, "[::1]:80", "/old", "https://[::1]/old");
    check(to_https(), Http, "[::1]", "/old", "https://[::1]/old");
    check(to_https(), Https, "a.test:443", "/old", "https://a.test:443/old");
    check(Redirect { scheme: Some(Http), ..plain() }, Https, "a.test:443", "/old", "http://a.test/old");
    let port = |port| Redirect { port: Some(port), ..plain() };
    check(port(8443), Https, "a.test:443", "/old", "https://a.test:8443/old");
    check(port(8443), Https, "[::1]:1", "/old", "https://[::1]:8443/old");
    check(Redirect { port: Some(443), ..to_https() }, Http, "a.test:80", "/old", "https://a.test/old");
    check(port(443), Http, "a.test", "/old", "http://a.test:443/old");
    let host = || Redirect { host: Some("b.test".to_owned()), ..plain() };
    check(host(), Http, "a.test:8080", "/old?q", "http://b.test/old?q");
    check(Redirect { port: Some(81), ..host() }, Http, "a.test", "/old", "http://b.test:81/old");
    let path = |path: &str| Redirect { path: Some(RedirectPath::Full(path.to_owned())), ..plain() };
    check(path("/new"), Http, "a.test", "/old/x?q=1", "http://a.test/new?q=1");
    check(path("new"), Http, "a.test", "/old", "http://a.test/new");
    check(path("/new?own=1"), Http, "a.test", "/old?q=1", "http://a.test/new?own=1");
    check(
        Redirect { strip_query: true, ..path("/new?own=1") },
        Http,
        "a.test",
        "/old?q",
        "http://a.test/new?own=1",
    );
    check(Redirect { strip_query: true, ..path("/new") }, Http, "a.test", "/old?q=1", "http://a.test/new");
    check(Redirect { strip_query: true, ..plain() }, Http, "a.test", "/old?q=1", "http://a.test/old");
    let prefix = |text: &str| Redirect { path: Some(RedirectPath::Prefix(text.to_owned())), ..plain() };
    check(prefix("/new"), Http, "a.test", "/old/x?q=1", "http://a.test/new/x?q=1");
    let regex = Redirect {
        path: Some(RedirectPath::Regex {
            pattern: Pattern::new("/old/(.*)").unwrap(),
            substitution: r"/\1/new".to_owned(),
        }),
        status: StatusCode::PERMANENT_REDIRECT,
        ..plain()
    };
    check(regex, Http, "a.test", "/old/x?q=1", "http://a.test/x/new?q=1");
}

#[test]
fn a_host_that_requires_tls_leads_to_the_same_place_over_tls() {
    let headers = HeaderMap::new();
    let location = |authority, sent| https_location(&subject(authority, sent, Scheme::Http, &headers));
    assert_eq!(location("a.test:80", "/x?y=1"), "https://a.test/x?y=1");
    assert_eq!(location("a.test:8080", "/"), "https://a.test:8080/");
}

fn op(name: &'static str, value: &str, action: HeaderAction) -> HeaderOp {
    HeaderOp {
        name: HeaderName::from_static(name),
        value: Format::parse(value).unwrap(),
        action,
        keep_empty: false,
    }
}

fn ops(remove: &[&'static str], add: Vec<HeaderOp>) -> HeaderOps {
    HeaderOps { remove: remove.iter().map(|name| HeaderName::from_static(name)).collect(), add }
}

fn applied(routes: &RouteTable, sent: &[(&'static str, &'static str)], fill: &str) -> Vec<(String, String)> {
    let table = compile(routes);
    let rule = table.rule(RuleId(0));
    let choice = forward_of(rule).choose(0);
    let mut headers = HeaderMap::new();
    for (name, value) in sent {
        headers.append(*name, HeaderValue::from_static(value));
    }
    rule.edits(Some(choice))
        .request
        .apply(&mut headers, &mut |_, _, out| out.extend_from_slice(fill.as_bytes()));
    let mut list: Vec<(String, String)> =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    list.sort();
    list
}

fn with_rule_ops(request_headers: HeaderOps) -> RouteTable {
    let mut routes = table_of(prefix("/"), Action::Forward(Box::new(Forward::to("one"))));
    routes.virtual_hosts[0].rules[0].request_headers = request_headers;
    routes
}

#[test]
fn headers_are_removed_then_added_each_in_its_way() {
    use HeaderAction::{AddIfAbsent, Append, Overwrite, OverwriteIfPresent};
    let check = |action: HeaderAction, sent: &[(&'static str, &'static str)], expected: &[&str]| {
        let found = applied(&with_rule_ops(ops(&["gone"], vec![op("x-a", "new", action)])), sent, "");
        let values: Vec<&str> = found.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, expected, "{action:?}");
    };
    let old = &[("x-a", "old"), ("gone", "1"), ("gone", "2")][..];
    check(Append, old, &["new", "old"]);
    check(AddIfAbsent, old, &["old"]);
    check(Overwrite, old, &["new"]);
    check(OverwriteIfPresent, old, &["new"]);
    check(Append, &[], &["new"]);
    check(AddIfAbsent, &[], &["new"]);
    check(Overwrite, &[], &["new"]);
    check(OverwriteIfPresent, &[], &[]);
    let again = ops(&["x-a"], vec![op("x-a", "new", Append)]);
    assert_eq!(applied(&with_rule_ops(again), old, "")[2].1, "new");
}

#[test]
fn a_filled_value_that_is_empty_or_no_header_value_is_left_out() {
    let check = |value: &str, fill: &str, keep_empty: bool, expected: &[&str]| {
        let op = HeaderOp { keep_empty, ..op("x-a", value, HeaderAction::Overwrite) };
        let found = applied(&with_rule_ops(ops(&[], vec![op])), &[], fill);
        let values: Vec<&str> = found.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, expected, "{value} {fill:?} {keep_empty}");
    };
    check("%PROTOCOL%", "HTTP/1.1", false, &["HTTP/1.1"]);
    check("%PROTOCOL%", "", false, &[]);
    check("%PROTOCOL%", "", true, &[""]);
    check("%PROTOCOL%", "a\nb", false, &[]);
    check("", "", false, &[]);
    check("", "", true, &[""]);
}

#[test]
fn a_literal_that_no_header_may_have_is_told_with_its_place() {
    let mut routes = with_rule_ops(ops(&[], vec![op("x-a", "a\nb", HeaderAction::Append)]));
    routes.virtual_hosts[0].response_headers = ops(&[], vec![op("x-b", "\u{7f}", HeaderAction::Append)]);
    let problems = Table::compile(&routes, &|_| None).unwrap_err();
    let rules: Vec<_> = problems.iter().map(|(place, _)| place.rule).collect();
    assert_eq!(rules, [None, Some(0)]);
}

#[test]
fn outer_levels_come_later_so_what_they_overwrite_stays() {
    let level = |name: &str| {
        ops(&[], vec![op("x-set", name, HeaderAction::Overwrite), op("x-add", name, HeaderAction::Append)])
    };
    let cluster = WeightedCluster {
        name: "one".to_owned(),
        weight: Weight(1),
        host: None,
        request_headers: level("cluster"),
        response_headers: HeaderOps::default(),
    };
    let other = WeightedCluster { name: "two".to_owned(), weight: Weight(0), ..cluster.clone() };
    let forward =
        Forward { clusters: ClusterChoice::weighted(vec![cluster, other]).unwrap(), ..Forward::to("") };
    let mut routes = table_of(prefix("/"), Action::Forward(Box::new(forward)));
    routes.request_headers = level("table");
    routes.virtual_hosts[0].request_headers = level("host");
    routes.virtual_hosts[0].rules[0].request_headers = level("rule");
    let found = applied(&routes, &[], "");
    let of = |name: &str| -> Vec<&str> {
        found.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(of("x-set"), ["table"]);
    assert_eq!(of("x-add"), ["cluster", "host", "rule", "table"]);

    let table = compile(&routes);
    let mut headers = HeaderMap::new();
    table.rule(RuleId(0)).edits(None).request.apply(&mut headers, &mut |_, _, _| {});
    let order: Vec<_> = headers.get_all("x-add").iter().collect();
    assert_eq!(order, ["rule", "host", "table"]);
    assert!(table.rule(RuleId(0)).edits(None).response.is_empty());
}

#[test]
fn an_outer_removal_takes_away_what_an_inner_level_added() {
    let mut routes = with_rule_ops(ops(&[], vec![op("x-a", "inner", HeaderAction::Append)]));
    routes.virtual_hosts[0].request_headers = ops(&["x-a"], vec![]);
    assert_eq!(applied(&routes, &[], ""), []);
}

#[test]
fn a_table_can_be_shared_by_threads() {
    fn check<T: Send + Sync + Clone>() {}
    check::<Table>();
}
