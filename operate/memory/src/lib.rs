//! How is memory had, and given back?
//!
//! The allocator of the `naru` process. Reading a large configuration takes several times the memory
//! that it is kept in; the allocator would keep the rest for later, which on a small machine is
//! somebody else's memory.
//!
//! The only crate of the project that says `unsafe`.

use core::alloc::{GlobalAlloc, Layout};

/// The allocator, to be named by `#[global_allocator]`: mimalloc, which is not asked for an alignment that every block of
/// its has. Where it is, it goes a longer way, takes a larger block than is wanted for most of more than a KiB, and has to
/// find the beginning of such a block when it is freed.
#[derive(Clone, Copy, Debug)]
pub struct MiMalloc;

/// Blocks are whole words, and the first of a page begins at a multiple of two (`MI_PAGE_MIN_START_BLOCK_ALIGN` of
/// mimalloc's types.h).
const EVERY_BLOCK: usize = size_of::<usize>();

// SAFETY: all memory is mimalloc's, whose blocks of either way are freed and enlarged alike (mimalloc.h), and is as large
// as is asked for. It is aligned as is asked for: by `mimalloc::MiMalloc`, or as every block is, which a test looks at.
unsafe impl GlobalAlloc for MiMalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `mi_malloc` takes no pointers; the caller's layout is passed on as it is.
        unsafe {
            match layout.align() <= EVERY_BLOCK {
                true => libmimalloc_sys::mi_malloc(layout.size()).cast(),
                false => mimalloc::MiMalloc.alloc(layout),
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe {
            match layout.align() <= EVERY_BLOCK {
                true => libmimalloc_sys::mi_zalloc(layout.size()).cast(),
                false => mimalloc::MiMalloc.alloc_zeroed(layout),
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller has it from one of these, and nobody uses it any more.
        unsafe { mimalloc::MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller has it from one of these, with this layout.
        unsafe {
            match layout.align() <= EVERY_BLOCK {
                true => libmimalloc_sys::mi_realloc(block.cast(), size).cast(),
                false => mimalloc::MiMalloc.realloc(block, layout, size),
            }
        }
    }
}

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

/// Takes the pages of the program's own code and constants out of its memory: of those that a start has needed most are
/// needed no more.
/// Whichever is wanted again comes back from the system's cache of the file, sixteen at a time, in about a microsecond.
/// For when a start is over; where the system does not say what is mapped, nothing happens.
pub fn give_back_code() {
    let (Ok(program), Ok(maps)) =
        (std::fs::read_link("/proc/self/exe"), std::fs::read_to_string("/proc/self/maps"))
    else {
        return;
    };
    for range in maps.lines().filter_map(|line| code_of(line, &program)) {
        let begin = core::ptr::without_provenance_mut::<core::ffi::c_void>(range.start);
        // SAFETY: the pages are those of a file that is mapped, which the kernel says of them; nobody has written to them,
        // as nobody may (a loader relocates what may be written first, behind these), so that each is what it was when it
        // comes back (madvise(2), MADV_DONTNEED).
        unsafe { libc::madvise(begin, range.len(), libc::MADV_DONTNEED) };
    }
}

/// The addresses of a line of `/proc/PID/maps` (proc_pid_maps(5)) that says where code of this file is, or its beginning
/// with what is only read.
fn code_of(line: &str, program: &std::path::Path) -> Option<core::ops::Range<usize>> {
    let mut parts = line.split_ascii_whitespace();
    let (begin, end) = parts.next()?.split_once('-')?;
    let is_code = matches!((parts.next()?, parts.next()?), ("r-xp", _) | ("r--p", "00000000"));
    let is_its_own = line.find('/').is_some_and(|at| std::path::Path::new(&line[at..]) == program);
    let address = |text| usize::from_str_radix(text, 16).ok();
    (is_code && is_its_own).then_some(address(begin)?..address(end)?)
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
    fn every_block_is_aligned_as_is_asked_for_and_keeps_what_is_in_it() {
        use core::alloc::{GlobalAlloc as _, Layout};

        for align in [1, 2, 4, 8, 16, 64, 4_096] {
            let mut blocks = Vec::new();
            for size in (1..300).chain([511, 1_023, 1_025, 1_365, 4_097, 40_000, 3_000_001]) {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: no block is used beyond its size, or after it was freed.
                unsafe {
                    let block = ALLOCATOR.alloc(layout);
                    block.write_bytes(size as u8, size);
                    let larger = ALLOCATOR.realloc(block, layout, size + 700);
                    let zeroed = ALLOCATOR.alloc_zeroed(layout);
                    for block in [larger, zeroed] {
                        assert!(!block.is_null() && block.addr() % align == 0, "{size} at {align}");
                    }
                    assert!(
                        (0..size).all(|at| larger.add(at).read() == size as u8 && zeroed.add(at).read() == 0)
                    );
                    let layout_of_larger = Layout::from_size_align(size + 700, align).unwrap();
                    blocks.extend([(larger, layout_of_larger), (zeroed, layout)]);
                }
            }
            for (block, layout) in blocks {
                // SAFETY: as above.
                unsafe { ALLOCATOR.dealloc(block, layout) }
            }
        }
    }

    /// In KiB, of the pages that are code of this program.
    fn resident_code() -> u64 {
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let is_run = |line: &str| line.contains("r-xp") && super::code_of(line, &program).is_some();
        let mut lines = smaps.lines().skip_while(|line| !is_run(line));
        let line = lines.find(|line| line.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn code_comes_back_when_it_is_wanted() {
        // What nobody calls again, from one end of the program to the other.
        let program = std::fs::read("/proc/self/exe").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = std::fs::read_link("/proc/self/exe").unwrap();
        let mut code = maps.lines().filter(|line| line.contains("r-xp"));
        let range = code.find_map(|line| super::code_of(line, &path)).unwrap();
        let sum = || {
            range.clone().step_by(4_096).fold(0u64, |sum, at| {
                // SAFETY: it is mapped, and read as bytes.
                sum + u64::from(unsafe { core::ptr::with_exposed_provenance::<u8>(at).read_volatile() })
            })
        };
        let (before, whole) = (sum(), resident_code());
        assert!(program.len() > range.len() && whole * 1_024 >= range.len() as u64, "all of it is there");
        super::give_back_code();
        // What reads the number is code, too.
        let left = resident_code();
        assert!(left + 100 < whole, "{left} of {whole} KiB");
        assert_eq!(sum(), before);
    }

    #[test]
    fn code_is_what_nobody_can_have_written_to() {
        let is_code = |line: &str| super::code_of(line, std::path::Path::new("/usr/bin/a b"));
        assert_eq!(is_code("1000-3000 r-xp 00002000 fe:00 7      /usr/bin/a b"), Some(0x1000..0x3000));
        assert_eq!(is_code("1000-3000 r--p 00000000 fe:00 7      /usr/bin/a b"), Some(0x1000..0x3000));
        for other in [
            "1000-3000 r--p 00002000 fe:00 7      /usr/bin/a b",
            "1000-3000 rw-p 00000000 fe:00 7      /usr/bin/a b",
            "1000-3000 rwxp 00000000 fe:00 7      /usr/bin/a b",
            "1000-3000 r-xp 00002000 fe:00 7      /usr/lib/libc.so.6",
            "1000-3000 r-xp 00000000 00:00 0      [vdso]",
            "1000-3000 r-xp 00000000 00:00 0",
            "x-3000 r-xp 00002000 fe:00 7      /usr/bin/a b",
            "",
        ] {
            assert_eq!(is_code(other), None, "{other}");
        }
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
