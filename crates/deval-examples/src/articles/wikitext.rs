//! Wikitext to plain text with headings.
//!
//! One pass with a stack of open brackets, so time is linear and any text is taken: what closes is resolved in the output, what never closes
//! stays as text. No template is expanded; a few whose text is theirs (`lang`, `convert`, …) keep it. A parser's tree is more than is needed here.

use std::collections::HashSet;

use quick_xml::escape::resolve_html5_entity;

mod lines;

/// Tags whose content is no text of the article.
const DROPPED: [&str; 16] = [
    "ref",
    "references",
    "gallery",
    "math",
    "chem",
    "timeline",
    "score",
    "syntaxhighlight",
    "source",
    "hiero",
    "imagemap",
    "graph",
    "mapframe",
    "maplink",
    "templatedata",
    "style",
];
/// Tags that mark up text.
const MARKUP: [&str; 52] = [
    "abbr",
    "b",
    "bdi",
    "big",
    "blockquote",
    "br",
    "caption",
    "center",
    "cite",
    "code",
    "dd",
    "del",
    "div",
    "dl",
    "dt",
    "em",
    "font",
    "h1",
    "h2",
    "h3",
    "h4",
    "hr",
    "i",
    "includeonly",
    "ins",
    "kbd",
    "li",
    "mark",
    "noinclude",
    "nowiki",
    "ol",
    "onlyinclude",
    "p",
    "poem",
    "pre",
    "q",
    "s",
    "samp",
    "section",
    "small",
    "span",
    "strong",
    "sub",
    "sup",
    "table",
    "td",
    "templatestyles",
    "th",
    "time",
    "tr",
    "u",
    "ul",
];
/// Namespaces whose links are no text, in the languages of the largest dumps.
const NAMESPACES: [&str; 16] = [
    "file",
    "image",
    "media",
    "category",
    "datei",
    "bild",
    "kategorie",
    "fichier",
    "catégorie",
    "archivo",
    "categoría",
    "immagine",
    "categoria",
    "ficheiro",
    "файл",
    "категория",
];
/// Templates whose text is one of their parameters.
const KEPT: [(&str, usize); 8] =
    [("lang", 2), ("transl", 2), ("nowrap", 1), ("nobr", 1), ("small", 1), ("as of", 1), ("circa", 1), ("abbr", 1)];
/// Characters that may begin markup.
const SPECIAL: &[u8] = b"<{}[]|&'\n_";
/// Bytes of a tag, and of a template that is looked into, at most.
const LONGEST: usize = 1000;
/// Spaces and colons before a table at most.
const LONGEST_INDENT: usize = 100;
/// Brackets in each other at most; more are dropped.
const DEEPEST: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Template,
    Table,
    Link,
    External,
}

/// An open bracket: where its content begins in the output, and the last bar of a link.
struct Open {
    kind: Kind,
    start: usize,
    bar: Option<usize>,
}

struct Stripper<'a> {
    rest: &'a str,
    out: String,
    open: Vec<Open>,
    /// What was looked for and is nowhere behind.
    missing: HashSet<String>,
}

/// The text a reader sees, with headings as `== Heading ==`: without templates, tables, notes, comments, files and categories.
pub fn plain_text(wikitext: &str) -> String {
    let mut stripper = Stripper {
        rest: wikitext,
        out: String::with_capacity(wikitext.len() / 2),
        open: Vec::new(),
        missing: HashSet::new(),
    };
    while !stripper.rest.is_empty() {
        stripper.step();
    }
    lines::tidy(&stripper.out)
}

