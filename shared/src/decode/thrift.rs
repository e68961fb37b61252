//! A guard before Parquet's own reader of Thrift structures (compact protocol): it passes over a list that claims 2³¹
//! booleans by counting to 2³¹, for in its eyes they take no bytes, and a page header of ten bytes keeps a core busy for
//! seconds. No structure of the format has such a list in a footer or a page header.
//!
//! Source: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

use std::io::{self, Read};

/// Structures within structures, at most; Parquet's reader goes as deep.
const DEPTH_MAX: u32 = 64;

const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;

/// Why a walk ended before the structure did.
enum Stopped {
    /// A list, set or map whose elements are booleans.
    Booleans,
    /// The bytes end, or are no such structure: Parquet's reader says it better.
    Unreadable,
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self::Unreadable
    }
}

/// Whether the structure that `reader` is at holds a list of booleans. Reads no further than its end.
pub(crate) fn lists_booleans(reader: &mut impl Read) -> bool {
    matches!(Walk { reader }.structure(DEPTH_MAX), Err(Stopped::Booleans))
}

struct Walk<'a, R> {
    reader: &'a mut R,
}

impl<R: Read> Walk<'_, R> {
    fn structure(&mut self, depth: u32) -> Result<(), Stopped> {
        let depth = depth.checked_sub(1).ok_or(Stopped::Unreadable)?;
        loop {
            let header = self.byte()?;
            match header & 0x0f {
                STOP => return Ok(()),
                kind => {
                    // the number of the field: a difference to the last one's, or in full
                    if header >> 4 == 0 {
                        self.number()?;
                    }
                    if !is_boolean(kind) {
                        self.value(kind, depth)?;
                    }
                }
            }
        }
    }

    fn value(&mut self, kind: u8, depth: u32) -> Result<(), Stopped> {
        match kind {
            3 => self.byte().map(drop),
            4..=6 => self.number().map(drop),
            7 => self.skip(8),
            8 => self.number().and_then(|length| self.skip(length)),
            9 | 10 => self.list(depth),
            11 => self.map(depth),
            12 => self.structure(depth),
            13 => self.skip(16),
            _ => Err(Stopped::Unreadable),
        }
    }

    fn list(&mut self, depth: u32) -> Result<(), Stopped> {
        let depth = depth.checked_sub(1).ok_or(Stopped::Unreadable)?;
        let header = self.byte()?;
        let length = if header >> 4 == 15 { self.number()? } else { u64::from(header >> 4) };
        self.elements(length, &[header & 0x0f], depth)
    }

    fn map(&mut self, depth: u32) -> Result<(), Stopped> {
        let depth = depth.checked_sub(1).ok_or(Stopped::Unreadable)?;
        let length = self.number()?;
        if length == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        self.elements(length, &[kinds >> 4, kinds & 0x0f], depth)
    }

    /// Each element takes a byte at least, so this ends where the bytes do.
    fn elements(&mut self, length: u64, kinds: &[u8], depth: u32) -> Result<(), Stopped> {
        if length > 0 && kinds.iter().any(|kind| is_boolean(*kind)) {
            return Err(Stopped::Booleans);
        }
        for _ in 0..length {
            for kind in kinds {
                self.value(*kind, depth)?;
            }
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Stopped> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// A number of seven bits a byte, the lowest first (ULEB128).
    fn number(&mut self) -> Result<u64, Stopped> {
        let mut number = 0_u64;
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(number)
    }

    fn skip(&mut self, length: u64) -> Result<(), Stopped> {
        let skipped = io::copy(&mut self.reader.by_ref().take(length), &mut io::sink())?;
        if skipped == length { Ok(()) } else { Err(Stopped::Unreadable) }
    }
}

fn is_boolean(kind: u8) -> bool {
    matches!(kind, TRUE | FALSE)
}

#[cfg(test)]
mod tests {
    use super::lists_booleans;

    /// Two thousand million and some, as a number of the protocol.
    const MANY: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x07];

    fn listed(bytes: &[&[u8]]) -> bool {
        lists_booleans(&mut bytes.concat().as_slice())
    }

    #[test]
    fn booleans_in_a_list_a_set_or_a_map_are_seen_wherever_they_stand() {
        assert!(listed(&[&[0x19, 0xf1], &MANY, &[0]]), "a list of true");
        assert!(listed(&[&[0x1a, 0xf2], &MANY, &[0]]), "a set of false");
        assert!(listed(&[&[0x1b], &MANY, &[0x15, 0]]), "a map of booleans");
        assert!(listed(&[&[0x09, 0x90, 0x03, 0x21]]), "a field number in full, a short list");
        let nested = [0x18, 2, b'a', b'b', 0x15, 0x80, 0x01, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0x1c, 0x11, 0x19, 0xf1];
        assert!(listed(&[&nested, &MANY]), "in a structure, after other fields");
        assert!(listed(&[&[0x19, 0x1c, 0x19, 0xf1], &MANY]), "in a list of structures");
    }

    #[test]
    fn what_the_format_has_passes() {
        assert!(
            !listed(&[&[0x15, 0, 0x15, 0x20, 0x11, 0x22, 0x19, 0x25, 2, 4, 0x1b, 0, 0]]),
            "numbers, booleans, a list"
        );
        assert!(!listed(&[&[0x19, 0x01, 0]]), "an empty list, whatever it is of");
        assert!(!listed(&[&[0x1b, 1, 0x85, 1, b'k', 4, 0]]), "a map");
        assert!(!listed(&[&[0x19, 0xf5], &MANY]), "a list that the bytes end in");
        assert!(!listed(&[&[0x18], &MANY, b"short"]), "a text that the bytes end in");
        assert!(!listed(&[&[0x1c; 1000]]), "structures without end");
        assert!(!listed(&[&[0xff; 40]]), "no structure at all");
    }
}
