#![no_main]
//! Parquet, ORC and Avro: no panic, no endless loop, no position twice.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidemark_shared::decode::fuzzing::columnar(data));
