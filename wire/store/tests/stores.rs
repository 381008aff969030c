//! What both kinds of store do alike.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use naru_base::WallTime;
use naru_session::{Cursor, Id};
use naru_spec::StorePlace;
use naru_store::{RING, Store, Swapped, Write};

const TIMEOUT: Duration = Duration::from_secs(20);

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("naru-store-{}-{name}", std::process::id()));
        Folder(path)
    }

    fn place(&self) -> StorePlace {
        StorePlace::Directory(self.0.display().to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write(name: &str, expected: Option<&[u8]>, value: &[u8], until: Option<WallTime>) -> Write {
    Write { name: name.to_owned(), expected: expected.map(<[u8]>::to_vec), value: value.to_vec(), until }
}

/// The file may still be held by the thread that wrote last.
async fn open(folder: &Folder) -> Store {
    for _ in 0..1_000 {
        if let Ok(store) = Store::open(&folder.place(), "a/b", TIMEOUT) {
            return store;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is never given back");
}

#[tokio::test]
async fn a_file_is_given_back_with_its_store_and_has_what_was_written() {
    let folder = Folder::new("back");
    let now = WallTime(1_000);
    let store = open(&folder).await;
    assert_eq!(store.swap(now, write("x", None, b"1", None)).await, Ok(Swapped::Done));
    assert_eq!(store.swap(now, write("x", None, b"2", None)).await, Ok(Swapped::Beaten(Some(b"1".to_vec()))));
    assert_eq!(store.swap(now, write("x", Some(b"1"), b"2", None)).await, Ok(Swapped::Done));
    assert_eq!(store.swap(now, write(RING, None, b"ring", None)).await, Ok(Swapped::Done));
    store.tell(now, vec![(Id(7), WallTime(u64::MAX))]).await.unwrap();
    let news = store.news(Cursor::default(), 5).await.unwrap();
    assert_eq!((news.cursor, news.revoked.len()), (Cursor { epoch: 5, seq: 1 }, 1));
    drop(store);

    let store = open(&folder).await;
    assert_eq!(store.read("x").await, Ok((Some(b"ring".to_vec()), Some(b"2".to_vec()))));
    let news = store.news(Cursor { epoch: 5, seq: 0 }, 6).await.unwrap();
    assert_eq!(news.revoked, [(Id(7), WallTime(u64::MAX))]);
    assert_eq!(store.news(news.cursor, 6).await.unwrap().revoked, []);
    let other = store.news(Cursor { epoch: 4, seq: 100 }, 6).await.unwrap();
    assert_eq!(other.revoked.len(), 1, "a cursor of another store begins anew");
}

#[tokio::test]
async fn of_many_who_write_at_once_one_wins_each_time() {
    let folder = Folder::new("many");
    let store = std::rc::Rc::new(open(&folder).await);
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let all: Vec<_> = (0..50_u8)
                .map(|at| {
                    let store = std::rc::Rc::clone(&store);
                    tokio::task::spawn_local(async move {
                        store.swap(WallTime(1), write("x", None, &[at], None)).await.unwrap() == Swapped::Done
                    })
                })
                .collect();
            let mut won = 0;
            for one in all {
                won += u32::from(one.await.unwrap());
            }
            assert_eq!(won, 1);
        })
        .await;
}

#[tokio::test]
async fn what_is_over_is_thrown_away() {
    let folder = Folder::new("over");
    let store = open(&folder).await;
    let at = |seconds: u64| WallTime(seconds * 1_000_000_000);
    store.swap(at(1_000), write("x", None, b"1", Some(at(1_010)))).await.unwrap();
    store.tell(at(1_000), vec![(Id(1), at(1_010)), (Id(2), at(9_000))]).await.unwrap();
    store.tell(at(5_000), vec![(Id(3), at(9_000))]).await.unwrap();
    assert_eq!(store.read("x").await.unwrap().1, None);
    let news = store.news(Cursor::default(), 1).await.unwrap();
    assert_eq!(news.revoked.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(news.cursor.seq, 3);
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_told_without_its_password() {
    assert!(Store::open(&StorePlace::Directory("/dev/null/x".into()), "a", TIMEOUT).is_err());
    let urls = vec!["redis://:hunter2@127.0.0.1:1/".to_owned()];
    let store = Store::open(&StorePlace::Redis { urls, prefix: "p".into() }, "a", TIMEOUT).unwrap();
    let away = store.news(Cursor::default(), 1).await.unwrap_err();
    assert!(!away.0.contains("hunter2") && !format!("{store:?}").contains("hunter2"), "{away:?}");
}
