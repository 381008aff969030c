//! Word of changes.
//!
//! The kernel says at once that something has happened ([`Bell`]); then the paths are looked at. Where it cannot say so,
//! they are looked at again and again, which costs a few system calls for each file, works on every file system, and sees
//! what editors do: write, rename over, remove and write anew. So a look comes now and then also where the kernel tells:
//! of what others write to a file system over a network it knows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::bell::Bell;
use crate::listing::Listing;
use crate::{ReadError, Texts, read};

/// Between two looks, unless it is said otherwise, where nobody says that something has happened. A change is told after
/// two looks that see the same, so that a file that is half written is not read.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The same where somebody does.
const LOOK_SELDOM: Duration = Duration::from_secs(2);
/// Nothing has happened for so long: a change is whole. While a file is written and not closed, it is [`LOOK_EVERY`].
const QUIET: Duration = Duration::from_millis(20);
/// A directory in which something happens all the time is looked at all the same.
const QUIET_TRIES_MAX: u32 = 200;

/// Paths that are watched.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    known: Texts,
    /// What was there when `known` was read.
    seen: Option<Vec<Mark>>,
    /// Something else, that is there since the last look.
    new: Option<Vec<Mark>>,
    /// The last look could not read it. Another one follows before that is told: a volume of Kubernetes that loses a file
    /// has a link that leads nowhere for a moment.
    has_failed: bool,
    /// That nothing can be read has been told.
    has_told: bool,
    look_every: Duration,
    bell: Hearing,
    /// Something has happened since the last look.
    has_rung: bool,
}

/// Whether the kernel tells of changes.
#[derive(Debug)]
enum Hearing {
    NotAsked,
    Bell(Bell),
    /// It cannot, or is not to.
    Deaf,
}

