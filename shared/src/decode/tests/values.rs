use super::super::values::{boolean, date, decimal, float32, float64, int64, timestamp, uint64};

#[test]
fn integers() {
    let cases: &[(&str, Option<i64>)] = &[
        ("0", Some(0)),
        ("-0", Some(0)),
        ("+7", Some(7)),
        ("1.0", Some(1)),
        ("-3.000", Some(-3)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("99999999999999999999999", None),
        ("1.", None),
        ("1.5", None),
        (".0", None),
        ("", None),
        ("-", None),
        ("1e3", Some(1000)),
        ("-15.0E-1", None),
        ("-150e-1", Some(-15)),
        ("1e19", None),
        ("e3", None),
        ("1 2", None),
        ("0x1", None),
    ];
    for (text, expected) in cases {
        assert_eq!(int64(text.as_bytes()), *expected, "{text}");
    }
    assert_eq!(uint64(b"18446744073709551615"), Some(u64::MAX));
    assert_eq!(uint64(b"-1"), None);
    assert_eq!(uint64(b"-0"), Some(0));
    assert_eq!(uint64(b"1e19"), Some(10_000_000_000_000_000_000));
    assert_eq!(uint64(b"-1e1"), None);
}

#[test]
fn floats() {
    let cases: &[(&str, Option<f64>)] = &[
        ("8.9000000000000004", Some(8.9)),
        (".50", Some(0.5)),
        ("-1e-3", Some(-0.001)),
        ("+2", Some(2.0)),
        ("INF", Some(f64::INFINITY)),
        ("-inf", Some(f64::NEG_INFINITY)),
        ("1e999", None),
        ("infinity", None),
        ("in", None),
        ("1,5", None),
        ("", None),
        (".", None),
        ("+-1", None),
    ];
    for (text, expected) in cases {
        assert_eq!(float64(text.as_bytes()), *expected, "{text}");
    }
    assert!(float64(b"NaN").is_some_and(f64::is_nan));
    assert_eq!(float32(b"1e39"), None);
    assert_eq!(float32(b"+1.5"), Some(1.5));
}

#[test]
fn booleans() {
    for (text, expected) in
        [("TRUE", Some(true)), ("n", Some(false)), ("Yes", Some(true)), ("0", Some(false)), ("2", None)]
    {
        assert_eq!(boolean(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn decimals_are_exact_or_refused() {
    let cases: &[(&str, Option<i128>)] = &[
        ("12.3", Some(1230)),
        ("8.9000000000000004", None),
        ("8.90000000000000000000000000000000000000000000", Some(890)),
        ("1.005", None),
        ("-1.00500", None),
        ("-1.05", Some(-105)),
        ("1.00000000000000000000000000000000000000000000000001", None),
        ("0.004", None),
        ("0.0000", Some(0)),
        ("9999999.99", Some(999_999_999)),
        ("9999999.990", Some(999_999_999)),
        ("9999999.995", None),
        ("10000000", None),
        ("1.5e2", Some(15_000)),
        ("150e-2", Some(150)),
        ("5e-3", None),
        ("50e-3", Some(5)),
        ("5e-4", None),
        ("0e-9999999999", Some(0)),
        ("1e-9999999999", None),
        ("1e9999999999", None),
        ("0e9999999999", Some(0)),
        (".5", Some(50)),
        ("5.", Some(500)),
        ("", None),
        (".", None),
        ("e5", None),
        ("1e", None),
        ("1.2.3", None),
        ("--1", None),
    ];
    for (text, expected) in cases {
        assert_eq!(decimal(text.as_bytes(), 9, 2), *expected, "{text}");
    }
    let longest = "9".repeat(38);
    assert_eq!(decimal(longest.as_bytes(), 38, 0), longest.parse().ok());
    assert_eq!(decimal("9".repeat(39).as_bytes(), 38, 0), None);
}

#[test]
fn dates_agree_with_chrono_on_every_day() {
    let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
    let mut day = chrono::NaiveDate::from_ymd_opt(0, 1, 1).unwrap();
    while day < chrono::NaiveDate::from_ymd_opt(9999, 12, 31).unwrap() {
        let text = day.format("%Y-%m-%d").to_string();
        assert_eq!(date(text.as_bytes()).map(i64::from), Some((day - epoch).num_days()), "{text}");
        day += chrono::TimeDelta::days(1);
    }
    for text in
        ["2021-02-29", "1900-02-29", "2021-00-01", "2021-13-01", "2021-01-00", "2021-04-31", "21-01-01", "2021-1-01"]
    {
        assert_eq!(date(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn timestamps() {
    const BASE: i64 = 1_546_303_600_000_000; // 2019-01-01 00:46:40
    let cases: &[(&str, bool, Option<i64>)] = &[
        ("2019-01-01 00:46:40", false, Some(BASE)),
        ("2019-01-01T00:46:40", true, Some(BASE)),
        ("2019-01-01 00:46", false, Some(BASE - 40_000_000)),
        ("2019-01-01 00:46:40.5", false, Some(BASE + 500_000)),
        ("2019-01-01 00:46:40.123456789", false, Some(BASE + 123_456)),
        ("2019-01-01 00:46:40.1234567890", false, None),
        ("2019-01-01 00:46:40.", false, None),
        ("2019-01-01 00:46.5", false, None),
        ("2019-01-01 00:46:40Z", true, Some(BASE)),
        ("2019-01-01 00:46:40Z", false, None),
        ("2019-01-01 01:46:40+01:00", true, Some(BASE)),
        ("2019-01-01 01:46:40.25+0100", true, Some(BASE + 250_000)),
        ("2018-12-31T19:46:40-05", true, Some(BASE)),
        ("2019-01-01 00:46:40+25:00", true, None),
        ("2019-01-01 24:00:00", false, None),
        ("2019-01-01 00:60:00", false, None),
        ("2019-01-01 00:00:60", false, None),
        ("2019-01-01", false, Some(BASE - 2_800_000_000)),
        ("2019-02-29", false, None),
        ("2019-01-01 ", false, None),
        ("2019-01-01 00:46:4", false, None),
        ("2019-01-01x00:46:40", false, None),
        ("1969-12-31 23:59:59.999999", false, Some(-1)),
    ];
    for (text, instant, expected) in cases {
        assert_eq!(timestamp(text.as_bytes(), *instant), *expected, "{text}");
    }
}
