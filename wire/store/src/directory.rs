//! A file of this machine: redb, pages with checksums, one writer.
//!
//! A thread writes. What waits while it does is written together by the next commit, so that many sessions that are
//! refreshed at once, as after a key was replaced, cost a few commits. What was answered is on disk.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use naru_base::WallTime;
use naru_session::{Cursor, Id};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tokio::sync::oneshot;

use crate::{Away, PAGE_MAX, Pair, RING, Rows, Swapped, Write};

/// By name: until when, and what.
const VALUES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("values");
const REVOKED: TableDefinition<'_, u64, (u128, u64)> = TableDefinition::new("revoked");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const EPOCH: &str = "epoch";
const SEQ: &str = "seq";
const CACHE_BYTES: usize = 8 << 20;
/// So many are written by one commit.
const BATCH_MAX: usize = 512;
/// What has expired is thrown away this often.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(crate) struct Directory {
    database: Arc<Database>,
    tasks_tx: mpsc::Sender<Task>,
}

enum Task {
    Swap(WallTime, Write, oneshot::Sender<Result<Swapped, Away>>),
    Tell(WallTime, Vec<(Id, WallTime)>, oneshot::Sender<Result<(), Away>>),
    /// Draws an epoch where there is none.
    Begin(u64, oneshot::Sender<Result<(), Away>>),
}

fn away(error: impl std::fmt::Display) -> Away {
    Away(error.to_string())
}

impl Directory {
    pub fn open(path: &str, name: &str) -> Result<Directory, Away> {
        let path = Path::new(path);
        // Nobody else has anything to do there.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| Away(format!("{}: {error}", path.display())))?;
        let file = path.join(format!("{}.redb", file_name(name)));
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(&file);
        let database = database.map_err(|error| Away(format!("{}: {error}", file.display())))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(away)?;
        let begin = database.begin_write().map_err(away)?;
        begin.open_table(VALUES).map_err(away)?;
        begin.open_table(REVOKED).map_err(away)?;
        begin.open_table(NUMBERS).map_err(away)?;
        begin.commit().map_err(away)?;
        let database = Arc::new(database);
        let (tasks_tx, tasks_rx) = mpsc::channel();
        let writer = Writer { database: Arc::clone(&database), swept: WallTime(0) };
        let thread = std::thread::Builder::new().name("naru-store".to_owned());
        thread.spawn(move || writer.run(&tasks_rx)).map_err(away)?;
        Ok(Directory { database, tasks_tx })
    }

    pub async fn news(&self, cursor: Cursor, epoch: u64) -> Result<Rows, Away> {
        let rows = self.rows(cursor)?;
        if rows.cursor.epoch != 0 {
            return Ok(rows);
        }
        self.ask(|done_tx| Task::Begin(epoch, done_tx)).await?;
        self.rows(cursor)
    }

    fn rows(&self, cursor: Cursor) -> Result<Rows, Away> {
        let read = self.database.begin_read().map_err(away)?;
        let numbers = read.open_table(NUMBERS).map_err(away)?;
        let epoch = numbers.get(EPOCH).map_err(away)?.map_or(0, |epoch| epoch.value());
        let from = if epoch == cursor.epoch { cursor.seq } else { 0 };
        let list = read.open_table(REVOKED).map_err(away)?;
        let mut revoked = Vec::new();
        let mut seq = from;
        let mut rest = list.range(from.saturating_add(1)..).map_err(away)?;
        for row in rest.by_ref().take(PAGE_MAX) {
            let (at, row) = row.map_err(away)?;
            let (id, until) = row.value();
            seq = at.value();
            revoked.push((Id(id), WallTime(until)));
        }
        let is_partial = rest.next().is_some();
        let values = read.open_table(VALUES).map_err(away)?;
        let ring = values.get(RING).map_err(away)?.map(|value| value.value().1.to_vec());
        Ok(Rows { cursor: Cursor { epoch, seq }, revoked, is_partial, ring })
    }

    pub fn read(&self, name: &str) -> Result<Pair, Away> {
        let read = self.database.begin_read().map_err(away)?;
        let values = read.open_table(VALUES).map_err(away)?;
        let value = |name: &str| -> Result<Option<Vec<u8>>, Away> {
            Ok(values.get(name).map_err(away)?.map(|value| value.value().1.to_vec()))
        };
        Ok((value(RING)?, value(name)?))
    }

    pub async fn swap(&self, now: WallTime, write: Write) -> Result<Swapped, Away> {
        self.ask(|done_tx| Task::Swap(now, write, done_tx)).await
    }

