//! Reading back: what a validator will find, compared with what was meant.

use std::collections::BTreeMap;

use deval_report::Diagnostic;
use reqwest::header::{LOCATION, RANGE};
use reqwest::{Method, Url};

use crate::http::{Api, build, shown};
use crate::plan::{GIT_ATTRIBUTES, LocalFile};
use crate::remote::{self, Digest, RemoteFile, RemoteRepo, RemoteState};
use crate::{HubError, RepoId};

/// Hosts that the validator's container may reach (upstream `deval/api/docker_init.sh`).
const CONTAINER_HOSTS: [&str; 4] = ["huggingface.co", "cdn-lfs-us-1.hf.co", "cdn-lfs-eu-1.hf.co", "cdn-lfs.hf.co"];

/// What a repository must be.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Revision that `main` stands at.
    pub revision: &'a str,
    /// Files that were published.
    pub local: &'a [LocalFile],
    /// Files that stood there before and were not to be touched.
    pub kept: &'a [RemoteFile],
}

/// What was read, and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// Everything that is not as expected.
    pub findings: Vec<Diagnostic>,
    /// The repository; none when it could not be read.
    pub found: Option<RemoteRepo>,
    /// The hosts that LFS files are downloaded from, with the number of files.
    pub hosts: BTreeMap<String, usize>,
}

impl Verified {
    /// Whether nothing that was found is an error.
    pub fn is_ok(&self) -> bool {
        !self.findings.iter().any(Diagnostic::is_error)
    }

    fn unreadable(repo: &RepoId, anonymous: bool, why: &str) -> Self {
        Self { findings: vec![unreadable(repo, anonymous, why)], found: None, hosts: BTreeMap::new() }
    }
}

const FIRST_BYTE: &str = "bytes=0-0";

pub(crate) async fn verify(
    api: &Api,
    repo: &RepoId,
    expected: Expected<'_>,
    anonymous: bool,
) -> Result<Verified, HubError> {
    let found = match remote::state(api, repo).await {
        Ok(RemoteState::Present(found)) => found,
        Ok(RemoteState::Missing) => return Ok(Verified::unreadable(repo, anonymous, "it is missing or private")),
        Err(HubError::Status { status, message, .. }) if anonymous && matches!(status.as_u16(), 401 | 403) => {
            return Ok(Verified::unreadable(repo, anonymous, &message));
        }
        Err(error) => return Err(error),
    };
    let mut findings = Vec::new();
    if anonymous {
        findings.extend(check_visibility(repo, &found));
    }
    findings.extend(check_head(repo, expected.revision, &found));
    findings.extend(check_files(expected, &found.files));
    findings.extend(check_weights(&found.files));
    let head = found.head.as_deref().unwrap_or(expected.revision);
    let hosts = check_contents(api, repo, head, &found.files, &mut findings).await?;
    findings.extend(check_hosts(api, &hosts));
    Ok(Verified { findings, found: Some(found), hosts })
}

/// GATES 11: upstream asks three times and believes the last answer. How many of three questions in a row were answered.
pub(crate) async fn three_answers(api: &Api, repo: &RepoId) -> Result<usize, HubError> {
    let mut answered = 0;
    for _ in 0..3 {
        let url = remote::model_url(api, repo, &[]);
        answered += usize::from(api.once(build(api.request(Method::GET, url))?).await.is_ok());
    }
    Ok(answered)
}

fn unreadable(repo: &RepoId, anonymous: bool, why: &str) -> Diagnostic {
    let who = if anonymous { "without a token" } else { "with this token" };
    Diagnostic::error("G10", format!("{repo} cannot be read {who}: {why}"))
        .help("the validator reads the repository anonymously: make it public after the chain commitment")
}

/// GATES 10, 24.
fn check_visibility(repo: &RepoId, found: &RemoteRepo) -> Vec<Diagnostic> {
    let private = found.private.then(|| unreadable(repo, true, "it is private"));
    private.into_iter().chain(closed(repo, found)).collect()
}

