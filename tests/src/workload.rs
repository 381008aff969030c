//! `naru workload`, as a process.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::files::Directory;
use crate::program::{Exit, program};
use crate::until;

/// A service that pretends.
#[derive(Debug)]
pub struct Workload {
    child: Child,
    pub address: SocketAddr,
    files: Directory,
}

impl Workload {
    /// On a free port unless one is said, and without a proxy.
    pub async fn start(arguments: &[&str]) -> Workload {
        Workload::start_in(&[], arguments).await
    }

    /// With these variables.
    pub async fn start_in(environment: &[(&str, &str)], arguments: &[&str]) -> Workload {
        let port: &[&str] = if arguments.contains(&"--port") { &[] } else { &["--port", "0"] };
        let (mut child, files) = spawn(environment, &[port, arguments].concat());
        let address = until("the workload to listen", async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", read(&files, "stderr"));
            }
            let said = read(&files, "stdout");
            let (line, _) = said.split_once('\n')?;
            let (_, address) = line.rsplit_once(" listens on ").unwrap_or_else(|| panic!("{line}"));
            Some(address.parse().unwrap())
        })
        .await;
        Workload { child, address, files }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn stdout(&self) -> String {
        read(&self.files, "stdout")
    }

    /// A line of /proc/PID/status, such as `VmHWM`, in bytes.
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Waits until it has ended by itself.
    pub async fn ends(mut self) -> Exit {
        let child = &mut self.child;
        let status = until("the workload to end", async || child.try_wait().unwrap()).await;
        Exit { status, stdout: read(&self.files, "stdout"), stderr: read(&self.files, "stderr") }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it with these words until it ends, which it must.
pub async fn run(environment: &[(&str, &str)], arguments: &[&str]) -> Exit {
    let (mut child, files) = spawn(environment, arguments);
    let status = until("the workload to end", async || child.try_wait().unwrap()).await;
    Exit { status, stdout: read(&files, "stdout"), stderr: read(&files, "stderr") }
}

fn spawn(environment: &[(&str, &str)], arguments: &[&str]) -> (Child, Directory) {
    let files = Directory::new();
    let child = Command::new(program())
        .arg("workload")
        .args(arguments)
        // What this machine says of ports and proxies is not what a test says.
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(File::create(files.path("stdout")).unwrap())
        .stderr(File::create(files.path("stderr")).unwrap())
        .spawn()
        .unwrap();
    (child, files)
}

fn read(files: &Directory, name: &str) -> String {
    std::fs::read_to_string(files.path(name)).unwrap()
}
