//! The inputs of Istio's own analyzers that need no cluster, and what Istio says of them.
//!
//! The facts of `pkg/config/analysis/analyzers/testdata` (istio/istio, 2025), shortened: names and what matters of each
//! document are as there. Expected are the pairs of `analyzers_test.go`. What naru says otherwise stands here with its
//! reason, and in `docs/check.md`.
#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "what Istio says stands in files beside this one")]

use std::collections::BTreeSet;

use naru_lint::check;

struct Case {
    file: &'static str,
    /// The codes that the analyzer in question has; others of the file are none of its business.
    codes: &'static [&'static str],
    /// What Istio says: code and document.
    istio: &'static [(&'static str, &'static str)],
    /// What naru says beside that.
    more: &'static [(&'static str, &'static str)],
    /// What of it naru does not say.
    less: &'static [(&'static str, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        file: "destinationhosts",
        codes: &["IST0101", "IST0112"],
        istio: &[
            ("IST0101", "VirtualService default/reviews-bogushost"),
            ("IST0101", "VirtualService default/reviews-bookinfo-other"),
            ("IST0101", "VirtualService default/reviews-mirror-bogushost"),
            ("IST0101", "VirtualService default/reviews-bogusport"),
            ("IST0112", "VirtualService default/reviews-2port-missing"),
        ],
        more: &[],
        less: &[],
    },
    Case {
        file: "destinationrules",
        codes: &["IST0101"],
        istio: &[
            ("IST0101", "VirtualService default/reviews-bogussubset"),
            ("IST0101", "VirtualService default/reviews-mirror-bogussubset"),
        ],
        more: &[],
        less: &[],
    },
    Case {
        file: "conflictingmeshgatewayhosts",
        codes: &["IST0109"],
        istio: &[
            ("IST0109", "VirtualService team3/ratings"),
            ("IST0109", "VirtualService team4/ratings"),
            ("IST0109", "VirtualService foo/ratings"),
            ("IST0109", "VirtualService bar/ratings"),
            ("IST0109", "VirtualService foo/productpage"),
            ("IST0109", "VirtualService foo/bogus-productpage"),
            ("IST0109", "VirtualService team2/ratings"),
        ],
        more: &[],
        less: &[],
    },
    Case {
        file: "gateways",
        codes: &["IST0101", "IST0132"],
        istio: &[
            ("IST0101", "VirtualService default/httpbin-bogus"),
            ("IST0132", "VirtualService default/cross-test"),
            ("IST0132", "VirtualService default/httpbin-bogus"),
            ("IST0132", "VirtualService default/httpbin"),
        ],
        more: &[],
        // A Gateway that is not there has none of its hosts: that is told once.
        less: &[("IST0132", "VirtualService default/httpbin-bogus")],
    },
    Case {
        file: "host_not_found_gateway",
        codes: &["IST0132"],
        istio: &[
            ("IST0132", "VirtualService default/testing-service-02-test-01"),
            ("IST0132", "VirtualService default/testing-service-02-test-02"),
            ("IST0132", "VirtualService default/testing-service-02-test-03"),
            ("IST0132", "VirtualService default/testing-service-03-test-04"),
        ],
        more: &[],
        less: &[],
    },
    Case {
        file: "host_not_found_gateway_with_ns_prefix",
        codes: &["IST0132"],
        istio: &[("IST0132", "VirtualService default/testing-service-01-test-01")],
        more: &[],
        less: &[],
    },
    Case {
        file: "jwtclaimroute",
        codes: &["IST0149"],
        istio: &[("IST0149", "VirtualService default/foo")],
        more: &[],
        less: &[],
    },
    Case {
        file: "route_rule_no_effects_ingress",
        codes: &["IST0140"],
        istio: &[("IST0140", "VirtualService default/testing-service-01-test-01")],
        more: &[],
        less: &[],
    },
    Case {
        file: "dupmatches",
        codes: &["IST0130", "IST0131"],
        istio: &[
            ("IST0130", "VirtualService default/duplicate-match"),
            ("IST0130", "VirtualService foo/sample-foo-cluster01"),
            ("IST0131", "VirtualService default/almost-duplicate-match"),
            ("IST0131", "VirtualService default/duplicate-match"),
            ("IST0130", "VirtualService default/duplicate-tcp-match"),
            ("IST0130", "VirtualService default/duplicate-empty-tcp"),
            ("IST0131", "VirtualService default/almost-duplicate-tcp-match"),
            ("IST0131", "VirtualService default/duplicate-tcp-match"),
            ("IST0130", "VirtualService none/tls-routing"),
            ("IST0131", "VirtualService none/tls-routing-almostmatch"),
            ("IST0131", "VirtualService none/tls-routing"),
            ("IST0131", "VirtualService default/non-method-get"),
            ("IST0131", "VirtualService default/overlapping-in-single-match"),
            ("IST0131", "VirtualService default/overlapping-in-two-matches"),
            ("IST0131", "VirtualService default/overlapping-mathes-with-different-methods"),
        ],
        // A prefix takes what is exactly below it: Istio compares prefixes with prefixes only. And where all blocks
        // of a rule are taken, no request gets to the rule.
        more: &[
            ("IST0131", "VirtualService default/uri-with-prefix-exact"),
            ("IST0130", "VirtualService default/overlapping-in-two-matches"),
        ],
        less: &[],
    },
    Case {
        file: "conflicting-gateways",
        codes: &["IST0145"],
        istio: &[("IST0145", "Gateway default/alpha"), ("IST0145", "Gateway default/beta")],
        more: &[],
        less: &[],
    },
    Case {
        file: "conflicting-gateways-subSelector",
        codes: &["IST0145"],
        istio: &[("IST0145", "Gateway default/alpha"), ("IST0145", "Gateway default/beta")],
        more: &[],
        less: &[],
    },
    Case {
        file: "gateway-duplicate-certificate",
        codes: &["IST0138"],
        istio: &[
            ("IST0138", "Gateway istio-system/gateway-01-test-01"),
            ("IST0138", "Gateway istio-system/gateway-02-test-01"),
            ("IST0138", "Gateway istio-system/gateway-01-test-02"),
            ("IST0138", "Gateway default/gateway-01-test-03"),
        ],
        more: &[],
        less: &[],
    },
    Case {
        file: "deployment-multi-service",
        codes: &["IST0116", "IST0137"],
        istio: &[
            ("IST0116", "Deployment bookinfo/multiple-svc-multiple-prot"),
            ("IST0116", "Deployment bookinfo/multiple-without-port"),
            ("IST0137", "Deployment bookinfo/conflicting-ports"),
        ],
        // Nothing is injected here, so that nothing can be left out.
        more: &[("IST0116", "Deployment bookinfo/deployment-out-mesh")],
        less: &[],
    },
    Case {
        file: "service-port-names",
        codes: &["IST0118"],
        istio: &[
            ("IST0118", "Service my-namespace1/my-service1"),
            ("IST0118", "Service my-namespace2/my-service2"),
        ],
        more: &[],
        less: &[],
    },
    Case {
        file: "external-name-port-names",
        codes: &["IST0150"],
        istio: &[
            ("IST0150", "Service nginx-ns/nginx"),
            ("IST0150", "Service nginx-ns2/nginx-svc2"),
            ("IST0150", "Service nginx-ns3/nginx-svc3"),
        ],
        more: &[],
        less: &[],
    },
    Case {
        file: "serviceentry-missing-addresses-protocol",
        codes: &["IST0134"],
        istio: &[
            ("IST0134", "ServiceEntry default/service-entry-test-03"),
            ("IST0134", "ServiceEntry default/service-entry-test-04"),
            ("IST0134", "ServiceEntry default/service-entry-test-07"),
        ],
        more: &[],
        less: &[],
    },
    Case {
        file: "serviceentry-conflicting-protocol",
        codes: &["IST0177"],
        istio: &[("IST0177", "ServiceEntry default/se-https"), ("IST0177", "ServiceEntry default/se-http")],
        more: &[],
        less: &[],
    },
    Case {
        file: "destinationrules-tls",
        codes: &["IST0128", "IST0129"],
        istio: &[
            ("IST0128", "DestinationRule default/simple-destination"),
            ("IST0128", "DestinationRule default/mutual-destination"),
            ("IST0129", "DestinationRule default/simple-port"),
            ("IST0128", "DestinationRule default/compound"),
            ("IST0129", "DestinationRule default/compound"),
            ("IST0128", "DestinationRule default/credential-name"),
        ],
        more: &[],
        less: &[],
    },
    Case {
        file: "destinationrule-with-fake-host",
        codes: &["IST0174"],
        istio: &[("IST0174", "DestinationRule default/fake-host")],
        more: &[],
        less: &[],
    },
    Case {
        file: "destinationrule-subsets-not-select-pods",
        codes: &["IST0173"],
        istio: &[("IST0173", "DestinationRule default/subsets-not-select-pods")],
        more: &[],
        less: &[],
    },
    Case {
        file: "authorizationpolicies",
        codes: &["IST0101", "IST0127"],
        istio: &[
            ("IST0127", "AuthorizationPolicy istio-system/meshwide-httpbin-v1"),
            ("IST0127", "AuthorizationPolicy httpbin-empty/httpbin-empty-namespace-wide"),
            ("IST0127", "AuthorizationPolicy httpbin/httpbin-nopods"),
            ("IST0101", "AuthorizationPolicy httpbin/httpbin-bogus-ns"),
            ("IST0101", "AuthorizationPolicy httpbin/httpbin-bogus-not-ns"),
            ("IST0127", "AuthorizationPolicy test-ambient/no-workload"),
        ],
        more: &[],
        less: &[],
    },
    Case {
        file: "deprecation",
        codes: &["IST0002"],
        istio: &[("IST0002", "VirtualService foo/productpage")],
        more: &[],
        less: &[],
    },
];

