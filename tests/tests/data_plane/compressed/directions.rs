//! The other ways round: requests that are compressed, answers that are read out of their coding; what routes and
//! clusters of routes say to these filters. The same on naru and on Envoy, and what naru bounds beside.

use naru_base::Reason;
use naru_coding::Coding;
use naru_spec::{Check, CheckKind, Coder, Compressor, ContentCoding, DecompressedAnswers, Decompressor};
use naru_tests::wire::{Message, Transfer};
use naru_tests::{Bootstrap, Envoy, Naru, Speaks, Upstream, Wire, upstream};
use serde_json::Value;

use super::{CODINGS, bomb, decoded, encoded, start, with};

const COMPRESSOR: &str = "envoy.extensions.filters.http.compressor.v3.Compressor";
const DECOMPRESSOR: &str = "envoy.extensions.filters.http.decompressor.v3.Decompressor";

/// One of the two filters, with the library of a coding, under the coding's name and that of the filter.
fn filter(kind: &str, coding: &str, lines: &str) -> String {
    let (which, name) =
        if kind == COMPRESSOR { ("compressor", "Compressor") } else { ("decompressor", "Decompressor") };
    debug_assert!(kind.ends_with(name));
    format!(
        "- {{name: {coding}-{which}, typed_config: {{'@type': type.googleapis.com/{kind}, {lines}{which}_library: \
         {{name: {coding}, typed_config: {}}}}}}}",
        library(which, coding)
    )
}

fn library(which: &str, coding: &str) -> String {
    let name = match coding {
        "gzip" => "Gzip",
        "brotli" => "Brotli",
        other => panic!("{other}"),
    };
    format!("{{'@type': type.googleapis.com/envoy.extensions.compression.{coding}.{which}.v3.{name}}}")
}

/// That does not become so small in a coding that reading it would look like a bomb.
fn text(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"abcdefghijklmnop"[(state >> 60) as usize]
    };
    (0..length).map(|_| letter()).collect()
}

struct Both {
    naru: Naru,
    envoy: Envoy,
    up: Upstream,
}

impl Both {
    async fn start(up: Upstream, bootstrap: impl Fn() -> Bootstrap) -> Both {
        let naru = Naru::start(&bootstrap());
        let envoy = Envoy::start(&bootstrap().admin().text()).await;
        Both { naru, envoy, up }
    }

    async fn with(filters: &[String]) -> Both {
        let up = Upstream::plain(Speaks::Http1).await;
        let address = up.address;
        Both::start(up, || filters.iter().fold(Bootstrap::to(address), |all, line| all.filter(line))).await
    }

