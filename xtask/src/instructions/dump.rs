//! What callgrind wrote: instructions by the file they stand in, summed by crate.
//!
//! The format is described in valgrind's manual, "Callgrind Format Specification". Code that was inlined counts for the
//! file where it was written, not for the function that it ended up in.

use std::collections::{BTreeMap, HashMap};

pub type ByCrate = BTreeMap<String, u64>;

/// Self cost by crate; its sum is the dump's total. Our own files are known by standing under `root`.
pub fn read(dump: &str, root: &str) -> ByCrate {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut by_crate = ByCrate::new();
    let mut file = "";
    let mut is_cost_of_call = false;
    for line in dump.lines() {
        if let Some(value) = ["fl=", "fi=", "fe="].into_iter().find_map(|key| line.strip_prefix(key)) {
            file = name_of(value, &mut names);
        } else if let Some(value) = ["cfi=", "cfl="].into_iter().find_map(|key| line.strip_prefix(key)) {
            // The file of what is called; here it matters only for the name that may be introduced.
            name_of(value, &mut names);
        } else if line.starts_with("calls=") {
            is_cost_of_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok());
            if !std::mem::take(&mut is_cost_of_call) {
                *by_crate.entry(crate_of(file, root).to_owned()).or_default() += cost.unwrap_or(0);
            }
        }
    }
    by_crate
}

/// `(12) name` introduces a name, `(12)` alone repeats it.
fn name_of<'a>(value: &'a str, names: &mut HashMap<&'a str, &'a str>) -> &'a str {
    match value.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(value).copied().unwrap_or(value),
    }
}

fn crate_of<'a>(file: &'a str, root: &str) -> &'a str {
    if let Some((_, inside)) = file.split_once("/registry/src/") {
        let directory = inside.split('/').nth(1).unwrap_or(inside);
        return directory.rsplit_once('-').map_or(directory, |(name, _version)| name);
    }
    if file.starts_with("/rustc/") || file.starts_with("/rust/deps/") {
        return "std";
    }
    let ours = file.strip_prefix(root).and_then(|inside| inside.trim_start_matches('/').split_once("/src/"));
    ours.map_or("libc and the rest", |(directory, _)| directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_self_cost_by_the_crate_of_the_file() {
        let dump = "\
            positions: line\nevents: Ir\n\n\
            fl=(1) /home/me/.cargo/registry/src/index.crates.io-1/h2-0.4.20/src/a.rs\nfn=(1) a\n10 5\n+2 7\n\
            fi=(2) /rustc/abc/library/core/src/mem.rs\n3 11\nfe=(1)\n* 2\n\
            cfi=(3) /home/me/naru/core/route/src/radix.rs\ncfn=(2) find\ncalls=1 4\n12 1000\n\
            fl=(3)\nfn=(2)\n4 900\n-1 100\n\
            totals: 1025\n";
        let expected =
            [("core/route", 1000), ("h2", 14), ("std", 11)].map(|(name, cost)| (name.to_owned(), cost));
        assert_eq!(read(dump, "/home/me/naru"), ByCrate::from(expected));
    }
}
