//! How many instructions does a request cost, above what forwarding alone costs?
//!
//! Time on a shared machine wavers by tenths; instructions in user space waver by a few of ten thousand, so that a
//! continuous-integration run can hold naru to them. The program runs under callgrind with one worker; one connection
//! sends the same request over and over. Two counts of requests are measured and subtracted, so that connecting,
//! warming up and dumping fall out. What the kernel does is not counted.

mod dump;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::bench::{Load, Manner, Pace, Peer, Protocol, Reads, Running, Shape, Site, first_and_last_path};
use crate::process::pin;
use crate::workspace::{build_release, find_program, output, root};
use dump::ByCrate;

const FEW: u64 = 200;
const MANY: u64 = 1_200;
const WARM_UP: u64 = 300;
/// In the comparison by crate.
const WORTH_A_LINE: f64 = 20.0;
/// Of which the least is taken: what disturbs a count only ever adds to it.
const REPETITIONS: usize = 3;

/// What deciding may cost: the crates under `core/`, of which the forwarder has none.
const JOURNEY_MAX: f64 = 1_500.0;
/// Of the last of 10,000 prefix routes over the first.
const LAST_ROUTE_RATIO_MAX: f64 = 1.05;

#[derive(clap::Args)]
pub struct Options {
    /// Exit 1 if naru exceeds its budget.
    #[arg(long)]
    check: bool,
    /// Count in the release builds that are there.
    #[arg(long)]
    no_build: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.no_build {
        build_release("naru-bench")?;
        build_release("naru")?;
    }
    pin(0)?;
    let site = Site::prepare()?;
    let [forwarder] = count(&site, Peer::Forwarder, Shape::SMALL, ["/"])?;
    println!("{:>9.1} bare forwarder", forwarder.total());
    if !Peer::Naru.is_there() {
        ensure!(!options.check, "there is no release build of naru");
        println!("There is no release build of naru.");
        return Ok(());
    }
    let [naru] = count(&site, Peer::Naru, Shape::SMALL, ["/"])?;
    println!("{:>9.1} naru, one route", naru.total());
    let [first_path, last_path] = first_and_last_path(Shape::LARGE.routes);
    let [first, last] = count(&site, Peer::Naru, Shape::LARGE, [&first_path, &last_path])?;
    println!("{:>9.1} naru, first of 10,000 prefix routes", first.total());
    println!("{:>9.1} naru, last of 10,000 prefix routes", last.total());
    print_by_crate(&forwarder, &naru);

    let (above, ratio) = (naru.total() - forwarder.total(), last.total() / first.total());
    let journey = naru.of_core();
    println!("naru's journey, all of core/: {journey:.1}, at most {JOURNEY_MAX}");
    println!("naru above the forwarder, its shell included: {above:.1}");
    println!("last route over the first: {ratio:.4}, at most {LAST_ROUTE_RATIO_MAX}");
    let holds = journey <= JOURNEY_MAX && ratio <= LAST_ROUTE_RATIO_MAX;
    if options.check && !holds {
        bail!("the budget is exceeded");
    }
    Ok(())
}

/// Where naru's instructions stand that the forwarder does not need, and the other way round.
fn print_by_crate(forwarder: &Cost, naru: &Cost) {
    let mut crates: Vec<_> = forwarder.by_crate.keys().chain(naru.by_crate.keys()).collect();
    let of = |cost: &Cost, name: &str| cost.by_crate.get(name).copied().unwrap_or(0.0);
    let more = |name: &str| of(naru, name) - of(forwarder, name);
    crates.sort_by(|one, other| more(other).total_cmp(&more(one)).then_with(|| one.cmp(other)));
    crates.dedup();
    println!("\n{:>9} {:>9} {:>9}", "forwarder", "naru", "more");
    for name in crates.into_iter().filter(|name| more(name).abs() >= WORTH_A_LINE) {
        println!("{:>9.0} {:>9.0} {:>9.0}  {name}", of(forwarder, name), of(naru, name), more(name));
    }
    println!();
}

/// Instructions per request.
#[derive(Debug)]
struct Cost {
    by_crate: BTreeMap<String, f64>,
}

impl Cost {
    fn between(few: &ByCrate, many: &ByCrate) -> Cost {
        let one = |(name, many): (&String, &u64)| {
            let few = few.get(name).copied().unwrap_or(0);
            (name.clone(), (*many as f64 - few as f64) / (MANY - FEW) as f64)
        };
        Cost { by_crate: many.iter().map(one).collect() }
    }

    fn total(&self) -> f64 {
        self.by_crate.values().sum()
    }

    fn of_core(&self) -> f64 {
        self.by_crate.iter().filter(|(name, _)| name.starts_with("core/")).map(|(_, cost)| cost).sum()
    }
}

/// What each of the paths costs, asked in turn of the same process.
fn count<const PATHS: usize>(
    site: &Site,
    peer: Peer,
    shape: Shape,
    paths: [&str; PATHS],
) -> anyhow::Result<[Cost; PATHS]> {
    let mut counted = Counted::start(site, peer, shape)?;
    let mut costs = Vec::with_capacity(PATHS);
    for path in paths {
        // Whatever is done once, on the first request of a kind, is done here.
        counted.instructions_of(site, path, FEW)?;
        let mut repeated = Vec::with_capacity(REPETITIONS);
        for _ in 0..REPETITIONS {
            let few = counted.instructions_of(site, path, FEW)?;
            let many = counted.instructions_of(site, path, MANY)?;
            repeated.push(Cost::between(&few, &many));
        }
        costs.extend(repeated.into_iter().min_by(|one, other| one.total().total_cmp(&other.total())));
    }
    costs.try_into().ok().context("no count was repeated")
}

/// A proxy under callgrind.
struct Counted {
    running: Running,
    vgdb: PathBuf,
    dumps: PathBuf,
    dumped: u32,
}

impl Counted {
    fn start(site: &Site, peer: Peer, shape: Shape) -> anyhow::Result<Counted> {
        let find =
            |name| find_program(name).with_context(|| format!("no {name}; `cargo xtask setup` installs it"));
        let dumps = site.directory("callgrind")?.join("counts");
        // Without instrumentation a large configuration is read ten times as fast.
        let wrapper = vec![
            find("valgrind")?.display().to_string(),
            "--tool=callgrind".into(),
            "--instr-atstart=no".into(),
            format!("--callgrind-out-file={}", dumps.display()),
        ];
        let manner = Manner { wrapper, reads: Reads::RoutingOnly, ..Manner::default() };
        let mut running = Running::exec(site, peer, shape, &manner)?;
        running.wait_until_ready()?;
        let counted = Counted { running, vgdb: find("vgdb")?, dumps, dumped: 0 };
        counted.tell(&["instrumentation", "on"])?;
        Ok(counted)
    }

    /// What `requests` cost, with connecting and warming up.
    fn instructions_of(&mut self, site: &Site, path: &str, requests: u64) -> anyhow::Result<ByCrate> {
        self.tell(&["zero"])?;
        let pace = Pace::Counted { requests, warm_up: WARM_UP };
        Load::new(Protocol::H1, path, 1, pace).run(site, &mut self.running)?;
        self.tell(&["dump"])?;
        self.dumped += 1;
        let file = self.dumps.with_extension(self.dumped.to_string());
        let dump = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(dump::read(&dump, &root().to_string_lossy()))
    }

    fn tell(&self, command: &[&str]) -> anyhow::Result<()> {
        let pid = format!("--pid={}", self.running.process.pid());
        output(Command::new(&self.vgdb).arg(pid).args(command)).map(drop)
    }
}
