//! Word of changes.
//!
//! The paths are looked at again and again. That costs a few system calls for each file, works on
//! every file system, and sees what editors do: write, rename over, remove and write anew.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::{ReadError, Texts, files};

/// Between two looks, unless it is said otherwise. A change is told after two looks that see the same, so that a file that is half
/// written is not read.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Paths that are watched.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    known: Texts,
    /// What was there when `known` was read.
    seen: Option<Vec<Mark>>,
    /// Something else, that is there since the last look.
    new: Option<Vec<Mark>>,
    /// That nothing can be read has been told.
    has_told: bool,
    look_every: Duration,
}

/// What changes when a file changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    path: PathBuf,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Watch {
    /// Begins with what was read.
    pub fn new(paths: Vec<PathBuf>, known: Texts) -> Watch {
        Watch { paths, known, seen: None, new: None, has_told: false, look_every: LOOK_EVERY }
    }

    /// Looks as often as this.
    #[must_use]
    pub fn every(self, look_every: Duration) -> Watch {
        Watch { look_every, ..self }
    }

    /// The texts, once they are others than before. May be dropped and called again.
    ///
    /// # Errors
    /// The paths cannot be read any more; told once.
    pub async fn changed(&mut self) -> Result<Texts, ReadError> {
        loop {
            tokio::time::sleep(self.look_every).await;
            match self.look() {
                Ok(Some(texts)) => return Ok(texts),
                Ok(None) => self.has_told = false,
                Err(error) if !self.has_told => {
                    self.has_told = true;
                    return Err(error);
                }
                Err(_) => {}
            }
        }
    }

    fn look(&mut self) -> Result<Option<Texts>, ReadError> {
        let now = self.marks()?;
        if self.seen.as_ref() == Some(&now) {
            self.new = None;
            return Ok(None);
        }
        if self.new.as_ref() != Some(&now) {
            self.new = Some(now);
            return Ok(None);
        }
        let texts = Texts::read(&self.paths)?;
        self.seen = Some(now);
        self.new = None;
        if texts == self.known {
            return Ok(None);
        }
        self.known = texts.clone();
        Ok(Some(texts))
    }

    fn marks(&self) -> Result<Vec<Mark>, ReadError> {
        let mut marks = Vec::new();
        for path in &self.paths {
            for path in files(path)? {
                // One that went away between the list and this look is seen at the next.
                let Ok(metadata) = std::fs::metadata(&path) else { continue };
                marks.push(Mark {
                    path,
                    inode: metadata.ino(),
                    bytes: metadata.len(),
                    modified: (metadata.mtime(), metadata.mtime_nsec()),
                });
            }
        }
        Ok(marks)
    }
}
