//! MediaWiki's XML export (`pages-articles.xml`), page by page.

use std::io::BufRead;

use deval_report::Diagnostic;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

use super::json::unreadable;
use super::{Article, plain_text};

const OPEN: &[u8] = b"<page>";
const CLOSE: &[u8] = b"</page>";

/// Articles of an export: pages of the main namespace that are no redirects. A page that cannot be read is a finding; reading goes on with the
/// next `<page>`. Memory holds one page.
pub struct MediaWiki<R> {
    file: String,
    input: R,
    buffer: Vec<u8>,
    /// Bytes read, and where the page in the buffer begins.
    read: u64,
    start: u64,
    is_inside: bool,
    is_done: bool,
}

/// What of a page counts.
#[derive(Default)]
struct Page {
    title: String,
    namespace: String,
    text: String,
    is_redirect: bool,
}

impl<R: BufRead> MediaWiki<R> {
    /// Articles of this input, XML without compression; `file` names it in findings.
    pub fn new(file: &str, input: R) -> Self {
        let file = file.to_owned();
        Self { file, input, buffer: Vec::new(), read: 0, start: 0, is_inside: false, is_done: false }
    }

    fn broken(&self, at: u64, message: &str) -> Diagnostic {
        Diagnostic::error("articles.xml", message).in_file(&self.file).found(format!("at byte {at}"))
    }

    /// Reads up to the end of the next page, which is in the buffer then.
    fn next_page(&mut self) -> Option<Result<(), Diagnostic>> {
        loop {
            if !self.is_inside {
                self.buffer.clear();
            }
            let before = self.buffer.len();
            match self.input.read_until(b'>', &mut self.buffer) {
                Err(error) => return self.ended(Some(unreadable(&self.file, &error))),
                Ok(0) => {
                    let cut = self.is_inside.then(|| self.broken(self.start, "the file ends inside a page"));
                    return self.ended(cut);
                }
                Ok(count) => self.read += count as u64,
            }
            let piece = &self.buffer[before..];
            if piece.ends_with(OPEN) {
                let was_inside = std::mem::replace(&mut self.is_inside, true);
                let lost = std::mem::replace(&mut self.start, self.read - OPEN.len() as u64);
                self.buffer.clear();
                self.buffer.extend_from_slice(OPEN);
                if was_inside {
                    return Some(Err(self.broken(lost, "a page does not end before the next one begins")));
                }
            } else if self.is_inside && piece.ends_with(CLOSE) {
                self.is_inside = false;
                return Some(Ok(()));
            }
        }
    }

    fn ended(&mut self, finding: Option<Diagnostic>) -> Option<Result<(), Diagnostic>> {
        self.is_done = true;
        finding.map(Err)
    }

    fn article(&self) -> Result<Option<Article>, Diagnostic> {
        let text = std::str::from_utf8(&self.buffer)
            .map_err(|error| self.broken(self.start + error.valid_up_to() as u64, "this page is no UTF-8"))?;
        let page =
            page(text).map_err(|(at, error)| self.broken(self.start + at, &format!("this page is no XML: {error}")))?;
        let is_main = matches!(page.namespace.trim(), "" | "0");
        let is_redirect = page.is_redirect
            || page.text.trim_start().get(..9).is_some_and(|word| word.eq_ignore_ascii_case("#redirect"));
        Ok(if is_main && !is_redirect { Article::new(page.title.trim(), &plain_text(&page.text)) } else { None })
    }
}

impl<R: BufRead> Iterator for MediaWiki<R> {
    type Item = Result<Article, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            let article = match self.next_page()? {
                Ok(()) => self.article().transpose(),
                Err(finding) => Some(Err(finding)),
            };
            if article.is_some() {
                return article;
            }
        }
        None
    }
}

/// Title, namespace and the last revision's text of a page, or the byte and the reason why not.
fn page(xml: &str) -> Result<Page, (u64, quick_xml::Error)> {
    let (mut reader, mut page, mut element) = (Reader::from_str(xml), Page::default(), Vec::new());
    loop {
        let event = reader.read_event().map_err(|error| (reader.error_position(), error))?;
        match event {
            Event::Eof => return Ok(page),
            Event::Start(start) => {
                element = start.local_name().as_ref().as_bytes().to_vec();
                if element == b"text" {
                    page.text.clear();
                }
            }
            Event::Empty(start) => page.is_redirect |= start.local_name().as_ref().as_bytes() == b"redirect",
            Event::End(_) => element.clear(),
            Event::Text(text) => page.push(&element, &text.xml10_content()),
            Event::CData(text) => page.push(&element, &text.xml10_content()),
            Event::GeneralRef(entity) => page.push(&element, &resolved(&entity)),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

impl Page {
    fn push(&mut self, element: &[u8], text: &str) {
        match element {
            b"title" => self.title.push_str(text),
            b"ns" => self.namespace.push_str(text),
            b"text" => self.text.push_str(text),
            _ => {}
        }
    }
}

/// The character of an entity; one that XML does not know stays for the wikitext.
fn resolved(entity: &BytesRef) -> String {
    if let Ok(Some(character)) = entity.resolve_char_ref() {
        return character.to_string();
    }
    let name = entity.xml10_content();
    resolve_predefined_entity(&name).map_or_else(|| format!("&{name};"), str::to_owned)
}
