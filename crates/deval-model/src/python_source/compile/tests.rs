use std::process::Command;

use super::super::check_bytes;

/// Sources that Python 3.11 refuses, and what the finding says.
fn refused() -> Vec<(String, &'static str)> {
    let nested = |head: &str, levels: usize| {
        let heads: String = (0..levels).map(|level| format!("{}{head}\n", " ".repeat(level))).collect();
        format!("{heads}{}pass\n", " ".repeat(levels))
    };
    let handlers = |levels: usize| {
        let heads = (0..levels).map(|level| " ".repeat(level));
        let heads: String = heads.map(|space| format!("{space}try: pass\n{space}except E as e:\n")).collect();
        format!("{heads}{}pass\n", " ".repeat(levels))
    };
    let many =
        |count: usize, start: &str, repeated: &str, end: &str| format!("{start}{}{end}\n", repeated.repeat(count));
    let short = [
        ("return 1\n", "return"),
        ("class C:\n    return 1\n", "return"),
        ("break\n", "break"),
        ("for x in y:\n    def f():\n        continue\n", "continue"),
        ("for x in y: pass\nelse: break\n", "break"),
        ("yield 1\n", "yield"),
        ("def f(): return [(yield x) for x in y]\n", "yield"),
        ("await x\n", "await"),
        ("def f():\n    await x\n", "await"),
        ("async def f():\n    return lambda: await x\n", "await"),
        ("def f(): return [x async for x in y]\n", "asynchronous"),
        ("async def f():\n    yield 1\n    return 2\n", "return"),
        ("async def f(): yield from x\n", "yield from"),
        ("nonlocal x\n", "nonlocal"),
        ("def f():\n    nonlocal x\n", "nonlocal"),
        ("x = 1\nfrom __future__ import division\n", "__future__"),
        ("from __future__ import nothing\n", "nothing"),
        ("def f(a, a): pass\n", "uplicate"),
        ("f = lambda a, a: 1\n", "uplicate"),
        ("def f():\n    from os import *\n", "import *"),
        ("x = 1\nglobal x\n", "global"),
        ("def f():\n    x = 1\n    global x\n", "prior to global"),
        ("def f():\n    def x(): pass\n    global x\n", "prior to global"),
        ("def f():\n    x = 1\n    def g():\n        x = 2\n        nonlocal x\n", "prior to nonlocal"),
        ("def f(x):\n    global x\n", "parameter"),
        ("def f():\n    x = 1\n    def g():\n        global x\n        nonlocal x\n", "nonlocal and global"),
        ("def f():\n    global x\n    x: int = 1\n", "global"),
        ("f(a=1, a=2)\n", "keyword"),
        ("*a = 1\n", "tarred"),
        ("a, *b, *c = 1\n", "tarred"),
        ("__debug__ = 1\n", "__debug__"),
        ("class C:\n    x = [(a := b) for b in c]\n", "assignment expression"),
        ("match x:\n    case a: pass\n    case 1: pass\n", "unreachable"),
        ("for x in y:\n    try: pass\n    except* E: break\n", "except*"),
        ("# -*- coding: nope -*-\n", "`nope`"),
        ("# coding: utf-16\n", "`utf_16`"),
        ("# coding: rot13\n", "`rot13`"),
        ("#\n# vim: set fileencoding=ascii :\nx = 'é'\n", "`ascii`"),
        ("\u{feff}# coding: latin-1\n", "mark of UTF-8"),
        ("# \0\n", "null"),
    ];
    let short = short.into_iter().map(|(text, words)| (text.to_owned(), words));
    let long = [
        (many(201, "x = ", "(", &format!("1{}", ")".repeat(201))), "nested parentheses"),
        (many(5000, "x = ", "(", &format!("1{}", ")".repeat(5000))), "nested parentheses"),
        (nested("if a:", 100), "indentation"),
        (nested("for a in b:", 21), "nested blocks"),
        (nested("while a:", 21), "nested blocks"),
        (nested("with a:", 21), "nested blocks"),
        (format!("with {}a: pass\n", "a, ".repeat(20)), "nested blocks"),
        (handlers(11), "nested blocks"),
        (many(3000, "x = ", "-", "a"), "too far"),
        (many(3000, "x = ", "a + ", "a"), "too far"),
        (many(3000, "x = a", ".a", ""), "too far"),
        (many(3000, "if a: pass\n", "elif a: pass\n", ""), "elif"),
        (many(100_000, "x = ", "-", "1"), ""),
    ];
    short.chain(long).collect()
}

