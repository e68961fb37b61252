//! Sizes and durations as people write and read them.

use std::time::Duration;

/// Units of size that are read.
const SIZES: &[(&str, u64)] = &[
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

/// Units of size that are shown: powers of 1,000, as disks and networks are counted.
const SHOWN_SIZES: &[(&str, u64)] =
    &[("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000)];

/// Units of time in milliseconds, the longest first, as `format_duration` takes them.
const TIMES: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a size: `4096`, `192MiB`, `1.5 GB`.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size such as `192MiB`, `4GB` or a number of bytes");
    let (number, unit) = split_number(text.trim());
    let unit = unit.trim().to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" => 1,
        unit => SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
    };
    scaled(number, factor).ok_or_else(wrong)
}

/// Reads a duration: `90s`, `1h`, `1h30m`, `250ms`, `2d`.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as `30s`, `5m`, `1h30m` or `2d`");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let factor = TIMES.iter().find(|(name, _)| *name == &tail[..end]).ok_or_else(wrong)?.1;
        let part = scaled(number, factor).ok_or_else(wrong)?;
        millis = millis.checked_add(part).ok_or_else(wrong)?;
        rest = tail[end..].trim_start();
    }
    Ok(Duration::from_millis(millis))
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

/// `number`, which may have decimals, times `factor`; whole numbers stay exact.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let number = number.replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value = number.parse::<f64>().ok()? * factor as f64;
    // 2^63 as a float; above it, a size is a typing error.
    (value.is_finite() && (0.0..9.2e18).contains(&value)).then_some(value.round() as u64)
}

/// A size for people: `0 B`, `1.5 kB`, `816.9 MB`.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    match SHOWN_SIZES.iter().rev().find(|(_, factor)| bytes >= *factor) {
        None => format!("{bytes} B"),
        Some((unit, factor)) => format!("{:.1} {unit}", bytes as f64 / *factor as f64),
    }
}

/// A duration for people and for `tidemark.toml`: `1h`, `1h30m`, `250ms`, `0s`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, factor) in TIMES {
        if millis >= *factor {
            text.push_str(&format!("{}{name}", millis / factor));
            millis %= factor;
        }
    }
    text
}

/// A whole number with thousands separated: `1,234,567`.
#[must_use]
pub fn format_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 row`, `2,000 rows`, `2 entries`. `one` is the word for a single one.
#[must_use]
pub fn counted(count: u64, one: &str) -> String {
    let number = format_count(count);
    match one.strip_suffix('y') {
        _ if count == 1 => format!("{number} {one}"),
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {one}s"),
    }
}

/// Wall time for people: `85 ms`, `2.4 s`, `3m12s`.
#[must_use]
pub fn format_elapsed(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{:.1} s", millis as f64 / 1_000.0),
        _ => format_duration(Duration::from_secs(millis / 1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("4096", Some(4_096)),
            ("4_096", Some(4_096)),
            ("192MiB", Some(192 << 20)),
            ("192 mib", Some(192 << 20)),
            ("1.5 GB", Some(1_500_000_000)),
            ("17000000 TiB", None),
            ("99999999999999999999999 TB", None),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("10 apples", None),
            ("1.2.3", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn durations_are_read_in_one_or_several_units() {
        for (text, millis) in [
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("0.5s", Some(500)),
            ("2d", Some(172_800_000)),
            ("0s", Some(0)),
            ("30", None),
            ("", None),
            ("h", None),
            ("1 fortnight", None),
            ("999999999999999999d", None),
        ] {
            assert_eq!(parse_duration(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_shown_duration_reads_back() {
        for millis in [0, 1, 999, 1_000, 61_000, 5_400_000, 90_061_001] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }

    #[test]
    fn figures_are_shown_for_people() {
        for (bytes, text) in [(0, "0 B"), (999, "999 B"), (1_536, "1.5 kB"), (192 << 20, "201.3 MB")] {
            assert_eq!(format_bytes(bytes), text);
        }
        for (count, one, text) in [(0, "row", "0 rows"), (1, "row", "1 row"), (1_000, "entry", "1,000 entries")] {
            assert_eq!(counted(count, one), text);
        }
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(format_count(count), text);
        }
        for (millis, text) in [(85, "85 ms"), (2_400, "2.4 s"), (192_999, "3m12s")] {
            assert_eq!(format_elapsed(millis), text);
        }
    }
}
