//! Adapters of a checkpoint, as PEFT saves them: low-rank changes of matrices, which are merged where a matrix is read.
//!
//! `adapter_config.json` has the settings, `adapter_model.safetensors` for each changed matrix `[outputs, inputs]` the
//! factors `lora_A` `[rank, inputs]` and `lora_B` `[outputs, rank]`. The merged matrix is `W + scale * B A`, with a scale of
//! `alpha / rank`, or `alpha / sqrt(rank)` of rank-stabilised ones (Kalajdzievski 2023). Weight-decomposed ones (DoRA, Liu
//! et al. 2024) also have `lora_magnitude_vector` `[outputs]`, the lengths of the rows of the merged matrix. Tensors that
//! are saved whole take the place of the base's first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use larql_compute::Format;
use serde_json::Value;

use super::placing::PlacedTensor;
use crate::config::{Config, shorten};
use crate::safetensors::SafetensorsFile;
use crate::tensor::{Encoding, StoredTensor};
use crate::{ModelError, Shape};

/// The settings.
const CONFIG: &str = "adapter_config.json";
/// The weights.
const WEIGHTS: &str = "adapter_model.safetensors";
/// Start of the names of all tensors.
const PREFIX: &str = "base_model.model.";

/// An adapter, whose tensors have been checked against a model's.
#[derive(Debug)]
pub(super) struct Adapter {
    /// Name of its directory.
    pub(super) name: String,
    /// File of the weights.
    pub(super) file: PathBuf,
    /// Its tensors by the name of the base's tensor that they change.
    changes: BTreeMap<String, Change>,
}

/// Change of one tensor of the base.
#[derive(Debug, Default)]
struct Change {
    /// `[rank, inputs]`; of embeddings `[rank, tokens]`.
    down: Option<StoredTensor>,
    /// `[outputs, rank]`
    up: Option<StoredTensor>,
    /// Lengths of the rows.
    magnitude: Option<StoredTensor>,
    /// The whole tensor.
    whole: Option<StoredTensor>,
    /// True if the factors are those of an embedding, whose rows are inputs.
    is_embedding: bool,
    scale: f32,
}

/// Part of a change that a tensor of an adapter is.
enum Part {
    Down,
    Up,
    Magnitude,
    Whole,
}

impl Adapter {
    /// Reads an adapter's directory.
    ///
    /// # Errors
    /// If it is none, of a kind that is not read, or a factor is without the other, by file and tensor.
    pub(super) fn read(directory: &Path) -> Result<Adapter, ModelError> {
        let config = directory.join(CONFIG);
        if !config.is_file() {
            return Err(ModelError::OtherFile {
                path: directory.into(),
                found: format!("no adapter: it has no {CONFIG}"),
                advice: "give the directory that PEFT's `save_pretrained` wrote".into(),
            });
        }
        let settings = Settings::read(&Config::read(&config)?)?;
        let file = directory.join(WEIGHTS);
        if !file.is_file() {
            return Err(ModelError::OtherFile {
                path: directory.into(),
                found: format!("an adapter without {WEIGHTS}"),
                advice: "save it again with `safe_serialization=True`".into(),
            });
        }
        let mut changes: BTreeMap<String, Change> = BTreeMap::new();
        for tensor in SafetensorsFile::open(&file)?.into_tensors() {
            let Some((base, part, is_embedding)) = target(&tensor.name) else {
                let expected = format!("a name that starts with `{PREFIX}`");
                return Err(malformed(&file, &tensor.name, expected, "another model's name"));
            };
            let Encoding::Format(Format::F32 | Format::F16 | Format::BF16) = tensor.encoding else {
                let found = tensor.encoding.to_string();
                return Err(malformed(&file, &tensor.name, "floats (F32, F16 or BF16)", found));
            };
            let change = changes.entry(base).or_default();
            change.is_embedding |= is_embedding;
            match part {
                Part::Down => change.down = Some(tensor),
                Part::Up => change.up = Some(tensor),
                Part::Magnitude => change.magnitude = Some(tensor),
                Part::Whole => change.whole = Some(tensor),
            }
        }
        for (base, change) in &mut changes {
            change.check_factors(&file)?;
            if let Some(down) = &change.down {
                let module = base.strip_suffix(".weight").unwrap_or(base);
                change.scale = settings.scale(module, down.shape[0]);
            }
        }
        let name = directory.canonicalize().unwrap_or_else(|_| directory.into());
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Adapter { name, file, changes })
    }

    /// Checks that every change has its place among the tensors of a base.
    ///
    /// # Errors
    /// If there is no such tensor, or it has another shape, by file and tensor: the adapter is of another model.
    pub(super) fn check<'a>(
        &self,
        placed: impl Iterator<Item = (Shape, &'a PlacedTensor)>,
        base: &Path,
    ) -> Result<(), ModelError> {
        let mut shapes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (shape, placed) in placed {
            let place = &placed.place;
            if place.stacked.is_none() {
                let straight = crate::family::Place { transposed: false, as_row: false, ..place.clone() };
                shapes.insert(&place.name, straight.stored_shape(shape));
            }
        }
        for (name, change) in &self.changes {
            let Some(expected) = shapes.get(name.as_str()) else {
                let expected = format!("a change of a tensor of {}", base.display());
                let found = format!(
                    "one of `{}`, which is not there: it is an adapter of another model",
                    shorten(name)
                );
                return Err(malformed(&self.file, change.any_name(), expected, found));
            };
            change.check_shapes(expected, &self.file, base)?;
        }
        Ok(())
    }

    /// True if a tensor of the base is changed.
    pub(super) fn changes(&self, name: &str) -> bool {
        self.changes.contains_key(name)
    }

    /// The merged values of some outputs of a stored tensor, in place of the base's: `[outputs, inputs]`.
    pub(super) fn merge(
        &self,
        name: &str,
        outputs: impl Iterator<Item = usize> + Clone,
        inputs: usize,
        values: &mut [f32],
    ) {
        let Some(change) = self.changes.get(name) else { return };
        change.merge(outputs, inputs.max(1), values);
    }
}

