//! Files of one test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that goes away with its test.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("naru-tests-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Default for Directory {
    fn default() -> Directory {
        Directory::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is the operating system's to clear away.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until a file has `count` whole lines, and returns them.
pub async fn lines(path: &Path, count: usize) -> Vec<String> {
    crate::until(&format!("{count} lines in {}", path.display()), async || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole: Vec<String> = text
            .split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'))
            .map(str::to_owned)
            .collect();
        assert!(whole.len() <= count, "more than {count} lines: {whole:#?}");
        (whole.len() == count).then_some(whole)
    })
    .await
}

/// [`lines`], each a JSON document.
pub async fn documents(path: &Path, count: usize) -> Vec<serde_json::Value> {
    let lines = lines(path, count).await;
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}
