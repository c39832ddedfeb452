//! Who owns a container: a live process, told by a file lock that dies with it.
//!
//! No process removes its containers once it is killed, so the next run does: it removes what belongs to a lock that nobody holds.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

use testcontainers::bollard::{
    Docker,
    query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder},
};

use crate::{
    engine::{Engine, block_on},
    error::ContainerError,
};

/// Label of containers and networks; its value is the path of their owner's lock.
pub(crate) const LABEL: &str = "deval.owner";

/// A lock that this process holds as long as its containers may live: until [`Owner::release`].
#[derive(Debug)]
pub(crate) struct Owner {
    path: PathBuf,
    _lock: File,
}

impl Owner {
    /// A new lock in a folder.
    pub(crate) fn new(dir: &Path) -> Result<Self, ContainerError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        fs::create_dir_all(dir).map_err(ContainerError::file("write", dir))?;
        let dir = dir.canonicalize().map_err(ContainerError::file("read", dir))?;
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = dir.join(format!("{process}-{count}-{nanos:x}.lock"));
        let lock = File::create_new(&path).map_err(ContainerError::file("write", &path))?;
        lock.lock().map_err(ContainerError::file("lock", &path))?;
        Ok(Self { path, _lock: lock })
    }

    /// Value of [`LABEL`].
    pub(crate) fn label(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Removes everything that this owner has, and the lock's file with it. Where the engine is gone, the file stays, so that the next run
    /// finds what was left.
    pub(crate) async fn release(&self, docker: &Docker) -> Result<(), ContainerError> {
        remove_all(docker, &self.label()).await?;
        fs::remove_file(&self.path).map_err(ContainerError::file("remove", &self.path))
    }

    /// A name that no other owner has.
    pub(crate) fn name(&self) -> String {
        self.path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    }
}

/// Whether the lock is there and nobody holds it.
fn is_dead(path: &str) -> bool {
    File::open(path).is_ok_and(|lock| lock.try_lock().is_ok())
}

/// Removes containers and networks that a killed run left behind. How many there were.
///
/// # Errors
/// The engine.
pub fn remove_leftovers(engine: &Engine) -> Result<usize, ContainerError> {
    block_on(async {
        let removed = remove_if(&engine.docker, &is_dead).await?;
        removed.iter().for_each(|path| {
            // One owner may have had several containers, and then its file is gone already.
            let _gone = fs::remove_file(path);
        });
        Ok(removed.len())
    })
}

/// Removes everything that one owner has.
pub(crate) async fn remove_all(docker: &Docker, owner: &str) -> Result<(), ContainerError> {
    remove_if(docker, &|label| label == owner).await.map(drop)
}

/// Owners of the containers that were removed.
async fn remove_if(docker: &Docker, is_meant: &(dyn Fn(&str) -> bool + Sync)) -> Result<Vec<String>, ContainerError> {
    let filter = HashMap::from([("label", vec![LABEL])]);
    let list = ListContainersOptionsBuilder::new().all(true).filters(&filter).build();
    let containers = docker.list_containers(Some(list)).await.map_err(ContainerError::engine("listing containers"))?;
    let mut removed = Vec::new();
    for container in containers {
        let owner = container.labels.and_then(|mut labels| labels.remove(LABEL)).unwrap_or_default();
        if let Some(id) = container.id.filter(|_| is_meant(&owner)) {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            // One that is being removed already is as good as removed.
            let _gone = docker.remove_container(&id, Some(options)).await;
            removed.push(owner);
        }
    }
    let list = ListNetworksOptionsBuilder::new().filters(&filter).build();
    let networks = docker.list_networks(Some(list)).await.map_err(ContainerError::engine("listing networks"))?;
    for network in networks {
        let owner = network.labels.and_then(|mut labels| labels.remove(LABEL)).unwrap_or_default();
        if let Some(id) = network.id.filter(|_| is_meant(&owner)) {
            let _gone = docker.remove_network(&id).await;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_dead_once_its_lock_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let owner = Owner::new(dir.path()).unwrap();
        let path = owner.label();
        assert!(!is_dead(&path), "its process lives");
        std::fs::write(dir.path().join("left.lock"), "").unwrap();
        assert!(is_dead(dir.path().join("left.lock").to_str().unwrap()));
        drop(owner);
        assert!(is_dead(&path), "what it left can be told");
        std::fs::remove_file(&path).unwrap();
        assert!(!is_dead(&path), "an unknown owner may live on another machine");
    }
}