/// What changes when a file changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    path: PathBuf,
    is_link: bool,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Watch {
    /// Begins with what was read.
    pub fn new(paths: Vec<PathBuf>, known: Texts) -> Watch {
        Watch {
            paths,
            known,
            seen: None,
            new: None,
            has_failed: false,
            has_told: false,
            look_every: LOOK_EVERY,
            bell: Hearing::NotAsked,
            has_rung: false,
        }
    }

    /// Looks as often as this, and at no other time.
    #[must_use]
    pub fn every(self, look_every: Duration) -> Watch {
        Watch { look_every, bell: Hearing::Deaf, ..self }
    }

    /// The texts, once they are others than before. May be dropped and called again.
    ///
    /// # Errors
    /// The paths cannot be read any more; told once.
    pub async fn changed(&mut self) -> Result<Texts, ReadError> {
        loop {
            let is_quiet = self.wait().await;
            match self.look(is_quiet) {
                Ok(Some(texts)) => {
                    (self.has_failed, self.has_told) = (false, false);
                    return Ok(texts);
                }
                Ok(None) => (self.has_failed, self.has_told) = (false, false),
                Err(error) if self.has_failed && !self.has_told => {
                    self.has_told = true;
                    return Err(error);
                }
                Err(_) => self.has_failed = true,
            }
        }
    }

    /// Until there may be something to be seen. Whether what has happened is over, so that one look is enough.
    async fn wait(&mut self) -> bool {
        if matches!(self.bell, Hearing::NotAsked) {
            // What has changed since the paths were read last was said to nobody: it is looked for now.
            self.bell = Bell::new().map_or(Hearing::Deaf, Hearing::Bell);
            self.listen();
            return false;
        }
        let Hearing::Bell(bell) = &mut self.bell else {
            tokio::time::sleep(self.look_every).await;
            return false;
        };
        if !self.has_rung {
            let is_open = self.new.is_some() || self.has_failed && !self.has_told;
            let next = if is_open { self.look_every } else { LOOK_SELDOM };
            match tokio::time::timeout(next, bell.rings()).await {
                Err(_) => return false,
                Ok(Err(_)) => {
                    self.bell = Hearing::Deaf;
                    return false;
                }
                // Whoever gives up waiting now looks the next time.
                Ok(Ok(())) => self.has_rung = true,
            }
        }
        for _ in 0..QUIET_TRIES_MAX {
            let quiet = if bell.is_written() { LOOK_EVERY } else { QUIET };
            match tokio::time::timeout(quiet, bell.rings()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break,
                Err(_) => {
                    bell.forget_open();
                    return true;
                }
            }
        }
        false
    }

    /// Hears of all directories that there are now.
    fn listen(&mut self) {
        let listings = self.paths.iter().filter_map(|path| Listing::of(path).ok());
        let directories: BTreeSet<PathBuf> = listings.flat_map(|listing| listing.directories).collect();
        self.hear_of(&directories);
    }

    fn hear_of(&mut self, directories: &BTreeSet<PathBuf>) {
        if let Hearing::Bell(bell) = &mut self.bell
            && bell.watch(directories).is_err()
        {
            self.bell = Hearing::Deaf;
        }
    }

    fn look(&mut self, is_quiet: bool) -> Result<Option<Texts>, ReadError> {
        self.has_rung = false;
        let (now, directories) = self.marks()?;
        self.hear_of(&directories);
        let touched = match &mut self.bell {
            Hearing::Bell(bell) => Some(bell.touched().clone()),
            Hearing::NotAsked | Hearing::Deaf => None,
        };
        let is_touched = |path: &PathBuf| touched.as_ref().is_some_and(|touched| touched.contains(path));
        if self.seen.as_ref() == Some(&now) && !now.iter().any(|mark| is_touched(&mark.path)) {
            self.new = None;
            self.forget_touched();
            return Ok(None);
        }
        if !is_quiet && self.new.as_ref() != Some(&now) {
            self.new = Some(now);
            return Ok(None);
        }
        self.forget_touched();
        // What is as it was when it was read, and was not touched since, is not read again.
        let before: BTreeMap<&PathBuf, &Mark> = match &touched {
            Some(_) => self.seen.iter().flatten().map(|mark| (&mark.path, mark)).collect(),
            None => BTreeMap::new(),
        };
        let same = now
            .iter()
            .filter(|mark| before.get(&mark.path) == Some(mark) && !mark.is_link && !is_touched(&mark.path));
        let same: BTreeSet<String> = same.map(|mark| mark.path.display().to_string()).collect();
        let mut known: BTreeMap<&str, &String> =
            self.known.files.iter().map(|(name, text)| (name.as_str(), text)).collect();
        known.retain(|name, _| same.contains(*name));
        let mut texts = Texts::default();
        for mark in &now {
            let name = mark.path.display().to_string();
            let text = match known.get(name.as_str()) {
                Some(text) => (*text).clone(),
                None => read(&mark.path).map_err(|error| ReadError { path: mark.path.clone(), error })?,
            };
            texts.files.push((name, text));
        }
        if let Hearing::Bell(bell) = &mut self.bell
            && bell.has_rung().unwrap_or(true)
        {
            // Something happened meanwhile: what was read may be half of it. It is read again once that is over.
            self.new = Some(now);
            self.seen = None;
            return Ok(None);
        }
        self.seen = Some(now);
        self.new = None;
        if texts == self.known {
            return Ok(None);
        }
        self.known = texts.clone();
        Ok(Some(texts))
    }

    fn forget_touched(&mut self) {
        if let Hearing::Bell(bell) = &mut self.bell {
            bell.forget_touched();
        }
    }

    /// All files, and the directories that tell of them.
    fn marks(&self) -> Result<(Vec<Mark>, BTreeSet<PathBuf>), ReadError> {
        let (mut marks, mut directories) = (Vec::new(), BTreeSet::new());
        for path in &self.paths {
            let listing = Listing::of(path)?.whole()?;
            directories.extend(listing.directories);
            marks.extend(listing.files.into_iter().map(|file| Mark {
                path: file.path,
                is_link: file.is_link,
                inode: file.metadata.ino(),
                bytes: file.metadata.len(),
                modified: (file.metadata.mtime(), file.metadata.mtime_nsec()),
            }));
        }
        Ok((marks, directories))
    }
}
