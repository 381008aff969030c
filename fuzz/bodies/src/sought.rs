//! Requests for files: whatever a path says, no name leads out of its directory, and no part is longer than its file.

use http::{HeaderMap, HeaderValue, Method, header};
use naru_base::WallTime;
use naru_content::Accepted;
use naru_content::files::{wanted, with_slash};
use naru_content::given::{Found, Piece, give};
use naru_spec::{ContentCoding, StaticFiles};

/// A path, a line of `Range`, one of `If-None-Match`, one of `If-Modified-Since`, one of `Accept-Encoding`.
pub fn sought(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let path = lines.next().unwrap_or_default();
    let mut headers = HeaderMap::new();
    let names = [header::RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::ACCEPT_ENCODING];
    for (name, line) in names.into_iter().zip(lines) {
        if let Ok(value) = HeaderValue::from_str(line)
            && !line.is_empty()
        {
            headers.insert(name, value);
        }
    }
    let mut files = StaticFiles::new("/srv");
    files.endings = vec![".html".to_owned()];
    files.precompressed = ContentCoding::ALL.to_vec();
    for prefix in ["", "/a"] {
        files.prefix = prefix.to_owned();
        for candidate in wanted(&files, path).candidates {
            let names = candidate.path.split(|byte| *byte == b'/');
            for name in names {
                assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&0), "{path:?}");
            }
        }
    }
    let location = with_slash(path, None);
    assert!(
        location.starts_with('/') && !location.starts_with("//") && !location.contains('\\'),
        "{location}"
    );
    let there: Vec<_> = ContentCoding::ALL.iter().map(|coding| (*coding, true)).collect();
    let _ = Accepted::of(&headers).choose(&there);
    for length in [0, 1, 10, u64::MAX >> 1] {
        let found = Found {
            path: b"a.css".to_vec(),
            status: 200,
            coding: None,
            length,
            modified_seconds: 784_111_777,
            modified_nanos: 0,
        };
        let given = give(&files, &found, &Method::GET, &headers, WallTime(1 << 60), 1);
        for piece in &given.pieces {
            if let Piece::OfFile(range) = piece {
                assert!(range.start <= range.end && range.end <= length);
            }
        }
    }
}
