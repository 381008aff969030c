//! Where a value stands.

use std::ops::Deref;
use std::time::Duration;

/// A file among [`Files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileId(pub u32);

/// The names of files, as their user gave them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Files(Vec<String>);

impl Files {
    pub fn add(&mut self, name: impl Into<String>) -> FileId {
        self.0.push(name.into());
        FileId(self.0.len() as u32 - 1)
    }

    /// Another name for a number that nobody uses any more.
    pub fn rename(&mut self, id: FileId, name: impl Into<String>) {
        if let Some(place) = self.0.get_mut(id.0 as usize) {
            *place = name.into();
        }
    }

    /// Whether a number that both know means the same in both.
    pub fn agrees(&self, other: &Files) -> bool {
        self.0.iter().zip(&other.0).all(|(one, other)| one == other)
    }

    pub fn name(&self, id: FileId) -> &str {
        self.0.get(id.0 as usize).map_or("", String::as_str)
    }

    /// `mesh/routes.yaml:12:5`
    pub fn locate(&self, place: Place) -> String {
        format!("{}:{}:{}", self.name(place.file), place.line, place.column)
    }
}

/// Line and column from 1; 0 where nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    pub file: FileId,
    pub line: u32,
    pub column: u32,
}

/// A value and its place; reads like the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Placed<T> {
    pub value: T,
    pub place: Place,
}

pub type Text = Placed<String>;
pub type Texts = Vec<Text>;
pub type Number = Placed<i64>;
pub type Flag = Placed<bool>;
/// A length of time.
pub type Seconds = Placed<Duration>;

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
