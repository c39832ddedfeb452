//! What a Python module binds to names, as far as that can be told without running it.

use std::collections::{BTreeMap, BTreeSet};

use deval_eval::python;
use ruff_python_ast::{
    CmpOp, ExceptHandler, Expr, ExprBinOp, ExprCall, ModModule, Number, Operator, Pattern, Stmt, StmtAnnAssign,
    StmtFunctionDef, StmtImportFrom, WithItem,
    visitor::{Visitor, walk_except_handler, walk_expr, walk_pattern, walk_stmt, walk_with_item},
};
use ruff_python_parser::parse_module;
use ruff_text_size::{Ranged, TextRange};

/// Modules that import from one another are followed this far.
const DEEPEST_IMPORT: usize = 4;

/// Functions that may bind any name.
const BIND_ANY: [&str; 6] = ["exec", "eval", "globals", "locals", "vars", "setattr"];

/// Methods that change a table.
const CHANGING: [&str; 6] = ["update", "pop", "popitem", "clear", "setdefault", "__setitem__"];

/// Texts that are put together stay below this length.
const LONGEST_TEXT: usize = 1 << 20;

/// Why what is set within a branch or a loop cannot be told.
const ON_HOW_IT_RUNS: &str = "it is set where it depends on how the source runs";

/// What a name stands for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A string.
    Text(String),
    /// A dictionary with string keys, or a class with its attributes.
    Table(BTreeMap<String, Value>),
    /// Known only to who runs the source.
    Unknown(Unknown),
}

/// Why a value cannot be told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unknown {
    /// From 1, in the file that `file` names.
    pub(super) line: u32,
    /// The file, when it is another than the one that was asked.
    pub(super) file: Option<String>,
    /// In words.
    pub(super) why: String,
}

/// A module's names.
pub(super) struct Module {
    names: BTreeMap<String, Value>,
    /// What methods assign to attributes of `self`.
    attributes: BTreeMap<String, Value>,
    /// What `from … import *` gives where the module says it in `__all__`.
    all: Option<BTreeSet<String>>,
    /// Whether texts are filled by `str.format(…, llm_response=…)`.
    pub(super) formats: bool,
}

impl Module {
    /// Reads a module; `load` gives the source of another module of the folder by its name.
    ///
    /// # Errors
    /// The source does not parse: the line and the parser's words.
    pub(super) fn read(source: &str, load: &dyn Fn(&str) -> Option<String>) -> Result<Self, (u32, String)> {
        Self::read_at(source, load, 0)
    }

    fn read_at(source: &str, load: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<Self, (u32, String)> {
        // As Python reads it: every line ends in "\n", also within a text.
        let source = &source.replace("\r\n", "\n").replace('\r', "\n");
        let module = parse_module(source)
            .map_err(|error| (line(source, error.location), error.error.to_string()))?
            .into_syntax();
        let mut reader = Reader { source, load, depth, names: BTreeMap::new(), attributes: BTreeMap::new() };
        module.body.iter().for_each(|statement| reader.statement(statement));
        let (names, attributes) = (reader.names, reader.attributes);
        Ok(Self { names, attributes, all: all(&module), formats: formats(&module) })
    }

    /// What `NAME`, or `TABLE.key.key`, stands for.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let mut value = self.names.get(parts.next()?)?;
        for part in parts {
            match value {
                Value::Table(table) => value = table.get(part)?,
                Value::Unknown(_) => return Some(value),
                Value::Text(_) => return None,
            }
        }
        Some(value)
    }

    /// What a method assigns to `self.NAME`.
    pub(super) fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.get(name)
    }
}

struct Reader<'a> {
    source: &'a str,
    load: &'a dyn Fn(&str) -> Option<String>,
    depth: usize,
    names: BTreeMap<String, Value>,
    attributes: BTreeMap<String, Value>,
}

type Evaluated = Result<Value, Unknown>;

