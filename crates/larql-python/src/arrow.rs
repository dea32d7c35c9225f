//! Tables as streams of the Arrow C interface, which pandas, polars, pyarrow and DuckDB take without a copy.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch, RecordBatchIterator,
    RecordBatchReader, StringArray,
};
use arrow_schema::{ArrowError, Field, Schema};
use larql_lql::render::{Column, Table, Values};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::error::Problem;

/// Name of a capsule that holds a stream.
const STREAM: &std::ffi::CStr = c"arrow_array_stream";

/// Returns a stream as a capsule, which releases the stream if nobody takes it.
pub(crate) fn stream(
    py: Python<'_>,
    reader: Box<dyn RecordBatchReader + Send>,
) -> PyResult<Bound<'_, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(reader), STREAM)
}

/// Returns the stream of one table.
pub(crate) fn stream_of_table(table: Table) -> Result<Box<dyn RecordBatchReader + Send>, Problem> {
    let columns: Vec<(&str, ArrayRef)> =
        table.columns.into_iter().map(|Column { name, values }| (name, array(values))).collect();
    let batch = batch(columns)?;
    let schema = batch.schema();
    Ok(Box::new(RecordBatchIterator::new([Ok(batch)], schema)))
}

/// Returns a batch of named columns, whose values may be absent.
pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, ArrowError> {
    let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect())
}

impl From<ArrowError> for Problem {
    fn from(error: ArrowError) -> Problem {
        Problem::new("InternalError", error)
    }
}

fn array(values: Values) -> ArrayRef {
    match values {
        Values::Texts(values) => Arc::new(StringArray::from(values)),
        Values::Integers(values) => Arc::new(Int64Array::from(values)),
        Values::Scores(values) => Arc::new(Float32Array::from(values)),
        Values::Figures(values) => Arc::new(Float64Array::from(values)),
        Values::Flags(values) => Arc::new(BooleanArray::from(values)),
        Values::Lists(values) => texts(values),
    }
}

/// Returns a column of lists of texts.
pub(crate) fn texts(values: impl IntoIterator<Item = Option<Vec<String>>>) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for value in values {
        builder.append_option(value.map(|texts| texts.into_iter().map(Some)));
    }
    Arc::new(builder.finish())
}
