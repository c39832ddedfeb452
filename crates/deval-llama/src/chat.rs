//! Chat templates with the semantics of Hugging Face's Jinja environment.
//!
//! Mirrors transformers `utils/chat_template_utils.py` (4.47): `trim_blocks`, `lstrip_blocks`, loop controls, a
//! `tojson` that escapes nothing for HTML, `raise_exception`, `strftime_now`, Python's methods on strings, lists, maps.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::LlamaError;
use crate::files::read_text;
use crate::special::TokenizerSettings;

const NAME: &str = "chat";
/// Most steps of the template engine for one conversation; templates of models take some thousands. One without an end stops there.
const MOST_STEPS: u64 = 1_000_000;
/// Widest indent of `tojson`; a format string takes no width over 65 535, and no JSON is nested deeper than 128.
const LARGEST_INDENT: usize = 100;

/// The chat template of a model directory.
pub struct ChatTemplate {
    environment: Environment<'static>,
    variables: BTreeMap<String, Value>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Message<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// What was said.
    pub content: &'a str,
}

impl ChatTemplate {
    /// Finds and compiles the template: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json` (a text, or several by
    /// name, of which `default` is taken). `None` when there is none.
    ///
    /// # Errors
    /// Unreadable files, several templates without a default, a template that does not compile.
    pub fn load(dir: &Path) -> Result<Option<Self>, LlamaError> {
        let settings = TokenizerSettings::load(dir)?;
        let file = dir.join("chat_template.jinja");
        let source = if file.exists() {
            let text = String::from_utf8(read_text(&file)?);
            Some(text.map_err(|error| LlamaError::io(&file)(io::Error::new(io::ErrorKind::InvalidData, error)))?)
        } else {
            settings.chat_template().map_err(|message| LlamaError::Template { message })?
        };
        source.map(|source| Self::compile(source, variables(&settings))).transpose()
    }

    /// Compiles a template; `variables` (`bos_token`, …) can be used in it.
    ///
    /// # Errors
    /// A syntax error.
    pub fn compile(source: String, variables: BTreeMap<String, Value>) -> Result<Self, LlamaError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(template_error)?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(MOST_STEPS));
        environment.set_unknown_method_callback(method);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", |format: &str| strftime(format, SystemTime::now()));
        // As Jinja2 reads it: every line ends in "\n".
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        environment.add_template_owned(NAME, without_marks(&source)).map_err(template_error)?;
        Ok(Self { environment, variables })
    }

    /// The same template with one more variable, such as the `date_string` of Llama 3's templates.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Renders a conversation; with `generation_prompt` it ends where the assistant's answer starts.
    ///
    /// # Errors
    /// What the template raises.
    pub fn render(&self, messages: &[Message<'_>], generation_prompt: bool) -> Result<String, LlamaError> {
        let mut variables = self.variables.clone();
        variables.insert("messages".to_owned(), Value::from(Serde(messages)));
        variables.insert("add_generation_prompt".to_owned(), generation_prompt.into());
        for absent in ["tools", "documents"] {
            variables.entry(absent.to_owned()).or_insert(Value::from(()));
        }
        let template = self.environment.get_template(NAME).map_err(template_error)?;
        template.render(variables).map_err(template_error)
    }
}

/// The special tokens as variables of the template.
fn variables(settings: &TokenizerSettings) -> BTreeMap<String, Value> {
    let roles = settings.roles.iter().map(|(role, token)| (role.clone(), Value::from(token.as_str())));
    let mut variables: BTreeMap<String, Value> = roles.collect();
    if !settings.additional.is_empty() {
        variables.insert("additional_special_tokens".to_owned(), Value::from(Serde(settings.additional.clone())));
    }
    variables
}

/// `{% generation %}` marks the assistant's text for training (transformers' own tag); it renders what is within it.
fn without_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let Some(end) = rest[at..].find("%}").map(|end| at + end) else { break };
        let tag = &rest[at + 2..end];
        let name = tag.trim_matches(['-', '+', ' ', '\t', '\n', '\r']);
        text.push_str(&rest[..at + 2]);
        match name {
            "generation" => text.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endif")),
            _ => text.push_str(tag),
        }
        rest = &rest[end..];
    }
    text + rest
}

fn template_error(error: Error) -> LlamaError {
    let message = match error.kind() {
        ErrorKind::OutOfFuel => format!("it does not end within {MOST_STEPS} steps; look for a loop that grows"),
        _ => error.to_string(),
    };
    LlamaError::Template { message }
}

/// Python's methods on strings, lists and maps.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    match (name, value.as_str(), arguments) {
        ("title", Some(text), []) => Ok(Value::from(title(text))),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

