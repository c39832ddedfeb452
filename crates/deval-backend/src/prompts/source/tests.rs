use super::*;

fn read(source: &str) -> Module {
    let other = |name: &str| match name {
        "texts" => Some("A = 'a'\nB = f'{A}'\n_C = 'c'".to_owned()),
        "some" => Some("__all__ = ['Y']\nX = 'not imported'\nY = 'y'".to_owned()),
        _ => None,
    };
    Module::read(source, &other).unwrap()
}

fn text(source: &str) -> Result<String, String> {
    match read(source).get("X").cloned() {
        Some(Value::Text(text)) => Ok(text),
        Some(Value::Unknown(unknown)) => Err(format!("{}:{}", unknown.line, unknown.why)),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn what_is_plain_to_see_is_read() {
    for (source, expected) in [
        ("X = 'a' \"b\" '''c\n'''", "abc\n"),
        ("X: str = ('a'\n  r'\\n')", "a\\n"),
        ("A = 'a'\nX = A + 'b' + A", "aba"),
        ("X = 'a'\nX += 'b'", "ab"),
        ("X = Y = 'both'", "both"),
        ("X = 'first'\nX = 'last'", "last"),
        ("X = '=-' * 3", "=-=-=-"),
        ("from textwrap import dedent\nX = dedent('''\\\n    a\n      b\n\n    c''')", "a\n  b\n\nc"),
        ("import textwrap\nX = textwrap.dedent('\\ta\\n\\t b').strip()", "a\n b"),
        ("X = '\\n'.join(['a', 'b'])", "a\nb"),
        ("X = 'a {q}'.replace('{q}', '{query}')", "a {query}"),
        ("from .texts import A as X", "a"),
        ("from .texts import *\nX = A", "a"),
        ("X = 'own'\nfrom .some import *", "own"),
        ("from .some import *\nX = Y", "y"),
        ("X = 'a'\nlog.info(X.strip())\ndef f():\n    Y = globals()", "a"),
        ("P = {'a': ' a ', 'b': ' b '}\nA = P['a'].strip()\nlog(P.items())\nX = P['b'].strip()", "b"),
        ("P = {'x': {'y': 'deep'}}\nX = P['x']['y']", "deep"),
        ("class P:\n    A = 'in class'\nX = P.A", "in class"),
        ("X = 'imported'\nif __name__ == '__main__':\n    X = 'script'", "imported"),
        ("X = '''a\r\n\\r\n'''\rY = 'b'", "a\n\r\n"),
    ] {
        assert_eq!(text(source).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn what_depends_on_running_is_refused_with_a_reason_and_a_line() {
    for (source, line, reason) in [
        ("\nX = f'{y}'", 2, "f-string"),
        ("X = 'a' + f'b'", 1, "f-string"),
        ("X = load()", 1, "`load(…)`"),
        ("X = open('x').read()", 1, "`read(…)`"),
        ("X = 'a %s' % 'b'", 1, "`%`"),
        ("import os\nX = os.environ['X']", 1, "module"),
        ("X = 'a'\nif DEBUG:\n    X = 'b'", 2, "depends on how the source runs"),
        ("try:\n    X = 'a'\nexcept E:\n    pass", 1, "depends"),
        ("for X in ['a']:\n    pass", 1, "depends"),
        ("X, Y = 'a', 'b'", 1, "together"),
        ("def X(): return 'a'", 1, "function"),
        ("from elsewhere import X", 1, "imported"),
        ("from .absent import X", 1, "imported"),
        ("from .texts import B\nX = B", 2, "f-string"),
        ("X = Y", 1, "`Y` is not defined"),
        ("X = 'a'.format(b='c')", 1, "`format(…)`"),
        ("X = 'a' * 10000000", 1, "longer"),
        ("X = 'ab' * 9223372036854775808", 1, "longer"),
        ("X = 'ab' * 99999999999999999999", 1, "computed"),
        (&format!("X = 'aaaa'\n{}", "X = X + X\n".repeat(40)), 20, "longer"),
        (&format!("X = 'aaaa'\n{}", "X = X.replace('a', X)\n".repeat(5)), 5, "longer"),
        ("A = 'a' * 1000000\nX = A.join(['', '', ''])", 2, "longer"),
        ("X = 'a'\nif __name__ != '__main__':\n    X = 'b'", 2, "depends"),
        ("X = 'a'\nif __name__ == '__main__':\n    pass\nelse:\n    X = 'b'", 2, "depends"),
        ("del X", 1, "depends"),
        ("X = 'a'\n(X := 'b')", 2, "depends"),
        ("X = 'a'\nif (X := 'b'):\n    pass", 2, "depends"),
        ("X = 'a'\nY = (X := 'b')", 2, "depends"),
        ("X = 'a'\nwith c('b') as X:\n    pass", 2, "depends"),
        ("X = 'a'\nmatch 'b':\n    case X:\n        pass", 2, "depends"),
        ("X = 'a'\ntry:\n    f()\nexcept E as X:\n    pass", 2, "depends"),
        ("X = 'a'\ndef f():\n    global X\n    X = 'b'\nf()", 2, "depends"),
        ("D = {'A': 'a'}\nD.update(A='b')\nX = D['A']", 2, "depends"),
        ("X = 'a'\nglobals()['X'] = 'b'", 2, "`globals(…)`"),
        ("X = 'a'\nexec('X = 1')", 2, "`exec(…)`"),
        ("X = 'a'\nsetattr(sys.modules[__name__], 'X', 'b')", 2, "`setattr(…)`"),
    ] {
        let found = text(source).unwrap_err();
        assert!(found.starts_with(&format!("{line}:")) && found.contains(reason), "{source}: {found}");
    }
    let Some(Value::Unknown(unknown)) = read("from .texts import B as X").get("X").cloned() else { panic!() };
    assert_eq!(unknown.file.as_deref(), Some("texts.py"));
    assert!(Module::read("X = ", &|_| None).is_err());
}

#[test]
fn attributes_and_calls_of_format_are_seen() {
    let module = read("class P:\n    def __init__(self):\n        self.system_prompt = 's'\n        x = 1\n");
    assert_eq!(module.attribute("system_prompt"), Some(&Value::Text("s".into())));
    for (lines, expected) in [
        ("self.s: str = 'typed'", Ok("typed")),
        ("text = 'local'; self.s = text", Ok("local")),
        ("self.s = 'first'; self.s = 'last'", Ok("last")),
        ("self.s = text", Err("argument")),
        ("self.s = 'a'\n    if text:\n      self.s = text['s']", Err("depends")),
        ("self.s, self.t = 'a', 'b'", Err("depends")),
        ("self.s = 'a'; self.s += 'b'", Err("depends")),
        ("self.s = 'a'\n  def later(self):\n    self.s = 'b'", Err("several")),
    ] {
        let argument = if lines.starts_with("text") { "x" } else { "text" };
        let module = read(&format!("text = 'outside'\nclass P:\n  def __init__(self, {argument}):\n    {lines}"));
        match (module.attribute("s"), expected) {
            (Some(Value::Text(text)), Ok(expected)) => assert_eq!(text, expected, "{lines}"),
            (Some(Value::Unknown(unknown)), Err(why)) => assert!(unknown.why.contains(why), "{lines}: {unknown:?}"),
            (other, _) => panic!("{lines}: {other:?}"),
        }
    }
    assert!(read("def f(p, r):\n    return p.format(query='q', llm_response=r)").formats);
    assert!(read("def f(p, r):\n    return p.format(**r)").formats);
    assert!(read("def f(p, r):\n    return p.format_map(r)").formats);
    assert!(!read("log.format(x=1)\nfill(p, llm_response='r')").formats);
}
