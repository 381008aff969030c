//! How much of what there is, is used? Memory, processors, connections; in millionths.
//!
//! Of the files of Linux: `/proc` and the control groups of both versions. What cannot be read is no pressure, but a
//! measurement that failed.

use std::fs;
use std::path::{Path, PathBuf};

use naru_admit::overload::{SATURATED, smoothed};
use naru_base::Instant;
use naru_spec::defaults::{CPU_SMOOTHING, CPU_SMOOTHING_OF_PROCESS};
use naru_spec::overload::{CpuScope, Resource};

#[derive(Debug)]
pub struct Gauges {
    proc: PathBuf,
    groups: PathBuf,
    processors: u64,
    ticks_per_second: u64,
    page_bytes: u64,
    host: Usage,
    container: Usage,
    process: Usage,
}

/// What all processes of this machine use together, as [`Gauges`] measure it.
#[derive(Debug)]
pub struct Machine(Gauges);

impl Default for Machine {
    fn default() -> Machine {
        Machine(Gauges::of_this_process())
    }
}

impl Machine {
    /// In millionths.
    pub fn processors(&mut self, now: Instant) -> Option<u32> {
        self.0.processors(now)
    }

    /// In millionths.
    pub fn memory(&self) -> Option<u32> {
        self.0.memory()
    }
}

/// Of processors: how much was used at the last look, and how much could have been; and the pressure then.
#[derive(Debug, Default)]
struct Usage {
    last: Option<(u64, u64)>,
    pressure: u32,
}

impl Usage {
    /// In one unit, both ever growing.
    fn on(&mut self, used: u64, could: u64, smoothing: naru_base::Fraction) -> u32 {
        if let Some((used_before, could_before)) = self.last.replace((used, could)) {
            let measured = share(used.saturating_sub(used_before), could.saturating_sub(could_before));
            self.pressure = smoothed(self.pressure, measured.min(SATURATED), smoothing);
        }
        self.pressure
    }
}

impl Gauges {
    pub fn of_this_process() -> Gauges {
        Gauges {
            proc: "/proc".into(),
            groups: "/sys/fs/cgroup".into(),
            // Of those that it may run on, by affinity and by its control group.
            processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            page_bytes: rustix::param::page_size() as u64,
            host: Usage::default(),
            container: Usage::default(),
            process: Usage::default(),
        }
    }

    /// `None` where it cannot be measured.
    pub fn pressure(&mut self, now: Instant, resource: &Resource, connections: u64) -> Option<u32> {
        match resource {
            Resource::Memory { bytes_max } => {
                let max = bytes_max.or_else(|| self.memory_allowed())?;
                Some(share(self.memory_of_process()?, max))
            }
            Resource::CgroupMemory { bytes_max } => {
                let (used, allowed) = self.memory_of_group()?;
                // Without a limit there is no pressure, as in Envoy, whatever is said.
                let Some(allowed) = allowed else { return Some(0) };
                Some(share(used, bytes_max.map_or(allowed, |max| max.min(allowed))))
            }
            Resource::Connections { max } => Some(share(connections, *max)),
            Resource::Injected { file } => injected(&fs::read_to_string(file).ok()?),
            Resource::Cpu(CpuScope::Host) => {
                let (used, could) = host_times(&fs::read_to_string(self.proc.join("stat")).ok()?)?;
                Some(self.host.on(used, could, CPU_SMOOTHING))
            }
            Resource::Cpu(CpuScope::Container) => {
                let (used_ns, thousandths) = self.processors_of_group()?;
                let could = per_thousand(now.0, thousandths);
                Some(self.container.on(used_ns, could, CPU_SMOOTHING))
            }
            Resource::Cpu(CpuScope::Process) => {
                let ticks = process_ticks(&fs::read_to_string(self.proc.join("self/stat")).ok()?)?;
                let used_ns = ticks.saturating_mul(1_000_000_000 / self.ticks_per_second.max(1));
                let could = now.0.saturating_mul(self.processors);
                Some(self.process.on(used_ns, could, CPU_SMOOTHING_OF_PROCESS))
            }
        }
    }

    /// How much of the processors of this machine is used, or of what the control group may use, where that is more. An
    /// average of about five measurements.
    fn processors(&mut self, now: Instant) -> Option<u32> {
        let host = fs::read_to_string(self.proc.join("stat")).ok().and_then(|text| host_times(&text));
        let host = host.map(|(used, could)| self.host.on(used, could, CPU_SMOOTHING_OF_PROCESS));
        let group = self.processors_of_group().map(|(used, thousandths)| {
            self.container.on(used, per_thousand(now.0, thousandths), CPU_SMOOTHING_OF_PROCESS)
        });
        host.into_iter().chain(group).max()
    }