/// Sources that Python 3.11 takes.
fn taken() -> Vec<String> {
    let nested = |head: &str, levels: usize| {
        let heads: String = (0..levels).map(|level| format!("{}{head}\n", " ".repeat(level))).collect();
        format!("{heads}{}pass\n", " ".repeat(levels))
    };
    let short = [
        "def f():\n    return 1\n",
        "for x in y:\n    if x: break\n    with z: continue\nelse: pass\n",
        "while a:\n    for x in y: pass\n    else: break\n",
        "def f():\n    yield 1\n    return lambda: (yield 2)\n",
        "async def f():\n    await x\n    return [await y for y in z] + [y async for y in z]\n",
        "def f(): return (await x for x in y)\nz = (x async for x in y)\n",
        "def f():\n    def g():\n        nonlocal x\n        x = 2\n    x = 1\n",
        "def f(x):\n    class C:\n        nonlocal x\n        def g(self):\n            nonlocal __class__, x\n",
        "def f(a):\n    match a:\n        case [x, *y]: pass\n    def g():\n        nonlocal x, y\n",
        "def f():\n    if (x := 1): pass\n    def g():\n        def h():\n            nonlocal x\n        nonlocal x\n",
        "'''Text.'''\nfrom __future__ import annotations\nfrom __future__ import division\nimport os\n",
        "from os import *\nglobal x\nx = 1\nx: int = 2\n",
        "def f():\n    global x\n    x = 1\n    def g():\n        x = 2\n        def h():\n            nonlocal x\n",
        "x = 1\ndef f():\n    global x\n    x = 2\n    global y\n",
        "def f():\n    import x\n    global x\n",
        "f(a=1, b=2, **a, **b)\na, *b = c\n[*a] = b\n",
        "try: pass\nexcept* E:\n    for x in y: break\n",
        "class C:\n    x = [a for a in b]\n    y = lambda: (c := 1)\n",
        "match x:\n    case a if a: pass\n    case _: pass\n",
        "def f():\n    try: return 1\n    finally: pass\n",
        "@f\nasync def g(a, /, b=1, *c, d, **e) -> int: pass\n",
        "x = {k: v for k, v in y for z in k if z}\nx = {**a, 'b': 1}\nx = f'{a!r:>{b}} {c}'\n",
        "# coding: utf-8-sig\nx = 'é'\n",
        "\u{feff}# -*- coding: UTF-8 -*-\n",
        "x = 1\ny = 2\n# coding: nope\n",
        "x = 1\n# coding: nope\n",
        "# coding: latin-1\nx = 'é'\n",
        "# coding: iso-8859-15\nx = 'é'\n",
    ];
    let long = [
        nested("if a:", 99),
        nested("for a in b:", 20),
        format!("x = {}1{}\n", "(".repeat(200), ")".repeat(200)),
        format!("x = {}a\n", "-".repeat(2900)),
        format!("x = [{}]\n", "1, ".repeat(200_000)),
    ];
    short.into_iter().map(str::to_owned).chain(long).collect()
}

/// What the validator's Python would refuse, of the sources of a file of `pipeline.py`'s package that defines nothing.
fn refusal(text: &[u8]) -> Option<String> {
    let found = check_bytes(text, "other.py").into_iter();
    let mut errors = found.filter(|finding| finding.code == "G35").map(|finding| {
        assert!(finding.place.is_some(), "{finding:?}");
        finding.message
    });
    errors.next()
}

#[test]
fn what_the_compiler_refuses_is_an_error() {
    let wrong = refused().into_iter().filter_map(|(text, words)| {
        let message = refusal(text.as_bytes()).unwrap_or_else(|| "passes".into());
        (message == "passes" || !message.contains(words)).then(|| (text.chars().take(80).collect::<String>(), message))
    });
    assert_eq!(wrong.collect::<Vec<_>>(), []);
    for text in taken() {
        let start: String = text.chars().take(80).collect();
        assert_eq!(refusal(text.as_bytes()), None, "{start:?}");
    }
}

#[test]
fn a_refusal_has_its_place() {
    let found = check_bytes(b"x = 1\nif x:\n    return 2\n", "other.py");
    assert_eq!(found[0].place.as_ref().unwrap().to_string(), "other.py:3:5");
    assert_eq!(found[0].severity, deval_report::Severity::Error);
}

#[test]
fn declared_encodings_are_read_as_python_does() {
    for good in [&b"# coding: latin-1\nx = '\xe9\x81'\n"[..], b"#!/bin/x\r\n# coding=cp1252\r\nx = '\x80'\n"] {
        assert_eq!(refusal(good), None);
    }
    for (bad, words) in [
        (&b"x = '\xe9'\n"[..], "not UTF-8"),
        (b"# coding: cp1252\nx = '\x81'\n", "not of the encoding `cp1252`"),
        (b"# coding: koi8-r\nx = '\xc1'\n", "`koi8_r`, so it cannot be looked at"),
        (b"# coding: utf-8\nx = '\xc1'\n", "not of the encoding `utf_8`"),
    ] {
        assert!(refusal(bad).unwrap().contains(words), "{words}");
    }
}

/// Whether Python 3.11 compiles each of these; `None` where there is none.
fn python(texts: &[String]) -> Option<Vec<bool>> {
    let dir = tempfile::tempdir().unwrap();
    for (number, text) in texts.iter().enumerate() {
        std::fs::write(dir.path().join(format!("{number}.py")), text).unwrap();
    }
    let script = "import sys\nfor n in range(int(sys.argv[2])):\n  try:\n    \
                  compile(open(f'{sys.argv[1]}/{n}.py', 'rb').read(), 'x', 'exec', dont_inherit=True); print(1)\n  \
                  except (SyntaxError, RecursionError, MemoryError, ValueError): print(0)\n";
    let count = texts.len().to_string();
    let run = Command::new("python3.11").args(["-W", "ignore", "-c", script]).arg(dir.path()).arg(count).output();
    let Some(run) = run.ok().filter(|run| run.status.success()) else {
        let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name.trim() == "python"), "DEVAL_TEST_REQUIRE asks for python3.11");
        eprintln!("skipped: python3.11 is not here");
        return None;
    };
    Some(String::from_utf8(run.stdout).unwrap().lines().map(|line| line == "1").collect())
}

#[test]
fn python_itself_says_the_same() {
    let refused = refused().into_iter().map(|(text, _)| (text, false));
    let (texts, expected): (Vec<_>, Vec<_>) = refused.chain(taken().into_iter().map(|text| (text, true))).unzip();
    let Some(verdicts) = python(&texts) else { return };
    assert_eq!(verdicts.len(), texts.len());
    let wrong = texts.iter().zip(expected).zip(verdicts).filter(|((_, expected), verdict)| expected != verdict);
    let wrong = wrong.map(|((text, _), verdict)| (text.chars().take(80).collect::<String>(), verdict));
    assert_eq!(wrong.collect::<Vec<_>>(), []);
}
