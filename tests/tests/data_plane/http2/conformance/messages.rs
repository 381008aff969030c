//! Heads, bodies and trailers: section 8.

use super::*;

const MALFORMED: Expected = Expected::Stream(1, &[PROTOCOL_ERROR]);

fn fields(all: &[(&str, &str)]) -> Vec<Step> {
    sends([headers(END_STREAM | END_HEADERS, 1, all)])
}

fn with(name: &'static str, more: &[(&str, &str)]) -> Case {
    case(name, sends([get_with(1, more)]), MALFORMED)
}

/// A request without one of its fields, or with another in its place.
fn but(name: &'static str, which: &str, instead: &[(&str, &str)]) -> Case {
    let mut all: Vec<_> =
        request("GET", "/describe").into_iter().filter(|(name, _)| *name != which).collect();
    all.extend_from_slice(instead);
    case(name, fields(&all), MALFORMED)
}

fn with_length(name: &'static str, length: &str, frames: &[Vec<u8>], expected: Expected) -> Case {
    let head = [&request("POST", "/describe")[..], &[("content-length", length)]].concat();
    let flags = if frames.is_empty() { END_HEADERS | END_STREAM } else { END_HEADERS };
    case(name, vec![Step::Send([headers(flags, 1, &head), frames.concat()].concat())], expected)
}

fn with_trailers(name: &'static str, flags: u8, trailers: &[(&str, &str)], expected: Expected) -> Case {
    let trailers = headers(flags | END_HEADERS, 1, trailers);
    case(name, sends([post(1), data(0, 1, b"test"), trailers]), expected)
}

#[tokio::test]
async fn heads() {
    let get = || request("GET", "/describe");
    play_all(vec![
        case("8.1 GET", sends([super::get(1)]), Expected::Answer(1, 200)),
        case("8.1 HEAD", fields(&request("HEAD", "/describe")), Expected::Answer(1, 200)),
        case("8.1 POST", sends([post(1), data(END_STREAM, 1, b"test")]), Expected::Answer(1, 200)),
        case("8.1 OPTIONS of everything", fields(&request("OPTIONS", "*")), Expected::Answer(1, 200)),
        with("8.2.1 a name in upper case", &[("X-TEST", "test")]),
        with("8.2.1 a name with one", &[("x-Test", "test")]),
        with("8.2.1 an empty name", &[("", "test")]),
        with("8.2.1 a name with a space", &[("x test", "test")]),
        with("8.2.1 a name with a space at its end", &[("x-test ", "test")]),
        with("8.2.1 a name with a colon", &[("x-test:", "test")]),
        with("8.2.1 a name with a line feed", &[("x-test\nx", "test")]),
        with("8.2.1 a name with a zero", &[("x-test\0", "test")]),
        with("8.2.1 a value with a line feed", &[("x-test", "a\nb")]),
        with("8.2.1 a value with a carriage return", &[("x-test", "a\rb")]),
        with("8.2.1 a value with a zero", &[("x-test", "a\0b")]),
        with("8.2.1 a value that begins with a space", &[("x-test", " a")]),
        with("8.2.1 a value that ends with a tab", &[("x-test", "a\t")]),
        with("8.2.2 connection", &[("connection", "keep-alive")]),
        with("8.2.2 keep-alive", &[("keep-alive", "timeout=5")]),
        with("8.2.2 proxy-connection", &[("proxy-connection", "keep-alive")]),
        with("8.2.2 transfer-encoding", &[("transfer-encoding", "chunked")]),
        with("8.2.2 upgrade", &[("upgrade", "h2c")]),
        with("8.2.2 te other than trailers", &[("te", "trailers, deflate;q=0.5")]),
        case("8.2.2 te", sends([get_with(1, &[("te", "trailers")])]), Expected::Answer(1, 200)),
        with("8.3 an unknown pseudo-header", &[(":test", "ok")]),
        with("8.3 one of answers", &[(":status", "200")]),
        with("8.3 one after others", &[("x-test", "ok"), (":test", "ok")]),
        case(
            "8.3 a known one after others",
            fields(&[("x-test", "ok"), (":method", "GET"), (":scheme", "http"), (":path", "/")]),
            MALFORMED,
        ),
        but("8.3.1 an empty path", ":path", &[(":path", "")]),
        but("8.3.1 no method", ":method", &[]),
        but("8.3.1 no scheme", ":scheme", &[]),
        but("8.3.1 no path", ":path", &[]),
        case("8.3.1 two methods", fields(&[&get()[..], &[(":method", "GET")]].concat()), MALFORMED),
        case("8.3.1 two schemes", fields(&[&get()[..], &[(":scheme", "http")]].concat()), MALFORMED),
        case("8.3.1 two paths", fields(&[&get()[..], &[(":path", "/")]].concat()), MALFORMED),
        case(
            "8.3.1 two authorities",
            fields(&[&get()[..], &[(":authority", "naru.test")]].concat()),
            MALFORMED,
        ),
        but("8.3.1 an asterisk that is no OPTIONS", ":path", &[(":path", "*")]),
        but("8.3.1 a path without a slash", ":path", &[(":path", "describe")]),
        but("8.3.1 an absolute one", ":path", &[(":path", "http://naru.test/")]),
        but("8.3.1 a path with a space", ":path", &[(":path", "/ HTTP/1.1")]),
        but("8.3.1 a path with a fragment", ":path", &[(":path", "/#x")]),
        but("8.3.1 a path with a line feed", ":path", &[(":path", "/\r\nx: y")]),
        but("8.3.1 a scheme that is none", ":scheme", &[(":scheme", "http://x/")]),
        but("8.3.1 an authority that is none", ":authority", &[(":authority", "a b")]),
        but("8.3.1 a method that is none", ":method", &[(":method", "GET /")]),
        case("8.5 CONNECT with a path", fields(&request("CONNECT", "/describe")), MALFORMED),
        case("8.5 CONNECT without an authority", fields(&[(":method", "CONNECT")]), MALFORMED),
        case(
            "8441 a protocol that was not offered",
            fields(&[&get()[..], &[(":protocol", "websocket")]].concat()),
            MALFORMED,
        ),
        case(
            "8.2.3 cookies are one field",
            sends([get_with(1, &[("cookie", "a=b"), ("cookie", "c=d")])]),
            Expected::Answer(1, 200),
        ),
    ])
    .await;
}

