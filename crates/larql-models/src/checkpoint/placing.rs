//! Assignment of stored tensors to roles.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use larql_compute::Format;

use super::affine::Packing;
use super::quantised::{Quantised, Scheme, Shelf};
use crate::config::shorten;
use crate::family::{Family, HUB_PREFIXES, Layout, Place, Stacked};
use crate::tensor::{Encoding, StoredTensor};
use crate::{KeysAndValues, LayerRole, ModelError, ModelSpec, Role, Shape};

/// Layout of MLX's codes in safetensors.
const CODES: Encoding = Encoding::Other("U32");

/// A role's tensor, checked.
#[derive(Debug)]
pub(super) struct PlacedTensor {
    /// Index of the stored tensor.
    pub(super) tensor: usize,
    /// Tensors that belong to it and are stored apart.
    pub(super) apart: Companion,
    /// Encoding of the values.
    pub(super) format: Format,
    /// The part of it that is meant.
    pub(super) place: Place,
}

/// Tensors that belong to another one, by index.
#[derive(Clone, Debug)]
pub(super) enum Companion {
    /// There are none.
    Nothing,
    /// The scales of MXFP4.
    Scales(usize),
    /// The scales and minima of MLX's groups.
    Groups { scales: usize, minima: usize, packing: Packing },
    /// The values' share of a projection from latent vectors, where the tensor itself holds the keys', turned: as
    /// llama.cpp stores them, for each head `[rank, own]` and `[value, rank]`.
    LatentValues(usize),
    /// Scales and the like of a library for quantising.
    Quantised(Box<Quantised>),
}

impl PlacedTensor {
    /// Indices of the stored tensors that it takes.
    pub(super) fn tensors(&self) -> impl Iterator<Item = usize> + use<> {
        let apart = match &self.apart {
            Companion::Nothing => Vec::new(),
            Companion::Scales(other) | Companion::LatentValues(other) => vec![*other],
            Companion::Groups { scales, minima, .. } => vec![*scales, *minima],
            Companion::Quantised(quantised) => quantised.tensors().to_vec(),
        };
        std::iter::once(self.tensor).chain(apart)
    }
}

/// Finds each role's tensor among those of a checkpoint.
pub(super) struct TensorPlacement<'a> {
    pub(super) family: &'static Family,
    pub(super) spec: &'a ModelSpec,
    pub(super) layout: Layout,
    /// The checkpoint, for messages.
    pub(super) path: &'a Path,
    /// The way in which a library quantised it.
    pub(super) scheme: Option<&'a Scheme>,
    /// The files of the tensors, and for each tensor the index of its file; for messages.
    pub(super) files: (&'a [PathBuf], &'a [usize]),
}

