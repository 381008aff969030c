//! What is read of a message, and which rule a broken one breaks.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use bytes::BytesMut;
use http::{HeaderMap, Method, Version};
use naru_http1::{
    Decoder, Framing, Limits, Malformed, Piece, RequestHead, ResponseHead, Scan, read_request, read_response,
    write_chunk_size, write_last_chunk, write_request_head,
};
use proptest::prelude::*;

const LIMITS: Limits = Limits { head_bytes: 8_192, fields: 100 };

fn request(text: &[u8]) -> Result<RequestHead, Malformed> {
    let end = Scan::of_request().go_on(text, LIMITS.head_bytes)?;
    read_request(&text[..end.ok_or(Malformed::Truncated)?], LIMITS, HeaderMap::new())
}

fn response(text: &str, method: &Method) -> Result<ResponseHead, Malformed> {
    let end = Scan::default().go_on(text.as_bytes(), LIMITS.head_bytes)?;
    read_response(&text.as_bytes()[..end.ok_or(Malformed::Truncated)?], LIMITS, method, HeaderMap::new())
}

#[test]
fn a_request_is_read() {
    let head =
        request(b"POST /a?b HTTP/1.1\r\nHost: a\r\nX: \t1 \r\nx:2\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert_eq!((head.method, head.target.to_string().as_str()), (Method::POST, "/a?b"));
    assert_eq!((head.version, head.framing, head.persists), (Version::HTTP_11, Framing::Length(5), true));
    let values: Vec<_> = head.fields.get_all("x").iter().collect();
    assert_eq!(values, ["1", "2"]);
}

#[test]
fn a_broken_head_is_told_by_its_rule() {
    fn check(lines: &str, expected: Malformed) {
        let text = format!("{lines}\r\n\r\n");
        assert_eq!(request(text.as_bytes()).err(), Some(expected), "{lines:?}");
    }
    check("GET / HTTP/1.1\r\nHost: a\nX: b", Malformed::BareLineFeed);
    check("GET / HTTP/1.1\r\nX: a\rb", Malformed::FieldValue);
    check("GET / HTTP/1.1\r\nX: a\0b", Malformed::ControlCharacter);
    check("GET / HTTP/1.1\r\nX: a\u{b}b", Malformed::FieldValue);
    check("GET / HTTP/1.1\r\nX: a\r\n b", Malformed::FieldName);
    check("GET / HTTP/1.1\r\n X: a", Malformed::FieldName);
    check("GET / HTTP/1.1\r\nX : a", Malformed::FieldName);
    check("GET / HTTP/1.1\r\n: a", Malformed::FieldName);
    check("GET / HTTP/1.1\r\nX\u{e9}: a", Malformed::FieldName);
    check("GET / HTTP/1.1\r\nno colon", Malformed::FieldName);
    check("GET  / HTTP/1.1", Malformed::RequestLine);
    check("GET / HTTP/1.1 ", Malformed::RequestLine);
    check("GET /\t HTTP/1.1", Malformed::RequestLine);
    check("GET /a b HTTP/1.1", Malformed::RequestLine);
    check("GET /", Malformed::RequestLine);
    check("GET / http/1.1", Malformed::RequestLine);
    check("GET / HTTP/1.11", Malformed::RequestLine);
    check("G@T / HTTP/1.1", Malformed::RequestLine);
    check("GET /\u{e9} HTTP/1.1", Malformed::RequestLine);
    check("GET / HTTP/2.0", Malformed::Version);
    check("GET / HTTP/1.2", Malformed::Version);
    check("GET a HTTP/1.1", Malformed::Target);
    check("GET /a#b HTTP/1.1", Malformed::Target);
    check("GET * HTTP/1.1", Malformed::Target);
    check("GET a.example:80 HTTP/1.1", Malformed::Target);
    check("GET ftp://a/ HTTP/1.1", Malformed::Target);
    check("CONNECT / HTTP/1.1", Malformed::Target);
    check("CONNECT http://a/ HTTP/1.1", Malformed::Target);
    check("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1", Malformed::ContentLength);
    check("GET / HTTP/1.1\r\nContent-Length: 1, 1", Malformed::ContentLength);
    check("GET / HTTP/1.1\r\nContent-Length: +1", Malformed::ContentLength);
    check("GET / HTTP/1.1\r\nContent-Length:", Malformed::ContentLength);
    check("GET / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked", Malformed::TwoFramings);
    check(
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x",
        Malformed::TransferEncoding,
    );
    check("GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked", Malformed::TransferCoding);
    check("GET / HTTP/1.0\r\nTransfer-Encoding: chunked", Malformed::TransferEncoding);
}

#[test]
fn a_head_may_have_as_many_fields_as_is_said() {
    let many = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    for (count, is_read) in [(64, true), (65, true), (100, true), (101, false)] {
        let result = request(many(count).as_bytes());
        assert_eq!(result.map(|head| head.fields.len()).ok(), is_read.then_some(count));
    }
    assert_eq!(request(many(101).as_bytes()).err(), Some(Malformed::TooManyFields));
}

#[test]
fn a_connection_persists_as_its_version_says() {
    fn check(version: &str, connection: &str, expected: bool) {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
        assert_eq!(request(text.as_bytes()).unwrap().persists, expected, "{version} {connection}");
    }
    check("1.1", "", true);
    check("1.1", "x, Close", false);
    check("1.0", "", false);
    check("1.0", "Keep-Alive", true);
    check("1.0", "keep-alive, close", false);
}

#[test]
fn the_body_of_a_response_depends_on_its_request() {
    fn check(method: &Method, head: &str, expected: Result<Framing, Malformed>) {
        let text = format!("HTTP/1.1 {head}\r\n\r\n");
        assert_eq!(response(&text, method).map(|head| head.framing), expected, "{method} {head:?}");
    }
    check(&Method::GET, "200 OK\r\ncontent-length: 3", Ok(Framing::Length(3)));
    check(&Method::GET, "200\r\ncontent-length: 0", Ok(Framing::Empty));
    check(&Method::GET, "200 OK", Ok(Framing::UntilClose));
    check(&Method::GET, "200 OK\r\ntransfer-encoding: chunked", Ok(Framing::Chunked));
    check(&Method::HEAD, "200 OK\r\ncontent-length: 3", Ok(Framing::Empty));
    check(&Method::CONNECT, "200 OK", Ok(Framing::Empty));
    check(&Method::CONNECT, "404 Not Found\r\ncontent-length: 3", Ok(Framing::Length(3)));
    check(&Method::GET, "204 No Content\r\ncontent-length: 3", Ok(Framing::Empty));
    check(&Method::GET, "304 Not Modified\r\ncontent-length: 3", Ok(Framing::Empty));
    check(&Method::GET, "103 Early Hints\r\nlink: a", Ok(Framing::Empty));
    let both = "200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked";
    check(&Method::GET, both, Err(Malformed::TwoFramings));
    check(&Method::GET, "20 OK", Err(Malformed::StatusLine));
    check(&Method::GET, "099 OK", Err(Malformed::StatusLine));
}

/// What comes of a body that arrives in pieces of this size.
fn decode(
    framing: Framing,
    bytes: &[u8],
    step: usize,
) -> Result<(Vec<u8>, Option<HeaderMap>, usize), Malformed> {
    let mut decoder = Decoder::of(framing);
    let (mut input, mut body, mut trailers) = (BytesMut::new(), Vec::new(), None);
    for piece in bytes.chunks(step) {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input, LIMITS)? {
                Some(Piece::Data(data)) => body.extend_from_slice(&data),
                Some(Piece::Trailers(found)) => trailers = Some(found),
                None => break,
            }
        }
    }
    decoder.on_close()?;
    Ok((body, trailers, input.len()))
}