    /// The same of memory.
    fn memory(&self) -> Option<u32> {
        let text = fs::read_to_string(self.proc.join("meminfo")).ok();
        let host = text.and_then(|text| {
            let (all, available) = (memory_total(&text)?, kib_in(&text, "MemAvailable:")?);
            Some(share(all.saturating_sub(available), all))
        });
        let group = self.memory_of_group().and_then(|(used, allowed)| Some(share(used, allowed?)));
        host.into_iter().chain(group).max()
    }

    /// What the process has for itself: resident, but for what it maps of files.
    fn memory_of_process(&self) -> Option<u64> {
        let text = fs::read_to_string(self.proc.join("self/statm")).ok()?;
        let mut pages = text.split_ascii_whitespace().skip(1).map(|field| field.parse::<u64>().ok());
        let (resident, shared) = (pages.next()??, pages.next()??);
        Some(resident.saturating_sub(shared).saturating_mul(self.page_bytes))
    }

    /// The least of what the machine has and what control groups around the process allow.
    fn memory_allowed(&self) -> Option<u64> {
        let machine = memory_total(&fs::read_to_string(self.proc.join("meminfo")).ok()?);
        let group = self.memory_of_group().and_then(|(_, allowed)| allowed);
        machine.into_iter().chain(group).min()
    }

    /// What the control group uses, and what it or one around it allows.
    fn memory_of_group(&self) -> Option<(u64, Option<u64>)> {
        let own = fs::read_to_string(self.proc.join("self/cgroup")).ok()?;
        for (controller, used, allowed) in [
            ("", "memory.current", "memory.max"),
            ("memory", "memory.usage_in_bytes", "memory.limit_in_bytes"),
        ] {
            let Some((root, group)) = self.group(&own, controller) else { continue };
            if let Some(used) = number_in(&group.join(used)) {
                let around = group.ancestors().take_while(|at| at.starts_with(&root));
                let limits = around.filter_map(|at| number_in(&at.join(allowed)));
                // Version 1 says nearly 2^63 for none.
                return Some((used, limits.min().filter(|bytes| *bytes < 1 << 60)));
            }
        }
        None
    }

    /// Nanoseconds that the control group has used, and how many thousandths of a processor it may use.
    fn processors_of_group(&self) -> Option<(u64, u64)> {
        let own = fs::read_to_string(self.proc.join("self/cgroup")).ok()?;
        let all = self.processors.saturating_mul(1_000);
        if let Some((_, group)) = self.group(&own, "")
            && let Ok(stat) = fs::read_to_string(group.join("cpu.stat"))
            && let Some(micros) = field_of(&stat, "usage_usec")
        {
            let max = fs::read_to_string(group.join("cpu.max")).unwrap_or_default();
            let mut parts = max.split_ascii_whitespace().map(|part| part.parse::<u64>().ok());
            let quota = parts.next().flatten().zip(parts.next().flatten());
            return Some((micros.saturating_mul(1_000), thousandths(quota, all)));
        }
        let (_, usage) = self.group(&own, "cpuacct")?;
        let used = number_in(&usage.join("cpuacct.usage"))?;
        let group = self.group(&own, "cpu").map(|(_, group)| group);
        let number = |name: &str| number_in(&group.as_ref()?.join(name));
        // Without a limit the quota is -1, which is no number here.
        let quota = number("cpu.cfs_quota_us").zip(number("cpu.cfs_period_us"));
        Some((used, thousandths(quota, all)))
    }

    /// Where a controller's hierarchy is mounted, and the process's own group there; `""` is version 2. In a container
    /// the own group may be all that is to be seen.
    fn group(&self, own: &str, controller: &str) -> Option<(PathBuf, PathBuf)> {
        let path = own_group(own, controller)?;
        let mounts: &[&str] = match controller {
            "" => &["", "unified"],
            "cpu" | "cpuacct" => &[controller, "cpu,cpuacct"],
            _ => &[controller],
        };
        let roots = mounts.iter().map(|mount| self.groups.join(mount));
        let of_root = |root: PathBuf| {
            let inner = root.join(path.trim_start_matches('/'));
            let is_there = |at: &Path| at.join("cgroup.procs").exists();
            if is_there(&inner) { Some((root, inner)) } else { is_there(&root).then(|| (root.clone(), root)) }
        };
        roots.into_iter().find_map(of_root)
    }
}

fn share(used: u64, whole: u64) -> u32 {
    let part = u128::from(used) * u128::from(SATURATED) / u128::from(whole.max(1));
    u32::try_from(part).unwrap_or(u32::MAX)
}

fn per_thousand(whole: u64, thousandths: u64) -> u64 {
    u64::try_from(u128::from(whole) * u128::from(thousandths) / 1_000).unwrap_or(u64::MAX)
}

