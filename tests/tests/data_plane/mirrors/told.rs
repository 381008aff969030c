//! What people are told of mirrors: the page, and the numbers.

use naru_tests::client::{get, request};
use naru_tests::{Bootstrap, Client, Outbound, Program, Speaks, Upstream, until};

/// Compares, which a file says in the metadata of a route.
const ROUTES: &str = r#"
- name: shop
  match: { prefix: / }
  metadata: { filter_metadata: { naru.route: { recovery: { mirrors: [{ at: 0, compare: { bytes: 65536 } }] } } } }
  route: { cluster: up, request_mirror_policies: [{ cluster: next }, { cluster: gone }] }
"#;

#[tokio::test]
async fn the_pages_tell_of_copies_and_of_what_their_answers_differ_in() {
    let (up, next) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
    let bootstrap = Bootstrap::new(ROUTES)
        .cluster("up", up.address, "")
        .cluster("next", next.address, "")
        .cluster("gone", naru_tests::wire::refusing_address(), "")
        .admin();
    let program = Program::start(&bootstrap, &["--workers", "2"]).await;
    let admin = program.admin.unwrap();
    let page = async |path: &str| get(admin, path).await;
    assert!(page("/").await.text().contains("/mirrors"));
    let said = page("/mirrors").await.text();
    assert!(said.starts_with("everything shop -> gone\n  copies 0, answered 0"), "{said}");
    // Over several connections, so that both workers may have some.
    for _ in 0..6 {
        let mut client = Client::plain(program.address, Speaks::Http1).await;
        let mut asked = request(http::Method::GET, "/describe", Outbound::empty());
        asked
            .headers_mut()
            .insert("x-reply", "x-control: a\u{7f}b".parse().unwrap_or("x-control: ab".parse().unwrap()));
        client.exchange(asked).await;
    }
    let told = until("all to be compared", async || {
        let told = page("/mirrors?format=json").await.json();
        (told["mirrors"][1]["comparison"]["compared"] == 6 && told["mirrors"][0]["failed"] == 6)
            .then_some(told)
    })
    .await;
    let [gone, mirror] = [0, 1].map(|at| &told["mirrors"][at]);
    assert_eq!(
        (&gone["cluster"], &gone["answered"], &gone["comparison"]),
        (&"gone".into(), &0.into(), &().into())
    );
    assert_eq!((&mirror["route"], &mirror["cluster"]), (&"shop".into(), &"next".into()));
    assert_eq!(
        (&mirror["copies"], &mirror["answered"], &mirror["statuses"]["200"]),
        (&6.into(), &6.into(), &6.into())
    );
    let comparison = &mirror["comparison"];
    // It describes the request: that it is a copy is seen in its headers, by their number and what they say.
    assert_eq!(comparison["different_ppm"].as_u64().unwrap() * 6 % 1_000_000, 0);
    assert!(comparison["noise"]["learned"].as_u64().unwrap() == 6, "{comparison}");
    assert!(comparison["milliseconds_to_head"]["copy"]["p99_at_most"].is_number());

    let said = page("/mirrors").await.text();
    for expected in [
        "everything shop -> next\n  copies 6, answered 6, refused 0, failed 0, timed out 0, too slow 0, abandoned 0\n",
        "  compared 6, different ",
        "  noise, learned 6 times: body.headers",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    let stats = page("/stats").await.text();
    for expected in [
        "cluster.next.upstream_rq_200: 6\n",
        "cluster.next.upstream_rq_total: 6\n",
        "cluster.gone.upstream_rq_503: 6\n",
        "mirror.everything.shop.next.compared: 6\n",
        "mirror.everything.shop.next.answered: 6\n",
        "mirror.everything.shop.gone.failed: 6\n",
        "mirror.copies_active: 0\n",
    ] {
        assert!(stats.contains(expected), "{expected:?} is not in\n{stats}");
    }
    let metrics = page("/metrics").await.text();
    for expected in [
        "naru_mirror_compared{virtual_host=\"everything\",route=\"shop\",envoy_cluster_name=\"next\"} 6\n",
        "naru_mirror_failed{virtual_host=\"everything\",route=\"shop\",envoy_cluster_name=\"gone\"} 6\n",
        "naru_mirror_copies_active 0\n",
    ] {
        assert!(metrics.contains(expected), "{expected:?} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_program_without_mirrors_says_so() {
    let up = Upstream::plain(Speaks::Http1).await;
    let program = Program::start(&Bootstrap::to(up.address).admin(), &[]).await;
    let said = get(program.admin.unwrap(), "/mirrors").await;
    assert_eq!(said.text(), "no route has a mirror\n");
    let told = get(program.admin.unwrap(), "/mirrors?format=json").await.json();
    assert_eq!(told, serde_json::json!({ "mirrors": [] }));
}
