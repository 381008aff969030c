//! What Envoy 1.40 or an RFC does with headers that naru once did not.

use naru_tests::http2::{self, H2Client};
use naru_tests::upstream::{header, headers};
use naru_tests::{Bootstrap, Naru, Speaks};

use super::Stand;

#[tokio::test]
async fn who_a_client_certificate_names_is_not_taken_from_a_client() {
    // The default of `forward_client_cert_details` is SANITIZE.
    for manager in ["", "use_remote_address: true"] {
        let seen = Stand::new(manager).await.sees(&[("x-forwarded-client-cert", "By=spiffe://a")]).await;
        assert_eq!(header(&seen, "x-forwarded-client-cert"), None, "{manager}");
    }
}

#[tokio::test]
async fn the_external_address_is_told_also_where_the_router_adds_no_headers() {
    let up = naru_tests::Upstream::plain(Speaks::Http1).await;
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let text = Bootstrap::to(up.address).manager("use_remote_address: true").text();
    let text = text.replace(router, &format!("{router}\n              suppress_envoy_headers: true"));
    let naru = Naru::on(&text);
    let seen = naru_tests::client::get(naru.address, "/describe").await.json();
    assert_eq!(header(&seen, "x-envoy-external-address"), Some("127.0.0.1"));
}

#[tokio::test]
async fn pieces_of_a_cookie_are_joined_for_http1() {
    // RFC 9113, section 8.2.3.
    let stand = Stand::new("").await;
    let mut client = H2Client::connect(stand.naru.address).await;
    let mut get = http2::get(stand.naru.address, "/describe");
    for piece in ["a=1", "b=2", "c=3"] {
        get.headers_mut().append("cookie", piece.parse().unwrap());
    }
    let (response, _) = client.request(get, true).await;
    let mut body = http2::response(response).await.unwrap().into_body();
    let seen = serde_json::from_slice(&http2::read(&mut body).await.unwrap().0).unwrap();
    assert_eq!(headers(&seen, "cookie"), ["a=1; b=2; c=3"]);
}
