//! What a page of another origin may do and read, as a real browser sees it.

use tokio::net::TcpListener;

use super::*;
use crate::sessions::browser::{Chromium, report};

const SCRIPT: &str = "
const said = [];
const ask = async (path, options) => {
  try {
    const answer = await fetch(API + path, options);
    await answer.text();
    return [answer.status, answer.headers.get('x-own'), answer.headers.get('x-hidden')];
  } catch (error) { return 'not read'; }
};
(async () => {
  said.push(['simple', ...await ask('/cors', {})]);
  said.push(['preflighted', ...await ask('/cors', { method: 'PUT', headers: { 'x-api-key': 'abc' } })]);
  said.push(['refused', ...await ask('/cors', { method: 'PUT', headers: { 'x-api-key': 'none' } })]);
  said.push(['other method', await ask('/cors', { method: 'DELETE' })]);
  said.push(['other header', await ask('/cors', { headers: { 'x-other': '1' } })]);
  said.push(['no policy', await ask('/plain', {})]);
  await fetch(REPORT, { method: 'POST', mode: 'no-cors', body: 'said=' + JSON.stringify(said) + '=said' });
})();
";

#[tokio::test]
async fn a_page_of_another_origin_does_and_reads_what_it_may_in_chromium() {
    let (up, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let address = free_address();
    let reports = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let report_to = reports.local_addr().unwrap();
    // The page stands at the same address, under another name.
    let (page_at, api) = (format!("http://localhost:{}", address.port()), format!("http://{address}"));
    let script = format!("const API = '{api}', REPORT = 'http://{report_to}/';{SCRIPT}");
    let page = serde_json::to_string(&format!("<!doctype html><body><script>{script}</script>")).unwrap();
    let cors = format!(
        "corsPolicy: {{ allowOrigins: [{{ exact: '{page_at}' }}], allowMethods: [GET, PUT], allowHeaders: [x-api-key], exposeHeaders: [x-own] }}"
    );
    let own = "headers: { response: { set: { x-own: shown, x-hidden: hidden } } }";
    let routes = format!(
        "  - {{ name: page, match: [{{ uri: {{ prefix: /page }} }}], directResponse: {{ status: 200, body: {{ string: {page} }} }}, headers: {{ response: {{ set: {{ content-type: text/html }} }} }} }}
  - {{ name: keyed, match: [{{ uri: {{ exact: /cors }}, method: {{ exact: PUT }} }}, {{ uri: {{ exact: /cors }}, method: {{ exact: OPTIONS }} }}], route: UP, {cors}, {own} }}
  - {{ name: cors, match: [{{ uri: {{ exact: /cors }} }}], route: UP, {cors}, {own} }}
  - {{ name: plain, route: UP, {own} }}"
    );
    let keyed = format!(
        "  targetRef: {{ kind: VirtualService, name: shop, sectionName: keyed }}\n  apiKeys: {{ keys: [{{ client: ann, sha256: '{OF_ABC}' }}] }}"
    );
    let naru = start(planned_at(address, &up, &routes, &policy("keyed", &keyed)));
    let _chromium = Chromium::open(&files, &format!("{page_at}/page"));
    // A browser takes long to start on a machine that has other things to do.
    let said = tokio::time::timeout(naru_tests::wait::PATIENCE * 4, report(reports)).await.unwrap();
    let expected = serde_json::json!([
        ["simple", 200, "shown", null],
        ["preflighted", 200, "shown", null],
        ["refused", 401, "shown", null],
        ["other method", "not read"],
        ["other header", "not read"],
        ["no policy", "not read"],
    ]);
    assert_eq!(said, expected);
    drop(naru);
}
