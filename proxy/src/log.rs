//! Where access log lines go.
//!
//! A worker gathers lines in a buffer for each sink and hands it over when it is full or a little
//! old. One thread writes; a disk that hangs costs lines (which are counted), never requests.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use naru_spec::LogSink;
use tokio::sync::Notify;

/// A buffer is handed over at this size.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// And at this age.
const BUFFER_AGE_MAX: Duration = Duration::from_millis(200);
/// So many buffers may wait to be written.
const QUEUE_MAX: usize = 64;

/// A sink of the snapshot, by its place in the writer's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkId(pub usize);

/// What workers send to the writer.
#[derive(Debug)]
pub enum Job {
    Lines {
        sink: SinkId,
        lines: Vec<u8>,
    },
    /// Everything sent before is on its way to the file.
    Flush(SyncSender<()>),
}

/// The thread that writes.
#[derive(Clone, Debug)]
pub struct LogWriter {
    jobs_tx: SyncSender<Job>,
    sinks: Arc<BTreeMap<LogSink, SinkId>>,
}

impl LogWriter {
    /// Opens every sink, files for appending.
    pub fn start(sinks: impl IntoIterator<Item = LogSink>) -> io::Result<LogWriter> {
        let mut ids = BTreeMap::new();
        let mut outputs: Vec<Output> = Vec::new();
        for sink in sinks {
            if let Entry::Vacant(entry) = ids.entry(sink) {
                outputs.push(Output::open(entry.key())?);
                entry.insert(SinkId(outputs.len() - 1));
            }
        }
        let (jobs_tx, jobs_rx) = sync_channel(QUEUE_MAX);
        std::thread::Builder::new()
            .name("naru-log".to_owned())
            .spawn(move || write_all(&jobs_rx, &mut outputs))?;
        Ok(LogWriter { jobs_tx, sinks: ids.into() })
    }

    pub fn sink(&self, sink: &LogSink) -> Option<SinkId> {
        self.sinks.get(sink).copied()
    }

    /// Waits until what was sent before is written.
    pub fn flush(&self) {
        let (done_tx, done_rx) = sync_channel(1);
        if self.jobs_tx.send(Job::Flush(done_tx)).is_ok() {
            // An error means that the writer is gone, and nothing is left to wait for.
            let _ = done_rx.recv();
        }
    }
}

#[derive(Debug)]
enum Output {
    File(File),
    Stdout,
    Stderr,
}

impl Output {
    fn open(sink: &LogSink) -> io::Result<Output> {
        match sink {
            LogSink::Stdout => Ok(Output::Stdout),
            LogSink::Stderr => Ok(Output::Stderr),
            LogSink::File(path) => {
                OpenOptions::new().create(true).append(true).open(path).map(Output::File).map_err(|error| {
                    io::Error::new(error.kind(), format!("the access log '{path}' cannot be opened: {error}"))
                })
            }
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Output::File(file) => file.write_all(lines),
            Output::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Output::Stderr => io::stderr().lock().write_all(lines),
        }
    }
}

fn write_all(jobs_rx: &Receiver<Job>, outputs: &mut [Output]) {
    for job in jobs_rx {
        match job {
            Job::Lines { sink, lines } => {
                if let Some(output) = outputs.get_mut(sink.0) {
                    // A full disk must not stop traffic; the line is lost, as it would be anywhere.
                    let _ = output.write(&lines);
                }
            }
            Job::Flush(done_tx) => drop(done_tx.send(())),
        }
    }
}

/// A worker's end.
#[derive(Debug)]
pub struct Logs {
    writer: LogWriter,
    buffers: RefCell<Vec<Vec<u8>>>,
    has_lines: Notify,
    pub lines_dropped: Cell<u64>,
}

impl Logs {
    pub fn new(writer: LogWriter) -> Logs {
        let buffers = vec![Vec::new(); writer.sinks.len()];
        Logs { writer, buffers: RefCell::new(buffers), has_lines: Notify::new(), lines_dropped: Cell::new(0) }
    }

    pub fn writer(&self) -> &LogWriter {
        &self.writer
    }

    /// Adds what `line` appends.
    #[inline]
    pub fn write(&self, sink: SinkId, line: impl FnOnce(&mut Vec<u8>)) {
        let mut buffers = self.buffers.borrow_mut();
        let Some(buffer) = buffers.get_mut(sink.0) else { return };
        let was_empty = buffer.is_empty();
        line(buffer);
        if buffer.len() >= BUFFER_BYTES_MAX {
            self.hand_over(sink, buffer);
        } else if was_empty {
            self.has_lines.notify_one();
        }
    }

    fn hand_over(&self, sink: SinkId, buffer: &mut Vec<u8>) {
        let capacity = buffer.len() + buffer.len() / 8;
        let lines = std::mem::replace(buffer, Vec::with_capacity(capacity.min(2 * BUFFER_BYTES_MAX)));
        if let Err(
            TrySendError::Full(Job::Lines { lines, .. })
            | TrySendError::Disconnected(Job::Lines { lines, .. }),
        ) = self.writer.jobs_tx.try_send(Job::Lines { sink, lines })
        {
            let lost = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.lines_dropped.set(self.lines_dropped.get() + lost);
        }
    }

    /// Hands over whatever there is.
    pub fn flush(&self) {
        for (at, buffer) in self.buffers.borrow_mut().iter_mut().enumerate() {
            if !buffer.is_empty() {
                self.hand_over(SinkId(at), buffer);
            }
        }
    }

    /// Hands lines over when they are old enough; runs for as long as the worker does.
    pub async fn flush_in_time(self: Rc<Logs>) {
        loop {
            self.has_lines.notified().await;
            tokio::time::sleep(BUFFER_AGE_MAX).await;
            self.flush();
        }
    }
}
