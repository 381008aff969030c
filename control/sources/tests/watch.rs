//! Word of changes, of a real directory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use naru_sources::{Texts, Watch};

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("naru-watch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The contents of files by their names, once they are these.
async fn becomes(watch: &mut Watch, directory: &Path, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|(name, text)| (directory.join(name).display().to_string(), (*text).to_owned()))
        .collect();
    let looked = async {
        loop {
            let texts = watch.changed().await.unwrap();
            if texts.files == expected {
                return;
            }
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(60), looked).await;
    assert!(done.is_ok(), "never became {expected:?}");
}

#[tokio::test]
async fn what_editors_do_is_told() {
    let directory = Directory::new("editors");
    let at = |name: &str| directory.0.join(name);
    fs::write(at("a.yaml"), "1").unwrap();
    let paths = vec![directory.0.clone()];
    let mut watch = Watch::new(paths.clone(), Texts::read(&paths).unwrap());
    // Written over; beside it and over it; new; in a directory that is new; away.
    fs::write(at("a.yaml"), "2").unwrap();
    becomes(&mut watch, &directory.0, &[("a.yaml", "2")]).await;
    fs::write(at(".a.yaml.new"), "3").unwrap();
    fs::rename(at(".a.yaml.new"), at("a.yaml")).unwrap();
    becomes(&mut watch, &directory.0, &[("a.yaml", "3")]).await;
    fs::write(at("b.json"), "{}").unwrap();
    fs::write(at("c.txt"), "").unwrap();
    becomes(&mut watch, &directory.0, &[("a.yaml", "3"), ("b.json", "{}")]).await;
    fs::create_dir(at("more")).unwrap();
    fs::write(at("more/d.yml"), "4").unwrap();
    becomes(&mut watch, &directory.0, &[("a.yaml", "3"), ("b.json", "{}"), ("more/d.yml", "4")]).await;
    fs::write(at("more/d.yml"), "5").unwrap();
    becomes(&mut watch, &directory.0, &[("a.yaml", "3"), ("b.json", "{}"), ("more/d.yml", "5")]).await;
    fs::remove_file(at("a.yaml")).unwrap();
    becomes(&mut watch, &directory.0, &[("b.json", "{}"), ("more/d.yml", "5")]).await;
    fs::rename(at("more"), at(".hidden")).unwrap();
    becomes(&mut watch, &directory.0, &[("b.json", "{}")]).await;
    // Of the same length, in the same instant perhaps.
    for text in ["[1]", "[2]", "[3]", "[4]"] {
        fs::write(at("b.json"), text).unwrap();
        becomes(&mut watch, &directory.0, &[("b.json", text)]).await;
    }
}

/// A volume of Kubernetes: files are links into a directory that is swapped as a whole.
#[tokio::test]
async fn a_swapped_link_is_told() {
    let directory = Directory::new("links");
    let at = |name: &str| directory.0.join(name);
    let fill = |folder: &str, text: &str| {
        fs::create_dir(at(folder)).unwrap();
        fs::write(at(folder).join("a.yaml"), text).unwrap();
    };
    fill("..1", "1");
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let paths = vec![directory.0.clone()];
    let mut watch = Watch::new(paths.clone(), Texts::read(&paths).unwrap());
    for turn in 2..5 {
        let (folder, text) = (format!("..{turn}"), turn.to_string());
        fill(&folder, &text);
        symlink(&folder, at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        becomes(&mut watch, &directory.0, &[("a.yaml", &text)]).await;
    }
    // And what a link leads to outside.
    let outside = Directory::new("outside");
    fs::write(outside.0.join("b.yaml"), "b").unwrap();
    symlink(outside.0.join("b.yaml"), at("b.yaml")).unwrap();
    becomes(&mut watch, &directory.0, &[("a.yaml", "4"), ("b.yaml", "b")]).await;
    fs::write(outside.0.join("b.yaml"), "c").unwrap();
    becomes(&mut watch, &directory.0, &[("a.yaml", "4"), ("b.yaml", "c")]).await;
}

#[tokio::test]
async fn what_is_half_written_is_not_read() {
    let directory = Directory::new("half");
    let file = directory.0.join("a.yaml");
    fs::write(&file, "").unwrap();
    let paths = vec![directory.0.clone()];
    let mut watch = Watch::new(paths.clone(), Texts::read(&paths).unwrap());
    // What comes before it has settled.
    let quiet = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
    assert!(quiet.is_err(), "nothing has changed");
    let writes = tokio::task::spawn_blocking(move || {
        let mut open = fs::File::create(&file).unwrap();
        for _ in 0..20 {
            open.write_all(b"x").unwrap();
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    // Each pause is long enough for a change to be over, but that the file is open. A machine that is busy may make one
    // of them longer.
    let mut halves = 0;
    loop {
        let texts = tokio::time::timeout(Duration::from_secs(60), watch.changed()).await.unwrap().unwrap();
        match texts.files[0].1 == "x".repeat(20) {
            true => break,
            false => halves += 1,
        }
    }
    writes.await.unwrap();
    assert!(halves < 5, "{halves} times a half was told");
}

/// What a link led to is missed, and not lost without a word.
#[tokio::test]
async fn a_link_that_leads_nowhere_is_told_with_its_name() {
    let (directory, outside) = (Directory::new("dangling"), Directory::new("target"));
    let at = |name: &str| directory.0.join(name);
    fs::write(at("a.yaml"), "a").unwrap();
    fs::write(outside.0.join("b.yaml"), "b").unwrap();
    symlink(outside.0.join("b.yaml"), at("b.yaml")).unwrap();
    // Neither of both would be read.
    symlink("/nowhere", at(".c.yaml")).unwrap();
    symlink("/nowhere", at("c.txt")).unwrap();
    let paths = vec![directory.0.clone()];
    let mut watch = Watch::new(paths.clone(), Texts::read(&paths).unwrap());
    // The link itself goes a moment later, as a volume of Kubernetes has it: nothing is wrong.
    fs::rename(outside.0.join("b.yaml"), outside.0.join("kept")).unwrap();
    let link = at("b.yaml");
    let cleaned = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(40)).await;
        fs::remove_file(link).unwrap();
    });
    becomes(&mut watch, &directory.0, &[("a.yaml", "a")]).await;
    cleaned.await.unwrap();
    fs::rename(outside.0.join("kept"), outside.0.join("b.yaml")).unwrap();
    symlink(outside.0.join("b.yaml"), at("b.yaml")).unwrap();
    becomes(&mut watch, &directory.0, &[("a.yaml", "a"), ("b.yaml", "b")]).await;
    // It stays: it is told once, and over when it leads somewhere again.
    fs::remove_file(outside.0.join("b.yaml")).unwrap();
    let told = tokio::time::timeout(Duration::from_secs(60), watch.changed()).await.unwrap();
    assert_eq!(told.unwrap_err().path, at("b.yaml"));
    assert_eq!(Texts::read(&paths).unwrap_err().path, at("b.yaml"));
    // An editor goes on with the rest.
    assert_eq!(Texts::readable(&directory.0).files.len(), 1);
    fs::write(outside.0.join("b.yaml"), "again").unwrap();
    becomes(&mut watch, &directory.0, &[("a.yaml", "a"), ("b.yaml", "again")]).await;
    // A directory may have been behind one without an ending.
    symlink("/nowhere", at("more")).unwrap();
    assert_eq!(Texts::read(&paths).unwrap_err().path, at("more"));
}
