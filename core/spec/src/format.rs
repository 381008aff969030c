//! Envoy's format strings: `%REQ(X-REQUEST-ID)% took %DURATION%`.
//!
//! Parsed once, into text and operators; `journey` fills them in. Used by access logs and by the
//! values of header operations. An operator that is not known is an error, never printed as it stands.

mod read;

use std::fmt;

use http::HeaderName;

use crate::Invalid;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Format {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Text(String),
    Operator { operator: Operator, length_max: Option<usize> },
}

/// What can stand between two percent signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// A header, or the alternative where the first is absent; `:method`, `:path`, `:authority` and
    /// `:scheme` too. Of the request as it was sent on, where it was; in a header that is added to a
    /// request, as it came in.
    RequestHeader {
        name: String,
        alternative: Option<String>,
    },
    ResponseHeader {
        name: String,
        alternative: Option<String>,
    },
    Trailer {
        name: String,
        alternative: Option<String>,
    },
    /// UTC; with a `strftime` format, or RFC 3339 with milliseconds.
    StartTime(Option<TimeFormat>),
    Protocol,
    ResponseCode,
    ResponseCodeDetails,
    ResponseFlags,
    /// The name of the [`naru_base::Reason`]; our own.
    Reason,
    BytesReceived,
    BytesSent,
    /// Milliseconds from the first byte of the request to the last of the response.
    Duration,
    /// Milliseconds to the last byte of the request.
    RequestDuration,
    /// Milliseconds to the first byte of the upstream's response.
    ResponseDuration,
    /// Milliseconds from the first byte of the response to its last.
    ResponseTxDuration,
    RouteName,
    /// Where the route is written, `file:line:column`; our own.
    RouteOrigin,
    VirtualHostName,
    UpstreamHost,
    UpstreamCluster,
    /// The same; Envoy's has no alternative names.
    UpstreamClusterRaw,
    /// Our end of the upstream's connection.
    UpstreamLocalAddress,
    /// Why the client's connection was ended below HTTP; always absent, as nothing below HTTP ends one yet.
    ConnectionTerminationDetails,
    UpstreamTransportFailureReason,
    UpstreamRequestAttemptCount,
    /// The client's address: from X-Forwarded-For where that is trusted.
    DownstreamRemoteAddress {
        port: bool,
    },
    /// The peer's address.
    DownstreamDirectRemoteAddress {
        port: bool,
    },
    DownstreamLocalAddress {
        port: bool,
    },
    DownstreamLocalPort,
    DownstreamTlsVersion,
    RequestedServerName,
    GrpcStatus(GrpcStatusForm),
    GrpcStatusNumber,
    ConnectionId,
    StreamId,
    Hostname,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatusForm {
    /// `NotFound`
    Camel,
    /// `NOT_FOUND`
    Snake,
    Number,
}

/// A `strftime` format, in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat {
    text: String,
    pieces: Vec<TimePiece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimePiece {
    Text(String),
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// Seconds since 1970.
    Epoch,
    /// That many digits of the fraction of the second, 1 to 9.
    Fraction(u8),
    /// `+0000`
    Offset,
    /// `UTC`
    Zone,
}

impl TimeFormat {
    pub fn pieces(&self) -> &[TimePiece] {
        &self.pieces
    }

