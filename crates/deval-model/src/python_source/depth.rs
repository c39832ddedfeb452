//! Trees that are deeper than a stack. The parser takes care of itself; walking and freeing a tree recurse.

use std::thread;

use ruff_python_ast::token::{TokenKind, Tokens};
use ruff_text_size::{Ranged, TextSize};

/// Nesting that every thread's stack has room for.
pub(super) const SHALLOW: usize = 300;

/// The deepest nesting that is looked at. CPython 3.11 gives up long before; but the bound counts flat tables as well.
pub(super) const DEEPEST: usize = 100_000;

/// Stack of one level, in a build without optimisation, and of everything else.
const LEVEL: usize = 4096;
const BASE: usize = 4 << 20;

/// Brackets within each other, and blocks, that CPython's tokenizer takes (`MAXLEVEL`, `MAXINDENT`).
const MOST_BRACKETS: usize = 200;
const MOST_BLOCKS: usize = 99;

/// One bracket that is open, or the statement around all of them.
#[derive(Default)]
struct Level {
    /// Tokens since the last comma, and since the beginning where a lambda's commas do not part siblings.
    tokens: usize,
    lambda: bool,
    /// The deepest bracket since then.
    inner: usize,
    /// The deepest of what is between two commas.
    deepest: usize,
}

impl Level {
    fn part(&mut self) {
        self.deepest = self.deepest.max(self.tokens + self.inner);
        if !self.lambda {
            (self.tokens, self.inner) = (0, 0);
        }
    }
}

/// How deep a tree of these tokens can be: each level has a token of its own, within one statement and the blocks around it. What
/// commas part lies side by side.
pub(super) fn bound(tokens: &Tokens) -> usize {
    let (mut blocks, mut deepest) = (0usize, 0);
    let mut levels = vec![Level::default()];
    for token in tokens {
        match token.kind() {
            TokenKind::Newline => {
                let statement = std::mem::replace(&mut levels, vec![Level::default()]);
                deepest = deepest.max(blocks + depth(statement));
            }
            TokenKind::Indent => blocks += 1,
            TokenKind::Dedent => blocks = blocks.saturating_sub(1),
            TokenKind::Comment | TokenKind::NonLogicalNewline => {}
            kind => step(&mut levels, kind),
        }
    }
    deepest.max(blocks + depth(levels))
}

fn step(levels: &mut Vec<Level>, kind: TokenKind) {
    let closed = (closes(kind) && levels.len() > 1).then(|| levels.pop()).flatten();
    if let Some(level) = levels.last_mut() {
        level.tokens += 1;
        level.lambda |= kind == TokenKind::Lambda;
        level.inner = level.inner.max(closed.map_or(0, |closed| depth(vec![closed])));
        if kind == TokenKind::Comma {
            level.part();
        }
    }
    if opens(kind) {
        levels.push(Level::default());
    }
}

/// The depth of levels that are still open.
fn depth(levels: Vec<Level>) -> usize {
    levels.into_iter().rev().fold(0, |inner, mut level| {
        level.inner = level.inner.max(inner);
        level.part();
        level.deepest
    })
}

fn opens(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace)
}

fn closes(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace)
}

/// What CPython's tokenizer refuses, and where.
pub(super) fn refusal(tokens: &Tokens) -> Option<(String, TextSize)> {
    let (mut blocks, mut brackets) = (0usize, 0usize);
    for token in tokens {
        match token.kind() {
            TokenKind::Indent => blocks += 1,
            TokenKind::Dedent => blocks = blocks.saturating_sub(1),
            kind if opens(kind) => brackets += 1,
            kind if closes(kind) => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        if brackets > MOST_BRACKETS {
            return Some(("too many nested parentheses".into(), token.start()));
        }
        if blocks > MOST_BLOCKS {
            return Some(("too many levels of indentation".into(), token.start()));
        }
    }
    None
}

/// Runs where the stack has room for this many levels. The system gives a thread's stack memory only as far as it is used.
pub(super) fn on_a_stack_for<T: Send>(levels: usize, run: impl FnOnce() -> T + Send) -> T {
    if levels <= SHALLOW {
        return run();
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(BASE + levels * LEVEL).spawn_scoped(scope, run);
        thread.expect("the system has room for a thread").join().expect("the checks do not panic")
    })
}
