//! The quantisation that a configuration states.

use serde_json::Value;

use super::gptq::Gptq;
use super::{Quantised, Shelf, awq, bitsandbytes, compressed, fp8, gptq};
use crate::ModelError;
use crate::config::{Config, shorten};
use crate::tensor::StoredTensor;

/// Next step for a checkpoint that is quantised in another way.
const ADVICE: &str = "use the unquantised checkpoint, a GGUF file, or one quantised as FP8, GPTQ, AWQ (gemm), \
                      compressed-tensors or bitsandbytes";

/// Quantisation of a checkpoint.
#[derive(Clone, Debug)]
pub(in crate::checkpoint) struct Scheme {
    method: Method,
}

#[derive(Clone, Debug)]
enum Method {
    Fp8 { tile: Option<[usize; 2]> },
    Gptq(Gptq),
    Awq { group: Option<usize> },
    Compressed { tile: Option<[usize; 2]> },
    BitsAndBytes,
}

/// Endings of tensors that tell of activations or caches, which weights do not depend on.
const OF_ACTIVATIONS: [&str; 8] = [
    ".input_scale",
    ".input_zero_point",
    ".output_scale",
    ".activation_scale",
    ".k_scale",
    ".v_scale",
    ".q_scale",
    ".prob_scale",
];

impl Scheme {
    /// The scheme of a model's configuration; none of one that is not quantised, or in a way that needs no scheme.
    ///
    /// # Errors
    /// If it is one that is not read, by name, or has values that cannot be.
    pub(in crate::checkpoint) fn of(config: &Config) -> Result<Option<Scheme>, ModelError> {
        let text = config.section("text_config")?;
        let inner = match &text {
            Some(text) => text.section("quantization_config")?,
            None => None,
        };
        match config.section("quantization_config")?.or(inner) {
            Some(quantisation) => Scheme::read(&quantisation),
            None => Ok(None),
        }
    }

    /// The scheme that a `quantize_config.json` beside the model states, as GPTQ's first tools wrote it.
    pub(in crate::checkpoint) fn of_gptq_file(config: &Config) -> Result<Scheme, ModelError> {
        Ok(Scheme { method: Method::Gptq(read_gptq(config)?) })
    }

    fn read(config: &Config) -> Result<Option<Scheme>, ModelError> {
        let unsupported = |feature: String| ModelError::unsupported(config.path(), feature, ADVICE);
        let method = match config.optional_text("quant_method")?.unwrap_or("an unnamed method") {
            // Its blocks are a format of their own.
            "mxfp4" => return Ok(None),
            "fp8" | "fbgemm_fp8" => Method::Fp8 { tile: tile(config, "weight_block_size")? },
            "gptq" => Method::Gptq(read_gptq(config)?),
            "awq" => {
                let version = config.optional_text("version")?.unwrap_or("gemm");
                let bits = config.optional_size("bits")?.unwrap_or(4);
                if !version.eq_ignore_ascii_case("gemm") || bits != 4 {
                    let version = shorten(version);
                    return Err(unsupported(format!(
                        "a model quantised by AWQ in layout {version} with {bits} bits"
                    )));
                }
                Method::Awq { group: group_size(config)? }
            }
            "compressed-tensors" | "compressed_tensors" => read_compressed(config)?,
            "bitsandbytes" => Method::BitsAndBytes,
            other => return Err(unsupported(format!("a model quantised by {}", shorten(other)))),
        };
        Ok(Some(Scheme { method }))
    }

