//! Under systemd, which a test plays: it opens sockets, and wants to know how the process is.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use naru_tests::files::Directory;
use naru_tests::program::program;
use naru_tests::{Bootstrap, Program, Speaks, Upstream, client, until};
use rustix::process::Signal;

/// Makes the sockets the third and fourth descriptor, says so, and becomes the program.
const PARENT: &str = "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$ LISTEN_FDS=$1 LISTEN_FDNAMES=$2; \
                      export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES; shift 2; exec \"$@\"";

/// Who is told how the service is.
struct Manager {
    socket: UnixDatagram,
    place: std::path::PathBuf,
    directory: Directory,
}

impl Manager {
    fn new() -> Manager {
        let directory = Directory::new();
        let place = directory.path("notify");
        let socket = UnixDatagram::bind(&place).unwrap();
        socket.set_nonblocking(true).unwrap();
        Manager { socket, place, directory }
    }

    /// The next words that have this line among them.
    async fn hears(&self, line: &str) -> String {
        until(&format!("{line} to be told"), async || {
            let mut bytes = [0; 4_096];
            let count = self.socket.recv(&mut bytes).ok()?;
            let words = String::from_utf8(bytes[..count].to_vec()).unwrap();
            words.lines().any(|told| told == line).then_some(words)
        })
        .await
    }

    /// Starts the service on two sockets.
    async fn starts(
        &self,
        bootstrap: &Bootstrap,
        sockets: [&TcpListener; 2],
        names: &str,
        more: &[(&str, &str)],
    ) -> Program {
        let files = Directory::new();
        let text = bootstrap.text();
        let config = self.directory.write("bootstrap.yaml", &text);
        let [first, second] = sockets.map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
        let child = Command::new("sh")
            .args(["-c", PARENT, "systemd", "2", names])
            .arg(program())
            .args(["proxy", "--workers", "3", "--config"])
            .arg(config)
            .env("NOTIFY_SOCKET", &self.place)
            .env("RUNTIME_DIRECTORY", self.directory.path(""))
            .envs(more.iter().copied())
            .stdin(Stdio::from(first))
            .stdout(Stdio::from(second))
            .stderr(File::create(files.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Program::of(child, files, &text).await
    }
}

fn listening() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn sockets_are_taken_by_name_or_by_address_and_it_is_told_how_the_service_is() {
    let up = Upstream::plain(Speaks::Http1).await;
    let manager = Manager::new();
    for is_named in [true, false] {
        let ((socket, address), (other, elsewhere)) = (listening(), listening());
        let (names, wanted) =
            if is_named { ("main:other", ([127, 0, 0, 1], 0).into()) } else { (":", address) };
        let bootstrap = Bootstrap::to(up.address).listen_on(wanted).admin();
        let program = manager.starts(&bootstrap, [&socket, &other], names, &[]).await;
        let told = manager.hears("READY=1").await;
        assert!(told.contains("STATUS=Serving 1 listener"), "{told}");
        assert_eq!(program.address, address);
        let unused = format!("on {elsewhere} is for no listener");
        assert!(program.stderr().contains(&unused), "{}", program.stderr());
        // It shares one socket among its workers.
        for _ in 0..32 {
            assert_eq!(client::get(address, "/bytes/3").await.text(), "xxx");
        }
        program.signal(Signal::HUP);
        let told = manager.hears("RELOADING=1").await;
        let since = told.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(since.parse::<u64>().unwrap() > 0);
        manager.hears("READY=1").await;
        program.signal(Signal::TERM);
        manager.hears("STOPPING=1").await;
        assert_eq!(program.ends().await.status.code(), Some(0));
        // It belongs to systemd, which keeps it for the next one.
        assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    }
}

#[tokio::test]
async fn a_successor_is_the_main_process() {
    let up = Upstream::plain(Speaks::Http1).await;
    let manager = Manager::new();
    let ((socket, address), (other, _)) = (listening(), listening());
    let bootstrap = Bootstrap::to(up.address).listen_on(address).admin();
    let old = manager.starts(&bootstrap, [&socket, &other], "main:other", &[]).await;
    manager.hears("READY=1").await;
    old.signal(Signal::USR2);
    let told = manager.hears("READY=1").await;
    let id: i32 = told.lines().find_map(|line| line.strip_prefix("MAINPID=")).unwrap().parse().unwrap();
    assert_ne!(id, i32::try_from(old.id()).unwrap());
    assert_eq!(old.ends().await.status.code(), Some(0));
    assert_eq!(client::get(address, "/bytes/3").await.text(), "xxx");
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, Signal::TERM).unwrap();
    manager.hears("STOPPING=1").await;
    until("it to end", async || rustix::process::test_kill_process(id).is_err().then_some(())).await;
}

#[tokio::test]
async fn the_watchdog_hears_that_it_is_well() {
    let up = Upstream::plain(Speaks::Http1).await;
    let manager = Manager::new();
    let ((socket, address), (other, _)) = (listening(), listening());
    let bootstrap = Bootstrap::to(up.address).listen_on(address).admin();
    let watched = [("WATCHDOG_USEC", "100000")];
    let _program = manager.starts(&bootstrap, [&socket, &other], "main:other", &watched).await;
    for _ in 0..3 {
        manager.hears("WATCHDOG=1").await;
    }
}

#[tokio::test]
async fn what_is_no_listening_socket_is_told() {
    let up = Upstream::plain(Speaks::Http1).await;
    let directory = Directory::new();
    let config = directory.write("bootstrap.yaml", &Bootstrap::to(up.address).text());
    let (socket, _other) = UnixDatagram::pair().unwrap();
    let output = Command::new("sh")
        .args(["-c", PARENT, "systemd", "1", "main"])
        .arg(program())
        .args(["proxy", "--config"])
        .arg(config)
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("socket 3 of LISTEN_FDS (main) cannot be used"), "{said}");
}

/// Each is in the manual of systemd; a word that is wrong there is ignored, and nobody hears of it.
#[test]
fn the_units_name_the_program_and_what_it_understands() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    let service = std::fs::read_to_string(units.join("naru.service")).unwrap();
    for line in [
        "Type=notify",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "NotifyAccess=all",
        "RuntimeDirectory=naru",
        "ExecStart=/usr/local/bin/naru proxy --config /etc/naru/bootstrap.yaml",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
    ] {
        assert!(service.lines().any(|found| found.starts_with(line)), "{line} is not in naru.service");
    }
    let socket = std::fs::read_to_string(units.join("naru.socket")).unwrap();
    assert!(socket.contains("FileDescriptorName=") && socket.contains("ListenStream="), "{socket}");
}
