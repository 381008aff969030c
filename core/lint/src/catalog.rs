//! Every code, with what it means and what to do.

use naru_spec::Severity;

/// What can be found.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name to search for: Istio's where Istio has one, else Kiali's, else one of ours in kebab case.
    pub code: &'static str,
    /// Codes of others for the same.
    pub also: &'static [&'static str],
    pub severity: Severity,
    /// The level that the code has where it comes from; empty for ours.
    pub theirs: &'static str,
    /// In one line.
    pub title: &'static str,
    /// What happens, and what to do.
    pub explanation: &'static str,
}

const fn warning(
    code: &'static str,
    also: &'static [&'static str],
    theirs: &'static str,
    title: &'static str,
    explanation: &'static str,
) -> Rule {
    Rule { code, also, severity: Severity::Warning, theirs, title, explanation }
}

const fn note(
    code: &'static str,
    also: &'static [&'static str],
    theirs: &'static str,
    title: &'static str,
    explanation: &'static str,
) -> Rule {
    Rule { code, also, severity: Severity::Note, theirs, title, explanation }
}

/// In the order of codes.
pub const CATALOG: &[Rule] = &[
    warning(
        "IST0002",
        &[],
        "warning",
        "an old way to say something",
        "The field still works, and has a successor that can say more. 'percent' knows whole percents only, \
         'percentage.value' also 0.01; 'allowOrigin' knows whole origins only, 'allowOrigins' also prefixes and \
         regular expressions.",
    ),
    warning(
        "IST0101",
        &["KIA0101", "KIA1101", "KIA1102", "KIA1107"],
        "error",
        "something that is named is not there",
        "A host, port or subset of a destination, a gateway of a VirtualService, the credential of a Gateway or a \
         namespace of an AuthorizationPolicy is not defined by any document. Requests for a host or subset that is \
         not there are answered 503; a VirtualService whose gateway is not there takes no request. Where naru could \
         not do what the document asks for, it is an error beside this code.",
    ),
    warning(
        "IST0109",
        &["KIA1106"],
        "error",
        "two VirtualServices speak of one host in the mesh",
        "Both are bound to the mesh and both are seen from some namespace. Only one is asked there: that for the \
         caller's own namespace before one for all, then the older, then the first by name and namespace. Join \
         them into one VirtualService.",
    ),
    warning(
        "IST0110",
        &[],
        "error",
        "two Sidecars select one workload",
        "Labels of two selectors meet in one workload, and only one Sidecar can say what it sees: the older one. Which \
         that is may surprise. Where both select exactly the same, it is an error beside this code.",
    ),
    warning(
        "IST0111",
        &[],
        "error",
        "two Sidecars are for all of a namespace",
        "A namespace has one Sidecar without a selector; of several the oldest holds, which is an error beside this \
         code.",
    ),
    warning(
        "IST0112",
        &[],
        "error",
        "a destination leaves open which port it means",
        "The service has several ports. naru takes the port that the request came for; where it came through a \
         gateway there may be none. Say 'port.number' in the destination.",
    ),
    warning(
        "IST0116",
        &[],
        "warning",
        "one process is to speak two protocols on a port",
        "Two Services select the same Deployment and have the same port with different protocols. One of them is \
         wrong: a process speaks one protocol on a port.",
    ),
    note(
        "IST0118",
        &["KIA0601", "KIA0602"],
        "info",
        "the name of a port does not say its protocol",
        "Names begin with the protocol: http, http2, grpc, grpc-web, https, tls, tcp, mongo, mysql, redis, udp; \
         a dash and anything may follow. 'appProtocol' says it as well. Without either, the protocol is found out \
         from the first bytes, which fails for protocols in which the server speaks first.",
    ),
    warning(
        "IST0127",
        &["KIA0004"],
        "warning",
        "a policy is for nobody",
        "No Deployment or its like, no Pod and no WorkloadEntry has the labels of the selector, or none runs in the \
         namespace. The policy does nothing, which is worst where it was to protect something.",
    ),
    warning(
        "IST0128",
        &[],
        "warning",
        "the certificate of a destination is not verified",
        "The DestinationRule says TLS and no caCertificates: Istio's proxies then take any certificate. naru \
         verifies against the roots of the system, unless insecureSkipVerify is said. Say whom to believe.",
    ),
    warning(
        "IST0129",
        &[],
        "warning",
        "the certificate of a destination's port is not verified",
        "As IST0128, for a port: portLevelSettings inherit nothing of the settings beside them.",
    ),
    warning(
        "IST0130",
        &[],
        "warning",
        "no request gets to a rule",
        "Rules are asked in order and the first that fits takes the request. Earlier ones take all that this one \
         asks for. Put the narrower rule first.",
    ),
    note(
        "IST0131",
        &[],
        "info",
        "no request gets to a block of a rule",
        "Blocks of a rule are alternatives. Whatever fits this one fits a block before it, of this rule or of an \
         earlier one.",
    ),
    warning(
        "IST0132",
        &[],
        "warning",
        "a gateway has none of the hosts of a VirtualService",
        "A VirtualService takes requests for hosts that both it and a server of the gateway name, and that the \
         server's NAMESPACE/HOST lets its namespace have. There are none.",
    ),
    warning(
        "IST0134",
        &[],
        "warning",
        "bytes for a ServiceEntry cannot be told from others",
        "TCP names no host. Without addresses, whatever goes to that port may be meant.",
    ),
    warning(
        "IST0137",
        &[],
        "warning",
        "two Services lead to one port from different ports",
        "Both select the same Deployment, with the same targetPort. What comes in there could be for either.",
    ),
    warning(
        "IST0138",
        &[],
        "warning",
        "two gateways show one certificate",
        "A browser uses one HTTP/2 connection for all hosts that a certificate is for. A request for the host of \
         the other gateway then comes in at the wrong one. Let one Gateway have both hosts.",
    ),
    warning(
        "IST0140",
        &[],
        "warning",
        "rules of the mesh have no effect on what comes in at a gateway",
        "A VirtualService of the mesh splits a service by subsets. Requests that come in at a gateway are routed \
         by the gateway's VirtualService alone, and that names no subset.",
    ),
    warning(
        "IST0145",
        &["KIA0301"],
        "error",
        "two gateways want one host on one port",
        "The first takes the requests. Give one of them another host, or join them.",
    ),
    warning(
        "IST0149",
        &[],
        "error",
        "a rule asks for a claim of tokens that nobody reads",
        "'@request.auth.claims..' is there after a RequestAuthentication has verified a token. There is none, so \
         the rule never fits.",
    ),
    warning(
        "IST0150",
        &[],
        "warning",
        "a port that leads outside says neither HTTP nor TLS",
        "Of an ExternalName service, bytes of TCP cannot be told from those for others.",
    ),
    warning(
        "IST0161",
        &[],
        "error",
        "a credential has no certificate with its key",
        "The Secret that a Gateway names lacks tls.crt or tls.key, or one of them is empty.",
    ),
    warning(
        "IST0173",
        &["KIA0203"],
        "error",
        "nothing has the labels of a subset",
        "No Deployment or WorkloadEntry that the service selects has them. Requests for the subset are answered \
         503. Where the files hold no Deployment and no WorkloadEntry at all, this is not asked.",
    ),
    warning(
        "IST0174",
        &["KIA0202"],
        "warning",
        "a DestinationRule is for a host that is not there",
        "No Service and no ServiceEntry defines it, so nothing of the rule acts.",
    ),
    warning(
        "IST0177",
        &["KIA1212"],
        "warning",
        "one port of one host has two protocols",
        "Two ServiceEntries say different protocols of it; one of them is read otherwise than its author means.",
    ),
    warning(
        "KIA0102",
        &[],
        "warning",
        "a policy names no method of HTTP",
        "Methods are upper case. What is misspelt never fits: an ALLOW policy then allows less, a DENY policy \
         denies less than its author means.",
    ),
    warning(
        "KIA0104",
        &[],
        "error",
        "a policy is for a host that is not there",
        "No Service, no ServiceEntry and no Gateway has the host, so no request with it comes here.",
    ),
    warning(
        "KIA0201",
        &[],
        "warning",
        "two DestinationRules are for one host and subset",
        "Whose settings hold is not said by either of them. Join them.",
    ),
    warning(
        "KIA0209",
        &[],
        "warning",
        "a subset has no labels",
        "It is the whole service, under another name.",
    ),
    warning(
        "KIA0701",
        &[],
        "warning",
        "a Service leads to nobody, or to a port that no container opens",
        "The containers of the Deployments that it selects say their ports, and this one is not among them. Or no \
         Deployment, Pod or WorkloadEntry has the labels of its selector, and no Endpoints, EndpointSlice or \
         ServiceEntry says where it is: all requests for it are answered 503. That is only asked where its namespace \
         has a process, or where a route leads to it and there are processes in others.",
    ),
    note(
        "KIA1104",
        &[],
        "warning",
        "the weight of an only destination means nothing",
        "It takes all requests.",
    ),
    warning(
        "KIA1105",
        &[],
        "warning",
        "a destination is there twice in a route",
        "The shares of both go to the same place. Most often one of them was meant to be another subset.",
    ),
    note(
        "KIA1108",
        &[],
        "info",
        "a gateway is named in the old way",
        "Write NAMESPACE/NAME; NAME.NAMESPACE.svc.cluster.local is read as that.",
    ),
    warning(
        "KIA1211",
        &[],
        "warning",
        "two ServiceEntries define one host",
        "Endpoints and ports of both are put together, as nobody may have meant.",
    ),
    warning(
        "KIA1601",
        &[],
        "error",
        "something is exported to a namespace that is not there",
        "Asked only where the files hold Namespaces.",
    ),
    warning(
        "cors-any-origin",
        &[],
        "",
        "any site may ask in the name of a user",
        "allowCredentials together with an origin that fits every site: each page that a user opens can send \
         requests with his cookies and read the answers. Name the origins.",
    ),
    warning(
        "failover-without-detection",
        &[],
        "",
        "failover is said, and nobody finds out about failures",
        "Failover between localities acts when endpoints of a locality are unfit. Without outlierDetection \
         nobody finds them unfit, and Istio does not even switch it on.",
    ),
    note(
        "token-not-asked-for",
        &[],
        "",
        "a request without a token is let in",
        "A RequestAuthentication refuses tokens that are wrong. One that is not there is not wrong. An \
         AuthorizationPolicy that asks for requestPrincipals, or denies notRequestPrincipals [\"*\"], asks for one.",
    ),
    warning(
        "tries-longer-than-timeout",
        &[],
        "",
        "the tries of a route take longer than its timeout",
        "perTryTimeout times the tries (attempts and the first) is more than timeout: the last ones are cut off \
         before they can answer.",
    ),
    note(
        "weights-not-100",
        &[],
        "",
        "weights do not sum up to 100",
        "Each is a share of the sum, which may be what is meant: 1 and 3 are a quarter and three.",
    ),
];

/// By its own code or by that of another for the same; case does not matter.
pub fn rule(code: &str) -> Option<&'static Rule> {
    CATALOG.iter().find(|rule| {
        rule.code.eq_ignore_ascii_case(code) || rule.also.iter().any(|also| also.eq_ignore_ascii_case(code))
    })
}
