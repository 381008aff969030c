//! What head has the answer that gives a file, and what of the file stands in it?

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use naru_base::WallTime;
use naru_spec::{ContentCoding, StaticFiles};

use crate::conditions::{Met, Validators, met};
use crate::files::fits;
use crate::ranges::{Asked, Range, parts};
use crate::types::{ending_of, type_of};

/// A file that is there, as its disk knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Below the root. Of one in a coding that of the file that it is the same as.
    pub path: Vec<u8>,
    pub status: u16,
    pub coding: Option<ContentCoding>,
    pub length: u64,
    /// Since 1970.
    pub modified_seconds: u64,
    pub modified_nanos: u32,
}

/// An answer. Its length is the sum of its pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    OfFile(Range),
}

impl Piece {
    pub fn length(&self) -> u64 {
        match self {
            Piece::Text(text) => text.len() as u64,
            Piece::OfFile(range) => range.end - range.start,
        }
    }
}

/// Answers a GET or HEAD. `draw` is chance, for what stands between parts.
pub fn give(
    files: &StaticFiles,
    found: &Found,
    method: &Method,
    headers: &HeaderMap,
    now: WallTime,
    draw: u64,
) -> Given {
    let own = validators(found);
    let whole = Range { start: 0, end: found.length };
    let mut given =
        Given { status: found.status, headers: validating(files, found, &own), pieces: Vec::new() };
    // What is given in place of what was asked for is no state of that.
    let met = if found.status == 200 { met(method, headers, &own, now) } else { Met::Yes { parts: false } };
    let asked = match met {
        Met::HasIt => {
            given.status = 304;
            return given;
        }
        Met::No => {
            given.status = 412;
            given.headers.clear();
            return given;
        }
        Met::Yes { parts: false } => Asked::Whole,
        Met::Yes { parts: true } => {
            headers.get(header::RANGE).map_or(Asked::Whole, |said| parts(said.as_bytes(), found.length))
        }
    };
    let content_type = content_type(files, &found.path);
    if let Some(coding) = found.coding {
        given.say(header::CONTENT_ENCODING, coding.name());
    }
    if found.status == 200 {
        given.say(header::ACCEPT_RANGES, "bytes");
    }
    match asked {
        Asked::Whole => {
            given.say(header::CONTENT_TYPE, &content_type);
            given.pieces.push(Piece::OfFile(whole));
        }
        Asked::Nothing => {
            given.status = 416;
            given.headers.retain(|(name, _)| *name != header::CONTENT_ENCODING);
            given.say(header::CONTENT_RANGE, &format!("bytes */{}", found.length));
        }
        Asked::Parts(ranges) => {
            given.status = 206;
            given.parts(&ranges, found.length, &content_type, draw);
        }
    }
    given
}

impl Given {
    fn say(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
    }

    /// RFC 9110, section 15.3.7.
    fn parts(&mut self, ranges: &[Range], length: u64, content_type: &str, draw: u64) {
        let range_of = |range: &Range| format!("bytes {}-{}/{length}", range.start, range.end - 1);
        if let [range] = ranges {
            self.say(header::CONTENT_TYPE, content_type);
            self.say(header::CONTENT_RANGE, &range_of(range));
            self.pieces.push(Piece::OfFile(*range));
            return;
        }
        let boundary = format!("naru{draw:016x}");
        self.say(header::CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
        for range in ranges {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {}\r\n\r\n",
                range_of(range)
            );
            self.pieces.extend([Piece::Text(head), Piece::OfFile(*range)]);
        }
        self.pieces.push(Piece::Text(format!("\r\n--{boundary}--\r\n")));
    }

    pub fn length(&self) -> u64 {
        self.pieces.iter().map(Piece::length).sum()
    }
}

fn validators(found: &Found) -> Validators {
    let coding = found.coding.map(|coding| format!("-{}", coding.name())).unwrap_or_default();
    let nanos = match found.modified_nanos {
        0 => String::new(),
        nanos => format!(".{nanos:x}"),
    };
    // nginx's, but that two states within a second are told apart.
    let etag = format!("\"{:x}{nanos}-{:x}{coding}\"", found.modified_seconds, found.length);
    Validators { etag, modified: found.modified_seconds }
}

/// What 304 says, too.
fn validating(files: &StaticFiles, found: &Found, own: &Validators) -> Vec<(HeaderName, HeaderValue)> {
    let mut said = Vec::new();
    if found.status == 200 {
        let modified = WallTime(own.modified.saturating_mul(1_000_000_000)).http_date();
        said.push((header::ETAG, own.etag.clone()));
        said.push((header::LAST_MODIFIED, modified));
        let lifetime = files.lifetimes.iter().find(|lifetime| fits(&lifetime.pattern, &found.path));
        said.extend(lifetime.map(|lifetime| (header::CACHE_CONTROL, lifetime.cache_control.clone())));
    }
    if !files.precompressed.is_empty() {
        said.push((header::VARY, "Accept-Encoding".to_owned()));
    }
    said.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect()
}

