//! Text → typed values. Every function takes a whole field without surrounding spaces and answers `None` when its type
//! can't hold it; none of them allocates.

/// Digits that an `i128` can take before it may overflow.
const DECIMAL_DIGITS_MAX: usize = 38;
/// Digits of the largest 64-bit integer.
const INTEGER_DIGITS_MAX: u8 = 20;
/// Decimal exponents beyond this can't matter: no column has as many digits.
const EXPONENT_MAX: i64 = 10_000;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Sign and magnitude of an integer. A zero fraction is accepted (`1.0`), as tools write integers that pass through
/// floats that way.
fn integer_parts(text: &[u8]) -> Option<(bool, u64)> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let mut magnitude: u64 = 0;
    let mut length = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
        length += 1;
    }
    if length == 0 {
        return None;
    }
    match &digits[length..] {
        [] => Some((negative, magnitude)),
        [b'.', zeros @ ..] if !zeros.is_empty() && zeros.iter().all(|zero| *zero == b'0') => {
            Some((negative, magnitude))
        }
        _ => None,
    }
}

/// An integer that is written with an exponent, as JSON allows: `1e3`.
#[cold]
fn with_exponent(text: &[u8]) -> Option<i128> {
    let has_exponent = text.iter().any(|byte| matches!(byte, b'e' | b'E'));
    has_exponent.then(|| decimal(text, INTEGER_DIGITS_MAX, 0)).flatten()
}

/// A signed 64-bit integer.
#[inline]
pub(crate) fn int64(text: &[u8]) -> Option<i64> {
    let Some(parts) = integer_parts(text) else {
        return with_exponent(text).and_then(|wide| i64::try_from(wide).ok());
    };
    match parts {
        (false, magnitude) => i64::try_from(magnitude).ok(),
        (true, magnitude) => 0_i64.checked_sub_unsigned(magnitude),
    }
}

/// An unsigned 64-bit integer; `-0` is 0.
pub(crate) fn uint64(text: &[u8]) -> Option<u64> {
    let Some(parts) = integer_parts(text) else {
        return with_exponent(text).and_then(|wide| u64::try_from(wide).ok());
    };
    match parts {
        (true, magnitude) if magnitude != 0 => None,
        (_, magnitude) => Some(magnitude),
    }
}

/// Powers of ten that a double holds exactly, as far as [`short_float`] needs them.
const TENS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// A plain number of at most 15 digits, which most are. Digits and power of ten are exact as doubles, so the one
/// division rounds correctly (Clinger's fast path); `None` leaves the text to the full parser.
#[inline]
fn short_float(text: &[u8]) -> Option<f64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut mantissa: u64 = 0;
    let mut point = digits.len();
    for (index, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            mantissa = mantissa * 10 + u64::from(digit);
        } else if *byte == b'.' && point == digits.len() {
            point = index;
        } else {
            return None;
        }
    }
    let fraction = (digits.len() - point).saturating_sub(1);
    if mantissa >= 1 << 53 || digits == b"." {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let value = mantissa as f64 / TENS[fraction];
    Some(if digits.len() == text.len() { value } else { -value })
}

/// A double. `inf` and `nan` in any case are values; a finite text beyond the type's range is none.
#[inline]
pub(crate) fn float64(text: &[u8]) -> Option<f64> {
    short_float(text).or_else(|| full_float64(text))
}

fn full_float64(text: &[u8]) -> Option<f64> {
    let text = match text {
        [b'+', rest @ ..] if !matches!(rest.first(), Some(b'+' | b'-')) => rest,
        _ => text,
    };
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    if matches!(unsigned.first(), Some(b'0'..=b'9' | b'.')) {
        return fast_float2::parse::<f64, _>(text).ok().filter(|value| value.is_finite());
    }
    let value = if unsigned.eq_ignore_ascii_case(b"inf") {
        f64::INFINITY
    } else if unsigned.eq_ignore_ascii_case(b"nan") {
        f64::NAN
    } else {
        return None;
    };
    Some(if unsigned.len() == text.len() { value } else { -value })
}

/// A single; as [`float64`], rounded once.
pub(crate) fn float32(text: &[u8]) -> Option<f32> {
    let wide = float64(text)?;
    if !wide.is_finite() {
        #[expect(clippy::cast_possible_truncation, reason = "infinities and NaN exist in both types")]
        return Some(wide as f32);
    }
    let text = text.strip_prefix(b"+").unwrap_or(text);
    fast_float2::parse::<f32, _>(text).ok().filter(|value| value.is_finite())
}

/// A boolean: `true`, `t`, `yes`, `y`, `1` and their opposites, in any case.
pub(crate) fn boolean(text: &[u8]) -> Option<bool> {
    const YES: [&[u8]; 5] = [b"true", b"t", b"1", b"yes", b"y"];
    const NO: [&[u8]; 5] = [b"false", b"f", b"0", b"no", b"n"];
    if YES.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Some(true);
    }
    NO.iter().any(|word| text.eq_ignore_ascii_case(word)).then_some(false)
}

