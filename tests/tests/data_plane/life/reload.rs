//! `naru proxy` reads its file again, and certificates that change.

use naru_tests::files::Directory;
use naru_tests::program::program;
use naru_tests::up::free_address;
use naru_tests::{Authority, Bootstrap, Client, Speaks, Wire, client, until};
use naru_tls::Connector;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use super::Stand;

fn saying(word: &str) -> Bootstrap {
    Bootstrap::new(&format!(
        "- match: {{ prefix: / }}\n  direct_response: {{ status: 200, body: {{ inline_string: {word} }} }}\n"
    ))
    .admin()
}

#[tokio::test]
async fn sighup_puts_a_file_in_force_or_changes_nothing() {
    let stand = Stand::new(&saying("one").text());
    let mut program = stand.first(&[]).await;
    let admin = program.admin.unwrap();
    let mut kept = Client::plain(program.address, Speaks::Http1).await;
    assert_eq!(kept.get("/").await.text(), "one");
    stand.save(&saying("two").text());
    program.signal(Signal::HUP);
    program.says("was read again; it is in effect", 1).await;
    assert_eq!(kept.get("/").await.text(), "two", "on the same connection");
    assert!(client::get(admin, "/config_dump").await.text().contains("\"two\""));
    for (count, (text, why)) in [
        (saying("bad").manager("nonsense: 3").text(), "nonsense"),
        ("- no\n- file\n".to_owned(), "bootstrap.yaml"),
    ]
    .into_iter()
    .enumerate()
    {
        stand.save(&text);
        program.signal(Signal::HUP);
        program.says("was read again and cannot be; what was there before goes on", count + 1).await;
        assert!(program.stderr().contains(why), "{}", program.stderr());
        assert_eq!(kept.get("/").await.text(), "two");
        assert!(client::get(admin, "/config_dump").await.text().contains("\"two\""));
    }
    std::fs::remove_file(stand.file()).unwrap();
    program.signal(Signal::HUP);
    program.says("cannot be read", 1).await;
    stand.save(&saying("three").text());
    program.signal(Signal::HUP);
    program.says("was read again; it is in effect", 2).await;
    assert_eq!(kept.get("/").await.text(), "three");
    assert!(!program.has_ended());
}

/// A listener whose certificate is in these files.
fn secured(files: &Directory, authority: &Authority) -> Bootstrap {
    issue(files, authority);
    saying("secret").tls(authority, &["http/1.1"])
}

fn in_files(bootstrap: &Bootstrap, files: &Directory) -> String {
    let text = bootstrap.text();
    let lines = text.lines().map(|line| match line.split_once("{ inline_string: \"-----BEGIN") {
        Some((before, _)) if before.contains("chain") => {
            format!("{before}{{ filename: {:?} }}", files.path("chain.pem"))
        }
        Some((before, _)) => format!("{before}{{ filename: {:?} }}", files.path("key.pem")),
        None => line.to_owned(),
    });
    lines.map(|line| line + "\n").collect()
}

fn issue(files: &Directory, authority: &Authority) {
    let issued = authority.issue();
    files.write("chain.pem", &issued.chain);
    files.write("key.pem", &issued.key);
}

#[tokio::test]
async fn certificates_that_change_are_shown_and_sessions_live_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Directory::new();
    let stand = Stand::new(&in_files(&secured(&files, &old), &files));
    let program = stand.first(&[]).await;
    let resuming = old.connector(&["http/1.1"]);
    let shake = async |connector: &Connector| -> std::io::Result<bool> {
        let stream = TcpStream::connect(program.address).await?;
        let (mut stream, handshake) = connector.connect(stream).await?;
        // Tickets come with the first bytes.
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n")
            .await?;
        let mut byte = [0];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut byte).await?;
        Ok(handshake.resumed)
    };
    assert!(!shake(&resuming).await.unwrap());
    assert!(shake(&resuming).await.unwrap());
    let mut kept = Client::secured(program.address, Speaks::Http1Tls, &resuming).await.unwrap().0;
    assert_eq!(kept.get("/").await.text(), "secret");

    // A key that does not belong to the certificate is in nobody's way.
    files.write("key.pem", &new.issue().key);
    program.says("certificates have changed and cannot be used", 1).await;
    assert!(shake(&old.connector(&["http/1.1"])).await.is_ok());
    issue(&files, &new);
    program.says("certificates have changed; they are in effect", 1).await;
    assert!(shake(&new.connector(&["http/1.1"])).await.is_ok());
    assert!(shake(&old.connector(&["http/1.1"])).await.is_err(), "the old one is not shown any more");
    assert!(shake(&resuming).await.unwrap(), "a session needs no certificate");
    assert_eq!(kept.get("/").await.text(), "secret");
}

#[tokio::test]
async fn a_listener_that_moves_under_load_answers_everybody_who_was_let_in() {
    let [one, two] = [(); 2].map(|()| naru_tests::up::free_address());
    let stand = Stand::new(&saying("x").listen_on(one).text());
    let program = stand.first(&["--workers", "2"]).await;
    for (count, at) in [two, one, two, one].into_iter().enumerate() {
        let before = if at == one { two } else { one };
        // They connect until nobody is there any more; who was let in is answered.
        let asking = tokio::spawn(async move {
            let mut answered = 0;
            let mut waiting = tokio::task::JoinSet::new();
            while let Ok(stream) = TcpStream::connect(before).await {
                waiting.spawn(async move {
                    let mut wire = Wire::new(stream);
                    let is_sent =
                        wire.try_send("GET / HTTP/1.1\r\nhost: naru.test\r\nconnection: close\r\n\r\n").await;
                    assert!(is_sent, "it was let in, and then thrown out");
                    assert_eq!(wire.response().await.text(), "x");
                });
                if waiting.len() > 20 {
                    waiting.join_next().await.unwrap().unwrap();
                    answered += 1;
                }
            }
            while let Some(done) = waiting.join_next().await {
                done.unwrap();
                answered += 1;
            }
            answered
        });
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        stand.save(&saying("x").listen_on(at).text());
        program.signal(Signal::HUP);
        program.says("was read again; it is in effect", count + 1).await;
        let answered: u32 = naru_tests::within("the last client", asking).await.unwrap();
        assert!(answered > 0);
        assert_eq!(client::get(at, "/").await.text(), "x");
    }
}

/// As behind a pipe whose reader has gone, or on a disk that is full.
#[tokio::test]
async fn traffic_goes_on_where_standard_error_cannot_be_written() {
    let mut command = std::process::Command::new(program());
    let address = free_address();
    let files = Directory::new();
    let file = files.write("naru.yaml", &saying("one").listen_on(address).text());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    command.args(["proxy", "--takeover-path", "none", "-c"]).arg(&file).stderr(full);
    let mut naru = command.spawn().unwrap();
    let process = Pid::from_child(&naru);
    until("it to listen", async || TcpStream::connect(address).await.ok()).await;
    // What is said of a change is lost, whether it can be or not.
    for text in ["static_resources: [".to_owned(), saying("two").listen_on(address).text()] {
        files.write("next.yaml", &text);
        std::fs::rename(files.path("next.yaml"), &file).unwrap();
        kill_process(process, Signal::HUP).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert_eq!(client::get(address, "/").await.status, 200);
    }
    let is_changed = async || (client::get(address, "/").await.text() == "two").then_some(());
    until("the change to be in effect", is_changed).await;
    kill_process(process, Signal::TERM).unwrap();
    let status = until("it to end", async || naru.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0));
}
