//! Why the Hub could not be used: every variant names the place (URL, path) and, where there is one, the remedy.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

/// Work with the Hub could not be done.
///
/// No variant carries a token, a request header or a presigned URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The endpoint is not an `http` or `https` URL.
    #[error("`{endpoint}` is not a Hub endpoint: {reason}")]
    Endpoint {
        /// The endpoint as given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A repository id breaks the grammar of `huggingface_hub.utils.validate_repo_id` (GATES 6).
    #[error("`{id}` is not a repository id: {reason}")]
    RepoId {
        /// The id as given.
        id: String,
        /// The first rule it breaks.
        reason: String,
    },

    /// A token cannot be sent as an HTTP header. The token itself is not shown.
    #[error("the Hub token is unusable: {reason}")]
    Token {
        /// What is wrong with it.
        reason: &'static str,
    },

    /// Nothing answers at the endpoint.
    #[error(
        "the Hub at {endpoint} is down or unreachable ({reason}); check the address and the network, then run the step again"
    )]
    Down {
        /// The endpoint that did not accept a connection.
        endpoint: String,
        /// The innermost cause, such as `Connection refused`.
        reason: String,
    },

    /// A connection broke before the whole answer had arrived.
    #[error("the connection broke at {url}: {reason}")]
    Dropped {
        /// The request's URL, without query.
        url: String,
        /// The innermost cause.
        reason: String,
    },

    /// The Hub refused a request.
    #[error("{url} answered {status}: {message}{}", remedy(*.status, .message))]
    Status {
        /// The request's URL, without query.
        url: String,
        /// HTTP status.
        status: StatusCode,
        /// `X-Error-Code`, empty when there is none.
        code: String,
        /// What the Hub said, shortened.
        message: String,
        /// How long the Hub said to wait, when it said so.
        wait: Option<Duration>,
    },

    /// The Hub asks to wait, longer than this client is willing to.
    #[error("{url} limits the rate: try again in {} s", .wait.map_or_else(|| "some".to_owned(), |w| w.as_secs().to_string()))]
    RateLimited {
        /// The request's URL, without query.
        url: String,
        /// How long the Hub said to wait, when it said so.
        wait: Option<Duration>,
    },

    /// The Hub answered with success, but not with what its API promises.
    #[error("{url} answered something unexpected: {what}")]
    Answer {
        /// The request's URL, without query.
        url: String,
        /// What was missing or wrong.
        what: String,
    },

    /// A part of a file was asked for and something else came, so that nothing was taken.
    #[error(
        "{url} did not answer with the range asked for: {found} instead of {wanted}; download the repository (`cargo xtask fetch`)"
    )]
    NoRange {
        /// The request's URL, without query.
        url: String,
        /// The range and the file's size, as `Content-Range` writes them.
        wanted: String,
        /// What came.
        found: String,
    },

    /// The repository moved on since the plan was made; nothing was changed by this run.
    #[error(
        "{repo} is at {found}, the plan was made for {planned}: somebody else changed it ({changes}). Nothing was overwritten; \
         run the step without --execute to see the new plan"
    )]
    HeadMoved {
        /// Repository id.
        repo: String,
        /// Head the plan was made for, or `no repository`.
        planned: String,
        /// Head found, or `no repository`.
        found: String,
        /// Which files differ.
        changes: String,
    },

    /// The Hub wants large files in a way that this client does not speak.
    #[error(
        "{url} wants the transfer `{transfer}` and none of `xet`, `multipart`, `basic`; sending the weights inside the Hub commit would need several times their size in memory, so nothing was sent"
    )]
    Transfer {
        /// URL of the LFS batch call.
        url: String,
        /// The transfer it chose.
        transfer: String,
    },

    /// The Hub wants a file inside the Hub commit that is too big for that.
    #[error(
        "the Hub wants `{path}` ({size} bytes) inside the Hub commit; more than {limit} bytes are not sent that way: track it with LFS in `.gitattributes`"
    )]
    TooBigToInline {
        /// Repository path.
        path: String,
        /// Bytes.
        size: u64,
        /// The most that is sent inline, in bytes.
        limit: u64,
    },

    /// The repository's `.gitignore` would leave files of the submission out.
    #[error("the `.gitignore` of {repo} leaves out {}: remove these lines there first", .paths.join(", "))]
    Ignored {
        /// Repository id.
        repo: String,
        /// Repository paths that would be ignored.
        paths: Vec<String>,
    },

    /// The LFS server refused one file.
    #[error("the LFS server refused `{path}`: {message} ({code})")]
    Lfs {
        /// Repository path.
        path: String,
        /// Code of the object's error.
        code: i64,
        /// Message of the object's error.
        message: String,
    },

    /// A file is not what the plan says it is.
    #[error("`{}` changed since it was hashed; nothing was committed, run the step again", .path.display())]
    Changed {
        /// Path on disk.
        path: PathBuf,
    },

    /// The Hub says that it lacks contents which its store took, or claimed to have.
    #[error(
        "{repo}: {message}. All contents were sent again and are still missing: the Hub's store remembers them from a repository that was deleted. Publish under another repository name, or ask the Hub's support"
    )]
    LostContents {
        /// Repository id.
        repo: String,
        /// What the Hub said.
        message: String,
    },

    /// A planned file is not in the list of local files.
    #[error("the plan names `{path}`, which is not among the local files")]
    NotLocal {
        /// Repository path.
        path: String,
    },

    /// A download was to go where something else is already.
    #[error(
        "{} holds `{found}`, which is no file of this revision: name a directory that is new, empty, or a copy of it", .path.display()
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One of its entries.
        found: String,
    },

    /// A file of the same name is there with other bytes, and nothing is overwritten.
    #[error("{} is there already, with {found} instead of {expected}; nothing was changed: move it away, or name another directory", .path.display())]
    Differs {
        /// The file.
        path: PathBuf,
        /// Its size, or kind and digest of its bytes.
        found: String,
        /// What the Hub lists.
        expected: String,
    },

    /// A download was given up because another part of it failed, whose error is the one that is told.
    #[error("the download was given up because another file failed")]
    Stopped,

    /// What was downloaded is not what the Hub lists; it was thrown away.
    #[error("`{path}` of {repo} arrived with {found} instead of {expected}: the Hub or the way to it damages files")]
    Corrupt {
        /// Repository id.
        repo: String,
        /// Repository path.
        path: String,
        /// Kind and digest of the bytes that arrived.
        found: String,
        /// Kind and digest that the Hub lists.
        expected: String,
    },

    /// A local file or directory could not be used.
    #[error("{}: {cause}", .path.display())]
    Disk {
        /// Path on disk.
        path: PathBuf,
        /// The cause; told above, and so no source of this error, whose text would be told twice.
        cause: io::Error,
    },

    /// The journal has a line in its middle that is no record: it was edited or belongs to something else.
    #[error("{}:{line}: not a journal record: {reason}; move the file away to start a new one", .path.display())]
    Journal {
        /// Path of the journal.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },

    /// Another process works on the same transaction.
    #[error("{}: another run is at work on this submission; wait for its end", .path.display())]
    Busy {
        /// Path of the journal that it holds.
        path: PathBuf,
    },

    /// The transfer of file contents failed after its own retries.
    #[error("sending file contents to {cas} failed: {reason}; run the step again, what has arrived is not sent twice")]
    Xet {
        /// The content store.
        cas: String,
        /// The cause as hf-xet reports it.
        reason: String,
    },

    /// The Hub accepted a change of visibility and did not do it.
    #[error("{repo} is still {}", if *.private { "public" } else { "private" })]
    Visibility {
        /// Repository id.
        repo: String,
        /// The visibility that was asked for.
        private: bool,
    },
}

