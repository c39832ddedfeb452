//! The corners of Python's text and number rules that the validator's numbers depend on.

pub mod json;

/// The zeros of all decimal digits (category Nd) of Unicode 14, which Python 3.11 knows; nine more digits follow each.
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620,
    0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0,
    0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60,
    0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

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

/// `json.dumps(text)`: quoted, everything outside ASCII escaped as UTF-16.
pub fn json_string(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let mut out = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        if matches!(c, ' '..='~') {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// `unicodedata.decimal`: the value of a decimal digit of any script.
pub fn decimal(c: char) -> Option<u8> {
    let code = u32::from(c);
    let zero = ZEROS[..ZEROS.partition_point(|zero| *zero <= code)].last()?;
    u8::try_from(code - zero).ok().filter(|value| *value < 10)
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
    fn decimal_digits_are_those_of_unicode_14() {
        assert!(ZEROS.is_sorted());
        assert_eq!(['7', '٥', '𝟝', '\u{1fbf9}'].map(decimal), [Some(7), Some(5), Some(5), Some(9)]);
        let no_digits = ['/', ':', '²', '½', '一', '\u{a}', '\u{1e4f3}', '\u{11f55}', '\u{10ffff}'];
        assert_eq!(no_digits.map(decimal), [None; 9]);
    }

    #[test]
    fn json_strings_are_ascii() {
        assert_eq!(json_string("模\"\n🙂\u{7f}/"), r#""\u6a21\"\n\ud83d\ude42\u007f/""#);
    }
}
