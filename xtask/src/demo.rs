//! What does it look like? Builds naru, starts it on an example beside an upstream of its own, and says what to try.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::http::get;
use crate::workspace::{program, root, run as run_command};

const EXAMPLE: &str = "examples/hello/envoy.yaml";
/// As the example has them.
const LISTENER: u16 = 8080;
const UPSTREAM: u16 = 8081;
const ADMIN: u16 = 15000;

const LOOK: Duration = Duration::from_millis(50);
/// So many looks until it must answer.
const LOOKS_MAX: u32 = 200;

#[derive(clap::Args)]
pub struct Options {
    /// End once everything answers, instead of going on until Ctrl-C.
    #[arg(long)]
    check: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    for port in [LISTENER, UPSTREAM, ADMIN] {
        let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        ensure!(is_free, "port {port} is in use; {EXAMPLE} needs it ('ss -ltnp' shows who has it)");
    }
    println!("Building naru and an upstream for it; this takes some minutes the first time.");
    let packages = ["--package", "naru", "--package", "naru-bench"];
    run_command(
        Command::new(env!("CARGO"))
            .args(["build", "--release", "--bin", "naru", "--bin", "bench-upstream"])
            .args(packages)
            .current_dir(root()),
    )?;
    let mut programs = [
        Running::start("the upstream", "bench-upstream", &["--listen", &format!("127.0.0.1:{UPSTREAM}")])?,
        Running::start("naru", "naru", &["proxy", "--config", EXAMPLE, "--workers", "1"])?,
    ];
    let mut looks = 0;
    while !matches!(get(LISTENER, "/"), Ok((200, _))) {
        programs.iter_mut().try_for_each(Running::ensure_alive)?;
        looks += 1;
        ensure!(looks < LOOKS_MAX, "naru does not answer on port {LISTENER}");
        sleep(LOOK);
    }
    if options.check {
        for (path, status) in [("/hello", 200), ("/echo", 200), ("/old", 301), ("/nowhere/", 200)] {
            let (answered, _) = get(LISTENER, path)?;
            ensure!(answered == status, "{path} was answered {answered}, not {status}");
        }
        ensure!(get(ADMIN, "/ready")?.0 == 200, "the admin interface is not ready");
        println!("Everything answers.");
        return Ok(());
    }
    println!(
        "
naru listens on http://127.0.0.1:{LISTENER} as {EXAMPLE} says. In another terminal, try

  curl -i http://127.0.0.1:{LISTENER}/                         one of ten goes to the canary
  curl -i -H 'x-version: canary' http://127.0.0.1:{LISTENER}/  all of these do
  curl http://127.0.0.1:{LISTENER}/echo                        what the upstream is sent
  curl http://127.0.0.1:{LISTENER}/hello                       naru answers by itself
  curl http://127.0.0.1:{ADMIN}/stats                       what it counts

Its access log follows. Ctrl-C ends it."
    );
    loop {
        programs.iter_mut().try_for_each(Running::ensure_alive)?;
        sleep(LOOK);
    }
}

/// A program that writes to this terminal and ends with us, however we end.
struct Running {
    name: &'static str,
    child: Child,
}

impl Running {
    fn start(name: &'static str, file: &str, arguments: &[&str]) -> anyhow::Result<Running> {
        // Should we be killed, the kernel tells it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(program(file)).args(arguments);
        // Ctrl-C is for us alone: asked twice, naru would not wait for its requests.
        command.process_group(0);
        let child = command.current_dir(root()).stdin(Stdio::null()).spawn();
        Ok(Running { name, child: child.with_context(|| format!("starting {name}"))? })
    }

    fn ensure_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended ({status})", self.name),
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // One that has just ended by itself needs no signal.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}
