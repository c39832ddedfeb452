//! What Python 3.11 refuses to compile although its grammar allows it: `return` outside a function, blocks nested too far, and the like.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{
    Comprehension, ExceptHandler, Expr, ModModule, Parameters, PythonVersion, Stmt, StmtClassDef, StmtFunctionDef,
    StmtImportFrom, StmtTry,
};
use ruff_python_parser::semantic_errors::{
    LazyImportContext, SemanticSyntaxChecker, SemanticSyntaxContext, SemanticSyntaxError,
};
use ruff_text_size::{Ranged, TextRange, TextSize};

use super::module::Bindings;

/// Blocks of one function within each other (CPython 3.11, `CO_MAXBLOCKS`).
const MOST_BLOCKS: usize = 20;

/// Expressions within each other before the compiler reaches its recursion limit; measured with CPython 3.11.7.
const DEEPEST: usize = 2990;

/// What is refused first, and where.
pub(super) fn refusal(tree: &ModModule, text: &str) -> Option<(String, TextSize)> {
    let context = Context { text, scopes: vec![Scope::new(Kind::Module)], future: false, refused: RefCell::default() };
    let mut walker = Walker { checker: SemanticSyntaxChecker::new(), context, depth: 0 };
    tree.body.iter().for_each(|statement| walker.visit_stmt(statement));
    walker.context.refused.into_inner().into_iter().min_by_key(|(_, at)| *at)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Module,
    Class,
    Function { is_async: bool },
    Lambda,
    Comprehension { generator: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Loop,
    /// The handler of an `except*`.
    Star,
    Other,
}

struct Scope {
    kind: Kind,
    parameters: BTreeSet<String>,
    /// Names that the body binds; known for functions alone.
    bound: BTreeSet<String>,
    globals: BTreeMap<String, TextRange>,
    nonlocals: BTreeSet<String>,
    /// Names that were used or bound so far.
    seen: BTreeSet<String>,
    blocks: Vec<Block>,
}

impl Scope {
    fn new(kind: Kind) -> Self {
        let (parameters, bound, globals) = Default::default();
        let (nonlocals, seen, blocks) = Default::default();
        Self { kind, parameters, bound, globals, nonlocals, seen, blocks }
    }

    fn with_parameters(kind: Kind, parameters: &Parameters) -> Self {
        let parameters = parameters.iter().map(|parameter| parameter.name().to_string()).collect();
        Self { parameters, ..Self::new(kind) }
    }

    fn is_function(&self) -> bool {
        matches!(self.kind, Kind::Function { .. } | Kind::Lambda)
    }
}

/// Where the walk stands.
struct Context<'a> {
    text: &'a str,
    /// Never empty: the module's own scope stays.
    scopes: Vec<Scope>,
    /// Whether annotations are not evaluated.
    future: bool,
    refused: RefCell<Vec<(String, TextSize)>>,
}

impl Context<'_> {
    fn scope(&self) -> &Scope {
        self.scopes.last().expect("the module's scope stays")
    }

    fn scope_mut(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("the module's scope stays")
    }

    fn refuse(&self, message: impl Into<String>, at: TextSize) {
        self.refused.borrow_mut().push((message.into(), at));
    }

    /// The scope that comprehensions here belong to.
    fn around_comprehensions(&self) -> Kind {
        let mut kinds = self.scopes.iter().rev().map(|scope| scope.kind);
        kinds.find(|kind| !matches!(kind, Kind::Comprehension { .. })).unwrap_or(Kind::Module)
    }

    fn see(&mut self, name: &str) {
        if !self.scope().seen.contains(name) {
            self.scope_mut().seen.insert(name.to_owned());
        }
    }

    /// A name that is declared `global` or `nonlocal` must not have been used before.
    fn declare(&mut self, name: &str, range: TextRange, global: bool) {
        let scope = self.scope();
        let what = if global { "global" } else { "nonlocal" };
        if scope.seen.contains(name) {
            self.refuse(format!("name `{name}` is used prior to {what} declaration"), range.start());
        }
        if if global { scope.nonlocals.contains(name) } else { scope.globals.contains_key(name) } {
            self.refuse(format!("name `{name}` is nonlocal and global"), range.start());
        }
        if global {
            self.scope_mut().globals.insert(name.to_owned(), range);
        } else {
            self.scope_mut().nonlocals.insert(name.to_owned());
        }
    }

    /// Leaving a loop or a function from within `except*`.
    fn leave_star(&self, statement: &Stmt) {
        let mut blocks = self.scope().blocks.iter().rev();
        let stays = match statement {
            Stmt::Return(_) => blocks.all(|block| *block != Block::Star),
            _ => blocks.find(|block| **block != Block::Other) != Some(&Block::Star),
        };
        if !stays {
            let message = "`break`, `continue` and `return` cannot appear in an `except*` block";
            self.refuse(message, statement.start());
        }
    }
}

