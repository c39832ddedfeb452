//! What stays out of the package: the defaults, `[package] ignore` of the manifest, and `.devalignore` in the model folder, in this
//! order. The last rule that speaks of a file decides, so `.devalignore` can take back what comes before it.

use std::path::Path;

use deval_report::Diagnostic;

use crate::ModelError;
use crate::files;

/// Name of the file with rules, in the model folder. Lines are as in `.gitignore`: `#` begins a comment, `!` takes files back, a `/` at
/// the beginning or in the middle ties the pattern to the package's root, one at the end means folders; `*`, `?` and `[a-z]` stay
/// within a name, `**` goes across.
pub(crate) const FILE: &str = ".devalignore";

/// What training and tools leave beside a model. Hidden files, pickles and key files stay out whatever the rules say.
const DEFAULTS: &str = "\
*.gguf
*.ggml
*.onnx
*.h5
*.msgpack
*.tflite
*.log
*.tmp
*.swp
*~
*.lock
*.incomplete
events.out.tfevents.*
trainer_state.json
all_results.json
train_results.json
eval_results.json
Thumbs.db
desktop.ini
deval.toml
";

/// All rules, the deciding ones last.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    /// Whether files are taken back.
    keep: bool,
    /// Whether only the whole path counts, and not any part of it.
    anchored: bool,
    /// Whether only what lies in a folder counts.
    folder: bool,
    pattern: Vec<char>,
}

impl Rules {
    /// The rules for a model folder. The manifest's patterns speak of root files only.
    pub(crate) fn read(model_dir: &Path, manifest: &[String]) -> Result<Self, ModelError> {
        let path = model_dir.join(FILE);
        let own = match files::read_small(&path, "package.source", FILE)? {
            Ok(own) => own.unwrap_or_default(),
            Err(finding) => return Err(ModelError::Unsound { path, message: finding.message }),
        };
        let manifest = manifest.iter().map(|pattern| format!("/{pattern}"));
        let lines = DEFAULTS.lines().map(str::to_owned).chain(manifest);
        let own = String::from_utf8_lossy(&own);
        let own = own.trim_start_matches('\u{feff}').lines().map(str::to_owned);
        Ok(Self(lines.chain(own).filter_map(|line| Rule::parse(&line)).collect()))
    }

    /// Whether a file with this path in the package stays out.
    pub(crate) fn leave_out(&self, path: &str) -> bool {
        let deciding = self.0.iter().rev().find(|rule| rule.matches(path));
        deciding.is_some_and(|rule| !rule.keep)
    }
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (keep, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
        // A backslash lets a name begin with `#` or `!`.
        let line = line.strip_prefix('\\').filter(|rest| rest.starts_with(['#', '!'])).unwrap_or(line);
        let (folder, line) = line.strip_suffix('/').map_or((false, line), |rest| (true, rest));
        let anchored = line.contains('/');
        let pattern: Vec<char> = line.strip_prefix('/').unwrap_or(line).chars().collect();
        (!pattern.is_empty()).then_some(Self { keep, anchored, folder, pattern })
    }

    /// Whether the rule speaks of the file, or of a folder that it lies in.
    fn matches(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at);
        let whole = (!self.folder).then_some(path.len());
        ends.chain(whole).any(|end| {
            let part = &path[..end];
            let part = if self.anchored { part } else { part.rsplit('/').next().unwrap_or(part) };
            fits(&self.pattern, &part.chars().collect::<Vec<_>>())
        })
    }
}

/// Whether the text fits the pattern. Positions that the pattern can have reached are kept as a set, so that no pattern is slow.
fn fits(pattern: &[char], text: &[char]) -> bool {
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    skip_stars(pattern, &mut reached);
    for c in text {
        let mut next = vec![false; pattern.len() + 1];
        for at in (0..pattern.len()).filter(|at| reached[*at]) {
            let (step, taken) = one(&pattern[at..], *c);
            if taken {
                next[at + step] = true;
            }
        }
        skip_stars(pattern, &mut next);
        reached = next;
    }
    reached[pattern.len()]
}

/// A star may stand for nothing; `**/` for no folder at all.
fn skip_stars(pattern: &[char], reached: &mut [bool]) {
    for at in 0..pattern.len() {
        if !reached[at] {
            continue;
        }
        match pattern[at..] {
            ['*', '*', '/', ..] => (reached[at + 2], reached[at + 3]) = (true, true),
            ['*', ..] => reached[at + 1] = true,
            _ => {}
        }
    }
}