impl Reader<'_> {
    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Assign(assign) => {
                let value = self.value(&assign.value);
                for target in &assign.targets {
                    self.bind(target, value.clone());
                }
            }
            Stmt::AnnAssign(assign) => {
                if let Some(value) = &assign.value {
                    let value = self.value(value);
                    self.bind(&assign.target, value);
                }
            }
            Stmt::AugAssign(assign) => {
                let old = self.evaluate(&assign.target);
                let new = self.evaluate(&assign.value);
                let sum = old.and_then(|old| self.binary(assign.op, old, new?, assign.range));
                self.bind(&assign.target, sum.unwrap_or_else(Value::Unknown));
            }
            Stmt::ImportFrom(import) => self.import(import),
            Stmt::Import(import) => {
                for alias in &import.names {
                    let name = alias.asname.as_ref().map_or(alias.name.as_str(), |name| name.as_str());
                    self.unknown(name, import.range, "it is a module");
                }
            }
            Stmt::FunctionDef(function) => {
                self.unknown(&function.name, function.range, "it is a function");
            }
            Stmt::ClassDef(class) => self.class(&class.name, &class.body),
            // What runs only as a script binds nothing on import.
            Stmt::If(branch) if branch.elif_else_clauses.is_empty() && is_main_guard(&branch.test) => return,
            _ => {}
        }
        self.bound_elsewhere(statement);
    }

    /// Names that a statement binds in other ways than those that are read.
    fn bound_elsewhere(&mut self, statement: &Stmt) {
        let mut bound = Bound::default();
        match statement {
            // These were read; within them names may be bound too.
            Stmt::Assign(_) | Stmt::AnnAssign(_) | Stmt::AugAssign(_) | Stmt::ImportFrom(_) | Stmt::Import(_) => {
                walk_stmt(&mut bound, statement);
            }
            Stmt::FunctionDef(_) | Stmt::ClassDef(_) => bound.globals(statement),
            other => bound.visit_stmt(other),
        }
        if let Some(function) = bound.any {
            bound.names = self.names.keys().cloned().collect();
            bound
                .names
                .iter()
                .for_each(|name| self.unknown(name, statement.range(), &format!("`{function}(…)` may set it")));
            return;
        }
        // A method of a table may change it.
        let tables = bound.receivers.into_iter().filter(|name| matches!(self.names.get(name), Some(Value::Table(_))));
        bound.names.extend(tables.collect::<Vec<_>>());
        for name in bound.names {
            self.unknown(&name, statement.range(), ON_HOW_IT_RUNS);
        }
    }

    fn bind(&mut self, target: &Expr, value: Value) {
        match target {
            Expr::Name(name) => {
                self.names.insert(name.id.to_string(), value);
            }
            other => {
                for name in names_in(other) {
                    self.unknown(&name, other.range(), "it is set together with others");
                }
            }
        }
    }

    fn unknown(&mut self, name: &str, range: TextRange, why: &str) {
        let unknown = self.refusal(range, why);
        self.names.insert(name.to_owned(), Value::Unknown(unknown));
    }

    fn refusal(&self, range: TextRange, why: impl Into<String>) -> Unknown {
        Unknown { line: line(self.source, range), file: None, why: why.into() }
    }

    /// `from .texts import NAME` of the same folder is followed; anything else lies outside of the pipeline.
    fn import(&mut self, import: &StmtImportFrom) {
        let path = import.module.as_ref().map(|module| module.as_str());
        let module = path.filter(|path| import.level == 1 && !path.contains('.') && self.depth < DEEPEST_IMPORT);
        let source = module.and_then(|module| (self.load)(module));
        let read = source.and_then(|source| Module::read_at(&source, self.load, self.depth + 1).ok());
        for alias in &import.names {
            let name = alias.asname.as_ref().unwrap_or(&alias.name);
            let found = read.as_ref().zip(module);
            match (alias.name.as_str(), found) {
                ("*", Some((read, module))) => {
                    let is_public = |name: &String| match &read.all {
                        Some(all) => all.contains(name),
                        None => !name.starts_with('_'),
                    };
                    let public = read.names.iter().filter(|(name, _)| is_public(name));
                    self.names.extend(public.map(|(name, value)| (name.clone(), from(module, value))));
                }
                (wanted, Some((read, module))) if read.names.contains_key(wanted) => {
                    self.names.insert(name.to_string(), from(module, &read.names[wanted]));
                }
                _ => self.unknown(name, import.range, "it is imported from elsewhere"),
            }
        }
    }

    fn class(&mut self, name: &str, body: &[Stmt]) {
        let mut inner = self.inner();
        let outer = inner.names.clone();
        for statement in body {
            match statement {
                Stmt::FunctionDef(method) => self.method(method),
                other => inner.statement(other),
            }
        }
        let own = inner.names.into_iter().filter(|(name, value)| outer.get(name) != Some(value)).collect();
        self.names.insert(name.to_owned(), Value::Table(own));
    }

    /// What a method leaves in attributes of `self`, if no other method leaves something else there.
    fn method(&mut self, method: &StmtFunctionDef) {
        let mut inner = self.inner();
        for parameter in &method.parameters {
            inner.unknown(parameter.name(), parameter.range(), "it is an argument");
        }
        for statement in &method.body {
            let mut set = OwnAttributes::default();
            set.visit_stmt(statement);
            let value = match statement {
                Stmt::Assign(assign) if assign.targets.iter().all(Expr::is_attribute_expr) => {
                    inner.value(&assign.value)
                }
                Stmt::AnnAssign(StmtAnnAssign { value: Some(value), .. }) => inner.value(value),
                other => Value::Unknown(inner.refusal(other.range(), ON_HOW_IT_RUNS)),
            };
            inner.attributes.extend(set.0.into_iter().map(|name| (name, value.clone())));
            inner.statement(statement);
        }
        for (name, value) in inner.attributes {
            let other = self.attributes.get(&name).is_some_and(|known| *known != value);
            let several = || Value::Unknown(self.refusal(method.range, "it is set in several places"));
            let value = if other { several() } else { value };
            self.attributes.insert(name, value);
        }
    }

    /// A reader of what lies within, which knows the names from outside.
    fn inner(&self) -> Self {
        Self { names: self.names.clone(), attributes: BTreeMap::new(), ..*self }
    }

    fn value(&self, expression: &Expr) -> Value {
        self.evaluate(expression).unwrap_or_else(Value::Unknown)
    }

    fn text(&self, expression: &Expr) -> Result<String, Unknown> {
        match self.evaluate(expression)? {
            Value::Text(text) => Ok(text),
            Value::Unknown(unknown) => Err(unknown),
            Value::Table(_) => Err(self.refusal(expression.range(), "it is a table and not a text")),
        }
    }

    fn evaluate(&self, expression: &Expr) -> Evaluated {
        let refuse = |why: &str| Err(self.refusal(expression.range(), why));
        match expression {
            Expr::StringLiteral(text) => Ok(Value::Text(text.value.to_str().to_owned())),
            Expr::FString(_) => refuse("it is an f-string, which Python fills while the module is loaded"),
            Expr::Name(name) => match self.names.get(name.id.as_str()) {
                Some(Value::Unknown(unknown)) => Err(unknown.clone()),
                Some(value) => Ok(value.clone()),
                None => refuse(&format!("`{}` is not defined before it", name.id)),
            },
            Expr::BinOp(ExprBinOp { left, op, right, range, .. }) => {
                self.binary(*op, self.evaluate(left)?, self.number_or_value(right)?, *range)
            }
            Expr::Call(call) => self.call(call).map(Value::Text),
            Expr::Dict(dict) => {
                let item = |item: &ruff_python_ast::DictItem| match &item.key {
                    Some(Expr::StringLiteral(key)) => Some((key.value.to_str().to_owned(), self.value(&item.value))),
                    _ => None,
                };
                let table: Option<BTreeMap<_, _>> = dict.items.iter().map(item).collect();
                table.map(Value::Table).map_or_else(|| refuse("its keys are not all strings"), Ok)
            }
            Expr::Attribute(attribute) => self.entry(&attribute.value, attribute.attr.as_str(), expression.range()),
            Expr::Subscript(subscript) => {
                let key = self.text(&subscript.slice)?;
                self.entry(&subscript.value, &key, expression.range())
            }
            _ => refuse("it is computed"),
        }
    }

    fn entry(&self, table: &Expr, key: &str, range: TextRange) -> Evaluated {
        let Value::Table(table) = self.evaluate(table)? else {
            return Err(self.refusal(range, "it is computed"));
        };
        match table.get(key) {
            Some(Value::Unknown(unknown)) => Err(unknown.clone()),
            Some(value) => Ok(value.clone()),
            None => Err(self.refusal(range, format!("there is no `{key}`"))),
        }
    }

    /// A count, which only `*` takes, as its digits.
    fn number_or_value(&self, expression: &Expr) -> Evaluated {
        match expression {
            Expr::NumberLiteral(number) => match &number.value {
                Number::Int(count) => Ok(Value::Text(count.to_string())),
                _ => Err(self.refusal(number.range, "it is computed")),
            },
            other => self.evaluate(other),
        }
    }

    fn binary(&self, operator: Operator, left: Value, right: Value, range: TextRange) -> Evaluated {
        let (Value::Text(left), Value::Text(right)) = (left, right) else {
            return Err(self.refusal(range, "it is computed"));
        };
        match operator {
            Operator::Add => {
                self.bounded(left.len().saturating_add(right.len()), range)?;
                Ok(Value::Text(left + &right))
            }
            Operator::Mult => {
                let count: usize = right.parse().map_err(|_| self.refusal(range, "it is computed"))?;
                self.bounded(count.saturating_mul(left.len()), range)?;
                Ok(Value::Text(left.repeat(count)))
            }
            Operator::Mod => Err(self.refusal(range, "it is filled with `%`; use fields in braces")),
            _ => Err(self.refusal(range, "it is computed")),
        }
    }

    /// String methods and functions whose result is plain to see.
    fn call(&self, call: &ExprCall) -> Result<String, Unknown> {
        let range = call.range();
        let (arguments, keywords) = (&call.arguments.args, &call.arguments.keywords);
        let refuse = |why: String| Err(self.refusal(range, why));
        let (receiver, name) = match &*call.func {
            Expr::Attribute(attribute) => (Some(&*attribute.value), attribute.attr.as_str()),
            Expr::Name(name) => (None, name.id.as_str()),
            _ => return refuse("it is computed".into()),
        };
        if !keywords.is_empty() {
            return refuse(format!("it is what `{name}(…)` gives"));
        }
        match (name, receiver, &arguments[..]) {
            ("dedent", _, [text]) => Ok(dedent(&self.text(text)?)),
            ("strip", Some(text), []) => Ok(python::strip(&self.text(text)?).to_owned()),
            ("lstrip", Some(text), []) => Ok(self.text(text)?.trim_start_matches(python::is_space).to_owned()),
            ("rstrip", Some(text), []) => Ok(self.text(text)?.trim_end_matches(python::is_space).to_owned()),
            ("replace", Some(text), [old, new]) => {
                let (text, old, new) = (self.text(text)?, self.text(old)?, self.text(new)?);
                self.bounded(text.matches(&old).count().saturating_mul(new.len()).saturating_add(text.len()), range)?;
                Ok(text.replace(&old, &new))
            }
            ("join", Some(between), [Expr::List(list)]) => self.joined(between, &list.elts, range),
            ("join", Some(between), [Expr::Tuple(tuple)]) => self.joined(between, &tuple.elts, range),
            _ => refuse(format!("it is what `{name}(…)` gives")),
        }
    }

    fn joined(&self, between: &Expr, items: &[Expr], range: TextRange) -> Result<String, Unknown> {
        let between = self.text(between)?;
        let items = items.iter().map(|item| self.text(item)).collect::<Result<Vec<_>, _>>()?;
        let lengths = items.iter().map(|item| item.len().saturating_add(between.len()));
        self.bounded(lengths.fold(0, usize::saturating_add), range)?;
        Ok(items.join(&between))
    }

    /// Refuses a text of more than [`LONGEST_TEXT`] bytes before it is made.
    fn bounded(&self, length: usize, range: TextRange) -> Result<(), Unknown> {
        let refusal = || self.refusal(range, format!("it would be longer than {LONGEST_TEXT} bytes"));
        if length <= LONGEST_TEXT { Ok(()) } else { Err(refusal()) }
    }
}

