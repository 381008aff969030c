//! Takeovers from which nothing comes: the old process goes on as if nothing had happened.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use naru_tests::program::run;
use naru_tests::{Bootstrap, Program, Speaks, Upstream, Wire, client, until};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType,
};

use super::Stand;

const GET: &str = "GET /bytes/2 HTTP/1.1\r\nhost: naru.test\r\n\r\n";
const ASK: &str = "{\"takeover\":1,\"kind\":\"ask\",\"version\":\"test\"}";
const SERVING: &str = "{\"takeover\":1,\"kind\":\"serving\",\"left\":[],\"admin\":false}";

/// Somebody who speaks to a process at its takeover socket.
struct Stranger(OwnedFd);

impl Stranger {
    fn connect(stand: &Stand) -> Stranger {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(stand.place()).unwrap()).unwrap();
        Stranger(socket)
    }

    fn say(&self, words: &[u8]) {
        let mut beside = SendAncillaryBuffer::default();
        rustix::net::sendmsg(&self.0, &[IoSlice::new(words)], &mut beside, SendFlags::NOSIGNAL).unwrap();
    }

    /// The next packet, and what came with it. Empty once the other side has hung up.
    async fn hear(&self) -> (String, Vec<OwnedFd>) {
        until("a packet", async || {
            let mut bytes = vec![0; 70_000];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let count = match rustix::net::recvmsg(&self.0, into, &mut beside, flags) {
                Ok(received) => received.bytes,
                Err(rustix::io::Errno::AGAIN) => return None,
                Err(_) => 0,
            };
            let mut sockets = Vec::new();
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    sockets.extend(rights);
                }
            }
            Some((String::from_utf8_lossy(&bytes[..count]).into_owned(), sockets))
        })
        .await
    }
}

/// It serves an old connection, and new ones, and all of them alike.
async fn goes_on(old: &mut Program, kept: &mut Wire) {
    kept.send(GET).await;
    let answer = kept.response().await;
    assert_eq!((answer.text().as_str(), answer.head.get("connection")), ("xx", None));
    for _ in 0..8 {
        assert_eq!(client::get(old.address, "/bytes/3").await.text(), "xxx");
    }
    assert!(!old.has_ended());
    assert!(!old.stderr().contains("draining"), "{}", old.stderr());
}

#[tokio::test]
async fn whoever_breaks_the_words_changes_nothing() {
    let up = Upstream::plain(Speaks::Http1).await;
    let stand = Stand::new(&Bootstrap::to(up.address).admin().text());
    let mut old = stand.first(&["--workers", "2"]).await;
    let mut kept = Wire::connect(old.address).await;
    kept.send(GET).await;
    kept.response().await;
    let failed = "naru: this process goes on";
    // Somebody who only looks.
    drop(Stranger::connect(&stand));
    goes_on(&mut old, &mut kept).await;
    assert!(!old.stderr().contains(failed));

    let other = ASK.replace("\"takeover\":1", "\"takeover\":2");
    let long = "x".repeat(66_000);
    for (count, (words, why)) in [
        (other.as_str(), "version 2"),
        ("nonsense", "no JSON"),
        (&long, "too long"),
        (SERVING, "did not begin by asking"),
    ]
    .into_iter()
    .enumerate()
    {
        let stranger = Stranger::connect(&stand);
        stranger.say(words.as_bytes());
        let (answer, sockets) = stranger.hear().await;
        assert!(answer.contains("refused") && answer.contains(why), "{answer}");
        assert!(sockets.is_empty());
        old.says(failed, count + 1).await;
        goes_on(&mut old, &mut kept).await;
    }

    // One that dies before it has received, one that has received all, and one that says something else then.
    for (count, (hears, says)) in [(0, None), (4, None), (4, Some(ASK))].into_iter().enumerate() {
        let stranger = Stranger::connect(&stand);
        stranger.say(ASK.as_bytes());
        let mut all = Vec::new();
        for _ in 0..hears {
            let (packet, sockets) = stranger.hear().await;
            all.extend(sockets);
            if packet.contains("complete") {
                break;
            }
        }
        // Two workers', and the admin interface's.
        assert!(hears == 0 || all.len() == 3, "{all:?}");
        if let Some(says) = says {
            stranger.say(says.as_bytes());
            assert!(stranger.hear().await.0.contains("did not say that it serves"));
        }
        drop(stranger);
        drop(all);
        old.says(failed, count + 5).await;
        goes_on(&mut old, &mut kept).await;
    }

    // The configuration changes while another process gets ready.
    let stranger = Stranger::connect(&stand);
    stranger.say(ASK.as_bytes());
    while !stranger.hear().await.0.contains("complete") {}
    old.signal(rustix::process::Signal::HUP);
    old.says("was read again; it is in effect", 1).await;
    stranger.say(SERVING.as_bytes());
    let (answer, _) = stranger.hear().await;
    assert!(answer.contains("has changed meanwhile"), "{answer}");
    goes_on(&mut old, &mut kept).await;
    // And after all of that it can still be taken over.
    let new = stand.next(&[]).await;
    assert_eq!(old.ends().await.status.code(), Some(0));
    assert_eq!(client::get(new.address, "/bytes/3").await.text(), "xxx");
}

