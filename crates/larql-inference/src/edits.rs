//! A model with edited features.

use std::sync::Arc;

use larql_vindex::FeatureEdits;

use crate::feed_forward::Dense;
use crate::{LoadError, Model};

impl Model {
    /// This model with other features. Edits that it had already are gone: those of the returned model are `edits`.
    ///
    /// Everything that runs or looks at the returned model sees them; what is not edited is shared.
    ///
    /// # Errors
    /// If an edit does not fit the model.
    pub fn edited(&self, edits: &FeatureEdits) -> Result<Model, LoadError> {
        edits.check(&self.spec)?;
        let mut layers = self.layers.to_vec();
        for (index, layer) in layers.iter_mut().enumerate() {
            let edited = |part: &Dense| part.edits.is_some();
            let own = edits.of_layer(index).filter(|(_, edit)| edit.changes_vectors());
            let mut of_layer = own.peekable();
            if of_layer.peek().is_none() && !layer.feed_forward.parts().any(edited) {
                continue;
            }
            let mut first = 0;
            for part in Arc::make_mut(layer).feed_forward.parts_mut() {
                let end = first + part.feature_count();
                let mut own = Vec::new();
                while let Some((feature, edit)) = of_layer.next_if(|(feature, _)| *feature < end) {
                    own.push((feature - first, edit));
                }
                part.edit(&own)?;
                first = end;
            }
        }
        Ok(Model { layers: layers.into(), ..self.clone() })
    }
}
