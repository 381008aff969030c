//! A disk that is closed, torn, full, somebody else's.

use naru_cache::{Place, Terms};
use naru_spec::CacheKeyParts;

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = Folder(std::env::temp_dir().join(format!("naru-disk-{}-{name}", std::process::id())));
        let _ = fs::remove_dir_all(&folder.0);
        folder
    }

    fn settings(&self) -> CacheDisk {
        CacheDisk {
            directory: self.0.display().to_string(),
            bytes_max: 16 << 20,
            timeout: Duration::from_secs(60),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let folders = folders.map(|folder| folder.path()).filter(|path| path.is_dir());
        folders
            .flat_map(|path| fs::read_dir(path).into_iter().flatten().flatten())
            .map(|f| f.path())
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn open(folder: &Folder) -> Arc<Disk> {
    let disk = Disk::start(&folder.settings(), Origin::now()).expect("threads");
    until(|| disk.is_open()).await;
    disk
}

async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never is");
}

fn object(path: &str, vary: &str, request: &HeaderMap, body: usize) -> Arc<Object> {
    let place = Place { is_tls: false, authority: "a", target: path };
    let key = Key::new(place, &CacheKeyParts::default(), &HeaderMap::new(), &["rule"]);
    let mut head = HeaderMap::new();
    head.insert("cache-tag", "t".parse().expect("a value"));
    head.insert("vary", vary.parse().expect("a value"));
    let terms = Terms {
        came: Instant::ZERO,
        age: 0,
        lifetime: 600,
        stale_while_revalidate: 0,
        stale_if_error: 0,
        asks_first: false,
        is_strict: false,
        is_by_route: false,
    };
    Arc::new(Object::new(key, request, 200, &head, Bytes::from(vec![7; body]), terms).expect("no star"))
}

async fn find(disk: &Disk, object: &Object, request: &HeaderMap) -> Option<usize> {
    disk.find(&object.key, request).await.0.map(|found| found.body.len())
}

async fn put(disk: &Disk, object: &Arc<Object>) {
    let known = disk.find(&object.key, &HeaderMap::new()).await.1.expect("it is open");
    let before = disk.shared.counts.stored.load(Ordering::Relaxed);
    disk.keep(object, known);
    until(|| disk.shared.counts.stored.load(Ordering::Relaxed) > before).await;
}

#[tokio::test]
async fn what_was_written_outlives_its_process_and_what_was_purged_does_not() {
    let (folder, none) = (Folder::new("outlives"), HeaderMap::new());
    let (one, other, third) =
        (object("/1", ",", &none, 10), object("/2", ",", &none, 20), object("/x/3", ",", &none, 30));
    let mut german = HeaderMap::new();
    german.insert("accept-language", "de".parse().expect("a value"));
    let chosen = object("/4", "accept-language", &german, 40);
    let disk = open(&folder).await;
    for object in [&one, &other, &third, &chosen] {
        put(&disk, object).await;
    }
    assert_eq!(find(&disk, &one, &none).await, Some(10));
    assert_eq!((find(&disk, &chosen, &german).await, find(&disk, &chosen, &none).await), (Some(40), None));
    disk.forget("http://a/2");
    assert_eq!(find(&disk, &other, &none).await, None, "at once");
    disk.purge(&Purge::Prefix("http://a/x".to_owned()));
    assert_eq!(find(&disk, &third, &none).await, None);
    disk.note_cursor(77);
    until(|| folder.0.join("cursor").exists() && folder.files().len() == 4).await;
    drop(disk);

    let disk = open(&folder).await;
    assert_eq!((find(&disk, &one, &none).await, disk.cursor()), (Some(10), 77));
    assert_eq!(find(&disk, &chosen, &german).await, Some(40));
    assert_eq!((find(&disk, &other, &none).await, find(&disk, &third, &none).await), (None, None));
    put(&disk, &third).await;
    assert_eq!(find(&disk, &third, &none).await, Some(30), "what comes after a purge is kept");
    disk.purge(&Purge::All);
    assert_eq!(find(&disk, &one, &none).await, None);
    until(|| folder.files().is_empty()).await;
}

#[tokio::test]
async fn a_torn_file_is_a_miss_and_goes() {
    let (folder, none) = (Folder::new("torn"), HeaderMap::new());
    let object = object("/1", ",", &none, 5_000);
    let disk = open(&folder).await;
    for length in [0, 10, 4_096, 5_000] {
        put(&disk, &object).await;
        let files = folder.files();
        assert_eq!(files.len(), 1);
        OpenOptions::new().write(true).open(&files[0]).and_then(|file| file.set_len(length)).expect("cut");
        assert_eq!(find(&disk, &object, &none).await, None, "{length}");
        until(|| folder.files().is_empty()).await;
    }
    put(&disk, &object).await;
    fs::write(&folder.files()[0], vec![0; 6_000]).expect("zeros");
    drop(disk);
    let left = folder.0.join("00");
    fs::create_dir_all(&left).expect("a folder");
    fs::write(left.join(format!("{}.new", "0".repeat(32))), "half").expect("what a crash leaves");
    let disk = open(&folder).await;
    assert!(!left.join(format!("{}.new", "0".repeat(32))).exists());
    assert_eq!(find(&disk, &object, &none).await, None);
}

#[tokio::test]
async fn it_stays_within_its_bytes() {
    let (folder, none) = (Folder::new("bytes"), HeaderMap::new());
    let disk = open(&folder).await;
    for at in 0..60 {
        put(&disk, &object(&format!("/{at}"), ",", &none, 500_000)).await;
        let bytes: u64 =
            folder.files().iter().map(|file| fs::metadata(file).map_or(0, |about| about.len())).sum();
        assert!(bytes <= 16 << 20, "{bytes}");
    }
    let held = disk.status().held.expect("a disk");
    assert_eq!(held.0, folder.files().len() as u64);
    assert!(held.0 > 20 && held.1 <= 16 << 20, "{held:?}");
    drop(disk);
    let smaller = CacheDisk { bytes_max: 5 << 20, ..folder.settings() };
    let disk = Disk::start(&smaller, Origin::now()).expect("threads");
    until(|| disk.is_open()).await;
    until(|| folder.files().len() <= 10).await;
}

#[tokio::test]
async fn a_directory_has_one_process_at_a_time_and_the_next_one_gets_it() {
    let (folder, none) = (Folder::new("locked"), HeaderMap::new());
    let object = object("/1", ",", &none, 10);
    let first = open(&folder).await;
    put(&first, &object).await;
    let second = Disk::start(&folder.settings(), Origin::now()).expect("threads");
    until(|| second.shared.is_told.load(Ordering::Relaxed)).await;
    assert!(!second.is_open() && !second.status().is_up);
    assert_eq!(find(&second, &object, &none).await, None);
    drop(first);
    until(|| second.is_open()).await;
    until(|| second.status().is_up).await;
    assert_eq!(find(&second, &object, &none).await, Some(10));
}

#[tokio::test]
async fn what_another_start_of_the_machine_has_left_is_not_believed() {
    let (folder, none) = (Folder::new("boot"), HeaderMap::new());
    let object = object("/1", ",", &none, 10);
    let disk = open(&folder).await;
    put(&disk, &object).await;
    drop(disk);
    fs::write(folder.0.join("boot"), "another").expect("written");
    let disk = open(&folder).await;
    assert_eq!(find(&disk, &object, &none).await, None);
    assert!(folder.files().is_empty());
}

#[tokio::test]
async fn a_place_that_cannot_be_a_directory_is_missed_and_nothing_else() {
    let none = HeaderMap::new();
    let settings = CacheDisk {
        directory: "/dev/null/x".to_owned(),
        bytes_max: 16 << 20,
        timeout: Duration::from_secs(60),
    };
    let disk = Disk::start(&settings, Origin::now()).expect("threads");
    until(|| disk.shared.is_told.load(Ordering::Relaxed)).await;
    let object = object("/1", ",", &none, 10);
    assert_eq!(disk.find(&object.key, &none).await.1, None);
    disk.forget("http://a/1");
    disk.purge(&Purge::All);
    assert!(!disk.status().is_up);
}

#[test]
fn purges_are_read_as_they_were_written() {
    let mut purges = Purges::default();
    purges.add(3, Purge::Tag("a b\n".to_owned()));
    purges.add(4, Purge::Prefix("http://ä/".to_owned()));
    let text = write_purges(&purges, 9);
    let (read, known) = read_purges(&text).expect("whole");
    assert_eq!((write_purges(&read, known), known), (text.clone(), 9));
    for end in 0..text.len() {
        assert!(text.get(..end).is_none_or(|torn| read_purges(torn).is_none()), "{end}");
    }
}
