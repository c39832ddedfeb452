//! Who asks, and how a request is refused: the status codes and `X-Error-*` headers Hub clients read.

use axum::Json;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

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
            Caller::User => (StatusCode::NOT_FOUND, "Repository not found"),
        };
        Self { status, code: Some("RepoNotFound"), message: message.into() }
    }

    fn gated() -> Self {
        let message = "Access to model is restricted. You must be authenticated to access it.".into();
        Self { status: StatusCode::UNAUTHORIZED, code: Some("GatedRepo"), message }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    Anonymous,
    User,
}

impl Caller {
    /// # Errors
    /// 401 when there is an `Authorization` header that is not `Bearer hf_…`.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(value) = headers.get(AUTHORIZATION) else { return Ok(Self::Anonymous) };
        match value.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")) {
            Some(token) if token.starts_with("hf_") => Ok(Self::User),
            _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "Invalid credentials in Authorization header")),
        }
    }

    /// # Errors
    /// 401 unless there is a token.
    pub(super) fn user(headers: &HeaderMap) -> Result<(), Refusal> {
        match Self::of(headers)? {
            Self::User => Ok(()),
            Self::Anonymous => Err(Refusal::new(StatusCode::UNAUTHORIZED, "Invalid username or password.")),
        }
    }
}

impl Hub {
    /// The repository, if the caller may know of it.
    ///
    /// # Errors
    /// `RepoNotFound`: 401 for anonymous callers (private and missing alike), 404 with a token.
    pub(super) fn readable(&self, headers: &HeaderMap, ns: &str, name: &str) -> Result<Repo, Refusal> {
        let caller = Caller::of(headers)?;
        let repo = match RepoId::new(ns, name) {
            Some(id) => self.store.repo(&id)?,
            None => None,
        };
        repo.filter(|repo| caller == Caller::User || !repo.settings.private).ok_or_else(|| Refusal::no_repo(caller))
    }

    /// The repository, if the caller may read its files: a gated one shows its name and tree, but no bytes, to strangers.
    ///
    /// # Errors
    /// As [`Hub::readable`], and `GatedRepo`.
    pub(super) fn downloadable(&self, headers: &HeaderMap, ns: &str, name: &str) -> Result<Repo, Refusal> {
        let repo = self.readable(headers, ns, name)?;
        if repo.settings.is_gated() && Caller::of(headers)? == Caller::Anonymous {
            return Err(Refusal::gated());
        }
        Ok(repo)
    }

    /// The repository, if the caller may change it.
    ///
    /// # Errors
    /// 401 without a token, else as [`Hub::readable`].
    pub(super) fn writable(&self, headers: &HeaderMap, ns: &str, name: &str) -> Result<Repo, Refusal> {
        Caller::user(headers)?;
        self.readable(headers, ns, name)
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

pub(super) async fn no_such_route(uri: Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("the local Hub has no {}", uri.path()))
}
