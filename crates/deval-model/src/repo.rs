//! The repository as a name and a size: gates G06, G15 and G19.

use deval_eval::submission;
use deval_report::gates::{self, GateVerdict, Unit};
use deval_report::{Diagnostic, Network};

/// Smallest and largest repository that validators evaluate, in decimal gigabytes (upstream `deval/model/model_state.py`).
pub const SIZE_LIMITS_GB: (f64, f64) = (12.0, 18.0);

/// Most bytes of one chain commitment.
pub const COMMITMENT_LIMIT: usize = 128;

/// Bytes of `{"model_url":"","model_hash":""}` with a hash of 64 characters, compact and as Python's `json.dumps` writes it.
const COMPACT_OVERHEAD: usize = 96;
const PYTHON_OVERHEAD: usize = 99;

/// The size of a repository in gigabytes as the validator computes it. Listing order is the code point order of the paths.
pub use deval_eval::submission::repo_size_gb as size_gb;

/// Whether a validator evaluates a repository of this size.
pub fn size_accepted(gb: f64) -> bool {
    let (min, max) = SIZE_LIMITS_GB;
    submission::size_accepted(gb, min, max)
}

/// The smallest distance that is told in gigabytes.
const SMALLEST_MARGIN_GB: f64 = 0.001;

/// A distance from a limit for people: in bytes where gigabytes would hide it.
pub(crate) fn margin(gb: f64) -> String {
    match (gb * 1e9).round() {
        _ if gb >= SMALLEST_MARGIN_GB => format!("{gb:.3} GB"),
        1.0 => "1 byte".into(),
        bytes if bytes > 1.0 => format!("{bytes} bytes"),
        _ if gb > 0.0 => "less than a byte, by the validator's own rounding,".into(),
        _ => "0 bytes".into(),
    }
}

/// A size for people, to the byte where it is near a limit.
fn size(gb: f64) -> String {
    let (min, max) = SIZE_LIMITS_GB;
    let near = (gb - min).abs().min((gb - max).abs()) < SMALLEST_MARGIN_GB;
    if near { format!("{gb:.9} GB") } else { format!("{gb:.3} GB") }
}

/// What the size costs, if anything. On the local network the limits are only told.
pub fn check_size(gb: f64, network: Network) -> Option<Diagnostic> {
    let (min, max) = SIZE_LIMITS_GB;
    let finding = if gb < min {
        let help = "validators never evaluate a smaller model; submit an 8B model in 16 bits";
        let message = format!("the repository has {}, {} less than validators evaluate", size(gb), margin(min - gb));
        gates::finding("G15", network, message).help(help)
    } else if gb > max {
        let help = "leave out files that the pipeline does not read ([package] ignore), or save the model in 16 bits";
        let message = format!("the repository has {}, {} more than validators evaluate", size(gb), margin(gb - max));
        gates::finding("G15", network, message).help(help)
    } else if gb < min * 1.01 || gb > max * 0.99 {
        Diagnostic::warning("G15", format!("the repository has {}, less than 1 % from a limit", size(gb)))
            .help("a README edit or the Hub's own .gitattributes counts as well; keep some distance")
    } else {
        return None;
    };
    Some(finding.found(format!("{gb:.9} GB")).expected("12 to 18 GB"))
}

/// A verdict of gate G15 with the distance from the nearer limit.
pub fn with_margin(verdict: GateVerdict, gb: f64) -> GateVerdict {
    let (min, max) = SIZE_LIMITS_GB;
    let room = (gb - min).min(max - gb);
    let limit = if gb - min <= max - gb { min } else { max };
    let side = if gb < min {
        "too small"
    } else if gb > max {
        "too large"
    } else {
        "from the nearer limit"
    };
    let words = format!("{} ({:.1} %) {side}", margin(room.abs()), 100.0 * room.abs() / limit);
    verdict.margin(words).distance(room, Unit::Gigabytes)
}

/// Bytes left in the commitment for this repository name: written as Python does, and compact.
pub fn commitment_room(model_url: &str) -> (i64, i64) {
    let room = |overhead: usize| COMMITMENT_LIMIT as i64 - (overhead + model_url.len()) as i64;
    (room(PYTHON_OVERHEAD), room(COMPACT_OVERHEAD))
}

/// What is wrong with a repository name: the Hub client's grammar (G06, huggingface_hub `validate_repo_id`, with the slash that
/// upstream's `repo_id + "/" + model_id` always makes) and its room in the commitment (G19).
pub fn check_url(model_url: &str) -> Vec<Diagnostic> {
    let grammar = grammar_fault(model_url).map(|fault| {
        Diagnostic::error("G06", format!("model_url {fault}"))
            .found(model_url)
            .expected("`namespace/name` of letters, digits, `_`, `-` and `.`")
            .help("set submission.model_url to the repository's name as the Hub shows it")
    });
    grammar.into_iter().chain(check_room(model_url)).collect()
}