    /// What both answer to the same.
    async fn ask(&self, head: &str, body: &[u8]) -> [Message; 2] {
        let of = async |address| {
            let mut wire = Wire::connect(address).await;
            wire.send(format!("{head}\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())).await;
            wire.send(body).await;
            let head = wire.head().await;
            match wire.rest(head, true).await {
                Transfer::Whole(message) => message,
                broken => panic!("{broken:?}"),
            }
        };
        [of(self.naru.address).await, of(self.envoy.address).await]
    }

    /// The same headers and the same body, or what that says.
    async fn is_alike(&self, head: &str, body: &[u8], names: &[&str]) -> Message {
        let [naru, envoy] = self.ask(head, body).await;
        let said = |answer: &Message| {
            let headers = names.iter().map(|name| answer.head.all(name).join(", ")).collect::<Vec<_>>();
            let body = match answer.head.get("content-encoding") {
                Some("gzip" | "br") => decoded(answer.head.get("content-encoding").unwrap(), &answer.body),
                _ => answer.body.clone(),
            };
            (answer.status(), headers, body)
        };
        assert_eq!(said(&naru), said(&envoy), "{head}");
        naru
    }

    /// The headers that the upstream was sent, of both.
    async fn told(&self, head: &str, body: &[u8], names: &[&str]) -> Vec<Vec<String>> {
        let both = self.ask(head, body).await.map(|answer| {
            let body = match answer.head.get("content-encoding") {
                Some(coding) => decoded(coding, &answer.body),
                None => answer.body,
            };
            let told: Value = serde_json::from_slice(&body).unwrap();
            let of = |name: &&str| upstream::headers(&told, name).join(",");
            names.iter().map(of).collect::<Vec<String>>()
        });
        assert_eq!(both[0], both[1], "{head}");
        both.into_iter().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_out_of_their_coding_as_at_envoy() {
    let both = Both::with(&[filter(DECOMPRESSOR, "gzip", "")]).await;
    let text = text(60_000);
    let coded = encoded(Coding::Gzip, &text);
    let names = ["content-encoding", "content-type", "vary"];
    for (reply, is_read) in [
        ("content-encoding: gzip", true),
        ("content-encoding: GZIP | content-type: text/plain", true),
        ("content-encoding: br", false),
        ("content-encoding: gzip | cache-control: public, no-transform", false),
        ("content-type: text/plain", false),
    ] {
        let [naru, envoy] = both.ask(&format!("POST /echo HTTP/1.1\r\nx-reply: {reply}"), &coded).await;
        for answer in [&naru, &envoy] {
            assert!(answer.body == if is_read { &text[..] } else { &coded[..] }, "{reply}");
            assert_eq!(answer.status(), 200, "{reply}");
        }
        for name in names {
            assert_eq!(naru.head.all(name), envoy.head.all(name), "{reply}");
        }
    }
    // What upstreams may answer in is told them once.
    for (said, expected) in [
        ("", "gzip"),
        ("accept-encoding: br\r\n", "br,gzip"),
        ("accept-encoding: gzip;q=0.2, br\r\n", "br,gzip"),
        ("accept-encoding: identity,gzip\r\n", "identity,gzip"),
    ] {
        let head = format!("POST /describe HTTP/1.1\r\n{said}x-there: yes");
        let told = both.told(&head, b"", &["accept-encoding", "x-there"]).await;
        assert_eq!(told[0], [expected, "yes"], "{said}");
    }
    // A request in the coding is read as well.
    let answer = both.is_alike("POST /echo HTTP/1.1\r\ncontent-encoding: gzip", &coded, &[]).await;
    assert!(answer.body == text);
    assert!(both.up.requests() > 0);
    both.naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_out_of_one_coding_and_into_another_as_at_envoy() {
    // Answers meet the last one first.
    let types = "response_direction_config: {common_config: {content_type: [text/plain]}}, ";
    let both = Both::with(&[filter(COMPRESSOR, "brotli", types), filter(DECOMPRESSOR, "gzip", "")]).await;
    let text = text(80_000);
    let coded = encoded(Coding::Gzip, &text);
    let reply = "x-reply: content-encoding: gzip | content-type: text/plain";
    for (accept, coding) in [("br", Some("br")), ("gzip", None)] {
        let head = format!("POST /echo HTTP/1.1\r\naccept-encoding: {accept}\r\n{reply}");
        let answer = both.is_alike(&head, &coded, &["content-encoding", "vary"]).await;
        assert_eq!(answer.head.get("content-encoding"), coding, "{accept}");
        let body = coding.map_or_else(|| answer.body.clone(), |coding| decoded(coding, &answer.body));
        assert!(body == text, "{accept}");
    }
    both.naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_compressed_as_at_envoy() {
    let lines = "request_direction_config: {common_config: {min_content_length: 100, content_type: [text/plain, \
                 application/json]}}, response_direction_config: {common_config: {enabled: {default_value: false, \
                 runtime_key: none}}}, ";
    let both = Both::with(&[filter(COMPRESSOR, "gzip", lines)]).await;
    let text = b"a request that says the same again and again. ".repeat(3_000);
    let names = ["content-encoding", "content-length", "content-type"];
    for (fields, length, is_coded) in [
        ("content-type: text/plain\r\n", 100, true),
        ("content-type: text/plain; charset=utf-8\r\n", text.len(), true),
        ("", 100, true),
        ("content-type: text/plain\r\n", 99, false),
        ("content-type: image/png\r\n", 5_000, false),
        ("content-type: text/plain\r\ncontent-encoding: br\r\n", 5_000, false),
    ] {
        let body = &text[..length];
        let head = format!("POST /describe HTTP/1.1\r\n{fields}x-there: yes");
        let told = both.told(&head, body, &names).await;
        assert_eq!(told[0][0] == "gzip", is_coded, "{fields} {length}: {told:?}");
        // What came there is what was sent.
        let head = format!("POST /echo HTTP/1.1\r\n{fields}x-reply: content-type: image/png");
        for answer in both.ask(&head, body).await {
            let came = if is_coded { decoded("gzip", &answer.body) } else { answer.body };
            assert!(came == body, "{fields} {length}");
        }
    }
    let codings = both.naru.codings();
    let gzip = codings.iter().find(|status| status.coding == "gzip").unwrap();
    assert_eq!((gzip.answers, gzip.requests.bodies), (0, 6));
    assert!(gzip.requests.bytes_before > 10 * gzip.requests.bytes_after, "{gzip:?}");
    both.naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_an_answer_is_told_as_at_envoy() {
    let lines = "response_direction_config: {status_header_enabled: true, disable_on_etag_header: true, \
                 uncompressible_response_codes: [404], common_config: {min_content_length: 100}}, ";
    let both = Both::with(&[filter(COMPRESSOR, "gzip", lines), filter(COMPRESSOR, "brotli", lines)]).await;
    let names = ["x-envoy-compression-status", "content-encoding", "vary"];
    for accept in ["gzip", "br", "gzip, br", "identity", ""] {
        for (path, reply) in [
            ("/bytes/100", "content-type: text/plain"),
            ("/chunks/5000", "content-type: text/plain"),
            ("/bytes/99", "content-type: text/plain"),
            ("/bytes/99", "content-type: image/png"),
            ("/bytes/5000", "content-type: image/png"),
            ("/bytes/5000", "content-type: text/plain | etag: \"a\""),
            ("/status/404", "content-type: text/plain"),
            ("/bytes/5000", "content-type: text/plain | content-encoding: x"),
            ("/bytes/5000", "content-type: text/plain | cache-control: no-transform"),
            ("/bytes/99", "content-type: image/png | etag: \"a\""),
        ] {
            let field =
                if accept.is_empty() { String::new() } else { format!("accept-encoding: {accept}\r\n") };
            let head = format!("GET {path} HTTP/1.1\r\n{field}x-reply: {reply}");
            both.is_alike(&head, b"", &names).await;
        }
    }
    both.naru.settles().await;
}

/// Of one route each: `/off`, `/on`, `/other`.
fn routes() -> String {
    let said = |name: &str, said: &str| {
        format!(
            "- name: {name}\n  match: {{ prefix: \"/{name}\" }}\n  route: {{ cluster: up, timeout: 0s, prefix_rewrite: / \
             }}\n  typed_per_filter_config:\n    gzip-compressor: {{'@type': type.googleapis.com/envoy.extensions.\
             filters.http.compressor.v3.CompressorPerRoute, {said}}}\n"
        )
    };
    [
        said("off/", "disabled: true"),
        said("on/", "overrides: {response_direction_config: {remove_accept_encoding_header: true}}"),
        said(
            "other/",
            &format!(
                "overrides: {{compressor_library: {{name: other, typed_config: {}}}}}",
                library("compressor", "brotli")
            ),
        ),
        "- name: all\n  match: { prefix: \"/\" }\n  route: { cluster: up, timeout: 0s }\n".to_owned(),
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_say_otherwise_as_at_envoy() {
    for is_on in [true, false] {
        let lines = format!(
            "request_direction_config: {{common_config: {{content_type: [text/plain]}}}}, response_direction_config: \
             {{common_config: {{enabled: {{default_value: {is_on}, runtime_key: none}}, content_type: [text/plain]}}}}, "
        );
        let up = Upstream::plain(Speaks::Http1).await;
        let address = up.address;
        let bootstrap = || {
            Bootstrap::new(&routes()).cluster("up", address, "").filter(&filter(COMPRESSOR, "gzip", &lines))
        };
        let both = Both::start(up, bootstrap).await;
        for route in ["off", "on", "other", "all"] {
            let prefix = if route == "all" { String::new() } else { format!("/{route}") };
            for accept in ["gzip", "br", "gzip, br"] {
                let head = format!(
                    "GET {prefix}/bytes/5000 HTTP/1.1\r\naccept-encoding: {accept}\r\nx-reply: content-type: text/plain"
                );
                both.is_alike(&head, b"", &["content-encoding", "vary"]).await;
                let head = format!(
                    "POST {prefix}/describe HTTP/1.1\r\naccept-encoding: {accept}\r\ncontent-type: text/plain"
                );
                both.told(&head, &[b'a'; 500], &["accept-encoding", "content-encoding"]).await;
            }
        }
        both.naru.settles().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_of_a_route_say_otherwise_as_at_envoy() {
    // Which cluster takes a request is chosen before the filters are asked: both see the same share of each.
    let csrf = "type.googleapis.com/envoy.extensions.filters.http.csrf.v3.CsrfPolicy";
    let rbac = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3";
    let routes = |weights: [u32; 2]| {
        format!(
            "- name: all
  match: {{ prefix: \"/\" }}
  typed_per_filter_config:
    rbac: {{'@type': {rbac}.RBACPerRoute, rbac: {{rules: {{action: DENY, policies: {{all: {{permissions: [{{url_path: \
             {{path: {{exact: /denied}}}}}}], principals: [{{any: true}}]}}}}}}}}}}
  route:
    timeout: 0s
    weighted_clusters:
      clusters:
      - {{ name: up, weight: {} }}
      - name: other
        weight: {}
        response_headers_to_add: [{{header: {{key: x-cluster, value: other}}}}]
        typed_per_filter_config:
          gzip-compressor: {{'@type': {COMPRESSOR_PER_ROUTE}, disabled: true}}
          rbac: {{'@type': {rbac}.RBACPerRoute}}
          csrf: {{'@type': {csrf}, filter_enabled: {{default_value: {{numerator: 100}}}}}}
",
            weights[0], weights[1]
        )
    };
    for weights in [[1, 0], [0, 1], [1, 1]] {
        let up = Upstream::plain(Speaks::Http1).await;
        let address = up.address;
        let bootstrap = || {
            Bootstrap::new(&routes(weights))
                .cluster("up", address, "")
                .cluster("other", address, "")
                .filter(&filter(COMPRESSOR, "gzip", ""))
                .filter(&format!("- {{name: rbac, typed_config: {{'@type': {rbac}.RBAC}}}}"))
                .filter(&format!(
                    "- {{name: csrf, typed_config: {{'@type': {csrf}, filter_enabled: {{default_value: {{numerator: 0}}}}}}}}"
                ))
        };
        let both = Both::start(up, bootstrap).await;
        if weights != [1, 1] {
            let names = ["content-encoding", "x-cluster"];
            let head =
                "GET /bytes/500 HTTP/1.1\r\naccept-encoding: gzip\r\nx-reply: content-type: text/plain";
            let answer = both.is_alike(head, b"", &names).await;
            assert_eq!(answer.head.get("content-encoding"), (weights[0] == 1).then_some("gzip"));
            let denied = both.ask("GET /denied HTTP/1.1", b"").await.map(|answer| answer.status());
            assert_eq!(denied, if weights[0] == 1 { [403, 403] } else { [200, 200] });
            // A page of another origin changes something.
            let head = "POST /length HTTP/1.1\r\norigin: http://elsewhere.test";
            let asked = both.ask(head, b"").await.map(|answer| answer.status());
            assert_eq!(asked, if weights[0] == 1 { [200, 200] } else { [403, 403] });
            continue;
        }
        // Whose checks a request passes is who takes it.
        let mut seen = [0; 2];
        for _ in 0..60 {
            let mut wire = Wire::connect(both.naru.address).await;
            wire.send("GET /denied HTTP/1.1\r\nhost: a\r\n\r\n").await;
            let answer = wire.response().await;
            match (answer.status(), answer.head.get("x-cluster")) {
                (403, None) => seen[0] += 1,
                (200, Some("other")) => seen[1] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
        both.naru.settles().await;
    }
}

const COMPRESSOR_PER_ROUTE: &str =
    "type.googleapis.com/envoy.extensions.filters.http.compressor.v3.CompressorPerRoute";

fn reading(bytes_max: u64) -> Check {
    let mut made = Decompressor::new(ContentCoding::ALL.to_vec());
    made.is_enabled = false;
    made.answers = Some(DecompressedAnswers { ignores_no_transform: false, is_told: true });
    made.bytes_max = bytes_max;
    Check { name: "read".into(), kind: CheckKind::Decompress(Box::new(made)) }
}

/// An answer with this body, as it comes or broken off.
async fn answered(naru: &Naru, named: &str, body: &[u8], more: &str) -> Result<Message, ()> {
    let mut wire = Wire::connect(naru.address).await;
    let reply = format!("x-reply: content-encoding: {named}{more}");
    wire.send(format!("POST /echo HTTP/1.1\r\nhost: a\r\n{reply}\r\ncontent-length: {}\r\n\r\n", body.len()))
        .await;
    wire.send(body).await;
    let head = wire.head().await;
    assert_eq!(head.status(), 200);
    match wire.rest(head, true).await {
        Transfer::Whole(message) => Ok(message),
        Transfer::Broken(_) => Err(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_of_an_answer_is_broken_off() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = start(with(up.address, vec![reading(10 << 20)]));
    let mut broken = 0;
    for (coding, named) in CODINGS {
        let bomb = bomb(coding);
        answered(&naru, named, &bomb, "").await.unwrap_err();
        broken += 1;
    }
    let ended = naru.ended(broken).await;
    assert!(ended.iter().all(|end| *end == (200, Reason::AnswerInflatedTooLarge)), "{ended:?}");
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_in_its_coding_is_broken_off() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = start(with(up.address, vec![reading(10 << 20)]));
    let (text, mut broken) = (text(300_000), 0);
    for (coding, named) in CODINGS {
        let whole = encoded(coding, &text);
        let answer = answered(&naru, named, &whole, " | etag: \"a\" | accept-ranges: bytes").await.unwrap();
        assert!(answer.body == text, "{named}");
        let said =
            ["content-encoding", "content-length", "accept-ranges", "etag"].map(|name| answer.head.get(name));
        assert_eq!(said, [None, None, None, Some("W/\"a\"")]);
        let empty = answered(&naru, named, b"", "").await.unwrap();
        assert!(empty.body.is_empty(), "{named}");
        for body in
            [&b"this is in no coding at all"[..], &whole[..whole.len() - 3], &[&whole[..], b"tail"].concat()]
        {
            answered(&naru, named, body, "").await.unwrap_err();
            broken += 1;
        }
    }
    let ended = naru.ended((broken + 2 * CODINGS.len()) as u64).await;
    let spoiled = ended.iter().filter(|end| **end == (200, Reason::AnswerCoding)).count();
    let whole = ended.iter().filter(|end| **end == (200, Reason::Forwarded)).count();
    assert_eq!((spoiled, whole), (broken, 2 * CODINGS.len()), "{ended:?}");
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_large_a_request_may_be_is_asked_before_it_is_compressed() {
    let up = Upstream::plain(Speaks::Http1).await;
    let mut compressor = Compressor::new(Coder::usual(ContentCoding::Gzip));
    compressor.is_enabled = false;
    compressor.requests = Some(naru_spec::CompressedRequests { length_min: 0, content_types: Vec::new() });
    let limit = Check { name: "limit".into(), kind: CheckKind::BodyLimit(10_000) };
    let compress = Check { name: "gzip".into(), kind: CheckKind::Compress(Box::new(compressor)) };
    let naru = start(with(up.address, vec![compress, limit]));
    for (length, status) in [(10_000, 200), (10_001, 413)] {
        let mut wire = Wire::connect(naru.address).await;
        wire.send("POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
        wire.send(format!("{length:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(length))).await;
        let answer = wire.response().await;
        assert_eq!(answer.status(), status, "{length}");
        // It is much smaller than that when it gets there.
        assert!(status != 200 || answer.text().starts_with(|digit: char| digit.is_ascii_digit()));
    }
    // A request without a body has none in any coding.
    let mut wire = Wire::connect(naru.address).await;
    wire.send("GET /describe HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let told: Value = serde_json::from_slice(&wire.response().await.body).unwrap();
    assert_eq!(upstream::headers(&told, "content-encoding"), Vec::<&str>::new());
    drop(wire);
    naru.settles().await;
}
