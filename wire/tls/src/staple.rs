//! What an authority has said of a certificate (OCSP, RFC 6960), to be shown to clients that ask.
//!
//! Nothing is verified here: that is for the client. It is read whether the answer is about the certificate, and how
//! long it holds. Envoy's `ocsp.cc` does the same.

use naru_spec::{DataSource, Invalid};

use crate::der::{Der, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE, X509};
use crate::material;

const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]` with content: the answer, its version, the end of its time.
const TAGGED_0: u8 = 0xa0;
/// 1.3.6.1.5.5.7.48.1.1: the only kind of answer that there is.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// 1.3.6.1.5.5.7.1.24, with `status_request` in it (RFC 7633).
const TLS_FEATURE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18];
const STATUS_REQUEST: &[u8] = &[5];

/// An answer that is about the certificate it is given for.
#[derive(Debug)]
pub(crate) struct Staple {
    pub bytes: Vec<u8>,
    /// Seconds since 1970. An answer that does not say how long it holds does not.
    until: Option<u64>,
}

impl Staple {
    pub fn read(source: &DataSource, leaf: &[u8]) -> Result<Staple, Invalid> {
        let bytes = material::response(source)?;
        let wrong = |what: &str| material::wrong_response(source, what);
        let Some(answer) = Answer::read(&bytes) else {
            return Err(wrong("is no OCSP response").hint("a response is DER, as of 'openssl ocsp -respout'"));
        };
        match answer {
            Answer::Refused(status) => {
                Err(wrong(&format!("says that the responder refused: status {status}")))
            }
            Answer::Several => Err(wrong("is about more than one certificate")),
            Answer::One { serial, until } => {
                if X509::read(leaf).map(|read| read.serial) != Some(serial) {
                    return Err(wrong("is about another certificate than the one that it is given for"));
                }
                Ok(Staple { until, bytes })
            }
        }
    }

    pub fn holds(&self, now: u64) -> bool {
        self.until.is_some_and(|until| now <= until)
    }
}

/// Whether a certificate says that it must not be used without one.
pub(crate) fn is_needed_by(leaf: &[u8]) -> bool {
    let features = || {
        let mut features = Der(Der(X509::read(leaf)?.extension(TLS_FEATURE)?).expect(SEQUENCE)?);
        let mut is_needed = false;
        while !features.0.is_empty() {
            is_needed |= features.expect(INTEGER)? == STATUS_REQUEST;
        }
        Some(is_needed)
    };
    features().unwrap_or(false)
}

enum Answer<'a> {
    Refused(u8),
    Several,
    One { serial: &'a [u8], until: Option<u64> },
}

impl<'a> Answer<'a> {
    fn read(bytes: &'a [u8]) -> Option<Answer<'a>> {
        let mut whole = Der(bytes);
        let mut response = Der(whole.expect(SEQUENCE)?);
        if !whole.0.is_empty() {
            return None;
        }
        match response.expect(ENUMERATED)? {
            [0] => {}
            [status] => return Some(Answer::Refused(*status)),
            _ => return None,
        }
        let mut answer = Der(Der(response.expect(TAGGED_0)?).expect(SEQUENCE)?);
        if answer.expect(OBJECT_ID)? != BASIC {
            return None;
        }
        let mut basic = Der(Der(answer.expect(OCTET_STRING)?).expect(SEQUENCE)?);
        let mut data = Der(basic.expect(SEQUENCE)?);
        data.optional(TAGGED_0);
        let _responder = data.next()?;
        let _produced = data.expect(GENERALIZED_TIME)?;
        let mut singles = Der(data.expect(SEQUENCE)?);
        let mut single = Der(singles.expect(SEQUENCE)?);
        if !singles.0.is_empty() {
            return Some(Answer::Several);
        }
        let mut about = Der(single.expect(SEQUENCE)?);
        let _algorithm = about.expect(SEQUENCE)?;
        let _issuer_name = about.expect(OCTET_STRING)?;
        let _issuer_key = about.expect(OCTET_STRING)?;
        let serial = about.expect(INTEGER)?;
        let _status = single.next()?;
        let _since = single.expect(GENERALIZED_TIME)?;
        let until = match single.optional(TAGGED_0) {
            Some(until) => Some(seconds(Der(until).expect(GENERALIZED_TIME)?)?),
            None => None,
        };
        Some(Answer::One { serial, until })
    }
}

/// Of a time like `20261121234500Z`, since 1970.
fn seconds(text: &[u8]) -> Option<u64> {
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
