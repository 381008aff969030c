//! The same requests to naru and to Envoy, whose filters compress: the same heads, and bodies that say the same.

use naru_tests::wire::Message;
use naru_tests::{Bootstrap, Envoy, Naru, Speaks, Upstream, Wire};

use super::decoded;

const FILTERS: [(&str, &str); 3] = [
    ("brotli", "brotli.compressor.v3.Brotli"),
    ("gzip", "gzip.compressor.v3.Gzip"),
    ("zstd", "zstd.compressor.v3.Zstd"),
];

fn bootstrap(up: &Upstream, response: &str) -> Bootstrap {
    FILTERS.iter().fold(Bootstrap::to(up.address), |bootstrap, (name, library)| {
        bootstrap.filter(&format!(
            "- {{name: {name}, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor, \
             response_direction_config: {{{response}}}, compressor_library: {{name: {name}, typed_config: \
             {{'@type': type.googleapis.com/envoy.extensions.compression.{library}}}}}}}}}"
        ))
    })
}

/// What of an answer both must say alike.
fn said(answer: &Message) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let names = ["accept-ranges", "content-encoding", "content-length", "content-type", "etag", "vary"];
    // A list may stand in one line or in several.
    let of = |name: &str| {
        Some((name.to_owned(), answer.head.all(name).join(", "))).filter(|(_, said)| !said.is_empty())
    };
    let headers = names.iter().filter_map(|name| of(name)).collect();
    let body = match answer.head.get("content-encoding").filter(|coding| *coding != "x") {
        Some(coding) => decoded(coding, &answer.body),
        None => answer.body.clone(),
    };
    (answer.status(), headers, body)
}

async fn play(response: &str) {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&bootstrap(&up, response));
    let envoy = Envoy::start(&bootstrap(&up, response).admin().text()).await;
    let accepted = [
        "",
        "gzip",
        "br",
        "zstd",
        "gzip, br",
        "br, gzip",
        "gzip;q=0.5, br;q=0.4",
        "gzip;q=0",
        "*",
        "*;q=0",
        "identity",
        "identity;q=0.5, gzip;q=0.4",
        "gzip;q=x, br",
        "deflate",
        "deflate, gzip;q=0.3, *;q=0.1",
        "gzip ; q=0.2 , zstd;q=0.3",
    ];
    let replies = [
        "content-type: text/plain",
        "content-type: text/html; charset=utf-8 | etag: \"strong\"",
        "content-type: TEXT/CSS | etag: W/\"weak\"",
        "content-type: application/json | vary: origin",
        "content-type: application/json | vary: origin, Accept-Encoding",
        "content-type: image/png",
        "content-type: text/plain | cache-control: private, no-transform",
        "content-type: text/plain | content-encoding: x",
        "content-type: text/event-stream",
    ];
    let (mut cases, mut differences) = (0, Vec::new());
    for (at, accepted) in accepted.iter().enumerate() {
        for (path, reply) in ["/bytes/29", "/bytes/30", "/bytes/5000", "/chunks/20000", "/status/404"]
            .iter()
            .flat_map(|path| replies.iter().map(move |reply| (path, reply)))
        {
            // Without the field, where it says nothing the second time.
            let field = match (at, accepted.is_empty()) {
                (_, true) => String::new(),
                (_, false) => format!("accept-encoding: {accepted}\r\n"),
            };
            let method = if cases % 11 == 10 { "HEAD" } else { "GET" };
            let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nx-reply: {reply}\r\n{field}\r\n");
            let mut both = Vec::new();
            for address in [naru.address, envoy.address] {
                let mut wire = Wire::connect(address).await;
                wire.send(&request).await;
                let head = wire.head().await;
                let answer = match method {
                    "HEAD" => Message { head, ..Message::default() },
                    _ => match wire.rest(head, true).await {
                        naru_tests::wire::Transfer::Whole(message) => message,
                        broken => panic!("{request}: {broken:?}"),
                    },
                };
                both.push(match method {
                    "HEAD" => (
                        answer.status(),
                        said(&Message { body: Vec::new(), ..without_coding(answer) }).1,
                        Vec::new(),
                    ),
                    _ => said(&answer),
                });
            }
            let heads = format!("naru: {:?}\nEnvoy: {:?}", (both[0].0, &both[0].1), (both[1].0, &both[1].1));
            if both[0] != both[1] {
                differences.push(format!("{request}{heads}"));
            }
            cases += 1;
        }
    }
    assert!(differences.is_empty(), "{} of {cases}: {}", differences.len(), differences.concat());
    assert!(cases > 600, "{cases}");
}

/// There is no body that could be in it.
fn without_coding(answer: Message) -> Message {
    assert_eq!(answer.head.get("content-encoding").filter(|coding| *coding != "x"), None);
    let mut answer = answer;
    answer.head.headers.retain(|(name, _)| name != "content-encoding");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn naru_compresses_what_envoy_compresses() {
    play("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_act_as_at_envoy() {
    play(
        "common_config: {min_content_length: 5000, content_type: [text/plain, text/event-stream]}, \
         disable_on_etag_header: true, uncompressible_response_codes: [404], remove_accept_encoding_header: true",
    )
    .await;
}