impl HubError {
    /// HTTP status, when the Hub answered with one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::RateLimited { .. } => Some(StatusCode::TOO_MANY_REQUESTS),
            _ => None,
        }
    }

    pub(crate) fn disk(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Disk { path, cause }
    }

    /// Whether a Hub commit was refused because contents are not in the store.
    pub(crate) fn misses_contents(&self) -> bool {
        let Self::Status { status, message, .. } = self else { return false };
        *status == StatusCode::BAD_REQUEST && message.contains("pointed to a file that does not exist")
    }

    /// Whether another Hub commit holds the repository, and nothing was done.
    pub(crate) fn is_locked(&self) -> bool {
        let Self::Status { status, message, .. } = self else { return false };
        *status == StatusCode::CONFLICT && message.contains("in progress")
    }

    /// Whether the effect of the request is unknown or none, and asking again may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Down { .. } | Self::Dropped { .. } | Self::RateLimited { .. } => true,
            Self::Status { status, .. } => matches!(status.as_u16(), 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

/// What a miner can do about a status; starts with a separator when there is something to say.
fn remedy(status: StatusCode, message: &str) -> &'static str {
    match status.as_u16() {
        403 if message.contains("disabled") => {
            "; the Hub took the repository down: ask its support, or use another name"
        }
        403 if message.contains("storage") => "; free storage on the Hub, or take a larger plan there",
        301 | 302 | 307 | 308 => "; the repository was renamed or is spelled differently, use its exact id",
        401 => "; set HUGGINGFACE_TOKEN to a valid token",
        403 => "; the token needs write access to this repository",
        404 => "; check the repository id, and that the token may see it",
        409 => "; another Hub commit to this repository is in progress, try again",
        413 => "; the Hub takes no such large request: take files out of the submission, or track them with LFS",
        408 | 500 | 502 | 503 | 504 => "; the Hub is in trouble: run the step again, it goes on where it stopped",
        _ => "",
    }
}
