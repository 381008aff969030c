//! What must a bare Debian machine have before the tests and benches run? Installs it; quick when all is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::workspace::{find_program, node_packages, output, python_environment, run as run_command};

/// A program and the package that brings it.
const PROGRAMS: [(&str, &str); 17] = [
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("valgrind", "valgrind"),
    ("vgdb", "valgrind"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("pebble", "pebble"),
    ("setpriv", "util-linux"),
    ("redis-server", "redis-server"),
    ("chromium", "chromium"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
];
/// Debian keeps what `python3 -m venv` needs in a package of its own.
const ENVIRONMENT_PACKAGE: &str = "python3-venv";
/// nginx proxies TCP by a module of its own, which `bench/config/nginx.conf` loads from here.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
/// Packages that start a service when they are installed, which nobody asked for, and what it is called.
const SERVICES: [(&str, &str); 4] =
    [("nginx", "nginx"), ("haproxy", "haproxy"), ("redis-server", "redis-server"), ("etcd-server", "etcd")];
const REQUIREMENTS: &str = include_str!("../requirements.txt");
const PACKAGES: &str = include_str!("../package.json");
/// The environment keeps the list that it was made from, and so do the packages of npm.
const STAMP: &str = "requirements.txt";
const NPM_STAMP: &str = "package.made-from.json";

#[derive(Default, clap::Args)]
pub struct Options {
    /// Install nothing, only say what is missing.
    #[arg(long)]
    check: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let packages = missing_packages();
    if !packages.is_empty() && !options.check {
        install_packages(&packages)?;
    }
    let packages = missing_packages();
    ensure!(packages.is_empty(), "missing packages: {}", Vec::from_iter(packages).join(" "));

    if !is_environment_fresh() && !options.check {
        make_environment()?;
    }
    ensure!(is_environment_fresh(), "the Python environment is missing or was made from another list");
    if !are_packages_fresh() && !options.check {
        install_node_packages()?;
    }
    ensure!(are_packages_fresh(), "the packages of npm are missing or were made from another list");
    let version = output(Command::new(envoy()?).arg("--version"))?;
    ensure!(version.contains("/1.40."), "this is another Envoy than the one that we compare with: {version}");
    println!("Everything is there.");
    Ok(())
}

/// The Envoy inside the wheel: a plain executable.
pub fn envoy() -> anyhow::Result<PathBuf> {
    let libraries = fs::read_dir(python_environment().join("lib")).into_iter().flatten().flatten();
    libraries
        .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
        .find(|envoy| envoy.is_file())
        .context("there is no Envoy; `cargo xtask setup` installs it")
}

fn missing_packages() -> BTreeSet<&'static str> {
    let mut missing: BTreeSet<_> = PROGRAMS
        .into_iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| package)
        .collect();
    let has_venv = output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok();
    if !has_venv {
        missing.insert(ENVIRONMENT_PACKAGE);
    }
    if !Path::new(NGINX_STREAM).exists() {
        missing.insert("libnginx-mod-stream");
    }
    missing
}

fn install_packages(packages: &BTreeSet<&str>) -> anyhow::Result<()> {
    println!("Installing {packages:?}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(if is_root() { "apt-get" } else { "sudo" });
        if !is_root() {
            command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        run_command(&mut command)
    };
    apt(&["update"])?;
    let install = ["install", "--yes", "--no-install-recommends"];
    apt(&install.into_iter().chain(packages.iter().copied()).collect::<Vec<_>>())?;
    if Path::new("/run/systemd/system").exists() {
        for (_, service) in SERVICES.into_iter().filter(|(package, _)| packages.contains(package)) {
            let mut command = Command::new(if is_root() { "systemctl" } else { "sudo" });
            if !is_root() {
                command.arg("systemctl");
            }
            run_command(command.args(["disable", "--now", service]))?;
        }
    }
    Ok(())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_environment_fresh() -> bool {
    let made_from = fs::read_to_string(python_environment().join(STAMP)).unwrap_or_default();
    made_from == REQUIREMENTS && envoy().is_ok()
}

fn make_environment() -> anyhow::Result<()> {
    let environment = python_environment();
    println!("Making a Python environment in {}", environment.display());
    run_command(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let list = environment.join("requirements.wanted");
    fs::write(&list, REQUIREMENTS)?;
    let pip = environment.join("bin/pip");
    run_command(
        Command::new(&pip).args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&list),
    )?;
    let imports = "import aioquic, grpc, grpc_tools.protoc, h2, mmdb_writer, websockets, yaml, envoy, envoy.service.auth.v3.external_auth_pb2";
    if let Err(error) = output(Command::new(environment.join("bin/python")).args(["-c", imports])) {
        bail!("the Python environment is not usable: {error}");
    }
    // Last of all: an environment that was only half made has no stamp.
    fs::rename(list, environment.join(STAMP))?;
    Ok(())
}

fn are_packages_fresh() -> bool {
    fs::read_to_string(node_packages().join(NPM_STAMP)).is_ok_and(|made_from| made_from == PACKAGES)
}

fn install_node_packages() -> anyhow::Result<()> {
    let folder = node_packages();
    println!("Installing packages of npm in {}", folder.display());
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("package.json"), PACKAGES)?;
    let options = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"];
    run_command(Command::new("npm").args(options).current_dir(&folder))?;
    // Last of all, as above.
    fs::write(folder.join(NPM_STAMP), PACKAGES)?;
    Ok(())
}
