//! What is planned again in part is what is planned as a whole.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a failing seed is replayed by an environment variable")]

use naru_base::chance::Chance;
use naru_doc::Loaded;
use naru_plan::{Client, Known, Planned, Surroundings, plan};
use naru_resource::Files;
use naru_spec::Problem;

const BASE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: s0}
spec: {ports: [{name: http, port: 80}], selector: {app: s0}}
---
apiVersion: v1
kind: Service
metadata: {name: s1}
spec: {ports: [{name: http, port: 80}, {name: http-more, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: s2, namespace: other}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [api.x.test, '*.y.test']
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: s0}
spec:
  host: s0
  subsets: [{name: v1, labels: {v: '1'}}, {name: v2, labels: {v: '2'}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: wide}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: narrow, labels: {here: yes}}
spec:
  servers: [{port: {number: 81, name: http, protocol: HTTP}, hosts: ['*.x.test', a.y.test, other/*.y.test]REDIRECT}]
";

const POLICY: &str = "\
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p}
spec: {targetRef: {kind: VirtualService, name: v1}, timeout: {auto: {max: 2s}}}
---
apiVersion: naru.dev/v1alpha1
kind: Bulkhead
metadata: {name: b}
spec: {targetRef: {kind: VirtualService, name: v2}, maxConcurrent: 3}
";

const SERVICES: usize = 10;

/// Documents of one moment, each VirtualService in a file of its own.
#[derive(Clone)]
struct Documents {
    base: String,
    services: Vec<String>,
}

fn pick<'a>(all: &[&'a str], chance: &mut Chance) -> &'a str {
    all[chance.below(all.len() as u64) as usize]
}

/// One that may be wrong in many ways.
fn service(at: usize, chance: &mut Chance) -> String {
    let hosts = [
        "s0",
        "s1",
        "s2.other.svc.cluster.local",
        "a.x.test",
        "b.x.test",
        "a.y.test",
        "api.x.test",
        "c.test",
        "d.test",
        "'*.x.test'",
        "'*.y.test'",
        "'*'",
        "s0.default.svc.cluster.local",
        "c.test",
        "e.test",
        "f.test",
    ];
    let mut named = vec![pick(&hosts, chance)];
    if chance.below(4) == 0 {
        named.push(pick(&hosts, chance));
    }
    let gateways = ["", "wide", "narrow", "mesh", "wide, narrow", "wide, mesh", "gone", "default/narrow"];
    let gateways = pick(&gateways[..if chance.below(8) == 0 { 8 } else { 6 }], chance);
    let gateways = if gateways.is_empty() { String::new() } else { format!("\n  gateways: [{gateways}]") };
    let exports = [
        "",
        "",
        "",
        "\n  exportTo: ['.']",
        "\n  exportTo: [other]",
        "\n  exportTo: ['.', other]",
        "\n  exportTo: ['~']",
    ];
    let export = pick(&exports, chance);
    let mut routes = String::new();
    for route in 0..1 + chance.below(3) {
        let name = pick(&["", "name: r, ", "name: q, "], chance);
        let block = match chance.below(6) {
            0 => String::new(),
            1 => format!("match: [{{uri: {{prefix: /{route}}}}}], "),
            2 => "match: [{uri: {regex: '/a.*'}, headers: {x: {exact: y}}}], ".to_owned(),
            3 if chance.below(4) == 0 => "match: [{uri: {regex: '('}}], ".to_owned(),
            _ => format!(
                "match: [{{uri: {{exact: /e{}}}, port: {}}}], ",
                chance.below(9),
                80 + chance.below(2)
            ),
        };
        let to = |chance: &mut Chance| {
            let usual =
                ["host: s0", "host: s0, subset: v1", "host: s0, subset: v2", "host: s1, port: {number: 81}"];
            let more = [
                "host: s2.other.svc.cluster.local",
                "host: api.x.test",
                "host: nobody",
                "host: s0, subset: v3",
            ];
            match chance.below(12) {
                0 => pick(&more, chance),
                1 => more[chance.below(2) as usize],
                _ => pick(&usual, chance),
            }
        };
        let action = match chance.below(8) {
            0 => "redirect: {uri: /there}".to_owned(),
            1 => format!("directResponse: {{status: {}}}", 200 + chance.below(9)),
            2 => {
                let (one, other) = (to(chance), to(chance));
                format!(
                    "route: [{{destination: {{{one}}}, weight: 3}}, {{destination: {{{other}}}, weight: 1}}]"
                )
            }
            3 => format!("delegate: {{name: v{}}}", chance.below(SERVICES as u64)),
            4 => format!(
                "fault: {{abort: {{httpStatus: 503, percentage: {{value: 5}}}}}}, route: [{{destination: {{{}}}}}]",
                to(chance)
            ),
            5 => format!(
                "timeout: {}s, mirror: {{{}}}, route: [{{destination: {{{}}}}}]",
                1 + chance.below(9),
                to(chance),
                to(chance)
            ),
            _ => format!("route: [{{destination: {{{}}}}}]", to(chance)),
        };
        routes.push_str(&format!("\n  - {{{name}{block}{action}}}"));
    }
    let streams = match chance.below(40) {
        0 => "\n  tcp: [{route: [{destination: {host: s0, port: {number: 80}}}]}]",
        _ => "",
    };
    let (hosts, gateways) = match chance.below(12) {
        0 => (String::new(), String::new()),
        _ => (format!("\n  hosts: [{}]", named.join(", ")), gateways),
    };
    let namespace = pick(&["", "", "", ", namespace: other"], chance);
    let created = pick(
        &[
            "",
            "",
            ", creationTimestamp: '2026-01-01T00:00:00Z'",
            ", creationTimestamp: '2025-01-01T00:00:00Z'",
        ],
        chance,
    );
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{at}{namespace}{created}}}\nspec:{hosts}{gateways}{export}\n  http:{routes}{streams}\n"
    )
}

fn load(documents: &Documents) -> Loaded {
    let mut loaded = Loaded::default();
    let mut files = Files::default();
    let named = (0..).map(|at: u32| format!("v{at}.yaml"));
    let texts =
        std::iter::once(("base.yaml".to_owned(), &documents.base)).chain(named.zip(&documents.services));
    for (name, text) in texts {
        let file = files.add(&name);
        naru_doc::load_as(file, &name, text, &mut loaded);
    }
    loaded.resources.files = files;
    loaded
}

fn surroundings(chance: &mut Chance) -> Surroundings {
    let other = Client { name: "caller".to_owned(), namespace: "other".to_owned(), ..Client::unnamed() };
    let clients = match chance.below(3) {
        0 => Vec::new(),
        1 => vec![Client::unnamed()],
        _ => vec![Client::unnamed(), other],
    };
    Surroundings { clients, is_strict: chance.below(2) == 0, ..Surroundings::default() }
}

/// Changes something, mostly one VirtualService.
fn edit(documents: &mut Documents, chance: &mut Chance) {
    match chance.below(20) {
        0 => {
            let redirect = pick(&["", "", ", tls: {httpsRedirect: true}"], chance);
            documents.base = BASE.replace("REDIRECT", redirect);
            if chance.below(3) == 0 {
                documents.base.push_str(POLICY);
            }
        }
        kind => {
            let at = chance.below(SERVICES as u64) as usize;
            documents.services[at] = match kind {
                1 | 2 => String::new(),
                // The same at another place.
                3 => format!("\n{}", documents.services[at]),
                _ => service(at, chance),
            };
            if kind == 4 {
                let at = chance.below(SERVICES as u64) as usize;
                documents.services[at] = service(at, chance);
            }
        }
    }
}

#[derive(Default, Debug)]
struct Counts {
    edits: u32,
    wrong: u32,
    /// Problems that were told in part, and configurations that were changed in part.
    told: u32,
    changed: u32,
}

fn walk(seed: u64, counts: &mut Counts) {
    let mut chance = Chance::new(seed);
    let around = surroundings(&mut chance);
    let mut documents =
        Documents { base: BASE.replace("REDIRECT", ""), services: vec![String::new(); SERVICES] };
    let mut planned = plan(&load(&documents).resources, &around);
    assert!(!planned.has_errors(), "{:?}", planned.problems);
    for step in 0..40 {
        let before = documents.clone();
        edit(&mut documents, &mut chance);
        let loaded = load(&documents);
        let whole = plan(&loaded.resources, &around);
        counts.edits += 1;
        let mut known = Known::new(load(&before).resources);
        let is_wrong = whole.problems.iter().any(Problem::is_error);
        let part =
            known.follow(loaded.resources.clone()).and_then(|mut change| change.plan(&around, &|_| true));
        if let Some(part) = part {
            let what = || format!("seed {seed}, step {step}: {:#?}", documents.services);
            let told = part.problems(&planned.problems);
            if let Some(told) = told {
                counts.told += 1;
                assert_eq!(sorted(&told), sorted(&whole.problems), "{}", what());
            }
            let mut patched = planned.clone();
            if !is_wrong && part.apply(&mut patched) {
                counts.changed += 1;
                assert_same(&patched, &whole, &what());
            }
        }
        if is_wrong {
            counts.wrong += 1;
            documents = before;
        } else {
            planned = whole;
        }
    }
}

fn sorted(problems: &[Problem]) -> Vec<String> {
    let mut all: Vec<String> = problems.iter().map(|problem| format!("{problem:?}")).collect();
    all.sort();
    all
}

fn assert_same(patched: &Planned, whole: &Planned, what: &str) {
    assert_eq!(sorted(&patched.problems), sorted(&whole.problems), "{what}");
    assert_eq!(patched.config.listeners.len(), whole.config.listeners.len(), "{what}");
    for (one, other) in patched.config.listeners.iter().zip(&whole.config.listeners) {
        assert_eq!(one, other, "{what}");
    }
    assert_eq!(patched.config.clusters, whole.config.clusters, "{what}");
    assert_eq!(patched.config, whole.config, "{what}");
}

#[test]
fn random_edits_mean_the_same_planned_in_part_and_as_a_whole() {
    let seeds = match std::env::var("NARU_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..std::env::var("NARU_SEEDS_OF_PLANS").map_or(2, |count| count.parse().unwrap()),
    };
    let is_one = seeds.end - seeds.start == 1;
    let mut counts = Counts::default();
    seeds.for_each(|seed| walk(seed, &mut counts));
    // Or nothing was shown.
    assert!(is_one || counts.told * 5 > counts.edits && counts.changed * 10 > counts.edits, "{counts:?}");
    assert!(is_one || counts.wrong * 10 > counts.edits, "{counts:?}");
}

/// Of two that speak of a host of no service, the second goes first from now on, and then is alone.
#[test]
fn who_speaks_of_a_host_in_the_mesh_changes_in_part() {
    let base =
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{name: http, port: 80}]}\n";
    let of = |at: usize, hosts: &str, created: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{at}{created}}}\nspec:\n  \
             hosts: [{hosts}]\n  http: [{{name: r{at}, route: [{{destination: {{host: s}}}}]}}]\n"
        )
    };
    let old = ", creationTimestamp: '2025-01-01T00:00:00Z'";
    let steps = [
        [of(0, "a.test, b.test", ""), of(1, "b.test, c.test, s", ""), of(2, "d.test", "")],
        [of(0, "a.test, b.test", ""), of(1, "b.test, c.test, s", old), of(2, "d.test", "")],
        [of(0, "a.test, s", ""), of(1, "b.test, c.test, s", old), of(2, "d.test", "")],
        [of(0, "a.test, s", ""), of(1, "b.test, c.test", old), of(2, "d.test", "")],
    ];
    let around = Surroundings { is_strict: true, ..Surroundings::default() };
    let documents = |step: &[String; 3]| Documents { base: base.to_owned(), services: step.to_vec() };
    let mut resources = load(&documents(&steps[0])).resources;
    let mut planned = plan(&resources, &around);
    for (at, step) in steps.iter().enumerate().skip(1) {
        let mut known = Known::new(resources);
        resources = load(&documents(step)).resources;
        let mut change = known.follow(resources.clone()).unwrap();
        assert_eq!(change.size(), (1, 2), "step {at}");
        let part = change.plan(&around, &|_| true).unwrap();
        assert!(part.apply(&mut planned), "step {at}");
        assert_same(&planned, &plan(&resources, &around), "");
        let told = planned.problems.iter().filter(|problem| problem.message.contains("the other goes first"));
        assert_eq!(told.count(), [1, 1, 1, 0][at], "step {at}: {:?}", planned.problems);
    }
}

/// Ten thousand, of which one is another: few are planned.
#[test]
fn one_changed_route_among_many_plans_few_of_them() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: wide}\n\
                   spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n---\n\
                   apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{name: http, port: 80}]}\n";
    let of = |at: usize, says: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{at}}}\nspec:\n  hosts: [h{at}.test]\n  \
             gateways: [wide]\n  http: [{{headers: {{response: {{set: {{x-says: '{says}'}}}}}}, route: [{{destination: {{host: s}}}}]}}]\n"
        )
    };
    let mut documents =
        Documents { base: gateway.to_owned(), services: (0..500).map(|at| of(at, "1")).collect() };
    let around = Surroundings { is_strict: true, ..Surroundings::default() };
    let before = load(&documents);
    let mut planned = plan(&before.resources, &around);
    let mut known = Known::new(before.resources);
    documents.services[77] = of(77, "2");
    let after = load(&documents);
    let mut change = known.follow(after.resources.clone()).unwrap();
    assert_eq!(change.size(), (1, 1));
    let part = change.plan(&around, &|_| true).unwrap();
    assert_eq!(part.hosts.len(), 1);
    assert!(part.apply(&mut planned));
    assert_same(&planned, &plan(&after.resources, &around), "");
}