/// Name of the base's tensor that an adapter's tensor changes, with the part of the change that it is.
fn target(name: &str) -> Option<(String, Part, bool)> {
    let name = name.strip_prefix(PREFIX)?;
    for (ending, part, is_embedding) in [
        (".lora_A.weight", Part::Down, false),
        (".lora_B.weight", Part::Up, false),
        (".lora_embedding_A", Part::Down, true),
        (".lora_embedding_B", Part::Up, true),
        (".lora_magnitude_vector", Part::Magnitude, false),
        (".lora_magnitude_vector.weight", Part::Magnitude, false),
    ] {
        if let Some(module) = name.strip_suffix(ending) {
            return Some((format!("{module}.weight"), part, is_embedding));
        }
    }
    // Layers that were trained whole, and biases.
    Some((name.replace(".base_layer", "").replace(".modules_to_save", ""), Part::Whole, false))
}

impl Change {
    /// Name of one of its tensors.
    fn any_name(&self) -> &str {
        let all = [&self.down, &self.up, &self.magnitude, &self.whole];
        all.into_iter().flatten().next().map_or("", |tensor| &tensor.name)
    }

    /// Checks that factors come in pairs of the same rank.
    fn check_factors(&self, file: &Path) -> Result<(), ModelError> {
        let one_of_two = |tensor: &StoredTensor, other: &str| {
            Err(malformed(file, &tensor.name, format!("the factor {other} beside it"), "no such tensor"))
        };
        match (&self.down, &self.up, &self.whole) {
            (Some(down), Some(up), _) => {
                let ([rank, _], [_, other]) = (&down.shape[..], &up.shape[..]) else {
                    let found = format!("{:?} and {:?}", down.shape, up.shape);
                    return Err(malformed(file, &down.name, "two matrices of factors", found));
                };
                if rank != other || *rank == 0 {
                    let found = format!("{other}");
                    return Err(malformed(
                        file,
                        &up.name,
                        format!("the rank {rank} of `{}`", down.name),
                        found,
                    ));
                }
                if self.is_embedding && self.magnitude.is_some() {
                    let advice = "merge it with PEFT (merge_and_unload), and give the merged checkpoint";
                    return Err(ModelError::unsupported(file, "a DoRA adapter of embeddings", advice));
                }
                Ok(())
            }
            (None, None, Some(whole)) if self.magnitude.is_some() => one_of_two(whole, "lora_A"),
            (None, None, Some(_)) => Ok(()),
            (Some(down), None, _) => one_of_two(down, "lora_B"),
            (None, Some(up), _) => one_of_two(up, "lora_A"),
            (None, None, None) => match &self.magnitude {
                Some(magnitude) => one_of_two(magnitude, "lora_A"),
                None => Ok(()),
            },
        }
    }

    /// Checks its tensors against the shape of the base's, `[outputs, inputs]` of a matrix.
    fn check_shapes(&self, base: &[usize], file: &Path, path: &Path) -> Result<(), ModelError> {
        let check = |tensor: &Option<StoredTensor>, expected: Vec<usize>| {
            let Some(tensor) = tensor.as_ref().filter(|tensor| tensor.shape != expected) else {
                return Ok(());
            };
            let expected = format!("{expected:?}, as {} needs", path.display());
            let found = format!("{:?}: it is an adapter of another model", tensor.shape);
            Err(malformed(file, &tensor.name, expected, found))
        };
        check(&self.whole, base.to_vec())?;
        let Some(down) = &self.down else { return Ok(()) };
        let ([outputs, inputs], [rank, _]) = (base, &down.shape[..]) else {
            return check(&self.down, base.to_vec());
        };
        let (outer, inner) = if self.is_embedding { (inputs, outputs) } else { (outputs, inputs) };
        check(&self.down, vec![*rank, *inner])?;
        check(&self.up, vec![*outer, *rank])?;
        check(&self.magnitude, vec![*outputs])
    }

