//! Bytes of a fuzzer for [`naru_fuzz::grpc_web`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| naru_fuzz::grpc_web(bytes));