#[test]
fn chunks_are_read_in_pieces_of_any_size() {
    let text = b"5;a=\"b c\"; d\t=\te;f ;g=\"\\\"\xe9\"\r\nhello\r\n00000010\r\n0123456789abcdef\r\n0;x\r\nA: b\r\nc: d\r\n\r\nGET";
    for step in 1..text.len() {
        let (body, trailers, left) = decode(Framing::Chunked, text, step).unwrap();
        assert_eq!(body, b"hello0123456789abcdef");
        assert_eq!(trailers.unwrap().get("a").unwrap(), "b");
        assert_eq!(left, 3, "what follows is none of it");
    }
}

#[test]
fn a_broken_body_is_told_by_its_rule() {
    fn check(text: &str, expected: Malformed) {
        for step in [1, 2, 100] {
            let result = decode(Framing::Chunked, text.as_bytes(), step);
            assert_eq!(result.err(), Some(expected), "{text:?} in steps of {step}");
        }
    }
    check("\r\n", Malformed::ChunkSize);
    check(" 5\r\nhello\r\n0\r\n\r\n", Malformed::ChunkSize);
    check("5 \r\nhello\r\n0\r\n\r\n", Malformed::ChunkSize);
    check("+5\r\nhello\r\n0\r\n\r\n", Malformed::ChunkSize);
    check("0x5\r\nhello\r\n0\r\n\r\n", Malformed::ChunkSize);
    check("5\nhello\r\n0\r\n\r\n", Malformed::ChunkSize);
    check("5\r\r\nhello", Malformed::ChunkSize);
    check("00000000000000005\r\nhello\r\n0\r\n\r\n", Malformed::ChunkSize);
    for extension in [
        "",
        " ",
        ";",
        "a;",
        "=b",
        "a=",
        "a=;b",
        "a ",
        "a=b ",
        "a b",
        "a=b c",
        "a=\"b",
        "a=\"b\"c",
        "a=\"b\\\"",
        "bad[=x",
        "a=b[",
        "\"a\"",
        "a=b=c",
        "a\nb",
        "\u{e9}",
    ] {
        check(&format!("5;{extension}\r\nhello\r\n0\r\n\r\n"), Malformed::ChunkExtension);
    }
    check("5;a\nhello\r\n0\r\n\r\n", Malformed::ChunkExtension);
    check("5;\rhello\r\n0\r\n\r\n", Malformed::ChunkExtension);
    check("5;a\rb\r\nhello\r\n0\r\n\r\n", Malformed::ChunkSize);
    check("5\r\nhelloo\r\n0\r\n\r\n", Malformed::ChunkEnd);
    check("5\r\nhello\n0\r\n\r\n", Malformed::ChunkEnd);
    check("5\r\nhello0\r\n\r\n", Malformed::ChunkEnd);
    check("0\r\nA: b\n\r\n", Malformed::BareLineFeed);
    check("0\r\nA : b\r\n\r\n", Malformed::FieldName);
    check("0\r\nContent-Length: 5\r\n\r\n", Malformed::TrailerField);
    check("0\r\nhost: b\r\n\r\n", Malformed::TrailerField);
    check("5\r\nhel", Malformed::Truncated);
    check("0\r\n", Malformed::Truncated);
}

