//! Which configurations were in force, and which of them is now?
//!
//! Each is kept as the documents that it was made of, in a file of its own below the directory for what outlives the
//! process. A file is written whole beside its place and then renamed, so that one that is there is whole. The last
//! [`VERSIONS_MAX`] are kept.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use naru_sources::Texts;
use serde_json::{Value, json};

/// As many are kept.
const VERSIONS_MAX: usize = 50;
/// And no more than these bytes of them, but always the last two.
const BYTES_MAX: u64 = 256 << 20;
/// A file that is larger is none of ours.
const FILE_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug)]
pub struct History {
    place: PathBuf,
    /// In the order of their numbers.
    versions: Vec<Version>,
    current: Current,
}

/// One that was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub number: u64,
    /// Seconds since 1970.
    pub since: u64,
    /// Where its documents came from: the directory, a batch, another version.
    pub source: String,
    pub files: usize,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Current {
    number: u64,
    /// The directory says this one, and somebody has gone back from it.
    instead_of: Option<u64>,
}

impl History {
    /// What is kept for a directory of documents.
    pub fn open(state: &Path, directory: &Path) -> History {
        let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        let place = state.join("configurations").join(name_of(&directory));
        let mut versions: Vec<Version> = Vec::new();
        for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
            let path = entry.path();
            let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
            // One that cannot be read is not there.
            if let Some(number) = number
                && let Ok((version, _)) = load(&path, number)
            {
                versions.push(version);
            }
        }
        versions.sort_by_key(|version| version.number);
        let current = read_current(&place).unwrap_or_default();
        let known = |number| versions.iter().any(|version: &Version| version.number == number);
        let current = match known(current.number) {
            true => current,
            false => Current { number: versions.last().map_or(0, |last| last.number), instead_of: None },
        };
        History { place, versions, current }
    }

    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The number of the one in force; 0 before there is any.
    pub fn current(&self) -> u64 {
        self.current.number
    }

    /// The number of what the directory said last: that in force, or what somebody has gone back from.
    pub fn last_said(&self) -> u64 {
        self.current.instead_of.unwrap_or(self.current.number)
    }

    /// The documents of one.
    pub fn texts(&self, number: u64) -> io::Result<Texts> {
        load(&self.file(number), number).map(|(_, texts)| texts)
    }

    /// What a process that starts should begin with, instead of what the directory says: the one that somebody went
    /// back to, as long as the directory still says what was gone back from.
    pub fn instead_of(&self, directory: &Texts) -> Option<u64> {
        let left = self.current.instead_of?;
        (self.texts(left).ok()? == *directory).then_some(self.current.number)
    }

    /// These documents are in force. One that is in force already gets no other number.
    pub fn put(&mut self, texts: &Texts, source: &str) -> io::Result<u64> {
        if self.texts(self.current.number).is_ok_and(|known| known == *texts) {
            let current = Current { number: self.current.number, instead_of: None };
            self.set_current(current)?;
            return Ok(current.number);
        }
        let number = self.add(texts, source)?;
        self.set_current(Current { number, instead_of: None })?;
        self.forget();
        Ok(number)
    }

    /// As [`put`](History::put), where somebody has gone back from what the directory says.
    pub fn go_back(&mut self, texts: &Texts, to: u64, directory: &Texts) -> io::Result<u64> {
        self.put_instead(texts, &format!("version {to}"), directory)
    }

    /// As [`put`](History::put), where the directory says something else.
    pub fn put_instead(&mut self, texts: &Texts, source: &str, directory: &Texts) -> io::Result<u64> {
        let mut of_directory = self.versions.iter().rev().map(|version| version.number);
        let left = of_directory.find(|number| self.texts(*number).is_ok_and(|known| known == *directory));
        let number = self.add(texts, source)?;
        self.set_current(Current { number, instead_of: left })?;
        self.forget();
        Ok(number)
    }

    fn add(&mut self, texts: &Texts, source: &str) -> io::Result<u64> {
        let number = self.versions.last().map_or(0, |last| last.number) + 1;
        let files: Vec<Value> =
            texts.files.iter().map(|(name, text)| json!({ "name": name, "text": text })).collect();
        let whole = json!({ "version": number, "source": source, "files": files });
        let bytes = whole.to_string().into_bytes();
        // Documents may hold what is nobody else's business.
        History::make(&self.place)?;
        write_whole(&self.file(number), &bytes)?;
        let since = written_at(&self.file(number))?;
        self.versions.push(Version {
            number,
            since,
            source: source.to_owned(),
            files: texts.files.len(),
            bytes: bytes.len() as u64,
        });
        Ok(number)
    }

    /// A directory that nobody else looks into.
    pub fn make(directory: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)
    }

    /// Where something else is kept of the same.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn set_current(&mut self, current: Current) -> io::Result<()> {
        if self.current != current {
            let said = json!({ "version": current.number, "instead_of": current.instead_of });
            write_whole(&self.place.join("current"), said.to_string().as_bytes())?;
            self.current = current;
        }
        Ok(())
    }

    /// Makes room; what is in force, and what it is instead of, stays.
    fn forget(&mut self) {
        loop {
            let bytes: u64 = self.versions.iter().map(|version| version.bytes).sum();
            if self.versions.len() <= 2 || (self.versions.len() <= VERSIONS_MAX && bytes <= BYTES_MAX) {
                return;
            }
            let is_held = |version: &Version| {
                version.number == self.current.number || Some(version.number) == self.current.instead_of
            };
            let Some(at) = self.versions.iter().position(|version| !is_held(version)) else { return };
            let gone = self.versions.remove(at);
            // One that cannot be removed is found again at the next start, and removed then.
            let _ = fs::remove_file(self.file(gone.number));
        }
    }

    fn file(&self, number: u64) -> PathBuf {
        self.place.join(format!("{number}.json"))
    }
}

