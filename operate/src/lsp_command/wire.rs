//! Messages as they stand between an editor and its server: a head that says how long, and JSON.

use std::fmt::Write as _;
use std::io::{self, BufRead, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A message that is longer is none.
const BYTES_MAX: u64 = 64 << 20;
/// So is a line of a head.
const LINE_BYTES_MAX: u64 = 4 << 10;

/// The next message; nothing at the end.
///
/// # Errors
/// What comes in is no message.
pub fn read(input: &mut impl BufRead) -> io::Result<Option<Value>> {
    let broken = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut length = None;
    loop {
        let mut line = String::new();
        if input.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken("a line of a head has no colon"))?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        }
    }
    let length: u64 = length.ok_or_else(|| broken("a head does not say how long"))?;
    if length > BYTES_MAX {
        return Err(broken("a message is too long"));
    }
    let mut body = Vec::new();
    input.by_ref().take(length).read_to_end(&mut body)?;
    if body.len() as u64 != length {
        return Ok(None);
    }
    serde_json::from_slice(&body).map(Some).map_err(io::Error::from)
}

pub fn written(message: &Value) -> Vec<u8> {
    let body = message.to_string();
    format!("Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The path of a `file:` reference.
pub fn path(uri: &str) -> Option<PathBuf> {
    let rest = uri.strip_prefix("file://")?;
    // What stands before the path is this machine.
    let rest = rest.strip_prefix("localhost").unwrap_or(rest);
    let mut out = Vec::new();
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(match byte {
            b'%' => u8::try_from(digit()? * 16 + digit()?).ok()?,
            other => other,
        });
    }
    Some(PathBuf::from(String::from_utf8(out).ok()?)).filter(|path| path.is_absolute())
}

pub fn uri(path: &Path) -> String {
    let mut out = "file://".to_owned();
    for byte in path.display().to_string().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte))
            }
            // Writing to a string cannot fail.
            other => drop(write!(out, "%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_are_written() {
        let message = serde_json::json!({ "jsonrpc": "2.0", "method": "나루" });
        let twice = [written(&message), written(&message)].concat();
        let mut input = twice.as_slice();
        assert_eq!(read(&mut input).unwrap(), Some(message.clone()));
        assert_eq!(read(&mut input).unwrap(), Some(message));
        assert_eq!(read(&mut input).unwrap(), None);
    }

    #[test]
    fn what_is_no_message_ends_it() {
        for bytes in [
            "x\r\n\r\n",
            "Content-Type: a\r\n\r\n{}",
            "Content-Length: 99999999999\r\n\r\n",
            "Content-Length: 2\r\n\r\n{]",
        ] {
            assert!(read(&mut bytes.as_bytes()).is_err(), "{bytes:?}");
        }
        assert_eq!(read(&mut &b"Content-Length: 20\r\n\r\n{}"[..]).unwrap(), None);
    }

    #[test]
    fn a_path_is_a_reference_and_back() {
        for text in ["/a/b.yaml", "/a b/나루%.yaml"] {
            assert_eq!(path(&uri(Path::new(text))), Some(PathBuf::from(text)));
        }
        for text in ["http://a/b", "file://a/b", "file:///%zz", "untitled:1"] {
            assert_eq!(path(text), None, "{text}");
        }
    }
}
