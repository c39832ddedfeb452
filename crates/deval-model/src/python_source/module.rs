//! What one source looks like from outside: its names, where they come from, and its classes.

use std::collections::{BTreeMap, BTreeSet};

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{
    Alias, ExceptHandler, Expr, ExprContext, ModModule, Parameters, Stmt, StmtClassDef, StmtFunctionDef, StmtImportFrom,
};
use ruff_text_size::Ranged;

use super::{FOLDER, Source};

/// The pipeline folder as a package.
#[derive(Debug, Default)]
pub(super) struct Package {
    /// By dotted name, relative to the folder: `pipeline`, `parts.score`, `parts.__init__`.
    pub(super) modules: BTreeMap<String, Module>,
}

impl Package {
    /// The dotted name of a source file.
    pub(super) fn module_name(file: &str) -> String {
        file.trim_end_matches(".py").replace('/', ".")
    }

    /// A module, or what stands for a folder with `__init__.py`.
    pub(super) fn get(&self, name: &str) -> Option<&Module> {
        self.modules.get(name).or_else(|| self.modules.get(&join(name, "__init__")))
    }

    /// Whether a module or a folder of this name can be imported.
    pub(super) fn has(&self, name: &str) -> bool {
        let within = |module: &String| module.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        name.is_empty() || self.modules.contains_key(name) || self.modules.keys().any(within)
    }
}

/// Line and column, from 1.
pub(super) type At = (u32, u32);

/// One module of the pipeline.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// As findings name its file.
    pub(super) file: String,
    /// Names that the module binds itself.
    names: BTreeSet<String>,
    /// Whether nothing of it can be seen: obfuscated, or not parsed.
    pub(super) hidden: bool,
    /// Whether there may be more: star imports, `__getattr__`, names made while it runs.
    pub(super) open: bool,
    /// Dotted origin of every imported name, wherever the import stands; the pipeline's own modules begin with `model.`.
    imports: BTreeMap<String, String>,
    /// Classes of the top level.
    pub(super) classes: BTreeMap<String, Class>,
}

/// One class.
#[derive(Debug)]
pub(super) struct Class {
    /// Dotted origin of each base, or a name of this module; `None` for an expression.
    pub(super) bases: Vec<Option<String>>,
    /// Names that its body binds.
    pub(super) members: BTreeSet<String>,
    /// What its own constructor says to the validator's call.
    pub(super) constructor: Option<Constructor>,
    /// Whether a decorator or a metaclass may add to it.
    pub(super) altered: bool,
    pub(super) at: At,
}

/// A constructor, and why it cannot be called with one positional argument and `model_dir`.
#[derive(Debug)]
pub(super) struct Constructor {
    pub(super) fault: Option<String>,
    pub(super) at: At,
}

impl Module {
    /// A module whose names cannot be seen.
    pub(super) fn hidden(file: String) -> Self {
        Self { file, hidden: true, open: true, ..Self::default() }
    }

    pub(super) fn new(tree: &ModModule, source: &Source) -> Self {
        let mut module = Self { file: source.file.clone(), ..Self::default() };
        let mut imports = Imports { source, module: &mut module };
        tree.body.iter().for_each(|statement| imports.visit_stmt(statement));
        module.bind_all(&tree.body, source);
        module.open |= module.names.contains("__getattr__") || module.names.contains("*");
        module
    }

    /// Whether `from module import name` works.
    pub(super) fn binds(&self, name: &str) -> bool {
        self.open || name == "*" || name.starts_with("__") || self.names.contains(name)
    }

    /// Where a name or an attribute of one comes from, dotted. A name that nothing binds is a builtin.
    pub(super) fn origin(&self, expression: &Expr) -> Option<String> {
        match expression {
            Expr::Name(name) => match self.imports.get(name.id.as_str()) {
                Some(origin) => Some(origin.clone()),
                None if self.names.contains(name.id.as_str()) => None,
                None => Some(format!("builtins.{}", name.id)),
            },
            Expr::Attribute(attribute) => Some(format!("{}.{}", self.origin(&attribute.value)?, attribute.attr)),
            _ => None,
        }
    }

    /// The origin of an imported name.
    pub(super) fn imported(&self, name: &str) -> Option<&str> {
        self.imports.get(name).map(String::as_str)
    }

    /// Whether the module itself gives the name a value.
    pub(super) fn defines(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Binds what the statements of the top level bind, blocks included.
    fn bind_all(&mut self, statements: &[Stmt], source: &Source) {
        for statement in statements {
            match statement {
                Stmt::FunctionDef(function) => self.names.extend([function.name.to_string()]),
                Stmt::ClassDef(class) => {
                    self.names.insert(class.name.to_string());
                    let class_ = Class::new(class, self, source);
                    self.classes.insert(class.name.to_string(), class_);
                }
                other => {
                    let mut bindings = Bindings { names: &mut self.names };
                    bindings.visit_stmt(other);
                    inner(other).into_iter().for_each(|block| self.bind_all(block, source));
                }
            }
        }
    }
}

/// The blocks of a compound statement.
fn inner(statement: &Stmt) -> Vec<&[Stmt]> {
    match statement {
        Stmt::If(block) => {
            let others = block.elif_else_clauses.iter().map(|clause| &clause.body[..]);
            std::iter::once(&block.body[..]).chain(others).collect()
        }
        Stmt::Try(block) => {
            let handlers = block.handlers.iter().map(|ExceptHandler::ExceptHandler(handler)| &handler.body[..]);
            [&block.body[..], &block.orelse, &block.finalbody].into_iter().chain(handlers).collect()
        }
        Stmt::With(block) => vec![&block.body],
        Stmt::For(block) => vec![&block.body, &block.orelse],
        Stmt::While(block) => vec![&block.body, &block.orelse],
        Stmt::Match(block) => block.cases.iter().map(|case| &case.body[..]).collect(),
        _ => Vec::new(),
    }
}

/// Names that expressions and simple statements bind. Functions and classes are not entered, but for their `global` names.
struct Bindings<'a> {
    names: &'a mut BTreeSet<String>,
}

