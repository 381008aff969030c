//! `naru check` and `naru explain`: what people read, and what programs do.

use std::process::{Command, Stdio};

use naru_tests::files::Directory;
use naru_tests::program::program;
use serde_json::Value;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/bookinfo");

/// With the spellings that circulate, and a subset that is not there.
const RULE: &str = "\
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: reviews
spec:
  host: reviews
  trafficPolicy:
    loadBalancer:
      simple: LEAST_CONN
    circuitBreaker:
      consecutiveErrors: 3
  subsets:
  - name: v1
    labels: { version: v1 }
";
const SERVICE: &str = "\
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts:
  - reviews
  http:
  - route:
    - destination: { host: reviews, subset: v1 }
      weight: 75
    - destination: { host: reviews, subset: v3 }
      weight: 25
";

pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

pub fn naru(directory: &Directory, arguments: &[&str]) -> Said {
    let run = Command::new(program())
        .args(arguments)
        .current_dir(directory.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: run.status.code(), out: text(run.stdout), err: text(run.stderr) }
}

#[test]
fn check_names_each_problem_with_its_place_and_exits_with_one_only_for_errors() {
    let directory = Directory::new();
    directory.write("rule.yaml", RULE);
    directory.write("service.yaml", SERVICE);
    let said = naru(&directory, &["check", "rule.yaml", "service.yaml"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    for expected in [
        "warning[legacy-name]: 'LEAST_CONN' is an old name of 'LEAST_REQUEST'",
        "  --> rule.yaml:9:15\n",
        "warning[legacy-name]: 'circuitBreaker' is read as 'outlierDetection'",
        "  --> rule.yaml:10:5\n",
        "warning[legacy-name]: 'consecutiveErrors' is read as 'consecutive5xxErrors'",
        "  --> rule.yaml:11:7\n",
        "error[unknown-subset]: subset 'v3' of reviews.default.svc.cluster.local is not defined: 25% of the requests would fail",
        "  --> service.yaml:12:45\n",
        "   12 |     - destination: { host: reviews, subset: v3 }\n      |                                             ^^\n",
    ] {
        assert!(said.err.contains(expected), "{expected:?} is not in\n{}", said.err);
    }
    assert!(said.out.starts_with("2 files: 1 error, "), "{}", said.out);

    let json = naru(&directory, &["check", ".", "--output", "json"]);
    assert_eq!(json.code, Some(1));
    let problems = json.json();
    let of = |code: &str| {
        let all = problems.as_array().unwrap().iter();
        all.filter(|problem| problem["code"] == code).collect::<Vec<_>>()
    };
    let [error] = of("unknown-subset")[..] else { panic!("{problems}") };
    assert_eq!(
        (&error["severity"], &error["line"], &error["column"]),
        (&"error".into(), &12.into(), &45.into())
    );
    assert_eq!(error["path"], "spec.http[0].route[1].destination.subset");
    assert!(error["file"].as_str().unwrap().ends_with("service.yaml"));
    assert_eq!(of("legacy-name").len(), 3);

    directory.write("rule.yaml", &format!("{RULE}  - name: v3\n    labels: {{ version: v3 }}\n"));
    let said = naru(&directory, &["check", "."]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("legacy-name") && !said.err.contains("error["), "{}", said.err);
}

#[test]
fn check_says_what_cannot_be_read_and_what_is_not_there() {
    let directory = Directory::new();
    for (text, expected) in [
        ("kind: [", "error[syntax]"),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualServise\nmetadata: { name: a }\n",
            "did you mean 'VirtualService'?",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: a }\nspec: { hostz: [a] }\n",
            "did you mean 'hosts'?",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec: { ports: [{ port: 99999 }] }\n",
            "one.yaml:4:",
        ),
    ] {
        directory.write("one.yaml", text);
        let said = naru(&directory, &["check", "one.yaml"]);
        assert_eq!(said.code, Some(1), "{text}: {}", said.err);
        assert!(said.err.contains(expected), "{expected:?} is not in\n{}", said.err);
    }
    let said = naru(&directory, &["check", "nowhere.yaml"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("nowhere.yaml"), "{}", said.err);
}

#[test]
fn explain_lists_the_rules_in_order_with_what_decided() {
    let directory = Directory::new();
    let url = "http://reviews:9080/";
    let said = naru(&directory, &["explain", "GET", url, "--config", EXAMPLE]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for expected in [
        "1. passed by  jason\n",
        "header 'end-user': expected is 'jason'; it is not there\n",
        "2. takes it   canary\n",
    ] {
        assert!(said.out.contains(expected), "{expected:?} is not in\n{}", said.out);
    }
    let json = naru(
        &directory,
        &["explain", "GET", url, "-H", "end-user: jason", "--config", EXAMPLE, "--output", "json"],
    )
    .json();
    let verdict = &json["verdict"];
    assert_eq!((&verdict["kind"], &verdict["rule"]), (&"rule".into(), &"jason".into()));
    let (file, line, column) = (verdict["file"].as_str().unwrap(), &verdict["line"], &verdict["column"]);
    assert_eq!(verdict["origin"], format!("{file}:{line}:{column}"));
    assert!(file.ends_with("routing.yaml"));
    assert_eq!(
        verdict["forward"]["clusters"][0]["cluster"],
        "outbound|9080|v2|reviews.default.svc.cluster.local"
    );
}

#[test]
fn explain_says_which_group_and_why() {
    const GROUPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/read-write-groups");
    let directory = Directory::new();
    let explain = |method: &str, path: &str, more: &[&str]| {
        let url = format!("http://posts.local:8080{path}");
        let arguments = [&["explain", method, &url, "--config", GROUPS][..], more].concat();
        let said = naru(&directory, &arguments);
        assert_eq!(said.code, Some(0), "{}", said.err);
        said
    };
    let check = |method: &str, path: &str, more: &[&str], group: &str, why: &str| {
        let said = explain(method, path, more).out;
        let to = format!("->  100% outbound|8080|{group}|posts.default.svc.cluster.local\n   {why}\n");
        assert!(said.contains(&to), "{to:?} is not in\n{said}");
    };
    let writes = "outbound|8080|write|posts.default.svc.cluster.local";
    let later = format!(
        "a read by its method\n   for 5s after a write by the same session (cookie 'wrote') it would go to {writes}"
    );
    check("GET", "/posts", &[], "read", &later);
    let then = format!(
        "a write by its method\n   where it succeeds, reads of the same session (cookie 'wrote') go to {writes} for 5s"
    );
    check("POST", "/posts", &[], "write", &then);
    check("POST", "/posts/search", &[], "read", &later.replace("method", "path"));
    let within = "a read within 5s of a write by the same session (cookie 'wrote')";
    check("GET", "/posts", &["-H", "cookie: wrote=1"], "write", within);
    let json = explain("GET", "/posts", &["-H", "cookie: wrote=1", "--output", "json"]).json();
    let group = &json["verdict"]["forward"]["group"];
    assert_eq!((&group["group"], &group["by"]), (&"write".into(), &"session".into()));
    assert_eq!(group["read_your_writes"]["for_ms"], 5_000);
    // Workloads that call the service are told apart, too.
    let inside = naru(&directory, &["explain", "DELETE", "http://posts:8080/posts/1", "--config", GROUPS]);
    assert!(inside.out.contains(writes), "{}", inside.out);
}

#[test]
fn explain_helps_who_misspells() {
    let directory = Directory::new();
    let said = naru(&directory, &["explain", "GET", "http://reviewz:9080/", "--config", EXAMPLE]);
    assert!(
        said.out.contains("nobody has this host here")
            && said.out.contains("PassthroughCluster")
            && said.out.contains("did you mean 'reviews:9080'?"),
        "{}",
        said.out
    );
    for (arguments, expected) in [
        (&["explain", "GET", "/reviews", "--config", EXAMPLE][..], "names no host"),
        (
            &["explain", "GET", "http://reviews:9080/", "-H", "end-user", "--config", EXAMPLE],
            "write 'name: value'",
        ),
        (
            &["explain", "GET", "http://reviews:9080/", "--from", "nobody", "--config", EXAMPLE],
            "there is no Deployment 'nobody'",
        ),
        (&["explain", "GET", "http://reviews:9080/", "--config", "nowhere"], "nowhere"),
    ] {
        let said = naru(&directory, arguments);
        assert_ne!(said.code, Some(0), "{arguments:?}: {}", said.out);
        assert!(said.err.contains(expected), "{expected:?} is not in\n{}", said.err);
    }
}

#[test]
fn a_list_is_what_stands_in_it() {
    let directory = Directory::new();
    let item = |text: &str| text.lines().fold(String::new(), |out, line| format!("{out}  {line}\n"));
    let list = format!("apiVersion: v1\nkind: List\nitems:\n-{}-{}", &item(RULE)[1..], &item(SERVICE)[1..]);
    directory.write("list.yaml", &list);
    let said = naru(&directory, &["check", "list.yaml"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("unknown-subset") && said.err.contains("list.yaml:29:47"), "{}", said.err);
}

/// A route with what few routes have.
const RARE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: shadow}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - fault: {delay: {fixedDelay: 1s, percentage: {value: 0.5}}, abort: {httpStatus: 503, percentage: {value: 20}}}
    mirrors: [{destination: {host: shadow}, percentage: {value: 10}}]
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: 5xx}
    route: [{destination: {host: orders}}]
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: orders}
spec:
  targetRef: {kind: VirtualService, name: orders}
  hedge: {onPerTryTimeout: true}
  fault: {scope: Upstream}
  timeout: {auto: {quantile: 99, factor: 3, min: 100ms, max: 5s}}
";

#[test]
fn explain_says_what_few_routes_have() {
    let directory = Directory::new();
    directory.write("all.yaml", RARE);
    let said = naru(&directory, &["explain", "GET", "http://orders/", "--config", "."]).out;
    for line in [
        "timeout automatic; at most 3 calls (2 retries), on 5xx",
        "its timeout is p99 of what is observed, times 3, from 100ms to 5s  (./all.yaml:29:19)",
        "a try that takes too long goes on beside the next  (./all.yaml:27:10)",
        "a fault delays 0.5% of the attempts by 1s  (./all.yaml:17:12)",
        "a fault answers 20% of the attempts with 503  (./all.yaml:17:12)",
        "10% of the requests are copied to outbound|80||shadow.default.svc.cluster.local  (./all.yaml:18:15)",
    ] {
        assert!(said.lines().any(|known| known.trim() == line), "{line} is not in\n{said}");
    }
}
