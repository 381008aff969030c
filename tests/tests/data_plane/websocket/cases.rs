//! What a client of WebSocket may say, and must not: framing, pings, reserved bits and opcodes, fragments, UTF-8, ends,
//! sizes. Each case says what a server that obeys RFC 6455 and echoes messages answers.

use naru_tests::websocket::{CLOSE, frame};

use super::utf8;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// Of a frame that others follow, and of the last of them.
const TEXT_BEGINS: u8 = 0x01;
const BINARY_BEGINS: u8 = 0x02;
const GOES_ON: u8 = 0x00;
const ENDS: u8 = 0x80;

const HELLO: &[u8] = b"Hello, world!";
const NO_UTF8: &[u8] = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
/// Closing codes: in good order, against the protocol, no UTF-8 (RFC 6455, section 7.4.1); 0 stands for none.
const NORMAL: &[u16] = &[1000];
const PROTOCOL: &[u16] = &[1002];
const PAYLOAD: &[u16] = &[1007];

#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub steps: Vec<Step>,
    /// The frames that come before the last one.
    pub answers: Vec<(u8, Vec<u8>)>,
    /// What the last one, which closes, may say; nothing where that is the server's own business.
    pub codes: &'static [u16],
    /// The client says that it closes, or what nobody can say more after.
    pub closes: bool,
}

#[derive(Clone, Debug)]
pub enum Step {
    Send(Vec<u8>),
    /// In pieces of this size.
    Chopped(Vec<u8>, usize),
    /// So many frames have come.
    Await(usize),
}

use Step::{Await, Chopped, Send};

impl Step {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Send(bytes) | Chopped(bytes, _) => bytes,
            Await(_) => &[],
        }
    }
}

fn closing(code: u16, why: &[u8]) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), why].concat())
}

/// What is answered, and closed by the client after that.
fn answered(name: impl Into<String>, mut steps: Vec<Step>, answers: Vec<(u8, Vec<u8>)>) -> Case {
    steps.extend([Await(answers.len()), Send(closing(1000, b""))]);
    Case { name: name.into(), steps, answers, codes: NORMAL, closes: true }
}

/// What a server closes for.
fn failed(
    name: impl Into<String>,
    steps: Vec<Step>,
    answers: Vec<(u8, Vec<u8>)>,
    codes: &'static [u16],
) -> Case {
    Case { name: name.into(), steps, answers, codes, closes: false }
}

/// How the client closes.
fn closed(name: impl Into<String>, bytes: Vec<u8>, codes: &'static [u16]) -> Case {
    Case { name: name.into(), steps: vec![Send(bytes)], answers: Vec::new(), codes, closes: true }
}

/// Frames one after another, each to go out by itself: whole, or byte by byte.
fn each(frames: &[Vec<u8>], chop: Option<usize>) -> Vec<Step> {
    let step = |frame: &Vec<u8>| chop.map_or(Send(frame.clone()), |size| Chopped(frame.clone(), size));
    frames.iter().map(step).collect()
}

