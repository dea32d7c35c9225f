//! Hooks: Python functions and declared interventions at points of a pass.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use larql_inference::{Hook, HookError, Point, PointSet, Rows, Stage};
use numpy::{PyArray1, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;
use serde_json::Value;

use crate::arrays;
use crate::declared::Intervention;
use crate::error::Problem;

/// A point of a pass, as a hook function is told it.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct HookPoint {
    point: Point,
    rows: Rows,
}

#[pymethods]
impl HookPoint {
    /// Name of the point: `embedding`, a place in a layer such as `layer_output`, `final_norm` or `logits`.
    #[getter]
    fn name(&self) -> String {
        name(self.point)
    }

    /// The layer, counted from 0; none outside of layers.
    #[getter]
    fn layer(&self) -> Option<usize> {
        self.point.layer()
    }

    /// Number of the sequence of each row, `[rows]`.
    #[getter]
    fn sequences<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        let rows = (0..self.rows.sequences())
            .flat_map(|sequence| vec![sequence as i64; self.rows.of(sequence).len()]);
        PyArray1::from_iter(py, rows)
    }

    /// Position in its sequence of each row, `[rows]`.
    #[getter]
    fn positions<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        let rows = (0..self.rows.sequences()).flat_map(|sequence| self.rows.positions(sequence));
        PyArray1::from_iter(py, rows.map(|position| position as i64))
    }

    fn __repr__(&self) -> String {
        match self.point.layer() {
            Some(layer) => {
                format!("HookPoint({}, layer={layer}, rows={})", name(self.point), self.rows.len())
            }
            None => format!("HookPoint({}, rows={})", name(self.point), self.rows.len()),
        }
    }
}

/// Name of a point without its layer.
fn name(point: Point) -> String {
    match point {
        Point::Embedding => "embedding".into(),
        Point::FinalNorm => "final_norm".into(),
        Point::Logits => "logits".into(),
        _ => point.stage().map_or_else(String::new, |stage| larql_lql::output::word(&stage)),
    }
}

/// Reads points: a name, and the layer of a place in a layer or none for all layers.
pub(crate) fn points(names: &[(String, Option<usize>)], layers: usize) -> Result<PointSet, Problem> {
    let mut points = PointSet::default();
    for (name, layer) in names {
        let outside = match name.as_str() {
            "embedding" => Some(Point::Embedding),
            "final_norm" => Some(Point::FinalNorm),
            "logits" => Some(Point::Logits),
            _ => None,
        };
        if let Some(point) = outside {
            points = points.with(point);
            continue;
        }
        let stage: Stage =
            serde_json::from_value(Value::from_str(&format!("\"{name}\"")).unwrap_or_default())
                .map_err(|_| unknown(name))?;
        points = match layer {
            None => points.union(PointSet::stages([stage])),
            Some(layer) => {
                let layer = arrays::index(*layer as i64, layers, "layer")?;
                points.with(Point::Layer { layer, stage })
            }
        };
    }
    Ok(points)
}

fn unknown(name: &str) -> Problem {
    let mut known = vec!["embedding".to_owned()];
    known.extend(Stage::ALL.map(|stage| larql_lql::output::word(&stage)));
    known.extend(["final_norm".to_owned(), "logits".to_owned()]);
    Problem::argument(format!("there is no point {name:?}; the points are {}", known.join(", ")))
}

/// Part of a chain.
enum Part {
    Function { points: PointSet, function: Py<PyAny> },
    Declared(Arc<Mutex<larql_trace::Intervention>>),
}

/// Hooks in the order in which they are called.
#[derive(Default)]
pub(crate) struct Chain {
    parts: Vec<Part>,
    /// Exception of a function, which ended the pass.
    raised: Option<PyErr>,
}

