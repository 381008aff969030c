//! Where access log lines go.
//!
//! A worker gathers lines in a buffer for each sink and hands it over when it is full or a little
//! old. One thread writes; a disk that hangs costs lines (which are counted), never requests.
//!
//! A sink is open for as long as a snapshot names it or lines for it are under way. So one that stays
//! when the configuration changes is not opened again, and one that is gone closes by itself.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use naru_spec::LogSink;
use tokio::sync::Notify;

/// A buffer is handed over at this size.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// And at this age.
const BUFFER_AGE_MAX: Duration = Duration::from_millis(200);
/// So many buffers may wait to be written.
const QUEUE_MAX: usize = 64;

/// The thread that writes.
#[derive(Clone, Debug)]
pub struct LogWriter {
    jobs_tx: SyncSender<Job>,
    /// What is open.
    sinks: Arc<Mutex<BTreeMap<LogSink, Weak<Sink>>>>,
    recent: Arc<Recent>,
}

/// What workers send to the writer.
#[derive(Debug)]
enum Job {
    Lines {
        sink: Arc<Sink>,
        lines: Vec<u8>,
    },
    /// Everything sent before is on its way to the file.
    Flush(SyncSender<()>),
}

impl LogWriter {
    pub fn start() -> io::Result<LogWriter> {
        let (jobs_tx, jobs_rx) = sync_channel(QUEUE_MAX);
        std::thread::Builder::new().name("naru-log".to_owned()).spawn(move || write_all(&jobs_rx))?;
        Ok(LogWriter { jobs_tx, sinks: Arc::default(), recent: Arc::default() })
    }

    /// Opens a sink, a file for appending, unless it is open.
    pub fn open(&self, wanted: &LogSink) -> io::Result<Arc<Sink>> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = sinks.get(wanted).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let opened = Arc::new(match wanted {
            LogSink::Recent => Sink::Recent(Arc::clone(&self.recent)),
            wanted => Sink::open(wanted)?,
        });
        sinks.retain(|_, sink| sink.strong_count() > 0);
        sinks.insert(wanted.clone(), Arc::downgrade(&opened));
        Ok(opened)
    }

    /// The last lines for [`LogSink::Recent`].
    pub fn recent(&self) -> &Recent {
        &self.recent
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

/// Where lines are written.
#[derive(Debug)]
pub enum Sink {
    File(File),
    Stdout,
    Stderr,
    Recent(Arc<Recent>),
}

/// The last lines, in pieces as workers hand them over. Only the thread that writes and whoever asks take the lock.
#[derive(Debug)]
pub struct Recent {
    kept: Mutex<(VecDeque<Vec<u8>>, usize)>,
    bytes_max: AtomicUsize,
}

impl Default for Recent {
    fn default() -> Recent {
        Recent { kept: Mutex::default(), bytes_max: AtomicUsize::new(4 << 20) }
    }
}

impl Recent {
    /// As many bytes are kept, and at least the last piece.
    pub fn keep(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    fn add(&self, mut lines: Vec<u8>) {
        // What has much more room than it needs gives it back.
        if lines.capacity() > lines.len() + lines.len() / 4 {
            lines.shrink_to_fit();
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (pieces, bytes) = &mut *kept;
        *bytes += lines.len();
        pieces.push_back(lines);
        while *bytes > self.bytes_max.load(Ordering::Relaxed) && pieces.len() > 1 {
            *bytes -= pieces.pop_front().map_or(0, |piece| piece.len());
        }
    }

    /// Everything that is kept, the oldest first.
    pub fn lines(&self) -> Vec<u8> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0.iter().flatten().copied().collect()
    }
}

impl Sink {
    fn open(sink: &LogSink) -> io::Result<Sink> {
        match sink {
            LogSink::Stdout => Ok(Sink::Stdout),
            LogSink::Stderr => Ok(Sink::Stderr),
            LogSink::Recent => Ok(Sink::Recent(Arc::default())),
            LogSink::File(path) => {
                OpenOptions::new().create(true).append(true).open(path).map(Sink::File).map_err(|error| {
                    io::Error::new(error.kind(), format!("the access log '{path}' cannot be opened: {error}"))
                })
            }
        }
    }

    fn write(&self, lines: Vec<u8>) -> io::Result<()> {
        match self {
            Sink::File(file) => {
                let mut file = file;
                file.write_all(&lines)
            }
            Sink::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(&lines)?;
                out.flush()
            }
            Sink::Stderr => io::stderr().lock().write_all(&lines),
            Sink::Recent(recent) => {
                recent.add(lines);
                Ok(())
            }
        }
    }
}

fn write_all(jobs_rx: &Receiver<Job>) {
    for job in jobs_rx {
        match job {
            // A full disk must not stop traffic; the line is lost, as it would be anywhere.
            Job::Lines { sink, lines } => drop(sink.write(lines)),
            Job::Flush(done_tx) => drop(done_tx.send(())),
        }
    }
}

/// A worker's end.
#[derive(Debug)]
pub struct Logs {
    writer: LogWriter,
    buffers: RefCell<Vec<Rc<Buffer>>>,
    has_lines: Notify,
    pub lines_dropped: Cell<u64>,
}

/// The lines of one worker for one sink.
#[derive(Debug)]
pub struct Buffer {
    sink: Arc<Sink>,
    lines: RefCell<Vec<u8>>,
}

impl Logs {
    pub fn new(writer: LogWriter) -> Logs {
        Logs { writer, buffers: RefCell::default(), has_lines: Notify::new(), lines_dropped: Cell::new(0) }
    }

    /// The buffer for a sink. It is kept for as long as anybody has it.
    pub fn buffer(&self, sink: &Arc<Sink>) -> Rc<Buffer> {
        let mut buffers = self.buffers.borrow_mut();
        if let Some(known) = buffers.iter().find(|buffer| Arc::ptr_eq(&buffer.sink, sink)) {
            return Rc::clone(known);
        }
        let new = Rc::new(Buffer { sink: Arc::clone(sink), lines: RefCell::default() });
        buffers.push(Rc::clone(&new));
        new
    }

    /// Adds what `line` appends.
    #[inline]
    pub fn write(&self, buffer: &Buffer, line: impl FnOnce(&mut Vec<u8>)) {
        let mut lines = buffer.lines.borrow_mut();
        let was_empty = lines.is_empty();
        line(&mut lines);
        if lines.len() >= BUFFER_BYTES_MAX {
            self.hand_over(&buffer.sink, &mut lines);
        } else if was_empty {
            self.has_lines.notify_one();
        }
    }

    fn hand_over(&self, sink: &Arc<Sink>, buffer: &mut Vec<u8>) {
        let capacity = buffer.len() + buffer.len() / 8;
        let lines = std::mem::replace(buffer, Vec::with_capacity(capacity.min(2 * BUFFER_BYTES_MAX)));
        if let Err(
            TrySendError::Full(Job::Lines { lines, .. })
            | TrySendError::Disconnected(Job::Lines { lines, .. }),
        ) = self.writer.jobs_tx.try_send(Job::Lines { sink: Arc::clone(sink), lines })
        {
            let lost = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.lines_dropped.set(self.lines_dropped.get() + lost);
        }
    }

    /// Hands over whatever there is, and lets go of buffers that nobody writes to any more.
    pub fn flush(&self) {
        self.buffers.borrow_mut().retain(|buffer| {
            let mut lines = buffer.lines.borrow_mut();
            if !lines.is_empty() {
                self.hand_over(&buffer.sink, &mut lines);
            }
            Rc::strong_count(buffer) > 1
        });
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
