//! Fingerprints of columns: sums of numbers that are made of a value and of where its row stands. Whichever value changes,
//! goes, comes twice or changes places with another one, the sum is another; and two changes don't cancel. They are plain SQL
//! over functions that every door has, so that whoever answers can make them, and exact, for they are sums of whole numbers.
//!
//! SQL has no text that tells every list of lists or of structs from every other one. Of such a list the row's text has the
//! length alone, and its items are rows of a fingerprint of their own, which has where each of them stands; and so on inwards.

use arrow::datatypes::{DataType, Field};
use tidemark_shared::position::{OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};

/// Decimal digits of a row's number: two rows have the same one time in 10¹¹, and the sum over nine million rows is no more
/// than 64 bits hold.
const DIGITS: usize = 12;

/// The items of a list that is unfolded, as SQL.
const ITEM: &str = "\"_item\"";

/// The rows that a fingerprint is over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unfolded {
    /// The lists that are unfolded, as SQL: the first is of the table's rows, each other one of the items of the one before
    /// it. None: the rows are the table's.
    lists: Vec<String>,
}

impl Unfolded {
    /// The rows, as SQL to stand behind `FROM`: of the items of the last list one a row, with their row's position, its
    /// columns `beside`, and where they stand in each list. Of no list: `table`, as it is.
    pub(super) fn sql(&self, table: &str, beside: &[&str]) -> String {
        let mut kept = position();
        kept.extend(beside.iter().map(|column| quoted(column)));
        let mut rows = table.to_owned();
        for (depth, list) in self.lists.iter().enumerate() {
            let (columns, at) = (kept.join(", "), place(depth));
            // Both unfold side by side, and are of one length.
            rows = format!(
                "(SELECT {columns}, unnest({list}) AS {ITEM}, unnest(range(array_length({list}))) AS {at} FROM {rows})"
            );
            kept.push(at);
        }
        rows
    }

    /// The same, with the items of `list` unfolded, too.
    fn inwards(&self, list: String) -> Self {
        let mut lists = self.lists.clone();
        lists.push(list);
        Self { lists }
    }

    /// The fingerprint of `value`, as SQL over these rows.
    fn fingerprint(&self, value: &str, data_type: &DataType) -> String {
        let places = (0..self.lists.len()).map(place);
        let parts: Vec<String> =
            position().into_iter().chain(places).map(|part| format!("CAST({part} AS VARCHAR)")).collect();
        // The value is the last part, and null is none at all: so no two rows with different contents have one text.
        let text = format!("concat_ws('/', {}, {})", parts.join(", "), text(value, data_type));
        // The digits of a hash are hexadecimal, and SQL reads decimal ones.
        format!("sum(CAST(translate(left(md5({text}), {DIGITS}), 'abcdef', '012345') AS BIGINT))")
    }
}

/// The fingerprints of a column, as SQL over their rows: the first is over the table's, and there is one for the items of
/// each list of lists or of structs. Together they change with every value.
pub(super) fn fingerprints(field: &Field) -> Vec<(Unfolded, String)> {
    let (column, rows) = (quoted(field.name()), Unfolded::default());
    let mut all = vec![(rows.clone(), rows.fingerprint(&column, field.data_type()))];
    of_items(&column, field.data_type(), &[], &rows, &mut all);
    all
}

/// Adds the fingerprints of the items of lists that are in `value`, which stands in `structs`: where one of these is null,
/// nothing is in it.
fn of_items(value: &str, data_type: &DataType, structs: &[String], rows: &Unfolded, all: &mut Vec<(Unfolded, String)>) {
    match data_type {
        DataType::Struct(fields) => {
            let structs = [structs, &[value.to_owned()]].concat();
            for field in fields {
                of_items(&part(value, field), field.data_type(), &structs, rows, all);
            }
        }
        DataType::List(item) if item.data_type().is_nested() => {
            let nulls: Vec<String> = structs.iter().map(|outer| format!("{outer} IS NULL")).collect();
            let items = rows.inwards(match nulls.is_empty() {
                true => value.to_owned(),
                false => format!("CASE WHEN {} THEN NULL ELSE {value} END", nulls.join(" OR ")),
            });
            all.push((items.clone(), items.fingerprint(ITEM, item.data_type())));
            of_items(ITEM, item.data_type(), &[], &items, all);
        }
        _ => {}
    }
}

/// A column's name as SQL has it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The columns that say where a row stands.
fn position() -> Vec<String> {
    Vec::from([SOURCE_COLUMN, PARTITION_COLUMN, OFFSET_COLUMN].map(quoted))
}

/// The column that says where an item stands in its list, which stands in `depth` others.
fn place(depth: usize) -> String {
    format!("\"_at{depth}\"")
}

/// A part of the struct `value`.
fn part(value: &str, field: &Field) -> String {
    format!("get_field({value}, '{}')", field.name().replace('\'', "''"))
}

/// The text of `value`, null for null: another one for every value, save for what lists of lists and of structs have in them.
fn text(value: &str, data_type: &DataType) -> String {
    match data_type {
        // As numbers: no calendar holds all of them.
        DataType::Date32 | DataType::Timestamp(..) => format!("CAST(CAST({value} AS BIGINT) AS VARCHAR)"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => format!("encode({value}, 'hex')"),
        DataType::Struct(fields) => {
            // Hashed, so that one part's text does not go on in the next one's.
            let hash = |field: &Field| format!("coalesce(md5({}), '-')", text(&part(value, field), field.data_type()));
            let parts: Vec<String> = fields.iter().map(|field| hash(field)).collect();
            unless_null(value, &parts.join(", "))
        }
        DataType::List(item) if item.data_type().is_nested() => length(value),
        DataType::List(item) => unless_null(value, &list_parts(value, item.data_type())),
        _ => format!("CAST({value} AS VARCHAR)"),
    }
}

fn unless_null(value: &str, parts: &str) -> String {
    format!("CASE WHEN {value} IS NULL THEN NULL ELSE concat_ws('/', {parts}) END")
}

/// How long a list is; null for null.
fn length(value: &str) -> String {
    format!("CAST(array_length({value}) AS VARCHAR)")
}

/// Texts that together tell one list of plain values from another: how long it is, its form with its brackets, and its items
/// in a row. The form does not tell null from an empty text, and the row not where texts end.
fn list_parts(value: &str, item: &DataType) -> String {
    let cast = |to: &str| format!("arrow_cast({value}, 'List({to})')");
    let (form, row) = match item {
        // As numbers, as outside of lists.
        DataType::Date32 | DataType::Timestamp(..) => (cast("Int64"), cast("Int64")),
        // In hexadecimal digits: so nothing in a text looks like brackets, or like the end of an item.
        other if other.is_string() || other.is_binary() => (cast("BinaryView"), value.to_owned()),
        _ => (value.to_owned(), value.to_owned()),
    };
    format!("{}, CAST({form} AS VARCHAR), array_to_string({row}, chr(31), chr(30))", length(value))
}
