//! Both roles against each other, and each against whatever comes; and what only time tells.

use std::collections::BTreeMap;

use http::Response;

use super::super::fields::Reading;
use super::super::frame::{ACK, END_HEADERS, END_STREAM, FrameHead, HEAD_BYTES, put_head};
use super::*;

/// Chance that comes again: xorshift.
struct Dice(u64);

impl Dice {
    fn of(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn terms(stream_window: u32, connection_window: u32) -> Terms {
    Terms {
        stream_window,
        connection_window,
        streams_max: 10,
        header_bytes_max: 60 * 1024,
        headers_timeout: Some(Duration::from_secs(10)),
        takes_extended: false,
        pace: Some(naru_spec::defaults::RESPONSE_PACE),
        limits: Default::default(),
    }
}

fn server() -> Connection {
    Connection::new(Role::Server, terms(65_536, 1 << 20), at(0))
}

/// A server that has heard a preface and settings, and said its own.
fn started(settings: &[(u16, u32)]) -> Connection {
    let mut connection = server();
    let mut input = BytesMut::from(PREFACE);
    frame::put_settings(&mut input, settings);
    connection.receive(&mut input, at(0));
    assert!(input.is_empty() && connection.failure.is_none());
    connection.pump();
    connection.out.clear();
    connection
}

fn request(path: &str) -> Request<()> {
    Request::builder().uri(format!("http://naru.test{path}")).body(()).unwrap()
}

fn put_request(out: &mut BytesMut, stream: u32, ends_stream: bool) {
    Writing { out, stream, frame_max: FRAME_BYTES_MAX, ends_stream, tells_table: false }
        .request(&request("/"));
}

/// Takes a request as a server's task does.
fn accept(connection: &mut Connection) -> usize {
    let place = connection.accept().unwrap();
    connection.stream(place).unwrap().handles += 1;
    place
}

/// Moves a part of what one side has to say to the other.
fn carry(from: &mut Connection, to: &mut Connection, input: &mut BytesMut, bytes: usize) {
    from.pump();
    let taken = from.out.len().min(bytes);
    input.extend_from_slice(&from.out.split_to(taken));
    from.written += taken as u64;
    to.receive(input, at(0));
    from.check_invariants();
    to.check_invariants();
}

/// One body on its way: what is to be sent, what was given to the stream, what has come.
#[derive(Default)]
struct Body {
    length: usize,
    given: usize,
    received: Vec<u8>,
    has_trailers: bool,
    is_whole: bool,
}

fn byte(id: u32, at: usize) -> u8 {
    (at * 7 + at / 251 + id as usize) as u8
}

impl Body {
    fn of(dice: &mut Dice) -> Body {
        let length = [0, 1, 100, 5_000, 30_000, 80_000][dice.roll(6)];
        Body { length, has_trailers: dice.roll(3) == 0, ..Body::default() }
    }

    fn give(&mut self, connection: &mut Connection, place: usize, id: u32, dice: &mut Dice) {
        if self.is_given() || !connection.has_room(place) {
            return;
        }
        let part = (self.length - self.given).min(1 + dice.roll(30_000));
        let data: Vec<u8> = (self.given..self.given + part).map(|at| byte(id, at)).collect();
        self.given += part;
        let end = (self.given == self.length).then(|| {
            self.is_whole = true;
            if self.has_trailers {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-end", "yes".parse().unwrap());
                End::Trailers(trailers)
            } else {
                End::Plain
            }
        });
        connection.send_data(place, data.into(), end);
    }

    fn is_given(&self) -> bool {
        self.is_whole
    }

    fn take(&mut self, connection: &mut Connection, place: usize) {
        while let Some(data) = connection.stream(place).unwrap().inbox.take() {
            connection.consume(place, data.len());
            self.received.extend_from_slice(&data);
        }
    }

    fn check(&self, id: u32, stream: &mut Stream) {
        assert_eq!(self.received.len(), self.length, "stream {id}");
        assert!(self.received.iter().enumerate().all(|(at, found)| *found == byte(id, at)), "stream {id}");
        assert_eq!(stream.trailers.take().is_some(), self.has_trailers, "stream {id}");
    }
}

/// Requests and answers with bodies over windows of all sizes, cut anywhere: all of them come whole.
#[test]
fn what_one_side_sends_is_what_the_other_receives() {
    for seed in 0..256 {
        let mut dice = Dice::of(seed);
        let mut window = || [1_000, 20_000, 65_535, 300_000][dice.roll(4)];
        let windows = [window(), window(), window(), window()];
        let mut client = Connection::new(Role::Client, terms(windows[0], windows[1]), at(0));
        let mut server = Connection::new(Role::Server, terms(windows[2], windows[3]), at(0));
        let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
        let mut up: BTreeMap<u32, (usize, Body)> = BTreeMap::new();
        let mut down: BTreeMap<u32, (usize, Body)> = BTreeMap::new();
        let mut sent: BTreeMap<u32, Body> = BTreeMap::new();
        let mut back: BTreeMap<u32, Body> = BTreeMap::new();
        let (mut opened, mut done) = (0, 0);
        let mut steps = 0;
        while done < 6 {
            steps += 1;
            assert!(steps < 200_000, "seed {seed} hangs at {done}");
            match dice.roll(6) {
                0 if opened < 6 && client.can_open() => {
                    opened += 1;
                    let place = client.open(&request("/"), false);
                    let stream = client.stream(place).unwrap();
                    stream.handles += 1;
                    up.insert(stream.id, (place, Body::of(&mut dice)));
                }
                1 => {
                    for (id, (place, body)) in &mut up {
                        body.give(&mut client, *place, *id, &mut dice);
                    }
                    for (id, (place, body)) in &mut down {
                        body.give(&mut server, *place, *id, &mut dice);
                    }
                }
                2 => carry(&mut client, &mut server, &mut to_server, 1 + dice.roll(20_000)),
                3 => carry(&mut server, &mut client, &mut to_client, 1 + dice.roll(20_000)),
                4 => {
                    while let Some(place) = server.accept() {
                        let stream = server.stream(place).unwrap();
                        stream.handles += 1;
                        let id = stream.id;
                        down.insert(id, (place, Body::of(&mut dice)));
                        let head = Response::new(());
                        server.send_response(place, head.status(), head.headers(), false);
                    }
                    for (id, (place, _)) in &down {
                        sent.entry(*id).or_default().take(&mut server, *place);
                    }
                    for (id, (place, _)) in &up {
                        back.entry(*id).or_default().take(&mut client, *place);
                    }
                }
                _ => {
                    let whole: Vec<u32> = down
                        .keys()
                        .copied()
                        .filter(|id| {
                            let over = |over: Option<Over>| over == Some(Over::Whole);
                            over(server.stream(down[id].0).unwrap().over)
                                && up
                                    .get(id)
                                    .is_some_and(|(place, _)| over(client.stream(*place).unwrap().over))
                        })
                        .collect();
                    for id in whole {
                        let (client_place, mut of_client) = up.remove(&id).unwrap();
                        let (server_place, mut of_server) = down.remove(&id).unwrap();
                        let (mut sent, mut back) =
                            (sent.remove(&id).unwrap_or_default(), back.remove(&id).unwrap_or_default());
                        sent.take(&mut server, server_place);
                        back.take(&mut client, client_place);
                        of_client.received = sent.received;
                        of_server.received = back.received;
                        of_client.check(id, server.stream(server_place).unwrap());
                        of_server.check(id, client.stream(client_place).unwrap());
                        client.let_go(client_place);
                        server.let_go(server_place);
                        done += 1;
                    }
                }
            }
        }
        assert!(client.streams.is_empty() && server.streams.is_empty(), "seed {seed}");
        assert_eq!((client.failure, server.failure), (None, None), "seed {seed}");
    }
}

/// Frames of all kinds, right and wrong, to both roles: nothing panics, and nothing grows without a bound.
#[test]
fn whatever_comes_is_taken_or_refused() {
    for seed in 0..512 {
        let mut dice = Dice::of(seed + 7_777);
        let role = if seed % 2 == 0 { Role::Server } else { Role::Client };
        let mut connection = Connection::new(role, terms(65_536, 1 << 20), at(0));
        let mut input = BytesMut::new();
        if role == Role::Server {
            input.extend_from_slice(PREFACE);
        }
        frame::put_settings(&mut input, &[(4, dice.roll(70_000) as u32)]);
        let mut places = Vec::new();
        for step in 0..200 {
            if role == Role::Client
                && connection.can_open()
                && dice.roll(3) == 0
                && connection.failure.is_none()
            {
                let place = connection.open(&request("/"), dice.roll(2) == 0);
                connection.stream(place).unwrap().handles += 1;
                places.push(place);
            }
            let stream = dice.roll(12) as u32 + 2 * step / 10;
            match dice.roll(8) {
                0 => put_request(&mut input, stream | 1, dice.roll(2) == 0),
                1 => {
                    let head = Response::new(());
                    Writing { out: &mut input, stream, frame_max: 20, ends_stream: false, tells_table: true }
                        .response(head.status(), head.headers());
                }
                2 => frame::put_window_update(&mut input, stream, dice.roll(3) as u32 * 1_000),
                3 => {
                    let data = dice.roll(400);
                    put_head(&mut input, data, Kind::Data, dice.roll(16) as u8 & 0x9, stream);
                    input.extend((0..data).map(|_| dice.roll(256) as u8));
                }
                _ => {
                    let length = dice.roll(40);
                    let start = input.len();
                    put_head(&mut input, length, Kind::Data, dice.roll(256) as u8, stream);
                    input[start + 3] = dice.roll(12) as u8;
                    input.extend((0..length).map(|_| dice.roll(256) as u8));
                }
            }
            let held = input.len();
            connection.receive(&mut input, at(u64::from(step)));
            assert!(input.len() <= held);
            while let Some(place) = connection.accept() {
                connection.stream(place).unwrap().handles += 1;
                places.push(place);
            }
            match (places.pop(), dice.roll(5)) {
                (Some(place), 0) => {
                    connection.leave_unread(place);
                    connection.let_go(place);
                }
                (Some(place), 1) => {
                    connection.send_data(place, vec![0; dice.roll(50_000)].into(), Some(End::Plain));
                    connection.let_go(place);
                }
                (Some(place), 2) => {
                    connection.reset(place, Code::CANCEL);
                    connection.let_go(place);
                }
                (Some(place), _) => places.insert(0, place),
                (None, _) => {}
            }
            connection.pump();
            assert!(connection.out.len() < OUT_BYTES_MAX + 2 * FRAME_BYTES_MAX);
            connection.out.clear();
            connection.tick(at(u64::from(step)));
            connection.check_invariants();
            if connection.failure.is_some() {
                break;
            }
        }
        for place in places {
            connection.leave_unread(place);
            connection.let_go(place);
        }
        connection.receive_end();
        connection.check_invariants();
        assert!(connection.streams.is_empty(), "seed {seed}");
    }
}

/// Ticks as long as it is asked for, and says why and when it ended. `meanwhile` is called each second.
fn wait(
    connection: &mut Connection,
    mut meanwhile: impl FnMut(&mut Connection, u64),
) -> Option<(Abuse, u64)> {
    for second in 1..=60 {
        meanwhile(connection, second);
        connection.pump();
        connection.out.clear();
        if connection.deadline().is_some_and(|deadline| deadline <= at(second * 1_000)) {
            connection.tick(at(second * 1_000));
        }
        if let Some(Failure::Abuse(abuse)) = connection.failure {
            return Some((abuse, second));
        }
        assert_eq!(connection.failure, None);
    }
    None
}

/// A server that has answered a request with so many bytes.
fn answering(settings: &[(u16, u32)], kind: &'static str, bytes: usize) -> Connection {
    let mut connection = started(settings);
    let mut input = BytesMut::new();
    put_request(&mut input, 1, true);
    connection.receive(&mut input, at(0));
    let place = accept(&mut connection);
    let head = Response::builder().header("content-type", kind).body(()).unwrap();
    connection.send_response(place, head.status(), head.headers(), false);
    connection.send_data(place, vec![0; bytes].into(), Some(End::Plain));
    connection
}

#[test]
fn a_reader_that_takes_nothing_or_next_to_nothing_is_let_go() {
    let mut stopped = answering(&[(4, 0)], "text/plain", 1_000);
    assert_eq!(wait(&mut stopped, |_, _| {}), Some((Abuse::SlowReader, 20)));
    let mut one_byte = answering(&[(4, 1)], "text/plain", 1_000);
    let more = |connection: &mut Connection, second| {
        let mut input = BytesMut::new();
        frame::put_window_update(&mut input, 1, 1);
        connection.receive(&mut input, at(second * 1_000));
    };
    assert_eq!(wait(&mut one_byte, more), Some((Abuse::SlowReader, 20)));
}

#[test]
fn a_reader_that_is_slow_and_goes_on_stays() {
    let mut slow = answering(&[(4, 0)], "text/plain", 30_000);
    let more = |connection: &mut Connection, second| {
        let mut input = BytesMut::new();
        frame::put_window_update(&mut input, 1, 300);
        connection.receive(&mut input, at(second * 1_000));
    };
    assert_eq!(wait(&mut slow, more), None);
    // Messages are taken when they are wanted.
    assert_eq!(wait(&mut answering(&[(4, 0)], "application/grpc+proto", 1_000), |_, _| {}), None);
    // And who waits for an answer is not slow.
    let mut waiting = started(&[]);
    let mut input = BytesMut::new();
    put_request(&mut input, 1, true);
    waiting.receive(&mut input, at(0));
    accept(&mut waiting);
    assert_eq!(wait(&mut waiting, |_, _| {}), None);
}

#[test]
fn what_begins_must_come_to_its_end() {
    assert_eq!(wait(&mut server(), |_, _| {}), Some((Abuse::SlowHeaders, 10)), "no preface");
    let mut idle = started(&[]);
    assert_eq!((wait(&mut idle, |_, _| {}), idle.deadline()), (None, None), "nothing to wait for");
    let mut block = started(&[]);
    let mut input = BytesMut::new();
    put_head(&mut input, 0, Kind::Headers, END_STREAM, 1);
    block.receive(&mut input, at(0));
    let more = |connection: &mut Connection, second| {
        let mut input = BytesMut::new();
        put_head(&mut input, 0, Kind::Continuation, 0, 1);
        connection.receive(&mut input, at(second * 1_000));
    };
    assert_eq!(wait(&mut block, more), Some((Abuse::SlowHeaders, 10)), "a block that goes on and on");
    let mut partial = started(&[]);
    let mut input = BytesMut::from(&[0, 0x40][..]);
    let more = |connection: &mut Connection, second: u64| {
        input.extend_from_slice(&[0]);
        connection.receive(&mut input, at(second * 1_000));
    };
    assert_eq!(wait(&mut partial, more), Some((Abuse::SlowHeaders, 16)), "half of a frame");
}

#[test]
fn a_connection_leaves_in_two_steps() {
    let mut connection = started(&[]);
    let mut input = BytesMut::new();
    put_request(&mut input, 1, true);
    connection.receive(&mut input, at(0));
    connection.leave();
    let told: Vec<_> = kinds(&mut connection);
    assert_eq!(told, [(Kind::GoAway, 0), (Kind::Ping, 0)]);
    // What was sent before the client knew is taken, and nothing that comes after its answer.
    put_request(&mut input, 3, true);
    frame::put_ping(&mut input, ACK, LEAVING_PING);
    put_request(&mut input, 5, false);
    put_head(&mut input, 3, Kind::Data, END_STREAM, 5);
    input.extend_from_slice(b"abc");
    connection.receive(&mut input, at(0));
    assert_eq!((connection.failure, connection.index.len(), connection.last_of_peer), (None, 2, 3));
    assert_eq!(kinds(&mut connection), [(Kind::GoAway, 0)]);
    for _ in 0..2 {
        let place = accept(&mut connection);
        assert!(!connection.is_over());
        connection.send_response(place, StatusCode::OK, &HeaderMap::new(), true);
        connection.let_go(place);
    }
    assert!(connection.is_over() && connection.streams.is_empty());
}

/// The frames that wait to be written.
fn kinds(connection: &mut Connection) -> Vec<(Kind, u32)> {
    connection.pump();
    let mut out = connection.out.split();
    let mut all = Vec::new();
    while let Some(head) = FrameHead::read(&out) {
        all.push((head.kind, head.stream));
        out.advance(HEAD_BYTES + head.length);
    }
    all
}

#[test]
fn a_large_head_goes_out_in_several_frames_and_is_read_again() {
    let mut out = BytesMut::new();
    let mut headers = HeaderMap::new();
    headers.insert("x-large", "v".repeat(50_000).parse().unwrap());
    Writing { out: &mut out, stream: 1, frame_max: FRAME_BYTES_MAX, ends_stream: true, tells_table: true }
        .response(StatusCode::OK, &headers);
    let mut block = BytesMut::new();
    let mut flags = Vec::new();
    while let Some(head) = FrameHead::read(&out) {
        flags.push((head.kind, head.flags));
        out.advance(HEAD_BYTES);
        block.extend_from_slice(&out.split_to(head.length));
    }
    let (first, middle, last) = (END_STREAM, 0, END_HEADERS);
    let next = Kind::Continuation;
    assert_eq!(flags, [(Kind::Headers, first), (next, middle), (next, middle), (next, last)]);
    let mut reading = Reading::new(super::super::fields::Message::Response, 60_000, false);
    Decoder::new().decode(&block, |field| reading.take(field)).unwrap();
    assert_eq!(reading.into_response().unwrap().headers(), &headers);
}

#[test]
fn who_takes_a_body_slowly_is_heard_all_the_while() {
    // Windows as wide as they can be, and a body that fills what may wait.
    let mut connection = answering(&[(4, 0x7fff_ffff)], "text/plain", 1 << 20);
    let mut input = BytesMut::new();
    frame::put_window_update(&mut input, 0, 0x7fff_0000);
    connection.receive(&mut input, at(0));
    connection.pump();
    assert!(connection.out.len() >= OUT_BYTES_MAX && connection.wants_more(), "{}", connection.out.len());
    // Who asks and asks, and reads nothing, is not.
    connection.out.resize(UNREAD_BYTES_MIN, 0);
    assert!(!connection.wants_more());
    // What could not be read meanwhile is not late.
    connection.partial_since = Some(at(0));
    connection.wrote(connection.out.len(), || at(60_000));
    connection.tick(at(60_000));
    assert_eq!(connection.failure, None);
}

#[test]
fn the_end_of_a_body_waits_for_no_window() {
    let mut connection = answering(&[(4, 0x7fff_ffff)], "text/plain", 0x1_0000);
    let mut input = BytesMut::new();
    put_request(&mut input, 3, true);
    connection.receive(&mut input, at(0));
    let place = accept(&mut connection);
    connection.send_response(place, StatusCode::OK, &HeaderMap::new(), false);
    // The window of the connection is used up by the first.
    let first = kinds(&mut connection);
    assert!(first.contains(&(Kind::Data, 1)) && connection.send_window == 0, "{first:?}");
    connection.send_data(place, Bytes::new(), Some(End::Plain));
    assert_eq!(kinds(&mut connection), [(Kind::Data, 3)]);
    connection.check_invariants();
}

#[test]
fn what_nobody_reads_is_given_back_to_the_window() {
    let mut client = Connection::new(Role::Client, terms(65_536, 70_000), at(0));
    let mut input = BytesMut::new();
    frame::put_settings(&mut input, &[]);
    client.receive(&mut input, at(0));
    let place = client.open(&request("/"), true);
    client.stream(place).unwrap().handles += 1;
    let headers = HeaderMap::new();
    Writing {
        out: &mut input,
        stream: 1,
        frame_max: FRAME_BYTES_MAX,
        ends_stream: false,
        tells_table: false,
    }
    .response(StatusCode::OK, &headers);
    for _ in 0..3 {
        put_head(&mut input, 15_000, Kind::Data, 0, 1);
        input.extend_from_slice(&[0; 15_000]);
    }
    put_head(&mut input, 0, Kind::Data, END_STREAM, 1);
    client.receive(&mut input, at(0));
    client.pump();
    client.out.clear();
    // Its task hears of it.
    let (heard, waker) = waker();
    client.task = Some(waker);
    client.let_go(place);
    assert!(heard.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(kinds(&mut client), [(Kind::WindowUpdate, 0)]);
}

#[test]
fn a_stream_that_stays_keeps_no_room_for_the_many_that_were_there_with_it() {
    let many = Terms { streams_max: 1_000, ..terms(65_536, 1 << 20) };
    let mut connection = Connection::new(Role::Server, many, at(0));
    let mut input = BytesMut::from(PREFACE);
    frame::put_settings(&mut input, &[]);
    for number in 0..1_000 {
        put_request(&mut input, 2 * number + 1, true);
    }
    connection.receive(&mut input, at(0));
    let places: Vec<usize> = (0..1_000).map(|_| accept(&mut connection)).collect();
    let (stays, go) = places.split_last().unwrap();
    for place in go {
        connection.send_response(*place, StatusCode::OK, &HeaderMap::new(), true);
        connection.let_go(*place);
    }
    connection.check_invariants();
    assert_eq!((connection.index.len(), connection.streams.len()), (1, 1));
    assert!(connection.stream(*stays).is_some());
    let room = connection.streams.capacity() * size_of_val(&connection.streams[*stays]);
    assert!(room < 16 * 1024 && size_of::<Stream>() > 400, "{room}");
}

#[test]
fn who_waits_for_a_stream_is_known_once_and_forgotten_when_it_waits_no_more() {
    let mut client = Connection::new(Role::Client, terms(65_536, 70_000), at(0));
    let (heard, first) = waker();
    let (second_heard, second) = waker();
    let (mut one, mut other) = (None, None);
    for _ in 0..3 {
        client.wait_to_open(&mut one, &Context::from_waker(&second));
        client.wait_to_open(&mut one, &Context::from_waker(&first));
        // Another request of the same task.
        client.wait_to_open(&mut other, &Context::from_waker(&first));
    }
    assert_eq!(client.waiting_to_open.len(), 2);
    client.wait_no_more(other.unwrap());
    assert_eq!(client.waiting_to_open.len(), 1);
    client.wake_waiting();
    let heard = [heard, second_heard].map(|heard| heard.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!((client.waiting_to_open.len(), heard), (0, [true, false]));
    client.wait_to_open(&mut one, &Context::from_waker(&second));
    assert_eq!(client.waiting_to_open.len(), 1, "it waits again");
}

#[test]
fn what_has_come_of_a_tunnel_is_read_after_its_reset() {
    for is_tunnel in [false, true] {
        let mut connection = started(&[]);
        let mut input = BytesMut::new();
        put_request(&mut input, 1, false);
        connection.receive(&mut input, at(0));
        let place = accept(&mut connection);
        connection.stream(place).unwrap().keeps_inbox = is_tunnel;
        put_head(&mut input, 5, Kind::Data, 0, 1);
        input.extend_from_slice(b"hello");
        frame::put_reset(&mut input, 1, Code::CANCEL);
        connection.receive(&mut input, at(0));
        let told = connection.stream(place).unwrap().inbox.take();
        assert_eq!(told.as_deref(), is_tunnel.then_some(&b"hello"[..]));
        if let Some(told) = told {
            connection.consume(place, told.len());
        }
        assert_eq!(connection.to_return, 5);
        connection.let_go(place);
        assert!(connection.streams.is_empty());
        connection.check_invariants();
    }
}

/// Whether it was woken.
fn waker() -> (std::sync::Arc<std::sync::atomic::AtomicBool>, Waker) {
    struct Flag(std::sync::Arc<std::sync::atomic::AtomicBool>);
    impl std::task::Wake for Flag {
        fn wake(self: std::sync::Arc<Flag>) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let heard = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
    let waker = Waker::from(std::sync::Arc::new(Flag(std::sync::Arc::clone(&heard))));
    (heard, waker)
}

#[test]
fn settings_that_are_acknowledged_again_and_again_are_a_flood() {
    let mut connection = started(&[]);
    let mut input = BytesMut::new();
    for _ in 0..100_000 {
        put_head(&mut input, 0, Kind::Settings, ACK, 0);
    }
    connection.receive(&mut input, at(0));
    assert_eq!(connection.failure, Some(Failure::Abuse(Abuse::Settings)));
}

#[test]
fn the_answer_to_head_has_no_body() {
    let mut client = Connection::new(Role::Client, terms(65_536, 70_000), at(0));
    let mut input = BytesMut::new();
    frame::put_settings(&mut input, &[]);
    let head = Request::builder().method("HEAD").uri("http://naru.test/").body(()).unwrap();
    let place = client.open(&head, true);
    client.stream(place).unwrap().handles += 1;
    let headers = HeaderMap::from_iter([(http::header::CONTENT_LENGTH, "5".parse().unwrap())]);
    Writing {
        out: &mut input,
        stream: 1,
        frame_max: FRAME_BYTES_MAX,
        ends_stream: false,
        tells_table: false,
    }
    .response(StatusCode::OK, &headers);
    put_head(&mut input, 5, Kind::Data, END_STREAM, 1);
    input.extend_from_slice(b"hello");
    client.receive(&mut input, at(0));
    assert_eq!(client.stream(place).unwrap().over, Some(Over::ResetByUs(Code::PROTOCOL_ERROR)));
}
