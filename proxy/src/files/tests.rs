//! What is found below a directory, and what is not.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use naru_content::files::wanted;
use naru_spec::StaticFiles;

use super::*;

/// A directory of its own, which goes with its test.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Root {
        let path = std::env::temp_dir().join(format!("naru-files-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("srv/sub")).unwrap();
        std::fs::write(path.join("secret"), "secret").unwrap();
        std::fs::write(path.join("srv/a.txt"), "a").unwrap();
        std::fs::write(path.join("srv/sub/b.txt"), "bb").unwrap();
        symlink("../secret", path.join("srv/out.txt")).unwrap();
        symlink(path.join("secret"), path.join("srv/far.txt")).unwrap();
        symlink("sub/b.txt", path.join("srv/in.txt")).unwrap();
        symlink("..", path.join("srv/up")).unwrap();
        symlink("loop", path.join("srv/loop")).unwrap();
        Root(path)
    }

    fn srv(&self) -> PathBuf {
        self.0.join("srv")
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settings(root: &Path, links: Links) -> Arc<StaticFiles> {
    Arc::new(StaticFiles { links, ..StaticFiles::new(root.to_str().unwrap()) })
}

fn found(files: &Arc<StaticFiles>, path: &str, codings: &[ContentCoding]) -> (FileSaid, Option<Bytes>) {
    let asked =
        FileAsked { files: Arc::clone(files), wanted: wanted(files, path), codings: codings.to_vec() };
    let (said, opened) = find(&asked, true);
    (said, opened.and_then(|opened| opened.whole))
}

fn body(files: &Arc<StaticFiles>, path: &str) -> Option<Bytes> {
    found(files, path, &[]).1
}

#[test]
fn no_link_leads_out_of_the_root() {
    let root = Root::new("links");
    let secret = Some(Bytes::from_static(b"secret"));
    let inside = Some(Bytes::from_static(b"bb"));
    for (links, within, outside) in [
        (Links::Refused, None, None),
        (Links::Within, inside.clone(), None),
        (Links::Followed, inside.clone(), secret),
    ] {
        let files = settings(&root.srv(), links);
        assert_eq!(body(&files, "/sub/b.txt"), inside);
        assert_eq!(body(&files, "/in.txt"), within, "{links:?}");
        for path in ["/out.txt", "/far.txt", "/up/secret"] {
            assert_eq!(body(&files, path), outside, "{links:?} {path}");
        }
        assert_eq!(body(&files, "/loop"), None, "{links:?}");
        assert_eq!(found(&files, "/loop", &[]).0, FileSaid::Missing);
    }
}

#[test]
fn kernels_without_it_follow_no_link() {
    let root = Root::new("names");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = sys::open(root.srv(), flags, Mode::empty()).unwrap();
    let open = |path: &[u8]| open_by_names(&top, path, OFlags::RDONLY | OFlags::CLOEXEC);
    assert!(open(b"a.txt").is_ok());
    assert!(open(b"sub//b.txt").is_ok());
    for path in
        [&b"in.txt"[..], b"out.txt", b"far.txt", b"up/secret", b"../secret", b"sub/../a.txt", b"", b"none"]
    {
        assert!(open(path).is_err(), "{}", String::from_utf8_lossy(path));
    }
}

#[test]
fn only_files_are_given() {
    let root = Root::new("kinds");
    let files = settings(&root.srv(), Links::Within);
    assert_eq!(found(&files, "/sub", &[]).0, FileSaid::Directory);
    assert_eq!(found(&files, "/sub/", &[]).0, FileSaid::Missing);
    assert_eq!(found(&files, "/a.txt/b", &[]).0, FileSaid::Missing);
    assert_eq!(found(&files, &format!("/{}", "n".repeat(300)), &[]).0, FileSaid::Missing);
    // Nobody writes into it: whoever opened it as a file would wait for ever.
    let pipe = root.srv().join("pipe");
    sys::mkfifoat(sys::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    assert_eq!(found(&files, "/pipe", &[]).0, FileSaid::Missing);
    let _socket = std::os::unix::net::UnixListener::bind(root.srv().join("socket")).unwrap();
    assert_eq!(found(&files, "/socket", &[]).0, FileSaid::Missing);
    let gone = settings(&root.0.join("nowhere"), Links::Within);
    assert_eq!(found(&gone, "/a.txt", &[]).0, FileSaid::Unreadable);
}

#[test]
fn what_stands_beside_a_file_is_given_in_its_place_unless_it_is_older() {
    let root = Root::new("beside");
    let files = settings(&root.srv(), Links::Within);
    let coding = |codings: &[ContentCoding]| match found(&files, "/a.txt", codings).0 {
        FileSaid::Found(found) => found.coding,
        other => panic!("{other:?}"),
    };
    let (gzip, brotli) = (ContentCoding::Gzip, ContentCoding::Brotli);
    assert_eq!(coding(&[brotli, gzip]), None);
    std::fs::write(root.srv().join("a.txt.gz"), "gz").unwrap();
    assert_eq!(coding(&[brotli, gzip]), Some(gzip));
    std::fs::write(root.srv().join("a.txt.br"), "br").unwrap();
    assert_eq!(coding(&[brotli, gzip]), Some(brotli));
    assert_eq!(coding(&[]), None);
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
    let file = std::fs::File::options().write(true).open(root.srv().join("a.txt.br")).unwrap();
    file.set_modified(old).unwrap();
    assert_eq!(coding(&[brotli, gzip]), Some(gzip), "one that is older is of another state");
    assert_eq!(found(&files, "/b.txt", &[gzip]).0, FileSaid::Missing);
}

#[test]
fn a_file_that_became_shorter_is_not_given_as_if_it_had_not() {
    let root = Root::new("shorter");
    let file = OwnedFd::from(std::fs::File::open(root.srv().join("sub/b.txt")).unwrap());
    assert_eq!(read(&file, 0, 2).unwrap(), b"bb");
    assert_eq!(read(&file, 1, 1).unwrap(), b"b");
    assert!(read(&file, 1, 2).is_err());
}
