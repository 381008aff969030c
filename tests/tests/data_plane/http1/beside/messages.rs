//! Messages by the grammar of RFC 9112, with things done to them that the grammar does not have, or hardly: each under a
//! name. A message is a request or two, and one more that asks to close; all of their targets say its number.

use naru_base::Chance;

#[derive(Clone, Debug)]
pub struct Drawn {
    pub number: u64,
    pub bytes: Vec<u8>,
    /// What was done to it.
    pub done: Vec<&'static str>,
}

/// A request that is still in its parts.
struct Draft {
    method: Vec<u8>,
    /// Between the words of the request line.
    gap: Vec<u8>,
    target: Vec<u8>,
    version: Vec<u8>,
    before: Vec<u8>,
    first_end: Vec<u8>,
    /// Lines without their ends.
    fields: Vec<Vec<u8>>,
    field_end: Vec<u8>,
    head_end: Vec<u8>,
    body: Vec<u8>,
}

type Do = fn(&mut Draft, &mut Chance);

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
const BODY: &str = "hello";

impl Drawn {
    pub fn draw(seed: u64, number: u64) -> Drawn {
        let mut chance = Chance::split(seed ^ number.rotate_left(32), "message");
        let mut done = Vec::new();
        let mut bytes = Vec::new();
        let requests = 1 + chance.below(2);
        for at in 0..requests {
            let mut draft = Draft::draw(&mut chance, &format!("/m{number}/{at}"));
            if at == 0 {
                for _ in 0..1 + chance.below(2) {
                    let (name, act) = ACTS[chance.below(ACTS.len() as u64) as usize];
                    act(&mut draft, &mut chance);
                    done.push(name);
                }
            }
            bytes.extend(draft.bytes());
            if at == 0 && chance.below(8) == 0 {
                done.push("a byte");
                change_a_byte(&mut bytes, &mut chance);
            }
        }
        let end = format!("GET /m{number}/end HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        bytes.extend(end.as_bytes());
        Drawn { number, bytes, done }
    }
}

impl Draft {
    fn draw(chance: &mut Chance, target: &str) -> Draft {
        let method = METHODS[chance.below(METHODS.len() as u64) as usize];
        let mut fields = vec![b"Host: a.test".to_vec()];
        let kind = if matches!(method, "POST" | "PUT" | "PATCH") { 1 + chance.below(2) } else { 0 };
        let body = match kind {
            0 => String::new(),
            1 => {
                fields.push(format!("Content-Length: {}", BODY.len()).into_bytes());
                BODY.to_owned()
            }
            _ => {
                fields.push(b"Transfer-Encoding: chunked".to_vec());
                "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n".to_owned()
            }
        };
        for at in 0..chance.below(3) {
            fields.push(format!("X-{at}: some value").into_bytes());
        }
        // The host is not always the first, nor the framing the last.
        let by = chance.below(fields.len() as u64) as usize;
        fields.rotate_left(by);
        Draft {
            method: method.into(),
            gap: b" ".to_vec(),
            target: target.into(),
            version: b"HTTP/1.1".to_vec(),
            before: Vec::new(),
            first_end: b"\r\n".to_vec(),
            fields,
            field_end: b"\r\n".to_vec(),
            head_end: b"\r\n".to_vec(),
            body: body.into_bytes(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.before.clone();
        for part in [&self.method, &self.gap, &self.target, &self.gap, &self.version, &self.first_end] {
            bytes.extend(part);
        }
        for field in &self.fields {
            bytes.extend(field);
            bytes.extend(&self.field_end);
        }
        bytes.extend(&self.head_end);
        bytes.extend(&self.body);
        bytes
    }

    fn is_of(field: &[u8], name: &str) -> bool {
        field.to_ascii_lowercase().starts_with(name.as_bytes())
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| Draft::is_of(field, name))
    }

    /// In the place of a field, or as another one.
    fn set(&mut self, name: &str, field: &str) {
        match self.position(name) {
            Some(at) => self.fields[at] = latin1(field),
            None => self.fields.push(latin1(field)),
        }
    }

    fn add(&mut self, field: &str, chance: &mut Chance) {
        let at = chance.below(self.fields.len() as u64 + 1) as usize;
        self.fields.insert(at, latin1(field));
    }

    /// Its body comes in these chunks.
    fn chunks(&mut self, chunks: &str) {
        self.fields.retain(|field| !Draft::is_of(field, "content-length"));
        self.set("transfer-encoding", "Transfer-Encoding: chunked");
        self.method = b"POST".to_vec();
        self.body = latin1(chunks);
    }

    /// Its body has this length, it is said.
    fn length(&mut self, field: &str) {
        self.fields.retain(|field| !Draft::is_of(field, "transfer-encoding"));
        self.set("content-length", field);
        self.method = b"POST".to_vec();
        self.body = BODY.into();
    }
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|char| u8::try_from(u32::from(char)).unwrap()).collect()
}

fn one(chance: &mut Chance, all: &[&'static str]) -> &'static str {
    all[chance.below(all.len() as u64) as usize]
}

/// Not in the number.
fn change_a_byte(bytes: &mut Vec<u8>, chance: &mut Chance) {
    const BYTES: &[u8] = b"\r\n\t :,;/\0\x01\x0b\x0c\x7f\x80\xff0aZ\"%";
    let byte = BYTES[chance.below(BYTES.len() as u64) as usize];
    let at = chance.below(bytes.len() as u64) as usize;
    let number = bytes.windows(2).position(|two| two == b"/m").unwrap_or(0);
    if (number..number + 12).contains(&at) {
        return;
    }
    match chance.below(3) {
        0 => bytes[at] = byte,
        1 => bytes.insert(at, byte),
        _ => {
            bytes.remove(at);
        }
    }
}

/// Everything that is done.
const ACTS: &[(&str, Do)] = &[
    ("nothing", |_, _| {}),
    ("line end of the request line", |draft, chance| {
        draft.first_end = one(chance, &["\n", "\r", "\r\r\n", "\n\r", " \r\n", "\t\r\n"]).into();
    }),
    ("line end of fields", |draft, chance| {
        draft.field_end = one(chance, &["\n", "\r", "\r\r\n", " \r\n", "\0\r\n"]).into();
    }),
    ("line end of the head", |draft, chance| draft.head_end = one(chance, &["\n", "\r\r\n", " \r\n"]).into()),
    ("bytes before", |draft, chance| {
        draft.before = one(chance, &["\r\n", "\n", "\r\n\r\n", " ", "\t", "\0", "\r"]).into();
    }),
    ("method", |draft, chance| {
        draft.method = one(
            chance,
            &["get", "Get", "FOO", "PROPFIND", "M-SEARCH", "GET!", "G(T", "G\u{1}T", "", "\"GET\"", "TRACE"],
        )
        .into();
    }),
    ("gap", |draft, chance| draft.gap = one(chance, &["  ", "\t", " \t", "\u{b}", "\u{c}", ""]).into()),
    ("version", |draft, chance| {
        draft.version = one(
            chance,
            &[
                "HTTP/1.0",
                "HTTP/1.2",
                "HTTP/2.0",
                "HTTP/0.9",
                "http/1.1",
                "HTTP/1.1 ",
                "HTTP/1,1",
                "HTTP/11",
                "HTTP/1.10",
                "HTTP/01.1",
                "HTTPS/1.1",
                "",
                "HTTP/1.",
                "HTTP /1.1",
                "ICY/1.1",
            ],
        )
        .into();
    }),
    ("target", |draft, chance| {
        let more = one(
            chance,
            &[
                " b", "#c", "?q=a b", "\u{e9}", "\u{1}", "\0", "\\b", "|", "\"", "<>", "^", "{}", "`", "%",
                "%zz", "%00", "%2e%2e", "/../b", "//b", ";a=b", "?a#b", "\t", "\u{7f}", "@", ":80", "?",
            ],
        );
        draft.target.extend(latin1(more));
    }),
    ("form of the target", |draft, chance| {
        let form = one(
            chance,
            &[
                "http://a.test",
                "http://b.test",
                "HTTP://a.test",
                "https://a.test",
                "http://",
                "ftp://a.test",
                "//b.test",
                "a.test",
                "*",
                "http://u:p@a.test",
                "http://a.test:99999",
            ],
        );
        draft.target = [form.as_bytes(), &draft.target].concat();
    }),
    ("no host", |draft, _| draft.fields.retain(|field| !Draft::is_of(field, "host"))),
    ("another host", |draft, chance| {
        draft.add(one(chance, &["Host: a.test", "Host: b.test", "host:", "HOST : a.test"]), chance)
    }),
    ("what the host is", |draft, chance| {
        let host = one(
            chance,
            &[
                "Host:",
                "Host: a.test:80",
                "Host: a.test:",
                "Host: a b",
                "Host: a/b",
                "Host: a@b",
                "Host: a,b",
                "Host: [::1]",
                "Host: [::1",
                "Host: a\u{e9}",
                "Host: a%20b",
                "Host: a.test:x",
                "Host: a#b",
                "Host: a?b",
                "Host: a_b",
                "Host: a\\b",
                "Host: a\"b",
            ],
        );
        draft.set("host", host);
    }),
    ("name of a field", |draft, chance| {
        let field = one(
            chance,
            &[
                "X a: b",
                "X : b",
                "X\t: b",
                "X(: b",
                "X@: b",
                "X\u{e9}: b",
                "X\0: b",
                "X\u{1}: b",
                ": b",
                "X",
                "X_a: b",
                "X/: b",
                "\"X\": b",
                "X\u{7f}: b",
                "!#$%&'*+-.^_`|~: b",
                "X;: b",
                "X{: b",
            ],
        );
        draft.add(field, chance);
    }),
    ("value of a field", |draft, chance| {
        let field = one(
            chance,
            &[
                "X: \0",
                "X: \u{1}",
                "X: \u{7f}",
                "X: \u{e9}",
                "X: a\rb",
                "X:",
                "X: \t",
                "X:\u{b}a",
                "X: a\u{b}",
                "X: \u{c}",
                "X: \"a",
                "X: a\nY: b",
                "X: a\r",
                "X:a",
                "X: \u{1b}[0m",
            ],
        );
        draft.add(field, chance);
    }),
    ("fold", |draft, chance| {
        if draft.fields.is_empty() {
            return;
        }
        let at = chance.below(draft.fields.len() as u64) as usize;
        draft.fields[at]
            .extend(one(chance, &["\r\n folded", "\r\n\tfolded", "\r\n ", "\r\n  \t", "\n folded"]).bytes());
    }),
    ("space before the first field", |draft, chance| {
        let space = one(chance, &[" ", "\t"]);
        if let Some(first) = draft.fields.first_mut() {
            *first = [space.as_bytes(), first].concat();
        }
    }),
    ("length", |draft, chance| {
        let field = one(
            chance,
            &[
                "Content-Length: +5",
                "Content-Length: 05",
                "Content-Length: 5, 5",
                "Content-Length: 5,5",
                "Content-Length: 5, 6",
                "Content-Length: -5",
                "Content-Length: 0x5",
                "Content-Length: 5.0",
                "Content-Length:",
                "Content-Length: 5 5",
                "Content-Length: 5;",
                "Content-Length: \u{b}5",
                "Content-Length: 5\u{b}",
                "Content-Length: 18446744073709551621",
                "Content-Length: 4294967301",
                "Content-Length: 3",
                "Content-Length: 0",
                "Content-Length: 7",
                "Content-Length:5",
                "Content-Length: 5 ",
                "Content-Length:\t5",
                "Content-Length : 5",
                "Content-Length\t: 5",
                "Content_Length: 5",
                "Content-Length: five",
                "Content-Length: ,5",
                "Content-Length: 5,",
                "Content-Length: \"5\"",
                "Content-Length: 00000000000000000000000000000005",
                "Content-Length: 5_0",
                "Content-Length: 5\0",
            ],
        );
        draft.length(field);
    }),
    ("another length", |draft, chance| {
        draft.length("Content-Length: 5");
        let field = one(
            chance,
            &[
                "Content-Length: 5",
                "Content-Length: 6",
                "Content-Length: 0",
                "content-length:",
                "Content-Length : 6",
                "CONTENT-LENGTH: +5",
            ],
        );
        draft.add(field, chance);
    }),
    ("length and coding", |draft, chance| {
        draft.chunks("5\r\nhello\r\n0\r\n\r\n");
        draft.add(
            one(
                chance,
                &["Content-Length: 5", "Content-Length: 0", "Content-Length: 15", "Content-Length: x"],
            ),
            chance,
        );
    }),
    ("coding", |draft, chance| {
        draft.chunks("5\r\nhello\r\n0\r\n\r\n");
        let field = one(
            chance,
            &[
                "Transfer-Encoding: Chunked",
                "Transfer-Encoding: chunked, chunked",
                "Transfer-Encoding: identity",
                "Transfer-Encoding: gzip, chunked",
                "Transfer-Encoding: chunked, gzip",
                "Transfer-Encoding: xchunked",
                "Transfer-Encoding: chunked;q=1",
                "Transfer-Encoding:",
                "Transfer-Encoding:chunked",
                "Transfer-Encoding:\tchunked",
                "Transfer-Encoding: \u{b}chunked",
                "Transfer-Encoding: chunked\u{b}",
                "Transfer-Encoding: \"chunked\"",
                "Transfer-Encoding: chunked,",
                "Transfer-Encoding: ,chunked",
                "Transfer-Encoding : chunked",
                "Transfer_Encoding: chunked",
                "Transfer-Encoding: gzip",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: identity, chunked",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                "Transfer-Encoding: chu nked",
                "Transfer-Encoding: chunked\0",
            ],
        );
        draft.set("transfer-encoding", field);
    }),
    ("coding in HTTP/1.0", |draft, _| {
        draft.chunks("5\r\nhello\r\n0\r\n\r\n");
        draft.version = b"HTTP/1.0".to_vec();
    }),
    ("chunks", |draft, chance| {
        let chunks = one(
            chance,
            &[
                "5;a\r\nhello\r\n0\r\n\r\n",
                "5;a=b\r\nhello\r\n0\r\n\r\n",
                "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n",
                "5;a=\"b\r\nhello\r\n0\r\n\r\n",
                "5;\r\nhello\r\n0\r\n\r\n",
                "5 ;a\r\nhello\r\n0\r\n\r\n",
                "5;a\nb\r\nhello\r\n0\r\n\r\n",
                "5;\u{1}\r\nhello\r\n0\r\n\r\n",
                "5;a\rb\r\nhello\r\n0\r\n\r\n",
                "5\nhello\r\n0\r\n\r\n",
                "5\rhello\r\n0\r\n\r\n",
                "05\r\nhello\r\n0\r\n\r\n",
                "0x5\r\nhello\r\n0\r\n\r\n",
                "+5\r\nhello\r\n0\r\n\r\n",
                "-5\r\nhello\r\n0\r\n\r\n",
                "5 \r\nhello\r\n0\r\n\r\n",
                " 5\r\nhello\r\n0\r\n\r\n",
                "5\t\r\nhello\r\n0\r\n\r\n",
                "A\r\nhellohello\r\n0\r\n\r\n",
                "a\r\nhellohello\r\n0\r\n\r\n",
                "5\r\nhello0\r\n\r\n",
                "5\r\nhello\n0\r\n\r\n",
                "5\r\nhelloXX\r\n0\r\n\r\n",
                "5\r\nhello\r\n0\n\r\n",
                "5\r\nhello\r\n0\r\n\n",
                "5\r\nhello\r\n00\r\n\r\n",
                "5\r\nhello\r\n0;a\r\n\r\n",
                "10000000000000005\r\nhello\r\n0\r\n\r\n",
                "0000000000000000000005\r\nhello\r\n0\r\n\r\n",
                "\r\n5\r\nhello\r\n0\r\n\r\n",
                "5_\r\nhello\r\n0\r\n\r\n",
                "g\r\nhello\r\n0\r\n\r\n",
                "5\r\r\nhello\r\n0\r\n\r\n",
                "\r\n\r\n0\r\n\r\n",
                "5\r\nhello\r\r\n0\r\n\r\n",
            ],
        );
        draft.chunks(chunks);
    }),
    ("trailers", |draft, chance| {
        let trailer = one(
            chance,
            &[
                "X: y\r\n",
                "Content-Length: 5\r\n",
                "Transfer-Encoding: chunked\r\n",
                "Host: b.test\r\n",
                "X\r\n",
                "X : y\r\n",
                "X: y\n",
                ": y\r\n",
                " X: y\r\n",
                "X: \0\r\n",
                "X: y\r\n z\r\n",
                "X\u{e9}: y\r\n",
            ],
        );
        draft.chunks(&format!("5\r\nhello\r\n0\r\n{trailer}\r\n"));
    }),
    ("connection", |draft, chance| {
        let field = one(
            chance,
            &[
                "Connection: keep-alive",
                "Connection: X-0",
                "Connection: Host",
                "Connection: Content-Length",
                "Connection: Transfer-Encoding",
                "Connection: \"",
                "Connection: upgrade",
                "Connection:",
                "Proxy-Connection: close",
                "Keep-Alive: timeout=5",
                "Connection: keep-alive, close-not",
            ],
        );
        draft.add(field, chance);
    }),
    ("expect", |draft, chance| {
        draft.length("Content-Length: 5");
        draft.add(
            one(chance, &["Expect: 100-continue", "Expect: 100-Continue", "Expect: foo", "Expect:"]),
            chance,
        );
    }),
    ("upgrade", |draft, chance| {
        draft.add("Connection: Upgrade, HTTP2-Settings", chance);
        draft.add("HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", chance);
        draft.add(one(chance, &["Upgrade: h2c", "Upgrade: websocket", "Upgrade: foo"]), chance);
    }),
    ("body of a GET", |draft, chance| {
        draft.length("Content-Length: 5");
        draft.method = one(chance, &["GET", "DELETE", "OPTIONS", "TRACE"]).into();
    }),
    ("chunks of a GET", |draft, _| {
        draft.chunks("5\r\nhello\r\n0\r\n\r\n");
        draft.method = b"GET".to_vec();
    }),
    ("no framing of a body", |draft, _| {
        draft
            .fields
            .retain(|field| !Draft::is_of(field, "content-length") && !Draft::is_of(field, "transfer"));
        draft.method = b"POST".to_vec();
        draft.body = BODY.into();
    }),
];