/// A value of another module; what is unknown there is said with its file.
fn from(module: &str, value: &Value) -> Value {
    match value {
        Value::Unknown(unknown) => {
            let file = unknown.file.clone().or_else(|| Some(format!("{module}.py")));
            Value::Unknown(Unknown { file, ..unknown.clone() })
        }
        known => known.clone(),
    }
}

/// `textwrap.dedent`.
fn dedent(text: &str) -> String {
    let blank = |line: &str| line.bytes().all(|byte| matches!(byte, b' ' | b'\t'));
    let lines: Vec<&str> = text.split('\n').map(|line| if blank(line) { "" } else { line }).collect();
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let margin = lines.iter().filter(|line| !line.is_empty()).map(|line| &line[..indent(line)]).reduce(|a, b| {
        let common = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
        &a[..common]
    });
    let margin = margin.map_or(0, str::len);
    lines.iter().map(|line| line.get(margin..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn line(source: &str, range: TextRange) -> u32 {
    let before = source.get(..range.start().to_usize()).unwrap_or(source);
    u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX)
}

/// `__name__ == "__main__"`
fn is_main_guard(test: &Expr) -> bool {
    let Expr::Compare(compare) = test else { return false };
    let is_name = matches!(&*compare.left, Expr::Name(name) if name.id == "__name__");
    let is_main = |with: &Expr| with.as_string_literal_expr().is_some_and(|text| text.value.to_str() == "__main__");
    is_name && *compare.ops == [CmpOp::Eq] && compare.comparators.iter().all(is_main)
}

fn names_in(expression: &Expr) -> Vec<String> {
    struct Names(Vec<String>);
    impl<'a> Visitor<'a> for Names {
        fn visit_expr(&mut self, expression: &'a Expr) {
            if let Expr::Name(name) = expression {
                self.0.push(name.id.to_string());
            }
            walk_expr(self, expression);
        }
    }
    let mut names = Names(Vec::new());
    names.visit_expr(expression);
    names.0
}

/// Attributes of `self` that a statement may set, blocks within it included.
#[derive(Default)]
struct OwnAttributes(Vec<String>);

impl<'a> Visitor<'a> for OwnAttributes {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::Attribute(attribute) = expression
            && attribute.ctx.is_store()
            && matches!(&*attribute.value, Expr::Name(name) if name.id == "self")
        {
            self.0.push(attribute.attr.to_string());
        }
        walk_expr(self, expression);
    }
}

/// Names that a statement may bind, blocks within it included.
#[derive(Default)]
struct Bound {
    names: Vec<String>,
    /// A function that may bind any name.
    any: Option<&'static str>,
    /// Names of what methods may change.
    receivers: Vec<String>,
}

impl Bound {
    /// What a function or class binds outside of itself: what it names in `global`.
    fn globals(&mut self, statement: &Stmt) {
        struct Globals<'b>(&'b mut Vec<String>);
        impl<'a> Visitor<'a> for Globals<'_> {
            fn visit_stmt(&mut self, statement: &'a Stmt) {
                if let Stmt::Global(global) = statement {
                    self.0.extend(global.names.iter().map(ToString::to_string));
                }
                walk_stmt(self, statement);
            }
        }
        Globals(&mut self.names).visit_stmt(statement);
    }
}

