//! Which Arrow type an output column is stored as.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};

use crate::dataset::TIMESTAMP_UNIT;

/// The storable type nearest to `given`: the one a curated column has when its SQL expression is of type `given`.
///
/// # Errors
/// What to do instead, for a type that no column can be stored as.
pub(super) fn storable(given: &DataType) -> Result<DataType, &'static str> {
    Ok(match given {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Utf8
        | DataType::Binary => given.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Timestamp(_, None) => DataType::Timestamp(TIMESTAMP_UNIT, None),
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TIMESTAMP_UNIT, Some("UTC".into())),
        DataType::Date64 => DataType::Timestamp(TIMESTAMP_UNIT, None),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => {
            if *scale < 0 {
                return Err("CAST it to a DECIMAL with a scale of at least 0");
            }
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal256(..) => return Err("CAST it to a DECIMAL of at most 38 digits"),
        DataType::Dictionary(_, value) => return storable(value),
        DataType::List(item)
        | DataType::ListView(item)
        | DataType::LargeList(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(Field::new("element", storable(item.data_type())?, true)))
        }
        DataType::Struct(fields) => {
            let field = |field: &FieldRef| Ok(Field::new(field.name(), storable(field.data_type())?, true));
            DataType::Struct(fields.iter().map(field).collect::<Result<_, &'static str>>()?)
        }
        DataType::Null => return Err("say which type the NULL has: CAST(NULL AS …)"),
        DataType::Time32(_) | DataType::Time64(_) => return Err("CAST it to VARCHAR, or keep the timestamp"),
        DataType::Interval(_) | DataType::Duration(_) => {
            return Err("turn it into a number, e.g. date_part('epoch', …)");
        }
        DataType::Map(..) | DataType::Union(..) | DataType::RunEndEncoded(..) => {
            return Err("CAST it, or take out the parts that are needed");
        }
    })
}
