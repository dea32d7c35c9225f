//! Locations of tensors in checkpoints: the names that most families share, and the ways in which they differ.

use std::iter::StepBy;
use std::ops::Range;

use crate::{LayerRole, ModelSpec, Role, Shape};

/// Convention of naming and storing tensors that a checkpoint follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Hugging Face transformers.
    Hub,
    /// MLX, which names as the hub does but stores every projection as `[outputs, inputs]`.
    Mlx,
    /// llama.cpp.
    Gguf,
}

/// The stored tensor that holds a role, and which part of it.
///
/// A tensor that holds several matrices of one shape, as those of all experts, has them along its first dimension.
/// What is left, `[outputs, inputs]` or transposed, may hold the outputs of several roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Name, in hub layouts without the prefix that all tensors of the model share.
    pub(crate) name: String,
    /// Index of the matrix that is meant, if it holds several.
    pub(crate) stacked: Option<Stacked>,
    /// The share of its outputs that belongs to the role.
    pub(crate) part: Part,
    /// True if it is stored as `[inputs, outputs]`.
    pub(crate) transposed: bool,
    /// True if it is a vector that is stored as a matrix of one row.
    pub(crate) as_row: bool,
}

/// A position along the first dimension of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stacked {
    /// The position.
    pub(crate) index: usize,
    /// Number of matrices.
    pub(crate) of: usize,
}

/// The part of a stored matrix that belongs to a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// These of its outputs, where several roles are stored one after the other.
    Outputs {
        /// First to one past the last.
        range: Range<usize>,
        /// Number of outputs of the stored tensor.
        of: usize,
    },
    /// Interleaved outputs, where several roles take turns.
    Interleaved {
        /// The first one.
        first: usize,
        /// Number of roles that take turns.
        step: usize,
    },
}

impl Place {
    pub(crate) fn whole(name: impl Into<String>) -> Place {
        Place { name: name.into(), stacked: None, part: Part::Whole, transposed: false, as_row: false }
    }

    pub(crate) fn part(self, range: Range<usize>, of: usize) -> Place {
        Place { part: Part::Outputs { range, of }, ..self }
    }

    pub(crate) fn interleaved(self, first: usize, step: usize) -> Place {
        Place { part: Part::Interleaved { first, step }, ..self }
    }

    pub(crate) fn stacked(self, index: usize, of: usize) -> Place {
        Place { stacked: Some(Stacked { index, of }), ..self }
    }

    pub(crate) fn transposed(self) -> Place {
        Place { transposed: true, ..self }
    }

    pub(crate) fn in_one_row(self) -> Place {
        Place { as_row: true, ..self }
    }

    /// Outputs of the stored matrix, of which `outputs` belong to the role.
    pub(crate) fn stored_outputs(&self, outputs: usize) -> usize {
        match self.part {
            Part::Whole => outputs,
            Part::Outputs { of, .. } => of,
            Part::Interleaved { step, .. } => outputs * step,
        }
    }

    /// Shape of the stored tensor that holds a role of this shape, outermost dimension first.
    pub(crate) fn stored_shape(&self, shape: Shape) -> Vec<usize> {
        let stacked = self.stacked.iter().map(|stacked| stacked.of);
        let matrix = match shape {
            Shape::Vector(outputs) if self.as_row => vec![1, self.stored_outputs(outputs)],
            Shape::Vector(outputs) => vec![self.stored_outputs(outputs)],
            Shape::Matrix(outputs, inputs) if self.transposed => vec![inputs, self.stored_outputs(outputs)],
            Shape::Matrix(outputs, inputs) => vec![self.stored_outputs(outputs), inputs],
        };
        stacked.chain(matrix).collect()
    }

    /// The outputs, of `count` stored ones, that belong to the role.
    pub(crate) fn outputs(&self, count: usize) -> StepBy<Range<usize>> {
        let (range, step) = match &self.part {
            Part::Whole => (0..count, 1),
            Part::Outputs { range, .. } => (range.clone(), 1),
            Part::Interleaved { first, step } => (*first..count, *step),
        };
        range.step_by(step)
    }
}

