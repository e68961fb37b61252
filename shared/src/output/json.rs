//! Values as JSON. Integers beyond 2^53 and decimals are strings, so that no reader rounds them.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, GenericListArray, MapArray, OffsetSizeTrait, UnionArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowNativeType as _, DataType, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int64Type, UInt64Type,
    UnionFields,
};
use arrow::error::ArrowError;

use super::text::texts;

/// Largest integer that a double holds together with all smaller ones.
const EXACT_MAX: u64 = 1 << 53;

/// Writes the value of one row.
pub(super) type Cell = Box<dyn Fn(&mut Vec<u8>, usize)>;

/// A writer for the values of `array`.
pub(super) fn cells(array: &ArrayRef) -> Result<Cell, ArrowError> {
    let values: Cell = match array.data_type() {
        DataType::Null => return Ok(Box::new(|out, _| out.extend_from_slice(b"null"))),
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |out, row| write(out, values.value(row)))
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let values = primitive::<Int64Type>(&cast(array, &DataType::Int64)?);
            Box::new(move |out, row| {
                let value = values.value(row);
                if value.unsigned_abs() > EXACT_MAX { quoted(out, value) } else { write(out, value) }
            })
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            let values = primitive::<UInt64Type>(&cast(array, &DataType::UInt64)?);
            Box::new(move |out, row| {
                let value = values.value(row);
                if value > EXACT_MAX { quoted(out, value) } else { write(out, value) }
            })
        }
        DataType::Float32 => {
            let values = primitive::<Float32Type>(array);
            Box::new(move |out, row| float(out, values.value(row), values.value(row).is_finite()))
        }
        DataType::Float16 | DataType::Float64 => {
            let values = primitive::<Float64Type>(&cast(array, &DataType::Float64)?);
            Box::new(move |out, row| float(out, values.value(row), values.value(row).is_finite()))
        }
        DataType::Decimal128(..) => {
            let values = primitive::<Decimal128Type>(array);
            Box::new(move |out, row| quoted(out, values.value_as_string(row)))
        }
        DataType::Decimal256(..) => {
            let values = primitive::<Decimal256Type>(array);
            Box::new(move |out, row| quoted(out, values.value_as_string(row)))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let values = cast(array, &DataType::Binary)?;
            Box::new(move |out, row| hex(out, values.as_binary::<i32>().value(row)))
        }
        DataType::List(_) => list(array.as_list::<i32>())?,
        DataType::LargeList(_) => list(array.as_list::<i64>())?,
        DataType::FixedSizeList(item, _) | DataType::ListView(item) => {
            return cells(&cast(array, &DataType::List(Arc::clone(item)))?);
        }
        DataType::LargeListView(item) => return cells(&cast(array, &DataType::LargeList(Arc::clone(item)))?),
        DataType::Union(fields, _) => union(array.as_union(), fields)?,
        DataType::Map(..) => map(array.as_map())?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().map(cells).collect::<Result<Vec<_>, _>>()?;
            let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
            Box::new(move |out, row| object(out, &names, &columns, row))
        }
        DataType::Dictionary(_, value) => return cells(&cast(array, value)?),
        DataType::RunEndEncoded(_, value) => return cells(&cast(array, value.data_type())?),
        // Text, dates and times as text, and what has no JSON form of its own.
        _ => {
            let values = texts(array)?;
            Box::new(move |out, row| string(out, values.as_string_view().value(row)))
        }
    };
    let nulls = Arc::clone(array);
    Ok(Box::new(move |out, row| if nulls.is_null(row) { out.extend_from_slice(b"null") } else { values(out, row) }))
}

/// `{"name": value, …}` of one row.
pub(super) fn object(out: &mut Vec<u8>, names: &[String], columns: &[Cell], row: usize) {
    out.push(b'{');
    for (index, (name, cell)) in names.iter().zip(columns).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(out, name);
        out.push(b':');
        cell(out, row);
    }
    out.push(b'}');
}

/// `text` as a JSON string.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string has a JSON form, and memory takes it");
}

fn list<O: OffsetSizeTrait>(array: &GenericListArray<O>) -> Result<Cell, ArrowError> {
    let element = cells(array.values())?;
    let array = array.clone();
    Ok(Box::new(move |out, row| {
        let offsets = array.value_offsets();
        let (start, end) = (offsets[row].as_usize(), offsets[row + 1].as_usize());
        out.push(b'[');
        for index in start..end {
            if index > start {
                out.push(b',');
            }
            element(out, index);
        }
        out.push(b']');
    }))
}

/// The value that each row has, whichever kind it is of.
fn union(array: &UnionArray, fields: &UnionFields) -> Result<Cell, ArrowError> {
    let kinds = fields.iter().map(|(kind, _)| Ok((kind, cells(array.child(kind))?)));
    let kinds = kinds.collect::<Result<BTreeMap<_, _>, ArrowError>>()?;
    let array = array.clone();
    Ok(Box::new(move |out, row| kinds[&array.type_id(row)](out, array.value_offset(row))))
}

/// A map as an object; keys that are no text go by their text.
fn map(array: &MapArray) -> Result<Cell, ArrowError> {
    let keys = texts(array.keys())?;
    let value = cells(array.values())?;
    let array = array.clone();
    Ok(Box::new(move |out, row| {
        let offsets = array.value_offsets();
        let (start, end) = (offsets[row].as_usize(), offsets[row + 1].as_usize());
        out.push(b'{');
        for index in start..end {
            if index > start {
                out.push(b',');
            }
            string(out, keys.as_string_view().value(index));
            out.push(b':');
            value(out, index);
        }
        out.push(b'}');
    }))
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef) -> arrow::array::PrimitiveArray<T> {
    array.as_primitive::<T>().clone()
}

fn write(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("memory takes it");
}

fn quoted(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    write!(out, "\"{value}\"").expect("memory takes it");
}

fn float(out: &mut Vec<u8>, value: impl serde::Serialize + std::fmt::Display, finite: bool) {
    if finite {
        serde_json::to_writer(out, &value).expect("a finite number has a JSON form, and memory takes it");
    } else {
        quoted(out, value);
    }
}

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for byte in bytes {
        write!(out, "{byte:02x}").expect("memory takes it");
    }
    out.push(b'"');
}
