//! How is memory had, and given back?
//!
//! The allocator of the `naru` process. Reading a large configuration takes several times the memory
//! that it is kept in; the allocator would keep the rest for later, which on a small machine is
//! somebody else's memory.
//!
//! The only crate of the project that says `unsafe`.

/// The allocator, to be named by `#[global_allocator]`.
pub use mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the crate has no name for.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// While it is there, a page goes back to the system as soon as nothing is left in it. Afterwards they wait a while for
/// another use, as before; those that wait when there is nothing more to do are kept, whatever [`give_back`] says.
#[derive(Debug)]
pub struct Frugal {
    delay: core::ffi::c_long,
}

/// Only while there is one thread: the option is a plain number.
pub fn be_frugal() -> Frugal {
    // SAFETY: the option is there in this version, which a test looks at, and nobody else writes or reads it meanwhile.
    unsafe {
        let delay = libmimalloc_sys::mi_option_get(PURGE_DELAY);
        libmimalloc_sys::mi_option_set(PURGE_DELAY, 0);
        Frugal { delay }
    }
}

impl Drop for Frugal {
    fn drop(&mut self) {
        // SAFETY: as in `be_frugal`.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, self.delay) }
    }
}

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

    /// Of milliseconds, 1,000; its neighbours are switches.
    #[test]
    fn the_option_is_the_delay_and_is_as_before_afterwards() {
        let frugal = super::be_frugal();
        assert_eq!(frugal.delay, 1_000);
        drop(frugal);
        assert_eq!(super::be_frugal().delay, 1_000);
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
