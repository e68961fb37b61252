use std::io::Write;

use arrow::datatypes::DataType;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn spec() -> InputSpec {
    csv_spec(&[("id!", DataType::Int64), ("name", DataType::Utf8)])
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).unwrap()
}

fn sample(records: usize) -> String {
    let records = (0..records).map(|id| format!("{id},name {}\n", id * 7919 % 1000));
    std::iter::once("id,name\n".to_owned()).chain(records).collect()
}

#[test]
fn compressed_text_decodes_as_the_text_itself() {
    let text = sample(20_000);
    let plain = decode(&spec(), &text);
    assert_eq!(plain.rows.len(), 20_000);
    let (first, second) = text.as_bytes().split_at(text.len() / 3);
    for compress in [gzip, zstandard] {
        assert_eq!(decode(&spec(), compress(text.as_bytes())), plain);
        let members = [compress(first), compress(second)].concat();
        assert_eq!(decode(&spec(), &members), plain, "several members");
        assert_eq!(try_decode(&spec(), &members, 1000).unwrap(), plain, "small chunks");
    }
}

#[test]
fn a_stream_that_breaks_off_is_one_reject_at_the_break() {
    let text = sample(60_000);
    let plain = decode(&spec(), &text);
    for compress in [gzip, zstandard] {
        let whole = compress(text.as_bytes());
        let cut = &whole[..whole.len() * 3 / 4];
        let outcome = decode(&spec(), cut);
        let rows = outcome.rows.len();
        assert!(rows > 100 && rows < 60_000, "{rows}");
        assert_eq!(outcome.rows, plain.rows[..rows]);
        let [reject] = &outcome.rejects[..] else { panic!("{:?}", outcome.rejects) };
        assert_eq!((reject.offset, &reject.reason), (plain.rows[rows].0, &Reason::BrokenStream));
        let rest = &text.as_bytes()[usize::try_from(reject.offset).unwrap()..];
        assert!(rest.starts_with(&reject.bytes) && !reject.bytes.contains(&b'\n'));
        assert_eq!(try_decode(&spec(), cut, 100).unwrap(), outcome, "small chunks");
    }
}

#[test]
fn garbage_after_a_stream_is_a_break_as_well() {
    let bytes = [gzip(b"id,name\n1,a\n"), b"garbage".to_vec()].concat();
    let outcome = decode(&spec(), bytes);
    assert_eq!(outcome.json(), [r#"{"id":1,"name":"a"}"#]);
    assert_eq!(outcome.refused(), [(12, Reason::BrokenStream, None)]);
}

#[test]
fn a_stream_that_breaks_off_in_its_first_record_is_no_file() {
    let records: String = (0..2000_u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let text = format!("id,name\n1,{records}\n2,a\n");
    for compress in [gzip, zstandard] {
        let whole = compress(text.as_bytes());
        assert_eq!(decode(&spec(), &whole).rows.len(), 2);
        let reject = refused_file(&spec(), &whole[..whole.len() / 2]);
        assert_eq!(reject.reason, Reason::BadFile, "{}", reject.message);
    }
}

#[test]
fn frames_without_data_are_passed_over() {
    let text = "id,name\n1,a\n2,b\n";
    let plain = decode(&spec(), text);
    let skippable = b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc";
    for bytes in [
        [gzip(b""), gzip(text.as_bytes()), gzip(b"")].concat(),
        [skippable.to_vec(), zstandard(text.as_bytes()), skippable.to_vec()].concat(),
        [zstandard(b""), zstandard(text.as_bytes())].concat(),
    ] {
        assert_eq!(decode(&spec(), bytes), plain);
    }
}

#[test]
fn a_stream_without_a_header_is_no_file() {
    assert_eq!(refused_file(&spec(), &gzip(b"id,name\n1,a\n")[..5]).reason, Reason::BadFile);
    assert_eq!(refused_file(&spec(), &gzip(b"")).message, "the file is empty");
    assert_eq!(refused_file(&spec(), &zstandard(b"id,name")[..8]).reason, Reason::BadFile);
}

/// Fails once it is asked for bytes beyond the first ones.
struct Failing(Bytes);

impl crate::decode::ReadAt for Failing {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, length: usize) -> std::io::Result<Bytes> {
        if offset > 0 {
            return Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "gone"));
        }
        crate::decode::ReadAt::read_at(&self.0, offset, length)
    }
}

#[test]
fn a_failing_store_is_an_error_and_no_reject() {
    // Hardly compressible, so that the file is longer than what is read at once.
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state
    };
    let text: String = std::iter::once("id,name\n".to_owned())
        .chain((0..150_000).map(|_| format!("{},{:x}\n", random() >> 2, random())))
        .collect();
    for bytes in [gzip(text.as_bytes()), zstandard(text.as_bytes())] {
        assert!(bytes.len() > 2 << 20);
        let file = FileDecoder::open(&spec(), Arc::new(Failing(Bytes::from(bytes)))).unwrap();
        let mut chunks = file.chunks().unwrap();
        let error = loop {
            match chunks.next_chunk() {
                Ok(chunk) => assert!(chunk.is_some(), "the failure must show"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
