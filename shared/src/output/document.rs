//! One JSON document: `{"columns": …, "as_of": …, "rows": […], "stats": …}`. Without `stats` it is no whole answer.

use std::io::Write;

use crate::sql::{AsOf, Stats};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::{OutputError, RowWriter, json, type_name};

pub(super) struct DocumentWriter<W> {
    out: W,
    any: bool,
    buffer: Vec<u8>,
}

impl<W: Write> DocumentWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, any: false, buffer: Vec::new() }
    }
}

impl<W: Write + Send> RowWriter for DocumentWriter<W> {
    fn begin(&mut self, schema: &SchemaRef, as_of: &AsOf) -> Result<(), OutputError> {
        let column = |field: &arrow::datatypes::FieldRef| serde_json::json!({ "name": field.name(), "type": type_name(field.data_type()) });
        let columns: Vec<_> = schema.fields().iter().map(column).collect();
        let columns = serde_json::to_string(&columns).expect("plain data");
        let as_of = serde_json::to_string(as_of).expect("plain data");
        write!(self.out, "{{\"columns\":{columns},\n\"as_of\":{as_of},\n\"rows\":[")?;
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let columns = batch.columns().iter().map(json::cells).collect::<Result<Vec<_>, _>>()?;
        self.buffer.clear();
        for row in 0..batch.num_rows() {
            self.buffer.extend_from_slice(if self.any { b",\n[" } else { b"\n[" });
            self.any = true;
            for (index, cell) in columns.iter().enumerate() {
                if index > 0 {
                    self.buffer.push(b',');
                }
                cell(&mut self.buffer, row);
            }
            self.buffer.push(b']');
        }
        Ok(self.out.write_all(&self.buffer)?)
    }

    fn end(&mut self, stats: &Stats) -> Result<(), OutputError> {
        let stats = serde_json::to_string(stats).expect("plain data");
        writeln!(self.out, "],\n\"stats\":{stats}}}")?;
        Ok(self.out.flush()?)
    }
}
