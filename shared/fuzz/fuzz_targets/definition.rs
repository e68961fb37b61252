#![no_main]
//! Dataset definitions: no panic; what is valid compiles and has a stable version.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidemark_testing::fuzzing::definition(data));