#[tokio::test]
async fn bodies_and_trailers() {
    play_all(vec![
        case("8.1 a second head", sends([post(1), post(1), data(END_STREAM, 1, b"test")]), MALFORMED),
        with_trailers("8.1 trailers", END_STREAM, &[("x-test", "ok")], Expected::Answer(1, 200)),
        with_trailers("8.1 trailers that end nothing", 0, &[("x-test", "ok")], MALFORMED),
        with_trailers("8.3 a pseudo-header in trailers", END_STREAM, &[(":method", "GET")], MALFORMED),
        with_trailers("8.2.1 upper case in trailers", END_STREAM, &[("X-Test", "ok")], MALFORMED),
        with_trailers("8.2.2 connection in trailers", END_STREAM, &[("connection", "close")], MALFORMED),
        with_trailers("8.1.1 a length in trailers", END_STREAM, &[("content-length", "4")], MALFORMED),
        with_length(
            "8.1.1 as many bytes as were told",
            "4",
            &[data(END_STREAM, 1, b"test")],
            Expected::Answer(1, 200),
        ),
        with_length("8.1.1 less", "5", &[data(END_STREAM, 1, b"test")], MALFORMED),
        with_length("8.1.1 more", "1", &[data(END_STREAM, 1, b"test")], MALFORMED),
        with_length(
            "8.1.1 more in several frames",
            "1",
            &[data(0, 1, b"te"), data(END_STREAM, 1, b"st")],
            MALFORMED,
        ),
        with_length(
            "8.1.1 less before trailers",
            "5",
            &[data(0, 1, b"test"), headers(END_STREAM | END_HEADERS, 1, &[("x-test", "ok")])],
            MALFORMED,
        ),
        with_length("8.1.1 none at all", "4", &[], MALFORMED),
        with_length("8.1.1 a length with a sign", "+4", &[data(END_STREAM, 1, b"test")], MALFORMED),
        with_length("8.1.1 a list of lengths", "4, 4", &[data(END_STREAM, 1, b"test")], MALFORMED),
        with_length("8.1.1 in hexadecimal", "0x4", &[data(END_STREAM, 1, b"test")], MALFORMED),
        with_length(
            "8.1.1 longer than any number",
            "44444444444444444444",
            &[data(END_STREAM, 1, b"test")],
            MALFORMED,
        ),
        case(
            "8.1.1 the same length twice",
            sends([
                headers(
                    END_HEADERS,
                    1,
                    &[&request("POST", "/describe")[..], &[("content-length", "4"), ("content-length", "4")]]
                        .concat(),
                ),
                data(END_STREAM, 1, b"test"),
            ]),
            MALFORMED,
        ),
        case(
            "8.4 a push of a client",
            sends([post(1), frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2, 0x82])]),
            Expected::Connection(&[PROTOCOL_ERROR]),
        ),
    ])
    .await;
}
