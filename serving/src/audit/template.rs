//! The audit's own questions: statements whose answers are sums over positions, so that many cuts are checked in one pass.

use arrow::datatypes::{DataType, Schema};
use tidemark_shared::position::{OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};

use super::fingerprint::{Unfolded, fingerprints, quoted};

/// Columns that one question sums up: what an answer costs grows with them.
const COLUMNS_MAX: usize = 4;

/// Digits of decimals that are summed up: a sum's type has ten more and 38 at most, and a sum that has more is an error.
/// Columns with more digits have their fingerprints alone.
const DIGITS_SAFE: u8 = 28;

/// What a column of a template's answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aggregate {
    /// `count(*)`.
    Count,
    /// `sum(column)`, of integers, or of decimals whose sums have digits to spare.
    Sum(String),
    /// `min(column)`, of integers.
    Min(String),
    /// `max(column)`, of integers.
    Max(String),
    /// The sum that changes with any value of the column and with any row's position.
    Fingerprint {
        /// The column.
        column: String,
        /// Its fingerprint, as SQL.
        sql: String,
    },
}

impl Aggregate {
    /// As SQL.
    #[must_use]
    pub fn sql(&self) -> String {
        match self {
            Self::Count => "count(*)".to_owned(),
            Self::Sum(column) => format!("sum({})", quoted(column)),
            Self::Min(column) => format!("min({})", quoted(column)),
            Self::Max(column) => format!("max({})", quoted(column)),
            Self::Fingerprint { sql, .. } => sql.clone(),
        }
    }
}

/// `SELECT groups, aggregates FROM merged.dataset GROUP BY groups`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What it is over: the table's rows, or items of lists in them, of which the position is known and nothing else.
    pub rows: Unfolded,
    /// Columns to group by.
    pub groups: Vec<String>,
    /// What follows them.
    pub aggregates: Vec<Aggregate>,
}

impl Template {
    /// How many rows there are of each source and partition, and between which offsets: source, partition, rows, least and
    /// greatest offset, and the sum of them. The same for every dataset.
    #[must_use]
    pub fn by_position() -> Self {
        let offset = || OFFSET_COLUMN.to_owned();
        Self::of_partitions(
            Unfolded::default(),
            vec![Aggregate::Count, Aggregate::Min(offset()), Aggregate::Max(offset()), Aggregate::Sum(offset())],
        )
    }

    /// By source and partition.
    fn of_partitions(rows: Unfolded, aggregates: Vec<Aggregate>) -> Self {
        Self { rows, groups: vec![SOURCE_COLUMN.to_owned(), PARTITION_COLUMN.to_owned()], aggregates }
    }

    /// The statement over `table`.
    #[must_use]
    pub fn sql(&self, table: &str) -> String {
        let groups: Vec<String> = self.groups.iter().map(|column| quoted(column)).collect();
        let columns = groups.iter().cloned().chain(self.aggregates.iter().map(Aggregate::sql));
        let select = format!("SELECT {} FROM {}", columns.collect::<Vec<_>>().join(", "), self.rows.sql(table, &[]));
        if groups.is_empty() { select } else { format!("{select} GROUP BY {}", groups.join(", ")) }
    }

    /// True if it is about every value of some columns: it reads them all, and costs that.
    #[must_use]
    pub fn is_thorough(&self) -> bool {
        self.aggregates.iter().any(|aggregate| matches!(aggregate, Aggregate::Fingerprint { .. }))
    }
}

/// The templates for a dataset whose curated table has `schema` and these partition columns: how many rows there are of
/// each partition of the log and between which offsets, the sums of the exact columns, both by partition column, and by
/// partition of the log the fingerprints of all columns, and of the items of each list of lists or of structs.
#[must_use]
pub fn templates(schema: &Schema, partition_columns: &[String]) -> Vec<Template> {
    let position = [SOURCE_COLUMN, PARTITION_COLUMN, OFFSET_COLUMN];
    let fields: Vec<_> = schema.fields().iter().filter(|field| !position.contains(&field.name().as_str())).collect();
    let exact: Vec<&String> = fields.iter().filter(|f| is_exact(f.data_type())).map(|f| f.name()).collect();
    let whole = |groups: Vec<String>, aggregates| Template { rows: Unfolded::default(), groups, aggregates };
    let mut sums: Vec<Vec<Aggregate>> = exact
        .chunks(COLUMNS_MAX)
        .map(|columns| columns.iter().map(|column| Aggregate::Sum((*column).clone())).collect())
        .collect();
    if sums.is_empty() {
        sums.push(Vec::new());
    }
    let mut all = vec![whole(Vec::new(), counted(Vec::new())), Template::by_position()];
    for sums in sums {
        let with_offsets = sums.iter().cloned().chain([Aggregate::Sum(OFFSET_COLUMN.to_owned())]).collect();
        all.push(whole(Vec::new(), counted(with_offsets)));
        if let Some(column) = partition_columns.last() {
            all.push(whole(vec![column.clone()], counted(sums)));
        }
    }
    let (mut of_rows, mut of_items) = (Vec::new(), Vec::new());
    for field in fields {
        for (rows, sql) in fingerprints(field) {
            let fingerprint = Aggregate::Fingerprint { column: field.name().clone(), sql };
            match rows == Unfolded::default() {
                true => of_rows.push(fingerprint),
                false => of_items.push(Template::of_partitions(rows, counted(vec![fingerprint]))),
            }
        }
    }
    let of_rows = of_rows.chunks(COLUMNS_MAX);
    all.extend(of_rows.map(|some| Template::of_partitions(Unfolded::default(), counted(some.to_vec()))));
    all.extend(of_items);
    all
}

/// `aggregates`, behind the number of rows.
fn counted(aggregates: Vec<Aggregate>) -> Vec<Aggregate> {
    std::iter::once(Aggregate::Count).chain(aggregates).collect()
}

/// Whether a column's sum is exact, and always there.
fn is_exact(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(0..=DIGITS_SAFE, _)) || data_type.is_integer()
}
