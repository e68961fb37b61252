//! Numbers that take as few bytes as they need: seven bits a byte, the lowest first; the highest bit of a byte says that
//! another one follows. Logs store them, so the form never changes.

use crate::error::{ErrorKind, Kind};

/// Why bytes are no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// They end before the number does.
    #[error("it is cut short")]
    Cut,
    /// More bytes follow than 64 bits take.
    #[error("a number is too long")]
    TooLong,
}

impl ErrorKind for VarintError {
    fn kind(&self) -> Kind {
        Kind::Corrupt
    }
}

/// Appends a number.
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Takes a number off the front.
///
/// # Errors
/// What is wrong with the bytes; some of them are taken off nevertheless.
pub fn take_varint(from: &mut &[u8]) -> Result<u64, VarintError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first().ok_or(VarintError::Cut)?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(VarintError::TooLong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_the_bytes_that_logs_hold() {
        let cases: [(u64, &[u8]); 6] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (1 << 40, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x20]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ];
        for (number, bytes) in cases {
            let mut put = Vec::new();
            put_varint(&mut put, number);
            assert_eq!(put, bytes, "{number}");
        }
    }

    #[test]
    fn bytes_that_are_no_number_are_told() {
        for (bytes, wanted) in [
            (&[][..], VarintError::Cut),
            (&[0x80][..], VarintError::Cut),
            (&[0xff; 9][..], VarintError::Cut),
            (&[0xff; 10][..], VarintError::TooLong),
        ] {
            assert_eq!(take_varint(&mut &*bytes), Err(wanted), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back_and_what_follows_stays(
            number in any::<u64>(),
            follows in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            bytes.extend(&follows);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(take_varint(&mut rest), Ok(number));
            prop_assert_eq!(rest, follows.as_slice());
        }
    }
}
