//! Clusters: what is known of them and the connections to them outlive a snapshot.

use naru_tests::bootstrap::{HTTP2, TO_UP, upstream_tls};
use naru_tests::client::get;
use naru_tests::{Authority, Bootstrap, Client, Naru, Speaks, Upstream, until};

/// Requests at all endpoints of a cluster, ever.
fn requests_at(naru: &Naru, cluster: &str) -> u64 {
    let clusters = naru.clusters();
    let cluster = clusters.iter().find(|known| known.name == cluster).unwrap();
    cluster.endpoints.iter().map(|endpoint| endpoint.requests_total).sum()
}

#[tokio::test]
async fn connections_to_upstreams_survive_what_does_not_concern_them() {
    for (speaks, lines) in [(Speaks::Http1, ""), (Speaks::Http2, HTTP2)] {
        let up = Upstream::plain(speaks).await;
        let other = Upstream::plain(Speaks::Http1).await;
        let to_up = |number: usize| {
            // The cluster is not always the first, and has not always the same weights and timeouts.
            let routes = TO_UP.replace("prefix: \"/\"", &format!("prefix: \"/{}\"", number % 2));
            let mut file = Bootstrap::new(&format!("{routes}{TO_UP}"));
            if number % 2 == 1 {
                file = file.cluster("other", other.address, "");
            }
            let lines = format!("connect_timeout: {}s\n{lines}", number + 1);
            file.weighted_cluster("up", &[(up.address, 1 + number as u32 % 3)], &lines)
        };
        let naru = Naru::start(&to_up(0));
        let mut client = Client::plain(naru.address, Speaks::Http1).await;
        for number in 1..20 {
            assert_eq!(client.get("/bytes/1").await.text(), "x");
            naru.update(&to_up(number).text()).await;
        }
        assert_eq!(client.get("/bytes/1").await.text(), "x");
        assert_eq!((up.connections(), up.requests()), (1, 20));
        assert_eq!(requests_at(&naru, "up"), 20);
        let report = naru.report().await;
        let of_up = report.clusters.iter().find(|cluster| &*cluster.name == "up").unwrap();
        assert_eq!((of_up.requests_total, of_up.connections_total, of_up.connections_active), (20, 1, 1));
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn connections_that_would_be_made_otherwise_are_not_used_again() {
    let authority = Authority::new();
    let plain = Upstream::plain(Speaks::Http1).await;
    let secured = Upstream::serve(Speaks::Http1Tls, &authority).await;
    let directory = naru_tests::files::Directory::new();
    let trusted = directory.write("ca.pem", &authority.pem());
    let tls = upstream_tls(&authority);
    let from_file = tls.replace(
        &format!("inline_string: {:?}", authority.pem()),
        &format!("filename: {:?}", trusted.display().to_string()),
    );
    assert_ne!(tls, from_file);
    let naru = Naru::start(&Bootstrap::to(plain.address));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    assert_eq!(client.get("/status/201").await.status, 201);
    let to = |up: &Upstream, tls: &str| Bootstrap::new(TO_UP).cluster("up", up.address, tls).text();
    // Other settings, the same settings, the same in other words, another content of the same file.
    for (tls, connections) in [(&tls, 1), (&tls, 1), (&from_file, 2), (&from_file, 2)] {
        naru.update(&to(&secured, tls)).await;
        assert_eq!(client.get("/status/202").await.status, 202);
        assert_eq!(secured.connections(), connections);
        assert_eq!(naru.upstream_connections().await, 1, "the old ones are closed");
    }
    directory.write("ca.pem", &format!("{}{}", authority.pem(), Authority::new().pem()));
    naru.update(&to(&secured, &from_file)).await;
    assert_eq!(client.get("/status/202").await.status, 202);
    assert_eq!(secured.connections(), 3);
    let counted = requests_at(&naru, "up");
    assert_eq!(counted, 5, "what is known of an address stays");
    naru.update(&Bootstrap::to(plain.address).text()).await;
    assert_eq!(client.get("/status/201").await.status, 201);
    assert_eq!((plain.connections(), naru.upstream_connections().await), (2, 1));
}

#[tokio::test]
async fn a_rotation_goes_on_where_it_was() {
    let ups = [
        Upstream::plain(Speaks::Http1).await,
        Upstream::plain(Speaks::Http1).await,
        Upstream::plain(Speaks::Http1).await,
    ];
    let addresses = ups.each_ref().map(|up| up.address);
    let file = Bootstrap::new(TO_UP).cluster_of("up", &addresses, "").text();
    let naru = Naru::on(&file);
    for _ in 0..9 {
        get(naru.address, "/bytes/1").await;
        naru.update(&file).await;
    }
    assert_eq!(ups.each_ref().map(Upstream::requests), [3, 3, 3]);
}

#[tokio::test]
async fn counters_go_on_by_name() {
    let up = Upstream::plain(Speaks::Http1).await;
    let routes = |first: &str| {
        format!("- match: {{ prefix: /first }}\n  route: {{ cluster: {first}, prefix_rewrite: / }}\n{TO_UP}")
    };
    let both =
        Bootstrap::new(&routes("first")).cluster("first", up.address, "").cluster("up", up.address, "");
    let turned =
        Bootstrap::new(&routes("first")).cluster("up", up.address, "").cluster("first", up.address, "");
    let gone = Bootstrap::new(TO_UP).cluster("new", up.address, "").cluster("up", up.address, "");
    let naru = Naru::start_with(&both, &naru_proxy::Options { workers: 2, seed: Some(1) });
    let mut expected = [0, 0];
    for file in [&both, &turned, &gone, &turned, &both, &gone] {
        naru.update(&file.text()).await;
        get(naru.address, "/first/bytes/1").await;
        get(naru.address, "/first/bytes/1").await;
        get(naru.address, "/bytes/1").await;
        if std::ptr::eq(file, &gone) {
            expected[1] += 3;
        } else {
            expected[0] += 2;
            expected[1] += 1;
        }
        naru.ended(expected.iter().sum()).await;
        let report = naru.report().await;
        let counted = ["first", "up"].map(|name| {
            let series = report.series.iter().filter(|series| series.cluster.as_deref() == Some(name));
            let requests: u64 = series.map(naru_proxy::metrics::Series::requests).sum();
            let of_cluster = report.clusters.iter().find(|cluster| &*cluster.name == name).unwrap();
            assert_eq!(of_cluster.requests_total, requests, "{name}");
            requests
        });
        assert_eq!(counted, expected);
        assert_eq!(report.downstream.requests_total, expected.iter().sum::<u64>());
    }
}

/// Found in the file of hosts, without a server.
fn by_name(port: u16, more: &str) -> String {
    let address = ([127, 0, 0, 1], port).into();
    let text = Bootstrap::new(TO_UP).cluster("up", address, "type: STRICT_DNS").text();
    let text = text
        .replace(&format!("\"127.0.0.1\", port_value: {port}"), &format!("localhost, port_value: {port}"));
    assert!(text.contains("localhost"), "{text}");
    text.replace("type: STRICT_DNS", &format!("type: STRICT_DNS\n    dns_lookup_family: V4_ONLY{more}"))
}

#[tokio::test]
async fn a_name_that_is_new_is_looked_up_before_it_is_used() {
    let up = Upstream::plain(Speaks::Http1).await;
    let second = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(second.address));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    naru.update(&by_name(up.address.port(), "")).await;
    assert_eq!(client.get("/status/201").await.status, 201);
    // It stays as it is; it is looked up more often; it is elsewhere.
    naru.update(&by_name(up.address.port(), "")).await;
    assert_eq!(client.get("/status/202").await.status, 202);
    naru.update(&by_name(up.address.port(), "\n    dns_refresh_rate: 0.1s")).await;
    assert_eq!(client.get("/status/203").await.status, 203);
    assert_eq!((up.connections(), up.requests()), (1, 3));
    assert_eq!(requests_at(&naru, "up"), 3);
    naru.update(&by_name(second.address.port(), "")).await;
    assert_eq!(client.get("/status/201").await.status, 201);
    assert_eq!((second.connections(), second.requests()), (1, 1));
    until("the old connection to be closed", async || (naru.upstream_connections().await == 1).then_some(()))
        .await;
}

#[tokio::test]
async fn a_name_without_an_answer_does_not_hold_an_update_up() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let text = by_name(up.address.port(), "").replace("localhost", "no-such-host.invalid");
    let started = std::time::Instant::now();
    naru.update(&text).await;
    assert!(started.elapsed() < naru_tests::wait::PATIENCE / 3, "{:?}", started.elapsed());
    assert_eq!(get(naru.address, "/bytes/1").await.status, 503);
    naru.update(&Bootstrap::to(up.address).text()).await;
    assert_eq!(get(naru.address, "/bytes/1").await.status, 200);
}
