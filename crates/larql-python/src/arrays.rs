//! Arrays: numpy views of mapped weights, decoded copies of blocks, and checked arguments.

use half::f16;
use larql_compute::{Format, MatRef, Matrix};
use numpy::ndarray::ArrayView2;
use numpy::{Element, PyArray1, PyArray2, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::error::Problem;

/// Returns a new array, `[n]`.
pub(crate) fn vector(py: Python<'_>, values: Vec<f32>) -> Bound<'_, PyArray1<f32>> {
    PyArray1::from_vec(py, values)
}

/// Returns a new array of rows of `width` values, `[rows, width]`.
pub(crate) fn rows(py: Python<'_>, values: Vec<f32>, width: usize) -> PyResult<Bound<'_, PyArray2<f32>>> {
    let rows = values.len().checked_div(width).unwrap_or(0);
    PyArray1::from_vec(py, values).reshape([rows, width])
}

/// Returns a matrix as an array, `[rows, cols]`: a view of its bytes, which cannot be written, if they are floats that numpy
/// has; otherwise decoded in f32.
pub(crate) fn matrix(py: Python<'_>, matrix: &Matrix) -> PyResult<Py<PyAny>> {
    let owner = || Ok::<_, PyErr>(Bound::new(py, Owner { matrix: matrix.clone() })?.into_any());
    let bytes = matrix.view().bytes();
    let shape = [matrix.rows(), matrix.cols()];
    Ok(match matrix.format() {
        Format::F32 if let Ok(values) = bytemuck::try_cast_slice::<u8, f32>(bytes) => {
            view(values, shape, owner()?)?.into_any().unbind()
        }
        Format::F16 if let Ok(values) = bytemuck::try_cast_slice::<u8, f16>(bytes) => {
            view(values, shape, owner()?)?.into_any().unbind()
        }
        _ => decoded(py, matrix.view())?,
    })
}

/// Returns a matrix decoded in f32, `[rows, cols]`.
pub(crate) fn decoded(py: Python<'_>, matrix: MatRef<'_>) -> PyResult<Py<PyAny>> {
    let values = py.detach(|| matrix.to_f32());
    Ok(rows(py, values, matrix.cols())?.into_any().unbind())
}

/// Keeps the bytes of a matrix for as long as arrays show them.
#[pyclass(frozen, module = "larql._larql")]
struct Owner {
    matrix: Matrix,
}

#[pymethods]
impl Owner {
    fn __repr__(&self) -> String {
        format!("<{} bytes of a mapped file>", self.matrix.bytes().len())
    }
}

/// Returns an array that shows values which `owner` keeps. Nobody can write to it.
///
/// `owner` must hold what `values` borrow from, unchanged, for as long as it lives itself.
pub(crate) fn view<'py, T: Element>(
    values: &[T],
    shape: [usize; 2],
    owner: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray2<T>>> {
    let values =
        ArrayView2::from_shape(shape, values).map_err(|error| Problem::new("InternalError", error))?;
    // SAFETY: every caller passes values of a mapped file or of an immutable buffer that is held by `owner`, which is
    // frozen; numpy keeps `owner` as the base of the array, so that the memory outlives the array.
    let array = unsafe { PyArray2::borrow_from_array(&values, owner) };
    array.readwrite().make_nonwriteable();
    Ok(array)
}

/// Returns the values of an argument that is to be a vector, `[width]`, of floats of any precision and any strides. `name` is
/// the argument's name.
pub(crate) fn vector_of(argument: &Bound<'_, PyAny>, name: &str, width: usize) -> PyResult<Vec<f32>> {
    let (values, shape) = floats(argument, name)?;
    if shape != [width] {
        let message = format!("{name} has the shape {}; expected ({width},)", shown(&shape));
        return Err(Problem::argument(message).into());
    }
    Ok(values)
}

/// Returns the values of an argument that is to be one vector, `[width]`, or several, `[rows, width]`.
pub(crate) fn vectors_of(argument: &Bound<'_, PyAny>, name: &str, width: usize) -> PyResult<Vec<f32>> {
    let (values, shape) = floats(argument, name)?;
    match shape[..] {
        [last] | [_, last] if last == width && !values.is_empty() => Ok(values),
        _ => {
            let message =
                format!("{name} has the shape {}; expected ({width},) or (rows, {width})", shown(&shape));
            Err(Problem::argument(message).into())
        }
    }
}

/// Returns the values and the shape of an argument that is to be an array of finite floats.
pub(crate) fn floats(argument: &Bound<'_, PyAny>, name: &str) -> PyResult<(Vec<f32>, Vec<usize>)> {
    let py = argument.py();
    let numpy = py.import("numpy")?;
    let array = numpy.call_method1("asarray", (argument,))?;
    let kind: String = array.getattr("dtype")?.getattr("kind")?.extract()?;
    if kind != "f" {
        let found = array.getattr("dtype")?;
        let message = format!(
            "{name} is an array of {found}; expected floats: convert it, for instance by .astype(numpy.float32)"
        );
        return Err(Problem::argument_type(message).into());
    }
    let array = numpy.call_method1("ascontiguousarray", (array, "float32"))?;
    let shape = array.cast::<PyUntypedArray>()?.shape().to_vec();
    let flat = array.call_method1("reshape", (-1,))?;
    let values = flat.cast::<PyArray1<f32>>()?.to_vec()?;
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        let message = format!("{name} has a value that is no finite number, at index {index}");
        return Err(Problem::argument(message).into());
    }
    Ok((values, shape))
}

/// A shape as numpy shows it.
pub(crate) fn shown(shape: &[usize]) -> String {
    let lengths: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("({}{})", lengths.join(", "), if lengths.len() == 1 { "," } else { "" })
}

/// Returns an index of `count` things that are numbered from 0, negative ones from the end.
pub(crate) fn index(number: i64, count: usize, name: &str) -> Result<usize, Problem> {
    let from_start = if number < 0 { number + count as i64 } else { number };
    match usize::try_from(from_start) {
        Ok(index) if index < count => Ok(index),
        _ => Err(Problem::new(
            "ArgumentIndexError",
            format!("{name} {number} does not exist; there are {count}, numbered from 0"),
        )),
    }
}
