//! What stands in a document of YAML or JSON, and where?
//!
//! Comes in: the text of files. Goes out: a tree of values with the place of each, and the resources
//! that such trees stand for, with every problem that a document shows by itself.
//!
//! Deliberately not here: which files there are, and what resources mean together (`core/plan`).
#![forbid(unsafe_code)]

// In the order of a document: text, tree, plain data.
pub mod tree;
mod read;
mod kind;
use naru_resource::{FileId, Resources};
use naru_spec::Problem;

use crate::read::Reader;

/// Resources of some files, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Loaded {
    pub resources: Resources,
    pub problems: Vec<Problem>,
}

/// Adds the documents of one file.
pub fn load(file_name: &str, text: &str, loaded: &mut Loaded) {
    let file = loaded.resources.files.add(file_name);
    load_as(file, file_name, text, loaded);
}

/// Adds the documents of a file that has a number already.
pub fn load_as(file: FileId, file_name: &str, text: &str, loaded: &mut Loaded) {
    match tree::parse_all(text) {
        Ok(documents) => {
            let mut reader = Reader::new(file, file_name);
            for document in &documents {
                kind::read(document, &mut reader, &mut loaded.resources);
            }
            loaded.problems.extend(reader.into_problems());
        }
        Err(error) => loaded.problems.push(error.into_problem(file_name)),
    }
}
