//! Which casts keep the order of values, so that the cast of a bound bounds the casts.

use arrow::datatypes::DataType;

/// True if a cast `from` → `to` leaves no value before one that it came behind; it may make two the same. Where it fails,
/// or gives null, it does so for everything from some value on. What is not known to be so is not: a list of what is.
///
/// Not on it, for example: an instant's time of day begins anew each day; an instant of a zone with summer time, as a date
/// or without its zone, goes back by an hour in autumn; numbers as truth values put negative ones beside positive ones.
pub(super) fn is_monotone(from: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Date64, Dictionary, Float16, Float32, Float64, Timestamp};
    if from == to {
        return true;
    }
    match (from, to) {
        (Dictionary(_, value), _) => is_monotone(value, to),
        (Float16, Float32 | Float64) | (Float32, Float64) | (Date32, Date64) => true,
        // Midnight in UTC.
        (Date32, Timestamp(_, zone)) => zone.as_deref().is_none_or(is_utc),
        (Timestamp(_, zone), Date32) => zone.as_deref().is_none_or(is_utc),
        // The instant remains between zones, and between none and UTC; units multiply or divide.
        (Timestamp(_, Some(_)), Timestamp(_, Some(_))) | (Timestamp(_, None), Timestamp(_, None)) => true,
        (Timestamp(_, Some(zone)), Timestamp(_, None)) | (Timestamp(_, None), Timestamp(_, Some(zone))) => is_utc(zone),
        _ if is_text(from) && is_text(to) => true,
        _ => keeps_numbers(from, to),
    }
}

/// [`is_monotone`] for numbers: those that become wider, and those that become floats.
fn keeps_numbers(from: &DataType, to: &DataType) -> bool {
    let into_float = matches!(to, DataType::Float32 | DataType::Float64);
    match (integer(from), integer(to), decimal(from), decimal(to)) {
        (Some(from), Some(to), ..) => match (from.signed, to.signed) {
            (false, true) => to.bits > from.bits,
            (true, false) => false,
            _ => to.bits >= from.bits,
        },
        (Some(from), _, _, Some(to)) => to.scale >= 0 && to.digits_before_point() >= from.digits(),
        (Some(_), ..) => into_float,
        (_, _, Some(from), Some(to)) => {
            to.scale >= from.scale && to.digits_before_point() >= from.digits_before_point()
        }
        (_, _, Some(_), _) => *to == DataType::Float64,
        _ => false,
    }
}

fn is_utc(zone: &str) -> bool {
    ["UTC", "Z", "+00:00"].contains(&zone)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

struct Integer {
    signed: bool,
    bits: u8,
}

impl Integer {
    /// Most decimal digits of one.
    fn digits(&self) -> i16 {
        match (self.bits, self.signed) {
            (8, _) => 3,
            (16, _) => 5,
            (32, _) => 10,
            (_, true) => 19,
            (_, false) => 20,
        }
    }
}

fn integer(data_type: &DataType) -> Option<Integer> {
    let (signed, bits) = match data_type {
        DataType::Int8 => (true, 8),
        DataType::Int16 => (true, 16),
        DataType::Int32 => (true, 32),
        DataType::Int64 => (true, 64),
        DataType::UInt8 => (false, 8),
        DataType::UInt16 => (false, 16),
        DataType::UInt32 => (false, 32),
        DataType::UInt64 => (false, 64),
        _ => return None,
    };
    Some(Integer { signed, bits })
}

struct Decimal {
    precision: u8,
    scale: i8,
}

impl Decimal {
    fn digits_before_point(&self) -> i16 {
        i16::from(self.precision) - i16::from(self.scale)
    }
}

fn decimal(data_type: &DataType) -> Option<Decimal> {
    match *data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some(Decimal { precision, scale }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};

    use super::*;
    use DataType::{
        Boolean, Date32, Decimal128, Decimal256, Float32, Float64, Int8, Int32, Int64, Time64, Timestamp, UInt32,
        UInt64, Utf8, Utf8View,
    };

    #[test]
    fn only_casts_that_keep_the_order_are_on_the_list() {
        let zoned = |zone: &str| Timestamp(Microsecond, Some(zone.into()));
        let plain = Timestamp(Microsecond, None);
        let listed = [
            (Int32, Int64),
            (UInt32, Int64),
            (Int64, Float32),
            (Int64, Float64),
            (Float32, Float64),
            (Int32, Decimal128(10, 0)),
            (Int64, Decimal128(22, 2)),
            (Decimal128(10, 2), Decimal128(12, 4)),
            (Decimal128(38, 2), Decimal256(40, 4)),
            (Decimal128(10, 2), Float64),
            (Date32, plain.clone()),
            (Date32, zoned("UTC")),
            (plain.clone(), Date32),
            (zoned("+00:00"), Date32),
            (plain.clone(), Timestamp(Nanosecond, None)),
            (plain.clone(), Timestamp(Second, None)),
            (zoned("UTC"), plain.clone()),
            (zoned("UTC"), zoned("Europe/Berlin")),
            (zoned("Europe/Berlin"), Timestamp(Millisecond, Some("UTC".into()))),
            (Utf8, Utf8View),
            (DataType::Dictionary(Box::new(Int32), Box::new(Utf8)), Utf8View),
        ];
        for (from, to) in listed {
            assert!(is_monotone(&from, &to), "{from} → {to}");
        }
        let others = [
            (plain.clone(), Time64(Nanosecond)),
            (zoned("UTC"), Time64(Nanosecond)),
            (zoned("Europe/Berlin"), Date32),
            (zoned("Europe/Berlin"), plain.clone()),
            (plain.clone(), zoned("Europe/Berlin")),
            (Date32, zoned("Europe/Berlin")),
            (Int64, Boolean),
            (Boolean, Int64),
            (Int64, Int32),
            (Int32, Int8),
            (Int32, UInt64),
            (UInt64, Int64),
            (Float64, Int64),
            (Float64, Float32),
            (Decimal128(10, 2), Int64),
            (Decimal128(10, 2), Decimal128(10, 1)),
            (Decimal128(10, 2), Decimal128(10, 4)),
            (Int64, Decimal128(18, 0)),
            (Float64, Decimal128(30, 15)),
            (Utf8, Int64),
            (Int64, Utf8),
            (Utf8, Date32),
        ];
        for (from, to) in others {
            assert!(!is_monotone(&from, &to), "{from} → {to}");
        }
    }
}
