//! The short way of answers from memory, held against the ordinary one.
//!
//! A field that begins with `x-naru-` has a request go the ordinary way and changes nothing else: so each request is sent
//! with one and without, over one connection, and both must be answered by the same bytes, and have the same line.

use naru_base::Chance;
use naru_proxy::Options;
use naru_spec::CachePolicy;
use naru_tests::files::{Directory, documents};
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ALL, config_of};

const ONE: Options = Options { workers: 1, seed: Some(1) };

const FIELDS: &str = r#"
code: "%RESPONSE_CODE%"
details: "%RESPONSE_CODE_DETAILS%"
flags: "%RESPONSE_FLAGS%"
reason: "%REASON%"
received: "%BYTES_RECEIVED%"
sent: "%BYTES_SENT%"
protocol: "%PROTOCOL%"
line: "%REQ(:METHOD)% %REQ(:PATH)% %REQ(:AUTHORITY)% %REQ(:SCHEME)% %REQ(HOST)%"
said: "%REQ(ACCEPT)% %REQ(ACCEPT-LANGUAGE)% %REQ(COOKIE)% %REQ(USER-AGENT)% %REQ(CONNECTION)% %REQ(ODD_NAME)%"
edge: "%REQ(X-FORWARDED-FOR)% %REQ(X-FORWARDED-PROTO)% %REQ(X-ENVOY-EXTERNAL-ADDRESS)% %REQ(X-ENVOY-INTERNAL)%"
answer: "%RESP(SERVER)% %RESP(AGE)% %RESP(CACHE-STATUS)% %RESP(CONTENT-LENGTH)% %RESP(ETAG)% %RESP(SET-COOKIE)%"
dated: "%RESP(DATE)% %RESP(VARY)% %RESP(X-UNHEARD?SERVER)% %RESP(:STATUS)% %TRAILER(A)%"
route: "%ROUTE_NAME% %VIRTUAL_HOST_NAME% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% %UPSTREAM_REQUEST_ATTEMPT_COUNT%"
ends: "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %CONNECTION_ID%"
method: "%REQ(:METHOD)%"
original: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"
part: "%REQ(RANGE)%"
instead: "%REQ(AUTHORIZATION?ACCEPT)%"
certainly: "%REQ(:PATH?ACCEPT):9%"
perhaps: "%REQ(COOKIE?IF-NONE-MATCH)%"
forwarded: "%REQ(X-FORWARDED-FOR?TE)%"
etag: "%RESP(ETAG)%"
trailer: "%TRAILER(A)%"
grpc: "%GRPC_STATUS%"
upstream: "%UPSTREAM_HOST%"
attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"
failure: "%UPSTREAM_TRANSPORT_FAILURE_REASON%"
remote: "%DOWNSTREAM_REMOTE_ADDRESS%"
local: "%DOWNSTREAM_LOCAL_ADDRESS%"
bare: "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"
id: "%REQ(X-REQUEST-ID)%"
stream: "%STREAM_ID%"
"#;

/// An HTTP/1 client that takes responses for bytes.
struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    async fn connect(naru: &Naru) -> Raw {
        let stream = within("a connection", TcpStream::connect(naru.address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream, buffer: Vec::new() }
    }

    async fn until(&mut self, mut end: impl FnMut(&[u8]) -> Option<usize>) -> Vec<u8> {
        loop {
            if let Some(end) = end(&self.buffer) {
                return self.buffer.drain(..end).collect();
            }
            let read = within("bytes to come", self.stream.read_buf(&mut self.buffer)).await.unwrap();
            assert!(read > 0, "it ended after {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// The head and the body of a response with a length.
    async fn ask(&mut self, request: &str) -> (String, Vec<u8>) {
        within("bytes to be sent", self.stream.write_all(request.as_bytes())).await.unwrap();
        self.answer(request.starts_with("HEAD")).await
    }

    async fn answer(&mut self, is_head: bool) -> (String, Vec<u8>) {
        let end = |bytes: &[u8]| bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let head = String::from_utf8(self.until(end).await).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let has_none = is_head || head.starts_with("HTTP/1.1 304");
        let length = if has_none { 0 } else { length.expect(&head).parse().unwrap() };
        let body = self.until(|bytes| (bytes.len() >= length).then_some(length)).await;
        (head, body)
    }
}

fn pick<'a>(chance: &mut Chance, all: &[&'a str]) -> &'a str {
    all[chance.below(all.len() as u64) as usize]
}

