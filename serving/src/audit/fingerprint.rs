//! Fingerprints of columns: sums of numbers that are made of a value and of where its row stands. Whichever value changes,
//! goes, comes twice or changes places with another one, the sum is another; and two changes don't cancel. They are plain SQL
//! over functions that every door has, so that whoever answers can make them, and exact, for they are sums of whole numbers.
//!
//! SQL has no text for the structs of a list: of those only how many there are counts. And in lists of lists, a null that
//! changes places with nothing is not seen: `[[null], []]` and `[[], [null]]` are one text.

use arrow::datatypes::{DataType, Field};
use tidemark_shared::position::{OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};

/// Decimal digits of a row's number: two rows have the same one time in 10¹¹, and the sum over nine million rows is no more
/// than 64 bits hold.
const DIGITS: usize = 12;

/// The fingerprint of a column, as SQL.
pub(super) fn fingerprint(field: &Field) -> String {
    let position =
        [SOURCE_COLUMN, PARTITION_COLUMN, OFFSET_COLUMN].map(|column| format!("CAST(\"{column}\" AS VARCHAR)"));
    // The value is the last part, and null is none at all: so no two rows with different contents have one text.
    let text = format!("concat_ws('/', {}, {})", position.join(", "), text(&quoted(field.name()), field.data_type()));
    // The digits of a hash are hexadecimal, and SQL reads decimal ones.
    format!("sum(CAST(translate(left(md5({text}), {DIGITS}), 'abcdef', '012345') AS BIGINT))")
}

/// A column's name as SQL has it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The text of `value`, another one for every value; null for null.
fn text(value: &str, data_type: &DataType) -> String {
    match data_type {
        // As numbers: no calendar holds all of them.
        DataType::Date32 | DataType::Timestamp(..) => format!("CAST(CAST({value} AS BIGINT) AS VARCHAR)"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => format!("encode({value}, 'hex')"),
        DataType::Struct(fields) => {
            let part = |field: &Field| {
                let name = field.name().replace('\'', "''");
                // Hashed, so that one field's text does not go on in the next one's.
                format!("coalesce(md5({}), '-')", text(&format!("get_field({value}, '{name}')"), field.data_type()))
            };
            let parts: Vec<String> = fields.iter().map(|field| part(field)).collect();
            unless_null(value, &parts.join(", "))
        }
        DataType::List(item) => unless_null(value, &list_parts(value, item.data_type())),
        _ => format!("CAST({value} AS VARCHAR)"),
    }
}

fn unless_null(value: &str, parts: &str) -> String {
    format!("CASE WHEN {value} IS NULL THEN NULL ELSE concat_ws('/', {parts}) END")
}

/// Texts that together tell one list from another: how long it is, its form with its brackets, and its items in a row. The
/// form does not tell null from an empty text, and the row not where the lists in a list end.
fn list_parts(value: &str, item: &DataType) -> String {
    let length = format!("CAST(array_length({value}) AS VARCHAR)");
    let cast = |to: &str| format!("arrow_cast({value}, '{}')", list_of(item, to));
    let (form, row) = match innermost(item) {
        nested if nested.is_nested() => return length,
        // As numbers, as outside of lists.
        DataType::Date32 | DataType::Timestamp(..) => (cast("Int64"), cast("Int64")),
        // In hexadecimal digits: so nothing in a text looks like brackets, or like the end of an item.
        other if other.is_string() || other.is_binary() => (cast("BinaryView"), value.to_owned()),
        _ => (value.to_owned(), value.to_owned()),
    };
    format!("{length}, CAST({form} AS VARCHAR), array_to_string({row}, chr(31), chr(30))")
}

/// What lists of lists hold in the end.
fn innermost(item: &DataType) -> &DataType {
    match item {
        DataType::List(inner) => innermost(inner.data_type()),
        other => other,
    }
}

/// The name of the type of lists of `item`, with `innermost` in the place of its innermost one.
fn list_of(item: &DataType, innermost: &str) -> String {
    match item {
        DataType::List(inner) => format!("List({})", list_of(inner.data_type(), innermost)),
        _ => format!("List({innermost})"),
    }
}