/// Prefixes of the names of a hub checkpoint's tensors: before those of the decoder, and before that
/// of the head. The first is where the decoder of a causal model lies, the others are the variants of
/// multimodal models, of GPT-2, and of checkpoints of the decoder alone.
pub(crate) const HUB_PREFIXES: &[(&str, &str)] = &[
    ("model.", ""),
    ("language_model.model.", "language_model."),
    ("model.language_model.", ""),
    ("transformer.", ""),
    ("", ""),
];

/// Tensors that hold no knowledge and turn up in checkpoints of any family: tables that follow from the
/// configuration. (`rope_freqs` of GGUF files does matter and becomes part of the spec.)
pub(super) const UNUSED_ANYWHERE: &[&str] = &["*rotary_emb.inv_freq", "rope_freqs.weight"];

/// Location of a tensor unless its family differs.
pub(super) fn common(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    match layout {
        Layout::Gguf => gguf_place(spec, role),
        Layout::Hub | Layout::Mlx => {
            let norms_attention_output = match role {
                Role::Layer(layer, _) => spec.layers[layer].post_attention_norm.is_some(),
                _ => false,
            };
            let place = Place::whole(role.tensor_name(norms_attention_output));
            match role {
                Role::Layer(_, LayerRole::SharedGate) => place.in_one_row(),
                _ => place,
            }
        }
    }
}

/// As [`common`], where hub checkpoints of a family have other words for some tensors: pairs of the common word
/// and theirs, without `layers.N.` and without `.weight` or `.bias`.
pub(super) fn renamed(spec: &ModelSpec, role: Role, layout: Layout, words: &[(&str, &str)]) -> Place {
    let place = common(spec, role, layout);
    if layout == Layout::Gguf {
        return place;
    }
    let prefix = match role {
        Role::Layer(layer, _) => format!("layers.{layer}."),
        _ => String::new(),
    };
    let renamed = place.name.strip_prefix(&prefix).and_then(|name| {
        let (word, kind) = name.rsplit_once('.')?;
        let (_, theirs) = words.iter().find(|(common, _)| *common == word)?;
        Some(format!("{prefix}{theirs}.{kind}"))
    });
    match renamed {
        Some(name) => Place { name, ..place },
        None => place,
    }
}

/// As [`common`], where hub checkpoints keep the step that every token passes beside a mixture in a module of the name
/// `step`.
pub(super) fn with_shared_step(spec: &ModelSpec, role: Role, layout: Layout, step: &str) -> Place {
    let Role::Layer(layer, _) = role else { return common(spec, role, layout) };
    if spec.layers[layer].feed_forward.mixture().is_none() {
        return common(spec, role, layout);
    }
    let theirs = ["gate_proj", "up_proj", "down_proj"].map(|matrix| format!("{step}.{matrix}"));
    let [gate, up, down] = &theirs;
    renamed(spec, role, layout, &[("mlp.gate_proj", gate), ("mlp.up_proj", up), ("mlp.down_proj", down)])
}

/// As [`with_shared_step`], with the name of DeepSeek and of models that copied it.
pub(super) fn with_shared_experts(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    with_shared_step(spec, role, layout, "mlp.shared_experts")
}

/// As `usual`, where llama.cpp names the feed-forward norm after the branch that it follows.
pub(super) fn with_late_gguf_norm(
    spec: &ModelSpec,
    role: Role,
    layout: Layout,
    usual: fn(&ModelSpec, Role, Layout) -> Place,
) -> Place {
    match (role, layout) {
        (Role::Layer(layer, LayerRole::FeedForwardNorm), Layout::Gguf) => {
            Place::whole(format!("blk.{layer}.post_attention_norm.weight"))
        }
        _ => usual(spec, role, layout),
    }
}

