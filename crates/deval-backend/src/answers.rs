//! What a model's text means.

use deval_eval::{parse, python};
use deval_manifest::Prompts as Settings;
use deval_report::Diagnostic;
use regex::{Captures, Regex};

/// Reads scores and mistakes: as the reference pipeline does, or by the manifest's patterns.
#[derive(Debug, Clone, Default)]
pub struct AnswerParser {
    score: Option<Regex>,
    mistake: Option<Regex>,
}

impl AnswerParser {
    /// The reading that the manifest asks for.
    ///
    /// # Errors
    /// Patterns that are no regular expressions.
    pub fn new(settings: &Settings) -> Result<Self, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let mut compiled = |key: &str, pattern: &Option<String>| match pattern.as_deref().map(Regex::new).transpose() {
            Ok(pattern) => pattern,
            Err(error) => {
                faults.push(Diagnostic::error(format!("evaluate.prompts.{key}"), error.to_string()));
                None
            }
        };
        let score = compiled("score_pattern", &settings.score_pattern);
        let mistake = compiled("mistake_pattern", &settings.mistake_pattern);
        if faults.is_empty() { Ok(Self { score, mistake }) } else { Err(faults) }
    }

    /// The score, -1 when there is none.
    pub fn score(&self, text: &str) -> f64 {
        let Some(pattern) = &self.score else { return parse::score(text) };
        let lower = text.to_lowercase();
        let found = pattern.captures(&lower).map(|captures| group(&captures).to_owned());
        let ascii = |c: char| python::decimal(c).map_or(c, |digit| char::from(b'0' + digit));
        let number = found.and_then(|found| python::strip(&found).chars().map(ascii).collect::<String>().parse().ok());
        number.filter(|number: &f64| number.is_finite()).unwrap_or(-1.0)
    }

    /// The mistakes.
    pub fn mistakes(&self, text: &str) -> Vec<String> {
        let lines = parse::mistakes(text);
        let Some(pattern) = &self.mistake else { return lines };
        let told = lines.iter().filter_map(|line| Some(python::strip(group(&pattern.captures(line)?)).to_owned()));
        told.filter(|mistake| !mistake.is_empty()).collect()
    }
}

/// The first group, or all of it where there is none.
fn group<'a>(captures: &Captures<'a>) -> &'a str {
    captures.get(1).or_else(|| captures.get(0)).map_or("", |found| found.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parser(score: Option<&str>, mistake: Option<&str>) -> Result<AnswerParser, Vec<Diagnostic>> {
        let owned = |pattern: Option<&str>| pattern.map(str::to_owned);
        AnswerParser::new(&Settings {
            score_pattern: owned(score),
            mistake_pattern: owned(mistake),
            ..Settings::default()
        })
    }

    #[test]
    fn the_default_is_the_reference_pipelines_reading() {
        let parser = parser(None, None).unwrap();
        assert_eq!(parser.score("Response: 0.75"), 0.7);
        assert_eq!(parser.mistakes(" - a \n\nb"), ["- a", "b"]);
    }

    #[test]
    fn patterns_take_its_place() {
        let parser = parser(Some(r"score[:=]\s*([\d.]+)"), Some(r"^[-*] (.*)$")).unwrap();
        assert_eq!((parser.score("SCORE= 0.75!"), parser.score("Response: 1")), (0.75, -1.0));
        assert_eq!(parser.score("score: ٠.٥"), 0.5);
        assert_eq!(parser.score("score: 1.2.3"), -1.0);
        assert_eq!(parser.mistakes("Here they are:\n- a \n* b\n-"), ["a", "b"]);
    }

    #[test]
    fn a_pattern_that_is_none_is_a_finding() {
        let faults = super::tests::parser(Some("("), Some("[")).unwrap_err();
        assert_eq!(faults.len(), 2);
        assert_eq!(faults[0].code, "evaluate.prompts.score_pattern");
    }
}
