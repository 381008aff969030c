//! What each type of frame may say: sections 6.1 to 6.4, 6.6 and 6.10.

use super::*;

const IS_WRONG: &[u32] = &[PROTOCOL_ERROR];
const SIZE: &[u32] = &[FRAME_SIZE_ERROR];

#[tokio::test]
async fn payloads_and_their_streams() {
    let whole = block(&request("GET", "/describe"));
    let (first, rest) = whole.split_at(whole.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    let with_priority = |on: u32| [&on.to_be_bytes()[..], &[255], &whole].concat();
    let padded = [&[6][..], &whole, &[0; 6]].concat();
    play_all(vec![
        case("6.1 DATA", sends([post(1), data(END_STREAM, 1, b"test")]), Expected::Answer(1, 200)),
        case(
            "6.1 several",
            sends([post(1), data(0, 1, b"te"), data(END_STREAM, 1, b"st")]),
            Expected::Answer(1, 200),
        ),
        case(
            "6.1 with padding",
            sends([post(1), frame(DATA, PADDED | END_STREAM, 1, b"\x05test\0\0\0\0\0")]),
            Expected::Answer(1, 200),
        ),
        case(
            "6.1 of padding alone",
            sends([post(1), frame(DATA, PADDED | END_STREAM, 1, [255; 256])]),
            Expected::Answer(1, 200),
        ),
        case("6.1 of nothing", sends([post(1), data(END_STREAM, 1, b"")]), Expected::Answer(1, 200)),
        case(
            "6.1 in no stream",
            sends([post(1), data(END_STREAM, 0, b"test")]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "6.1 after the end",
            sends([post(1), data(END_STREAM, 1, b"a"), data(0, 1, b"b")]),
            Expected::Stream(1, &[STREAM_CLOSED]),
        ),
        case(
            "6.1 with more padding than payload",
            sends([post(1), frame(DATA, PADDED | END_STREAM, 1, b"\x06test\0")]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "6.1 with padding that is not there",
            sends([post(1), frame(DATA, PADDED | END_STREAM, 1, [])]),
            Expected::Connection(IS_WRONG),
        ),
        case("6.2 HEADERS", sends([get(1)]), Expected::Answer(1, 200)),
        case(
            "6.2 with padding",
            sends([frame(HEADERS, PADDED | END_STREAM | END_HEADERS, 1, &padded)]),
            Expected::Answer(1, 200),
        ),
        case(
            "6.2 with a priority",
            sends([frame(HEADERS, PRIORITIZED | END_STREAM | END_HEADERS, 1, with_priority(0))]),
            Expected::Answer(1, 200),
        ),
        case(
            "6.2 with both",
            sends([frame(
                HEADERS,
                PADDED | PRIORITIZED | END_STREAM | END_HEADERS,
                1,
                [&[3][..], &with_priority(0x8000_0000), &[0; 3]].concat(),
            )]),
            Expected::Answer(1, 200),
        ),
        case(
            "6.2 without an end, and then another frame",
            sends([frame(HEADERS, END_STREAM, 1, first), frame(PING, 0, 0, [0; 8])]),
            Expected::Connection(IS_WRONG),
        ),
        case("6.2 in no stream", sends([get(0)]), Expected::Connection(IS_WRONG)),
        case(
            "6.2 with more padding than payload",
            sends([frame(HEADERS, PADDED | END_STREAM | END_HEADERS, 1, [&[255][..], &whole[..9]].concat())]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "6.2 with half a priority",
            sends([frame(HEADERS, PRIORITIZED | END_STREAM | END_HEADERS, 1, [0, 0, 0])]),
            Expected::Connection(SIZE),
        ),
        case(
            "6.3 PRIORITY",
            sends([frame(PRIORITY, 0, 1, [0, 0, 0, 0, 0]), get(1)]),
            Expected::Answer(1, 200),
        ),
        case(
            "6.3 of weight 256",
            sends([frame(PRIORITY, 0, 1, [0, 0, 0, 0, 255]), get(1)]),
            Expected::Answer(1, 200),
        ),
        case(
            "6.3 that excludes",
            sends([frame(PRIORITY, 0, 3, [0x80, 0, 0, 1, 15]), get(1)]),
            Expected::Answer(1, 200),
        ),
        case(
            "6.3 in no stream",
            sends([frame(PRIORITY, 0, 0, [0, 0, 0, 1, 15])]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "6.3 of other than 5 bytes",
            sends([post(1), frame(PRIORITY, 0, 1, [0x80, 0, 0, 1])]),
            Expected::Stream(1, SIZE),
        ),
        case("6.4 RST_STREAM", sends([post(1), reset(1, CANCEL)]), Expected::Alive),
        case("6.4 in no stream", sends([reset(0, CANCEL)]), Expected::Connection(IS_WRONG)),
        case("6.4 in an idle stream", sends([reset(1, CANCEL)]), Expected::Connection(IS_WRONG)),
        case(
            "6.4 of other than 4 bytes",
            sends([post(1), frame(RST_STREAM, 0, 1, [0, 0, 0])]),
            Expected::Connection(SIZE),
        ),
        case(
            "6.6 PUSH_PROMISE of a client",
            sends([post(1), frame(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2][..], &whole].concat())]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "6.10 CONTINUATION",
            sends([frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)]),
            Expected::Answer(1, 200),
        ),
        case(
            "6.10 several",
            sends([
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, 0, 1, second),
                frame(CONTINUATION, 0, 1, []),
                frame(CONTINUATION, END_HEADERS, 1, third),
            ]),
            Expected::Answer(1, 200),
        ),
        case(
            "6.10 followed by another frame",
            sends([
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, 0, 1, second),
                data(END_STREAM, 1, b"test"),
            ]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "6.10 in no stream",
            sends([frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 0, rest)]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "6.10 of another stream",
            sends([frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 3, rest)]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "6.10 after the end of a block",
            sends([get(1), frame(CONTINUATION, END_HEADERS, 1, rest)]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "6.10 after the end of a block of several frames",
            sends([
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, END_HEADERS, 1, rest),
                frame(CONTINUATION, END_HEADERS, 1, rest),
            ]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "6.10 after DATA",
            sends([post(1), data(END_STREAM, 1, b"test"), frame(CONTINUATION, END_HEADERS, 1, rest)]),
            Expected::Connection(IS_WRONG),
        ),
    ])
    .await;
}
