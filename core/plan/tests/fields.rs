//! Whatever of Istio's documents cannot act is told with its line: a document with every field of each kind, and all that
//! is told of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod shown;

use shown::planned;

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{name: http, port: 80}, {name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Secret
metadata: {name: cert}
stringData: {tls.crt: c, tls.key: k, ca.crt: a}
---
";

fn told(document: &str) -> Vec<String> {
    planned(&format!("{SERVICE}{document}")).1
}

#[test]
fn of_a_virtual_service() {
    let found = told(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [a]
  gateways: [mesh]
  exportTo: ['*']
  http:
  - name: all
    match:
    - name: m
      uri: {prefix: /x}
      ignoreUriCase: true
      scheme: {exact: http}
      method: {regex: 'GET|PUT'}
      authority: {exact: a}
      headers: {x: {exact: y}}
      withoutHeaders: {z: {}}
      queryParams: {q: {prefix: v}}
      port: 80
      sourceLabels: {app: w}
      sourceNamespace: default
      gateways: [mesh]
      statPrefix: s
    route:
    - destination: {host: a, port: {number: 80}}
      weight: 1
      headers: {request: {set: {a: b}, add: {c: d}, remove: [e]}, response: {remove: [f]}}
    - destination: {host: a, port: {number: 5432}}
      weight: 3
    rewrite: {uriRegexRewrite: {match: '/x(.*)', rewrite: '/\\1'}, authority: in.test}
    timeout: 5s
    retries: {attempts: 1, perTryTimeout: 2s, retryOn: connect-failure, retryRemoteLocalities: true, retryIgnorePreviousHosts: true, backoff: 10ms}
    fault: {delay: {fixedDelay: 1s, percentage: {value: 1}}, abort: {httpStatus: 500, percentage: {value: 1}}}
    mirrors: [{destination: {host: a, port: {number: 80}}, percentage: {value: 5}}]
    corsPolicy: {allowOrigins: [{exact: 'https://x.test'}], allowMethods: [GET], allowHeaders: [x], exposeHeaders: [y], maxAge: 1s, allowCredentials: true, unmatchedPreflights: FORWARD}
    headers: {request: {set: {a: b}}}
  - match: [{uri: {exact: /r}}]
    redirect: {uri: /y, authority: b, port: 81, scheme: http, redirectCode: 302}
  - directResponse: {status: 200, body: {string: hello}}
  tcp:
  - match: [{destinationSubnets: [10.0.0.0/8], port: 5432, sourceSubnet: 10.0.0.0/8, sourceLabels: {app: w}, gateways: [mesh], sourceNamespace: default}]
    route: [{destination: {host: a, port: {number: 5432}}, weight: 1}]
",
    );
    assert_eq!(
        found,
        [
            "warning[not-yet] spec.http[0].match[0].statPrefix: naru does not act on 'statPrefix': metrics have the route's cluster",
            "error[unsupported-field] spec.tcp[0].match[0].sourceSubnet: naru does not act on 'sourceSubnet', nor does Istio",
        ]
    );
}

#[test]
fn of_a_destination_rule() {
    let found = told(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec:
  host: a
  exportTo: ['*']
  workloadSelector: {matchLabels: {app: w}}
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST, localityLbSetting: {enabled: true, failoverPriority: [topology.kubernetes.io/region]}, warmup: {duration: 10s, minimumPercent: 10, aggression: 1}}
    connectionPool:
      tcp: {maxConnections: 10, connectTimeout: 1s, tcpKeepalive: {probes: 3, time: 60s, interval: 5s}, maxConnectionDuration: 1h, idleTimeout: 1h}
      http: {http1MaxPendingRequests: 10, http2MaxRequests: 10, maxRequestsPerConnection: 10, maxRetries: 3, idleTimeout: 1m, h2UpgradePolicy: DEFAULT, maxConcurrentStreams: 10}
    outlierDetection: {consecutive5xxErrors: 5, consecutiveGatewayErrors: 3, interval: 10s, baseEjectionTime: 30s, maxEjectionPercent: 100, minHealthPercent: 10, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 5}
    tls: {mode: ISTIO_MUTUAL}
    portLevelSettings: [{port: {number: 5432}, loadBalancer: {simple: RANDOM}}]
    proxyProtocol: {version: V1}
    retryBudget: {percent: 20, minRetryConcurrency: 3}
    tunnel: {protocol: CONNECT, targetHost: x.test, targetPort: 443}
",
    );
    assert_eq!(
        found,
        ["error[unsupported-field] spec.trafficPolicy.tunnel: naru does not act on 'tunnel' yet",]
    );
}

