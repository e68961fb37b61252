//! Curated tables in the catalog: one table per dataset, whose location is the current generation's Delta table (H9).

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::{DataType, Schema};
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::catalog::{
    Catalog, CatalogError, Column, DatabaseInput, SerdeInfo, StorageDescriptor, Table, TableInput,
};
use tidemark_shared::error::{ErrorKind as _, chain};
use tidemark_shared::layout;

use crate::error::BatchError;
use crate::generation::Definitions;
use crate::service::Batch;

/// Database of the curated tables.
const CURATED_DATABASE: &str = "batch";
/// A registration follows others that registered the same table meanwhile.
const BACKOFF: Backoff = Backoff { attempts_max: 50, time_max: Duration::from_secs(60), ..Backoff::RACE };

impl Batch {
    /// Brings the catalog up to date. Why that could not be done, where the catalog is at fault: it is no part of what a run
    /// is about, and the next one tells it.
    pub(crate) async fn tell_catalog(&self, definitions: &mut Definitions) -> Result<Option<String>, BatchError> {
        match self.register(definitions).await {
            Ok(()) => Ok(None),
            Err(BatchError::Catalog(error)) => {
                let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                Ok(Some(format!("{}{hint}", chain(&error))))
            }
            Err(error) => Err(error),
        }
    }

    /// Where other programs find a generation's table.
    pub(crate) fn table_location(&self, dataset: &str, generation: &str) -> String {
        self.store.url().join(layout::table(dataset, generation).as_ref()).to_string()
    }

    /// Brings the dataset's table in the catalog up to the generation that answers.
    ///
    /// The catalog is looked at before the pointer: whoever registers a later pointer in between makes ours a conflict,
    /// and the next round reads it.
    async fn register(&self, definitions: &mut Definitions) -> Result<(), BatchError> {
        let Some(catalog) = &self.catalog else { return Ok(()) };
        let dataset = definitions.dataset.clone();
        let mut attempts = Attempts::new(BACKOFF);
        loop {
            let known = match catalog.get_table(CURATED_DATABASE, &dataset).await {
                Ok(known) => Some(known),
                Err(CatalogError::NotFound { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            let Some((_, pointer)) = self.pointer(&dataset).await? else { return Ok(()) };
            let maker = self.maker(definitions, &pointer.definition).await?;
            let location = self.table_location(&dataset, &pointer.generation);
            let input = table_input(&maker, &pointer.generation, &location);
            match put_table(catalog.as_ref(), known, input).await {
                Ok(()) => return Ok(()),
                Err(CatalogError::Conflict { .. } | CatalogError::AlreadyExists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if !attempts.again(self.ambient.random()).await {
                return Err(BatchError::Contended { dataset, attempts: attempts.failed() });
            }
        }
    }
}

async fn put_table(catalog: &dyn Catalog, known: Option<Table>, input: TableInput) -> Result<(), CatalogError> {
    if let Some(known) = known {
        if known.input == input {
            return Ok(());
        }
        return catalog.update_table(CURATED_DATABASE, input, Some(known.version)).await.map(|_| ());
    }
    let database = DatabaseInput { name: CURATED_DATABASE.to_owned(), ..DatabaseInput::default() };
    match catalog.create_database(database).await {
        Ok(_) | Err(CatalogError::AlreadyExists { .. }) => {}
        Err(error) => return Err(error),
    }
    catalog.create_table(CURATED_DATABASE, input).await.map(|_| ())
}

/// The table as Glue describes a Delta table: readers find the log at the location, and columns for display here.
fn table_input(maker: &crate::generation::Maker, generation: &str, location: &str) -> TableInput {
    let column = |name: &str| Column {
        name: name.to_owned(),
        r#type: maker.schema.field_with_name(name).ok().map(|f| hive_type(f.data_type())),
        ..Column::default()
    };
    let partition_keys: Vec<Column> = maker.partition_columns.iter().map(|name| column(name)).collect();
    let data_columns = data_columns(&maker.schema, &maker.partition_columns);
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    TableInput {
        name: maker.dataset.clone(),
        table_type: Some("EXTERNAL_TABLE".to_owned()),
        partition_keys,
        storage_descriptor: Some(StorageDescriptor {
            columns: data_columns.iter().map(|name| column(name)).collect(),
            location: Some(location.to_owned()),
            input_format: Some("org.apache.hadoop.mapred.SequenceFileInputFormat".to_owned()),
            output_format: Some("org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat".to_owned()),
            compressed: true,
            serde_info: Some(SerdeInfo {
                serialization_library: Some("org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe".to_owned()),
                parameters: text(&[("path", location), ("serialization.format", "1")]),
                ..SerdeInfo::default()
            }),
            ..StorageDescriptor::default()
        }),
        parameters: text(&[
            ("table_type", "DELTA"),
            ("spark.sql.sources.provider", "delta"),
            ("classification", "delta"),
            ("tidemark.generation", generation),
            ("tidemark.definition", &maker.version),
        ]),
        ..TableInput::default()
    }
}

fn data_columns(schema: &Schema, partition_columns: &[String]) -> Vec<String> {
    let names = schema.fields().iter().map(|f| f.name().clone());
    names.filter(|name| !partition_columns.contains(name)).collect()
}

/// The Hive name of a column type.
fn hive_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "tinyint".to_owned(),
        DataType::Int16 => "smallint".to_owned(),
        DataType::Int32 => "int".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Binary => "binary".to_owned(),
        DataType::List(item) => format!("array<{}>", hive_type(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|f| format!("{}:{}", f.name(), hive_type(f.data_type()))).collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                format!("map<{},{}>", hive_type(pair[0].data_type()), hive_type(pair[1].data_type()))
            }
            _ => "binary".to_owned(),
        },
        _ => "string".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn types_have_their_hive_names() {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
        let nested = DataType::Struct(vec![Field::new("a", list, true), Field::new("b", DataType::Utf8, true)].into());
        assert_eq!(hive_type(&nested), "struct<a:array<bigint>,b:string>");
        assert_eq!(hive_type(&DataType::Decimal128(10, 2)), "decimal(10,2)");
    }
}
