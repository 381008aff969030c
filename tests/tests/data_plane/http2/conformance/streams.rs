//! States of streams, their numbers, priorities and windows: sections 5.1, 5.2, 5.3 and 6.9.

use naru_tests::bootstrap::TO_UP;

use super::*;

fn priority(stream: u32, on: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, [&on.to_be_bytes()[..], &[15]].concat())
}

fn continuation(stream: u32) -> Vec<u8> {
    frame(CONTINUATION, END_HEADERS, stream, block(&request("GET", "/describe")))
}

const IS_CLOSED: &[u32] = &[STREAM_CLOSED];
const IS_WRONG: &[u32] = &[PROTOCOL_ERROR];

/// A request, its answer, and then these.
fn after_answer<const N: usize>(frames: [Vec<u8>; N]) -> Vec<Step> {
    vec![Step::Send(get(1)), Step::Answered(1), Step::Send(frames.concat())]
}

#[tokio::test]
async fn states() {
    play_all(vec![
        case("5.1 idle: PRIORITY", sends([priority(1, 3), get(1)]), Expected::Answer(1, 200)),
        case("5.1 idle: DATA", sends([data(END_STREAM, 1, b"test")]), Expected::Connection(IS_WRONG)),
        case("5.1 idle: RST_STREAM", sends([reset(1, CANCEL)]), Expected::Connection(IS_WRONG)),
        case("5.1 idle: WINDOW_UPDATE", sends([window_update(1, 100)]), Expected::Connection(IS_WRONG)),
        case("5.1 idle: CONTINUATION", sends([continuation(1)]), Expected::Connection(IS_WRONG)),
        case(
            "5.1 idle: PUSH_PROMISE",
            sends([frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2])]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "5.1 half closed: WINDOW_UPDATE",
            sends([get(1), window_update(1, 100)]),
            Expected::Answer(1, 200),
        ),
        case("5.1 half closed: PRIORITY", sends([get(1), priority(1, 0)]), Expected::Answer(1, 200)),
        case("5.1 half closed: RST_STREAM", sends([get(1), reset(1, CANCEL)]), Expected::Alive),
        case(
            "5.1 half closed: DATA",
            sends([get(1), data(END_STREAM, 1, b"test")]),
            Expected::Stream(1, IS_CLOSED),
        ),
        case("5.1 half closed: HEADERS", sends([get(1), get(1)]), Expected::Stream(1, IS_CLOSED)),
        case(
            "5.1 half closed: CONTINUATION",
            sends([get(1), continuation(1)]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "5.1 reset: DATA",
            sends([post(1), reset(1, CANCEL), data(END_STREAM, 1, b"test")]),
            Expected::Stream(1, IS_CLOSED),
        ),
        case(
            "5.1 reset: HEADERS",
            sends([post(1), reset(1, CANCEL), get(1)]),
            Expected::Stream(1, IS_CLOSED),
        ),
        case(
            "5.1 reset: CONTINUATION",
            sends([post(1), reset(1, CANCEL), continuation(1)]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "5.1 reset: the table goes on",
            sends([
                post(1),
                reset(1, CANCEL),
                frame(
                    HEADERS,
                    END_STREAM | END_HEADERS,
                    1,
                    [&[0x40, 1, b'a', 1, b'b'][..], &block(&[("c", "d")])].concat(),
                ),
                frame(
                    HEADERS,
                    END_STREAM | END_HEADERS,
                    3,
                    [&block(&request("GET", "/describe"))[..], &[0xbe]].concat(),
                ),
            ]),
            Expected::Answer(3, 200),
        ),
        case(
            "5.1 closed: DATA",
            after_answer([data(END_STREAM, 1, b"test")]),
            Expected::Connection(IS_CLOSED),
        ),
        case("5.1 closed: HEADERS", after_answer([get(1)]), Expected::Connection(IS_CLOSED)),
        case("5.1 closed: CONTINUATION", after_answer([continuation(1)]), Expected::Connection(IS_WRONG)),
        case("5.1 closed: WINDOW_UPDATE", after_answer([window_update(1, 100)]), Expected::Alive),
        case("5.1 closed: PRIORITY", after_answer([priority(1, 0)]), Expected::Alive),
        case("5.1 closed: RST_STREAM", after_answer([reset(1, CANCEL)]), Expected::Alive),
        case("5.1.1 an even number", sends([get(2)]), Expected::Connection(IS_WRONG)),
        case(
            "5.1.1 a number lower than one before",
            sends([post(5), get(3)]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "5.1.1 numbers may be left out",
            sends([get(101), get(0x7fff_ffff)]),
            Expected::Answer(0x7fff_ffff, 200),
        ),
        case(
            "5.3.1 HEADERS of a stream that depends on itself",
            sends([frame(
                HEADERS,
                PRIORITIZED | END_STREAM | END_HEADERS,
                1,
                [&[0, 0, 0, 1, 255][..], &block(&request("GET", "/describe"))].concat(),
            )]),
            Expected::Stream(1, IS_WRONG),
        ),
        case(
            "5.3.1 PRIORITY of a stream that depends on itself",
            sends([priority(1, 1)]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "5.3.1 PRIORITY of an open stream that depends on itself",
            sends([post(1), priority(1, 1)]),
            Expected::Stream(1, IS_WRONG),
        ),
    ])
    .await;
}

#[tokio::test]
async fn windows() {
    const OVERFLOW: &[u32] = &[FLOW_CONTROL_ERROR];
    let one_byte = |name, steps, expected| Case { name, settings: vec![(4, 1)], steps, expected };
    let none = |name, steps, expected| Case { name, settings: vec![(4, 0)], steps, expected };
    let most = 0x7fff_ffff;
    let bytes = |count: usize| {
        headers(
            END_STREAM | END_HEADERS,
            1,
            &request("GET", if count == 100 { "/bytes/100" } else { "/bytes/100000" }),
        )
    };
    play_all(vec![
        case(
            "6.9 an increment of 0 for the connection",
            sends([window_update(0, 0)]),
            Expected::Connection(IS_WRONG),
        ),
        case(
            "6.9 an increment of 0 for a stream",
            sends([post(1), window_update(1, 0)]),
            Expected::Stream(1, IS_WRONG),
        ),
        case(
            "6.9 of other than 4 bytes",
            sends([frame(WINDOW_UPDATE, 0, 0, [0, 0, 1])]),
            Expected::Connection(&[FRAME_SIZE_ERROR]),
        ),
        one_byte("6.9.1 no more than the window", sends([bytes(100)]), Expected::Data(1, 1)),
        none(
            "6.9.1 nothing without a window, but the head",
            vec![
                Step::Send([bytes(100), settings(&[])].concat()),
                Step::Settled,
                Step::Send(window_update(1, 7)),
            ],
            Expected::Data(1, 7),
        ),
        case(
            "6.9.1 a window over 2^31-1 of the connection",
            sends([window_update(0, most), window_update(0, most)]),
            Expected::Connection(OVERFLOW),
        ),
        case(
            "6.9.1 a window over 2^31-1 of a stream",
            sends([post(1), window_update(1, most), window_update(1, most)]),
            Expected::Stream(1, OVERFLOW),
        ),
        case(
            "6.9.1 a body over the windows waits for both",
            vec![Step::Send([bytes(100_000), window_update(1, 40_000), window_update(0, 40_000)].concat())],
            Expected::Body(1, 100_000),
        ),
        none(
            "6.9.2 the windows of open streams grow",
            sends([bytes(100), settings(&[(4, 1)])]),
            Expected::Data(1, 1),
        ),
        Case {
            name: "6.9.2 and may be less than nothing",
            settings: vec![(4, 3)],
            steps: vec![
                Step::Send(bytes(100)),
                Step::Send([settings(&[(4, 2)]), window_update(1, 2)].concat()),
                Step::Settled,
            ],
            expected: Expected::Alive,
        },
        case("6.9.2 a setting of 2^31", sends([settings(&[(4, 1 << 31)])]), Expected::Connection(OVERFLOW)),
        case(
            "6.9.2 a setting that makes a window too large",
            sends([post(1), window_update(1, most - 65_535), settings(&[(4, 65_536)])]),
            Expected::Connection(OVERFLOW),
        ),
    ])
    .await;
}

/// 5.2.1: nobody may send more than the windows that naru has told.
#[tokio::test]
async fn more_than_a_window_is_refused() {
    // It never says a word, so that its handshake does not end and nobody reads a body.
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let authority = Authority::new();
    let windows = "http2_protocol_options: { initial_stream_window_size: 65535, initial_connection_window_size: 131072 }";
    let cluster = naru_tests::bootstrap::upstream_tls(&authority);
    let bootstrap = Bootstrap::new(TO_UP).cluster("up", silent.local_addr().unwrap(), &cluster);
    let naru = Naru::start(&bootstrap.manager(windows));
    let chunks = |stream, count: usize| data(0, stream, &[0; 16_384]).repeat(count);
    let mut peer = Peer::start(naru.address, None, &[]).await;
    peer.send([post(1), chunks(1, 4)].concat()).await;
    let refused = peer.find(|frame| frame.kind == RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, refused.number(0)), (1, FLOW_CONTROL_ERROR), "more than its own");
    assert!(peer.is_alive().await);
    let mut peer = Peer::start(naru.address, None, &[]).await;
    peer.send([post(1), chunks(1, 3), post(3), chunks(3, 3), post(5), chunks(5, 3)].concat()).await;
    assert_eq!(peer.goes_away().await, Some(FLOW_CONTROL_ERROR), "more than the connection's");
}

/// 5.1.2: more streams at a time than were told are refused, and those before go on.
#[tokio::test]
async fn more_streams_than_were_told_are_refused() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(
        &Bootstrap::to(upstream.address).manager("http2_protocol_options: { max_concurrent_streams: 3 }"),
    );
    // A window of nothing keeps them open.
    let mut peer = Peer::start(naru.address, None, &[(4, 0)]).await;
    assert!(peer.settings.contains(&(3, 3)), "{:?}", peer.settings);
    peer.send([1, 3, 5, 7].map(get).concat()).await;
    let refused = peer.find(|frame| frame.kind == RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, refused.number(0)), (7, REFUSED_STREAM));
    peer.send(settings(&[(4, 65_535)])).await;
    let mut ended = Vec::new();
    while ended.len() < 3 {
        ended.push(peer.find(Frame::ends_stream).await.unwrap().stream);
    }
    ended.sort_unstable();
    assert_eq!(ended, [1, 3, 5]);
    peer.send(get(9)).await;
    assert!(peer.answer(9).await.is_some(), "there is room again");
}
