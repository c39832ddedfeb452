//! Who asks, and how a request is refused: the status codes and `X-Error-*` headers Hub clients read.

use axum::Json;
use axum::http::header::{AUTHORIZATION, HOST, LINK};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::store::{Commit, Repo, RepoId};
use super::{Hub, HubError};

/// The one user behind every token.
pub(super) const USER: &str = "localnet";

const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");

/// A refusal. `code` is the Hub's `X-Error-Code`, from which clients choose their exception.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: Option<&'static str>,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: None, message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn no_entry(path: &str, revision: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: Some("EntryNotFound"),
            message: format!("{path} does not exist on \"{revision}\""),
        }
    }

    fn no_revision(revision: &str) -> Self {
        let message = format!("Invalid rev id: {revision}");
        Self { status: StatusCode::NOT_FOUND, code: Some("RevisionNotFound"), message }
    }

    /// A private repository must look to a stranger exactly as one that does not exist.
    fn no_repo(caller: Caller) -> Self {
        let (status, message) = match caller {
            Caller::Anonymous => (StatusCode::UNAUTHORIZED, "Invalid username or password."),
            _ => (StatusCode::NOT_FOUND, "Repository not found"),
        };
        Self { status, code: Some("RepoNotFound"), message: message.into() }
    }

    fn gated(id: &RepoId, caller: Caller) -> Self {
        let (status, who) = match caller {
            Caller::Anonymous => {
                (StatusCode::UNAUTHORIZED, "You must have access to it and be authenticated to access it.")
            }
            _ => (StatusCode::FORBIDDEN, "You are not in the authorized list."),
        };
        Self { status, code: Some("GatedRepo"), message: format!("Access to model {id} is restricted. {who}") }
    }
}

impl From<HubError> for Refusal {
    fn from(error: HubError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        if let Some(code) = self.code {
            response.headers_mut().insert(ERROR_CODE, HeaderValue::from_static(code));
        }
        if let Ok(message) = HeaderValue::from_str(&self.message) {
            response.headers_mut().insert(ERROR_MESSAGE, message);
        }
        response
    }
}

/// Who sent the request. The token itself is looked at once and kept nowhere.
///
/// `hf_…` is the user `localnet` with the role `write`, `hf_read…` the same user with the role `read`, and `hf_stranger…` the user
/// `stranger`, who owns nothing here: private repositories do not exist for it, gated ones it may not read, none it may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    Anonymous,
    Stranger,
    Reader,
    Writer,
}

impl Caller {
    /// # Errors
    /// 401 when there is an `Authorization` header that is not `Bearer hf_…`.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(value) = headers.get(AUTHORIZATION) else { return Ok(Self::Anonymous) };
        let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer hf_"));
        let refusal = || Refusal::new(StatusCode::UNAUTHORIZED, "Invalid credentials in Authorization header");
        Ok(match token.ok_or_else(refusal)? {
            token if token.starts_with("read") => Self::Reader,
            token if token.starts_with("stranger") => Self::Stranger,
            _ => Self::Writer,
        })
    }

    /// Its name in the request journal.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Stranger => "stranger",
            Self::Reader => "read",
            Self::Writer => "write",
        }
    }

    /// Name and token role, as `whoami` tells them.
    pub(super) fn user_and_role(self) -> (&'static str, &'static str) {
        match self {
            Self::Anonymous | Self::Stranger => ("stranger", "write"),
            Self::Reader => (USER, "read"),
            Self::Writer => (USER, "write"),
        }
    }

    /// Whether the repositories of this Hub are its own.
    fn is_owner(self) -> bool {
        matches!(self, Self::Reader | Self::Writer)
    }

    /// # Errors
    /// 401 unless there is a token.
    pub(super) fn user(headers: &HeaderMap) -> Result<Self, Refusal> {
        match Self::of(headers)? {
            Self::Anonymous => Err(Refusal::new(StatusCode::UNAUTHORIZED, "Invalid username or password.")),
            user => Ok(user),
        }
    }

    /// # Errors
    /// 401 without a token, 403 with one that may not write.
    pub(super) fn writer(headers: &HeaderMap) -> Result<(), Refusal> {
        let forbidden = |why: &str| Err(Refusal::new(StatusCode::FORBIDDEN, why));
        match Self::user(headers)? {
            Self::Writer => Ok(()),
            Self::Reader => forbidden("You must use a token with the role \"write\"."),
            _ => forbidden("You don't have the rights to change a repository in this namespace."),
        }
    }
}

