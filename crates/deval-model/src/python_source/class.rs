//! The class that the validator's container imports.

use deval_report::Diagnostic;
use ruff_python_ast::{Expr, ModModule, Parameters, Stmt, StmtClassDef, StmtFunctionDef};
use ruff_text_size::Ranged;

use super::{CLASS, Source};

/// Findings of gate G35 about `DeValPipeline` in `pipeline.py`.
pub(super) fn check(tree: &ModModule, source: &Source<'_>) -> Vec<Diagnostic> {
    let Some(class) = tree.body.iter().filter_map(Stmt::as_class_def_stmt).find(|class| class.name.as_str() == CLASS)
    else {
        return absent(tree, source).into_iter().collect();
    };
    [base(class, source), constructor(class, source)].into_iter().flatten().collect()
}

fn absent(tree: &ModModule, source: &Source<'_>) -> Option<Diagnostic> {
    let imported = tree.body.iter().filter_map(Stmt::as_import_from_stmt).flat_map(|import| &import.names);
    if imported.into_iter().any(|alias| alias.asname.as_ref().unwrap_or(&alias.name).as_str() == CLASS) {
        let message = format!("{CLASS} comes from another module, so its constructor is not checked here");
        return Some(Diagnostic::note("G35", message).in_file(&source.file));
    }
    let near = tree
        .body
        .iter()
        .filter_map(Stmt::as_class_def_stmt)
        .find(|class| class.name.to_lowercase().contains("pipeline"));
    let finding =
        Diagnostic::error("G35", format!("there is no class {CLASS}")).expected(format!("class {CLASS}(Pipeline)"));
    Some(match near {
        Some(class) => source
            .at(finding.found(class.name.as_str()).help(format!("rename the class to {CLASS}")), class.name.start()),
        None => finding.in_file(&source.file).help("define it at the top level of the file"),
    })
}

/// A base named `…Pipeline`, or a `__call__` of its own: the service calls the object.
fn base(class: &StmtClassDef, source: &Source<'_>) -> Option<Diagnostic> {
    let is_pipeline = class.bases().iter().filter_map(last_name).any(|name| name.ends_with("Pipeline"));
    if is_pipeline {
        return None;
    }
    let finding = if method(class, "__call__").is_some() {
        Diagnostic::warning("G35", format!("{CLASS} has no transformers Pipeline as its base"))
            .help("works as long as __call__ takes the same arguments")
    } else {
        Diagnostic::error(
            "G35",
            format!("{CLASS} has neither a transformers Pipeline as its base nor __call__, so it cannot be called"),
        )
        .help("derive it from `transformers.Pipeline`")
    };
    Some(source.at(finding.expected(format!("class {CLASS}(Pipeline)")), class.name.start()))
}

fn last_name(base: &Expr) -> Option<&str> {
    match base {
        Expr::Name(name) => Some(name.id.as_str()),
        Expr::Attribute(attribute) => Some(attribute.attr.as_str()),
        _ => None,
    }
}

/// Whether the constructor can be called with one positional argument and `model_dir`.
fn constructor(class: &StmtClassDef, source: &Source<'_>) -> Option<Diagnostic> {
    let Some(function) = method(class, "__init__") else {
        let finding = Diagnostic::warning("G35", format!("{CLASS} has no constructor of its own that takes model_dir"));
        return Some(source.at(finding.help(CALL), class.name.start()));
    };
    let fault = fault(&function.parameters)?;
    let finding = Diagnostic::error("G35", format!("the constructor cannot be called with model_dir: {fault}"));
    Some(source.at(
        finding.expected(CALL).help("`def __init__(self, *args, model_dir=None, **kwargs)`"),
        function.name.start(),
    ))
}

const CALL: &str = "DeValPipeline(\"de_val\", model_dir=…)";

fn method<'a>(class: &'a StmtClassDef, name: &str) -> Option<&'a StmtFunctionDef> {
    class.body.iter().filter_map(Stmt::as_function_def_stmt).find(|function| function.name.as_str() == name)
}

/// Binds the call `(self, "de_val", model_dir=…)` to the parameters, as Python does.
fn fault(parameters: &Parameters) -> Option<String> {
    let positional: Vec<_> = parameters.posonlyargs.iter().chain(&parameters.args).collect();
    if positional.len() < 2 && parameters.vararg.is_none() {
        return Some("it takes no positional argument".into());
    }
    let takes = |name: &str| {
        let by_name = parameters
            .args
            .iter()
            .skip(2usize.saturating_sub(parameters.posonlyargs.len()))
            .chain(&parameters.kwonlyargs);
        by_name.into_iter().any(|parameter| parameter.name().as_str() == name)
    };
    if !takes("model_dir") && parameters.kwarg.is_none() {
        return Some("it has no parameter model_dir".into());
    }
    let later = positional.into_iter().skip(2).chain(&parameters.kwonlyargs);
    let unfilled =
        later.into_iter().find(|parameter| parameter.default().is_none() && parameter.name().as_str() != "model_dir");
    unfilled.map(|parameter| format!("its parameter `{}` has no default", parameter.name()))
}
