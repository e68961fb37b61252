//! What has to be checked of an ORC footer before `orc-rust` reads it. It follows types into their subtypes without end
//! where damage makes them contain themselves, and a stack that overflows takes the whole process with it; a compression
//! block of any size it would allocate. Neither can be caught.

use std::io::Read;

use bytes::Bytes;
use orc_rust::compression::{Compression, Decompressor};
use orc_rust::reader::metadata::read_metadata;

use super::input::Guarded;

/// Longest footer that is read, packed or not.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// Largest compression block that the format's three-byte chunk heads can tell of.
const BLOCK_BYTES_MAX: u64 = 1 << 23;
/// Deepest nesting of types.
const DEPTH_MAX: usize = 100;

/// A field of a protobuf message: its number, and its value.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// What the postscript says of the footer.
#[derive(Default)]
struct Postscript {
    footer_bytes: u64,
    compression: u64,
    block_bytes: u64,
}

/// Fails if the footer can't be given to `orc-rust`.
pub(crate) fn check(source: &Guarded) -> Result<(), String> {
    let damaged = || "the footer is damaged".to_owned();
    let length = source.len();
    let tail = length.min(256);
    let bytes = source.read(length - tail, usize::try_from(tail).expect("at most 256"));
    let bytes = bytes.map_err(|error| error.to_string())?;
    let (size, before) = bytes.split_last().ok_or("the file is empty")?;
    let start = before.len().checked_sub(usize::from(*size)).ok_or_else(damaged)?;
    let postscript = postscript(&before[start..]).ok_or_else(damaged)?;
    if postscript.footer_bytes > FOOTER_BYTES_MAX || postscript.block_bytes > BLOCK_BYTES_MAX {
        return Err(damaged());
    }
    let end = length - 1 - u64::from(*size);
    let footer_at = end.checked_sub(postscript.footer_bytes).ok_or_else(damaged)?;
    let footer_bytes = usize::try_from(postscript.footer_bytes).expect("bounded above");
    let footer = source.read(footer_at, footer_bytes).map_err(|error| error.to_string())?;
    let mut unpacked = Vec::new();
    let packed = Decompressor::new(footer, compression(&postscript)?, Vec::new());
    packed.take(FOOTER_BYTES_MAX).read_to_end(&mut unpacked).map_err(|error| error.to_string())?;
    let types = subtypes(&unpacked).ok_or_else(damaged)?;
    if is_tree(&types) { Ok(()) } else { Err("the footer is damaged: its types are no tree".to_owned()) }
}

/// Types are numbered from the root down, and each has one parent.
fn is_tree(types: &[Vec<u64>]) -> bool {
    let mut depth: Vec<Option<usize>> = vec![None; types.len()];
    for (index, children) in types.iter().enumerate() {
        let below = depth[index].unwrap_or(0) + 1;
        for child in children {
            let child = usize::try_from(*child).unwrap_or(usize::MAX);
            if child <= index || below > DEPTH_MAX {
                return false;
            }
            match depth.get_mut(child) {
                Some(slot @ None) => *slot = Some(below),
                _ => return false,
            }
        }
    }
    true
}

/// The compression that the postscript names. `orc-rust` makes one only from a file, so it gets the smallest there is: a
/// footer with one type, a struct, and no row.
fn compression(postscript: &Postscript) -> Result<Option<Compression>, String> {
    const FOOTER: [u8; 4] = [0x22, 2, 0x08, 12];
    // The head of a chunk that is not compressed, for files that are.
    const HEAD: [u8; 3] = [(FOOTER.len() as u8) << 1 | 1, 0, 0];
    let mut file = if postscript.compression == 0 { Vec::new() } else { HEAD.to_vec() };
    file.extend(FOOTER);
    let footer_bytes = file.len() as u64;
    let start = file.len();
    let fields = [(1, footer_bytes), (2, postscript.compression), (3, postscript.block_bytes), (5, 0)];
    for (number, value) in fields.into_iter().filter(|(number, value)| *number != 3 || *value > 0) {
        push_varint(&mut file, number << 3);
        push_varint(&mut file, value);
    }
    file.push(u8::try_from(file.len() - start).expect("a few short fields"));
    let metadata = read_metadata(&mut Bytes::from(file)).map_err(|error| error.to_string())?;
    Ok(metadata.compression())
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn postscript(message: &[u8]) -> Option<Postscript> {
    let mut found = Postscript::default();
    fields(message, |number, value| {
        if let Value::Number(value) = value {
            match number {
                1 => found.footer_bytes = value,
                2 => found.compression = value,
                3 => found.block_bytes = value,
                _ => {}
            }
        }
        Some(())
    })?;
    Some(found)
}

/// The subtypes of each of the footer's types.
fn subtypes(footer: &[u8]) -> Option<Vec<Vec<u64>>> {
    let mut types = Vec::new();
    fields(footer, |number, value| {
        let Value::Bytes(message) = value else { return Some(()) };
        if number == 4 {
            let mut children = Vec::new();
            fields(message, |number, value| {
                match value {
                    Value::Number(child) if number == 2 => children.push(child),
                    Value::Bytes(mut packed) if number == 2 => {
                        while !packed.is_empty() {
                            children.push(varint(&mut packed)?);
                        }
                    }
                    _ => {}
                }
                Some(())
            })?;
            types.push(children);
        }
        Some(())
    })?;
    Some(types)
}

/// Calls `field` for each field of a protobuf message; `None` if it is none.
fn fields(mut message: &[u8], mut field: impl FnMut(u64, Value<'_>) -> Option<()>) -> Option<()> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let length = match key & 7 {
            0 => {
                field(key >> 3, Value::Number(varint(&mut message)?))?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(length)?;
        message = rest;
        field(key >> 3, Value::Bytes(value))?;
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_must_be_a_tree() {
        for (types, tree) in [
            (vec![vec![1, 2], vec![], vec![3], vec![]], true),
            (vec![vec![0]], false),
            (vec![vec![1], vec![1]], false),
            (vec![vec![1], vec![2], vec![1]], false),
            (vec![vec![1, 1], vec![]], false),
            (vec![vec![7]], false),
            ((1..=90).map(|child| vec![child]).chain([vec![]]).collect(), true),
            ((1..=200).map(|child| vec![child]).chain([vec![]]).collect(), false),
        ] {
            assert_eq!(is_tree(&types), tree, "{types:?}");
        }
    }

    #[test]
    fn every_compression_can_be_made() {
        for kind in 0..=5 {
            let made = compression(&Postscript { compression: kind, block_bytes: 1 << 18, ..Postscript::default() });
            assert_eq!(made.map(|made| made.is_some()), Ok(kind != 0), "{kind}");
        }
    }
}
