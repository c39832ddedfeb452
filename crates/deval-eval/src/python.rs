//! The corners of Python's text and number rules that the validator's numbers depend on.

use std::sync::LazyLock;

use regex::Regex;

static DECIMAL_DIGIT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d$").expect("a constant pattern"));

/// `str.isspace`: Rust's white space and the four information separators U+001C…U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split()`: the words between runs of white space.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `round(value, 2)`: correctly rounded in decimal, exact ties to even.
pub fn round2(value: f64) -> f64 {
    format!("{value:.2}").parse().expect("a formatted number reads back")
}

/// Replaces every Unicode decimal digit (category Nd) by its ASCII digit, as `float()` does.
pub fn ascii_digits(text: &str) -> String {
    text.chars().map(|c| digit_value(c).map_or(c, |digit| char::from(b'0' + digit))).collect()
}

/// `float(text)`: white space around, underscores between digits, any decimal digits, `inf` and `nan`.
pub fn parse_float(text: &str) -> Option<f64> {
    let text = ascii_digits(strip(text));
    let digit = |i: Option<usize>| i.and_then(|i| text.as_bytes().get(i)).is_some_and(u8::is_ascii_digit);
    let misplaced = |(i, _): (usize, &str)| !(digit(i.checked_sub(1)) && digit(i.checked_add(1)));
    if text.match_indices('_').any(misplaced) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// `json.dumps(text)`: quoted, everything outside ASCII escaped as UTF-16.
pub fn json_string(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let mut out = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// Value of a decimal digit. Unicode keeps them in runs of ten, so the distance from the start of the run tells it.
fn digit_value(c: char) -> Option<u8> {
    if c.is_ascii() {
        return c.to_digit(10).map(|digit| digit as u8);
    }
    let is_digit = |code: u32| char::from_u32(code).is_some_and(|c| DECIMAL_DIGIT.is_match(c.encode_utf8(&mut [0; 4])));
    let code = u32::from(c);
    if !is_digit(code) {
        return None;
    }
    let before = (1..=code).take_while(|back| is_digit(code - back)).count();
    Some((before % 10) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_pythons() {
        assert_eq!(split("a\u{1c}b\u{85}c\u{200b}d\u{3000}e").collect::<Vec<_>>(), ["a", "b", "c\u{200b}d", "e"]);
        assert_eq!(strip("\u{1f} x \r\n"), "x");
    }

    #[test]
    fn rounding_takes_the_even_side_of_exact_ties() {
        assert_eq!([0.125, 0.375, 0.675, 2.0 / 3.0].map(round2), [0.12, 0.38, 0.68, 0.67]);
        assert!(round2(f64::NAN).is_nan());
    }

    #[test]
    fn floats_read_as_python_reads_them() {
        let read = ["1_0", " 0.5 ", "1e-3", ".5", "-inf", "٠.٥", "𝟘.𝟝"].map(|text| parse_float(text).expect(text));
        assert_eq!(read, [10.0, 0.5, 0.001, 0.5, f64::NEG_INFINITY, 0.5, 0.5]);
        for text in ["", "abc", "1__0", "_1", "1_", "0x10", "1 2"] {
            assert_eq!(parse_float(text), None, "{text:?}");
        }
    }

    #[test]
    fn json_strings_are_ascii() {
        assert_eq!(json_string("模\"\n🙂\u{7f}"), "\"\\u6a21\\\"\\n\\ud83d\\ude42\u{7f}\"");
    }
}