/// A decimal of `precision` digits, `scale` of them after the point, as the unscaled integer. Digits that the scale has no
/// room for must be zeros: rounding is a decision, and the transform's. An exponent is accepted.
pub(crate) fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], exponent(&unsigned[at + 1..])?),
        None => (unsigned, 0),
    };
    let point = mantissa.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    if whole.len() + fraction.len() == 0 || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let digits = || whole.iter().chain(fraction).map(|byte| i128::from(byte - b'0'));
    // How many of the digits stand before the unscaled integer's own point.
    let keep = i64::try_from(whole.len()).ok()? + exponent + i64::from(scale);
    let available = i64::try_from(whole.len() + fraction.len()).ok()?;
    let taken = usize::try_from(keep.clamp(0, available)).ok()?;
    if digits().skip(taken).any(|surplus| surplus != 0) {
        return None;
    }
    let mut value: i128 = 0;
    for digit in digits().take(taken) {
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    if keep > available && value != 0 {
        let zeros = usize::try_from(keep - available).ok().filter(|zeros| *zeros <= DECIMAL_DIGITS_MAX)?;
        for _ in 0..zeros {
            value = value.checked_mul(10)?;
        }
    }
    let fits = value < 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    fits.then_some(if negative { -value } else { value })
}

fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = (value * 10 + i64::from(byte - b'0')).min(EXPONENT_MAX);
    }
    Some(if negative { -value } else { value })
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: u32, month: u32, day: u32) -> i32 {
    let shifted_year = if month <= 2 { i64::from(year) - 1 } else { i64::from(year) };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * i64::from((month + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).expect("a four-digit year is within i32 days")
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Two decimal digits.
#[inline]
fn two(text: &[u8], at: usize) -> Option<u32> {
    let tens = text[at].wrapping_sub(b'0');
    let ones = text[at + 1].wrapping_sub(b'0');
    (tens <= 9 && ones <= 9).then(|| u32::from(tens) * 10 + u32::from(ones))
}

/// `YYYY-MM-DD` as days since 1970-01-01.
#[inline]
pub(crate) fn date(text: &[u8]) -> Option<i32> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = two(text, 0)? * 100 + two(text, 2)?;
    let (month, day) = (two(text, 5)?, two(text, 8)?);
    // The month's length matters only for the last days.
    let valid = (1..=12).contains(&month) && day >= 1 && (day <= 28 || day <= days_in_month(year, month));
    valid.then(|| days_from_civil(year, month, day))
}

/// `YYYY-MM-DD[[ T]HH:MM[:SS[.fraction]][Z|±hh:mm]]` as microseconds; a date alone is its midnight. Fractions have one to nine digits and are cut to
/// microseconds. `instant` says whether the column holds instants: then a zone is applied and none means UTC; a
/// zoneless column refuses one.
#[inline]
pub(crate) fn timestamp(text: &[u8], instant: bool) -> Option<i64> {
    if text.len() == 10 {
        return date(text).map(|days| i64::from(days) * SECONDS_PER_DAY * MICROS_PER_SECOND);
    }
    if text.len() < 16 || !matches!(text[10], b' ' | b'T') || text[13] != b':' {
        return None;
    }
    let days = i64::from(date(&text[..10])?);
    let (hour, minute) = (two(text, 11)?, two(text, 14)?);
    let mut second = 0;
    let mut rest = &text[16..];
    if rest.len() >= 3 && rest[0] == b':' {
        second = two(rest, 1)?;
        rest = &rest[3..];
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days * SECONDS_PER_DAY + i64::from(hour * 3600 + minute * 60 + second);
    let micros = seconds * MICROS_PER_SECOND;
    if rest.is_empty() {
        return Some(micros);
    }
    // A fraction belongs to seconds, so it needs them.
    let (fraction, zone) = if rest[0] == b'.' && text.len() > 19 { fraction_micros(&rest[1..])? } else { (0, rest) };
    let shift = match zone {
        [] => 0,
        _ if !instant => return None,
        zone => zone_seconds(zone)?,
    };
    Some(micros + fraction - shift * MICROS_PER_SECOND)
}

/// Microseconds of a fraction of one to nine digits, and what follows it.
fn fraction_micros(text: &[u8]) -> Option<(i64, &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 || length > 9 {
        return None;
    }
    let digits = text[..length].iter().map(|byte| i64::from(byte - b'0')).chain(std::iter::repeat(0)).take(6);
    Some((digits.fold(0, |micros, digit| micros * 10 + digit), &text[length..]))
}

/// Seconds east of UTC of `Z`, `±hh`, `±hhmm` or `±hh:mm`.
fn zone_seconds(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (two(digits, 0)?, 0),
        4 => (two(digits, 0)?, two(digits, 2)?),
        5 if digits[2] == b':' => (two(digits, 0)?, two(digits, 3)?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then(|| sign * i64::from(hours * 3600 + minutes * 60))
}
