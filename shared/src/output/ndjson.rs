//! One JSON object a line.

use std::collections::HashSet;
use std::io::Write;

use crate::sql::{AsOf, Stats};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::{OutputError, RowWriter, json};

pub(super) struct NdjsonWriter<W> {
    out: W,
    names: Vec<String>,
    buffer: Vec<u8>,
}

impl<W: Write> NdjsonWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, names: Vec::new(), buffer: Vec::new() }
    }
}

impl<W: Write + Send> RowWriter for NdjsonWriter<W> {
    fn begin(&mut self, schema: &SchemaRef, _: &AsOf) -> Result<(), OutputError> {
        self.names = schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut seen = HashSet::new();
        match self.names.iter().find(|name| !seen.insert(name.as_str())) {
            Some(name) => Err(OutputError::SameName { name: name.clone() }),
            None => Ok(()),
        }
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let columns = batch.columns().iter().map(json::cells).collect::<Result<Vec<_>, _>>()?;
        self.buffer.clear();
        for row in 0..batch.num_rows() {
            json::object(&mut self.buffer, &self.names, &columns, row);
            self.buffer.push(b'\n');
        }
        Ok(self.out.write_all(&self.buffer)?)
    }

    fn end(&mut self, _: &Stats) -> Result<(), OutputError> {
        Ok(self.out.flush()?)
    }
}