/// How far the pattern goes on over one character, and whether it takes it.
fn one(pattern: &[char], c: char) -> (usize, bool) {
    match pattern {
        ['*', '*', ..] => (0, true),
        ['*', ..] => (0, c != '/'),
        ['?', ..] => (1, c != '/'),
        ['[', rest @ ..] => match rest.iter().skip(1).position(|end| *end == ']') {
            Some(end) => (end + 3, c != '/' && in_class(&rest[..=end], c)),
            None => (1, c == '['),
        },
        ['\\', escaped, ..] => (2, c == *escaped),
        [plain, ..] => (1, c == *plain),
        [] => (0, false),
    }
}

/// Whether a character is in a class such as `a-z`, `!abc` or `^abc`.
fn in_class(class: &[char], c: char) -> bool {
    let (not, mut class) = match class {
        ['!' | '^', rest @ ..] => (true, rest),
        class => (false, class),
    };
    let mut within = false;
    while let [first, rest @ ..] = class {
        class = rest;
        if let ['-', last, rest @ ..] = class {
            within |= (*first..=*last).contains(&c);
            class = rest;
        } else {
            within |= *first == c;
        }
    }
    within != not
}

/// What is wrong with the file of rules itself.
pub(super) fn check(model_dir: &Path, file: &str) -> Result<Option<Diagnostic>, ModelError> {
    let Ok(bytes) = files::read_small(&model_dir.join(FILE), "package.ignore", file)? else { return Ok(None) };
    let fault = std::str::from_utf8(&bytes.unwrap_or_default()).err();
    Ok(fault.map(|fault| {
        let message = format!("{FILE} is not UTF-8, so its rules may leave out other files than meant");
        let finding = Diagnostic::error("package.ignore", message).in_file(file);
        finding.found(format!("a wrong byte at {}", fault.valid_up_to())).help("save it as UTF-8")
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(lines: &str) -> Rules {
        Rules(lines.lines().filter_map(Rule::parse).collect())
    }

    #[test]
    fn patterns_as_in_gitignore() {
        for (lines, out, kept) in [
            ("*.txt", vec!["a.txt", "model/b.txt"], vec!["a.txt2", "txt"]),
            ("/*.txt", vec!["a.txt"], vec!["model/b.txt"]),
            ("model/", vec!["model/a.py", "model/b/c.py"], vec!["model"]),
            ("model/*.py", vec!["model/a.py"], vec!["model/b/c.py", "a.py"]),
            ("model/**/test_*.py", vec!["model/test_a.py", "model/b/c/test_d.py"], vec!["model/b/a.py"]),
            ("**/tests", vec!["tests/a", "model/tests/b.py"], vec!["model/tests.py"]),
            ("a?c[0-9][!x]", vec!["abc1y"], vec!["abc1x", "abcay", "abc1"]),
            ("*.json\n!config.json\n# all", vec!["a.json"], vec!["config.json", "# all"]),
            ("!a\na", vec!["a"], vec!["b"]),
            ("\\#a\n\\!b\n[", vec!["#a", "!b", "["], vec!["a", "b"]),
            ("a b  ", vec!["a b"], vec!["a b  "]),
            ("ä*ö", vec!["äö", "ä-ö"], vec!["ä"]),
            ("a\\*", vec!["a*"], vec!["ab"]),
            ("/\n\n//", vec![], vec!["a", "b/c"]),
        ] {
            let rules = rules(lines);
            out.into_iter().for_each(|path| assert!(rules.leave_out(path), "{lines:?} {path}"));
            kept.into_iter().for_each(|path| assert!(!rules.leave_out(path), "{lines:?} {path}"));
        }
    }

    #[test]
    fn a_hostile_pattern_is_quick() {
        let rule = rules(&"*a".repeat(2000));
        assert!(!rule.leave_out(&"a".repeat(1999)));
        assert!(rule.leave_out(&"a".repeat(2000)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_rule_and_any_path_give_an_answer(line in "[a*?!\\[\\]\\\\/#^ -]{0,12}", path in "[a*/-]{0,10}") {
            rules(&line).leave_out(&path);
        }

        #[test]
        fn a_plain_name_matches_itself_anywhere(name in "[a-z.]{1,8}", folder in "[a-z]{1,5}") {
            let rules = rules(&name);
            prop_assert!(rules.leave_out(&name));
            let inner = format!("{folder}/{name}");
            prop_assert!(rules.leave_out(&inner));
        }
    }
}