/// What keeps validators out of a repository even when it is public (gates 10, 24).
pub fn closed(repo: &RepoId, found: &RemoteRepo) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    if found.disabled {
        let finding = Diagnostic::error("G10", format!("{repo} was disabled by the Hub"));
        findings.push(finding.help("ask the Hub's support, or publish under another repository name"));
    }
    if found.gated {
        findings.push(
            Diagnostic::error("G24", format!("{repo} is gated: the validator's account was not granted access"))
                .help("turn access requests off in the repository's settings"),
        );
    }
    findings
}

/// GATES 12, 33.
fn check_head(repo: &RepoId, revision: &str, found: &RemoteRepo) -> Option<Diagnostic> {
    let Some(head) = &found.head else {
        return Some(Diagnostic::error("G12", format!("{repo} has no Hub commit on `main`")));
    };
    if found.last_commit.is_none() {
        return Some(Diagnostic::error("G12", format!("the Hub lists no Hub commit on `main` of {repo}")));
    }
    (head != revision).then(|| {
        Diagnostic::error("hub.head-moved", format!("another Hub commit followed on `main` of {repo}"))
            .found(head.clone())
            .expected(revision)
            .help("publish again if the submission is not what stands there; any Hub commit restarts gate 33")
    })
}

/// Set equality, sizes and digests (GATES 16, 27).
fn check_files(Expected { local, kept, .. }: Expected<'_>, remote: &[RemoteFile]) -> Vec<Diagnostic> {
    let mut rest: BTreeMap<&str, &RemoteFile> = remote.iter().map(|f| (f.path.as_str(), f)).collect();
    let mut wanted: Vec<&LocalFile> = local.iter().collect();
    wanted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut findings: Vec<Diagnostic> = wanted
        .into_iter()
        .filter_map(|file| match rest.remove(file.path.as_str()) {
            None => Some(Diagnostic::error("hub.missing", "the file is not on the Hub").in_file(&file.path)),
            Some(remote) => check_file(file, remote),
        })
        .collect();
    rest.remove(GIT_ATTRIBUTES);
    findings.extend(kept.iter().filter_map(|kept| check_kept(kept, rest.remove(kept.path.as_str()))));
    findings.extend(rest.into_values().map(|file| {
        Diagnostic::error("G16", "a file that is not part of the submission is on the Hub")
            .in_file(&file.path)
            .found(format!("{} bytes", file.size))
            .help("publish again: leftovers are deleted in the same Hub commit")
    }));
    findings
}

/// The half that was not published.
fn check_kept(kept: &RemoteFile, now: Option<&RemoteFile>) -> Option<Diagnostic> {
    if now.is_some_and(|now| now.size == kept.size && now.digest == kept.digest) {
        return None;
    }
    let finding = Diagnostic::error("hub.other-half", "a file that was to stay as it is has changed");
    let found = now.map_or_else(|| "nothing".to_owned(), |now| now.digest.to_string());
    let help = "somebody else changes this repository; look at its history on the Hub";
    Some(finding.in_file(&kept.path).found(found).expected(kept.digest.to_string()).help(help))
}

fn check_file(local: &LocalFile, remote: &RemoteFile) -> Option<Diagnostic> {
    let (kind, found, expected) = match &remote.digest {
        Digest::Sha256(found) => ("sha256", found, &local.sha256),
        Digest::GitSha1(found) => ("git sha1", found, &local.git_sha1),
    };
    let finding = if local.size != remote.size {
        Diagnostic::error("hub.size", "the file on the Hub has another size")
            .found(format!("{} bytes", remote.size))
            .expected(format!("{} bytes", local.size))
    } else if expected.is_empty() {
        Diagnostic::error("hub.digest", "the Hub keeps this file in git, but its git sha1 was not computed")
    } else if found != expected {
        Diagnostic::error("hub.digest", format!("the file on the Hub has another {kind}"))
            .found(found.clone())
            .expected(expected.clone())
    } else {
        return None;
    };
    Some(finding.in_file(&local.path))
}

