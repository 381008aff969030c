//! Bytes of a fuzzer for [`naru_fuzz::http2`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| naru_fuzz::http2(bytes));