#[test]
fn of_a_gateway() {
    let found = told(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8080, protocol: HTTP, name: http, targetPort: 8080}, bind: 127.0.0.1, hosts: ['./a.test'], name: s, defaultEndpoint: '127.0.0.1:80', tls: {httpsRedirect: true}}
  - port: {number: 8443, protocol: HTTPS, name: https}
    hosts: ['*/b.test']
    tls: {mode: MUTUAL, credentialName: cert, subjectAltNames: [c.test], minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256], insecureSkipVerify: true}
  - {port: {number: 8444, protocol: TLS, name: auto}, hosts: ['*.c.test'], tls: {mode: ISTIO_MUTUAL}}
",
    );
    assert_eq!(
        found,
        [
            "warning[no-effect] spec.servers[0].port.targetPort: 'targetPort' has no effect on a Gateway, as in Istio",
            "warning[no-effect] spec.servers[0].defaultEndpoint: 'defaultEndpoint' has no effect, as in Istio",
            "warning[not-yet] spec.servers[1].tls.insecureSkipVerify: naru does not act on 'insecureSkipVerify' of a server: certificates of clients are verified",
            "warning[no-effect] spec.servers: no route leads on from this server: nobody listens for it",
        ]
    );
}

#[test]
fn of_entries_and_groups() {
    let found = told(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s}
spec:
  hosts: [s.test]
  addresses: [240.0.0.1, nowhere]
  ports: [{number: 443, name: https, protocol: HTTPS, targetPort: 8443}]
  location: MESH_EXTERNAL
  resolution: STATIC
  exportTo: ['.']
  subjectAltNames: [s.test]
  endpoints:
  - {address: 10.0.0.1, ports: {https: 9443}, labels: {v: '1'}, network: n, locality: r/z, weight: 2, serviceAccount: sa}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: g}
spec:
  metadata: {labels: {app: vm}, annotations: {a: b}}
  template: {ports: {http: 80}, labels: {app: vm}, network: n, locality: r/z, weight: 1, serviceAccount: sa}
  probe: {initialDelaySeconds: 1, timeoutSeconds: 1, periodSeconds: 1, successThreshold: 1, failureThreshold: 1, httpGet: {path: /, port: 80, host: h, scheme: HTTP, httpHeaders: [{name: a, value: b}]}}
",
    );
    assert_eq!(
        found,
        [
            "error[invalid-value] spec.addresses[1]: 'nowhere' is no address",
            "warning[not-yet] spec.endpoints[0].network: naru does not act on 'network' of an endpoint: it is called by its address",
            "warning[not-yet] spec.template.network: naru does not act on 'network' of an endpoint: it is called by its address",
        ]
    );
}

#[test]
fn of_kinds_that_the_gateway_api_has_and_naru_does_not() {
    let found = told(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: naru
  tls: {frontend: {}}
  listeners: [{name: http, port: 8080, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: UDPRoute
metadata: {name: u}
spec: {}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: h}
spec:
  parentRefs: [{name: g}]
  rules:
  - filters: [{type: ExtensionRef, extensionRef: {group: x, kind: Y, name: z}}]
    sessionPersistence: {idleTimeout: 1s, absoluteTimeout: 1m}
    backendRefs: [{name: a, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}}}]}]
",
    );
    let unsupported = |path: &str| found.iter().any(|line| line.contains(path));
    for path in [
        "error[unsupported-field] spec.tls: ",
        "warning[unsupported-kind] kind: ",
        "error[invalid-value] spec.rules[0].filters[0]: naru has no filters of its own",
        "error[invalid-value] spec.rules[0].sessionPersistence.idleTimeout: ",
        "error[invalid-value] spec.rules[0].sessionPersistence.absoluteTimeout: ",
        "error[invalid-value] spec.rules[0].backendRefs[0].filters[0]: ",
    ] {
        assert!(unsupported(path), "{path}: {found:#?}");
    }
}
