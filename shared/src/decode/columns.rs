//! Typed column builders that can be cut back to a row: a record that fails half-way leaves no trace.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, ListArray, NullBufferBuilder, StringArray,
    StructArray, TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;

use super::values;

/// A value that a column can't take; the caller knows the record, the column's name and the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

/// Bytes and offsets of a string or binary column.
#[derive(Debug)]
pub(crate) struct Bytes32 {
    offsets: Vec<i32>,
    data: Vec<u8>,
}

impl Bytes32 {
    fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, data: Vec::with_capacity(rows * 4) }
    }

    fn push(&mut self, value: &[u8]) -> Result<(), Refused> {
        let end = i32::try_from(self.data.len() + value.len()).map_err(|_| Refused)?;
        self.data.extend_from_slice(value);
        self.offsets.push(end);
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = self.offsets.last().copied().unwrap_or(0);
        self.data.truncate(usize::try_from(end).expect("offsets are never negative"));
    }

    fn finish(self) -> (OffsetBuffer<i32>, Buffer) {
        (OffsetBuffer::new(ScalarBuffer::from(self.offsets)), Buffer::from_vec(self.data))
    }
}

/// A list column: where each list ends, and the items.
#[derive(Debug)]
pub(crate) struct Lists {
    offsets: Vec<i32>,
    pub(crate) field: FieldRef,
    pub(crate) items: Box<ColumnBuilder>,
}

/// A struct column: one column a field.
#[derive(Debug)]
pub(crate) struct Structs {
    pub(crate) fields: Fields,
    pub(crate) columns: Vec<ColumnBuilder>,
}

#[derive(Debug)]
pub(crate) enum Values {
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Boolean(BooleanBufferBuilder),
    Utf8(Bytes32),
    Binary(Bytes32),
    Date32(Vec<i32>),
    Timestamp { micros: Vec<i64>, zone: Option<Arc<str>> },
    Decimal { unscaled: Vec<i128>, precision: u8, scale: i8 },
    List(Lists),
    Struct(Structs),
}

/// One column of a batch under construction.
#[derive(Debug)]
pub(crate) struct ColumnBuilder {
    pub(crate) values: Values,
    nulls: NullBufferBuilder,
}

/// True for the types that text, JSON included, decodes to.
pub(crate) fn supported(data_type: &DataType) -> bool {
    ColumnBuilder::new(data_type, 0).is_some()
}

