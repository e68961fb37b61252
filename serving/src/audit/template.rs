//! The audit's own questions: statements whose answers are sums over positions, so that many cuts are checked in one pass.

use arrow::datatypes::{DataType, Schema};
use tidemark_shared::position::{OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};

/// What a column of a template's answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aggregate {
    /// `count(*)`.
    Count,
    /// `sum(column)`, of integers or decimals.
    Sum(String),
    /// `min(column)`, of integers.
    Min(String),
    /// `max(column)`, of integers.
    Max(String),
}

impl Aggregate {
    /// As SQL.
    #[must_use]
    pub fn sql(&self) -> String {
        match self {
            Self::Count => "count(*)".to_owned(),
            Self::Sum(column) => format!("sum(\"{column}\")"),
            Self::Min(column) => format!("min(\"{column}\")"),
            Self::Max(column) => format!("max(\"{column}\")"),
        }
    }
}

/// `SELECT groups, aggregates FROM merged.dataset GROUP BY groups`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Columns to group by.
    pub groups: Vec<String>,
    /// What follows them.
    pub aggregates: Vec<Aggregate>,
}

impl Template {
    /// The statement over `table`.
    #[must_use]
    pub fn sql(&self, table: &str) -> String {
        let groups: Vec<String> = self.groups.iter().map(|column| format!("\"{column}\"")).collect();
        let columns = groups.iter().cloned().chain(self.aggregates.iter().map(Aggregate::sql));
        let select = format!("SELECT {} FROM {table}", columns.collect::<Vec<_>>().join(", "));
        if groups.is_empty() { select } else { format!("{select} GROUP BY {}", groups.join(", ")) }
    }
}

/// The templates for a dataset whose curated table has `schema` and these partition columns: how many rows there are of
/// each partition of the log and between which offsets, the sums of the exact columns, and both by partition column.
#[must_use]
pub fn templates(schema: &Schema, partition_columns: &[String]) -> Vec<Template> {
    let position = [SOURCE_COLUMN, PARTITION_COLUMN, OFFSET_COLUMN];
    let exact = schema.fields().iter().filter(|field| !position.contains(&field.name().as_str()));
    let exact: Vec<String> = exact.filter(|f| is_exact(f.data_type())).map(|f| f.name().clone()).take(4).collect();
    let sums = || exact.iter().cloned().map(Aggregate::Sum);
    let counted = |rest: Vec<Aggregate>| std::iter::once(Aggregate::Count).chain(rest).collect::<Vec<_>>();
    let offset = OFFSET_COLUMN.to_owned();
    let mut all = vec![
        Template { groups: Vec::new(), aggregates: counted(Vec::new()) },
        Template { groups: Vec::new(), aggregates: counted(sums().chain([Aggregate::Sum(offset.clone())]).collect()) },
        Template {
            groups: vec![SOURCE_COLUMN.to_owned(), PARTITION_COLUMN.to_owned()],
            aggregates: counted(vec![
                Aggregate::Min(offset.clone()),
                Aggregate::Max(offset.clone()),
                Aggregate::Sum(offset),
            ]),
        },
    ];
    if let Some(column) = partition_columns.last() {
        all.push(Template { groups: vec![column.clone()], aggregates: counted(sums().collect()) });
    }
    all
}

fn is_exact(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..)) || data_type.is_integer()
}
