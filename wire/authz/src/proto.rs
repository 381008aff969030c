//! Protobuf's wire format, as far as these messages need it.

use bytes::{BufMut, BytesMut};

use crate::NotOurs;

/// Fields that are written, in the order of their numbers as far as anybody cares.
#[derive(Debug, Default)]
pub(crate) struct Message(BytesMut);

impl Message {
    pub fn bytes(&mut self, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.put(field, bytes);
        }
    }

    pub fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    pub fn number(&mut self, field: u32, number: u64) {
        if number != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(number);
        }
    }

    /// Also where it is 0, as within an alternative.
    pub fn always_number(&mut self, field: u32, number: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(number);
    }

    pub fn double(&mut self, field: u32, number: f64) {
        self.varint(u64::from(field) << 3 | 1);
        self.0.put_f64_le(number);
    }

    /// Also where it says nothing: it is there.
    pub fn message(&mut self, field: u32, inner: &Message) {
        self.put(field, &inner.0);
    }

    /// Also where it is empty, as within an alternative.
    pub fn always_text(&mut self, field: u32, text: &str) {
        self.put(field, text.as_bytes());
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn put(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.put_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.put_u8(value as u8);
    }
}

/// A field that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a width that none of our fields has.
    Other,
}

impl<'a> Value<'a> {
    pub fn number(self) -> Result<u64, NotOurs> {
        if let Value::Number(number) = self { Ok(number) } else { Err(NotOurs) }
    }

    pub fn bytes(self) -> Result<&'a [u8], NotOurs> {
        if let Value::Bytes(bytes) = self { Ok(bytes) } else { Err(NotOurs) }
    }

    pub fn text(self) -> Result<String, NotOurs> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| NotOurs)
    }
}

/// Each field of a message in its order. Those that nobody knows are for the caller to pass by.
pub(crate) fn each<'a>(
    mut message: &'a [u8],
    mut visit: impl FnMut(u64, Value<'a>) -> Result<(), NotOurs>,
) -> Result<(), NotOurs> {
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        let (field, wire_type) = (tag >> 3, tag & 7);
        if field == 0 {
            return Err(NotOurs);
        }
        let mut take = |length: usize| -> Result<&'a [u8], NotOurs> {
            let (taken, rest) = message.split_at_checked(length).ok_or(NotOurs)?;
            message = rest;
            Ok(taken)
        };
        let value = match wire_type {
            0 => Value::Number(take_varint(&mut message)?),
            1 => take(8).map(|_| Value::Other)?,
            5 => take(4).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).map_err(|_| NotOurs)?;
                let (taken, rest) = message.split_at_checked(length).ok_or(NotOurs)?;
                message = rest;
                Value::Bytes(taken)
            }
            _ => return Err(NotOurs),
        };
        visit(field, value)?;
    }
    Ok(())
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, NotOurs> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(NotOurs)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(NotOurs)
}
