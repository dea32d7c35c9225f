//! Results of statements.

use std::path::Path;

use larql_lql::output::Output;
use larql_lql::render::{self, Format, RenderOptions, Table, Values};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList, PyTuple};

use crate::arrow;
use crate::error::Problem;

/// Result of one statement: typed data, its table, and its text.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct Answer {
    pub(crate) output: Output,
}

#[pymethods]
impl Answer {
    /// Reads a result from JSON, as `json` gives it.
    #[new]
    fn from_json(json: &str) -> PyResult<Answer> {
        let output = serde_json::from_str(json)
            .map_err(|error| Problem::argument(format!("this is not the JSON of a result: {error}")))?;
        Ok(Answer { output })
    }

    /// The whole result as JSON, with the field names of LQL.
    fn json(&self) -> PyResult<String> {
        serde_json::to_string(&self.output).map_err(|error| Problem::new("InternalError", error).into())
    }

    /// The result as the prompt shows it, in lines of at most `width` columns.
    #[pyo3(signature = (width = None))]
    fn text(&self, width: Option<usize>) -> String {
        let options = RenderOptions { width, ..RenderOptions::default() };
        render::render(&self.output, Format::Table, &options)
    }

    /// The result as one self-contained HTML page; none of results that have no page of their own.
    fn page(&self) -> Option<String> {
        match &self.output {
            Output::AttributionGraph(graph) => render::graph_file(graph, Path::new("graph.html")),
            Output::Trace(traced) => Some(render::trace_page(traced)),
            _ => None,
        }
    }

    /// The results of a piped statement, one for each row that it was given.
    fn parts(&self) -> Vec<Answer> {
        match &self.output {
            Output::Several(several) => {
                several.outputs.iter().map(|output| Answer { output: output.clone() }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Names of the columns of the table.
    fn columns(&self) -> PyResult<Vec<&'static str>> {
        Ok(self.table()?.columns.iter().map(|column| column.name).collect())
    }

    /// Rows of the table, as tuples in the order of the columns.
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let table = self.table()?;
        let row = |index| {
            let values = table.columns.iter().map(|column| value(py, &column.values, index));
            PyTuple::new(py, values.collect::<PyResult<Vec<_>>>()?)
        };
        PyList::new(py, (0..table.rows()).map(row).collect::<PyResult<Vec<_>>>()?)
    }

    /// The table as a stream of the Arrow C interface. It is always of the one schema that it has.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        arrow::stream(py, arrow::stream_of_table(self.table()?)?)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        Ok((py.get_type::<Answer>().into_any(), (self.json()?,)))
    }
}

impl Answer {
    fn table(&self) -> Result<Table, Problem> {
        let mut tables = render::typed_tables(&self.output);
        match tables.pop() {
            Some(table) if tables.is_empty() => Ok(table),
            None => Ok(Table { columns: Vec::new() }),
            Some(_) => Err(Problem::argument(
                "the parts of this result have different columns; ask each of its .outputs for its table",
            )),
        }
    }
}

/// Value of a row, as Python's own type.
fn value<'py>(py: Python<'py>, values: &Values, index: usize) -> PyResult<Bound<'py, PyAny>> {
    Ok(match values {
        Values::Texts(values) => values[index].as_deref().into_pyobject(py)?.into_any(),
        Values::Lists(values) => values[index].clone().into_pyobject(py)?.into_any(),
        Values::Integers(values) => values[index].into_pyobject(py)?.into_any(),
        Values::Scores(values) => values[index].into_pyobject(py)?.into_any(),
        Values::Figures(values) => values[index].into_pyobject(py)?.into_any(),
        Values::Flags(values) => values[index].into_pyobject(py)?.into_any(),
    })
}
