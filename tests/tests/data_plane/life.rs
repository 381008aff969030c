//! The life of the process: it is changed, replaced and broken under load, and nobody is turned away.

mod takeover;
mod refused;
mod reload;
mod systemd;
mod panics;
mod prove;

use std::path::Path;

use naru_tests::Program;
use naru_tests::files::Directory;

/// A file that processes are started on one after another, and the path where they meet.
pub struct Stand {
    directory: Directory,
}

impl Stand {
    pub fn new(text: &str) -> Stand {
        let stand = Stand { directory: Directory::new() };
        stand.save(text);
        stand
    }

    pub fn save(&self, text: &str) {
        let new = self.directory.write("bootstrap.yaml.new", text);
        std::fs::rename(new, self.directory.path("bootstrap.yaml")).unwrap();
    }

    fn place(&self) -> String {
        self.directory.path("takeover.sock").to_str().unwrap().to_owned()
    }

    /// The first of them.
    pub async fn first(&self, arguments: &[&str]) -> Program {
        self.started(&[&["--takeover-path", &self.place()], arguments].concat()).await
    }

    /// One that has taken over.
    pub async fn next(&self, arguments: &[&str]) -> Program {
        let next =
            self.started(&[&["--takeover", "--takeover-path", &self.place()], arguments].concat()).await;
        next.says("naru: has taken over", 1).await;
        next
    }

    async fn started(&self, arguments: &[&str]) -> Program {
        let program = Program::on(&self.file(), arguments).await;
        program.says("naru: can be taken over at", 1).await;
        program
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path("bootstrap.yaml")
    }
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap())
}