    fn parse(text: &str) -> Result<TimeFormat, Invalid> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            push_time_text(&mut pieces, &rest[..at]);
            let spec = &rest[at + 1..];
            let (piece, taken): (&[TimePiece], usize) = match spec.as_bytes() {
                [b'Y', ..] => (&[TimePiece::Year], 1),
                [b'm', ..] => (&[TimePiece::Month], 1),
                [b'd', ..] => (&[TimePiece::Day], 1),
                [b'H', ..] => (&[TimePiece::Hour], 1),
                [b'M', ..] => (&[TimePiece::Minute], 1),
                [b'S', ..] => (&[TimePiece::Second], 1),
                [b's', ..] => (&[TimePiece::Epoch], 1),
                [b'z', ..] => (&[TimePiece::Offset], 1),
                [b'Z', ..] => (&[TimePiece::Zone], 1),
                [b'f', ..] => (&[TimePiece::Fraction(9)], 1),
                [digit @ b'1'..=b'9', b'f', ..] => {
                    pieces.push(TimePiece::Fraction(digit - b'0'));
                    (&[], 2)
                }
                [b'F', ..] => {
                    for piece in
                        [TimePiece::Year, text_piece("-"), TimePiece::Month, text_piece("-"), TimePiece::Day]
                    {
                        pieces.push(piece);
                    }
                    (&[], 1)
                }
                [b'T', ..] => {
                    for piece in [
                        TimePiece::Hour,
                        text_piece(":"),
                        TimePiece::Minute,
                        text_piece(":"),
                        TimePiece::Second,
                    ] {
                        pieces.push(piece);
                    }
                    (&[], 1)
                }
                [b'%', ..] => {
                    push_time_text(&mut pieces, "%");
                    (&[], 1)
                }
                _ => {
                    let shown: String = spec.chars().take(2).collect();
                    return Err(Invalid::new(format!("'%{shown}' is not a known part of a time format"))
                        .hint("known are %Y %m %d %H %M %S %F %T %s %f %1f to %9f %z %Z %%"));
                }
            };
            pieces.extend_from_slice(piece);
            rest = &spec[taken..];
        }
        push_time_text(&mut pieces, rest);
        Ok(TimeFormat { text: text.to_owned(), pieces })
    }
}

fn text_piece(text: &str) -> TimePiece {
    TimePiece::Text(text.to_owned())
}

fn push_time_text(pieces: &mut Vec<TimePiece>, text: &str) {
    if text.is_empty() {
        return;
    }
    if let Some(TimePiece::Text(last)) = pieces.last_mut() {
        last.push_str(text);
    } else {
        pieces.push(text_piece(text));
    }
}