    /// Name of the method, for manifests.
    pub(in crate::checkpoint) fn name(&self) -> &'static str {
        match self.method {
            Method::Fp8 { .. } => "fp8",
            Method::Gptq(_) => "gptq",
            Method::Awq { .. } => "awq",
            Method::Compressed { .. } => "compressed-tensors",
            Method::BitsAndBytes => "bitsandbytes",
        }
    }

    /// Finds the matrix `[outputs, inputs]` whose tensors begin with `stem`, if it is quantised.
    ///
    /// # Errors
    /// If one of its tensors is missing, or of another type or shape, by file and tensor.
    pub(in crate::checkpoint) fn find(
        &self,
        shelf: &Shelf<'_>,
        stem: &str,
        shape: [usize; 2],
    ) -> Result<Option<Quantised>, ModelError> {
        match self.method {
            Method::Fp8 { tile } => fp8::find(shelf, stem, shape, tile),
            Method::Gptq(gptq) => gptq::find(shelf, stem, shape, gptq),
            Method::Awq { group } => awq::find(shelf, stem, shape, group),
            Method::Compressed { tile } => compressed::find(shelf, stem, shape, tile),
            Method::BitsAndBytes => bitsandbytes::find(shelf, stem, shape),
        }
    }

    /// True of a tensor that weights do not depend on: scales of activations, and biases of zeros that AutoGPTQ wrote.
    pub(in crate::checkpoint) fn ignores(&self, tensor: &StoredTensor) -> bool {
        OF_ACTIVATIONS.iter().any(|ending| tensor.name.ends_with(ending))
            || tensor.name.ends_with(".bias") && tensor.bytes.iter().all(|byte| *byte == 0)
    }
}

fn read_gptq(config: &Config) -> Result<Gptq, ModelError> {
    let unsupported = |feature: String| ModelError::unsupported(config.path(), feature, ADVICE);
    let format = config.optional_text("checkpoint_format")?.unwrap_or("gptq");
    let less_one = match format {
        "gptq" => true,
        "gptq_v2" => false,
        other => return Err(unsupported(format!("a model quantised by GPTQ in layout {}", shorten(other)))),
    };
    if config.optional_flag("is_marlin_format")? == Some(true) {
        return Err(unsupported("a model quantised by GPTQ in layout marlin".into()));
    }
    // Some modules have other sizes then.
    if config.gives("dynamic") {
        return Ok(Gptq { bits: None, group: None, less_one });
    }
    let bits = config.size("bits")?;
    if !matches!(bits, 2 | 3 | 4 | 8) {
        return Err(config.wrong("bits", "2, 3, 4 or 8", &bits.into()));
    }
    Ok(Gptq { bits: Some(bits), group: group_size(config)?, less_one })
}

fn read_compressed(config: &Config) -> Result<Method, ModelError> {
    const FORMATS: [&str; 6] =
        ["pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mixed-precision", "dense"];
    let unsupported = |what: &str| {
        let feature = format!("a model that compressed-tensors stored as {}", shorten(what));
        ModelError::unsupported(config.path(), feature, ADVICE)
    };
    let check = |config: &Config| match config.optional_text("format")? {
        Some(format) if !FORMATS.contains(&format) => Err(unsupported(format)),
        _ => Ok(()),
    };
    check(config)?;
    if let Some(sparse) = config.section("sparsity_config")?
        && let Some(format) = sparse.optional_text("format")?
        && format != "dense"
    {
        return Err(unsupported(format));
    }
    if let Some(transforms) = config.section("transform_config")?
        && transforms.section("config_groups")?.is_some_and(|groups| groups.keys().next().is_some())
    {
        return Err(unsupported("weights that are rotated (`transform_config`)"));
    }
    let mut size = None;
    if let Some(groups) = config.section("config_groups")? {
        for name in groups.keys() {
            let Some(group) = groups.section(name)? else { continue };
            check(&group)?;
            if let Some(weights) = group.section("weights")? {
                size = size.or(tile(&weights, "block_structure")?);
            }
        }
    }
    Ok(Method::Compressed { tile: size })
}

/// Rows and columns of a tile.
fn tile(config: &Config, key: &str) -> Result<Option<[usize; 2]>, ModelError> {
    let Some(list) = config.optional_list(key)? else { return Ok(None) };
    let sizes: Vec<usize> =
        list.iter().filter_map(Value::as_u64).filter_map(|size| usize::try_from(size).ok()).collect();
    match sizes[..] {
        [rows, cols] if rows > 0 && cols > 0 && list.len() == 2 => Ok(Some([rows, cols])),
        _ => Err(config.wrong(key, "two positive integers", &list.into())),
    }
}

/// Inputs that share a scale: -1 stands for all of them.
fn group_size(config: &Config) -> Result<Option<usize>, ModelError> {
    match config.optional_number("group_size")? {
        Some(-1.0) => Ok(Some(usize::MAX)),
        Some(_) => config.optional_size("group_size"),
        None => Ok(None),
    }
}
