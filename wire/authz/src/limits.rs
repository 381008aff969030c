//! A `RateLimitRequest`, and a `RateLimitResponse`.

use bytes::Bytes;
use naru_admit::described::{CurrentLimit, Described, DescriptorStatus, ServiceAnswer};

use crate::NotOurs;
use crate::proto::{Message, Value, each};
use crate::question::framed;

/// More than this says nobody who is asked about one request.
const STATUSES_MAX: usize = 1_024;
const HEADERS_MAX: usize = 256;

/// The code of an answer: a request is beyond a limit.
const OVER_LIMIT: u64 = 2;

/// Writes a request, in its frame.
pub fn limits(domain: &str, descriptors: &[Described]) -> Bytes {
    let mut request = Message::default();
    request.text(1, domain);
    for described in descriptors {
        let mut descriptor = Message::default();
        for (key, value) in &described.entries {
            let mut entry = Message::default();
            entry.text(1, key);
            entry.text(2, value);
            descriptor.message(1, &entry);
        }
        if let Some((requests, unit)) = described.limit {
            let mut limit = Message::default();
            limit.number(1, requests.into());
            limit.number(2, unit.into());
            descriptor.message(2, &limit);
        }
        if let Some(hits) = described.hits {
            let mut value = Message::default();
            value.number(1, hits);
            descriptor.message(3, &value);
            descriptor.number(4, described.gives_back.into());
        }
        request.message(2, &descriptor);
    }
    framed(request.as_bytes())
}

/// Reads the one message that the answer to a call has, from its frame.
///
/// # Errors
/// There is none, there are several, or it is no `RateLimitResponse`.
pub fn limited(frame: &[u8]) -> Result<ServiceAnswer, NotOurs> {
    let mut said = ServiceAnswer::default();
    each(crate::answer::unframed(frame)?, |field, value| {
        match field {
            1 => said.is_over_limit = value.number()? == OVER_LIMIT,
            2 => said.statuses.push(status(value.bytes()?)?),
            3 => said.response_headers.push(header(value.bytes()?)?),
            4 => said.request_headers.push(header(value.bytes()?)?),
            5 => said.body = Bytes::copy_from_slice(value.bytes()?),
            _ => {}
        }
        let is_too_much = said.statuses.len() > STATUSES_MAX
            || said.response_headers.len() > HEADERS_MAX
            || said.request_headers.len() > HEADERS_MAX;
        if is_too_much { Err(NotOurs) } else { Ok(()) }
    })?;
    Ok(said)
}

