//! `cargo xtask lineage`: how the model comes from its base, tensor by tensor.

mod remote;

use std::path::Path;

use anyhow::bail;
use deval_hub::RepoId;
use deval_model::lineage::{self, Lineage, LocalFolder, Options, TensorSource};
use deval_report::{Inputs, Report, Section};
use serde::Serialize;

use self::remote::HubModel;
use crate::{Verdict, context::Context, ui::Unit};

/// What is read of each tensor of a repository, and of how many rows the difference is looked at.
const PARTS: Options = Options { seed: 0, most_bytes: Some(256 << 10), most_rows: Some(64) };

/// The comparison and what it was made with.
#[derive(Debug, Serialize)]
struct Compared {
    #[serde(flatten)]
    lineage: Lineage,
    base: Base,
}

/// What the submission was compared with.
#[derive(Debug, Serialize)]
struct Base {
    /// Folder, or repository on the Hub.
    name: String,
    /// Hub commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    /// Bytes of its weight files.
    bytes: u64,
    /// Bytes of them that came from the Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_read: Option<u64>,
}

/// Compares the submission's model with a folder, or with a repository on the Hub, of which only headers and samples are read.
pub(crate) fn run(context: &Context, against: &str) -> anyhow::Result<Verdict> {
    let ours = LocalFolder::open(&context.model_dir())?;
    let folder = Path::new(against);
    let compared = if folder.is_dir() {
        let theirs = LocalFolder::open(folder)?;
        let lineage = compare(context, &ours, &theirs, Options::default())?;
        let base = Base { name: against.to_owned(), revision: None, bytes: bytes(&theirs), bytes_read: None };
        Compared { lineage, base }
    } else if let Ok(repo) = RepoId::parse(against) {
        let theirs = HubModel::open(context, &repo)?;
        // With the digests of our files those that the Hub has too need not be read.
        let ours = ours.with_digests(context.weights()?);
        let lineage = compare(context, &ours, &theirs, PARTS)?;
        let (revision, read) = (Some(theirs.revision().to_owned()), Some(theirs.bytes_read()));
        Compared { lineage, base: Base { name: repo.to_string(), revision, bytes: bytes(&theirs), bytes_read: read } }
    } else {
        bail!("`{against}` is neither a folder nor the name of a repository on the Hub (`namespace/name`)");
    };
    let (findings, mut sections) = (compared.lineage.findings(), compared.lineage.sections());
    sections.insert(0, compared.base.section());
    let report = Report::new("lineage", Inputs::default(), findings, Some(compared));
    context.ui.report(&report, &sections);
    Ok(if report.is_ok() { Verdict::Ok } else { Verdict::Findings })
}

fn compare(
    context: &Context,
    ours: &dyn TensorSource,
    theirs: &dyn TensorSource,
    options: Options,
) -> anyhow::Result<Lineage> {
    let bar = context.ui.bar("comparing the weights", 0, Unit::Bytes);
    let lineage = lineage::compare_sources(ours, theirs, options, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(lineage?)
}

fn bytes(source: &dyn TensorSource) -> u64 {
    source.shards().iter().map(|shard| shard.size).sum()
}

impl Base {
    fn section(&self) -> Section {
        let mut section = Section::new("Base").row("model", &self.name).row("bytes", self.bytes);
        if let Some(revision) = &self.revision {
            section = section.row("Hub commit", revision);
        }
        if let Some(read) = self.bytes_read {
            section = section.row("bytes read", read);
            section = section.note("Only headers and samples of the tensors were read, and nothing of files that the Hub lists with our SHA-256.");
        }
        section
    }
}
