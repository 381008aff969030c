//! The fields that both sides know from the start: RFC 7541, appendix A.

#[rustfmt::skip]
pub const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""),
    ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""),
    ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""),
    ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""),
    ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""),
    ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// Where the names of one length stand: most fields of a head are not in the table, and are soon known not to be.
const BY_LENGTH: [[u8; 16]; 32] = {
    let mut table = [[0; 16]; 32];
    let mut used = [0; 32];
    let mut at = 0;
    while at < STATIC.len() {
        let length = STATIC[at].0.len();
        table[length][used[length]] = at as u8 + 1;
        used[length] += 1;
        at += 1;
    }
    table
};

/// The index of a field, and whether its value stands there too.
pub fn find(name: &[u8], value: &[u8]) -> Option<(usize, bool)> {
    let mut of_name = None;
    for index in BY_LENGTH.get(name.len())?.iter().take_while(|index| **index > 0) {
        let index = usize::from(*index);
        let (known, its) = STATIC.get(index - 1)?;
        if known.as_bytes() == name {
            if its.as_bytes() == value && !value.is_empty() {
                return Some((index, true));
            }
            of_name = of_name.or(Some((index, false)));
        }
    }
    of_name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found() {
        for (at, (name, value)) in STATIC.iter().enumerate() {
            let found = find(name.as_bytes(), value.as_bytes()).unwrap();
            if !value.is_empty() {
                assert_eq!(found, (at + 1, true));
            }
            assert_eq!(STATIC[found.0 - 1].0, *name);
        }
        assert_eq!(find(b"x-unknown", b""), None);
        assert_eq!(find(&[b'x'; 99], b""), None);
        assert_eq!(find(b":status", b"418"), Some((8, false)));
    }
}
