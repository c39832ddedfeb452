//! `cargo xtask inspect`: a repository as a validator will find it, from its metadata and the headers of its weights.

mod gates;
mod hash;
mod model;
mod shadow;

use std::collections::BTreeMap;

use deval_hub::{HubClient, HubError, RemoteCommit, RemoteFile, RemoteFiles, RemoteRepo, RemoteState, RepoId};
use deval_model::repo;
use deval_report::{Diagnostic, Inputs, Network, Report, Section, gates::GateVerdict};
use serde::Serialize;

use self::{hash::Hashed, model::Model, shadow::Shadow};
use crate::{cli::InspectArgs, context::Context, hub};

/// A repository, looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Inspection {
    repository: String,
    /// Hub commit that was looked at.
    revision: Option<String>,
    /// Whether everybody may read it, which a validator needs.
    anonymous: bool,
    private: bool,
    gated: bool,
    disabled: bool,
    last_commit: Option<LastCommit>,
    bytes: u64,
    /// As upstream adds it up.
    gigabytes: f64,
    files: Vec<Listed>,
    model: Option<Model>,
    /// What stands in `coldkey.txt`, if it is an address.
    coldkey: Option<String>,
    /// Number of LFS files that each host gives the bytes of.
    hosts: BTreeMap<String, usize>,
    read: Read,
    /// With `--hash`.
    hash: Option<Hashed>,
    /// How the gates that a repository decides would stand.
    gates: Vec<GateVerdict>,
}

#[derive(Debug, Serialize)]
struct LastCommit {
    id: String,
    title: String,
    date: String,
}

#[derive(Debug, Serialize)]
struct Listed {
    path: String,
    bytes: u64,
    /// `sha256` for LFS, `git sha1` else.
    digest: String,
    last_commit: Option<String>,
}

/// Bytes of file contents that were received.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Read {
    /// Of small files: configuration, tokenizer, sources.
    small_files: u64,
    /// Of weight files: their headers.
    headers: u64,
    /// Of weight files beyond the headers: none without `--hash`.
    weights: u64,
}

pub(crate) fn inspect(context: &Context, arguments: &InspectArgs) -> anyhow::Result<Report<Inspection>> {
    let mut findings = repo::check_url(&arguments.model_url);
    let result = match RepoId::parse(&arguments.model_url) {
        Ok(id) => {
            let client = hub::reader_at(context, arguments.hub.as_deref())?;
            // Another Hub than the manifest's is judged as the main network does.
            let network = arguments.hub.as_ref().map_or(context.network(), |_| Network::Finney);
            let look = Look { context, id, client, network, findings: &mut findings };
            context.runtime.block_on(look.run(arguments.hash))?
        }
        // The findings tell what is wrong with the name.
        Err(_) => None,
    };
    let mut inputs = Inputs::default();
    inputs.add("repository", &arguments.model_url);
    Ok(Report::new("inspect", inputs, findings, result))
}

struct Look<'a> {
    context: &'a Context,
    id: RepoId,
    client: HubClient,
    network: Network,
    findings: &'a mut Vec<Diagnostic>,
}

