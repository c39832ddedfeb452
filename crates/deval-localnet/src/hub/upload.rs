//! Before a commit: which files go over LFS, and where the Xet store is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::{Hub, cas, date};

/// Regular files may have at most this many bytes on the Hub.
const MAX_REGULAR: u64 = 10 << 20;

/// The Hub's limit for one `preupload` request.
const MAX_FILES: usize = 256;

/// Xet tokens of the Hub live this long (seconds).
const TOKEN_LIFETIME: u64 = 3600;

/// The patterns of the `.gitattributes` the Hub puts into a new model repository.
const LFS_PATTERNS: [&str; 35] = [
    "*.7z",
    "*.arrow",
    "*.bin",
    "*.bz2",
    "*.ckpt",
    "*.ftz",
    "*.gz",
    "*.h5",
    "*.joblib",
    "*.lfs.*",
    "*.mlmodel",
    "*.model",
    "*.msgpack",
    "*.npy",
    "*.npz",
    "*.onnx",
    "*.ot",
    "*.parquet",
    "*.pb",
    "*.pickle",
    "*.pkl",
    "*.pt",
    "*.pth",
    "*.rar",
    "*.safetensors",
    "saved_model/**/*",
    "*.tar.*",
    "*.tar",
    "*.tflite",
    "*.tgz",
    "*.wasm",
    "*.xz",
    "*.zip",
    "*.zst",
    "*tfevents*",
];

/// The `.gitattributes` of a new model repository: 1519 bytes, as on the Hub.
pub(super) fn git_attributes() -> String {
    LFS_PATTERNS.iter().map(|pattern| format!("{pattern} filter=lfs diff=lfs merge=lfs -text\n")).collect()
}

fn has_lfs_name(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    LFS_PATTERNS.iter().any(|pattern| match pattern.strip_suffix("/**/*") {
        Some(directory) => path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')),
        None => match pattern.trim_start_matches('*').strip_suffix('*') {
            Some(part) => name.contains(part),
            None => name.ends_with(pattern.trim_start_matches('*')),
        },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Preupload {
    files: Vec<PreuploadFile>,
    /// The `.gitignore` that is about to be committed; the repository's own counts without one.
    git_ignore: Option<String>,
}

#[derive(Deserialize)]
struct PreuploadFile {
    path: String,
    size: u64,
    /// Base64 of the first 512 bytes.
    #[serde(default)]
    sample: String,
}

impl PreuploadFile {
    /// An empty file cannot go over LFS; a binary one must, whatever its name.
    fn is_lfs(&self) -> bool {
        let is_binary = || STANDARD.decode(&self.sample).is_ok_and(|sample| sample.contains(&0));
        self.size > 0 && (self.size > MAX_REGULAR || has_lfs_name(&self.path) || is_binary())
    }
}

pub(super) async fn preupload(
    State(hub): State<Arc<Hub>>,
    Path((ns, name, rev)): Path<(String, String, String)>,
    headers: HeaderMap,
    Json(Preupload { files, git_ignore }): Json<Preupload>,
) -> Result<Json<Value>, Refusal> {
    let repo = hub.writable(&headers, &ns, &name)?;
    let commit = hub.revision(&repo, &rev)?;
    if files.len() > MAX_FILES {
        return Err(Refusal::bad_request(format!("at most {MAX_FILES} files, not {}", files.len())));
    }
    let rules = match (git_ignore, commit.files.get(".gitignore")) {
        (Some(rules), _) => rules,
        (None, Some(own)) => hub.store.read_blob(own.content.oid())?,
        (None, None) => String::new(),
    };
    let answer = |file: PreuploadFile| {
        let mode = if file.is_lfs() { "lfs" } else { "regular" };
        let mut answer =
            json!({ "path": file.path, "uploadMode": mode, "shouldIgnore": is_ignored(&rules, &file.path) });
        if let Some(entry) = commit.files.get(&file.path) {
            answer["oid"] = json!(entry.content.oid());
        }
        answer
    };
    let files: Vec<Value> = files.into_iter().map(answer).collect();
    Ok(Json(json!({ "files": files, "commitOid": commit.stamp.id })))
}

/// Of `.gitignore` the plain forms: a name or path, `*` and an ending, a folder with `/` behind it.
fn is_ignored(rules: &str, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    rules.lines().map(str::trim).filter(|rule| !rule.is_empty() && !rule.starts_with('#')).any(|rule| {
        let rule = rule.trim_start_matches('/');
        match (rule.strip_prefix('*'), rule.strip_suffix('/')) {
            (Some(ending), _) => name.ends_with(ending),
            (None, Some(_)) => path.starts_with(rule),
            (None, None) => name == rule || path == rule,
        }
    })
}

pub(super) async fn write_token(
    State(hub): State<Arc<Hub>>,
    Path((ns, name, rev)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let repo = hub.writable(&headers, &ns, &name)?;
    hub.revision(&repo, &rev)?;
    Ok(xet_token(&headers, cas::WRITE_TOKEN))
}

pub(super) async fn read_token(
    State(hub): State<Arc<Hub>>,
    Path((ns, name, rev)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let repo = hub.downloadable(&headers, &ns, &name)?;
    hub.revision(&repo, &rev)?;
    Ok(xet_token(&headers, cas::READ_TOKEN))
}

/// Python reads the headers, Rust the body.
fn xet_token(headers: &HeaderMap, token: &str) -> Response {
    let (expiry, url) = (date::now_seconds() + TOKEN_LIFETIME, cas::url(headers));
    let mut response = Json(json!({ "accessToken": token, "exp": expiry, "casUrl": url })).into_response();
    let headers = [
        ("x-xet-access-token", token.to_owned()),
        ("x-xet-token-expiration", expiry.to_string()),
        ("x-xet-cas-url", url),
    ];
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use sha1::Digest as _;

    use super::{git_attributes, has_lfs_name, is_ignored};

    #[test]
    fn attributes_are_the_hubs() {
        let text = git_attributes();
        assert_eq!(text.len(), 1519);
        let blob = sha1::Sha1::new().chain_update("blob 1519\0").chain_update(&text);
        assert_eq!(hex::encode(blob.finalize()), "a6344aac8c09253b3b630fb776ae94478aa0275b");
        assert!(text.starts_with("*.7z filter=lfs diff=lfs merge=lfs -text\n*.arrow "));
    }

    #[test]
    fn what_a_gitignore_leaves_out() {
        let rules = "# weights\n*.safetensors\n\n/build/\nnotes.txt\n";
        for path in ["model.safetensors", "a/b.safetensors", "build/x.py", "notes.txt", "a/notes.txt"] {
            assert!(is_ignored(rules, path), "{path}");
        }
        for path in ["config.json", "model/build.py", "# weights", "safetensors"] {
            assert!(!is_ignored(rules, path), "{path}");
        }
    }

    #[test]
    fn names_that_go_over_lfs() {
        for path in ["model.safetensors", "a/b.tar.gz", "x.lfs.y", "events.out.tfevents.1", "saved_model/1/v.txt"] {
            assert!(has_lfs_name(path), "{path}");
        }
        for path in ["README.md", "config.json", "safetensors", "saved_models/x.txt", "tokenizer.json", "bin"] {
            assert!(!has_lfs_name(path), "{path}");
        }
    }
}
