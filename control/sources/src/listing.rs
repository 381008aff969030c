//! Which files does a path stand for?

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::{DEPTH_MAX, ENDINGS, ReadError};

/// What is there below a path.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// In the order of their names.
    pub files: Vec<Listed>,
    /// All that were looked into, and those that links lead to.
    pub directories: BTreeSet<PathBuf>,
    /// Links that lead nowhere, or in a circle, where a document may have been: else it would be missed without a word.
    pub failed: Vec<ReadError>,
}

#[derive(Debug)]
pub(crate) struct Listed {
    pub path: PathBuf,
    /// Of what a link leads to.
    pub metadata: Metadata,
    pub is_link: bool,
}

impl Listing {
    /// Of a file itself, of a directory what is to be read in it.
    pub fn of(path: &Path) -> Result<Listing, ReadError> {
        let mut listing = Listing::default();
        let of_path = |error| ReadError { path: path.to_owned(), error };
        let metadata = std::fs::metadata(path).map_err(of_path)?;
        let is_link = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
        if is_link || !metadata.is_dir() {
            listing.directories.extend(path.parent().map(Path::to_owned));
        }
        if metadata.is_dir() {
            listing.collect(path, &mut Vec::new())?;
        } else {
            listing.add(path.to_owned(), metadata, is_link);
        }
        listing.files.sort_by(|a, b| a.path.cmp(&b.path));
        listing.failed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }

    /// # Errors
    /// The first of what cannot be read.
    pub fn whole(mut self) -> Result<Listing, ReadError> {
        if self.failed.is_empty() { Ok(self) } else { Err(self.failed.swap_remove(0)) }
    }

    /// `above` are the directories that this one is in, as the system knows them: a link back to one of them is not
    /// followed.
    fn collect(&mut self, directory: &Path, above: &mut Vec<(u64, u64)>) -> Result<(), ReadError> {
        let of_directory = |error| ReadError { path: directory.to_owned(), error };
        let metadata = std::fs::metadata(directory).map_err(of_directory)?;
        let own = (metadata.dev(), metadata.ino());
        if above.contains(&own) {
            return Ok(());
        }
        above.push(own);
        self.directories.insert(directory.to_owned());
        for entry in std::fs::read_dir(directory).map_err(of_directory)? {
            let entry = entry.map_err(of_directory)?;
            let path = entry.path();
            let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_hidden {
                continue;
            }
            let metadata = match std::fs::metadata(&path) {
                Ok(metadata) => metadata,
                // It went away meanwhile.
                Err(_) if is_gone(&path) => continue,
                Err(error) => {
                    // One without an ending may have led to a directory.
                    if path.extension().is_none() || is_document(&path) {
                        self.failed.push(ReadError { path, error });
                    }
                    continue;
                }
            };
            if metadata.is_dir() && above.len() <= DEPTH_MAX {
                self.collect(&path, above)?;
            } else if metadata.is_file() && is_document(&path) {
                let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                self.add(path, metadata, is_link);
            }
        }
        above.pop();
        Ok(())
    }

    fn add(&mut self, path: PathBuf, metadata: Metadata, is_link: bool) {
        if is_link && let Ok(target) = path.canonicalize() {
            self.directories.extend(target.parent().map(Path::to_owned));
        }
        self.files.push(Listed { path, metadata, is_link });
    }
}

fn is_document(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

/// Not even a link is there.
fn is_gone(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}