/// Of a quota in each period, of all that there are.
fn thousandths(quota: Option<(u64, u64)>, all: u64) -> u64 {
    let allowed = quota.and_then(|(quota, period)| quota.saturating_mul(1_000).checked_div(period));
    allowed.map_or(all, |allowed| allowed.min(all)).max(1)
}

fn number_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// From 0 to 1.
fn injected(text: &str) -> Option<u32> {
    let share: f64 = text.trim().parse().ok()?;
    (0.0..=1.0).contains(&share).then(|| (share * f64::from(SATURATED)).round() as u32)
}

/// Of `/proc/stat`: what user, nice and system have had, and with idle; Envoy's four.
fn host_times(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let mut next = || fields.next()?.parse::<u64>().ok();
    let (user, nice, system, idle) = (next()?, next()?, next()?, next()?);
    let used = user.saturating_add(nice).saturating_add(system);
    Some((used, used.saturating_add(idle)))
}

/// Of `/proc/self/stat`: what all threads have had. The name, in brackets, may have spaces and brackets in it.
fn process_ticks(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    Some(fields.next()??.saturating_add(fields.next()??))
}

fn memory_total(text: &str) -> Option<u64> {
    kib_in(text, "MemTotal:")
}

/// In bytes.
fn kib_in(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1_024))
}

fn field_of(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Of `/proc/self/cgroup`: `hierarchy:controllers:path`.
fn own_group<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_it = match controller {
            "" => number == "0",
            _ => controllers.split(',').any(|listed| listed == controller),
        };
        is_it.then_some(path)
    })
}

