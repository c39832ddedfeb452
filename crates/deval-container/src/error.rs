//! What can keep the container from doing its work.

use std::path::{Path, PathBuf};

use testcontainers::{TestcontainersError, bollard};

/// How a container engine is started, wherever one is missing.
const START: &str = "start one: `sudo systemctl start docker` on Linux, Docker Desktop on macOS and Windows, `podman system service --time=0` \
                     for Podman, or `ci/engine.sh` on a bare Debian machine; DOCKER_HOST names one elsewhere";

/// The work could not be done. What is wrong with the submission is a finding, not an error.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Nothing answers.
    #[error("no container engine answers at {host}: {why}; {START}")]
    NoEngine {
        /// Where it was looked for.
        host: String,
        /// What the system said.
        why: String,
    },
    /// The engine's socket is not ours to use.
    #[error(
        "no permission to use the container engine at {host}; join its group (`sudo usermod -aG docker $USER`, then log in again), or run a \
         rootless engine"
    )]
    Permission {
        /// Where the engine listens.
        host: String,
    },
    /// The engine lacks what is needed.
    #[error(
        "the container engine at {host} speaks API {found}, expected {expected} or newer (Docker 20.10, Podman 4); update it, or set \
         DOCKER_HOST to a newer one"
    )]
    TooOld {
        /// Where the engine listens.
        host: String,
        /// Version of its API.
        found: String,
        /// Oldest version that will do.
        expected: String,
    },
    /// The image could not be built.
    #[error(
        "the image {tag} could not be built: {why}; `container.base` in deval.toml (or `--base`) names the image that it is built on, and \
         `ci/base-image.sh` makes one where no registry can be reached; the last lines of the build:\n{tail}"
    )]
    Build {
        /// Its name.
        tag: String,
        /// What the engine said.
        why: String,
        /// Last lines of the build's log.
        tail: String,
    },
    /// A GPU was asked for and the engine has none to give.
    #[error(
        "a GPU was asked for ({asked}), but the engine cannot give one: {why}; install the NVIDIA Container Toolkit and restart the engine, \
         or run with `--gpu none`"
    )]
    NoGpu {
        /// What was asked for.
        asked: String,
        /// What the engine said.
        why: String,
    },
    /// The engine stands on another machine, which has no such folder.
    #[error(
        "the engine at {host} does not run on this machine, so it cannot mount {path}; use `--fetch`, so that the container downloads the \
         published package, or run on the engine's machine"
    )]
    Elsewhere {
        /// Where the engine listens.
        host: String,
        /// The package.
        path: PathBuf,
    },
    /// The engine failed, or went away.
    #[error("the container engine failed while {doing}: {why}")]
    Engine {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        why: String,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {path}: {cause}")]
    File {
        /// `read` or `write`.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// Another run of the same evaluation goes on.
    #[error(
        "another run asks the same package the same questions and keeps its answers in {path}; wait for it, or end it"
    )]
    Busy {
        /// The journal of both.
        path: PathBuf,
    },
}

impl ContainerError {
    pub(crate) fn engine(doing: &'static str) -> impl Fn(bollard::errors::Error) -> Self {
        move |error| Self::Engine { doing, why: chain(&error) }
    }

    pub(crate) fn testcontainers(doing: &'static str) -> impl Fn(TestcontainersError) -> Self {
        move |error| Self::Engine { doing, why: chain(&error) }
    }

    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::File { doing, path, cause }
    }
}

/// Characters of a message that are shown: what answers in an engine's place may send whole pages.
const SHOWN: usize = 500;

/// An error with its causes, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
