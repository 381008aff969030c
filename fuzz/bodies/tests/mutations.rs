//! What is in the corpora, a little otherwise, through the bodies that are quick: what a fuzzer does, without one, and the same
//! each time. `NARU_CASES=n` says how many seeds; `NARU_SEED=n` plays one of them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use naru_base::Chance;
use naru_fuzz::{BODIES, Body};

const SEEDS: u64 = 256;
/// Numbers at whose edge something may go wrong.
const EDGES: [u8; 12] = [0, 1, 2, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xfe, 0xff, b'\n'];

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = here.parent().unwrap().join("corpus").join(target);
    let mut all: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort_unstable();
    all.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn mutated(seeds: &[(PathBuf, Vec<u8>)], chance: &mut Chance) -> Vec<u8> {
    let draw = |chance: &mut Chance, below: usize| chance.below(below.max(1) as u64) as usize;
    let pick = |chance: &mut Chance| seeds[draw(chance, seeds.len())].1.clone();
    let mut bytes = pick(chance);
    for _ in 0..=draw(chance, 4) {
        let at = draw(chance, bytes.len() + 1);
        match draw(chance, 7) {
            0 if at < bytes.len() => bytes[at] = draw(chance, 256) as u8,
            1 if at < bytes.len() => bytes[at] = EDGES[draw(chance, EDGES.len())],
            2 if at < bytes.len() => bytes[at] ^= 1 << draw(chance, 8),
            3 => bytes.truncate(at),
            4 => bytes.insert(at, EDGES[draw(chance, EDGES.len())]),
            5 => {
                let end = (at + draw(chance, 9)).min(bytes.len());
                bytes.drain(at..end);
            }
            // The rest of another one.
            _ => {
                let other = pick(chance);
                let from = draw(chance, other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn walk(target: &str) {
    let (_, body): &(&str, Body) = BODIES.iter().find(|(name, _)| *name == target).unwrap();
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = corpus(target);
    let walked = match number("NARU_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("NARU_CASES").unwrap_or(SEEDS),
    };
    for seed in walked {
        let bytes = mutated(&seeds, &mut Chance::new(seed));
        if std::panic::catch_unwind(|| body(&bytes)).is_err() {
            panic!("NARU_SEED={seed} breaks '{target}' by {}", bytes.escape_ascii());
        }
    }
}

macro_rules! walks {
    ($($target:ident)*) => { $(
        #[test]
        fn $target() {
            walk(stringify!($target));
        }
    )* };
}

walks! { asked compared edge etcd format grpc_web hpack http1 http2 http3 kept login measured packed path probed proxied qpack regex revoked takeover tunnel }