impl Hub {
    /// The repository, if the caller may know of it.
    ///
    /// # Errors
    /// `RepoNotFound`: 401 for anonymous callers (private and missing alike), 404 with a token. 403 when the Hub has disabled it.
    pub(super) fn readable(&self, headers: &HeaderMap, ns: &str, name: &str) -> Result<Repo, Refusal> {
        let caller = Caller::of(headers)?;
        let repo = match RepoId::new(ns, name) {
            Some(id) => self.store.repo(&id)?,
            None => None,
        };
        let seen = repo.filter(|repo| caller.is_owner() || !repo.settings.private);
        let repo = seen.ok_or_else(|| Refusal::no_repo(caller))?;
        // The text is what Python tells `DisabledRepoError` by.
        let disabled = || Refusal::new(StatusCode::FORBIDDEN, "Access to this resource is disabled.");
        if repo.settings.disabled { Err(disabled()) } else { Ok(repo) }
    }

    /// The repository, if the caller may read its files: a gated one shows its name and tree, but no bytes, to strangers.
    ///
    /// # Errors
    /// As [`Hub::readable`], and `GatedRepo`.
    pub(super) fn downloadable(&self, headers: &HeaderMap, ns: &str, name: &str) -> Result<Repo, Refusal> {
        let (repo, caller) = (self.readable(headers, ns, name)?, Caller::of(headers)?);
        if repo.settings.is_gated() && !caller.is_owner() {
            return Err(Refusal::gated(&repo.id, caller));
        }
        Ok(repo)
    }

    /// The repository, if the caller may change it.
    ///
    /// # Errors
    /// 401 without a token, 403 with one that may not write, else as [`Hub::readable`].
    pub(super) fn writable(&self, headers: &HeaderMap, ns: &str, name: &str) -> Result<Repo, Refusal> {
        Caller::user(headers)?;
        let repo = self.readable(headers, ns, name)?;
        Caller::writer(headers)?;
        Ok(repo)
    }

    /// The commit a revision names: `main`, or a full commit id.
    ///
    /// # Errors
    /// `RevisionNotFound`.
    pub(super) fn revision(&self, repo: &Repo, revision: &str) -> Result<Commit, Refusal> {
        self.store.revision(repo, revision)?.ok_or_else(|| Refusal::no_revision(revision))
    }
}

/// The address under which the caller reached this Hub; links in answers must work from where the caller is.
pub(super) fn base_url(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("http://{host}")
}

impl Hub {
    /// Where LFS files are redirected to.
    pub(super) fn cdn_url(&self, headers: &HeaderMap) -> String {
        let base = base_url(headers);
        match (&self.options.cdn_host, base.rsplit_once(':')) {
            (Some(host), Some((_, port))) => format!("http://{host}:{port}"),
            _ => base,
        }
    }
}

/// A part of a list too long for one answer, and where the rest is.
pub(super) struct Page {
    entries: Vec<Value>,
    next: Option<String>,
}

impl Page {
    /// The entries from number `from` on, at most `size`; `address` is the request's own path and query.
    pub(super) fn new(mut entries: Vec<Value>, from: usize, size: usize, base: &str, address: &Uri) -> Self {
        let rest = entries.len().saturating_sub(from);
        let query = address.query().unwrap_or_default();
        let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
        let next = (rest > size).then(|| {
            let pairs: Vec<String> = kept.map(str::to_owned).chain([format!("cursor={}", from + size)]).collect();
            format!("<{base}{}?{}>; rel=\"next\"", address.path(), pairs.join("&"))
        });
        entries.drain(..entries.len() - rest);
        entries.truncate(size);
        Self { entries, next }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = Json(self.entries).into_response();
        if let Some(next) = self.next.and_then(|next| HeaderValue::from_str(&next).ok()) {
            response.headers_mut().insert(LINK, next);
        }
        response
    }
}

pub(super) async fn no_such_route(uri: Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("the local Hub has no {}", uri.path()))
}
