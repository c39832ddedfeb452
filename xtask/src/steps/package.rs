//! `package`: the repository tree as it will stand on the Hub, staged without copying weights.

mod obfuscation;

use std::path::PathBuf;

use deval_model::{Package as Staged, PackagePlan, python_source, shipped, stage};
use deval_python::armor;
use deval_report::{Diagnostic, Inputs, Section, Step};
use serde_json::Value;

use self::obfuscation::Obfuscation;
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
        inputs.add("package.obfuscate", if context.manifest.package.obfuscate { armor::RECIPE } else { "no" });
        // A hard link follows the inode, not the name: replaced weights must be staged again.
        inputs.add("weights", &context.weights()?.model_hash);
        Ok(inputs)
    }

    fn run(context: &Context) -> anyhow::Result<Outcome<Staged>> {
        let plan = PackagePlan {
            model_dir: context.model_dir(),
            pipeline_dir: context.pipeline_dir(),
            coldkey_ss58: wallet::coldkey_address(context)?,
            out_dir: tree(context),
            ignore: context.manifest.package.ignore.clone(),
            model_url: context.manifest.submission.model_url.clone(),
        };
        if context.manifest.package.obfuscate {
            return obfuscated(context, plan);
        }
        let staged = stage(&plan)?;
        Ok(Outcome { diagnostics: staged.findings(), result: Some(staged), timing: Value::Null })
    }

    fn sections(staged: &Staged) -> Vec<Section> {
        let rows = staged.files.iter().map(|file| vec![file.path.clone(), file.size.to_string()]);
        let mut section = Section::new("Package")
            .row("listing digest", &staged.listing_digest)
            .row("bytes", staged.bytes)
            .row("hard links", format!("{} of {} files", staged.linked, staged.linked + staged.copied));
        if let Some(obfuscated) = &staged.obfuscated {
            section = obfuscation::rows(section, obfuscated);
        }
        vec![section.table(&["file", "bytes"], rows.collect())]
    }

    fn output_is_there(context: &Context, staged: &Staged) -> bool {
        staged.stands(&tree(context), &context.model_dir())
    }
}

/// Obfuscates and proves first: nothing is staged that would answer otherwise than the plain sources.
fn obfuscated(context: &Context, plan: PackagePlan) -> anyhow::Result<Outcome<Staged>> {
    let Obfuscation { made, mut diagnostics, timing } = obfuscation::make(context, &shipped(&plan)?)?;
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Ok(Outcome { diagnostics, result: None, timing });
    }
    let Some((dir, obfuscated)) = made else { return Ok(Outcome { diagnostics, result: None, timing }) };
    let mut staged = stage(&PackagePlan { pipeline_dir: dir.join(python_source::FOLDER), ..plan })?;
    staged.obfuscated = Some(obfuscated);
    diagnostics.extend(staged.findings());
    Ok(Outcome { diagnostics, result: Some(staged), timing })
}