#[test]
fn the_verdicts_are_those_of_istio_or_the_difference_is_known() {
    let mut wrong = Vec::new();
    for case in CASES {
        let file = format!("{}/tests/istio/{}.yaml", env!("CARGO_MANIFEST_DIR"), case.file);
        let text = std::fs::read_to_string(&file).unwrap();
        let mut loaded = naru_doc::Loaded::default();
        naru_doc::load(case.file, &text, &mut loaded);
        let findings = check(&loaded.resources);
        let said: BTreeSet<(&str, String)> = findings
            .into_iter()
            .filter(|finding| case.codes.contains(&finding.rule.code))
            .map(|finding| (finding.rule.code, finding.about))
            .collect();
        let mut expected: BTreeSet<(&str, String)> =
            case.istio.iter().chain(case.more).map(|(code, about)| (*code, (*about).to_owned())).collect();
        for (code, about) in case.less {
            assert!(expected.remove(&(*code, (*about).to_owned())), "{}: {about}", case.file);
        }
        for missing in expected.difference(&said) {
            wrong.push(format!("{}: naru does not say {missing:?}", case.file));
        }
        for new in said.difference(&expected) {
            wrong.push(format!("{}: only naru says {new:?}", case.file));
        }
        for problem in loaded.problems.iter().filter(|problem| problem.is_error()) {
            wrong.push(format!("{}: {problem}", case.file));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
