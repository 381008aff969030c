//! Limits: control groups of the kernel, version 2 or 1, where they may be made.
//!
//! In version 2 groups are made below naru's own, if it was given to naru (systemd: `Delegate=yes`),
//! else below the root, if naru may. In version 1 they are made below naru's own of each controller.
//! Where none can be made, memory is limited by `RLIMIT_DATA`, for each process of an instance by
//! itself: it counts what a process may write to, used or not, so a thread costs its whole stack.
//! Processors are not limited then.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Limits;

const ROOT: &str = "/sys/fs/cgroup";
/// The period that a share of a processor is counted in, in microseconds.
const CPU_PERIOD: u64 = 100_000;
/// The kernel refuses less.
const CPU_QUOTA_MIN: u64 = 1_000;

/// How one process is confined. Its groups are removed when it is dropped.
#[derive(Debug, Default)]
pub struct Confinement {
    groups: Vec<PathBuf>,
    data_bytes_max: Option<u64>,
}

impl Confinement {
    /// The words of a launch.
    pub fn words(&self) -> io::Result<[OsString; 2]> {
        let groups = std::env::join_paths(&self.groups).map_err(io::Error::other)?;
        Ok([groups, self.data_bytes_max.unwrap_or(0).to_string().into()])
    }
}

impl Drop for Confinement {
    fn drop(&mut self) {
        for group in &self.groups {
            // The guard was here first, unless there was none.
            let _ = fs::remove_dir(group);
        }
    }
}

/// Where groups can be made. Looked for when the first is needed: it may move naru itself.
#[derive(Debug, Default)]
pub struct Grounds {
    place: OnceLock<Result<Place, String>>,
    is_told: AtomicBool,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// The parent of all groups.
    Unified(PathBuf),
    /// The parents of those of memory and processors.
    Split { memory: PathBuf, cpu: PathBuf },
}

impl Grounds {
    /// Confines the process of that name; the text is to be told, once.
    pub fn confine(&self, name: &str, limits: &Limits) -> (Confinement, Option<String>) {
        if *limits == Limits::default() {
            return (Confinement::default(), None);
        }
        let name = format!("naru-{}-{}", std::process::id(), name.replace('/', "-"));
        let made = match self.place.get_or_init(find) {
            Ok(place) => place.make(&name, limits).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        match made {
            Ok(confinement) => (confinement, None),
            Err(why) => {
                let notice = format!(
                    "limits: no control group can be made here ({why}); memory is limited for each process \
                     by itself, by RLIMIT_DATA, and processors are not limited"
                );
                let is_first = !self.is_told.swap(true, Ordering::Relaxed);
                let confinement = Confinement { groups: Vec::new(), data_bytes_max: limits.memory_bytes };
                (confinement, is_first.then_some(notice))
            }
        }
    }
}

impl Place {
    fn make(&self, name: &str, limits: &Limits) -> io::Result<Confinement> {
        let mut confinement = Confinement::default();
        let quota = limits.cpu_millis.map(|millis| {
            let quota = u64::from(millis) * CPU_PERIOD / 1_000;
            quota.max(CPU_QUOTA_MIN)
        });
        match self {
            Place::Unified(parent) => {
                let group = confinement.make(parent, name)?;
                if let Some(bytes) = limits.memory_bytes {
                    fs::write(group.join("memory.max"), bytes.to_string())?;
                }
                if let Some(quota) = quota {
                    fs::write(group.join("cpu.max"), format!("{quota} {CPU_PERIOD}"))?;
                }
            }
            Place::Split { memory, cpu } => {
                if let Some(bytes) = limits.memory_bytes {
                    let group = confinement.make(memory, name)?;
                    fs::write(group.join("memory.limit_in_bytes"), bytes.to_string())?;
                }
                if let Some(quota) = quota {
                    let group = confinement.make(cpu, name)?;
                    fs::write(group.join("cpu.cfs_period_us"), CPU_PERIOD.to_string())?;
                    fs::write(group.join("cpu.cfs_quota_us"), quota.to_string())?;
                }
            }
        }
        Ok(confinement)
    }
}

impl Confinement {
    fn make(&mut self, parent: &Path, name: &str) -> io::Result<PathBuf> {
        let group = parent.join(name);
        match fs::create_dir(&group) {
            // Left by a process before this one that the kernel has not let go of.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        self.groups.push(group.clone());
        Ok(group)
    }
}

fn find() -> Result<Place, String> {
    find_in(Path::new(ROOT), &fs::read_to_string("/proc/self/cgroup").unwrap_or_default())
}

fn find_in(root: &Path, own: &str) -> Result<Place, String> {
    if root.join("cgroup.controllers").exists() {
        unified(root, own).map(Place::Unified)
    } else {
        split(root, own)
    }
}

/// A parent of groups in version 2, whose controllers are given on to its children.
fn unified(root: &Path, own: &str) -> Result<PathBuf, String> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or("");
    // In a namespace of its own, the way to where naru was put leads up and out.
    let own = if own.contains("..") { "" } else { own };
    let delegated = root.join(own);
    if own.is_empty() {
        return give_controllers(&delegated).map(|()| delegated).map_err(|error| error.to_string());
    }
    // A group that gives controllers on has no processes of its own: naru moves one level down.
    let down = delegated.join("naru");
    let pid = std::process::id().to_string();
    let moved = fs::create_dir_all(&down)
        .and_then(|()| fs::write(down.join("cgroup.procs"), &pid))
        .and_then(|()| give_controllers(&delegated));
    let Err(error) = moved else { return Ok(delegated) };
    // Others are in it as well, or it is not ours: everything stays as it was.
    let _ = fs::write(delegated.join("cgroup.procs"), &pid);
    let _ = fs::remove_dir(&down);
    match give_controllers(root) {
        Ok(()) => Ok(root.to_owned()),
        Err(_) => Err(format!("{}: {error}", delegated.display())),
    }
}

fn give_controllers(group: &Path) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    let given = fs::read_to_string(&file)?;
    let has = |name: &str| given.split_whitespace().any(|given| given == name);
    if has("cpu") && has("memory") { Ok(()) } else { fs::write(&file, "+cpu +memory") }
}

