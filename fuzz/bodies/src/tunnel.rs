//! The first bytes in a tunnel, and where it leads.

use naru_journey::tunnel::{Destination, Inside};
use naru_spec::defaults::TUNNEL_FIRST_BYTES_MAX;

/// What was told by some bytes is not told otherwise by more, and it is told in the end. A destination is a
/// host without brackets, and a port.
pub fn tunnel(bytes: &[u8]) {
    let start = &bytes[..bytes.len().min(TUNNEL_FIRST_BYTES_MAX)];
    let mut told = None;
    for end in 0..=start.len() {
        let now = Inside::of(&start[..end]);
        assert!(told.is_none() || told == now, "{told:?}, and {now:?} after {end} bytes");
        told = now;
    }
    assert!(told.is_some() || start.len() < TUNNEL_FIRST_BYTES_MAX);
    if let Ok(target) = http::Uri::try_from(bytes)
        && let Some(Destination { host, port }) = Destination::of(&target)
    {
        assert!(
            !host.is_empty() && !host.starts_with('[') && !host.contains('@') && port != 0,
            "{host} {port}"
        );
    }
}