fn gguf_place(spec: &ModelSpec, role: Role) -> Place {
    use LayerRole::*;
    let (layer, role) = match role {
        Role::Embedding => return Place::whole("token_embd.weight"),
        Role::PositionEmbedding => return Place::whole("position_embd.weight"),
        Role::PerLayerEmbedding => return Place::whole("per_layer_token_embd.weight"),
        Role::PerLayerModelProjection => return Place::whole("per_layer_model_proj.weight"),
        Role::PerLayerProjectionNorm => return Place::whole("per_layer_proj_norm.weight"),
        Role::FinalNorm => return Place::whole("output_norm.weight"),
        Role::FinalNormBias => return Place::whole("output_norm.bias"),
        Role::Head => return Place::whole("output.weight"),
        Role::HeadBias => return Place::whole("output.bias"),
        Role::Layer(layer, role) => (layer, role),
    };
    let feed_forward = &spec.layers[layer].feed_forward;
    let gated = feed_forward.is_gated();
    let mixture = feed_forward.mixture();
    // The step beside experts has a name of its own where it reads what they read.
    let is_shared = mixture.is_some_and(|mixture| mixture.branch.is_none());
    let expert_count = mixture.map_or(0, |mixture| mixture.experts);
    let expert =
        |index, suffix: &str| Place::whole(format!("blk.{layer}.{suffix}")).stacked(index, expert_count);
    let attention = &spec.layers[layer].attention;
    let head_norm =
        |index, suffix: &str, of| Place::whole(format!("blk.{layer}.{suffix}")).stacked(index, of);
    let suffix = match role {
        AttentionNorm => "attn_norm.weight",
        AttentionNormBias => "attn_norm.bias",
        PostAttentionNorm => "post_attention_norm.weight",
        PostAttentionNormBias => "post_attention_norm.bias",
        FeedForwardNorm => "ffn_norm.weight",
        FeedForwardNormBias => "ffn_norm.bias",
        PostFeedForwardNorm => "post_ffw_norm.weight",
        PostFeedForwardNormBias => "post_ffw_norm.bias",
        Query if attention.query_rank.is_some() => "attn_q_b.weight",
        Query => "attn_q.weight",
        QueryBias => "attn_q.bias",
        QueryNorm => "attn_q_norm.weight",
        QueryHeadNorm(head) => return head_norm(head, "attn_q_norm.weight", attention.heads),
        QueryDown => "attn_q_a.weight",
        QueryDownNorm => "attn_q_a_norm.weight",
        Key => "attn_k.weight",
        KeyBias => "attn_k.bias",
        KeyNorm => "attn_k_norm.weight",
        KeyHeadNorm(head) => return head_norm(head, "attn_k_norm.weight", attention.kv_heads),
        Value => "attn_v.weight",
        ValueBias => "attn_v.bias",
        ValueNorm => "attn_v_norm.weight",
        KeyValueDown => "attn_kv_a_mqa.weight",
        KeyValueNorm => "attn_kv_a_norm.weight",
        KeyValueUp => "attn_kv_b.weight",
        Sinks => "attn_sinks.weight",
        AttentionOutput => "attn_output.weight",
        AttentionOutputBias => "attn_output.bias",
        Gate if is_shared => "ffn_gate_shexp.weight",
        Up if is_shared => "ffn_up_shexp.weight",
        Down if is_shared => "ffn_down_shexp.weight",
        // A plain feed-forward's input projection plays the gate's role here and is `up` there.
        Gate if gated => "ffn_gate.weight",
        GateBias if gated => "ffn_gate.bias",
        Gate | Up => "ffn_up.weight",
        GateBias | UpBias => "ffn_up.bias",
        Down => "ffn_down.weight",
        DownBias => "ffn_down.bias",
        Router => "ffn_gate_inp.weight",
        RouterBias => "ffn_gate_inp.bias",
        RouterCorrection => "exp_probs_b.bias",
        RouterInputScale => "ffn_gate_inp.scale",
        ExpertScale => "ffn_down_exps.scale",
        ExpertGate(index) => return expert(index, "ffn_gate_exps.weight"),
        ExpertGateBias(index) => return expert(index, "ffn_gate_exps.bias"),
        ExpertUp(index) => return expert(index, "ffn_up_exps.weight"),
        ExpertUpBias(index) => return expert(index, "ffn_up_exps.bias"),
        ExpertDown(index) => return expert(index, "ffn_down_exps.weight"),
        ExpertDownBias(index) => return expert(index, "ffn_down_exps.bias"),
        ExpertInputNorm => "pre_ffw_norm_2.weight",
        ExpertOutputNorm => "post_ffw_norm_2.weight",
        SharedOutputNorm => "post_ffw_norm_1.weight",
        SharedGate => "ffn_gate_inp_shexp.weight",
        PerLayerGate => "inp_gate.weight",
        PerLayerProjection => "proj.weight",
        PerLayerNorm => "post_norm.weight",
        OutputScale => "layer_output_scale.weight",
    };
    Place::whole(format!("blk.{layer}.{suffix}"))
}
