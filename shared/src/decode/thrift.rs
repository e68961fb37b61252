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
const INTEGER: u8 = 5;
const LONG: u8 = 6;
const BINARY: u8 = 8;
const STRUCTURE: u8 = 12;

/// Why a walk ended before the structure did.
enum Stopped {
    /// A list, set or map whose elements are booleans; or what may hide one.
    Booleans,
    /// The bytes end, or are no such structure: Parquet's reader says it better.
    Unreadable,
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self::Unreadable
    }
}

/// Whether a footer that `reader` is at holds a list of booleans. Reads no further than its end.
pub(crate) fn lists_booleans(reader: &mut impl Read) -> bool {
    matches!(Walk { reader, lists: true }.structure(&[], DEPTH_MAX), Err(Stopped::Booleans))
}

/// Whether a page header that `reader` is at holds what Parquet's reader would count through. It takes a field that it knows
/// for what it should be, whatever the header says it is: so one that is something else is told as well, and as no page
/// header has lists, any list is. Reads no further than its end.
pub(crate) fn is_odd_page_header(reader: &mut impl Read) -> bool {
    matches!(Walk { reader, lists: false }.structure(PAGE_HEADER, DEPTH_MAX), Err(Stopped::Booleans))
}

/// A field that is known: number, kind, and the fields of a structure.
struct Known(i64, u8, &'static [Known]);

/// Source: `parquet.thrift`, `PageHeader` and what it consists of.
const PAGE_HEADER: &[Known] = &[
    Known(1, INTEGER, &[]),
    Known(2, INTEGER, &[]),
    Known(3, INTEGER, &[]),
    Known(4, INTEGER, &[]),
    Known(5, STRUCTURE, DATA_PAGE),
    Known(6, STRUCTURE, &[]),
    Known(7, STRUCTURE, &[Known(1, INTEGER, &[]), Known(2, INTEGER, &[]), Known(3, TRUE, &[])]),
    Known(8, STRUCTURE, DATA_PAGE_2),
];
const DATA_PAGE: &[Known] = &[
    Known(1, INTEGER, &[]),
    Known(2, INTEGER, &[]),
    Known(3, INTEGER, &[]),
    Known(4, INTEGER, &[]),
    Known(5, STRUCTURE, STATISTICS),
];
const DATA_PAGE_2: &[Known] = &[
    Known(1, INTEGER, &[]),
    Known(2, INTEGER, &[]),
    Known(3, INTEGER, &[]),
    Known(4, INTEGER, &[]),
    Known(5, INTEGER, &[]),
    Known(6, INTEGER, &[]),
    Known(7, TRUE, &[]),
    Known(8, STRUCTURE, STATISTICS),
];
const STATISTICS: &[Known] = &[
    Known(1, BINARY, &[]),
    Known(2, BINARY, &[]),
    Known(3, LONG, &[]),
    Known(4, LONG, &[]),
    Known(5, BINARY, &[]),
    Known(6, BINARY, &[]),
    Known(7, TRUE, &[]),
    Known(8, TRUE, &[]),
];

struct Walk<'a, R> {
    reader: &'a mut R,
    /// Whether there may be lists at all.
    lists: bool,
}

impl<R: Read> Walk<'_, R> {
    fn structure(&mut self, known: &'static [Known], depth: u32) -> Result<(), Stopped> {
        let depth = depth.checked_sub(1).ok_or(Stopped::Unreadable)?;
        let mut number = 0;
        loop {
            let header = self.byte()?;
            let kind = header & 0x0f;
            if kind == STOP {
                return Ok(());
            }
            // the number of the field: a difference to the last one's, or in full
            number = match header >> 4 {
                0 => zigzag(self.number()?),
                difference => number + i64::from(difference),
            };
            let known = known.iter().find(|known| known.0 == number);
            if known.is_some_and(|known| known.1 != kind && !(is_boolean(known.1) && is_boolean(kind))) {
                return Err(Stopped::Booleans);
            }
            match known {
                Some(Known(_, STRUCTURE, fields)) => self.structure(fields, depth)?,
                _ if is_boolean(kind) => {}
                _ => self.value(kind, depth)?,
            }
        }
    }

    fn value(&mut self, kind: u8, depth: u32) -> Result<(), Stopped> {
        match kind {
            3 => self.byte().map(drop),
            4 | INTEGER | LONG => self.number().map(drop),
            7 => self.skip(8),
            BINARY => self.number().and_then(|length| self.skip(length)),
            9..=11 if !self.lists => Err(Stopped::Booleans),
            9 | 10 => self.list(depth),
            11 => self.map(depth),
            STRUCTURE => self.structure(&[], depth),
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

/// A number with a sign, of one without.
fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn is_boolean(kind: u8) -> bool {
    matches!(kind, TRUE | FALSE)
}

#[cfg(test)]
mod tests {
    use super::{is_odd_page_header, lists_booleans};

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
    fn a_page_header_has_its_fields_kinds_and_no_list() {
        let odd = |bytes: &[u8]| is_odd_page_header(&mut &bytes[..]);
        let plain = [0x15, 0, 0x15, 0x20, 0x15, 0x20, 0x2c, 0x15, 6, 0x15, 0, 0x15, 6, 0x15, 6];
        assert!(
            !odd(&[&plain[..], &[0x1c, 0x18, 1, b'z', 0x18, 1, b'a', 0x16, 0, 0, 0, 0]].concat()),
            "with statistics"
        );
        assert!(!odd(&[&plain[..], &[0, 0x86, 4, 0]].concat()), "a number that is not known yet");
        assert!(odd(&[&plain[..], &[0, 0x49, 0x15, 0]].concat()), "a list");
        assert!(odd(&[0x15, 0, 0x2b, 0x20, 0xc9, 0xf1]), "a map in the place of a number");
        assert!(odd(&[0x15, 0, 0x18, 3, 1, 2, 3]), "a text in the place of a number");
        assert!(odd(&[0x15, 0, 0x15, 0, 0x15, 0, 0x2c, 0x18, 1, 1]), "likewise within the header of data");
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