/// Parents of groups in version 1.
fn split(root: &Path, own: &str) -> Result<Place, String> {
    let parent = |controller: &str| {
        let top = root.join(controller);
        let lines = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let mut of_it = lines.filter(|(names, _)| names.split(',').any(|name| name == controller));
        // In a container the path may be one of the machine's, and not be there.
        let own = of_it.next().map(|(_, path)| top.join(path.trim_start_matches('/')));
        let own = own.filter(|own| own.join("cgroup.procs").exists());
        let found = own.or_else(|| top.join("cgroup.procs").exists().then_some(top));
        found.ok_or_else(|| format!("there is no controller '{controller}' below {}", root.display()))
    };
    Ok(Place::Split { memory: parent("memory")?, cpu: parent("cpu")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files that stand for those of the kernel.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Tree {
            let root = std::env::temp_dir().join(format!("naru-groups-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Tree(root)
        }

        fn text(&self, path: &str) -> String {
            fs::read_to_string(self.0.join(path)).unwrap_or_default()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn grounds(tree: &Tree, own: &str) -> Grounds {
        Grounds { place: find_in(&tree.0, own).into(), ..Grounds::default() }
    }

    const LIMITS: Limits = Limits { cpu_millis: Some(250), memory_bytes: Some(1 << 20) };

    #[test]
    fn limits_are_written_into_a_group_below_one_that_was_given_to_naru() {
        let files =
            [("cgroup.controllers", "cpu memory"), ("a/b.service/cgroup.subtree_control", ""), ("x/y", "")];
        let tree = Tree::new("given", &files);
        let grounds = grounds(&tree, "0::/a/b.service\n");
        assert_eq!(tree.text("a/b.service/cgroup.subtree_control"), "+cpu +memory");
        let pid = std::process::id().to_string();
        assert_eq!(tree.text("a/b.service/naru/cgroup.procs"), pid, "naru moves out of the way");
        let (confinement, notice) = grounds.confine("shop/a-0", &LIMITS);
        assert_eq!(notice, None);
        let group = format!("a/b.service/naru-{pid}-shop-a-0");
        assert_eq!(tree.text(&format!("{group}/memory.max")), "1048576");
        assert_eq!(tree.text(&format!("{group}/cpu.max")), "25000 100000");
        let words = confinement.words().unwrap();
        assert_eq!(words, [tree.0.join(group).into_os_string(), OsString::from("0")]);
    }

    #[test]
    fn a_group_that_is_not_ours_is_left_for_the_root() {
        let files = [("cgroup.controllers", "cpu memory"), ("cgroup.subtree_control", "cpu memory pids")];
        let tree = Tree::new("root", &files);
        for own in ["0::/user.slice/session-1.scope\n", "0::/../../x\n", "0::/\n", ""] {
            assert_eq!(find_in(&tree.0, own), Ok(Place::Unified(tree.0.clone())), "{own}");
        }
    }

    #[test]
    fn controllers_of_version_1_have_a_group_each() {
        let files =
            [("memory/a/cgroup.procs", ""), ("memory/cgroup.procs", ""), ("cpu/cgroup.procs", ""), ("z", "")];
        let tree = Tree::new("split", &files);
        let grounds = grounds(&tree, "4:memory:/a\n1:cpu,cpuacct:/gone\n0::/\n");
        let expected = Place::Split { memory: tree.0.join("memory/a"), cpu: tree.0.join("cpu") };
        assert_eq!(grounds.place.get(), Some(&Ok(expected)));
        let (_confinement, _) = grounds.confine("a-0", &Limits { cpu_millis: Some(5), ..Limits::default() });
        let group = format!("cpu/naru-{}-a-0", std::process::id());
        assert_eq!(tree.text(&format!("{group}/cpu.cfs_quota_us")), "1000", "the kernel's least");
        assert_eq!(tree.text(&format!("{group}/cpu.cfs_period_us")), "100000");
    }

    #[test]
    fn without_groups_memory_is_limited_all_the_same_and_that_is_told_once() {
        let tree = Tree::new("none", &[("x", "")]);
        let grounds = grounds(&tree, "");
        let (confinement, notice) = grounds.confine("a-0", &LIMITS);
        assert_eq!(confinement.words().unwrap()[1], "1048576");
        let notice = notice.expect("it is told");
        assert!(notice.contains("there is no controller 'memory'"), "{notice}");
        assert!(notice.contains("processors are not limited"), "{notice}");
        assert_eq!(grounds.confine("a-1", &LIMITS).1, None, "once");
        assert_eq!(grounds.confine("a-2", &Limits::default()).0.words().unwrap()[1], "0");
    }
}