/// A name for a path: its own words, and a number that tells it from others that read alike.
fn name_of(directory: &Path) -> String {
    let text = directory.display().to_string();
    let words: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>();
    let tail: String = words.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
    // FNV-1a: nobody gains by two directories of one number but who may write in both.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{}-{hash:016x}", tail.trim_matches('-'))
}

/// There whole, or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    // What is left of a process that was killed is in nobody's way.
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name is there after a loss of power, too.
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Seconds since 1970: that of the file is the time since when it is in force.
fn written_at(path: &Path) -> io::Result<u64> {
    Ok(u64::try_from(fs::metadata(path)?.mtime()).unwrap_or(0))
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn read_current(place: &Path) -> Option<Current> {
    let value: Value = serde_json::from_str(&read_bounded(&place.join("current")).ok()?).ok()?;
    Some(Current { number: value.get("version")?.as_u64()?, instead_of: value.get("instead_of")?.as_u64() })
}

fn load(path: &Path, number: u64) -> io::Result<(Version, Texts)> {
    let text = read_bounded(path)?;
    let since = written_at(path)?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("'{}' is broken", path.display()));
    let value: Value = serde_json::from_str(&text).map_err(|_| broken())?;
    let read = || {
        let files = value.get("files")?.as_array()?.iter().map(|file| {
            Some((file.get("name")?.as_str()?.to_owned(), file.get("text")?.as_str()?.to_owned()))
        });
        let texts = Texts { files: files.collect::<Option<Vec<_>>>()? };
        let version = Version {
            number,
            since,
            source: value.get("source")?.as_str()?.to_owned(),
            files: texts.files.len(),
            bytes: text.len() as u64,
        };
        Some((version, texts))
    };
    read().ok_or_else(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Texts {
        Texts { files: vec![("a.yaml".to_owned(), text.to_owned())] }
    }

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let place = std::env::temp_dir().join(format!("naru-history-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&place);
            fs::create_dir_all(&place).unwrap();
            Place(place)
        }

        fn open(&self) -> History {
            History::open(&self.0, &self.0)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_in_force_is_there_after_a_restart() {
        let place = Place::new("restart");
        let mut history = place.open();
        assert_eq!((history.current(), history.versions().len()), (0, 0));
        assert_eq!(history.put(&texts("one"), "directory").unwrap(), 1);
        assert_eq!(history.put(&texts("two"), "directory").unwrap(), 2);
        // The same is no other version.
        assert_eq!(history.put(&texts("two"), "directory").unwrap(), 2);
        let history = place.open();
        assert_eq!((history.current(), history.versions().len()), (2, 2));
        assert_eq!(history.texts(1).unwrap(), texts("one"));
        assert!(history.texts(3).is_err());
    }

    #[test]
    fn who_went_back_stays_back_until_the_directory_says_something_else() {
        let place = Place::new("back");
        let mut history = place.open();
        history.put(&texts("one"), "directory").unwrap();
        history.put(&texts("two"), "directory").unwrap();
        assert_eq!(history.go_back(&texts("one"), 1, &texts("two")).unwrap(), 3);
        let mut history = place.open();
        assert_eq!(history.instead_of(&texts("two")), Some(3));
        assert_eq!(history.instead_of(&texts("three")), None);
        history.put(&texts("three"), "directory").unwrap();
        assert_eq!(place.open().instead_of(&texts("two")), None);
    }

    #[test]
    fn old_ones_make_room_and_broken_ones_are_not_there() {
        let place = Place::new("room");
        let mut history = place.open();
        for number in 0..VERSIONS_MAX + 10 {
            history.put(&texts(&number.to_string()), "directory").unwrap();
        }
        assert_eq!(history.versions().len(), VERSIONS_MAX);
        let last = history.current();
        fs::write(history.file(last - 1), "{ half").unwrap();
        fs::write(history.place.join("current"), "").unwrap();
        let history = place.open();
        assert_eq!((history.current(), history.versions().len()), (last, VERSIONS_MAX - 1));
        assert_eq!(history.texts(last - 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