impl SemanticSyntaxContext for Context<'_> {
    fn future_annotations_or_stub(&self) -> bool {
        self.future
    }

    /// Python 3.11 has no lazy imports: the parser refuses them.
    fn lazy_import_context(&self) -> Option<LazyImportContext> {
        None
    }

    fn python_version(&self) -> PythonVersion {
        PythonVersion::PY311
    }

    fn source(&self) -> &str {
        self.text
    }

    fn global(&self, name: &str) -> Option<TextRange> {
        self.scope().globals.get(name).copied()
    }

    fn has_nonlocal_binding(&self, name: &str) -> bool {
        for scope in self.scopes.iter().rev().skip(1) {
            if scope.kind == Kind::Class && name == "__class__" {
                return true;
            }
            if scope.is_function() && scope.globals.contains_key(name) {
                return false;
            }
            if scope.is_function() && (scope.bound.contains(name) || scope.parameters.contains(name)) {
                return true;
            }
        }
        false
    }

    fn in_async_context(&self) -> bool {
        self.around_comprehensions() == Kind::Function { is_async: true }
    }

    fn in_await_allowed_context(&self) -> bool {
        !matches!(self.scope().kind, Kind::Module | Kind::Class)
    }

    fn in_yield_allowed_context(&self) -> bool {
        self.scope().is_function()
    }

    fn in_sync_comprehension(&self) -> bool {
        matches!(self.scope().kind, Kind::Comprehension { .. }) && !self.in_async_context()
    }

    fn in_class_body_comprehension(&self) -> bool {
        self.around_comprehensions() == Kind::Class
    }

    fn in_module_scope(&self) -> bool {
        self.scope().kind == Kind::Module
    }

    fn in_function_scope(&self) -> bool {
        self.scope().is_function()
    }

    fn in_generator_context(&self) -> bool {
        let inner = self.scopes.iter().rev().map(|scope| scope.kind);
        let mut comprehensions = inner.take_while(|kind| matches!(kind, Kind::Comprehension { .. }));
        comprehensions.any(|kind| kind == Kind::Comprehension { generator: true })
    }

    fn in_notebook(&self) -> bool {
        false
    }

    fn report_semantic_error(&self, error: SemanticSyntaxError) {
        self.refuse(error.to_string(), error.range.start());
    }

    fn in_loop_context(&self) -> bool {
        self.scope().blocks.contains(&Block::Loop)
    }

    fn is_bound_parameter(&self, name: &str) -> bool {
        self.scope().parameters.contains(name)
    }
}

struct Walker<'a> {
    checker: SemanticSyntaxChecker,
    context: Context<'a>,
    /// Expressions around the present one.
    depth: usize,
}

impl<'a> Visitor<'a> for Walker<'_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        self.checker.visit_stmt(statement, &self.context);
        match statement {
            Stmt::FunctionDef(function) => self.function(function),
            Stmt::ClassDef(class) => self.class(class),
            Stmt::For(block) => {
                self.visit_expr(&block.iter);
                self.visit_expr(&block.target);
                self.within(&[Block::Loop], &block.body, statement.start());
                self.visit_body(&block.orelse);
            }
            Stmt::While(block) => {
                self.visit_expr(&block.test);
                self.within(&[Block::Loop], &block.body, statement.start());
                self.visit_body(&block.orelse);
            }
            Stmt::With(block) => {
                block.items.iter().for_each(|item| self.visit_with_item(item));
                self.within(&vec![Block::Other; block.items.len()], &block.body, statement.start());
            }
            Stmt::Try(block) => self.try_(block),
            other => {
                self.simple(other);
                walk_stmt(self, other);
            }
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        if self.depth >= DEEPEST {
            self.context.refuse("expressions are nested too far for its compiler", expression.start());
            return;
        }
        self.depth += 1;
        self.checker.visit_expr(expression, &self.context);
        match expression {
            Expr::Name(name) => self.context.see(&name.id),
            Expr::Lambda(lambda) => {
                let none = Parameters::default();
                let parameters = lambda.parameters.as_deref();
                parameters.into_iter().for_each(|parameters| self.defaults(parameters));
                let scope = Scope::with_parameters(Kind::Lambda, parameters.unwrap_or(&none));
                self.in_scope(scope, |walker| walker.visit_expr(&lambda.body));
            }
            Expr::ListComp(list) => self.comprehension(&list.generators, [Some(&*list.elt)], false),
            Expr::SetComp(set) => self.comprehension(&set.generators, [Some(&*set.elt)], false),
            Expr::Generator(items) => self.comprehension(&items.generators, [Some(&*items.elt)], true),
            Expr::DictComp(dict) => {
                self.comprehension(&dict.generators, [dict.key.as_deref(), Some(&*dict.value)], false);
            }
            other => walk_expr(self, other),
        }
        self.depth -= 1;
    }
}