/// What the upstream says, and what is kept of it.
fn reply(chance: &mut Chance) -> String {
    let mut all = vec![pick(chance, &["cache-control: max-age=6000", "cache-control: public, s-maxage=600"])];
    for _ in 0..chance.below(7) {
        all.push(pick(
            chance,
            &[
                "server: theirs",
                "etag: \"e\"",
                "last-modified: Sun, 06 Nov 1994 08:49:37 GMT",
                "a: 1",
                "a: 2",
                "vary: accept-encoding",
                "vary: Accept-Language, who",
                "vary: connection, x-forwarded-proto",
                "cache-status: other; hit",
                "surrogate-control: max-age=60",
                "x-naru-retries: no",
                "via: 1.1 other",
                "content-type: text/plain; charset=utf-8",
                "date: Sun, 06 Nov 1994 08:49:37 GMT",
                "empty:",
                "cache-tag: one two",
                "x-request-id: theirs",
                "age: 5",
                "keep-alive: timeout=5",
                "x-a: b: c",
            ],
        ));
    }
    all.join(" | ")
}

/// A request, up to the empty line.
fn request(chance: &mut Chance, target: &str) -> String {
    let method = if chance.below(12) == 0 { "HEAD" } else { "GET" };
    let host = pick(chance, &["host: a", "Host: A:80", "HOST:a.example:8080"]);
    let mut lines = format!("{method} {target} HTTP/1.1\r\n{host}\r\n");
    for _ in 0..chance.below(5) {
        let line = match chance.below(5) {
            0 => pick(
                chance,
                &[
                    "cache-control: no-cache",
                    "cache-control: max-stale",
                    "Pragma: no-cache",
                    "range: bytes=0-1",
                    "if-none-match: \"e\"",
                    "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
                    "te: trailers",
                    "x-forwarded-for: 9.9.9.9",
                    "X-Request-Id: mine",
                    "authorization: me",
                    "Content-Length: 0",
                    "cache-control: only-if-cached",
                    "keep-alive: 5",
                    "cookie: c=d",
                    "connection: keep-alive, who",
                    "upgrade: h2c",
                    "x-forwarded-proto: https",
                    "content-type: application/grpc",
                    "accept: again",
                ],
            ),
            _ => pick(
                chance,
                &[
                    "Accept: */*",
                    "accept-encoding: gzip, br",
                    "Accept-Encoding: br",
                    "accept-language: de, en;q=0.5",
                    "Cookie: a=b; c=\"d\"",
                    "user-agent: \t one \"two\" \u{e9} \t",
                    "who: me",
                    "referer: http://b/",
                    "connection: Keep-Alive",
                    "Upgrade-Insecure-Requests: 1",
                    "odd_name: x",
                    "sec-fetch-mode: cors",
                ],
            ),
        };
        // One of each: of what may stand once.
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if !lines.to_ascii_lowercase().contains(&format!("\r\n{name}:")) || name == "accept" {
            lines.push_str(line);
            lines.push_str("\r\n");
        }
    }
    lines
}

/// Without what is another number each time.
fn steady(head: &str) -> String {
    let is_steady = |line: &&str| !line.starts_with("x-envoy-upstream-service-time");
    head.split_inclusive("\r\n").filter(is_steady).collect()
}

/// How many answers went the short way, and how many hits there were.
fn counted(naru: &Naru) -> (u64, u64) {
    let class = naru.cache().unwrap().classes.remove(0);
    let hits = class.results.iter().find(|(result, _)| *result == "hit").unwrap().1;
    (class.short, hits)
}

