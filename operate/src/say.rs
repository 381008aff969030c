//! Answers on standard output.

use std::io::{ErrorKind, Write as _, stdout};

/// Writes an answer. A reader that has seen enough and left (`naru .. | head`) is no error.
pub fn say(answer: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    match out.write_all(answer.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
