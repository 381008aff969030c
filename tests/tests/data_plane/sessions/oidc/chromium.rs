//! The whole way as a real browser goes it: to a real provider over TLS, on another site, and back, by cookies that no
//! script reads.

use naru_tests::Authority;
use naru_tests::wait::PATIENCE;
use tokio::net::TcpListener;

use super::super::browser::{Chromium, report};
use super::*;

const SCRIPT: &str = "
const said = [['page', location.pathname + location.search, document.cookie]];
const ask = async (method, path) => {
  const answer = await fetch(path, { method });
  await answer.text();
  return answer.status;
};
(async () => {
  try {
    said.push(['api', await ask('GET', '/describe')]);
    said.push(['post', await ask('POST', '/describe')]);
    said.push(['refresh', await ask('POST', '/api/key/refresh')]);
    said.push(['api', await ask('GET', '/describe')]);
    said.push(['logout', await ask('POST', '/api/auth/logout')]);
    said.push(['out', await ask('GET', '/describe')]);
    said.push(['no more', await ask('POST', '/api/key/refresh')]);
  } catch (error) { said.push(['error', String(error)]); }
  await fetch(REPORT, { method: 'POST', mode: 'no-cors', body: 'said=' + JSON.stringify(said) + '=said' });
})();
";

#[tokio::test]
async fn a_browser_is_led_to_the_provider_and_back_and_has_a_session_in_chromium() {
    let address = free_address();
    let reports = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://localhost:{}", address.port());
    let authority = Authority::new();
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let trusted = files.write("ca.pem", &authority.pem());
    let own = authority.issue_for("127.0.0.1");
    let provider = Provider::start(&[format!("{origin}/oidc/callback")], |settings| {
        let issuer = settings["issuer"].as_str().unwrap().replace("http://", "https://");
        settings["issuer"] = json!(issuer);
        settings["certificate"] = json!(own.chain);
        settings["key"] = json!(own.key);
    })
    .await;
    let script = format!("const REPORT = 'http://{}/';{SCRIPT}", reports.local_addr().unwrap());
    let page = serde_json::to_string(&format!("<!doctype html><script>{script}</script>")).unwrap();
    let rules = format!(
        "  - match: [{{ uri: {{ exact: /page }} }}]
    directResponse: {{ status: 200, body: {{ string: {page} }} }}
    headers: {{ response: {{ set: {{ content-type: text/html }} }} }}
"
    );
    let servers = format!(
        "[{{ port: {{ number: {}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]",
        address.port()
    );
    let more = format!(", caCertificates: {}", trusted.display());
    let login = format!("{{ oidc: {} }}", oidc(&provider.issuer(), &files, &more));
    let _naru = start(with_login(&upstream, &servers, &login, &kept_in(&files), &rules));
    is_ready(address).await;
    let _chromium = Chromium::open(&files, &format!("{origin}/page?a=b%2Fc"));
    // A browser takes long to start on a machine that has other things to do.
    let said = tokio::time::timeout(PATIENCE * 4, report(reports)).await.unwrap();
    let expected = json!([
        ["page", "/page?a=b%2Fc", ""],
        ["api", 200],
        ["post", 200],
        ["refresh", 200],
        ["api", 200],
        ["logout", 204],
        ["out", 401],
        ["no more", 401],
    ]);
    assert_eq!(said, expected);
}

#[tokio::test]
async fn a_provider_whose_certificate_nobody_vouches_for_is_away() {
    let address = free_address();
    let authority = Authority::new();
    let own = authority.issue_for("127.0.0.1");
    let provider = Provider::start(&[back_to(address)], |settings| {
        let issuer = settings["issuer"].as_str().unwrap().replace("http://", "https://");
        settings["issuer"] = json!(issuer);
        settings["certificate"] = json!(own.chain);
        settings["key"] = json!(own.key);
    })
    .await;
    let shop = Shop::open(address, &provider.issuer(), "", "").await;
    is_ready(address).await;
    assert_eq!(Person::default().page(&format!("http://{address}/describe")).await.status, 503);
    drop(shop);
}
