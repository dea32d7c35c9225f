//! The components of a vindex: the files of each, the first level that has it, and the part of slices that it goes with.

use std::fmt;

use larql_models::{LayerRole, Role};
use larql_vindex_spec::ExtractLevel;

use crate::slice::SlicePart;

/// A part of a vindex, which is one file or a few.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// The manifest. A directory without it is not a vindex.
    Manifest,
    /// Locations of the named tensors.
    TensorManifest,
    /// The tokenizer and chat template.
    Tokenizer,
    /// Token embeddings `[vocab, hidden]`, unscaled; the head too, where it is tied.
    Embeddings,
    /// Gate rows `[features, hidden]`, layer after layer.
    Gate,
    /// The tokens that each feature writes.
    DownMeta,
    /// Norms and every other small tensor.
    Norms,
    /// Query, key, value and output projections, and the norms inside attention.
    Attention,
    /// Up projections `[features, hidden]`.
    Up,
    /// Down projections `[hidden, features]`.
    Down,
    /// Output head `[vocab, hidden]`, where it is not tied.
    Head,
    /// Matrices of the experts of a mixture, a file for each layer.
    Experts,
    /// Routers, which choose the experts of a token.
    Router,
    /// Inputs that tokens have in every layer, and what layers do with them.
    PerLayerInputs,
    /// Feed-forward matrices as blocks: gate, and from level inference on up and down, of layer after layer.
    FeedForward,
    /// The source's configuration: facts about the model beside its weights, such as the ids that end a text.
    Config,
    /// Formats and names of the source's tensors, so that it can be written back as it was.
    SourceTensors,
    /// Tensors of the source that the text model does not use, where they were to be kept.
    Unused,
    /// Tensors that edits took out of files of blocks, or that stay when the rest of their file goes.
    Edited,
    /// Facts that answer by resemblance, in vindexes that were compiled with them.
    KnnStore,
    /// The instructions that it was built by.
    History,
    /// Names of relations, written after extraction and outside the checksums.
    Labels,
    /// The card of the model, for readers of its repository; outside the checksums, as it may change.
    Readme,
}

/// Arrangement of tensors in files by a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Plain floats in bare files.
    Floats,
    /// Blocks of Q4_K and its relatives in bare files.
    Blocks,
    /// Each tensor as the source had it, in safetensors files.
    Source,
}

/// Constants of a component: one row of the table below.
struct Facts {
    component: Component,
    /// The component in sentences.
    name: &'static str,
    /// The lowest level whose preset includes it.
    level: ExtractLevel,
    /// The part of slices that its files go with; a file of tensors goes with those.
    part: SlicePart,
    /// Every file name that readers know it by.
    files: &'static [&'static str],
}

