//! What do texts say, where most of them are the same as before?
//!
//! A file is read anew where its text is another. Of ten thousand files of which one has changed, one is.

use std::collections::{BTreeMap, BTreeSet};

use naru_doc::Loaded;
use naru_resource::{FileId, Files};

use crate::Texts;

/// What was read before.
#[derive(Debug, Default)]
pub struct Loader {
    /// A file keeps its number for as long as it is there: what stands in it is then the same in every way.
    files: Files,
    free: Vec<FileId>,
    known: BTreeMap<String, Known>,
    read: u64,
}

#[derive(Debug)]
struct Known {
    file: FileId,
    text: String,
    loaded: Loaded,
}

impl Loader {
    /// The same as [`Texts::load`], but for the numbers of files.
    pub fn load(&mut self, texts: &Texts) -> Loaded {
        let names: BTreeSet<&str> = texts.files.iter().map(|(name, _)| name.as_str()).collect();
        let Loader { files, free, known, read } = self;
        known.retain(|name, known| {
            let is_there = names.contains(name.as_str());
            if !is_there {
                free.push(known.file);
            }
            is_there
        });
        for (name, text) in &texts.files {
            if known.get(name).is_some_and(|known| known.text == *text) {
                continue;
            }
            let file = match (known.get(name), free.pop()) {
                (Some(known), back) => {
                    free.extend(back);
                    known.file
                }
                (None, Some(file)) => {
                    files.rename(file, name);
                    file
                }
                (None, None) => files.add(name),
            };
            let mut loaded = Loaded::default();
            naru_doc::load_as(file, name, text, &mut loaded);
            *read += 1;
            known.insert(name.clone(), Known { file, text: text.clone(), loaded });
        }
        let mut whole = Loaded::default();
        whole.resources.files.clone_from(files);
        for known in texts.files.iter().filter_map(|(name, _)| known.get(name)) {
            whole.resources.append(&known.loaded.resources);
            whole.problems.extend_from_slice(&known.loaded.problems);
        }
        whole
    }

    /// How many files were read so far.
    pub fn read(&self) -> u64 {
        self.read
    }
}
