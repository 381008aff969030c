//! Which documents are there now?
//!
//! Comes in: paths of files and directories, or addresses of an etcd. Goes out: their texts, read together, and word of
//! every change of them.
//!
//! Deliberately not here: what stands in a document (`wire/doc`).
#![forbid(unsafe_code)]

mod listing;
mod bell;
mod watch;
pub mod etcd;
mod loader;

use std::io;
use std::path::{Path, PathBuf};

use naru_doc::Loaded;

use listing::Listing;

pub use etcd::Etcd;
pub use loader::Loader;
pub use watch::Watch;

/// Endings of files that are read in a directory.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// A file that is larger is no configuration.
const BYTES_MAX: u64 = 64 << 20;
/// Directories below the one that is named: what is deeper is no configuration.
const DEPTH_MAX: usize = 16;

/// The documents of some paths at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// Name, as it is shown, and content; in the order of names.
    pub files: Vec<(String, String)>,
}

/// A path that could not be read.
#[derive(Debug)]
pub struct ReadError {
    pub path: PathBuf,
    pub error: io::Error,
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}' cannot be read: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for ReadError {}

impl Texts {
    /// Reads files as they are named, and in directories every `.yaml`, `.yml` and `.json`, also
    /// below. Names that begin with a dot are passed by.
    pub fn read(paths: &[PathBuf]) -> Result<Texts, ReadError> {
        let mut texts = Texts::default();
        for path in paths {
            for file in Listing::of(path)?.whole()?.files.into_iter().map(|file| file.path) {
                let text = read(&file).map_err(|error| ReadError { path: file.clone(), error })?;
                texts.files.push((file.display().to_string(), text));
            }
        }
        Ok(texts)
    }

    /// As [`Texts::read`], without what cannot be read.
    pub fn readable(path: &Path) -> Texts {
        let files = Listing::of(path).map(|listing| listing.files).unwrap_or_default();
        let text = |path: &Path| Some((path.display().to_string(), read(path).ok()?));
        Texts { files: files.iter().filter_map(|file| text(&file.path)).collect() }
    }

    /// The resources of all files.
    pub fn load(&self) -> Loaded {
        let mut loaded = Loaded::default();
        for (name, text) in &self.files {
            naru_doc::load(name, text, &mut loaded);
        }
        loaded
    }

    pub fn text(&self, file: &str) -> Option<&str> {
        self.files.iter().find(|(name, _)| name == file).map(|(_, text)| text.as_str())
    }
}

fn read(path: &Path) -> io::Result<String> {
    if std::fs::metadata(path)?.len() > BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path)?;
    // What is not UTF-8 is told by the reader of the document, with its line.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
