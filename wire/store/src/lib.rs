//! How are sessions kept beyond the process?
//!
//! A [`Store`] keeps values under names, which are written where they are what their writer has read, and a list of what
//! is revoked, which is read from where it was read before. It is a file of this machine ([`directory`]) or a Redis that
//! several gateways share ([`shared`]). Values are bytes: what they mean, and that nobody else can read them, is the
//! caller's business.
//!
//! Every question has an end: it is answered, or the store is [`Away`]. Then nobody knows whether it was heard.
//!
//! Deliberately not here: what is written, and what to do without a store (`naru-session`).
#![forbid(unsafe_code)]

mod directory;
mod shared;

use std::fmt;
use std::time::Duration;

use naru_base::WallTime;
use naru_session::{Cursor, Id};
use naru_spec::StorePlace;

use directory::Directory;
use shared::Shared;

/// So much of the list is read at once.
pub const PAGE_MAX: usize = 1_000;
/// The name of the ring, which is read with the news.
pub const RING: &str = "ring";

/// Of one `SessionAuth`.
#[derive(Debug)]
pub struct Store {
    kind: Kind,
    timeout: Duration,
}

#[derive(Debug)]
enum Kind {
    Directory(Directory),
    Shared(Box<Shared>),
}

/// The store did not answer, or not what a store says. The text has no values and no passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away(pub String);

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Away {}

/// What came of a value that was to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    Done,
    /// Something else stands there.
    Beaten(Option<Vec<u8>>),
}

/// What there is since a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    pub cursor: Cursor,
    pub revoked: Vec<(Id, WallTime)>,
    pub is_partial: bool,
    /// The value of [`RING`].
    pub ring: Option<Vec<u8>>,
}

/// The ring, and another value; as far as they are there.
pub type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A value and its name, to be written.
#[derive(Clone, Debug)]
pub struct Write {
    pub name: String,
    /// What must be there now.
    pub expected: Option<Vec<u8>>,
    pub value: Vec<u8>,
    /// When it may be forgotten.
    pub until: Option<WallTime>,
}

impl Store {
    /// `name` parts those that are in one place. Nothing is asked of a Redis yet.
    ///
    /// # Errors
    /// The directory cannot be used, or the address is none.
    pub fn open(place: &StorePlace, name: &str, timeout: Duration) -> Result<Store, Away> {
        let kind = match place {
            StorePlace::Directory(path) => Kind::Directory(Directory::open(path, name)?),
            StorePlace::Redis { urls, prefix } => {
                Kind::Shared(Box::new(Shared::open(urls, prefix, name, timeout)?))
            }
        };
        Ok(Store { kind, timeout })
    }

    /// What is new since `cursor`. `epoch` becomes that of a store that has none.
    pub async fn news(&self, cursor: Cursor, epoch: u64) -> Result<Rows, Away> {
        self.timely(async {
            match &self.kind {
                Kind::Directory(directory) => directory.news(cursor, epoch).await,
                Kind::Shared(shared) => shared.news(cursor, epoch).await,
            }
        })
        .await
    }

    /// The ring, and the value of that name.
    pub async fn read(&self, name: &str) -> Result<Pair, Away> {
        self.timely(async {
            match &self.kind {
                Kind::Directory(directory) => directory.read(name),
                Kind::Shared(shared) => shared.read(name).await,
            }
        })
        .await
    }

    pub async fn swap(&self, now: WallTime, write: Write) -> Result<Swapped, Away> {
        self.timely(async {
            match &self.kind {
                Kind::Directory(directory) => directory.swap(now, write).await,
                Kind::Shared(shared) => shared.swap(write).await,
            }
        })
        .await
    }

    /// Adds to the list what is revoked.
    pub async fn tell(&self, now: WallTime, revoked: Vec<(Id, WallTime)>) -> Result<(), Away> {
        self.timely(async {
            match &self.kind {
                Kind::Directory(directory) => directory.tell(now, revoked).await,
                Kind::Shared(shared) => shared.tell(now, &revoked).await,
            }
        })
        .await
    }

    async fn timely<T>(&self, asked: impl Future<Output = Result<T, Away>>) -> Result<T, Away> {
        let late = |_| Err(Away(format!("no answer within {:?}", self.timeout)));
        tokio::time::timeout(self.timeout, asked).await.unwrap_or_else(late)
    }
}
