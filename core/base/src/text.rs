//! How are numbers and addresses written, and escapes read? Without the machinery of `std::fmt`, which costs a request more than routing it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

/// The longest: eight groups of four, with colons.
const LONGEST: usize = 39;

/// An address as it is written, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct IpText {
    bytes: [u8; LONGEST],
    len: usize,
}

impl IpText {
    #[inline]
    pub fn of(ip: IpAddr) -> IpText {
        let mut text = IpText { bytes: [0; LONGEST], len: 0 };
        match ip {
            IpAddr::V4(ip) => {
                let [first, rest @ ..] = ip.octets();
                text.octet(first);
                for octet in rest {
                    text.push(b'.');
                    text.octet(octet);
                }
            }
            // A buffer that is long enough is never full.
            IpAddr::V6(ip) => drop(write!(text, "{ip}")),
        }
        text
    }

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    #[inline]
    fn octet(&mut self, octet: u8) {
        if octet >= 100 {
            self.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            self.push(b'0' + octet / 10 % 10);
        }
        self.push(b'0' + octet % 10);
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }
}

impl std::fmt::Write for IpText {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let end = self.len + s.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// A number with as many digits as it has.
#[inline]
pub fn number(out: &mut Vec<u8>, mut value: u64) {
    if value < 10 {
        return out.push(b'0' + value as u8);
    }
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    // Two at once: it is divided half as often.
    while value >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&two_digits((value % 100) as u8));
        value /= 100;
    }
    if value > 0 {
        at -= 1;
        digits[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Without percent-encoding (RFC 3986, section 2.1); an escape that is none stays as it is.
pub fn percent_decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut left = text;
    while let Some((&first, rest)) = left.split_first() {
        left = rest;
        match (first, rest) {
            (b'%', [high, low, rest @ ..]) if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                out.push((high * 16 + low) as u8);
                left = rest;
            }
            _ => out.push(first),
        }
    }
    Cow::Owned(out)
}

/// Two digits.
#[inline]
pub fn two_digits(value: u8) -> [u8; 2] {
    [b'0' + value / 10 % 10, b'0' + value % 10]
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::Chance;

    #[test]
    fn an_address_is_written_as_everywhere() {
        let mut chance = Chance::new(7);
        for _ in 0..10_000 {
            let (high, low) = (chance.draw(), chance.draw());
            let four = IpAddr::from(Ipv4Addr::from_bits(high as u32));
            let six = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
            // With groups of zeros, and with all that is long.
            let mapped = Ipv4Addr::from_bits(low as u32).to_ipv6_mapped();
            let holed = Ipv6Addr::from_bits(six.to_bits() & (u128::from(low) << 48));
            for ip in [four, six.into(), mapped.into(), holed.into()] {
                assert_eq!(IpText::of(ip).as_bytes(), ip.to_string().as_bytes());
            }
        }
        let longest: IpAddr = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        assert_eq!(IpText::of(longest).as_bytes().len(), LONGEST);
    }

    #[test]
    fn an_escape_that_is_none_stays() {
        for (text, plain) in
            [("a", "a"), ("%41%2f", "A/"), ("%", "%"), ("%4", "%4"), ("%%41", "%A"), ("%g1%31", "%g11")]
        {
            assert_eq!(*percent_decoded(text.as_bytes()), *plain.as_bytes(), "{text}");
        }
        assert_eq!(*percent_decoded(b"%ff"), [0xff]);
    }

    #[test]
    fn a_number_is_written_as_everywhere() {
        let powers = (0..20).map(|digits| 10u64.pow(digits)).flat_map(|power| [power - 1, power, power + 1]);
        for value in (0..10_100).chain(powers).chain([4_294_967_296, u64::MAX - 1, u64::MAX]) {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
        for value in 0..100 {
            assert_eq!(&two_digits(value)[..], format!("{value:02}").as_bytes());
        }
    }
}
