//! Columnar files with damaged bytes: what can be read counts, what can't is told, and nothing panics.

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;

use super::columnar::{TYPES, avro, batch, ids, orc, parquet, spec};
use super::*;

const ROWS: u64 = 60;
const FORMATS: [Format; 3] = [Format::Parquet, Format::Orc, Format::Avro];

/// Two groups of thirty rows with nulls, in a file of `format`.
fn file(format: &Format) -> Vec<u8> {
    let rows = |range: std::ops::Range<i64>| {
        let names = range.clone().map(|id| (id % 7 != 0).then(|| format!("n{}", id % 11)));
        let floats = range.clone().map(|id| (id % 5 != 0).then_some(id as f64 / 4.0));
        batch(vec![
            ("id", Arc::new(Int64Array::from_iter_values(range)) as ArrayRef),
            ("name", Arc::new(StringArray::from_iter(names))),
            ("x", Arc::new(Float64Array::from_iter(floats))),
        ])
    };
    match format {
        Format::Parquet => parquet(&rows(0..60), 30),
        Format::Orc => orc(&[rows(0..30), rows(30..60)]),
        _ => avro(&[rows(0..30), rows(30..60)]),
    }
}

fn columns() -> [(&'static str, DataType); 3] {
    [("id", DataType::Int64), ("name", DataType::Utf8), ("x", DataType::Float64)]
}

/// Decodes a damaged file and checks what must hold whatever the damage.
fn check(format: &Format, bytes: &[u8], what: &str) {
    match try_decode(&spec(format.clone(), &columns()), bytes, 100) {
        Ok(outcome) => {
            let mut positions: Vec<u64> = outcome.rows.iter().map(|(row, _)| *row).collect();
            positions.extend(outcome.rejects.iter().map(|reject| reject.offset));
            positions.sort_unstable();
            assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "no position twice: {what}");
            // Rows may be fewer where a reject says so, and only there.
            let holes = outcome.rejects.iter().filter(|reject| reject.reason == Reason::BrokenStream).count();
            assert!(holes > 0 || positions.len() as u64 == ROWS, "{} of {ROWS} records: {what}", positions.len());
            assert!(positions.len() > holes, "a file of holes alone is a bad file: {what}");
        }
        Err(OpenError::Reject(reject)) => assert_eq!(reject.reason, Reason::BadFile, "{what}"),
        Err(error) => panic!("{what}: {error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn flipped_bytes_are_no_panic_and_no_silent_loss(
        format in prop::sample::select(FORMATS.to_vec()),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
    ) {
        let mut bytes = file(&format);
        for (at, flip) in &flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        check(&format, &bytes, &format!("{format:?} {flips:?}"));
    }

    #[test]
    fn a_cut_is_no_panic_and_no_silent_loss(
        format in prop::sample::select(FORMATS.to_vec()),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = file(&format);
        let cut = cut.index(whole.len());
        // An Avro file that is cut between two blocks can't be told from one that was written so.
        let blocks = format == Format::Avro && try_decode(&spec(format.clone(), &columns()), &whole[..cut], 100)
            .is_ok_and(|outcome| outcome.rejects.is_empty());
        if !blocks {
            check(&format, &whole[..cut], &format!("{format:?} cut to {cut}"));
        }
    }
}

#[test]
fn a_flip_in_any_single_byte_is_no_panic() {
    for format in FORMATS {
        let whole = file(&format);
        for position in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[position] ^= 1 << (position % 8);
            check(&format, &bytes, &format!("{format:?} {position}"));
        }
    }
}

#[test]
fn readable_groups_count_and_the_break_is_one_reject() {
    let parts: Vec<RecordBatch> = (0..4).map(|part| ids(part * 1000..(part + 1) * 1000)).collect();
    let files =
        [(Format::Parquet, parquet(&ids(0..4000), 1000)), (Format::Orc, orc(&parts)), (Format::Avro, avro(&parts))];
    for (format, mut bytes) in files {
        let middle = bytes.len() * 3 / 8;
        bytes[middle..middle + 40].fill(0xff);
        let outcome = decode(&spec(format.clone(), &TYPES), &bytes);
        assert_eq!(outcome.refused(), [(1000, Reason::BrokenStream, None)], "{format:?}");
        let message = &outcome.rejects[0].message;
        assert!(message.contains("can't be read: "), "{format:?}: {message}");
        assert!(outcome.rows.iter().all(|(row, json)| json.starts_with(&format!("{{\"id\":{row},"))), "{format:?}");
        // What follows a damaged row group or stripe is read; so it is behind a damaged block whose end is found.
        let rows = outcome.rows.len();
        assert!(rows == 3000 || format == Format::Avro && rows >= 1000, "{format:?}: {rows}");
    }
}

