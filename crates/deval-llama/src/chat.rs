//! Chat templates with the semantics of Hugging Face's Jinja environment.
//!
//! Mirrors transformers `utils/chat_template_utils.py` (4.47): `trim_blocks`, `lstrip_blocks`, loop controls, a
//! `tojson` that escapes nothing for HTML, `raise_exception`, `strftime_now`, Python's methods on strings, lists, maps.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::LlamaError;
use crate::files::read_json_if_present;

const NAME: &str = "chat";
/// Most steps of the template engine for one conversation; templates of models take some thousands. One without an end stops there.
const MOST_STEPS: u64 = 1_000_000;
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The chat template of a model directory.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
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
    /// Finds and compiles the template: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json` (a
    /// text, or a list of `{name, template}` of which `default` is taken). `None` when there is none.
    ///
    /// # Errors
    /// Unreadable files, a template that does not compile.
    pub fn load(dir: &Path) -> Result<Option<Self>, LlamaError> {
        let path = dir.join("tokenizer_config.json");
        let config: serde_json::Value = read_json_if_present(&path)?.unwrap_or_default();
        let file = dir.join("chat_template.jinja");
        let source = if file.exists() {
            Some(std::fs::read_to_string(&file).map_err(LlamaError::io(&file))?)
        } else {
            template_text(&config["chat_template"]).map(str::to_owned)
        };
        source.map(|source| Self::compile(source, special_tokens(&config))).transpose()
    }

    /// The template of `tokenizer_config.json` alone, which is all that the validator's transformers 4.47.1 reads. `None` when there is
    /// none.
    ///
    /// # Errors
    /// As of [`ChatTemplate::load`].
    pub fn of_tokenizer_config(dir: &Path) -> Result<Option<Self>, LlamaError> {
        let config: serde_json::Value = read_json_if_present(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let source = template_text(&config["chat_template"]).map(str::to_owned);
        source.map(|source| Self::compile(source, special_tokens(&config))).transpose()
    }

    /// Compiles a template; `special_tokens` (`bos_token`, …) become variables of it.
    ///
    /// # Errors
    /// A syntax error.
    pub fn compile(source: String, special_tokens: BTreeMap<String, String>) -> Result<Self, LlamaError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(template_error)?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(MOST_STEPS));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", |format: &str| strftime(format, SystemTime::now()));
        environment.add_template_owned(NAME, without_marks(&source)).map_err(template_error)?;
        Ok(Self { environment, special_tokens })
    }

    /// Renders a conversation; with `generation_prompt` it ends where the assistant's answer starts.
    ///
    /// # Errors
    /// What the template raises.
    pub fn render(&self, messages: &[Message<'_>], generation_prompt: bool) -> Result<String, LlamaError> {
        #[derive(Serialize)]
        struct Context<'a> {
            messages: &'a [Message<'a>],
            add_generation_prompt: bool,
            tools: (),
            documents: (),
            #[serde(flatten)]
            special_tokens: &'a BTreeMap<String, String>,
        }
        let context = Context {
            messages,
            add_generation_prompt: generation_prompt,
            tools: (),
            documents: (),
            special_tokens: &self.special_tokens,
        };
        let template = self.environment.get_template(NAME).map_err(template_error)?;
        template.render(Value::from(Serde(context))).map_err(template_error)
    }
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
    LlamaError::Template { message: error.to_string() }
}

fn template_text(value: &serde_json::Value) -> Option<&str> {
    let named = |name: &str| value.as_array()?.iter().find(|entry| entry["name"] == name)?["template"].as_str();
    value.as_str().or_else(|| named("default"))
}

fn special_tokens(config: &serde_json::Value) -> BTreeMap<String, String> {
    let text = |key: &str| config[key].as_str().or_else(|| config[key]["content"].as_str());
    SPECIAL_TOKENS.iter().filter_map(|key| Some(((*key).to_owned(), text(key)?.to_owned()))).collect()
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// `json.dumps` as transformers calls it: not ASCII only, not HTML-safe, `", "` and `": "` between items.
fn tojson(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let text = match indent {
        Some(width) => serialize(&value, PrettyFormatter::with_indent(" ".repeat(width.min(16)).as_bytes())),
        None => serialize(&value, Spaced),
    };
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    Ok(Value::from_safe_string(text.map_err(failed)?))
}

fn serialize(value: &Value, formatter: impl Formatter) -> serde_json::Result<String> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, formatter))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Python's default separators.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// `strftime` in UTC, the directives that chat templates use.
fn strftime(format: &str, now: SystemTime) -> Result<String, Error> {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let month_name = MONTHS[month as usize - 1];
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(letter) = rest.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match rest.next() {
            Some('d') => text += &format!("{day:02}"),
            Some('m') => text += &format!("{month:02}"),
            Some('Y') => text += &year.to_string(),
            Some('y') => text += &format!("{:02}", year % 100),
            Some('B') => text += month_name,
            Some('b') => text += &month_name[..3],
            Some('H') => text += &format!("{hour:02}"),
            Some('M') => text += &format!("{minute:02}"),
            Some('S') => text += &format!("{second:02}"),
            Some('%') => text.push('%'),
            other => {
                let message = format!("strftime_now: directive {other:?} of {format:?} is not supported");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
    }
    Ok(text)
}

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
