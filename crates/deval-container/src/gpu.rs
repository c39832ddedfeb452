//! GPUs: asked for, and whether the engine gives them.

use std::{collections::HashMap, path::Path};

use testcontainers::bollard::{
    models::{ContainerCreateBody, DeviceRequest, HostConfig},
    query_parameters::CreateContainerOptions,
};

use crate::{
    engine::{Engine, block_on},
    error::{ContainerError, chain},
    image::{Image, Recipe},
    owner::{self, Owner},
};

/// An image of next to nothing, whose command is not there.
const NOTHING: &[u8] = b"FROM scratch\nCOPY Dockerfile /\nCMD [\"/nothing\"]\n";

/// GPUs to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gpu {
    /// All of them if the engine has any.
    Auto,
    /// None.
    None,
    /// All of them.
    All,
    /// That many.
    Count(u32),
}

impl Gpu {
    /// Whether a container gets any.
    pub fn is_wanted(self, engine: &Engine) -> bool {
        match self {
            Self::Auto => engine.info.has_gpu,
            Self::None | Self::Count(0) => false,
            Self::All | Self::Count(_) => true,
        }
    }

    /// Has the engine give them to a container that cannot run, before an image of gigabytes is built for them. `owners` is the folder of the
    /// locks by which containers of killed runs are told.
    ///
    /// # Errors
    /// [`ContainerError::NoGpu`], or an engine that fails otherwise.
    pub fn check(self, engine: &Engine, owners: &Path) -> Result<(), ContainerError> {
        if !self.is_wanted(engine) {
            return Ok(());
        }
        let files = vec![("Dockerfile".to_owned(), NOTHING.to_vec(), 0o644)];
        let image = Recipe::of_files("deval/nothing", files).ensure(engine, &mut |_| {})?;
        let owner = Owner::new(owners)?;
        block_on(async {
            let checked = self.try_with(engine, &image, &owner).await;
            owner.release(&engine.docker).await?;
            checked
        })
    }

    async fn try_with(self, engine: &Engine, image: &Image, owner: &Owner) -> Result<(), ContainerError> {
        let failed = ContainerError::engine("looking for GPUs");
        let host = HostConfig { device_requests: Some(vec![self.request()]), ..HostConfig::default() };
        let labels = HashMap::from([(owner::LABEL.to_owned(), owner.label())]);
        let body = ContainerCreateBody {
            image: Some(image.tag.clone()),
            labels: Some(labels),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        let made = engine.docker.create_container(None::<CreateContainerOptions>, body).await.map_err(&failed)?;
        let inspected = engine.docker.inspect_container(&made.id, None).await.map_err(&failed)?;
        if inspected.host_config.and_then(|host| host.device_requests).is_none_or(|requests| requests.is_empty()) {
            return Err(self.missing("it takes no notice of such a request".to_owned()));
        }
        // Without devices it stops before it looks for the command, which is not there.
        match engine.docker.start_container(&made.id, None).await {
            Err(error) => self.refused(&chain(&error)).map_or(Ok(()), Err),
            Ok(()) => Ok(()),
        }
    }

    pub(crate) fn request(self) -> DeviceRequest {
        let count = match self {
            Self::Count(count) => i64::from(count),
            Self::Auto | Self::All | Self::None => -1,
        };
        DeviceRequest {
            driver: Some(String::new()),
            count: Some(count),
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            ..DeviceRequest::default()
        }
    }

    /// The error, if it is for want of GPUs that a container could not be started.
    pub(crate) fn refused(self, why: &str) -> Option<ContainerError> {
        let is_refused = ["could not select device driver", "nvidia-container"].iter().any(|part| why.contains(part));
        is_refused.then(|| self.missing(why.to_owned()))
    }

    fn missing(self, why: String) -> ContainerError {
        let asked = match self {
            Self::Auto => "auto".to_owned(),
            Self::None => "none".to_owned(),
            Self::All => "all".to_owned(),
            Self::Count(count) => count.to_string(),
        };
        ContainerError::NoGpu { asked, why }
    }
}
