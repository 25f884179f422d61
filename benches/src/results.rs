//! What was measured, kept as data beside the document that is written from it.
//!
//! ```text
//!  a benchmark ─▶ Section ─▶ results/NAME.json ┐
//!                            results/*.json ───┴▶ RESULTS.md, charts/NAME.svg
//! ```
//!
//! Each benchmark writes its own section and leaves the others as they are, so that one provider can be measured anew.

mod chart;
mod machine;
mod markdown;

pub use chart::{Bar, Chart, Group};
pub use machine::Made;

use crate::Result;
use crate::report::TargetLine;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// What one benchmark found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Section {
    /// Its file's name, such as `redis`.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// Sections stand in this order.
    pub order: u32,
    /// When, where, and how it was made.
    pub made: Made,
    /// What one must know to read the figures, a paragraph each.
    pub about: Vec<String>,
    /// What is held against a target.
    pub targets: Vec<TargetLine>,
    /// The figures.
    pub tables: Vec<Table>,
    /// The picture, where there is one.
    pub chart: Option<Chart>,
    /// What was not measured, and why; an item each.
    pub missing: Vec<String>,
}

/// A table of figures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// The columns' names. The first is a text, the others are figures.
    pub header: Vec<String>,
    /// The rows, as wide as the header.
    pub rows: Vec<Vec<String>>,
}

impl Section {
    /// Keeps the section and writes the document and its chart anew.
    ///
    /// # Errors
    /// Where the files cannot be written, or those of other sections not read.
    pub fn write(&self) -> Result<()> {
        let home = home();
        let (results, charts) = (home.join("results"), home.join("charts"));
        fs::create_dir_all(&results)?;
        fs::create_dir_all(&charts)?;
        fs::write(results.join(format!("{}.json", self.name)), serde_json::to_string_pretty(self)? + "\n")?;
        if let Some(chart) = &self.chart {
            fs::write(charts.join(format!("{}.svg", self.name)), chart.svg())?;
        }
        fs::write(home.join("RESULTS.md"), markdown::document(&all(&results)?))?;
        Ok(())
    }
}

/// This package's folder, in which results are kept.
fn home() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

fn all(folder: &Path) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let section: Section = serde_json::from_str(&fs::read_to_string(&path)?)
                .map_err(|error| format!("{}: {error}; delete it and measure anew", path.display()))?;
            sections.push(section);
        }
    }
    sections.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
    Ok(sections)
}
