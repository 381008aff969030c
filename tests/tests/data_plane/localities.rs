//! Where both stand decides who is asked: shares of localities, and who is next when those nearby are ejected, as
//! documents say it.

use naru_plan::{Client as Caller, Surroundings, plan};
use naru_proxy::Options;
use naru_spec::Config;
use naru_tests::{Client, Naru, Speaks, Upstream};

/// In this order: at the caller's zone, in the region that is named after it, elsewhere.
const PLACES: [&str; 3] = ["eu/a", "us/a", "ap/a"];

/// What naru makes of a service with an endpoint in each place, for a caller in `eu/a`.
fn config(upstreams: &[Upstream], rule: &str) -> Config {
    let endpoints: String = upstreams
        .iter()
        .zip(PLACES)
        .map(|(one, place)| {
            let (ip, port) = (one.address.ip(), one.address.port());
            format!("  - {{ address: {ip}, ports: {{ http: {port} }}, locality: {place} }}\n")
        })
        .collect();
    let text = format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: shop }}
spec:
  hosts: [shop.example]
  resolution: STATIC
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  endpoints:
{endpoints}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: shop }}
spec:
  host: shop.example
  trafficPolicy:
{rule}"
    );
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("shop.yaml", &text, &mut loaded);
    let labels = vec![("istio-locality".to_owned(), "eu.a".to_owned())];
    let clients = vec![Caller { labels, ..Caller::unnamed() }];
    let planned = plan(&loaded.resources, &Surroundings { clients, ..Surroundings::default() });
    assert!(loaded.problems.is_empty() && !planned.has_errors(), "{:?}", planned.problems);
    planned.config
}

struct Shop {
    naru: Naru,
    upstreams: Vec<Upstream>,
    client: Client,
}

impl Shop {
    async fn start(rule: &str) -> Shop {
        let mut upstreams = Vec::new();
        for _ in PLACES {
            upstreams.push(Upstream::plain(Speaks::Http1).await);
        }
        let naru = Naru::start_on(config(&upstreams, rule), &Options { workers: 1, seed: Some(1) });
        let client = Client::plain(naru.address, Speaks::Http1).await;
        Shop { naru, upstreams, client }
    }

    /// How many of so many requests each upstream had.
    async fn spread(&mut self, count: usize, path: &str) -> Vec<u64> {
        let requests = |shop: &Shop| shop.upstreams.iter().map(Upstream::requests).collect::<Vec<_>>();
        let before = requests(self);
        for _ in 0..count {
            let mut asked =
                naru_tests::client::request(http::Method::GET, path, naru_tests::Outbound::empty());
            asked.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("shop.example"));
            self.client.exchange(asked).await;
        }
        requests(self).iter().zip(before).map(|(after, before)| after - before).collect()
    }
}

#[tokio::test]
async fn localities_take_the_shares_that_are_said_and_those_that_are_not_named_take_nothing() {
    let rule = "    loadBalancer: { localityLbSetting: { distribute: [\
                { from: 'eu/a/*', to: { 'eu/*': 80, 'us/*': 20 } }] } }\n";
    let mut shop = Shop::start(rule).await;
    let spread = shop.spread(400, "/status/204").await;
    assert_eq!((spread.iter().sum::<u64>(), spread[2]), (400, 0), "{spread:?}");
    assert!((48..=112).contains(&spread[1]), "a fifth of 400 is 80: {spread:?}");
    drop(shop.client);
    shop.naru.settles().await;
}

const EJECTS: &str = "    outlierDetection: { consecutive5xxErrors: 2, interval: 100ms, baseEjectionTime: 600s, \
                      maxEjectionPercent: 100 }\n";

#[tokio::test]
async fn those_nearby_take_all_until_they_are_ejected_and_then_the_region_that_is_named() {
    let rule = format!(
        "    loadBalancer: {{ localityLbSetting: {{ failover: [{{ from: eu, to: us }}] }} }}\n{EJECTS}"
    );
    let mut shop = Shop::start(&rule).await;
    assert_eq!(shop.spread(20, "/status/204").await, [20, 0, 0], "all in the caller's own zone");
    for (next, expected) in [(1, [0, 20, 0]), (2, [0, 0, 20])] {
        // Who is asked now fails, until he is ejected and another is asked.
        for _ in 0..20 {
            if shop.spread(1, "/status/500").await[next] > 0 {
                break;
            }
        }
        assert_eq!(shop.spread(20, "/status/204").await, expected, "{:?}", shop.naru.clusters());
    }
}

#[tokio::test]
async fn where_no_place_comes_first_all_take_the_same() {
    let rule = format!("    loadBalancer: {{ localityLbSetting: {{ enabled: false }} }}\n{EJECTS}");
    let mut shop = Shop::start(&rule).await;
    let spread = shop.spread(300, "/status/204").await;
    assert!(spread.iter().all(|count| (60..=140).contains(count)), "{spread:?}");
}
