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
    let mut is_told_in_part = false;
    // A read that fails is the end, like any other.
    while let Ok(available) = reader.fill_buf().await {
        if available.is_empty() {
            break;
        }
        let room = LINE_BYTES_MAX - line.len();
        let (taken, has_ended) = match available.iter().position(|byte| *byte == b'\n') {
            Some(at) if at <= room => (at, true),
            _ => (available.len().min(room), false),
        };
        line.extend_from_slice(&available[..taken]);
        reader.consume(taken + usize::from(has_ended));
        let is_full = !has_ended && line.len() == LINE_BYTES_MAX;
        // Where a long line ends with its last piece, nothing is left to tell.
        if is_full || has_ended && !(line.is_empty() && is_told_in_part) {
            tell(&mut line, &instance, &sink);
        }
        is_told_in_part = is_full || is_told_in_part && !has_ended;
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn lines(bytes: &[u8]) -> Vec<String> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&told);
        let sink: Sink = Arc::new(move |line| keep.lock().unwrap().push(line.text));
        follow(bytes, "a-0".to_owned(), sink).await;
        let told = told.lock().unwrap();
        told.clone()
    }

    #[tokio::test]
    async fn lines_are_handed_on_whatever_is_in_them() {
        assert_eq!(lines(b"a\r\n\nb").await, ["a", "", "b"]);
        assert_eq!(lines(b"\xff\x00\n").await, ["\u{fffd}\u{0}"]);
        assert_eq!(lines(b"").await, [""; 0]);
    }

    #[tokio::test]
    async fn a_long_line_is_told_in_pieces() {
        for length in [LINE_BYTES_MAX, LINE_BYTES_MAX + 1, 3 * LINE_BYTES_MAX - 1, 3 * LINE_BYTES_MAX] {
            let mut text = vec![b'x'; length];
            text.extend(b"\nend\n");
            let told = lines(&text).await;
            let (end, pieces) = told.split_last().unwrap();
            assert_eq!(end, "end");
            assert_eq!(pieces.concat().len(), length);
            assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= LINE_BYTES_MAX));
        }
    }
}
