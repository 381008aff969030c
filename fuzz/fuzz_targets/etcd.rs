//! Bytes of a fuzzer for [`naru_fuzz::etcd`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| naru_fuzz::etcd(bytes));
