//! Files of nginx and of docker-compose, to be imported.

use std::collections::BTreeSet;

use naru_doc::Loaded;
use naru_import::import;
use naru_plan::{Surroundings, plan};

use crate::place;

pub fn nginx(bytes: &[u8]) {
    imported("fuzz.conf", bytes);
}

pub fn compose(bytes: &[u8]) {
    imported("fuzz.yaml", bytes);
}

/// Notes have their places; what is made is the same each time, and documents that naru accepts.
fn imported(file: &str, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let files = [(file.to_owned(), text.to_owned())];
    let imported = import(&files);
    place::check(file, text, &imported.notes);
    assert_eq!(imported.documents, import(&files).documents, "one file, two imports");
    let mut names = BTreeSet::new();
    let mut loaded = Loaded::default();
    for document in &imported.documents {
        assert!(names.insert((document.kind, &document.name)), "twice: {document:?}");
        let yaml = document.with_origin();
        naru_doc::load(&document.name, &yaml, &mut loaded);
        assert!(!loaded.problems.iter().any(|problem| problem.is_error()), "{:#?}\n{yaml}", loaded.problems);
    }
    let planned = plan(&loaded.resources, &Surroundings::default());
    let errors: Vec<_> = planned.problems.iter().filter(|problem| problem.is_error()).collect();
    let yaml = || imported.documents.iter().map(|document| document.with_origin()).collect::<String>();
    assert!(errors.is_empty(), "{errors:#?}\n{}", yaml());
}
