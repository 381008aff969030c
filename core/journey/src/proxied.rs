//! Who is the client of a connection that another proxy made for it? The PROXY protocol, versions 1 and 2, in and out.
//!
//! In come the first bytes of a connection; out goes who the client is and where it wanted to go, or that more bytes are
//! needed, that there is no header, or that it is malformed. Strict: one space is one space, numbers have no leading
//! zeros, lengths add up. What else version 2 may carry (TLVs) is checked for its form and passed over.
//!
//! Source: "The PROXY protocol, versions 1 & 2", HAProxy, 2020/03/05.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is read; the protocol allows 107 bytes of version 1 and 65,551 of version 2.
pub const HEADER_BYTES_MAX: usize = 4_096;

const SIGNATURE_1: &[u8] = b"PROXY ";
const LINE_BYTES_MAX: usize = 107;
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, what it is, and the length of the rest.
const FIXED_BYTES_2: usize = 16;

/// Both ends of a client's connection, as a header says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It cannot be told yet.
    Open,
    /// No header.
    None,
    /// One of so many bytes. Without ends the connection is the other proxy's own: a health check, for one.
    Header { length: usize, ends: Option<Ends> },
    /// It begins like a header and is none.
    Malformed,
}

impl Beginning {
    pub fn of(start: &[u8]) -> Beginning {
        if begins(start, SIGNATURE_2) {
            return if start.len() < FIXED_BYTES_2 { Beginning::Open } else { version_2(start) };
        }
        if begins(start, SIGNATURE_1) {
            return version_1(start);
        }
        Beginning::None
    }
}

/// As far as there is anything of it; nothing begins everything.
fn begins(start: &[u8], signature: &[u8]) -> bool {
    start.iter().zip(signature).all(|(one, other)| one == other)
}

fn version_1(start: &[u8]) -> Beginning {
    let within = start.get(..start.len().min(LINE_BYTES_MAX)).unwrap_or_default();
    let Some(end) = within.windows(2).position(|two| two == b"\r\n") else {
        // A bare line end is no end.
        let bare = within.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let is_at_end = bare.is_none_or(|at| within.get(at..) == Some(b"\r"));
        let is_open = start.len() < LINE_BYTES_MAX && is_at_end;
        return if is_open { Beginning::Open } else { Beginning::Malformed };
    };
    let line = within.get(SIGNATURE_1.len()..end).and_then(|line| std::str::from_utf8(line).ok());
    let length = end + 2;
    match line {
        // It was malformed before it was whole.
        Some(line) if line.contains(['\r', '\n']) => Beginning::Malformed,
        // What follows is to be ignored.
        Some(line) if line == "UNKNOWN" || line.starts_with("UNKNOWN ") => {
            Beginning::Header { length, ends: None }
        }
        Some(line) => match ends_of_line(line) {
            Some(ends) => Beginning::Header { length, ends: Some(ends) },
            None => Beginning::Malformed,
        },
        None => Beginning::Malformed,
    }
}