impl Format {
    /// Text without operators.
    pub fn literal(text: impl Into<String>) -> Format {
        let text = text.into();
        Format { pieces: if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] } }
    }

    pub fn parse(text: &str) -> Result<Format, Invalid> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            push_text(&mut pieces, &rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                push_text(&mut pieces, "%");
                rest = after;
                continue;
            }
            let (piece, taken) = parse_operator(rest)?;
            pieces.push(piece);
            rest = &rest[taken..];
        }
        push_text(&mut pieces, rest);
        Ok(Format { pieces })
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The text, where no operator stands in it.
    pub fn as_literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Operator { operator, .. } => Some(operator),
            Piece::Text(_) => None,
        })
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if text.is_empty() {
        return;
    }
    if let Some(Piece::Text(last)) = pieces.last_mut() {
        last.push_str(text);
    } else {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// Reads `NAME`, `NAME(ARGUMENT)` and `NAME(ARGUMENT):LENGTH` up to the closing percent sign.
/// Returns how many bytes were read, the sign included.
fn parse_operator(text: &str) -> Result<(Piece, usize), Invalid> {
    let unclosed = || {
        Invalid::new("a '%' begins an operator that no second '%' ends").hint("write '%%' for a percent sign")
    };
    let name_end = text
        .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .ok_or_else(unclosed)?;
    let name = &text[..name_end];
    let mut at = name_end;
    let mut argument = None;
    if text[at..].starts_with('(') {
        let close = text[at..].find(')').ok_or_else(unclosed)? + at;
        argument = Some(&text[at + 1..close]);
        at = close + 1;
    }
    let mut length_max = None;
    if let Some(after) = text[at..].strip_prefix(':') {
        let digits = after.find('%').ok_or_else(unclosed)?;
        // More than a gigabyte cuts nothing off, and could not be added to a length.
        let length: u32 = after[..digits]
            .parse()
            .map_err(|_| Invalid::new(format!("'{}' is not a length", &after[..digits])))?;
        length_max = Some(length as usize);
        at += 1 + digits;
    }
    if !text[at..].starts_with('%') {
        return Err(unclosed());
    }
    let operator = operator(name, argument)?;
    if length_max.is_some() && header_operator(name).is_none() {
        // As in Envoy: the first digits of a number are another number.
        return Err(Invalid::new(format!("%{name}% takes no length"))
            .hint("only %REQ(..)%, %RESP(..)% and %TRAILER(..)% do"));
    }
    Ok((Piece::Operator { operator, length_max }, at + 1))
}

fn operator(name: &str, argument: Option<&str>) -> Result<Operator, Invalid> {
    if let Some(make) = header_operator(name) {
        let argument = argument.filter(|a| !a.is_empty()).ok_or_else(|| {
            Invalid::new(format!("%{name}% needs the name of a header"))
                .hint(format!("write %{name}(X-NAME)%"))
        })?;
        let (name, alternative) = match argument.split_once('?') {
            Some((name, alternative)) => (header_name(name)?, Some(header_name(alternative)?)),
            None => (header_name(argument)?, None),
        };
        return Ok(make(name, alternative));
    }
    match (name, argument) {
        ("START_TIME", Some(format)) if !format.is_empty() => {
            return Ok(Operator::StartTime(Some(TimeFormat::parse(format)?)));
        }
        ("GRPC_STATUS", form) => return grpc_status_form(form).map(Operator::GrpcStatus),
        _ => {}
    }
    if let Some((_, operator)) = PLAIN.iter().find(|(known, _)| *known == name) {
        return match argument {
            None | Some("") => Ok(operator.clone()),
            Some(_) => Err(Invalid::new(format!("%{name}% takes no argument"))),
        };
    }
    Err(Invalid::new(format!("%{name}% is not a known operator"))
        .hint("the operators are listed in docs/access-log.md; write '%%' for a percent sign"))
}

fn header_operator(name: &str) -> Option<fn(String, Option<String>) -> Operator> {
    match name {
        "REQ" => Some(|name, alternative| Operator::RequestHeader { name, alternative }),
        "RESP" => Some(|name, alternative| Operator::ResponseHeader { name, alternative }),
        "TRAILER" => Some(|name, alternative| Operator::Trailer { name, alternative }),
        _ => None,
    }
}

/// Lower case; one of the request's pseudo headers, or a valid header name.
fn header_name(text: &str) -> Result<String, Invalid> {
    let lower = text.to_ascii_lowercase();
    let is_pseudo = matches!(lower.as_str(), ":method" | ":path" | ":authority" | ":scheme" | ":status");
    if is_pseudo || HeaderName::from_bytes(lower.as_bytes()).is_ok() {
        Ok(lower)
    } else {
        Err(Invalid::new(format!("'{text}' is not a header name")))
    }
}

fn grpc_status_form(argument: Option<&str>) -> Result<GrpcStatusForm, Invalid> {
    match argument {
        None | Some("" | "CAMEL_STRING") => Ok(GrpcStatusForm::Camel),
        Some("SNAKE_STRING") => Ok(GrpcStatusForm::Snake),
        Some("NUMBER") => Ok(GrpcStatusForm::Number),
        Some(other) => Err(Invalid::new(format!("'{other}' is not a form of %GRPC_STATUS%"))
            .hint("one of CAMEL_STRING, SNAKE_STRING, NUMBER")),
    }
}

/// The operators without an argument. The only list of their names.
const PLAIN: &[(&str, Operator)] = &[
    ("START_TIME", Operator::StartTime(None)),
    ("PROTOCOL", Operator::Protocol),
    ("RESPONSE_CODE", Operator::ResponseCode),
    ("RESPONSE_CODE_DETAILS", Operator::ResponseCodeDetails),
    ("RESPONSE_FLAGS", Operator::ResponseFlags),
    ("REASON", Operator::Reason),
    ("BYTES_RECEIVED", Operator::BytesReceived),
    ("BYTES_SENT", Operator::BytesSent),
    ("DURATION", Operator::Duration),
    ("REQUEST_DURATION", Operator::RequestDuration),
    ("RESPONSE_DURATION", Operator::ResponseDuration),
    ("RESPONSE_TX_DURATION", Operator::ResponseTxDuration),
    ("ROUTE_NAME", Operator::RouteName),
    ("ROUTE_ORIGIN", Operator::RouteOrigin),
    ("VIRTUAL_HOST_NAME", Operator::VirtualHostName),
    ("UPSTREAM_HOST", Operator::UpstreamHost),
    ("UPSTREAM_CLUSTER", Operator::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Operator::UpstreamClusterRaw),
    ("UPSTREAM_LOCAL_ADDRESS", Operator::UpstreamLocalAddress),
    ("CONNECTION_TERMINATION_DETAILS", Operator::ConnectionTerminationDetails),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Operator::UpstreamTransportFailureReason),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Operator::UpstreamRequestAttemptCount),
    ("DOWNSTREAM_REMOTE_ADDRESS", Operator::DownstreamRemoteAddress { port: true }),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Operator::DownstreamRemoteAddress { port: false }),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Operator::DownstreamDirectRemoteAddress { port: true }),
    (
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
        Operator::DownstreamDirectRemoteAddress { port: false },
    ),
    ("DOWNSTREAM_LOCAL_ADDRESS", Operator::DownstreamLocalAddress { port: true }),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Operator::DownstreamLocalAddress { port: false }),
    ("DOWNSTREAM_LOCAL_PORT", Operator::DownstreamLocalPort),
    ("DOWNSTREAM_TLS_VERSION", Operator::DownstreamTlsVersion),
    ("REQUESTED_SERVER_NAME", Operator::RequestedServerName),
    ("GRPC_STATUS_NUMBER", Operator::GrpcStatusNumber),
    ("CONNECTION_ID", Operator::ConnectionId),
    ("STREAM_ID", Operator::StreamId),
    ("HOSTNAME", Operator::Hostname),
];

