//! A guard before Parquet's own reader of Thrift structures (compact protocol): it passes over a list that claims 2³¹
//! booleans by counting to 2³¹, for in its eyes they take no bytes, and a page header of ten bytes keeps a core busy for
//! seconds. No structure of the format has such a list in a footer or a page header.
//!
//! The reader takes a field that it knows for what it should be, whatever the bytes say it is. So one that says otherwise
//! is told as well: behind it the reader would be at other bytes than this walk.
//!
//! Source: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

use std::io::{self, Read};

use super::thrift_fields::{FILE_METADATA, Kind, Known, PAGE_HEADER};

/// Structures within structures, at most; Parquet's reader goes as deep.
const DEPTH_MAX: u32 = 64;

pub(super) const STOP: u8 = 0;
pub(super) const TRUE: u8 = 1;
const FALSE: u8 = 2;
pub(super) const BYTE: u8 = 3;
pub(super) const SHORT: u8 = 4;
pub(super) const INTEGER: u8 = 5;
pub(super) const LONG: u8 = 6;
pub(super) const DOUBLE: u8 = 7;
pub(super) const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCTURE: u8 = 12;

/// Why a walk ended before the structure did.
enum Stopped {
    /// A list, set or map whose elements are booleans; or what may hide one.
    Odd,
    /// The bytes end, or are no such structure: Parquet's reader says it better.
    Unreadable,
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self::Unreadable
    }
}

/// Whether a footer that `reader` is at holds what Parquet's reader would count through. Reads no further than its end.
pub(crate) fn is_odd_footer(reader: &mut impl Read) -> bool {
    matches!(Walk { reader, lists: true }.structure(FILE_METADATA, DEPTH_MAX), Err(Stopped::Odd))
}

/// The same of a page header. As none has lists, any list is odd. Reads no further than its end.
pub(crate) fn is_odd_page_header(reader: &mut impl Read) -> bool {
    matches!(Walk { reader, lists: false }.structure(PAGE_HEADER, DEPTH_MAX), Err(Stopped::Odd))
}

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
            if !(0..=i64::from(i16::MAX)).contains(&number) {
                return Err(Stopped::Odd);
            }
            match known.iter().find(|known| known.0 == number) {
                Some(Known(_, known)) => self.known(known, kind, depth)?,
                None if is_boolean(kind) => {}
                None => self.value(kind, depth)?,
            }
        }
    }

    /// The value of a known field that says it is of `kind`.
    fn known(&mut self, known: &Kind, kind: u8, depth: u32) -> Result<(), Stopped> {
        match (known, kind) {
            (Kind::Boolean, TRUE | FALSE) => Ok(()),
            (Kind::Plain(plain), kind) if *plain == kind => self.value(kind, depth),
            (Kind::Structure(fields), STRUCTURE) => self.structure(fields, depth),
            (Kind::List(of), LIST) => {
                let (length, of_kind) = self.list_header()?;
                let is_as_known = match **of {
                    Kind::Plain(plain) => of_kind == plain,
                    Kind::Structure(_) => of_kind == STRUCTURE,
                    Kind::Boolean | Kind::List(_) => false,
                };
                if length > 0 && !is_as_known {
                    return Err(Stopped::Odd);
                }
                (0..length).try_for_each(|_| self.known(of, of_kind, depth))
            }
            _ => Err(Stopped::Odd),
        }
    }

    fn value(&mut self, kind: u8, depth: u32) -> Result<(), Stopped> {
        match kind {
            BYTE => self.byte().map(drop),
            SHORT | INTEGER | LONG => self.number().map(drop),
            DOUBLE => self.skip(8),
            BINARY => self.number().and_then(|length| self.skip(length)),
            LIST..=11 if !self.lists => Err(Stopped::Odd),
            LIST | 10 => self.list(depth),
            11 => self.map(depth),
            STRUCTURE => self.structure(&[], depth),
            13 => self.skip(16),
            _ => Err(Stopped::Unreadable),
        }
    }

    fn list(&mut self, depth: u32) -> Result<(), Stopped> {
        let depth = depth.checked_sub(1).ok_or(Stopped::Unreadable)?;
        let (length, kind) = self.list_header()?;
        self.elements(length, &[kind], depth)
    }

    /// How many elements a list has, and of which kind.
    fn list_header(&mut self) -> Result<(u64, u8), Stopped> {
        let header = self.byte()?;
        let length = if header >> 4 == 15 { self.number()? } else { u64::from(header >> 4) };
        Ok((length, header & 0x0f))
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
            return Err(Stopped::Odd);
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
    use super::{is_odd_footer, is_odd_page_header};

    /// Two thousand million and some, as a number of the protocol.
    const MANY: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x07];

    fn odd(bytes: &[&[u8]]) -> bool {
        is_odd_footer(&mut bytes.concat().as_slice())
    }

    #[test]
    fn booleans_in_a_list_a_set_or_a_map_are_seen_wherever_they_stand() {
        assert!(odd(&[&[0x09, 0x28, 0xf1], &MANY, &[0]]), "a list of true");
        assert!(odd(&[&[0x0a, 0x28, 0xf2], &MANY, &[0]]), "a set of false");
        assert!(odd(&[&[0x0b, 0x28], &MANY, &[0x15, 0]]), "a map of booleans");
        let nested =
            [0x08, 0x28, 2, b'a', b'b', 0x15, 0x80, 0x01, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0x1c, 0x11, 0x19, 0xf1];
        assert!(odd(&[&nested, &MANY]), "in a structure, after other fields");
        assert!(odd(&[&[0x09, 0x28, 0x1c, 0x19, 0xf1], &MANY]), "in a list of structures");
    }

    #[test]
    fn a_known_field_is_what_it_should_be() {
        assert!(odd(&[&[0x15, 0, 0x1c]]), "a schema that is one structure");
        assert!(odd(&[&[0x15, 0, 0x19, 0x15, 2]]), "a schema of numbers");
        assert!(odd(&[&[0x49, 0x1c, 0x16, 0]]), "a row group whose columns are a number");
        assert!(odd(&[&[0x05, 0x80, 0x80, 0x08, 2]]), "a number of a field that the reader would cut");
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
        let plain = [0x15, 4, 0x19, 0x0c, 0x16, 0, 0x19, 0x0c, 0x28, 1, b'w'];
        assert!(!odd(&[&plain, &[0x01, 0x28, 0x19, 0x25, 2, 4, 0x1b, 0, 0]]), "fields that are not known yet");
        assert!(!odd(&[&[0x15, 4, 0x19, 0x01, 0]]), "an empty list, whatever it is of");
        assert!(!odd(&[&[0x0b, 0x28, 1, 0x85, 1, b'k', 4, 0]]), "a map");
        assert!(!odd(&[&[0x09, 0x28, 0xf5], &MANY]), "a list that the bytes end in");
        assert!(!odd(&[&[0x08, 0x28], &MANY, b"short"]), "a text that the bytes end in");
        assert!(!odd(&[&[0x0c, 0x28], &[0x1c; 1000]]), "structures without end");
        assert!(!odd(&[&[0xff; 40]]), "no structure at all");
    }
}
