//! Beginning, frames as such, errors and settings: sections 3.4, 4, 5.4, 5.5, 6.5, 6.7, 6.8 and 7.

use super::*;

const CALM: [u8; 8] = *b"12345678";

#[tokio::test]
async fn connections_and_settings() {
    let block = block(&request("GET", "/describe"));
    let padded = |length: usize| vec![0; length];
    play_all(vec![
        case("3.4 settings come first, and ours are acknowledged", vec![], Expected::Alive),
        case(
            "4.1 a frame of an unknown type is ignored",
            sends([frame(0x16, 0, 0, padded(8)), get(1)]),
            Expected::Answer(1, 200),
        ),
        case("4.1 unknown flags are ignored", sends([frame(PING, 0x16, 0, CALM)]), Expected::Pong(CALM)),
        case(
            "4.1 the reserved bit is ignored",
            sends([frame(PING, 0, 0x8000_0000, CALM)]),
            Expected::Pong(CALM),
        ),
        case(
            "4.2 DATA of 2^14 bytes is taken",
            sends([
                headers(END_HEADERS, 1, &request("POST", "/length")),
                data(END_STREAM, 1, &padded(16_384)),
            ]),
            Expected::Answer(1, 200),
        ),
        case(
            "4.2 DATA of more is refused",
            sends([post(1), data(END_STREAM, 1, &padded(16_385))]),
            Expected::Stream(1, &[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.2 HEADERS of more are refused",
            sends([frame(HEADERS, END_STREAM | END_HEADERS, 1, padded(16_385))]),
            Expected::Connection(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.2 SETTINGS of more are refused",
            sends([frame(SETTINGS, 0, 0, padded(16_386))]),
            Expected::Connection(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.3 a block that cannot be read",
            sends([frame(HEADERS, END_STREAM | END_HEADERS, 1, [0x40])]),
            Expected::Connection(&[COMPRESSION_ERROR]),
        ),
        case(
            "4.3 PRIORITY within a block",
            sends([frame(HEADERS, END_STREAM, 1, &block), frame(PRIORITY, 0, 1, [0, 0, 0, 0, 15])]),
            Expected::Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "4.3 another stream's HEADERS within a block",
            sends([frame(HEADERS, END_STREAM, 1, &block), get(3)]),
            Expected::Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.4.1 an error of the connection ends it",
            sends([frame(PING, 0, 0, [0; 7])]),
            Expected::Connection(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "5.4.1 GOAWAY names the last stream",
            vec![Step::Send(get(1)), Step::Answered(1), Step::Send(frame(PING, 0, 1, CALM))],
            Expected::Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.5 an unknown extension is ignored",
            sends([frame(0xff, 0xff, 1, padded(99))]),
            Expected::Alive,
        ),
        case(
            "5.5 but not within a block",
            sends([frame(HEADERS, END_STREAM, 1, &block), frame(0xff, 0, 1, [])]),
            Expected::Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.5 an acknowledgement with a payload",
            sends([frame(SETTINGS, ACK, 0, [0; 6])]),
            Expected::Connection(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "6.5 in a stream",
            sends([frame(SETTINGS, 0, 1, [0, 3, 0, 0, 0, 100])]),
            Expected::Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.5 of no multiple of 6 bytes",
            sends([frame(SETTINGS, 0, 0, [0, 3, 0])]),
            Expected::Connection(&[FRAME_SIZE_ERROR]),
        ),
        case("6.5.2 ENABLE_PUSH of 2", sends([settings(&[(2, 2)])]), Expected::Connection(&[PROTOCOL_ERROR])),
        case(
            "6.5.2 INITIAL_WINDOW_SIZE of 2^31",
            sends([settings(&[(4, 1 << 31)])]),
            Expected::Connection(&[FLOW_CONTROL_ERROR]),
        ),
        case(
            "6.5.2 MAX_FRAME_SIZE of less than 2^14",
            sends([settings(&[(5, 16_383)])]),
            Expected::Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.5.2 MAX_FRAME_SIZE of 2^24",
            sends([settings(&[(5, 1 << 24)])]),
            Expected::Connection(&[PROTOCOL_ERROR]),
        ),
        case("6.5.2 an unknown setting", sends([settings(&[(0xff, 1)])]), Expected::SettingsAck),
        case(
            "8441 ENABLE_CONNECT_PROTOCOL of 2",
            sends([settings(&[(8, 2)])]),
            Expected::Connection(&[PROTOCOL_ERROR]),
        ),
        Case {
            name: "6.5.3 the last of several values holds",
            settings: vec![(4, 100), (4, 1)],
            steps: sends([get(1)]),
            expected: Expected::Data(1, 1),
        },
        case("6.5.3 settings are acknowledged", sends([settings(&[(4, 100)])]), Expected::SettingsAck),
        case(
            "6.7 a PING is answered with what it says",
            sends([frame(PING, 0, 0, CALM)]),
            Expected::Pong(CALM),
        ),
        case(
            "6.7 an answer to a PING is not",
            sends([frame(PING, ACK, 0, *b"nobodys!"), frame(PING, 0, 0, CALM)]),
            Expected::Pong(CALM),
        ),
        case("6.7 in a stream", sends([frame(PING, 0, 1, CALM)]), Expected::Connection(&[PROTOCOL_ERROR])),
        case(
            "6.7 of other than 8 bytes",
            sends([frame(PING, 0, 0, [0; 6])]),
            Expected::Connection(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "6.8 GOAWAY in a stream",
            sends([frame(GOAWAY, 0, 1, [0; 8])]),
            Expected::Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.8 of less than 8 bytes",
            sends([frame(GOAWAY, 0, 0, [0; 7])]),
            Expected::Connection(&[FRAME_SIZE_ERROR]),
        ),
        case("7 an unknown code of a stream", sends([post(1), reset(1, 0xff)]), Expected::Alive),
    ])
    .await;
}

#[tokio::test]
async fn a_preface_is_read_before_anything() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let authority = Authority::new();
    let naru = Naru::start(&Bootstrap::to(upstream.address).tls(&authority, &["h2"]));
    // 3.4: by ALPN it is HTTP/2, whatever follows.
    for wrong in
        ["INVALID CONNECTION PREFACE\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", "GET / HTTP/1.1\r\n\r\n"]
    {
        let mut peer = Peer::connect(naru.address, Some(&authority)).await;
        peer.send(wrong).await;
        assert_eq!(peer.goes_away().await, Some(PROTOCOL_ERROR), "{wrong}");
    }
    // And the first frame is SETTINGS.
    let mut peer = Peer::connect(naru.address, Some(&authority)).await;
    peer.send([PREFACE, &frame(PING, 0, 0, CALM)].concat()).await;
    assert_eq!(peer.goes_away().await, Some(PROTOCOL_ERROR));
    // Each byte may come alone.
    let mut peer = Peer::connect(naru.address, Some(&authority)).await;
    for byte in [PREFACE, &settings(&[]), &get(1)].concat() {
        peer.send([byte]).await;
    }
    let (head, _) = peer.answer(1).await.unwrap();
    assert_eq!(status(&head), 200);
}

#[tokio::test]
async fn streams_go_on_after_a_client_goes_away() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(upstream.address));
    let mut peer = Peer::start(naru.address, None, &[]).await;
    let slow = headers(END_STREAM | END_HEADERS, 1, &request("GET", "/slow/50"));
    peer.send([slow, frame(GOAWAY, 0, 0, [0, 0, 0, 0, 0, 0, 0, 0xff])].concat()).await;
    let (head, _) = peer.answer(1).await.unwrap();
    assert_eq!(status(&head), 200);
    assert!(peer.next().await.is_none(), "then nothing is left to wait for");
}