/// `str.title`: a letter behind anything that has no case is a capital.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut inside = false;
    for letter in text.chars() {
        if inside {
            titled.extend(letter.to_lowercase());
        } else {
            titled.extend(letter.to_uppercase());
        }
        inside = letter.is_lowercase() || letter.is_uppercase();
    }
    titled
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// `json.dumps` as transformers calls it: not ASCII only unless asked, not HTML-safe, `", "` and `": "` between items.
fn tojson(value: Value, ascii: Option<bool>, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    if let Some(indent) = indent.filter(|indent| *indent > LARGEST_INDENT) {
        let message = format!("tojson: an indent of {indent} is not supported, at most {LARGEST_INDENT} is");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    let ascii = ascii.or(options.get("ensure_ascii")?).unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators: Option<(String, String)> = options.get::<Option<Vec<String>>>("separators")?.and_then(pair);
    options.assert_all_used()?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut value = serde_json::to_value(&value).map_err(failed)?;
    if sorted {
        value.sort_all_objects();
    }
    let (between, colon) =
        separators.unwrap_or_else(|| (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()));
    let text = serialize(&value, Python { indent, between, colon, depth: 0, filled: false }).map_err(failed)?;
    Ok(Value::from(if ascii { escaped(&text) } else { text }))
}

fn pair(list: Vec<String>) -> Option<(String, String)> {
    let [between, colon] = <[String; 2]>::try_from(list).ok()?;
    Some((between, colon))
}

/// Everything beyond ASCII as `\uXXXX`, surrogates in pairs.
fn escaped(text: &str) -> String {
    let mut units = [0; 2];
    let escape = |letter: char| match letter.is_ascii() {
        true => letter.to_string(),
        false => letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    text.chars().map(escape).collect()
}

fn serialize(value: &serde_json::Value, formatter: impl Formatter) -> serde_json::Result<String> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, formatter))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Python's layout of JSON.
struct Python {
    indent: Option<usize>,
    between: String,
    colon: String,
    depth: usize,
    filled: bool,
}

impl Python {
    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        (self.depth, self.filled) = (self.depth + 1, false);
        writer.write_all(bracket)
    }

    fn item<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.between.as_bytes())?;
        }
        self.line(writer)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if std::mem::replace(&mut self.filled, true) {
            self.line(writer)?;
        }
        writer.write_all(bracket)
    }

    fn line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        self.indent.map_or(Ok(()), |width| write!(writer, "\n{:1$}", "", width * self.depth))
    }
}

impl Formatter for Python {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.colon.as_bytes())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
}

/// `strftime` in UTC, the directives that chat templates use.
fn strftime(format: &str, now: SystemTime) -> Result<String, Error> {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(letter) = rest.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let directive = rest.next();
        let (directive, bare) = if directive == Some('-') { (rest.next(), true) } else { (directive, false) };
        let written = directive.and_then(|directive| written(directive, seconds)).ok_or_else(|| {
            let message = format!("strftime_now: directive {directive:?} of {format:?} is not supported");
            Error::new(ErrorKind::InvalidOperation, message)
        })?;
        let digits = written.trim_start_matches(['0', ' ']);
        text += if !bare {
            &written
        } else if digits.is_empty() {
            "0"
        } else {
            digits
        };
    }
    Ok(text)
}

/// One directive in the C locale; `None` for one that is not known.
fn written(directive: char, seconds: u64) -> Option<String> {
    let days = seconds / 86_400;
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let month_name = MONTHS[month as usize - 1];
    let weekday = WEEKDAYS[(days % 7) as usize];
    let all = |format: &str| strftime(format, UNIX_EPOCH + Duration::from_secs(seconds)).ok();
    Some(match directive {
        'd' => format!("{day:02}"),
        'e' => format!("{day:2}"),
        'm' => format!("{month:02}"),
        'Y' => year.to_string(),
        'y' => format!("{:02}", year % 100),
        'B' => month_name.to_owned(),
        'b' | 'h' => month_name[..3].to_owned(),
        'A' => weekday.to_owned(),
        'a' => weekday[..3].to_owned(),
        'j' => format!("{:03}", days - days_before(year) + 1),
        'H' => format!("{hour:02}"),
        'I' => format!("{:02}", (hour + 11) % 12 + 1),
        'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
        'M' => format!("{minute:02}"),
        'S' => format!("{second:02}"),
        'F' => return all("%Y-%m-%d"),
        'T' => return all("%H:%M:%S"),
        'Z' => String::new(),
        '%' => "%".to_owned(),
        _ => return None,
    })
}

/// Days from 1970-01-01 to the first day of a year from then on.
fn days_before(year: u64) -> u64 {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
}

const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Days from 0000-03-01, so that a leap day ends its year (Howard Hinnant, "chrono-compatible date algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