async fn compare(seed: u64, manager: &str, policy: &CachePolicy) {
    let mut chance = Chance::new(seed);
    let up = Upstream::plain(Speaks::Http1).await;
    let directory = Directory::new();
    let log = directory.path("access.log");
    let bootstrap = Bootstrap::new(ALL).cluster("up", up.address, "").manager(manager).json_log(&log, FIELDS);
    let naru = Naru::start_on(config_of(&bootstrap, policy), &ONE);
    let mut raw = Raw::connect(&naru).await;
    let (mut lines, mut pairs, mut short_before) = (0, Vec::new(), 0);
    for object in 0..40 {
        let length = [0, 1, 3, 900, 4_095, 4_096, 70_000][chance.below(7) as usize];
        let path = pick(&mut chance, &["/bytes", "/bytes/../bytes", "/bytes//"]).trim_end_matches('/');
        let target = match chance.below(5) {
            0 => format!("/status/{}?{object}", [200, 301, 404, 410][chance.below(4) as usize]),
            _ => format!("{path}/{length}?{object}&q=%2f/../?"),
        };
        let reply = reply(&mut chance);
        for _ in 0..6 {
            let lines_of_it = request(&mut chance, &target);
            let ordinary = format!("{lines_of_it}x-naru-ordinary: x\r\nx-reply: {reply}\r\n\r\n");
            let plain = format!("{lines_of_it}\r\n");
            // The first has it kept. A second may have gone by between two that are compared.
            let mut differing = None;
            for _ in 0..10 {
                raw.ask(&ordinary).await;
                let here = raw.ask(&plain).await;
                let there = raw.ask(&ordinary).await;
                lines += 3;
                let (now, _) = counted(&naru);
                let is_short = now > short_before;
                short_before = now;
                if (steady(&here.0), &here.1) == (steady(&there.0), &there.1) {
                    pairs.push((lines - 2, lines - 1, is_short));
                    differing = None;
                    break;
                }
                // What is not from memory says what the upstream was told, which is not the same here.
                let is_hit = |head: &str| head.contains("naru; hit");
                if !is_hit(&here.0) && !is_hit(&there.0) && !is_short {
                    differing = None;
                    break;
                }
                differing = Some((here.0, there.0));
            }
            assert_eq!(differing, None, "NARU_SEED={seed}: {plain}{reply}");
        }
    }
    let (short, hits) = counted(&naru);
    assert!(short > 30 && short < hits / 2, "{short} of {hits}");
    let documents = documents(&log, lines).await;
    for (here, there, is_short) in pairs {
        let [here, there] = [here, there].map(|at| documents[at].as_object().unwrap().clone());
        assert_ne!((&here["id"], &here["stream"]), (&there["id"], &there["stream"]));
        if is_short {
            let has_id = !manager.contains("generate_request_id: false");
            assert_eq!(here["id"].as_str().map(str::len), has_id.then_some(36), "{here:?}");
        }
        let rest = |mut line: serde_json::Map<_, _>| {
            line.remove("id");
            line.remove("stream");
            line
        };
        assert_eq!(rest(here), rest(there), "NARU_SEED={seed}");
    }
    // Of the numbers of each request: that there is one, in the same row.
    let report = naru.report().await;
    let answered: u64 = report.series.iter().map(|series| series.requests()).sum();
    assert_eq!((answered, report.downstream.requests_total), (lines as u64, lines as u64));
    drop(raw);
    naru.settles().await;
}

fn seed() -> u64 {
    std::env::var("NARU_SEED").ok().map_or(1, |seed| seed.parse().unwrap())
}

#[tokio::test]
async fn an_answer_of_the_short_way_is_that_of_the_ordinary_one() {
    let usual = CachePolicy::default();
    let deaf = CachePolicy { obeys_requests: false, tells: false, ..usual.clone() };
    let internal = "use_remote_address: true\ninternal_address_config: { cidr_ranges: [{ address_prefix: 127.0.0.0, prefix_len: 8 }] }";
    for (at, manager, policy) in [
        (0, "", &usual),
        (1, "use_remote_address: true\nnormalize_path: true\nmerge_slashes: true", &deaf),
        (2, internal, &usual),
        (3, "server_header_transformation: PASS_THROUGH\ngenerate_request_id: false", &deaf),
        (
            4,
            "server_header_transformation: APPEND_IF_ABSENT\nuse_remote_address: true\nskip_xff_append: true",
            &usual,
        ),
    ] {
        compare(seed() * 10 + at, manager, policy).await;
    }
}

