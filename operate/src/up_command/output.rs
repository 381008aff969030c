//! What processes say, with their names before it.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use naru_workloads::{Line, Sink};

/// Lines that wait to be written. A reader that is slow costs lines, and keeps nobody waiting.
const LINES_MAX: usize = 4_096;

/// Colours that can be read on black and on white.
const COLOURS: [u8; 6] = [36, 32, 33, 35, 34, 31];

/// Writes lines to standard output from a thread of its own.
pub fn sink() -> Sink {
    let is_coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (lines_tx, lines_rx) = sync_channel::<Line>(LINES_MAX);
    std::thread::spawn(move || {
        let mut width = 0;
        for line in lines_rx {
            width = width.max(line.instance.len());
            let text = write(&line, width, is_coloured);
            // A reader that has left is no error.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
        }
    });
    Arc::new(move |line| send(&lines_tx, line))
}

fn send(lines_tx: &SyncSender<Line>, line: Line) {
    // Full: the line is lost, and the processes go on.
    let _ = lines_tx.try_send(line);
}

fn write(line: &Line, width: usize, is_coloured: bool) -> String {
    let Line { instance, text, is_own } = line;
    let mark = if *is_own { "naru: " } else { "" };
    // A process may not move the cursor of whoever watches.
    let text: String = text.chars().filter(|c| !c.is_control() || *c == '\t' || *c == '\u{1b}').collect();
    if !is_coloured {
        let text = text.replace('\u{1b}', "");
        return format!("{instance:width$} | {mark}{text}\n");
    }
    let sum: usize = instance.bytes().map(usize::from).sum();
    let colour = COLOURS[sum % COLOURS.len()];
    format!("\x1b[{colour}m{instance:width$} |\x1b[0m {mark}{text}\x1b[0m\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_name_of_its_process_before_it() {
        let line = Line { instance: "a-0".to_owned(), text: "hi\u{7}\u{1b}[2J".to_owned(), is_own: false };
        assert_eq!(write(&line, 5, false), "a-0   | hi[2J\n");
        let own = Line { is_own: true, text: "it ended".to_owned(), ..line };
        assert_eq!(write(&own, 3, false), "a-0 | naru: it ended\n");
        assert!(write(&own, 3, true).starts_with("\x1b[3"));
    }
}