impl TensorPlacement<'_> {
    /// Finds the tensor of each role of the spec. Every one must be there in its shape, and no tensor may be left over
    /// that is not known to be of no use.
    pub(super) fn place(&self, tensors: &[StoredTensor]) -> Result<HashMap<Role, PlacedTensor>, ModelError> {
        let by_name: HashMap<&str, usize> =
            tensors.iter().enumerate().map(|(index, tensor)| (tensor.name.as_str(), index)).collect();
        let prefixes = self.prefixes(&by_name);

        let shelf = Shelf { tensors, by_name: &by_name, files: self.files.0, file_of: self.files.1 };

        let mut all = HashMap::new();
        for (role, shape) in self.spec.tensors() {
            let place = self.of_its_time(role, self.full_place(role, prefixes), &by_name);
            let place = self.stacked_by_mlx(role, place, &by_name);
            if let Some(quantised) = self.quantised(&shelf, shape, &place)? {
                let tensor = quantised.tensors()[0];
                let apart = Companion::Quantised(Box::new(quantised));
                all.insert(role, PlacedTensor { tensor, apart, format: Format::AFFINE8, place });
                continue;
            }
            let find = |ending: &str| by_name.get(format!("{}{ending}", place.name).as_str()).copied();
            let group = |part: &str| {
                by_name.get(&*format!("{}.{part}", place.name.strip_suffix(".weight")?)).copied()
            };
            let placed = match (find(""), find("_blocks"), find("_scales")) {
                (Some(tensor), _, _) => match (group("scales"), group("biases")) {
                    (Some(scales), Some(minima)) if tensors[tensor].encoding == CODES => {
                        let all = [tensor, scales, minima].map(|index| &tensors[index]);
                        let packing = self.check_groups(role, shape, &place, all)?;
                        let apart = Companion::Groups { scales, minima, packing };
                        PlacedTensor { tensor, apart, format: Format::AFFINE8, place }
                    }
                    _ => {
                        let format = self.check(role, shape, &place, &tensors[tensor])?;
                        PlacedTensor { tensor, apart: Companion::Nothing, format, place }
                    }
                },
                (None, Some(blocks), Some(scales)) => {
                    self.check_packed(role, shape, &place, [&tensors[blocks], &tensors[scales]])?;
                    // Packing turns matrices so that the inputs of an output lie together.
                    let place = Place { transposed: false, ..place };
                    PlacedTensor {
                        tensor: blocks,
                        apart: Companion::Scales(scales),
                        format: Format::MXFP4,
                        place,
                    }
                }
                _ => match self.latent_halves(role, &by_name) {
                    Some([keys, values]) => {
                        self.check_latent_halves(role, [&tensors[keys], &tensors[values]])?;
                        PlacedTensor {
                            tensor: keys,
                            apart: Companion::LatentValues(values),
                            format: Format::F32,
                            place,
                        }
                    }
                    None => return Err(self.missing(role, place)),
                },
            };
            all.insert(role, placed);
        }
        self.account_for_the_rest(tensors, &all, prefixes)?;
        Ok(all)
    }

    /// The place as GGUF files of 2023 have it, where it is another: a tensor for each expert, and one for queries, keys
    /// and values together.
    fn of_its_time(&self, role: Role, place: Place, by_name: &HashMap<&str, usize>) -> Place {
        if self.layout != Layout::Gguf || by_name.contains_key(place.name.as_str()) {
            return place;
        }
        let older = match (place.stacked, role) {
            (Some(Stacked { index, .. }), _) => {
                Place::whole(place.name.replace("_exps.", &format!(".{index}.")))
            }
            (None, Role::Layer(layer, role)) => {
                let attention = &self.spec.layers[layer].attention;
                let [queries, keys] =
                    [attention.heads, attention.kv_heads].map(|heads| heads * attention.head_dim);
                let (ending, range) = match role {
                    LayerRole::Query => ("weight", 0..queries),
                    LayerRole::Key => ("weight", queries..queries + keys),
                    LayerRole::Value => ("weight", queries + keys..queries + 2 * keys),
                    LayerRole::QueryBias => ("bias", 0..queries),
                    LayerRole::KeyBias => ("bias", queries..queries + keys),
                    LayerRole::ValueBias => ("bias", queries + keys..queries + 2 * keys),
                    _ => return place,
                };
                Place::whole(format!("blk.{layer}.attn_qkv.{ending}")).part(range, queries + 2 * keys)
            }
            _ => return place,
        };
        if by_name.contains_key(older.name.as_str()) { older } else { place }
    }

    /// The place as mlx-lm has it for a projection of an expert: one tensor holds those of all experts of a layer.
    fn stacked_by_mlx(&self, role: Role, place: Place, by_name: &HashMap<&str, usize>) -> Place {
        use LayerRole::*;
        let Role::Layer(layer, role) = role else { return place };
        let (expert, projection) = match role {
            _ if self.layout != Layout::Mlx => return place,
            ExpertGate(expert) => (expert, "gate_proj.weight"),
            ExpertGateBias(expert) => (expert, "gate_proj.bias"),
            ExpertUp(expert) => (expert, "up_proj.weight"),
            ExpertUpBias(expert) => (expert, "up_proj.bias"),
            ExpertDown(expert) => (expert, "down_proj.weight"),
            ExpertDownBias(expert) => (expert, "down_proj.bias"),
            _ => return place,
        };
        let of = self.spec.layers[layer].feed_forward.mixture().map_or(0, |mixture| mixture.experts);
        let prefix = place.name.split("layers.").next().unwrap_or_default();
        // The last one is GPT-OSS's.
        let modules = ["mlp.switch_mlp", "block_sparse_moe.switch_mlp", "mlp.experts"];
        let names = modules.map(|module| format!("{prefix}layers.{layer}.{module}.{projection}"));
        match names.into_iter().find(|name| by_name.contains_key(name.as_str())) {
            Some(name) => Place::whole(name).stacked(expert, of),
            None => place,
        }
    }

    /// The matrix at a place, if a library quantised it. It does so with one matrix at a time.
    fn quantised(
        &self,
        shelf: &Shelf<'_>,
        shape: Shape,
        place: &Place,
    ) -> Result<Option<Quantised>, ModelError> {
        let (Some(scheme), Shape::Matrix(outputs, inputs)) = (self.scheme, shape) else { return Ok(None) };
        let Some(stem) = place.name.strip_suffix(".weight").filter(|_| place.stacked.is_none()) else {
            return Ok(None);
        };
        scheme.find(shelf, stem, [place.stored_outputs(outputs), inputs])
    }

    /// Returns true if there is an output head among the tensors.
    pub(super) fn holds_head(&self, tensors: &[StoredTensor]) -> bool {
        let by_name: HashMap<&str, usize> = tensors.iter().map(|tensor| (tensor.name.as_str(), 0)).collect();
        let head = self.full_place(Role::Head, self.prefixes(&by_name)).name;
        by_name.contains_key(head.as_str())
    }

    /// Prefixes of the names of the decoder's tensors, and of the head's.
    fn prefixes(&self, by_name: &HashMap<&str, usize>) -> (&'static str, &'static str) {
        if self.layout == Layout::Gguf {
            return ("", "");
        }
        let embedding = (self.family.place)(self.spec, Role::Embedding, self.layout).name;
        let holds = |body: &str| by_name.contains_key(format!("{body}{embedding}").as_str());
        HUB_PREFIXES.iter().copied().find(|(body, _)| holds(body)).unwrap_or(HUB_PREFIXES[0])
    }

    fn full_place(&self, role: Role, (body, head): (&str, &str)) -> Place {
        let prefix = if matches!(role, Role::Head | Role::HeadBias) { head } else { body };
        let place = (self.family.place)(self.spec, role, self.layout);
        Place { name: format!("{prefix}{}", place.name), ..place }
    }

    fn missing(&self, role: Role, place: Place) -> ModelError {
        let path = self.path.into();
        match role {
            Role::Head => ModelError::Contradiction {
                path,
                problem: format!("`tie_word_embeddings` is false, but there is no `{}`", place.name),
            },
            _ => ModelError::MissingTensor { role, name: place.name, path },
        }
    }

    /// The format of a stored tensor that is as the role needs it.
    fn check(
        &self,
        role: Role,
        shape: Shape,
        place: &Place,
        found: &StoredTensor,
    ) -> Result<Format, ModelError> {
        let format = match found.encoding {
            Encoding::Format(format) if format.is_float() || !place.transposed => format,
            encoding => {
                return Err(ModelError::unsupported(
                    self.path,
                    format!("`{}` stored as {encoding}", place.name),
                    "use a checkpoint in F32, F16 or BF16, or a GGUF file",
                ));
            }
        };
        let expected = place.stored_shape(shape);
        // Files differ in whether a vector is a matrix of one row.
        let of_row = |shape: &[usize]| -> Option<usize> {
            match shape {
                [values] | [1, values] => Some(*values),
                _ => None,
            }
        };
        let is_vector = matches!(shape, Shape::Vector(_)) && place.stacked.is_none();
        if is_vector && of_row(&expected).is_some() && of_row(&expected) == of_row(&found.shape) {
            return Ok(format);
        }
        self.check_shape(role, expected, found).map(|()| format)
    }

    /// The tensors of keys and values that newer GGUF files have instead of the one that makes both.
    fn latent_halves(&self, role: Role, by_name: &HashMap<&str, usize>) -> Option<[usize; 2]> {
        let Role::Layer(layer, LayerRole::KeyValueUp) = role else { return None };
        let find = |half: &str| by_name.get(format!("blk.{layer}.{half}.weight").as_str()).copied();
        Some([find("attn_k_b")?, find("attn_v_b")?])
    }

    fn check_latent_halves(&self, role: Role, [keys, values]: [&StoredTensor; 2]) -> Result<(), ModelError> {
        let Role::Layer(layer, _) = role else { return Ok(()) };
        let attention = &self.spec.layers[layer].attention;
        let KeysAndValues::Latent { latent, shared_dims } = attention.keys_and_values else { return Ok(()) };
        let own = attention.head_dim - shared_dims;
        for (tensor, shape) in [(keys, [latent.rank, own]), (values, [attention.value_dim, latent.rank])] {
            self.check_shape(role, vec![attention.heads, shape[0], shape[1]], tensor)?;
            if let Encoding::Other(name) = tensor.encoding {
                let feature = format!("`{}` stored as {name}", tensor.name);
                return Err(ModelError::unsupported(self.path, feature, "use a file in a format of numbers"));
            }
        }
        Ok(())
    }

    /// Checks the two tensors of a matrix in MXFP4: blocks of 32 inputs in 16 bytes, and a byte of scale for each.
    fn check_packed(
        &self,
        role: Role,
        shape: Shape,
        place: &Place,
        [blocks, scales]: [&StoredTensor; 2],
    ) -> Result<(), ModelError> {
        if let Some(other) = [blocks, scales].into_iter().find(|t| t.encoding != Encoding::Other("U8")) {
            let feature = format!("`{}` stored as {}", other.name, other.encoding);
            return Err(ModelError::unsupported(self.path, feature, "packed experts are bytes"));
        }
        let mut expected = Place { transposed: false, ..place.clone() }.stored_shape(shape);
        let inputs = expected.pop().unwrap_or(1);
        expected.push(inputs.div_ceil(Format::MXFP4.block_len()));
        if Format::MXFP4.row_bytes(inputs).is_err() {
            let feature = format!("`{}` with rows of {inputs} values in blocks of 32", blocks.name);
            return Err(ModelError::unsupported(self.path, feature, "use the unpacked checkpoint"));
        }
        self.check_shape(role, expected.clone(), scales)?;
        expected.push(Format::MXFP4.block_bytes() - 1);
        self.check_shape(role, expected, blocks)
    }

    /// Checks the three tensors of a matrix in MLX's groups, and says how they are packed.
    fn check_groups(
        &self,
        role: Role,
        shape: Shape,
        place: &Place,
        [codes, scales, minima]: [&StoredTensor; 3],
    ) -> Result<Packing, ModelError> {
        let unsupported = |feature: String| {
            ModelError::unsupported(self.path, feature, "take the affine mode with groups of 32, 64 or 128")
        };
        let expected = place.stored_shape(shape);
        // The number of matrices, if there are several.
        let of: Vec<usize> = place.stacked.iter().map(|stacked| stacked.of).collect();
        let matrix = |shape: &[usize]| <[usize; 2]>::try_from(shape.strip_prefix(&of[..])?).ok();
        let (Some([outputs, inputs]), Some([rows, words]), Some([_, groups])) =
            (matrix(&expected), matrix(&codes.shape), matrix(&scales.shape))
        else {
            return Err(unsupported(format!("`{}` {:?} in groups", codes.name, codes.shape)));
        };
        if place.transposed || rows != outputs {
            return self
                .check_shape(role, expected, codes)
                .and_then(|()| Err(unsupported(codes.name.clone())));
        }
        for factors in [scales, minima] {
            self.check_shape(role, [&of[..], &[outputs, groups]].concat(), factors)?;
        }
        let factors = match (scales.encoding, minima.encoding) {
            (Encoding::Format(a), Encoding::Format(b)) if a == b && a.is_float() => a,
            (a, b) => return Err(unsupported(format!("groups of `{}` in {a} and {b}", codes.name))),
        };
        Packing::of(inputs, words, groups, factors).ok_or_else(|| {
            let name = &codes.name;
            unsupported(format!("`{name}`, {inputs} inputs in {words} words and {groups} groups,"))
        })
    }

    fn check_shape(&self, role: Role, expected: Vec<usize>, found: &StoredTensor) -> Result<(), ModelError> {
        if found.shape == expected {
            return Ok(());
        }
        let (name, found, path) = (found.name.clone(), found.shape.clone(), self.path.into());
        Err(ModelError::WrongShape { role, name, expected, found, path })
    }

    /// Fails if a tensor plays no role and is neither a copy of a tied head nor of a kind to ignore.
    fn account_for_the_rest(
        &self,
        tensors: &[StoredTensor],
        all: &HashMap<Role, PlacedTensor>,
        prefixes: (&str, &str),
    ) -> Result<(), ModelError> {
        const SHOWN: usize = 4;
        let used: HashSet<usize> = all.values().flat_map(PlacedTensor::tensors).collect();
        let head = self.full_place(Role::Head, prefixes).name;
        let unknown: Vec<&str> = (tensors.iter().enumerate())
            .filter(|(index, _)| !used.contains(index))
            .filter(|(_, tensor)| self.scheme.is_none_or(|scheme| !scheme.ignores(tensor)))
            .map(|(_, tensor)| tensor.name.as_str())
            .filter(|name| {
                !self.family.ignores(name, self.spec.layers.len()) && (*name != head || !self.spec.tied_head)
            })
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut examples: Vec<String> = unknown.iter().take(SHOWN).map(|name| shorten(name)).collect();
        if unknown.len() > SHOWN {
            examples.push("...".into());
        }
        Err(ModelError::UnknownTensors {
            path: self.path.into(),
            family: self.family.name.into(),
            count: unknown.len(),
            examples: examples.join(", "),
        })
    }
}