#[tokio::test]
async fn several_at_once_are_answered_in_their_order() {
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::new(ALL).cluster("up", up.address, "");
    let naru = Naru::start_on(config_of(&bootstrap, &CachePolicy::default()), &ONE);
    let mut raw = Raw::connect(&naru).await;
    let lengths = [3, 70_000, 0, 5_000, 1];
    for length in lengths {
        raw.ask(&format!(
            "GET /bytes/{length} HTTP/1.1\r\nhost: a\r\nx-reply: cache-control: max-age=600\r\n\r\n"
        ))
        .await;
    }
    // In one piece, and in pieces that end anywhere; one of them is none of memory.
    let all: String =
        lengths.map(|length| format!("GET /bytes/{length} HTTP/1.1\r\nhost: a\r\n\r\n")).concat();
    let all = format!("{all}GET /describe HTTP/1.1\r\nhost: a\r\n\r\n{all}");
    for piece in [all.len(), 7, 50] {
        for bytes in all.as_bytes().chunks(piece) {
            within("bytes to be sent", raw.stream.write_all(bytes)).await.unwrap();
            tokio::task::yield_now().await;
        }
        for turn in 0..2 {
            for length in lengths {
                let (head, body) = raw.answer(false).await;
                assert!(head.contains("naru; hit") && body.len() == length, "{head}");
            }
            if turn == 0 {
                assert!(raw.answer(false).await.0.contains("fwd=uri-miss"));
            }
        }
    }
    assert_eq!(counted(&naru).0, 30);
    // Who leaves after it is told so, and is answered.
    let (head, _) = raw.ask("GET /bytes/3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(head.contains("connection: close\r\n"), "{head}");
    let mut rest = Vec::new();
    within("the end", raw.stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!((rest.len(), counted(&naru)), (0, (30, 31)));
    drop(raw);
    naru.settles().await;
}

const LIMIT: &str = r#"- name: envoy.filters.http.local_ratelimit
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
    stat_prefix: all
    token_bucket: { max_tokens: 4, tokens_per_fill: 4, fill_interval: 86400s }
    filter_enabled: { default_value: { numerator: 100 } }
    filter_enforced: { default_value: { numerator: 100 } }
"#;

const EDITED: &str = "- match: { prefix: / }\n  route: { cluster: up }\n  \
    response_headers_to_add: [{ header: { key: added, value: \"%REQ(WHO)%\" } }]\n";

const BY_FIELD: &str = "- match: { prefix: /, headers: [{ name: who, string_match: { exact: me } }] }\n  \
    direct_response: { status: 418 }\n- match: { prefix: / }\n  route: { cluster: up }\n";

const BY_QUERY: &str = "- match: { prefix: /, query_parameters: [{ name: who, string_match: { exact: me } }] }\n  \
    direct_response: { status: 418 }\n- match: { prefix: / }\n  route: { cluster: up }\n  \
    request_headers_to_add: [{ header: { key: added, value: x } }]\n";

/// Asks for the same five times, the last time with something that may lead elsewhere. Says how many were short.
async fn five(bootstrap: &Bootstrap, last: (&str, &str), check: impl Fn(usize, &str)) -> u64 {
    let policy =
        CachePolicy { lifetime: Some(std::time::Duration::from_secs(600)), ..CachePolicy::default() };
    let naru = Naru::start_on(config_of(bootstrap, &policy), &ONE);
    let mut raw = Raw::connect(&naru).await;
    for at in 0..5 {
        let (target, field) = if at == 4 { last } else { ("/bytes/3", "") };
        let (head, _) = raw.ask(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n{field}\r\n")).await;
        check(at, &head);
    }
    let short = counted(&naru).0;
    drop(raw);
    naru.settles().await;
    short
}

#[tokio::test]
async fn whoever_has_a_say_is_asked() {
    let up = Upstream::plain(Speaks::Http1).await;
    let of = |routes: &str| Bootstrap::new(routes).cluster("up", up.address, "");
    let is = |head: &str, status: u16| assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    let usual = ("/bytes/3", "");

    let short =
        five(&of(ALL).filter(LIMIT), usual, |at, head| is(head, if at < 4 { 200 } else { 429 })).await;
    assert_eq!(short, 0, "a limit");
    let short = five(&of(EDITED), ("/bytes/3", "who: me\r\n"), |at, head| {
        assert!(head.contains(if at < 4 { "cache-status: naru; " } else { "added: me" }), "{head}");
    })
    .await;
    assert_eq!(short, 0, "a field that is added");
    let by_field = ("/bytes/3", "who: me\r\n");
    let short = five(&of(BY_FIELD), by_field, |at, head| is(head, if at < 4 { 200 } else { 418 })).await;
    assert_eq!(short, 0, "a rule that asks for a field");
    let by_query = ("/bytes/3?who=me", "");
    let short = five(&of(BY_QUERY), by_query, |at, head| is(head, if at < 4 { 200 } else { 418 })).await;
    assert_eq!(short, 3, "a rule that asks for what stands in the first line");
    let via = of(ALL).manager("via: us");
    let short = five(&via, usual, |_, head| assert!(head.contains("via: us\r\n"), "{head}")).await;
    assert_eq!(short, 0, "a field that every answer has");
}
