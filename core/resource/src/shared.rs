//! A list whose documents are shared by all copies of it: of ten thousand, of which one is another, one is copied.

use std::cmp::Ordering;
use std::slice;
use std::sync::Arc;

/// Reads like a vector of documents.
#[derive(Debug)]
pub struct Shared<T>(Vec<Arc<T>>);

impl<T> Shared<T> {
    pub fn iter(&self) -> Documents<'_, T> {
        self.0.iter().map(Arc::as_ref)
    }

    pub fn get(&self, at: usize) -> Option<&T> {
        self.0.get(at).map(Arc::as_ref)
    }

    pub fn first(&self) -> Option<&T> {
        self.get(0)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn push(&mut self, document: T) {
        self.0.push(Arc::new(document));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        self.0.retain(|document| stays(document));
    }

    /// Those of another list, which has them as well.
    pub fn extend_from_slice(&mut self, other: &Shared<T>) {
        self.0.extend_from_slice(&other.0);
    }

    pub fn sort_by(&mut self, mut order: impl FnMut(&T, &T) -> Ordering) {
        self.0.sort_by(|a, b| order(a, b));
    }

    pub fn is_sorted_by(&self, mut is_before: impl FnMut(&T, &T) -> bool) -> bool {
        self.0.is_sorted_by(|a, b| is_before(a, b))
    }

    pub fn as_slice(&self) -> &[Arc<T>] {
        &self.0
    }
}

type Documents<'a, T> = std::iter::Map<slice::Iter<'a, Arc<T>>, fn(&'a Arc<T>) -> &'a T>;
type DocumentsMut<'a, T> = std::iter::Map<slice::IterMut<'a, Arc<T>>, fn(&'a mut Arc<T>) -> &'a mut T>;

impl<T> Default for Shared<T> {
    fn default() -> Shared<T> {
        Shared(Vec::new())
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared(self.0.clone())
    }
}

/// What is shared is not looked into.
impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Shared<T>) -> bool {
        let is_same = |(a, b): (&Arc<T>, &Arc<T>)| Arc::ptr_eq(a, b) || a == b;
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(is_same)
    }
}

impl<T> Extend<T> for Shared<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, documents: I) {
        self.0.extend(documents.into_iter().map(Arc::new));
    }
}

impl<T> FromIterator<T> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = T>>(documents: I) -> Shared<T> {
        Shared(documents.into_iter().map(Arc::new).collect())
    }
}

impl<T> FromIterator<Arc<T>> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(documents: I) -> Shared<T> {
        Shared(documents.into_iter().collect())
    }
}

impl<'a, T> IntoIterator for &'a Shared<T> {
    type Item = &'a T;
    type IntoIter = Documents<'a, T>;

    fn into_iter(self) -> Documents<'a, T> {
        self.iter()
    }
}

/// One that others have, too, is copied first.
impl<'a, T: Clone> IntoIterator for &'a mut Shared<T> {
    type Item = &'a mut T;
    type IntoIter = DocumentsMut<'a, T>;

    fn into_iter(self) -> DocumentsMut<'a, T> {
        self.0.iter_mut().map(Arc::make_mut)
    }
}
