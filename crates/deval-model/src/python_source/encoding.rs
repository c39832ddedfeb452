//! The encoding of a source, as its first two lines declare it (PEP 263; CPython 3.11, `Parser/tokenizer.c`).

use deval_report::Diagnostic;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// What cp1252 makes of the bytes from 0x80 to 0x9f; a null byte stands for those that it leaves out.
const CP1252: &str = "€\0‚ƒ„…†‡ˆ‰Š‹Œ\0Ž\0\0‘’“”•–—˜™š›œ\0žŸ";

/// Where ISO 8859-15 differs from ISO 8859-1.
const LATIN_9: [(u8, char); 8] =
    [(0xa4, '€'), (0xa6, 'Š'), (0xa8, 'š'), (0xb4, 'Ž'), (0xb8, 'ž'), (0xbc, 'Œ'), (0xbd, 'œ'), (0xbe, 'Ÿ')];

/// Beginnings of the names of encodings that Python has and that are not decoded here.
const OTHERS: [&str; 16] = [
    "big5",
    "cp",
    "euc",
    "gb",
    "hz",
    "iso2022",
    "iso8859",
    "iso_8859",
    "johab",
    "koi8",
    "kz1048",
    "latin",
    "mac",
    "shift_jis",
    "utf_7",
    "windows",
];

/// The text of a source, or why there is none.
pub(super) fn decode(bytes: &[u8], file: &str) -> Result<String, Box<Diagnostic>> {
    let (marked, rest) = bytes.strip_prefix(BOM).map_or((false, bytes), |rest| (true, rest));
    let declared = declared(rest);
    let refuse = |message: String| {
        let finding = Diagnostic::error("G35", message).in_file(file);
        Box::new(finding.help("save it as UTF-8 and leave the declaration out"))
    };
    if rest.contains(&0) {
        return Err(refuse("the source holds null bytes, so Python cannot import it".into()));
    }
    let name = declared.as_ref().map_or("utf_8", |(_, name)| name.as_str());
    let decoded = decoder(name).map(|decode| decode(rest));
    let Some((line, name)) = declared else {
        return decoded.flatten().ok_or_else(|| refuse("the source is not UTF-8, so Python cannot import it".into()));
    };
    let finding = match decoded {
        _ if marked && name != "utf_8" => format!("declares `{name}` but begins with the mark of UTF-8"),
        Some(Some(text)) => return Ok(text),
        Some(None) => {
            format!("the source is not of the encoding `{name}` that it declares, so Python cannot import it")
        }
        None if OTHERS.iter().any(|known| name.starts_with(known)) => {
            format!("the source is written in `{name}`, so it cannot be looked at")
        }
        None => format!("declares the encoding `{name}`, in which Python reads no source"),
    };
    let finding = refuse(finding);
    Err(Box::new(finding.at(file, line, 1)))
}

type Decode = fn(&[u8]) -> Option<String>;

/// Decodes an encoding of this name; `None` for one that is not known here.
fn decoder(name: &str) -> Option<Decode> {
    Some(match name {
        "utf_8" => |bytes| String::from_utf8(bytes.to_owned()).ok(),
        "ascii" | "us_ascii" | "646" => |bytes| String::from_utf8(bytes.to_owned()).ok().filter(|text| text.is_ascii()),
        "latin_1" => |bytes| Some(bytes.iter().copied().map(char::from).collect()),
        "iso8859_15" | "iso_8859_15" | "latin_9" | "latin9" | "l9" => |bytes| Some(bytes.iter().map(latin_9).collect()),
        "cp1252" | "windows_1252" | "1252" => |bytes| bytes.iter().map(cp1252).collect(),
        _ => return None,
    })
}

fn latin_9(byte: &u8) -> char {
    LATIN_9.iter().find(|(at, _)| at == byte).map_or((*byte).into(), |(_, character)| *character)
}

fn cp1252(byte: &u8) -> Option<char> {
    match byte {
        0x80..=0x9f => CP1252.chars().nth(usize::from(byte - 0x80)).filter(|character| *character != '\0'),
        other => Some((*other).into()),
    }
}

/// Line and name of the encoding that is declared in the first two lines, the name as Python's codecs spell it.
fn declared(bytes: &[u8]) -> Option<(u32, String)> {
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip([1, 2]) {
        let start = line.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\x0c' | b'\r'));
        let Some(start) = start else { continue };
        if line[start] != b'#' {
            return None;
        }
        if let Some(name) = in_comment(&String::from_utf8_lossy(line)) {
            return Some((number, normal(&name)));
        }
    }
    None
}

/// `coding: NAME` or `coding=NAME`, wherever it stands.
fn in_comment(line: &str) -> Option<String> {
    line.match_indices("coding").find_map(|(at, word)| {
        let rest = line[at + word.len()..].strip_prefix([':', '='])?.trim_start_matches([' ', '\t']);
        let stands = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        let name: String = rest.chars().take_while(|character| stands(*character)).collect();
        (!name.is_empty()).then_some(name)
    })
}

/// Python takes its two commonest encodings by several names and with any ending, such as `utf-8-sig`.
fn normal(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let is = |known: &str| name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    if is("utf_8") || ["utf8", "u8", "cp65001"].contains(&name.as_str()) {
        return "utf_8".into();
    }
    let latin = is("latin_1") || is("iso_8859_1") || is("iso_latin_1");
    if latin || ["latin1", "latin", "l1", "iso8859_1", "8859", "cp819"].contains(&name.as_str()) {
        return "latin_1".into();
    }
    name
}
