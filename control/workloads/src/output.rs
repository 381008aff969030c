//! What processes say, line by line.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// A longer line is told in pieces.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// A line of a process, or one about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `reviews-v1-0`
    pub instance: String,
    pub text: String,
    /// It is naru that speaks.
    pub is_own: bool,
}

/// Where lines go. Called from the supervisor's tasks: it should not wait.
pub type Sink = Arc<dyn Fn(Line) + Send + Sync>;

/// Hands every line on until the process closes its end.
pub async fn follow(stream: impl AsyncRead + Unpin, instance: String, sink: Sink) {
    let mut reader = BufReader::with_capacity(LINE_BYTES_MAX, stream);
    let mut line = Vec::new();
    // A read that fails is the end, like any other.
    while let Ok(available) = reader.fill_buf().await {
        if available.is_empty() {
            break;
        }
        let (part, has_ended) = match available.iter().position(|byte| *byte == b'\n') {
            Some(at) => (&available[..at], true),
            None => (available, false),
        };
        line.extend_from_slice(part);
        let taken = part.len() + usize::from(has_ended);
        reader.consume(taken);
        if has_ended || line.len() >= LINE_BYTES_MAX {
            tell(&mut line, &instance, &sink);
        }
    }
    if !line.is_empty() {
        tell(&mut line, &instance, &sink);
    }
}

fn tell(line: &mut Vec<u8>, instance: &str, sink: &Sink) {
    let text = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
    line.clear();
    sink(Line { instance: instance.to_owned(), text, is_own: false });
}
