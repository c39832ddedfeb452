//! JSON: WikiExtractor's lines, and the answer of MediaWiki's API.

use std::io::BufRead;

use deval_report::Diagnostic;
use serde_json::Value;

use super::Article;

/// Articles of a WikiExtractor file (`--json`): an object with `title` and `text` a line. A line that cannot be read is a finding; the next one
/// is read all the same.
pub struct WikiExtractor<R> {
    file: String,
    input: R,
    line: u32,
    is_done: bool,
}

impl<R: BufRead> WikiExtractor<R> {
    /// Articles of this input; `file` names it in findings.
    pub fn new(file: &str, input: R) -> Self {
        Self { file: file.to_owned(), input, line: 0, is_done: false }
    }

    fn article(&self, line: &[u8]) -> Result<Option<Article>, Diagnostic> {
        let finding = |message: String| Diagnostic::error("articles.json", message).at(&self.file, self.line, 1);
        let value: Value =
            serde_json::from_slice(line).map_err(|error| finding(format!("this line is no JSON: {error}")))?;
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        match (text("title"), text("text")) {
            (Some(title), Some(text)) => Ok(Article::new(title, text)),
            _ => Err(finding("this line has no `title` and `text`".to_owned())),
        }
    }
}

impl<R: BufRead> Iterator for WikiExtractor<R> {
    type Item = Result<Article, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        while !self.is_done {
            line.clear();
            match self.input.read_until(b'\n', &mut line) {
                Ok(0) => self.is_done = true,
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(unreadable(&self.file, &error)));
                }
                Ok(_) => {
                    self.line = self.line.saturating_add(1);
                    let is_blank = line.trim_ascii().is_empty();
                    let article = if is_blank { None } else { self.article(&line).transpose() };
                    if article.is_some() {
                        return article;
                    }
                }
            }
        }
        None
    }
}

pub(super) fn unreadable(file: &str, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error("articles.read", format!("the file cannot be read further: {error}")).in_file(file)
}

/// Articles in an answer to `action=query&prop=extracts&explaintext=1&exsectionformat=wiki` (with `generator=random` or titles), in the order of
/// the answer. Missing pages and pages without text are told.
pub fn from_api(json: &str) -> (Vec<Article>, Vec<Diagnostic>) {
    let finding = |message: String| Diagnostic::error("articles.api", message);
    let answer: Value = match serde_json::from_str(json) {
        Ok(answer) => answer,
        Err(error) => return (Vec::new(), vec![finding(format!("the answer is no JSON: {error}"))]),
    };
    if let Some(info) = answer.pointer("/error/info") {
        return (Vec::new(), vec![finding(format!("the API refused: {}", info.as_str().unwrap_or("no reason given")))]);
    }
    let pages: Vec<&Value> = match answer.pointer("/query/pages") {
        Some(Value::Object(pages)) => pages.values().collect(),
        Some(Value::Array(pages)) => pages.iter().collect(),
        _ => return (Vec::new(), vec![finding("the answer has no `query.pages`".to_owned())]),
    };
    let (mut articles, mut findings) = (Vec::new(), Vec::new());
    for page in pages {
        let text = |name: &str| page.get(name).and_then(Value::as_str);
        let title = text("title").unwrap_or_default();
        match text("extract").and_then(|extract| Article::new(title, extract)) {
            Some(article) => articles.push(article),
            None => {
                findings.push(Diagnostic::warning("articles.empty", "a page of the answer has no text").found(title))
            }
        }
    }
    (articles, findings)
}