/// Whatever a file says is a number, or nothing; for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    assert!(injected(text).is_none_or(|pressure| pressure <= SATURATED));
    let mut usage = Usage::default();
    for line in text.lines() {
        if let Some((used, could)) = host_times(line) {
            assert!(used <= could);
            assert!(usage.on(used, could, CPU_SMOOTHING) <= SATURATED);
        }
    }
    memory_total(text);
    kib_in(text, "MemAvailable:");
    process_ticks(text);
    let quota = field_of(text, "quota").zip(field_of(text, "period"));
    assert!((1..=2_000).contains(&thousandths(quota, 2_000)));
    for controller in ["", "cpu", "memory"] {
        own_group(text, controller);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    /// A machine that is nothing but files.
    struct Machine(PathBuf);

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    impl Machine {
        fn new(files: &[(&str, &str)]) -> Machine {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name =
                format!("naru-measure-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let machine = Machine(std::env::temp_dir().join(name));
            files.iter().for_each(|(file, text)| machine.write(file, text));
            machine
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn gauges(&self) -> Gauges {
            Gauges {
                proc: self.0.join("proc"),
                groups: self.0.join("groups"),
                processors: 2,
                ticks_per_second: 100,
                page_bytes: 4_096,
                host: Usage::default(),
                container: Usage::default(),
                process: Usage::default(),
            }
        }

        fn pressure(&self, resource: &Resource) -> Option<u32> {
            self.gauges().pressure(Instant::ZERO, resource, 0)
        }
    }

    const VERSION_2: &[(&str, &str)] = &[
        ("proc/self/cgroup", "0::/a/b\n"),
        ("proc/self/statm", "9000 2500 500 5 0 123 0\n"),
        ("proc/meminfo", "MemTotal:       80000 kB\nMemFree: 1 kB\n"),
        ("groups/a/memory.max", "16384000\n"),
        ("groups/a/b/cgroup.procs", ""),
        ("groups/a/b/memory.max", "max\n"),
        ("groups/a/b/memory.current", "4096000\n"),
        ("groups/a/b/cpu.stat", "usage_usec 0\nuser_usec 0\n"),
        ("groups/a/b/cpu.max", "50000 100000\n"),
    ];

    #[test]
    fn memory_is_measured_against_what_is_said_or_else_what_is_allowed() {
        let machine = Machine::new(VERSION_2);
        assert_eq!(machine.pressure(&Resource::Memory { bytes_max: Some(81_920_000) }), Some(100_000));
        // 8,192,000 bytes of 16,384,000, which is what the group around the own one allows.
        assert_eq!(machine.pressure(&Resource::Memory { bytes_max: None }), Some(500_000));
        assert_eq!(machine.pressure(&Resource::CgroupMemory { bytes_max: None }), Some(250_000));
        assert_eq!(machine.pressure(&Resource::CgroupMemory { bytes_max: Some(8_192_000) }), Some(500_000));
        machine.write("groups/a/memory.max", "max\n");
        assert_eq!(machine.pressure(&Resource::Memory { bytes_max: None }), Some(100_000), "of the machine");
        assert_eq!(machine.pressure(&Resource::CgroupMemory { bytes_max: Some(1) }), Some(0), "no limit");
        machine.write("proc/self/cgroup", "");
        assert_eq!(machine.pressure(&Resource::CgroupMemory { bytes_max: None }), None);
    }

    #[test]
    fn a_machine_is_as_full_as_itself_or_its_group_whichever_is_more() {
        let machine = Machine::new(VERSION_2);
        // A quarter of what the group may have; what the machine has left is not said.
        assert_eq!(machine.gauges().memory(), Some(250_000));
        machine.write("proc/meminfo", "MemTotal:       80000 kB\nMemAvailable: 20000 kB\n");
        assert_eq!(machine.gauges().memory(), Some(750_000));
        machine.write("proc/self/cgroup", "");
        machine.write("proc/stat", "cpu  100 0 100 800 9 9\n");
        let mut gauges = machine.gauges();
        assert_eq!(gauges.processors(Instant::ZERO), Some(0));
        machine.write("proc/stat", "cpu  150 0 100 850 9 9\n");
        // Half of it, and a fifth of that.
        assert_eq!(gauges.processors(Instant::ZERO + Duration::from_secs(1)), Some(100_000));
        machine.write("proc/stat", "");
        assert_eq!(gauges.processors(Instant::ZERO + Duration::from_secs(2)), None);
    }

    #[test]
    fn groups_of_version_1_are_read_and_those_that_cannot_be_seen_are_the_root() {
        let machine = Machine::new(&[
            ("proc/self/cgroup", "4:memory:/elsewhere\n3:cpu,cpuacct:/\n0::/\n"),
            ("groups/memory/cgroup.procs", ""),
            ("groups/memory/memory.usage_in_bytes", "1000\n"),
            ("groups/memory/memory.limit_in_bytes", "4000\n"),
            ("groups/cpu,cpuacct/cgroup.procs", ""),
            ("groups/cpu,cpuacct/cpuacct.usage", "0\n"),
            ("groups/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("groups/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(machine.pressure(&Resource::CgroupMemory { bytes_max: None }), Some(250_000));
        assert_eq!(machine.gauges().processors_of_group(), Some((0, 2_000)));
        machine.write("groups/cpu,cpuacct/cpu.cfs_quota_us", "150000\n");
        assert_eq!(machine.gauges().processors_of_group(), Some((0, 1_500)));
        machine.write("groups/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(machine.pressure(&Resource::CgroupMemory { bytes_max: None }), Some(0));
    }

    #[test]
    fn processors_are_measured_between_two_looks() {
        let machine = Machine::new(VERSION_2);
        machine.write("proc/stat", "cpu  100 0 100 800 9 9\ncpu0 1 1 1 1\n");
        machine.write("proc/self/stat", "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 50 50 1 1\n");
        let mut gauges = machine.gauges();
        let at = |seconds, scope, gauges: &mut Gauges| {
            let now = Instant::ZERO + Duration::from_secs(seconds);
            gauges.pressure(now, &Resource::Cpu(scope), 0)
        };
        for scope in [CpuScope::Host, CpuScope::Container, CpuScope::Process] {
            assert_eq!(at(0, scope, &mut gauges), Some(0), "{scope:?}");
        }
        machine.write("proc/stat", "cpu  150 0 100 850 9 9\n");
        machine.write("proc/self/stat", "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 125 75 1 1\n");
        machine.write("groups/a/b/cpu.stat", "usage_usec 500000\n");
        // Half of it, and a twentieth of that.
        assert_eq!(at(1, CpuScope::Host, &mut gauges), Some(25_000));
        // Half a processor is all that the group may use, and it did.
        assert_eq!(at(1, CpuScope::Container, &mut gauges), Some(50_000));
        // One of two, and a fifth of that.
        assert_eq!(at(1, CpuScope::Process, &mut gauges), Some(100_000));
    }

    #[test]
    fn what_is_injected_is_a_share() {
        assert_eq!(injected("0.95\n"), Some(950_000));
        assert_eq!((injected("1"), injected("0")), (Some(1_000_000), Some(0)));
        assert_eq!(
            (injected(""), injected("1.1"), injected("NaN"), injected("-1")),
            (None, None, None, None)
        );
    }

    #[test]
    fn this_process_can_be_measured() {
        let mut gauges = Gauges::of_this_process();
        let memory = Resource::Memory { bytes_max: None };
        assert!(gauges.pressure(Instant::ZERO, &memory, 0).is_some_and(|pressure| pressure > 0));
        for scope in [CpuScope::Host, CpuScope::Process] {
            assert_eq!(gauges.pressure(Instant::ZERO, &Resource::Cpu(scope), 0), Some(0), "{scope:?}");
        }
    }
}
