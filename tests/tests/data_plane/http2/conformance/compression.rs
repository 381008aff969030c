//! Compressed lists: RFC 7541.

use super::*;

const BROKEN: Expected = Expected::Connection(&[COMPRESSION_ERROR]);

/// A request with `more`, as bytes, after its fields.
fn block_with(more: &[u8]) -> Vec<Step> {
    let block = [&block(&request("GET", "/describe"))[..], more].concat();
    sends([frame(HEADERS, END_STREAM | END_HEADERS, 1, block)])
}

fn block_after(first: &[u8]) -> Vec<Step> {
    let block = [first, &block(&request("GET", "/describe"))].concat();
    sends([frame(HEADERS, END_STREAM | END_HEADERS, 1, block)])
}

#[tokio::test]
async fn blocks() {
    let answered = || Expected::Answer(1, 200);
    let second = |more: &[u8]| {
        frame(HEADERS, END_STREAM | END_HEADERS, 3, [&block(&request("GET", "/describe"))[..], more].concat())
    };
    play_all(vec![
        // GET, http and / stand in the table.
        case(
            "6.1 an indexed field",
            sends([frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                [&[0x82, 0x86][..], &block(&[(":path", "/describe"), (":authority", "a")])].concat(),
            )]),
            answered(),
        ),
        case(
            "6.2.1 one that is kept, of a known name",
            block_with(&[0x7a, 4, b't', b'e', b's', b't']),
            answered(),
        ),
        case("6.2.1 one that is kept, of a new name", block_with(&[0x40, 1, b'x', 1, b'y']), answered()),
        case(
            "6.2.2 one that is not kept, of a known name",
            block_with(&[0x0f, 0x2b, 4, b't', b'e', b's', b't']),
            answered(),
        ),
        case("6.2.3 one that nobody may keep", block_with(&[0x10, 1, b'x', 1, b'y']), answered()),
        case(
            "6.2.3 one that nobody may keep, of a known name",
            block_with(&[0x1f, 0x2b, 1, b'y']),
            answered(),
        ),
        case("6.3 a smaller table", block_after(&[0x3f, 0x61]), answered()),
        case("6.3 none, and the largest", block_after(&[0x20, 0x3f, 0xe1, 0x1f]), answered()),
        case(
            "5.2 a string in Huffman's code",
            block_with(&[0x40, 0x82, 0xf2, 0xb7, 0x82, 0xf2, 0xb7]),
            answered(),
        ),
        case(
            "2.3.2 what was kept is known later",
            vec![Step::Send(
                [
                    &frame(
                        HEADERS,
                        END_STREAM | END_HEADERS,
                        1,
                        [&block(&request("GET", "/describe"))[..], &[0x40, 1, b'x', 1, b'y']].concat(),
                    )[..],
                    &second(&[0xbe]),
                ]
                .concat(),
            )],
            Expected::Answer(3, 200),
        ),
        case(
            "4.3 a smaller table forgets",
            vec![
                Step::Send(frame(
                    HEADERS,
                    END_STREAM | END_HEADERS,
                    1,
                    [&block(&request("GET", "/describe"))[..], &[0x40, 1, b'x', 1, b'y']].concat(),
                )),
                Step::Answered(1),
                Step::Send(frame(HEADERS, END_STREAM | END_HEADERS, 3, [0x20, 0xbe])),
            ],
            BROKEN,
        ),
        case("2.3.3 an index that is nowhere", block_with(&[0xc6]), BROKEN),
        case("2.3.3 the index of a name that is nowhere", block_with(&[0x7f, 0x07, 1, b'y']), BROKEN),
        case("4.2 a size at the end of a block", block_with(&[0x3f, 0x61]), BROKEN),
        case(
            "5.1 a number without an end",
            block_with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            BROKEN,
        ),
        case("5.2 a string longer than its block", block_with(&[0x00, 0x7f, 0x10, b'x']), BROKEN),
        case(
            "5.2 more than 7 bits of padding",
            block_with(&[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff]),
            BROKEN,
        ),
        case(
            "5.2 padding of zeros",
            block_with(&[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90]),
            BROKEN,
        ),
        case(
            "5.2 a string with the end in it",
            block_with(&[
                0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x87, 0x49, 0x51, 0xff, 0xff, 0xff, 0xfa, 0x7f,
            ]),
            BROKEN,
        ),
        case("6.1 index 0", block_with(&[0x80]), BROKEN),
        case("6.3 a size over the limit", block_after(&[0x3f, 0xe2, 0x1f]), BROKEN),
    ])
    .await;
}