#[rustfmt::skip]
const FACTS: [Facts; 23] = {
    use Component::*;
    use ExtractLevel::{All, Attention as AttentionLevel, Browse, Inference};
    [
        Facts { component: Manifest, name: "the manifest", level: Browse, part: SlicePart::Manifest, files: &[MANIFEST_FILE] },
        Facts { component: TensorManifest, name: "the list of tensors", level: Browse, part: SlicePart::Manifest, files: &[TENSOR_MANIFEST_FILE] },
        Facts { component: Tokenizer, name: "the tokenizer", level: Browse, part: SlicePart::Tokenizer, files: &["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json", "additional_chat_templates/", "chat_templates/", "special_tokens_map.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json", TOKENIZER_GGUF_FILE] },
        Facts { component: Embeddings, name: "embeddings", level: Browse, part: SlicePart::Embeddings, files: &["embeddings.bin", "embeddings.safetensors"] },
        Facts { component: Gate, name: "gate rows", level: Browse, part: SlicePart::Gate, files: &["gate_vectors.bin", "gate_vectors.safetensors"] },
        Facts { component: DownMeta, name: "the tokens that features write", level: Browse, part: SlicePart::DownMeta, files: &[DOWN_META_FILE, DOWN_META_LINES_FILE] },
        Facts { component: Norms, name: "norms", level: Browse, part: SlicePart::Norms, files: &["norms.bin"] },
        Facts { component: Attention, name: "attention weights", level: AttentionLevel, part: SlicePart::Attention, files: &["attn_weights.bin", "attn_weights.safetensors", "attn_weights_q4k.bin", "attn_weights_q4k_manifest.json", "attn_weights_kquant.bin", "attn_weights_kquant_manifest.json"] },
        Facts { component: Up, name: "up projections", level: Inference, part: SlicePart::FeedForward, files: &["up_weights.bin", "up_weights.safetensors", "up_features.bin"] },
        Facts { component: Down, name: "down projections", level: Inference, part: SlicePart::FeedForward, files: &["down_weights.bin", "down_weights.safetensors", "down_features.bin"] },
        Facts { component: Head, name: "the output head", level: Inference, part: SlicePart::Head, files: &["lm_head.bin", "lm_head.safetensors", "lm_head_q4.bin", "lm_head_q4_manifest.json", "lm_head_kquant.bin", "lm_head_kquant_manifest.json"] },
        Facts { component: Experts, name: "files of experts", level: Inference, part: SlicePart::Experts, files: &["layers/"] },
        Facts { component: Router, name: "the router", level: Browse, part: SlicePart::Router, files: &["router_weights.bin"] },
        Facts { component: PerLayerInputs, name: "per-layer inputs", level: Inference, part: SlicePart::PerLayerInputs, files: &["ple_weights.bin", "ple_weights.safetensors"] },
        Facts { component: FeedForward, name: "blocks of feed-forward weights", level: Browse, part: SlicePart::FeedForward, files: &["interleaved_q4k.bin", "interleaved_q4k_manifest.json", "interleaved_kquant.bin", "interleaved_kquant_manifest.json"] },
        Facts { component: Config, name: "the source's configuration", level: Browse, part: SlicePart::Tokenizer, files: &["config.json", "generation_config.json"] },
        Facts { component: SourceTensors, name: "the list of the source's tensors", level: All, part: SlicePart::Source, files: &[larql_models::SourceTensors::FILE] },
        Facts { component: Unused, name: "unused tensors", level: All, part: SlicePart::Source, files: &[UNUSED_FILE] },
        Facts { component: Edited, name: "edited tensors", level: Browse, part: SlicePart::FeedForward, files: &[EDITED_FOLDER] },
        Facts { component: KnnStore, name: "the edge memory", level: Browse, part: SlicePart::EdgeMemory, files: &[KNN_STORE_FILE] },
        Facts { component: History, name: "the history of its build", level: Browse, part: SlicePart::Readme, files: &[HISTORY_FILE] },
        Facts { component: Labels, name: "labels", level: Browse, part: SlicePart::Labels, files: &[FEATURE_LABELS_FILE, RELATION_CLUSTERS_FILE, FEATURE_CLUSTERS_FILE, FEATURE_PATTERNS_FILE, "relation_templates.json", "feature_evidence.jsonl", "probe_facts.json", "probe_journal.jsonl"] },
        Facts { component: Readme, name: "the model card", level: Browse, part: SlicePart::Readme, files: &["README.md"] },
    ]
};

/// Name of the manifest.
pub(crate) const MANIFEST_FILE: &str = "index.json";
/// Name of the list of named tensors.
pub(crate) const TENSOR_MANIFEST_FILE: &str = "weight_manifest.json";
/// Ending of the files with the matrices of one layer's experts.
pub(crate) const LAYER_FILE_ENDING: &str = ".weights";
/// The metadata of a GGUF source, tokenizer included: a GGUF file without tensors.
pub(crate) const TOKENIZER_GGUF_FILE: &str = "tokenizer.gguf";
/// Tensors that the text model does not use, as the source had them.
pub(crate) const UNUSED_FILE: &str = "unused.safetensors";
/// Tokens that features write, as records of fixed size.
pub(crate) const DOWN_META_FILE: &str = "down_meta.bin";
/// The same as lines of JSON, in old files.
pub(crate) const DOWN_META_LINES_FILE: &str = "down_meta.jsonl";
/// Relations of single features.
pub(crate) const FEATURE_LABELS_FILE: &str = "feature_labels.json";
/// Kinds of words that single features write.
pub(crate) const FEATURE_PATTERNS_FILE: &str = "feature_patterns.json";
/// The edge memory.
pub(crate) const KNN_STORE_FILE: &str = "knn_store.bin";
/// The layers of the build that made it.
pub(crate) const HISTORY_FILE: &str = "history.json";
/// Folder of the tensors that edits took out of files of blocks.
pub(crate) const EDITED_FOLDER: &str = "edited/";
/// Groups of features and the relations they stand for.
pub(crate) const RELATION_CLUSTERS_FILE: &str = "relation_clusters.json";
/// The group of each feature.
pub(crate) const FEATURE_CLUSTERS_FILE: &str = "feature_clusters.jsonl";

impl Component {
    /// Every component, in the order in which files are written.
    pub fn all() -> impl Iterator<Item = Component> {
        FACTS.iter().map(|facts| facts.component)
    }

