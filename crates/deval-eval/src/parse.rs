//! How the reference pipeline reads its model's text (`neurons/miners/model/pipeline.py`).

use crate::python;

/// Text in front of the score, in any case.
const MARK: &str = "response: ";

/// The score in a model's text, -1 when there is none. Upstream's pattern is lazy: "Response: 0.75" reads as 0.7, ".75" as 0.75.
pub fn score(response: &str) -> f64 {
    let lower = response.to_ascii_lowercase();
    let numbers = lower.match_indices(MARK).filter_map(|(at, mark)| number(&lower[at + mark.len()..]));
    numbers.map(|number| number.parse().unwrap_or(-1.0)).next().unwrap_or(-1.0)
}

/// The number that `0\.\d+?|1\.0+?|0|1|\.\d+` matches at the start, in ASCII digits.
fn number(text: &str) -> Option<String> {
    let digits = |text: &str| text.chars().map_while(python::decimal).map(|digit| char::from(b'0' + digit)).collect();
    if let Some(fraction) = text.strip_prefix('.') {
        let digits: String = digits(fraction);
        return Some(format!(".{digits}")).filter(|_| !digits.is_empty());
    }
    let whole = text.chars().next().filter(|whole| matches!(whole, '0' | '1'))?;
    let fraction: Option<String> = text[1..].strip_prefix('.').map(digits);
    let first = fraction.and_then(|digits| digits.chars().next());
    Some(match first {
        Some(digit) if whole == '0' => format!("0.{digit}"),
        _ => whole.to_string(),
    })
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
            ("response: .𝟙٢3x", 0.123),
            ("response: .\u{1e4f3}", -1.0),
            ("response: 0.\u{1e4f3}", 0.0),
            ("response: ٠.5 response: .", -1.0),
            ("response: response: 1", 1.0),
            ("İ RESPONSE: 1.00", 1.0),
        ] {
            assert_eq!(score(text), expected, "{text:?}");
        }
    }

    #[test]
    fn mistakes_are_lines() {
        assert_eq!(mistakes(" - a\r\n\n\u{1c}b\rc \n"), ["- a", "b\rc"]);
    }
}
