//! The contract as a real browser sees it: a page of another origin logs in, asks, refreshes and logs out, by cookies
//! that it cannot read and headers that it may.

use std::process::{Child, Command, Stdio};

use naru_tests::up::free_address;
use naru_tests::wait::PATIENCE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;

use super::*;

pub struct Chromium(Child);

impl Chromium {
    pub fn open(files: &Directory, url: &str) -> Chromium {
        let child = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--disable-default-apps", "--remote-debugging-port=0"])
            // Nobody is asked but this machine.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1")
            // Authorities of tests are nobody's.
            .arg("--ignore-certificate-errors")
            .arg(format!("--user-data-dir={}", files.path("profile").display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromium: {error}: run `cargo xtask setup` once"));
        Chromium(child)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SCRIPT: &str = "
const said = [];
const ask = async (method, path, headers) => {
  const answer = await fetch(API + path, { method, headers, credentials: 'include' });
  await answer.text();
  return answer;
};
const told = answer => [answer.status, answer.headers.get('x-token-refresh-needed'), answer.headers.get('x-relogin-required')];
(async () => {
  try {
    let answer;
    do { answer = await ask('POST', '/describe/login', { 'x-reply': 'x-session-subject: han' }); } while (answer.status == 503);
    let token = answer.headers.get('authorization');
    const served = async () => {
      for (;;) {
        const answer = await ask('GET', '/describe', { authorization: token });
        if (answer.status != 401 || answer.headers.get('x-token-refresh-needed') != 'true') return answer;
        // A key may be replaced at any moment.
        token = (await ask('POST', '/api/key/refresh', {})).headers.get('authorization');
      }
    };
    said.push(['login', answer.status, token !== null, document.cookie]);
    said.push(['served', ...told(await served())]);
    do { answer = await ask('GET', '/describe', { authorization: token }); } while (answer.status == 200);
    said.push(['old', ...told(answer)]);
    answer = await ask('POST', '/api/key/refresh', {});
    said.push(['refresh', answer.status, answer.headers.get('authorization') !== null, document.cookie]);
    token = answer.headers.get('authorization');
    said.push(['again', (await served()).status]);
    said.push(['logout', (await ask('POST', '/api/auth/logout', { authorization: token })).status]);
    said.push(['out', ...told(await ask('GET', '/describe', { authorization: token }))]);
    said.push(['no more', ...told(await ask('POST', '/api/key/refresh', {}))]);
  } catch (error) { said.push(['error', String(error)]); }
  await fetch(REPORT, { method: 'POST', mode: 'no-cors', body: 'said=' + JSON.stringify(said) + '=said' });
})();
";

/// What the page has to say, once it says it. A browser may have connections that it says nothing on.
pub async fn report(listener: TcpListener) -> serde_json::Value {
    let (said_tx, mut said_rx) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(hear(stream, said_tx.clone()));
        }
    });
    said_rx.recv().await.unwrap()
}

async fn hear(mut stream: TcpStream, said_tx: UnboundedSender<serde_json::Value>) {
    let mut text = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(count) = stream.read(&mut buffer).await
        && count > 0
    {
        text.extend_from_slice(&buffer[..count]);
        let so_far = String::from_utf8_lossy(&text);
        if let Some(said) = so_far.split("said=").nth(1).and_then(|rest| rest.split_once("=said")) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            // Who waits for it hears it once.
            let _ = said_tx.send(serde_json::from_str(said.0).unwrap());
            return;
        }
    }
}

#[tokio::test]
async fn a_page_of_another_origin_keeps_to_the_contract_in_chromium() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let (app, api) = (free_address().port(), free_address().port());
    let reports = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let report_to = reports.local_addr().unwrap();
    let script = format!("const API = 'http://localhost:{api}', REPORT = 'http://{report_to}/';{SCRIPT}");
    let page = serde_json::to_string(&format!("<!doctype html><script>{script}</script>")).unwrap();
    let server = |port: u16, name: &str| {
        format!(
            "{{ port: {{ number: {port}, name: {name}, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}"
        )
    };
    // What the application says of other origins is the application's business: here rules say it.
    let cors = format!(
        "{{ access-control-allow-origin: 'http://localhost:{app}', access-control-allow-credentials: 'true',
          access-control-allow-headers: 'authorization, x-reply', access-control-allow-methods: 'GET, POST' }}"
    );
    let rules = format!(
        "  - match: [{{ uri: {{ exact: /describe/public/page }} }}]
    directResponse: {{ status: 200, body: {{ string: {page} }} }}
    headers: {{ response: {{ set: {{ content-type: text/html }} }} }}
  - match: [{{ method: {{ exact: OPTIONS }} }}]
    directResponse: {{ status: 204 }}
    headers: {{ response: {{ set: {cors} }} }}
  - match: [{{ uri: {{ prefix: / }} }}]
    route: [{{ destination: {{ host: up.test, port: {{ number: {} }} }} }}]
    headers: {{ response: {{ set: {cors} }} }}
",
        upstream.address.port()
    );
    let lines = format!(
        "  cors: {{ allowOrigins: ['http://localhost:{app}'] }}\n  keys: {{ rotateEvery: 3s, grace: 0s }}\n{}",
        kept_in(&files)
    );
    let servers = format!("[{}, {}]", server(app, "app"), server(api, "api"));
    let _naru = start(planned(&upstream, &servers, &lines, &rules));
    let _chromium = Chromium::open(&files, &format!("http://localhost:{app}/describe/public/page"));
    // A browser takes long to start on a machine that has other things to do.
    let said = tokio::time::timeout(PATIENCE * 4, report(reports)).await.unwrap();
    let expected = serde_json::json!([
        ["login", 200, true, ""],
        ["served", 200, null, null],
        ["old", 401, "true", null],
        ["refresh", 200, true, ""],
        ["again", 200],
        ["logout", 204],
        ["out", 401, null, "true"],
        ["no more", 401, null, "true"],
    ]);
    assert_eq!(said, expected);
}
