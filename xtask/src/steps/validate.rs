//! `validate`: every gate that can be decided from the disk, with its margin.

mod template;

use std::path::Path;

pub(crate) use template::check as chat_template;

use deval_model::{Findings, Submission};
use deval_report::{
    Diagnostic, Inputs, Section, Step,
    gates::{GateStatus, GateVerdict},
};
use serde::{Deserialize, Serialize};

use super::{Outcome, Pure};
use crate::{context::Context, wallet};

/// The step.
pub(crate) struct Validate;

/// The gates that were decided.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Validation {
    pub(crate) gates: Vec<GateVerdict>,
}

fn is_in(finding: &Diagnostic, name: &str) -> bool {
    finding.place.as_ref().is_some_and(|place| place.file.ends_with(name))
}

/// What only the library itself finds when it loads `tokenizer.json`; its structure was checked before.
fn tokenizer(model_dir: &Path, label: &str) -> Option<Diagnostic> {
    if !model_dir.join("tokenizer.json").exists() {
        return None;
    }
    let error = deval_llama::check_tokenizer(model_dir).err()?;
    let finding = Diagnostic::error("model.tokenizer", "the tokenizers library cannot load tokenizer.json");
    let finding = finding.in_file(format!("{label}/tokenizer.json")).found(error.to_string());
    let help = "save it with `tokenizer.save_pretrained(…)` from a fast tokenizer";
    Some(finding.expected("a file as the tokenizers library saves it").help(help))
}

/// Without a chat template no prompt can be put together, and the pipeline raises at each question.
fn raises(diagnostics: &[Diagnostic]) -> Option<GateVerdict> {
    let finding = diagnostics.iter().find(|finding| finding.code == "model.chat-template" && finding.is_error())?;
    let verdict = GateVerdict::new("G41", GateStatus::Fail, &finding.message);
    Some(GateVerdict { next: finding.help.clone(), ..verdict })
}

impl Pure for Validate {
    const STEP: Step = Step::Validate;
    type Output = Validation;

    fn inputs(context: &Context) -> anyhow::Result<Inputs> {
        let mut inputs = Inputs::default();
        let submission = &context.manifest.submission;
        inputs.add("submission.model_url", &submission.model_url);
        inputs.add("submission.network", submission.network);
        inputs.add("package.ignore", context.manifest.package.ignore.join("\n"));
        inputs.add("package.obfuscate", context.manifest.package.obfuscate);
        inputs.add("wallet.coldkey", wallet::coldkey(context).unwrap_or_default());
        if let Some(fault) = wallet::fault(context) {
            inputs.add("wallet.fault", fault.message);
        }
        if context.root().join(".devalignore").exists() {
            inputs.add(".devalignore beside the manifest", "there");
        }
        for (name, digest) in deval_model::outline(&context.model_dir(), &context.pipeline_dir())? {
            inputs.add(name, digest);
        }
        Ok(inputs)
    }

    fn run(context: &Context) -> anyhow::Result<Outcome<Validation>> {
        let submission = &context.manifest.submission;
        let Findings { mut diagnostics, mut gates } = deval_model::validate(&Submission {
            root: context.root().to_owned(),
            model_dir: context.model_dir(),
            pipeline_dir: context.pipeline_dir(),
            coldkey_expected: wallet::coldkey(context),
            wallet_fault: wallet::fault(context),
            model_url: submission.model_url.clone(),
            network: submission.network,
            ignore: context.manifest.package.ignore.clone(),
            published: false,
        })?;
        let label = submission.model_dir.trim_end_matches('/');
        let sound =
            |name: &str, found: &[Diagnostic]| !found.iter().any(|finding| finding.is_error() && is_in(finding, name));
        if sound("tokenizer_config.json", &diagnostics) {
            diagnostics.extend(template::check(&context.model_dir(), label));
            if sound("tokenizer.json", &diagnostics) {
                diagnostics.extend(tokenizer(&context.model_dir(), label));
            }
        }
        gates.extend(raises(&diagnostics));
        gates.sort_by(|a, b| a.code.cmp(&b.code));
        // Findings about the address belong where the address is written.
        for finding in diagnostics.iter_mut().filter(|finding| matches!(finding.code.as_str(), "G06" | "G19")) {
            *finding = context.place(finding.clone(), "submission.model_url");
        }
        if context.manifest.package.obfuscate {
            let message =
                "the plain sources were checked; `package` obfuscates them and proves that they answer the same";
            diagnostics.push(context.place(Diagnostic::note("obfuscate.later", message), "package.obfuscate"));
        }
        Ok(Outcome { diagnostics, result: Some(Validation { gates }), timing: serde_json::Value::Null })
    }

    fn sections(validation: &Validation) -> Vec<Section> {
        let count = |status| validation.gates.iter().filter(|gate| gate.status == status).count();
        let rows = validation.gates.iter().filter(|gate| gate.status != GateStatus::Unknown).map(|gate| {
            let margin = gate.margin.clone().unwrap_or_default();
            vec![gate.code.clone(), gate.status.to_string(), margin, gate.detail.clone()]
        });
        let summary = format!(
            "{} pass, {} warn, {} fail",
            count(GateStatus::Pass),
            count(GateStatus::Warn),
            count(GateStatus::Fail)
        );
        vec![Section::new("Validation").row("gates", summary).table(&["gate", "", "margin", "seen"], rows.collect())]
    }
}
