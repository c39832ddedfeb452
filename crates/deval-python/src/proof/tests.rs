use std::process::Command;

use super::*;
use crate::testing::{Folder, managed_armor, repository, torch_python};

/// A pipeline that needs a tenth of a second: no model is loaded, the answer depends on the request.
const QUICK: &str = "class DeValPipeline:\n    def __init__(self, task, model_dir):\n        self.dir = model_dir\n\
                     \n    def __call__(self, inputs, tasks, rag_context, query, llm_response):\n\
                     \x20       return {'score_completion': len(llm_response) / 100, 'mistakes_completion': [rag_context]}\n";

const PATIENCE: Duration = Duration::from_secs(300);

fn shipped(folder: &Folder) -> BTreeMap<String, PathBuf> {
    folder.sources().files.iter().map(|(name, path)| (format!("model/{name}"), path.clone())).collect()
}

/// The outcome for a pipeline and a tree that is put in the place of its obfuscated form.
fn proven(plain: &[(&str, &str)], armored: &[(&str, &str)], patience: Duration) -> Option<Outcome> {
    let python = torch_python()?;
    let (plain, armored) = (Folder::new(plain), Folder::new(armored));
    let claim = Claim {
        python: &python,
        shipped: &shipped(&plain),
        armored: &armored.path("pipeline"),
        folder: "pipeline/model",
        patience,
    };
    Some(prove(claim).unwrap())
}

fn only(outcome: Outcome) -> Diagnostic {
    assert_eq!((outcome.proof, outcome.findings.len()), (None, 1));
    outcome.findings.into_iter().next().unwrap()
}

#[test]
fn this_projects_pipeline_answers_the_same_when_obfuscated() {
    let (Some(python), Some(armor)) = (torch_python(), managed_armor()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let source = repository().join("pipeline/model");
    let names = fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeMap<_, _> =
        names.filter(|name| name.ends_with(".py")).map(|name| (name.clone(), source.join(name))).collect();
    let sources = crate::armor::Sources { files: &files, folder: "pipeline/model" };
    let armored = armor.obfuscate(sources, &dir.path().join("out"), false).unwrap();
    let shipped = files.into_iter().map(|(name, path)| (format!("model/{name}"), path)).collect();
    let claim = Claim {
        python: &python,
        shipped: &shipped,
        armored: &armored.dir,
        folder: "pipeline/model",
        patience: PATIENCE,
    };
    let outcome = prove(claim).unwrap();
    assert_eq!(outcome.findings, []);
    let proof = outcome.proof.unwrap();
    assert_eq!((proof.requests, proof.answers, proof.models.join(" ").as_str()), (12, 24, "chain random"));
    assert!(proof.distinct >= 6, "{proof:?}");
}

#[test]
fn a_tree_that_was_tampered_with_fails_the_proof() {
    let tampered = QUICK.replace("/ 100", "/ 101");
    let Some(outcome) = proven(&[("pipeline.py", QUICK)], &[("pipeline.py", &tampered)], PATIENCE) else { return };
    let finding = only(outcome);
    assert_eq!((finding.code.as_str(), finding.is_error()), ("obfuscate.proof", true));
    assert!(finding.message.contains("24 of 24 requests"), "{}", finding.message);
    assert_ne!(finding.found, finding.expected);
}

#[test]
fn an_obfuscated_pipeline_that_cannot_be_imported_crashes_or_hangs_is_to_blame() {
    let exit = QUICK.replace("self.dir = model_dir", "raise SystemExit(3)");
    let hang = QUICK.replace("self.dir = model_dir", "import time; time.sleep(1000)");
    let crash = QUICK.replace("self.dir = model_dir", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)");
    let import = format!("import nowhere\n{QUICK}");
    for (armored, patience, said) in [
        (&import, PATIENCE, "ModuleNotFoundError: No module named 'nowhere'"),
        (&exit, PATIENCE, "exit status: 3"),
        (&crash, PATIENCE, "SIGSEGV"),
        (&hang, Duration::from_secs(10), "no end after 10 s"),
    ] {
        let Some(outcome) = proven(&[("pipeline.py", QUICK)], &[("pipeline.py", armored)], patience) else { return };
        let finding = only(outcome);
        assert_eq!(finding.code, "obfuscate.proof", "{finding:?}");
        assert!(finding.found.as_ref().unwrap().contains(said), "{finding:?}");
    }
}

#[test]
fn a_plain_pipeline_that_proves_nothing_is_a_warning() {
    let broken = format!("import nowhere\n{QUICK}");
    let refuses = QUICK.replace("return {", "raise ValueError(llm_response)\n        return {");
    let moody = QUICK.replace("len(llm_response)", "__import__('time').time_ns()");
    for (plain, said) in [
        (&broken, "does not run on a tiny model"),
        (&refuses, "answers no request"),
        (&moody, "answers the same request differently"),
    ] {
        let Some(outcome) = proven(&[("pipeline.py", plain)], &[("pipeline.py", plain)], PATIENCE) else { return };
        let finding = only(outcome);
        assert_eq!((finding.code.as_str(), finding.is_error()), ("obfuscate.not-proven", false));
        assert!(finding.message.contains(said), "{finding:?}");
    }
}

#[test]
fn a_plain_pipeline_that_raises_while_it_is_imported_is_an_error() {
    let broken = format!("{QUICK}\nraise RuntimeError('boom')\n");
    let Some(outcome) = proven(&[("pipeline.py", &broken)], &[("pipeline.py", &broken)], PATIENCE) else { return };
    let finding = only(outcome);
    assert_eq!((finding.code.as_str(), finding.is_error()), ("G35", true));
    assert!(finding.found.as_ref().unwrap().contains("RuntimeError: boom"), "{finding:?}");
}

#[test]
fn the_script_compiles_under_any_python() {
    let status =
        Command::new("python3").args(["-c", "import sys; compile(sys.argv[1], 'prove.py', 'exec')", SCRIPT]).status();
    assert!(status.is_ok_and(|status| status.success()));
}