/// The text that parses to the same format.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => f.write_str(&text.replace('%', "%%"))?,
                Piece::Operator { operator, length_max } => {
                    write!(f, "%{operator}")?;
                    if let Some(length) = length_max {
                        write!(f, ":{length}")?;
                    }
                    f.write_str("%")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = |f: &mut fmt::Formatter<'_>, kind: &str, name: &str, alternative: &Option<String>| {
            let name = name.to_ascii_uppercase();
            match alternative {
                Some(other) => write!(f, "{kind}({name}?{})", other.to_ascii_uppercase()),
                None => write!(f, "{kind}({name})"),
            }
        };
        match self {
            Operator::RequestHeader { name, alternative } => header(f, "REQ", name, alternative),
            Operator::ResponseHeader { name, alternative } => header(f, "RESP", name, alternative),
            Operator::Trailer { name, alternative } => header(f, "TRAILER", name, alternative),
            Operator::StartTime(Some(format)) => write!(f, "START_TIME({})", format.text),
            Operator::GrpcStatus(GrpcStatusForm::Camel) => f.write_str("GRPC_STATUS"),
            Operator::GrpcStatus(GrpcStatusForm::Snake) => f.write_str("GRPC_STATUS(SNAKE_STRING)"),
            Operator::GrpcStatus(GrpcStatusForm::Number) => f.write_str("GRPC_STATUS(NUMBER)"),
            plain => {
                let name = PLAIN.iter().find(|(_, operator)| operator == plain).map_or("", |(name, _)| name);
                f.write_str(name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_print_back_as_they_were_read() {
        for text in [
            crate::defaults::ACCESS_LOG_FORMAT,
            "plain",
            "",
            "100%% of %REQ(:path):10%",
            "%START_TIME(%Y/%m/%dT%H:%M:%S%z %s)%",
            "%GRPC_STATUS(NUMBER)% %GRPC_STATUS% %TRAILER(GRPC-MESSAGE?X)%",
        ] {
            let format = Format::parse(text).expect(text);
            assert_eq!(Format::parse(&format.to_string()).expect(text), format, "{text}");
        }
        for (name, operator) in PLAIN {
            assert_eq!(Format::parse(&format!("%{name}%")).expect(name).operators().next(), Some(operator));
        }
    }

    #[test]
    fn what_is_not_an_operator_is_an_error() {
        for text in [
            "%",
            "50% off",
            "%NOPE%",
            "%REQ%",
            "%REQ()%",
            "%REQ(a b)%",
            "%DURATION(x)%",
            "%REQ(X",
            "%REQ(X):y%",
            "%REQ(X):18446744073709551615%",
            "%RESPONSE_CODE:0%",
            "%START_TIME(%Q)%",
            "%GRPC_STATUS(LOUD)%",
        ] {
            assert!(Format::parse(text).is_err(), "{text}");
        }
    }
}
