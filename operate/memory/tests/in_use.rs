//! Giving memory back takes none from those who use it: blocks keep what was written to them, on several threads, whoever gives
//! back meanwhile. Once as it is, and once under valgrind, which looks at every access.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;
use std::sync::mpsc;
use std::thread;

#[global_allocator]
static ALLOCATOR: naru_memory::MiMalloc = naru_memory::MiMalloc;

const SELF: &str = "blocks_keep_what_was_written_to_them";
const ROUNDS: u64 = 200;
/// Under valgrind everything takes fifty times as long.
const ROUNDS_WATCHED: u64 = 12;
/// Says how many rounds.
const ROUNDS_VARIABLE: &str = "NARU_CASES";
/// Of a large block, one word of so many is looked at.
const STEP: usize = 61;

/// Chance that comes again: xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % sides) as usize
    }
}

/// A block, and what its first word says is in all of it. Blocks of a size that is a multiple of eight are aligned otherwise.
struct Block(Vec<u64>, Box<[u8]>);

impl Block {
    fn new(dice: &mut Dice) -> Block {
        // From the smallest to those that the allocator asks the system for.
        let words = [0, 1, 3, 8, 60, 500, 4_000, 40_000][dice.roll(8)];
        let mark = dice.0;
        let bytes = vec![mark as u8; dice.roll(100)].into_boxed_slice();
        Block(vec![mark; words], bytes)
    }

    fn check(&self) {
        let mut looked_at = self.0.iter().step_by(STEP).chain(self.0.last());
        assert!(looked_at.all(|word| Some(word) == self.0.first()), "somebody wrote to it");
        assert!(self.1.iter().all(|byte| Some(byte) == self.1.first()));
        let mark = self.0.first().map(|mark| *mark as u8);
        assert!(mark.is_none() || self.1.is_empty() || mark == self.1.first().copied());
    }
}

#[test]
fn blocks_keep_what_was_written_to_them() {
    let said = std::env::var(ROUNDS_VARIABLE).ok().and_then(|text| text.parse().ok());
    let rounds: u64 = said.unwrap_or(ROUNDS);
    // What one thread has made another one frees.
    let (sender, receiver) = mpsc::channel::<Block>();
    let frees = thread::spawn(move || {
        for (at, block) in receiver.into_iter().enumerate() {
            block.check();
            drop(block);
            if at % 100 == 0 {
                naru_memory::give_back();
            }
        }
    });
    let threads = (1..=3_u64).map(|seed| {
        let sender = sender.clone();
        thread::spawn(move || {
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let mut held: Vec<Block> = Vec::new();
            for round in 0..rounds {
                for _ in 0..20 {
                    match dice.roll(4) {
                        0 | 1 => held.push(Block::new(&mut dice)),
                        2 if !held.is_empty() => {
                            let mut block = held.swap_remove(dice.roll(held.len() as u64));
                            let mark = block.0.first().copied().unwrap_or_default();
                            // Grown in place, or moved.
                            block.0.resize(block.0.len() * 2, mark);
                            block.check();
                            held.push(block);
                        }
                        _ if !held.is_empty() => {
                            let block = held.swap_remove(dice.roll(held.len() as u64));
                            block.check();
                            if round % 2 == 0 {
                                sender.send(block).unwrap();
                            }
                        }
                        _ => {}
                    }
                    held.truncate(60);
                }
                if round % 8 == seed % 8 {
                    naru_memory::give_back();
                    held.iter().for_each(Block::check);
                }
            }
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    drop(sender);
    frees.join().unwrap();
    naru_memory::give_back();
}

#[test]
fn valgrind_finds_nothing() {
    let run = Command::new("valgrind")
        .args(["--error-exitcode=99", "--leak-check=no", "--quiet"])
        .arg(concat!("--suppressions=", env!("CARGO_MANIFEST_DIR"), "/tests/valgrind.supp"))
        .env(ROUNDS_VARIABLE, ROUNDS_WATCHED.to_string())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", SELF, "--test-threads=1"])
        .output();
    let run = run.unwrap_or_else(|error| panic!("valgrind: {error}; `cargo xtask setup` installs it"));
    let (out, said) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.contains("1 passed"), "{}\n{out}\n{said}", run.status);
}