impl<'a> Visitor<'a> for Bindings<'_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Import(import) => self.names.extend(import.names.iter().map(bound)),
            Stmt::ImportFrom(import) => self.names.extend(import.names.iter().map(bound)),
            // Their own walk comes from `bind_all`.
            Stmt::FunctionDef(_) | Stmt::ClassDef(_) => {}
            other => walk_stmt(self, other),
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::Name(name) = expression
            && name.ctx == ExprContext::Store
        {
            self.names.insert(name.id.to_string());
        }
        walk_expr(self, expression);
    }

    fn visit_except_handler(&mut self, handler: &'a ExceptHandler) {
        let ExceptHandler::ExceptHandler(handler) = handler;
        self.names.extend(handler.name.as_ref().map(ToString::to_string));
        handler.body.iter().for_each(|statement| self.visit_stmt(statement));
    }
}

/// The name that an import binds.
fn bound(alias: &Alias) -> String {
    let whole = alias.asname.as_ref().unwrap_or(&alias.name).as_str();
    if alias.asname.is_some() { whole.to_owned() } else { whole.split('.').next().unwrap_or(whole).to_owned() }
}

/// Origins of imported names, also within functions, and signs of names that are made while the module runs.
struct Imports<'a> {
    source: &'a Source,
    module: &'a mut Module,
}

impl<'a> Visitor<'a> for Imports<'_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Import(import) => {
                for alias in &import.names {
                    let name = bound(alias);
                    let origin = if alias.asname.is_some() { alias.name.to_string() } else { name.clone() };
                    self.module.imports.insert(name, origin);
                }
            }
            Stmt::ImportFrom(import) => self.import_from(import),
            Stmt::Global(global) => self.module.names.extend(global.names.iter().map(ToString::to_string)),
            other => walk_stmt(self, other),
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        let called = |name: &str| matches!(name, "globals" | "vars" | "setattr" | "exec");
        if let Expr::Call(call) = expression
            && call.func.as_name_expr().is_some_and(|name| called(name.id.as_str()))
        {
            self.module.open = true;
        }
        walk_expr(self, expression);
    }
}

impl Imports<'_> {
    fn import_from(&mut self, import: &StmtImportFrom) {
        let module = import.module.as_ref().map(|module| module.as_str()).unwrap_or_default();
        let from = match import.level {
            0 => Some(module.to_owned()),
            level => self.source.package(level as usize - 1).map(|package| join(&join(FOLDER, &package), module)),
        };
        for alias in &import.names {
            if let Some(from) = &from {
                self.module.imports.insert(bound(alias), format!("{from}.{}", alias.name));
            }
        }
    }
}

/// Joins two dotted paths of which either may be empty.
pub(super) fn join(package: &str, name: &str) -> String {
    match (package, name) {
        ("", name) => name.to_owned(),
        (package, "") => package.to_owned(),
        (package, name) => format!("{package}.{name}"),
    }
}

impl Class {
    fn new(class: &StmtClassDef, module: &Module, source: &Source) -> Self {
        let mut members = BTreeSet::new();
        let mut bindings = Bindings { names: &mut members };
        class.body.iter().for_each(|statement| bindings.visit_stmt(statement));
        members
            .extend(class.body.iter().filter_map(Stmt::as_function_def_stmt).map(|function| function.name.to_string()));
        let constructor = class.body.iter().filter_map(Stmt::as_function_def_stmt);
        let constructor = constructor.filter(|function| function.name.as_str() == "__init__").last();
        Self {
            bases: class.bases().iter().map(|base| local_or_origin(base, module)).collect(),
            members,
            constructor: constructor.map(|function| Constructor::new(function, source)),
            altered: !class.decorator_list.is_empty() || class.keywords().iter().any(|keyword| keyword.arg.is_some()),
            at: source.line_column(class.name.start()),
        }
    }
}

/// A base by its origin; one of this module keeps its name.
fn local_or_origin(base: &Expr, module: &Module) -> Option<String> {
    // `Base[T]` has the same constructor as `Base`.
    let base = base.as_subscript_expr().map_or(base, |subscript| &subscript.value);
    let local = base.as_name_expr().map(|name| name.id.as_str()).filter(|name| module.imported(name).is_none());
    local.map(str::to_owned).or_else(|| module.origin(base))
}

impl Constructor {
    fn new(function: &StmtFunctionDef, source: &Source) -> Self {
        Self { fault: fault(&function.parameters), at: source.line_column(function.name.start()) }
    }
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
