//! Bytes of a fuzzer for [`naru_fuzz::told`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| naru_fuzz::told(bytes));
