//! The rules that a message can break.

/// What is wrong with a message: the first thing that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// RFC 9112, section 2.2: a recipient may take it for the end of a line, and another one may not.
    BareLineFeed,
    ControlCharacter,
    /// A line before the first one that is neither empty nor a request line, or the request line itself.
    RequestLine,
    /// RFC 9112, section 3.2: one of four forms, of the characters of RFC 3986.
    Target,
    /// Not 1.0 and not 1.1.
    Version,
    StatusLine,
    /// RFC 9110, section 5.1, with nothing between it and the colon (RFC 9112, section 5.1).
    FieldName,
    /// RFC 9110, section 5.5; or a line that goes on in the next one (RFC 9112, section 5.2).
    FieldValue,
    HeadTooLarge,
    TooManyFields,
    /// RFC 9110, section 8.6: one number, of digits alone; of a request without zeros before it.
    ContentLength,
    /// RFC 9112, section 6.3: smuggling or splitting of a request.
    TwoFramings,
    /// Given several times, in HTTP/1.0, or with something besides `chunked`.
    TransferEncoding,
    /// A coding that is none, or one that naru does not know.
    TransferCoding,
    /// RFC 9112, section 7.1.
    ChunkSize,
    /// RFC 9112, section 7.1.1.
    ChunkExtension,
    /// No end of line behind the bytes of a chunk.
    ChunkEnd,
    /// RFC 9110, section 6.5.1: what frames a message or leads it somewhere comes before it.
    TrailerField,
    /// The connection ended first.
    Truncated,
}

impl Malformed {
    /// What was wrong, in words.
    pub fn text(self) -> &'static str {
        match self {
            Malformed::BareLineFeed => "a line ends in LF without CR",
            Malformed::ControlCharacter => "control character in the head",
            Malformed::RequestLine => "invalid request line",
            Malformed::Target => "invalid request target",
            Malformed::Version => "HTTP version not supported",
            Malformed::StatusLine => "invalid status line",
            Malformed::FieldName => "invalid header name",
            Malformed::FieldValue => "invalid header value",
            Malformed::HeadTooLarge => "head too large",
            Malformed::TooManyFields => "too many headers",
            Malformed::ContentLength => "invalid Content-Length",
            Malformed::TwoFramings => "both Content-Length and Transfer-Encoding",
            Malformed::TransferEncoding => "invalid Transfer-Encoding",
            Malformed::TransferCoding => "transfer coding not supported",
            Malformed::ChunkSize => "invalid chunk size",
            Malformed::ChunkExtension => "invalid chunk extension",
            Malformed::ChunkEnd => "chunk longer than its size",
            Malformed::TrailerField => "field not allowed in trailers",
            Malformed::Truncated => "the message ends before its end",
        }
    }

    /// Whether there is only too much of it.
    pub fn is_too_large(self) -> bool {
        matches!(self, Malformed::HeadTooLarge | Malformed::TooManyFields)
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Malformed {}
