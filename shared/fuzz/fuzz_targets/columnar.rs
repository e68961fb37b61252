#![no_main]
//! Parquet, ORC and Avro: no panic, no endless loop, no position twice.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidemark_testing::fuzzing::columnar(data));
