//! Trees that are deeper than a stack. The parser takes care of itself; walking and freeing a tree recurse.

use std::thread;

use ruff_python_ast::token::{TokenKind, Tokens};

/// Nesting that every thread's stack has room for.
pub(super) const SHALLOW: usize = 500;

/// The deepest nesting that is looked at. CPython 3.11 gives up long before; but the bound counts flat tables as well.
pub(super) const DEEPEST: usize = 100_000;

/// Stack of one level, in a build without optimisation, and of everything else.
const LEVEL: usize = 4096;
const BASE: usize = 4 << 20;

/// How deep a tree of these tokens can be: each level has a token of its own, within one statement and the blocks around it.
pub(super) fn bound(tokens: &Tokens) -> usize {
    let (mut blocks, mut statement, mut deepest) = (0usize, 0, 0);
    for token in tokens {
        match token.kind() {
            TokenKind::Newline => statement = 0,
            TokenKind::Indent => blocks += 1,
            TokenKind::Dedent => blocks = blocks.saturating_sub(1),
            TokenKind::Comment | TokenKind::NonLogicalNewline => {}
            _ => statement += 1,
        }
        deepest = deepest.max(blocks + statement);
    }
    deepest
}

/// Runs on a thread whose stack is large enough for this many levels. The system gives it memory only as far as it is used.
pub(super) fn on_a_stack_for<T: Send>(levels: usize, run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(BASE + levels * LEVEL).spawn_scoped(scope, run);
        thread.expect("the system has room for a thread").join().expect("the checks do not panic")
    })
}
