//! Where things are in this checkout, and how they get built.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.into(), Path::to_path_buf)
}

pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The Python environment that `cargo xtask setup` makes.
pub fn python_environment() -> PathBuf {
    target().join("tools/venv")
}

/// Where `cargo xtask setup` installs packages of npm.
pub fn node_packages() -> PathBuf {
    target().join("tools/node")
}

/// The release build of one of our programs, whether it is there or not.
pub fn program(name: &str) -> PathBuf {
    target().join("release").join(name)
}

pub fn build_release(package: &str) -> anyhow::Result<()> {
    run(Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--package", package])
        .current_dir(root()))
}

/// Runs a command to its end, its output going where ours goes.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("starting {}", name(command)))?;
    ensure!(status.success(), "{} failed ({status})", name(command));
    Ok(())
}

/// Runs a command to its end and returns everything it said.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("starting {}", name(command)))?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed ({}): {said}", name(command), output.status);
    Ok(said.into_owned())
}

fn name(command: &Command) -> String {
    Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Finds a program as a shell would, and where Debian puts daemons.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let for_daemons = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut candidates = env::split_paths(&path).chain(for_daemons).map(|directory| directory.join(name));
    candidates.find(|candidate| candidate.is_file())
}