#[test]
fn a_request_says_its_length_without_zeros_before_it() {
    let lengths = [
        ("0", Some(Framing::Empty)),
        ("5", Some(Framing::Length(5))),
        ("05", None),
        ("00", None),
        ("0200", None),
    ];
    for (length, framing) in lengths {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let read = request(text.as_bytes()).map(|head| head.framing);
        assert_eq!(read, framing.ok_or(Malformed::ContentLength), "{length}");
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        assert!(response(&text, &Method::GET).is_ok(), "{length}");
    }
}

#[test]
fn extensions_are_no_place_to_hide() {
    let text = format!("1;{}\r\na\r\n", "x".repeat(1_000)).repeat(20) + "0\r\n\r\n";
    assert_eq!(decode(Framing::Chunked, text.as_bytes(), 4_096).err(), Some(Malformed::ChunkExtension));
}

#[test]
fn a_length_and_a_close_end_bodies() {
    assert_eq!(decode(Framing::Length(3), b"abcGET", 2).unwrap(), (b"abc".to_vec(), None, 3));
    assert_eq!(decode(Framing::Length(3), b"ab", 1).err(), Some(Malformed::Truncated));
    assert_eq!(decode(Framing::UntilClose, b"abc", 2).unwrap(), (b"abc".to_vec(), None, 0));
}

proptest! {
    /// No bytes break a reader, and what it takes is the same in pieces of any size.
    #[test]
    fn any_bytes_are_read_alike(bytes in bytes_like_http(), step in 1usize..40) {
        let whole = Scan::of_request().go_on(&bytes, 1_000);
        let mut scan = Scan::of_request();
        let mut stepwise = Ok(None);
        for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            stepwise = scan.go_on(&bytes[..end], 1_000);
            if stepwise != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(whole, stepwise);
        let _ = request(&bytes);
        let whole = decode(Framing::Chunked, &bytes, bytes.len().max(1));
        prop_assert_eq!(whole, decode(Framing::Chunked, &bytes, step));
    }

    /// What is written is read as it was meant.
    #[test]
    fn what_is_said_is_read(path in "/[a-z?=&%0-9]{0,20}", name in "[a-z][a-z-]{0,10}", value in "[!-~]([ -~]{0,20}[!-~])?",
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..5)) {
        prop_assume!(!["content-length", "transfer-encoding", "connection", "te", "host", "expect", "trailer", "upgrade"].contains(&name.as_str()));
        let mut fields = HeaderMap::new();
        fields.insert(http::HeaderName::try_from(&name).unwrap(), http::HeaderValue::from_str(&value).unwrap());
        // Nobody says another framing by what he puts into fields.
        fields.insert("content-length", http::HeaderValue::from_static("7"));
        fields.insert("transfer-encoding", http::HeaderValue::from_static("gzip"));
        let mut out = Vec::new();
        write_request_head(&mut out, &Method::POST, &path, &fields, Framing::Chunked);
        let head = request(&out).unwrap();
        prop_assert_eq!(head.framing, Framing::Chunked);
        prop_assert_eq!(head.target.to_string(), path);
        prop_assert_eq!(head.fields.get(&name).unwrap().as_bytes(), value.as_bytes());
        let mut body = Vec::new();
        for part in &parts {
            write_chunk_size(&mut body, part.len());
            body.extend_from_slice(part);
            body.extend_from_slice(b"\r\n");
        }
        write_last_chunk(&mut body, None);
        prop_assert_eq!(decode(Framing::Chunked, &body, 7), Ok((parts.concat(), None, 0)));
    }
}

/// Bytes with much in them that means something.
fn bytes_like_http() -> impl Strategy<Value = Vec<u8>> {
    let words = prop_oneof![
        Just("GET / HTTP/1.1\r\n".as_bytes().to_vec()),
        Just(b"Host: a\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b"Content-Length: 5\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"5\r\nhello\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        Just(b"1;".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(words, 0..12).prop_map(|words| words.concat())
}
