//! Which bytes does a line of an access log have that are the same in every line, and what stands between them?
//!
//! A [`LogFormat`] is what was asked for. A [`Form`] is the same in the order of its bytes, made once: texts as they go out,
//! names of JSON with their marks and escapes, and between them what each request says by itself. Where requests have more
//! in common, [`Form::known`] writes that down as well.

use naru_spec::format::GrpcStatusForm;
use naru_spec::{Format, JsonField, LogFormat, Operator, Piece};

use super::{Facts, fill, write_operator};

/// A line of an access log, ready to be filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Form(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Vec<u8>),
    Value(Value),
    /// One string of JSON of several pieces.
    Mixed(Format),
}

/// What a request says by itself.
#[derive(Clone, Debug, PartialEq)]
struct Value {
    operator: Operator,
    length_max: Option<usize>,
    dress: Dress,
}

/// How a value stands in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dress {
    /// What is not known is `-`.
    Bare,
    /// JSON. What is not known is `null`.
    Number,
    /// JSON, between marks.
    Quoted,
    /// The same of what never needs an escape.
    Safe,
}

/// What is known of an operator for many requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    Nothing,
    /// All of them say the same.
    Same,
    /// It says what this one says.
    As(Operator),
}

impl Form {
    pub fn of(format: &LogFormat) -> Form {
        let mut form = Form::default();
        match format {
            LogFormat::Text(format) => {
                for piece in format.pieces() {
                    match piece {
                        Piece::Text(text) => form.add_text(text.as_bytes()),
                        Piece::Operator { operator, length_max } => {
                            form.add_value(operator, *length_max, Dress::Bare);
                        }
                    }
                }
            }
            LogFormat::Json(fields) => {
                form.add_object(fields);
                form.add_text(b"\n");
            }
        }
        form
    }

    /// The same for requests of which something is known: what all of them say alike is what `facts` say.
    pub fn known(&self, facts: &Facts<'_>, known: impl Fn(&Operator) -> Known) -> Form {
        let mut form = Form::default();
        for part in &self.0 {
            match part {
                Part::Text(text) => form.add_text(text),
                Part::Mixed(_) => form.0.push(part.clone()),
                Part::Value(value) => match known(&value.operator) {
                    Known::Nothing => form.0.push(part.clone()),
                    Known::As(operator) => form.0.push(Part::Value(Value { operator, ..value.clone() })),
                    Known::Same => {
                        let mut text = Vec::new();
                        value.write(facts, &mut text);
                        form.add_text(&text);
                    }
                },
            }
        }
        form
    }

    /// How many texts and values stand in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends a line.
    pub fn write(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Value(value) => value.write(facts, out),
                Part::Mixed(format) => {
                    out.push(b'"');
                    let from = out.len();
                    fill(format, facts, out);
                    close(out, from);
                }
            }
        }
    }

    fn add_text(&mut self, text: &[u8]) {
        match self.0.last_mut() {
            Some(Part::Text(last)) => last.extend_from_slice(text),
            _ => self.0.push(Part::Text(text.to_vec())),
        }
    }

    fn add_value(&mut self, operator: &Operator, length_max: Option<usize>, dress: Dress) {
        self.0.push(Part::Value(Value { operator: operator.clone(), length_max, dress }));
    }

    fn add_object(&mut self, fields: &[(String, JsonField)]) {
        self.add_text(b"{");
        for (at, (key, field)) in fields.iter().enumerate() {
            if at > 0 {
                self.add_text(b",");
            }
            let mut name = vec![b'"'];
            name.extend_from_slice(key.as_bytes());
            close(&mut name, 1);
            name.push(b':');
            self.add_text(&name);
            self.add_field(field);
        }
        self.add_text(b"}");
    }

    fn add_field(&mut self, field: &JsonField) {
        match field {
            JsonField::Literal(literal) => self.add_text(literal.as_bytes()),
            JsonField::Object(fields) => self.add_object(fields),
            JsonField::List(fields) => {
                self.add_text(b"[");
                for (at, field) in fields.iter().enumerate() {
                    if at > 0 {
                        self.add_text(b",");
                    }
                    self.add_field(field);
                }
                self.add_text(b"]");
            }
            JsonField::Value(format) => match format.pieces() {
                [Piece::Operator { operator, length_max }] => {
                    self.add_value(operator, *length_max, Dress::of(operator));
                }
                _ => self.0.push(Part::Mixed(format.clone())),
            },
        }
    }
}

impl Value {
    fn write(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        let before = out.len();
        if matches!(self.dress, Dress::Quoted | Dress::Safe) {
            out.push(b'"');
        }
        let from = out.len();
        let is_there = write_operator(&self.operator, facts, out);
        if !is_there {
            out.truncate(before);
            out.extend_from_slice(if self.dress == Dress::Bare { b"-" } else { b"null" });
            if self.dress != Dress::Bare {
                return;
            }
        }
        if let Some(length) = self.length_max {
            out.truncate(from + length);
        }
        match self.dress {
            Dress::Bare | Dress::Number => {}
            Dress::Quoted => close(out, from),
            Dress::Safe => out.push(b'"'),
        }
    }
}

impl Dress {
    /// In JSON.
    fn of(operator: &Operator) -> Dress {
        match operator {
            Operator::ResponseCode
            | Operator::BytesReceived
            | Operator::BytesSent
            | Operator::Duration
            | Operator::RequestDuration
            | Operator::ResponseDuration
            | Operator::ResponseTxDuration
            | Operator::UpstreamRequestAttemptCount
            | Operator::DownstreamLocalPort
            | Operator::GrpcStatusNumber
            | Operator::GrpcStatus(GrpcStatusForm::Number)
            | Operator::ConnectionId
            | Operator::StreamId => Dress::Number,
            // Digits, and words of our own.
            Operator::StartTime(None)
            | Operator::Protocol
            | Operator::ResponseFlags
            | Operator::Reason
            | Operator::UpstreamLocalAddress
            | Operator::DownstreamRemoteAddress { .. }
            | Operator::DownstreamDirectRemoteAddress { .. }
            | Operator::DownstreamLocalAddress { .. } => Dress::Safe,
            _ => Dress::Quoted,
        }
    }
}

/// Ends a string of JSON that begins at `from`; bytes that are not UTF-8 become U+FFFD.
fn close(out: &mut Vec<u8>, from: usize) {
    let said = out.get(from..).unwrap_or_default();
    if !said.iter().all(|byte| IS_PLAIN[usize::from(*byte)]) {
        escape(out, from);
    }
    out.push(b'"');
}

/// What stands for itself in JSON, and is no part of anything longer.
const IS_PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b' ';
    while byte < 128 {
        table[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    table
};

#[cold]
fn escape(out: &mut Vec<u8>, from: usize) {
    let said = out.split_off(from);
    for c in String::from_utf8_lossy(&said).chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            c if c < ' ' => {
                out.extend_from_slice(b"\\u");
                let code = c as u32;
                for shift in [12, 8, 4, 0] {
                    out.push(b"0123456789abcdef"[(code >> shift & 0xf) as usize]);
                }
            }
            c => {
                let mut buffer = [0; 4];
                out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            }
        }
    }
}
