//! The obvious models, which the machines are compared with: they keep all that was ever said, and
//! go over it again each time.

pub mod breaker;
pub mod outlier;

/// All seeds of a walk, or the one that `NARU_SEED` says.
pub fn seeds() -> Vec<u64> {
    match std::env::var("NARU_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..256).collect(),
    }
}
