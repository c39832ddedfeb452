//! `package`: the repository tree as it will stand on the Hub, staged without copying weights.

use std::path::PathBuf;

use deval_model::{Package as Staged, PackagePlan, stage};
use deval_report::{Inputs, Section, Step};

use super::{Outcome, Pure};
use crate::{context::Context, wallet};

/// The step.
pub(crate) struct Package;

/// Where the tree is staged.
pub(crate) fn tree(context: &Context) -> PathBuf {
    context.out("package")
}

impl Pure for Package {
    const STEP: Step = Step::Package;
    type Output = Staged;

    fn inputs(context: &Context) -> anyhow::Result<Inputs> {
        let mut inputs = Inputs::default();
        inputs.add("package.ignore", context.manifest.package.ignore.join("\n"));
        // A hard link follows the inode, not the name: replaced weights must be staged again.
        inputs.add("weights", &context.weights()?.model_hash);
        Ok(inputs)
    }

    fn run(context: &Context) -> anyhow::Result<Outcome<Staged>> {
        let staged = stage(&PackagePlan {
            model_dir: context.model_dir(),
            pipeline_dir: context.pipeline_dir(),
            coldkey_ss58: wallet::open(context)?.coldkey_ss58().to_owned(),
            out_dir: tree(context),
            ignore: context.manifest.package.ignore.clone(),
            model_url: context.manifest.submission.model_url.clone(),
        })?;
        Ok(Outcome { diagnostics: Vec::new(), result: Some(staged), timing: serde_json::Value::Null })
    }

    fn sections(staged: &Staged) -> Vec<Section> {
        let rows = staged.files.iter().map(|file| vec![file.path.clone(), file.size.to_string()]);
        vec![
            Section::new("Package")
                .row("listing digest", &staged.listing_digest)
                .row("bytes", staged.bytes)
                .row("hard links", format!("{} of {} files", staged.linked, staged.linked + staged.copied))
                .table(&["file", "bytes"], rows.collect()),
        ]
    }

    fn output_is_there(context: &Context, staged: &Staged) -> bool {
        staged.files.iter().all(|file| tree(context).join(&file.path).exists())
    }
}