    fn merge(&self, outputs: impl Iterator<Item = usize> + Clone, inputs: usize, values: &mut [f32]) {
        if let Some(whole) = &self.whole {
            let whole = floats(whole);
            for (output, row) in outputs.clone().zip(values.chunks_exact_mut(inputs)) {
                row.copy_from_slice(&whole[output * inputs..][..inputs]);
            }
        }
        let (Some(down), Some(up)) = (&self.down, &self.up) else { return };
        let (rank, width) = (down.shape[0], down.shape[1]);
        let (down, up) = (floats(down), floats(up));
        let lengths = self.magnitude.as_ref().map(floats);
        for (output, row) in outputs.zip(values.chunks_exact_mut(inputs)) {
            for index in 0..rank {
                if self.is_embedding {
                    // A token's row is its column of the first factor by the second one.
                    let factor = self.scale * down[index * width + output];
                    for (input, value) in row.iter_mut().enumerate() {
                        *value += factor * up[input * rank + index];
                    }
                } else {
                    let factor = self.scale * up[output * rank + index];
                    for (value, down) in row.iter_mut().zip(&down[index * width..][..width]) {
                        *value += factor * down;
                    }
                }
            }
            if let Some(lengths) = &lengths {
                let square: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
                let factor = lengths[output] / square.sqrt() as f32;
                row.iter_mut().for_each(|value| *value *= factor);
            }
        }
    }
}

/// Settings from which scales follow.
struct Settings {
    alpha: f64,
    /// True if scales fall with the root of the rank.
    is_stabilised: bool,
    /// Other values of `alpha`, for modules whose names match.
    alphas: Vec<(Regex, f64)>,
}

impl Settings {
    fn read(config: &Config) -> Result<Settings, ModelError> {
        const KNOWN: [&str; 2] = ["use_rslora", "use_dora"];
        const SAFE_STARTS: [&str; 3] = ["gaussian", "orthogonal", "eva"];
        const OTHERS: [&str; 7] = [
            "layer_replication",
            "alora_invocation_tokens",
            "trainable_token_indices",
            "target_parameters",
            "arrow_config",
            "kasa_config",
            "monteclora_config",
        ];
        let unsupported = |feature: String| {
            let advice = "merge it with PEFT (merge_and_unload), and give the merged checkpoint";
            ModelError::unsupported(config.path(), feature, advice)
        };
        let kind = config.text("peft_type")?;
        if kind != "LORA" {
            return Err(unsupported(format!("an adapter of type {}", shorten(kind))));
        }
        let variants = config.keys().filter(|key| key.starts_with("use_") && !KNOWN.contains(key));
        for key in variants.map(str::to_owned).collect::<Vec<String>>() {
            if config.optional_flag(&key)? == Some(true) {
                return Err(unsupported(format!("an adapter with `{key}`")));
            }
        }
        if let Some(key) = OTHERS.into_iter().find(|key| config.gives(key)) {
            return Err(unsupported(format!("an adapter with `{key}`")));
        }
        // A word names a way to begin that changes the base, of which the base's own file knows nothing.
        if let Ok(Some(start)) = config.optional_text("init_lora_weights")
            && !SAFE_STARTS.contains(&start)
        {
            return Err(unsupported(format!("an adapter with `init_lora_weights` {}", shorten(start))));
        }
        if config.optional_flag("lora_bias")? == Some(true) {
            return Err(unsupported("an adapter with `lora_bias`".into()));
        }
        let mut alphas = Vec::new();
        if let Some(patterns) = config.section("alpha_pattern")? {
            for pattern in patterns.keys().map(str::to_owned).collect::<Vec<String>>() {
                // As PEFT matches them: the end of a module's name.
                let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")).map_err(|_| {
                    patterns.wrong(&pattern, "a regular expression as key", &Value::from(pattern.as_str()))
                })?;
                alphas.push((regex, patterns.number(&pattern)?));
            }
        }
        Ok(Settings {
            alpha: config.number("lora_alpha")?,
            is_stabilised: config.optional_flag("use_rslora")?.unwrap_or(false),
            alphas,
        })
    }

    fn scale(&self, module: &str, rank: usize) -> f32 {
        let other = self.alphas.iter().find(|(pattern, _)| pattern.is_match(module).unwrap_or(false));
        let alpha = other.map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        (alpha / if self.is_stabilised { rank.sqrt() } else { rank }) as f32
    }
}

fn floats(tensor: &StoredTensor) -> Vec<f32> {
    let Encoding::Format(format) = tensor.encoding else { unreachable!("its type was checked") };
    let mut values = vec![0.0; tensor.shape.iter().product()];
    format.decode(&tensor.bytes, &mut values);
    values
}

fn malformed(file: &Path, tensor: &str, expected: impl Into<String>, found: impl Into<String>) -> ModelError {
    ModelError::malformed(file, format!("tensor `{}`", shorten(tensor)), expected, found)
}
