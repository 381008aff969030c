//! The built program, as a process.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::files::Directory;
use crate::{Bootstrap, until};

/// A process of naru that carries traffic.
#[derive(Debug)]
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    /// Where the file names an admin address.
    pub admin: Option<SocketAddr>,
    files: Directory,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Starts it and waits until it listens.
    pub async fn start(bootstrap: &Bootstrap, arguments: &[&str]) -> Program {
        Program::listens(Started::spawn(&bootstrap.text(), arguments), &bootstrap.text()).await
    }

    /// As [`Program::start`], on a file that may be written again, and that others may be started on.
    pub async fn on(file: &Path, arguments: &[&str]) -> Program {
        let text = std::fs::read_to_string(file).unwrap();
        Program::listens(Started::spawn_on(file, Directory::new(), arguments), &text).await
    }

    /// The same, of a process that its caller starts: its standard error goes to the file `stderr` of this directory.
    pub async fn of(child: Child, files: Directory, text: &str) -> Program {
        files.write("stdout", "");
        Program::listens(Started { child, files }, text).await
    }

    async fn listens(mut child: Started, text: &str) -> Program {
        let has_admin = text.starts_with("admin:");
        let (address, admin) = until("the program to listen", async || {
            if let Some(status) = child.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", child.stderr());
            }
            let said = child.stderr();
            let address = said.lines().find_map(|line| line.strip_prefix("naru: listener 'main' on "));
            let admin = said.lines().find_map(|line| line.strip_prefix("naru: admin on http://"));
            let is_complete = address.is_some() && said.ends_with('\n') && (admin.is_some() || !has_admin);
            is_complete
                .then(|| (address.unwrap().parse().unwrap(), admin.map(|admin| admin.parse().unwrap())))
        })
        .await;
        let Started { child, files } = child;
        Program { child, address, admin, files }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The memory that it has now, in bytes. From now on what it had before counts for nothing in [`Program::memory_max`]:
    /// a start takes more than what comes after it (proc_pid_clear_refs(5)).
    pub fn memory_from_now(&self) -> u64 {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
        self.memory()
    }

    /// The most memory that it has had at once, in bytes.
    pub fn memory_max(&self) -> u64 {
        self.memory_of("VmHWM:")
    }

    /// The memory that it has now, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory_of("VmRSS:")
    }

    fn memory_of(&self, word: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(word)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.files.path("stdout")).unwrap()
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.files.path("stderr")).unwrap()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said this for the `count`th time.
    pub async fn says(&self, words: &str, count: usize) {
        until(&format!("{words:?} to be said {count} times"), async || {
            (self.stderr().matches(words).count() >= count).then_some(())
        })
        .await;
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it has ended by itself.
    pub async fn ends(mut self) -> Exit {
        let child = &mut self.child;
        let status = until("the program to end", async || child.try_wait().unwrap()).await;
        Exit { status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it on this file until it ends, which it must.
pub async fn run(text: &str, arguments: &[&str]) -> Exit {
    let mut started = Started::spawn(text, arguments);
    let status = until("the program to end", async || started.child.try_wait().unwrap()).await;
    let stdout = std::fs::read_to_string(started.files.path("stdout")).unwrap();
    Exit { status, stdout, stderr: started.stderr() }
}

struct Started {
    child: Child,
    files: Directory,
}

impl Started {
    fn spawn(text: &str, arguments: &[&str]) -> Started {
        let files = Directory::new();
        let config = files.write("bootstrap.yaml", text);
        Started::spawn_on(&config, files, arguments)
    }

    fn spawn_on(config: &Path, files: Directory, arguments: &[&str]) -> Started {
        // One, so that what is counted is counted in one place, unless the test is about more.
        let workers: &[&str] = if arguments.contains(&"--workers") { &[] } else { &["--workers", "1"] };
        let child = Command::new(program())
            .args(["proxy", "--config"])
            .arg(config)
            .args(workers)
            .args(arguments)
            // Its takeover socket goes with the test.
            .env("XDG_RUNTIME_DIR", files.path(""))
            .stdin(Stdio::null())
            .stdout(File::create(files.path("stdout")).unwrap())
            .stderr(File::create(files.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Started { child, files }
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.files.path("stderr")).unwrap()
    }
}

/// Builds the program beside this test, in the same profile, and says where it is. `NARU_PROGRAM` names one that is built:
/// what is measured is not a program with checks.
pub fn program() -> &'static Path {
    static PROGRAM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(built) = std::env::var_os("NARU_PROGRAM") {
            return built.into();
        }
        // .../target/PROFILE/deps/TEST
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let target = profile.parent().unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // With a test of the workspace beside it, so that libraries have the features that they have for tests: of one
        // package by itself they would all be built anew.
        cargo.args(["build", "--quiet", "--workspace", "--bin", "naru", "--test", "house", "--target-dir"]);
        cargo.arg(target);
        match profile.file_name().and_then(|name| name.to_str()) {
            Some("debug") => {}
            Some(name) => {
                cargo.args(["--profile", name]);
            }
            None => panic!("{} is in no profile", test.display()),
        }
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(status.success(), "the program cannot be built");
        profile.join("naru")
    })
}
