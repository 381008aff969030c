//! What stands in a document of YAML or JSON, and where?
//!
//! Comes in: text. Goes out: a tree of values with the place of each.
//!
//! Deliberately not here: files and directories, and what a document does.
#![forbid(unsafe_code)]

pub mod tree;
pub mod suggest;