/// What the words come to: everything up to `Complete`.
async fn given(stranger: &Stranger) -> Vec<std::net::TcpListener> {
    stranger.say(ASK.as_bytes());
    let mut sockets = Vec::new();
    loop {
        let (packet, given) = stranger.hear().await;
        sockets.extend(given.into_iter().map(std::net::TcpListener::from));
        if packet.contains("complete") {
            return sockets;
        }
    }
}

#[tokio::test]
async fn the_file_is_not_read_again_once_another_process_was_told_that_it_serves() {
    let up = Upstream::plain(Speaks::Http1).await;
    let stand = Stand::new(&Bootstrap::to(up.address).text());
    for _ in 0..8 {
        let old = stand.first(&["--workers", "2"]).await;
        let stranger = Stranger::connect(&stand);
        let sockets = given(&stranger).await;
        // Both are there when it looks next.
        old.signal(rustix::process::Signal::STOP);
        old.signal(rustix::process::Signal::HUP);
        stranger.say(SERVING.as_bytes());
        old.signal(rustix::process::Signal::CONT);
        let (answer, _) = stranger.hear().await;
        if answer.contains("has changed meanwhile") {
            // The signal was first.
            old.says("was read again; it is in effect", 1).await;
            continue;
        }
        assert!(answer.contains("draining"), "{answer}");
        let exit = old.ends().await;
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
        assert!(!exit.stderr.contains("read again; it is in effect"), "{}", exit.stderr);
        drop(sockets);
    }
}

#[tokio::test]
async fn sockets_that_were_lent_in_vain_are_the_old_processs_alone_again() {
    let up = Upstream::plain(Speaks::Http1).await;
    let stand = Stand::new(&Bootstrap::to(up.address).text());
    for is_gone in [true, false] {
        let old = stand.first(&["--workers", "1"]).await;
        let stranger = Stranger::connect(&stand);
        let sockets = given(&stranger).await;
        if is_gone {
            drop(stranger);
            old.says("naru: this process goes on", 1).await;
            // Who is answered after that comes after what was done about it.
            let next = Stranger::connect(&stand);
            next.say(b"nonsense");
            assert!(next.hear().await.0.contains("refused"));
        }
        let address = old.address;
        old.signal(rustix::process::Signal::TERM);
        assert_eq!(old.ends().await.status.code(), Some(0));
        // It lets nobody begin to connect to what is its own, before it closes it: a handle of somebody else's shows
        // it. What somebody else may serve from stays as it was.
        let patience = std::time::Duration::from_millis(500);
        let connected = tokio::time::timeout(patience, tokio::net::TcpStream::connect(address)).await;
        assert_eq!(connected.is_err(), is_gone, "{connected:?}");
        drop(sockets);
    }
}

#[tokio::test]
async fn a_process_that_is_ended_during_a_takeover_leaves_the_sockets_to_the_other() {
    let up = Upstream::plain(Speaks::Http1).await;
    let stand = Stand::new(&Bootstrap::to(up.address).text());
    let old = stand.first(&["--workers", "2"]).await;
    let address = old.address;
    let stranger = Stranger::connect(&stand);
    let sockets = given(&stranger).await;
    assert_eq!(sockets.len(), 2);
    old.signal(rustix::process::Signal::TERM);
    assert_eq!(old.ends().await.status.code(), Some(0));
    assert_eq!(stranger.hear().await.0, "", "it has hung up");
    // Clients come in as before.
    for _ in 0..16 {
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        until("it to be let in", async || sockets.iter().find_map(|socket| socket.accept().ok())).await;
    }
}

#[tokio::test]
async fn a_new_process_that_cannot_serve_ends_and_says_why() {
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::to(up.address);
    let stand = Stand::new(&bootstrap.text());
    let mut old = stand.first(&[]).await;
    let mut kept = Wire::connect(old.address).await;
    let place = stand.place();
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = foreign.local_addr().unwrap();
    let bad = bootstrap.clone().manager("nonsense: 3").text();
    let second = bootstrap.clone().listen_on(taken).text().replace("- name: main", "- name: second");
    let (_, second) = second.split_once("  listeners:\n").unwrap();
    let in_use =
        bootstrap.text().replacen("  listeners:\n", &format!("  listeners:\n{}", listeners(second)), 1);
    for (text, why) in [(&bad, "nonsense"), (&in_use, "in use by another process")] {
        let exit = run(text, &["--takeover", "--takeover-path", &place]).await;
        assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
        assert!(exit.stderr.contains(why), "{}", exit.stderr);
        goes_on(&mut old, &mut kept).await;
    }
    // One that does not take over leaves the place to who has it.
    let exit = run(&bootstrap.text(), &["--takeover-path", &place]).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains("another process of naru is there; --takeover"), "{}", exit.stderr);
    goes_on(&mut old, &mut kept).await;
    let no_socket = stand.directory.write("file", "precious");
    let exit = run(&bootstrap.text(), &["--takeover-path", no_socket.to_str().unwrap()]).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains("no socket"), "{}", exit.stderr);
    assert_eq!(std::fs::read_to_string(no_socket).unwrap(), "precious");
}

/// Only the listeners of a file that goes on with clusters.
fn listeners(text: &str) -> &str {
    text.split_once("  clusters:\n").map_or(text, |(listeners, _)| listeners)
}
