//! Opens articles: dumps, JSON Lines, text files, folders of these, and Wikipedia itself.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use bzip2::read::MultiBzDecoder;
use deval_examples::articles::{Article, MediaWiki, WikiExtractor, from_api, from_file};
use deval_llm::{Settings, wikipedia};
use deval_report::{Diagnostic, Severity};

use super::text_of;
use crate::{cli::Generate, findings::Findings, ui::Ui};

/// Up to `--most-articles` articles of all sources, with what could not be read.
pub(super) fn read(arguments: &Generate, ui: Ui) -> anyhow::Result<(Vec<Article>, Vec<Diagnostic>)> {
    let mut collected = Collected { most: arguments.most_articles, ..Collected::default() };
    for path in &arguments.articles {
        for file in files(path)? {
            collected.add(&file)?;
        }
    }
    if let Some(count) = arguments.wikipedia {
        let spinner = ui.spinner("asking Wikipedia");
        let base = std::env::var("WIKIPEDIA_URL").unwrap_or_else(|_| wikipedia::WIKIPEDIA.to_owned());
        let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
        let answers = runtime.block_on(wikipedia::random_articles(count, &base, Settings::default()))?;
        spinner.finish_and_clear();
        for answer in answers {
            let (articles, findings) = from_api(&answer);
            collected.articles.extend(articles);
            collected.findings.extend(findings);
        }
    }
    let asked = !arguments.articles.is_empty() || arguments.wikipedia.is_some();
    if asked && collected.articles.is_empty() {
        bail!(
            "no article could be read{}",
            collected.findings.first().map(|f| format!(": {}", f.message)).unwrap_or_default()
        );
    }
    // What could be read serves; the rest is told, and does not fail the command.
    let told = |finding: Diagnostic| Diagnostic { severity: finding.severity.min(Severity::Warning), ..finding };
    Ok((collected.articles, collected.findings.into_iter().map(told).collect()))
}

#[derive(Default)]
struct Collected {
    most: usize,
    articles: Vec<Article>,
    findings: Vec<Diagnostic>,
}

impl Collected {
    fn add(&mut self, file: &Path) -> anyhow::Result<()> {
        let name = file.to_string_lossy().into_owned();
        match kind(&name) {
            Kind::Dump => self.extend(MediaWiki::new(&name, open(file)?)),
            Kind::Lines => self.extend(WikiExtractor::new(&name, open(file)?)),
            Kind::Text if self.articles.len() < self.most => match text_of(file) {
                Ok(text) => self.articles.extend(from_file(&name, &text)),
                Err(error) => match error.downcast::<Findings>() {
                    Ok(findings) => self.findings.extend(findings.0),
                    Err(error) => return Err(error),
                },
            },
            Kind::Text | Kind::Other => {}
        }
        Ok(())
    }

    fn extend(&mut self, articles: impl Iterator<Item = Result<Article, Diagnostic>>) {
        for article in articles {
            match article {
                Ok(article) => self.articles.push(article),
                Err(finding) => self.findings.push(finding),
            }
            if self.articles.len() >= self.most {
                break;
            }
        }
    }
}

enum Kind {
    Dump,
    Lines,
    Text,
    Other,
}

fn kind(name: &str) -> Kind {
    let plain = name.trim_end_matches(".bz2").to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| plain.ends_with(ending));
    if ends(&[".xml"]) {
        Kind::Dump
    } else if ends(&[".jsonl", ".json", ".ndjson"]) {
        Kind::Lines
    } else if ends(&[".txt", ".md", ".markdown"]) {
        Kind::Text
    } else {
        Kind::Other
    }
}

fn open(file: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let is_packed = file.extension().is_some_and(|extension| extension == "bz2");
    Ok(if is_packed { Box::new(BufReader::new(MultiBzDecoder::new(opened))) } else { Box::new(BufReader::new(opened)) })
}

/// The file itself, or all files below a folder, sorted.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        found.extend(files(&entry.with_context(|| format!("cannot read {}", path.display()))?.path())?);
    }
    found.sort();
    Ok(found)
}
