//! Whether bytes are text at all, told by the first of them. What a file's name says does not count.

/// Bytes at the start of a text that are looked at.
pub(crate) const LOOKED_AT_BYTES: usize = 4096;

/// So many odd bytes are no proof, however short the text.
const FEW: usize = 3;

/// Formats that are no text, by the bytes they start with.
const CONTAINERS: [(&[u8], &str); 9] = [
    (b"PAR1", "Parquet"),
    (b"ORC", "ORC"),
    (b"Obj\x01", "Avro"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh91AY&SY", "bzip2"),
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"SQLite format 3\x00", "an SQLite database"),
];

/// Why a text that starts with `start` is none, if it is none. `own` are control characters that the format gives a
/// meaning, such as a delimiter of `\x01`.
///
/// A single odd byte proves nothing: it belongs to one record, and only that record may be refused for it.
pub(crate) fn not_text(start: &[u8], own: &[u8]) -> Option<String> {
    let magic = CONTAINERS.iter().find(|(magic, _)| start.starts_with(magic));
    // A text may begin with these letters by chance; the real thing goes on with bytes that no text has.
    if let Some((_, looks)) = magic.filter(|_| start.iter().take(16).any(|byte| *byte < b'\t' || *byte > 0x7e)) {
        return Some(format!("it looks like {looks}"));
    }
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") || every_other_is_zero(start) {
        return Some("it looks like UTF-16, and must be UTF-8".to_owned());
    }
    let control = start.iter().filter(|byte| is_control(**byte) && !own.contains(byte)).count();
    if control > FEW && control * 10 > start.len() {
        return Some("it is full of control characters".to_owned());
    }
    let odd = control + not_utf8(start);
    if odd > FEW && odd * 3 > start.len() {
        return Some("it is full of bytes that are not valid UTF-8".to_owned());
    }
    None
}

/// Control characters that texts don't have. Tab, line ends, form feed and the old end-of-file mark are no proof.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1a)
}

/// ASCII in UTF-16.
fn every_other_is_zero(start: &[u8]) -> bool {
    let zeros = |from: usize| start.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    start.len() >= 4 && even.max(odd) * 5 >= start.len() * 2 && even.min(odd) * 20 <= start.len()
}

/// Bytes that belong to no valid UTF-8 sequence. A sequence that the end cuts off is no fault.
fn not_utf8(bytes: &[u8]) -> usize {
    let chunks: Vec<_> = bytes.utf8_chunks().collect();
    let cut = chunks.last().map_or(0, |last| last.invalid().len());
    let invalid: usize = chunks.iter().map(|chunk| chunk.invalid().len()).sum();
    invalid - cut.min(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_content_is_told_from_text_with_odd_bytes() {
        let utf16: Vec<u8> = "id,name\n1,a\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let noise: Vec<u8> = (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let latin = "größe,straße\n".replace('ö', "\u{1}").into_bytes();
        for (bytes, expected) in [
            (&b"PAR1\x15\x00"[..], Some("it looks like Parquet")),
            (b"ORC\n\x03\x00", Some("it looks like ORC")),
            (b"PK\x03\x04\x14\x00", Some("it looks like a zip archive")),
            (b"\x1f\x8b\x08\x00", Some("it looks like gzip")),
            (b"\xff\xfei\x00d\x00", Some("it looks like UTF-16, and must be UTF-8")),
            (&utf16, Some("it looks like UTF-16, and must be UTF-8")),
            (&noise, Some("it is full of control characters")),
            (&[0xe4; 100], Some("it is full of bytes that are not valid UTF-8")),
            (b"ORCHARD,PAR1\n1,2\n", None),
            (b"id,name\n1,a\x00b\n", None),
            (b"id,name\n1,\xfc\n2,b\n", None),
            (b"1,\x00\n", None),
            (&latin, None),
            ("größe\n".repeat(10).as_bytes(), None),
            (&"größe".as_bytes()[..4], None),
            (b"", None),
        ] {
            assert_eq!(not_text(bytes, b"").as_deref(), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
        let delimited = b"a\x01b\x01c\n".repeat(5);
        assert_eq!(not_text(&delimited, b"\x01"), None);
        assert!(not_text(&delimited, b",").is_some());
    }
}
