//! USE and EXTRACT.

use super::View;
use super::grid::{Cell, Grid};
use super::text::{Page, counted, duration, size, visible};
use crate::output::{Extracted, Opened, OpenedAs};

impl View for Opened {
    fn grid(&self) -> Grid {
        Grid::new(&["path", "model", "level", "layers", "features", "relations"]).row([
            (&*self.path).into(),
            (&*self.model).into(),
            self.level.map(|level| level.name()).into(),
            Cell::Count(self.layers),
            Cell::Count(self.features),
            Cell::Count(self.relations),
        ])
    }

    fn lines(&self, page: &Page) -> String {
        let what = match (self.opened_as, self.level) {
            (OpenedAs::Model, _) => "checkpoint".to_owned(),
            (OpenedAs::Vindex, None) => "vindex".to_owned(),
            (OpenedAs::Vindex, Some(level)) => format!("level {level}"),
            (OpenedAs::Remote, None) => "remote".to_owned(),
            (OpenedAs::Remote, Some(level)) => format!("remote, level {level}"),
        };
        format!(
            "Using {} ({}, {what})\n{}, {}, {}",
            page.bold(&visible(&self.path)),
            visible(&self.model),
            counted(self.layers, "layer", "layers"),
            counted(self.features, "feature", "features"),
            counted(self.relations, "relation type", "relation types"),
        )
    }
}

impl View for Extracted {
    fn grid(&self) -> Grid {
        let columns = ["path", "model", "level", "dtype", "quant", "layers", "features", "bytes", "seconds"];
        Grid::new(&columns).row([
            (&*self.path).into(),
            (&*self.model).into(),
            self.level.name().into(),
            self.dtype.name().into(),
            self.quant.name().into(),
            Cell::Count(self.layers),
            Cell::Count(self.features),
            Cell::Bytes(self.bytes),
            Cell::Figure(self.seconds),
        ])
    }

    fn lines(&self, page: &Page) -> String {
        format!(
            "Extracted {} into {}\nlevel {}, {}, {}, {}, {} in {}",
            visible(&self.model),
            page.bold(&visible(&self.path)),
            self.level,
            encoding(self),
            counted(self.layers, "layer", "layers"),
            counted(self.features, "feature", "features"),
            size(self.bytes),
            duration(self.seconds),
        )
    }
}

fn encoding(extracted: &Extracted) -> String {
    match extracted.quant {
        larql_vindex_spec::Quant::None => extracted.dtype.name().to_owned(),
        quant => quant.name().to_owned(),
    }
}