    pub async fn tell(&self, now: WallTime, revoked: Vec<(Id, WallTime)>) -> Result<(), Away> {
        self.ask(|done_tx| Task::Tell(now, revoked, done_tx)).await
    }

    async fn ask<T>(&self, task: impl FnOnce(oneshot::Sender<Result<T, Away>>) -> Task) -> Result<T, Away> {
        let ended = |_| Away("the thread that writes has ended".to_owned());
        let (done_tx, done_rx) = oneshot::channel();
        self.tasks_tx.send(task(done_tx)).map_err(|_| ended(()))?;
        done_rx.await.map_err(|_| ended(()))?
    }
}

/// Of letters that every file system has.
fn file_name(name: &str) -> String {
    let known = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '.' };
    name.chars().map(known).collect()
}

/// Tells who has asked, once it is known whether it is on disk.
type Told = Box<dyn FnOnce(Result<(), Away>)>;

struct Writer {
    database: Arc<Database>,
    swept: WallTime,
}

impl Writer {
    /// Until nobody can ask any more.
    fn run(mut self, tasks_rx: &mpsc::Receiver<Task>) {
        while let Ok(first) = tasks_rx.recv() {
            let more = std::iter::from_fn(|| tasks_rx.try_recv().ok()).take(BATCH_MAX - 1);
            let batch: Vec<Task> = std::iter::once(first).chain(more).collect();
            self.write(batch);
        }
    }

    fn write(&mut self, batch: Vec<Task>) {
        let mut answers: Vec<Told> = Vec::new();
        let written = (|| {
            let write = self.database.begin_write().map_err(away)?;
            for task in batch {
                answers.push(self.carry_out(&write, task));
            }
            write.commit().map_err(away)
        })();
        // Nobody is told before all of it is on disk.
        for answer in answers {
            answer(written.clone());
        }
    }

    /// Returns what is to be answered once it is on disk. Who has asked may have gone.
    fn carry_out(&mut self, write: &WriteTransaction, task: Task) -> Told {
        match task {
            Task::Swap(now, wanted, done_tx) => {
                let result = swap(write, &wanted).and_then(|swapped| {
                    self.sweep(write, now)?;
                    Ok(swapped)
                });
                Box::new(move |written| {
                    let _ = done_tx.send(written.and(result));
                })
            }
            Task::Tell(now, revoked, done_tx) => {
                let result = tell(write, &revoked).and_then(|()| self.sweep(write, now));
                Box::new(move |written| {
                    let _ = done_tx.send(written.and(result));
                })
            }
            Task::Begin(epoch, done_tx) => {
                let result = begin(write, epoch);
                Box::new(move |written| {
                    let _ = done_tx.send(written.and(result));
                })
            }
        }
    }

    fn sweep(&mut self, write: &WriteTransaction, now: WallTime) -> Result<(), Away> {
        if now < self.swept + SWEEP_EVERY {
            return Ok(());
        }
        self.swept = now;
        let mut values = write.open_table(VALUES).map_err(away)?;
        values.retain(|_, (until, _)| until > now.0).map_err(away)?;
        let mut list = write.open_table(REVOKED).map_err(away)?;
        list.retain(|_, (_, until)| until > now.0).map_err(away)
    }
}

fn swap(write: &WriteTransaction, wanted: &Write) -> Result<Swapped, Away> {
    let mut values = write.open_table(VALUES).map_err(away)?;
    let there = values.get(wanted.name.as_str()).map_err(away)?.map(|value| value.value().1.to_vec());
    if there != wanted.expected {
        return Ok(Swapped::Beaten(there));
    }
    let until = wanted.until.map_or(u64::MAX, |until| until.0);
    values.insert(wanted.name.as_str(), (until, wanted.value.as_slice())).map_err(away)?;
    Ok(Swapped::Done)
}

fn tell(write: &WriteTransaction, revoked: &[(Id, WallTime)]) -> Result<(), Away> {
    let mut numbers = write.open_table(NUMBERS).map_err(away)?;
    let mut seq = numbers.get(SEQ).map_err(away)?.map_or(0, |seq| seq.value());
    let mut list = write.open_table(REVOKED).map_err(away)?;
    for (id, until) in revoked {
        seq = seq.saturating_add(1);
        list.insert(seq, (id.0, until.0)).map_err(away)?;
    }
    numbers.insert(SEQ, seq).map_err(away)?;
    Ok(())
}

fn begin(write: &WriteTransaction, epoch: u64) -> Result<(), Away> {
    let mut numbers = write.open_table(NUMBERS).map_err(away)?;
    if numbers.get(EPOCH).map_err(away)?.is_none() {
        numbers.insert(EPOCH, epoch.max(1)).map_err(away)?;
    }
    Ok(())
}
