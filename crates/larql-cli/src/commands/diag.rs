use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use larql_compute::Matrix;
use larql_models::{Checkpoint, ModelSpec, Role, WeightSource};
use larql_vindex::{Component, Holdings, Summary, Vindex};
use larql_vindex_spec::validate_files;
use serde::Serialize;

use crate::arguments::ReportFormat;
use crate::output::outln;
use crate::{library, output};

/// Tell what a vindex can do and what it lacks, or look at one block of a tensor
///
/// Without --block: the components that are held, the statements that they are enough for, and where the manifest falls
/// short of the public contract. With --block: the values of a block of a quantised tensor, and their errors.
#[derive(Args)]
#[command(after_help = "Examples:
  larql diag gemma.vindex
  larql diag q4k.vindex --block layers.0.mlp.down_proj.weight --block-index 7 --against f16.vindex")]
pub(crate) struct Arguments {
    /// The vindex, or its name
    vindex: PathBuf,
    /// A tensor, by its name in the vindex
    #[arg(long, value_name = "TENSOR")]
    block: Option<String>,
    /// The block of it, counted from 0 in order of rows
    #[arg(long, value_name = "N", default_value_t = 0, requires = "block")]
    block_index: usize,
    /// A model with the same tensor to compare the block with
    #[arg(long, value_name = "MODEL", requires = "block")]
    against: Option<PathBuf>,
    #[command(flatten)]
    format: ReportFormat,
}

