#![no_main]
//! JSON lines: no panic, no record lost, the same rows whatever the chunks.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidemark_testing::fuzzing::json(data));
