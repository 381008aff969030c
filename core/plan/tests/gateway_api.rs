//! What documents of the Gateway API become: listeners, rules in their order, and statuses.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod shown;

use naru_plan::{Condition, statuses};
use naru_spec::{Action, PathRewrite, RedirectPath, StickyCarrier};
use shown::{gateways, planned};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {selector: {app: b}, ports: [{name: http, port: 80}, {name: tcp-db, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: c, namespace: other}
spec: {selector: {app: c}, ports: [{name: http, port: 80}]}
";

const GATE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gate}
spec:
  gatewayClassName: naru
  listeners: [{name: http, port: 8080, protocol: HTTP}]
";

fn route(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{{name: gate}}]\n{spec}"
    )
}

/// Documents in which nothing is wrong, and what they become.
fn become_of(documents: &str) -> String {
    let (config, told) = planned(documents);
    assert_eq!(told, [""; 0]);
    gateways(&config)
}

#[test]
fn the_most_specific_match_goes_first_whatever_the_order_of_rules_and_routes() {
    let one = route(
        "one",
        "  rules:
  - {backendRefs: [{name: a, port: 80}]}
  - {matches: [{path: {type: RegularExpression, value: /r.*}}], backendRefs: [{name: b, port: 80}]}
  - {matches: [{path: {value: /shop}}], backendRefs: [{name: a, port: 80}]}
  - {matches: [{path: {value: /shop/cart}}], backendRefs: [{name: b, port: 80}]}
",
    );
    let two = route(
        "two",
        "  rules:
  - {matches: [{path: {value: /shop}, headers: [{name: X-A, value: '1'}]}], backendRefs: [{name: b, port: 80}]}
  - {matches: [{path: {value: /shop/}, method: POST}], backendRefs: [{name: a, port: 80}]}
  - {matches: [{path: {type: Exact, value: /shop}}], backendRefs: [{name: b, port: 80}]}
  - matches: [{path: {value: /shop}, queryParams: [{name: q, value: v}]}]
    backendRefs: [{name: a, port: 80}]
",
    );
    let expected = "\
0.0.0.0:8080
  *
    =/shop -> b.default:80
    /shop/cart/* -> b.default:80
    /shop/* POST -> a.default:80
    /shop/* x-a:1 -> b.default:80
    /shop/* ?q=v -> a.default:80
    /shop/* -> a.default:80
    ~/r.* -> b.default:80
    /* -> a.default:80
";
    assert_eq!(become_of(&format!("{SERVICES}{GATE}{one}{two}")), expected);
    assert_eq!(become_of(&format!("{two}{one}{GATE}---{SERVICES}")), expected);
}

#[test]
fn of_equal_matches_the_older_route_has_it_then_the_first_by_name() {
    let rules = |backend: &str| format!("  rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]\n");
    let dated = |name: &str, date: &str, backend: &str| {
        let named = format!("{{name: {name}, creationTimestamp: {date:?}}}");
        route("x", &rules(backend)).replace("{name: x}", &named)
    };
    let first = |documents: &str| {
        let (config, _) = planned(documents);
        gateways(&config).lines().nth(2).unwrap().to_owned()
    };
    let by_name = format!("{SERVICES}{GATE}{}{}", route("z", &rules("a")), route("y", &rules("b")));
    assert_eq!(first(&by_name), "    /* -> b.default:80");
    let by_age = format!(
        "{SERVICES}{GATE}{}{}",
        dated("a", "2024-05-01T00:00:00Z", "a"),
        dated("z", "2024-04-01T00:00:00Z", "b")
    );
    assert_eq!(first(&by_age), "    /* -> b.default:80");
}

#[test]
fn a_host_is_found_by_the_most_specific_name_and_falls_back_to_less_specific_ones() {
    let rules = |path: &str, backend: &str| {
        format!(
            "  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: {backend}, port: 80}}]}}]\n"
        )
    };
    let exact = route("exact", &format!("  hostnames: [shop.example.com]\n{}", rules("/cart", "a")));
    let wild = route("wild", &format!("  hostnames: ['*.example.com']\n{}", rules("/cart/mine", "b")));
    let expected = "\
0.0.0.0:8080
  *.example.com
    /cart/mine/* -> b.default:80
  shop.example.com
    /cart/* -> a.default:80
    /cart/mine/* -> b.default:80
";
    assert_eq!(become_of(&format!("{SERVICES}{GATE}{exact}{wild}")), expected);
}

#[test]
fn listeners_are_apart_each_has_what_is_attached_to_it() {
    let gate = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gate}
spec:
  gatewayClassName: istio
  addresses: [{value: 127.0.0.1}]
  listeners:
  - {name: wide, port: 8080, protocol: HTTP, hostname: '*.example.com'}
  - {name: one, port: 8080, protocol: HTTP, hostname: one.example.com}
  - {name: other, port: 8081, protocol: HTTP}
";
    let wide = route("wide", "  rules: [{backendRefs: [{name: a, port: 80}]}]\n")
        .replace("{name: gate}", "{name: gate, sectionName: wide}");
    let other =
        route("other", "  hostnames: [one.example.com]\n  rules: [{backendRefs: [{name: b, port: 80}]}]\n")
            .replace("{name: gate}", "{name: gate, port: 8081}");
    let expected = "\
127.0.0.1:8080
  *.example.com
    /* -> a.default:80
127.0.0.1:8081
  one.example.com
    /* -> b.default:80
";
    let found = become_of(&format!("{SERVICES}{gate}{wide}{other}"));
    // A host of a listener to which nothing is attached is that listener's, and is answered 404.
    assert_eq!(
        found,
        expected.replace("    /* -> a.default:80\n", "    /* -> a.default:80\n  one.example.com\n")
    );
}

#[test]
fn filters_do_what_they_say() {
    let documents = format!(
        "{SERVICES}{GATE}{}",
        route(
            "r",
            "  rules:
  - matches: [{path: {value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
  - matches: [{path: {value: /gone}}]
    filters:
    - {type: RequestRedirect, requestRedirect: {scheme: https, hostname: x.test, statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /}}}
  - matches: [{path: {value: /strip}}]
    filters:
    - {type: URLRewrite, urlRewrite: {hostname: in.test, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: A, value: 5%}], remove: [b]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: C, value: d}]}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}, fraction: {numerator: 1, denominator: 4}}}
    timeouts: {request: 10s, backendRequest: 2s}
    retry: {attempts: 3, codes: [503], backoff: 100ms}
    sessionPersistence: {sessionName: place}
    backendRefs: [{name: a, port: 80, weight: 3}, {name: b, port: 80}]
  - matches: [{path: {value: /nobody}}]
    backendRefs: [{name: a, port: 80, weight: 0}]
",
        )
    );
    let (config, told) = planned(&documents);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("note[differs] spec.rules[2].retry.codes: POST and PATCH"), "{told:?}");
    let rules = &config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules;
    let of = |path: &str| rules.iter().find(|rule| shown::rule(rule).starts_with(path)).unwrap();
    let Action::Redirect(old) = &of("/old/").action else { panic!() };
    assert_eq!((old.status.as_u16(), &old.path), (302, &Some(RedirectPath::Prefix("/new".into()))));
    assert_eq!(old.port, Some(8080), "the listener's own");
    let Action::Redirect(gone) = &of("/gone/").action else { panic!() };
    assert_eq!((gone.status.as_u16(), gone.port), (301, None));
    assert_eq!(gone.path, Some(RedirectPath::Full("/".into())));
    let Action::Forward(strip) = &of("/strip/").action else { panic!() };
    assert!(
        matches!(&strip.path, Some(PathRewrite::Regex { pattern, .. }) if pattern.as_str() == "^/strip/*(.*)$")
    );
    assert_eq!(strip.timeout.unwrap().as_secs(), 10);
    let retry = strip.retry.as_ref().unwrap();
    assert_eq!((retry.retries_max, retry.per_try_timeout.unwrap().as_secs()), (3, 2));
    assert_eq!(retry.statuses, [503]);
    assert_eq!(strip.mirrors.len(), 1);
    assert_eq!(strip.mirrors[0].share.numerator(), 250_000);
    assert_eq!(shown::rule(of("/nobody/")), "/nobody/* -> answer 500");
    for name in strip.clusters.names() {
        let cluster = config.clusters.iter().find(|cluster| cluster.name == name).unwrap();
        let sticky = cluster.load_balancing.sticky.as_ref().unwrap();
        assert!(matches!(&sticky.carrier, StickyCarrier::Cookie(cookie) if cookie.name() == "place"));
    }
}

#[test]
fn calls_of_grpc_are_found_by_service_and_method() {
    let documents = format!(
        "{SERVICES}{GATE}---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: g}}
spec:
  parentRefs: [{{name: gate}}]
  rules:
  - {{backendRefs: [{{name: a, port: 80}}]}}
  - {{matches: [{{method: {{service: s.V1}}}}], backendRefs: [{{name: b, port: 80}}]}}
  - {{matches: [{{method: {{service: s.V1, method: Get}}}}], backendRefs: [{{name: a, port: 80}}]}}
  - {{matches: [{{method: {{type: RegularExpression, service: 's.*'}}}}], backendRefs: [{{name: b, port: 80}}]}}
"
    );
    let expected = "\
0.0.0.0:8080
  *
    =/s.V1/Get -> a.default:80
    /s.V1/* -> b.default:80
    ~/(?:s.*)/[^/]+ -> b.default:80
    /* -> a.default:80
";
    // A prefix of a service is a plain one.
    assert_eq!(become_of(&documents), expected);
}

#[test]
fn streams_are_passed_through_by_server_name_or_by_port() {
    let documents = format!(
        "{SERVICES}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gate}}
spec:
  gatewayClassName: naru
  listeners:
  - {{name: tls, port: 8443, protocol: TLS, tls: {{mode: Passthrough}}}}
  - {{name: tcp, port: 5432, protocol: TCP}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {{name: t}}
spec:
  parentRefs: [{{name: gate}}]
  hostnames: [db.example.com]
  rules: [{{backendRefs: [{{name: b, port: 5432}}]}}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {{name: c}}
spec:
  parentRefs: [{{name: gate, sectionName: tcp}}]
  rules: [{{backendRefs: [{{name: b, port: 5432, weight: 3}}, {{name: a, port: 80, weight: 1}}]}}]
"
    );
    let expected = "\
0.0.0.0:5432
  -> 3xb.default:5432 1xa.default:80
0.0.0.0:8443
  TLS passes db.example.com
  -> b.default:5432
";
    assert_eq!(become_of(&documents), expected);
}

#[test]
fn a_route_of_a_service_is_for_who_calls_it() {
    let documents = format!(
        "{SERVICES}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r}}
spec:
  parentRefs: [{{group: '', kind: Service, name: a, port: 80}}]
  rules: [{{matches: [{{path: {{value: /v2}}}}], backendRefs: [{{name: b, port: 80}}]}}]
"
    );
    let (config, told) = planned(&documents);
    assert_eq!(told, [""; 0]);
    let hosts = &config.listeners[0].chains[0].http.routes.virtual_hosts;
    let host = hosts.iter().find(|host| host.name == "a.default.svc.cluster.local:80").unwrap();
    let rules: Vec<String> = host.rules.iter().map(shown::rule).collect();
    assert_eq!(rules, ["/v2/* -> b.default:80"]);
}

#[test]
fn of_a_virtual_service_and_a_route_for_one_host_the_first_goes_first() {
    let route = |namespace: &str| {
        format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, namespace: {namespace}}}
spec:
  parentRefs: [{{group: '', kind: Service, name: a, namespace: default, port: 80}}]
  rules: [{{filters: [{{type: RequestRedirect, requestRedirect: {{path: {{type: ReplaceFullPath, replaceFullPath: /r}}}}}}]}}]
"
        )
    };
    let service = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: z}
spec: {hosts: [a], http: [{directResponse: {status: 204}}]}
";
    let check = |documents: &str, rule: &str, expected: &[&str]| {
        let (config, told) = planned(&format!("{SERVICES}{documents}"));
        let conflicts: Vec<&String> = told.iter().filter(|line| line.contains("[conflict]")).collect();
        assert_eq!(conflicts, expected);
        let hosts = &config.listeners[0].chains[0].http.routes.virtual_hosts;
        let host = hosts.iter().find(|host| host.name == "a.default.svc.cluster.local:80").unwrap();
        assert!(shown::rule(&host.rules[0]).ends_with(rule), "{:?}", host.rules);
    };
    check(
        &format!("{}{service}", route("default")),
        "answer 204",
        &[
            "warning[conflict] spec.parentRefs: a VirtualService and a route of the Gateway API speak of the host \
           'a.default.svc.cluster.local': the other goes first, and this one is asked only where that has no route for a caller and a port",
        ],
    );
    // What a namespace says to itself goes before what all are told: that is how the API has it.
    check(&format!("{}{}", route("default"), route("other")), "redirect 302", &[]);
}

#[test]
fn what_is_not_there_or_not_allowed_is_told_with_the_word_of_the_api() {
    let check = |documents: &str, expected: &[&str]| {
        let (_, told) = planned(documents);
        assert_eq!(told, expected, "{documents}");
    };
    let to = |backend: &str| format!("  rules: [{{backendRefs: [{{{backend}}}]}}]\n");
    let with = |spec: &str| format!("{SERVICES}{GATE}{}", route("r", spec));
    check(
        &with(&to("name: nobody, port: 80")),
        &[
            "error[unknown-reference] spec.rules[0].backendRefs[0]: there is no Service 'nobody' in default (BackendNotFound)",
        ],
    );
    check(
        &with(&to("name: a, port: 81")),
        &[
            "error[unknown-reference] spec.rules[0].backendRefs[0]: the Service 'a' has no port 81: it has 80 (BackendNotFound)",
        ],
    );
    check(
        &with(&to("name: c, port: 80, namespace: other")),
        &[
            "error[unknown-reference] spec.rules[0].backendRefs[0]: no ReferenceGrant in other lets a HTTPRoute of default send to its Services (RefNotPermitted)",
        ],
    );
    let granted = with(&to("name: c, port: 80, namespace: other"))
        + "---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: '', kind: Service}]
";
    check(&granted, &[]);
    check(
        &with(&to("name: a, port: 80")).replace("gatewayClassName: naru", "gatewayClassName: nginx"),
        &[
            "error[unknown-reference] spec.gatewayClassName: there is no GatewayClass 'nginx': nobody listens for the Gateway",
        ],
    );
    check(
        &with(&format!("  hostnames: [a.test]\n{}", to("name: a, port: 80")))
            .replace("protocol: HTTP}", "protocol: HTTP, hostname: b.test}"),
        &[
            "warning[no-effect] spec.parentRefs[0]: the route is not attached: no listener has a hostname that the route's hostnames fit (NoMatchingListenerHostname)",
        ],
    );
    check(
        &with(&to("name: a, port: 80")).replace("{name: r}", "{name: r, namespace: other}"),
        &[
            "error[unknown-reference] spec.parentRefs[0]: the route is not attached: there is no Gateway 'gate' in other (NoMatchingParent)",
            "error[unknown-reference] spec.rules[0].backendRefs[0]: there is no Service 'a' in other (BackendNotFound)",
        ],
    );
}

fn listed(conditions: &[Condition]) -> String {
    let all = conditions.iter().map(|condition| {
        format!("{}={} {}", condition.kind, if condition.status { "True" } else { "False" }, condition.reason)
    });
    all.collect::<Vec<_>>().join(", ")
}

#[test]
fn statuses_say_what_a_controller_would_write() {
    let documents = format!(
        "{SERVICES}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gate}}
spec:
  gatewayClassName: naru
  listeners:
  - {{name: http, port: 8080, protocol: HTTP}}
  - {{name: again, port: 8080, protocol: HTTP}}
  - {{name: udp, port: 53, protocol: UDP}}
  - {{name: https, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: missing}}]}}}}
  - {{name: closed, port: 8081, protocol: HTTP, allowedRoutes: {{namespaces: {{from: None}}}}}}
  - {{name: open, port: 8082, protocol: HTTP}}
{}{}",
        route("r", "  rules: [{backendRefs: [{name: nobody, port: 80}]}]\n")
            .replace("{name: gate}", "{name: gate, sectionName: open}"),
        route("s", "  rules: [{backendRefs: [{name: a, port: 80}]}]\n")
            .replace("{name: gate}", "{name: gate, sectionName: closed}"),
    );
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &documents, &mut loaded);
    let mut lines = Vec::new();
    for status in statuses(&loaded.resources) {
        lines.push(format!("{} {}: {}", status.kind, status.name, listed(&status.conditions)));
        for listener in &status.listeners {
            lines.push(format!(
                "  {} {}: {}",
                listener.name,
                listener.attached_routes,
                listed(&listener.conditions)
            ));
        }
        for parent in &status.parents {
            lines.push(format!("  {}: {}", parent.parent, listed(&parent.conditions)));
        }
    }
    let expected = [
        "Gateway gate: Accepted=True ListenersNotValid, Programmed=True Programmed",
        "  http 0: Accepted=True Accepted, Conflicted=True HostnameConflict, ResolvedRefs=True ResolvedRefs, Programmed=False Invalid",
        "  again 0: Accepted=True Accepted, Conflicted=True HostnameConflict, ResolvedRefs=True ResolvedRefs, Programmed=False Invalid",
        "  udp 0: Accepted=False UnsupportedProtocol, Conflicted=False NoConflicts, ResolvedRefs=True ResolvedRefs, Programmed=False Invalid",
        "  https 0: Accepted=True Accepted, Conflicted=False NoConflicts, ResolvedRefs=False InvalidCertificateRef, Programmed=False Invalid",
        "  closed 0: Accepted=True Accepted, Conflicted=False NoConflicts, ResolvedRefs=True ResolvedRefs, Programmed=True Programmed",
        "  open 1: Accepted=True Accepted, Conflicted=False NoConflicts, ResolvedRefs=True ResolvedRefs, Programmed=True Programmed",
        "HTTPRoute r: ",
        "  Gateway default/gate open: Accepted=True Accepted, ResolvedRefs=False BackendNotFound",
        "HTTPRoute s: ",
        "  Gateway default/gate closed: Accepted=False NotAllowedByListeners, ResolvedRefs=True ResolvedRefs",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_backend_is_called_by_tls_as_its_policy_says() {
    let documents = format!(
        "{SERVICES}{GATE}{}---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: p}}
spec:
  targetRefs: [{{group: '', kind: Service, name: b, sectionName: http}}]
  validation: {{hostname: b.internal, caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: ca}}
data: {{ca.crt: some}}
",
        route("r", "  rules: [{backendRefs: [{name: b, port: 80}]}]\n")
    );
    let (config, told) = planned(&documents);
    assert_eq!(told, [""; 0]);
    let cluster = |name: &str| {
        let name = format!("outbound|{name}.default.svc.cluster.local");
        config.clusters.iter().find(|cluster| cluster.name == name).unwrap()
    };
    assert_eq!(cluster("80||b").tls.as_ref().unwrap().sni.as_deref(), Some("b.internal"));
    assert!(cluster("5432||b").tls.is_none() && cluster("80||a").tls.is_none());
}

#[test]
fn policies_are_attached_to_gateways_routes_and_rules_of_the_api() {
    let documents = format!(
        "{SERVICES}{GATE}{}---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {{name: t}}
spec: {{targetRef: {{kind: HTTPRoute, name: r, sectionName: named}}, timeout: {{auto: {{max: 2s}}}}}}
---
apiVersion: naru.dev/v1alpha1
kind: Bulkhead
metadata: {{name: h}}
spec: {{targetRef: {{kind: HTTPRoute, group: gateway.networking.k8s.io, name: r}}, maxConcurrent: 3}}
---
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {{name: l}}
spec: {{targetRef: {{kind: HTTPRoute, name: r, sectionName: named}}, limits: [{{name: a, requests: 3, window: 1s}}]}}
---
apiVersion: naru.dev/v1alpha1
kind: ResponseCache
metadata: {{name: k}}
spec: {{targetRef: {{kind: HTTPRoute, name: r}}, ttl: 1m}}
---
apiVersion: naru.dev/v1alpha1
kind: EdgePolicy
metadata: {{name: e}}
spec: {{targetRef: {{kind: HTTPRoute, name: r, sectionName: named}}, conditions: {{allow: [{{name: get, when: \"request.method == 'GET'\"}}]}}}}
",
        route(
            "r",
            "  rules:
  - {name: named, matches: [{path: {value: /a}}], backendRefs: [{name: a, port: 80}]}
  - {backendRefs: [{name: b, port: 80}]}
",
        )
    );
    let (config, told) = planned(&documents);
    assert_eq!(told, [""; 0]);
    let rules = &config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules;
    let forward = |at: usize| match &rules[at].action {
        Action::Forward(forward) => forward,
        other => panic!("{other:?}"),
    };
    assert_eq!(forward(0).auto_timeout.as_ref().unwrap().max.as_secs(), 2);
    assert!(forward(1).auto_timeout.is_none());
    assert!(forward(0).load.bulkhead.is_some() && forward(1).load.bulkhead.is_some());
    assert!(forward(0).cache.is_some() && forward(1).cache.is_some());
    // A limit and a condition are for the named rule.
    assert_eq!((rules[0].gate.len(), rules[1].gate.len()), (2, 0));
}

#[test]
fn a_redirect_to_another_scheme_leaves_the_port_of_the_request_behind() {
    let redirect = |said: &str| {
        let rule =
            format!("  rules: [{{filters: [{{type: RequestRedirect, requestRedirect: {{{said}}}}}]}}]\n");
        let (config, told) = planned(&format!("{SERVICES}{GATE}{}", route("r", &rule)));
        assert_eq!(told, [""; 0]);
        let listener = config.listeners.iter().find(|one| one.name.starts_with("gateway/")).unwrap();
        match &listener.chains[0].http.routes.virtual_hosts[0].rules[0].action {
            Action::Redirect(redirect) => redirect.port,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(redirect("scheme: https"), Some(443));
    assert_eq!(redirect("scheme: https, port: 443"), Some(443));
    assert_eq!(redirect("scheme: https, port: 8443"), Some(8443));
    // Behind another host a port that goes without saying is none.
    assert_eq!(redirect("scheme: https, hostname: x.test"), None);
    assert_eq!(redirect("scheme: https, hostname: x.test, port: 8443"), Some(8443));
    assert_eq!(redirect("statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /}"), Some(8080));
}

#[test]
fn an_address_that_is_a_name_is_told_and_the_gateway_listens_all_the_same() {
    let named = GATE.replace("listeners:", "addresses: [{type: Hostname, value: edge.test}]\n  listeners:");
    let (config, told) = planned(&format!(
        "{SERVICES}{named}{}",
        route("r", "  rules: [{backendRefs: [{name: a, port: 80}]}]\n")
    ));
    assert_eq!(
        told,
        ["warning[no-effect] spec.addresses[0]: nobody listens at a name: it has no effect here"]
    );
    assert_eq!(gateways(&config), "0.0.0.0:8080\n  *\n    /* -> a.default:80\n");
    // Beside one that is bound it changes nothing.
    let both = named.replace("value: edge.test}", "value: edge.test}, {value: 127.0.0.2}");
    let (config, _) = planned(&format!(
        "{SERVICES}{both}{}",
        route("r", "  rules: [{backendRefs: [{name: a, port: 80}]}]\n")
    ));
    assert_eq!(gateways(&config), "127.0.0.2:8080\n  *\n    /* -> a.default:80\n");
}

#[test]
fn a_route_without_rules_takes_all_and_has_nobody_to_send_to() {
    assert_eq!(
        become_of(&format!("{SERVICES}{GATE}{}", route("r", "  hostnames: [a.test]\n"))),
        "0.0.0.0:8080\n  a.test\n    /* -> answer 500\n"
    );
}