impl Look<'_> {
    async fn run(mut self, hash: bool) -> anyhow::Result<Option<Inspection>> {
        let Some((found, reader, anonymous)) = self.see().await? else { return Ok(None) };
        let mut inspection = overview(&self.id, &found, anonymous);
        self.findings.extend(gates::of_visibility(&self.id, &found));
        let network = self.network;
        let gb = repo::size_gb(found.files.iter().map(|file| file.size));
        self.findings.extend(repo::check_size(gb, network));
        let files = match &found.head {
            Some(head) => self.open(&reader, head).await?,
            None => None,
        };
        if let Some(files) = files {
            match self.contents(&reader, &files, &mut inspection).await {
                Err(error) if is_refusal(&error) => self.findings.push(gates::closed(&self.id, &error)),
                looked_at => looked_at?,
            }
            if hash {
                inspection.hash = self.hash(&files, inspection.model.is_some()).await?;
            }
            let read = &mut inspection.read;
            read.weights = inspection.hash.as_ref().map_or(0, |hash| hash.bytes);
            read.small_files = files.bytes_read() - read.headers - read.weights;
        }
        let seen = gates::Seen { found: &found, anonymous, hosts: &inspection.hosts, gb };
        inspection.gates = gates::verdicts(std::mem::take(&mut inspection.gates), &seen, self.findings);
        Ok(Some(inspection))
    }

    /// The validator's digest, where a validator has one.
    async fn hash(&mut self, files: &RemoteFiles, weights: bool) -> anyhow::Result<Option<Hashed>> {
        let raises = self.findings.iter().any(|finding| finding.code == "G27" && finding.is_error());
        if weights && !raises {
            return Ok(Some(hash::stream(self.context, files, self.findings).await?));
        }
        let finding = |why| Diagnostic::warning("inspect.hash", format!("`--hash` was not computed: {why}"));
        self.findings.push(if raises {
            finding("a validator has no hash of this repository").help("mend what G27 names, then ask again")
        } else {
            finding("there are no weights that can be read")
        });
        Ok(None)
    }

    /// The files, unless one of them has a name that no copy could have.
    async fn open(&mut self, reader: &HubClient, head: &str) -> Result<Option<RemoteFiles>, HubError> {
        match reader.open(&self.id, head).await {
            Ok(files) => Ok(Some(files)),
            Err(error @ HubError::Answer { .. }) => {
                let finding = Diagnostic::error("inspect.contents", "the files cannot be looked at");
                let help = "what was read without them is told; delete or rename that file in the repository";
                self.findings.push(finding.found(error.to_string()).help(help));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The repository, what reads it, and whether that has no token. A validator has none, so that comes first.
    async fn see(&mut self) -> anyhow::Result<Option<(RemoteRepo, HubClient, bool)>> {
        let stranger = self.client.anonymous();
        let refusal = match state(&stranger, &self.id).await? {
            Ok(found) => return Ok(Some((found, stranger, true))),
            Err(refusal) => refusal,
        };
        match state(&self.client, &self.id).await? {
            Ok(found) => Ok(Some((found, self.client.clone(), false))),
            Err(_) => {
                self.findings.push(gates::unseen(&self.id, &refusal));
                Ok(None)
            }
        }
    }

    /// What the files tell: hosts, headers, small files.
    async fn contents(
        &mut self,
        reader: &HubClient,
        files: &RemoteFiles,
        inspection: &mut Inspection,
    ) -> Result<(), anyhow::Error> {
        let (hosts, findings) = reader.hosts(files).await?;
        inspection.hosts = hosts;
        self.findings.extend(findings);
        let bar = self.context.ui.spinner("reading headers and small files");
        let shadow = Shadow::cast(files).await;
        bar.finish_and_clear();
        let shadow = shadow?;
        inspection.read.headers = shadow.headers;
        inspection.coldkey = shadow.coldkey();
        let (model, found) = model::look(&shadow, &self.id, self.network)?;
        inspection.model = model;
        inspection.gates = found.gates;
        self.findings.extend(found.diagnostics);
        Ok(())
    }
}

/// What stands there for this client; in place of an error, why nothing does.
async fn state(client: &HubClient, id: &RepoId) -> Result<Result<RemoteRepo, String>, HubError> {
    match client.remote_state(id).await {
        Ok(RemoteState::Present(found)) => Ok(Ok(found)),
        Ok(RemoteState::Missing) => Ok(Err("the Hub has no such repository, or it is private".to_owned())),
        Err(error) if is_closed(&error) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Whether the Hub says that this caller may not, or not here.
fn is_closed(error: &HubError) -> bool {
    error.status().is_some_and(|status| status.is_redirection() || matches!(status.as_u16(), 401 | 403))
}

fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(is_closed)
}

fn overview(id: &RepoId, found: &RemoteRepo, anonymous: bool) -> Inspection {
    let last_commit = found.last_commit.clone().map(|RemoteCommit { id, title, date }| LastCommit { id, title, date });
    let listed = |file: &RemoteFile| Listed {
        path: file.path.clone(),
        bytes: file.size,
        digest: file.digest.to_string(),
        last_commit: file.last_commit.clone(),
    };
    Inspection {
        repository: id.to_string(),
        revision: found.head.clone(),
        anonymous,
        private: found.private,
        gated: found.gated,
        disabled: found.disabled,
        last_commit,
        bytes: found.total_size(),
        gigabytes: repo::size_gb(found.files.iter().map(|file| file.size)),
        files: found.files.iter().map(listed).collect(),
        model: None,
        coldkey: None,
        hosts: BTreeMap::new(),
        read: Read::default(),
        hash: None,
        gates: Vec::new(),
    }
}

/// Whether the validator's container downloads this file as weights: `*.safetensors` at the root.
fn is_weights(file: &RemoteFile) -> bool {
    !file.path.contains('/') && file.path.ends_with(".safetensors")
}

impl Inspection {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let mut sections = vec![self.repository()];
        sections.extend(self.model.as_ref().map(Model::section));
        let files = self.files.iter().map(|file| vec![file.path.clone(), file.bytes.to_string(), file.digest.clone()]);
        sections.push(Section::new("Files").table(&["path", "bytes", "digest"], files.collect()));
        sections.push(gates::section(&self.gates));
        sections
    }

    fn repository(&self) -> Section {
        let marks = [(self.private, "private"), (self.gated, "gated"), (self.disabled, "disabled")];
        let marks: Vec<&str> = marks.into_iter().filter_map(|(is, mark)| is.then_some(mark)).collect();
        let visibility = if marks.is_empty() { "public".to_owned() } else { marks.join(", ") };
        let mut section = Section::new("Repository")
            .row("name", &self.repository)
            .row("visibility", visibility)
            .row("revision", self.revision.as_deref().unwrap_or("no Hub commit"))
            .row("size", format!("{:.3} GB in {} files", self.gigabytes, self.files.len()));
        if let Some(LastCommit { title, date, .. }) = &self.last_commit {
            section = section.row("last Hub commit", format!("{date} {title:?}"));
        }
        section = section.row("coldkey.txt", self.coldkey.as_deref().unwrap_or("no address"));
        for (host, files) in &self.hosts {
            section = section.row("LFS files from", format!("{host} ({files} files)"));
        }
        if let Some(hash) = &self.hash {
            section = section.row("model hash", &hash.model_hash).row("", hash.summary());
        }
        let Read { small_files, headers, weights } = self.read;
        section.row("bytes read", format!("{headers} of headers, {small_files} of small files, {weights} of weights"))
    }
}
