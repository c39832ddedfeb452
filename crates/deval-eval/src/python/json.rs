//! `json.loads` of Python 3.11. It takes what other readers refuse: `NaN` and `Infinity`, numbers beyond 64 bits, surrogates without a
//! partner, arrays nested deeply.

use serde_json::{Map, Value};

/// Depth at which Python's recursion limit of 1000 strikes inside the validator's call chain (996 from module level).
const DEPTH: usize = 980;
/// Digits that `int()` converts at most.
const INT_DIGITS: usize = 4300;

/// Why `json.loads` raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLoaded {
    /// `json.JSONDecodeError`.
    Decode,
    /// `ValueError`: an integer of more than 4300 digits.
    Value,
    /// `RecursionError`: nested too deeply.
    Recursion,
}

/// Reads a document. A lone surrogate becomes U+FFFD, and a number that JSON has no form for (NaN, infinities) becomes 0: the validator
/// looks at texts only and refuses every number alike.
///
/// # Errors
/// Where Python raises.
pub fn loads(text: &str) -> Result<Value, NotLoaded> {
    let mut reader = Reader { rest: text, depth: 0 };
    reader.space();
    let value = reader.value()?;
    reader.space();
    if reader.rest.is_empty() { Ok(value) } else { Err(NotLoaded::Decode) }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), NotLoaded> {
        if self.take(token) { Ok(()) } else { Err(NotLoaded::Decode) }
    }

    fn value(&mut self) -> Result<Value, NotLoaded> {
        let nested: fn(&mut Self) -> Result<Value, NotLoaded> = match self.rest.bytes().next() {
            Some(b'{') => Self::object,
            Some(b'[') => Self::array,
            Some(b'"') => return self.string().map(Value::String),
            _ => return self.literal(),
        };
        if self.depth == DEPTH {
            return Err(NotLoaded::Recursion);
        }
        self.depth += 1;
        let value = nested(self);
        self.depth -= 1;
        value
    }

    fn literal(&mut self) -> Result<Value, NotLoaded> {
        let words = [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))];
        if let Some((_, value)) = words.into_iter().find(|(word, _)| self.take(word)) {
            return Ok(value);
        }
        if ["NaN", "Infinity", "-Infinity"].into_iter().any(|word| self.take(word)) {
            return Ok(Value::from(0));
        }
        self.number()
    }

    fn array(&mut self) -> Result<Value, NotLoaded> {
        let mut items = Vec::new();
        self.expect("[")?;
        self.space();
        if self.take("]") {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            if self.take("]") {
                return Ok(Value::Array(items));
            }
            self.expect(",")?;
            self.space();
        }
    }

    fn object(&mut self) -> Result<Value, NotLoaded> {
        let mut fields = Map::new();
        self.expect("{")?;
        self.space();
        if self.take("}") {
            return Ok(Value::Object(fields));
        }
        loop {
            let name = self.string()?;
            self.space();
            self.expect(":")?;
            self.space();
            fields.insert(name, self.value()?);
            self.space();
            if self.take("}") {
                return Ok(Value::Object(fields));
            }
            self.expect(",")?;
            self.space();
        }
    }

    fn number(&mut self) -> Result<Value, NotLoaded> {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let sign = usize::from(self.rest.starts_with('-'));
        let whole = match &self.rest[sign..] {
            text if text.starts_with('0') => 1,
            text => digits(text),
        };
        if whole == 0 {
            return Err(NotLoaded::Decode);
        }
        let mut end = sign + whole;
        if let Some(fraction) = self.rest[end..].strip_prefix('.').map(digits).filter(|fraction| *fraction > 0) {
            end += 1 + fraction;
        }
        if let Some(power) = self.rest[end..].strip_prefix(['e', 'E']) {
            let unsigned = power.strip_prefix(['+', '-']).unwrap_or(power);
            let sign = power.len() - unsigned.len();
            end += if digits(unsigned) > 0 { 1 + sign + digits(unsigned) } else { 0 };
        }
        if end == sign + whole && whole > INT_DIGITS {
            return Err(NotLoaded::Value);
        }
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(serde_json::from_str(number).unwrap_or_else(|_| Value::from(0)))
    }

    fn string(&mut self) -> Result<String, NotLoaded> {
        self.expect("\"")?;
        let mut out = String::new();
        loop {
            let plain = self.rest.find(|c| matches!(c, '"' | '\\' | '\0'..='\x1f')).ok_or(NotLoaded::Decode)?;
            let (text, rest) = self.rest.split_at(plain);
            out.push_str(text);
            self.rest = rest;
            if self.take("\"") {
                return Ok(out);
            }
            self.expect("\\")?;
            out.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, NotLoaded> {
        let kind = self.rest.chars().next().ok_or(NotLoaded::Decode)?;
        self.rest = &self.rest[kind.len_utf8()..];
        Ok(match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.unicode()?,
            _ => return Err(NotLoaded::Decode),
        })
    }

    fn unicode(&mut self) -> Result<char, NotLoaded> {
        let first = self.hex().ok_or(NotLoaded::Decode)?;
        let rest = self.rest;
        if (0xd800..0xdc00).contains(&first) && self.take("\\u") {
            match self.hex() {
                Some(second) if (0xdc00..0xe000).contains(&second) => {
                    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                    return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                Some(_) => self.rest = rest,
                None => return Err(NotLoaded::Decode),
            }
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// The next four digits.
    fn hex(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        let code = digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?;
        self.rest = rest;
        code
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_what_python_reads() {
        let text = "\t{\"a\": [NaN, -Infinity, 1e999, -0.5E+1],\r\n \"a\": [], \"\\ud83d\\ude42\": \"\\ud800x\\udc00\\u00e9\\/\u{7f}\"} ";
        assert_eq!(loads(text), Ok(json!({ "a": [], "🙂": "\u{fffd}x\u{fffd}é/\u{7f}" })));
        assert_eq!(loads(r#""\ud83d\u0041\ud83d""#), Ok(json!("\u{fffd}A\u{fffd}")));
        assert_eq!(loads("[1,\n-2.5,{}]"), Ok(json!([1, -2.5, {}])));
    }

    #[test]
    fn refuses_what_python_refuses() {
        let texts = [
            "",
            " ",
            "\u{feff}{}",
            "{'a': 1}",
            "{\"a\": 1,}",
            "[1,]",
            "[1 2]",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "nan",
            "-NaN",
            "\"a",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\\uz\"",
            "{} {}",
            "{1: 2}",
            "{\"a\"}",
            "[",
            "tru",
            "\u{a0}1",
            "\"\\u+123\"",
        ];
        for text in texts {
            assert_eq!(loads(text), Err(NotLoaded::Decode), "{text:?}");
        }
    }

    #[test]
    fn python_has_limits_of_its_own() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(loads(&nested(900)).is_ok());
        assert_eq!(loads(&nested(1000)), Err(NotLoaded::Recursion));
        assert_eq!(loads(&nested(100_000)), Err(NotLoaded::Recursion));
        assert!(loads(&"9".repeat(4300)).is_ok() && loads(&format!("{}.5", "9".repeat(4301))).is_ok());
        assert_eq!(loads(&"9".repeat(4301)), Err(NotLoaded::Value));
    }
}