impl<'a> Visitor<'a> for Bound {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Assign(assign) => self.names.extend(assign.targets.iter().flat_map(names_in)),
            Stmt::AnnAssign(assign) => self.names.extend(names_in(&assign.target)),
            Stmt::AugAssign(assign) => self.names.extend(names_in(&assign.target)),
            Stmt::For(each) => self.names.extend(names_in(&each.target)),
            Stmt::Delete(delete) => self.names.extend(delete.targets.iter().flat_map(names_in)),
            Stmt::Import(import) => self.names.extend(import.names.iter().map(bound_name)),
            Stmt::ImportFrom(import) => self.names.extend(import.names.iter().map(bound_name)),
            Stmt::FunctionDef(function) => self.names.push(function.name.to_string()),
            Stmt::ClassDef(class) => self.names.push(class.name.to_string()),
            _ => {}
        }
        match statement {
            Stmt::FunctionDef(_) | Stmt::ClassDef(_) => self.globals(statement),
            other => walk_stmt(self, other),
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Named(named) => self.names.extend(names_in(&named.target)),
            Expr::Call(call) => match &*call.func {
                Expr::Name(name) => self.any = self.any.or(BIND_ANY.into_iter().find(|any| *any == name.id.as_str())),
                Expr::Attribute(method) if CHANGING.contains(&method.attr.as_str()) => {
                    self.receivers.extend(names_in(&method.value));
                }
                _ => {}
            },
            _ => {}
        }
        walk_expr(self, expression);
    }

    fn visit_with_item(&mut self, item: &'a WithItem) {
        self.names.extend(item.optional_vars.iter().flat_map(|target| names_in(target)));
        walk_with_item(self, item);
    }

    fn visit_except_handler(&mut self, handler: &'a ExceptHandler) {
        let ExceptHandler::ExceptHandler(handled) = handler;
        self.names.extend(handled.name.iter().map(ToString::to_string));
        walk_except_handler(self, handler);
    }

    fn visit_pattern(&mut self, pattern: &'a Pattern) {
        let name = match pattern {
            Pattern::MatchAs(capture) => capture.name.as_ref(),
            Pattern::MatchStar(capture) => capture.name.as_ref(),
            Pattern::MatchMapping(capture) => capture.rest.as_ref(),
            _ => None,
        };
        self.names.extend(name.map(ToString::to_string));
        walk_pattern(self, pattern);
    }
}