impl Stripper<'_> {
    fn step(&mut self) {
        let plain = self.rest.bytes().position(|byte| SPECIAL.contains(&byte)).unwrap_or(self.rest.len());
        self.copy(plain);
        let skipped = match self.rest.as_bytes() {
            [] => 0,
            [b'<', ..] => self.tag(),
            [b'{', b'{', ..] => self.begin(Kind::Template, 2),
            [b'{', b'|', ..] if self.is_line_start() => self.begin(Kind::Table, 2),
            [b'}', b'}', ..] => self.end_block(Kind::Template),
            [b'|', b'}', ..] if self.is_in_table() => self.end_block(Kind::Table),
            [b'[', b'[', ..] => self.begin(Kind::Link, 2),
            [b']', b']', ..] if !self.is_top(Kind::External) => self.end_link(),
            [b'[', ..] if is_address(&self.rest[1..]) => self.begin(Kind::External, 1),
            [b']', ..] if self.is_top(Kind::External) => self.end_external(),
            [b'|', ..] => self.bar(),
            [b'&', ..] => self.entity(),
            [b'\'', b'\'', ..] => self.quotes(),
            [b'\n', ..] => self.line_end(),
            [b'_', b'_', ..] => self.magic_word(),
            _ => {
                self.copy(1);
                0
            }
        };
        self.rest = &self.rest[skipped..];
    }

    fn copy(&mut self, count: usize) {
        self.out.push_str(&self.rest[..count]);
        self.rest = &self.rest[count..];
    }

    fn is_line_start(&self) -> bool {
        let before = self.out.bytes().rev().take(LONGEST_INDENT).find(|byte| !b" :".contains(byte));
        before.is_none_or(|byte| byte == b'\n')
    }

    fn is_top(&self, kind: Kind) -> bool {
        self.open.last().is_some_and(|open| open.kind == kind)
    }

    /// Whether `|}` ends a table: not where it is the last bar of a template.
    fn is_in_table(&self) -> bool {
        self.is_top(Kind::Table)
            || (!self.rest.starts_with("|}}") && !self.is_top(Kind::Template) && !self.open.is_empty())
    }

    fn begin(&mut self, kind: Kind, length: usize) -> usize {
        if self.open.len() < DEEPEST {
            self.open.push(Open { kind, start: self.out.len(), bar: None });
        }
        length
    }

    /// Ends a template or a table; links that are still open inside are none.
    fn end_block(&mut self, kind: Kind) -> usize {
        while self.is_top(Kind::Link) || self.is_top(Kind::External) {
            self.open.pop();
        }
        if self.is_top(kind)
            && let Some(open) = self.open.pop()
        {
            let kept = if kind == Kind::Template { kept(&self.out[open.start..]) } else { None };
            self.out.truncate(open.start);
            self.out.extend(kept);
        }
        2
    }

    fn end_link(&mut self) -> usize {
        if self.is_top(Kind::Link)
            && let Some(Open { start, bar, .. }) = self.open.pop()
        {
            let target = &self.out[start..];
            if is_hidden(target, bar.is_some()) {
                self.out.truncate(start);
            } else if let Some(bar) = bar.filter(|bar| bar + 1 < self.out.len()) {
                self.out.drain(start..=bar);
            } else if bar.is_some() {
                self.out.pop();
            } else if target.starts_with(':') {
                self.out.remove(start);
            }
        }
        2
    }

    /// The label is what follows the first space.
    fn end_external(&mut self) -> usize {
        if let Some(Open { start, .. }) = self.open.pop() {
            let end = self.out[start..].find(' ').map_or(self.out.len(), |space| start + space + 1);
            self.out.drain(start..end);
        }
        1
    }

    fn bar(&mut self) -> usize {
        let place = self.out.len();
        if let Some(open) = self.open.last_mut().filter(|open| open.kind == Kind::Link) {
            open.bar = Some(place);
        }
        self.copy(1);
        0
    }

    fn line_end(&mut self) -> usize {
        while self.is_top(Kind::External) {
            self.open.pop();
        }
        self.copy(1);
        0
    }

    /// Bold and italics are dropped, apostrophes beyond them kept.
    fn quotes(&mut self) -> usize {
        let run = self.rest.len() - self.rest.trim_start_matches('\'').len();
        let kept = if run == 4 { 1 } else { run.saturating_sub(5) };
        self.out.extend(std::iter::repeat_n('\'', kept));
        run
    }

    /// `__TOC__` and its like.
    fn magic_word(&mut self) -> usize {
        let name = self.rest[2..].bytes().take(30).take_while(u8::is_ascii_uppercase).count();
        if name > 0 && self.rest[2 + name..].starts_with("__") {
            return name + 4;
        }
        self.copy(2);
        0
    }

    fn entity(&mut self) -> usize {
        let end = self.rest.bytes().take(32).position(|byte| byte == b';');
        let decoded = end.and_then(|end| decoded(&self.rest[1..end]));
        match (end, decoded) {
            (Some(end), Some(text)) => {
                self.out.push_str(&text);
                end + 1
            }
            _ => {
                self.copy(1);
                0
            }
        }
    }

    /// A comment or a tag, with its content where that is no text.
    fn tag(&mut self) -> usize {
        if self.rest.starts_with("<!--") {
            return self.after("-->").unwrap_or(4);
        }
        let inner = self.rest[1..].trim_start_matches('/');
        let name: String = inner.chars().take(20).take_while(char::is_ascii_alphanumeric).collect();
        let name = name.to_ascii_lowercase();
        let end = self.rest.bytes().take(LONGEST).position(|byte| byte == b'>');
        let is_dropped = DROPPED.contains(&name.as_str());
        let Some(end) = end.filter(|_| is_dropped || MARKUP.contains(&name.as_str())) else {
            self.copy(1);
            return 0;
        };
        let opens = !self.rest.starts_with("</") && self.rest.as_bytes()[end - 1] != b'/';
        match name.as_str() {
            "nowiki" if opens => return self.literal(end + 1),
            "br" => self.out.push('\n'),
            _ if is_dropped && opens => return self.end_of(&name, end + 1).map_or(end + 1, |(_, end)| end),
            _ => {}
        }
        end + 1
    }

    /// Copies the content of `<nowiki>` as it is, up to the closing tag.
    fn literal(&mut self, from: usize) -> usize {
        let end = self.end_of("nowiki", from).map_or(from, |(end, _)| end);
        self.out.push_str(&self.rest[from..end]);
        end
    }

    fn after(&mut self, mark: &str) -> Option<usize> {
        if self.missing.contains(mark) {
            return None;
        }
        let found = self.rest.find(mark).map(|at| at + mark.len());
        if found.is_none() {
            self.missing.insert(mark.to_owned());
        }
        found
    }

    /// Where the closing tag of this name begins and ends, from a place on.
    fn end_of(&mut self, name: &str, from: usize) -> Option<(usize, usize)> {
        if self.missing.contains(name) {
            return None;
        }
        let is_name = |at: &usize| {
            let rest = &self.rest.as_bytes()[at + 2..];
            rest.len() > name.len() && rest[..name.len()].eq_ignore_ascii_case(name.as_bytes())
        };
        let mut ends = self.rest[from..].match_indices("</").map(|(at, _)| from + at);
        let begin = ends.find(|at| is_name(at) && !self.rest.as_bytes()[at + 2 + name.len()].is_ascii_alphanumeric());
        let Some(begin) = begin else {
            self.missing.insert(name.to_owned());
            return None;
        };
        let tag = &self.rest.as_bytes()[begin..];
        let end = tag
            .iter()
            .take(LONGEST)
            .position(|byte| *byte == b'>')
            .map_or(begin + 2 + name.len(), |end| begin + end + 1);
        Some((begin, end))
    }
}

