//! The fast way through most JSON records: an object of strings without escapes, plain numbers, booleans and nulls.
//!
//! It says nothing of anything else, neither that it is JSON nor that it is not: whoever is told `None` reads the record
//! anew with a full parser, which also has the better messages. So what it takes must be JSON by that parser, too.

use std::ops::Range;

/// Every byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of every byte.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Calls `member` with the key and the place of the value of each member of the object that is `text`, in order; `None`,
/// perhaps after some calls, if it is anything but such an object. A string's place has its quotes in it.
pub(super) fn members<'a>(text: &'a str, mut member: impl FnMut(&'a str, Range<usize>)) -> Option<()> {
    let mut scan = Scan { bytes: text.as_bytes(), at: 0 };
    scan.space();
    scan.byte(b'{')?;
    scan.space();
    if scan.byte(b'}').is_none() {
        loop {
            let key = scan.string()?;
            scan.space();
            scan.byte(b':')?;
            scan.space();
            let value = scan.scalar()?;
            member(&text[key.start + 1..key.end - 1], value);
            scan.space();
            if scan.byte(b',').is_none() {
                scan.byte(b'}')?;
                break;
            }
            scan.space();
        }
    }
    scan.space();
    (scan.at == text.len()).then_some(())
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn byte(&mut self, wanted: u8) -> Option<()> {
        (self.peek() == Some(wanted)).then(|| self.at += 1)
    }

    /// A string without escapes and control characters.
    #[inline]
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.byte(b'"')?;
        self.at += plain(&self.bytes[self.at..]);
        self.byte(b'"')?;
        Some(start..self.at)
    }

    fn scalar(&mut self) -> Option<Range<usize>> {
        match self.peek()? {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => None,
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<Range<usize>> {
        let start = self.at;
        self.bytes[start..].starts_with(word).then(|| self.at += word.len())?;
        Some(start..self.at)
    }

    /// A number without an exponent.
    fn number(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let _negative = self.byte(b'-');
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return None;
        }
        if self.byte(b'.').is_some() && self.digits() == 0 {
            return None;
        }
        // What is no end of a value, as an exponent, is found where the next comma should be.
        Some(start..self.at)
    }

    fn digits(&mut self) -> usize {
        let count = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }
}

/// How many bytes come before the first quote, backslash or control character.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    // The lowest marked byte of a word is right; higher ones may be marked by a borrow.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, rest) = bytes.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let odd = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\'))) | control;
        if odd != 0 {
            return 8 * n + odd.trailing_zeros() as usize / 8;
        }
    }
    let odd = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    bytes.len() - rest.len() + rest.iter().position(odd).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn found(text: &str) -> Option<Vec<(&str, &str)>> {
        let mut found = Vec::new();
        members(text, |key, value| found.push((key, &text[value])))?;
        Some(found)
    }

    #[test]
    fn plain_objects_are_taken_and_all_else_is_left() {
        for (text, wanted) in [
            ("{}", Some(vec![])),
            (" { } \r\n", Some(vec![])),
            (
                r#"{"a":1,"b":"x", "c" : -0.50 ,"":null}"#,
                Some(vec![("a", "1"), ("b", "\"x\""), ("c", "-0.50"), ("", "null")]),
            ),
            (r#"{"a":true,"a":false}"#, Some(vec![("a", "true"), ("a", "false")])),
            ("{\"a\":\"\u{e9}\u{7f}\u{1f600}, {[:\"}", Some(vec![("a", "\"\u{e9}\u{7f}\u{1f600}, {[:\"")])),
            (r#"{"a":1e5}"#, None),
            (r#"{"a":"\n"}"#, None),
            (r#"{"a\u0062":1}"#, None),
            (r#"{"a":[1]}"#, None),
            (r#"{"a":{}}"#, None),
            ("{\"a\":\"\t\"}", None),
            (r#"{"a":01}"#, None),
            (r#"{"a":-}"#, None),
            (r#"{"a":1.}"#, None),
            (r#"{"a":nul}"#, None),
            (r#"{"a":1,}"#, None),
            (r#"{"a":1 "b":2}"#, None),
            (r#"{"a":1} x"#, None),
            (r#"{"a":1"#, None),
            (r#"{"a":"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(found(text), wanted, "{text}");
        }
    }

    /// Text of pieces that matter, in any order; often an object.
    fn text() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            6 => "\"[a-z0-9 é,:{}]{0,20}\"",
            2 => "-?[0-9]{1,4}(\\.[0-9]{0,3})?(e[0-9])?",
            2 => "true|false|null|[a-z]{1,5}",
            1 => "\"[\u{0}-\u{22}\\\\a-z]{0,12}\"",
            1 => "\\[1, 2\\]|\\{\"x\": 1\\}",
        ];
        let member =
            ("[ \t]?\"[a-e]{0,9}\"", "[ ]?:[ ]?", value).prop_map(|(key, colon, value)| format!("{key}{colon}{value}"));
        let object = prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")));
        prop_oneof![6 => object, 1 => "[{}\":,0-9a-z\\\\ ]{0,20}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_is_taken_is_what_the_full_parser_reads(text in text()) {
            let full: Result<BTreeMap<String, &RawValue>, _> = serde_json::from_str(&text);
            if let Some(found) = found(&text) {
                let full = full.expect("it is JSON");
                let last: BTreeMap<&str, &str> = found.into_iter().collect();
                let full: BTreeMap<&str, &str> = full.iter().map(|(key, value)| (key.as_str(), value.get())).collect();
                prop_assert_eq!(last, full);
            }
        }

        #[test]
        fn a_plain_beginning_ends_where_it_must(bytes in prop::collection::vec(prop_oneof![4 => 0x20..=0xff_u8, 1 => any::<u8>()], 0..40)) {
            let wanted = bytes.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(plain(&bytes), wanted.unwrap_or(bytes.len()));
        }
    }
}
