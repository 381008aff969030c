//! API keys by their hashes. A key that is shown is hashed and looked up: what is compared is no secret of anybody who
//! could choose it.

use std::collections::HashMap;
use std::sync::Arc;

use naru_jose::secret;

use crate::{Fault, check_name, pairs};

/// Whose each key is.
#[derive(Clone, Default)]
pub struct Keys(HashMap<[u8; 32], Arc<str>>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// Adds lines of `name:hash`: SHA-256 of a key, in hexadecimal. One name may have several keys.
    ///
    /// # Errors
    /// A line that is none, or a key that was there already.
    pub fn read(&mut self, file: &[u8]) -> Result<(), Fault> {
        for (line, name, hash) in pairs(file)? {
            let hash = hexadecimal(hash).ok_or_else(|| {
                Fault::at(line, "its hash is not the SHA-256 of a key in 64 hexadecimal digits")
            })?;
            self.add(name, hash).map_err(|text| Fault::at(line, text))?;
        }
        Ok(())
    }

    /// # Errors
    /// A name that cannot be, or a key that was there already.
    pub fn add(&mut self, name: &str, hash: [u8; 32]) -> Result<(), String> {
        check_name(name)?;
        match self.0.insert(hash, name.into()) {
            None => Ok(()),
            Some(before) if *before == *name => Err(format!("the key of '{name}' is there twice")),
            Some(before) => Err(format!("'{before}' has the same key as '{name}'")),
        }
    }

    /// # Errors
    /// As [`Keys::add`], and an empty key.
    pub fn add_plain(&mut self, name: &str, key: &[u8]) -> Result<(), String> {
        if key.is_empty() {
            return Err(format!("the key of '{name}' is empty"));
        }
        self.add(name, secret::sha256(key))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose key it is.
    pub fn find(&self, key: &[u8]) -> Option<&Arc<str>> {
        self.0.get(&secret::sha256(key))
    }
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, digits) in out.iter_mut().zip(text.chunks_exact(2)) {
        for digit in digits {
            *byte = *byte << 4 | char::from(*digit).to_digit(16)? as u8;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf %s "$KEY" | sha256sum`
    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_key_is_found_by_its_hash() {
        let mut keys = Keys::default();
        keys.read(format!("# ours\n\nann:{OF_ABC}\n").as_bytes()).unwrap();
        keys.add_plain("bob", b"another").unwrap();
        assert_eq!(keys.find(b"abc").map(|name| &**name), Some("ann"));
        assert_eq!(keys.find(b"another").map(|name| &**name), Some("bob"));
        assert_eq!(keys.find(b"abd"), None);
        assert_eq!(keys.find(OF_ABC.as_bytes()), None, "a hash is no key");
        assert_eq!(format!("{keys:?}"), "Keys(2)");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let check = |file: &str, expected: &str| {
            let fault = Keys::default().read(file.as_bytes()).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{fault}");
        };
        check("ann:abc", "line 1: its hash is not the SHA-256");
        check(&format!("ann:{OF_ABC}\n\nbob:{OF_ABC}\n"), "line 3: 'ann' has the same key as 'bob'");
        check(&format!("ann:{OF_ABC}\nann:{OF_ABC}\n"), "line 2: the key of 'ann' is there twice");
        check("ann", "line 1: it is no 'name:hash'");
        check(&format!(":{OF_ABC}"), "line 1: it has no name");
        assert!(Keys::default().add_plain("ann", b"").is_err());
    }
}
