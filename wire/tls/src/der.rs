//! What stands in bytes that are meant to be DER, and where in a certificate?
//!
//! As much of X.509 (RFC 5280) as others here ask for. It takes any bytes, and copies none.

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
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
        let _validity = signed.expect(SEQUENCE)?;
        let subject = signed.expect(SEQUENCE)?;
        let key = signed.whole(SEQUENCE)?;
        let mut extensions = None;
        while let Some((tag, content)) = signed.next() {
            if tag == EXTENSIONS {
                extensions = Some(Der(Der(content).expect(SEQUENCE)?));
            }
        }
        Some(X509 { serial, subject, key, extensions })
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
