//! Every import against what the validator's container has (gate G36).

use deval_report::Diagnostic;
use ruff_python_ast::visitor::{Visitor, walk_body, walk_expr, walk_stmt};
use ruff_python_ast::{ExceptHandler, Expr, ExprCall, ModModule, Stmt, StmtIf, StmtImportFrom, StmtTry, StmtWith};
use ruff_text_size::{Ranged, TextSize};

use super::module::{Module, Package, join, literal};
use super::packages;
use super::{FOLDER, RUNTIME_PREFIX, Source};

/// Puts the findings about one source's imports into `findings`.
pub(super) fn check(
    tree: &ModModule,
    source: &Source,
    module: &Module,
    package: &Package,
    findings: &mut Vec<Diagnostic>,
) {
    walk_body(&mut Walker { source, module, package, findings, guarded: 0 }, &tree.body);
}

struct Walker<'a> {
    source: &'a Source,
    module: &'a Module,
    package: &'a Package,
    findings: &'a mut Vec<Diagnostic>,
    /// How many blocks around here catch a failed import.
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
            Stmt::With(block) if suppresses_import(block) => {
                self.guarded += 1;
                walk_body(self, &block.body);
                self.guarded -= 1;
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
            let module = module.unwrap_or_default();
            return match module.strip_prefix(FOLDER).filter(|rest| rest.is_empty() || rest.starts_with('.')) {
                Some(rest) => self.names_of(rest.trim_start_matches('.'), import),
                None => self.absolute(module, import.start()),
            };
        };
        let Some(package) = self.source.package(levels) else {
            return self.report(above(), import.start());
        };
        match module {
            Some(module) => self.names_of(&join(&package, module), import),
            None => import.names.iter().for_each(|alias| self.member(&package, alias.name.as_str(), import.start())),
        }
    }

    fn absolute(&mut self, module: &str, at: TextSize) {
        let (top, rest) = module.split_once('.').unwrap_or((module, ""));
        if top == FOLDER {
            self.own(rest, at);
        } else if !packages::known(top) && !top.starts_with(RUNTIME_PREFIX) {
            self.foreign(top, at);
        }
    }

    /// `from .module import names`: the module is there, and has the names or modules below it.
    fn names_of(&mut self, module: &str, import: &StmtImportFrom) {
        if !self.package.has(module) {
            return self.own(module, import.start());
        }
        for alias in &import.names {
            self.member(module, alias.name.as_str(), alias.start());
        }
    }

    /// A module of a package, or something that the package or module itself defines.
    fn member(&mut self, package: &str, name: &str, at: TextSize) {
        let defined = self.package.get(package).map(|module| module.binds(name));
        if name == "*" || defined == Some(true) || self.package.has(&join(package, name)) {
            return;
        }
        match defined {
            None => self.own(&join(package, name), at),
            Some(_) => {
                let message = format!("`{}` defines no `{name}`, so this import raises", self.file_of(package));
                self.report_own(message, "define it there, or correct the name", at);
            }
        }
    }

    /// An import from the pipeline's own package.
    fn own(&mut self, module: &str, at: TextSize) {
        if !self.package.has(module) {
            let message =
                format!("the import leads to `{}`, which is not in the pipeline folder", self.file_of(module));
            self.report_own(message, "add the file, or correct the name", at);
        }
    }

    fn file_of(&self, module: &str) -> String {
        let folder = self.package.modules.contains_key(&join(module, "__init__"));
        format!("{}.py", join(module, if folder { "__init__" } else { "" }).replace('.', "/"))
    }

    fn report_own(&mut self, message: String, help: &str, at: TextSize) {
        let finding =
            if self.guarded > 0 { Diagnostic::note("G35", message) } else { Diagnostic::error("G35", message) };
        self.report(finding.help(help), at);
    }

    fn foreign(&mut self, top: &str, at: TextSize) {
        let finding = if self.guarded > 0 {
            let message =
                format!("the validator's container has no package `{top}`; this import will fail and be caught there");
            Diagnostic::note("G36", message)
        } else if self.package.has(top) {
            let message = format!("`{top}` is the pipeline's own module, but the import is not relative");
            Diagnostic::error("G36", message).help(format!("`from .{top} import …` or `from model.{top} import …`"))
        } else {
            let message = format!("the validator's container has no package `{top}`");
            Diagnostic::error("G36", message).help("do without it, or catch ImportError and fall back")
        };
        self.report(finding, at);
    }

    /// `__import__("x")` and `importlib.import_module("x")`, under whatever name.
    fn dynamic(&mut self, call: &ExprCall) {
        let origin = self.module.origin(&call.func);
        if !matches!(
            origin.as_deref(),
            Some("builtins.__import__" | "importlib.import_module" | "importlib.__import__")
        ) {
            return;
        }
        let name = call.arguments.find_argument_value("name", 0).and_then(literal);
        let package = call.arguments.find_argument_value("package", 1);
        match name.as_deref() {
            Some(name) if !name.starts_with('.') => self.absolute(name, call.start()),
            Some(name) if package.is_some_and(is_own_package) => self.relative(name, call.start()),
            _ => {
                let message = "this import is decided only when it runs, so it is not checked here";
                self.report(Diagnostic::warning("G36", message).help("name the module in the source"), call.start());
            }
        }
    }

    /// `import_module(".x", __package__)`.
    fn relative(&mut self, name: &str, at: TextSize) {
        let module = name.trim_start_matches('.');
        match self.source.package(name.len() - module.len() - 1) {
            Some(package) => self.own(&join(&package, module), at),
            None => self.report(above(), at),
        }
    }

    fn report(&mut self, finding: Diagnostic, at: TextSize) {
        self.findings.push(self.source.at(finding, at));
    }
}

fn above() -> Diagnostic {
    Diagnostic::error("G36", "the import goes above the package `model`")
        .help("move what it needs into the pipeline folder, of which alone sources are shipped")
}

/// `__package__`, which for the modules of the folder itself is `model`.
fn is_own_package(package: &Expr) -> bool {
    package.as_name_expr().is_some_and(|name| name.id.as_str() == "__package__")
}

/// `if TYPE_CHECKING:`, which never runs.
fn is_type_checking(block: &StmtIf) -> bool {
    match &*block.test {
        Expr::Name(name) => name.id.as_str() == "TYPE_CHECKING",
        Expr::Attribute(attribute) => attribute.attr.as_str() == "TYPE_CHECKING",
        _ => false,
    }
}

fn catching(name: &str) -> bool {
    matches!(name, "ImportError" | "ModuleNotFoundError" | "Exception" | "BaseException")
}

fn catches_import(block: &StmtTry) -> bool {
    block.handlers.iter().any(|ExceptHandler::ExceptHandler(handler)| match handler.type_.as_deref() {
        None => true,
        Some(Expr::Name(name)) => catching(name.id.as_str()),
        Some(Expr::Tuple(names)) => {
            names.elts.iter().filter_map(Expr::as_name_expr).any(|name| catching(name.id.as_str()))
        }
        Some(_) => false,
    })
}

/// `with suppress(ImportError):`
fn suppresses_import(block: &StmtWith) -> bool {
    let calls = block.items.iter().filter_map(|item| item.context_expr.as_call_expr());
    let suppress = |call: &&ExprCall| match &*call.func {
        Expr::Name(name) => name.id.as_str() == "suppress",
        Expr::Attribute(attribute) => attribute.attr.as_str() == "suppress",
        _ => false,
    };
    let mut names = calls.filter(suppress).flat_map(|call| &call.arguments.args).filter_map(Expr::as_name_expr);
    names.any(|name| catching(name.id.as_str()))
}
