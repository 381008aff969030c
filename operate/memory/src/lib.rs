//! How is memory had, and given back?
//!
//! The allocator of the `naru` process. Reading a large configuration takes several times the memory
//! that it is kept in; the allocator would keep the rest for later, which on a small machine is
//! somebody else's memory.
//!
//! The only crate of the project that says `unsafe`.

/// The allocator, to be named by `#[global_allocator]`.
pub use mimalloc::MiMalloc;

/// Gives the memory that this thread has freed back to the system. Takes about a millisecond; not
/// for the path of a request.
pub fn give_back() {
    // SAFETY: `mi_collect` takes no pointers, may be called by any thread at any time, and frees no
    // block that is in use (mimalloc.h: "Eagerly free memory").
    unsafe { libmimalloc_sys::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    #[global_allocator]
    static ALLOCATOR: super::MiMalloc = super::MiMalloc;

    fn resident_kb() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn memory_that_was_freed_is_given_back() {
        let before = resident_kb();
        let blocks: Vec<Vec<u8>> = (0..64_000).map(|at| vec![at as u8; 1_000]).collect();
        assert!(resident_kb() > before + 50_000);
        drop(blocks);
        super::give_back();
        assert!(resident_kb() < before + 20_000, "{} kB", resident_kb());
    }
}