fn status(message: &[u8]) -> Result<DescriptorStatus, NotOurs> {
    let mut said = DescriptorStatus::default();
    each(message, |field, value| {
        match field {
            1 => said.is_over_limit = value.number()? == OVER_LIMIT,
            2 => limit(value.bytes()?, said.limit.get_or_insert_default())?,
            3 => said.remaining = small(value)?,
            4 => {
                let mut seconds = said.reset.unwrap_or(0);
                each(value.bytes()?, |field, value| {
                    if field == 1 {
                        seconds = value.number()? as i64;
                    }
                    Ok(())
                })?;
                said.reset = Some(seconds);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(said)
}

fn limit(message: &[u8], limit: &mut CurrentLimit) -> Result<(), NotOurs> {
    each(message, |field, value| {
        match field {
            1 => limit.requests = small(value)?,
            2 => limit.unit = small(value)?,
            3 => limit.name = value.text()?.into(),
            _ => {}
        }
        Ok(())
    })
}

/// Of an `uint32` the lower half holds, as readers of the format have it.
fn small(value: Value<'_>) -> Result<u32, NotOurs> {
    Ok(value.number()? as u32)
}

/// A key with a text or with bytes, of which the text goes first, as in Envoy.
fn header(message: &[u8]) -> Result<(Box<str>, Bytes), NotOurs> {
    let (mut name, mut text, mut raw) = (String::new(), Bytes::new(), Bytes::new());
    each(message, |field, value| {
        match field {
            1 => name = value.text()?,
            2 => text = Bytes::from(value.text()?),
            3 => raw = Bytes::copy_from_slice(value.bytes()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok((name.into(), if text.is_empty() { raw } else { text }))
}

/// Whatever comes is an answer or none, and another message behind it makes it none; for fuzzing.
pub fn fuzz_limited(bytes: &[u8]) {
    if limited(bytes).is_ok() {
        assert_eq!(limited(&[bytes, bytes].concat()), Err(NotOurs), "two answers");
        assert_eq!(limited(&[bytes, &[0; 5]].concat()), Err(NotOurs), "two answers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(message: &[u8]) -> Vec<u8> {
        [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
    }

    #[test]
    fn a_question_is_written_field_by_field() {
        let described = Described {
            entries: vec![("k".into(), "v".into()), ("e".into(), "".into())],
            hits: Some(3),
            gives_back: true,
            limit: Some((5, 4)),
            tells: Some(true),
        };
        let none = Described { hits: Some(0), ..Described::default() };
        let written = limits("d", &[described, none]);
        let expected = b"\x0a\x01d\x12\x19\x0a\x06\x0a\x01k\x12\x01v\x0a\x03\x0a\x01e\x12\x04\x08\x05\x10\x04\x1a\x02\x08\x03\x20\x01\x12\x02\x1a\x00";
        assert_eq!(written, frame(expected));
    }

    #[test]
    fn an_answer_is_read_field_by_field() {
        let said = limited(&frame(
            b"\x08\x02\x12\x13\x08\x02\x12\x09\x08\x0a\x10\x02\x1a\x03ipA\x18\x07\x22\x02\x08\x1e\x1a\x06\x0a\x01a\x12\x01b\x22\x06\x0a\x01c\x1a\x01\xff\x2a\x02hi",
        ))
        .unwrap();
        assert!(said.is_over_limit);
        let limit = CurrentLimit { name: "ipA".into(), requests: 10, unit: 2 };
        let status =
            DescriptorStatus { is_over_limit: true, limit: Some(limit), remaining: 7, reset: Some(30) };
        assert_eq!(said.statuses, [status]);
        assert_eq!(said.response_headers, [("a".into(), Bytes::from_static(b"b"))]);
        assert_eq!(said.request_headers, [("c".into(), Bytes::from_static(b"\xff"))]);
        assert_eq!(said.body, "hi");
        assert_eq!(limited(&frame(b"")), Ok(ServiceAnswer::default()));
        let below_zero = limited(&frame(b"\x12\x0d\x22\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
        assert_eq!(below_zero.unwrap().statuses[0].reset, Some(-1));
        for bytes in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x01", b"\0\0\0\0\0\0"] {
            assert_eq!(limited(bytes), Err(NotOurs), "{bytes:?}");
        }
        assert_eq!(limited(&frame(b"\x0a\x01a")), Err(NotOurs), "a code that is a text");
        assert_eq!(limited(&frame(&b"\x12\x00".repeat(STATUSES_MAX + 1))), Err(NotOurs));
        assert_eq!(limited(&frame(&b"\x1a\x00".repeat(HEADERS_MAX + 1))), Err(NotOurs));
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_read() {
        let good = frame(
            b"\x08\x02\x12\x13\x08\x02\x12\x09\x08\x0a\x10\x02\x1a\x03ipA\x18\x07\x22\x02\x08\x1e\x1a\x06\x0a\x01a\x12\x01b\x2a\x02hi",
        );
        assert!(limited(&good).is_ok());
        for seed in 0..1_024 {
            let mut chance = naru_base::Chance::new(seed);
            let mut bytes = good.clone();
            for _ in 0..chance.below(4) {
                let at = chance.below(bytes.len() as u64) as usize;
                bytes[at] = chance.below(256) as u8;
            }
            bytes.truncate(chance.below(good.len() as u64 + 1) as usize);
            fuzz_limited(&bytes);
        }
    }
}
