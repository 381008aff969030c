//! A `CheckResponse`.

use bytes::Bytes;
use naru_identity::external::{Changes, CheckResponse, Denied, Edit, How};

use crate::proto::{Value, each};

/// These bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOurs;

/// Of whose headers an edit is: what they say of how it is done means something else for each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Request,
    Response,
}

/// Reads the one message that the answer to a call has, from its frame.
///
/// # Errors
/// There is none, there are several, or it is no `CheckResponse`.
pub fn answer(framed: &[u8]) -> Result<CheckResponse, NotOurs> {
    let mut said = CheckResponse::default();
    each(unframed(framed)?, |field, value| {
        match field {
            1 => each(value.bytes()?, |field, value| {
                if field == 1 {
                    // An `int32`; one that is negative has ten bytes.
                    said.code = value.number()? as i32;
                }
                Ok(())
            })?,
            // Of alternatives the last one holds.
            2 => {
                (said.ok, said.error) = (None, None);
                read_denied(value.bytes()?, said.denied.get_or_insert_default())?;
            }
            3 => {
                (said.denied, said.error) = (None, None);
                read_ok(value.bytes()?, said.ok.get_or_insert_default())?;
            }
            5 => {
                (said.denied, said.ok) = (None, None);
                read_denied(value.bytes()?, said.error.get_or_insert_default())?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(said)
}

/// The one message of an answer.
pub(crate) fn unframed(framed: &[u8]) -> Result<&[u8], NotOurs> {
    let (head, rest) = framed.split_first_chunk::<5>().ok_or(NotOurs)?;
    let [flags, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| NotOurs)?;
    if flags != 0 || rest.len() != length { Err(NotOurs) } else { Ok(rest) }
}

fn read_denied(message: &[u8], denied: &mut Denied) -> Result<(), NotOurs> {
    each(message, |field, value| {
        match field {
            1 => each(value.bytes()?, |field, value| {
                if field == 1 {
                    denied.status = u16::try_from(value.number()?).unwrap_or(u16::MAX);
                }
                Ok(())
            })?,
            2 => denied.headers.push(read_edit(value, Whose::Response)?),
            3 => denied.body = Bytes::from(value.text()?),
            _ => {}
        }
        Ok(())
    })
}

fn read_ok(message: &[u8], changes: &mut Changes) -> Result<(), NotOurs> {
    each(message, |field, value| {
        match field {
            2 => changes.request.push(read_edit(value, Whose::Request)?),
            5 => changes.remove.push(value.text()?),
            6 => changes.response.push(read_edit(value, Whose::Response)?),
            7 => changes.set_query.push(read_pair(value.bytes()?)?),
            8 => changes.remove_query.push(value.text()?),
            _ => {}
        }
        Ok(())
    })
}

fn read_edit(value: Value<'_>, whose: Whose) -> Result<Edit, NotOurs> {
    let (mut header, mut append, mut action) = ((String::new(), String::new()), None, 0);
    each(value.bytes()?, |field, value| {
        match field {
            1 => header = read_pair(value.bytes()?)?,
            2 => {
                let mut is_true = false;
                each(value.bytes()?, |field, value| {
                    if field == 1 {
                        is_true = value.number()? != 0;
                    }
                    Ok(())
                })?;
                append = Some(is_true);
            }
            3 => action = value.number()?,
            _ => {}
        }
        Ok(())
    })?;
    let how = match (append, action) {
        // Of a request Envoy 1.40 knows the older word only: what nobody says otherwise is set.
        (Some(true), _) if whose == Whose::Request => How::Join,
        _ if whose == Whose::Request => How::Set,
        (Some(true), _) | (None, 0) => How::Add,
        (Some(false), _) | (None, 2) => How::Set,
        (None, 1) => How::AddIfAbsent,
        (None, 3) => How::SetIfPresent,
        (None, _) => How::Unknown,
    };
    Ok(Edit { name: header.0.into(), value: Bytes::from(header.1), how })
}

/// A key and a value, the first two fields.
fn read_pair(message: &[u8]) -> Result<(String, String), NotOurs> {
    let mut pair = (String::new(), String::new());
    each(message, |field, value| {
        match field {
            1 => pair.0 = value.text()?,
            2 => pair.1 = value.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(pair)
}

/// Whatever comes is an answer or none, and another message behind it makes it none; for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    if answer(bytes).is_ok() {
        assert_eq!(answer(&[bytes, bytes].concat()), Err(NotOurs), "two answers");
        assert_eq!(answer(&[bytes, &[0; 5]].concat()), Err(NotOurs), "two answers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
    }

    #[test]
    fn one_message_is_an_answer() {
        assert_eq!(answer(&framed(b"")), Ok(CheckResponse::default()));
        let denied = answer(&framed(b"\x0a\x02\x08\x07\x12\x05\x0a\x03\x08\x91\x03")).unwrap();
        assert_eq!((denied.code, denied.denied.unwrap().status), (7, 401));
        // A code below 0.
        let code = answer(&framed(b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")).unwrap().code;
        assert_eq!(code, -1);
        for bytes in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x01", b"\0\0\0\0\0\0"] {
            assert_eq!(answer(bytes), Err(NotOurs), "{bytes:?}");
        }
        assert_eq!(answer(&framed(b"\x08\x01")), Err(NotOurs), "a status that is a number");
        assert_eq!(answer(&framed(b"\x1a\x03\x2a\x01\xff")), Err(NotOurs), "a name that is no text");
    }

    #[test]
    fn of_alternatives_the_last_holds() {
        let said = answer(&framed(b"\x12\x00\x1a\x03\x2a\x01a")).unwrap();
        assert_eq!((said.denied, said.ok.unwrap().remove), (None, vec!["a".to_owned()]));
        let said = answer(&framed(b"\x1a\x03\x2a\x01a\x2a\x00")).unwrap();
        assert_eq!((said.ok, said.error), (None, Some(Denied::default())));
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_read() {
        let good = framed(
            b"\x0a\x02\x08\x00\x1a\x16\x12\x0e\x0a\x06\x0a\x01a\x12\x01b\x12\x02\x08\x01\x18\x02\x2a\x01c\x42\x01d",
        );
        assert!(answer(&good).is_ok());
        for seed in 0..1_024 {
            let mut chance = naru_base::Chance::new(seed);
            let mut bytes = good.clone();
            for _ in 0..chance.below(4) {
                let at = chance.below(bytes.len() as u64) as usize;
                bytes[at] = chance.below(256) as u8;
            }
            bytes.truncate(chance.below(good.len() as u64 + 1) as usize);
            fuzz(&bytes);
        }
    }
}
