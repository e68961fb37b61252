//! What kind of file some bytes are, and a sample of their text.

use std::io::Read;

use super::super::Format;

/// Most text that is looked at, in bytes.
const SAMPLE_MAX: usize = 1 << 20;

/// The columnar format whose magic number the bytes start with.
pub(super) fn container(bytes: &[u8]) -> Option<Format> {
    match bytes {
        [b'P', b'A', b'R', b'1', ..] => Some(Format::Parquet),
        [b'O', b'b', b'j', 1, ..] => Some(Format::Avro),
        [b'O', b'R', b'C', ..] => Some(Format::Orc),
        _ => None,
    }
}

/// The first text of the file, unpacked, up to its last whole line where it goes on behind the sample.
pub(super) fn sample(bytes: &[u8]) -> Result<String, String> {
    let mut text = match bytes {
        [0x1f, 0x8b, ..] => head(flate2::read::MultiGzDecoder::new(bytes))?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => head(zstd::Decoder::new(bytes).map_err(|error| error.to_string())?)?,
        _ => bytes[..bytes.len().min(SAMPLE_MAX)].to_vec(),
    };
    let last_line_end = memchr::memrchr(b'\n', &text);
    if let Some(end) = last_line_end {
        text.truncate(end + 1);
    }
    let text = String::from_utf8_lossy(&text);
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// What can be unpacked; a stream that breaks off, as a sample's does, still has a head.
fn head(mut reader: impl Read) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    while text.len() < SAMPLE_MAX {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => text.extend_from_slice(&buffer[..read]),
            Err(error) if text.is_empty() => return Err(error.to_string()),
            Err(_) => break,
        }
    }
    Ok(text)
}
