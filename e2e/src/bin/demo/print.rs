//! Figures as people read them.

/// Prints a heading.
pub(crate) fn heading(text: &str) {
    println!("\n== {text}");
}

/// `2,100,000`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `29.6 MB`, in powers of 1,000 as disks and networks are counted.
pub(crate) fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", tenths(1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", tenths(1_000_000)),
        _ => format!("{} GB", tenths(1_000_000_000)),
    }
}

/// `23.4 %` of `whole`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0.0 %".to_owned();
    }
    let tenths = u128::from(part) * 1_000 / u128::from(whole);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::{count, percent, size};

    #[test]
    fn figures_are_rounded_down_and_grouped() {
        assert_eq!([count(7), count(1_000), count(2_100_000)], ["7", "1,000", "2,100,000"]);
        assert_eq!([size(999), size(1_234), size(28_000_000)], ["999 B", "1.2 kB", "28.0 MB"]);
        assert_eq!([percent(1, 4), percent(0, 0)], ["25.0 %", "0.0 %"]);
    }
}
