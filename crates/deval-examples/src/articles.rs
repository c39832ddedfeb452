//! Articles as contexts: a Wikipedia dump, WikiExtractor's lines, single files, or the answer of Wikipedia's API.
//!
//! What becomes of an article follows upstream's `WikiDataset` (`deval/tools/datasets/wiki.py`). Readers are iterators over a
//! [`BufRead`](std::io::BufRead) that their caller opens (and decompresses); they hold one article at a time.

mod examples;
mod facts;
mod json;
mod text;
mod wikitext;
mod xml;

use std::collections::HashSet;

use deval_eval::python;
use serde::{Deserialize, Serialize};

pub use examples::examples;
pub use json::{WikiExtractor, from_api};
pub use text::from_file;
pub use wikitext::plain_text;
pub use xml::MediaWiki;

/// Licence of Wikipedia's texts, as an SPDX expression.
pub const WIKIPEDIA_LICENCE: &str = "CC-BY-SA-4.0";
/// Topic of every article, as upstream.
pub const ALL_SECTIONS: &str = "All Sections";
/// Heading of the only section of an article without a usable one.
pub const FULL_CONTENT: &str = "full_content";
/// Words of a section at least.
const MIN_WORDS: usize = 50;
/// Parents whose sections are left out. Upstream compares the parent only, so these sections themselves are kept.
const EXCLUDED: [&str; 4] = ["See also", "References", "Further reading", "External links"];

/// An article as the validator's generators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Article {
    /// Title.
    pub title: String,
    /// Always [`ALL_SECTIONS`].
    pub topic: String,
    /// The texts of the usable sections, a line break between; the lead is not among them.
    pub content: String,
    /// The usable sections in order; at least one.
    pub sections: Vec<Section>,
}

/// A usable section; parent and heading together are unique in the article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// The last heading before it without text of its own; empty when there is none.
    pub parent: String,
    /// Its text, without headings.
    pub text: String,
}

impl Article {
    /// The article of a plain text with headings like `== History ==`, of any level; `None` when it holds no text.
    pub fn new(title: &str, page: &str) -> Option<Self> {
        let mut sections = usable_sections(page);
        if sections.is_empty() {
            let text = page.trim().to_owned();
            sections.push(Section { heading: FULL_CONTENT.to_owned(), parent: String::new(), text });
        }
        let content = sections.iter().map(|section| section.text.as_str()).collect::<Vec<_>>().join("\n");
        let (title, topic) = (title.to_owned(), ALL_SECTIONS.to_owned());
        (!content.is_empty()).then_some(Self { title, topic, content, sections })
    }
}

fn usable_sections(page: &str) -> Vec<Section> {
    let (mut parent, mut keys, mut sections) = (String::new(), HashSet::new(), Vec::new());
    for (heading, text) in headed_texts(page) {
        if text.is_empty() {
            heading.clone_into(&mut parent);
            continue;
        }
        let is_usable = !EXCLUDED.contains(&parent.as_str()) && python::split(&text).count() >= MIN_WORDS;
        if is_usable && keys.insert((parent.clone(), heading)) {
            sections.push(Section { heading: heading.to_owned(), parent: parent.clone(), text });
        }
    }
    sections
}

/// Headings with the text up to the next one; text before the first is the lead, which upstream never sees.
fn headed_texts(page: &str) -> Vec<(&str, String)> {
    let mut parts: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in page.lines() {
        match (heading(line), parts.last_mut()) {
            (Some(heading), _) => parts.push((heading, Vec::new())),
            (None, Some((_, lines))) => lines.push(line.trim_end()),
            (None, None) => {}
        }
    }
    parts.into_iter().map(|(heading, lines)| (heading, python::strip(&lines.join("\n")).to_owned())).collect()
}

/// `== Heading ==`.
fn heading(line: &str) -> Option<&str> {
    let inner = line.trim().strip_prefix("==")?.strip_suffix("==")?.trim_matches('=').trim();
    (!inner.is_empty()).then_some(inner)
}

#[cfg(test)]
mod tests;