fn is_address(rest: &str) -> bool {
    ["http://", "https://", "//", "mailto:", "ftp://"].iter().any(|scheme| rest.starts_with(scheme))
}

/// Whether a link is no text: a file, a category, or the same article in another language.
fn is_hidden(target: &str, has_label: bool) -> bool {
    let prefix: String = target.chars().take(16).take_while(|c| *c != ':').collect();
    if !target[prefix.len()..].starts_with(':') {
        return false;
    }
    let is_language = (2..=3).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_lowercase());
    NAMESPACES.contains(&prefix.trim().to_lowercase().as_str()) || (is_language && !has_label)
}

/// The text of a template that is its own.
fn kept(content: &str) -> Option<String> {
    if content.len() > LONGEST {
        return None;
    }
    let parts: Vec<&str> = content.split('|').map(str::trim).collect();
    let name = parts[0].to_lowercase();
    if name == "convert" || name == "cvt" {
        return Some(format!("{} {}", parts.get(1)?, parts.get(2)?));
    }
    let of_language = name.strip_prefix("lang-").map(|_| 1);
    let place = of_language.or_else(|| KEPT.iter().find(|(kept, _)| *kept == name).map(|(_, place)| *place))?;
    parts.get(place).map(|text| (*text).to_owned())
}

fn decoded(entity: &str) -> Option<String> {
    let code = match entity.strip_prefix('#') {
        None => return resolve_html5_entity(entity).map(|text| text.replace('\u{a0}', " ")),
        Some(code) => match code.strip_prefix(['x', 'X']) {
            Some(code) => u32::from_str_radix(code, 16),
            None => code.parse(),
        },
    };
    let character = code.ok().and_then(char::from_u32).filter(|character| *character != '\0')?;
    Some(if character == '\u{a0}' { " ".to_owned() } else { character.to_string() })
}

#[cfg(test)]
mod tests;
