//! An Arrow IPC stream.

use std::io::Write;
use std::sync::Arc;

use crate::sql::{AsOf, Stats};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;

use super::{OutputError, RowWriter};

pub(super) struct IpcWriter<W: Write> {
    state: State<W>,
}

#[expect(clippy::large_enum_variant, reason = "one value a process; boxing it would save nothing")]
enum State<W: Write> {
    New(W),
    Open(StreamWriter<W>, SchemaRef),
    Closed,
}

impl<W: Write> IpcWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { state: State::New(out) }
    }
}

impl<W: Write + Send> RowWriter for IpcWriter<W> {
    fn begin(&mut self, schema: &SchemaRef, _: &AsOf) -> Result<(), OutputError> {
        let State::New(out) = std::mem::replace(&mut self.state, State::Closed) else {
            unreachable!("an answer begins once");
        };
        let schema = plain(schema);
        self.state = State::Open(StreamWriter::try_new(out, &schema)?, schema);
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let State::Open(writer, schema) = &mut self.state else { unreachable!("rows come after the beginning") };
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
        Ok(writer.write(&RecordBatch::try_new(Arc::clone(schema), columns)?)?)
    }

    fn end(&mut self, _: &Stats) -> Result<(), OutputError> {
        let State::Open(writer, _) = &mut self.state else { unreachable!("the end comes after the beginning") };
        Ok(writer.finish()?)
    }
}

/// String views as strings, which every Arrow reader knows.
fn plain(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let data_type = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            other => other.clone(),
        };
        Field::new(field.name(), data_type, field.is_nullable())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
