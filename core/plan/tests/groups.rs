//! What `readWrite` of a policy says, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use http::Method;
use naru_plan::{Surroundings, plan};
use naru_spec::{
    Action, Config, Forward, ReadWriteGroups, ReadYourWrites, SessionKey, Severity, StringMatch, ValueTest,
};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: posts}
spec: {ports: [{name: http, port: 80}, {name: http-admin, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: search}
spec: {ports: [{name: http, port: 9080}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: posts}
spec: {host: posts, subsets: [{name: reads, labels: {}}, {name: writes, labels: {}}]}
---
";

/// The configuration, and the warnings.
fn planned(text: &str) -> (Config, Vec<String>) {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{SERVICES}{text}"), &mut loaded);
    assert!(loaded.problems.is_empty(), "{:#?}", loaded.problems);
    let planned = plan(&loaded.resources, &Surroundings::default());
    assert!(!planned.has_errors(), "{:#?}", planned.problems);
    let warnings = planned.problems.iter().filter(|problem| problem.severity == Severity::Warning);
    (planned.config, warnings.map(|problem| problem.message.clone()).collect())
}

fn routes(http: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: posts}}
spec:
  hosts: [posts]
  http:
{http}
---
"
    )
}

fn policy(name: &str, target: &str, read_write: &str) -> String {
    format!(
        "
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {{name: {name}}}
spec:
  targetRef: {{{target}}}
  readWrite: {read_write}
---
"
    )
}

const WHOLE: &str = "kind: VirtualService, name: posts";
const SERVICE: &str = "kind: Service, name: posts";

/// The rules of a host and port, as workloads call it.
fn forwards(config: &Config, host: &str) -> Vec<Forward> {
    let hosts = &config.listeners[0].chains[0].http.routes.virtual_hosts;
    let found = hosts.iter().find(|known| known.name == host).unwrap();
    let forwards = found.rules.iter().map(|rule| match &rule.action {
        Action::Forward(forward) => (**forward).clone(),
        other => panic!("{other:?}"),
    });
    forwards.collect()
}

fn groups(config: &Config) -> ReadWriteGroups {
    let [forward] = &forwards(config, "posts.default.svc.cluster.local:80")[..] else { panic!() };
    *forward.groups.clone().unwrap()
}

fn cluster(port: u16, subset: &str) -> Option<String> {
    Some(format!("outbound|{port}|{subset}|posts.default.svc.cluster.local"))
}

#[test]
fn everything_that_is_said_is_taken() {
    let route = routes("  - route: [{destination: {host: posts, port: {number: 80}}}]");
    let said = "
    read: {subset: reads}
    write: {host: search}
    writeMethods: [POST, PURGE]
    writePaths: [{exact: /logout}]
    readPaths: [{prefix: /search}, {regex: '/v[0-9]+/find'}]
    readYourWrites: {for: 5s, session: {header: X-Session}}";
    let (config, warnings) = planned(&format!("{route}{}", policy("groups", WHOLE, said)));
    let said = groups(&config);
    assert_eq!(said.read, cluster(80, "reads"));
    assert_eq!(said.write.as_deref(), Some("outbound|9080||search.default.svc.cluster.local"));
    assert_eq!(said.write_methods, Some(vec![Method::POST, Method::from_bytes(b"PURGE").unwrap()]));
    assert_eq!(said.write_paths, [StringMatch::exact("/logout")]);
    assert_eq!(said.read_paths.len(), 2);
    assert_eq!(said.read_paths[0].test, ValueTest::Prefix("/search".into()));
    let sessions = said.read_your_writes.unwrap();
    assert_eq!(sessions.lasts(), Duration::from_secs(5));
    let (name, scope) = ("x-session".parse().unwrap(), "TrafficPolicy/groups.default".into());
    assert_eq!(*sessions.session(), SessionKey::Header { name, scope });
    assert!(warnings.is_empty(), "{warnings:?}");
    for name in said.read.iter().chain(&said.write) {
        assert!(config.clusters.iter().any(|cluster| cluster.name == *name), "{name}");
    }
}

#[test]
fn a_group_is_where_the_route_leads_but_for_what_it_says() {
    let route = routes("  - route: [{destination: {host: posts, port: {number: 81}}}]");
    let check = |said: &str, read: Option<String>, write: Option<String>| {
        let (config, _) = planned(&format!("{route}{}", policy("groups", WHOLE, said)));
        let found = groups(&config);
        assert_eq!((found.read, found.write), (read, write), "{said}");
    };
    check("{write: {subset: writes}}", None, cluster(81, "writes"));
    check("{read: {subset: reads}}", cluster(81, "reads"), None);
    check("{read: {port: {number: 80}}}", cluster(80, ""), None);
    check("{write: {host: posts.default.svc.cluster.local, subset: writes}}", None, cluster(81, "writes"));
    let cookie = "{write: {subset: writes}, readYourWrites: {for: 1500ms, session: {cookie: wrote}}}";
    let (config, _) = planned(&format!("{route}{}", policy("groups", WHOLE, cookie)));
    let expected = ReadYourWrites::by_cookie(Duration::from_millis(1_500), "wrote").unwrap();
    assert_eq!(groups(&config).read_your_writes, Some(expected));
    assert_eq!(groups(&config).write_methods, None);
}

