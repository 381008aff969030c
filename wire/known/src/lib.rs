//! What do files say of those who ask: their keys, their passwords, where their addresses are?
//!
//! Comes in: the bytes of a file, or what stands in a configuration. Goes out: [`Keys`], [`Passwords`], [`Places`], or
//! the line that is wrong ([`Fault`]). Deliberately not here: reading files and looking at them again (`proxy`), where
//! credentials stand in a request (`journey`), who computes hashes that take long, and for how many.
#![forbid(unsafe_code)]

mod keys;
mod passwords;
mod places;

use std::fmt;

pub use keys::Keys;
pub use passwords::{Effort, Passwords};
pub use places::{Place, Places};

/// No file of keys or passwords is longer.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// No name of somebody is longer.
const NAME_BYTES_MAX: usize = 255;

/// What is wrong with a file. It never says what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1; 0 where it is the file as a whole.
    pub line: usize,
    pub text: String,
}

impl Fault {
    fn at(line: usize, text: impl Into<String>) -> Fault {
        Fault { line, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.text),
            line => write!(f, "line {line}: {}", self.text),
        }
    }
}

impl std::error::Error for Fault {}

/// Lines of `name:what`, with their numbers. Empty ones, and those that begin with `#`, say nothing.
fn pairs(bytes: &[u8]) -> Result<Vec<(usize, &str, &str)>, Fault> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Fault::at(0, format!("it has more than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::at(0, "it is no text in UTF-8"))?;
    let mut pairs = Vec::new();
    for (line, said) in (1..).zip(text.lines()) {
        let said = said.trim();
        if said.is_empty() || said.starts_with('#') {
            continue;
        }
        let (name, what) = said.split_once(':').ok_or_else(|| Fault::at(line, "it is no 'name:hash'"))?;
        check_name(name).map_err(|text| Fault::at(line, text))?;
        pairs.push((line, name, what));
    }
    Ok(pairs)
}

/// It goes into a header.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it has no name before its colon".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("its name has more than {NAME_BYTES_MAX} bytes"));
    }
    if name.trim() != name || name.chars().any(char::is_control) {
        return Err("its name cannot stand in a header".to_owned());
    }
    Ok(())
}
