//! Where tensors lie in checkpoints: the names that most families share, and how to say where one differs.

use std::ops::Range;

use crate::{LayerRole, ModelSpec, Role};

/// Whose habits of naming and storing tensors a checkpoint follows.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Name, in hub layouts without the prefix that all tensors of the model share.
    pub(crate) name: String,
    /// The share of its outputs that belongs to the role.
    pub(crate) part: Part,
    /// Whether it is stored as `[inputs, outputs]`.
    pub(crate) transposed: bool,
}

/// How much of a stored tensor belongs to a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// These of its outputs, where several roles are stored as one tensor.
    Outputs {
        /// First to one past the last.
        range: Range<usize>,
        /// How many outputs the stored tensor has in all.
        of: usize,
    },
}

impl Place {
    pub(crate) fn whole(name: impl Into<String>) -> Place {
        Place { name: name.into(), part: Part::Whole, transposed: false }
    }

    pub(crate) fn part(self, range: Range<usize>, of: usize) -> Place {
        Place { part: Part::Outputs { range, of }, ..self }
    }

    pub(crate) fn transposed(self) -> Place {
        Place { transposed: true, ..self }
    }
}

/// What stands before the names of a hub checkpoint's tensors: before those of the decoder, and before that
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

/// Where a tensor lies unless its family says otherwise.
pub(super) fn common(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    match layout {
        Layout::Gguf => Place::whole(gguf_name(spec, role)),
        Layout::Hub | Layout::Mlx => {
            let norms_attention_output = match role {
                Role::Layer(layer, _) => spec.layers[layer].post_attention_norm.is_some(),
                _ => false,
            };
            Place::whole(role.tensor_name(norms_attention_output))
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

fn gguf_name(spec: &ModelSpec, role: Role) -> String {
    use LayerRole::*;
    let (layer, role) = match role {
        Role::Embedding => return "token_embd.weight".into(),
        Role::PositionEmbedding => return "position_embd.weight".into(),
        Role::FinalNorm => return "output_norm.weight".into(),
        Role::FinalNormBias => return "output_norm.bias".into(),
        Role::Head => return "output.weight".into(),
        Role::HeadBias => return "output.bias".into(),
        Role::Layer(layer, role) => (layer, role),
    };
    let gated = spec.layers[layer].feed_forward.is_gated();
    let suffix = match role {
        AttentionNorm => "attn_norm.weight",
        AttentionNormBias => "attn_norm.bias",
        PostAttentionNorm => "post_attention_norm.weight",
        PostAttentionNormBias => "post_attention_norm.bias",
        FeedForwardNorm => "ffn_norm.weight",
        FeedForwardNormBias => "ffn_norm.bias",
        PostFeedForwardNorm => "post_ffw_norm.weight",
        PostFeedForwardNormBias => "post_ffw_norm.bias",
        Query => "attn_q.weight",
        QueryBias => "attn_q.bias",
        QueryNorm => "attn_q_norm.weight",
        Key => "attn_k.weight",
        KeyBias => "attn_k.bias",
        KeyNorm => "attn_k_norm.weight",
        Value => "attn_v.weight",
        ValueBias => "attn_v.bias",
        AttentionOutput => "attn_output.weight",
        AttentionOutputBias => "attn_output.bias",
        // A plain feed-forward's input projection plays the gate's role here and is `up` there.
        Gate if gated => "ffn_gate.weight",
        GateBias if gated => "ffn_gate.bias",
        Gate | Up => "ffn_up.weight",
        GateBias | UpBias => "ffn_up.bias",
        Down => "ffn_down.weight",
        DownBias => "ffn_down.bias",
    };
    format!("blk.{layer}.{suffix}")
}
