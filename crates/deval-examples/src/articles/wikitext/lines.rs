//! What is left to do line by line once the brackets are gone.

/// Gaps that a dropped template or note leaves, and what stands for them.
const GAPS: [(&str, &str); 9] = [
    ("  ", " "),
    ("(;", "("),
    ("(,", "("),
    ("( ", "("),
    (" )", ")"),
    ("()", ""),
    (" ,", ","),
    (" ;", ";"),
    ("  ", " "),
];

/// Headings written alike, list marks and rules dropped, at most one blank line in a row and none
/// below a heading.
pub(super) fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_blank = true;
    for line in text.lines().map(line).filter(|line| !is_remnant(line)) {
        if !(is_blank && line.is_empty()) {
            out.push_str(&line);
            out.push('\n');
        }
        is_blank = line.is_empty() || line.starts_with("==");
    }
    out.truncate(out.trim_end().len());
    out
}

/// A row of a table that never ends.
fn is_remnant(line: &str) -> bool {
    line.starts_with(['|', '!']) || line.starts_with("{|")
}

fn line(raw: &str) -> String {
    let raw = raw.trim();
    if let Some(heading) = heading(raw) {
        return heading;
    }
    let bare = raw.trim_start_matches(['*', '#', ':', ';']).trim_start();
    let bare = if bare.starts_with("----") { bare.trim_start_matches('-') } else { bare };
    GAPS.iter()
        .fold(
            bare.to_owned(),
            |line, (gap, instead)| {
                if line.contains(gap) { line.replace(gap, instead) } else { line }
            },
        )
        .trim()
        .to_owned()
}

/// The heading with as many signs on either side; a single one is a title, which articles do not use.
fn heading(line: &str) -> Option<String> {
    let inner = line.trim_start_matches('=');
    let level = line.len() - inner.len();
    let text = inner.trim_end_matches('=');
    let level = level.min(inner.len() - text.len()).min(6);
    let text = text.trim();
    (level >= 2 && !text.is_empty()).then(|| format!("{signs} {text} {signs}", signs = "=".repeat(level)))
}