    fn facts(self) -> &'static Facts {
        let facts = &FACTS[self as usize];
        debug_assert_eq!(facts.component, self);
        facts
    }

    /// Returns the lowest level whose preset includes it.
    pub fn level(self) -> ExtractLevel {
        self.facts().level
    }

    /// Returns true if the preset of a level includes it.
    pub fn is_in_preset(self, preset: ExtractLevel) -> bool {
        self.level() <= preset
    }

    /// Returns the part of slices that its files go with, where they hold no tensors of other parts.
    pub fn part(self) -> SlicePart {
        self.facts().part
    }

    /// Returns true if the manifest has digests of its files: they stay as they are once the vindex is complete.
    pub fn has_checksums(self) -> bool {
        !matches!(self, Component::Manifest | Component::Labels | Component::Readme)
    }

    /// Every file name that it may have, those of older writers included. One that ends in a slash stands for the
    /// files of a folder.
    pub fn files(self) -> &'static [&'static str] {
        self.facts().files
    }

    /// The component that a file belongs to.
    pub fn of_file(name: &str) -> Option<Component> {
        let is = |file: &&'static str| *file == name || (file.ends_with('/') && name.starts_with(*file));
        Component::all().find(|component| component.files().iter().any(is))
    }

    /// The component that holds a tensor.
    pub(crate) fn of_role(role: Role) -> Component {
        use LayerRole::*;
        match role {
            Role::Embedding => Component::Embeddings,
            Role::Head => Component::Head,
            Role::Layer(_, Gate | ExpertGate(_)) => Component::Gate,
            Role::Layer(_, Up | ExpertUp(_)) => Component::Up,
            Role::Layer(_, Down | ExpertDown(_)) => Component::Down,
            Role::Layer(_, Query | Key | Value | AttentionOutput | QueryNorm | KeyNorm) => {
                Component::Attention
            }
            Role::Layer(_, QueryHeadNorm(_) | KeyHeadNorm(_)) => Component::Attention,
            Role::Layer(_, QueryDown | KeyValueDown | KeyValueUp) => Component::Attention,
            Role::Layer(_, Router | RouterBias | RouterCorrection | RouterInputScale | ExpertScale) => {
                Component::Router
            }
            Role::Layer(_, SharedGate) => Component::Router,
            Role::PerLayerEmbedding | Role::PerLayerModelProjection => Component::PerLayerInputs,
            Role::Layer(_, PerLayerGate | PerLayerProjection) => Component::PerLayerInputs,
            _ => Component::Norms,
        }
    }

    /// The component that holds it in a given layout, and the file that is written there.
    pub(crate) fn written_as(self, layout: Layout) -> (Component, &'static str) {
        use Component::*;
        let component = match (self, layout) {
            (Gate | Up | Down, Layout::Blocks) => FeedForward,
            (component, _) => component,
        };
        let ending = match (component, layout) {
            (Attention | FeedForward, Layout::Blocks) => "_q4k.bin",
            (Head, Layout::Blocks) => "_q4.bin",
            (Embeddings | Gate | Attention | Up | Down | Head | PerLayerInputs, Layout::Source) => {
                ".safetensors"
            }
            _ => "",
        };
        let file = component.files().iter().find(|file| file.ends_with(ending));
        (component, file.unwrap_or(&component.files()[0]))
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layout_has_its_files() {
        let file = |component: Component, layout| component.written_as(layout).1;
        assert_eq!(file(Component::Gate, Layout::Floats), "gate_vectors.bin");
        assert_eq!(file(Component::Gate, Layout::Blocks), "interleaved_q4k.bin");
        assert_eq!(file(Component::Gate, Layout::Source), "gate_vectors.safetensors");
        assert_eq!(file(Component::Embeddings, Layout::Blocks), "embeddings.bin");
        assert_eq!(file(Component::Attention, Layout::Blocks), "attn_weights_q4k.bin");
        assert_eq!(file(Component::Head, Layout::Blocks), "lm_head_q4.bin");
        assert_eq!(file(Component::Norms, Layout::Source), "norms.bin");
    }

    #[test]
    fn table_rows_stand_in_enum_order_and_share_no_file() {
        let mut files: Vec<&str> = Vec::new();
        for component in Component::all() {
            assert_eq!(component.facts().component, component);
            files.extend(component.files().iter().copied());
        }
        for file in &files {
            assert_eq!(files.iter().filter(|other| *other == file).count(), 1, "{file}");
            assert!(Component::of_file(file).is_some());
        }
    }
}