/// A hook as Python gives it.
#[derive(FromPyObject)]
pub(crate) enum Given<'py> {
    /// Names of points with layers, and the function that is called there.
    Function(Vec<(String, Option<usize>)>, Bound<'py, PyAny>),
    /// A declared intervention.
    Declared(Bound<'py, Intervention>),
}

impl Chain {
    /// Reads the hooks of a model of so many layers.
    pub(crate) fn new(hooks: Vec<Given<'_>>, layers: usize) -> PyResult<Chain> {
        let part = |hook| -> PyResult<Part> {
            Ok(match hook {
                Given::Declared(intervention) => Part::Declared(intervention.get().shared()),
                Given::Function(names, function) => {
                    if !function.is_callable() {
                        let message = format!("a hook is a function of values and point, not {function}");
                        return Err(Problem::argument_type(message).into());
                    }
                    Part::Function { points: points(&names, layers)?, function: function.unbind() }
                }
            })
        };
        Ok(Chain { parts: hooks.into_iter().map(part).collect::<PyResult<_>>()?, raised: None })
    }

    /// The exception that a function raised, if one did.
    pub(crate) fn take_raised(&mut self) -> Option<PyErr> {
        self.raised.take()
    }
}

impl Hook for Chain {
    fn points(&self) -> PointSet {
        let of_part = |part: &Part| match part {
            Part::Function { points, .. } => points.clone(),
            Part::Declared(intervention) => locked(intervention).points(),
        };
        self.parts.iter().map(of_part).fold(PointSet::default(), PointSet::union)
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        for part in &self.parts {
            match part {
                Part::Declared(intervention) => {
                    let mut intervention = locked(intervention);
                    if intervention.points().contains(point) {
                        intervention.at(point, rows, values)?;
                    }
                }
                Part::Function { points, function } if points.contains(point) => {
                    let called = Python::attach(|py| call(py, function.bind(py), point, rows, values));
                    if let Err(error) = called {
                        self.raised = Some(error);
                        return Err("a hook raised an exception".into());
                    }
                }
                Part::Function { .. } => {}
            }
        }
        Ok(())
    }
}

fn locked(
    intervention: &Mutex<larql_trace::Intervention>,
) -> std::sync::MutexGuard<'_, larql_trace::Intervention> {
    intervention.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls a function with a copy of the values, which Python may keep, and takes over what it returns, or else what the copy
/// has become.
fn call(
    py: Python<'_>,
    function: &Bound<'_, PyAny>,
    point: Point,
    rows: &Rows,
    values: &mut [f32],
) -> PyResult<()> {
    let shape = shape(point, rows, values.len());
    let array = PyArray1::from_slice(py, values).reshape(&shape[..])?;
    let told = HookPoint { point, rows: rows.clone() };
    let returned = function.call1((&array, told))?;
    let changed: Bound<'_, PyArrayDyn<f32>> = if returned.is_none() {
        array
    } else {
        let returned = py.import("numpy")?.call_method1("asarray", (returned, "float32"))?;
        let returned = returned.cast_into::<PyArrayDyn<f32>>().map_err(PyErr::from)?;
        if returned.shape() != shape {
            let message = format!(
                "the hook at {} returned an array of the shape {}; expected {}, as the array that it was given",
                name(point),
                arrays::shown(returned.shape()),
                arrays::shown(&shape)
            );
            return Err(Problem::argument(message).into());
        }
        returned
    };
    let flat = py.import("numpy")?.call_method1("ascontiguousarray", (changed,))?;
    let flat = flat.cast_into::<PyArrayDyn<f32>>().map_err(PyErr::from)?;
    values.copy_from_slice(flat.readonly().as_slice()?);
    Ok(())
}

/// Shape of the values at a point: `[rows, width]`, and `[tokens, heads, positions]` of the attention pattern of one sequence,
/// `[values]` of several.
fn shape(point: Point, rows: &Rows, values: usize) -> Vec<usize> {
    let count = rows.len().max(1);
    match (point.stage(), rows.sequences()) {
        (Some(Stage::AttentionPattern), 1) => {
            let positions = rows.positions(0).end;
            vec![count, values / (count * positions), positions]
        }
        (Some(Stage::AttentionPattern), _) => vec![values],
        _ => vec![count, values / count],
    }
}
