//! Every import against what the validator's container has (gate G36).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use deval_report::Diagnostic;
use ruff_python_ast::visitor::{Visitor, walk_body, walk_expr, walk_stmt};
use ruff_python_ast::{ExceptHandler, Expr, ExprCall, ModModule, Stmt, StmtIf, StmtImportFrom, StmtTry};
use ruff_text_size::{Ranged, TextSize};

use super::packages;
use super::{FOLDER, RUNTIME_PREFIX, Source};

/// The modules of the pipeline folder, dotted and relative to it: `pipeline`, `parts.score`, `parts`, `parts.__init__`.
pub(super) struct Modules(BTreeSet<String>);

impl Modules {
    pub(super) fn new(files: &BTreeMap<String, PathBuf>) -> Self {
        let mut modules = BTreeSet::from([String::new()]);
        for file in files.keys() {
            let module = file.trim_end_matches(".py").replace('/', ".");
            modules.extend(module.match_indices('.').map(|(at, _)| module[..at].to_owned()));
            modules.insert(module);
        }
        Self(modules)
    }
}

/// Puts the findings about one source's imports into `findings`.
pub(super) fn check(tree: &ModModule, source: &Source<'_>, modules: &Modules, findings: &mut Vec<Diagnostic>) {
    let mut walker = Walker { source, modules, findings, guarded: 0 };
    walk_body(&mut walker, &tree.body);
}

struct Walker<'a> {
    source: &'a Source<'a>,
    modules: &'a Modules,
    findings: &'a mut Vec<Diagnostic>,
    /// How many `try` blocks around here catch a failed import.
    guarded: usize,
}

impl<'a> Visitor<'a> for Walker<'_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Import(import) => {
                import.names.iter().for_each(|alias| self.absolute(alias.name.as_str(), alias.start()))
            }
            Stmt::ImportFrom(import) => self.import_from(import),
            Stmt::Try(block) if catches_import(block) => {
                self.guarded += 1;
                walk_body(self, &block.body);
                self.guarded -= 1;
                block.handlers.iter().for_each(|handler| self.visit_except_handler(handler));
                walk_body(self, &block.orelse);
                walk_body(self, &block.finalbody);
            }
            Stmt::If(block) if is_type_checking(block) => {
                block.elif_else_clauses.iter().for_each(|clause| self.visit_elif_else_clause(clause));
            }
            other => walk_stmt(self, other),
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::Call(call) = expression {
            self.dynamic(call);
        }
        walk_expr(self, expression);
    }
}

impl Walker<'_> {
    fn import_from(&mut self, import: &StmtImportFrom) {
        let module = import.module.as_ref().map(|module| module.as_str());
        let Some(levels) = (import.level as usize).checked_sub(1) else {
            return self.absolute(module.unwrap_or_default(), import.start());
        };
        match self.package(levels) {
            None => self.report(Diagnostic::error("G36", "the import goes above the package `model`"), import.start()),
            Some(package) => match module {
                Some(module) => self.own(&join(&package, module), import.start()),
                None => {
                    import.names.iter().for_each(|alias| self.member(&package, alias.name.as_str(), import.start()))
                }
            },
        }
    }

    /// The package that a relative import of this many extra dots starts from; `None` above the folder itself.
    fn package(&self, levels: usize) -> Option<String> {
        let mut parts: Vec<&str> = self.source.module.split('/').collect();
        parts.pop();
        let kept = parts.len().checked_sub(levels)?;
        Some(parts[..kept].join("."))
    }

    fn absolute(&mut self, module: &str, at: TextSize) {
        let (top, rest) = module.split_once('.').unwrap_or((module, ""));
        if top == FOLDER {
            self.own(rest, at);
        } else if !packages::known(top) && !top.starts_with(RUNTIME_PREFIX) {
            self.foreign(top, at);
        }
    }

    /// `from . import name`: a module, or something that the package itself defines.
    fn member(&mut self, package: &str, name: &str, at: TextSize) {
        if !self.modules.0.contains(&join(package, "__init__")) {
            self.own(&join(package, name), at);
        }
    }

    /// An import from the pipeline's own package.
    fn own(&mut self, module: &str, at: TextSize) {
        if !self.modules.0.contains(module) {
            let file = format!("{}.py", module.replace('.', "/"));
            let finding =
                Diagnostic::error("G35", format!("the import leads to `{file}`, which is not in the pipeline folder"));
            self.report(finding.help("add the file, or correct the name"), at);
        }
    }

    fn foreign(&mut self, top: &str, at: TextSize) {
        let finding = if self.guarded > 0 {
            let message =
                format!("the validator's container has no package `{top}`; this import will fail and be caught there");
            Diagnostic::note("G36", message)
        } else if self.modules.0.contains(top) {
            let message = format!("`{top}` is the pipeline's own module, but the import is not relative");
            Diagnostic::error("G36", message).help(format!("`from .{top} import …` or `from model.{top} import …`"))
        } else {
            let message = format!("the validator's container has no package `{top}`");
            Diagnostic::error("G36", message).help("do without it, or catch ImportError and fall back")
        };
        self.report(finding, at);
    }

    /// `__import__("x")` and `importlib.import_module("x")`.
    fn dynamic(&mut self, call: &ExprCall) {
        let name = match &*call.func {
            Expr::Name(name) => name.id.as_str(),
            Expr::Attribute(attribute) => attribute.attr.as_str(),
            _ => return,
        };
        if !matches!(name, "__import__" | "import_module") {
            return;
        }
        match call.arguments.args.first() {
            Some(Expr::StringLiteral(text)) if !text.value.to_str().starts_with('.') => {
                self.absolute(text.value.to_str(), call.start())
            }
            _ => {
                let message = "this import is decided only when it runs, so it is not checked here";
                self.report(Diagnostic::warning("G36", message).help("name the module in the source"), call.start());
            }
        }
    }

    fn report(&mut self, finding: Diagnostic, at: TextSize) {
        self.findings.push(self.source.at(finding, at));
    }
}

fn join(package: &str, name: &str) -> String {
    if package.is_empty() { name.to_owned() } else { format!("{package}.{name}") }
}

/// `if TYPE_CHECKING:`, which never runs.
fn is_type_checking(block: &StmtIf) -> bool {
    match &*block.test {
        Expr::Name(name) => name.id.as_str() == "TYPE_CHECKING",
        Expr::Attribute(attribute) => attribute.attr.as_str() == "TYPE_CHECKING",
        _ => false,
    }
}

fn catches_import(block: &StmtTry) -> bool {
    let catching = |name: &str| matches!(name, "ImportError" | "ModuleNotFoundError" | "Exception" | "BaseException");
    block.handlers.iter().any(|ExceptHandler::ExceptHandler(handler)| match handler.type_.as_deref() {
        None => true,
        Some(Expr::Name(name)) => catching(name.id.as_str()),
        Some(Expr::Tuple(names)) => {
            names.elts.iter().filter_map(Expr::as_name_expr).any(|name| catching(name.id.as_str()))
        }
        Some(_) => false,
    })
}