fn ends_of_line(line: &str) -> Option<Ends> {
    let mut words = line.split(' ');
    let is_v6 = match words.next()? {
        "TCP4" => false,
        "TCP6" => true,
        _ => return None,
    };
    let mut address = || {
        let address: IpAddr = words.next()?.parse().ok()?;
        (address.is_ipv6() == is_v6).then_some(address)
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || {
        let said = words.next()?;
        let is_plain = said == "0" || !said.starts_with('0');
        (is_plain && said.bytes().all(|byte| byte.is_ascii_digit())).then(|| said.parse().ok())?
    };
    let (source_port, destination_port): (u16, u16) = (port()?, port()?);
    words.next().is_none().then_some(Ends {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

fn version_2(start: &[u8]) -> Beginning {
    let Some(&[version_and_command, family_and_protocol, high, low]) =
        start.get(SIGNATURE_2.len()..FIXED_BYTES_2)
    else {
        return Beginning::Open;
    };
    let length = FIXED_BYTES_2 + usize::from(u16::from_be_bytes([high, low]));
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Beginning::Malformed,
    };
    if length > HEADER_BYTES_MAX {
        return Beginning::Malformed;
    }
    let Some(rest) = start.get(FIXED_BYTES_2..length) else { return Beginning::Open };
    // A connection of the other proxy's own has addresses that mean nothing.
    if is_local {
        return Beginning::Header { length, ends: None };
    }
    let found = match family_and_protocol {
        // Unspecified: nothing is known, nor what it is made of.
        0x00 => return Beginning::Header { length, ends: None },
        0x11 => ends_4(rest),
        0x21 => ends_6(rest),
        // Unix sockets have paths, and no addresses.
        0x31 => rest.get(216..).map(|rest| (None, rest)),
        // Datagrams do not come by a stream.
        _ => None,
    };
    match found {
        Some((ends, rest)) if are_tlvs(rest) => Beginning::Header { length, ends },
        _ => Beginning::Malformed,
    }
}

fn ends_4(rest: &[u8]) -> Option<(Option<Ends>, &[u8])> {
    let (said, rest) = rest.split_first_chunk::<12>()?;
    let &[a, b, c, d, e, f, g, h, i, j, k, l] = said;
    let ends = Ends {
        source: (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([i, j])).into(),
        destination: (Ipv4Addr::new(e, f, g, h), u16::from_be_bytes([k, l])).into(),
    };
    Some((Some(ends), rest))
}

fn ends_6(rest: &[u8]) -> Option<(Option<Ends>, &[u8])> {
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    let (&[i, j, k, l], rest) = rest.split_first_chunk::<4>()?;
    let ends = Ends {
        source: (Ipv6Addr::from(*source), u16::from_be_bytes([i, j])).into(),
        destination: (Ipv6Addr::from(*destination), u16::from_be_bytes([k, l])).into(),
    };
    Some((Some(ends), rest))
}

/// A kind, a length, and so many bytes, to the very end.
fn are_tlvs(mut rest: &[u8]) -> bool {
    while let Some((&[_, high, low], after)) = rest.split_first_chunk::<3>() {
        let Some(next) = after.get(usize::from(u16::from_be_bytes([high, low]))..) else { return false };
        rest = next;
    }
    rest.is_empty()
}

/// The line of version 1. `None` for a client that has no address.
pub fn line(ends: Option<Ends>) -> Vec<u8> {
    let Some(Ends { source, destination }) = ends.map(Ends::alike) else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.port(), destination.port());
    format!("PROXY {family} {} {} {from} {to}\r\n", source.ip(), destination.ip()).into_bytes()
}

/// The header of version 2. `None` is a connection of our own.
pub fn header(ends: Option<Ends>) -> Vec<u8> {
    let mut header = SIGNATURE_2.to_vec();
    let Some(Ends { source, destination }) = ends.map(Ends::alike) else {
        header.extend([0x20, 0x00, 0, 0]);
        return header;
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header.extend([0x21, 0x11, 0, 12]);
            header.extend(source.octets());
            header.extend(destination.octets());
        }
        (source, destination) => {
            header.extend([0x21, 0x21, 0, 36]);
            header.extend(as_v6(source).octets());
            header.extend(as_v6(destination).octets());
        }
    }
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

impl Ends {
    /// Both of the same family: a header has room for one.
    fn alike(self) -> Ends {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let (source, destination) = (canonical(self.source), canonical(self.destination));
        if source.is_ipv4() == destination.is_ipv4() {
            return Ends { source, destination };
        }
        let as_v6 = |end: SocketAddr| SocketAddr::new(as_v6(end.ip()).into(), end.port());
        Ends { source: as_v6(source), destination: as_v6(destination) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(source: &str, destination: &str) -> Option<Ends> {
        Some(Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    #[test]
    fn lines_of_version_1_are_read_to_the_letter() {
        let check = |line: &[u8], expected: Beginning| {
            assert_eq!(Beginning::of(line), expected, "{}", String::from_utf8_lossy(line));
        };
        let is = |length, ends| Beginning::Header { length, ends };
        let v4 = ends("192.0.2.1:56324", "192.0.2.2:443");
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET /", is(42, v4));
        let v6 = ends("[2001:db8::1]:1", "[::1]:0");
        check(b"PROXY TCP6 2001:db8::1 ::1 1 0\r\n", is(32, v6));
        check(b"PROXY UNKNOWN\r\n", is(15, None));
        check(b"PROXY UNKNOWN ffff::1 what ever\r\n", is(33, None));
        for open in [&b""[..], b"P", b"PROXY", b"PROXY ", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2", b"PROXY TCP4\r"]
        {
            check(open, Beginning::Open);
        }
        for none in [&b"GET / HTTP/1.1\r\n"[..], b"PROXX", b"\x16\x03", b"proxy TCP4"] {
            check(none, Beginning::None);
        }
        for malformed in [
            &b"PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n"[..],
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 \r\n",
            b"PROXY TCP4  192.0.2.1 192.0.2.2 56324 443\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 056 443\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +56 443\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
            b"PROXY TCP4 192.0.2.01 192.0.2.2 1 443\r\n",
            b"PROXY TCP4 ::1 ::1 1 443\r\n",
            b"PROXY TCP6 1.2.3.4 1.2.3.4 1 443\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 1 443\r\n",
            b"PROXY \r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\n",
            b"PROXY \xff\r\n",
            b"PROXY UNKNOWN a\nb\r\n",
            b"PROXY UNKNOWN a\rb\r\n",
        ] {
            check(malformed, Beginning::Malformed);
        }
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
        check(&long[..106], Beginning::Open);
        check(&long[..107], Beginning::Malformed);
    }

    fn v2(head: [u8; 2], rest: &[u8]) -> Vec<u8> {
        [SIGNATURE_2, &head, &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    #[test]
    fn headers_of_version_2_are_read_whole() {
        let four = [1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 187];
        let of_four = ends("1.2.3.4:80", "5.6.7.8:443");
        let check = |head: [u8; 2], rest: &[u8], expected: Result<Option<Ends>, ()>| {
            let said = v2(head, rest);
            let expected = match expected {
                Ok(ends) => Beginning::Header { length: said.len(), ends },
                Err(()) => Beginning::Malformed,
            };
            assert_eq!(Beginning::of(&said), expected, "{head:x?} {rest:?}");
            assert_eq!(
                Beginning::of(&[said.clone(), vec![7; 9]].concat()),
                expected,
                "what follows is not its own"
            );
            for length in 0..said.len().min(FIXED_BYTES_2) {
                assert_eq!(Beginning::of(&said[..length]), Beginning::Open);
            }
        };
        check([0x21, 0x11], &four, Ok(of_four));
        check([0x21, 0x11], &[&four[..], &[4, 0, 2, 9, 9], &[1, 0, 0]].concat(), Ok(of_four));
        check([0x21, 0x11], &[&four[..], &[4, 0, 2, 9]].concat(), Err(()));
        check([0x21, 0x11], &[&four[..], &[4]].concat(), Err(()));
        check([0x21, 0x11], &four[..11], Err(()));
        check([0x21, 0x21], &four, Err(()));
        let six =
            [&Ipv6Addr::LOCALHOST.octets()[..], &Ipv6Addr::UNSPECIFIED.octets(), &[0, 1, 0, 2]].concat();
        check([0x21, 0x21], &six, Ok(ends("[::1]:1", "[::]:2")));
        check([0x20, 0x00], &[], Ok(None));
        check([0x20, 0x11], &four, Ok(None));
        check([0x21, 0x00], &[9; 5], Ok(None));
        check([0x21, 0x31], &[0; 216], Ok(None));
        check([0x21, 0x31], &[0; 215], Err(()));
        check([0x21, 0x12], &four, Err(()));
        check([0x21, 0x41], &four, Err(()));
        check([0x22, 0x11], &four, Err(()));
        check([0x11, 0x11], &four, Err(()));
        let largest = v2([0x20, 0], &vec![0; HEADER_BYTES_MAX - FIXED_BYTES_2]);
        assert_eq!(Beginning::of(&largest[..largest.len() - 1]), Beginning::Open);
        assert_eq!(Beginning::of(&largest), Beginning::Header { length: HEADER_BYTES_MAX, ends: None });
        assert_eq!(
            Beginning::of(&v2([0x20, 0], &vec![0; HEADER_BYTES_MAX])[..FIXED_BYTES_2]),
            Beginning::Malformed,
            "as soon as it is known that it is too long"
        );
    }

    #[test]
    fn what_is_said_is_read_back() {
        let check = |said: Option<Ends>, expected: Option<Ends>| {
            for bytes in [line(said), header(said)] {
                let read = Beginning::of(&bytes);
                assert_eq!(read, Beginning::Header { length: bytes.len(), ends: expected }, "{said:?}");
            }
        };
        check(None, None);
        let plain = ends("192.0.2.1:56324", "192.0.2.2:443");
        check(plain, plain);
        let six = ends("[2001:db8::1]:9", "[2001:db8::2]:10");
        check(six, six);
        check(ends("[::ffff:1.2.3.4]:9", "[::ffff:5.6.7.8]:10"), ends("1.2.3.4:9", "5.6.7.8:10"));
        check(ends("1.2.3.4:9", "[::1]:10"), ends("[::ffff:1.2.3.4]:9", "[::1]:10"));
    }
}
