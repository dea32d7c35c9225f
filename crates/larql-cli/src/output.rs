//! Text that commands print as it is generated.

use std::io::Write;
use std::ops::ControlFlow;

use larql_core::Triple;
use larql_core::progress::CancelToken;
use larql_knowledge::MemoryAnswer;
use larql_vindex::KnnEntry;

/// Prints the edges that answered in the model's place.
pub(crate) fn tell_recalled(generation: &larql_knowledge::Generation) {
    for MemoryAnswer { entry, cosine, threshold, .. } in &generation.recalled {
        let KnnEntry { triple: Triple { entity, relation, target }, layer, .. } = entry;
        eprintln!(
            "inserted edge: {relation} of {entity} → {target} (L{layer}, cosine {cosine:.2}, answers from {threshold:.2})"
        );
    }
}

/// Prints a piece of text at once, and ends the generation once `token` is cancelled.
pub(crate) fn print_unless(token: &CancelToken, text: &str) -> ControlFlow<()> {
    print!("{text}");
    // A closed pipe shows at the next print; there is nobody to tell.
    let _ = std::io::stdout().flush();
    if token.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
