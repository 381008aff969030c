//! What stands in bytes that are meant to be DER, and where in a certificate?
//!
//! As much of X.509 (RFC 5280) as others here ask for. It takes any bytes, and copies none.

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
const UTC_TIME: u8 = 0x17;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// 2.5.29.19
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// `[0]` and `[3]` of TBSCertificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// What is left to read of some DER elements in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Der<'a>(pub &'a [u8]);

impl<'a> Der<'a> {
    /// The next element's tag and content. Only tags of one byte and lengths of up to four exist here.
    pub fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (octets.iter().fold(0, |length, &octet| length << 8 | usize::from(octet)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    pub fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().and_then(|(tag, content)| (tag == wanted).then_some(content))
    }

    /// The next element whole, with its tag and length.
    pub fn whole(&mut self, wanted: u8) -> Option<&'a [u8]> {
        let before = self.0;
        self.expect(wanted)?;
        before.get(..before.len() - self.0.len())
    }

    /// The next element, where it has this tag.
    pub fn optional(&mut self, wanted: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&wanted) { self.expect(wanted) } else { None }
    }
}

/// What stands inside the one DER element that `bytes` are.
pub(crate) fn content(bytes: &[u8]) -> Option<&[u8]> {
    let mut der = Der(bytes);
    let (_, content) = der.next()?;
    der.0.is_empty().then_some(content)
}

/// The parts of a certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct X509<'a> {
    /// The octets of the number.
    pub serial: &'a [u8],
    validity: &'a [u8],
    /// What stands in the Name.
    pub subject: &'a [u8],
    /// SubjectPublicKeyInfo, whole.
    pub key: &'a [u8],
    extensions: Option<Der<'a>>,
}

impl<'a> X509<'a> {
    pub fn read(certificate: &'a [u8]) -> Option<X509<'a>> {
        let mut certificate = Der(Der(certificate).expect(SEQUENCE)?);
        let mut signed = Der(certificate.expect(SEQUENCE)?);
        signed.optional(VERSION);
        let serial = signed.expect(INTEGER)?;
        let _algorithm = signed.expect(SEQUENCE)?;
        let _issuer = signed.expect(SEQUENCE)?;
        let validity = signed.expect(SEQUENCE)?;
        let subject = signed.expect(SEQUENCE)?;
        let key = signed.whole(SEQUENCE)?;
        let mut extensions = None;
        while let Some((tag, content)) = signed.next() {
            if tag == EXTENSIONS {
                extensions = Some(Der(Der(content).expect(SEQUENCE)?));
            }
        }
        Some(X509 { serial, validity, subject, key, extensions })
    }

    /// Whether others may be issued by it (basicConstraints).
    pub fn is_authority(&self) -> bool {
        let said = self.extension(BASIC_CONSTRAINTS).and_then(content);
        said.is_some_and(|said| Der(said).optional(BOOLEAN).is_some_and(|is_ca| is_ca != [0]))
    }

    /// From when until when, in seconds since 1970.
    pub fn validity(&self) -> Option<(u64, u64)> {
        let mut times = Der(self.validity);
        let mut time = || match times.next()? {
            (GENERALIZED_TIME, text) => seconds(text),
            // Of two digits of the year, those from 50 on are of the last century.
            (UTC_TIME, text) => {
                let century: &[u8] = if text.first()? >= &b'5' { b"19" } else { b"20" };
                seconds(&[century, text].concat())
            }
            _ => None,
        };
        Some((time()?, time()?))
    }

    /// The value of the extension with this id.
    pub fn extension(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        let mut extensions = self.extensions?;
        while !extensions.0.is_empty() {
            let mut extension = Der(extensions.expect(SEQUENCE)?);
            let id = extension.expect(OBJECT_ID)?;
            extension.optional(BOOLEAN);
            let value = extension.expect(OCTET_STRING)?;
            if id == wanted {
                return Some(value);
            }
        }
        None
    }
}

/// Of a time like `20261121234500Z`, since 1970.
pub(crate) fn seconds(text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    if digits.len() != 14 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number =
        |from: usize, to: usize| -> Option<i64> { str::from_utf8(digits.get(from..to)?).ok()?.parse().ok() };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years begin in March here, so that a leap day is the last of one.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        years * 365 + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1 - 719_468;
    u64::try_from(days * 86_400 + hour * 3_600 + minute * 60 + second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        // `date -u -d ... +%s`
        for (text, expected) in [
            ("19700101000000Z", 0),
            ("20240229120000Z", 1_709_208_000),
            ("20261121234500Z", 1_795_304_700),
            ("21000301000000Z", 4_107_542_400),
        ] {
            assert_eq!(seconds(text.as_bytes()), Some(expected), "{text}");
        }
        for wrong in [
            "",
            "20261121234500",
            "20261321234500Z",
            "2026112123450Z",
            "20261121234500.1Z",
            "x0261121234500Z",
        ] {
            assert_eq!(seconds(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
