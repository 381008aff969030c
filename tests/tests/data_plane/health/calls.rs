//! By gRPC, asked of a server that others have written.

use naru_guard::Health::{self, Failed, Healthy};
use naru_spec::{GrpcCheck, Probe};
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::{Bootstrap, Speaks, Upstream, until};

use super::{becomes, guard, often, start, start_to, stats};
use crate::grpc::peers::Peers;

#[tokio::test]
async fn only_a_service_that_says_serving_is_well() {
    let peers = Peers::start().await;
    let bootstrap = Bootstrap::new(TO_UP).cluster("up", peers.server, HTTP2);
    let cases: [(&str, Health); 8] = [
        ("", Healthy),
        ("serving", Healthy),
        // A name of which the length takes two bytes.
        (
            "serving by a name that is longer than any that somebody would give to a service, so that the length of it \
          is written in more than one byte",
            Healthy,
        ),
        ("not-serving", Failed),
        ("unknown", Failed),
        ("5 no such service", Failed),
        ("12 no health checks here", Failed),
        ("0 nothing is said", Failed),
    ];
    for (service, expected) in cases {
        let check = GrpcCheck { service: service.to_owned(), authority: String::new() };
        let naru = start(&bootstrap, guard(often(Probe::Grpc(check))));
        becomes(&naru, &[expected]).await;
        assert_eq!(stats(&naru).network_failure, 0, "{service}");
    }
}

#[tokio::test]
async fn a_server_without_the_service_and_one_that_speaks_no_grpc_are_not_well() {
    let mut peers = Peers::start().await;
    let naru = start_to(&[peers.server], often(Probe::Grpc(GrpcCheck::default())));
    becomes(&naru, &[Healthy]).await;
    peers.stop().await;
    becomes(&naru, &[Failed]).await;
    // What was under way when it ended may have been answered yet.
    until("nobody to be there", async || (stats(&naru).network_failure > 0).then_some(())).await;
    let http = Upstream::plain(Speaks::Http2).await;
    let naru = start_to(&[http.address], often(Probe::Grpc(GrpcCheck::default())));
    becomes(&naru, &[Failed]).await;
    assert_eq!(stats(&naru).network_failure, 0);
}
