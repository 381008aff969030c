//! Each code of the catalog: documents of which it is said, and documents that are nearly the same, of which it is not.
#![allow(clippy::unwrap_used, clippy::panic)]

use naru_lint::{CATALOG, check, rule};

/// Documents in few words: `VS name {spec}`, each on a line of its own.
fn documents(short: &str) -> String {
    let mut out = String::new();
    for line in short.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (kind, rest) = line.split_once(' ').unwrap();
        let (name, spec) = rest.split_once(' ').unwrap_or((rest, "{}"));
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        let (api, kind, field) = match kind {
            "VS" => ("networking.istio.io/v1", "VirtualService", "spec"),
            "DR" => ("networking.istio.io/v1", "DestinationRule", "spec"),
            "GW" => ("networking.istio.io/v1", "Gateway", "spec"),
            "SE" => ("networking.istio.io/v1", "ServiceEntry", "spec"),
            "AP" => ("security.istio.io/v1", "AuthorizationPolicy", "spec"),
            "RA" => ("security.istio.io/v1", "RequestAuthentication", "spec"),
            "SVC" => ("v1", "Service", "spec"),
            "DEP" => ("apps/v1", "Deployment", "spec"),
            "NS" => ("v1", "Namespace", "spec"),
            "SC" => ("networking.istio.io/v1", "Sidecar", "spec"),
            "POD" => ("v1", "Pod", "spec"),
            "STS" => ("apps/v1", "StatefulSet", "spec"),
            "SECRET" => ("v1", "Secret", "data"),
            "EP" => ("v1", "Endpoints", ""),
            "SLICE" => ("discovery.k8s.io/v1", "EndpointSlice", ""),
            "WE" => ("networking.istio.io/v1", "WorkloadEntry", "spec"),
            "WG" => ("networking.istio.io/v1", "WorkloadGroup", "spec"),
            other => panic!("{other}?"),
        };
        let spec = match field {
            _ if kind == "Namespace" => String::new(),
            // What stands beside its metadata.
            "" => format!("{}\n", spec.trim_start_matches('{').trim_end_matches('}')),
            field => format!("{field}: {spec}\n"),
        };
        let labels = match kind {
            "EndpointSlice" => format!(", labels: {{ kubernetes.io/service-name: {name} }}"),
            "Pod" => format!(", labels: {{ app: {name}, v: one }}"),
            _ => String::new(),
        };
        out.push_str(&format!(
            "---\napiVersion: {api}\nkind: {kind}\nmetadata: {{ name: {name}, namespace: {namespace}{labels} }}\n{spec}"
        ));
    }
    out
}

fn codes(short: &str) -> Vec<&'static str> {
    let text = documents(short);
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("a.yaml", &text, &mut loaded);
    let errors: Vec<_> = loaded.problems.iter().filter(|problem| problem.is_error()).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{text}");
    let findings = check(&loaded.resources);
    for finding in &findings {
        assert!(finding.place.line > 0 && !finding.path.is_empty(), "{finding:?}");
        assert!(text.lines().count() >= finding.place.line as usize);
    }
    findings.into_iter().map(|finding| finding.rule.code).collect()
}

const SERVICE: &str = "SVC a { ports: [{ name: http, port: 80 }], selector: { app: a } }\n";
const DEPLOYMENT: &str = "DEP a { selector: { matchLabels: { app: a } }, template: { metadata: { labels: { app: a, v: one } }, spec: { containers: [{ name: c, ports: [{ containerPort: 80 }] }] } } }\n";