/// All frames at once, each by itself, and byte by byte.
fn thrice(frames: &[Vec<u8>]) -> [(&'static str, Vec<Step>); 3] {
    [
        ("at once", vec![Send(frames.concat())]),
        ("frame by frame", each(frames, None)),
        ("byte by byte", each(frames, Some(1))),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    framing(&mut all);
    pings(&mut all);
    reserved(&mut all);
    fragments(&mut all);
    utf8(&mut all);
    ends(&mut all);
    sizes(&mut all);
    all
}

fn framing(all: &mut Vec<Case>) {
    for (kind, byte) in [(TEXT, b'*'), (BINARY, 0xfe)] {
        for length in [0, 125, 126, 127, 128, 65_535, 65_536] {
            let payload = vec![byte; length];
            let steps = vec![Send(frame(kind, &payload))];
            all.push(answered(format!("a message {kind:02x} of {length}"), steps, vec![(kind, payload)]));
        }
        let payload = vec![byte; 65_536];
        let steps = vec![Chopped(frame(kind, &payload), 997)];
        all.push(answered(format!("a message {kind:02x} in pieces"), steps, vec![(kind, payload)]));
    }
    // Cut into frames by the client.
    let payload = vec![b'*'; 65_536];
    all.push(answered("frames of 1300", in_frames(TEXT, &payload, 1_300), vec![(TEXT, payload)]));
}

fn in_frames(kind: u8, payload: &[u8], size: usize) -> Vec<Step> {
    let count = payload.chunks(size).count();
    let frames: Vec<Vec<u8>> = payload
        .chunks(size)
        .enumerate()
        .map(|(at, piece)| {
            let begins = if at == 0 { kind & 0x0f } else { GOES_ON };
            frame(begins | if at + 1 == count { ENDS } else { 0 }, piece)
        })
        .collect();
    vec![Send(frames.concat())]
}

fn pings(all: &mut Vec<Case>) {
    let long = vec![0xfe; 125];
    for payload in [b"".as_slice(), HELLO, NO_UTF8, &long] {
        let steps = vec![Send(frame(PING, payload))];
        all.push(answered(format!("a ping of {}", payload.len()), steps, vec![(PONG, payload.to_vec())]));
    }
    all.push(failed("a ping of 126", vec![Send(frame(PING, &[0xfe; 126]))], vec![], PROTOCOL));
    all.push(answered("a ping byte by byte", vec![Chopped(frame(PING, &long), 1)], vec![(PONG, long)]));
    all.push(answered("a pong unasked", vec![Send(frame(PONG, b""))], vec![]));
    all.push(answered("a pong unasked that says something", vec![Send(frame(PONG, b"unasked"))], vec![]));
    let both = [frame(PONG, b"unasked"), frame(PING, b"ping")].concat();
    all.push(answered("a pong and a ping", vec![Send(both)], vec![(PONG, b"ping".to_vec())]));
    let payloads: Vec<Vec<u8>> = (0..10).map(|number| format!("ping {number}").into_bytes()).collect();
    let frames: Vec<Vec<u8>> = payloads.iter().map(|payload| frame(PING, payload)).collect();
    let pongs: Vec<(u8, Vec<u8>)> = payloads.into_iter().map(|payload| (PONG, payload)).collect();
    for (how, steps) in thrice(&frames) {
        all.push(answered(format!("ten pings {how}"), steps, pongs.clone()));
    }
}

fn reserved(all: &mut Vec<Case>) {
    let hello = (TEXT, HELLO.to_vec());
    // Something that is fine, something that is not, and a ping that nobody answers any more.
    let mut after_hello = |what: String, bad: Vec<u8>| {
        all.push(failed(format!("{what}, alone"), vec![Send(bad.clone())], vec![], PROTOCOL));
        for (how, mut steps) in thrice(&[frame(TEXT, HELLO), bad.clone(), frame(PING, b"")]) {
            if steps.len() > 1 {
                steps.insert(1, Await(1));
            }
            all.push(failed(format!("{what}, after a message, {how}"), steps, vec![hello.clone()], PROTOCOL));
        }
    };
    for bits in 1..=7_u8 {
        after_hello(format!("reserved bits {bits}"), frame(TEXT | bits << 4, HELLO));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        after_hello(format!("opcode {opcode}"), frame(ENDS | opcode, b""));
        after_hello(format!("opcode {opcode} that says something"), frame(ENDS | opcode, HELLO));
    }
    for kind in [BINARY, PING, CLOSE] {
        let bad = vec![Send(frame(kind | 0x50, NO_UTF8))];
        all.push(failed(format!("reserved bits of {kind:02x}"), bad, vec![], PROTOCOL));
    }
}

fn fragments(all: &mut Vec<Case>) {
    let text = |piece: &[u8]| frame(TEXT_BEGINS, piece);
    let whole = (TEXT, b"firstlast".to_vec());
    for kind in [PING, PONG, CLOSE] {
        let frames = [frame(kind & 0x0f, b"first"), frame(ENDS, b"last")];
        all.push(failed(format!("{kind:02x} in two frames"), vec![Send(frames.concat())], vec![], PROTOCOL));
    }
    for (how, steps) in thrice(&[text(b"first"), frame(ENDS, b"last")]) {
        all.push(answered(format!("a message in two frames, {how}"), steps, vec![whole.clone()]));
    }
    let ping = frame(PING, b"between");
    for (how, steps) in thrice(&[text(b"first"), ping.clone(), frame(ENDS, b"last")]) {
        let answers = vec![(PONG, b"between".to_vec()), whole.clone()];
        all.push(answered(format!("a ping within a message, {how}"), steps, answers));
    }
    for (what, bits) in [("the end", ENDS), ("a piece", GOES_ON)] {
        for (how, steps) in thrice(&[frame(bits, b"of nothing"), frame(TEXT, HELLO)]) {
            all.push(failed(format!("{what} of nothing, {how}"), steps, vec![], PROTOCOL));
        }
        let message = [text(b"first"), frame(ENDS, b"last")].concat();
        let after = [frame(bits, b"more"), frame(TEXT, HELLO)].concat();
        let steps = vec![Send(message.clone()), Await(1), Send(after)];
        all.push(failed(format!("{what} of nothing after a message"), steps, vec![whole.clone()], PROTOCOL));
        let before = [frame(bits, b"of nothing"), message].concat().repeat(2);
        all.push(failed(format!("{what} of nothing before messages"), vec![Send(before)], vec![], PROTOCOL));
    }
    for (how, steps) in thrice(&[text(b"first"), frame(TEXT, b"last")]) {
        all.push(failed(format!("a message within another, {how}"), steps, vec![], PROTOCOL));
    }
    let pieces = [
        vec![text(b"1"), frame(GOES_ON, b"2"), frame(PING, b"a")],
        vec![frame(GOES_ON, b"3"), frame(GOES_ON, b"4"), frame(PING, b"b"), frame(ENDS, b"5")],
    ];
    let answers = vec![(PONG, b"a".to_vec()), (PONG, b"b".to_vec()), (TEXT, b"12345".to_vec())];
    let steps = vec![Send(pieces[0].concat()), Await(1), Send(pieces[1].concat())];
    all.push(answered("five frames and two pings", steps, answers.clone()));
    all.push(answered("five frames and two pings, frame by frame", each(&pieces.concat(), None), answers));
}

fn utf8(all: &mut Vec<Case>) {
    let said = |bytes: &[u8]| vec![(TEXT, bytes.to_vec())];
    let name = |bytes: &[u8], how: &str| format!("text {} {how}", bytes.escape_ascii());
    all.push(answered(
        "three empty frames",
        vec![Send([frame(TEXT_BEGINS, b""), frame(GOES_ON, b""), frame(ENDS, b"")].concat())],
        said(b""),
    ));
    all.push(answered(
        "a frame between two empty ones",
        vec![Send([frame(TEXT_BEGINS, b""), frame(GOES_ON, HELLO), frame(ENDS, b"")].concat())],
        said(HELLO),
    ));
    for bytes in utf8::texts() {
        let steps = vec![Send(frame(TEXT, &bytes))];
        all.push(match std::str::from_utf8(&bytes) {
            Ok(_) => answered(name(&bytes, "whole"), steps, said(&bytes)),
            Err(_) => failed(name(&bytes, "whole"), steps, vec![], PAYLOAD),
        });
    }
    for bytes in [utf8::GREEK, utf8::BROKEN_GREEK] {
        let two = [&bytes[..7], &bytes[7..]].map(<[u8]>::to_vec);
        let single: Vec<Vec<u8>> = bytes.iter().map(|byte| vec![*byte]).collect();
        for (how, pieces) in [("within a letter", two.to_vec()), ("after each byte", single)] {
            let last = pieces.len() - 1;
            let frames: Vec<Vec<u8>> = pieces
                .iter()
                .enumerate()
                .map(|(at, piece)| {
                    let begins = if at == 0 { TEXT_BEGINS } else { GOES_ON };
                    frame(begins | if at == last { ENDS } else { 0 }, piece)
                })
                .collect();
            all.push(match std::str::from_utf8(bytes) {
                Ok(_) => answered(name(bytes, how), each(&frames, None), said(bytes)),
                Err(_) => failed(name(bytes, how), each(&frames, None), vec![], PAYLOAD),
            });
        }
    }
}

fn ends(all: &mut Vec<Case>) {
    let steps = vec![Send(frame(TEXT, HELLO))];
    all.push(answered("a message and the end", steps, vec![(TEXT, HELLO.to_vec())]));
    let end = closing(1000, b"");
    for (what, after) in [
        ("another end", frame(CLOSE, b"")),
        ("a ping", frame(PING, b"")),
        ("a message", frame(TEXT, HELLO)),
        ("nonsense", vec![0xff; 32]),
        ("much", frame(BINARY, &[0; 200_000])),
    ] {
        all.push(closed(format!("the end, and {what}"), [end.clone(), after].concat(), NORMAL));
    }
    let within = [frame(TEXT_BEGINS, b"first"), end.clone(), frame(ENDS, b"last")].concat();
    // Whether that is the end of a message that never ended, or against the protocol, is for the server to say.
    all.push(closed("the end within a message", within, &[1000, 1002]));
    let large = vec![b'x'; 256 << 10];
    let mut steps = vec![Send(frame(TEXT, &large)), Await(1), Send(frame(TEXT, HELLO)), Await(2)];
    steps.push(Send([end, frame(PING, b"")].concat()));
    let answers = vec![(TEXT, large), (TEXT, HELLO.to_vec())];
    all.push(Case { name: "much and the end".to_owned(), steps, answers, codes: NORMAL, closes: true });

    all.push(closed("an end that says nothing", frame(CLOSE, b""), &[0]));
    all.push(closed("half a code", frame(CLOSE, b"a"), PROTOCOL));
    all.push(closed("an end that says why", closing(1000, HELLO), NORMAL));
    all.push(closed("an end that says much", closing(1000, &[b'*'; 123]), NORMAL));
    all.push(closed("an end that says too much", closing(1000, &[b'*'; 124]), PROTOCOL));
    all.push(closed("an end in no UTF-8", closing(1000, utf8::BROKEN_GREEK), PAYLOAD));
    const FINE: [u16; 13] = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    for code in &FINE {
        all.push(closed(format!("code {code}"), closing(*code, b""), std::slice::from_ref(code)));
    }
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535] {
        all.push(closed(format!("code {code}"), closing(code, b""), PROTOCOL));
    }
}

fn sizes(all: &mut Vec<Case>) {
    for (kind, byte) in [(TEXT, b'*'), (BINARY, 0xfe)] {
        let large = vec![byte; 1 << 20];
        let answers = vec![(kind, large.clone())];
        all.push(answered(format!("1 MiB {kind:02x}"), vec![Send(frame(kind, &large))], answers.clone()));
        for size in [4 << 10, 64 << 10] {
            let steps = in_frames(kind, &large, size);
            all.push(answered(format!("1 MiB {kind:02x} in frames of {size}"), steps, answers.clone()));
        }
        let steps = vec![Chopped(frame(kind, &large), 2_048)];
        all.push(answered(format!("1 MiB {kind:02x} in pieces"), steps, answers));
        let small = vec![byte; 128];
        let steps = (1..=100).flat_map(|at| [Send(frame(kind, &small)), Await(at)]).collect();
        all.push(answered(format!("a hundred messages {kind:02x}"), steps, vec![(kind, small); 100]));
    }
    // Each goes on before the one before is answered.
    let first = vec![b'a'; 100_000];
    let many = [(BINARY, first), (TEXT, b"b".to_vec()), (BINARY, vec![b'c'; 70_000])];
    let bytes: Vec<u8> = many.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
    all.push(answered("three messages at once", vec![Send(bytes)], many.to_vec()));
    let begun = frame(BINARY_BEGINS, &[1; 70_000]);
    let rest = frame(ENDS, &[2; 70_000]);
    let message = [vec![1; 70_000], vec![2; 70_000]].concat();
    let steps = vec![Send(begun), Send(frame(PING, b"?")), Await(1), Send(rest)];
    all.push(answered("a ping within much", steps, vec![(PONG, b"?".to_vec()), (BINARY, message)]));
}