/// State of a vindex.
#[derive(Serialize)]
struct Diagnosis {
    held: Vec<String>,
    missing: Vec<String>,
    /// Statements, and whether the vindex has what they need.
    can: Vec<(&'static str, bool)>,
    /// Rules of the public contract that the manifest breaks.
    violations: Vec<String>,
}

/// Content of a block.
#[derive(Serialize)]
struct Block {
    tensor: String,
    format: String,
    index: usize,
    values: Vec<f32>,
    /// Number of distinct values.
    distinct: usize,
    /// The values of the other model, and the differences from them.
    against: Option<Vec<f32>>,
    rms_error: Option<f64>,
    max_error: Option<f32>,
}

pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let path = library::find(&arguments.vindex)?;
    let vindex = Vindex::open(&path).map_err(super::report)?;
    if let Some(tensor) = &arguments.block {
        let block = look(&vindex, tensor, arguments.block_index, arguments.against.as_deref())?;
        if arguments.format.is_json() {
            output::json(&block)?;
        } else {
            print_block(&block)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let diagnosis = diagnose(&vindex)?;
    if arguments.format.is_json() {
        output::json(&diagnosis)?;
    } else {
        print(&diagnosis)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn diagnose(vindex: &Vindex) -> miette::Result<Diagnosis> {
    use Component::{Attention, DownMeta, Embeddings, Gate, Norms};
    let holdings = vindex.holdings();
    let summary = Summary::read(vindex.path()).map_err(super::report)?;
    let files = summary.files.iter().map(|file| (file.name.as_str(), file.bytes));
    let predicts = holdings.contains_all(&Holdings::PREDICTING);
    let steps = [Gate, Component::Up, Component::Down, Norms];
    Ok(Diagnosis {
        held: holdings.iter().map(|component| component.to_string()).collect(),
        missing: holdings.missing(&Holdings::PREDICTING).iter().map(ToString::to_string).collect(),
        can: vec![
            ("DESCRIBE, WALK, SELECT", holdings.contains_all(&[Embeddings, Gate, DownMeta])),
            ("INFER, TRACE, probe", predicts),
            ("INSERT, compile to a vindex", predicts),
            ("attention of a client", holdings.contains_all(&[Attention, Norms])),
            ("feed-forward steps of a server", holdings.contains_all(&steps)),
        ],
        violations: validate_files(vindex.manifest(), files).iter().map(ToString::to_string).collect(),
    })
}

fn print(diagnosis: &Diagnosis) -> miette::Result<()> {
    for component in &diagnosis.held {
        outln!("has    {component}")?;
    }
    for component in &diagnosis.missing {
        outln!("lacks  {component}")?;
    }
    for (statement, possible) in &diagnosis.can {
        outln!("{:<6} {statement}", if *possible { "can" } else { "cannot" })?;
    }
    for violation in &diagnosis.violations {
        outln!("note   not as contract v1 asks: {violation}")?;
    }
    Ok(())
}

/// The role of a tensor that is known by its name.
fn role_of(spec: &ModelSpec, name: &str) -> miette::Result<Role> {
    let names = |role: Role| [true, false].map(|norms_output| role.tensor_name(norms_output));
    let roles = spec.tensors().into_iter().map(|(role, _)| role);
    let found = roles.into_iter().find(|role| names(*role).iter().any(|known| known == name));
    found.ok_or_else(|| {
        miette::miette!(
            help = "names are those in weight_manifest.json, such as layers.0.mlp.down_proj.weight",
            "the model has no tensor {name}"
        )
    })
}

fn look(vindex: &Vindex, tensor: &str, index: usize, against: Option<&Path>) -> miette::Result<Block> {
    let role = role_of(vindex.spec(), tensor)?;
    let matrix = vindex.matrix(role).map_err(super::report)?;
    let length = matrix.format().block_len();
    let blocks = matrix.rows() * matrix.cols() / length;
    if index >= blocks {
        return Err(miette::miette!("{tensor} has blocks 0 to {}, and {index} was asked for", blocks - 1));
    }
    let values = part(&matrix, index * length, length);
    let mut distinct: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let other = against.map(|path| other_values(path, role, &matrix, index * length, length)).transpose()?;
    let errors = |other: &Vec<f32>| values.iter().zip(other).map(|(a, b)| a - b).collect::<Vec<f32>>();
    let errors = other.as_ref().map(errors);
    let squares = |errors: &Vec<f32>| errors.iter().map(|error| f64::from(*error).powi(2)).sum::<f64>();
    Ok(Block {
        tensor: tensor.to_owned(),
        format: matrix.format().to_string(),
        index,
        distinct: distinct.len(),
        rms_error: errors.as_ref().map(|errors| (squares(errors) / errors.len() as f64).sqrt()),
        max_error: errors.as_ref().map(|errors| errors.iter().map(|error| error.abs()).fold(0.0, f32::max)),
        values,
        against: other,
    })
}

/// Values of a matrix in order of rows.
fn part(matrix: &Matrix, first: usize, length: usize) -> Vec<f32> {
    let (row, column) = (first / matrix.cols(), first % matrix.cols());
    let mut values = vec![0.0; length];
    matrix.view().decode_part(row, column..column + length, &mut values);
    values
}

fn other_values(
    path: &Path,
    role: Role,
    matrix: &Matrix,
    first: usize,
    length: usize,
) -> miette::Result<Vec<f32>> {
    let path = library::find(path)?;
    let other = match Vindex::is_at(&path) {
        true => Vindex::open(&path).map_err(super::report)?.matrix(role),
        false => Checkpoint::open(&path).map_err(super::report)?.matrix(role),
    };
    let other = other.map_err(super::report)?;
    if (other.rows(), other.cols()) != (matrix.rows(), matrix.cols()) {
        return Err(miette::miette!(
            "{role} is {} by {} here and {} by {} in {}",
            matrix.rows(),
            matrix.cols(),
            other.rows(),
            other.cols(),
            path.display()
        ));
    }
    // Blocks of the other may begin elsewhere, so that whole rows are decoded.
    let mut row = vec![0.0; other.cols()];
    other.view().decode_row(first / other.cols(), &mut row);
    let column = first % other.cols();
    Ok(row[column..column + length].to_vec())
}

fn print_block(block: &Block) -> miette::Result<()> {
    outln!(
        "{} block {} ({}, {} values, {} distinct)",
        block.tensor,
        block.index,
        block.format,
        block.values.len(),
        block.distinct
    )?;
    match &block.against {
        Some(others) => {
            outln!("{:>4}  {:>12}  {:>12}  {:>10}", "", "value", "other", "error")?;
            for (index, (value, other)) in block.values.iter().zip(others).enumerate() {
                outln!("{index:>4}  {value:>12.6}  {other:>12.6}  {:>10.2e}", value - other)?;
            }
        }
        None => {
            for (index, values) in block.values.chunks(8).enumerate() {
                let values: Vec<String> = values.iter().map(|value| format!("{value:>10.6}")).collect();
                outln!("{:>4}  {}", index * 8, values.join(" "))?;
            }
        }
    }
    if let (Some(rms), Some(max)) = (block.rms_error, block.max_error) {
        outln!("error: root mean square {rms:.3e}, largest {max:.3e}")?;
    }
    Ok(())
}
