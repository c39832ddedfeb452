//! How the reference pipeline reads its model's text (`neurons/miners/model/pipeline.py`).

use std::sync::LazyLock;

use regex::Regex;

use crate::python;

static SCORE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"response: (0\.\d+?|1\.0+?|0|1|\.\d+)").expect("a constant pattern"));

/// The score in a model's text, -1 when there is none. The pattern is lazy: "Response: 0.75" reads as 0.7, ".75" as 0.75.
pub fn score(response: &str) -> f64 {
    let lower = response.to_lowercase();
    let number = SCORE.captures(&lower).and_then(|found| found.get(1));
    number.and_then(|number| python::ascii_digits(number.as_str()).parse().ok()).unwrap_or(-1.0)
}

/// The mistakes in a model's text: its lines, stripped, without empty ones. Bullets stay.
pub fn mistakes(response: &str) -> Vec<String> {
    response.split('\n').map(python::strip).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read_lazily_and_strictly() {
        for (text, expected) in [
            ("Response: 0.75", 0.7),
            ("RESPONSE: 0.05", 0.0),
            ("response: .75", 0.75),
            ("response: 10", 1.0),
            ("response: 1.5", 1.0),
            ("response: 00.5", 0.0),
            ("Response:0.5", -1.0),
            ("Response:  0.5", -1.0),
            ("Response: -0.5 … response: 0.5", 0.5),
            ("response: 0.٣", 0.3),
        ] {
            assert_eq!(score(text), expected, "{text:?}");
        }
    }

    #[test]
    fn mistakes_are_lines() {
        assert_eq!(mistakes(" - a\r\n\n\u{1c}b\rc \n"), ["- a", "b\rc"]);
    }
}
