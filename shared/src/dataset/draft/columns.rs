//! Columns of a draft: names people can type in SQL, the file's own spelling as alias.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Schema};
use datafusion::sql::sqlparser::ast::{Expr, SelectItem, SetExpr, Statement};

use super::super::is_name;
use super::super::types::{parse_type, type_text};
use super::toml_string;
use crate::decode::normalized;
use crate::transform::parse_select;

/// Most columns of a draft.
const COLUMNS_MAX: usize = 1_000;

/// One column of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DraftColumn {
    pub(super) name: String,
    /// The type as written in `dataset.toml`.
    pub(super) type_text: String,
    /// The file's spelling, where it is another than the name.
    pub(super) alias: Option<String>,
}

impl DraftColumn {
    pub(super) fn toml(&self) -> String {
        let alias =
            self.alias.as_ref().map_or_else(String::new, |alias| format!(", aliases = [{}]", toml_string(alias)));
        format!("{{ name = {}, type = {}{alias} }}", toml_string(&self.name), toml_string(&self.type_text))
    }
}

/// Makes columns of the file's spellings and types. Spellings that decode could not tell apart keep the first alias.
pub(super) fn named(spelled: impl IntoIterator<Item = (String, String)>) -> Vec<DraftColumn> {
    let mut taken = HashSet::new();
    let mut spellings = HashSet::new();
    let mut columns = Vec::new();
    for (spelling, type_text) in spelled.into_iter().take(COLUMNS_MAX) {
        let plain = normalized(&spelling);
        if !spellings.insert(plain.clone()) {
            continue;
        }
        let base = snake_case(&spelling);
        let mut name = base.clone();
        let mut number = 2;
        while !taken.insert(name.clone()) || (name != plain && spellings.contains(&name)) {
            name = format!("{base}_{number}");
            number += 1;
        }
        spellings.insert(name.clone());
        let alias = (name != spelling).then(|| spelling.trim().to_owned()).filter(|alias| !alias.is_empty());
        columns.push(DraftColumn { name, type_text, alias });
    }
    columns
}

/// `VendorID` → `vendor_id`, `Trip Distance (mi)` → `trip_distance_mi`.
pub(super) fn snake_case(spelling: &str) -> String {
    let chars: Vec<char> = spelling.trim().chars().take(100).collect();
    let mut name = String::new();
    for (index, c) in chars.iter().enumerate() {
        if !c.is_ascii_alphanumeric() {
            if !name.is_empty() && !name.ends_with('_') {
                name.push('_');
            }
            continue;
        }
        let before = index.checked_sub(1).map(|before| chars[before]);
        let starts_word = c.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || before.is_ascii_digit()
                    || (before.is_ascii_uppercase() && chars.get(index + 1).is_some_and(char::is_ascii_lowercase))
            });
        if starts_word && !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    let name = name.trim_matches('_');
    if is_name(name) { name.to_owned() } else { format!("column_{name}").trim_end_matches('_').to_owned() }
}

/// The columns of a columnar file. Types that `dataset.toml` has no word for are read as strings.
pub(super) fn from_schema(schema: &Schema) -> Vec<DraftColumn> {
    named(schema.fields().iter().map(|field| (field.name().clone(), input_type(field.data_type()))))
}

fn input_type(data_type: &DataType) -> String {
    let text = match data_type {
        DataType::UInt8 => "int16".to_owned(),
        DataType::UInt16 => "int32".to_owned(),
        DataType::UInt32 => "int64".to_owned(),
        // Its upper half fits no whole number that `dataset.toml` knows.
        DataType::UInt64 => "decimal(20,0)".to_owned(),
        DataType::Float16 => "float32".to_owned(),
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "binary".to_owned(),
        DataType::Date64 => "timestamp".to_owned(),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            format!("decimal({precision},{scale})")
        }
        DataType::LargeList(item) | DataType::List(item) => format!("list<{}>", input_type(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{}: {}", field.name(), input_type(field.data_type()))).collect();
            format!("struct<{}>", fields.join(", "))
        }
        DataType::Dictionary(_, value) => input_type(value),
        other => type_text(other),
    };
    if parse_type(&text).is_ok() { text } else { "string".to_owned() }
}

/// The column as an item of a `SELECT`: quoted where SQL would take the bare name for something else.
pub(super) fn select_item(name: &str) -> String {
    // Among others, for a keyword may pass alone and not after a comma.
    let bare = parse_select(&format!("SELECT a, {name}, z FROM input"));
    let bare = bare.is_some_and(|statement| is_column(&statement, name));
    if bare { name.to_owned() } else { format!("\"{name}\"") }
}

fn is_column(statement: &Statement, name: &str) -> bool {
    let Statement::Query(query) = statement else { return false };
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    matches!(select.projection.as_slice(), [_, SelectItem::UnnamedExpr(Expr::Identifier(ident)), _] if ident.value == name)
        && select.from.len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_become_names() {
        for (spelling, name) in [
            ("VendorID", "vendor_id"),
            ("PULocationID", "pu_location_id"),
            (" Trip Distance (mi) ", "trip_distance_mi"),
            ("tpep_pickup_datetime", "tpep_pickup_datetime"),
            ("2nd", "column_2nd"),
            ("größe", "gr_e"),
            ("", "column"),
        ] {
            assert_eq!(snake_case(spelling), name, "{spelling}");
        }
    }

    #[test]
    fn names_that_sql_takes_for_something_else_are_quoted() {
        assert_eq!(select_item("fare"), "fare");
        for name in ["from", "current_date", "order", "group"] {
            assert_eq!(select_item(name), format!("\"{name}\""));
        }
    }
}