/// The names in the last `__all__ = […]` of a module.
fn all(module: &ModModule) -> Option<BTreeSet<String>> {
    let names = |items: &[Expr]| {
        let names = items.iter().filter_map(|item| item.as_string_literal_expr());
        names.map(|name| name.value.to_str().to_owned()).collect()
    };
    module.body.iter().rev().find_map(|statement| {
        let assign = statement.as_assign_stmt()?;
        let is_all = |target: &Expr| matches!(target, Expr::Name(name) if name.id.as_str() == "__all__");
        match &*assign.value {
            Expr::List(list) if assign.targets.iter().any(is_all) => Some(names(&list.elts)),
            Expr::Tuple(tuple) if assign.targets.iter().any(is_all) => Some(names(&tuple.elts)),
            _ => None,
        }
    })
}

fn bound_name(alias: &ruff_python_ast::Alias) -> String {
    alias.asname.as_ref().unwrap_or(&alias.name).to_string()
}

/// Whether a module calls `….format(…, llm_response=…)`, `….format(**…)` or `….format_map(…)`.
fn formats(module: &ModModule) -> bool {
    struct Calls(bool);
    impl<'a> Visitor<'a> for Calls {
        fn visit_expr(&mut self, expression: &'a Expr) {
            if let Expr::Call(call) = expression
                && let Expr::Attribute(method) = &*call.func
            {
                let keyword = |keyword: &ruff_python_ast::Keyword| {
                    keyword.arg.as_ref().is_none_or(|name| name.as_str() == "llm_response")
                };
                self.0 |= match method.attr.as_str() {
                    "format" => call.arguments.keywords.iter().any(keyword),
                    name => name == "format_map",
                };
            }
            walk_expr(self, expression);
        }
    }
    let mut calls = Calls(false);
    module.body.iter().for_each(|statement| calls.visit_stmt(statement));
    calls.0
}

#[cfg(test)]
mod tests;
