//! The image: built from a folder, named by its content, built once.
//!
//! testcontainers builds with BuildKit and keeps the log to itself; a build of minutes has to show what it does, and a failed one its last
//! lines. So the engine's classic builder is asked, through the same client.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::{self, File},
    path::Path,
};

use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use testcontainers::bollard::{
    body_full,
    errors::Error as EngineError,
    query_parameters::{BuildImageOptionsBuilder, BuilderVersion},
};

use crate::{
    engine::{Engine, block_on},
    error::{ContainerError, chain},
    tar::{Entry, archive},
};

/// Repository name of all images that are built here.
const REPOSITORY: &str = "deval/validator";
/// Lines of a failed build that are shown.
const TAIL_LINES: usize = 20;
/// What of a pipeline folder is no part of the image: the package itself is mounted, the rest is for people.
const NOT_IN_IMAGE: [&str; 4] = ["model", "README.md", "__pycache__", ".git"];

/// What an image is built from.
#[derive(Debug, Clone)]
pub struct Recipe {
    repository: String,
    entries: Vec<Entry>,
    arguments: BTreeMap<String, String>,
}

/// A built image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `repository:digest of the recipe`.
    pub tag: String,
    /// The engine's own digest; two builds of one recipe differ in it.
    pub id: String,
    /// Whether it was there already.
    pub was_there: bool,
}

impl Recipe {
    /// The miner API of a pipeline folder: its `Dockerfile` and everything beside it but the miner's own `model/`.
    ///
    /// # Errors
    /// Unreadable files.
    pub fn of_pipeline(dir: &Path) -> Result<Self, ContainerError> {
        let mut entries = Vec::new();
        collect(dir, "", &mut entries)?;
        entries.sort();
        Ok(Self { repository: REPOSITORY.to_owned(), entries, arguments: BTreeMap::new() })
    }

    /// An image of given files, `Dockerfile` among them, each with its permissions.
    pub fn of_files(repository: &str, files: Vec<(String, Vec<u8>, u32)>) -> Self {
        let entry = |(path, content, mode)| Entry { path, content, mode };
        let mut entries: Vec<_> = files.into_iter().map(entry).collect();
        entries.sort();
        Self { repository: repository.to_owned(), entries, arguments: BTreeMap::new() }
    }

    /// Sets a build argument, such as `BASE`.
    #[must_use]
    pub fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.insert(name.to_owned(), value.to_owned());
        self
    }

    /// SHA-256 over files and build arguments, in lower-case hexadecimal.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        let mut add = |part: &[u8]| {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        };
        for entry in &self.entries {
            add(entry.path.as_bytes());
            add(&entry.mode.to_le_bytes());
            add(&entry.content);
        }
        for (name, value) in &self.arguments {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        hex::encode(hasher.finalize())
    }

    /// Name of the image.
    pub fn tag(&self) -> String {
        format!("{}:{}", self.repository, &self.digest()[..16])
    }

    /// The image, built if it is not there. `progress` hears the build's log line by line.
    ///
    /// # Errors
    /// A build that fails, with its last lines; an engine that goes away.
    pub fn ensure(&self, engine: &Engine, progress: &mut dyn FnMut(&str)) -> Result<Image, ContainerError> {
        let tag = self.tag();
        block_on(async {
            if let Some(id) = find(engine, &tag).await? {
                return Ok(Image { tag, id, was_there: true });
            }
            // Two programs at once would build it twice, of which one copy of gigabytes stays without a name.
            let _lock = lock(&tag)?;
            if let Some(id) = find(engine, &tag).await? {
                return Ok(Image { tag, id, was_there: true });
            }
            self.build(engine, &tag, progress).await?;
            let id = find(engine, &tag).await?;
            let id =
                id.ok_or(ContainerError::Engine { doing: "building", why: format!("{tag} is not there afterwards") })?;
            Ok(Image { tag, id, was_there: false })
        })
    }

    async fn build(&self, engine: &Engine, tag: &str, progress: &mut dyn FnMut(&str)) -> Result<(), ContainerError> {
        let arguments: HashMap<_, _> = self.arguments.clone().into_iter().collect();
        let options = BuildImageOptionsBuilder::new()
            .dockerfile("Dockerfile")
            .t(tag)
            .rm(true)
            .forcerm(true)
            .buildargs(&arguments)
            .version(BuilderVersion::BuilderV1)
            .build();
        let context = body_full(archive(&self.entries).into());
        let mut stream = std::pin::pin!(engine.docker.build_image(options, None, Some(context)));
        let mut tail = VecDeque::new();
        let mut hear = |text: &str| {
            for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
                progress(line);
                tail.push_back(line.to_owned());
                if tail.len() > TAIL_LINES {
                    tail.pop_front();
                }
            }
        };
        while let Some(step) = stream.next().await {
            match step {
                Ok(step) => step.stream.iter().chain(&step.status).for_each(|text| hear(text)),
                Err(error) => return Err(failed(tag, &error, tail.into())),
            }
        }
        Ok(())
    }
}

/// Waits until no other process of this machine builds the image.
fn lock(tag: &str) -> Result<File, ContainerError> {
    let path = std::env::temp_dir().join(format!("{}.lock", tag.replace(['/', ':'], "-")));
    let lock = File::create(&path).map_err(ContainerError::file("write", &path))?;
    lock.lock().map_err(ContainerError::file("lock", &path))?;
    Ok(lock)
}

async fn find(engine: &Engine, tag: &str) -> Result<Option<String>, ContainerError> {
    match engine.docker.inspect_image(tag).await {
        Ok(image) => Ok(image.id),
        Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(ContainerError::engine("looking for an image")(error)),
    }
}

fn failed(tag: &str, error: &EngineError, tail: Vec<String>) -> ContainerError {
    let why = match error {
        EngineError::DockerStreamError { error } => error.trim().to_owned(),
        error => chain(error),
    };
    ContainerError::Build { tag: tag.to_owned(), why, tail: tail.join("\n") }
}

fn collect(dir: &Path, prefix: &str, entries: &mut Vec<Entry>) -> Result<(), ContainerError> {
    let listing = fs::read_dir(dir).map_err(ContainerError::file("read", dir))?;
    for item in listing {
        let path = item.map_err(ContainerError::file("read", dir))?.path();
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if NOT_IN_IMAGE.contains(&name.as_str()) {
            continue;
        }
        let inside = format!("{prefix}{name}");
        if path.is_dir() {
            collect(&path, &format!("{inside}/"), entries)?;
        } else {
            let content = fs::read(&path).map_err(ContainerError::file("read", &path))?;
            // Scripts are run by name; the umask of the checkout must not change the image.
            let mode = if content.starts_with(b"#!") { 0o755 } else { 0o644 };
            entries.push(Entry { path: inside, content, mode });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_named_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Dockerfile", "FROM scratch\n");
        write("api/main.py", "x = 1\n");
        let digest = || Recipe::of_pipeline(dir.path()).unwrap().digest();
        let first = digest();
        write("model/pipeline.py", "the miner's own\n");
        write("api/__pycache__/main.pyc", "cache\n");
        write("README.md", "for people\n");
        assert_eq!(digest(), first, "the package is mounted, so it does not change the image");
        write("api/main.py", "x = 2\n");
        assert_ne!(digest(), first);
        let recipe = Recipe::of_pipeline(dir.path()).unwrap();
        assert_ne!(recipe.clone().argument("BASE", "a").tag(), recipe.argument("BASE", "b").tag());
    }
}
