//! Which documents are there now?
//!
//! Comes in: paths of files and directories. Goes out: their texts, read together, and word of every
//! change of them.
//!
//! Deliberately not here: what stands in a document (`wire/doc`).
#![forbid(unsafe_code)]

mod watch;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use naru_doc::Loaded;

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
            for file in files(path)? {
                let text = read(&file).map_err(|error| ReadError { path: file.clone(), error })?;
                texts.files.push((file.display().to_string(), text));
            }
        }
        Ok(texts)
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

/// The files that a path stands for, sorted.
fn files(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let mut found = Vec::new();
    let of_path = |error| ReadError { path: path.to_owned(), error };
    if std::fs::metadata(path).map_err(of_path)?.is_dir() {
        collect(path, &mut Vec::new(), &mut found)?;
    } else {
        found.push(path.to_owned());
    }
    found.sort();
    Ok(found)
}

/// `above` are the directories that this one is in, as the system knows them: a link back to one of them is not followed.
fn collect(directory: &Path, above: &mut Vec<(u64, u64)>, found: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    let of_directory = |error| ReadError { path: directory.to_owned(), error };
    let metadata = std::fs::metadata(directory).map_err(of_directory)?;
    let own = (metadata.dev(), metadata.ino());
    if above.contains(&own) {
        return Ok(());
    }
    above.push(own);
    for entry in std::fs::read_dir(directory).map_err(of_directory)? {
        let path = entry.map_err(of_directory)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_hidden {
            continue;
        }
        // A file that went away meanwhile, or a link that leads nowhere, is not there.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.is_dir() && above.len() <= DEPTH_MAX {
            collect(&path, above, found)?;
        } else if metadata.is_file() {
            let ending = path.extension().and_then(|ending| ending.to_str());
            if ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
                found.push(path);
            }
        }
    }
    above.pop();
    Ok(())
}
