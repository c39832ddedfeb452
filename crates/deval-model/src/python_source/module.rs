//! What one source looks like from outside: its names, where they come from, and its classes.

use std::collections::{BTreeMap, BTreeSet};

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_pattern, walk_stmt};
use ruff_python_ast::{
    Alias, ExceptHandler, Expr, ExprContext, ModModule, Operator, ParameterWithDefault, Parameters, Pattern, Stmt,
    StmtClassDef, StmtFunctionDef, StmtImportFrom,
};
use ruff_text_size::Ranged;

use super::{CLASS, FOLDER, Source};

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
    /// Where the name that the validator imports is given a plain value, such as `None`.
    pub(super) value: Option<At>,
}

/// A text as far as it stands in the source: one literal, or several that are added.
pub(super) fn literal(expression: &Expr) -> Option<String> {
    match expression {
        Expr::StringLiteral(text) => Some(text.value.to_str().to_owned()),
        Expr::BinOp(sum) if sum.op == Operator::Add => Some(literal(&sum.left)? + &literal(&sum.right)?),
        _ => None,
    }
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
        for statement in &tree.body {
            module.rebind(statement, source);
            module.bind_all(std::slice::from_ref(statement), source);
        }
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
                None if name.id.as_str() == "__builtins__" => Some("builtins".into()),
                None => Some(format!("builtins.{}", name.id)),
            },
            Expr::Call(call) => match &*call.arguments.args {
                [object, name] if self.origin(&call.func)? == "builtins.getattr" => {
                    Some(format!("{}.{}", self.origin(object)?, literal(name)?))
                }
                _ => None,
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

    /// What a statement of the top level does to a class that the validator looks for and that stood there before it.
    fn rebind(&mut self, statement: &Stmt, source: &Source) {
        let is_class = |target: &Expr| target.as_name_expr().is_some_and(|name| name.id.as_str() == CLASS);
        match statement {
            Stmt::Delete(delete) if delete.targets.iter().any(is_class) => self.forget(),
            Stmt::Assign(assign) if assign.targets.iter().any(is_class) => {
                if assign.value.is_literal_expr() {
                    self.forget();
                    self.value = Some(source.line_column(statement.start()));
                } else {
                    self.classes.remove(CLASS);
                }
            }
            Stmt::ImportFrom(import) if import.names.iter().any(|alias| bound(alias) == CLASS) => self.replaced(),
            Stmt::FunctionDef(function) if function.name.as_str() == CLASS => self.replaced(),
            Stmt::ClassDef(class) if class.name.as_str() == CLASS => self.value = None,
            _ => {}
        }
    }

    fn replaced(&mut self) {
        self.classes.remove(CLASS);
        self.value = None;
    }

    fn forget(&mut self) {
        self.replaced();
        self.names.remove(CLASS);
        self.imports.remove(CLASS);
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

/// Names that statements and expressions bind. Functions and classes are not entered.
pub(super) struct Bindings<'a> {
    pub(super) names: &'a mut BTreeSet<String>,
}

impl<'a> Visitor<'a> for Bindings<'_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Import(import) => self.names.extend(import.names.iter().map(bound)),
            Stmt::ImportFrom(import) => self.names.extend(import.names.iter().map(bound)),
            Stmt::FunctionDef(function) => self.names.extend([function.name.to_string()]),
            Stmt::ClassDef(class) => self.names.extend([class.name.to_string()]),
            other => walk_stmt(self, other),
        }
    }

    fn visit_pattern(&mut self, pattern: &'a Pattern) {
        let name = match pattern {
            Pattern::MatchAs(capture) => capture.name.as_ref(),
            Pattern::MatchStar(star) => star.name.as_ref(),
            Pattern::MatchMapping(mapping) => mapping.rest.as_ref(),
            _ => None,
        };
        self.names.extend(name.map(ToString::to_string));
        walk_pattern(self, pattern);
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
        let of = |name: &str| function.decorator_list.iter().any(|decorator| is_name(&decorator.expression, name));
        let fault = if function.is_async {
            Some("it is `async`, so it returns a coroutine and not None".into())
        } else if let Some(kind) = ["staticmethod", "classmethod"].into_iter().find(|name| of(name)) {
            Some(format!("as a `{kind}` it does not get the object"))
        } else {
            fault(&function.parameters)
        };
        Self { fault, at: source.line_column(function.name.start()) }
    }
}

fn is_name(expression: &Expr, name: &str) -> bool {
    expression.as_name_expr().is_some_and(|known| known.id.as_str() == name)
}

/// Binds the call `(self, "de_val", model_dir=…)` to the parameters, as Python does.
fn fault(parameters: &Parameters) -> Option<String> {
    let Parameters { posonlyargs, args, kwonlyargs, vararg, kwarg, .. } = parameters;
    let positional = posonlyargs.len() + args.len();
    if positional < 2 && vararg.is_none() {
        return Some("it takes no positional argument".into());
    }
    let (filled, left) = args.split_at(2usize.saturating_sub(posonlyargs.len()).min(args.len()));
    let is_model_dir = |parameter: &ParameterWithDefault| parameter.name().as_str() == "model_dir";
    if filled.iter().any(is_model_dir) {
        return Some("\"de_val\" lands in its parameter model_dir, which the call then gives a second time".into());
    }
    let by_name = || left.iter().chain(kwonlyargs);
    if kwarg.is_none() && !by_name().any(is_model_dir) {
        return Some("it has no parameter model_dir that can be given by name".into());
    }
    let mut later = posonlyargs.iter().skip(2).chain(by_name().filter(|parameter| !is_model_dir(parameter)));
    let unfilled = later.find(|parameter| parameter.default().is_none())?;
    Some(format!("its parameter `{}` has no default", unfilled.name()))
}
