//! What `Compression` and `StaticFiles` documents mean, and `maxRequestBytes`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use naru_plan::{Planned, Surroundings, plan};
use naru_spec::{
    Check, CheckKind, Coder, Compressor, ContentCoding, Gate, Http, Links, OnEtag, Rule, StaticFiles,
    defaults,
};

const ROUTES: &str = "
apiVersion: v1
kind: Service
metadata: {name: places}
spec: {ports: [{port: 80, name: http}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: other}
spec: {servers: [{port: {number: 81, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: ['*']
  gateways: [edge, other]
  http:
  - {name: list, match: [{uri: {prefix: /list}}], route: [{destination: {host: places}}]}
  - {name: site, directResponse: {status: 404}}
";

fn read(documents: &str) -> Planned {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{ROUTES}{documents}"), &mut loaded);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    plan(&loaded.resources, &Surroundings { clients: Vec::new(), ..Surroundings::default() })
}

fn planned(documents: &str) -> Planned {
    let planned = read(documents);
    assert!(planned.problems.is_empty(), "{:?}", planned.problems);
    planned
}

fn http(planned: &Planned, port: u16) -> &Http {
    let listener = planned.config.listeners.iter().find(|listener| listener.address.port() == port);
    &listener.unwrap().chains[0].http
}

fn rule<'a>(http: &'a Http, name: &str) -> &'a Rule {
    let mut rules = http.routes.virtual_hosts.iter().flat_map(|host| &host.rules);
    rules.find(|rule| rule.name == name).unwrap()
}

fn of_rule(planned: &Planned, port: u16, name: &str) -> Vec<Check> {
    let http = http(planned, port);
    http.gate.of_rule(&rule(http, name).gate)
}

fn compressors(checks: &[Check]) -> Vec<&Compressor> {
    let found = checks.iter().filter_map(|check| match &check.kind {
        CheckKind::Compress(compressor) => Some(&**compressor),
        _ => None,
    });
    found.collect()
}

fn codings(checks: &[Check]) -> Vec<&'static str> {
    compressors(checks).iter().map(|compressor| compressor.coder.coding().name()).collect()
}

fn compression(name: &str, target: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: naru.dev/v1alpha1\nkind: Compression\nmetadata: {{name: {name}}}\nspec: {{{target} {spec}}}\n"
    )
}

fn files(spec: &str) -> String {
    format!(
        "---\napiVersion: naru.dev/v1alpha1\nkind: StaticFiles\nmetadata: {{name: site}}\nspec:\n  \
         targetRef: {{kind: VirtualService, name: routes, sectionName: site}}\n{spec}"
    )
}

#[test]
fn the_closest_compression_holds_whole() {
    let route = "targetRef: {kind: VirtualService, name: routes, sectionName: list},";
    let planned = planned(
        &[
            compression("all", "", "responses: {}, requests: {codings: [gzip], maxBytes: 99, maxRatio: 7}"),
            compression("other", "targetRef: {kind: Gateway, name: other},", "responses: {codings: [gzip]}"),
            compression(
                "list",
                route,
                "responses: {codings: [br, gzip], levels: {br: 7}, minBytes: 5, contentTypes: [a/b]}",
            ),
        ]
        .concat(),
    );
    // The one that is liked most stands last.
    let site = of_rule(&planned, 80, "site");
    assert_eq!(codings(&site), ["gzip", "br", "zstd"]);
    let usual = compressors(&site)[2];
    assert_eq!(usual.coder, Coder::usual(ContentCoding::Zstd));
    assert_eq!(
        (usual.length_min, usual.etag, usual.is_first),
        (defaults::COMPRESSION_BYTES_MIN, OnEtag::Weaken, true)
    );
    assert!(usual.content_types.iter().any(|name| name == "text/event-stream"));
    let inflating = site.iter().find_map(|check| match &check.kind {
        CheckKind::Decompress(made) => Some((made.codings.clone(), made.bytes_max, made.ratio_max)),
        _ => None,
    });
    assert_eq!(inflating, Some((vec![ContentCoding::Gzip], 99, 7)));
    let other = of_rule(&planned, 81, "site");
    assert_eq!((codings(&other), other.len()), (vec!["gzip"], 1));
    for port in [80, 81] {
        let list = of_rule(&planned, port, "list");
        assert_eq!((codings(&list), list.len()), (vec!["gzip", "br"], 2));
        let brotli = compressors(&list)[1];
        assert!(matches!(brotli.coder, Coder::Brotli { quality: 7, .. }));
        assert_eq!((brotli.length_min, brotli.content_types.as_slice()), (5, &["a/b".to_owned()][..]));
    }
}

#[test]
fn a_route_turns_it_off() {
    let route = "targetRef: {kind: VirtualService, name: routes, sectionName: list},";
    let planned = planned(
        &[compression("all", "", "responses: {}"), compression("off", route, "responses: {disabled: true}")]
            .concat(),
    );
    assert_eq!(of_rule(&planned, 80, "list"), []);
    assert_eq!(of_rule(&planned, 80, "site").len(), 3);
}

#[test]
fn files_stand_behind_all_that_requests_pass() {
    let planned = planned(&[
        compression("all", "", "responses: {codings: [gzip]}"),
        files(
            "  directory: /srv/www\n  stripPrefix: /a\n  index: [i.html]\n  extensions: [.html]\n  fallback: /app.html\n  \
             precompressed: [br, gzip]\n  symlinks: follow\n  hidden: true\n  \
             cacheControl: [{path: '*.css', value: max-age=5}]\n  types: {CSS: text/x}\n  defaultType: a/b\n",
        ),
    ].concat());
    let checks = of_rule(&planned, 80, "site");
    let Some(Check { name, kind: CheckKind::Files(files) }) = checks.last() else { panic!("{checks:?}") };
    assert_eq!((name.as_str(), checks.len()), ("StaticFiles/default/site", 2));
    let expected = StaticFiles {
        prefix: "/a".into(),
        index: vec!["i.html".into()],
        endings: vec![".html".into()],
        fallback: Some("/app.html".into()),
        precompressed: vec![ContentCoding::Brotli, ContentCoding::Gzip],
        links: Links::Followed,
        gives_hidden: true,
        lifetimes: vec![naru_spec::Lifetime { pattern: "*.css".into(), cache_control: "max-age=5".into() }],
        types: vec![("css".into(), "text/x".into())],
        usual_type: "a/b".into(),
        ..StaticFiles::new("/srv/www")
    };
    assert_eq!(**files, expected);
    assert!(!of_rule(&planned, 80, "list").iter().any(|check| matches!(check.kind, CheckKind::Files(_))));
    assert_eq!(http(&planned, 80).gate.of_rule(&[]).len(), 1);
}

#[test]
fn a_route_bounds_bodies() {
    let planned = planned(
        "---\napiVersion: naru.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: small}\nspec: {targetRef: {kind: \
         VirtualService, name: routes, sectionName: list}, maxRequestBytes: 1000}\n",
    );
    let checks = of_rule(&planned, 80, "list");
    assert!(matches!(checks.as_slice(), [Check { kind: CheckKind::BodyLimit(1_000), .. }]), "{checks:?}");
    assert_eq!(http(&planned, 80).gate, Gate::default());
}

#[test]
fn what_cannot_be_is_told_with_its_place() {
    let check = |documents: String, expected: &[&str]| {
        let said: Vec<String> = read(&documents)
            .problems
            .iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect();
        assert_eq!(said, expected, "{documents}");
    };
    check(compression("a", "", ""), &["spec: it says nothing of responses and nothing of requests"]);
    check(
        compression(
            "a",
            "",
            "responses: {codings: [gzip, deflate, gzip], levels: {gzip: 10, zstd: 0}, contentTypes: [html]}",
        ),
        &[
            "spec.responses.codings[1]: 'deflate' is no coding that naru knows",
            "spec.responses.codings[2]: 'gzip' is there twice",
            "spec.responses.levels.gzip: 10 is out of range: 1 to 9",
            "spec.responses.levels.zstd: 0 is out of range: 1 to 19",
            "spec.responses.contentTypes[0]: 'html' is no media type without parameters",
        ],
    );
    check(
        compression("a", "", "requests: {maxBytes: 0, maxRatio: -1}"),
        &[
            "spec.requests.maxBytes: 0 is out of range: 1 to 18446744073709551615",
            "spec.requests.maxRatio: -1 is out of range: 1 to 4294967295",
        ],
    );
    check(
        compression("a", "targetRef: {kind: Service, name: places},", "responses: {}"),
        &["spec.targetRef.kind: a Compression cannot be attached to a Service"],
    );
    check(
        compression("a", "targetRef: {kind: Gateway, name: none},", "responses: {}"),
        &["spec.targetRef.name: there is no Gateway 'none' in default"],
    );
    check(
        [compression("a", "", "responses: {}"), compression("b", "", "responses: {}")].concat(),
        &["spec: two documents are for the same: the other is case.yaml:29:18"],
    );
    check(
        files(
            "  directory: www\n  stripPrefix: a\n  fallback: ../x\n  notFound: /404.html\n  extensions: [html]\n",
        ),
        &[
            "spec.directory: 'www' is not the whole path of a directory",
            "spec.stripPrefix: 'a' is no beginning of a path",
            "spec.fallback: '../x' is no file below the directory",
            "spec.notFound: a page for what is not found is never given where there is a fallback",
            "spec.extensions[0]: 'html' is no extension",
        ],
    );
    check(
        files("  directory: /srv\n  notFound: /404.html\n  otherwise: forward\n  defaultType: \"a\\nb\"\n"),
        &[
            "spec.otherwise: what has no file is forwarded: this page is never given",
            "spec.defaultType: 'a\nb' cannot be the value of a header",
        ],
    );
}