/// GATES 13, 14.
fn check_weights(files: &[RemoteFile]) -> Option<Diagnostic> {
    let mut weights = files.iter().filter(|f| !f.path.contains('/') && f.path.ends_with(".safetensors")).peekable();
    if weights.peek().is_none() {
        return Some(
            Diagnostic::error("G13", "no `*.safetensors` stands at the root of the repository")
                .help("the validator does not look into directories, and the ending is case-sensitive"),
        );
    }
    weights.all(|f| f.last_commit.is_none()).then(|| {
        Diagnostic::error("G14", "the Hub names no last Hub commit for any root `*.safetensors`")
            .help("the validator skips a model without that date")
    })
}

/// Asks for every LFS file as the validator's client does, and fetches one byte of it. Returns the files behind each host.
async fn check_contents(
    api: &Api,
    repo: &RepoId,
    revision: &str,
    files: &[RemoteFile],
    findings: &mut Vec<Diagnostic>,
) -> Result<BTreeMap<String, usize>, HubError> {
    let mut hosts: BTreeMap<String, usize> = BTreeMap::new();
    for file in files.iter().filter(|f| matches!(f.digest, Digest::Sha256(_)) && f.size > 0) {
        let ids = [repo.namespace(), repo.name(), "resolve", revision];
        let url = api.url(ids.into_iter().chain(file.path.split('/')));
        let target = located(api, url).await?;
        if let Some(finding) = fetch_byte(api, file, &target).await? {
            findings.push(finding);
        }
        *hosts.entry(target.host_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(hosts)
}

/// Where the validator's client is sent for a file: the redirect of `HEAD`, else that of `GET`, else nowhere else.
async fn located(api: &Api, url: Url) -> Result<Url, HubError> {
    for method in [Method::HEAD, Method::GET] {
        let answer = api.peek(api.request(method, url.clone()).header(RANGE, FIRST_BYTE)).await?;
        if let Some(location) = answer.headers().get(LOCATION).and_then(|v| v.to_str().ok()) {
            let no_url = |e| HubError::Answer { url: shown(&url), what: format!("redirects to no URL: {e}") };
            return url.join(location).map_err(no_url);
        }
    }
    Ok(url)
}

async fn fetch_byte(api: &Api, file: &RemoteFile, target: &Url) -> Result<Option<Diagnostic>, HubError> {
    let answer = api.peek(api.request(Method::GET, target.clone()).header(RANGE, FIRST_BYTE)).await?;
    let status = answer.status();
    let help = match status.as_u16() {
        401 | 403 => "readers are refused: see to it that the repository is public and not gated",
        _ => {
            "the Hub's store took the Hub commit without the content, as after a repository was deleted and made again: publish under another repository name, or ask the Hub's support"
        }
    };
    Ok((!status.is_success()).then(|| {
        Diagnostic::error("hub.unreadable", "the Hub lists the file, but its content cannot be fetched")
            .in_file(&file.path)
            .found(format!("{status} from {}", shown(target)))
            .help(help)
    }))
}

/// GATES 23: the container's firewall knows upstream's hosts, the endpoint is reachable by definition.
pub(crate) fn check_hosts(api: &Api, hosts: &BTreeMap<String, usize>) -> Vec<Diagnostic> {
    let own = api.endpoint().host_str().unwrap_or_default();
    let foreign = hosts.iter().filter(|(host, _)| *host != own && !CONTAINER_HOSTS.contains(&host.as_str()));
    foreign
        .map(|(host, files)| {
            Diagnostic::warning("G23", format!("{files} files are served from `{host}`"))
                .found(host.clone())
                .expected(CONTAINER_HOSTS.join(", "))
                .help("upstream's container drops connections to other hosts, so a validator with upstream's firewall rules cannot download them")
        })
        .collect()
}