#[test]
fn the_policy_of_a_route_wins_over_that_of_its_virtual_service_and_that_over_a_services() {
    let route = routes(
        "  - {name: own, match: [{uri: {prefix: /own}}], route: [{destination: {host: posts, port: {number: 80}}}]}
  - {name: other, match: [{uri: {prefix: /other}}], route: [{destination: {host: posts, port: {number: 80}}}]}",
    );
    let of_route =
        policy("own", "kind: VirtualService, name: posts, sectionName: own", "{write: {host: search}}");
    let of_all = policy("all", WHOLE, "{write: {subset: writes}}");
    let of_service = policy("service", SERVICE, "{read: {subset: reads}}");
    let leads = |policies: &str| {
        let (config, warnings) = planned(&format!("{route}{policies}"));
        assert!(warnings.is_empty(), "{warnings:?}");
        let rules = forwards(&config, "posts.default.svc.cluster.local:80");
        let names = |forward: &Forward| {
            let groups = forward.groups.as_ref()?;
            groups.names().next().map(str::to_owned)
        };
        (names(&rules[0]), names(&rules[1]))
    };
    let search = Some("outbound|9080||search.default.svc.cluster.local".to_owned());
    assert_eq!(leads(&of_service), (cluster(80, "reads"), cluster(80, "reads")));
    assert_eq!(leads(&format!("{of_service}{of_all}")), (cluster(80, "writes"), cluster(80, "writes")));
    assert_eq!(leads(&format!("{of_service}{of_all}{of_route}")), (search.clone(), cluster(80, "writes")));
    assert_eq!(leads(&format!("{of_route}{of_service}")), (search, cluster(80, "reads")));
}

#[test]
fn the_policy_of_a_service_holds_without_a_virtual_service_on_every_port() {
    let (config, warnings) = planned(&policy("service", SERVICE, "{write: {subset: writes}}"));
    for port in [80, 81] {
        let name = format!("posts.default.svc.cluster.local:{port}");
        let [forward] = &forwards(&config, &name)[..] else { panic!() };
        assert_eq!(forward.groups.as_ref().unwrap().write, cluster(port, "writes"));
    }
    let [other] = &forwards(&config, "search.default.svc.cluster.local:9080")[..] else { panic!() };
    assert_eq!(other.groups, None);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn the_policy_of_a_service_leaves_routes_alone_that_say_more_and_that_is_told() {
    let of_service = policy("service", SERVICE, "{write: {subset: writes}}");
    let check = |route: &str, expected: &str| {
        let (config, warnings) = planned(&format!("{}{of_service}", routes(route)));
        let rules = forwards(&config, "posts.default.svc.cluster.local:80");
        assert!(rules.iter().all(|forward| forward.groups.is_none()), "{rules:?}");
        assert!(matches!(&warnings[..], [only] if only.contains(expected)), "{warnings:?}");
    };
    let own = "port: {number: 80}";
    check(
        &format!("  - route: [{{destination: {{host: posts, subset: reads, {own}}}}}]"),
        "leads to subsets",
    );
    check(
        &format!(
            "  - route: [{{destination: {{host: posts, {own}}}, weight: 1}}, {{destination: {{host: search}}, weight: 1}}]"
        ),
        "leads to other services, too",
    );
}

#[test]
fn weights_that_nothing_follows_are_told_and_those_of_one_group_are_kept() {
    let weighted = routes(
        "  - route:
    - {destination: {host: posts, port: {number: 80}}, weight: 1}
    - {destination: {host: posts, subset: reads, port: {number: 80}}, weight: 3}",
    );
    let one = policy("groups", WHOLE, "{write: {subset: writes}}");
    let (config, warnings) = planned(&format!("{weighted}{one}"));
    assert_eq!(groups(&config).write, cluster(80, "writes"));
    assert!(warnings.is_empty(), "{warnings:?}");
    let both = policy("groups", WHOLE, "{read: {subset: reads}, write: {subset: writes}}");
    let (_, warnings) = planned(&format!("{weighted}{both}"));
    assert!(matches!(&warnings[..], [only] if only.contains("all reads and writes go")), "{warnings:?}");
}
