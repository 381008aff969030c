//! The first bytes of a connection that another proxy made for its client.

use naru_journey::proxied::{Beginning, HEADER_BYTES_MAX, header, line};

/// What was told by some bytes is not told otherwise by more, and it is told within the bound. What a header says can be
/// said again, and is read back.
pub fn proxied(bytes: &[u8]) {
    let mut told = Beginning::Open;
    for end in (0..bytes.len().min(256)).chain([bytes.len()]) {
        let now = Beginning::of(&bytes[..end]);
        assert!(told == Beginning::Open || told == now, "{told:?}, and {now:?} after {end}");
        told = now;
    }
    assert!(told != Beginning::Open || bytes.len() < HEADER_BYTES_MAX, "it is never told");
    if let Beginning::Header { length, ends } = told {
        assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX);
        for said in [line(ends), header(ends)] {
            let Beginning::Header { length, ends: read } = Beginning::of(&said) else { panic!("{said:?}") };
            assert_eq!(length, said.len());
            assert_eq!(read.is_some(), ends.is_some());
            // What is mapped is said as what it is.
            let canonical = |end: std::net::SocketAddr| (end.ip().to_canonical(), end.port());
            let pair = ends.map(|ends| (canonical(ends.source), canonical(ends.destination)));
            assert_eq!(read.map(|ends| (canonical(ends.source), canonical(ends.destination))), pair);
        }
    }
}
