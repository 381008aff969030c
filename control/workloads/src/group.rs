//! Limits: control groups of the kernel, version 2 or 1, where they may be made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Limits;

const ROOT: &str = "/sys/fs/cgroup";
/// The period that a share of a processor is counted in, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// The groups that a process is put into; removed when they are dropped.
#[derive(Debug, Default)]
pub struct Groups {
    paths: Vec<PathBuf>,
}

impl Groups {
    /// Makes groups that hold the limits. Without limits there are none.
    ///
    /// # Errors
    /// Groups cannot be made here; the process may run without limits.
    pub fn make(name: &str, limits: &Limits) -> io::Result<Groups> {
        let mut groups = Groups::default();
        if *limits == Limits::default() {
            return Ok(groups);
        }
        let name = format!("naru-{}-{}", std::process::id(), name.replace('/', "-"));
        if Path::new(ROOT).join("cgroup.controllers").exists() {
            groups.make_v2(&name, limits)?;
        } else {
            groups.make_v1(&name, limits)?;
        }
        Ok(groups)
    }

    fn make_v2(&mut self, name: &str, limits: &Limits) -> io::Result<()> {
        // Controllers must be given on to children; where they are, this changes nothing.
        let _ = fs::write(Path::new(ROOT).join("cgroup.subtree_control"), "+cpu +memory");
        let path = Path::new(ROOT).join(name);
        fs::create_dir(&path)?;
        self.paths.push(path.clone());
        if let Some(bytes) = limits.memory_bytes {
            fs::write(path.join("memory.max"), bytes.to_string())?;
        }
        if let Some(millis) = limits.cpu_millis {
            let quota = u64::from(millis) * CPU_PERIOD / 1_000;
            fs::write(path.join("cpu.max"), format!("{} {CPU_PERIOD}", quota.max(1_000)))?;
        }
        Ok(())
    }

    fn make_v1(&mut self, name: &str, limits: &Limits) -> io::Result<()> {
        if let Some(bytes) = limits.memory_bytes {
            let path = self.make_one("memory", name)?;
            fs::write(path.join("memory.limit_in_bytes"), bytes.to_string())?;
        }
        if let Some(millis) = limits.cpu_millis {
            let path = self.make_one("cpu", name)?;
            fs::write(path.join("cpu.cfs_period_us"), CPU_PERIOD.to_string())?;
            let quota = u64::from(millis) * CPU_PERIOD / 1_000;
            fs::write(path.join("cpu.cfs_quota_us"), quota.max(1_000).to_string())?;
        }
        Ok(())
    }

    fn make_one(&mut self, controller: &str, name: &str) -> io::Result<PathBuf> {
        let path = Path::new(ROOT).join(controller).join(name);
        fs::create_dir(&path)?;
        self.paths.push(path.clone());
        Ok(path)
    }

    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for path in &self.paths {
            // One with a process in it stays; there is nothing better to do.
            let _ = fs::remove_dir(path);
        }
    }
}
