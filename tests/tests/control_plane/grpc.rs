//! Clients of gRPC that resolve `xds:///reviews:9080`, in Python and in JavaScript.

use std::collections::BTreeMap;

use naru_tests::control::bootstrap;
use naru_tests::up::free_address;
use naru_tests::{Foreign, Up, until};
use serde_json::{Value, json};

use super::{count, reviews};

/// So many calls are asked for at once.
const AT_ONCE: usize = 500;

/// Jason's calls go to v3; of all others, so many in a hundred to v1 and v2.
fn routing(v1: u32, v2: u32) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: reviews }}
spec:
  hosts: [reviews]
  http:
  - name: jason
    match: [{{ headers: {{ end-user: {{ exact: jason }} }} }}]
    route: [{{ destination: {{ host: reviews, subset: v3 }} }}]
  - name: split
    route:
    - {{ destination: {{ host: reviews, subset: v1 }}, weight: {v1} }}
    - {{ destination: {{ host: reviews, subset: v2 }}, weight: {v2} }}
"
    )
}

/// Who answered how many of these calls. All of them are answered.
async fn call(client: &mut Foreign, metadata: Value, count: usize) -> BTreeMap<String, usize> {
    let mut by = BTreeMap::new();
    let mut left = count;
    while left > 0 {
        let batch = left.min(AT_ONCE);
        left -= batch;
        let command =
            json!({ "do": "call", "to": "xds:///reviews:9080", "count": batch, "metadata": metadata });
        let answer = client.ask(command).await;
        assert_eq!(answer["codes"], json!({ "OK": batch }), "{answer}");
        for (who, calls) in answer["by"].as_object().unwrap() {
            *by.entry(who.clone()).or_default() += usize::try_from(calls.as_u64().unwrap()).unwrap();
        }
    }
    by
}

/// Splits, a header, and another split, without a restart.
async fn check(script: &'static str) {
    let xds = free_address();
    let files = [("reviews.yaml", reviews("grpc")), ("routing.yaml", routing(80, 20))];
    let up = Up::start(&files, &["--workers", "1", "--access-log", "none", "--xds", &xds.to_string()]).await;
    let mut client = Foreign::start(script);
    let bootstrap: Value = serde_json::from_str(&bootstrap(xds, &["--grpc", "--id", "caller"])).unwrap();
    client.ask(json!({ "do": "begin", "bootstrap": bootstrap })).await;
    // Processes start one after another.
    for metadata in [json!([]), json!([["end-user", "jason"]])] {
        let mut seen = std::collections::BTreeSet::new();
        let wanted = if metadata == json!([]) { 2 } else { 1 };
        until("all versions to be called", async || {
            let command =
                json!({ "do": "call", "to": "xds:///reviews:9080", "count": 20, "metadata": metadata });
            let answer = client.ask(command).await;
            seen.extend(answer["by"].as_object().unwrap().keys().cloned());
            (answer["codes"] == json!({ "OK": 20 }) && seen.len() == wanted).then_some(())
        })
        .await;
    }
    let calls = count("NARU_CALLS", 1_000);
    // Five times the deviation of the short form; of 10,000 calls, two points.
    let points = if calls >= 10_000 { 2.0 } else { 6.5 };
    let share = |by: &BTreeMap<String, usize>, who: &str| by[who] as f64 * 100.0 / calls as f64;
    let by = call(&mut client, json!([]), calls).await;
    assert_eq!(by.len(), 2, "{by:?}");
    assert!((share(&by, "reviews/v2") - 20.0).abs() <= points, "{by:?}");
    let by = call(&mut client, json!([["end-user", "jason"]]), 200).await;
    assert_eq!(by, BTreeMap::from([("reviews/v3".to_owned(), 200)]));

    up.save("routing.yaml", &routing(0, 100));
    until("the other split", async || {
        let by = call(&mut client, json!([]), 20).await;
        (by == BTreeMap::from([("reviews/v2".to_owned(), 20)])).then_some(())
    })
    .await;
    let by = call(&mut client, json!([]), 200).await;
    assert_eq!(by, BTreeMap::from([("reviews/v2".to_owned(), 200)]));

    // A service that nobody has defined. In JavaScript its calls wait until their time is over.
    if script.ends_with(".py") {
        let answer = client.ask(json!({ "do": "call", "to": "xds:///nobody:80", "count": 1 })).await;
        assert_eq!(answer["codes"], json!({ "UNAVAILABLE": 1 }), "{answer}");
    }
    naru_tests::control::is_current(up.admin, "caller").await;
}

#[tokio::test]
async fn clients_in_python_need_no_proxy() {
    check("xds/client.py").await;
}

#[tokio::test]
async fn clients_in_javascript_need_no_proxy() {
    check("xds/client.mjs").await;
}