impl ColumnBuilder {
    /// A builder for `data_type` with room for `rows` rows; `None` if no text decodes to that type.
    pub(crate) fn new(data_type: &DataType, rows: usize) -> Option<Self> {
        let values = match data_type {
            DataType::Int8 => Values::Int8(Vec::with_capacity(rows)),
            DataType::Int16 => Values::Int16(Vec::with_capacity(rows)),
            DataType::Int32 => Values::Int32(Vec::with_capacity(rows)),
            DataType::Int64 => Values::Int64(Vec::with_capacity(rows)),
            DataType::UInt8 => Values::UInt8(Vec::with_capacity(rows)),
            DataType::UInt16 => Values::UInt16(Vec::with_capacity(rows)),
            DataType::UInt32 => Values::UInt32(Vec::with_capacity(rows)),
            DataType::UInt64 => Values::UInt64(Vec::with_capacity(rows)),
            DataType::Float32 => Values::Float32(Vec::with_capacity(rows)),
            DataType::Float64 => Values::Float64(Vec::with_capacity(rows)),
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(rows)),
            DataType::Utf8 => Values::Utf8(Bytes32::new(rows)),
            DataType::Binary => Values::Binary(Bytes32::new(rows)),
            DataType::Date32 => Values::Date32(Vec::with_capacity(rows)),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Values::Timestamp { micros: Vec::with_capacity(rows), zone: zone.clone() }
            }
            DataType::Decimal128(precision, scale) => {
                Values::Decimal { unscaled: Vec::with_capacity(rows), precision: *precision, scale: *scale }
            }
            DataType::List(field) => {
                let items = Box::new(Self::new(field.data_type(), 0)?);
                Values::List(Lists { offsets: vec![0], field: Arc::clone(field), items })
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().map(|f| Self::new(f.data_type(), rows)).collect::<Option<Vec<_>>>()?;
                Values::Struct(Structs { fields: fields.clone(), columns })
            }
            _ => return None,
        };
        Some(Self { values, nulls: NullBufferBuilder::new(rows) })
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// True where text is taken as it stands: spaces are part of it, and quoted emptiness is a value.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.values, Values::Utf8(_) | Values::Binary(_))
    }

    /// Appends the value that `text` means. Text of string columns must be valid UTF-8. On refusal nothing is appended.
    #[inline]
    pub(crate) fn push_text(&mut self, text: &[u8]) -> Result<(), Refused> {
        fn narrow<T: TryFrom<i64>>(text: &[u8]) -> Result<T, Refused> {
            values::int64(text).and_then(|wide| T::try_from(wide).ok()).ok_or(Refused)
        }
        fn narrow_unsigned<T: TryFrom<u64>>(text: &[u8]) -> Result<T, Refused> {
            values::uint64(text).and_then(|wide| T::try_from(wide).ok()).ok_or(Refused)
        }
        match &mut self.values {
            Values::Float64(values) => values.push(values::float64(text).ok_or(Refused)?),
            Values::Utf8(values) | Values::Binary(values) => values.push(text)?,
            Values::Int64(values) => values.push(values::int64(text).ok_or(Refused)?),
            Values::Int32(values) => values.push(narrow(text)?),
            Values::Timestamp { micros, zone } => {
                micros.push(values::timestamp(text, zone.is_some()).ok_or(Refused)?);
            }
            Values::Decimal { unscaled, precision, scale } => {
                unscaled.push(values::decimal(text, *precision, *scale).ok_or(Refused)?);
            }
            Values::Int8(values) => values.push(narrow(text)?),
            Values::Int16(values) => values.push(narrow(text)?),
            Values::UInt8(values) => values.push(narrow_unsigned(text)?),
            Values::UInt16(values) => values.push(narrow_unsigned(text)?),
            Values::UInt32(values) => values.push(narrow_unsigned(text)?),
            Values::UInt64(values) => values.push(values::uint64(text).ok_or(Refused)?),
            Values::Float32(values) => values.push(values::float32(text).ok_or(Refused)?),
            Values::Boolean(values) => values.append(values::boolean(text).ok_or(Refused)?),
            Values::Date32(values) => values.push(values::date(text).ok_or(Refused)?),
            Values::List(_) | Values::Struct(_) => return Err(Refused),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends a null.
    pub(crate) fn push_null(&mut self) {
        match &mut self.values {
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date32(values) => values.push(0),
            Values::Int64(values) => values.push(0),
            Values::UInt8(values) => values.push(0),
            Values::UInt16(values) => values.push(0),
            Values::UInt32(values) => values.push(0),
            Values::UInt64(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Boolean(values) => values.append(false),
            Values::Utf8(values) | Values::Binary(values) => {
                let end = values.offsets.last().copied().unwrap_or(0);
                values.offsets.push(end);
            }
            Values::Timestamp { micros, .. } => micros.push(0),
            Values::Decimal { unscaled, .. } => unscaled.push(0),
            Values::List(lists) => {
                let end = lists.offsets.last().copied().unwrap_or(0);
                lists.offsets.push(end);
            }
            Values::Struct(structs) => structs.columns.iter_mut().for_each(Self::push_null),
        }
        self.nulls.append_null();
    }

    /// Ends the list or struct value whose items or fields were appended to the inner columns.
    pub(crate) fn end_nested(&mut self) -> Result<(), Refused> {
        if let Values::List(lists) = &mut self.values {
            lists.offsets.push(i32::try_from(lists.items.len()).map_err(|_| Refused)?);
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Cuts back to the first `rows` rows, whatever a half-read record left in this column or inside it.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.nulls.truncate(rows);
        match &mut self.values {
            Values::Int8(values) => values.truncate(rows),
            Values::Int16(values) => values.truncate(rows),
            Values::Int32(values) | Values::Date32(values) => values.truncate(rows),
            Values::Int64(values) => values.truncate(rows),
            Values::UInt8(values) => values.truncate(rows),
            Values::UInt16(values) => values.truncate(rows),
            Values::UInt32(values) => values.truncate(rows),
            Values::UInt64(values) => values.truncate(rows),
            Values::Float32(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Boolean(values) => values.truncate(rows),
            Values::Utf8(values) | Values::Binary(values) => values.truncate(rows),
            Values::Timestamp { micros, .. } => micros.truncate(rows),
            Values::Decimal { unscaled, .. } => unscaled.truncate(rows),
            Values::List(lists) => {
                lists.offsets.truncate(rows + 1);
                let end = lists.offsets.last().copied().unwrap_or(0);
                lists.items.truncate(usize::try_from(end).expect("offsets are never negative"));
            }
            Values::Struct(structs) => structs.columns.iter_mut().for_each(|column| column.truncate(rows)),
        }
    }

    /// The finished column.
    pub(crate) fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let length = self.len();
        let nulls = self.nulls.finish();
        Ok(match self.values {
            Values::Int8(values) => Arc::new(Int8Array::try_new(values.into(), nulls)?),
            Values::Int16(values) => Arc::new(Int16Array::try_new(values.into(), nulls)?),
            Values::Int32(values) => Arc::new(Int32Array::try_new(values.into(), nulls)?),
            Values::Int64(values) => Arc::new(Int64Array::try_new(values.into(), nulls)?),
            Values::UInt8(values) => Arc::new(UInt8Array::try_new(values.into(), nulls)?),
            Values::UInt16(values) => Arc::new(UInt16Array::try_new(values.into(), nulls)?),
            Values::UInt32(values) => Arc::new(UInt32Array::try_new(values.into(), nulls)?),
            Values::UInt64(values) => Arc::new(UInt64Array::try_new(values.into(), nulls)?),
            Values::Float32(values) => Arc::new(Float32Array::try_new(values.into(), nulls)?),
            Values::Float64(values) => Arc::new(Float64Array::try_new(values.into(), nulls)?),
            Values::Boolean(mut values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Utf8(values) => {
                let (offsets, data) = values.finish();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Values::Binary(values) => {
                let (offsets, data) = values.finish();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Values::Date32(values) => Arc::new(Date32Array::try_new(values.into(), nulls)?),
            Values::Timestamp { micros, zone } => {
                Arc::new(TimestampMicrosecondArray::try_new(micros.into(), nulls)?.with_timezone_opt(zone))
            }
            Values::Decimal { unscaled, precision, scale } => {
                let array = Decimal128Array::try_new(unscaled.into(), nulls)?;
                Arc::new(array.with_precision_and_scale(precision, scale)?)
            }
            Values::List(lists) => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(lists.offsets));
                Arc::new(ListArray::try_new(lists.field, offsets, lists.items.finish()?, nulls)?)
            }
            Values::Struct(structs) => {
                let columns = structs.columns.into_iter().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(structs.fields, columns, nulls, length)?)
            }
        })
    }
}