impl Walker<'_> {
    fn in_scope(&mut self, scope: Scope, walk: impl FnOnce(&mut Self)) {
        self.context.scopes.push(scope);
        walk(self);
        self.context.scopes.pop();
    }

    /// Walks a body within these blocks.
    fn within(&mut self, blocks: &[Block], body: &[Stmt], at: TextSize) {
        let around = self.context.scope().blocks.len();
        if around <= MOST_BLOCKS && around + blocks.len() > MOST_BLOCKS {
            self.context.refuse("too many statically nested blocks", at);
        }
        self.context.scope_mut().blocks.extend(blocks);
        self.visit_body(body);
        self.context.scope_mut().blocks.truncate(around);
    }

    fn try_(&mut self, block: &StmtTry) {
        let at = block.start();
        let guarded: &[Block] = if block.finalbody.is_empty() { &[] } else { &[Block::Other] };
        let caught: &[Block] = if block.handlers.is_empty() { &[] } else { &[Block::Other] };
        let handler_ = if block.is_star { Block::Star } else { Block::Other };
        self.within(&[guarded, caught].concat(), &block.body, at);
        for ExceptHandler::ExceptHandler(handler) in &block.handlers {
            handler.type_.iter().for_each(|kind| self.visit_expr(kind));
            handler.name.iter().for_each(|name| self.context.see(name));
            self.within(&[guarded, &[Block::Other, handler_]].concat(), &handler.body, at);
        }
        self.within(guarded, &block.orelse, at);
        self.within(guarded, &block.finalbody, at);
    }

    fn simple(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Global(global) => {
                global.names.iter().for_each(|name| self.context.declare(name, name.range, true));
            }
            Stmt::Nonlocal(nonlocal) => {
                nonlocal.names.iter().for_each(|name| self.context.declare(name, name.range, false));
            }
            Stmt::Break(_) | Stmt::Continue(_) | Stmt::Return(_) => self.context.leave_star(statement),
            // CPython lets an import stand before `global`.
            Stmt::ImportFrom(import) => self.context.future |= evaluates_no_annotations(import),
            Stmt::If(block) if block.elif_else_clauses.len() > DEEPEST => {
                self.context.refuse("too many `elif` for its compiler", statement.start());
            }
            _ => {}
        }
    }

    fn defaults(&mut self, parameters: &Parameters) {
        parameters.iter().filter_map(|parameter| parameter.default()).for_each(|value| self.visit_expr(value));
    }

    fn function(&mut self, function: &StmtFunctionDef) {
        function.decorator_list.iter().for_each(|decorator| self.visit_expr(&decorator.expression));
        self.defaults(&function.parameters);
        let annotations = function.parameters.iter().filter_map(|parameter| parameter.annotation());
        annotations.chain(function.returns.as_deref()).for_each(|annotation| self.visit_expr(annotation));
        self.context.see(&function.name);
        let kind = Kind::Function { is_async: function.is_async };
        let mut scope = Scope::with_parameters(kind, &function.parameters);
        let mut bindings = Bindings { names: &mut scope.bound };
        bindings.visit_body(&function.body);
        self.in_scope(scope, |walker| walker.visit_body(&function.body));
    }

    fn class(&mut self, class: &StmtClassDef) {
        class.decorator_list.iter().for_each(|decorator| self.visit_expr(&decorator.expression));
        class.arguments.iter().for_each(|arguments| self.visit_arguments(arguments));
        self.context.see(&class.name);
        self.in_scope(Scope::new(Kind::Class), |walker| walker.visit_body(&class.body));
    }

    /// The first sequence is evaluated outside.
    fn comprehension<const N: usize>(
        &mut self,
        generators: &[Comprehension],
        elements: [Option<&Expr>; N],
        generator: bool,
    ) {
        let Some((first, others)) = generators.split_first() else { return };
        self.visit_expr(&first.iter);
        self.in_scope(Scope::new(Kind::Comprehension { generator }), |walker| {
            walker.visit_expr(&first.target);
            first.ifs.iter().for_each(|condition| walker.visit_expr(condition));
            others.iter().for_each(|comprehension| walker.visit_comprehension(comprehension));
            elements.into_iter().flatten().for_each(|element| walker.visit_expr(element));
        });
    }
}

/// `from __future__ import annotations`.
fn evaluates_no_annotations(import: &StmtImportFrom) -> bool {
    let future = import.module.as_ref().is_some_and(|module| module.as_str() == "__future__");
    future && import.names.iter().any(|alias| alias.name.as_str() == "annotations")
}

#[cfg(test)]
mod tests;