#[test]
fn every_code_is_said_where_it_is_meant_and_nowhere_else() {
    let both = format!("{SERVICE}{DEPLOYMENT}");
    let route = |spec: &str| {
        format!(
            "{SERVICE}VS v {{ hosts: [a], http: [{{ route: [{{ destination: {{ host: a }} }}], {spec} }}] }}"
        )
    };
    let gate = |name: &str, servers: &str| {
        format!("GW {name} {{ selector: {{ istio: g }}, servers: [{servers}] }}\n")
    };
    let http = "{ port: { number: 80, name: http, protocol: HTTP }, hosts: [a.test] }";
    let other = "{ port: { number: 80, name: http, protocol: HTTP }, hosts: [b.test] }";
    let tls = |host: &str| {
        format!(
            "{{ port: {{ number: 443, name: https, protocol: HTTPS }}, hosts: [{host}], tls: {{ mode: SIMPLE, credentialName: c }} }}"
        )
    };
    let secret = "SECRET c { tls.crt: YQ==, tls.key: YQ== }\n";
    let entry = |name: &str, protocol: &str| {
        format!(
            "SE {name} {{ hosts: [e.test], addresses: [10.0.0.1], ports: [{{ number: 80, name: p, protocol: {protocol} }}], resolution: DNS }}\n"
        )
    };
    let allow = |rule: &str| format!("{both}AP p {{ rules: [{rule}] }}");
    let matches = |first: &str, second: &str| {
        format!(
            "{SERVICE}VS v {{ hosts: [a], http: [{{ match: [{first}], route: [{{ destination: {{ host: a }} }}] }}, {{ match: [{second}], route: [{{ destination: {{ host: a }} }}] }}] }}"
        )
    };
    let cases: Vec<(&str, String, String)> = vec![
        ("IST0002", route("fault: { abort: { httpStatus: 500, percent: 10 } }"), route("fault: { abort: { httpStatus: 500, percentage: { value: 10 } } }")),
        ("IST0101", format!("{SERVICE}VS v {{ hosts: [a], http: [{{ route: [{{ destination: {{ host: b }} }}] }}] }}"), route("timeout: 1s")),
        ("IST0109", format!("{}\nVS w {{ hosts: [a.default.svc.cluster.local], http: [{{ route: [{{ destination: {{ host: a }} }}] }}] }}", route("timeout: 1s")), format!("{}\nVS w {{ hosts: [b], http: [{{ route: [{{ destination: {{ host: a }} }}] }}] }}", route("timeout: 1s"))),
        ("IST0110", format!("{DEPLOYMENT}SC s {{ workloadSelector: {{ labels: {{ app: a }} }} }}\nSC t {{ workloadSelector: {{ labels: {{ v: one }} }} }}"), format!("{DEPLOYMENT}SC s {{ workloadSelector: {{ labels: {{ app: a }} }} }}\nSC t {{ workloadSelector: {{ labels: {{ v: two }} }} }}")),
        ("IST0111", "SC s {}\nSC t {}".into(), "SC s {}\nSC x/t {}".into()),
        ("IST0112", "SVC a { ports: [{ name: http, port: 80 }, { name: http-b, port: 81 }] }\nVS v { hosts: [a], http: [{ route: [{ destination: { host: a } }] }] }".into(), "SVC a { ports: [{ name: http, port: 80 }, { name: http-b, port: 81 }] }\nVS v { hosts: [a], http: [{ route: [{ destination: { host: a, port: { number: 81 } } }] }] }".into()),
        ("IST0116", format!("{both}SVC b {{ ports: [{{ name: tcp, port: 80 }}], selector: {{ app: a }} }}"), format!("{both}SVC b {{ ports: [{{ name: http, port: 80 }}], selector: {{ app: a }} }}")),
        ("IST0118", "SVC a { ports: [{ name: web, port: 80 }] }".into(), "SVC a { ports: [{ name: web, port: 80, appProtocol: http }] }".into()),
        ("IST0127", format!("{both}AP p {{ selector: {{ matchLabels: {{ app: b }} }}, rules: [{{}}] }}"), format!("{both}AP p {{ selector: {{ matchLabels: {{ app: a }} }}, rules: [{{}}] }}")),
        ("IST0128", format!("{SERVICE}DR d {{ host: a, trafficPolicy: {{ tls: {{ mode: SIMPLE }} }} }}"), format!("{SERVICE}DR d {{ host: a, trafficPolicy: {{ tls: {{ mode: SIMPLE, caCertificates: /ca.pem }} }} }}")),
        ("IST0129", format!("{SERVICE}DR d {{ host: a, trafficPolicy: {{ portLevelSettings: [{{ port: {{ number: 80 }}, tls: {{ mode: SIMPLE }} }}] }} }}"), format!("{SERVICE}DR d {{ host: a, trafficPolicy: {{ portLevelSettings: [{{ port: {{ number: 80 }}, tls: {{ mode: DISABLE }} }}] }} }}")),
        ("IST0130", matches("{ uri: { prefix: /a } }", "{ uri: { prefix: /a/b } }"), matches("{ uri: { prefix: /a/b } }", "{ uri: { prefix: /a } }")),
        ("IST0131", matches("{ uri: { prefix: /a } }", "{ uri: { exact: /a/b } }, { uri: { prefix: /c } }"), matches("{ uri: { prefix: /a }, method: { exact: GET } }", "{ uri: { exact: /a/b } }")),
        ("IST0132", format!("{}{SERVICE}VS v {{ hosts: [b.test], gateways: [g], http: [{{ route: [{{ destination: {{ host: a }} }}] }}] }}", gate("g", http)), format!("{}{SERVICE}VS v {{ hosts: [a.test], gateways: [g], http: [{{ route: [{{ destination: {{ host: a }} }}] }}] }}", gate("g", http))),
        ("IST0134", "SE e { hosts: [e.test], ports: [{ number: 5432, name: db, protocol: TCP }], resolution: DNS }".into(), entry("e", "TCP")),
        ("IST0137", format!("{both}SVC b {{ ports: [{{ name: http, port: 81, targetPort: 80 }}], selector: {{ app: a }} }}"), format!("{both}SVC b {{ ports: [{{ name: http, port: 80, targetPort: 80 }}], selector: {{ app: a }} }}")),
        ("IST0138", format!("{secret}{}{}", gate("g", &tls("a.test")), gate("h", &tls("b.test"))), format!("{secret}{}{}", gate("g", &tls("a.test")), gate("h", http))),
        ("IST0140", format!("{both}{}DR d {{ host: a, subsets: [{{ name: one, labels: {{ v: one }} }}] }}\nVS m {{ hosts: [a], http: [{{ route: [{{ destination: {{ host: a, subset: one }} }}] }}] }}\nVS v {{ hosts: [a.test], gateways: [g], http: [{{ route: [{{ destination: {{ host: a }} }}] }}] }}", gate("g", http)), format!("{both}{}DR d {{ host: a, subsets: [{{ name: one, labels: {{ v: one }} }}] }}\nVS m {{ hosts: [a], http: [{{ route: [{{ destination: {{ host: a, subset: one }} }}] }}] }}\nVS v {{ hosts: [a.test], gateways: [g], http: [{{ route: [{{ destination: {{ host: a, subset: one }} }}] }}] }}", gate("g", http))),
        ("IST0145", format!("{}{}", gate("g", http), gate("h", http)), format!("{}{}", gate("g", http), gate("h", other))),
        ("IST0149", format!("{}{SERVICE}VS v {{ hosts: [a.test], gateways: [g], http: [{{ match: [{{ headers: {{ '@request.auth.claims.role': {{ exact: x }} }} }}], route: [{{ destination: {{ host: a }} }}] }}] }}", gate("g", http)), format!("{}{SERVICE}RA r {{ jwtRules: [{{ issuer: i, jwks: '{{}}' }}] }}\nVS v {{ hosts: [a.test], gateways: [g], http: [{{ match: [{{ headers: {{ '@request.auth.claims.role': {{ exact: x }} }} }}], route: [{{ destination: {{ host: a }} }}] }}] }}", gate("g", http))),
        ("IST0150", "SVC a { type: ExternalName, externalName: b.test, ports: [{ name: tcp, port: 443 }] }".into(), "SVC a { type: ExternalName, externalName: b.test, ports: [{ name: https, port: 443 }] }".into()),
        ("IST0161", format!("SECRET c {{ tls.crt: YQ== }}\n{}", gate("g", &tls("a.test"))), format!("{secret}{}", gate("g", &tls("a.test")))),
        ("IST0173", format!("{both}DR d {{ host: a, subsets: [{{ name: two, labels: {{ v: two }} }}] }}"), format!("{both}DR d {{ host: a, subsets: [{{ name: one, labels: {{ v: one }} }}] }}")),
        ("IST0174", format!("{SERVICE}DR d {{ host: b }}"), format!("{SERVICE}DR d {{ host: a }}")),
        ("IST0177", format!("{}{}", entry("e", "HTTP"), entry("f", "HTTPS")), entry("e", "HTTP")),
        ("KIA0102", allow("{ to: [{ operation: { methods: [get] } }] }"), allow("{ to: [{ operation: { methods: [GET] } }] }")),
        ("KIA0104", allow("{ to: [{ operation: { hosts: [b.test] } }] }"), allow("{ to: [{ operation: { hosts: [a] } }] }")),
        ("KIA0201", format!("{SERVICE}DR d {{ host: a }}\nDR e {{ host: a.default.svc.cluster.local }}"), format!("{SERVICE}DR d {{ host: a }}")),
        ("KIA0209", format!("{SERVICE}DR d {{ host: a, subsets: [{{ name: all, labels: {{}} }}] }}"), format!("{SERVICE}DR d {{ host: a, subsets: [{{ name: one, labels: {{ v: one }} }}] }}")),
        ("KIA0701", format!("{DEPLOYMENT}SVC a {{ ports: [{{ name: http, port: 80, targetPort: 81 }}], selector: {{ app: a }} }}"), both.clone()),
        ("KIA1104", format!("{SERVICE}VS v {{ hosts: [a], http: [{{ route: [{{ destination: {{ host: a }}, weight: 10 }}] }}] }}"), format!("{SERVICE}VS v {{ hosts: [a], http: [{{ route: [{{ destination: {{ host: a }}, weight: 100 }}] }}] }}")),
        ("KIA1105", format!("{SERVICE}VS v {{ hosts: [a], http: [{{ route: [{{ destination: {{ host: a }}, weight: 50 }}, {{ destination: {{ host: a }}, weight: 50 }}] }}] }}"), route("timeout: 1s")),
        ("KIA1108", format!("{}{SERVICE}VS v {{ hosts: [a.test], gateways: [g.default.svc.cluster.local], http: [{{ route: [{{ destination: {{ host: a }} }}] }}] }}", gate("g", http)), format!("{}{SERVICE}VS v {{ hosts: [a.test], gateways: [default/g], http: [{{ route: [{{ destination: {{ host: a }} }}] }}] }}", gate("g", http))),
        ("KIA1211", format!("{}{}", entry("e", "HTTP"), entry("f", "HTTP")), entry("e", "HTTP")),
        ("KIA1601", format!("NS default\n{SERVICE}DR d {{ host: a, exportTo: [nowhere] }}"), format!("NS default\n{SERVICE}DR d {{ host: a, exportTo: [default] }}")),
        ("cors-any-origin", route("corsPolicy: { allowCredentials: true, allowOrigins: [{ regex: '.*' }] }"), route("corsPolicy: { allowCredentials: true, allowOrigins: [{ exact: 'https://a.test' }] }")),
        ("failover-without-detection", format!("{SERVICE}DR d {{ host: a, trafficPolicy: {{ loadBalancer: {{ localityLbSetting: {{ failover: [{{ from: x, to: y }}] }} }} }} }}"), format!("{SERVICE}DR d {{ host: a, trafficPolicy: {{ outlierDetection: {{ consecutive5xxErrors: 5 }}, loadBalancer: {{ localityLbSetting: {{ failover: [{{ from: x, to: y }}] }} }} }} }}")),
        ("token-not-asked-for", format!("{both}RA r {{ jwtRules: [{{ issuer: i, jwks: '{{}}' }}] }}"), format!("{both}RA r {{ jwtRules: [{{ issuer: i, jwks: '{{}}' }}] }}\nAP p {{ action: DENY, rules: [{{ from: [{{ source: {{ notRequestPrincipals: ['*'] }} }}] }}] }}")),
        ("tries-longer-than-timeout", route("timeout: 2s, retries: { attempts: 2, perTryTimeout: 1s }"), route("timeout: 3s, retries: { attempts: 2, perTryTimeout: 1s }")),
        ("weights-not-100", format!("{SERVICE}{}VS v {{ hosts: [a], http: [{{ route: [{{ destination: {{ host: a }}, weight: 1 }}, {{ destination: {{ host: b }}, weight: 3 }}] }}] }}", SERVICE.replace("SVC a", "SVC b")), format!("{SERVICE}{}VS v {{ hosts: [a], http: [{{ route: [{{ destination: {{ host: a }}, weight: 25 }}, {{ destination: {{ host: b }}, weight: 75 }}] }}] }}", SERVICE.replace("SVC a", "SVC b"))),
    ];
    let mut wrong = Vec::new();
    for (code, positive, negative) in &cases {
        let (said, silent) = (codes(positive), codes(negative));
        if !said.contains(code) {
            wrong.push(format!("{code} is not said, but {said:?}, of\n{positive}"));
        }
        if silent.contains(code) {
            wrong.push(format!("{code} is said of\n{negative}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    for known in CATALOG {
        assert!(cases.iter().any(|(code, ..)| *code == known.code), "{} has no case", known.code);
    }
}

#[test]
fn the_catalog_is_in_order_and_its_codes_are_found_by_every_name() {
    assert!(CATALOG.is_sorted_by(|a, b| a.code < b.code));
    for known in CATALOG {
        for name in std::iter::once(known.code).chain(known.also.iter().copied()) {
            assert_eq!(rule(&name.to_lowercase()).map(|found| found.code), Some(known.code), "{name}");
        }
        assert!(known.explanation.ends_with('.') && !known.title.ends_with('.'), "{}", known.code);
        assert!(
            !known.explanation.contains("http://") && !known.explanation.contains("https://"),
            "{}",
            known.code
        );
    }
}

/// What is said with a code, with its path.
fn told(short: &str, code: &str) -> Vec<String> {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("a.yaml", &documents(short), &mut loaded);
    let findings = check(&loaded.resources).into_iter().filter(|finding| finding.rule.code == code);
    findings.map(|finding| format!("{}: {}", finding.path, finding.message)).collect()
}

#[test]
fn a_service_that_nothing_stands_behind_is_told_where_processes_are_known() {
    let service = "SVC b { ports: [{ name: http, port: 80 }], selector: { app: b, v: one } }\n";
    let nobody = ["spec.selector: nothing has the labels app=b,v=one, and no endpoint is written down"];
    let near = format!("{DEPLOYMENT}{service}");
    assert_eq!(told(&near, "KIA0701"), nobody);
    assert!(told(service, "KIA0701").is_empty(), "processes may run elsewhere");
    let far = format!("{}{service}", DEPLOYMENT.replace("DEP a", "DEP far/a"));
    assert!(told(&far, "KIA0701").is_empty(), "those of this namespace may run elsewhere");
    let routed = "VS v { hosts: [b], http: [{ route: [{ destination: { host: b } }] }] }";
    assert_eq!(told(&format!("{far}{routed}"), "KIA0701"), nobody);
    for there in [
        "POD b { containers: [] }\n",
        "STS b { serviceName: b, template: { metadata: { labels: { app: b, v: one } } } }\n",
        "SLICE b { endpoints: [{ addresses: [10.0.0.1] }] }",
        "EP b { subsets: [] }",
        "WE b { address: 10.0.0.1, labels: { app: b, v: one } }",
        "WG b { metadata: { labels: { app: b, v: one } }, template: {} }",
        "SE b { hosts: [b.default.svc.cluster.local], ports: [{ number: 80, name: http, protocol: HTTP }], resolution: STATIC, endpoints: [{ address: 10.0.0.1 }] }",
        "GW g { selector: { app: b, v: one }, servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }] }",
    ] {
        let said = told(&format!("{near}{there}"), "KIA0701");
        assert!(said.is_empty(), "{said:?} of {there}");
    }
    let outside = "SVC b { type: ExternalName, externalName: b.test, selector: { app: b } }";
    assert!(told(&format!("{DEPLOYMENT}{outside}"), "KIA0701").is_empty());
}

#[test]
fn a_gateway_that_is_not_there_is_told_once_wherever_it_is_named() {
    let gate = "GW g { servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: [a.test] }] }\n";
    let service = format!(
        "{gate}{SERVICE}VS v {{ hosts: [b.test], gateways: [g, nope], http: [{{ match: [{{ gateways: [edgee, g] }}], route: [{{ destination: {{ host: a }} }}] }}] }}"
    );
    let missing = told(&service, "IST0101");
    let expected = [
        "spec.gateways[1]: there is no Gateway 'nope'",
        "spec.http[0].match[0].gateways[0]: there is no Gateway 'edgee'",
    ];
    assert_eq!(missing, expected);
    assert_eq!(told(&service, "IST0132"), ["spec.hosts: the Gateway 'g' has none of the hosts b.test"]);
}

#[test]
fn what_follows_from_a_document_that_is_there_twice_is_not_told() {
    let gate = "GW g { servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: [a.test] }] }\n";
    assert_eq!(codes(&format!("{gate}{}", gate.replace("GW g", "GW h"))), ["IST0145", "IST0145"]);
    assert!(codes(&format!("{gate}{gate}")).is_empty());
}

#[test]
fn what_is_right_is_not_talked_about() {
    let found = codes(&format!(
        "{SERVICE}{DEPLOYMENT}DR d {{ host: a, subsets: [{{ name: one, labels: {{ v: one }} }}] }}
         VS v {{ hosts: [a], http: [{{ match: [{{ uri: {{ prefix: /a }} }}], route: [{{ destination: {{ host: a, subset: one }} }}] }}, {{ route: [{{ destination: {{ host: a }} }}] }}] }}"
    ));
    assert!(found.is_empty(), "{found:?}");
}