fn content_type(files: &StaticFiles, path: &[u8]) -> String {
    let ending = ending_of(path);
    let own =
        files.types.iter().find(|(known, _)| Some(known) == ending.as_ref()).map(|(_, said)| said.as_str());
    own.or_else(|| type_of(path)).unwrap_or(&files.usual_type).to_owned()
}

#[cfg(test)]
mod tests {
    use naru_spec::Lifetime;

    use super::*;

    const NOW: WallTime = WallTime(1_700_000_000 * 1_000_000_000);

    fn found(path: &str) -> Found {
        Found {
            path: path.into(),
            status: 200,
            coding: None,
            length: 100,
            modified_seconds: 784_111_777,
            modified_nanos: 0,
        }
    }

    fn given(files: &StaticFiles, found: &Found, fields: &[(&str, &str)]) -> (Given, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let given = give(files, found, &Method::GET, &headers, NOW, 7);
        let said = given.headers.iter().cloned().collect();
        (given, said)
    }

    #[test]
    fn a_file_is_given_whole() {
        let (given, said) = given(&StaticFiles::new("/srv"), &found("a.css"), &[]);
        assert_eq!((given.status, given.length()), (200, 100));
        assert_eq!(said["content-type"], "text/css");
        assert_eq!(said["etag"], "\"2ebc98a1-64\"");
        assert_eq!(said["last-modified"], "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(said["accept-ranges"], "bytes");
        assert_eq!(said.len(), 4);
    }

    #[test]
    fn the_etag_tells_states_and_codings_apart() {
        let mut one = found("a.css");
        let mut tags = vec![validators(&one).etag];
        one.modified_nanos = 1;
        tags.push(validators(&one).etag);
        one.length = 101;
        tags.push(validators(&one).etag);
        one.coding = Some(ContentCoding::Brotli);
        tags.push(validators(&one).etag);
        let mut unlike = tags.clone();
        unlike.sort();
        unlike.dedup();
        assert_eq!(unlike.len(), tags.len(), "{tags:?}");
    }

    #[test]
    fn what_the_client_has_is_not_given_again() {
        let mut files = StaticFiles::new("/srv");
        files.precompressed = vec![ContentCoding::Gzip];
        files.lifetimes =
            vec![Lifetime { pattern: "*.css".to_owned(), cache_control: "max-age=60".to_owned() }];
        let (given, said) = given(&files, &found("a.css"), &[("if-none-match", "\"2ebc98a1-64\"")]);
        assert_eq!((given.status, given.length()), (304, 0));
        let mut names: Vec<&str> = said.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cache-control", "etag", "last-modified", "vary"]);
    }

    #[test]
    fn one_part_is_told_by_its_head_and_several_by_their_own() {
        let files = StaticFiles::new("/srv");
        let (one, said) = given(&files, &found("a.css"), &[("range", "bytes=10-19")]);
        assert_eq!((one.status, one.length()), (206, 10));
        assert_eq!(said["content-range"], "bytes 10-19/100");
        let (several, said) = given(&files, &found("a.css"), &[("range", "bytes=0-0,99-")]);
        assert_eq!(several.status, 206);
        assert_eq!(said["content-type"], "multipart/byteranges; boundary=naru0000000000000007");
        assert!(!said.contains_key("content-range"));
        let text: String = several
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::OfFile(range) => format!("<{}-{}>", range.start, range.end),
            })
            .collect();
        let head = |range: &str| {
            format!(
                "\r\n--naru0000000000000007\r\nContent-Type: text/css\r\nContent-Range: bytes {range}/100\r\n\r\n"
            )
        };
        let expected =
            format!("{}<0-1>{}<99-100>\r\n--naru0000000000000007--\r\n", head("0-0"), head("99-99"));
        assert_eq!(text, expected);
        let (nothing, said) = given(&files, &found("a.css"), &[("range", "bytes=100-")]);
        assert_eq!((nothing.status, nothing.length()), (416, 0));
        assert_eq!(said["content-range"], "bytes */100");
    }

    #[test]
    fn what_is_given_instead_has_no_state() {
        let mut page = found("404.html");
        page.status = 404;
        let fields = [("if-none-match", "*"), ("range", "bytes=0-0")];
        let (given, said) = given(&StaticFiles::new("/srv"), &page, &fields);
        assert_eq!((given.status, given.length()), (404, 100));
        assert_eq!(said.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
    }

    #[test]
    fn types_and_lifetimes_are_said_by_name() {
        let mut files = StaticFiles::new("/srv");
        files.types = vec![("css".to_owned(), "text/css; charset=utf-8".to_owned())];
        files.usual_type = "text/plain".to_owned();
        let of = |pattern: &str, said: &str| Lifetime {
            pattern: pattern.to_owned(),
            cache_control: said.to_owned(),
        };
        files.lifetimes = vec![of("/assets/*", "public, max-age=31536000, immutable"), of("*", "no-cache")];
        let (_, said) = given(&files, &found("assets/a.css"), &[]);
        assert_eq!(said["content-type"], "text/css; charset=utf-8");
        assert_eq!(said["cache-control"], "public, max-age=31536000, immutable");
        let (_, said) = given(&files, &found("LICENSE"), &[]);
        assert_eq!(said["content-type"], "text/plain");
        assert_eq!(said["cache-control"], "no-cache");
    }
}