#[test]
fn a_file_of_which_nothing_can_be_read_is_one_bad_file() {
    for (format, message) in [
        (Format::Parquet, "not readable as parquet: rows 0 to 999, of row group 0, can't be read: "),
        (Format::Orc, "not readable as orc: rows 0 to 1999, of stripe 0, can't be read: "),
        (Format::Avro, "not readable as avro: a block"),
    ] {
        let rows = ids(0..2000);
        let mut bytes = match format {
            Format::Parquet => parquet(&rows, 1000),
            Format::Orc => orc(&[rows]),
            _ => avro(&[rows]),
        };
        // The magic number, the header or the footer stay as they are.
        let (start, end) = if format == Format::Avro { (400, bytes.len() - 16) } else { (4, bytes.len() - 1200) };
        bytes[start..end].fill(0xff);
        let reject = refused_file(&spec(format.clone(), &TYPES), &bytes);
        assert_eq!((reject.offset, &reject.reason), (0, &Reason::BadFile), "{format:?}");
        assert!(reject.message.starts_with(message), "{format:?}: {}", reject.message);
    }
}

/// Parquet's own reader would count to 2³¹, see [`crate::decode::thrift`].
#[test]
fn a_list_of_booleans_in_a_structure_of_parquet_is_damage_at_once() {
    let booleans = [0xc9, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07];
    let whole = parquet(&ids(0..2000), 1000);

    let mut bytes = whole.clone();
    let inner =
        4 + bytes[4..40].iter().position(|byte| [0x2c, 0x4c].contains(byte)).expect("a header within the header");
    bytes[inner..inner + booleans.len()].copy_from_slice(&booleans);
    let outcome = decode(&spec(Format::Parquet, &TYPES), &bytes);
    assert_eq!((outcome.rows.len(), outcome.refused()), (1000, vec![(0, Reason::BrokenStream, None)]));
    assert!(outcome.rejects[0].message.contains("a page header is damaged: it has a list"));

    let footer = whole.len() - 8;
    let length = u32::from_le_bytes(whole[footer..footer + 4].try_into().expect("four bytes")) + booleans.len() as u32;
    let bytes = [&whole[..footer - 1], &booleans, &[0], &length.to_le_bytes(), b"PAR1"].concat();
    let reject = refused_file(&spec(Format::Parquet, &TYPES), &bytes);
    assert!(reject.message.contains("the footer is damaged: it has a list"), "{}", reject.message);
}

/// A block of an Avro file that says it has other rows than it has.
#[test]
fn an_avro_block_with_bytes_to_spare_is_damage() {
    let whole = avro(&[ids(0..3), ids(3..6)]);
    let blocks: Vec<usize> =
        whole.windows(16).enumerate().filter(|(_, w)| whole.ends_with(w)).map(|(at, _)| at).collect();
    // The counts of rows are the first bytes behind the sync markers of the header and the first block: 3, zigzag.
    for (rows, expected, first) in [(2_u8, 3, 0), (0, 0, 0), (4, 3, 0), (2, 3, 3), (0, 3, 3), (4, 3, 3)] {
        let mut bytes = whole.clone();
        let at = blocks[usize::from(first > 0)] + 16;
        assert_eq!(bytes[at], 6);
        bytes[at] = rows * 2;
        let result = try_decode(&spec(Format::Avro, &TYPES), &bytes, 1);
        if expected == 0 {
            assert!(matches!(result, Err(OpenError::Reject(_))), "{rows} {first}");
            continue;
        }
        let outcome = result.unwrap();
        assert_eq!(outcome.rows.len(), expected, "{rows} {first}");
        assert_eq!(outcome.refused(), [(first, Reason::BrokenStream, None)], "{rows} {first}");
    }
}