fn check_room(model_url: &str) -> Option<Diagnostic> {
    let (python, compact) = commitment_room(model_url);
    let finding = if compact < 0 {
        let message = format!("model_url is {} bytes too long for the commitment beside the hash", -compact);
        Diagnostic::error("G19", message).help("choose a shorter namespace or repository name")
    } else if python < 0 {
        let message =
            "model_url fits into the commitment only as compact JSON, not the way upstream's script writes it";
        Diagnostic::warning("G19", message)
            .help("`cargo xtask commit` writes it compactly; upstream's submit.py cannot")
    } else {
        return None;
    };
    Some(finding.found(format!("{} bytes", model_url.len())).expected("at most 29 bytes, 32 with compact JSON"))
}

fn grammar_fault(url: &str) -> Option<String> {
    let Some((namespace, name)) = url.split_once('/') else {
        return Some("has no slash; it is `namespace/name`".into());
    };
    if name.contains('/') {
        return Some("has more than one slash; it is the repository's name, not an address".into());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if let Some(bad) = namespace.chars().chain(name.chars()).find(|c| !allowed(*c)) {
        return Some(format!("has the character {bad:?}, which the Hub does not allow"));
    }
    let edges = |part: &str| part.starts_with(['-', '.']) || part.ends_with(['-', '.']);
    if namespace.is_empty() || name.is_empty() {
        return Some("has an empty part".into());
    }
    if edges(namespace) || edges(name) {
        return Some("has a part that begins or ends with `-` or `.`".into());
    }
    if url.contains("--") || url.contains("..") {
        return Some("has `--` or `..` in it".into());
    }
    if url.ends_with(".git") {
        return Some("ends with `.git`".into());
    }
    (name.len() > 96).then(|| format!("has a name of {} characters, at most 96 are allowed", name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    fn codes(url: &str) -> Vec<String> {
        check_url(url).into_iter().map(|finding| format!("{} {}", finding.code, finding.severity)).collect()
    }

    #[test]
    fn golden_sizes_agree_to_the_last_bit() {
        golden::each("repo_size", |input, expected| {
            let files = input["files"].as_array().unwrap();
            let gb = size_gb(files.iter().map(|file| file[1].as_u64().unwrap()));
            assert_eq!(gb, expected["size_gb"].as_f64().unwrap());
            assert_eq!(size_accepted(gb), expected["accepted"].as_bool().unwrap());
        });
    }

    #[test]
    fn size_matters_by_network_and_near_the_limits() {
        let severity = |gb, network| check_size(gb, network).map(|finding| finding.severity.to_string());
        assert_eq!(severity(0.27, Network::Local).as_deref(), Some("warning"));
        assert_eq!(severity(0.27, Network::Test).as_deref(), Some("error"));
        assert_eq!(severity(18.2, Network::Finney).as_deref(), Some("error"));
        assert_eq!(severity(17.9, Network::Finney).as_deref(), Some("warning"));
        assert_eq!(severity(16.1, Network::Finney), None);
    }

    #[test]
    fn a_margin_too_small_for_gigabytes_is_told_in_bytes() {
        let message = |bytes: u64| check_size(size_gb([bytes]), Network::Finney).unwrap().message;
        assert!(message(11_999_999_999).contains("has 11.999999999 GB, 1 byte less"), "{}", message(11_999_999_999));
        assert!(message(18_000_000_512).contains("has 18.000000512 GB, 512 bytes more"), "{}", message(18_000_000_512));
        assert!(message(11_000_000_000).contains("has 11.000 GB, 1.000 GB less"), "{}", message(11_000_000_000));
        assert!(message(12_000_000_007).contains("has 12.000000007 GB, less than 1 %"), "{}", message(12_000_000_007));
        assert_eq!((margin(0.0).as_str(), margin(0.25).as_str()), ("0 bytes", "0.250 GB"));
    }

    #[test]
    fn names_that_the_hub_client_takes() {
        for url in ["a/b", "deval-core/base-eval", "A_1/x.y-z_", "_/_"] {
            assert_eq!(codes(url), Vec::<String>::new(), "{url}");
        }
    }

    #[test]
    fn names_that_it_refuses() {
        for url in
            ["ab", "a/b/c", "/b", "a/", "a/-b", "a/b.", ".a/b", "a--b/c", "a/b..c", "a/b.git", "a/b c", "ä/b", ""]
        {
            assert_eq!(codes(url), ["G06 error"], "{url}");
        }
        assert_eq!(codes(&format!("a/{}", "b".repeat(97))), ["G06 error", "G19 error"]);
    }

    #[test]
    fn the_commitment_has_room_for_29_or_32_bytes() {
        let url = |len: usize| format!("ab/{}", "c".repeat(len - 3));
        assert_eq!(codes(&url(29)), Vec::<String>::new());
        assert_eq!(codes(&url(30)), ["G19 warning"]);
        assert_eq!(codes(&url(32)), ["G19 warning"]);
        assert_eq!(codes(&url(33)), ["G19 error"]);
        assert_eq!(commitment_room(&url(29)), (0, 3));
    }
}
